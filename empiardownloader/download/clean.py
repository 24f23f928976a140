# SPDX-License-Identifier: GPL-3.0-or-later
"""empiar clean: what is in a shared download folder, which runs of Scipion use it, and what can be deleted."""
import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import stat
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Set, Tuple

from ..archive.errors import EntryError, Stopped
from ..command import EXIT_ERROR, run, say
from ..transfer.parts import JOURNAL, PREFIX, UNPACKED_PREFIX
from ..units import format_bytes, shortened
from .users import NOTES, SYSTEM, Stamp, Use, is_below, links_in, noted_uses, projects_below, stamp_of, steps_of

DIGITS = 9                  # of an entry's number
DEPTH = 4                   # folders below one that is given, in which projects are looked for
# A part that was written so shortly ago is of a download that goes on.
UNDER_WAY_SECONDS = 600
SCIPION_USER_DATA = "SCIPION_USER_DATA"
NAMED = 3                   # runs and folders that a sentence names
NAME_LETTERS = 100          # of each, at its beginning and at its end
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
        1.1, programs that are none of Scipion's; so nothing is deleted but by its name."""
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
    above = tops[0]
    while True:
        state = os.stat(above)
        found.tops.add((state.st_dev, state.st_ino))
        if above == os.path.dirname(above):
            break
        above = os.path.dirname(above)
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
    kept.linked = folder if os.path.islink(folder) else ""
    for current, folders, names in os.walk(folder, onerror=lambda error: blind.append(str(error.filename))):
        folders[:] = [each for each in folders if each != NOTES]
        kept.know(current)
        for path in (os.path.join(current, each) for each in folders if os.path.islink(os.path.join(current, each))):
            kept.linked = kept.linked or path
            # Whoever uses these files by their own names uses the entry.
            for place, _, names_there in os.walk(path) if not is_below(os.path.realpath(path), SYSTEM) else ():
                _check(stopped)
                for each in (place, *(os.path.join(place, name_there) for name_there in names_there)):
                    kept.know(each)
            kept.links.append([*steps_of(path), os.path.realpath(path)])
        for path in (os.path.join(current, each) for each in names):
            _check(stopped)
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
                kept.links.append([*steps_of(path), os.path.realpath(path)])
    uses = noted_uses(folder)
    kept.has_notes = uses is not None
    kept.notes.update(use.note for use in uses or ())
    kept.runs.update(_run_of(use.run) for use in uses or () if use.state == Use.USED)
    kept.unknown.update("%s on %s" % (_run_of(use.run), use.host or "?") for use in uses or ()
                        if use.state == Use.UNKNOWN)
    return kept


def _run_of(folder: str) -> str:
    return os.path.dirname(folder) if os.path.basename(folder) == "extra" else folder


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
    for path, steps in links_in(project, found.blind, entries, lambda: _check(stopped)):
        _check(stopped)
        run_of_it = RUN_IN_PATH.match(path)
        user = run_of_it.group() if run_of_it else project
        for entry in _led_to(steps, found, tops):
            entry.runs.add(os.path.realpath(user))
        if not os.path.exists(steps[-1]):
            # It leads to nowhere: to this folder under the name that it had before, perhaps.
            parts = steps[-1].split(os.sep)
            for number in set(parts).intersection(found.entries):
                found.entries[number].unknown.add("%s, by a link that leads nowhere" % user)
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


def _check(stopped: threading.Event) -> None:
    if stopped.is_set():
        raise Stopped


def _by_number(name: str) -> int:
    return int(name) if name.isdecimal() and name.isascii() and len(name) <= DIGITS else 0


def main(arguments: Optional[List[str]] = None, program: str = "empiar clean") -> int:
    parser = argparse.ArgumentParser(
        prog=program, description="What is in the download folder that several runs share, which runs link to it, "
                                  "and what can be deleted. Nothing is deleted without --delete.")
    parser.add_argument("folder", help="the form's Download folder")
    parser.add_argument("--projects", action="extend", nargs="+", metavar="FOLDER", default=[],
                        help="folders in which Scipion projects are looked for, down to four folders below (Scipion's "
                             "own folder of this account, SCIPION_USER_DATA)")
    parser.add_argument("--no-projects", action="store_true", help="there is no project any more that could use them")
    parser.add_argument("--delete", action="extend", nargs="+", metavar="ENTRY", default=[],
                        help="delete the data of these entries, unless a run is known to use them")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    parser.add_argument("--json", action="store_true", help="the list as JSON")
    options = parser.parse_args(arguments)
    return run(lambda stopped: _clean(options, stopped), "Stopped.")


def _clean(options: argparse.Namespace, stopped: threading.Event) -> int:
    for folder in [options.folder, *options.projects]:
        if not os.path.isdir(folder):
            msg = "%s is no folder that can be read." % folder
            raise EntryError(msg)
    data = os.environ.get(SCIPION_USER_DATA) or os.path.join(os.path.expanduser("~"), "ScipionUserData")
    projects = options.projects or ([data] if os.path.isdir(data) else [])
    found = survey(options.folder, projects, stopped)
    if options.json:
        about = {"projects": found.projects, "runs": found.runs, "could_not_be_read": found.blind}
        print(json.dumps({**about, "entries": [{
            "number": each.number, "files": each.files, "bytes": each.bytes, "unfinished": each.half,
            "being_filled": each.is_filled, "runs": sorted(each.runs), "perhaps_used_by": sorted(each.unknown),
            "known_runs_deleted": each.has_no_known_use, "has_notes": each.has_notes, "linked": each.linked,
            "half_deleted": each.is_half_deleted} for each in found.entries.values()]}))
    elif not options.delete:
        print("\n".join(_table(found, projects)))
    return _delete(options, found, projects, stopped) if options.delete else 0


def _table(found: Survey, projects: List[str]) -> List[str]:
    lines = ["%-8s %10s %7s  %s" % ("ENTRY", "SIZE", "FILES", "USED BY")]
    for each in found.entries.values():
        if each.runs:
            used = "%d run%s, like %s" % (len(each.runs), "" if len(each.runs) == 1 else "s", _name(min(each.runs)))
        elif each.unknown:
            used = "perhaps: %s" % _several(each.unknown)
        else:
            used = "nobody known: its runs are deleted" if each.has_no_known_use else "no run that was looked at"
        half = ", %d unfinished" % each.half if each.half else ""
        half += ", being downloaded now" if each.is_filled else ""
        half += ", %s is a link" % _name(each.linked) if each.linked else ""
        half += ", a deletion was interrupted: delete it again" if each.is_half_deleted else ""
        lines.append("%-8s %10s %7d  %s%s" % (each.number, format_bytes(each.bytes), each.files, used, half))
    lines.append("Looked at %d run%s of %d project%s in %s, and at the notes that runs leave in the folder." % (
        found.runs, "" if found.runs == 1 else "s", found.projects, "" if found.projects == 1 else "s",
        " and ".join(projects) or "no folder (give --projects FOLDER)"))
    if found.blind:
        lines.append("Could not be read: %s" % ", ".join(found.blind[:NAMED]))
    return lines


def _name(path: str) -> str:
    """Of a file or a run, in one line."""
    return shortened(path.encode("utf-8", "replace").decode("utf-8").replace("\n", "?"), NAME_LETTERS, NAME_LETTERS)


def _several(texts: Set[str]) -> str:
    more = len(texts) - NAMED
    return "; ".join(map(_name, sorted(texts)[:NAMED])) + ("; and %d more" % more if more > 0 else "")


def _delete(options: argparse.Namespace, found: Survey, projects: List[str], stopped: threading.Event) -> int:
    _refuse_blindness(options, found, projects)
    for name in options.delete:
        _put_back(found.entries.get(_number(name)))
    wanted = {entry.number: entry for entry in (_unused(options.folder, name, found) for name in options.delete)}
    total = sum(entry.bytes for entry in wanted.values())
    question = "Delete EMPIAR-%s, %s?" % (", EMPIAR-".join(wanted), format_bytes(total))
    doubts = {text for entry in wanted.values() for text in entry.unknown}
    if doubts:
        question = "Perhaps still used by %s. %s" % (_several(doubts), question)
    strange = [number for number, entry in wanted.items() if not entry.has_notes]
    if strange:
        question = "No run of this version has left a note in EMPIAR-%s: its files may not come from a download. %s" % (
            ", EMPIAR-".join(strange), question)
    if options.yes:
        say(question + " Yes.")
    elif not _agreed(question):
        say("Nothing was deleted.")
        return EXIT_ERROR
    code = 0
    for number in wanted:
        # While the question stood there, or another entry was deleted, a run may have begun.
        _check(stopped)
        again = survey(options.folder, projects, stopped)
        _refuse_blindness(options, again, projects)
        entry = _unused(options.folder, number, again)
        if not entry.unknown <= doubts:
            msg = "EMPIAR-%s is kept: another run uses it by now." % number
            raise EntryError(msg)
        code = _remove(entry) or code
    return code


def _number(name: str) -> str:
    return re.sub("^EMPIAR-", "", name.upper())


def _put_back(entry: Optional[Kept]) -> None:
    """What a deletion that was interrupted had put aside whole: whoever uses it has it again."""
    if entry is None:
        return
    data, aside = (os.path.join(entry.folder, name) for name in ("data", ASIDE))
    if os.path.isdir(aside) and not os.path.lexists(data):
        with contextlib.suppress(OSError):      # then it stays where it is, and is deleted or told once more
            os.rename(aside, data)
            say("EMPIAR-%s: what an interrupted deletion had put aside is in its place again." % entry.number)


def _remove(entry: Kept) -> int:
    """Only what runs have brought: what else somebody has put beside it stays. Put aside first, in one step, so that a
    run that begins at this moment finds nothing, and not half of it; and back where one has."""
    data, aside, going = (os.path.join(entry.folder, name) for name in ("data", ASIDE, GOING))
    try:
        for left in (going, aside) if os.path.lexists(data) else (going,):
            if os.path.isdir(left):
                shutil.rmtree(left)         # of a deletion that was interrupted
        if os.path.lexists(data):
            os.rename(data, aside)
    except FileNotFoundError:
        say("EMPIAR-%s was deleted by another program at the same time." % entry.number)
        return 0
    except OSError as error:
        say("EMPIAR-%s cannot be deleted (%s: %s): give this command to an account that may." % (
            entry.number, error.filename, (error.strerror or str(error)).lower()))
        return EXIT_ERROR
    if os.path.isdir(aside) and not _is_still_unused(entry, data, aside):
        return EXIT_ERROR
    try:
        if os.path.isdir(aside):
            os.rename(aside, going)
            say("Deleting EMPIAR-%s: whoever interrupts this leaves the rest of it in %s." % (entry.number, going))
            shutil.rmtree(going)
        # Not those of runs that have begun since: they fetch their files anew.
        for note in entry.notes:
            if stamp_of(note[0]) == note:
                os.remove(note[0])
        for folder in (os.path.join(entry.folder, NOTES), entry.folder):
            if os.path.isdir(folder) and not os.listdir(folder):
                os.rmdir(folder)
    except OSError as error:
        say("EMPIAR-%s could not be deleted whole (%s: %s): delete it again." % (
            entry.number, error.filename, (error.strerror or str(error)).lower()))
        return EXIT_ERROR
    say("EMPIAR-%s is deleted%s." % (
        entry.number, "; what else is in %s stays" % entry.folder if os.path.isdir(entry.folder) else ""))
    return 0


def _is_still_unused(entry: Kept, data: str, aside: str) -> bool:
    """Whether no run has said since that it uses what was put aside; else it is put back."""
    try:
        new = {use.note for use in noted_uses(entry.folder) or ()} - entry.notes
        why = "another run uses it by now" if new else ""
    except OSError as error:
        why = "its notes cannot be read (%s)" % (error.strerror or "").lower()
    if not why:
        return True
    try:
        os.rename(aside, data)
        say("EMPIAR-%s is kept: %s." % (entry.number, why))
    except OSError:
        say("EMPIAR-%s is not deleted: %s, and fetches its files anew already. What was there before lies in %s; "
            "delete the entry again when no run uses it." % (entry.number, why, aside))
    return False


def _refuse_blindness(options: argparse.Namespace, found: Survey, projects: List[str]) -> None:
    """Raises EntryError where it cannot be seen who uses what."""
    if not projects and not options.no_projects:
        msg = "Nothing is deleted, since no project was looked at: give --projects FOLDER to see which runs use the " \
              "files."
        raise EntryError(msg)
    if found.blind:
        msg = "Nothing is deleted, since %s cannot be read, and its runs may use the files: give this command to an " \
              "account that may." % found.blind[0]
        raise EntryError(msg)
    if found.empty and not options.no_projects:
        msg = "Nothing is deleted, since there is no Scipion project in %s: give the folder that holds them, or " \
              "--no-projects where there is none any more." % found.empty[0]
        raise EntryError(msg)


def _unused(folder: str, name: str, found: Survey) -> Kept:
    """An entry that no run is known to use, by its number or its name. Raises EntryError."""
    number = _number(name)
    entry = found.entries.get(number)
    if entry is None:
        msg = "%s has nothing of entry %s." % (folder, name)
    elif entry.runs:
        msg = "EMPIAR-%s is used by %s: delete that run first, or keep the files." % (number, min(entry.runs))
    elif entry.linked:
        msg = "EMPIAR-%s is not deleted, since %s is a link to files elsewhere, which others may use by other ways: " \
              "remove it by hand." % (number, entry.linked)
    elif entry.is_filled:
        msg = "EMPIAR-%s is being downloaded at the moment: wait until that is over." % number
    else:
        return entry
    raise EntryError(msg)


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        say(question + " Give --yes, since nobody can be asked here.")
        return False
    # Ctrl-C is an answer, too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input(question + " [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        say("")
        return False
    finally:
        signal.signal(signal.SIGINT, before)
