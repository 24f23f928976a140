# SPDX-License-Identifier: GPL-3.0-or-later
"""An image set onto the disk: its first images and what belongs to them, found, fetched and recorded.

``Download`` ties the parts together: the lister finds images, the queue says which of them is next, collectors ask for
files and take them, the transfer fetches, and what has happened goes to the record.
"""
import posixpath
import random
import time
from collections import Counter
from typing import Callable, Optional, Union

from ..archive.errors import TransientError
from ..archive.kinds import TILT_SERIES
from ..archive.mdoc import MAX_MDOC_BYTES
from ..archive.remote import Archive, Connection, Listing
from ..archive.remote.texts import read_from
from ..archive.selection import GAIN, ImageFinder, RemoteFile
from ..archive.stopping import StopToken
from ..images.header import Header, read_header
from ..transfer.file import MOST_SIZE_DOUBTS
from ..transfer.jobs import PENDING, Job, Outcome, Pending, Settings
from ..transfer.transfer import Transfer
from ..units import format_seconds
from .complete import is_there, missing_companions
from .files import Files
from .images import Images, Sidecars
from .lister import Batch, Listed, Lister
from .looks import Looks
from .meter import Meter
from .particles import Descriptions
from .progress import Progress
from .queue import ImageQueue
from .record.events import Began, BytesArrived, Ended, Event, FileSkipped, NoteMade
from .record.facts import Facts, RecordState
from .record.log import RecordWriter
from .references import References, pattern_of
from .request import Places, Request
from .series import Tilts
from .versions import VersionCheck

# A silent connection is reported after so many seconds, with so many letters of the reason.
SILENT_SECONDS, FAULT_LETTERS = 20.0, 80
PROGRESS_SECONDS = 1        # between two reports of progress
HISTORY_SECONDS = 10        # between two points of the download's history


class Download:
    """One run of a download.

    One thread runs it: the one that calls ``run``. The lister has a thread of its own, which calls ``_list_folder``,
    ``_read_text``, ``_may_lack_names`` and the version check; the transfer's threads call the header checks and
    ``_other_file``.
    """

    def __init__(self, request: Request, archive: Archive, places: Places, settings: Settings,
                 stop: StopToken, header_reader: Callable[[str], Optional[Header]] = read_header,
                 on_progress: Callable[[Progress], None] = lambda progress: None):
        """Waits for another process that downloads into the same run. Raises ArchiveError."""
        self._request, self._archive, self._places, self._stop = request, archive, places, stop
        self._on_progress = on_progress
        # Before the record is read: what another process adds to it until then counts, too.
        self._record = RecordWriter(places.record)
        try:
            self._wire(request, archive, places, settings, stop, header_reader)
        except BaseException:
            self._record.close()
            raise

    def _wire(self, request: Request, archive: Archive, places: Places, settings: Settings, stop: StopToken,
              header_reader: Callable[[str], Optional[Header]]) -> None:
        self._state = RecordState.read(places.record)
        self._transfer = Transfer(archive, settings, stop, self._other_file)
        self._finder = ImageFinder(request.entry, request.image_set, self._list_folder, request.file_pattern,
                                   request.gain_pattern)
        # Where series are counted, the list ends with the last one.
        self._queue = ImageQueue(None if request.kind == TILT_SERIES else request.amount)
        self._files = Files(request, places, self._state, lambda: self._finder.folder)
        self._looks = Looks(request, header_reader)
        self._meter = Meter(request, places, self._finder, self._queue)
        self._versions = VersionCheck(archive, self._transfer.ask, self._files.path_of)
        self._lister = Lister(self._finder, request, self._read_text, self._may_lack_names, self._transfer.wake,
                              self._versions.compare_bytes)
        self._references = References(request, self._state, self._note, self._files, self._looks)
        self._sidecars = Sidecars(request, self._state, self._files, self._note)
        self._descriptions = Descriptions(request, self._files, self._note)
        self._tilts = Tilts(places.folder, self._state, self._note, self._files.image_name)
        self._images = Images(request, self._state, self._files, self._queue, self._looks, self._meter,
                              self._references, self._sidecars, self._descriptions, self._tilts, self._note)
        self._refused_told = 0
        self._reported = self._history_point = 0.0

    def run(self) -> Facts:
        """Fetch what is missing; the facts of the record at the end.

        Raises ArchiveError for what ends the run and EntryError when the image set has no image.
        """
        try:
            self._recall()
            self._note(Began(self._archive.transport, self._archive.server, **self._request.identity(),
                             amount=self._request.amount, gain=self._request.gain,
                             gain_pattern=self._request.gain_pattern, companions=self._request.companions,
                             foreign=tuple(sorted(self._places.foreign))))
            try:
                self._transfer.run(self._next_job, self._take, self._tick)
            finally:
                self._lister.close()
            if not self._stop.is_set():
                self._references.settle(last=True)
                self._tell_notes()
            self._tell_refused()
            self._tick(now=True)
            self._note(Ended(complete=self._is_complete(),
                             exhausted=self._queue.is_exhausted and not self._lister.limited,
                             stopped=self._stop.is_set()))
        finally:
            self._record.close()
        return self._state.snapshot()

    def _recall(self) -> None:
        """Take over what earlier runs left and still lies where the record says."""
        previous = self._state.begin
        for key, reference in list(self._state.references.items()):
            gone = reference.name and not is_there(self._places, reference.name)
            other_gain = key.kind == GAIN and pattern_of(reference, previous) != self._request.gain_pattern
            if gone or other_gain or reference.failed or not self._request.same_images_as(previous):
                self._state.forget_reference(key)
        for name, image in self._state.images.items():
            if is_there(self._places, name, image):
                self._images.recall(image, had_sidecars=previous is not None and previous.companions)
                self._versions.recall(image)
        if self._request.companions:
            # What was missing beside images that are here is asked for again.
            self._sidecars.want([RemoteFile(path) for path in missing_companions(self._state, self._places)])

    # -------------------------- what to fetch next -----------------------

    def _next_job(self) -> Union[Job, Pending, None]:
        while True:
            job = self._references.next_job() or self._sidecars.next_job()
            if job is not None or not self._queue.is_open:
                return job
            image = self._next_image()
            if not isinstance(image, Listed):
                return image
            job = self._images.begin(image)
            if job is not None:
                return job

    def _next_image(self) -> Union[Listed, Job, Pending, None]:
        while self._queue.is_empty:
            batch = self._lister.next() if not self._queue.ended else None
            if isinstance(batch, Pending):
                return PENDING
            if batch is None:
                # A stop is no end of the list.
                self._queue.ended = not self._stop.is_set()
                self._meter.limited = self._lister.limited
                return None
            self._list(batch)
        if self._descriptions.is_settled or self._queue.has_put_off:
            return self._queue.next()
        return self._descriptions.next_job()

    def _list(self, batch: Batch) -> None:
        self._versions.compare_sizes(batch.images, self._queue.here)
        self._looks.listed(batch.images)
        keys = self._references.begin(batch.references, batch.images)
        self._queue.add(image for image in batch.listed(keys) if self._descriptions.count(image.path))
        self._descriptions.begin(batch.descriptions, batch.images)

    # -------------------------- what became of it -----------------------

    def _take(self, outcome: Outcome) -> None:
        collector, file, name = self._files.finish(outcome)
        self._queue.unblock()
        collector.take(file, name, outcome)
        if collector is self._descriptions and self._descriptions.is_settled:
            self._queue.keep(lambda image: self._descriptions.count(image.path))
        elif collector is self._references and not outcome.error:
            self._take_for_an_image(file, outcome)
        self._references.settle()

    def _take_for_an_image(self, file: RemoteFile, outcome: Outcome) -> None:
        """A file that was fetched as a reference and has several frames is a movie."""
        header, folder, keys = outcome.header, self._finder.folder, self._references.keys_near(file.folder)
        if header is None or header.frames < 2 or keys is None or not self._request.kind.stacks \
                or self._queue.has_begun(file.path) \
                or folder is None or not file.path.startswith(folder + "/" if folder else ""):
            return
        self._finder.note("%s is taken for a movie although its name is like that of a reference: it has %d frames." % (
            file.path, header.frames))
        self._queue.put_off(Listed(file, keys, [], None))

    # -------------------------- what is told -----------------------

    def _note(self, event: Event) -> None:
        self._record.add(event)
        self._state.apply(event)

    def _tell_notes(self) -> None:
        kind, finder = self._request.kind, self._finder
        notes = list(finder.notes)
        notes += ["%s could not be read (%s): what it tells is missing; Continue asks again." % unread
                  for unread in finder.unread.items()]
        notes += ["The folder %s could not be entered (%s): what is in it is missing; Continue asks again." % lost
                  for lost in finder.lost.items()]
        promised, found = self._request.image_set.num_images, len({file.path for file in finder.known})
        # For other kinds it is not known what the entry counts.
        if kind.stacks is not None and kind.references and self._queue.ended and found and promised \
                and found != promised and not self._request.file_pattern:
            notes.append("%d %s were found, %s than the %d that the entry says." % (
                found, kind.files, "fewer" if found < promised else "more", promised))
        if self._queue.ended and not self._lister.limited:
            notes.append(self._versions.tell_gone(self._queue.here))
        for note in filter(None, notes):
            self._note(NoteMade(note))

    def _tell_refused(self) -> None:
        for name in self._finder.refused[self._refused_told:]:
            self._note(FileSkipped(name, "its name is not safe as the name of a local file"))
        self._refused_told = len(self._finder.refused)

    def _is_complete(self) -> bool:
        if self._stop.is_set() or (self._queue.ended and (self._finder.lost or self._finder.unread)):
            return False
        return self._queue.ended or not self._queue.has_room

    def _tick(self, now: bool = False) -> None:
        """Called by the transfer several times a second."""
        self._images.take_begun()
        moment = time.monotonic()
        if not now and moment - self._reported < PROGRESS_SECONDS:
            return
        self._reported = moment
        self._tell_refused()
        progress = self._meter.progress(self._transfer.received, self._transfer.under_way(), self._remark)
        self._on_progress(progress)
        if now or moment - self._history_point >= HISTORY_SECONDS:
            self._history_point = moment
            self._note(BytesArrived(progress.done_bytes, progress.images))

    def _remark(self) -> str:
        held = self._transfer.held_elsewhere()
        if held:
            return "waiting for %s, which another run is fetching" % held[0]
        silent, fault = self._transfer.silence()
        if silent > SILENT_SECONDS:
            return "nothing has come for %s%s, trying again" % (
                format_seconds(silent), " (%s)" % fault[:FAULT_LETTERS] if fault else "")
        if not self._queue.here and not self._files.any_under_way and self._finder.folders_listed:
            return "%d folders looked through" % self._finder.folders_listed
        return ""

    # -------------------------- asked by other threads -----------------------

    def _list_folder(self, folder: str, expected: bool) -> Listing:
        """Called by the lister's thread."""
        return self._transfer.list_folder(folder, expected)

    def _may_lack_names(self) -> bool:
        """Called by the lister's thread."""
        promised = self._request.image_set.num_images
        return self._archive.may_lack_names and (
            promised is None or len(self._finder.known) < promised or self._lister.lacking)

    def _read_text(self, path: str) -> str:
        """Called by the lister's thread, for an .mdoc or a file of angles."""
        listing = self._finder.listing_or_lost(posixpath.dirname(path))
        listed: Optional[int] = dict(listing.files).get(posixpath.basename(path)) if listing else None
        doubted: "Counter[int]" = Counter()     # sizes that are not the listed one -> how often they were told

        def check(size: int) -> None:
            msg = self._archive.other_size(path, listed, size)
            if msg:
                doubted[size] += 1
                if doubted[size] <= MOST_SIZE_DOUBTS:
                    raise TransientError(msg)

        def ask(connection: Connection) -> str:
            return read_from(connection, path, self._archive.server, MAX_MDOC_BYTES, check)

        text: str = self._transfer.ask(ask, persistent=True)
        return text

    def _other_file(self, path: str) -> str:
        """Another file that the server should have, '' where none is known; called by the transfer's threads.

        One that has come is sure to be there; of those that are only listed any one may be missing, too."""
        others = [image for image in list(self._queue.here) if image != path][:1] or [
            file.path for file in list(self._finder.known) if file.path != path]
        return random.choice(others) if others else ""
