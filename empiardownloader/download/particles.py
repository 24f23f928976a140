# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that describes the particles of an image set, and which of its rows belong to which stack.

Depositors give RELION's .star files as they were in their own project: the stacks have the paths that they had there.
A stack of the archive is the one of the .star file with which it shares the most of its path, counted from its end.
"""
from array import array
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from ..archive.names import split_compression
from ..archive.selection import RemoteFile
from ..images.header import BadImageError
from ..images.star import BadStarError, Table, read_rows, split_image
from ..transfer.jobs import Outcome

IMAGE_NAME = "rlnImageName"
# So many .star files are looked at before the stacks are taken without one.
MOST_TRIED = 5
NAMED = 3           # files named in a sentence


@dataclass
class ParticleFile:
    """A .star file whose rows name images in stacks; rows are known by their offset in bytes."""
    path: str
    table: Table
    optics: List[Dict[str, str]]            # rows of the optics groups, where there are some
    rows: Dict[str, "array[int]"] = field(default_factory=dict)     # path of a stack as it is named -> rows

    @classmethod
    def read(cls, path: str) -> "ParticleFile":
        """Raises BadImageError for what describes no particles in stacks."""
        found: Optional[ParticleFile] = None
        optics: List[Dict[str, str]] = []
        column = -1
        try:
            for table, offset, words in read_rows(path):
                if table.name.lower() == "optics":
                    optics.append(table.row(words))
                    continue
                if found is None and IMAGE_NAME in table.columns:
                    found = cls(path, table, optics)
                    column = table.columns.index(IMAGE_NAME)
                if found is not None and table is found.table:
                    index, stack = split_image(words[column])
                    if index is not None:
                        found.rows.setdefault(stack, array("Q")).append(offset)
        except BadStarError as error:
            raise BadImageError(str(error)) from error
        if found is None or not found.rows:
            msg = "it names no images in stacks (column %s)" % IMAGE_NAME
            raise BadImageError(msg)
        return found

    @property
    def particles(self) -> int:
        return sum(len(rows) for rows in self.rows.values())


@dataclass(frozen=True)
class Matches:
    """Which stack of the archive is which of a .star file."""
    names: Dict[str, str]               # path in the archive -> path in the .star file
    missing: Tuple[str, ...]            # named, and not in the archive
    ambiguous: Tuple[str, ...]          # named, and as much like one file as like another


def match_stacks(named: Iterable[str], paths: Iterable[str]) -> Matches:
    by_tail: Dict[Tuple[str, ...], List[str]] = {}
    for path in paths:
        parts = _parts(path)
        for count in range(1, len(parts) + 1):
            by_tail.setdefault(tuple(parts[-count:]), []).append(path)
    claims: Dict[str, List[Tuple[int, str]]] = {}
    missing, ambiguous = [], []
    for name in named:
        parts = _parts(name)
        count = next((count for count in range(len(parts), 0, -1) if tuple(parts[-count:]) in by_tail), 0)
        alike = by_tail.get(tuple(parts[-count:]), []) if count else []
        if not alike:
            missing.append(name)
        elif len(alike) > 1:
            ambiguous.append(name)
        else:
            claims.setdefault(alike[0], []).append((count, name))
    names = {}
    for path, its in claims.items():
        its.sort(reverse=True)
        if len(its) > 1 and its[0][0] == its[1][0]:
            ambiguous += [name for _, name in its]
        else:
            names[path] = its[0][1]
            missing += [name for _, name in its[1:]]
    return Matches(names, tuple(missing), tuple(ambiguous))


class ParticleSearch:
    """Finds, among some .star files, those that describe the stacks of an image set: the first that names some of them,
    and others for those that it does not name."""

    def __init__(self, candidates: Sequence[RemoteFile], stacks: Sequence[RemoteFile], note: Callable[[str], None]):
        """``candidates``: the likeliest first; ``note`` takes sentences for the user."""
        self._left = list(candidates[:MOST_TRIED])
        self._stacks = [stack.path for stack in stacks]
        self._note = note
        self.others = [file.path for file in candidates]
        self.files: List[RemoteFile] = []           # those that fit
        self.stacks: Dict[str, Tuple[str, str]] = {}    # path of a stack -> path of its file, its name there
        self.failed = False             # whether a likelier one could not be had, and may be the next time

    @property
    def settled(self) -> bool:
        return not self._left or len(self.stacks) == len(self._stacks)

    def next(self) -> Optional[RemoteFile]:
        return None if self.settled else self._left[0]

    def took(self, file: RemoteFile, outcome: Outcome, came: bool) -> None:
        """What became of a candidate; ``came``: it could be looked at."""
        self._left.remove(file)
        complaint = outcome.error
        self.failed = self.failed or (bool(complaint) and not came)
        if not complaint:
            matches = match_stacks(outcome.header.rows, self._stacks)
            new = {path: name for path, name in matches.names.items() if path not in self.stacks}
            if new:
                self.files.append(file)
                self.others.remove(file.path)
                self.stacks.update((path, (file.path, name)) for path, name in new.items())
                self._tell(file.path, outcome.header, matches)
            elif not self.files:
                complaint = "it names no stack that is in the archive" if not matches.ambiguous else \
                    "its stacks (%s) may be more than one file of the archive" % ", ".join(matches.ambiguous[:NAMED])
        if complaint:
            self._note("%s does not describe the particles: %s." % (
                file.path, complaint.replace(file.path, "the file")))
        undescribed: Set[str] = set(self._stacks) - set(self.stacks)
        if self.settled and self.files and undescribed:
            self._note("%d stacks are not downloaded, for %s does not name them (%s)." % (
                len(undescribed), " and ".join(one.path for one in self.files),
                ", ".join(sorted(undescribed)[:NAMED])))

    def _tell(self, path: str, particles: ParticleFile, matches: Matches) -> None:
        for names, why in ((matches.missing, "are not in the archive"),
                           (matches.ambiguous, "may be more than one file of the archive")):
            if names:
                rows = sum(len(particles.rows[name]) for name in names)
                self._note("%d of the %d stacks that %s names %s (%s): their %d particles are left out." % (
                    len(names), len(particles.rows), path, why, ", ".join(names[:NAMED]), rows))


def _parts(path: str) -> List[str]:
    """The parts of a path, the last without packing and with one ending for all that MRC stacks have."""
    parts = [part for part in path.replace("\\", "/").split("/") if part]
    name = split_compression(parts[-1])[0].lower() if parts else ""
    return parts[:-1] + [name[:-1] if name.endswith(".mrcs") else name]
