# SPDX-License-Identifier: GPL-3.0-or-later
"""The transfer: workers that carry out what the plan says, and decide what each fault means.

A fault costs the file it met: the file is tried again after growing waits while the others go on, and skipped when it
fails again and again although the server gives others; blame.py has the rules. The run ends when nothing comes for
minutes, when the disk takes nothing more, or when nobody lets us in.

=================  ====================================================================================
thread             what it does
=================  ====================================================================================
the caller's       ``run``: new jobs, what ended, silence, connections that stall
transfer-0 ...     ``_work``: one step after the other, each on a file or piece of its own (``Steps``)
transfer-clock     ``Board.run_clock``: finds out that the machine was asleep
transfer-unpack    ``Finisher``: decompresses, checks and names whole files
transfer-close     ``Finisher``: the same for files that are not compressed, and reaches the disk
=================  ====================================================================================

They share the board, whose lock guards it, the plan and the files.
"""
import logging
import posixpath
import threading
import time
from typing import Callable, List, Optional, Tuple

from ..archive.errors import (
    BusyError,
    ChangedFileError,
    LineError,
    LocalNameError,
    NoRangesError,
    RemoteError,
    Stopped,
    TransientError,
)
from ..archive.remote import Archive, Connection, Listing
from ..archive.stopping import Answer, StopToken
from .asking import Asker
from .blame import is_held_against, is_of_the_file, may_be_of_the_file, tries_for
from .board import Board
from .faults import Faults
from .file import FileTransfer, Phase, Piece
from .finisher import Finisher
from .jobs import NextJob, Outcome, Pending, Settings
from .pool import ConnectionPool, Slot
from .steps import Steps

logger = logging.getLogger(__name__)

# So often a server is believed that it is busy in general, and not with this file or folder.
BELIEVED_BUSY = 2
TICK_SECONDS = 0.25


class Transfer:
    """Fetches jobs until there are no more; see the module's docstring."""

    def __init__(self, archive: Archive, settings: Settings, stop: StopToken,
                 witness: Callable[[str], str] = lambda path: ""):
        """``witness``: path of a file -> that of another one which the server should have, '' where none is known; from
        any thread."""
        self._archive, self._settings, self._stop, self._witness = archive, settings, stop, witness
        self.pool = ConnectionPool(archive, settings.connections, settings.recover)
        self._board = Board(archive.hangup_seconds)
        self._faults = Faults(settings)
        self._asker = Asker(archive.server, settings, self.pool, self._board, self._faults, stop)
        self._finisher = Finisher(lambda: stop.is_set() or self._board.fatal is not None, self._faults,
                                  self._board.ended, self._board.end_with)
        self._steps = Steps(archive, self._board, self.pool, self._faults, self._finisher)

    def run(self, next_job: NextJob, done: Callable[[Outcome], None], tick: Callable[[], None] = lambda: None) -> None:
        """Fetch what ``next_job`` gives, until it gives None while nothing is under way, or ``stop`` is set.

        All three functions are called from the calling thread only: ``done`` for every job that ended, ``tick``
        about four times a second. ``next_job`` gives PENDING while it does not know, and calls ``wake`` when it does.

        Raises ArchiveError for what ends the run (disk, login, nothing came for minutes). What is whole by then
        was reported, what is half stays for the next run.
        """
        board = self._board
        threads = [threading.Thread(target=self._work, name="transfer-%d" % n, daemon=True)
                   for n in range(self.pool.limit)]
        threads.append(threading.Thread(target=board.run_clock, name="transfer-clock", daemon=True))
        for thread in threads:
            thread.start()
        try:
            while not self._stop.is_set() and board.fatal is None:
                if self._report(done):
                    board.set_exhausted(False)      # another one may be wanted in its place
                is_unknown = self._feed(next_job)
                tick()
                if board.is_awake():
                    self._watch_silence()
                    self._drop_stalled()
                if board.wait(TICK_SECONDS, until_woken=is_unknown):
                    break
        finally:
            board.close()
            self.pool.close()
            for thread in threads:
                thread.join()
            self._finisher.close()
            self._report(done)
            board.release_parts()
        if board.fatal is not None:
            raise board.fatal

    @property
    def received(self) -> int:
        """Bytes that came over the line in this run."""
        return self._board.received

    def wake(self) -> None:
        """There may be a next job now; from any thread."""
        self._board.wake()

    def under_way(self) -> int:
        """Bytes on disk of files that are not whole yet."""
        return self._board.bytes_under_way()

    def silence(self) -> Tuple[float, str]:
        """For how many seconds nothing has come although something is wanted, and what went wrong last."""
        return self._board.silent_seconds(), self._board.last_fault

    def held_elsewhere(self) -> List[str]:
        """Local names of files that another process is fetching."""
        return self._board.held_elsewhere()

    def list_folder(self, path: str, expected: bool) -> Listing:
        """Of any thread; see the Asker's."""
        return self._asker.list_folder(path, expected)

    def ask(self, request: Callable[[Connection], Answer], persistent: bool, path: str = "") -> Answer:
        """Of any thread; see the Asker's."""
        return self._asker.ask(request, persistent, path)

    # -------------------------- the calling thread -----------------------

    def _feed(self, next_job: NextJob) -> bool:
        """Keep a few more files known than are worked on, so that their sizes are asked for in good time.

        -> whether the next job is not known yet.
        """
        while not self._stop.is_set() and self._board.wants_more(self.pool.limit):
            job = next_job()
            if isinstance(job, Pending):
                return True
            self._board.set_exhausted(job is None)
            if job is None:
                return False
            self._board.add(job)
        return False

    def _report(self, done: Callable[[Outcome], None]) -> bool:
        """Tell of what ended since the last time; whether there was anything."""
        outcome = self._board.next_outcome()
        any_ended = outcome is not None
        while outcome is not None:
            done(outcome)
            outcome = self._board.next_outcome()
        return any_ended

    def _watch_silence(self) -> None:
        if self._board.silent_seconds() > self._settings.give_up:
            self._board.fatal = self._asker.silence(self._board.last_fault)

    def _drop_stalled(self) -> None:
        with self._board.changed:
            now, plan = time.monotonic(), self._board.plan
            for piece in plan.stalled(now, self.pool.limit):
                if piece.connection is not None:
                    piece.dropped = True
                    if piece.is_slow:
                        piece.file.trouble.slow_drops += 1
                    else:
                        piece.file.trouble.stalled()
                    self._drop(piece.file, piece.connection)
            for file in plan.unanswered(now):
                file.trouble.stalled()
                if file.question is not None:
                    self._drop(file, file.question)
                file.question = None

    @staticmethod
    def _drop(file: FileTransfer, connection: Connection) -> None:
        logger.info("A connection brings nothing of %s any more: another takes its place.", file.job.path)
        connection.abort()

    # -------------------------- the workers -----------------------

    def _work(self) -> None:
        failures, board = 0, self._board
        while not board.over:
            asked = time.monotonic()
            try:
                with self.pool.slot() as slot:
                    try:
                        while not board.over and not self.pool.wanted_elsewhere():
                            asked = time.monotonic()
                            if self._do_next(slot):
                                failures = 0
                    finally:
                        board.drop_pipelined(slot.connection)
            except TransientError as error:
                if isinstance(error, BusyError):
                    self._asker.be_patient(error, asked)
                failures += 1
                self._note_fault(error)
            except Stopped:
                return
            except Exception as error:  # noqa: BLE001 - handed to the calling thread, which raises it
                board.end_with(error)
                return
            if failures and not board.over:
                board.pause(self._faults.wait_after(failures))

    def _note_fault(self, error: BaseException) -> None:
        if not self._board.over:
            self._board.last_fault = str(error)
            logger.info("%s; trying again.", error)

    def _do_next(self, slot: Slot) -> bool:
        """One request's worth of work; False where there was none to do.

        Raises TransientError for what is not the fault of the file: there is no connection.
        """
        board = self._board
        task = board.claim(slot.connection, self.pool.limit)
        if task is None:
            return False
        piece, file = (task, task.file) if isinstance(task, Piece) else (None, task)
        fault: Optional[RemoteError] = None
        is_news = False
        asked = 0.0         # when the request began that this is about
        try:
            if piece is not None or not self._steps.presume(file):
                with slot.connected() as connection:
                    asked = time.monotonic()
                    self._steps.carry_out(connection, file, piece)
        except ChangedFileError as error:
            with board.changed:
                self._faults.changed(file, error)
        except NoRangesError as error:
            with board.changed:
                self._steps.whole_files_only(error)
                # The worker that asked for the first bytes may have got all of the file in the meantime.
                file.restart = piece is not None and piece.remaining > 0
        except LocalNameError as error:
            fault = error
        except RemoteError as error:
            if not asked:
                raise
            fault = error
        finally:
            with board.changed:
                if piece is not None and piece.connection is not slot.connection:
                    board.drop_pipelined_locked(piece.connection)
                # A piece that we aborted is no fault, unless it received no byte.
                if piece is not None and (board.over or file.is_abandoned
                                          or (piece.dropped and piece.position > piece.start)):
                    fault = None
                board.give_back_locked(file, piece)
                if fault is not None:
                    is_news = self._faults.count(file, fault, asked, time.monotonic())
                board.settle_locked(file)
                board.changed.notify_all()
        if fault is not None:
            of_server = isinstance(fault, BusyError) and file.trouble.attempts <= BELIEVED_BUSY
            if of_server or isinstance(fault, LineError):
                raise fault     # of the line or the server, as far as is known
            self._note_fault(fault)
            if is_news:
                self._judge(slot, file, fault)
        return True

    # -------------------------- what a fault means -----------------------

    def _judge(self, slot: Slot, file: FileTransfer, error: RemoteError) -> None:
        """Leave the file out where it has failed too often and neither line nor server is to blame."""
        if isinstance(error, TransientError) and not is_of_the_file(error) and file.trouble.attempts < 2:
            return      # one that stalls or breaks off is not worth a question
        held = is_held_against(error, may_be_of_the_file(error) and self._gives_another(slot, file))
        with self._board.changed:
            if file.phase is Phase.FINISHING:
                return      # another worker has got all of it in the meantime
            # Others may have read on from it in the meantime.
            file.trouble.faults += held and file.trouble.attempts > 0
            if file.trouble.faults < tries_for(error):
                return
            self._faults.refuse(file, error, self._archive.server)
            self._board.settle_locked(file)
            self._board.changed.notify_all()

    def _gives_another(self, slot: Slot, file: FileTransfer) -> bool:
        """Whether the server gives bytes of another file, or where none is known lists the folder."""
        other = self._board.other_path(file) or self._witness(file.job.path)
        if not other:
            return self._asker.gives(slot, lambda connection: connection.list_folder(posixpath.dirname(file.job.path)))

        def read(connection: Connection) -> None:
            with connection.open(other, 0, 1) as (_, stream):
                stream.read(1)

        return self._asker.gives(slot, read)
