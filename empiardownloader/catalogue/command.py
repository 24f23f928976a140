# SPDX-License-Identifier: GPL-3.0-or-later
"""empiar search: entries by words, codes and what they hold, as a table for a terminal or as JSON."""
import argparse
import contextlib
import json
import os
import shutil
import sys
import threading
import unicodedata
from typing import Any, Dict, List, Mapping, Optional

from ..archive.errors import ArchiveError, DiskError, EntryError
from ..archive.kinds import KINDS
from ..archive.stopping import StopToken
from ..command import EXIT_ERROR, cannot_fetch, run, say
from ..constants import addresses
from ..units import format_bytes
from ..values import ANY_PIXEL_SIZE, ANY_YEAR, angstrom, count, pixel_sizes, size, years
from .facts import METHODS, EntryFacts
from .search import COURSE_BYTES, COURSE_RESOLUTION, RELEVANCE, SIZE, SORTS, Query, search
from .store import Store, damage_said, default_path, kept

# An older list is still used, and its age is said.
OLD_SECONDS = 7 * 24 * 3600
NARROW = 72                 # letters of a terminal that has no room for all columns
EXAMPLES = """examples:
  empiar search beta-galactosidase
  empiar search apoferritin --kind movies --format EER --max-size 6TB
  empiar search --method tomography --year 2020-2023 --sort size
  empiar search EMD-2984            entries that belong to an EMDB map; so with a PDB code
"""


def main(arguments: Optional[List[str]] = None, program: str = "empiar search") -> int:
    options = _parser(program).parse_args(arguments)
    return run(lambda stopped: _search(options, stopped))


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES,
        description="Finds entries of EMPIAR. The list of all entries is fetched once (about a minute), and kept on\n"
                    "this machine: then it answers at once, also without a network. All words have to be in an\n"
                    "entry, and it has to fit all options.")
    parser.add_argument("words", nargs="*", metavar="WORDS",
                        help="of the title, sample, authors; or an EMPIAR, EMDB or PDB code")
    parser.add_argument("--kind", default="", help="one of %s; with quotes where it has a blank" % ", ".join(
        kind.name for kind in KINDS))
    parser.add_argument("--format", default="", help="of the image files: MRC, TIFF, EER ...")
    parser.add_argument("--max-size", type=size, metavar="SIZE", help="of the whole entry, like 500GB")
    parser.add_argument("--min-size", type=size, metavar="SIZE")
    parser.add_argument("--resolution", type=angstrom, metavar="ANGSTROM",
                        help="of the map: this many angstrom or better")
    parser.add_argument("--method", default="",
                        help="one of %s, or EMPIAR's type of experiment" % ", ".join(sorted(METHODS.values())))
    parser.add_argument("--microscope", default="", help="part of its name, like krios")
    parser.add_argument("--pixel-size", type=pixel_sizes, default=ANY_PIXEL_SIZE, metavar="ANGSTROM",
                        help="of the images: 0.66, or a range like 0.6-1.1")
    parser.add_argument("--emdb", default="", metavar="CODE", help="linked to this EMDB map")
    parser.add_argument("--pdb", default="", metavar="CODE", help="linked to this PDB model")
    parser.add_argument("--year", type=years, default=ANY_YEAR, metavar="YEAR",
                        help="of its release: 2020, or a range like 2018-2021")
    parser.add_argument("--course", action="store_true",
                        help="small and complete ones: movies of up to %d GB whose size is known, and a map of %g A or "
                             "better to compare with; smallest first" % (COURSE_BYTES // 10 ** 9, COURSE_RESOLUTION))
    parser.add_argument("--sort", choices=SORTS, default="", help="size: smallest first; date: newest first; "
                                                                  "resolution: best first")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--limit", type=count, default=20, metavar="N", help="how many are shown (20)")
    parser.add_argument("--refresh", action="store_true", help="first ask for new and changed entries")
    parser.add_argument("--offline", action="store_true", help="use no network, whatever the list's age")
    parser.add_argument("--json", action="store_true", help="as a JSON list")
    return parser


def _search(options: argparse.Namespace, stopped: threading.Event) -> int:
    if options.refresh and options.offline:
        msg = "--refresh asks the archive, and --offline does not: choose one."
        raise EntryError(msg)
    query = Query(" ".join(options.words), options.kind, options.format, options.min_size, options.max_size,
                  options.resolution, options.method, options.microscope, options.pixel_size, options.emdb, options.pdb,
                  options.year, options.course, options.sort or (SIZE if options.course else RELEVANCE),
                  options.reverse, options.limit)
    where, stop = addresses(), StopToken(stopped)
    try:
        store = open_catalogue(where, stop, options.refresh, options.offline)
    except ModuleNotFoundError as missing:
        say(cannot_fetch(missing))
        return EXIT_ERROR
    with contextlib.closing(store):
        # Damage that did not show at its beginning.
        with damage_said(store.path):
            found = search(store, query)
        if (not found.entries or found.is_loose) and query.words and not options.offline:
            from .elsewhere import by_ebi_search
            try:
                found = by_ebi_search(store, query, found, where, stop)
            except ArchiveError as error:
                found = found._replace(why="%s (%s)" % (found.why, error))
    if options.json:
        print(json.dumps([entry.as_data() for entry in found.entries]))
    elif found.entries:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10 ** 6
        print("\n".join(table(found.entries, width)))
        if found.total > len(found.entries):
            say("%d of %d shown: --limit shows more, add words to narrow down." % (len(found.entries), found.total))
    if found.why:
        say(found.why)
    return 0 if found.entries else EXIT_ERROR


def open_catalogue(where: Mapping[str, str], stop: StopToken, refresh: bool = False, offline: bool = False) -> Store:
    """The catalogue of this machine, fetched where there is none yet. Raises ArchiveError, Stopped."""
    path = default_path(where)
    if offline and not os.path.exists(path):
        msg = "There is no list of entries on this machine yet: run the command once without --offline."
        raise EntryError(msg)
    store = Store(path)
    try:
        age = store.age
        if refresh or (age is None and not offline):
            _harvest(store, where, stop, may_fail=age is not None)
        elif age is None:
            say("The list of entries is not complete: run the command once without --offline.")
        elif age > OLD_SECONDS:
            say("The list of entries is %d days old: --refresh brings it up to date." % (age // 86400))
    except BaseException:
        store.close()
        raise
    return store


def known(number: int) -> Dict[str, Any]:
    """What the catalogue of this machine says of an entry, nothing where there is none."""
    try:
        with kept(addresses()) as store:
            return next((entry.as_data() for entry in store.facts([number])), {}) if store else {}
    except DiskError as error:
        say(str(error))
        return {}


def _harvest(store: Store, where: Mapping[str, str], stop: StopToken, may_fail: bool) -> None:
    # Not at the top: what makes connections takes its time to load.
    from .harvest import harvest
    shown = sys.stderr.isatty()
    if not may_fail:
        say("Fetching the list of all entries, once: about a minute.")
    try:
        done = harvest(store, where, stop, _show if shown else lambda text: None)
    except ArchiveError as error:
        if not may_fail:
            raise
        say("%s Going on with the list as it was %d days ago." % (error, (store.age or 0) // 86400))
        return
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
    for note in done.notes:
        say(note)
    say(str(done))


def _show(text: str) -> None:
    sys.stderr.write("\r\x1b[K" + text)
    sys.stderr.flush()


def table(entries: List[EntryFacts], width: int) -> List[str]:
    """Lines of ``width`` letters at most, the title cut where they would be longer."""
    columns = range(5) if width >= NARROW else (0, 1, 2)
    rows = [("ENTRY", "SIZE", "RES (Å)", "KINDS", "YEAR", "TITLE")]
    for entry in entries:
        formats = "/".join(entry.formats[:2])
        rows.append((str(entry.number), "?" if entry.size_bytes is None else format_bytes(entry.size_bytes),
                     "-" if entry.resolution is None else "%.2f" % entry.resolution,
                     ", ".join(entry.kinds[:2]) + (" " + formats if formats else ""), entry.released[:4] or "-",
                     entry.title))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    widths[3] = min(widths[3], 28)
    left = max(width - sum(widths[column] + 2 for column in columns), 1)
    lines = []
    for row in rows:
        cells = [_cut(row[column], widths[column]) for column in columns]
        padded = ["%*s" % (widths[column] * (1 if column < 3 else -1), cell) for column, cell in zip(columns, cells)]
        lines.append("  ".join([*padded, _cut(row[5], left)]).rstrip())
    return lines


def _cut(text: str, most: int) -> str:
    cells = [2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text]
    if sum(cells) <= most:
        return text
    while cells and sum(cells) > most - 1:
        cells.pop()
    return text[:len(cells)] + "…"
