# SPDX-License-Identifier: GPL-3.0-or-later
"""What the threads of a transfer share: the files under way, what ended, and what the line does.

A monitor: one lock, ``changed``, guards all of it. Methods take the lock by themselves; a name that ends with
``_locked`` says that its caller holds it.
"""
import collections
import os
import threading
import time
from typing import Deque, Dict, List, Optional, Union

from ..archive.remote import Connection
from .file import FileTransfer, Phase, Piece
from .jobs import Job, Outcome
from .ranges import RangePlan

# A turn of the clock's thread takes a second; one that took longer than this found the process stopped.
ASLEEP_SECONDS = 5.0
Task = Union[Piece, FileTransfer]


class Board:
    """Of one transfer."""

    def __init__(self, hangup_seconds: float):
        """``hangup_seconds``: that it costs to hang up in the middle of a file."""
        self.changed = threading.Condition()
        self.plan = RangePlan(hangup_seconds)
        self.over = False               # no more is to be fetched
        self.fatal: Optional[BaseException] = None      # what ended the run
        self.last_byte = 0.0            # when it came, or whatever else shows that the line works
        self.last_fault = ""
        self.received = 0               # bytes that came over the line in this run
        self.whole = ""                 # path of a file that has become whole
        self.slept = 0.0                # seconds for which this process did not run
        self._outcomes: Deque[Outcome] = collections.deque()
        # Pipelined requests: for a piece, or for the state of a file that is complete then.
        self._pipelined: Dict[Connection, Task] = {}
        self._woken = False
        self._nothing_wanted = time.monotonic()
        self._clock_turned = float("inf")       # no clock yet

    # -------------------------- for the thread that runs the transfer -----------------------

    def add(self, job: Job) -> None:
        with self.changed:
            self.plan.files.insert(0 if job.urgent else len(self.plan.files), FileTransfer(job))
            self.changed.notify_all()

    def wants_more(self, connections: int) -> bool:
        with self.changed:
            return self.plan.wants_more(connections)

    def set_exhausted(self, exhausted: bool) -> None:
        """Whether no further file is known at the moment."""
        with self.changed:
            self.plan.exhausted = exhausted

    def next_outcome(self) -> Optional[Outcome]:
        with self.changed:
            return self._outcomes.popleft() if self._outcomes else None

    def wait(self, seconds: float, until_woken: bool) -> bool:
        """Wait until something has ended, or ``wake`` is called where ``until_woken`` -> whether all is done."""
        with self.changed:
            if self.plan.exhausted and not self.plan.files and not self._outcomes:
                return True
            if not self._outcomes and self.fatal is None and not (until_woken and self._woken):
                self.changed.wait(seconds)
            self._woken = False
            return False

    def silent_seconds(self) -> float:
        """For how long nothing has come although something is wanted."""
        with self.changed:
            now = time.monotonic()
            if not any(file.phase is not Phase.FINISHING and not file.held for file in self.plan.files):
                self._nothing_wanted = now
            return now - max(self.last_byte, self._nothing_wanted)

    def close(self) -> None:
        """Nothing more is to be done."""
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def release_parts(self) -> None:
        """What is half stays for the next run; once all threads have ended."""
        for file in self.plan.files:
            if file.part is not None:
                file.part.release()

    # -------------------------- from any thread -----------------------

    def wake(self) -> None:
        """There may be a next job now."""
        with self.changed:
            self._woken = True
            self.changed.notify_all()

    def bytes_under_way(self) -> int:
        """Bytes on disk of files that are not whole yet."""
        with self.changed:
            return sum(file.bytes_there for file in self.plan.files)

    def held_elsewhere(self) -> List[str]:
        """Local names of files that another process is fetching."""
        with self.changed:
            return [os.path.basename(file.job.target) for file in self.plan.files if file.held]

    def other_path(self, file: FileTransfer) -> str:
        """Of another file that has come, or of which bytes have; '' where there is none."""
        with self.changed:
            return self.whole or next((other.job.path for other in self.plan.files
                                       if other is not file and other.trouble.gained), "")

    def end_with(self, error: BaseException) -> None:
        with self.changed:
            self.fatal = self.fatal or error
            self.over = True
            self.changed.notify_all()

    def line_works(self) -> None:
        with self.changed:
            self.last_byte = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Wait so long, or until all is over."""
        with self.changed:
            self.changed.wait_for(lambda: self.over, seconds)

    # -------------------------- the clock -----------------------

    def run_clock(self) -> None:
        """Measure the time in which this process was stopped, or the machine asleep: it is no silence of a server. In a
        thread of its own, which nothing else holds up."""
        self._clock_turned = time.monotonic()
        while not self.over:
            self.pause(1.0)
            self.turn_clock(time.monotonic())

    def turn_clock(self, now: float) -> None:
        with self.changed:
            lost = now - self._clock_turned
            if lost > ASLEEP_SECONDS:
                self.slept += lost
                self.last_byte = min(now, self.last_byte + lost)
                # Before the first byte, silence is counted from here.
                self._nothing_wanted = min(now, self._nothing_wanted + lost)
                self.plan.slept(lost)
            self._clock_turned = now

    def is_awake(self) -> bool:
        """False where this process was stopped, and the clock's thread has not said so yet."""
        return time.monotonic() - self._clock_turned < ASLEEP_SECONDS

    # -------------------------- for the workers -----------------------

    def claim(self, connection: Optional[Connection], connections: int) -> Optional[Task]:
        """What a worker is to do next; None, after a moment, where there is nothing."""
        with self.changed:
            task = self.take_pipelined_locked(connection) or self.plan.claim(time.monotonic(), connections)
            if task is None:
                self.changed.wait(0.2)
            return task

    def put_pipelined_locked(self, connection: Connection, task: Task) -> None:
        self._pipelined[connection] = task

    def is_pipelined(self, connection: Connection) -> bool:
        return connection in self._pipelined

    def take_pipelined_locked(self, connection: Optional[Connection]) -> Optional[Task]:
        """What has been asked for on a connection already."""
        task = self._pipelined.pop(connection, None) if connection is not None else None
        if isinstance(task, FileTransfer):
            task.is_piggybacked = False
            if task.phase is not Phase.COMPLETE or task.is_abandoned or task.busy:
                return None     # it has not come whole after all
            task.claim(time.monotonic())
        return task

    def drop_pipelined_locked(self, connection: Optional[Connection]) -> None:
        """Nothing more comes over a connection."""
        task = self.take_pipelined_locked(connection)
        if isinstance(task, Piece):
            task.file.give_back(task)
            self.settle_locked(task.file)
        elif task is not None:
            task.busy = False
            self.settle_locked(task)

    def drop_pipelined(self, connection: Optional[Connection]) -> None:
        with self.changed:
            self.drop_pipelined_locked(connection)
            self.changed.notify_all()

    def give_back_locked(self, file: FileTransfer, piece: Optional[Piece]) -> None:
        """A worker is done with a piece, or (None) with preparing or finishing a file."""
        if piece is None:
            file.busy = False
            file.look_whole()
            return
        file.give_back(piece)
        if file.single and file.gaps and not file.is_abandoned:
            file.restart = True     # no second server's bytes behind the first's

    def arrived_locked(self, piece: Piece, count: int, now: float) -> None:
        """So many bytes of a piece have come."""
        self.plan.arrived(piece, count, now)
        self.received += count
        self.last_byte = now

    # -------------------------- what ended -----------------------

    def ended(self, file: FileTransfer, outcome: Optional[Outcome]) -> None:
        """A file is whole and named, or (None) is to be skipped or fetched anew."""
        with self.changed:
            if outcome is None:
                self.settle_locked(file)
            else:
                file.part = None
                self.whole = file.job.path
                self.last_byte = time.monotonic()
                self.plan.any_whole = self.plan.any_whole or not file.job.urgent
                self.plan.files.remove(file)
                self._outcomes.append(outcome)
            self.changed.notify_all()

    def settle_locked(self, file: FileTransfer) -> None:
        """Carry out a restart or a refusal once nobody works on the file."""
        if not file.is_abandoned or file.pieces or file.busy or file not in self.plan.files:
            return
        if file.part is not None:
            file.part.discard()
            file.part = None
        if file.refused:
            self.plan.files.remove(file)
            self._outcomes.append(Outcome(file.job, error=file.refused))
        else:
            file.begin_again()
