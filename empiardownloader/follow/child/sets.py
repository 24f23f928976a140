# SPDX-License-Identifier: GPL-3.0-or-later
"""A Scipion set in its SQLite file: what it says of itself, and its items.

Part of the child process (see __main__.py): standard library only, Python 3.6 or newer.
"""
import os
import re
import time

from cells import first_of, number_of, numbers_of, plain_cell, snake_case
from databases import (
    SAME_TICK_SECONDS,
    BusyError,
    NotYetError,
    RestartedError,
    UnreadableError,
    Watched,
    opened,
    stamp_of,
)
from marks import digest_of
from seen import SUMS, SeenItems

# What a set has of each item beside its attributes; an item that was rejected is not enabled.
OF_ITEMS = ["enabled", "label", "comment", "creation"]
# Where an item without a file of its own has the one it is about: a CTF its micrograph, a class its representative.
FILES = ("_filename", "_micObj._filename", "_representative._filename")
INDICES = ("_index", "_micObj._index", "_representative._index")
NAMES = ("_micName", "_micObj._micName", "_tsId", "_tomoId")
CHUNK = 1000        # items read at a time: few enough not to hold a writer up
COLUMN = re.compile(r"c\d+$")
PREFIX = re.compile(r"\w*$")
ALL = "SELECT id, creation FROM %s ORDER BY id"
OPEN, CLOSED = "open", "closed"
# Items that are sets of images, in tables of their own. A series is there before its images are.
SERIES = ("TiltSeries", "TiltSeriesM")
# Looking for changes reads the whole set: so many times as long as that took nobody looks again.
SCAN_REST = 4
SERIES_SECONDS = 30     # after which a series is told with the images it has


class SetFile:
    """The items come in the order of their ids; those that are added below one seen already come when they are seen.

    ``keeps_digests``: to find out which items have changed.
    """

    def __init__(self, project_folder, path, prefix="", keeps_digests=False):
        self._keeps_digests = keeps_digests
        self._to_take_up = None         # of an earlier walk: how much it had told
        self.micrograph_of = None       # of coordinates: gives the file of the micrograph of a number
        self.folder, self.path, self.prefix = project_folder, path, prefix
        self._watched = Watched(path)
        self.problem = ""
        self._properties = {}
        self._columns = []              # (label, column)
        self._are_series = False
        self._stamps = self._file = None
        self._forget()

    def _forget(self):
        self._seen = SeenItems()
        self._series_since = {}         # (id, creation) of a series that lacks images -> when it was first seen
        self._scanned_stamps = None     # of the file when it was looked at for changes
        self._is_scanned, self._scan_at = True, 0.0     # whether changes were looked for, and when they may be

    def take_up(self, state):
        """Go on where an earlier walk was, from the next look on."""
        self._to_take_up = state

    def refresh(self):
        """Look at what the set says of itself -> (whether there may be new items, whether it is another set now).

        Raises NotYetError, UnreadableError.
        """
        stamps = self._watched.stamps()
        if stamps is None:
            return False, False
        self._stamps = stamps
        if not PREFIX.match(self.prefix):
            msg = "%s has tables of a name that is not known here (%r)." % (self.path, self.prefix)
            raise UnreadableError(msg)
        file = self._stamps[0] and self._stamps[0][2]
        replaced = self._file is not None and file != self._file
        with opened(self.path) as connection:
            properties = dict(connection.execute("SELECT key, value FROM %s" % self._table("Properties")).fetchall())
            classes = _classes(connection, self._table("Classes"))
            self._columns = self._checked(classes)
            self._are_series = any(label == "self" and kind in SERIES for label, _, kind in classes)
            if self._to_take_up is not None:
                # It compares with what is kept: columns are new by now, properties and file still those of before.
                self._take_up(connection, self._to_take_up)
            another = self._is_another(connection, replaced)
        now = stamp_of(self.path)
        if (now and now[2]) != file:
            raise NotYetError       # another file by now, which would be told as a second one later
        self.problem = ""
        self._file = file
        self._properties = properties
        self._to_take_up = None
        if another:
            self._forget()
        # Where nothing was told before nothing can have changed, nor in a file that is as it was when looked at.
        self._is_scanned = not self._seen.digests or (self._stamps == self._scanned_stamps)
        return True, another

    def _take_up(self, connection, state):
        """Raises RestartedError where the set is another one than that of which the earlier walk told."""
        rows = connection.execute(ALL % self._table("Objects")).fetchall()
        if not self._seen.take_up(state, rows):
            raise RestartedError(self.path)
        if self._keeps_digests and self._seen.creations:
            rows = connection.execute(self._all_values()).fetchall()
            self._seen.take_up_digests(state, dict(self._digests_now(rows)))

    def state(self):
        """How much was told, as a position has it."""
        return self._seen.state()

    @property
    def digests(self):
        """[(id, digest)] of the items that are as they were told."""
        return [(number, digest) for number, digest in self._seen.digests.items() if digest is not None]

    def _is_another(self, connection, replaced):
        """Whether this is another set than the one whose items were seen, as after a Restart; if it is not, which of
        the items below the last one seen are new."""
        if not self._seen.creations:
            return replaced
        objects = self._table("Objects")
        sums = connection.execute("SELECT %s FROM %s WHERE id <= %d" % (SUMS, objects, self._seen.last)).fetchone()
        if not replaced and self._seen.has_all(sums):
            return False
        return self._seen.compare(connection.execute(ALL % objects).fetchall(), replaced)

    def _checked(self, classes):
        for _, column, _ in classes:
            if not COLUMN.match(column or ""):
                msg = "%s has a column of a name that is not known here (%r)." % (self.path, column)
                raise UnreadableError(msg)
        return [(label, column) for label, column, _ in classes if label != "self"]

    def has_looked(self):
        """What is there now needs no other look."""
        self._watched.has_read(self._stamps)

    def new_items(self):
        """The items that were not seen yet, in blocks -> (place of the first one in the set, names of attributes,
        [(id, path, index, name, values)]). The items of a block follow one another in the set.

        No connection is open between two blocks. Raises NotYetError, UnreadableError.
        """
        names, some_went = self._names(), False
        query = _query(self._columns, self._table("Objects"))
        while self._seen.missed:
            missed = self._seen.missed
            first, place = missed[0][0], 0
            numbers = []
            while place < min(len(missed), CHUNK) and missed[place][0] == first + place:
                numbers.append(missed[place][1])
                place += 1
            rows = self._rows(query + " WHERE id IN (%s) ORDER BY id" % ", ".join("%d" % number for number in numbers))
            del missed[:place]
            some_went = some_went or len(rows) < place
            try:
                for told, (row_names, items) in enumerate(self._blocks(names, rows)):
                    yield first + told, row_names, items
            except NotYetError:
                self._seen.look_below()     # to be found missing again
                raise
        while True:
            rows = self._rows(query + " WHERE id > %d ORDER BY id LIMIT %d" % (self._seen.last, CHUNK))
            for row_names, items in self._blocks(names, rows):
                yield self._seen.count - len(items), row_names, items
            if len(rows) < CHUNK:
                break
        if some_went:
            self._seen.look_below()     # since the look; they may come again
        self.has_looked()

    def _blocks(self, names, rows):
        if rows and not self._are_series:
            yield names, [self._item(names, row) for row in rows]
        # A series with its images, once all of them are there; later ones wait, so that the order is kept.
        for row in rows if self._are_series else ():
            values = self._values(names, row)
            known = dict(zip(names, values))
            if len(known["images"]) != known.get("_size"):
                since = self._series_since.setdefault((row[0], row[-1]), time.monotonic())
                if time.monotonic() - since < SERIES_SECONDS:
                    raise NotYetError
            self._series_since.pop((row[0], row[-1]), None)
            yield names, [self._item(names, row, values)]

    def _images(self, name):
        """The images of a series: [{'path', 'index', and all else that is known of them}]"""
        if not PREFIX.match(name):
            return []
        objects = '"%s_Objects"' % name
        try:
            with opened(self.path, name) as connection:
                columns = self._checked(_classes(connection, '"%s_Classes"' % name))
                rows = connection.execute(_query(columns, objects) + " ORDER BY id").fetchall()
        except BusyError:
            raise               # another look will tell; none is another thing
        except NotYetError:
            return []
        images = []
        for row in rows:
            values = dict(zip([label for label, _ in columns] + OF_ITEMS, map(plain_cell, row[2:])))
            path = values.get("_filename")
            images.append(dict(values, path=os.path.join(self.folder, path) if path else None,
                               index=values.get("_index") or 0))
        return images

    def skip_items(self):
        """Take all items that are there now for seen. Raises NotYetError, UnreadableError."""
        for number, creation in self._rows(ALL % self._table("Objects")):
            self._seen.see(number, creation)
        if self._keeps_digests:
            self._seen.digests.update(self._digests_now(self._rows(self._all_values())))
        self._seen.missed = []
        self.has_looked()

    def _rows(self, query):
        """Of the set that was looked at last. Raises NotYetError where it is another one by now."""
        witness = self._seen.witness
        try:
            with opened(self.path, query) as connection:
                rows = connection.execute(query).fetchall()
                # After them: what is written anew in between, be it in a file of the same number, lacks the witness.
                its = connection.execute("SELECT creation FROM %s WHERE id = %d" % (
                    self._table("Objects"), witness[0])).fetchone() if witness else None
        except UnreadableError:
            if stamp_of(self.path) != self._stamps[0]:
                raise NotYetError from None     # written anew since the look, with other columns say
            raise
        is_of_it = its == witness[1:] if witness else not (rows and self._seen.creations)
        if not is_of_it:
            self._seen.look_below()     # where it is the same set after all, it needs another witness
        stamp = stamp_of(self.path)
        if stamp is None or stamp[2] != self._file or not is_of_it:
            raise NotYetError
        return rows

    def wants_scan(self, at_once):
        """Whether it is time to look for changes; ``at_once``: also where the last look was not long ago."""
        return self._keeps_digests and not self._is_scanned and (at_once or time.monotonic() >= self._scan_at)

    @property
    def is_scanned(self):
        """Whether what is there now was looked at for changes."""
        return self._is_scanned

    def changed_items(self):
        """Blocks of items whose values are others than those that were told -> (place of the first one, names, items),
        as of new_items; at last (-1, names, items that are gone). Raises NotYetError, UnreadableError."""
        began = time.monotonic()
        names, query = self._names(), _query(self._columns, self._table("Objects"))
        left, last, place = set(self._seen.digests), -1, 0
        while True:
            rows = self._rows(query + " WHERE id > %d ORDER BY id LIMIT %d" % (last, CHUNK))
            block, first = [], place
            for row in rows:
                left.discard(row[0])
                if row[0] in self._seen.digests and self._is_changed(names, row):
                    if first + len(block) != place:
                        yield from self._changed(first, names, block)
                        block, first = [], place
                    first = place if not block else first
                    block.append(row)
                place += 1
            yield from self._changed(first, names, block)
            if len(rows) < CHUNK:
                break
            last = rows[-1][0]
        if left:
            for number in left:
                self._seen.drop(number)
            yield -1, [], [[number, None, 0, str(number), []] for number in sorted(left)]
        self._is_scanned = True
        # A change within the tick of the clock in which the file was read may not show.
        if time.time() - (self._stamps[0][0] / 1e9 if self._stamps[0] else 0) > SAME_TICK_SECONDS:
            self._scanned_stamps = self._stamps
        # A share of the time, however large the set is.
        self._scan_at = time.monotonic() + SCAN_REST * (time.monotonic() - began)

    def _is_changed(self, names, row):
        return digest_of(self._values(names, row)) != self._seen.digests[row[0]]

    def _changed(self, first, names, rows):
        if rows:
            yield first, names, [self._item(names, row) for row in rows]

    def _all_values(self):
        return _query(self._columns, self._table("Objects")) + " ORDER BY id"

    def _digests_now(self, rows):
        """(id, digest) of the items among the rows that were seen."""
        names = self._names()
        return [(row[0], digest_of(self._values(names, row))) for row in rows if row[0] in self._seen.creations]

    def _names(self):
        names = [label for label, _ in self._columns] + OF_ITEMS
        return names + ["images"] * self._are_series + ["micrograph"] * self._has_micrographs(names)

    def _has_micrographs(self, names):
        return self.micrograph_of is not None and "_micId" in names

    def _values(self, names, row):
        """What a message says of an item, of a series with its images, of coordinates with the micrograph's file."""
        values = list(map(plain_cell, row[2:]))
        known = dict(zip(names, values))
        if self._are_series:
            values.append(self._images(known.get("_tsId") or ""))
        if self._has_micrographs(names):
            values.append(self.micrograph_of(known["_micId"]))
        return values

    def _item(self, names, row, values=None):
        number, label = row[:2]
        self._seen.see(number, row[-1])
        values = values or self._values(names, row)
        if self._keeps_digests:
            self._seen.digests[number] = digest_of(values)
        known = dict(zip(names, values))
        path = first_of(known, FILES)
        name = first_of(known, NAMES) or (os.path.basename(path) if path else label)
        path = os.path.join(self.folder, path) if path else None
        if known.get("images"):
            path = known["images"][0]["path"]
        return [number, path, first_of(known, INDICES) or 0, name or str(number), values]

    def _table(self, name):
        return "%s_%s" % (self.prefix, name) if self.prefix else name

    def info(self):
        """What the set says of itself, in plain words."""
        found = self._properties
        info = {
            "size": number_of(found.get("_size"), int), "stream_state": {"1": OPEN, "2": CLOSED}.get(
                found.get("_streamState")),
            "sampling_rate": number_of(found.get("_samplingRate"), float), "gain": self._path("_gainFile"),
            "dark": self._path("_darkFile"), "dimensions": numbers_of(found.get("_firstDim")),
            "acquisition": {snake_case(name[len("_acquisition._"):]): number_of(value, float) for name, value in
                            found.items() if name.startswith("_acquisition._")},
            "properties": {name: value for name, value in found.items() if value not in (None, "None")}}
        if self.problem:
            info["problem"] = self.problem
        return info

    def _path(self, name):
        value = self._properties.get(name)
        return None if value in (None, "None", "") else os.path.join(self.folder, value)


def _classes(connection, table):
    return connection.execute("SELECT label_property, column_name, class_name FROM %s ORDER BY id" % table).fetchall()


def _query(columns, table):
    return "SELECT id, label, %s FROM %s" % (", ".join([column for _, column in columns] + OF_ITEMS), table)
