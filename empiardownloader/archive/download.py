# SPDX-License-Identifier: GPL-3.0-or-later
"""An image set onto the disk: its first movies and their references, found, fetched, and written into the record."""
import contextlib
import logging
import os
import shutil
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, List, Optional, Set, Tuple

from . import record
from .entry import Entry, ImageSet
from .errors import BadImageError, DiskError, EntryError
from .header import Header, read_header
from .parts import part_path
from .remote import HTTPS, Archive, Connection, Listing
from .selection import REGISTERED_COMPRESSED, LocalNames, MovieFinder, RemoteFile, split_compression
from .transfer import Job, Outcome, Settings, Transfer

logger = logging.getLogger(__name__)

GAIN, DARK = "gain", "dark"
PROGRESS_SECONDS = 1        # between two reports of progress
HISTORY_SECONDS = 10        # between two points of the download's history
RATE_SECONDS = 15           # over which the rate is averaged
# A file system is never filled to the brim: databases and logs of the run need room as well.
SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class Request:
    """What the user asked for."""
    entry: Entry
    image_set: ImageSet
    amount: Optional[int]           # movies, None for all of the image set
    file_pattern: str = ""
    gain: bool = True
    gain_pattern: str = ""
    unpack: bool = True             # decompress .bz2, .gz, .xz

    def same_movies_as(self, begin: Dict[str, Any]) -> bool:
        """Whether a record's beginning tells of the same movies under the same names; their number may differ."""
        return all(begin.get(key, value) == value for key, value in self.identity().items())

    def identity(self) -> Dict[str, Any]:
        return {"entry": self.entry.number, "image_set": self.image_set.number, "pattern": self.file_pattern.strip(),
                "unpack": self.unpack}


@dataclass(frozen=True)
class Places:
    """Where files go on the local disk."""
    folder: str                     # where the run expects its files, under their local names
    record: str                     # the record's path
    shared: str = ""                # where files stay for other runs too; the run then links to them

    def stored(self, entry: Entry, path: str, name: str, unpacked: bool) -> str:
        """Where the bytes of a remote file go: in the shared folder it is the archive's own tree below the entry."""
        if not self.shared:
            return os.path.join(self.folder, name)
        if unpacked:
            path = split_compression(path)[0]
        return os.path.join(self.shared, entry.number, *path.split("/"))

    def link(self, stored: str, name: str) -> None:
        """Make the run's own name for a file that lies in the shared folder."""
        if not self.shared:
            return
        target = os.path.join(self.folder, name)
        # Replaced in one step: a reader finds the old link or the new one.
        temporary = os.path.join(self.folder, ".link.%s" % name)
        try:
            if os.path.lexists(temporary):
                os.remove(temporary)
            os.symlink(os.path.abspath(stored), temporary)
            os.replace(temporary, target)
        except OSError as error:
            msg = "No link can be made in %s (%s): leave the download folder empty to keep the files in the run." % (
                self.folder, (error.strerror or str(error)).lower())
            raise DiskError(msg) from error


@dataclass(frozen=True)
class Progress:
    """How far a download is; sizes in bytes, times in seconds, None where not known yet."""
    movies: int
    movies_wanted: Optional[int]
    done_bytes: int
    total_bytes: Optional[int]
    rate: float                     # bytes a second
    seconds_left: Optional[float]

    def __str__(self) -> str:
        """-> 'Downloaded 7 of 12 movies, 14.0 of 24.0 MB, 3.1 MB/s, about 3 s left'"""
        wanted = "" if self.movies_wanted is None else " of %d" % self.movies_wanted
        unit, factor = _unit(max(self.done_bytes, self.total_bytes or 0))
        size = "%.1f" % (self.done_bytes / factor)
        if self.total_bytes:
            size += " of %.1f" % (self.total_bytes / factor)
        text = "Downloaded %d%s movies, %s %s" % (self.movies, wanted, size, unit)
        if self.rate > 0:
            text += ", %.1f MB/s" % (self.rate / 1e6)
        if self.seconds_left is not None:
            text += ", about %s left" % format_seconds(self.seconds_left)
        return text


class Reference:
    """The search for the gain (or dark) reference: candidates are fetched one by one until one fits the movies."""

    def __init__(self, kind: str, candidates: List[RemoteFile]):
        self.kind = kind
        self.candidates = candidates
        self._next = 0
        self.local = ""                 # the local name of the last one fetched
        self._under_way: Optional[RemoteFile] = None
        self._fetched: Optional[Tuple[RemoteFile, Outcome]] = None
        self.notes: List[str] = []
        self.settled = False

    def next_file(self) -> Optional[RemoteFile]:
        """The candidate to fetch now, None while there is nothing to do."""
        if self.settled or self._under_way is not None or self._fetched is not None:
            return None
        if self._next >= len(self.candidates):
            return None
        self._under_way = self.candidates[self._next]
        self._next += 1
        return self._under_way

    def take(self, outcome: Outcome) -> None:
        file, self._under_way = self._under_way, None
        if outcome.error:
            self.notes.append("%s could not be used as %s reference: %s." % (file.path, self.kind, outcome.error))
        else:
            self._fetched = (file, outcome)

    def choose(self, movie: Optional[Header], unchecked: bool) -> Optional[RemoteFile]:
        """The fitting file once there is one; ``settled`` tells a verdict from none yet.

        ``unchecked``: the movies' size cannot be known, so the likeliest candidate is taken as it is.
        """
        if self.settled or self._under_way is not None:
            return None
        if self._fetched is None:
            self.settled = self._next >= len(self.candidates)
            return None
        if movie is None and not unchecked:
            return None
        file, outcome = self._fetched
        if movie is None or outcome.header is None or outcome.header.fits(movie):
            self.settled = True
            return file
        self._fetched = None
        self.notes.append("%s (%d x %d) does not fit the movies (%d x %d), so it is not the %s reference." % (
            file.path, outcome.header.width, outcome.header.height, movie.width, movie.height, self.kind))
        return self.choose(movie, unchecked)


class Download:
    """One run of a download. What happens goes to the record; see record.py for its events."""

    def __init__(self, request: Request, archive: Archive, places: Places, settings: Settings,
                 cancelled: threading.Event, header_reader: Callable[[str], Header] = read_header,
                 on_progress: Callable[[Progress], None] = lambda progress: None):
        self._request = request
        self._archive = archive
        self._places = places
        self._cancelled = cancelled
        self._read_header = header_reader
        self._on_progress = on_progress
        self._transfer = Transfer(archive, settings, cancelled)
        self._finder = MovieFinder(request.entry, request.image_set, self._list, request.file_pattern)
        self._movies = self._finder.movies()
        self._names = LocalNames()
        self._facts = record.Facts.read(places.record)
        self._record: Optional[record.RecordWriter] = None
        self._have: Set[str] = set()            # remote paths of the movies that are whole
        self._passed: Set[str] = set()          # remote paths seen in this run
        self._pending: Dict[str, Tuple[str, RemoteFile, str]] = {}    # target -> (kind, remote file, local name)
        self._references: Optional[List[Reference]] = None
        self._first: Optional[RemoteFile] = None
        self._movie_header: Optional[Header] = None
        self._end_of_list = self._listed_again = False
        self._refused_told = 0
        self._done_bytes = 0
        self._reported = self._history_point = 0.0
        self._samples: Deque[Tuple[float, int]] = deque()

    def run(self) -> record.Facts:
        """Fetch what is missing; the facts of the record at the end.

        Raises ArchiveError for what ends the run and EntryError when the image set has no movies.
        """
        self._record = record.RecordWriter(self._places.record)
        try:
            self._recall()
            self._note(record.BEGIN, transport=self._archive.transport, server=self._archive.server,
                       amount=self._request.amount, gain_pattern=self._request.gain_pattern,
                       **self._request.identity())
            self._transfer.run(self._next_job, self._take, self._tick)
            if not self._cancelled.is_set():
                self._settle_references(last=True)
                for note in self._finder.notes:
                    self._note(record.NOTE, text=note)
            self._tell_refused()
            self._tick(now=True)
            self._note(record.END, complete=self._is_complete(), exhausted=self._end_of_list,
                       stopped=self._cancelled.is_set())
        finally:
            self._record.close()
        return self._facts

    # -------------------------- what to fetch next -----------------------

    def _next_job(self) -> Optional[Job]:
        if self._references is None and not self._begin_list():
            return None
        for reference in self._references:
            candidate = reference.next_file()
            if candidate is not None:
                return self._job(reference.kind, candidate, self._reference_name(candidate), urgent=True)
        while self._amount_open():
            movie = self._next_movie()
            if movie is None:
                return None
            path, name = movie.path, self._local_name(movie)
            if path in self._have or path in self._passed:
                continue
            self._passed.add(path)
            return self._job(record.MOVIE, movie, name)
        return None

    def _begin_list(self) -> bool:
        """Find the first movie and with it the references; False where there is nothing left to fetch at all."""
        if not self._amount_open() and not self._references_open():
            self._references = []
            return False
        self._first = next(self._movies)
        self._references = []
        if self._request.gain:
            searches = ((GAIN, self._finder.gain_candidates(self._first.path, self._request.gain_pattern)),
                        (DARK, self._finder.dark_candidates(self._first.path)))
            self._references = [Reference(kind, found) for kind, found in searches
                                if kind not in self._facts.references]
        self._check_space()
        return True

    def _amount_open(self) -> bool:
        if self._end_of_list:
            return False
        pending = sum(kind == record.MOVIE for kind, _, _ in self._pending.values())
        return self._request.amount is None or len(self._have) + pending < self._request.amount

    def _references_open(self) -> bool:
        return self._request.gain and GAIN not in self._facts.references

    def _next_movie(self) -> Optional[RemoteFile]:
        if self._first is not None:
            movie, self._first = self._first, None
            return movie
        movie = next(self._movies, None)
        if movie is None and self._may_lack_names():
            # One of the load-balanced HTTPS servers may not show every file; the next may.
            self._listed_again = True
            self._finder.forget()
            self._movies = self._finder.movies()
            movie = next(self._movies, None)
        self._end_of_list = movie is None
        return movie

    def _may_lack_names(self) -> bool:
        promised = self._request.image_set.num_images
        seen = len(self._have | self._passed)
        return self._archive.transport == HTTPS and not self._listed_again and (promised is None or seen < promised)

    def _local_name(self, movie: RemoteFile) -> str:
        folder = self._finder.folder
        below = movie.path[len(folder) + 1:] if folder else movie.path
        return self._names.name(movie.path, split_compression(below)[0] if self._request.unpack else below)

    def _reference_name(self, file: RemoteFile) -> str:
        name = os.path.basename(file.path)
        return self._names.name(file.path, split_compression(name)[0] if self._request.unpack else name)

    def _job(self, kind: str, file: RemoteFile, name: str, urgent: bool = False) -> Job:
        compression = split_compression(file.path)[1]
        if not self._request.unpack:
            if kind == record.MOVIE and compression and compression not in REGISTERED_COMPRESSED:
                msg = "The movies of %s are %s files, which Scipion cannot register as they are: let them be " \
                      "decompressed." % (self._request.entry.name, compression)
                raise EntryError(msg)
            compression = ""
        target = self._places.stored(self._request.entry, file.path, name, bool(compression))
        self._pending[target] = (kind, file, name)
        check = self._check_movie if kind == record.MOVIE else self._check_header
        return Job(file.path, target, compression, check, urgent)

    def _check_header(self, path: str) -> Optional[Header]:
        """What a whole file must stand; a compressed one that stays so shows its header to nobody."""
        if split_compression(path)[1]:
            return None
        return self._read_header(path)

    def _check_movie(self, path: str) -> Optional[Header]:
        header = self._check_header(path)
        expected = self._request.image_set.frames or 0
        if header is not None and header.frames == 1 and expected > 1 and not self._request.file_pattern:
            msg = "it has a single frame where the entry says %d, so it looks like a reference and not like a movie" \
                  % expected
            raise BadImageError(msg)
        return header

    # -------------------------- what became of it -----------------------

    def _take(self, outcome: Outcome) -> None:
        kind, file, name = self._pending.pop(outcome.job.target)
        if kind != record.MOVIE:
            reference = next(r for r in self._references if r.kind == kind)
            reference.take(outcome)
            if not outcome.error:
                self._places.link(outcome.job.target, name)
                reference.local = name
        elif outcome.error:
            logger.warning("%s is left out: %s.", file.path, outcome.error)
            self._note(record.LEFT_OUT, path=file.path, reason=outcome.error)
        else:
            self._places.link(outcome.job.target, name)
            self._have.add(file.path)
            self._done_bytes += outcome.size
            if self._movie_header is None:
                self._movie_header = outcome.header or self._promised_header()
            self._note(record.MOVIE, path=file.path, name=name, bytes=outcome.size, found=outcome.found)
            logger.info("%s: %s, %s.", name, "was there already" if outcome.found else "downloaded",
                        format_bytes(outcome.size))
        self._settle_references()

    def _promised_header(self) -> Optional[Header]:
        """The movies' size as the metadata has it, where a file does not show its own."""
        image_set = self._request.image_set
        if image_set.width is None or image_set.height is None:
            return None
        return Header(image_set.width, image_set.height, image_set.frames or 1)

    def _settle_references(self, last: bool = False) -> None:
        # At the end, or with a movie on disk that shows no size, there is nothing more to wait for.
        unchecked = last or bool(self._have)
        for reference in self._references or []:
            if reference.settled:
                continue
            file = reference.choose(self._movie_header, unchecked)
            if not reference.settled:
                continue
            for note in reference.notes:
                self._note(record.NOTE, text=note)
            others = [candidate.path for candidate in reference.candidates if candidate != file]
            self._note(record.REFERENCE, kind=reference.kind, name=reference.local if file else "",
                       path=file.path if file else "", others=others)

    def _tell_refused(self) -> None:
        for name in self._finder.refused[self._refused_told:]:
            self._note(record.LEFT_OUT, path=name, reason="its name is not safe as the name of a local file")
        self._refused_told = len(self._finder.refused)

    def _is_complete(self) -> bool:
        return not self._cancelled.is_set() and (self._end_of_list or not self._amount_open())

    def _note(self, what: str, **facts: Any) -> None:
        self._record.add(what, **facts)
        self._facts.take(dict(facts, what=what, time=time.time()))

    def _recall(self) -> None:
        """Take over what earlier runs left and still lies where the record says."""
        for name, movie in self._facts.movies.items():
            path = os.path.join(self._places.folder, name)
            if os.path.exists(path):
                self._have.add(movie["path"])
                self._done_bytes += movie["bytes"]
                self._names.name(movie["path"], name)
                if self._movie_header is None:
                    with contextlib.suppress(BadImageError):
                        self._movie_header = self._check_header(path) or self._promised_header()
        previous = self._facts.begin or {}
        other_movies = not self._request.same_movies_as(previous)
        other_gain = previous.get("gain_pattern", "") != self._request.gain_pattern
        for kind, reference in list(self._facts.references.items()):
            gone = reference["name"] and not os.path.exists(os.path.join(self._places.folder, reference["name"]))
            if gone or other_movies or (kind == GAIN and other_gain):
                del self._facts.references[kind]

    # -------------------------- listing, space, progress -----------------------

    def _list(self, folder: str) -> Listing:
        def ask(connection: Connection) -> Listing:
            return connection.list_folder(folder)

        return self._transfer.ask(ask)

    def _check_space(self) -> None:
        """Raises DiskError when what is asked for cannot fit; sizes over HTTPS are rounded, so this is an estimate."""
        wanted = self._wanted()
        known = self._finder.known_movies()
        if wanted is None or not known:
            return
        place = os.path.join(self._places.shared, self._request.entry.number) if self._places.shared \
            else self._places.folder
        average = sum(file.size for file in known) // len(known)
        asked = [file for file in known[:wanted] if file.path not in self._have]
        missing = sum(file.size for file in asked if not self._is_shared_already(file))
        needed = missing + max(wanted - len(known), 0) * average - _bytes_in_parts(place)
        free = shutil.disk_usage(_existing(place)).free
        if needed + SPARE_BYTES > free:
            msg = "%d movies of %s need about %s more, but only %s are free in %s: make room, choose another " \
                  "download folder or ask for fewer movies." % (wanted, self._request.entry.name, format_bytes(needed),
                                                                format_bytes(free), os.path.abspath(place))
            raise DiskError(msg)

    def _is_shared_already(self, file: RemoteFile) -> bool:
        return bool(self._places.shared) and os.path.exists(
            self._places.stored(self._request.entry, file.path, "", self._request.unpack))

    def _wanted(self) -> Optional[int]:
        return self._request.amount or self._request.image_set.num_images

    def _tick(self, now: bool = False) -> None:
        moment = time.monotonic()
        if not now and moment - self._reported < PROGRESS_SECONDS:
            return
        self._reported = moment
        if self._refused_told < len(self._finder.refused):
            self._tell_refused()
        progress = self.progress()
        self._on_progress(progress)
        if now or moment - self._history_point >= HISTORY_SECONDS:
            self._history_point = moment
            self._note(record.BYTES, bytes=progress.done_bytes, movies=progress.movies)

    def progress(self) -> Progress:
        moment, received = time.monotonic(), self._transfer.received
        self._samples.append((moment, received))
        while len(self._samples) > 2 and moment - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()
        then, before = self._samples[0]
        rate = (received - before) / (moment - then) if moment > then else 0.0
        done = self._done_bytes + self._transfer.under_way()
        wanted = len(self._have) if self._end_of_list else self._wanted()
        total = None
        movies = len(self._have)
        known = self._finder.known_movies() if not movies else []
        if wanted is not None and (movies or known):
            average = self._done_bytes / movies if movies else sum(file.size for file in known) / len(known)
            total = max(int(self._done_bytes + (wanted - movies) * average), done)
        left = (total - done) / rate if total is not None and rate > 0 and movies < (wanted or 0) else None
        return Progress(movies, wanted, done, total, rate, left)


def nothing_missing(request: Request, places: Places) -> bool:
    """Whether the record says that all that is asked for is there, so that no connection is needed."""
    facts = record.Facts.read(places.record)
    if facts.begin is None or not request.same_movies_as(facts.begin):
        return False
    if request.gain and (GAIN not in facts.references
                         or facts.begin.get("gain_pattern", "") != request.gain_pattern):
        return False
    names = list(facts.movies) + [reference["name"] for reference in facts.references.values() if reference["name"]]
    if not all(os.path.exists(os.path.join(places.folder, name)) for name in names):
        return False
    if request.amount is not None and len(facts.movies) >= request.amount:
        return True
    return bool(facts.end and facts.end["exhausted"] and facts.end["complete"] and not facts.left_out)


def format_bytes(size: float) -> str:
    """16777216 -> '16.8 MB'"""
    unit, factor = _unit(size)
    return "%.1f %s" % (size / factor, unit)


def format_seconds(seconds: float) -> str:
    """75 -> '1 min 15 s'"""
    seconds = round(seconds)
    if seconds < 60:
        return "%d s" % seconds
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return "%d min %d s" % (minutes, seconds)
    hours, minutes = divmod(minutes, 60)
    return "%d h %d min" % (hours, minutes)


def _unit(size: float) -> Tuple[str, float]:
    for unit, factor in (("TB", 1e12), ("GB", 1e9)):
        if size >= factor:
            return unit, factor
    return "MB", 1e6


def _existing(path: str) -> str:
    """The nearest folder above that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _bytes_in_parts(folder: str) -> int:
    """Disk space that half-fetched files hold already."""
    total = 0
    prefix = os.path.basename(part_path("x"))[:-1]
    for current, _, names in os.walk(folder):
        for name in names:
            if name.startswith(prefix):
                try:
                    total += os.stat(os.path.join(current, name)).st_blocks * 512
                except FileNotFoundError:
                    continue    # another run has just finished it
    return total
