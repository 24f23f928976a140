# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bytes next: what is known of the files under way, and what a free connection is to do about them.

Nothing here knows sockets, threads or the time: whoever calls holds a lock and says what time it is.

Each file is fetched in ranges. A free connection takes the first range nobody works on, of the earliest file that
has one; at the end of a run, or where a slow connection holds up an early file, it takes over half of another's
range. So the line is always full and the files become whole in the order they were asked for.
"""
from typing import Any, List, Optional, Tuple, Union

# A range is the file's share for each connection, but not so short that asking for it costs more than it brings:
# an interrupted FTP transfer throws away what is in the sockets' buffers, which on a fast line are megabytes.
MIN_RANGE_BYTES, MIN_RANGE_SECONDS = 1 << 20, 1.0
# The same for half of another's range; by then the line would otherwise be idle, so less is enough.
MIN_TAKEOVER_BYTES, MIN_TAKEOVER_SECONDS = 512 << 10, 0.3
SLOW_SECONDS = 6
# Asking for a file's size takes a round trip or two.
PREPARE_SECONDS = 2
# A connection that brings nothing for so long while others do is dropped; one that would go on for so long while
# the others need a fraction of it, as well. Not more than so often for one file: then it is the file that is slow.
HUNG_SECONDS, ALIVE_SECONDS = 8.0, 2.0
CRAWLING_SECONDS, CRAWLING_SHARE = 10.0, 0.25
MOST_DROPS = 3
# Files in trouble that others may overtake; whole files, beyond one a connection, that wait to be unpacked.
MOST_IN_TROUBLE, MOST_ENDING = 20, 2

# A file's way: its size is asked for, its ranges are fetched, the whole is checked and named.
NEW, OPEN, COMPLETE, ENDING = "new", "open", "complete", "ending"


class Piece:
    """A range of a file that one worker reads: the bytes up to ``position`` are on disk."""

    def __init__(self, file: "FileOnItsWay", start: int, end: int, now: float):
        self.file, self.start, self.position, self.end = file, start, start, end
        self.began = self.last_byte = now
        self.dropped = False            # its connection was cut from here, which is not the file's fault
        self.connection: Any = None     # what to abort then

    @property
    def remaining(self) -> int:
        return self.end - self.position

    def seconds_left(self, now: float) -> float:
        return self.remaining * (now - self.began) / max(self.position - self.start, 1)


class FileOnItsWay:
    """What is known of a file that was asked for and has not ended."""

    def __init__(self, job: Any):
        self.job = job
        self.phase = NEW
        self.busy = False               # a worker prepares or ends it
        self.busy_since = 0.0
        self.part: Any = None
        self.size: Optional[int] = None
        self.state: Any = None
        self.gaps: List[Tuple[int, int]] = []
        self.pieces: List[Piece] = []
        self.faults = 0                 # in a row, without a byte gained
        self.first_fault = 0.0
        self.not_before = 0.0
        self.changes = 0                # how often it was another version than before
        self.furthest = 0               # bytes, of a file that can only be fetched in one go
        self.single = False             # to be fetched by one request, from its first byte to its last
        self.drops = 0
        self.held = False               # another process fetches it
        self.restart = False            # to be fetched from its first byte
        self.refused = ""               # why it is left out
        self.share = MIN_RANGE_BYTES

    @property
    def bytes_there(self) -> int:
        if self.size is None or self.phase == NEW:
            return 0
        missing = sum(end - start for start, end in self.gaps) + sum(piece.remaining for piece in self.pieces)
        return self.size - missing

    @property
    def ending(self) -> bool:
        return self.restart or bool(self.refused)

    @property
    def in_trouble(self) -> bool:
        return self.faults > 0 or self.held

    def prepared(self, size: int, gaps: List[Tuple[int, int]], whole: bool, connections: int, pace: float) -> None:
        """Its size is known, and what of it is missing; ``whole``: it can only be fetched in one go.

        ``pace``: bytes a second of one connection, lately.
        """
        self.size = size
        self.gaps = [(0, size)] if whole and gaps else gaps
        missing = sum(end - start for start, end in gaps)
        self.share = max(-(-missing // connections), MIN_RANGE_BYTES, int(pace * MIN_RANGE_SECONDS))
        self.phase = OPEN if gaps else COMPLETE
        if not whole:
            self.faults = 0

    def moved(self, piece: Piece, count: int, now: float, in_ranges: bool) -> None:
        """So many bytes more have come; where that is progress, earlier faults are forgiven."""
        piece.position += count
        piece.last_byte = now
        # Fetched from its first byte each time, a file makes progress only where it gets further than before.
        if in_ranges or piece.position > self.furthest:
            self.furthest = piece.position
            self.faults = 0

    def give_back(self, piece: Piece) -> None:
        """Nobody reads the piece any more; what it lacks is to be fetched by another."""
        self.pieces.remove(piece)
        if piece.remaining > 0:
            self.gaps = sorted([*self.gaps, (piece.position, piece.end)])
        self.look_whole()

    def look_whole(self) -> None:
        if self.phase == OPEN and not self.gaps and not self.pieces and not self.ending:
            self.phase = COMPLETE

    def begin_again(self) -> None:
        self.phase, self.restart, self.gaps, self.state, self.size = NEW, False, [], None, None


class Plan:
    """The files under way, in the order they are wanted."""

    def __init__(self) -> None:
        self.files: List[FileOnItsWay] = []
        self.ranges = True              # whether the server sends parts of files
        self.exhausted = False          # whether no further file is known at the moment
        self.pace = 0.0                 # bytes a second of one connection, lately

    def wants_more(self, connections: int) -> bool:
        """Whether to make another file known: a few more than are worked on, so that their sizes are asked for in good
        time; but not where many fail, or wait to be unpacked."""
        waiting = sum(file.phase == NEW and not file.in_trouble for file in self.files)
        return (waiting <= connections and sum(file.in_trouble for file in self.files) <= MOST_IN_TROUBLE
                and sum(file.phase == ENDING for file in self.files) <= connections + MOST_ENDING)

    def claim(self, now: float) -> Union[Piece, FileOnItsWay, None]:
        """The next piece to fetch, or file to prepare or to end; it counts as taken."""
        hold = False
        for file in self.files:
            if file.busy and file.phase == NEW and now - file.busy_since < PREPARE_SECONDS:
                # Its ranges will be there in a moment: better wait than turn to a later file.
                hold = True
            if file.busy or file.ending or file.not_before > now:
                continue
            if file.phase in (NEW, COMPLETE):
                file.busy, file.busy_since = True, now
                return file
            if file.phase == OPEN and not hold:
                piece = self._next_piece(file, now)
                if piece is not None:
                    return piece
        if not hold and self.exhausted and self.ranges:
            return self._take_over([piece for file in self.files if not file.ending and not file.single
                                    for piece in file.pieces], now)
        return None

    def hung(self, now: float) -> List[Piece]:
        """Pieces whose connections are better dropped: they hang, or crawl, while others are alive."""
        pieces = [piece for file in self.files for piece in file.pieces if not piece.dropped]
        found = []
        for piece in pieces:
            if piece.file.drops >= MOST_DROPS or piece.file.single:
                continue
            alive = any(now - other.last_byte < ALIVE_SECONDS for other in pieces if other is not piece)
            hangs = alive and now - piece.last_byte > HUNG_SECONDS
            left = piece.seconds_left(now)
            crawls = (self.pace > 0 and piece.position > piece.start and left > CRAWLING_SECONDS
                      and now - piece.began > CRAWLING_SECONDS / 2
                      and piece.remaining / self.pace < CRAWLING_SHARE * left)
            if hangs or crawls:
                found.append(piece)
        return found

    def _next_piece(self, file: FileOnItsWay, now: float) -> Optional[Piece]:
        in_ranges = self.ranges and not file.single
        if file.gaps and (in_ranges or not file.pieces):
            start, end = file.gaps.pop(0)
            middle = min(end, start + file.share) if in_ranges else end
            # A rest too small for a request of its own goes along.
            if end - middle < MIN_TAKEOVER_BYTES:
                middle = end
            if middle < end:
                file.gaps.insert(0, (middle, end))
            return self._begin(file, start, middle, now)
        if in_ranges:
            return self._take_over([piece for piece in file.pieces if piece.seconds_left(now) > SLOW_SECONDS], now)
        return None

    def _take_over(self, pieces: List[Piece], now: float) -> Optional[Piece]:
        largest = max(pieces, key=lambda piece: piece.remaining, default=None)
        least = max(MIN_TAKEOVER_BYTES, self.pace * MIN_TAKEOVER_SECONDS)
        if largest is None or largest.remaining < 2 * least:
            return None
        middle, end = largest.position + largest.remaining // 2, largest.end
        largest.end = middle
        return self._begin(largest.file, middle, end, now)

    def _begin(self, file: FileOnItsWay, start: int, end: int, now: float) -> Piece:
        piece = Piece(file, start, end, now)
        file.pieces.append(piece)
        return piece
