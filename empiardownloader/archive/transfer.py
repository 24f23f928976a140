# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes onto the disk: several connections, all on the earliest unfinished file, resumed and verified.

Each file is fetched in ranges. A free connection takes the first range nobody works on, of the earliest file that
has one; at the end of a run, or where a slow connection holds up an early file, it takes over half of another's
range. So the line is always full and the files become whole in the order they were asked for.
"""
import collections
import concurrent.futures
import contextlib
import logging
import os
import random
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Deque, Iterator, List, Optional, Tuple

from .errors import (
    ArchiveError,
    BadImageError,
    BrokenFileError,
    BusyError,
    ChangedFileError,
    NoRangesError,
    NotFoundError,
    RemoteError,
    TransientError,
)
from .parts import Part, disk_error
from .remote import Archive, Connection, FileState
from .unpack import unpack

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 8     # past about 8 EMPIAR's servers throttle or refuse
# A range is the file's share for each connection, but not so short that asking for it costs more than it brings:
# an interrupted FTP transfer throws away what is in the sockets' buffers, which on a fast line are megabytes.
MIN_RANGE_BYTES, MIN_RANGE_SECONDS = 1 << 20, 1.0
# The same for half of another's range; by then the line would otherwise be idle, so less is enough.
MIN_TAKEOVER_BYTES, MIN_TAKEOVER_SECONDS = 512 << 10, 0.3
SLOW_SECONDS = 6
# Asking for a file's size takes a round trip or two.
PREPARE_SECONDS = 2
# Bytes read and written at once are what arrives in this many seconds: few system calls on a fast line, little
# lost with a killed process on a slow one.
CHUNK_SECONDS = 0.02
MIN_CHUNK_BYTES, MAX_CHUNK_BYTES = 16 << 10, 256 << 10     # the most: what a processor's cache holds
# How often a file may fail without a byte gained before it counts as gone or broken at the source; a file that one
# of EMPIAR's load-balanced servers does not show may be there on the next.
TRIES_GONE, TRIES_BROKEN = 3, 5
UNPACKERS = 2
UNPACKED_PREFIX = ".unpacked."


@dataclass(frozen=True)
class Settings:
    """How to transfer; all times in seconds."""
    connections: int = 4
    give_up: float = 300        # the run ends after this long without a byte
    first_wait: float = 0.5     # before the first retry, doubled each time
    longest_wait: float = 30
    recover: float = 30         # without a complaint, before one more connection is tried


@dataclass(frozen=True)
class Job:
    """A file to fetch."""
    path: str                   # below the entry's folder
    target: str                 # the final local path
    compression: str = ""       # '.bz2', '.gz' or '.xz' where the target is to be the decompressed file
    check: Callable[[str], Any] = lambda path: None     # gives what it learns of the whole file, or BadImageError
    urgent: bool = False        # before all others


@dataclass(frozen=True)
class Outcome:
    """What became of a job: whole (``error`` is empty) or left out."""
    job: Job
    size: int = 0               # bytes at the source
    header: Any = None          # what the job's check gave
    found: bool = False         # it was there already
    error: str = ""


class ConnectionPool:
    """At most ``limit`` connections at a time, fewer while the server says that there are too many."""

    def __init__(self, archive: Archive, limit: int, recover: float):
        self._archive = archive
        self._most = self._limit = max(1, min(limit, MAX_CONNECTIONS))
        self._recover = recover
        self._changed = threading.Condition()
        self._idle: List[Connection] = []
        self._used: List["_Slot"] = []
        self._urgent = 0
        self._complaint = 0.0
        self.closed = False

    @property
    def limit(self) -> int:
        return self._limit

    @contextlib.contextmanager
    def slot(self, urgent: bool = False) -> Iterator["_Slot"]:
        """The right to one connection. Raises TransientError once the pool is closed."""
        slot = _Slot(self)
        with self._changed:
            self._urgent += urgent
            try:
                while not self.closed and len(self._used) >= self._limit:
                    self._changed.wait(0.5)
                    self._raise_limit()
            finally:
                self._urgent -= urgent
            if self.closed:
                msg = "stopped"
                raise TransientError(msg)
            self._used.append(slot)
        try:
            yield slot
        finally:
            with self._changed:
                self._used.remove(slot)
                if slot.connection is not None:
                    self._idle.append(slot.connection)
                self._changed.notify_all()

    def wanted_elsewhere(self) -> bool:
        """Whether a holder of a slot should give it back between two requests."""
        with self._changed:
            self._raise_limit()
            return len(self._used) > self._limit or (self._urgent > 0 and len(self._used) >= self._limit)

    def too_many(self) -> None:
        with self._changed:
            self._limit = max(1, min(self._limit, len(self._used)) - 1)
            self._complaint = time.monotonic()
            logger.info("The %s is busy: going on with %d connections for a while.", self._archive.server, self._limit)

    def close(self) -> None:
        """End everything: idle connections are closed, those in use fail within moments."""
        with self._changed:
            self.closed = True
            for slot in self._used:
                if slot.connection is not None:
                    slot.connection.abort()
            for connection in self._idle:
                connection.close()
            self._idle.clear()
            self._changed.notify_all()

    def _raise_limit(self) -> None:
        if self._limit < self._most and time.monotonic() - self._complaint > self._recover:
            self._limit += 1
            self._complaint = time.monotonic()
            self._changed.notify_all()

    def take(self, slot: "_Slot") -> Connection:
        with self._changed:
            if slot.connection is None and self._idle:
                slot.connection = self._idle.pop()
        if slot.connection is None:
            connection = self._archive.connect()
            with self._changed:
                slot.connection = connection
                if self.closed:
                    connection.abort()
        return slot.connection


class _Slot:
    """Holds one place in the pool, and its connection once there is one."""

    def __init__(self, pool: ConnectionPool):
        self._pool = pool
        self.connection: Optional[Connection] = None

    def connect(self) -> Connection:
        return self._pool.take(self)

    def drop(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


class _Piece:
    """A range of a file that one worker reads: the bytes up to ``position`` are on disk."""

    def __init__(self, file: "_File", start: int, end: int):
        self.file, self.start, self.position, self.end = file, start, start, end
        self.began = time.monotonic()

    @property
    def remaining(self) -> int:
        return self.end - self.position

    def seconds_left(self) -> float:
        elapsed = time.monotonic() - self.began
        return self.remaining * elapsed / max(self.position - self.start, 1)


# A file's way: its size is asked for, its ranges are fetched, the whole is checked and named.
_NEW, _OPEN, _COMPLETE, _ENDING = "new", "open", "complete", "ending"


class _File:

    def __init__(self, job: Job):
        self.job = job
        self.phase = _NEW
        self.busy = False               # a worker prepares or ends it
        self.busy_since = 0.0
        self.part: Optional[Part] = None
        self.state: Optional[FileState] = None
        self.gaps: List[Tuple[int, int]] = []
        self.pieces: List[_Piece] = []
        self.faults = 0
        self.not_before = 0.0
        self.restart = False            # to be fetched from its first byte
        self.refused = ""               # why it is left out
        self.share = MIN_RANGE_BYTES

    @property
    def bytes_there(self) -> int:
        if self.state is None or self.phase == _NEW:
            return 0
        missing = sum(end - start for start, end in self.gaps) + sum(piece.remaining for piece in self.pieces)
        return self.state.size - missing

    @property
    def ending(self) -> bool:
        return self.restart or bool(self.refused)


class Transfer:
    """Fetches jobs until there are no more; see the module's docstring."""

    def __init__(self, archive: Archive, settings: Settings, cancelled: threading.Event):
        self._archive = archive
        self._settings = settings
        self._cancelled = cancelled
        self.pool = ConnectionPool(archive, settings.connections, settings.recover)
        self._changed = threading.Condition()
        self._files: List[_File] = []       # in the order they are wanted
        self._outcomes: Deque[Outcome] = collections.deque()
        self._ranges = True
        self._fatal: Optional[BaseException] = None
        self._over = False
        self._exhausted = False             # no further job is known at the moment
        self._last_byte = time.monotonic()
        self._last_fault = ""
        self._pace = 0.0                    # bytes a second of one connection, lately
        self.received = 0                   # bytes that came over the line in this run

    def run(self, next_job: Callable[[], Optional[Job]], done: Callable[[Outcome], None],
            tick: Callable[[], None] = lambda: None) -> None:
        """Fetch what ``next_job`` gives, until it gives None while nothing is under way, or ``cancelled`` is set.

        All three functions are called from the calling thread only: ``done`` for every job that ended, ``tick``
        about four times a second.

        Raises ArchiveError for what ends the run (disk, login, nothing came for minutes). What is whole by then
        was reported, what is half stays for the next run.
        """
        unpackers = concurrent.futures.ThreadPoolExecutor(UNPACKERS, "unpack")
        workers = [threading.Thread(target=self._work, args=(unpackers,), name="transfer-%d" % n, daemon=True)
                   for n in range(self.pool.limit)]
        for worker in workers:
            worker.start()
        try:
            while not self._cancelled.is_set() and self._fatal is None:
                if self._report(done):
                    self._exhausted = False     # another one may be wanted in its place
                self._feed(next_job)
                tick()
                self._watch_silence()
                with self._changed:
                    if self._exhausted and not self._files and not self._outcomes:
                        break
                    if not self._outcomes and self._fatal is None:
                        self._changed.wait(0.25)
        except TransientError:
            # What next_job was asking for when the stop came.
            if not self._cancelled.is_set():
                raise
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            self.pool.close()
            for worker in workers:
                worker.join()
            unpackers.shutdown(wait=True)
            self._report(done)
            for file in self._files:
                if file.part is not None:
                    file.part.release()
        if self._fatal is not None:
            raise self._fatal

    def under_way(self) -> int:
        """Bytes on disk of files that are not whole yet."""
        with self._changed:
            return sum(file.bytes_there for file in self._files)

    def ask(self, request: Callable[[Connection], Any]) -> Any:
        """The answer to ``request`` (a listing, say), tried until the line has been dead for too long.

        Raises NotFoundError and what ends the run.
        """
        failures, deadline = 0, time.monotonic() + self._settings.give_up
        while True:
            try:
                with self.pool.slot(urgent=True) as slot, self._connection(slot) as connection:
                    return request(connection)
            except (BrokenFileError, TransientError) as error:
                if self._cancelled.is_set():
                    raise
                if time.monotonic() > deadline:
                    raise self._silence(error) from error
                logger.info("%s; asking again.", error)
            failures += 1
            self._cancelled.wait(self._wait_after(failures))

    # -------------------------- the calling thread -----------------------

    def _feed(self, next_job: Callable[[], Optional[Job]]) -> None:
        """Keep a few more files known than are worked on, so that their sizes are asked for in good time."""
        while True:
            with self._changed:
                waiting = sum(file.phase == _NEW for file in self._files)
            if waiting > self.pool.limit or self._cancelled.is_set():
                return
            job = next_job()
            with self._changed:
                self._exhausted = job is None
                if job is None:
                    return
                if not self._files:
                    self._last_byte = time.monotonic()
                self._files.insert(0 if job.urgent else len(self._files), _File(job))
                self._changed.notify_all()

    def _report(self, done: Callable[[Outcome], None]) -> bool:
        """Tell of what ended since the last time; whether there was anything."""
        any_ended = bool(self._outcomes)
        while self._outcomes:
            done(self._outcomes.popleft())
        return any_ended

    def _watch_silence(self) -> None:
        with self._changed:
            if not any(file.phase in (_NEW, _OPEN) and not self._held_elsewhere(file) for file in self._files):
                self._last_byte = time.monotonic()
            silent = time.monotonic() - self._last_byte
        if silent > self._settings.give_up:
            self._fatal = self._silence(self._last_fault)

    def _silence(self, why: Any) -> ArchiveError:
        msg = "Nothing came from the %s for %d minutes (%s): check the network, then Continue; what is there is " \
              "kept." % (self._archive.server, max(1, round(self._settings.give_up / 60)), why or "no answer")
        return ArchiveError(msg)

    @staticmethod
    def _held_elsewhere(file: _File) -> bool:
        return file.phase == _NEW and file.part is None and file.faults == 0 and file.not_before > 0

    # -------------------------- the workers -----------------------

    def _work(self, unpackers: concurrent.futures.Executor) -> None:
        failures = 0
        while not self._over:
            try:
                with self.pool.slot() as slot:
                    while not self._over and not self.pool.wanted_elsewhere():
                        if self._do_next(slot, unpackers):
                            failures = 0
            except TransientError as error:
                if isinstance(error, BusyError):
                    self.pool.too_many()
                failures += 1
                self._note_fault(error)
            except Exception as error:  # noqa: BLE001 - handed to the calling thread, which raises it
                self._end_with(error)
                return
            if failures and not self._over:
                self._pause(self._wait_after(failures))

    def _wait_after(self, failures: int) -> float:
        """Seconds to wait before the next try: growing, bounded, and not the same for all."""
        # Past 2**16 it is bounded anyway, and a float would not hold 2**1100.
        wait = min(self._settings.first_wait * 2 ** min(failures - 1, 16), self._settings.longest_wait)
        return wait * random.uniform(0.5, 1.5)

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._over and time.monotonic() < deadline:
                self._changed.wait(max(0.0, deadline - time.monotonic()))

    def _end_with(self, error: BaseException) -> None:
        with self._changed:
            if self._fatal is None:
                self._fatal = error
            self._over = True
            self._changed.notify_all()

    def _note_fault(self, error: BaseException) -> None:
        if self._over:
            return
        self._last_fault = str(error)
        logger.info("%s; trying again.", error)

    def _do_next(self, slot: _Slot, unpackers: concurrent.futures.Executor) -> bool:
        """One request's worth of work; False where there was none to do."""
        with self._changed:
            task = self._claim()
            if task is None:
                self._changed.wait(0.2)
                return False
        file = task.file if isinstance(task, _Piece) else task
        try:
            with self._connection(slot) as connection:
                if isinstance(task, _Piece):
                    self._fetch(connection, task)
                elif file.phase == _COMPLETE:
                    self._end(connection, file, unpackers)
                else:
                    self._prepare(connection, file)
        except NotFoundError as error:
            self._blame(file, error, TRIES_GONE)
        except BrokenFileError as error:
            self._blame(file, error, TRIES_BROKEN)
        except ChangedFileError as error:
            logger.warning("%s: it is fetched from its beginning.", error)
            file.restart = True
        except NoRangesError as error:
            if self._ranges:
                logger.warning("%s: every file gets one connection.", error)
            self._ranges = False
            file.restart = True
        finally:
            with self._changed:
                if isinstance(task, _Piece):
                    file.pieces.remove(task)
                    if task.remaining > 0:
                        file.gaps = sorted(file.gaps + [(task.position, task.end)])
                else:
                    file.busy = False
                if file.phase == _OPEN and not file.gaps and not file.pieces and not file.ending:
                    file.phase = _COMPLETE
                self._settle(file)
                self._changed.notify_all()
        return True

    @contextlib.contextmanager
    def _connection(self, slot: _Slot) -> Iterator[Connection]:
        """The slot's connection, dropped when it is of no use any more."""
        try:
            connection = slot.connect()
            yield connection
            if not connection.usable:
                slot.drop()
        except TransientError:
            slot.drop()
            raise
        except RemoteError:
            if slot.connection is not None and not slot.connection.usable:
                slot.drop()
            raise

    def _claim(self) -> Any:
        """The next _Piece to fetch or _File to prepare or end, or None; the lock is held."""
        now = time.monotonic()
        hold = False
        for file in self._files:
            if file.busy and file.phase == _NEW and now - file.busy_since < PREPARE_SECONDS:
                # Its ranges will be there in a moment: better wait than turn to a later file.
                hold = True
            if file.busy or file.ending or file.not_before > now:
                continue
            if file.phase in (_NEW, _COMPLETE):
                file.busy, file.busy_since = True, now
                return file
            if file.phase == _OPEN and not hold:
                piece = self._next_piece(file)
                if piece is not None:
                    return piece
        if hold:
            return None
        if self._exhausted and self._ranges:
            pieces = [piece for file in self._files if not file.ending for piece in file.pieces]
            return self._take_over(pieces)
        return None

    def _next_piece(self, file: _File) -> Optional[_Piece]:
        if file.gaps and (self._ranges or not file.pieces):
            start, end = file.gaps.pop(0)
            middle = min(end, start + file.share) if self._ranges else end
            # A rest too small for a request of its own goes along.
            if end - middle < MIN_TAKEOVER_BYTES:
                middle = end
            if middle < end:
                file.gaps.insert(0, (middle, end))
            return self._begin(file, start, middle)
        if self._ranges:
            return self._take_over([piece for piece in file.pieces if piece.seconds_left() > SLOW_SECONDS])
        return None

    def _take_over(self, pieces: List[_Piece]) -> Optional[_Piece]:
        largest = max(pieces, key=lambda piece: piece.remaining, default=None)
        least = max(MIN_TAKEOVER_BYTES, self._pace * MIN_TAKEOVER_SECONDS)
        if largest is None or largest.remaining < 2 * least:
            return None
        middle, end = largest.position + largest.remaining // 2, largest.end
        largest.end = middle
        return self._begin(largest.file, middle, end)

    def _begin(self, file: _File, start: int, end: int) -> _Piece:
        piece = _Piece(file, start, end)
        file.pieces.append(piece)
        return piece

    def _prepare(self, connection: Connection, file: _File) -> None:
        job = file.job
        if not os.path.exists(job.target) and file.part is None:
            file.part = Part.acquire(job.target)
            if file.part is None:
                # Another process fetches it: look again soon whether it has become whole.
                file.not_before = time.monotonic() + 1
                return
        state = connection.state(job.path)
        if os.path.exists(job.target):
            if self._is_whole(job, state):
                if file.part is not None:
                    file.part.discard()
                self._finished(file, Outcome(job, state.size, job.check(job.target), found=True))
                return
            if file.part is None:
                file.part = Part.acquire(job.target)
                if file.part is None:
                    file.not_before = time.monotonic() + 1
                    return
        if state.size == 0:
            msg = "it is empty on the %s" % self._archive.server
            raise BrokenFileError(msg)
        gaps = file.part.begin(job.path, state)
        with self._changed:
            file.state = state
            file.gaps = gaps if self._ranges or not gaps else [(0, state.size)]
            missing = sum(end - start for start, end in gaps)
            file.share = max(-(-missing // self.pool.limit), MIN_RANGE_BYTES, int(self._pace * MIN_RANGE_SECONDS))
            file.phase = _OPEN
            file.faults = 0

    @staticmethod
    def _is_whole(job: Job, state: FileState) -> bool:
        if not job.compression and os.path.getsize(job.target) != state.size:
            return False
        try:
            job.check(job.target)
        except BadImageError:
            return False
        return True

    def _fetch(self, connection: Connection, piece: _Piece) -> None:
        file, start, chunk = piece.file, piece.position, MIN_CHUNK_BYTES
        piece.began = time.monotonic()
        opened = False
        try:
            with connection.open(file.job.path, piece.position, piece.end, file.state) as stream:
                opened = True
                while piece.remaining > 0 and not self._over and not file.ending:
                    before = time.monotonic()
                    data = stream.read(min(chunk, piece.remaining))
                    if not data:
                        msg = "the %s sent less of %s than it promised" % (self._archive.server, file.job.path)
                        raise BrokenFileError(msg)
                    file.part.write(piece.position, data)
                    now = time.monotonic()
                    with self._changed:
                        piece.position += len(data)
                        self.received += len(data)
                        self._last_byte = now
                        file.faults = 0
                    wanted = int(len(data) * CHUNK_SECONDS / max(now - before, 1e-6))
                    chunk = min(max(wanted, MIN_CHUNK_BYTES), 2 * chunk, MAX_CHUNK_BYTES)
            self._pace = (piece.position - start) / max(time.monotonic() - piece.began, 1e-6)
        except BusyError:
            raise
        except TransientError as error:
            if opened and piece.position == start and not self._over:
                # The server has the file and yet does not send it: that may be the file's fault.
                self._blame(file, error, TRIES_BROKEN + 1)
            raise

    def _blame(self, file: _File, error: RemoteError, tries: int) -> None:
        with self._changed:
            file.faults += 1
            if file.faults >= tries:
                file.refused = str(error)
            file.not_before = time.monotonic() + self._wait_after(file.faults)
        self._note_fault(error)

    def _end(self, connection: Connection, file: _File, unpackers: concurrent.futures.Executor) -> None:
        # A range asked for earlier goes on bringing the old version, or a mixture.
        if connection.state(file.job.path) != file.state:
            msg = "%s changed on the %s" % (file.job.path, self._archive.server)
            raise ChangedFileError(msg)
        file.phase = _ENDING
        if file.job.compression:
            unpackers.submit(self._unpack, file)
        else:
            self._check(file, file.part.path)

    def _unpack(self, file: _File) -> None:
        """Runs beside the download: the modules that decompress leave the other core to it."""
        folder, name = os.path.split(file.job.target)
        unpacked = os.path.join(folder, UNPACKED_PREFIX + name)
        stop = _Either(self._cancelled, lambda: self._fatal is not None)
        try:
            unpack(file.part.path, file.job.compression, unpacked, stop)
            self._check(file, unpacked)
        except TransientError:
            pass    # stopped: the whole compressed file stays for the next run
        except BadImageError as error:
            self._reject(file, error)
        except OSError as error:
            self._end_with(disk_error(error, file.job.target))
        except Exception as error:  # noqa: BLE001 - handed to the calling thread, which raises it
            self._end_with(error)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(unpacked)
            with self._changed:
                self._settle(file)
                self._changed.notify_all()

    def _check(self, file: _File, path: str) -> None:
        """The last look at a whole file, and its final name."""
        try:
            header = file.job.check(path)
        except BadImageError as error:
            self._reject(file, error)
            return
        if path == file.part.path:
            file.part.finish()
        else:
            try:
                os.replace(path, file.job.target)
            except OSError as error:
                raise disk_error(error, file.job.target) from error
            file.part.discard()
        self._finished(file, Outcome(file.job, file.state.size, header))

    def _reject(self, file: _File, error: BadImageError) -> None:
        # What was put together from two runs gets a second chance, what came in one piece is so at the source.
        if file.part.resumed:
            logger.warning("%s: %s; it is fetched once more.", file.job.path, error)
            file.restart = True
        else:
            file.refused = str(error)

    def _finished(self, file: _File, outcome: Outcome) -> None:
        with self._changed:
            file.part = None
            self._files.remove(file)
            self._outcomes.append(outcome)
            self._changed.notify_all()

    def _settle(self, file: _File) -> None:
        """Carry out a restart or a refusal once nobody works on the file; the lock is held."""
        if not file.ending or file.pieces or file.busy or file not in self._files:
            return
        if file.part is not None:
            file.part.discard()
            file.part = None
        if file.refused:
            self._files.remove(file)
            self._outcomes.append(Outcome(file.job, error=file.refused))
        else:
            file.phase, file.restart, file.gaps, file.state = _NEW, False, [], None


class _Either:
    """Set when the event is set or the condition holds."""

    def __init__(self, event: threading.Event, condition: Callable[[], bool]):
        self._event, self._condition = event, condition

    def is_set(self) -> bool:
        return self._event.is_set() or self._condition()
