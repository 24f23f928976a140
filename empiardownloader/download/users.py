# SPDX-License-Identifier: GPL-3.0-or-later
"""Which runs use what in a shared download folder: each leaves a note there before it downloads anything, and links to
the files when they are whole."""
import contextlib
import errno
import hashlib
import json
import logging
import os
import platform
import stat
import time
from dataclasses import dataclass
from typing import Iterator, List, Optional, Tuple

from ..archive.errors import DiskError
from ..transfer.modes import make_folders, share_file

logger = logging.getLogger(__name__)
NOTES = ".empiar-runs"          # a folder beside data/
MOST_NOTE_LETTERS = 1 << 16
MOST_LINKED_FOLDERS = 100       # of a run
# What an account may not write, or a disk may not take, does not keep a run from files that are there already.
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Use:
    """A run that has said so. ``state``: as of now, by this machine."""
    run: str                    # its folder
    host: str
    state: str

    USED, DELETED, UNKNOWN = "used", "deleted", "unknown"


def note_use(shared: str, number: str, folder: str) -> None:
    """Say that a run, whose files are in ``folder``, uses the entry's part of a download folder. Raises DiskError."""
    folder, host = os.path.abspath(folder), platform.node()
    notes = os.path.join(shared, number, NOTES)
    path = os.path.join(notes, hashlib.sha1(os.fsencode("%s:%s" % (host, folder))).hexdigest() + ".json")
    temporary = "%s.%d" % (path, os.getpid())
    try:
        make_folders(notes)
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as stream:
            json.dump({"run": folder, "host": host, "time": time.time()}, stream)
        share_file(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in READ_ONLY:
            msg = "%s cannot be written (%s): make room or choose another folder, then Continue." % (
                notes, (error.strerror or str(error)).lower())
            raise DiskError(msg) from error
        logger.info("No note can be left in %s (%s).", notes, (error.strerror or "").lower())


def noted_uses(entry_folder: str) -> Optional[List[Use]]:
    """The runs that have left a note; None where no run ever has: its files may be anybody's. Raises OSError."""
    folder = os.path.join(entry_folder, NOTES)
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return None
    return [_read(os.path.join(folder, name)) for name in sorted(names)]


def _read(path: str) -> Use:
    """A note that cannot be read is a run of which nothing is known: others may write there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, encoding="utf-8", errors="surrogateescape") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Use(path, "", Use.UNKNOWN)
            note = json.loads(stream.read(MOST_NOTE_LETTERS))
        return _use(str(note["run"]), str(note["host"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Use(path, "", Use.UNKNOWN)


def _use(run: str, host: str) -> Use:
    """A run that is not there was deleted, where its project is there; else its disk may only be away. A folder that a
    command has filled may have another name by now."""
    above, runs = os.path.dirname(run), os.path.dirname(os.path.dirname(run))
    try:
        if os.path.lexists(run) or (os.path.basename(runs) == "Runs" and os.path.lexists(above)):
            return Use(run, host, Use.USED)
    except (OSError, ValueError):
        return Use(run, host, Use.UNKNOWN)
    is_deleted = host == platform.node() and os.path.basename(runs) == "Runs" and os.path.isdir(runs)
    return Use(run, host, Use.DELETED if is_deleted else Use.UNKNOWN)


def runs_below(folder: str, depth: int, blind: List[str]) -> Iterator[Tuple[str, List[str]]]:
    """(project, folders of its runs) at or below a folder; what cannot be read goes into ``blind``. A folder within a
    project, too: the project is the one above."""
    above = os.path.realpath(folder)
    while above != os.path.dirname(above):
        if _is_project(above) and os.path.exists(os.path.join(above, "project.sqlite")):
            yield above, _folders(os.path.join(above, "Runs"), blind)
        above = os.path.dirname(above)
    yield from _projects(folder, depth, blind)


def _projects(folder: str, depth: int, blind: List[str]) -> Iterator[Tuple[str, List[str]]]:
    has_database = os.path.exists(os.path.join(folder, "project.sqlite"))
    if _is_project(folder):
        yield folder, _folders(os.path.join(folder, "Runs"), blind)
    elif has_database:
        blind.append(os.path.join(folder, "Runs"))      # on a disk that is away, perhaps
    if depth and not has_database:
        for each in _folders(folder, blind):
            yield from _projects(each, depth - 1, blind)


def _is_project(folder: str) -> bool:
    return os.path.isdir(os.path.join(folder, "Runs"))


def _folders(folder: str, blind: List[str]) -> List[str]:
    found = []
    try:
        for entry in os.scandir(folder):
            if entry.is_symlink() and not os.path.exists(entry.path):
                blind.append(entry.path)                # its disk may be away
            elif entry.is_dir() and not entry.name.startswith("."):
                if not os.access(entry.path, os.R_OK | os.X_OK):
                    blind.append(entry.path)
                found.append(entry.path)
    except FileNotFoundError:
        pass                        # deleted this moment
    except OSError:
        blind.append(folder)
    return sorted(found)


def links_in(folder: str, blind: List[str], within: str = "") -> Iterator[List[str]]:
    """Of each link in a run's folder the places that it leads to, one after the other, and the last one's real path.
    A folder that is linked from elsewhere, a scratch disk, is a part of the run; ``within``: what is not."""
    todo, seen = [folder], set()
    while todo:
        for current, folders, names in os.walk(todo.pop(), onerror=lambda error: blind.append(str(error.filename))):
            for name in [*names, *folders]:
                path = os.path.join(current, name)
                if not os.path.islink(path):
                    continue
                real = os.path.realpath(path)
                yield [*_steps(path), real]
                if name in folders and real not in seen and not (real + os.sep).startswith(within + os.sep):
                    seen.add(real)
                    if len(seen) <= MOST_LINKED_FOLDERS:
                        todo.append(real)
                    else:
                        blind.append(path)


def _steps(path: str) -> Iterator[str]:
    for _ in range(40):             # as many as Linux follows
        with contextlib.suppress(OSError):
            path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
            yield path
            continue
        return
