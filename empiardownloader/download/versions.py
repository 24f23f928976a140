# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether images that came in an earlier run are still those of the archive: entries are replaced now and then."""
import logging
import os
from typing import Any, Callable, Dict, Iterable, List, Set

from ..archive.errors import EntryError, RemoteError
from ..archive.remote import Archive, Connection
from ..archive.selection import RemoteFile
from .record.events import ImageArrived

logger = logging.getLogger(__name__)

COMPARED_BYTES = 16 << 10   # at both ends of an image, to tell whether it is another one by now
NAMED = 3                   # images named in a sentence


class VersionCheck:
    """Compares what is listed with what is here; ``ask`` runs a request on a connection, as Transfer.ask does."""

    def __init__(self, archive: Archive, ask: Callable[..., Any], path_of: Callable[[str], str]):
        """``path_of`` gives the local path of a local name."""
        self._archive, self._ask, self._path_of = archive, ask, path_of
        self._earlier: Dict[str, ImageArrived] = {}     # by path in the archive; emptied once one was compared
        self._listed: Set[str] = set()

    def recall(self, image: ImageArrived) -> None:
        self._earlier[image.path] = image

    def compare_sizes(self, images: Iterable[RemoteFile], here: Dict[str, ImageArrived]) -> None:
        """Raises EntryError where an image that is here has another size in the archive by now."""
        for file in images:
            self._listed.add(file.path)
            image = here.get(file.path)
            if file.size is not None and image is not None and not self._archive.is_size(file.size, image.bytes):
                raise _changed(file.path, "%d bytes then, %d now" % (image.bytes, file.size))

    def compare_bytes(self, images: List[RemoteFile]) -> None:
        """Raises EntryError where an image of an earlier run is another one by now; called by the lister's thread.

        One of them is compared: sizes in listings may be rounded, and another version as large.
        """
        path = next((file.path for file in images if file.path in self._earlier), "")
        if not path:
            return
        image, self._earlier = self._earlier[path], {}
        local = self._path_of(image.name)
        size = os.path.getsize(local) if os.path.isfile(local) else 0

        def ask(connection: Connection) -> str:
            for start in sorted({0, max(0, size - COMPARED_BYTES)}):
                with connection.open(path, start, start + COMPARED_BYTES) as (state, stream):
                    if state.size != image.bytes:
                        return "%d bytes then, %d now" % (image.bytes, state.size)
                    if size != image.bytes:
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
            difference = self._ask(ask, persistent=False)
        except RemoteError as error:
            logger.warning("Whether %s has changed in the archive since it came is not known (%s).", path, error)
            return
        if difference:
            raise _changed(path, difference)

    def tell_gone(self, here: Iterable[str]) -> str:
        """A sentence about images that are here and were not listed, '' where there are none."""
        gone = sorted(set(here) - self._listed) if self._listed else []
        if not gone:
            return ""
        return "%d images that are here are not in the archive any more (%s): its entry has changed since they came, " \
               "perhaps they have other names now." % (len(gone), ", ".join(gone[:NAMED]))


def _changed(path: str, difference: str) -> EntryError:
    return EntryError("%s has changed in the archive since it was downloaded (%s), so the rest would not go with what "
                      "is here: choose Restart, or another folder, for the new version." % (path, difference))
