# SPDX-License-Identifier: GPL-3.0-or-later
"""The images themselves: which is fetched next, with which references, and what is written down when it has come."""
import contextlib
import functools
import logging
from collections import deque
from dataclasses import replace
from typing import Callable, Deque, Dict, List, Optional

from ..archive.errors import EntryError
from ..archive.kinds import MOVIES
from ..archive.names import split_compression
from ..archive.selection import GAIN, RemoteFile
from ..images.header import BadImageError, Header
from ..transfer.jobs import Job, Outcome
from ..units import format_bytes
from .files import Collector, Files
from .lister import Listed
from .looks import Looks
from .meter import Meter
from .particles import Descriptions
from .queue import ImageQueue
from .record.events import Event, FileSkipped, ImageArrived, Keys, SidecarArrived, Size
from .record.facts import Facts
from .references import References
from .request import Request
from .series import Tilts

logger = logging.getLogger(__name__)

# Scipion's Movie knows a compressed file by this ending only.
REGISTERED_COMPRESSED = (".bz2",)


class Sidecars(Collector):
    """The files that tell of images, fetched with them."""

    def __init__(self, request: Request, facts: Facts, files: Files, note: Callable[[Event], None]):
        """``note`` writes an event."""
        self._request, self._facts, self._files, self._note = request, facts, files, note
        self._wanted: Deque[RemoteFile] = deque()

    def want(self, files: List[RemoteFile]) -> None:
        self._wanted.extend(files)

    def want_missing(self, files: List[RemoteFile]) -> None:
        """Those that no earlier run has asked for."""
        self._wanted.extend(file for file in files if file.path not in self._facts.companions)

    def next_job(self) -> Optional[Job]:
        while self._wanted:
            file = self._wanted.popleft()
            job = None if self._files.is_under_way(file) else self._files.job(
                self, file, self._files.image_name(file), self._request.unpacks)
            if job is not None:
                return job
        return None

    def take(self, file: RemoteFile, name: str, outcome: Outcome) -> None:
        self._note(SidecarArrived("" if outcome.error else name, file.path, outcome.error))


class Images(Collector):
    """Begins the images of the queue, and takes them."""

    def __init__(self, request: Request, facts: Facts, files: Files, queue: ImageQueue, looks: Looks, meter: Meter,
                 references: References, sidecars: Sidecars, descriptions: Descriptions, tilts: Tilts,
                 note: Callable[[Event], None]):
        """``note`` writes an event."""
        self._request, self._facts, self._files, self._queue = request, facts, files, queue
        self._looks, self._meter, self._note = looks, meter, note
        self._references, self._sidecars, self._descriptions, self._tilts = references, sidecars, descriptions, tilts
        self._keys: Dict[str, Keys] = {}        # of the images under way, by path in the archive

    def recall(self, image: ImageArrived, had_sidecars: bool) -> None:
        """An image of an earlier run, which is here."""
        incomplete = (self._request.wants_gain and self._is_ungrouped(image)) or (
            self._request.companions and not had_sidecars)
        self._queue.recall(image, incomplete)
        self._meter.done_bytes += image.bytes

    def _is_ungrouped(self, movie: ImageArrived) -> bool:
        """Whether it is not known which references belong to a movie, or they are not there any more."""
        return movie.keys.get(GAIN, "") is None or not self._facts.is_settled(movie)

    def begin(self, image: Listed) -> Optional[Job]:
        """The job for a listed image, None where it is not to be fetched now."""
        path, here = image.path, self._queue.here.get(image.path)
        if here is not None and (path in self._queue.incomplete or _has_other_keys(here, image.keys)):
            self._look_again(here, image)
        if path in self._keys:
            self._keys[path] = image.keys       # it is under way; a second look may have shown more candidates
        if not self._queue.wants(image):
            self._tilts.begin(image.series)
            return None
        job = self._job(image.file)
        if job is None:
            self._queue.block(image)
            return None
        self._queue.begin(path)
        self._keys[path] = image.keys
        self._tilts.begin(image.series)
        self._sidecars.want(image.companions)
        self._meter.begin_image()
        return job

    def _look_again(self, here: ImageArrived, image: Listed) -> None:
        """An image of an earlier run gets what the form asks for now."""
        self._queue.incomplete.discard(image.path)
        self._sidecars.want_missing(image.companions)
        if self._request.wants_gain:
            again = replace(here, size=here.size or self._size_on_disk(here.name), keys={**here.keys, **image.keys})
            self._queue.here[image.path] = again
            self._note(again)
            self._references.want(image.keys, again.size)

    def _job(self, file: RemoteFile) -> Optional[Job]:
        request, looks = self._request, self._looks
        compression = split_compression(file.path)[1]
        if compression and not request.unpacks and request.registered and not request.kind.files_only \
                and (compression not in REGISTERED_COMPRESSED or request.kind != MOVIES):
            msg = "The %s of %s are %s files, which Scipion cannot register as they are: let them be decompressed." % (
                request.kind.files, request.entry.name, compression)
            raise EntryError(msg)
        name = self._files.image_name(file)
        if compression and request.unpacks:
            # Its first bytes show nothing of the image.
            return self._files.job(self, file, name, True, check=looks.image)
        return self._files.job(
            self, file, name, False, check=looks.image, look=functools.partial(looks.begin, file.path),
            doubtful=functools.partial(looks.is_doubtful, file.path))

    def take(self, file: RemoteFile, name: str, outcome: Outcome) -> None:
        keys = self._keys.pop(file.path)
        if outcome.error:
            logger.warning("%s is skipped: %s.", file.path, outcome.error)
            self._queue.skip(file.path)
            self._note(FileSkipped(file.path, outcome.error))
            return
        size = _size_of(outcome.header) or self._promised_size()
        star, stack = self._descriptions.name(file.path)
        image = ImageArrived(name, file.path, outcome.size, outcome.found, size,
                             outcome.header.frames if outcome.header else None, star, stack, keys)
        self._queue.arrive(image)
        self._meter.done_bytes += outcome.size
        self._note(image)
        self._references.want(keys, size)
        logger.info("%s: %s, %s.", name, "was there already" if outcome.found else "downloaded",
                    format_bytes(outcome.size))
        if outcome.job.compression:
            self._meter.see_unpacked(outcome.job.target)

    def take_begun(self) -> None:
        """A movie's size tells which reference fits, and how much is to come, long before the movie is whole."""
        while self._looks.begun:
            path, header, size = self._looks.begun.popleft()
            if header is not None and path in self._keys:
                self._references.want(self._keys[path], _size_of(header))
                self._references.settle()
            self._meter.see_size(size)

    def _promised_size(self) -> Size:
        """The movies' size as the metadata has it, where a file does not show its own."""
        image_set = self._request.image_set
        if image_set.width is None or image_set.height is None:
            return None
        return image_set.width, image_set.height

    def _size_on_disk(self, name: str) -> Size:
        with contextlib.suppress(BadImageError, OSError):
            return _size_of(self._looks.header(self._files.path_of(name))) or self._promised_size()
        return self._promised_size()


def _has_other_keys(here: ImageArrived, keys: Keys) -> bool:
    """Whether the folders show other candidates for a whole movie than they did when it came."""
    return any(here.keys.get(kind, key) != key for kind, key in keys.items())


def _size_of(header: Optional[Header]) -> Size:
    return None if header is None else (header.width, header.height)
