# SPDX-License-Identifier: GPL-3.0-or-later
"""The command python -m empiardownloader.live: what arrives in a run, in a viewer."""
import argparse
import atexit
import html
import logging
import os
import shutil
import signal
import sys
import tempfile
import webbrowser
from typing import List, Optional

from ..follow import FollowError, NotThereYetError, RemoteNodeWalker
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
        backend = _backend(options)
        feed = Feed(backend, options.project, options.db_name, options.interval, options.ssh, _tell)
        with backend:
            _check_place(options)
            _tell_places(backend, options.browser)
            return _show(backend, feed, options.end_with_run)
    except (LiveError, FollowError) as error:
        _tell(str(error))
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_STOPPED


def _check_place(options: argparse.Namespace) -> None:
    """A project that is not there is an error; a run may be one that is to come, or misspelt. Raises FollowError."""
    with RemoteNodeWalker(options.project, "", options.interval, options.ssh) as walker:
        try:
            walker.get(options.db_name)
        except NotThereYetError as error:
            _tell("%s Waiting for it." % error)


def _backend(options: argparse.Namespace) -> StreamingBackend:
    viewer = BY_NAME[options.viewer]
    if viewer.is_page:
        more = {"port": options.port, "socket_file": options.socket, "leave_after": options.leave_after}
        return viewer.backend(transport_mode=TCP if options.tcp else IPC, patience=float("inf"), **more)
    return viewer.backend(port=options.port, transport_mode=TCP if options.tcp or options.port else IPC,
                          patience=float("inf"))


def _tell_places(backend: StreamingBackend, opens_browser: bool) -> None:
    """Where a page is, for the user and the programs that have started this one."""
    lines = backend.places() if BY_NAME[backend.VIEWER_TYPE].is_page else []
    for line in lines:
        print(line, flush=True)
    if lines and opens_browser:
        _open_browser(lines[0].partition(": ")[2])


def _open_browser(address: str) -> None:
    """By way of a file that only this account can read: what is in a command line everybody can."""
    folder = tempfile.mkdtemp(prefix="empiar_page_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, "live.html")
    with open(path, "w", encoding="utf-8") as stream:
        stream.write('<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=%s">' % (
            html.escape(address)))
    if not webbrowser.open("file://" + path):
        _tell("No browser can be opened here: open the address in one.")


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
        description="Shows the images of a Scipion project in napari, ImageJ or a browser while they are being "
                    "registered; ends when the viewer is closed, of a page by Ctrl-C.")
    parser.add_argument("viewer", choices=sorted(BY_NAME), help="napari, fiji (ImageJ), or web (a page for browsers)")
    parser.add_argument("project", help="the project's folder, or user@host:/folder")
    parser.add_argument("db_name", nargs="?", default="",
                        help="a run (000002_EmpiarDownloader) or an output (000002_EmpiarDownloader:outputMovies)")
    parser.add_argument("--end-with-run", action="store_true", help="close the viewer when the run is over")
    parser.add_argument("--tcp", action="store_true", help="sockets on 127.0.0.1 in place of a private folder")
    parser.add_argument("--port", type=int, default=0,
                        help="of the page; of windows that of the sockets, with the one after it (a free one)")
    parser.add_argument("--socket", default="", metavar="FILE", help="of the page, in place of a port")
    parser.add_argument("--browser", action="store_true", help="open the page in this machine's browser")
    parser.add_argument("--leave-after", type=float, metavar="SECONDS",
                        help="close the page when nobody has watched for so long (never)")
    parser.add_argument("--interval", type=float, default=0.5, metavar="SECONDS", help="between two looks (0.5)")
    parser.add_argument("--ssh", default="ssh", metavar="COMMAND", help="how to reach another machine ('ssh -p 2222')")
    options = parser.parse_args(arguments)
    if not BY_NAME[options.viewer].is_page and (options.socket or options.browser or options.leave_after is not None):
        parser.error("--socket, --browser and --leave-after are for the page (web)")
    if options.leave_after is not None and not options.leave_after > 0:
        parser.error("--leave-after is a number of seconds")
    if options.socket and options.port:
        parser.error("a page has a port or a socket file: choose one")
    return options
