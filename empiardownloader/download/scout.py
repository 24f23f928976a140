# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks through the entry's folders beside the download, no further than is asked for."""
import concurrent.futures
import logging
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Optional, Union

from ..archive.errors import EntryError, RemoteError, StoppedError, UnreachableError
from ..archive.selection import MovieFinder, RemoteFile
from ..transfer.jobs import PENDING, Pending

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """The movies of a folder, and the candidates for their references: kind -> files, the likeliest first."""
    movies: List[RemoteFile]
    references: Dict[str, List[RemoteFile]]


class Scout:
    """A thread of its own for the listings: a slow one holds up neither the files under way nor a stop."""

    def __init__(self, finder: MovieFinder, with_references: bool, look_again: Callable[[], bool],
                 wake: Callable[[], None]):
        """``look_again``: whether, at the end of the list, the server may have kept names from us; ``wake`` is called
        when there is something new."""
        self._finder = finder
        self._with_references = with_references
        self._look_again = look_again
        self._wake = wake
        self._batches = self._walk()
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "scout")
        self._asked: Optional["concurrent.futures.Future[Optional[Batch]]"] = None

    def next(self) -> Union[Batch, Pending, None]:
        """The next movies, PENDING while they are being looked for, None when there are no more.

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
        except StoppedError:
            return None
        except RemoteError as error:
            msg = "The folders of the entry cannot be listed (%s): check the network, then Continue." % error
            raise UnreachableError(msg) from error

    def close(self) -> None:
        self._executor.shutdown(wait=True)

    def _walk(self) -> Iterator[Batch]:
        yield from self._once()
        if self._look_again():
            # One of the load-balanced HTTPS servers may not show every file; the next may.
            self._finder.forget()
            try:
                yield from self._once()
            except StoppedError:
                raise
            except (EntryError, RemoteError) as error:
                # What was found the first time stands.
                logger.warning("The folders could not be listed a second time (%s).", error)

    def _once(self) -> Iterator[Batch]:
        for movies in self._finder.batches():
            folder = movies[0].folder
            references = self._references(folder)
            kept: List[RemoteFile] = []
            for movie in movies:
                # Files that only looked like references come at the end, from several folders.
                if movie.folder != folder:
                    yield Batch(kept, references)
                    folder, kept = movie.folder, []
                    references = self._references(folder)
                kept.append(movie)
            yield Batch(kept, references)

    def _references(self, folder: str) -> Dict[str, List[RemoteFile]]:
        return self._finder.references(folder) if self._with_references else {}
