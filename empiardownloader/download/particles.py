# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that describes the particles of an image set, and which of its rows belong to which stack.

Depositors give RELION's .star files as they were in their own project: the stacks have the paths that they had there.
A stack of the archive is the one of the .star file with which it shares the most of its path, counted from its end.
"""
import functools
import logging
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple, Union

from ..archive.errors import EntryError
from ..archive.names import split_compression
from ..archive.selection import RemoteFile
from ..images.header import BadImageError
from ..images.star import BadRow, BadStarError, Table, read_rows, split_image, to_number
from ..transfer.jobs import PENDING, Job, Outcome, Pending
from .files import Collector, Files
from .record.events import DescriptionChosen, Event, FileArrived, NoteMade
from .request import Request

logger = logging.getLogger(__name__)

IMAGE_NAME = "rlnImageName"
OPTICS_GROUP, MICROGRAPH_NAME = "rlnOpticsGroup", "rlnMicrographName"
# After so many .star files in a row that describe nothing more, the rest is not looked at.
MOST_IN_VAIN = 5
FROM_ZERO = "their stack's images are counted from 0, and RELION counts from 1: which is which is not sure"
VIEWS = ("rlnAngleRot", "rlnAngleTilt")
NAMED = 3           # files named in a sentence
# Of these a particle has a number, or it is not believed: without its defocus or its angles it would be another one.
NUMBERS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift", "rlnAngleRot", "rlnAngleTilt",
           "rlnAnglePsi", "rlnOriginX", "rlnOriginY", "rlnOriginXAngst", "rlnOriginYAngst")


@dataclass
class ParticleFile:
    """A .star file whose rows name images in stacks; rows are known by their offset in bytes."""
    path: str
    table: Table
    optics: List[Dict[str, str]]            # rows of the optics groups, where there are some
    rows: Dict[str, "array[int]"] = field(default_factory=dict)     # path of a stack as it is named -> rows
    # What is wrong with rows that are not believed -> how many, and the line of the first.
    unbelieved: Dict[str, Tuple[int, int]] = field(default_factory=dict)
    has_views: bool = False                 # whether any particle is turned out of the plane
    remarks: List[str] = field(default_factory=list)        # sentences with a place for the file's path
    _groups: Optional[Dict[Union[float, str], Dict[str, str]]] = None      # by number, or by name where it is none
    ungrouped: int = 0                      # particles whose optics group the table of optics groups does not have

    @classmethod
    def read(cls, path: str) -> "ParticleFile":
        """Raises BadImageError for what describes no particles in stacks."""
        found: Optional[ParticleFile] = None
        optics: List[Dict[str, str]] = []
        groups: "Counter[str]" = Counter()
        bad: List[BadRow] = []
        from_zero: Set[str] = set()         # stacks of which an image 0 is named
        column = -1
        try:
            for table, offset, words in read_rows(path, bad.append):
                if table.name.lower() == "optics":
                    optics.append(table.row(words))
                    continue
                if found is None and IMAGE_NAME in table.columns:
                    found = cls(path, table, optics)
                    column = table.columns.index(IMAGE_NAME)
                    numbers = [place for place, label in enumerate(table.columns) if label in NUMBERS]
                    views = [place for place, label in enumerate(table.columns) if label in VIEWS]
                    group = table.columns.index(OPTICS_GROUP) if OPTICS_GROUP in table.columns else None
                if found is None or table is not found.table:
                    continue
                index, stack = split_image(words[column])
                if views and not found.has_views:
                    found.has_views = any(to_number(words[place]) for place in views)
                wrong = next((place for place in numbers if to_number(words[place]) is None), None)
                if index is None:
                    found.doubt("they name no image of a stack")
                elif not index:
                    from_zero.add(stack)
                    found.doubt(FROM_ZERO)
                elif wrong is not None:
                    found.doubt("their %s is no number" % table.columns[wrong])
                else:
                    found.rows.setdefault(stack, array("Q")).append(offset)
                    groups[words[group] if group is not None else ""] += 1
        except BadStarError as error:
            raise BadImageError(str(error)) from error
        if found is None:
            # Not one row of it was good.
            found = next((cls(path, row.table, optics) for row in bad if IMAGE_NAME in row.table.columns), None)
        if found is not None:
            for stack in from_zero:
                # Which image the other rows mean is not sure either.
                for _ in found.rows.pop(stack, ()):
                    found.doubt(FROM_ZERO)
            twice = [label for label, count in Counter(found.table.columns).items() if count > 1]
            if twice:
                found.remarks.append("The columns %s stand twice in %%s: the first of them counts." % ", ".join(twice))
            for row in bad:
                if row.table is found.table:
                    found.doubt("they have not one value for each of the %d columns" % len(row.table.columns), row.line)
        if found is None or not found.rows:
            msg = "it names no images in stacks (column %s)" % IMAGE_NAME
            if found is not None and found.unbelieved:
                msg = "none of its rows can be believed: %s" % "; ".join(found.unbelieved)
            raise BadImageError(msg)
        found.ungrouped = sum(count for name, count in groups.items() if not found.group({OPTICS_GROUP: name}))
        return found

    def doubt(self, why: str, line: int = 0) -> None:
        """A row is not believed; ``line`` from 1, where it is known."""
        count, first = self.unbelieved.get(why, (0, line))
        self.unbelieved[why] = count + 1, first

    def group(self, row: Dict[str, str]) -> Dict[str, str]:
        """What the optics group of a row says, {} where there is none for it.

        Groups are compared as numbers, '1.000000' is 1; a row without a group belongs to the only one there is.
        """
        name = row.get(OPTICS_GROUP, "")
        if not name:
            return self.optics[0] if len(self.optics) == 1 else {}
        if self._groups is None:
            self._groups = {_group_key(optics.get(OPTICS_GROUP, "")): optics for optics in reversed(self.optics)}
        return self._groups.get(_group_key(name), {})

    def complaints(self, path: str) -> List[str]:
        """Sentences about rows and groups that do not fit; ``path``: of the file in the archive."""
        said = [remark % path for remark in self.remarks]
        said += ["%d particles of %s are skipped: %s%s." % (
            count, path, why, ", first in line %d" % line if line else "")
            for why, (count, line) in self.unbelieved.items()]
        if self.optics and self.ungrouped:
            said.append("%d particles of %s belong to an optics group that its table of optics groups does not have: "
                        "pixel size and microscope are taken from the form, the entry and EMDB." % (
                            self.ungrouped, path))
        return said

    @property
    def particles(self) -> int:
        return sum(len(rows) for rows in self.rows.values())


def _group_key(name: str) -> Union[float, str]:
    value = to_number(name)
    return name if value is None else value


@dataclass(frozen=True)
class Matches:
    """Which stack of the archive is which of a .star file."""
    names: Dict[str, str]               # path in the archive -> path in the .star file
    missing: Tuple[str, ...]            # named, and not in the archive
    ambiguous: Tuple[str, ...]          # named, and as much like one file as like another


def match_stacks(named: Iterable[str], paths: Iterable[str], star: str = "") -> Matches:
    """Which of the archive's ``paths`` is which stack that the file ``star`` names.

    Where several share as much of a name, the one beside the .star file is it: 'A/all.star' means 'A/x.mrcs'.
    """
    by_tail: Dict[Tuple[str, ...], List[str]] = {}
    for path in paths:
        parts = _parts(path)
        for count in range(1, len(parts) + 1):
            by_tail.setdefault(tuple(parts[-count:]), []).append(path)
    place = tuple(_parts(star)[:-1])
    claims: Dict[str, List[Tuple[int, str]]] = {}
    missing, ambiguous = [], []
    for name in named:
        parts = _parts(name)
        count = next((count for count in range(len(parts), 0, -1) if tuple(parts[-count:]) in by_tail), 0)
        alike = by_tail.get(tuple(parts[-count:]), []) if count else []
        if len(alike) > 1 and star:
            alike = by_tail.get((*place, *parts[-count:]), alike)
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


class Descriptions(Collector):
    """Fetches the file that describes the particles before their stacks, for it says which of these count."""

    def __init__(self, request: Request, files: Files, note: Callable[[Event], None]):
        """``note`` writes an event."""
        self._request, self._files, self._note = request, files, note
        self._search: Optional[ParticleSearch] = None
        self._looked_at: Set[str] = set()       # paths of those that came and may describe the particles

    def begin(self, candidates: Sequence[RemoteFile], stacks: Sequence[RemoteFile]) -> None:
        """``stacks``: all that there are."""
        if candidates and self._search is None:
            self._search = ParticleSearch(candidates, stacks, self._tell)

    @property
    def is_settled(self) -> bool:
        return self._search is None or self._search.settled

    def name(self, path: str) -> Tuple[Optional[str], str]:
        """(local name of the .star file that describes a stack, the stack's name in it); (None, '') where none does."""
        if self._search is None or path not in self._search.stacks:
            return None, ""
        star, stack = self._search.stacks[path]
        return self._files.name_of(star), stack

    def count(self, path: str) -> bool:
        """Whether nothing describes the particles so far, or it names this stack."""
        return self._search is None or not self._search.files or path in self._search.stacks

    def next_job(self) -> Union[Job, Pending]:
        file = None if self._search is None or self._files.under_way(self) else self._search.next()
        if file is None:
            return PENDING
        name = self._files.other_name(file, unpacked=True)
        # It is read by this package, so it is decompressed also where the images are not.
        job = self._files.job(self, file, name, True, urgent=True, check=functools.partial(self._read, file.path))
        if job is None:
            msg = "%s of %s and one of its stacks would have the same place: fill in another file pattern." % (
                file.path, self._request.entry.name)
            raise EntryError(msg)
        return job

    def _read(self, path: str, local: str) -> ParticleFile:
        """Called by the transfer's threads."""
        self._looked_at.add(path)
        return ParticleFile.read(local)

    def take(self, file: RemoteFile, name: str, outcome: Outcome) -> None:
        search = self._search
        assert search is not None
        search.took(file, outcome, file.path in self._looked_at)
        if not outcome.error:
            self._note(FileArrived(name, file.path))
        if search.settled:
            self._note(DescriptionChosen(
                names=tuple(self._files.name_of(one.path) for one in search.files),
                paths=tuple(one.path for one in search.files), others=tuple(search.others), failed=search.failed))

    def _tell(self, text: str) -> None:
        logger.warning("%s", text)
        self._note(NoteMade(text))


class ParticleSearch:
    """Finds, among some .star files, those that describe the stacks of an image set: the first that names some of them,
    and others for those that it does not name."""

    def __init__(self, candidates: Sequence[RemoteFile], stacks: Sequence[RemoteFile], note: Callable[[str], None]):
        """``candidates``: the likeliest first; ``note`` takes sentences for the user."""
        self._left = list(candidates)
        self._in_vain = 0               # candidates in a row that described nothing more
        self._stacks = [stack.path for stack in stacks]
        self._note = note
        self.others = [file.path for file in candidates]
        self.files: List[RemoteFile] = []           # those that fit
        self.stacks: Dict[str, Tuple[str, str]] = {}    # path of a stack -> path of its file, its name there
        self.failed = False             # whether a likelier one could not be had, and may be the next time

    @property
    def settled(self) -> bool:
        return not self._left or self._in_vain >= MOST_IN_VAIN or len(self.stacks) == len(self._stacks)

    def next(self) -> Optional[RemoteFile]:
        return None if self.settled else self._left[0]

    def took(self, file: RemoteFile, outcome: Outcome, came: bool) -> None:
        """What became of a candidate; ``came``: it could be looked at."""
        self._left.remove(file)
        complaint = outcome.error
        self.failed = self.failed or (bool(complaint) and not came)
        self._in_vain += 1
        if not complaint:
            matches = match_stacks(outcome.header.rows, self._stacks, file.path)
            new = {path: name for path, name in matches.names.items() if path not in self.stacks}
            if new:
                self._in_vain = 0
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
        if self._left and self._in_vain >= MOST_IN_VAIN and undescribed:
            self._note("%d .star files in a row described no further stack: the other %d, like %s, were not looked at. "
                       "Name one as particle .star file if it is the right one." % (
                           MOST_IN_VAIN, len(self._left), self._left[0].path))
        if self.settled and self.files and undescribed:
            self._note("%d stacks are not downloaded, for %s does not name them (%s)." % (
                len(undescribed), " and ".join(one.path for one in self.files),
                ", ".join(sorted(undescribed)[:NAMED])))

    def _tell(self, path: str, particles: ParticleFile, matches: Matches) -> None:
        for names, why in ((matches.missing, "are not in the archive"),
                           (matches.ambiguous, "may be more than one file of the archive")):
            if names:
                rows = sum(len(particles.rows[name]) for name in names)
                self._note("%d of the %d stacks that %s names %s (%s): their %d particles are skipped." % (
                    len(names), len(particles.rows), path, why, ", ".join(names[:NAMED]), rows))
        for complaint in particles.complaints(path):
            self._note(complaint)


def _parts(path: str) -> List[str]:
    """The parts of a path, the last without packing and with one ending for all that MRC stacks have."""
    parts = [part for part in path.replace("\\", "/").split("/") if part]
    name = split_compression(parts[-1])[0].lower() if parts else ""
    return parts[:-1] + [name[:-1] if name.endswith(".mrcs") else name]
