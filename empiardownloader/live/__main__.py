# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m empiardownloader.live napari|fiji|web PROJECT [DB_NAME]: see command.py."""
import sys
from typing import List, Optional

from ..command import lacking, say


def main(arguments: Optional[List[str]] = None, program: str = "python -m empiardownloader.live") -> int:
    try:
        from .command import main as run
    except ImportError as error:
        # numpy, mrcfile, tifffile: a plain Python has none of them.
        say(lacking(error, "numpy mrcfile tifffile pyzmq"))
        return 1
    return run(arguments, program)


if __name__ == "__main__":
    sys.exit(main())
