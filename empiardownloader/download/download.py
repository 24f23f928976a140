# SPDX-License-Identifier: GPL-3.0-or-later
"""An image set onto the disk: its first movies and their references, found, fetched, and written into the record."""
import contextlib
import functools
import logging
import os
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Optional, Set, Tuple, Union

from ..archive.errors import EntryError
from ..archive.names import LocalNames, split_compression
from ..archive.remote import HTTPS, Archive, Connection, Listing
from ..archive.selection import DARK, GAIN, MovieFinder, RemoteFile
from ..images.header import BadImageError, Header, read_header
from ..transfer.jobs import PENDING, Job, Outcome, Pending, Settings
from ..transfer.transfer import Transfer
from . import record
from .looks import Looks
from .progress import Progress, Rate, format_bytes
from .references import Search, Size
from .request import Places, Request
from .scout import Batch, Scout
from .space import bytes_in_parts, bytes_needed, check_space

logger = logging.getLogger(__name__)

# Scipion's Movie knows a compressed file by this ending only.
REGISTERED_COMPRESSED = (".bz2",)
PROGRESS_SECONDS = 1        # between two reports of progress
HISTORY_SECONDS = 10        # between two points of the download's history


class Download:
    """One run of a download. What happens goes to the record; see record.py for its events."""

    def __init__(self, request: Request, archive: Archive, places: Places, settings: Settings,
                 cancelled: threading.Event, header_reader: Callable[[str], Header] = read_header,
                 on_progress: Callable[[Progress], None] = lambda progress: None):
        self._request = request
        self._archive = archive
        self._places = places
        self._cancelled = cancelled
        self._looks = Looks(request, header_reader)
        self._on_progress = on_progress
        self._transfer = Transfer(archive, settings, cancelled)
        self._finder = MovieFinder(request.entry, request.image_set, self._list, request.file_pattern,
                                   request.gain_pattern)
        self._scout = Scout(self._finder, request.gain, self._may_lack_names, self._transfer.wake)
        self._listed: Deque[Tuple[RemoteFile, Dict[str, Optional[str]]]] = deque()   # not looked at yet
        self._later: Deque[Tuple[RemoteFile, Dict[str, Optional[str]]]] = deque()    # looked at, not wanted then
        self._names = LocalNames()
        self._facts = record.Facts.read(places.record)
        self._record: Optional[record.RecordWriter] = None
        self._whole: Dict[str, str] = {}        # their local names
        self._blocked: Deque[Tuple[RemoteFile, Dict[str, Optional[str]]]] = deque()  # those whose place is taken now
        self._have: Set[str] = set()            # remote paths of the movies that are whole
        self._passed: Set[str] = set()          # remote paths seen in this run
        self._ungrouped: Set[str] = set()       # remote paths of whole movies whose references are to be looked for
        self._pending: Dict[str, Tuple[str, RemoteFile, str]] = {}    # target -> (kind, remote file, local name)
        self._keys: Dict[str, Dict[str, Optional[str]]] = {}    # remote path -> kind -> key of the search
        self._searches: Dict[Tuple[str, str], Search] = {}      # (kind, key) -> search
        self._open: Dict[record.ReferenceKey, Search] = {}      # those without a verdict for a size of movies
        self._fetched: Dict[str, Outcome] = {}                  # candidates, by remote path
        self._end_of_list = self._space_checked = self._size_seen = self._unpacked_checked = False
        self._refused_told = 0
        self._done_bytes = 0
        self._reported = self._history_point = 0.0
        self._rate = Rate()

    def run(self) -> record.Facts:
        """Fetch what is missing; the facts of the record at the end.

        Raises ArchiveError for what ends the run and EntryError when the image set has no movies.
        """
        self._record = record.RecordWriter(self._places.record)
        try:
            self._recall()
            self._note(record.BEGIN, transport=self._archive.transport, server=self._archive.server,
                       amount=self._request.amount, gain=self._request.gain, gain_pattern=self._request.gain_pattern,
                       foreign=sorted(self._places.foreign), **self._request.identity())
            try:
                self._transfer.run(self._next_job, self._take, self._tick)
            finally:
                self._scout.close()
            if not self._cancelled.is_set():
                self._settle_references(last=True)
                self._tell_notes()
            self._tell_refused()
            self._tick(now=True)
            self._note(record.END, complete=self._is_complete(), exhausted=self._end_of_list and not self._later,
                       stopped=self._cancelled.is_set())
        finally:
            self._record.close()
        return self._facts

    # -------------------------- what to fetch next -----------------------

    def _next_job(self) -> Union[Job, Pending, None]:
        job = self._next_reference()
        if job is not None:
            return job
        while self._amount_open() or self._ungrouped:
            found = self._next_movie()
            if found is None or found is PENDING:
                return found
            movie, keys = found
            if movie.path in self._ungrouped or self._has_other_keys(movie.path, keys):
                self._regroup(movie.path, keys)
            if movie.path in self._keys:
                self._keys[movie.path] = keys       # on its way; a second look may have shown more candidates
            if movie.path in self._have or movie.path in self._passed or not self._has_room():
                if movie.path not in self._have and movie.path not in self._passed:
                    self._later.append(found)
                job = self._next_reference()
                if job is not None:
                    return job
                continue
            self._passed.add(movie.path)
            self._keys[movie.path] = keys
            job = self._job(record.MOVIE, movie, self._local_name(movie))
            if job is None:
                # It is being tried as a reference; it may turn out to be a movie.
                self._passed.discard(movie.path)
                self._blocked.append(found)
                continue
            if not self._space_checked:
                self._space_checked = True
                self._check_space()
            return job
        return None

    def _next_reference(self) -> Optional[Job]:
        for (kind, _, size), search in list(self._open.items()):
            verdict = search.verdict(size, self._fetched)
            if verdict.settled or verdict.file is None:
                continue
            file = verdict.file
            if file in (pending for _, pending, _ in self._pending.values()):
                continue
            job = self._job(kind, file, self._reference_name(file), urgent=True)
            if job is not None:
                return job
            self._fetched[file.path] = Outcome(Job(file.path, ""), error="another file has its place on the disk")
        return None

    def _amount_open(self) -> bool:
        return self._has_room() and not (self._end_of_list and not self._later)

    def _has_room(self) -> bool:
        """Whether fewer movies than asked for are whole or on their way."""
        return self._request.amount is None or len(self._have) + self._movies_under_way() < self._request.amount

    def _movies_under_way(self) -> int:
        return sum(kind == record.MOVIE for kind, _, _ in self._pending.values())

    def _next_movie(self) -> Union[Tuple[RemoteFile, Dict[str, Optional[str]]], Pending, None]:
        if self._later and self._has_room():
            return self._later.popleft()
        while not self._listed:
            batch = self._scout.next() if not self._end_of_list else None
            if batch is PENDING:
                return PENDING
            if batch is None:
                # A stop is no end of the list.
                self._end_of_list = not self._cancelled.is_set()
                return None
            self._looks.listed(batch.movies)
            keys = self._begin_searches(batch)
            self._ask_for_references(keys)
            self._listed.extend((movie, keys) for movie in batch.movies)
        return self._listed.popleft()

    def _begin_searches(self, batch: Batch) -> Dict[str, Optional[str]]:
        """Kind -> key of the search for the references of the batch's movies."""
        if not self._request.gain:
            return {GAIN: None, DARK: None}
        keys: Dict[str, Optional[str]] = {}
        for kind, candidates in batch.references.items():
            search = Search(kind, candidates)
            self._searches.setdefault((kind, search.key), search)
            keys[kind] = search.key
        return keys

    def _ask_for_references(self, keys: Dict[str, Optional[str]]) -> None:
        """The likeliest candidate is fetched before the first movie tells a size."""
        for kind, key in keys.items():
            known = any(k == kind and its_key == key for k, its_key, _ in [*self._open, *self._facts.references])
            if key is not None and not known:
                self._open[(kind, key, None)] = self._searches[(kind, key)]

    def _regroup(self, path: str, keys: Dict[str, Optional[str]]) -> None:
        """A movie of an earlier run gets the references that the form asks for now."""
        self._ungrouped.discard(path)
        event = self._facts.movies[self._whole[path]]
        facts = {name: value for name, value in event.items() if name not in ("what", "time")}
        facts.setdefault("size", self._size_on_disk(event["name"]))
        self._note(record.MOVIE, **dict(facts, **keys))
        self._open_searches(keys, facts["size"])

    def _has_other_keys(self, path: str, keys: Dict[str, Optional[str]]) -> bool:
        """Whether the folders show other candidates for a whole movie than they did when it came."""
        event = self._facts.movies.get(self._whole.get(path, ""))
        return event is not None and any(kind in event and event[kind] != key for kind, key in keys.items())

    def _may_lack_names(self) -> bool:
        promised = self._request.image_set.num_images
        return self._archive.transport == HTTPS and (promised is None or len(self._finder.known) < promised)

    def _local_name(self, movie: RemoteFile) -> str:
        folder = self._finder.folder
        below = movie.path[len(folder) + 1:] if folder else movie.path
        return self._names.name(movie.path, split_compression(below)[0] if self._request.unpack else below)

    def _reference_name(self, file: RemoteFile) -> str:
        # A session's own reference is called like its movies, with the folders that tell it from the others'.
        below = self._finder.folder + "/" if self._finder.folder else ""
        name = file.path[len(below):] if file.path.startswith(below) else os.path.basename(file.path)
        return self._names.name(file.path, split_compression(name)[0] if self._request.unpack else name)

    def _job(self, kind: str, file: RemoteFile, name: str, urgent: bool = False) -> Optional[Job]:
        """None where another file has the same place on the disk."""
        compression = split_compression(file.path)[1]
        if not self._request.unpack:
            if kind == record.MOVIE and self._request.registered and compression \
                    and compression not in REGISTERED_COMPRESSED:
                msg = "The movies of %s are %s files, which Scipion cannot register as they are: let them be " \
                      "decompressed." % (self._request.entry.name, compression)
                raise EntryError(msg)
            compression = ""
        if name not in self._facts.names:
            self._places.refuse_foreign(name)
        target = self._places.stored(self._request.entry, file.path, name, bool(compression))
        if target in self._pending:
            return None
        self._pending[target] = (kind, file, name)
        if kind != record.MOVIE:
            return Job(file.path, target, compression, functools.partial(self._looks.reference, target), urgent,
                       file.size)
        if compression:
            return Job(file.path, target, compression, self._looks.movie, size=file.size)
        return Job(file.path, target, check=self._looks.movie, size=file.size,
                   look=functools.partial(self._looks.begin, file.path),
                   doubtful=functools.partial(self._looks.is_doubtful, file.path))

    # -------------------------- what became of it -----------------------

    def _take(self, outcome: Outcome) -> None:
        kind, file, name = self._pending.pop(outcome.job.target)
        self._later.extend(self._blocked)
        self._blocked.clear()
        if kind != record.MOVIE:
            self._fetched[file.path] = outcome
            if not outcome.error:
                self._places.link(outcome.job.target, name)
                self._note(record.FILE, path=file.path, name=name)
        elif outcome.error:
            logger.warning("%s is left out: %s.", file.path, outcome.error)
            self._note(record.LEFT_OUT, path=file.path, reason=outcome.error)
        else:
            self._places.link(outcome.job.target, name)
            self._have.add(file.path)
            self._whole[file.path] = name
            self._done_bytes += outcome.size
            size = _size_of(outcome.header) or self._promised_size()
            keys = self._keys.pop(file.path)
            self._note(record.MOVIE, path=file.path, name=name, bytes=outcome.size, found=outcome.found, size=size,
                       frames=outcome.header.frames if outcome.header else None, **keys)
            self._open_searches(keys, size)
            logger.info("%s: %s, %s.", name, "was there already" if outcome.found else "downloaded",
                        format_bytes(outcome.size))
            if outcome.job.compression and not self._unpacked_checked:
                # Only now it is known what the files become.
                self._unpacked_checked = True
                self._check_space(os.path.getsize(outcome.job.target))
        self._settle_references()

    def _promised_size(self) -> Size:
        """The movies' size as the metadata has it, where a file does not show its own."""
        image_set = self._request.image_set
        if image_set.width is None or image_set.height is None:
            return None
        return image_set.width, image_set.height

    def _open_searches(self, keys: Dict[str, Optional[str]], size: Size) -> None:
        """There are movies of a size now, which want a verdict."""
        for kind, key in keys.items():
            if key is None:
                continue
            self._open.pop((kind, key, None), None)
            wanted = (kind, key, None if size is None else tuple(size))
            if wanted not in self._facts.references:
                self._open[wanted] = self._searches[(kind, key)]

    def _settle_references(self, last: bool = False) -> None:
        for (kind, key, size), search in list(self._open.items()):
            verdict = search.verdict(size, self._fetched)
            # Without a size there is no movie yet, unless the movies do not show theirs.
            if not verdict.settled or (size is None and not (last or self._shows_no_size(kind, key))):
                continue
            del self._open[(kind, key, size)]
            for note in verdict.notes:
                self._note(record.NOTE, text=note)
            if kind == GAIN and not search.candidates and self._request.gain_pattern:
                self._note(record.NOTE, text='No file of %s matches the gain file pattern "%s".' % (
                    self._request.entry.name, self._request.gain_pattern))
            file = verdict.file
            name = self._reference_name(file) if file else ""
            self._note(record.REFERENCE, kind=kind, key=key, size=size, name=name, path=file.path if file else "",
                       others=[candidate.path for candidate in search.candidates if candidate != file],
                       failed=verdict.failed, pattern=self._request.gain_pattern,
                       digest=self._looks.digests.get(self._fetched[file.path].job.target, "") if file else "")
            if file:
                logger.info("The %s reference of the movies that lie nearest to %s is %s.", kind, key, file.path)

    def _shows_no_size(self, kind: str, key: str) -> bool:
        return any(movie.get(kind) == key and movie.get("size") is None for movie in self._facts.movies.values())

    def _tell_notes(self) -> None:
        notes = list(self._finder.notes)
        notes += ["The folder %s could not be entered (%s): what is in it is missing; Continue asks again." % lost
                  for lost in self._finder.lost.items()]
        promised, found = self._request.image_set.num_images, len({file.path for file in self._finder.known})
        if self._end_of_list and found and promised and found != promised and not self._request.file_pattern:
            notes.append("%d movies were found, %s than the %d that the entry says." % (
                found, "fewer" if found < promised else "more", promised))
        for note in notes:
            self._note(record.NOTE, text=note)

    def _tell_refused(self) -> None:
        for name in self._finder.refused[self._refused_told:]:
            self._note(record.LEFT_OUT, path=name, reason="its name is not safe as the name of a local file")
        self._refused_told = len(self._finder.refused)

    def _is_complete(self) -> bool:
        if self._cancelled.is_set() or (self._end_of_list and self._finder.lost):
            return False
        return self._end_of_list or not self._amount_open()

    def _note(self, what: str, **facts: Any) -> None:
        self._record.add(what, **facts)
        self._facts.take(dict(facts, what=what, time=time.time()))

    def _recall(self) -> None:
        """Take over what earlier runs left and still lies where the record says."""
        previous = self._facts.begin or {}
        for name, path in self._facts.names.items():
            self._names.keep(path, name)
        for key, reference in list(self._facts.references.items()):
            gone = reference["name"] and not os.path.exists(os.path.join(self._places.folder, reference["name"]))
            other_gain = key[0] == GAIN and _pattern_of(reference, previous) != self._request.gain_pattern
            if gone or other_gain or reference.get("failed") or not self._request.same_movies_as(previous):
                del self._facts.references[key]
        for name, movie in self._facts.movies.items():
            if not is_there(self._places, name, movie):
                continue
            self._have.add(movie["path"])
            self._whole[movie["path"]] = name
            self._done_bytes += movie["bytes"]
            if self._request.gain and self._is_ungrouped(movie):
                self._ungrouped.add(movie["path"])

    def _is_ungrouped(self, movie: Dict[str, Any]) -> bool:
        """Whether it is not known which references belong to a movie, or they are not there any more."""
        return movie.get(GAIN, "") is None or not self._facts.is_settled(movie)

    def _size_on_disk(self, name: str) -> Size:
        with contextlib.suppress(BadImageError, OSError):
            return _size_of(self._looks.header(os.path.join(self._places.folder, name))) or self._promised_size()
        return self._promised_size()

    # -------------------------- listing, space, progress -----------------------

    def _list(self, folder: str, expected: bool) -> Listing:
        """Called by the scout's thread."""
        def ask(connection: Connection) -> Listing:
            return connection.list_folder(folder)

        return self._transfer.ask(ask, persistent=expected)

    def _check_space(self, measured: Optional[int] = None) -> None:
        """Raises DiskError when what is asked for cannot fit; sizes over HTTPS are rounded, so this is an estimate."""
        request, wanted = self._request, self._wanted()
        place = os.path.join(self._places.shared, request.entry.number) if self._places.shared else self._places.folder
        known = list(self._finder.known)
        there = self._have | {file.path for file in known[:wanted] if self._is_shared_already(file)}
        needed = bytes_needed(known, wanted, there, request.image_set, request.unpack, measured)
        if needed is not None:
            check_space("%d movies of %s" % (wanted, request.entry.name), needed - bytes_in_parts(place), place)

    def _is_shared_already(self, file: RemoteFile) -> bool:
        return bool(self._places.shared) and os.path.exists(
            self._places.stored(self._request.entry, file.path, "", self._request.unpack))

    def _wanted(self) -> Optional[int]:
        return self._request.amount or self._request.image_set.num_images

    def _take_begun(self) -> None:
        """A movie's size tells which reference fits, and how much is to come, long before the movie is whole."""
        while self._looks.begun:
            path, header, size = self._looks.begun.popleft()
            if header is not None and path in self._keys:
                self._open_searches(self._keys[path], _size_of(header))
                self._settle_references()
            if not self._size_seen:
                self._size_seen = True
                if not any(file.size for file in self._finder.known):
                    self._check_space(size)

    def _tick(self, now: bool = False) -> None:
        self._take_begun()
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
        rate = self._rate.update(time.monotonic(), self._transfer.received)
        done = self._done_bytes + self._transfer.under_way()
        last = self._end_of_list and not self._later
        wanted = self._movies_under_way() + len(self._have) if last else self._wanted()
        total = None
        movies = len(self._have)
        known = [file.size for file in self._finder.known if file.size] if not movies else []
        if wanted is not None and (movies or known):
            average = self._done_bytes / movies if movies else sum(known) / len(known)
            total = max(int(self._done_bytes + (wanted - movies) * average), done)
        left = (total - done) / rate if total is not None and rate > 0 and movies < (wanted or 0) else None
        return Progress(movies, wanted, done, total, rate, left, self._remark())

    def _remark(self) -> str:
        held = self._transfer.held_elsewhere()
        if held:
            return "waiting for %s, which another run is fetching" % held[0]
        if not self._have and not self._pending and self._finder.folders_listed:
            return "%d folders looked through" % self._finder.folders_listed
        return ""


def nothing_missing(request: Request, places: Places) -> bool:
    """Whether the record says that all that is asked for is there, so that no connection is needed."""
    facts = record.Facts.read(places.record)
    if facts.begin is None or not request.same_movies_as(facts.begin):
        return False
    if request.gain and any(movie.get(GAIN, "") is None or not _is_answered(facts, movie, request)
                            for movie in facts.movies.values()):
        return False
    names = [reference["name"] for reference in facts.references.values() if reference["name"]]
    if not all(os.path.exists(os.path.join(places.folder, name)) for name in names):
        return False
    if not all(is_there(places, name, movie) for name, movie in facts.movies.items()):
        return False
    if request.amount is not None and len(facts.movies) >= request.amount:
        return True
    return bool(facts.end and facts.end["exhausted"] and facts.end["complete"] and not facts.left_out)


def is_there(places: Places, name: str, movie: Dict[str, Any]) -> bool:
    """Whether a movie of the record still lies where it was put, and is as long as it was then."""
    try:
        size = os.path.getsize(os.path.join(places.folder, name))
    except OSError:
        return False
    # What a packed file has become only its own header knows.
    unpacked = split_compression(movie["path"])[1] and not split_compression(name)[1]
    return bool(unpacked) or size == movie["bytes"]


def _is_answered(facts: record.Facts, movie: Dict[str, Any], request: Request) -> bool:
    """Whether it is known which gain reference, of those asked for now, belongs to a movie."""
    found = facts.reference(GAIN, movie)
    return found is not None and not found.get("failed") \
        and _pattern_of(found, facts.begin or {}) == request.gain_pattern


def _pattern_of(reference: Dict[str, Any], begin: Dict[str, Any]) -> str:
    """The gain pattern that a reference was searched with; version 1.0.0 wrote it down for the whole run only."""
    return reference.get("pattern", begin.get("gain_pattern", ""))


def _size_of(header: Optional[Header]) -> Size:
    return None if header is None else (header.width, header.height)
