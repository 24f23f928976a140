# SPDX-License-Identifier: GPL-3.0-or-later
"""make bench: what the promises of speed and cost come to on this machine, side by side with other programs.

A timing on a shared machine says little by itself, so each line ends with a ratio: to the limit of the line, to
another program measured in the same run, or to a tenth of the same work.
"""
import sys

from catalogue import measure_catalogue
from far import measure_far
from follow import measure_follow
from live import measure_live
from many import measure_many
from pictures import measure_viewer
from safety import measure_safety
from transfer import measure_transfer, measure_unpacking
from windows import measure_windows

PARTS = {"transfer": measure_transfer, "unpack": measure_unpacking, "many": measure_many, "viewer": measure_viewer,
         "safety": measure_safety, "follow": measure_follow, "far": measure_far,
         "live": measure_live, "catalogue": measure_catalogue, "windows": measure_windows}


def main():
    wanted = sys.argv[1:] or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        print("There is no part %s: choose from %s." % (", ".join(unknown), ", ".join(PARTS)))
        return 2
    for name in wanted:
        print("\n== %s" % name, flush=True)
        PARTS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
