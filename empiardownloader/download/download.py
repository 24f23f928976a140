# SPDX-License-Identifier: GPL-3.0-or-later
"""An image set onto the disk: its first images and what belongs to them, found, fetched and recorded."""
import contextlib
import functools
import logging
import os
import posixpath
import random
import threading
import time
from collections import Counter, deque
from dataclasses import replace
from typing import Callable, Deque, Dict, List, Optional, Set, Tuple, Union

from ..archive.errors import EntryError, RemoteError, StoppedError, TransientError
from ..archive.kinds import MOVIES, TILT_SERIES
from ..archive.mdoc import MAX_MDOC_BYTES
from ..archive.names import LocalNames, split_compression
from ..archive.remote import HTTPS, Archive, Connection, Listing
from ..archive.remote.texts import read_from
from ..archive.selection import GAIN, ImageFinder, RemoteFile
from ..images.header import BadImageError, Header, read_header
from ..transfer.jobs import PENDING, Job, Outcome, Pending, Settings
from ..transfer.parts import most_name_bytes
from ..transfer.ranges import MOST_SIZE_DOUBTS
from ..transfer.transfer import Transfer
from .complete import is_there, missing_companions
from .looks import Looks
from .particles import ParticleFile, ParticleSearch
from .progress import Progress, Rate, format_bytes
from .record.events import (
    Began,
    BytesArrived,
    DescriptionChosen,
    Ended,
    Event,
    FileArrived,
    FileSkipped,
    ImageArrived,
    Keys,
    NoteMade,
    SidecarArrived,
    Size,
)
from .record.facts import Facts, RecordState
from .record.log import RecordWriter
from .references import References, pattern_of
from .request import Places, Request
from .scout import Scout, Wanted
from .series import Tilts
from .space import bytes_in_parts, bytes_needed, check_space

logger = logging.getLogger(__name__)

# Scipion's Movie knows a compressed file by this ending only.
REGISTERED_COMPRESSED = (".bz2",)
PROGRESS_SECONDS = 1        # between two reports of progress
SPARE_NAME_BYTES = 20       # what parts and links put in front of a name and behind it
COMPARED_BYTES = 16 << 10   # at both ends of an image, to tell whether it is another one by now
GONE_TOLD = 3               # images named that are in the archive no more
HISTORY_SECONDS = 10        # between two points of the download's history
# What a job is for, references (their kinds) apart.
IMAGE, COMPANION, DESCRIPTION = "image", "sidecar file", "description"


class Download:
    """One run of a download. What happens goes to the record; see record/events.py."""

    def __init__(self, request: Request, archive: Archive, places: Places, settings: Settings,
                 cancelled: threading.Event, header_reader: Callable[[str], Header] = read_header,
                 on_progress: Callable[[Progress], None] = lambda progress: None):
        self._request = request
        self._kind = request.kind
        self._archive = archive
        self._places = places
        self._cancelled = cancelled
        self._looks = Looks(request, header_reader)
        self._on_progress = on_progress
        self._transfer = Transfer(archive, settings, cancelled, self._other_file)
        self._finder = ImageFinder(request.entry, request.image_set, self._list, request.file_pattern,
                                   request.gain_pattern)
        self._scout = Scout(self._finder, request, self._read_text, self._may_lack_names, self._transfer.wake,
                            self._refuse_changed)
        self._earlier: Dict[str, ImageArrived] = {}         # those of an earlier run, by remote path
        # Of images; where series are counted, the list ends with the last one.
        self._amount = None if self._kind == TILT_SERIES else request.amount
        self._listed: Deque[Wanted] = deque()       # not looked at yet
        self._later: Deque[Wanted] = deque()        # looked at, not wanted then
        self._names = LocalNames(places.reserved, most_name_bytes(places.folder) - SPARE_NAME_BYTES)
        self._state = RecordState.read(places.record)
        self._record: Optional[RecordWriter] = None
        self._whole: Dict[str, str] = {}            # their local names
        self._blocked: Deque[Wanted] = deque()      # those whose place is taken now
        self._have: Set[str] = set()                # remote paths of the images that are whole
        self._passed: Set[str] = set()              # remote paths seen in this run
        self._unseen: Set[str] = set()              # remote paths of whole images whose belongings are to be looked for
        self._pending: Dict[str, Tuple[str, RemoteFile, str]] = {}    # target -> (kind, remote file, local name)
        self._keys: Dict[str, Keys] = {}            # by remote path
        self._references = References(request, self._state, self._note, self._reference_name, self._looks.digests)
        self._keys_of_folder: Dict[str, Keys] = {}
        self._listed_paths: Set[str] = set()        # of images, in this run
        self._companions: Deque[RemoteFile] = deque()       # to be fetched
        self._search: Optional[ParticleSearch] = None
        self._looked_at: Set[str] = set()           # files that came and may describe the particles
        self._tilts = Tilts(places.folder, self._state, self._note, self._local_name)
        self._end_of_list = self._space_checked = self._size_seen = self._unpacked_checked = False
        self._refused_told = 0
        self._done_bytes = 0
        self._reported = self._history_point = 0.0
        self._rate = Rate()

    def run(self) -> Facts:
        """Fetch what is missing; the facts of the record at the end.

        Raises ArchiveError for what ends the run and EntryError when the image set has no image.
        """
        self._record = RecordWriter(self._places.record)
        try:
            self._recall()
            self._note(Began(self._archive.transport, self._archive.server, **self._request.identity(),
                             amount=self._request.amount, gain=self._request.gain,
                             gain_pattern=self._request.gain_pattern, companions=self._request.companions,
                             foreign=tuple(sorted(self._places.foreign))))
            try:
                self._transfer.run(self._next_job, self._take, self._tick)
            finally:
                self._scout.close()
            if not self._cancelled.is_set():
                self._references.settle(last=True)
                self._tell_notes()
                self._tell_gone()
            self._tell_refused()
            self._tick(now=True)
            self._note(Ended(complete=self._is_complete(),
                             exhausted=self._end_of_list and not self._later and not self._scout.limited,
                             stopped=self._cancelled.is_set()))
        finally:
            self._record.close()
        return self._state.snapshot()

    # -------------------------- what to fetch next -----------------------

    def _next_job(self) -> Union[Job, Pending, None]:
        job = self._next_belonging()
        if job is not None:
            return job
        while self._amount_open() or self._unseen:
            found = self._next_image()
            if not isinstance(found, Wanted):
                return found
            if found.path in self._unseen or self._has_other_keys(found.path, found.keys):
                self._look_again(found)
            if found.path in self._keys:
                self._keys[found.path] = found.keys     # on its way; a second look may have shown more candidates
            if found.path in self._have or found.path in self._passed or not self._has_room():
                if found.path not in self._have and found.path not in self._passed:
                    self._later.append(found)
                self._tilts.begin(found.series)
                job = self._next_belonging()
                if job is not None:
                    return job
                continue
            self._passed.add(found.path)
            self._keys[found.path] = found.keys
            job = self._job(IMAGE, found.file, self._local_name(found.file))
            if job is None:
                # It is being tried as a reference; it may turn out to be an image.
                self._passed.discard(found.path)
                self._blocked.append(found)
                continue
            self._tilts.begin(found.series)
            self._companions.extend(found.companions)
            if not self._space_checked:
                self._space_checked = True
                self._check_space()
            return job
        return self._next_belonging()

    def _next_belonging(self) -> Optional[Job]:
        """The next file that goes with the images."""
        under_way = {pending for _, pending, _ in self._pending.values()}
        for kind, file in self._references.next(under_way):
            job = self._job(kind, file, self._reference_name(file), urgent=True)
            if job is not None:
                return job
            self._references.has_no_place(file)
        while self._companions:
            file = self._companions.popleft()
            job = self._job(COMPANION, file, self._local_name(file)) if file not in under_way else None
            if job is not None:
                return job
        return None

    def _amount_open(self) -> bool:
        return self._has_room() and not (self._end_of_list and not self._later)

    def _has_room(self) -> bool:
        """Whether fewer images than asked for are whole or on their way."""
        return self._amount is None or len(self._have) + self._images_under_way() < self._amount

    def _images_under_way(self) -> int:
        return sum(kind == IMAGE for kind, _, _ in self._pending.values())

    def _next_image(self) -> Union[Wanted, Job, Pending, None]:
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
            self._refuse_other_version(batch.images)
            self._looks.listed(batch.images)
            keys = self._references.begin(batch.references)
            self._keys_of_folder.update((image.folder, keys) for image in batch.images)
            self._listed.extend(wanted for wanted in batch.wanted(keys) if self._is_described(wanted.file))
            if batch.descriptions and self._search is None:
                self._search = ParticleSearch(batch.descriptions, batch.images, self._note_text)
        if self._search is not None and not self._search.settled:
            return self._next_description()
        return self._listed.popleft()

    def _next_description(self) -> Union[Job, Pending]:
        """The next file that may describe the particles; the stacks wait for it, for it says which of them count."""
        file = self._search.next()
        if any(kind == DESCRIPTION for kind, _, _ in self._pending.values()):
            return PENDING
        job = self._job(DESCRIPTION, file, self._reference_name(file, unpacked=True), urgent=True)
        if job is None:
            msg = "%s of %s and one of its stacks would have the same place: say another file pattern." % (
                file.path, self._request.entry.name)
            raise EntryError(msg)
        return job

    def _is_described(self, file: RemoteFile) -> bool:
        """Whether nothing describes the particles so far, or it names this stack."""
        return self._search is None or not self._search.files or file.path in self._search.stacks

    def _read_description(self, path: str, local: str) -> ParticleFile:
        self._looked_at.add(path)
        return ParticleFile.read(local)

    def _look_again(self, found: Wanted) -> None:
        """An image of an earlier run gets what the form asks for now."""
        self._unseen.discard(found.path)
        self._companions.extend(file for file in found.companions if file.path not in self._state.companions)
        self._tilts.begin(found.series)
        if self._request.wants_gain:
            self._regroup(found.path, found.keys)

    def _regroup(self, path: str, keys: Keys) -> None:
        """A movie of an earlier run gets the references that the form asks for now."""
        event = self._state.images[self._whole[path]]
        size = event.size or self._size_on_disk(event.name)
        self._note(replace(event, size=size, keys={**event.keys, **keys}))
        self._references.want(keys, size)

    def _has_other_keys(self, path: str, keys: Keys) -> bool:
        """Whether the folders show other candidates for a whole movie than they did when it came."""
        event = self._state.images.get(self._whole.get(path, ""))
        return event is not None and any(event.keys.get(kind, key) != key for kind, key in keys.items())

    def _may_lack_names(self) -> bool:
        promised = self._request.image_set.num_images
        return self._archive.transport == HTTPS and (
            promised is None or len(self._finder.known) < promised or self._scout.lacking)

    def _local_name(self, file: RemoteFile) -> str:
        folder = self._finder.folder
        below = file.path[len(folder) + 1:] if folder and file.path.startswith(folder + "/") else \
            os.path.basename(file.path)
        if self._kind.files_only:
            return self._names.name(file.path, below, as_it_is=True)
        below = split_compression(below)[0] if self._request.unpacks else below
        stem, ending = os.path.splitext(below)
        return self._names.name(file.path, stem + self._kind.endings.get(ending.lower(), ending))

    def _reference_name(self, file: RemoteFile, unpacked: bool = False) -> str:
        # A session's own reference is called like its movies, with the folders that tell it from the others'.
        below = self._finder.folder + "/" if self._finder.folder else ""
        name = file.path[len(below):] if file.path.startswith(below) else os.path.basename(file.path)
        return self._names.name(file.path, split_compression(name)[0] if self._request.unpacks or unpacked else name)

    def _job(self, kind: str, file: RemoteFile, name: str, urgent: bool = False) -> Optional[Job]:
        """None where another file has the same place on the disk."""
        compression = split_compression(file.path)[1]
        # What describes particles is read by ourselves.
        if not self._request.unpacks and kind != DESCRIPTION:
            if kind == IMAGE and self._request.registered and not self._kind.files_only and compression \
                    and (compression not in REGISTERED_COMPRESSED or self._kind != MOVIES):
                msg = "The %s of %s are %s files, which Scipion cannot register as they are: let them be " \
                      "decompressed." % (self._kind.files, self._request.entry.name, compression)
                raise EntryError(msg)
            compression = ""
        if name not in self._state.names:
            self._places.refuse_foreign(name)
        target = self._places.stored(self._request.entry, file.path, name, bool(compression))
        # Where upper and lower case are the same, the one that is on its way is there first.
        if target in self._pending or target.lower() in {other.lower() for other in self._pending}:
            return None
        self._pending[target] = (kind, file, name)
        if kind == COMPANION:
            return Job(file.path, target, compression, size=file.size)
        if kind == DESCRIPTION:
            return Job(file.path, target, compression, functools.partial(self._read_description, file.path), urgent,
                       file.size)
        if kind != IMAGE:
            return Job(file.path, target, compression, functools.partial(self._looks.reference, target), urgent,
                       file.size)
        if compression:
            return Job(file.path, target, compression, self._looks.image, size=file.size)
        return Job(file.path, target, check=self._looks.image, size=file.size,
                   look=functools.partial(self._looks.begin, file.path),
                   doubtful=functools.partial(self._looks.is_doubtful, file.path))

    # -------------------------- what became of it -----------------------

    def _take(self, outcome: Outcome) -> None:
        kind, file, name = self._pending.pop(outcome.job.target)
        self._later.extend(self._blocked)
        self._blocked.clear()
        if not outcome.error:
            self._places.link(outcome.job.target, name)
        if kind == IMAGE:
            self._take_image(file, name, outcome)
        elif kind == COMPANION:
            self._note(SidecarArrived("" if outcome.error else name, file.path, outcome.error))
        elif kind == DESCRIPTION:
            self._take_description(file, name, outcome)
        else:
            self._references.took(file, outcome)
            if not outcome.error:
                self._note(FileArrived(name, file.path))
                self._take_back(file, outcome)
        self._references.settle()

    def _refuse_other_version(self, images: List[RemoteFile]) -> None:
        """Raises EntryError where an image that came in an earlier run has another size in the archive by now."""
        for file in images:
            self._listed_paths.add(file.path)
            event = self._state.images.get(self._whole.get(file.path, ""))
            if file.size is not None and event is not None and not self._archive.is_size(file.size, event.bytes):
                raise _changed(file.path, "%d bytes then, %d now" % (event.bytes, file.size))

    def _refuse_changed(self, images: List[RemoteFile]) -> None:
        """Raises EntryError where an image that came in an earlier run is another one in the archive by now; called by
        the scout's thread. One of them is compared: sizes in listings may be rounded, and another version as large."""
        path = next((file.path for file in images if file.path in self._earlier), "")
        if not path:
            return
        event, self._earlier = self._earlier[path], {}
        local = os.path.join(self._places.folder, event.name)
        size = os.path.getsize(local) if os.path.isfile(local) else 0

        def ask(connection: Connection) -> str:
            for start in sorted({0, max(0, size - COMPARED_BYTES)}):
                with connection.open(path, start, start + COMPARED_BYTES) as (state, stream):
                    if state.size != event.bytes:
                        return "%d bytes then, %d now" % (event.bytes, state.size)
                    if size != event.bytes:
                        return ""       # it is unpacked here
                    came = bytearray()
                    while len(came) < min(COMPARED_BYTES, size - start):
                        block = stream.read(COMPARED_BYTES - len(came))
                        if not block:
                            return ""
                        came += block
                with open(local, "rb") as stream_here:
                    stream_here.seek(start)
                    if stream_here.read(len(came)) != bytes(came):
                        return "as many bytes, but others"
            return ""

        try:
            difference = self._transfer.ask(ask, persistent=False)
        except StoppedError:
            raise
        except RemoteError as error:
            logger.warning("Whether %s has changed in the archive since it came is not known (%s).", path, error)
            return
        if difference:
            raise _changed(path, difference)

    def _tell_gone(self) -> None:
        """Images of earlier runs that the archive does not list any more: its entry has changed."""
        if not self._end_of_list or self._scout.limited or not self._listed_paths:
            return
        gone = sorted(set(self._whole) - self._listed_paths)
        if gone:
            self._note(NoteMade("%d images that are here are not in the archive any more (%s): its entry has changed "
                                "since they came, perhaps they have other names now." % (
                                    len(gone), ", ".join(gone[:GONE_TOLD]))))

    def _take_back(self, file: RemoteFile, outcome: Outcome) -> None:
        """What was fetched as a reference and has the frames of a movie is one: its name alone spoke against it."""
        header, folder = outcome.header, self._finder.folder
        keys = self._keys_of_folder.get(file.folder) or next(iter(self._keys_of_folder.values()), None)
        if header is None or header.frames < 2 or keys is None or not self._kind.stacks or file.path in self._passed \
                or folder is None or not file.path.startswith(folder + "/" if folder else ""):
            return
        self._finder.note("%s is taken for a movie although its name is like that of a reference: it has %d frames." % (
            file.path, header.frames))
        self._later.append(Wanted(file, keys, [], None))

    def _take_image(self, file: RemoteFile, name: str, outcome: Outcome) -> None:
        if outcome.error:
            logger.warning("%s is left out: %s.", file.path, outcome.error)
            self._note(FileSkipped(file.path, outcome.error))
            return
        self._have.add(file.path)
        self._whole[file.path] = name
        self._done_bytes += outcome.size
        size = _size_of(outcome.header) or self._promised_size()
        keys = self._keys.pop(file.path)
        star, stack = None, ""
        if self._search is not None and file.path in self._search.stacks:
            star, stack = self._search.stacks[file.path]
            star = self._names.name(star, star)
        self._note(ImageArrived(name, file.path, outcome.size, outcome.found, size,
                                outcome.header.frames if outcome.header else None, star, stack, keys))
        self._references.want(keys, size)
        logger.info("%s: %s, %s.", name, "was there already" if outcome.found else "downloaded",
                    format_bytes(outcome.size))
        if outcome.job.compression and not self._unpacked_checked:
            # Only now it is known what the files become.
            self._unpacked_checked = True
            self._check_space(os.path.getsize(outcome.job.target))

    def _take_description(self, file: RemoteFile, name: str, outcome: Outcome) -> None:
        self._search.took(file, outcome, file.path in self._looked_at)
        if not outcome.error:
            self._note(FileArrived(name, file.path))
        if not self._search.settled:
            return
        files = self._search.files
        self._note(DescriptionChosen(
            names=tuple(self._names.name(one.path, one.path) for one in files), paths=tuple(one.path for one in files),
            others=tuple(self._search.others), failed=self._search.failed))
        if files:
            self._listed = deque(wanted for wanted in self._listed if self._is_described(wanted.file))

    def _promised_size(self) -> Size:
        """The movies' size as the metadata has it, where a file does not show its own."""
        image_set = self._request.image_set
        if image_set.width is None or image_set.height is None:
            return None
        return image_set.width, image_set.height

    def _tell_notes(self) -> None:
        notes = list(self._finder.notes)
        notes += ["%s could not be read (%s): what it tells is missing; Continue asks again." % unread
                  for unread in self._finder.unread.items()]
        notes += ["The folder %s could not be entered (%s): what is in it is missing; Continue asks again." % lost
                  for lost in self._finder.lost.items()]
        promised, found = self._request.image_set.num_images, len({file.path for file in self._finder.known})
        # Of what else than movies and micrographs the entry counts is anybody's guess.
        if self._kind.stacks is not None and self._kind.references and self._end_of_list and found and promised \
                and found != promised and not self._request.file_pattern:
            notes.append("%d %s were found, %s than the %d that the entry says." % (
                found, self._kind.files, "fewer" if found < promised else "more", promised))
        for note in notes:
            self._note(NoteMade(note))

    def _tell_refused(self) -> None:
        for name in self._finder.refused[self._refused_told:]:
            self._note(FileSkipped(name, "its name is not safe as the name of a local file"))
        self._refused_told = len(self._finder.refused)

    def _is_complete(self) -> bool:
        if self._cancelled.is_set() or (self._end_of_list and (self._finder.lost or self._finder.unread)):
            return False
        return self._end_of_list or not self._amount_open()

    def _note(self, event: Event) -> None:
        self._record.add(event)
        self._state.apply(event)

    def _recall(self) -> None:
        """Take over what earlier runs left and still lies where the record says."""
        previous = self._state.begin
        for name, path in self._state.names.items():
            self._names.keep(path, name)
        for key, reference in list(self._state.references.items()):
            gone = reference.name and not os.path.exists(os.path.join(self._places.folder, reference.name))
            other_gain = key.kind == GAIN and pattern_of(reference, previous) != self._request.gain_pattern
            if gone or other_gain or reference.failed or not self._request.same_images_as(previous):
                self._state.forget_reference(key)
        for name, movie in self._state.images.items():
            if not is_there(self._places, name, movie):
                continue
            self._have.add(movie.path)
            self._whole[movie.path] = name
            self._earlier[movie.path] = movie
            self._done_bytes += movie.bytes
            if self._request.wants_gain and self._is_ungrouped(movie):
                self._unseen.add(movie.path)
            if self._request.companions and not (previous and previous.companions):
                self._unseen.add(movie.path)
        if self._request.companions:
            # What was missing beside images that are here is asked for again.
            self._companions.extend(map(RemoteFile, missing_companions(self._state, self._places)))

    def _is_ungrouped(self, movie: ImageArrived) -> bool:
        """Whether it is not known which references belong to a movie, or they are not there any more."""
        return movie.keys.get(GAIN, "") is None or not self._state.is_settled(movie)

    def _size_on_disk(self, name: str) -> Size:
        with contextlib.suppress(BadImageError, OSError):
            return _size_of(self._looks.header(os.path.join(self._places.folder, name))) or self._promised_size()
        return self._promised_size()

    def _other_file(self, path: str) -> str:
        """Another file that the server should have, '' where none is known; called by the transfer's threads.

        One that has come is sure to be there; of those that are only listed any one may be missing, too."""
        others = [image for image in list(self._whole) if image != path][:1] or [
            file.path for file in list(self._finder.known) if file.path != path]
        return random.choice(others) if others else ""

    # -------------------------- listing, space, progress -----------------------

    def _list(self, folder: str, expected: bool) -> Listing:
        """Called by the scout's thread."""
        return self._transfer.list_folder(folder, expected)

    def _read_text(self, path: str) -> str:
        """Called by the scout's thread, for an .mdoc or a file of angles."""
        listing = self._finder.listing_or_lost(posixpath.dirname(path))
        listed = dict(listing.files).get(posixpath.basename(path)) if listing else None
        doubted: "Counter[int]" = Counter()     # sizes that are not the listed one -> how often they were told

        def check(size: int) -> None:
            msg = self._archive.other_size(path, listed, size)
            if msg:
                doubted[size] += 1
                if doubted[size] <= MOST_SIZE_DOUBTS:
                    raise TransientError(msg)

        def ask(connection: Connection) -> str:
            return read_from(connection, path, self._archive.server, MAX_MDOC_BYTES, check)

        return self._transfer.ask(ask, persistent=True)

    def _note_text(self, text: str) -> None:
        logger.warning("%s", text)
        self._note(NoteMade(text))

    def _check_space(self, measured: Optional[int] = None) -> None:
        """Raises DiskError when what is asked for cannot fit; sizes over HTTPS are rounded, so this is an estimate."""
        request, wanted = self._request, self._wanted()
        place = os.path.join(self._places.shared, request.entry.number) if self._places.shared else self._places.folder
        known = list(self._finder.known)
        there = self._have | {file.path for file in known[:wanted] if self._is_shared_already(file)}
        needed = bytes_needed(known, wanted, there, request.image_set, request.unpacks, measured)
        if needed is not None:
            check_space("%d %s of %s" % (wanted, self._kind.files, request.entry.name),
                        needed - bytes_in_parts(place), place)

    def _is_shared_already(self, file: RemoteFile) -> bool:
        return bool(self._places.shared) and os.path.exists(
            self._places.stored(self._request.entry, file.path, "", self._request.unpacks))

    def _wanted(self) -> Optional[int]:
        """How many images are to come, as far as is known."""
        if self._kind.stacks is None and self._amount is None:
            # What the entry counts are particles, or series.
            return len(self._finder.known) if self._end_of_list and not self._scout.limited else None
        return self._amount or self._request.image_set.num_images

    def _take_begun(self) -> None:
        """A movie's size tells which reference fits, and how much is to come, long before the movie is whole."""
        while self._looks.begun:
            path, header, size = self._looks.begun.popleft()
            if header is not None and path in self._keys:
                self._references.want(self._keys[path], _size_of(header))
                self._references.settle()
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
            self._note(BytesArrived(progress.done_bytes, progress.images))

    def progress(self) -> Progress:
        rate = self._rate.update(time.monotonic(), self._transfer.received)
        done = self._done_bytes + self._transfer.under_way()
        last = self._end_of_list and not self._later
        wanted = self._images_under_way() + len(self._have) if last else self._wanted()
        total = None
        images = len(self._have)
        known = [file.size for file in self._finder.known if file.size] if not images else []
        if wanted is not None and (images or known):
            average = self._done_bytes / images if images else sum(known) / len(known)
            total = max(int(self._done_bytes + (wanted - images) * average), done)
        left = (total - done) / rate if total is not None and rate > 0 and images < (wanted or 0) else None
        return Progress(images, wanted, done, total, rate, left, self._remark(), self._kind.files)

    def _remark(self) -> str:
        held = self._transfer.held_elsewhere()
        if held:
            return "waiting for %s, which another run is fetching" % held[0]
        if not self._have and not self._pending and self._finder.folders_listed:
            return "%d folders looked through" % self._finder.folders_listed
        return ""


def _changed(path: str, difference: str) -> EntryError:
    return EntryError("%s has changed in the archive since it was downloaded (%s), so the rest would not go with what "
                      "is here: choose Restart, or another folder, for the new version." % (path, difference))


def _size_of(header: Optional[Header]) -> Size:
    return None if header is None else (header.width, header.height)
