# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that reads a project for a walk. It stands by itself: started by the path of its folder, or sent along to
another machine, where nothing but Python 3.6 or newer is needed.

On its standard input: a line of JSON that says what to follow; after that the input is its life line, and anything
there, or its end, is the end. On its standard output: a marked line of JSON for each message, empty lines as signs of
life.
"""
import contextlib
import json
import os
import select
import sys
import time

from databases import UnreadableError
from files import MARK, serve
from teller import Teller

SIGN_OF_LIFE_SECONDS = 30
# A walk of new events begins once one look has shown all that is there; after so long it is told that this failed.
PATIENCE_SECONDS = 60


class ListenerGoneError(Exception):
    """Nobody listens any more."""


class Line:
    """Writes messages to the parent process."""

    def __init__(self):
        self._parent = os.getppid()
        self._told = time.monotonic()
        os.set_blocking(1, False)

    def send(self, message):
        data = memoryview(MARK + json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n" if message
                          else b"\n")
        while data:
            self._look(None, [1])
            try:
                data = data[os.write(1, data[:1 << 16]):]
            except BlockingIOError:
                continue
            except OSError as error:
                raise ListenerGoneError from error
        self._told = time.monotonic()

    def rest(self, seconds):
        """Let the time go by, not longer than somebody listens."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if left <= 0:
                break
            self._look(left, [])
        if time.monotonic() - self._told > SIGN_OF_LIFE_SECONDS:
            self.send(None)

    def _look(self, seconds, outputs):
        # A copy of the life line may live on in a process that the listener forked: its end is seen at the parent, too.
        while True:
            turn = 1.0 if seconds is None else min(1.0, seconds)
            readable, writable, _ = select.select([0], outputs, [], turn)
            if readable or os.getppid() != self._parent:
                raise ListenerGoneError
            if writable or seconds is not None:
                return


def follow(request, line):
    teller = Teller(request)
    started = False
    free = time.monotonic()
    while True:
        for message in teller.look():
            line.send(message)
        if not started and not teller.pending:
            started = True
            line.send({"started": True, "state": teller.state() if request["new_only"] else None})
        if teller.gone or (not request["wait"] and not teller.pending):
            break
        if not teller.busy:
            free = time.monotonic()
        elif not (started and request["wait"]) and time.monotonic() - free > PATIENCE_SECONDS:
            msg = "Something in %s was locked for %d s: it is being written without pause." % (
                request["project"], PATIENCE_SECONDS)
            raise UnreadableError(msg)
        line.rest(request["interval"])
    line.send({"end": True})


def main():
    request = json.loads(sys.stdin.buffer.readline().decode("ascii"))
    if "project" not in request:
        serve()
        return
    line = Line()
    try:
        # Ends the line of whatever a login printed before.
        line.send(None)
        follow(request, line)
    except UnreadableError as error:
        line.send({"error": str(error), "kind": error.KIND})


if __name__ == "__main__":
    with contextlib.suppress(ListenerGoneError, KeyboardInterrupt):
        main()
