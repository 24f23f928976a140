# SPDX-License-Identifier: GPL-3.0-or-later
"""A Scipion set in its SQLite file: what it says of itself, and its items.

Part of the child process (see __main__.py): standard library only, Python 3.6 or newer.
"""
import os
import re
import time

from databases import NotYetError, UnreadableError, Watched, opened

CHUNK = 1000        # items read at a time: few enough not to hold a writer up
COLUMN = re.compile(r"c\d+$")
PREFIX = re.compile(r"\w*$")
OPEN, CLOSED = "open", "closed"
# Items that are sets of images, in tables of their own. A series is there before its images are.
SERIES = ("TiltSeries", "TiltSeriesM")
SERIES_SECONDS = 30     # after which a series is told with the images it has


class SetFile:
    """The items come in the order of their ids; those that are added below one seen already come when they are seen."""

    def __init__(self, project_folder, path, prefix=""):
        self.folder, self.path, self.prefix = project_folder, path, prefix
        self._watched = Watched(path)
        self.problem = ""
        self._properties = {}
        self._columns = []              # (label, column)
        self._are_series = False
        self._series_since = {}         # when a series that lacked images was first seen
        self._first = None              # (id, creation) of an item seen: another creation means another set
        self._stamps = None
        self._forget()

    def _forget(self):
        self._seen = set()              # ids
        self._last = -1                 # the highest of them
        self._accounted = (0, 0.0)      # how many items are accounted for, and the sum of their ids

    @property
    def count(self):
        """How many items were seen."""
        return len(self._seen)

    def is_there(self):
        return os.path.exists(self.path)

    def refresh(self):
        """Look at what the set says of itself -> (whether there may be new items, whether it is another set now).

        Raises NotYetError, UnreadableError.
        """
        self._stamps = self._watched.stamps()
        if self._stamps is None:
            return False, False
        if not PREFIX.match(self.prefix):
            msg = "%s has tables of a name that is not known here (%r)." % (self.path, self.prefix)
            raise UnreadableError(msg)
        objects = self._table("Objects")
        with opened(self.path) as connection:
            properties = dict(connection.execute("SELECT key, value FROM %s" % self._table("Properties")).fetchall())
            classes = _classes(connection, self._table("Classes"))
            known = self._first and connection.execute("SELECT id, creation FROM %s WHERE id = ?" % objects,
                                                       self._first[:1]).fetchall()
            first = connection.execute("SELECT id, creation FROM %s ORDER BY id LIMIT 1" % objects).fetchall()
        self.problem = ""
        self._properties = properties
        self._columns = self._checked(classes)
        self._are_series = any(label == "self" and kind in SERIES for label, _, kind in classes)
        another = bool(known) and known[0] != self._first
        if another:
            self._forget()
        if first and (another or self._first is None):
            self._first = first[0]
        return True, another

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
        """The items that were not seen yet, in blocks -> (names of attributes, [(id, path, index, name, values)]).

        No connection is open between two blocks. Raises NotYetError, UnreadableError.
        """
        names = [label for label, _ in self._columns] + ["creation"]
        query = _query(self._columns, self._table("Objects"))
        while True:
            rows = self._rows(query + " WHERE id > %d ORDER BY id LIMIT %d" % (self._last, CHUNK))
            yield from self._blocks(names, rows)
            if len(rows) < CHUNK:
                break
        accounted = self._rows("SELECT count(*), total(id) FROM %s" % self._table("Objects"))[0]
        if accounted != self._accounted:
            # A protocol may finish the items of its input out of order, and items can be taken away.
            missed = sorted({row[0] for row in self._rows("SELECT id FROM %s" % self._table("Objects"))} - self._seen)
            for start in range(0, len(missed), CHUNK):
                rows = self._rows(query + " WHERE id IN (%s) ORDER BY id" % ", ".join(
                    "%d" % number for number in missed[start:start + CHUNK]))
                yield from self._blocks(names, rows)
            self._accounted = accounted
        self.has_looked()

    def _blocks(self, names, rows):
        if rows and not self._are_series:
            yield names, [self._item(names, row) for row in rows]
        # A series with its images, once all of them are there; later ones wait, so that the order is kept.
        for row in rows if self._are_series else ():
            known = dict(zip(names, row[2:]))
            images = self._images(known.get("_tsId") or "")
            if len(images) != known.get("_size"):
                since = self._series_since.setdefault(row[0], time.monotonic())
                if time.monotonic() - since < SERIES_SECONDS:
                    raise NotYetError
            item = self._item(names, row)
            if images:
                item[1] = images[0]["path"]
            item[4].append(images)
            yield [*names, "images"], [item]

    def _images(self, name):
        """The images of a series: [{'path', 'index', and all else that is known of them}]"""
        if not PREFIX.match(name):
            return []
        objects = '"%s_Objects"' % name
        try:
            with opened(self.path) as connection:
                columns = self._checked(_classes(connection, '"%s_Classes"' % name))
                rows = connection.execute(_query(columns, objects) + " ORDER BY id").fetchall()
        except NotYetError:
            return []
        images = []
        for row in rows:
            values = dict(zip([label for label, _ in columns], row[2:]))
            path = values.get("_filename")
            images.append(dict(values, path=os.path.join(self.folder, path) if path else None,
                               index=values.get("_index") or 0))
        return images

    def skip_items(self):
        """Take all items that are there now for seen. Raises NotYetError, UnreadableError."""
        self._seen = {row[0] for row in self._rows("SELECT id FROM %s" % self._table("Objects"))}
        self._last = max(self._seen) if self._seen else -1
        self._accounted = (len(self._seen), float(sum(self._seen)))
        self.has_looked()

    def _rows(self, query):
        with opened(self.path) as connection:
            return connection.execute(query).fetchall()

    def _item(self, names, row):
        number, label = row[:2]
        self._seen.add(number)
        self._last = max(self._last, number)
        self._accounted = (self._accounted[0] + 1, self._accounted[1] + number)
        values = [cell.hex() if isinstance(cell, bytes) else cell for cell in row[2:]]
        known = dict(zip(names, values))
        path = known.get("_filename")
        name = known.get("_micName") or known.get("_tsId") or (os.path.basename(path) if path else label)
        return [number, os.path.join(self.folder, path) if path else None, known.get("_index") or 0,
                name or str(number), values]

    def _table(self, name):
        return "%s_%s" % (self.prefix, name) if self.prefix else name

    def info(self):
        """What the set says of itself, in plain words."""
        found = self._properties
        info = {
            "size": _number(found.get("_size"), int), "stream_state": {"1": OPEN, "2": CLOSED}.get(
                found.get("_streamState")),
            "sampling_rate": _number(found.get("_samplingRate"), float), "gain": self._path("_gainFile"),
            "dark": self._path("_darkFile"), "dimensions": _numbers(found.get("_firstDim")),
            "acquisition": {_snake(name[len("_acquisition._"):]): _number(value, float) for name, value in
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
    return "SELECT id, label, %s FROM %s" % (", ".join([column for _, column in columns] + ["creation"]), table)


def _number(text, kind):
    try:
        return kind(text)
    except (TypeError, ValueError):
        return None


def _numbers(text):
    """'512,384,10' -> [512, 384, 10]"""
    try:
        return [int(float(part)) for part in text.split(",")]
    except (AttributeError, ValueError):
        return None


def _snake(name):
    """'sphericalAberration' -> 'spherical_aberration'"""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda found: "_" + found.group(1).lower(), name)
