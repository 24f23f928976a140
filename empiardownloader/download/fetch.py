# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry's images into a folder, in one call; requests is all it needs."""
import contextlib
import logging
import os
import re
import threading
from typing import Callable, Iterator, Mapping, Optional, Tuple

from ..archive import metadata
from ..archive.entry import Entry, ImageSet
from ..archive.errors import ArchiveError, DiskError, EntryError, RemoteError, UnreachableError
from ..archive.remote import AUTOMATIC, Archive
from ..archive.remote.choice import open_archive
from ..archive.selection import ImageFinder, RemoteFile
from ..archive.stopping import StopToken
from ..archive.workflow import Workflow, fetch_workflow
from ..catalogue.codes import entry_number
from ..constants import addresses
from ..images.header import Header, is_gatan, read_header
from ..transfer.jobs import Settings
from ..transfer.parts import LINKS_ARE_NOT_FOLLOWED, lock
from ..transfer.transfer import Transfer
from .complete import is_there, nothing_missing
from .download import Download
from .progress import Progress
from .record.facts import Facts
from .request import Places, Request

logger = logging.getLogger(__name__)

# An entry may change between two calls for a folder; asked so often, it is a small thing.
METADATA_SECONDS = 24 * 3600
NAMES_TOLD = 3
RECORD = ".empiar-%s-%d.jsonl"
RECORD_NAME = re.compile(r"\.empiar-(\d+)-(\d+)\.jsonl$")


def fetch(entry: str, folder: str, images: Optional[int] = 1, image_set: str = "", file_pattern: str = "",
          gain: bool = True, gain_pattern: str = "", unpack: bool = True, companions: bool = True,
          particles_file: str = "", transport: str = AUTOMATIC, connections: int = 4,
          stopped: Optional[threading.Event] = None,
          on_progress: Callable[[Progress], None] = lambda progress: None, shared: str = "") -> Facts:
    """Bring the first ``images`` images of an entry, and what belongs to them, into a folder.

    ``images`` None stands for all; of tilt series it counts the series. ``companions``: also the files that tell of the
    images (.mdoc, .star, .coord, .box); ``particles_file``: name or path of the .star file that describes particles.
    ``shared``: the download folder of Scipion's runs, to which the files go, as 10200/data/...; ``folder`` has links.
    What is there already is not fetched again; after any interruption the same call goes on. The addresses are those of
    the configuration variables where the environment has them. ``stopped`` ends it, from any thread.

    -> what has happened: ``images`` that are there (by local name: ``path`` in the archive, ``bytes``), ``left_out``,
    ``notes``; ``is_complete(images)`` tells whether all that was asked for has come.
    A folder holds one image set of one entry, and one call at a time fills it. Raises ArchiveError, whose text is one
    sentence for the user, and Stopped.
    """
    stop = StopToken(stopped)
    number = entry_number(entry, addresses(), stop)
    with _refused(folder, "made"):
        os.makedirs(folder, exist_ok=True)
    with _refused(folder, "written"), _alone_in(folder, stop):
        found = metadata_of(number, folder, stop)
        chosen = found.entry.image_set(image_set)
        request = Request(found.entry, chosen, images, file_pattern, gain, gain_pattern, unpack, companions,
                          particles_file, registered=False)
        name = os.path.basename(record_path(folder, found.entry, chosen))
        facts = Facts.read(os.path.join(folder, name))
        _refuse_other_images(folder, name)
        if facts.images and not request.same_images_as(facts.begin):
            msg = "%s holds images of %s that were chosen in another way (pattern or decompression): choose another " \
                  "folder." % (folder, found.entry.name)
            raise EntryError(msg)
        foreign = facts.foreign if facts.begin else [there for there in os.listdir(folder) if there[0] != "."]
        places = Places(folder, os.path.join(folder, name), os.path.abspath(shared) if shared else "",
                        frozenset(foreign))
        places.note_use(request)
        if not nothing_missing(request, places):
            archive = open_entry(number, transport, stop)
            facts = Download(request, archive, places, Settings(connections=connections), stop, _read_header,
                             on_progress).run()
        return facts.plain({name: movie for name, movie in facts.images.items() if is_there(places, name, movie)})


def list_images(entry: str, image_set: str = "", file_pattern: str = "", transport: str = AUTOMATIC,
                stopped: Optional[threading.Event] = None) -> Iterator[RemoteFile]:
    """The images of an image set as the archive lists them, without fetching any.

    Raises ArchiveError, at the end also for folders that could not be entered.
    """
    stop = StopToken(stopped)
    with listing(entry, image_set, file_pattern, transport, stop) as (finder, _, _):
        for image in finder.images():
            stop.check()
            yield image
    if finder.refused:
        logger.warning("%d names are not safe as names of local files and not listed: %s", len(finder.refused),
                       ", ".join(finder.refused[:NAMES_TOLD]))
    for lost in finder.lost.items():
        msg = "The folder %s could not be entered (%s): what is in it is missing." % lost
        raise UnreachableError(msg)


@contextlib.contextmanager
def listing(entry: str, image_set: str, file_pattern: str, transport: str, stop: StopToken,
            where: Optional[Mapping[str, str]] = None,
            gain_pattern: str = "") -> "Iterator[Tuple[ImageFinder, metadata.Metadata, Archive]]":
    """What lists the images of an image set, the metadata of its entry, and where its files are; ``where``: the
    archives' addresses, None for those of the environment.

    Raises ArchiveError and Stopped.
    """
    where = where or addresses()
    number = entry_number(entry, where, stop)
    found = metadata_of(number, "", stop, where)
    chosen = found.entry.image_set(image_set)
    archive = open_entry(number, transport, stop, where)
    transfer = Transfer(archive, Settings(connections=1), stop)
    try:
        yield ImageFinder(found.entry, chosen, transfer.list_folder, file_pattern, gain_pattern), found, archive
    finally:
        transfer.pool.close()
        archive.close()


def about(entry: str, stopped: Optional[threading.Event] = None,
          transport: str = AUTOMATIC) -> Tuple[metadata.Metadata, Optional[Workflow], str]:
    """What the archives say of an entry; its depositors' workflow, None where there is none that can be read; and a
    sentence why it cannot, '' where none was deposited.

    Raises ArchiveError and Stopped.
    """
    stop = StopToken(stopped)
    number = entry_number(entry, addresses(), stop)
    found = metadata_of(number, "", stop)
    if not found.entry.workflow_file:
        return found, None, ""
    try:
        return found, fetch_workflow(found.entry, addresses(), transport, stop), ""
    except (ArchiveError, RemoteError) as error:
        return found, None, str(error)


@contextlib.contextmanager
def _alone_in(folder: str, stop: StopToken) -> Iterator[None]:
    """Wait until no other call fills the folder. Raises Stopped."""
    path = os.path.join(folder, ".empiar-lock")
    # A link that somebody has laid under that name is not followed.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | LINKS_ARE_NOT_FOLLOWED, 0o666)
    with open(descriptor, "w") as stream:
        told = False
        while True:
            try:
                lock(stream.fileno(), path)
                break
            except BlockingIOError:
                if not told:
                    logger.warning("Another command is filling %s: waiting until it has ended.", folder)
                    told = True
            stop.pause(0.2)
        yield


def _refuse_other_images(folder: str, name: str) -> None:
    """Names in a folder tell nothing of the entry, so that those of another one would be taken for this one's."""
    for other in sorted(os.listdir(folder)):
        found = RECORD_NAME.match(other)
        if found and other != name and Facts.read(os.path.join(folder, other)).names:
            msg = "%s holds images of EMPIAR-%s already (image set no. %s): choose another folder." % (
                folder, found.group(1), found.group(2))
            raise EntryError(msg)


@contextlib.contextmanager
def _refused(folder: str, what: str) -> Iterator[None]:
    """What the file system refuses, as a sentence."""
    try:
        yield
    except OSError as error:
        msg = "The folder %s cannot be %s (%s): choose another." % (folder, what, (error.strerror or "").lower())
        raise DiskError(msg) from error


def record_path(folder: str, entry: Entry, image_set: ImageSet) -> str:
    """Where ``fetch`` keeps what has happened in a folder."""
    return os.path.join(folder, RECORD % (entry.number, image_set.number))


def metadata_of(number: str, folder: str, stop: StopToken,
                where: Optional[Mapping[str, str]] = None) -> metadata.Metadata:
    """Of an entry; ``folder``: where they are kept, '' for nowhere; ``where``: as ``listing`` has it.

    Raises ArchiveError and Stopped.
    """
    path = os.path.join(folder, ".empiar-%s.json" % number) if folder else ""
    return metadata.obtain(path, number, where or addresses(), stop, METADATA_SECONDS)


def open_entry(number: str, transport: str, stop: StopToken, where: Optional[Mapping[str, str]] = None) -> Archive:
    """The files of an entry. Raises ArchiveError and Stopped."""
    return open_archive(number, where or addresses(), transport, stop=stop, patience=Settings.give_up)


def _read_header(path: str) -> Optional[Header]:
    # Gatan's files are for Scipion's reader.
    return None if is_gatan(path) else read_header(path)
