# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a run: what they are called here, where they go, which are under way, and who asked for them."""
import os
from typing import Any, Callable, Dict, NamedTuple, Optional, Set

from ..archive.names import LocalNames, split_compression
from ..archive.selection import RemoteFile
from ..transfer.jobs import Job, Outcome
from ..transfer.parts import most_name_bytes
from .record.facts import Facts
from .request import Places, Request

SPARE_NAME_BYTES = 20       # what parts and links put in front of a name and behind it


class Collector:
    """Requests and receives files of one kind; the thread that runs the download calls it."""

    def take(self, file: RemoteFile, name: str, outcome: Outcome) -> None:
        """What became of a file that it has asked for; ``name`` is the local one."""
        raise NotImplementedError


class UnderWay(NamedTuple):
    collector: Collector
    file: RemoteFile
    name: str


class Files:
    """Names and places; an entry's folders become parts of one name."""

    def __init__(self, request: Request, places: Places, facts: Facts, folder: Callable[[], Optional[str]]):
        """``folder``: of the image set, '' for the entry's own, None as long as it is not known."""
        self._request, self._places, self._facts, self._folder = request, places, facts, folder
        self._names = LocalNames(places.reserved, most_name_bytes(places.folder) - SPARE_NAME_BYTES)
        for name, path in facts.names.items():
            self._names.keep(path, name)
        self._under_way: Dict[str, UnderWay] = {}       # by local path

    def image_name(self, file: RemoteFile) -> str:
        kind, folder = self._request.kind, self._folder()
        below = _below(file.path, folder) if folder else os.path.basename(file.path)
        if kind.files_only:
            return self._names.name(file.path, below, as_it_is=True)
        below = split_compression(below)[0] if self._request.unpacks else below
        stem, ending = os.path.splitext(below)
        return self._names.name(file.path, stem + kind.registered_as.get(ending.lower(), ending))

    def other_name(self, file: RemoteFile, unpacked: bool = False) -> str:
        """Of a file that is no image: like an image's, with the folders that tell it from others."""
        below = _below(file.path, self._folder() or "")
        return self._names.name(file.path, split_compression(below)[0] if self._request.unpacks or unpacked else below)

    def name_of(self, path: str) -> str:
        """The name that a file has got."""
        return self._names.name(path, path)

    def path_of(self, name: str) -> str:
        """Where a file of the run lies."""
        return os.path.join(self._places.folder, name)

    def job(self, collector: Collector, file: RemoteFile, name: str, unpack: bool, **more: Any) -> Optional[Job]:
        """The job that fetches a file, None where another file has the same place on the disk.

        ``unpack``: whether a compressed file is decompressed; ``more``: attributes of the Job.
        """
        compression = split_compression(file.path)[1] if unpack else ""
        if name not in self._facts.names:
            self._places.refuse_foreign(name)
        target = self._places.stored(self._request.entry, file.path, name, bool(compression))
        # Where upper and lower case are the same, the one that is under way is there first.
        if target in self._under_way or target.lower() in {other.lower() for other in self._under_way}:
            return None
        self._under_way[target] = UnderWay(collector, file, name)
        return Job(file.path, target, compression, size=file.size, **more)

    def finish(self, outcome: Outcome) -> UnderWay:
        """A job has ended -> who asked for it."""
        done = self._under_way.pop(outcome.job.target)
        if not outcome.error:
            self._places.link(outcome.job.target, done.name)
        return done

    def under_way(self, collector: Collector) -> Set[RemoteFile]:
        """The files that a collector waits for."""
        return {one.file for one in self._under_way.values() if one.collector is collector}

    @property
    def any_under_way(self) -> bool:
        return bool(self._under_way)

    def is_under_way(self, file: RemoteFile) -> bool:
        return any(one.file == file for one in self._under_way.values())


def _below(path: str, folder: str) -> str:
    """('data/Movies/a/x.mrc', 'data/Movies') -> 'a/x.mrc'; the last part of a path that is not below the folder."""
    above = folder + "/" if folder else ""
    return path[len(above):] if path.startswith(above) else os.path.basename(path)
