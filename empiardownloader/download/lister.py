# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists the entry's images beside the download, no further than is asked for."""
import concurrent.futures
import itertools
import threading
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, List, Optional, Tuple, Union

from ..archive.errors import EntryError, RemoteError, Stopped, UnreachableError
from ..archive.kinds import MOVIES, PARTICLES, TILT_SERIES
from ..archive.selection import ImageFinder, RemoteFile
from ..archive.series import ReadText, Series, SeriesFinder
from ..transfer.jobs import PENDING, Pending
from .record.events import Keys
from .request import Request

# Before each second look at folders that lack what the entry promises, until one succeeds.
SETTLE_SECONDS = (2.0, 5.0, 15.0)


@dataclass
class Listed:
    """A listed image: the keys of the searches for its references, and the files that tell of it."""
    file: RemoteFile
    keys: Keys
    companions: List[RemoteFile]
    series: Optional[Series]

    @property
    def path(self) -> str:
        return self.file.path


@dataclass(frozen=True)
class Batch:
    """Images of a folder, or of a tilt series, and what belongs to them."""
    images: List[RemoteFile]
    references: Dict[str, List[RemoteFile]]         # gain or dark -> candidates, the likeliest first
    companions: Dict[str, List[RemoteFile]] = field(default_factory=dict)      # path of an image -> files
    series: Optional[Series] = None
    # Candidates for the file that describes the particles; then the images are all that there are.
    descriptions: Tuple[RemoteFile, ...] = ()

    def listed(self, keys: Keys) -> List[Listed]:
        """``keys``: of the searches for the references."""
        return [Listed(image, keys, self.companions.get(image.path, []), self.series) for image in self.images]


class Lister:
    """A thread of its own for the listings: a slow one holds up neither the files under way nor a stop."""

    def __init__(self, finder: ImageFinder, request: Request, read_text: ReadText, look_again: Callable[[], bool],
                 wake: Callable[[], None], check: Callable[[List[RemoteFile]], None]):
        """``look_again``: whether, at the end of the list, the server may have kept names from us; ``wake`` is called
        when there is something new, ``check`` with images before they are given, and may raise."""
        self._finder = finder
        self._request = request
        self._read_text = read_text
        self.limited = False        # whether there is more in the entry than what was asked for
        self.lacking = False        # whether a file that is named is not in the entry, as far as its listing shows
        self._look_again = look_again
        self._wake = wake
        self._check = check
        self._batches = self._walk()
        self._closed = threading.Event()
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "lister")
        self._asked: Optional["concurrent.futures.Future[Optional[Batch]]"] = None

    def next(self) -> Union[Batch, Pending, None]:
        """The next images, PENDING while they are being looked for, None when there are no more.

        Raises what the finder raises.
        """
        if self._asked is None:
            self._asked = self._executor.submit(next, self._batches, None)
            self._asked.add_done_callback(lambda future: self._wake())
        if not self._asked.done():
            return PENDING
        asked, self._asked = self._asked, None
        try:
            return asked.result()
        except Stopped:
            return None
        except RemoteError as error:
            msg = "The folders of the entry cannot be listed (%s): check the network, then Continue." % error
            raise UnreachableError(msg) from error

    def close(self) -> None:
        self._closed.set()
        self._executor.shutdown(wait=True)

    def _walk(self) -> Iterator[Batch]:
        yield from self.batches()
        if not self._look_again():
            return
        # One of the load-balanced HTTPS servers may not show every file; the next may, or the same one soon.
        first = list(self._finder.known)
        problem: Optional[Exception] = None
        for seconds in SETTLE_SECONDS if self._request.image_set.num_images is not None else (0.0,):
            if self._closed.wait(seconds):
                return
            self._finder.forget()
            try:
                yield from self.batches()
                return
            except (EntryError, RemoteError) as error:
                problem = error
        # What was found the first time stands.
        self._finder.known[:] = first
        self._finder.note("The folders could not be listed a second time (%s)." % problem)

    def batches(self) -> Iterator[Batch]:
        """The images, and what belongs to them, listed once, in the caller's thread. Raises what the finder raises."""
        for images, series, descriptions in self._groups():
            self._check(images)
            # Most are of one folder; files that only looked like references come at the end, from several.
            batches = [self._batch(list(its), series)
                       for _, its in itertools.groupby(images, key=lambda image: image.folder)]
            if descriptions:
                companions = {path: files for batch in batches for path, files in batch.companions.items()}
                yield Batch(images, {}, companions, None, descriptions)
            else:
                yield from batches

    def _groups(self) -> Iterator[Tuple[List[RemoteFile], Optional[Series], Tuple[RemoteFile, ...]]]:
        request = self._request
        if request.kind == PARTICLES and (request.companions or request.particles_file):
            # Which stack is which of the file that describes them can be told when all are known.
            images = [image for batch in self._finder.batches() for image in batch]
            found = self._finder.describing(images, request.particles_file.strip())
            if request.particles_file.strip() and not found:
                self._finder.note('No file of %s matches the particle .star file "%s": the stacks are registered as '
                                  "they are." % (request.entry.name, request.particles_file.strip()))
            yield images, None, tuple(found)
        elif request.kind == TILT_SERIES or (request.kind == MOVIES and request.companions):
            declared = request.kind == TILT_SERIES
            finder = SeriesFinder(self._finder, self._read_text, declared, request.amount if declared else None)
            for images, series in finder.batches():
                self.lacking = finder.lacking
                yield images, series, ()
            self.limited = finder.limited
        else:
            for images in self._finder.batches():
                yield images, None, ()

    def _batch(self, images: List[RemoteFile], series: Optional[Series]) -> Batch:
        references = self._finder.references(images[0].folder) if self._request.wants_gain else {}
        companions = self._finder.companions(images, series is None) if self._request.companions else {}
        if series is not None and series.mdoc:
            # Written anew for the run, see series.py.
            companions = {path: [file for file in files if not file.path.endswith(".mdoc")]
                          for path, files in companions.items()}
        return Batch(images, references, companions, series)
