# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bytes next: what is known of the files under way, and what a free connection is to do about them.

Nothing here knows sockets, threads or the time: whoever calls holds a lock and says what time it is.

Each file is fetched in ranges. A free connection takes the first range nobody works on, of the earliest file that
has one; where a slow connection holds up an early file it takes over half of its range. So the line is always full and
the files become whole in the order they were asked for. Near the archive all connections share each file. From afar a
range costs a round trip or two, so that only the first file is shared, and later ones come in ranges that are long
against asking for them. The last ranges of a run are cut so that all connections end at about the same time.

Where the listing told a file's size, its ranges are asked for at once, before the server has confirmed it.
"""
import sys
from typing import Any, Dict, List, Optional, Set, Tuple, Union

# A range is the file's share for each connection, but not so short that asking for it costs more than it brings:
# an interrupted FTP transfer throws away what is in the sockets' buffers, which on a fast line are megabytes.
MIN_RANGE_BYTES, MIN_RANGE_SECONDS = 1 << 20, 1.0
# From afar asking for a range costs a round trip or more, which is measured: past the first file a range lasts so many
# times what that takes.
RANGE_TO_ASKING, REST_TO_ASKING = 60, 1.5
# What a connection brings is not known before the first range has come; EMPIAR gives so much (bytes a second).
USUAL_PACE = 1.5e6
# The same for half of another's range; by then the line would otherwise be idle, so less is enough.
MIN_TAKEOVER_BYTES, MIN_TAKEOVER_SECONDS = 512 << 10, 0.3
SLOW_SECONDS, SLOW_TO_ASKING = 6, 20
# After so long a piece has shown how fast it comes.
SHOWN_SECONDS = 0.5
# From so far a worker asks for its next piece before the last bytes of the one at hand have come: by then what is left
# of that takes so many times as long as an answer.
AHEAD_SECONDS, AHEAD_TO_ASKING = 0.02, 1.5
# Asking for a file's size takes a round trip or two.
PREPARE_SECONDS = 2
# A connection that brings nothing for so long while others do, or have nothing left to do, is dropped. From afar its
# first byte is granted so many times what it took others, on a slow line the next bytes are.
HUNG_SECONDS, ALIVE_SECONDS = 2.5, 2.0
HUNG_TO_ASKING, HUNG_TO_GAP = 10, 5
# Where all of them do, that may be the line, or the server; one is dropped to find out.
ALL_HUNG_SECONDS = 8.0
# Before anything is known of the archive: what it takes to be sure that it works at all.
UNKNOWN_SECONDS = 8.0
# One that would go on for so long while the others need a fraction of it, as well. Not more than so often for one file
# that makes no progress: then it is the file that is slow.
CRAWLING_SECONDS, CRAWLING_SHARE = 10.0, 0.25
MOST_DROPS = 3
# So often in a row another size than the listed one is not believed.
MOST_SIZE_DOUBTS = 3
# A size that is told of several files, small as that of a page, is doubted longer: it is the server's state.
MOST_PAGE_DOUBTS, MOST_PAGE_BYTES = 8, 64 << 10
# Files in trouble that others may overtake; whole files, beyond one a connection, that wait to be unpacked.
MOST_IN_TROUBLE, MOST_ENDING = 60, 2

# A file's way: its size is asked for, its ranges are fetched, the whole is checked and named.
NEW, OPEN, COMPLETE, ENDING = "new", "open", "complete", "ending"


class Piece:
    """A range of a file that one worker reads: the bytes up to ``position`` are on disk."""

    def __init__(self, file: "FileOnItsWay", start: int, end: int, now: float):
        self.file, self.start, self.position, self.end = file, start, start, end
        self.began = self.last_byte = now
        self.flowing = 0.0              # when the first bytes had come, which are those up to ``flowed``
        self.flowed = start
        self.to_the_end = False         # asked for before the file's size was sure: all that there is from its start
        self.dropped = False            # its connection was cut from here, which is not the file's fault
        self.connection: Any = None     # what to abort then
        # A file that is complete and about whose state is asked along with the bytes of this one.
        self.passenger: Optional["FileOnItsWay"] = None
        self.asked_ahead = False        # while another piece was coming
        self.asked_end: Optional[int] = None        # the end that was asked for then, None for the file's
        self.crawls = False             # it comes, but far more slowly than others

    @property
    def remaining(self) -> int:
        return self.end - self.position

    @property
    def waits_its_turn(self) -> bool:
        """Whether it was asked for ahead and its connection is still busy with another piece."""
        return self.asked_ahead and self.connection is None

    def seconds_left(self, now: float, pace: float, patience: float) -> float:
        """``pace``: bytes a second expected of it as long as it has not shown its own; ``patience``: seconds within
        which it begins."""
        if not self.flowing and now - self.began > patience:
            return float("inf")
        if not self.flowing or now - self.flowing < SHOWN_SECONDS:
            return self.remaining / pace
        return self.remaining * (now - self.flowing) / max(self.position - self.flowed, 1)


class FileOnItsWay:
    """What is known of a file that was asked for and has not ended."""

    def __init__(self, job: Any):
        self.job = job
        self.phase = NEW
        self.busy = False               # a worker prepares or ends it
        self.busy_since = 0.0
        self.question: Any = None       # what to abort where a question about it is not answered
        self.part: Any = None
        self.size: Optional[int] = None
        self.state: Any = None
        self.gaps: List[Tuple[int, int]] = []
        self.pieces: List[Piece] = []
        self.attempts = 0               # that failed in a row, without a byte gained
        self.faults = 0                 # those of them that are held against it, see blame.py
        self.last_fault = 0.0
        self.lets_others_go = False     # the server was busy when asked for it
        self.doubted: Tuple[int, int] = (0, 0)      # a size that is not the listed one, how often it was told in a row
        self.not_before = 0.0
        self.changes = 0                # how often it was another version than before
        self.furthest = 0               # bytes, of a file that can only be fetched in one go
        self.single = False             # to be fetched by one request, from its first byte to its last
        self.drops = self.crawls = 0    # connections that hung over it since it last made progress, or crawled
        self.gained = 0                 # bytes since the last one that hung
        self.held = False               # another process fetches it
        self.rides = False              # its state is asked for along with another file's bytes
        self.alone = False              # that has failed: it is asked for by itself
        self.restart = False            # to be fetched from its first byte
        self.refused = ""               # why it is left out
        self.missing = 0                # bytes that were not there when it was opened
        # Asked for before the server has told its size: by the size that was listed, or by its first bytes.
        self.presumed = self.listed = False

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
        return self.attempts > 0 or self.held

    def presume(self, size: int, listed: bool) -> None:
        """Nothing of it is there; it is believed to have ``size`` bytes, which is what can be asked for by now.

        ``listed``: that is about all of it; otherwise what the server says it has more is fetched afterwards.
        """
        self.size = self.missing = size
        self.gaps = [(0, size)]
        self.presumed, self.listed = True, listed
        self.phase = OPEN

    def confirm(self, size: int) -> None:
        """The server has told the size of a file that was presumed; none of its bytes has been read so far."""
        believed, self.size, self.presumed = self.size or 0, size, False
        # Whoever asked for the last range of a listed file gets all that there is.
        end = size if self.listed else min(believed, size)

        def cut(stop: int) -> int:
            return end if stop == believed else min(stop, size)

        self.gaps = [(start, cut(stop)) for start, stop in self.gaps if start < size]
        for piece in self.pieces:
            piece.end = max(piece.start, cut(piece.end))
        if end < size:
            self.gaps.append((end, size))

    def comes_whole(self, piece: Piece) -> None:
        """The server sends all of the file to whoever asked for its first bytes."""
        self.gaps = []
        for other in self.pieces:
            other.end = other.position
        piece.end = self.size or 0

    def prepared(self, size: int, gaps: List[Tuple[int, int]], whole: bool) -> None:
        """Its size is known, and what of it is missing; ``whole``: it can only be fetched in one go."""
        self.size = size
        self.gaps = [(0, size)] if whole and gaps else gaps
        self.missing = sum(end - start for start, end in gaps)
        self.phase = OPEN if gaps else COMPLETE
        if not whole:
            self.faults = self.attempts = 0

    def moved(self, piece: Piece, count: int, now: float, in_ranges: bool) -> None:
        """So many bytes more have come; where that is progress, earlier faults are forgiven."""
        piece.position += count
        piece.last_byte = now
        self.gained += count
        if not piece.flowing:
            piece.flowing, piece.flowed = now, piece.position
        # Fetched from its first byte each time, a file makes progress only where it gets further than before.
        if in_ranges or piece.position > self.furthest:
            self.furthest = piece.position
            self.faults = self.attempts = 0
            self.lets_others_go = False

    def doubt_size(self, size: int, is_page: bool) -> bool:
        """The server has told a size that the listing does not -> whether it is to be asked once more: a page in place
        of the file is there for a while, a listing that is out of date for good."""
        last, count = self.doubted
        self.doubted = (size, count + 1 if size == last else 1)
        return self.doubted[1] <= (MOST_PAGE_DOUBTS if is_page else MOST_SIZE_DOUBTS)

    def hung(self) -> None:
        """A connection is dropped that brought nothing of it."""
        # Where it has got on in the meantime, the connections are to blame and not the file.
        self.drops, self.gained = (1 if self.gained >= MIN_RANGE_BYTES else self.drops + 1), 0

    def give_back(self, piece: Piece) -> None:
        """Nobody reads the piece any more; what it lacks is to be fetched by another."""
        if piece.passenger is not None:
            piece.passenger.get_off(piece)
        self.pieces.remove(piece)
        if piece.remaining > 0:
            self.gaps = sorted([*self.gaps, (piece.position, piece.end)])
        self.look_whole()

    def ends_with(self, piece: Piece) -> bool:
        """Whether nothing of it is missing but a piece that is on its way, and nobody looks at it."""
        return (self.phase == OPEN and self.pieces == [piece] and not self.gaps
                and not (self.single or self.presumed or self.ending or self.rides))

    def get_off(self, piece: Piece) -> None:
        """Nothing was told of this file along with the piece."""
        piece.passenger = None
        self.rides, self.alone = False, True

    def look_whole(self) -> None:
        if self.phase == OPEN and not self.gaps and not self.pieces and not self.ending:
            self.phase = COMPLETE

    def begin_again(self) -> None:
        self.phase, self.restart, self.gaps, self.state, self.size = NEW, False, [], None, None
        self.presumed = self.alone = False


class Plan:
    """The files under way, in the order they are wanted."""

    def __init__(self, parting: float = 0.0) -> None:
        """``parting``: seconds that it costs to hang up in the middle of a file."""
        self._parting = parting
        self.files: List[FileOnItsWay] = []
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
        """Nobody was there to see bytes come for so long."""
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
        waiting = sum((file.phase == NEW or (file.presumed and not file.pieces)) and not file.in_trouble
                      for file in self.files)
        return (waiting <= connections and sum(file.in_trouble for file in self.files) <= MOST_IN_TROUBLE
                and sum(file.phase == ENDING for file in self.files) <= connections + MOST_ENDING)

    def share_of(self, file: FileOnItsWay, connections: int) -> int:
        """The bytes of a range of a file, for one of so many connections."""
        share = max(-(-file.missing // connections), MIN_RANGE_BYTES, int(self.pace * MIN_RANGE_SECONDS))
        if not self._is_everybodys(file):
            share = max(share, int((self.pace or USUAL_PACE) * (self.asking + self._parting) * RANGE_TO_ASKING))
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
        return max(HUNG_SECONDS, HUNG_TO_ASKING * self.asking) if self.asking else UNKNOWN_SECONDS

    def claim(self, now: float, connections: int, ahead: bool = False) -> Union[Piece, FileOnItsWay, None]:
        """The next piece to fetch, or file to prepare or to end, for one of so many connections; it counts as taken.

        Where there is both a file to end and a piece to fetch they are one task: the piece has a passenger.
        ``ahead``: by somebody who is busy for a while yet, and so takes nothing over.
        """
        passenger = next((file for file in self.files if file.phase == COMPLETE and file.not_before <= now
                          and not (file.busy or file.rides or file.alone or file.ending or file.single)), None)
        task = self._next_task(now, connections, passenger, not ahead)
        if passenger is not None:
            if isinstance(task, Piece):
                task.passenger, passenger.rides = passenger, True
            elif task is None:
                task = passenger
        if isinstance(task, FileOnItsWay):
            task.busy, task.busy_since = True, now
        return task

    def _next_task(self, now: float, connections: int, passenger: Optional[FileOnItsWay],
                   take_over: bool) -> Union[Piece, FileOnItsWay, None]:
        hold = False
        # One that has failed twice lets others go first, which show whose fault it is.
        for file in sorted(self.files, key=lambda file: file.attempts > 1 or file.lets_others_go):
            if self._will_open(file, now):
                # Its ranges will be there in a moment: better wait than turn to a later file.
                hold = True
            if file is passenger or file.busy or file.rides or file.ending or file.not_before > now:
                continue
            if file.phase in (NEW, COMPLETE):
                return file
            if file.phase == OPEN and not hold:
                piece = self._next_piece(file, now, connections, take_over)
                if piece is not None:
                    return piece
        if take_over and not hold and self.exhausted and self.ranges:
            return self._take_over([piece for file in self.files if not file.ending and not file.single
                                    for piece in file.pieces], now)
        return None

    def hung(self, now: float, connections: int) -> List[Piece]:
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
            patience = max(HUNG_SECONDS, HUNG_TO_GAP * self.gap) if piece.flowing else self.patience
            hangs = alive and now - piece.last_byte > patience and piece.file.drops < MOST_DROPS
            left = self._seconds_left(piece, now)
            piece.crawls = not hangs and piece.file.crawls < MOST_DROPS and (
                self.pace > 0 and piece.flowing > 0 and left > CRAWLING_SECONDS
                and now - piece.flowing > CRAWLING_SECONDS / 2
                and piece.remaining / self.pace < CRAWLING_SHARE * left)
            if hangs or piece.crawls:
                found.append(piece)
        if not found:
            # All are silent at the same time: one of them finds out whether it is the line.
            longest = min(pieces, key=lambda piece: piece.last_byte, default=None)
            if longest is not None and longest.file.drops < MOST_DROPS and not longest.file.single \
                    and now - longest.last_byte > max(ALL_HUNG_SECONDS, self.patience, HUNG_TO_GAP * self.gap) \
                    and all(now - piece.last_byte > HUNG_SECONDS for piece in pieces):
                found.append(longest)
        return found

    def unanswered(self, now: float) -> List[FileOnItsWay]:
        """Files about which a question has been out for too long."""
        return [file for file in self.files if file.busy and file.question is not None and file.drops < MOST_DROPS
                and now - file.busy_since > self.patience]

    def _is_everybodys(self, file: FileOnItsWay) -> bool:
        """Whether it, or what it waits for, is the first that the user gets."""
        return not self.any_whole and (
            file.job.urgent or file is next(other for other in self.files if not other.job.urgent))

    def _will_open(self, file: FileOnItsWay, now: float) -> bool:
        if file.phase == NEW:
            return file.busy and now - file.busy_since < PREPARE_SECONDS
        return (file.presumed and not file.listed and self.ranges and self._is_everybodys(file)
                and any(now - piece.began < PREPARE_SECONDS for piece in file.pieces))

    def _next_piece(self, file: FileOnItsWay, now: float, connections: int, take_over: bool) -> Optional[Piece]:
        in_ranges = self.ranges and not file.single
        share = self.share_of(file, connections)
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
        if in_ranges and take_over:
            # Where a range is long, to be at it for long is no slowness.
            slow = max(SLOW_SECONDS, SLOW_TO_ASKING * self.asking,
                       0 if self._is_everybodys(file) or not self.pace
                       else 2 * share / self.pace)
            return self._take_over([piece for piece in file.pieces if self._seconds_left(piece, now) > slow], now)
        return None

    def _seconds_left(self, piece: Piece, now: float) -> float:
        return piece.seconds_left(now, self.pace or USUAL_PACE, self.patience)

    def _fair_share(self, connections: int) -> int:
        """What each connection has left to bring, where no more files are to come: so all end together."""
        total = 0
        for file in self.files:
            if file.ending or file.phase in (COMPLETE, ENDING):
                continue
            size = file.job.size if file.phase == NEW else file.size
            if size is None:
                return sys.maxsize
            size -= file.bytes_there
            total += size
        return max(total // connections, self._least_rest())

    def _least_rest(self) -> int:
        """A rest of a file that has fewer bytes is not worth a request of its own, but goes along."""
        return max(MIN_TAKEOVER_BYTES, int(self.pace * self.asking * REST_TO_ASKING))

    def _take_over(self, pieces: List[Piece], now: float) -> Optional[Piece]:
        """Half of the largest, where that is worth a request, and that a connection is hung up on."""
        largest = max(pieces, key=lambda piece: piece.remaining, default=None)
        least = max(MIN_TAKEOVER_BYTES, int(self.pace * (MIN_TAKEOVER_SECONDS + 2 * self.asking)))
        if largest is None or largest.remaining < 2 * least:
            return None
        middle, end = largest.position + largest.remaining // 2, largest.end
        largest.end = middle
        return self._begin(largest.file, middle, end, now)

    def _begin(self, file: FileOnItsWay, start: int, end: int, now: float) -> Piece:
        piece = Piece(file, start, end, now)
        piece.to_the_end = file.presumed and file.listed and end == file.size
        file.pieces.append(piece)
        return piece
