# SPDX-License-Identifier: GPL-3.0-or-later
"""What a shared download folder holds, and who uses it: by the notes that runs leave there, and by their links."""
import contextlib
import fcntl
import os
import re
import stat
import threading
import time
from dataclasses import dataclass, field
from typing import Dict, List, Set, Tuple

from ..archive.errors import EntryError, Stopped
from ..transfer.parts import JOURNAL, PREFIX, UNPACKED_PREFIX
from .users import (
    NOTES,
    SYSTEM,
    Stamp,
    Use,
    and_above,
    is_below,
    links_in,
    noted_uses,
    projects_below,
    steps_of,
)

DIGITS = 9                  # of an entry's number
DEPTH = 4                   # folders below one that is given, in which projects are looked for
# A part that was written so shortly ago is of a download that goes on.
UNDER_WAY_SECONDS = 600
RUN_IN_PATH = re.compile(r".*/Runs/[^/]+", re.DOTALL)
# What data/ is called while a deletion may still be taken back, and after that.
ASIDE, GOING = ".empiar-aside", ".empiar-deleted"


@dataclass
class Kept:
    """One entry's part of a download folder."""
    number: str
    folder: str
    files: int = 0
    bytes: int = 0
    half: int = 0                               # files that are not whole, of downloads that were interrupted
    is_filled: bool = False                     # somebody downloads into it at the moment
    runs: Set[str] = field(default_factory=set)     # folders of runs that use it
    unknown: Set[str] = field(default_factory=set)  # runs of which cannot be seen from here whether they still do
    has_notes: bool = False                     # whether runs have said that they use it
    notes: Set[Stamp] = field(default_factory=set)  # the files in which they did
    linked: str = ""                            # a folder of it that is a link: its files are elsewhere
    links: List[List[str]] = field(default_factory=list)    # where the links in it lead to, step by step
    inodes: Set[Tuple[int, int]] = field(default_factory=set)

    def know(self, path: str) -> None:
        """A file, or what it leads to, and a folder are known again under other names."""
        for look in (os.lstat, os.stat):
            with contextlib.suppress(OSError):
                state = look(path)
                self.inodes.add((state.st_dev, state.st_ino))

    @property
    def is_half_deleted(self) -> bool:
        return any(os.path.isdir(os.path.join(self.folder, name)) for name in (ASIDE, GOING))

    @property
    def has_no_known_use(self) -> bool:
        """Whether runs have left notes, and all of these are deleted. Others may use it all the same: runs of version
        1.1, programs that are none of Scipion's; so an entry is deleted only when it is named."""
        return self.has_notes and not self.runs and not self.unknown and not self.is_filled


@dataclass
class Survey:
    """What was looked at."""
    entries: Dict[str, Kept]
    projects: int = 0
    runs: int = 0
    blind: List[str] = field(default_factory=list)      # folders that could not be read
    empty: List[str] = field(default_factory=list)      # of those that were given, those without a project
    tops: Set[Tuple[int, int]] = field(default_factory=set)     # device and inode of the folder, and of those above


def survey(folder: str, projects: List[str], stopped: threading.Event) -> Survey:
    """The entries in a download folder, by number, and who uses them. Raises EntryError where there is none, or where
    it cannot be read; Stopped."""
    try:
        return _survey(folder, projects, stopped)
    except OSError as error:
        msg = "%s cannot be read (%s): give this command to an account that may." % (
            error.filename or folder, (error.strerror or str(error)).lower())
        raise EntryError(msg) from error


def _survey(folder: str, projects: List[str], stopped: threading.Event) -> Survey:
    names = [name for name in sorted(os.listdir(folder), key=_by_number) if _by_number(name)
             and any(os.path.isdir(os.path.join(folder, name, each)) for each in ("data", ASIDE, GOING))]
    if not names:
        msg = "%s holds no entries: give the download folder of the form, in which they are as 10200/data/..." % folder
        raise EntryError(msg)
    found = Survey({})
    for name in names:
        found.entries[name] = _kept(name, os.path.join(folder, name), found.blind, stopped)
    tops = tuple({os.path.abspath(folder), os.path.realpath(folder)})
    for above in and_above(tops[0]):
        state = os.stat(above)
        found.tops.add((state.st_dev, state.st_ino))
    seen: Set[str] = set()
    for given in projects:
        is_empty = True
        for project in projects_below(given, DEPTH, found.blind):
            is_empty = False
            if os.path.realpath(project) not in seen:
                seen.add(os.path.realpath(project))
                found.runs += _look_at(os.path.abspath(project), found, tops, stopped)
        if is_empty:
            found.empty.append(given)
    found.projects = len(seen)
    for entry in found.entries.values():
        for steps in entry.links:
            for other in _led_to(steps, found, tops):
                if other is not entry:
                    other.unknown.add("links in %s" % entry.folder)
    return found


def _kept(name: str, folder: str, blind: List[str], stopped: threading.Event) -> Kept:
    kept = Kept(name, folder)
    kept.linked = next(iter(_mounts_in(os.path.realpath(folder))), "")
    kept.linked = folder if os.path.islink(folder) else kept.linked
    for current, folders, names in os.walk(folder, onerror=lambda error: blind.append(str(error.filename))):
        folders[:] = [each for each in folders if each != NOTES]
        kept.know(current)
        for path in (os.path.join(current, each) for each in folders if os.path.islink(os.path.join(current, each))):
            kept.linked = kept.linked or path
            kept.links.append(steps_of(path))
            _know_linked(kept.links[-1][-1], kept, blind, stopped)
        for path in (os.path.join(current, each) for each in names):
            check(stopped)
            try:
                state = os.lstat(path)
            except FileNotFoundError:
                continue            # finished, or given up, this moment
            is_part = os.path.basename(path).startswith((PREFIX, UNPACKED_PREFIX))
            kept.files += 1
            kept.half += is_part and not path.endswith(JOURNAL)
            if is_part and (abs(time.time() - state.st_mtime) < UNDER_WAY_SECONDS or _is_locked(path, kept)):
                kept.is_filled = True
            kept.bytes += state.st_blocks * 512
            kept.know(path)
            if stat.S_ISLNK(state.st_mode):
                kept.links.append(steps_of(path))
    uses = noted_uses(folder)
    kept.has_notes = uses is not None
    kept.notes.update(use.note for use in uses or ())
    kept.runs.update(_run_of(use.run) for use in uses or () if use.state == Use.USED)
    kept.unknown.update("%s on %s" % (_run_of(use.run), use.host or "?") for use in uses or ()
                        if use.state == Use.UNKNOWN)
    return kept


def _know_linked(real: str, kept: Kept, blind: List[str], stopped: threading.Event) -> None:
    """Whoever uses the files of a linked folder by their own names uses the entry; and what they lead to, in turn, is
    used. A link to the root, or to what else is above, is told by its name."""
    check(stopped)
    if is_below(os.path.realpath(kept.folder), [real]) or is_below(real, SYSTEM):
        return
    kept.links += [steps for _, steps in links_in(real, blind, (), lambda: check(stopped))]
    for place, _, names in os.walk(real):
        check(stopped)
        for each in (place, *(os.path.join(place, name) for name in names)):
            kept.know(each)


def _run_of(folder: str) -> str:
    return os.path.dirname(folder) if os.path.basename(folder) == "extra" else folder


def _mounts_in(folder: str) -> List[str]:
    """Where other disks, or other folders, are mounted in a folder."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
            places = [re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), line.split(" ")[4])
                      for line in stream]
    except OSError:
        return []
    return [place for place in places if is_below(place, [folder])]


def _is_locked(path: str, kept: Kept) -> bool:
    """Whether a process works on a part: it holds the lock for as long as that takes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        kept.unknown.add("whoever downloads %s, which this account cannot read" % path)
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False            # of a file system that knows no locks
    finally:
        os.close(descriptor)
    return False


def _look_at(project: str, found: Survey, tops: Tuple[str, ...], stopped: threading.Event) -> int:
    """Who uses what of the links in a project -> how many runs it has."""
    entries = [os.path.realpath(entry.folder) for entry in found.entries.values()]
    for path, steps in links_in(project, found.blind, entries, lambda: check(stopped)):
        check(stopped)
        run_of_it = RUN_IN_PATH.match(path)
        user = run_of_it.group() if run_of_it else project
        for entry in _led_to(steps, found, tops):
            entry.runs.add(os.path.realpath(user))
        is_dead = not os.path.exists(steps[-1])
        if is_dead and path in (user, os.path.join(user, "extra")):
            # All of a run's files are on a disk that is away.
            for entry in found.entries.values():
                entry.unknown.add("%s, which is a link that leads nowhere" % path)
        for step in steps:
            # To this folder under another name: the one that it had before, or by which it is mounted elsewhere.
            parts = step.split(os.sep)
            for number, behind in zip(parts, [*parts[1:], ""]):
                entry_of = found.entries.get(number)
                if entry_of is None or os.path.realpath(user) in entry_of.runs:
                    continue
                if is_dead or behind == "data":
                    entry_of.unknown.add("%s, by a link %s" % (user, "that leads nowhere" if is_dead else "to " + step))
    with contextlib.suppress(OSError):
        return sum(each.is_dir() for each in os.scandir(os.path.join(project, "Runs")))
    return 0


def _led_to(steps: List[str], found: Survey, tops: Tuple[str, ...]) -> List[Kept]:
    """The entries that a link leads to: by the names on its way, for the last one may be elsewhere; and by what it
    leads to, for the folder may be there under another name. A link to the whole folder, or to one above, is to all."""
    numbers: Set[str] = set()
    for step in steps:
        for top in tops:
            if is_below(top, [step]):
                return list(found.entries.values())
            if is_below(step, [top]):
                numbers.add(step[len(top):].strip(os.sep).partition(os.sep)[0])
    try:
        state = os.stat(steps[-1])
        place = state.st_dev, state.st_ino
        if place in found.tops:
            return list(found.entries.values())         # the folder by another name: it is mounted twice, say
        numbers.update(number for number, entry in found.entries.items() if place in entry.inodes)
    except OSError:
        pass                    # it leads to nowhere
    return [found.entries[number] for number in numbers if number in found.entries]


def check(stopped: threading.Event) -> None:
    if stopped.is_set():
        raise Stopped


def _by_number(name: str) -> int:
    return int(name) if name.isdecimal() and name.isascii() and len(name) <= DIGITS else 0
