# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m empiardownloader.download ENTRY: an entry's images into a folder, without Scipion."""
import argparse
import json
import os
import sys
import threading
from typing import List, Optional

from ..command import EXIT_ERROR, EXIT_STOPPED, cannot_fetch, for_a_command, run, say

try:
    from ..archive.selection import DARK, GAIN
    from ..transfer.pool import MAX_CONNECTIONS
    from ..units import format_bytes
    from ..values import count
    from .commands import choose_images, folder
    from .fetch import fetch, list_images
    from .progress import Progress
    from .progress_line import ProgressLine
    from .record.facts import Facts
    from .series import MDOC_OUTPUT_FOLDER
except ModuleNotFoundError as missing:
    sys.exit(cannot_fetch(missing))
except KeyboardInterrupt:
    sys.exit(EXIT_STOPPED)


def main(arguments: Optional[List[str]] = None, program: str = "python -m empiardownloader.download") -> int:
    options = _parse(arguments, program)
    return run(lambda stopped: _list(options, stopped) if options.list else _download(options, stopped))


def _parse(arguments: Optional[List[str]], program: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Downloads the first images of an EMPIAR entry, their metadata files and gain reference. After an "
                    "interruption give the same command again: it continues.")
    choose_images(parser)
    parser.add_argument("--to", type=folder, default=".", metavar="FOLDER", help="where the files go (this folder)")
    parser.add_argument("--shared", default="", metavar="FOLDER",
                        help="the form's Download folder: the files go there, where runs find them; --to has links")
    parser.add_argument("--images", type=count, default=1, metavar="N", help="how many images, or tilt series (1)")
    parser.add_argument("--all", action="store_true", help="all of the image set")
    parser.add_argument("--list", action="store_true", help="only list the images")
    parser.add_argument("--gain-pattern", default="", metavar="PATTERN", help="name or path of the gain reference")
    parser.add_argument("--no-gain", action="store_true", help="without the gain reference")
    parser.add_argument("--no-companions", action="store_true",
                        help="without metadata files (.mdoc, .star, .coord, .box)")
    parser.add_argument("--particles-file", default="", metavar="PATTERN",
                        help="name or path of the .star file that describes particles")
    parser.add_argument("--packed", action="store_true", help="leave compressed images as they are")
    parser.add_argument("--connections", type=int, choices=range(1, MAX_CONNECTIONS + 1), default=4,
                        metavar="1..%d" % MAX_CONNECTIONS, help="at a time (4)")
    parser.add_argument("--json", action="store_true", help="print what has come as JSON, with --list line by line")
    return parser.parse_args(arguments)


def _list(options: argparse.Namespace, stopped: threading.Event) -> int:
    for file in list_images(options.entry, options.image_set, options.pattern, options.transport, stopped):
        if options.json:
            print(json.dumps({"path": file.path, "bytes": file.size}), flush=True)
        else:
            print("%12s  %s" % ("?" if file.size is None else format_bytes(file.size), file.path), flush=True)
    return 0


def _download(options: argparse.Namespace, stopped: threading.Event) -> int:
    with ProgressLine() as line:
        def show(progress: Progress) -> None:
            if progress.done_bytes or progress.remark:
                share = progress.done_bytes / progress.total_bytes if progress.total_bytes else None
                line.show(share, str(progress))

        facts = fetch(options.entry, options.to, None if options.all else options.images, options.image_set,
                      options.pattern, not options.no_gain, options.gain_pattern, not options.packed,
                      not options.no_companions, options.particles_file, options.transport, options.connections,
                      stopped, show, options.shared)
    _tell(facts, options)
    if stopped.is_set():
        say("Stopped; the same command goes on.")
        return EXIT_STOPPED
    wanted = None if options.all else options.images
    complete = facts.is_complete(wanted)
    if wanted is not None and len(facts.images) < wanted and complete:
        say("The image set has no more than these, fewer than the %d asked for." % wanted)
    return 0 if complete else EXIT_ERROR


def _tell(facts: Facts, options: argparse.Namespace) -> None:
    folder = os.path.abspath(options.to)
    references = {kind: [os.path.join(folder, event.name) for event in facts.chosen(kind)] for kind in (GAIN, DARK)}
    if options.json:
        print(json.dumps({
            "images": [{"file": os.path.join(folder, name), "path": movie.path, "bytes": movie.bytes}
                       for name, movie in facts.images.items()],
            "gain": references[GAIN], "dark": references[DARK], "left_out": dict(facts.left_out),
            "notes": facts.notes}))
        return
    total = sum(movie.bytes for movie in facts.images.values())
    count = len(facts.images)
    print("%d image%s, %s, in %s" % (count, "" if count == 1 else "s", format_bytes(total), folder))
    beside = sum(bool(companion.name) for companion in facts.companions.values())
    if beside:
        print("%d metadata file%s" % (beside, "" if beside == 1 else "s"))
    for name in facts.description.names if facts.description else ():
        print("Particles: %s" % os.path.join(folder, name))
    if any(series.mdoc for series in facts.series.values()):
        print("Tilt series: %d, described in %s" % (len(facts.series), os.path.join(folder, MDOC_OUTPUT_FOLDER)))
    for kind, paths in references.items():
        for path in paths:
            print("%s reference: %s" % (kind.capitalize(), path))
    missing = {path: companion.reason for path, companion in facts.companions.items() if not companion.name}
    for path, reason in {**facts.left_out, **missing}.items():
        print("Skipped: %s (%s)" % (path, reason))
    for note in facts.notes:
        print(for_a_command(note))


if __name__ == "__main__":
    sys.exit(main())
