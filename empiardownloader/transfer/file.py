# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a file that is being transferred, and of the ranges of it that are being read.

Its way: NEW -> OPEN (its size is known, ranges are missing) -> COMPLETE (all bytes are there) -> FINISHING (checked and
named) -> gone from the board. From OPEN, COMPLETE and FINISHING it goes back to NEW where it is to be fetched anew.

Pure data: no sockets, threads or clocks. Callers hold the board's lock; ``part`` and ``state`` belong
to the worker that has claimed the file.
"""
import enum
from typing import List, Optional, Tuple

from ..archive.remote import Connection, FileState
from .jobs import Job
from .parts import Part

# So often in a row another size than the listed one is not believed.
MOST_SIZE_DOUBTS = 3
# A size that is told of several files, small as that of a page, is doubted longer: it is the server's state.
MOST_PAGE_DOUBTS, MOST_PAGE_BYTES = 8, 64 << 10
# After so long a piece has shown how fast it comes.
SHOWN_SECONDS = 0.5
# As much progress as shows that a stalled connection is to blame, and not the file.
PROGRESS_BYTES = 1 << 20


class Phase(enum.Enum):
    """Where a file is on its way."""
    NEW = enum.auto()
    OPEN = enum.auto()
    COMPLETE = enum.auto()
    FINISHING = enum.auto()


class Piece:
    """A range of a file that one worker reads: the bytes up to ``position`` are on disk."""

    def __init__(self, file: "FileTransfer", start: int, end: int, now: float):
        self.file, self.start, self.position, self.end = file, start, start, end
        self.began = self.last_byte = now
        self.flowing = 0.0              # when the first bytes had come, which are those up to ``flowed``
        self.flowed = start
        self.to_the_end = False         # requested to the end of the file, before its size was sure
        self.dropped = False            # its connection was cut from here, which is not the file's fault
        self.connection: Optional[Connection] = None     # what to abort then
        # A file that is complete and about whose state is asked along with the bytes of this one.
        self.piggyback: Optional["FileTransfer"] = None
        self.is_pipelined = False       # while another piece was coming
        self.pipelined_end: Optional[int] = None        # the end that was asked for then, None for the file's
        self.is_slow = False            # it comes, but far more slowly than others

    @property
    def remaining(self) -> int:
        return self.end - self.position

    @property
    def waits_its_turn(self) -> bool:
        """Whether it was asked for ahead and its connection is still busy with another piece."""
        return self.is_pipelined and self.connection is None

    def seconds_left(self, now: float, pace: float, patience: float) -> float:
        """``pace``: bytes a second expected of it as long as it has not shown its own; ``patience``: seconds within
        which it begins."""
        if not self.flowing and now - self.began > patience:
            return float("inf")
        if not self.flowing or now - self.flowing < SHOWN_SECONDS:
            return self.remaining / pace
        return self.remaining * (now - self.flowing) / max(self.position - self.flowed, 1)


class Trouble:
    """What went wrong with a file. Its failed attempts are forgiven once it makes progress."""

    def __init__(self) -> None:
        self.attempts = 0               # that failed in a row, without a byte gained
        self.faults = 0                 # those of them that are held against it, see blame.py
        self.last_fault = 0.0
        self.lets_others_go = False     # the server was busy when asked for it
        self.drops = self.slow_drops = 0    # connections that hung over it, or crawled
        self.gained = 0                 # bytes since the last one that hung
        self.changes = 0                # how often it was another version than before
        self._doubted: Tuple[int, int] = (0, 0)     # a size that is not the listed one, how often it was told in a row

    def failed(self, now: float) -> None:
        """A request for it has failed."""
        self.attempts += 1
        self.last_fault = now

    def forgive(self) -> None:
        """It has made progress."""
        self.faults = self.attempts = 0

    def stalled(self) -> None:
        """A connection is dropped that brought nothing of it."""
        # Where it has got on in the meantime, the connections are to blame and not the file.
        self.drops, self.gained = (1 if self.gained >= PROGRESS_BYTES else self.drops + 1), 0

    def doubt_size(self, size: int, is_page: bool) -> bool:
        """The server has told a size that the listing does not -> whether it is to be asked once more: a page in place
        of the file is there for a while, a listing that is out of date for good."""
        last, count = self._doubted
        self._doubted = (size, count + 1 if size == last else 1)
        return self._doubted[1] <= (MOST_PAGE_DOUBTS if is_page else MOST_SIZE_DOUBTS)


class FileTransfer:
    """What is known of a file that was asked for and has not ended."""

    def __init__(self, job: Job):
        self.job = job
        self.phase = Phase.NEW
        self.busy = False               # a worker prepares or ends it
        self.busy_since = 0.0
        self.question: Optional[Connection] = None       # what to abort where a question about it is not answered
        self.part: Optional[Part] = None
        self.size: Optional[int] = None
        self.state: Optional[FileState] = None
        self.gaps: List[Tuple[int, int]] = []
        self.pieces: List[Piece] = []
        self.trouble = Trouble()
        self.not_before = 0.0
        self.furthest = 0               # bytes, of a file that can only be fetched in one go
        self.single = False             # to be fetched by one request, from its first byte to its last
        self.held = False               # another process fetches it
        self.is_piggybacked = False     # its state is asked for along with another file's bytes
        self.asked_alone = False        # that has failed: it is asked for by itself
        self.restart = False            # to be fetched from its first byte
        self.refused = ""               # why it is skipped
        self.missing = 0                # bytes that were not there when it was opened
        # Asked for before the server has told its size: by the size that was listed, or by its first bytes.
        self.presumed = self.listed = False
        self.awaits_look = False        # its first bytes are to be looked at before more is asked for

    @property
    def bytes_there(self) -> int:
        if self.size is None or self.phase is Phase.NEW:
            return 0
        missing = sum(end - start for start, end in self.gaps) + sum(piece.remaining for piece in self.pieces)
        return self.size - missing

    @property
    def is_abandoned(self) -> bool:
        return self.restart or bool(self.refused)

    @property
    def may_piggyback(self) -> bool:
        """Whether its last state may be asked for along with another file's bytes."""
        return self.phase is Phase.COMPLETE and not (
            self.busy or self.is_piggybacked or self.asked_alone or self.is_abandoned or self.single)

    @property
    def held_part(self) -> Part:
        """The part of a file that is open."""
        assert self.part is not None
        return self.part

    @property
    def in_trouble(self) -> bool:
        return self.trouble.attempts > 0 or self.held

    def claim(self, now: float) -> None:
        """A worker is going to prepare, or to finish it."""
        self.busy, self.busy_since = True, now

    def refuse(self, reason: str) -> None:
        """It is skipped, once no worker has it any more."""
        self.refused = reason

    def begin_question(self, connection: Connection, now: float) -> None:
        """Its state is asked for, on a connection that is cut where no answer comes."""
        self.busy_since, self.question = now, connection

    def presume(self, size: int, listed: bool, awaits_look: bool = False) -> None:
        """Nothing of it is there; ``size`` bytes of it can be requested by now.

        ``listed``: the size is that of the listing, so about all of it; else the rest is requested later, with
        ``awaits_look`` not before the first bytes were looked at.
        """
        self.awaits_look = awaits_look
        self.size = self.missing = size
        self.gaps = [(0, size)]
        self.presumed, self.listed = True, listed
        self.phase = Phase.OPEN

    def confirm(self, size: int) -> None:
        """The server has told the size of a file that was presumed; none of its bytes has been read so far."""
        believed, self.size, self.presumed = self.size or 0, size, False
        # A worker that asked for the last range of a listed file gets all bytes that there are.
        end = size if self.listed else min(believed, size)

        def cut(stop: int) -> int:
            return end if stop == believed else min(stop, size)

        self.gaps = [(start, cut(stop)) for start, stop in self.gaps if start < size]
        for piece in self.pieces:
            piece.end = max(piece.start, cut(piece.end))
        if end < size:
            self.gaps.append((end, size))

    def comes_whole(self, piece: Piece) -> None:
        """The server sends all of the file in answer to the request for its first bytes."""
        self.gaps = []
        for other in self.pieces:
            other.end = other.position
        piece.end = self.size or 0

    def prepared(self, size: int, gaps: List[Tuple[int, int]], whole: bool) -> None:
        """Its size is known, and what of it is missing; ``whole``: it can only be fetched in one go."""
        self.size = size
        self.gaps = [(0, size)] if whole and gaps else gaps
        self.missing = sum(end - start for start, end in gaps)
        self.phase = Phase.OPEN if gaps else Phase.COMPLETE
        if not whole:
            self.trouble.forgive()

    def moved(self, piece: Piece, count: int, now: float, in_ranges: bool) -> None:
        """So many bytes more have come; where that is progress, earlier faults are forgiven."""
        piece.position += count
        piece.last_byte = now
        self.trouble.gained += count
        if not piece.flowing:
            piece.flowing, piece.flowed = now, piece.position
        # Fetched from its first byte each time, a file makes progress only where it gets further than before.
        if in_ranges or piece.position > self.furthest:
            self.furthest = piece.position
            self.trouble.forgive()
            self.trouble.lets_others_go = False

    def give_back(self, piece: Piece) -> None:
        """Nobody reads the piece any more; what it lacks is to be fetched by another."""
        if piece.piggyback is not None:
            piece.piggyback.drop_piggyback(piece)
        self.pieces.remove(piece)
        if piece.remaining > 0:
            self.gaps = sorted([*self.gaps, (piece.position, piece.end)])
        self.look_whole()

    def ends_with(self, piece: Piece) -> bool:
        """Whether this piece is the last one missing, and the file's state is not being asked for."""
        return (self.phase is Phase.OPEN and self.pieces == [piece] and not self.gaps
                and not (self.single or self.presumed or self.is_abandoned or self.is_piggybacked))

    def drop_piggyback(self, piece: Piece) -> None:
        """Nothing was told of this file along with the piece."""
        piece.piggyback = None
        self.is_piggybacked, self.asked_alone = False, True

    def look_whole(self) -> None:
        if self.phase is Phase.OPEN and not self.gaps and not self.pieces and not self.is_abandoned:
            self.phase = Phase.COMPLETE

    def begin_again(self) -> None:
        self.phase, self.restart, self.gaps, self.state, self.size = Phase.NEW, False, [], None, None
        self.presumed = self.asked_alone = self.awaits_look = False
