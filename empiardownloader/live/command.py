# SPDX-License-Identifier: GPL-3.0-or-later
"""The command python -m empiardownloader.live: what arrives in a run, in a viewer."""
import argparse
import logging
import os
import signal
import sys
from typing import List, Optional

from ..follow import FollowError
from .backend import StreamingBackend
from .errors import LiveError
from .feed import NAMES_TOLD, Feed
from .links import IPC, TCP
from .viewers import BY_NAME

EXIT_ERROR, EXIT_STOPPED = 1, 130
NICENESS = 10       # averages are computed beside the run, which comes first


def main(arguments: Optional[List[str]] = None, program: str = "python -m empiardownloader.live") -> int:
    options = _parse(arguments, program)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.nice(NICENESS)
    try:
        # Nothing of a run is left out: the walker waits as long as the viewer lives.
        backend = BY_NAME[options.viewer].backend(
            port=options.port, transport_mode=TCP if options.tcp or options.port else IPC, patience=float("inf"))
        feed = Feed(backend, options.project, options.db_name, options.interval, options.ssh, _tell)
        with backend:
            return _show(backend, feed, options.end_with_run)
    except (LiveError, FollowError) as error:
        _tell(str(error))
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_STOPPED


def _show(backend: StreamingBackend, feed: Feed, end_with_run: bool) -> int:
    feed.run(until_end=end_with_run)
    if end_with_run:
        backend.wait()
    shown, asked = backend.tracker.progress()
    problem = backend.problem()
    if len(feed.unread) > NAMES_TOLD:
        _tell("%d images could not be read." % len(feed.unread))
    if problem:
        _tell(problem)
        return EXIT_ERROR
    print("%d of %d pictures were shown." % (shown, asked), flush=True)
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse(arguments: Optional[List[str]], program: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Shows the images of a Scipion project in napari or ImageJ while they are being registered; ends "
                    "when the viewer is closed.")
    parser.add_argument("viewer", choices=sorted(BY_NAME), help="napari, or fiji (ImageJ)")
    parser.add_argument("project", help="the project's folder, or user@host:/folder")
    parser.add_argument("db_name", nargs="?", default="",
                        help="a run (000002_EmpiarDownloader) or an output (000002_EmpiarDownloader:outputMovies)")
    parser.add_argument("--end-with-run", action="store_true", help="close the viewer when the run is over")
    parser.add_argument("--tcp", action="store_true", help="sockets on 127.0.0.1 in place of a private folder")
    parser.add_argument("--port", type=int, default=0, help="of the sockets, with the one after it (a free one)")
    parser.add_argument("--interval", type=float, default=0.5, metavar="SECONDS", help="between two looks (0.5)")
    parser.add_argument("--ssh", default="ssh", metavar="COMMAND", help="how to reach another machine ('ssh -p 2222')")
    return parser.parse_args(arguments)
