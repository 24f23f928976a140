# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bytes next: what is known of the files under way, and what a free connection is to do about them.

Nothing here knows sockets, threads or the time: callers hold the board's lock and say what time it is.

Each file is fetched in ranges. A free connection takes the first range nobody works on, of the earliest file that
has one; where a slow connection holds up an early file it takes over half of its range. So the line is always full and
the files become whole in the order they were asked for. Near the archive all connections share each file. From afar a
range costs a round trip or two, so that only the first file is shared, and later ones come in ranges that are long
against asking for them. The last ranges of a run are cut so that all connections end at about the same time.

Where the listing told a file's size, its ranges are asked for at once, before the server has confirmed it.
"""
import sys
from typing import Dict, List, Optional, Set, Union

from .file import MOST_PAGE_BYTES, FileTransfer, Phase, Piece

# A range is the file's share for each connection, but not so short that asking for it costs more than it brings:
# an interrupted FTP transfer throws away what is in the sockets' buffers, which on a fast line are megabytes.
MIN_RANGE_BYTES, MIN_RANGE_SECONDS = 1 << 20, 1.0
# From afar asking for a range costs a round trip or more, which is measured: past the first file a range lasts so many
# times what that takes.
RANGE_TO_ASKING, REST_TO_ASKING = 60, 1.5
# What a connection brings is not known before the first range has come; EMPIAR gives so much (bytes a second).
USUAL_PACE = 1.5e6
# The same for half of another's range; by then the line would otherwise be idle, so less is enough.
MIN_STEAL_BYTES, MIN_STEAL_SECONDS = 512 << 10, 0.3
SLOW_SECONDS, SLOW_TO_ASKING = 6, 20
# From so far a worker asks for its next piece before the last bytes of the one at hand have come: by then what is left
# of that takes so many times as long as an answer.
AHEAD_SECONDS, AHEAD_TO_ASKING = 0.02, 1.5
# Asking for a file's size takes a round trip or two.
PREPARE_SECONDS = 2
# A connection that brings nothing for so long is dropped, while others bring bytes or have nothing left to do. The
# first byte may take longer after long round trips, the next ones on a slow line: so many times what others took.
STALLED_SECONDS, ALIVE_SECONDS = 2.5, 2.0
STALLED_TO_ASKING, STALLED_TO_GAP = 10, 5
# Where all of them do, that may be the line, or the server; one is dropped to find out.
ALL_STALLED_SECONDS = 8.0
# Before anything is known of the archive: what it takes to be sure that it works at all.
UNKNOWN_SECONDS = 8.0
# A connection that would take so long for its piece, and the others only this share of it, is dropped too; not more
# often than this for one file without progress, for then the file is slow.
VERY_SLOW_SECONDS, VERY_SLOW_SHARE = 10.0, 0.25
MOST_DROPS = 3
# Files in trouble that others may overtake; whole files, beyond one a connection, that wait to be unpacked.
MOST_IN_TROUBLE, MOST_FINISHING = 60, 2

class RangePlan:
    """The files under way, in the order they are wanted."""

    def __init__(self, hangup_seconds: float = 0.0) -> None:
        """``hangup_seconds``: seconds that it costs to hang up in the middle of a file."""
        self._hangup_seconds = hangup_seconds
        self.files: List[FileTransfer] = []
        self.ranges = True              # whether the server sends parts of files
        self.exhausted = False          # whether no further file is known at the moment
        self.pace = 0.0                 # bytes a second of one connection, lately
        self.asking = 0.0               # seconds from a question to its first byte, lately
        self.gap = 0.0                  # seconds from some bytes of a connection to the next, lately
        self.any_whole = False          # whether a file has become whole
        self._doubted: Dict[int, Set[str]] = {}     # a size that is not the listed one -> paths of whom it was told

    def is_page(self, path: str, size: int) -> bool:
        """The server has told another size of a file than the listing -> whether that is likely to be a page in its
        place: it told others the same."""
        told = self._doubted.setdefault(size, set())
        told.add(path)
        return size <= MOST_PAGE_BYTES and len(told) > 1

    def slept(self, seconds: float) -> None:
        """The process slept for so many seconds."""
        for file in self.files:
            file.not_before += seconds
            file.busy_since += seconds
            for piece in file.pieces:
                piece.began += seconds
                piece.last_byte += seconds
                piece.flowing += seconds if piece.flowing else 0

    def wants_more(self, connections: int) -> bool:
        """Whether to make another file known: a few more than are worked on, so that their sizes are asked for in good
        time; but not where many fail, or wait to be unpacked."""
        waiting = sum((file.phase is Phase.NEW or (file.presumed and not file.pieces)) and not file.in_trouble
                      for file in self.files)
        return (waiting <= connections and sum(file.in_trouble for file in self.files) <= MOST_IN_TROUBLE
                and sum(file.phase is Phase.FINISHING for file in self.files) <= connections + MOST_FINISHING)

    def share_of(self, file: FileTransfer, connections: int) -> int:
        """The bytes of a range of a file, for one of so many connections."""
        share = max(-(-file.missing // connections), MIN_RANGE_BYTES, int(self.pace * MIN_RANGE_SECONDS))
        if not self._is_everybodys(file):
            share = max(share, int((self.pace or USUAL_PACE) * (self.asking + self._hangup_seconds) * RANGE_TO_ASKING))
        return share

    def answered(self, seconds: float, first: bool) -> None:
        """So long it took from a question to its first byte; ``first``: the connection had to be made for it, too."""
        if first:
            # Three round trips: the connection, its encryption, the answer.
            self.asking = self.asking or seconds / 3
        else:
            self.asking = 0.7 * self.asking + 0.3 * seconds if self.asking else seconds

    def arrived(self, piece: Piece, count: int, now: float) -> None:
        """So many bytes of a piece have come."""
        if piece.flowing:
            self.gap = 0.9 * self.gap + 0.1 * (now - piece.last_byte)
        piece.file.moved(piece, count, now, self.ranges and not piece.file.single)

    def nearly_done(self, piece: Piece) -> bool:
        """Whether it is time to ask for what comes after a piece."""
        return self.asking > AHEAD_SECONDS and 0 < piece.remaining < self.pace * self.asking * AHEAD_TO_ASKING

    @property
    def patience(self) -> float:
        """Seconds within which an answer begins."""
        return max(STALLED_SECONDS, STALLED_TO_ASKING * self.asking) if self.asking else UNKNOWN_SECONDS

    def claim(self, now: float, connections: int, ahead: bool = False) -> Union[Piece, FileTransfer, None]:
        """The next piece to fetch, or file to prepare or to end, for one of so many connections; it counts as taken.

        Where there is both a file to end and a piece to fetch they are one task: the piece has a piggyback.
        ``ahead``: by somebody who is busy for a while yet, and so takes nothing over.
        """
        piggyback = next((file for file in self.files if file.may_piggyback and file.not_before <= now), None)
        task = self._next_task(now, connections, piggyback, not ahead)
        if piggyback is not None:
            if isinstance(task, Piece):
                task.piggyback, piggyback.is_piggybacked = piggyback, True
            elif task is None:
                task = piggyback
        if isinstance(task, FileTransfer):
            task.claim(now)
        return task

    def _next_task(self, now: float, connections: int, piggyback: Optional[FileTransfer],
                   may_steal: bool) -> Union[Piece, FileTransfer, None]:
        hold = False
        # One that has failed twice lets others go first, which show whose fault it is.
        for file in sorted(self.files, key=lambda file: file.trouble.attempts > 1 or file.trouble.lets_others_go):
            if self._will_open(file, now):
                # Its ranges will be there in a moment: better wait than turn to a later file.
                hold = True
            if file is piggyback or file.busy or file.is_piggybacked or file.is_abandoned or file.not_before > now:
                continue
            if file.phase in (Phase.NEW, Phase.COMPLETE):
                return file
            if file.phase is Phase.OPEN and not hold:
                piece = self._next_piece(file, now, connections, may_steal)
                if piece is not None:
                    return piece
        if may_steal and not hold and self.exhausted and self.ranges:
            return self._steal([piece for file in self.files if not file.is_abandoned and not file.single
                                    for piece in file.pieces], now)
        return None

    def stalled(self, now: float, connections: int) -> List[Piece]:
        """Pieces whose connections are better dropped: they hang, or crawl, while others are alive or idle."""
        pieces = [piece for file in self.files for piece in file.pieces
                  if not (piece.dropped or piece.waits_its_turn)]
        idle = len(pieces) + sum(file.busy for file in self.files) < connections
        found = []
        for piece in pieces:
            if piece.file.single:
                continue
            alive = idle or any(now - other.last_byte < max(ALIVE_SECONDS, self.gap)
                                for other in pieces if other is not piece)
            patience = max(STALLED_SECONDS, STALLED_TO_GAP * self.gap) if piece.flowing else self.patience
            stalls = alive and now - piece.last_byte > patience and piece.file.trouble.drops < MOST_DROPS
            left = self._seconds_left(piece, now)
            piece.is_slow = not stalls and piece.file.trouble.slow_drops < MOST_DROPS and (
                self.pace > 0 and piece.flowing > 0 and left > VERY_SLOW_SECONDS
                and now - piece.flowing > VERY_SLOW_SECONDS / 2
                and piece.remaining / self.pace < VERY_SLOW_SHARE * left)
            if stalls or piece.is_slow:
                found.append(piece)
        if not found:
            # All are silent at the same time: one of them finds out whether it is the line.
            longest = min(pieces, key=lambda piece: piece.last_byte, default=None)
            if longest is not None and longest.file.trouble.drops < MOST_DROPS and not longest.file.single \
                    and now - longest.last_byte > max(ALL_STALLED_SECONDS, self.patience, STALLED_TO_GAP * self.gap) \
                    and all(now - piece.last_byte > STALLED_SECONDS for piece in pieces):
                found.append(longest)
        return found

    def unanswered(self, now: float) -> List[FileTransfer]:
        """Files about which a question has been out for too long."""
        return [file for file in self.files if file.busy and file.question is not None
                and file.trouble.drops < MOST_DROPS and now - file.busy_since > self.patience]

    def _is_everybodys(self, file: FileTransfer) -> bool:
        """Whether it, or what it waits for, is the first that the user gets."""
        return not self.any_whole and (
            file.job.urgent or file is next(other for other in self.files if not other.job.urgent))

    def _will_open(self, file: FileTransfer, now: float) -> bool:
        if file.phase is Phase.NEW:
            return file.busy and now - file.busy_since < PREPARE_SECONDS
        return (file.presumed and not file.listed and self.ranges and self._is_everybodys(file)
                and any(now - piece.began < PREPARE_SECONDS for piece in file.pieces))

    def _next_piece(self, file: FileTransfer, now: float, connections: int, may_steal: bool) -> Optional[Piece]:
        in_ranges = self.ranges and not file.single
        share = self.share_of(file, connections)
        if file.awaits_look and file.gaps and file.gaps[0][0] > 0:
            return None
        if file.gaps and (in_ranges or not file.pieces):
            if self.exhausted:
                share = min(share, self._fair_share(connections))
            start, end = file.gaps.pop(0)
            middle = min(end, start + share) if in_ranges else end
            if end - middle < self._least_rest():
                middle = end
            if middle < end:
                file.gaps.insert(0, (middle, end))
            return self._begin(file, start, middle, now)
        if in_ranges and may_steal:
            # Where a range is long, to be at it for long is no slowness.
            slow = max(SLOW_SECONDS, SLOW_TO_ASKING * self.asking,
                       0 if self._is_everybodys(file) or not self.pace
                       else 2 * share / self.pace)
            return self._steal([piece for piece in file.pieces if self._seconds_left(piece, now) > slow], now)
        return None

    def _seconds_left(self, piece: Piece, now: float) -> float:
        return piece.seconds_left(now, self.pace or USUAL_PACE, self.patience)

    def _fair_share(self, connections: int) -> int:
        """What each connection has left to bring, where no more files are to come: so all end together."""
        total = 0
        for file in self.files:
            if file.is_abandoned or file.phase in (Phase.COMPLETE, Phase.FINISHING):
                continue
            size = file.job.size if file.phase is Phase.NEW else file.size
            if size is None:
                return sys.maxsize
            size -= file.bytes_there
            total += size
        return max(total // connections, self._least_rest())

    def _least_rest(self) -> int:
        """A rest of a file that has fewer bytes is not worth a request of its own, but goes along."""
        return max(MIN_STEAL_BYTES, int(self.pace * self.asking * REST_TO_ASKING))

    def _steal(self, pieces: List[Piece], now: float) -> Optional[Piece]:
        """Half of the largest piece, where that is worth a request and a hang-up."""
        largest = max(pieces, key=lambda piece: piece.remaining, default=None)
        least = max(MIN_STEAL_BYTES, int(self.pace * (MIN_STEAL_SECONDS + 2 * self.asking)))
        if largest is None or largest.remaining < 2 * least:
            return None
        middle, end = largest.position + largest.remaining // 2, largest.end
        largest.end = middle
        return self._begin(largest.file, middle, end, now)

    def _begin(self, file: FileTransfer, start: int, end: int, now: float) -> Piece:
        piece = Piece(file, start, end, now)
        piece.to_the_end = file.presumed and file.listed and end == file.size
        file.pieces.append(piece)
        return piece
