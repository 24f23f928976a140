# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry's images into a folder, in one call; requests is all it needs."""
import contextlib
import os
import re
import threading
from typing import Callable, Iterator, Optional

from .. import constants
from ..archive import metadata
from ..archive.entry import parse_entry_id
from ..archive.errors import DiskError, EntryError
from ..archive.remote import AUTOMATIC, Archive
from ..archive.remote.choice import open_archive
from ..archive.selection import MovieFinder, RemoteFile
from ..archive.sessions import NEVER
from ..images.header import Header, read_header
from ..transfer.jobs import Settings
from . import record
from .download import Download, nothing_missing
from .progress import Progress
from .request import Places, Request


def fetch(entry: str, folder: str, images: Optional[int] = 1, image_set: str = "", file_pattern: str = "",
          gain: bool = True, gain_pattern: str = "", unpack: bool = True, transport: str = AUTOMATIC,
          connections: int = 4, stopped: threading.Event = NEVER,
          on_progress: Callable[[Progress], None] = lambda progress: None) -> record.Facts:
    """Bring the first ``images`` movies of an entry, and their gain reference, into a folder.

    ``images`` None stands for all. What is there already is not fetched again; after any interruption the same call
    goes on. The addresses are those of the configuration variables where the environment has them. ``stopped`` ends
    it, from any thread.

    -> what has happened: ``movies`` (by local name: 'path' in the archive, 'bytes'), ``left_out``, ``notes``.
    Raises ArchiveError, whose text is one sentence for the user.
    """
    number = parse_entry_id(entry)
    with _refused(folder, "made"):
        os.makedirs(folder, exist_ok=True)
    with _refused(folder, "written"):
        found = _metadata(number, folder, stopped)
        chosen = found.entry.image_set(image_set)
        request = Request(found.entry, chosen, images, file_pattern, gain, gain_pattern, unpack)
        places = Places(folder, os.path.join(folder, ".empiar-%s-%d.jsonl" % (number, chosen.number)))
        facts = record.Facts.read(places.record)
        if facts.movies and not request.same_movies_as(facts.begin or {}):
            msg = "%s holds movies of %s that were chosen in another way (pattern or decompression): choose another " \
                  "folder." % (folder, found.entry.name)
            raise EntryError(msg)
        if nothing_missing(request, places):
            return facts
        archive = _archive(number, transport, stopped)
        return Download(request, archive, places, Settings(connections=connections), stopped, _read_header,
                        on_progress).run()


def list_images(entry: str, image_set: str = "", file_pattern: str = "", transport: str = AUTOMATIC,
                stopped: threading.Event = NEVER) -> Iterator[RemoteFile]:
    """The movies of an image set as the archive lists them, without fetching any. Raises ArchiveError."""
    number = parse_entry_id(entry)
    found = _metadata(number, "", stopped)
    chosen = found.entry.image_set(image_set)
    archive = _archive(number, transport, stopped)
    connection = archive.connect(stopped=stopped)
    try:
        finder = MovieFinder(found.entry, chosen, lambda folder, expected: connection.list_folder(folder), file_pattern)
        yield from finder.movies()
    finally:
        connection.close()


@contextlib.contextmanager
def _refused(folder: str, what: str) -> Iterator[None]:
    """What the file system refuses, as a sentence."""
    try:
        yield
    except OSError as error:
        msg = "The folder %s cannot be %s (%s): choose another." % (folder, what, (error.strerror or "").lower())
        raise DiskError(msg) from error


def _metadata(number: str, folder: str, stopped: threading.Event) -> metadata.Metadata:
    path = os.path.join(folder, ".empiar-%s.json" % number) if folder else ""
    return metadata.obtain(path, number, address(constants.EMPIAR_API_URL), address(constants.EMDB_API_URL), stopped)


def _archive(number: str, transport: str, stopped: threading.Event) -> Archive:
    return open_archive(number, address(constants.EMPIAR_FTP_URL), address(constants.EMPIAR_HTTPS_URL), transport,
                        stopped=stopped)


def address(variable: str) -> str:
    """A configuration variable: the environment's value, else the default."""
    return os.environ.get(variable) or constants.VARIABLES[variable][0]


def _read_header(path: str) -> Optional[Header]:
    # Gatan's files are for Scipion's reader.
    return None if re.search(r"\.dm[34]$", path.lower()) else read_header(path)
