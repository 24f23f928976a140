# SPDX-License-Identifier: GPL-3.0-or-later
"""empiar clean: what is in a shared download folder, which runs of Scipion use it, and what can be deleted."""
import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import threading
from typing import List, Optional, Set

from ..archive.errors import EntryError
from ..command import EXIT_ERROR, run, say
from ..units import format_bytes, shortened
from .survey import ASIDE, GOING, Kept, Survey, check, survey
from .users import NOTES, noted_uses, stamp_of

SCIPION_USER_DATA = "SCIPION_USER_DATA"
NAMED = 3                   # runs and folders that a sentence names
NAME_LETTERS = 100          # of each, at its beginning and at its end


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
    text = path.encode("utf-8", "replace").decode("utf-8")
    # What others have written into a note may not move the cursor.
    return shortened("".join(letter if letter.isprintable() else "?" for letter in text), NAME_LETTERS, NAME_LETTERS)


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
        check(stopped)
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
    """Restore the data that an interrupted deletion had moved aside whole."""
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
        if os.path.isdir(data):
            say("EMPIAR-%s is not deleted: another program has put it back." % entry.number)
            return EXIT_ERROR
        if os.path.isdir(aside):
            os.rename(aside, going)
            say("Deleting EMPIAR-%s: whoever interrupts this leaves the rest of it in %s." % (entry.number, going))
            shutil.rmtree(going)
        # Not those of runs that have begun since: they fetch their files anew.
        for note in entry.notes:
            # Those of other accounts stay, and do no harm.
            with contextlib.suppress(OSError):
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
              "account that may, or where it is a link that leads nowhere, remove it." % _name(found.blind[0])
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
