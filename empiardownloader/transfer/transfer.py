# SPDX-License-Identifier: GPL-3.0-or-later
"""The transfer: workers that carry out what the plan says, and decide what each fault means.

A fault costs the file it met: the file is tried again after growing waits while the others go on, and left out when it
is gone, broken, or fails again and again although the line works. The run ends when nothing comes for minutes, when
the disk takes nothing more, or when nobody lets us in.
"""
import collections
import concurrent.futures
import contextlib
import logging
import os
import posixpath
import threading
import time
from typing import Any, Callable, Deque, Iterator, List, Optional

from ..archive.errors import (
    ArchiveError,
    BrokenFileError,
    BusyError,
    ChangedFileError,
    DiskError,
    LocalNameError,
    NoRangesError,
    NotFoundError,
    RemoteError,
    StoppedError,
    TransientError,
)
from ..archive.remote import Archive, Connection
from ..archive.sessions import within
from ..images.header import BadImageError
from .faults import Faults, tries_for
from .jobs import PENDING, NextJob, Outcome, Settings
from .parts import UNPACKED_PREFIX, Part, disk_error, hidden_path, remove_leftovers
from .pool import ConnectionPool, Slot
from .ranges import COMPLETE, ENDING, FileOnItsWay, Piece, Plan
from .unpack import unpack

logger = logging.getLogger(__name__)

# Bytes read and written at once are what arrives in this many seconds: few system calls on a fast line, little
# lost with a killed process on a slow one.
CHUNK_SECONDS = 0.02
MIN_CHUNK_BYTES, MAX_CHUNK_BYTES = 16 << 10, 256 << 10     # the most: what a processor's cache holds
UNPACKERS = 2
# The listing of a folder, with all that a slow or hostile server puts into it.
LISTING_SECONDS = 120
# So often a server is believed that it is busy in general, and not with this file or folder.
BELIEVED_BUSY = 2


class Transfer:
    """Fetches jobs until there are no more; see the module's docstring."""

    def __init__(self, archive: Archive, settings: Settings, cancelled: threading.Event):
        self._archive = archive
        self._settings = settings
        self._cancelled = cancelled
        self.pool = ConnectionPool(archive, settings.connections, settings.recover)
        self._changed = threading.Condition()
        self._plan = Plan()
        self._outcomes: Deque[Outcome] = collections.deque()
        self._fatal: Optional[BaseException] = None
        self._over = self._woken = False
        self._last_byte = 0.0                   # when it came, or whatever else shows that the line works
        self._nothing_wanted = time.monotonic()
        self._last_fault = ""
        self._faults = Faults(settings)
        # Whoever holds a connection does not wait for the processor or the disk.
        self._unpackers = concurrent.futures.ThreadPoolExecutor(UNPACKERS, "transfer-unpack")
        self._closers = concurrent.futures.ThreadPoolExecutor(1, "transfer-close")     # one, to keep the order
        self.received = 0                       # bytes that came over the line in this run

    def run(self, next_job: NextJob, done: Callable[[Outcome], None], tick: Callable[[], None] = lambda: None) -> None:
        """Fetch what ``next_job`` gives, until it gives None while nothing is under way, or ``cancelled`` is set.

        All three functions are called from the calling thread only: ``done`` for every job that ended, ``tick``
        about four times a second. ``next_job`` gives PENDING while it does not know, and calls ``wake`` when it does.

        Raises ArchiveError for what ends the run (disk, login, nothing came for minutes). What is whole by then
        was reported, what is half stays for the next run.
        """
        workers = [threading.Thread(target=self._work, name="transfer-%d" % n, daemon=True)
                   for n in range(self.pool.limit)]
        for worker in workers:
            worker.start()
        try:
            while not self._cancelled.is_set() and self._fatal is None:
                if self._report(done):
                    self._plan.exhausted = False    # another one may be wanted in its place
                waits = self._feed(next_job)
                tick()
                self._watch_silence()
                self._drop_hung()
                with self._changed:
                    if self._plan.exhausted and not self._plan.files and not self._outcomes:
                        break
                    if not self._outcomes and self._fatal is None and not (waits and self._woken):
                        self._changed.wait(0.25)
                    self._woken = False
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            self.pool.close()
            for worker in workers:
                worker.join()
            self._unpackers.shutdown(wait=True)
            self._closers.shutdown(wait=True)
            self._report(done)
            for file in self._plan.files:
                if file.part is not None:
                    file.part.release()
        if self._fatal is not None:
            raise self._fatal

    def wake(self) -> None:
        """There may be a next job now; from any thread."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def under_way(self) -> int:
        """Bytes on disk of files that are not whole yet."""
        with self._changed:
            return sum(file.bytes_there for file in self._plan.files)

    def held_elsewhere(self) -> List[str]:
        """Local names of files that another process is fetching."""
        with self._changed:
            return [os.path.basename(file.job.target) for file in self._plan.files if file.held]

    def ask(self, request: Callable[[Connection], Any], persistent: bool) -> Any:
        """The answer to ``request`` (a listing, say), from any thread.

        ``persistent``: what is asked for is known to exist, so that NotFoundError and BrokenFileError are tried
        again. Faults are tried again after growing waits; when the line works otherwise they are raised after a
        while, when it does not the run ends.

        Raises RemoteError, StoppedError and what ends the run.
        """
        began = time.monotonic()
        failures, deadline = 0, began + self._settings.give_up
        while True:
            try:
                with self.pool.slot(urgent=True) as slot, self._connection(slot) as connection:
                    answer = within(LISTING_SECONDS, self._cancelled, lambda: request(connection), connection.abort)
                self._last_byte = time.monotonic()
                return answer
            except StoppedError:
                raise
            except TransientError as error:
                if isinstance(error, BusyError) and failures < BELIEVED_BUSY:
                    self.pool.too_many()
                fault, enough = error, failures + 1 >= tries_for(error) and self._answers(began)
            except (NotFoundError, BrokenFileError) as error:
                fault, enough = error, not persistent or failures + 1 >= tries_for(error)
            if enough or time.monotonic() > deadline:
                raise fault if enough else self._silence(fault) from fault
            logger.info("%s; asking again.", fault)
            failures += 1
            self._pause(self._faults.wait_after(failures))
            if self._over or self._cancelled.is_set():
                msg = "stopped"
                raise StoppedError(msg)

    def _answers(self, since: float) -> bool:
        """Whether the line works otherwise, though a listing fails."""
        with self.pool.slot(urgent=True) as slot:
            return self._line_works(since, "", slot)

    # -------------------------- the calling thread -----------------------

    def _feed(self, next_job: NextJob) -> bool:
        """Keep a few more files known than are worked on, so that their sizes are asked for in good time.

        -> whether the next job is not known yet.
        """
        while not self._cancelled.is_set():
            with self._changed:
                if not self._plan.wants_more(self.pool.limit):
                    return False
            job = next_job()
            if job is PENDING:
                return True
            with self._changed:
                self._plan.exhausted = job is None
                if job is None:
                    return False
                self._plan.files.insert(0 if job.urgent else len(self._plan.files), FileOnItsWay(job))
                self._changed.notify_all()
        return False

    def _report(self, done: Callable[[Outcome], None]) -> bool:
        """Tell of what ended since the last time; whether there was anything."""
        any_ended = bool(self._outcomes)
        while self._outcomes:
            done(self._outcomes.popleft())
        return any_ended

    def _watch_silence(self) -> None:
        with self._changed:
            now = time.monotonic()
            if not any(file.phase != ENDING and not file.held for file in self._plan.files):
                self._nothing_wanted = now
            silent = now - max(self._last_byte, self._nothing_wanted)
        if silent > self._settings.give_up:
            self._fatal = self._silence(self._last_fault)

    def _silence(self, why: Any) -> ArchiveError:
        msg = "Nothing came from the %s for %d minutes (%s): check the network, then Continue; what is there is " \
              "kept." % (self._archive.server, max(1, round(self._settings.give_up / 60)), why or "no answer")
        return ArchiveError(msg)

    def _drop_hung(self) -> None:
        with self._changed:
            for piece in self._plan.hung(time.monotonic()):
                if piece.connection is not None:
                    logger.info("A connection brings nothing of %s any more: another takes its place.",
                                piece.file.job.path)
                    piece.dropped = True
                    piece.file.drops += 1
                    piece.connection.abort()

    # -------------------------- the workers -----------------------

    def _work(self) -> None:
        failures = 0
        while not self._over:
            try:
                with self.pool.slot() as slot:
                    while not self._over and not self.pool.wanted_elsewhere():
                        if self._do_next(slot):
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
                self._pause(self._faults.wait_after(failures))

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._over, seconds)

    def _end_with(self, error: BaseException) -> None:
        with self._changed:
            self._fatal = self._fatal or error
            self._over = True
            self._changed.notify_all()

    def _note_fault(self, error: BaseException) -> None:
        if not self._over:
            self._last_fault = str(error)
            logger.info("%s; trying again.", error)

    def _do_next(self, slot: Slot) -> bool:
        """One request's worth of work; False where there was none to do.

        Raises TransientError for what is not the fault of the file: there is no connection.
        """
        with self._changed:
            task = self._plan.claim(time.monotonic())
            if task is None:
                self._changed.wait(0.2)
                return False
        piece, file = (task, task.file) if isinstance(task, Piece) else (None, task)
        fault: Optional[RemoteError] = None
        connected = False
        try:
            with self._connection(slot) as connection:
                connected = True
                if piece is not None:
                    piece.connection = connection
                    self._fetch(connection, piece)
                elif file.phase == COMPLETE:
                    self._end(connection, file)
                else:
                    self._prepare(connection, file)
        except ChangedFileError as error:
            with self._changed:
                self._faults.changed(file, error)
        except NoRangesError as error:
            if self._plan.ranges:
                logger.warning("%s: every file gets one connection.", error)
            self._plan.ranges = False
            file.restart = True
        except StoppedError:
            raise
        except RemoteError as error:
            if not connected:
                raise
            fault = error
        finally:
            with self._changed:
                if piece is not None:
                    # What is cut short by ourselves is nobody's fault, unless it never brought a byte.
                    if self._over or (piece.dropped and piece.position > piece.start):
                        fault = None
                    file.give_back(piece)
                    if file.single and file.gaps and not file.ending:
                        file.restart = True     # no second server's bytes behind the first's
                else:
                    file.busy = False
                    file.look_whole()
                if fault is not None:
                    self._faults.count(file, time.monotonic())
                self._settle(file)
                self._changed.notify_all()
        if fault is not None:
            if isinstance(fault, BusyError) and file.faults <= BELIEVED_BUSY:
                raise fault     # of the server, as far as is known
            self._note_fault(fault)
            self._judge(slot, file, fault)
        return True

    @contextlib.contextmanager
    def _connection(self, slot: Slot) -> Iterator[Connection]:
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

    # -------------------------- one file -----------------------

    def _prepare(self, connection: Connection, file: FileOnItsWay) -> None:
        job = file.job
        if not os.path.exists(job.target) and not self._acquire(file):
            return
        state = connection.state(job.path)
        self._last_byte = time.monotonic()
        if os.path.exists(job.target):
            if job.is_whole(state.size):
                if file.part is not None:
                    file.part.discard()
                remove_leftovers(job.target)
                self._finished(file, Outcome(job, state.size, job.check(job.target), found=True))
                return
            if not self._acquire(file):
                return
        if state.size == 0:
            msg = "it is empty on the %s" % self._archive.server
            raise BrokenFileError(msg)
        gaps = file.part.begin(job.path, state)
        with self._changed:
            whole = file.single or not self._plan.ranges
            file.state = state
            file.prepared(state.size, gaps, whole, self.pool.limit, self._plan.pace)

    def _acquire(self, file: FileOnItsWay) -> bool:
        """Get hold of the file's part; False, and look again soon, while another process has it."""
        if file.part is None:
            file.part = Part.acquire(file.job.target)
        if file.part is None:
            if not file.held:
                logger.warning("%s is being fetched by another run: waiting for it.", file.job.target)
            file.not_before = time.monotonic() + 1
        file.held = file.part is None
        return not file.held

    def _fetch(self, connection: Connection, piece: Piece) -> None:
        file, start, chunk = piece.file, piece.position, MIN_CHUNK_BYTES
        piece.began = piece.last_byte = time.monotonic()
        version = None if file.single else file.state
        with connection.open(file.job.path, piece.position, piece.end, version) as stream:
            while piece.remaining > 0 and not self._over and not file.ending:
                before = time.monotonic()
                data = stream.read(min(chunk, piece.remaining))
                if not data:
                    msg = "the %s sent less of %s than it promised" % (self._archive.server, file.job.path)
                    raise BrokenFileError(msg)
                if file.part.write(piece.position, data):
                    self._closers.submit(self._sync, file.part)
                now = time.monotonic()
                with self._changed:
                    file.moved(piece, len(data), now, self._plan.ranges and not file.single)
                    self.received += len(data)
                    self._last_byte = now
                    self._faults.hopeless = 0
                if self.pool.urgent and not file.single and self.pool.wanted_at_once():
                    break
                wanted = int(len(data) * CHUNK_SECONDS / max(now - before, 1e-6))
                chunk = min(max(wanted, MIN_CHUNK_BYTES), 2 * chunk, MAX_CHUNK_BYTES)
        self._plan.pace = (piece.position - start) / max(time.monotonic() - piece.began, 1e-6)

    def _end(self, connection: Connection, file: FileOnItsWay) -> None:
        # A range asked for earlier goes on bringing the old version, or a mixture; a file that came by one request
        # is one version.
        if not file.single and not connection.state(file.job.path).same_as(file.state):
            msg = "%s changed on the %s" % (file.job.path, self._archive.server)
            raise ChangedFileError(msg)
        file.phase = ENDING
        (self._unpackers if file.job.compression else self._closers).submit(self._conclude, file)

    def _conclude(self, file: FileOnItsWay) -> None:
        """Runs beside the download: unpack a whole file, look at it, give it its name."""
        path, unpacked = file.part.path, hidden_path(file.job.target, UNPACKED_PREFIX)
        try:
            if file.job.compression:
                file.part.close_journal()
                unpack(path, file.job.compression, unpacked,
                       lambda: self._cancelled.is_set() or self._fatal is not None)
                path = unpacked
            self._check(file, path)
        except StoppedError:
            pass    # the whole compressed file stays for the next run
        except BadImageError as error:
            self._faults.reject(file, error)
        except Exception as error:  # noqa: BLE001 - handed to the calling thread, which raises it
            error = disk_error(error, file.job.target) if isinstance(error, OSError) else error
            if isinstance(error, LocalNameError):
                file.refused = str(error)
            else:
                self._end_with(error)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(unpacked)
            with self._changed:
                self._settle(file)
                self._changed.notify_all()

    def _sync(self, part: Part) -> None:
        try:
            part.sync()
        except DiskError as error:
            self._end_with(error)

    def _check(self, file: FileOnItsWay, path: str) -> None:
        """The last look at a whole file, and its final name."""
        try:
            header = file.job.check(path)
        except BadImageError as error:
            self._faults.reject(file, error)
            return
        if path == file.part.path:
            file.part.finish()
        else:
            os.replace(path, file.job.target)
            file.part.discard()
        self._finished(file, Outcome(file.job, file.size, header))

    def _finished(self, file: FileOnItsWay, outcome: Outcome) -> None:
        with self._changed:
            file.part = None
            self._last_byte = time.monotonic()
            self._plan.files.remove(file)
            self._outcomes.append(outcome)
            self._changed.notify_all()

    # -------------------------- what a fault means -----------------------

    def _judge(self, slot: Slot, file: FileOnItsWay, error: RemoteError) -> None:
        """Leave the file out where it has failed too often and the line is not to blame."""
        if file.faults < tries_for(error) or (isinstance(error, TransientError) and not self._line_works(
                file.first_fault, posixpath.dirname(file.job.path), slot)):
            return
        with self._changed:
            self._faults.refuse(file, error, self._archive.server)
            self._settle(file)
            self._changed.notify_all()

    def _line_works(self, since: float, folder: str, slot: Slot) -> bool:
        """Whether anything came since then, or the server lists a folder at least."""
        if self._last_byte > since:
            return True
        try:
            with self._connection(slot) as connection:
                within(LISTING_SECONDS, self._cancelled, lambda: connection.list_folder(folder), connection.abort)
        except RemoteError as error:
            logger.info("%s; so it may be the line.", error)
            return False
        return True

    def _settle(self, file: FileOnItsWay) -> None:
        """Carry out a restart or a refusal once nobody works on the file; the lock is held."""
        if not file.ending or file.pieces or file.busy or file not in self._plan.files:
            return
        if file.part is not None:
            file.part.discard()
            file.part = None
        if file.refused:
            self._plan.files.remove(file)
            self._outcomes.append(Outcome(file.job, error=file.refused))
        else:
            file.begin_again()
