# SPDX-License-Identifier: GPL-3.0-or-later
"""The connections of a transfer: how many there may be, who holds one, who needs one soon."""
import contextlib
import logging
import threading
import time
from typing import Iterator, List, Optional

from ..archive.errors import RemoteError, Stopped, TransientError
from ..archive.remote import Archive, Connection
from ..archive.stopping import StopToken

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 8     # past about 8 EMPIAR's servers throttle or refuse
# A request that all others wait for (a listing) gets a connection after this many seconds, even from within a range.
URGENT_SECONDS = 2.0
# The time without a complaint before one more connection is tried doubles with each complaint, up to this factor.
LONGEST_RECOVERY = 32


class ConnectionPool:
    """At most ``limit`` connections at a time, fewer while the server says that there are too many."""

    def __init__(self, archive: Archive, limit: int, recover: float):
        """``recover``: seconds without a complaint before one more connection is tried."""
        self._archive = archive
        self._most = self._limit = max(1, min(limit, MAX_CONNECTIONS))
        self._recover = self._patience = recover
        self._changed = threading.Condition()
        self._idle: List[Connection] = []
        self._used: List["Slot"] = []
        self.urgent = 0                 # how many requests wait that all others wait for
        self._urgent_since = float("inf")
        self._complaint = 0.0
        self._rests_until = 0.0         # the server has asked for a pause
        self._tried = False             # whether the limit was raised since the last complaint
        self._closing = StopToken()

    @property
    def limit(self) -> int:
        return self._limit

    @contextlib.contextmanager
    def slot(self, urgent: bool = False) -> Iterator["Slot"]:
        """The right to one connection. Raises Stopped once the pool is closed."""
        slot = Slot(self)
        with self._changed:
            self.urgent += urgent
            if urgent:
                self._urgent_since = min(self._urgent_since, time.monotonic())
            try:
                # A worker that has given its slot back for an urgent request waits until that request has got one.
                while not self._closing.is_set() and (time.monotonic() < self._rests_until or len(self._used) + (
                        0 if urgent else self.urgent) >= self._limit):
                    rest = self._rests_until - time.monotonic()
                    self._changed.wait(min(0.5, rest) if rest > 0 else 0.5)
                    self._raise_limit()
            finally:
                self.urgent -= urgent
                if urgent:
                    self._urgent_since = time.monotonic() if self.urgent else float("inf")
            self._closing.check()
            self._used.append(slot)
        try:
            yield slot
        finally:
            with self._changed:
                self._used.remove(slot)
                if slot.connection is not None:
                    if self._closing.is_set():
                        slot.connection.close()
                    else:
                        self._idle.append(slot.connection)
                self._changed.notify_all()

    def wanted_elsewhere(self) -> bool:
        """Whether a holder of a slot should give it back between two requests."""
        with self._changed:
            self._raise_limit()
            return len(self._used) > self._limit or (self.urgent > 0 and len(self._used) >= self._limit)

    def wanted_at_once(self) -> bool:
        """Whether one holder of a slot should give it back within a request; told to one of them at a time."""
        if time.monotonic() - self._urgent_since < URGENT_SECONDS:
            return False
        with self._changed:
            if time.monotonic() - self._urgent_since < URGENT_SECONDS or len(self._used) < self._limit:
                return False
            self._urgent_since = time.monotonic()
            return True

    def too_many(self, seconds: float = 0.0) -> None:
        """The server refused a connection, whose slot has been given back: as many as there are now is the limit, and
        for so many seconds nobody gets another one."""
        with self._changed:
            self._rests_until = max(self._rests_until, time.monotonic() + seconds)
            self._limit = max(1, min(self._limit, len(self._used)))
            # A server that refuses each new try is asked less and less often.
            if self._tried:
                self._patience = min(2 * self._patience, LONGEST_RECOVERY * self._recover)
            self._tried = False
            self._complaint = time.monotonic()
            logger.info("The %s is busy: going on with %d connections for a while.", self._archive.server, self._limit)

    def close(self) -> None:
        """End everything: idle connections are closed, those in use fail within moments."""
        self._closing.set()
        with self._changed:
            for slot in self._used:
                if slot.connection is not None:
                    slot.connection.abort()
            for connection in self._idle:
                connection.close()
            self._idle.clear()
            self._changed.notify_all()

    def _raise_limit(self) -> None:
        if self._limit < self._most and time.monotonic() - self._complaint > self._patience:
            self._limit += 1
            if self._tried:
                self._patience = self._recover
            self._tried = True
            self._complaint = time.monotonic()
            self._changed.notify_all()

    def take(self, slot: "Slot") -> Connection:
        with self._changed:
            if slot.connection is None and self._idle:
                slot.connection = self._idle.pop()
        if slot.connection is None:
            connection = self._archive.connect(stop=self._closing)
            with self._changed:
                slot.connection = connection
                if self._closing.is_set():
                    connection.abort()
        return slot.connection


class Slot:
    """Holds one place in the pool, and its connection once there is one."""

    def __init__(self, pool: ConnectionPool):
        self._pool = pool
        self.connection: Optional[Connection] = None

    def connect(self) -> Connection:
        return self._pool.take(self)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Connection]:
        """The connection, dropped when it is of no use any more."""
        try:
            connection = self.connect()
            yield connection
            if not connection.usable:
                self.drop()
        except (TransientError, Stopped):
            self.drop()
            raise
        except RemoteError:
            if self.connection is not None and not self.connection.usable:
                self.drop()
            raise

    def drop(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()
