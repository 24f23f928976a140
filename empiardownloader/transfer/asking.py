# SPDX-License-Identifier: GPL-3.0-or-later
"""Single questions to the archive, listings above all: tried again until they are answered, or it is clear why not."""
import logging
import posixpath
import time
from typing import Callable

from ..archive.errors import (
    ArchiveError,
    BrokenFileError,
    BusyError,
    NotFoundError,
    RemoteError,
    Stopped,
    TransientError,
)
from ..archive.remote import Connection, Listing
from ..archive.stopping import Answer, StopToken, within
from .blame import is_held_against, may_be_of_the_file, tries_for
from .board import Board
from .faults import Faults
from .jobs import Settings
from .pool import ConnectionPool, Slot

logger = logging.getLogger(__name__)

# The listing of a folder, with all that a slow or hostile server puts into it. Most come at once, so that a connection
# that stalls is given up early the first time.
LISTING_SECONDS, QUICK_LISTING_SECONDS = 120, 10


class Asker:
    """Asks over the connections of a transfer; any thread may call it."""

    def __init__(self, server: str, settings: Settings, pool: ConnectionPool, board: Board, faults: Faults,
                 stop: StopToken):
        """``server``: its name, for sentences."""
        self._server, self._settings, self._pool, self._stop = server, settings, pool, stop
        self._board, self._faults = board, faults
        self._listed = ""               # of a folder that was listed
        self._listing_seconds = QUICK_LISTING_SECONDS
        # Guarded by the board's lock: when the server said last that it is busy, and how often in a row.
        self._last_busy, self._busy_in_a_row = 0.0, 0

    def list_folder(self, path: str, expected: bool) -> Listing:
        """``expected``: whether the folder is known to exist. Raises what ``ask`` raises."""
        listing = self.ask(lambda connection: connection.list_folder(path), expected, path)
        self._listed = path
        return listing

    def ask(self, request: Callable[[Connection], Answer], persistent: bool, path: str = "") -> Answer:
        """The answer to ``request`` (a listing, say).

        ``persistent``: what is asked for is known to exist, so that NotFoundError and BrokenFileError are tried
        again. Faults are tried again after growing waits; when the line works otherwise they are raised after a
        while, when it does not the run ends.
        ``path``: of the folder that is asked for; another folder is listed to find out whose fault a failure is.

        Raises RemoteError, Stopped and what ends the run.
        """
        board, failures, held = self._board, 0, 0
        began = time.monotonic() - board.slept
        while True:
            asked = time.monotonic()
            try:
                with self._pool.slot(urgent=True) as slot, slot.connected() as connection:
                    answer = within(self._listing_seconds, self._stop, lambda: request(connection), connection.abort)
                board.line_works()
                return answer
            except TransientError as error:
                if isinstance(error, BusyError):
                    self.be_patient(error, asked)
                self._listing_seconds = LISTING_SECONDS
                fault: RemoteError = error
            except (NotFoundError, BrokenFileError) as error:
                if not persistent:
                    raise
                fault = error
            held += is_held_against(fault, may_be_of_the_file(fault) and self._lists(
                self._listed if self._listed != path else posixpath.dirname(path)))
            if held >= tries_for(fault):
                raise fault
            now = time.monotonic()
            if board.is_awake() and now - board.slept - began > self._settings.give_up:
                if now - board.last_byte < self._settings.give_up:
                    raise fault     # everything else comes
                raise self.silence(fault) from fault
            logger.info("%s; asking again.", fault)
            failures += 1
            board.pause(self._faults.wait_after(failures))
            if board.over or self._stop.is_set():
                raise Stopped

    def _lists(self, folder: str) -> bool:
        """Whether the server lists a folder."""
        with self._pool.slot(urgent=True) as slot:
            return self.gives(slot, lambda connection: connection.list_folder(folder))

    def gives(self, slot: Slot, request: Callable[[Connection], object]) -> bool:
        """Whether the server answers a request."""
        asked = time.monotonic()
        try:
            with slot.connected() as connection:
                within(min(QUICK_LISTING_SECONDS, self._settings.give_up), self._stop, lambda: request(connection),
                       connection.abort)
        except RemoteError as error:
            if isinstance(error, BusyError):
                self.be_patient(error, asked)
            logger.info("%s; so it may be the server, or the line.", error)
            return False
        # Whatever it is with the file, the server is there.
        self._board.line_works()
        return True

    def be_patient(self, error: BusyError, asked: float) -> None:
        """The server is busy: all wait, longer each time that it says so without having given a byte in between.

        Requests that were sent before the last such answer do not count again.
        """
        with self._board.changed:
            if self._board.last_byte > self._last_busy:
                self._busy_in_a_row = 0
            if asked > self._last_busy or not self._busy_in_a_row:
                self._busy_in_a_row += 1
            self._last_busy = time.monotonic()
        seconds = max(error.retry_after, self._faults.wait_after(self._busy_in_a_row))
        self._pool.too_many(min(seconds, self._settings.give_up))

    def silence(self, why: object) -> ArchiveError:
        """What ends a run to which nothing came for too long."""
        msg = "Nothing came from the %s for %d minutes (%s): check the network, then Continue; what is there is " \
              "kept." % (self._server, max(1, round(self._settings.give_up / 60)), why or "no answer")
        return ArchiveError(msg)
