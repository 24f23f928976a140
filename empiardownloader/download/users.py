# SPDX-License-Identifier: GPL-3.0-or-later
"""Which runs use what in a shared download folder: each leaves a note there before it downloads anything, and links to
the files when they are whole."""
import errno
import hashlib
import json
import logging
import os
import platform
import secrets
import stat
import time
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

from ..archive.errors import DiskError
from ..archive.metadata import write_whole
from ..transfer.modes import make_folders, share_file

logger = logging.getLogger(__name__)
NOTES = ".empiar-runs"          # a folder beside data/
PROJECT_NAME = ".empiar-project"        # a file beside the runs of a project
MOST_NOTE_LETTERS = 1 << 16
MOST_LINKED_FOLDERS = 1000      # of a project
SYSTEM = ("/proc", "/sys", "/dev")
# A folder that cannot be written does not keep a run from the files that are there.
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


Stamp = Tuple[str, int, int]    # path, inode, time of change


@dataclass(frozen=True)
class Use:
    """A run that has said so. ``state``: as of now, by this machine."""
    run: str                    # its folder
    host: str
    state: str
    note: "Stamp" = ("", 0, 0)  # of the file that says so: it changes when the run says so again

    USED, DELETED, UNKNOWN = "used", "deleted", "unknown"


def note_use(shared: str, number: str, folder: str) -> None:
    """Say that a run, whose files are in ``folder``, uses the entry's part of a download folder. Raises DiskError."""
    folder, host = os.path.abspath(folder), platform.node()
    notes = os.path.join(shared, number, NOTES)
    path = os.path.join(notes, hashlib.sha1(os.fsencode("%s:%s" % (host, folder))).hexdigest() + ".json")
    try:
        make_folders(notes)
        write_whole(path, {"run": folder, "host": host, "time": time.time(), "project": _name_project(folder)},
                    share_file)
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
                return Use(path, "", Use.UNKNOWN, stamp_of(path))
            stamp = stamp_of(path)
            note = json.loads(stream.read(MOST_NOTE_LETTERS))
        return _use(str(note["run"]), str(note["host"]), note.get("project"), stamp)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Use(path, "", Use.UNKNOWN, stamp_of(path))


def stamp_of(note: str) -> Stamp:
    try:
        state = os.lstat(note)
    except OSError:
        return note, 0, 0
    return note, state.st_ino, state.st_mtime_ns


def _use(run: str, host: str, project: object, note: Stamp) -> Use:
    """A run that is not there was deleted, where its project is the very one that it was in; else its disk may only be
    away, or the project moved. A folder that a command has filled may have another name by now."""
    try:
        if _is_there(run) or (_runs_of(run) and _is_there(os.path.dirname(run))):
            return Use(run, host, Use.USED, note)
        is_deleted = host == platform.node() and bool(project) and project == _name_of_project(run)
    except (OSError, ValueError):
        return Use(run, host, Use.UNKNOWN, note)
    return Use(run, host, Use.DELETED if is_deleted else Use.UNKNOWN, note)


def _is_there(path: str) -> bool:
    """Raises OSError where that cannot be seen."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _runs_of(folder: str) -> str:
    """The folder of its project's runs, '' where a run's files are not as Scipion has them."""
    runs = os.path.dirname(os.path.dirname(folder))
    return runs if os.path.basename(runs) == "Runs" else ""


def _name_of_project(folder: str) -> str:
    """What a run's project was called by ``_name_project``; '' where it was not, or its runs are not there."""
    runs = _runs_of(folder)
    try:
        if not runs or not os.path.isdir(runs):
            return ""
        with open(os.path.join(runs, PROJECT_NAME), encoding="ascii", errors="replace") as stream:
            return stream.read(100)
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _name_project(folder: str) -> str:
    """Give the folder of a project's runs a name that no other one has: paths and inodes are used again. '' where it
    takes none, or is none of Scipion's."""
    runs = _runs_of(folder)
    try:
        if runs and not _name_of_project(folder):
            with open(os.path.join(runs, PROJECT_NAME), "x", encoding="ascii") as stream:
                stream.write(secrets.token_hex(16))
        return _name_of_project(folder)
    except OSError:
        return ""


def projects_below(folder: str, depth: int, blind: List[str]) -> Iterator[str]:
    """The projects at or below a folder; what cannot be read goes into ``blind``. A folder within a project, too: the
    project is the one above."""
    for above in and_above(os.path.realpath(folder)):
        if _is_project(above) and os.path.exists(os.path.join(above, "project.sqlite")):
            yield above
    yield from _projects(folder, depth, blind)


def _projects(folder: str, depth: int, blind: List[str]) -> Iterator[str]:
    has_database = os.path.exists(os.path.join(folder, "project.sqlite"))
    if _is_project(folder):
        yield folder
    elif has_database:
        blind.append(os.path.join(folder, "Runs"))      # on a disk that is away, perhaps
    for each in _folders(folder, blind) if depth else ():
        # Runs are looked at with their project, which may hold another one beside them.
        if not (has_database and os.path.basename(each) == "Runs"):
            yield from _projects(each, depth - 1, blind)


def _is_project(folder: str) -> bool:
    return os.path.isdir(os.path.join(folder, "Runs"))


def _folders(folder: str, blind: List[str]) -> List[str]:
    found = []
    try:
        for entry in os.scandir(folder):
            if entry.is_symlink() and not os.path.exists(entry.path):
                blind.append(entry.path)                # its disk may be away
            elif entry.is_dir():
                if not os.access(entry.path, os.R_OK | os.X_OK):
                    blind.append(entry.path)
                found.append(entry.path)
    except FileNotFoundError:
        pass                        # deleted this moment
    except OSError:
        blind.append(folder)
    return sorted(found)


def links_in(folder: str, blind: List[str], known: Sequence[str] = (),
             check: Callable[[], None] = lambda: None) -> Iterator[Tuple[str, List[str]]]:
    """Of each link in a project the name by which it was come to, and the places that it leads to, one after the other,
    the last one's real path. A folder that is linked from elsewhere, a scratch disk, is a part of the project;
    ``known``: what is not, since it is looked at by itself; ``check`` is called for each folder."""
    todo, seen = [(folder, folder)], {os.path.realpath(folder)}
    while todo:
        top, called = todo.pop()
        for current, folders, names in os.walk(top, onerror=lambda error: blind.append(str(error.filename))):
            check()
            for name in [*names, *folders]:
                path = os.path.join(current, name)
                try:
                    if not stat.S_ISLNK(os.lstat(path).st_mode):
                        continue
                    is_folder = stat.S_ISDIR(os.stat(path).st_mode)
                except FileNotFoundError:
                    is_folder = False
                except OSError:
                    # What an account may not follow, another one may use.
                    blind.append(path)
                    continue
                steps, told = steps_of(path), called + path[len(top):]
                real = steps[-1]
                yield told, steps
                if not is_folder or real in seen or is_below(real, known) or is_below(folder, [real]) or is_below(
                        real, SYSTEM):
                    continue
                seen.add(real)
                if len(seen) <= MOST_LINKED_FOLDERS:
                    todo.append((real, told))
                else:
                    blind.append("%s (more than %d linked folders)" % (path, MOST_LINKED_FOLDERS))


def is_below(path: str, folders: Sequence[str]) -> bool:
    """Whether a path is one of these folders, or lies in one."""
    return any(path == each or path.startswith(each.rstrip(os.sep) + os.sep) for each in folders)


def and_above(folder: str) -> Iterator[str]:
    """A folder and all above it, the root last."""
    while True:
        yield folder
        if folder == os.path.dirname(folder):
            return
        folder = os.path.dirname(folder)


def steps_of(path: str) -> List[str]:
    """The places that a link leads to, one after the other, its real path last."""
    real, found = os.path.realpath(path), []
    for _ in range(40):             # as many as Linux follows
        try:
            path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        except OSError:
            break
        found.append(path)
    return [*found, real]
