# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked for, and where it goes."""
import functools
import hashlib
import os
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Optional

from ..archive.entry import Entry, ImageSet
from ..archive.errors import DiskError
from ..archive.kinds import Kind
from ..archive.names import is_safe, split_compression, split_path
from ..transfer.parts import PREFIX
from .record.events import Began
from .users import note_use


@dataclass(frozen=True)
class Request:
    """What the user asked for."""
    entry: Entry
    image_set: ImageSet
    amount: Optional[int]           # of what the kind counts, None for all of the image set
    file_pattern: str = ""
    gain: bool = True
    gain_pattern: str = ""
    unpack: bool = True             # decompress .bz2, .gz, .xz
    companions: bool = True         # the files that tell of the images
    particles_file: str = ""        # name or path of the one that describes particles, '' for the likeliest
    registered: bool = True         # whether Scipion is to read the files, which knows few of the packed ones

    @property
    def kind(self) -> Kind:
        return self.image_set.kind

    @property
    def wants_gain(self) -> bool:
        return self.gain and self.kind.gain

    @property
    def unpacks(self) -> bool:
        # What Scipion does not open stays as the depositor packed it.
        return self.unpack and not self.kind.files_only

    def same_images_as(self, begin: Optional[Began]) -> bool:
        """Whether a record's beginning tells of the same images under the same names; their number may differ."""
        return begin is None or all(getattr(begin, key) in (None, value) for key, value in self.identity().items())

    def identity(self) -> Dict[str, Any]:
        return {"entry": self.entry.number, "image_set": self.image_set.number, "pattern": self.file_pattern.strip(),
                "unpack": self.unpack, "particles_file": self.particles_file.strip()}


@dataclass(frozen=True)
class Places:
    """Where files go on the local disk."""
    folder: str                     # where the run expects its files, under their local names
    record: str                     # the record's path
    shared: str = ""                # where files stay for other runs too; the run then links to them
    foreign: FrozenSet[str] = frozenset()   # names in the folder that came in another way, and stay as they are
    reserved: FrozenSet[str] = frozenset()  # names in the folder that the run has for itself

    def stored(self, entry: Entry, path: str, name: str, unpacked: bool) -> str:
        """Where the bytes of a remote file go: in the shared folder it is the archive's own tree below the entry."""
        if not self.shared:
            return os.path.join(self.folder, name)
        parts = split_path(split_compression(path)[0] if unpacked else path)
        if not all(is_safe(part) for part in parts):
            msg = "%s of %s is not safe as a path below the download folder: leave that empty." % (
                ascii(path), entry.name)
            raise DiskError(msg)
        return _apart_by_case(os.path.join(self.shared, entry.number, *parts))

    def note_use(self, request: Request) -> None:
        """Say in the shared folder, where there is one, that this run uses it. Raises DiskError."""
        if self.shared:
            note_use(self.shared, request.entry.number, self.folder)

    def has_shared(self, request: Request, path: str) -> bool:
        """Whether the shared folder, where there is one, has a remote file already."""
        return bool(self.shared) and os.path.exists(self.stored(request.entry, path, "", request.unpacks))

    def refuse_foreign(self, name: str) -> None:
        """Raises DiskError where a file of that name would be replaced, or taken for the archive's."""
        if name.partition(os.sep)[0] in self.foreign and os.path.lexists(os.path.join(self.folder, name)):
            msg = "%s was in %s before and did not come from the entry: choose another folder, or move it away." % (
                name, self.folder)
            raise DiskError(msg)

    def link(self, stored: str, name: str) -> None:
        """Make the run's own name for a file that lies in the shared folder."""
        if not self.shared:
            return
        target = os.path.join(self.folder, name)
        # Replaced in one step: a reader finds the old link or the new one.
        temporary = os.path.join(os.path.dirname(target), ".link.%s" % os.path.basename(name))
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.lexists(temporary):
                os.remove(temporary)
            os.symlink(os.path.abspath(stored), temporary)
            os.replace(temporary, target)
        except OSError as error:
            msg = "No link can be made in %s (%s): leave the download folder empty to keep the files in the run." % (
                self.folder, (error.strerror or str(error)).lower())
            raise DiskError(msg) from error


def _apart_by_case(path: str) -> str:
    """The path, or another name where another file has it already on a disk that takes upper and lower case for the
    same (SMB, NTFS, macOS): 'mov_a.mrc' beside 'Mov_A.mrc'."""
    folder, name = os.path.split(path)
    part = os.path.join(folder, PREFIX + name)
    if not (os.path.lexists(path) or os.path.lexists(part)) or not _ignores_case(folder):
        return path
    stored = {other[len(PREFIX):] if other.startswith(PREFIX) else other for other in os.listdir(folder)}
    if name in stored:
        return path
    stem, ending = os.path.splitext(name)
    return os.path.join(folder, "%s.%s%s" % (stem, hashlib.sha1(os.fsencode(name)).hexdigest()[:8], ending))


@functools.lru_cache(maxsize=None)
def _ignores_case(folder: str) -> bool:
    """Whether a file in a folder that exists is found by its name in other letters, too."""
    other = next((name for name in os.listdir(folder) if name.swapcase() != name), None)
    return other is not None and other.swapcase() not in os.listdir(folder) \
        and os.path.lexists(os.path.join(folder, other.swapcase()))
