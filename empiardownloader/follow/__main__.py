# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m empiardownloader.follow PROJECT [DB_NAME]: what happens in a project, as lines of JSON."""
import argparse
import asyncio
import json
import math
import os
import select
import signal
import sys
import threading
from typing import Any, List, Optional

from .events import FollowError
from .walker import RemoteNodeWalker

EXIT_ERROR, EXIT_STOPPED = 1, 130


def main(arguments: Optional[List[str]] = None, program: str = "python -m empiardownloader.follow") -> int:
    options = _parse(arguments, program)
    if sys.stdout is None:
        return EXIT_ERROR
    sys.stderr = sys.stderr or open(os.devnull, "w")     # noqa: SIM115, until the end
    try:
        walker = RemoteNodeWalker(options.project, options.db_name, options.interval, options.ssh)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if options.serve:
            # It serves others: nobody need read what it prints.
            return _serve(walker, options)
        _watch_output(walker)
        with walker:
            walk = _walk(walker, options)
            for found in walk:
                line = found.as_dict()
                if options.positions:
                    line["position"] = walk.position
                print(_line(line), flush=True)
    except FollowError as error:
        print(error, file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_STOPPED
    except OSError as error:
        # The reader has closed the pipe, or the output cannot be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print("The output cannot be written (%s)." % (error.strerror or "").lower(), file=sys.stderr)
            return EXIT_ERROR
    return 0


def _watch_output(walker: RemoteNodeWalker) -> None:
    """End when the reader of the output ends, also while there is nothing to write."""
    def watch() -> None:
        poll = select.poll()
        poll.register(sys.stdout, 0)        # only what is told unasked: that the other end is closed
        poll.poll()
        walker.stop()

    threading.Thread(target=watch, daemon=True, name="output").start()


def _parse(arguments: Optional[List[str]], program: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Prints what happens in a Scipion project as lines of JSON, from the beginning and as it comes.")
    parser.add_argument("project", help="the project's folder, or user@host:/folder")
    parser.add_argument("db_name", nargs="?", default="",
                        help="a run (000002_EmpiarDownloader) or an output (000002_EmpiarDownloader:outputMovies)")
    parser.add_argument("--new", action="store_true", help="only what happens from now on")
    parser.add_argument("--nodes", action="store_true", help="the runs and outputs instead of events")
    parser.add_argument("--changes", action="store_true",
                        help="also CHANGED_DATA, REMOVED and CLOSED: what becomes of items that were told")
    parser.add_argument("--infos", action="store_true", help="also INFO: status, progress, sizes as they change")
    parser.add_argument("--positions", action="store_true", help="with each event the position for --since")
    parser.add_argument("--since", default="", metavar="POSITION",
                        help="go on after the event that had this position, with the same other options")
    parser.add_argument("--only", action="append", metavar="TYPE", help="project, run, SetOfMovies ...; more than once")
    parser.add_argument("--no-wait", action="store_true", help="end with what there is")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="end after so long without an event")
    parser.add_argument("--interval", type=float, default=0.5, metavar="SECONDS", help="between two looks (0.5)")
    parser.add_argument("--ssh", default="ssh", metavar="COMMAND", help="how to reach another machine ('ssh -p 2222')")
    parser.add_argument("--serve", action="store_true",
                        help="as server-sent events on 127.0.0.1, for browsers and other languages; needs tornado")
    parser.add_argument("--port", type=int, default=0, help="of --serve (a free one)")
    parser.add_argument("--socket", default="", metavar="FILE", help="of --serve, in place of a port")
    parser.add_argument("--origin", action="append", default=[], metavar="ADDRESS",
                        help="of --serve: a page of your own that may ask, like http://127.0.0.1:9000; more than once")
    options = parser.parse_args(arguments)
    if options.nodes and options.timeout is not None:
        parser.error("--timeout is for events, not for --nodes")
    if options.nodes and (options.changes or options.infos or options.positions or options.since):
        parser.error("--changes, --infos, --positions and --since are for events, not for --nodes")
    if options.serve and (options.nodes or options.new or options.positions or options.no_wait):
        parser.error("--serve gives events with positions to whoever asks, from the beginning or from where he was: "
                     "leave out --nodes, --new, --positions and --no-wait")
    if options.new and options.since:
        parser.error("--new begins now, --since where a position says: choose one")
    return options


def _serve(walker: RemoteNodeWalker, options: argparse.Namespace) -> int:
    """Until Ctrl-C."""
    try:
        from .serve import Server
    except ImportError as error:
        print("%s is not installed here: %s -m pip install tornado" % (error.name, sys.executable), file=sys.stderr)
        return EXIT_ERROR

    def begin(since: str) -> Any:
        return walker.walk_events(options.only, timeout=options.timeout, since=since or options.since,
                                  changes=options.changes, infos=options.infos)

    async def run() -> None:
        ending = asyncio.Event()
        loop = asyncio.get_event_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ending.set)
        try:
            server = Server("%s %s" % (options.project, options.db_name), begin, _line, options.port, options.socket,
                            options.origin)
        except OSError as error:
            msg = "No reader can be served at %s (%s): choose another one." % (
                options.socket or "port %d" % options.port, (error.strerror or str(error)).lower())
            raise FollowError(msg) from error
        print("\n".join(server.places("Events")), flush=True)
        await server.run(ending)

    walker.get("")          # is there, or says why not
    asyncio.run(run())
    return EXIT_STOPPED


def _walk(walker: RemoteNodeWalker, options: argparse.Namespace) -> Any:
    wait = not options.no_wait
    if options.nodes:
        return (walker.walk_from_last(options.only, wait, include_last=False) if options.new else
                walker.walk(options.only, wait=wait))
    if options.new:
        return walker.walk_on_new_events(options.only, wait=wait, timeout=options.timeout, changes=options.changes,
                                         infos=options.infos)
    return walker.walk_events(options.only, wait=wait, timeout=options.timeout, since=options.since,
                              changes=options.changes, infos=options.infos)


def _line(found: Any) -> str:
    try:
        return json.dumps(found, allow_nan=False)
    except ValueError:
        # JSON has no word for what is not a number.
        return json.dumps(_finite(found))


def _finite(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _finite(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_finite(value) for value in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found


if __name__ == "__main__":
    sys.exit(main())
