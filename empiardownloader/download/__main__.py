# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m empiardownloader.download ENTRY: an entry's images into a folder, without Scipion."""
import argparse
import json
import os
import signal
import sys
import threading
from typing import List, Optional

from ..archive.errors import ArchiveError, RemoteError
from ..archive.remote import AUTOMATIC, FTP, HTTPS
from ..archive.selection import DARK, GAIN
from ..transfer.pool import MAX_CONNECTIONS
from .fetch import fetch, list_images
from .progress import Progress, format_bytes
from .progress_line import ProgressLine
from .record import Facts

EXIT_ERROR, EXIT_STOPPED = 1, 130


def main(arguments: Optional[List[str]] = None) -> int:
    options = _parse(arguments)
    stopped = threading.Event()
    # A first Ctrl-C ends the transfer in good order, a second one at once.
    signal.signal(signal.SIGINT, lambda *_: (stopped.set(), signal.signal(signal.SIGINT, signal.default_int_handler)))
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        code = _list(options, stopped) if options.list else _download(options, stopped)
        # Not at the interpreter's end, where nobody could say what went wrong.
        sys.stdout.flush()
        return code
    except (ArchiveError, RemoteError) as error:
        if stopped.is_set():
            print("Stopped; the same command goes on.", file=sys.stderr)
            return EXIT_STOPPED
        print(str(error).replace("then Continue", "then try again"), file=sys.stderr)
        return EXIT_ERROR
    except OSError as error:
        # Whoever read the output has gone, or the disk it goes to is full: nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print("The output cannot be written (%s)." % (error.strerror or "").lower(), file=sys.stderr)
        return EXIT_ERROR


def _parse(arguments: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m empiardownloader.download",
        description="Brings the first movies of an EMPIAR entry, and their gain reference, into a folder. Interrupted, "
                    "the same command goes on where it was.")
    parser.add_argument("entry", help="number of the entry, like 10200, or the address of its page")
    parser.add_argument("--to", default=".", metavar="FOLDER", help="where the files go (this folder)")
    parser.add_argument("--images", type=_positive, default=1, metavar="N", help="how many movies (1)")
    parser.add_argument("--all", action="store_true", help="all movies of the image set")
    parser.add_argument("--list", action="store_true", help="only list the movies")
    parser.add_argument("--image-set", default="", metavar="SET", help="number or name (the first one with movies)")
    parser.add_argument("--pattern", default="", help="only movies whose name, or end of path, matches")
    parser.add_argument("--gain-pattern", default="", metavar="PATTERN", help="name or path of the gain reference")
    parser.add_argument("--no-gain", action="store_true", help="without the gain reference")
    parser.add_argument("--packed", action="store_true", help="leave compressed movies as they are")
    parser.add_argument("--transport", choices=(AUTOMATIC, FTP, HTTPS), default=AUTOMATIC)
    parser.add_argument("--connections", type=int, choices=range(1, MAX_CONNECTIONS + 1), default=4,
                        metavar="1..%d" % MAX_CONNECTIONS, help="at a time (4)")
    parser.add_argument("--json", action="store_true", help="print what has come as JSON")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        msg = "how many movies? %s is no number of them" % text
        raise argparse.ArgumentTypeError(msg)
    return int(text)


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
                      options.transport, options.connections, stopped, show)
    _tell(facts, options)
    if stopped.is_set():
        print("Stopped; the same command goes on.", file=sys.stderr)
        return EXIT_STOPPED
    wanted = None if options.all else options.images
    return 0 if facts.movies and (wanted is None or len(facts.movies) >= wanted or not facts.left_out) else EXIT_ERROR


def _tell(facts: Facts, options: argparse.Namespace) -> None:
    folder = os.path.abspath(options.to)
    references = {kind: [os.path.join(folder, event["name"]) for event in facts.chosen(kind)] for kind in (GAIN, DARK)}
    if options.json:
        print(json.dumps({
            "movies": [{"file": os.path.join(folder, name), "path": movie["path"], "bytes": movie["bytes"]}
                       for name, movie in facts.movies.items()],
            "gain": references[GAIN], "dark": references[DARK], "left_out": facts.left_out, "notes": facts.notes}))
        return
    total = sum(movie["bytes"] for movie in facts.movies.values())
    print("%d movies, %s, in %s" % (len(facts.movies), format_bytes(total), folder))
    for kind, paths in references.items():
        for path in paths:
            print("%s reference: %s" % (kind.capitalize(), path))
    for path, reason in facts.left_out.items():
        print("Left out: %s (%s)" % (path, reason))
    for note in facts.notes:
        print(note)


if __name__ == "__main__":
    sys.exit(main())
