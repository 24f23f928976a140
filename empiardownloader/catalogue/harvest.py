# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches all entries, a few hundred with each request, one request at a time.

What has come is kept at once: after any interruption it goes on where it was. Of entries that are there already only
those that have changed are written anew.
"""
import contextlib
import fcntl
import logging
import time
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Set, Tuple

from ..archive.api import fetch_entries_json, fetch_entry_json, search_emdb
from ..archive.errors import DiskError, EntryError, UnreachableError
from ..archive.stopping import NEVER, StopToken
from ..constants import EMDB_API_URL, EMPIAR_API_URL
from .facts import EMDB_FIELDS, EntryFacts, from_record, joined
from .store import Store, damage_said, record_print

logger = logging.getLogger(__name__)

FIRST_NUMBER = 10000
AT_ONCE = 500               # entries a request; others ask for as many
# Beyond the last entry that is known, so many numbers in a row without one are the end.
MOST_EMPTY = 3 * AT_ONCE
# So many entries in a row that cannot be read, each asked for alone: the archive is not there.
MOST_UNREAD = 5
# So many entries may be taken back between two harvests.
MOST_GONE, MOST_GONE_SHARE = 5, 0.01
# Of the maps that are known so many are in each of EMDB's answers.
LEAST_MAPS_SHARE = 0.9
# What an interrupted harvest brought is not asked for again, unless it is as old as this.
STALE_SECONDS = 24 * 3600
PAUSE_SECONDS = 0.5
# What EMDB is asked for: all that it has released, which is one table of some 10 MB.
ALL_MAPS = 'current_status:"REL"'


class Harvest(NamedTuple):
    """What was done."""
    entries: int                # that are known now
    changed: int                # new ones among them
    removed: int
    notes: List[str]            # what is missing, a sentence each

    def __str__(self) -> str:
        return "%d entries, %d of them new or changed%s." % (
            self.entries, self.changed, "; %d are gone" % self.removed if self.removed else "")


def harvest(store: Store, addresses: Mapping[str, str], stop: StopToken = NEVER,
            on_progress: Callable[[str], None] = lambda text: None, pause: float = PAUSE_SECONDS) -> Harvest:
    """Bring the catalogue up to date. Raises ArchiveError, Stopped; what has come by then is kept."""
    notes: List[str] = []
    with _alone(store.path, stop, on_progress), damage_said(store.path):
        changed, removed = _harvest_entries(store, addresses, stop, on_progress, pause, notes)
        changed |= _harvest_maps(store, addresses, stop, on_progress, notes)
        with store.change():
            store.note("checked", repr(time.time()))
    return Harvest(store.count(), len(changed), removed, notes)


def _harvest_entries(store: Store, addresses: Mapping[str, str], stop: StopToken, on_progress: Callable[[str], None],
                     pause: float, notes: List[str]) -> Tuple[Set[int], int]:
    changed: Set[int] = set()
    gone: List[int] = []
    empty = 0
    first = int(store.noted("next") or FIRST_NUMBER)
    if first == FIRST_NUMBER or time.time() - float(store.noted("began") or 0) > STALE_SECONDS:
        first = FIRST_NUMBER
        with store.change():
            store.note("began", repr(time.time()))
    at_once, last_known, short, maps = AT_ONCE, store.last_number(), 0, store.maps()
    came, unread, began_at = 0, 0, first
    while empty < MOST_EMPTY or first <= last_known:
        last, readable = first + at_once - 1, True
        try:
            records = fetch_entries_json(addresses[EMPIAR_API_URL], first, last, stop)
            unread = 0
        except EntryError:
            if at_once == 1:
                unread += 1
                if unread == MOST_UNREAD:
                    # Not these entries, but whoever answers in EMPIAR's place.
                    raise
                notes.append("EMPIAR-%d could not be read." % first)
                records, readable = {}, False
            else:
                # An answer that is always cut is too long: fewer at a time.
                at_once = max(1, at_once // 5)
                continue
        came += len(records)
        known = store.prints(first, last)
        fresh: Dict[int, Tuple[str, EntryFacts]] = {}
        for number, record in records.items():
            told = record_print(record)
            if known.get(number) == told:
                continue
            if "imagesets" not in record:
                short += 1
                try:
                    stop.pause(pause)
                    record = fetch_entry_json(addresses[EMPIAR_API_URL], str(number), stop)
                except EntryError as error:
                    # The next time it is asked for again.
                    notes.append(str(error))
                    told = ""
            fresh[number] = told, from_record(number, record)
        gone += [number for number in known if number not in records] if readable else []
        with store.change():
            for told, facts in fresh.values():
                store.put(told, facts, joined(facts, [maps[emdb_id] for emdb_id in facts.emdb if emdb_id in maps]))
            store.note("next", str(last + 1))
        changed.update(fresh)
        empty = 0 if records else empty + at_once
        on_progress("Entries up to EMPIAR-%d: %d" % (last, store.count()))
        first, at_once = last + 1, min(AT_ONCE, 5 * at_once)
        stop.pause(pause)
    if not came and began_at == FIRST_NUMBER:
        with store.change():
            store.note("next", None)
        msg = "EMPIAR's service answered, but not with a single entry: check EMPIAR_API_URL, or try again later."
        raise EntryError(msg)
    if len(gone) > max(MOST_GONE, MOST_GONE_SHARE * store.count()):
        # Entries are hardly ever taken back, and answers are often short.
        notes.append("EMPIAR told nothing of %d entries that are known: they stay in the list." % len(gone))
        gone = []
    with store.change():
        for number in gone:
            store.remove(number)
        store.note("next", None)
    if short:
        logger.info("%d entries came without their image sets, and were asked for one by one.", short)
    return changed, len(gone)


def _harvest_maps(store: Store, addresses: Mapping[str, str], stop: StopToken, on_progress: Callable[[str], None],
                  notes: List[str]) -> Set[int]:
    """Join the entries with EMDB's maps, by what either names of the other."""
    on_progress("Resolutions, methods and microscopes, from EMDB")
    try:
        rows = search_emdb(addresses[EMDB_API_URL], ALL_MAPS, EMDB_FIELDS, stop)
    except (EntryError, UnreachableError) as error:
        notes.append("%s Resolutions, methods and microscopes are missing, or as they were." % error)
        return set()
    by_id = {row["emdb_id"].upper(): row for row in rows if row.get("emdb_id")}
    known = store.maps()
    if len(set(known) & set(by_id)) < len(known) * LEAST_MAPS_SHARE or not by_id:
        notes.append("EMDB told %d maps, and not those that are known: resolutions, methods and microscopes are as "
                     "they were." % len(by_id))
        return set()
    naming: Dict[int, List[Mapping[str, str]]] = {}
    for row in rows:
        for name in row.get("xref_EMPIAR", "").replace(",", " ").replace(";", " ").split():
            digits = name.rpartition("-")[2]
            if digits.isdecimal() and len(digits) < 10:
                naming.setdefault(int(digits), []).append(row)
    changed, used = set(), {}
    with store.change():
        for entry_print, bare, facts in store.bare():
            linked: Dict[str, Mapping[str, str]] = {
                emdb_id: by_id[emdb_id] for emdb_id in bare.emdb if emdb_id in by_id}
            linked.update((row["emdb_id"].upper(), row) for row in naming.get(bare.number, []))
            used.update(linked)
            told = joined(bare, linked.values())
            if told != facts:
                store.put(entry_print, bare, told)
                changed.add(bare.number)
        store.put_maps(used.values())
    return changed


@contextlib.contextmanager
def _alone(path: str, stop: StopToken, on_progress: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process fills the catalogue. Raises Stopped."""
    try:
        stream = open(path + ".lock", "w")      # noqa: SIM115, closed below
    except OSError as error:
        msg = "The list of entries at %s cannot be written (%s)." % (path, error.strerror)
        raise DiskError(msg) from error
    with stream:
        told = False
        while True:
            try:
                fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    on_progress("Another command is fetching the list of entries: waiting for it")
                    told = True
            except OSError as error:
                # A file system without locks: two that fetch at a time cost requests, and no more.
                logger.info("%s cannot be locked (%s).", path, error.strerror)
                break
            stop.pause(0.2)
        yield
