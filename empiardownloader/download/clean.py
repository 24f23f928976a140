# SPDX-License-Identifier: GPL-3.0-or-later
"""empiar clean: what lies in a shared download folder, which runs of Scipion use it, and what may go."""
import argparse
import json
import os
import shutil
import sys
import threading
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Optional, Set

from ..archive.errors import EntryError
from ..command import EXIT_ERROR, run, say
from ..transfer.parts import PREFIX
from ..units import format_bytes

EXTRA = "extra"
DIGITS = 9                  # of an entry's number


@dataclass
class Kept:
    """One entry's part of a download folder."""
    number: str
    folder: str
    files: int = 0
    bytes: int = 0
    half: int = 0                               # files that are not whole, of downloads that were interrupted
    runs: Set[str] = field(default_factory=set)     # folders of runs that link to a file in it


def kept_entries(folder: str, projects: List[str], stopped: Optional[threading.Event] = None) -> List[Kept]:
    """The entries in a download folder, by number; not all of them where ``stopped`` was set. Raises EntryError where
    there is none."""
    found = {name: Kept(name, os.path.join(folder, name)) for name in sorted(os.listdir(folder), key=_by_number)
             if name.isdecimal() and len(name) <= DIGITS and os.path.isdir(os.path.join(folder, name, "data"))}
    if not found:
        msg = "%s holds no entries: give the download folder of the form, in which they lie as 10200/data/..." % folder
        raise EntryError(msg)
    for entry in found.values():
        for path in _files(entry.folder):
            entry.files += 1
            entry.half += os.path.basename(path).startswith(PREFIX)
            entry.bytes += os.lstat(path).st_blocks * 512
            if stopped is not None and stopped.is_set():
                return list(found.values())
    top = os.path.realpath(folder)
    for run_folder in _runs(projects):
        for number in _linked(os.path.join(run_folder, EXTRA), top):
            if number in found:
                found[number].runs.add(run_folder)
    return list(found.values())


def _by_number(name: str) -> int:
    return int(name) if name.isdecimal() and len(name) <= DIGITS else 0


def _files(folder: str) -> Iterator[str]:
    for current, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(current, name)


def _runs(projects: List[str]) -> Iterator[str]:
    """Folders of runs below folders of projects, or of one project."""
    for folder in projects:
        for project in [folder, *(entry.path for entry in os.scandir(folder) if entry.is_dir())]:
            runs = os.path.join(project, "Runs")
            if os.path.isdir(runs):
                yield from (entry.path for entry in os.scandir(runs) if entry.is_dir())


def _linked(folder: str, top: str) -> Iterator[str]:
    """Entries below the download folder ``top`` that links in a run's folder lead to."""
    for current, folders, names in os.walk(folder):
        for name in [*names, *folders]:
            path = os.path.join(current, name)
            if os.path.islink(path):
                target = os.path.realpath(path)
                if target.startswith(top + os.sep):
                    yield target[len(top) + 1:].partition(os.sep)[0]


def main(arguments: Optional[List[str]] = None, program: str = "empiar clean") -> int:
    parser = argparse.ArgumentParser(
        prog=program, description="What is in the download folder that several runs share, which runs link to it, "
                                  "and what can be deleted. Nothing is deleted without --delete.")
    parser.add_argument("folder", help="the form's Download folder")
    parser.add_argument("--projects", action="append", metavar="FOLDER", default=[],
                        help="a folder of Scipion projects, or a project, whose runs are looked at; may be given "
                             "several times (ScipionUserData/projects in your home)")
    parser.add_argument("--delete", action="append", metavar="ENTRY", default=[],
                        help="delete what is here of this entry, if no run that was looked at links to it; may be "
                             "given several times; 'unused' stands for all of these")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    parser.add_argument("--json", action="store_true", help="the list as JSON")
    options = parser.parse_args(arguments)
    return run(lambda stopped: _clean(options, stopped), "Stopped.")


def _clean(options: argparse.Namespace, stopped: threading.Event) -> int:
    for folder in [options.folder, *options.projects]:
        if not os.path.isdir(folder):
            msg = "%s is no folder that can be read." % folder
            raise EntryError(msg)
    home = os.path.join(os.path.expanduser("~"), "ScipionUserData", "projects")
    projects = options.projects or ([home] if os.path.isdir(home) else [])
    entries = kept_entries(options.folder, projects, stopped)
    if stopped.is_set():
        return EXIT_ERROR
    if options.json:
        print(json.dumps([{"number": each.number, "files": each.files, "bytes": each.bytes, "unfinished": each.half,
                           "runs": sorted(each.runs)} for each in entries]))
    else:
        print("\n".join(_table(entries, projects)))
    return _delete(options, {each.number: each for each in entries}, projects) if options.delete else 0


def _table(entries: List[Kept], projects: List[str]) -> List[str]:
    lines = ["%-8s %10s %7s  %s" % ("ENTRY", "SIZE", "FILES", "USED BY")]
    for each in entries:
        used = "%d run%s, like %s" % (len(each.runs), "" if len(each.runs) == 1 else "s", min(each.runs)) if each.runs \
            else "no run that was looked at"
        half = ", %d unfinished" % each.half if each.half else ""
        lines.append("%-8s %10s %7d  %s%s" % (each.number, format_bytes(each.bytes), each.files, used, half))
    lines.append("Looked at the runs in %s. Other projects were not looked at: their runs lose what you delete here."
                 % (" and ".join(projects) or "no project: give --projects FOLDER"))
    return lines


def _delete(options: argparse.Namespace, entries: Dict[str, Kept], projects: List[str]) -> int:
    if not projects:
        msg = "Nothing is deleted, since no project was looked at: give --projects FOLDER to see which runs use the " \
              "files."
        raise EntryError(msg)
    wanted = [number for number, each in entries.items() if not each.runs] if "unused" in options.delete else []
    for name in options.delete:
        number = name.upper().replace("EMPIAR-", "")
        if name != "unused" and number not in entries:
            msg = "%s has nothing of entry %s." % (options.folder, name)
            raise EntryError(msg)
        if name != "unused" and entries[number].runs:
            msg = "EMPIAR-%s is used by %s: delete that run first, or keep the files." % (
                number, min(entries[number].runs))
            raise EntryError(msg)
        wanted += [number] if name != "unused" and number not in wanted else []
    if not wanted:
        say("Every entry here is used by a run: there is nothing to delete.")
        return 0
    total = sum(entries[number].bytes for number in wanted)
    question = "Delete EMPIAR-%s, %s?" % (", EMPIAR-".join(wanted), format_bytes(total))
    if not options.yes and not _agreed(question):
        say("Nothing was deleted.")
        return EXIT_ERROR
    for number in wanted:
        try:
            shutil.rmtree(entries[number].folder)
        except OSError as error:
            msg = "%s could not be deleted whole (%s)." % (entries[number].folder, error.strerror)
            raise EntryError(msg) from error
        say("EMPIAR-%s is deleted." % number)
    return 0


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        say(question + " Give --yes, since nobody can be asked here.")
        return False
    return input(question + " [y/N] ").strip().lower() in ("y", "yes")
