# SPDX-License-Identifier: GPL-3.0-or-later
"""The transfer: workers that carry out what the plan says, and decide what each fault means.

A fault costs the file it met: the file is tried again after growing waits while the others go on, and left out when it
fails again and again although the server gives others; blame.py has the rules. The run ends when nothing comes for
minutes, when the disk takes nothing more, or when nobody lets us in.
"""
import collections
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
    LineError,
    LocalNameError,
    NoRangesError,
    NotFoundError,
    RemoteError,
    Stopped,
    TransientError,
)
from ..archive.remote import Archive, Connection, Listing
from ..archive.stopping import StopToken, within
from .blame import is_held_against, is_of_the_file, may_be_of_the_file, tries_for
from .faults import Faults
from .finisher import Finisher
from .jobs import NextJob, Outcome, Pending, Settings
from .pool import ConnectionPool, Slot
from .ranges import ENDING, FileOnItsWay, Piece, Plan
from .steps import Line, Steps

logger = logging.getLogger(__name__)

# The listing of a folder, with all that a slow or hostile server puts into it. Most come at once, so that a connection
# that hangs is given up early the first time.
LISTING_SECONDS, QUICK_LISTING_SECONDS = 120, 10
# So often a server is believed that it is busy in general, and not with this file or folder.
BELIEVED_BUSY = 2
# A turn of the clock's thread takes a second; one that took longer than this found the process stopped.
ASLEEP_SECONDS = 5.0


class Transfer:
    """Fetches jobs until there are no more; see the module's docstring."""

    def __init__(self, archive: Archive, settings: Settings, stop: StopToken,
                 witness: Callable[[str], str] = lambda path: ""):
        """``witness``: path of a file -> that of another one which the server should have, '' where none is known; from
        any thread."""
        self._archive = archive
        self._witness = witness
        self._settings = settings
        self._stop = stop
        self.pool = ConnectionPool(archive, settings.connections, settings.recover)
        self._line = Line()
        self._plan = Plan(archive.parting)
        self._outcomes: Deque[Outcome] = collections.deque()
        self._fatal: Optional[BaseException] = None
        self._woken = False
        self._nothing_wanted = time.monotonic()
        self._last_fault = ""
        self._given = ""                # path of a file that has become whole
        self._listed = ""               # of a folder that was listed
        self._last_busy, self._busy_in_a_row = 0.0, 0
        self._slept = 0.0               # seconds for which this process did not run
        self._clock_turned = float("inf")       # no clock yet
        self._listing_seconds = QUICK_LISTING_SECONDS
        self._faults = Faults(settings)
        self._finisher = Finisher(lambda: stop.is_set() or self._fatal is not None, self._faults, self._ended,
                                  self._end_with)
        self._steps = Steps(archive, self._plan, self.pool, self._faults, self._line, self._finisher, self._ended)

    def run(self, next_job: NextJob, done: Callable[[Outcome], None], tick: Callable[[], None] = lambda: None) -> None:
        """Fetch what ``next_job`` gives, until it gives None while nothing is under way, or ``stop`` is set.

        All three functions are called from the calling thread only: ``done`` for every job that ended, ``tick``
        about four times a second. ``next_job`` gives PENDING while it does not know, and calls ``wake`` when it does.

        Raises ArchiveError for what ends the run (disk, login, nothing came for minutes). What is whole by then
        was reported, what is half stays for the next run.
        """
        workers = [threading.Thread(target=self._work, name="transfer-%d" % n, daemon=True)
                   for n in range(self.pool.limit)]
        clock = threading.Thread(target=self._mind_sleep, name="transfer-clock", daemon=True)
        for thread in (*workers, clock):
            thread.start()
        try:
            while not self._stop.is_set() and self._fatal is None:
                if self._report(done):
                    self._plan.exhausted = False    # another one may be wanted in its place
                waits = self._feed(next_job)
                tick()
                if self._is_awake():
                    self._watch_silence()
                    self._drop_hung()
                with self._line.changed:
                    if self._plan.exhausted and not self._plan.files and not self._outcomes:
                        break
                    if not self._outcomes and self._fatal is None and not (waits and self._woken):
                        self._line.changed.wait(0.25)
                    self._woken = False
        finally:
            with self._line.changed:
                self._line.over = True
                self._line.changed.notify_all()
            self.pool.close()
            for thread in (*workers, clock):
                thread.join()
            self._finisher.close()
            self._report(done)
            for file in self._plan.files:
                if file.part is not None:
                    file.part.release()
        if self._fatal is not None:
            raise self._fatal

    @property
    def received(self) -> int:
        """Bytes that came over the line in this run."""
        return self._line.received

    def wake(self) -> None:
        """There may be a next job now; from any thread."""
        with self._line.changed:
            self._woken = True
            self._line.changed.notify_all()

    def under_way(self) -> int:
        """Bytes on disk of files that are not whole yet."""
        with self._line.changed:
            return sum(file.bytes_there for file in self._plan.files)

    def held_elsewhere(self) -> List[str]:
        """Local names of files that another process is fetching."""
        with self._line.changed:
            return [os.path.basename(file.job.target) for file in self._plan.files if file.held]

    def list_folder(self, path: str, expected: bool) -> Listing:
        """Of any thread; ``expected``: whether the folder is known to exist. Raises what ``ask`` raises."""
        listing: Listing = self.ask(lambda connection: connection.list_folder(path), expected, path)
        self._listed = path
        return listing

    def ask(self, request: Callable[[Connection], Any], persistent: bool, path: str = "") -> Any:
        """The answer to ``request`` (a listing, say), from any thread.

        ``persistent``: what is asked for is known to exist, so that NotFoundError and BrokenFileError are tried
        again. Faults are tried again after growing waits; when the line works otherwise they are raised after a
        while, when it does not the run ends.
        ``path``: of the folder that is asked for, so that whose fault it is is found out with another one.

        Raises RemoteError, Stopped and what ends the run.
        """
        failures = held = 0
        began = time.monotonic() - self._slept
        while True:
            asked = time.monotonic()
            try:
                with self.pool.slot(urgent=True) as slot, self._connection(slot) as connection:
                    answer = within(self._listing_seconds, self._stop, lambda: request(connection),
                                    connection.abort)
                self._line.last_byte = time.monotonic()
                return answer
            except TransientError as error:
                if isinstance(error, BusyError):
                    self._be_patient(error, asked)
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
            if self._is_awake() and now - self._slept - began > self._settings.give_up:
                if now - self._line.last_byte < self._settings.give_up:
                    raise fault     # everything else comes
                raise self._silence(fault) from fault
            logger.info("%s; asking again.", fault)
            failures += 1
            self._pause(self._faults.wait_after(failures))
            if self._line.over or self._stop.is_set():
                raise Stopped

    def _lists(self, folder: str) -> bool:
        """Whether the server lists a folder."""
        with self.pool.slot(urgent=True) as slot:
            return self._gives(slot, lambda connection: connection.list_folder(folder))

    def _be_patient(self, error: BusyError, asked: float) -> None:
        """The server is busy: all wait, longer each time that it says so without having given a byte in between.

        What was asked before it had said so the last time is the same once more.
        """
        with self._line.changed:
            if self._line.last_byte > self._last_busy:
                self._busy_in_a_row = 0
            if asked > self._last_busy or not self._busy_in_a_row:
                self._busy_in_a_row += 1
            self._last_busy = time.monotonic()
        seconds = max(error.retry_after, self._faults.wait_after(self._busy_in_a_row))
        self.pool.too_many(min(seconds, self._settings.give_up))

    # -------------------------- the calling thread -----------------------

    def _feed(self, next_job: NextJob) -> bool:
        """Keep a few more files known than are worked on, so that their sizes are asked for in good time.

        -> whether the next job is not known yet.
        """
        while not self._stop.is_set():
            with self._line.changed:
                if not self._plan.wants_more(self.pool.limit):
                    return False
            job = next_job()
            if isinstance(job, Pending):
                return True
            with self._line.changed:
                self._plan.exhausted = job is None
                if job is None:
                    return False
                self._plan.files.insert(0 if job.urgent else len(self._plan.files), FileOnItsWay(job))
                self._line.changed.notify_all()
        return False

    def _report(self, done: Callable[[Outcome], None]) -> bool:
        """Tell of what ended since the last time; whether there was anything."""
        any_ended = bool(self._outcomes)
        while self._outcomes:
            done(self._outcomes.popleft())
        return any_ended

    def _mind_sleep(self) -> None:
        """Where this process was stopped, or the machine asleep, that time counts for nobody's silence. A thread of its
        own finds it out, which nobody else holds up."""
        self._clock_turned = time.monotonic()
        while not self._line.over:
            self._pause(1.0)
            with self._line.changed:
                now = time.monotonic()
                lost = now - self._clock_turned
                if lost > ASLEEP_SECONDS:
                    self._slept += lost
                    self._line.last_byte = min(now, self._line.last_byte + lost)
                    self._plan.slept(lost)
                self._clock_turned = now

    def _is_awake(self) -> bool:
        """False where this process was stopped, and the clock's thread has not said so yet."""
        return time.monotonic() - self._clock_turned < ASLEEP_SECONDS

    def _watch_silence(self) -> None:
        with self._line.changed:
            now = time.monotonic()
            if not any(file.phase != ENDING and not file.held for file in self._plan.files):
                self._nothing_wanted = now
            silent = now - max(self._line.last_byte, self._nothing_wanted)
        if silent > self._settings.give_up:
            self._fatal = self._silence(self._last_fault)

    def _silence(self, why: Any) -> ArchiveError:
        msg = "Nothing came from the %s for %d minutes (%s): check the network, then Continue; what is there is " \
              "kept." % (self._archive.server, max(1, round(self._settings.give_up / 60)), why or "no answer")
        return ArchiveError(msg)

    def _drop_hung(self) -> None:
        with self._line.changed:
            now = time.monotonic()
            for piece in self._plan.hung(now, self.pool.limit):
                if piece.connection is not None:
                    piece.dropped = True
                    if piece.crawls:
                        piece.file.crawls += 1
                    else:
                        piece.file.hung()
                    self._drop(piece.file, piece.connection)
            for file in self._plan.unanswered(now):
                file.hung()
                self._drop(file, file.question)
                file.question = None

    @staticmethod
    def _drop(file: FileOnItsWay, connection: Connection) -> None:
        logger.info("A connection brings nothing of %s any more: another takes its place.", file.job.path)
        connection.abort()

    # -------------------------- the workers -----------------------

    def _work(self) -> None:
        failures = 0
        while not self._line.over:
            asked = time.monotonic()
            try:
                with self.pool.slot() as slot:
                    try:
                        while not self._line.over and not self.pool.wanted_elsewhere():
                            asked = time.monotonic()
                            if self._do_next(slot):
                                failures = 0
                    finally:
                        with self._line.changed:
                            self._steps.break_promise(slot.connection)
            except TransientError as error:
                if isinstance(error, BusyError):
                    self._be_patient(error, asked)
                failures += 1
                self._note_fault(error)
            except Stopped:
                return
            except Exception as error:  # noqa: BLE001 - handed to the calling thread, which raises it
                self._end_with(error)
                return
            if failures and not self._line.over:
                self._pause(self._faults.wait_after(failures))

    def _pause(self, seconds: float) -> None:
        with self._line.changed:
            self._line.changed.wait_for(lambda: self._line.over, seconds)

    def _end_with(self, error: BaseException) -> None:
        with self._line.changed:
            self._fatal = self._fatal or error
            self._line.over = True
            self._line.changed.notify_all()

    def _note_fault(self, error: BaseException) -> None:
        if not self._line.over:
            self._last_fault = str(error)
            logger.info("%s; trying again.", error)

    def _do_next(self, slot: Slot) -> bool:
        """One request's worth of work; False where there was none to do.

        Raises TransientError for what is not the fault of the file: there is no connection.
        """
        with self._line.changed:
            task = self._steps.promised(slot.connection) or self._plan.claim(time.monotonic(), self.pool.limit)
            if task is None:
                self._line.changed.wait(0.2)
                return False
        piece, file = (task, task.file) if isinstance(task, Piece) else (None, task)
        fault: Optional[RemoteError] = None
        is_news = False
        asked = 0.0         # when the request began that this is about
        try:
            if piece is not None or not self._steps.presume(file):
                with self._connection(slot) as connection:
                    asked = time.monotonic()
                    self._steps.carry_out(connection, file, piece)
        except ChangedFileError as error:
            with self._line.changed:
                self._faults.changed(file, error)
        except NoRangesError as error:
            with self._line.changed:
                self._steps.whole_files_only(error)
                # Whoever asked for the first bytes may have got all in the meantime.
                file.restart = piece is not None and piece.remaining > 0
        except LocalNameError as error:
            fault = error
        except RemoteError as error:
            if not asked:
                raise
            fault = error
        finally:
            with self._line.changed:
                if piece is not None and piece.connection is not slot.connection:
                    self._steps.break_promise(piece.connection)
                if piece is not None:
                    # What is cut short by ourselves is nobody's fault, unless it never brought a byte.
                    if self._line.over or file.ending or (piece.dropped and piece.position > piece.start):
                        fault = None
                    file.give_back(piece)
                    if file.single and file.gaps and not file.ending:
                        file.restart = True     # no second server's bytes behind the first's
                else:
                    file.busy = False
                    file.look_whole()
                if fault is not None:
                    is_news = self._faults.count(file, fault, asked, time.monotonic())
                self._settle(file)
                self._line.changed.notify_all()
        if fault is not None:
            if isinstance(fault, LineError) or (isinstance(fault, BusyError) and file.attempts <= BELIEVED_BUSY):
                raise fault     # of the line or the server, as far as is known
            self._note_fault(fault)
            if is_news:
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
        except (TransientError, Stopped):
            slot.drop()
            raise
        except RemoteError:
            if slot.connection is not None and not slot.connection.usable:
                slot.drop()
            raise

    def _ended(self, file: FileOnItsWay, outcome: Optional[Outcome]) -> None:
        """A file is whole and named, or (None) is to be left out or fetched anew."""
        with self._line.changed:
            if outcome is None:
                self._settle(file)
            else:
                file.part = None
                self._given = file.job.path
                self._line.last_byte = time.monotonic()
                self._plan.any_whole = self._plan.any_whole or not file.job.urgent
                self._plan.files.remove(file)
                self._outcomes.append(outcome)
            self._line.changed.notify_all()

    # -------------------------- what a fault means -----------------------

    def _judge(self, slot: Slot, file: FileOnItsWay, error: RemoteError) -> None:
        """Leave the file out where it has failed too often and neither line nor server is to blame."""
        if isinstance(error, TransientError) and not is_of_the_file(error) and file.attempts < 2:
            return      # one that hangs or breaks off is not worth a question
        held = is_held_against(error, may_be_of_the_file(error) and self._gives_another(slot, file))
        with self._line.changed:
            # Others may have read on from it in the meantime.
            file.faults += held and file.attempts > 0
            if file.faults < tries_for(error):
                return
            self._faults.refuse(file, error, self._archive.server)
            self._settle(file)
            self._line.changed.notify_all()

    def _gives_another(self, slot: Slot, file: FileOnItsWay) -> bool:
        """Whether the server gives bytes of another file, or where none is known lists the folder."""
        with self._line.changed:
            coming = next((other.job.path for other in self._plan.files if other is not file and other.gained), "")
        other = self._given or coming or self._witness(file.job.path)
        if not other:
            return self._gives(slot, lambda connection: connection.list_folder(posixpath.dirname(file.job.path)))

        def read(connection: Connection) -> None:
            with connection.open(other, 0, 1) as (_, stream):
                stream.read(1)

        return self._gives(slot, read)

    def _gives(self, slot: Slot, ask: Callable[[Connection], Any]) -> bool:
        asked = time.monotonic()
        try:
            with self._connection(slot) as connection:
                within(min(QUICK_LISTING_SECONDS, self._settings.give_up), self._stop, lambda: ask(connection),
                       connection.abort)
        except RemoteError as error:
            if isinstance(error, BusyError):
                self._be_patient(error, asked)
            logger.info("%s; so it may be the server, or the line.", error)
            return False
        # Whatever it is with the file, the server is there.
        self._line.last_byte = time.monotonic()
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
