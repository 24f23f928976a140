# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue's database: one row an entry, and its words.

Several processes may read and write it: each change is a transaction, and a killed one leaves nothing half done.
"""
import contextlib
import hashlib
import json
import logging
import os
import sqlite3
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from ..archive.errors import DiskError
from ..constants import EMPIAR_API_URL, VARIABLES, cache_folder
from .facts import EntryFacts, ImageSetFacts
from .words import normal

logger = logging.getLogger(__name__)

# Another layout than the file's: it is built anew, since all that is in it can be had again.
LAYOUT = 2
LOCK_SECONDS = 5
LARGEST = float("inf")      # of a number: what is no number is not less, either
# What entries are ordered by, and whether that begins at the highest: the smallest first, the newest, the best.
ORDERS = {"size": ("size_bytes", False), "date": ("released", True), "resolution": ("resolution", False),
          "number": ("number", False), "title": ("words.title", False)}
NAMES = ("notes", "entries", "sets", "codes", "maps", "words")
FIELDS = ("title", "sample", "authors", "other")
TABLES = """
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS entries (
  number INTEGER PRIMARY KEY, print TEXT NOT NULL, record TEXT NOT NULL, facts TEXT NOT NULL, public INTEGER NOT NULL,
  size_bytes INTEGER, released TEXT, resolution REAL, method TEXT, microscope TEXT, experiment TEXT, kinds TEXT,
  formats TEXT);
CREATE TABLE IF NOT EXISTS sets (number INTEGER, kind TEXT, format TEXT, pixel_size REAL, images INTEGER);
CREATE INDEX IF NOT EXISTS sets_of ON sets (number);
CREATE TABLE IF NOT EXISTS codes (code TEXT, number INTEGER, PRIMARY KEY (code, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS codes_of ON codes (number);
CREATE TABLE IF NOT EXISTS maps (emdb_id TEXT PRIMARY KEY, row TEXT NOT NULL) WITHOUT ROWID;
"""


class Row(NamedTuple):
    """What is ranked: an entry's words as words.normal makes them, and what decides between equals."""
    number: int
    title: str
    sample: str
    authors: str
    other: str
    released: str
    has_movies: bool


class Store:

    def __init__(self, path: str, patience: float = LOCK_SECONDS):
        """``patience``: seconds to wait for a program that writes to it. Raises DiskError where the folder takes no
        file."""
        self.path, self._patience = path, patience
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._database = self._open()
        except (OSError, sqlite3.Error) as error:
            msg = "The list of entries at %s cannot be opened (%s): set XDG_CACHE_HOME to a folder that you may " \
                  "write to." % (path, getattr(error, "strerror", None) or error)
            if "locked" in str(error):
                msg = "The list of entries at %s is locked by another program, or lies on a file system without " \
                      "locks: wait for that program, or set XDG_CACHE_HOME to a folder of a local disk." % path
            raise DiskError(msg) from error

    def _open(self) -> sqlite3.Connection:
        try:
            return self._prepared()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "lock" in str(error) and os.path.exists(self.path):
                return self._without_locks(error)
            # Locked, not to be read or written: it stays as it is. But for full text that this Python does not have.
            if isinstance(error, sqlite3.OperationalError) and "no such module" not in str(error):
                raise
        # It is damaged, or no database at all: all that was in it can be had again.
        logger.warning("The list of entries at %s was damaged: it is made anew.", self.path)
        os.remove(self.path)
        return self._prepared()

    def _without_locks(self, error: sqlite3.OperationalError) -> sqlite3.Connection:
        """To be read as it is: homes on some network file systems have no locks, and another program may hold one."""
        database = sqlite3.connect(Path(self.path).absolute().as_uri() + "?immutable=1", uri=True, isolation_level=None)
        try:
            if database.execute("PRAGMA user_version").fetchone()[0] != LAYOUT:
                raise error
            self._find_full_text(database)
        except BaseException:
            database.close()
            raise
        return database

    def _find_full_text(self, database: sqlite3.Connection) -> None:
        found = database.execute("SELECT sql FROM sqlite_master WHERE name = 'words'").fetchone()
        self.has_full_text = "fts5" in found[0]
        if self.has_full_text:
            # Made by a Python that has it, and read by one that may not.
            database.execute("SELECT rowid FROM words LIMIT 1").fetchone()

    def _prepared(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=self._patience, isolation_level=None)
        try:
            layout = database.execute("PRAGMA user_version").fetchone()[0]
            if layout != LAYOUT or not _is_whole(database):
                _make_anew(database)
            self._find_full_text(database)
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        self._database.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """All that is written in the block, or nothing. Raises DiskError."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                _roll_back(self._database)
                raise
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            msg = "The list of entries at %s cannot be written (%s)." % (self.path, error)
            raise DiskError(msg) from error

    # ------------------------------------------------------------ what it says of itself

    def note(self, name: str, value: Optional[str]) -> None:
        if value is None:
            self._database.execute("DELETE FROM notes WHERE name = ?", (name,))
        else:
            self._database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def noted(self, name: str) -> Optional[str]:
        found = self._database.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    @property
    def age(self) -> Optional[float]:
        """Seconds since all entries were asked for, None where that was never done to the end."""
        try:
            return max(0.0, time.time() - float(self.noted("checked") or ""))
        except ValueError:
            return None

    def count(self) -> int:
        return int(self._database.execute("SELECT COUNT(*) FROM entries WHERE public").fetchone()[0])

    # ------------------------------------------------------------ entries

    def prints(self, first: int, last: int) -> Dict[int, str]:
        """What tells one version of an entry's record from another, by number."""
        return dict(self._database.execute("SELECT number, print FROM entries WHERE number BETWEEN ? AND ?", (
            first, last)))

    def last_number(self) -> int:
        return int(self._database.execute("SELECT COALESCE(MAX(number), 0) FROM entries").fetchone()[0])

    def put(self, record_print: str, bare: EntryFacts, facts: EntryFacts) -> None:
        """``bare``: the entry without what EMDB says."""
        self.remove(facts.number)
        put = self._database.execute
        put("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (
            facts.number, record_print, json.dumps(asdict(bare)), json.dumps(asdict(facts)), facts.is_public,
            facts.size_bytes, facts.released, facts.resolution, normal(facts.method), normal(facts.microscope),
            normal(facts.experiment), "|%s|" % "|".join(facts.kinds), "|%s|" % "|".join(facts.formats).lower()))
        self._database.executemany("INSERT INTO sets VALUES (?, ?, ?, ?, ?)", [
            (facts.number, each.kind, each.data_format.lower(), each.pixel_size, each.images)
            for each in facts.image_sets])
        self._database.executemany("INSERT OR IGNORE INTO codes VALUES (?, ?)", [
            (code, facts.number) for code in (*facts.emdb, *facts.pdb)])
        if facts.is_public:
            codes = " ".join((*facts.emdb, *facts.pdb, "EMPIAR %d" % facts.number))
            put("INSERT INTO words (rowid, title, sample, authors, other) VALUES (?, ?, ?, ?, ?)", (
                facts.number, normal(facts.title), normal("%s %s %s" % (
                    facts.sample, facts.method, facts.microscope)), normal(" ".join(facts.authors)),
                normal("%s %s" % (facts.other, codes))))

    def remove(self, number: int) -> None:
        for table, column in (("entries", "number"), ("sets", "number"), ("codes", "number"), ("words", "rowid")):
            self._database.execute("DELETE FROM %s WHERE %s = ?" % (table, column), (number,))

    def facts(self, numbers: Iterable[int]) -> List[EntryFacts]:
        """Those that are there, in the order of the numbers."""
        found = []
        for number in numbers:
            row = self._database.execute("SELECT facts FROM entries WHERE number = ?", (number,)).fetchone()
            if row:
                found.append(_facts(json.loads(row[0])))
        return found

    def bare(self) -> Iterator[Tuple[str, EntryFacts, EntryFacts]]:
        """(print, the entry without what EMDB says, with it) of all."""
        for row in self._database.execute("SELECT print, record, facts FROM entries ORDER BY number").fetchall():
            yield row[0], _facts(json.loads(row[1])), _facts(json.loads(row[2]))

    # ------------------------------------------------------------ EMDB

    def put_maps(self, rows: Iterable[Mapping[str, str]]) -> None:
        """All that are known from now on."""
        self._database.execute("DELETE FROM maps")
        self._database.executemany("INSERT OR REPLACE INTO maps VALUES (?, ?)", [
            (row["emdb_id"].upper(), json.dumps(row)) for row in rows])

    def maps(self) -> Dict[str, Dict[str, str]]:
        return {emdb_id: json.loads(row) for emdb_id, row in self._database.execute("SELECT emdb_id, row FROM maps")}

    # ------------------------------------------------------------ finding

    def ordered(self, numbers: Iterable[int], order: str, reverse: bool = False) -> List[int]:
        """Numbers in one of ORDERS, or the other way round; entries of which it is not known come last."""
        wanted = set(numbers)
        column, falls = ORDERS[order]
        rows = self._database.execute(
            "SELECT number FROM entries JOIN words ON words.rowid = number ORDER BY COALESCE(%s, '') = '', %s %s, "
            "number" % (column, column, "DESC" if falls != reverse else "ASC"))
        return [number for number, in rows if number in wanted]

    def with_code(self, code: str) -> Set[int]:
        """Public entries with an EMDB or PDB id."""
        return {number for number, in self._database.execute(
            "SELECT codes.number FROM codes JOIN entries ON entries.number = codes.number WHERE code = ? AND public", (
                code,))}

    def select(self, conditions: List[Tuple[str, Tuple[Any, ...]]]) -> Set[int]:
        """Public entries by what is in the columns; conditions are SQL of this module's tables."""
        where = " AND ".join(["public", *[text for text, _ in conditions]])
        values = [value for _, its in conditions for value in its]
        return {number for number, in self._database.execute("SELECT number FROM entries WHERE " + where, values)}

    def with_words(self, groups: List[List[Tuple[str, bool]]]) -> List[Row]:
        """Entries that have one name of each group; (name, whether its last word may go on)."""
        if self.has_full_text:
            asked = " AND ".join("(%s)" % " OR ".join('"%s"%s' % (name, " *" if open_end else "")
                                                      for name, open_end in group) for group in groups)
            where, values = "words MATCH ?", [asked]
        else:
            all_text = "(title || sample || authors || other)"
            where = " AND ".join("(%s)" % " OR ".join("%s LIKE ?" % all_text for _ in group) for group in groups)
            values = ["%% %s%s%%" % (name, "" if open_end else " ") for group in groups for name, open_end in group]
        rows = self._database.execute(
            "SELECT words.rowid, words.title, sample, authors, other, released, kinds LIKE '%|movies|%' FROM words "
            "JOIN entries ON entries.number = words.rowid WHERE " + where, values)
        return [Row(*row) for row in rows]

    def vocabulary(self) -> Set[str]:
        """All words of titles, samples and authors."""
        found: Set[str] = set()
        for row in self._database.execute("SELECT title, sample, authors FROM words"):
            for text in row:
                found.update(text.split())
        return found


def _is_whole(database: sqlite3.Connection) -> bool:
    there = {name for name, in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return set(NAMES) <= there


def _make_anew(database: sqlite3.Connection) -> None:
    """All tables, or none: who is killed in between leaves what the next one makes anew."""
    database.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been quicker.
        if database.execute("PRAGMA user_version").fetchone()[0] != LAYOUT or not _is_whole(database):
            for name, kind in database.execute("SELECT name, type FROM sqlite_master WHERE name IN (%s)" % ", ".join(
                    "?" * len(NAMES)), NAMES).fetchall():
                database.execute("DROP %s %s" % (kind, name))
            for statement in TABLES.split(";"):
                database.execute(statement)
            _make_words(database)
            database.execute("PRAGMA user_version = %d" % LAYOUT)
        database.execute("COMMIT")
    except BaseException:
        _roll_back(database)
        raise


def _roll_back(database: sqlite3.Connection) -> None:
    # A full disk may have done it already.
    with contextlib.suppress(sqlite3.Error):
        database.execute("ROLLBACK")


def _has_layout(path: str) -> bool:
    with damage_said(path), contextlib.closing(sqlite3.connect(
            Path(path).absolute().as_uri() + "?mode=ro", uri=True, timeout=0)) as database:
        found: bool = database.execute("PRAGMA user_version").fetchone()[0] == LAYOUT
    return found


@contextlib.contextmanager
def damage_said(path: str) -> Iterator[None]:
    """Errors in reading the database become a DiskError."""
    try:
        yield
    except (sqlite3.Error, json.JSONDecodeError) as error:
        msg = "The list of entries at %s cannot be read (%s): delete that file, and it is fetched anew." % (path, error)
        raise DiskError(msg) from error


def _make_words(database: sqlite3.Connection) -> None:
    columns = ", ".join(FIELDS)
    try:
        database.execute("CREATE VIRTUAL TABLE words USING fts5(%s, tokenize = 'unicode61')" % columns)
    except sqlite3.OperationalError:
        # A Python without full text search: the same words, found more slowly.
        database.execute("CREATE TABLE words (%s)" % columns)


def record_print(record: Any) -> str:
    return hashlib.sha1(json.dumps(record, sort_keys=True).encode("utf-8", "replace")).hexdigest()


def default_path(addresses: Mapping[str, str]) -> str:
    """Where the entries of an archive are kept on this machine."""
    address = addresses[EMPIAR_API_URL]
    mark = "" if address == VARIABLES[EMPIAR_API_URL][0] else "-" + hashlib.sha1(address.encode()).hexdigest()[:8]
    return os.path.join(cache_folder(), "catalogue%s.sqlite" % mark)


@contextlib.contextmanager
def kept(addresses: Mapping[str, str], patience: float = LOCK_SECONDS) -> "Iterator[Optional[Store]]":
    """The catalogue of this machine, None where there is none yet; ``patience``: as Store has it, with 0 it is only
    read, and one of another layout left alone. Raises DiskError."""
    path = default_path(addresses)
    if not os.path.exists(path) or (not patience and not _has_layout(path)):
        yield None
        return
    store = Store(path, patience)
    try:
        with damage_said(path):
            yield store
    finally:
        store.close()


def _facts(data: Dict[str, Any]) -> EntryFacts:
    try:
        data["image_sets"] = tuple(ImageSetFacts(**each) for each in data["image_sets"])
        for name in ("authors", "emdb", "pdb"):
            data[name] = tuple(data[name])
        facts = EntryFacts(**data)
        numbers = [facts.size_bytes, *(each.images for each in facts.image_sets)]
        if not all(isinstance(text, str) for each in facts.image_sets for text in (each.name, each.kind)) or not all(
                number is None or (isinstance(number, (int, float)) and number < LARGEST) for number in numbers):
            raise TypeError
        return facts
    except (KeyError, TypeError) as error:
        msg = "an entry is damaged"
        raise sqlite3.DatabaseError(msg) from error
