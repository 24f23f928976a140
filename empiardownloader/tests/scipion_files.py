# SPDX-License-Identifier: GPL-3.0-or-later
"""The databases of a Scipion project, written as Scipion writes them (columns and rows of pyworkflow 3.11), without
Scipion: what a walk reads, made in any state within milliseconds. Real runs: test_follow_runs.py."""
import contextlib
import os
import shutil
import sqlite3
import time

OBJECTS = ("CREATE TABLE Objects (id INTEGER PRIMARY KEY AUTOINCREMENT, parent_id INTEGER REFERENCES Objects(id), "
           "name TEXT, classname TEXT, value TEXT DEFAULT NULL, label TEXT DEFAULT NULL, comment TEXT DEFAULT NULL, "
           "creation DATE)")
SET_OBJECTS = ("CREATE TABLE Objects (id INTEGER PRIMARY KEY, enabled INTEGER DEFAULT 1, label TEXT DEFAULT NULL, "
               "comment TEXT DEFAULT NULL, creation DATE, c01 INTEGER DEFAULT NULL, c02 TEXT DEFAULT NULL, "
               "c03 REAL DEFAULT NULL, c04 TEXT DEFAULT NULL)")


def execute(path, *statements):
    """Statements, each with its values, in one transaction."""
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as database, database:
        for statement, *values in statements:
            database.execute(statement, values)


class ProjectFiles:
    """A project's folder."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(os.path.join(folder, "Runs"))
        self.database = os.path.join(folder, "project.sqlite")
        execute(self.database, [OBJECTS],
                ["INSERT INTO Objects (id, name, classname, value) VALUES (1, 'CreationTime', 'String', 'now')"])
        self._next = 2

    def ids(self, count):
        self._next += count
        return range(self._next - count, self._next)

    def add_run(self, class_name="ProtSomething", status="saved", **fields):
        return RunFiles(self, class_name, status, fields)


class RunFiles:
    """A run: its rows in the project's database, and its own."""

    def __init__(self, project, class_name, status, fields):
        self.project, self.id = project, project.ids(1)[0]
        self.name = "%06d_%s" % (self.id, class_name)
        self.path = os.path.join(project.folder, "Runs", self.name)
        self.database = os.path.join(self.path, "logs", "run.db")
        self.rows = {"status": ("String", status), "workingDir": ("String", "Runs/" + self.name),
                     "initTime": ("String", ""), "_pid": ("Integer", "0"), "_error": ("String", ""),
                     "_outputs": ("CsvList", ""), "_useQueue": ("Boolean", "0")}
        self.rows.update({name: ("String", str(value)) for name, value in fields.items()})
        self.numbers = dict(zip(self.rows, project.ids(len(self.rows))))
        self.outputs = []
        statements = [["INSERT INTO Objects (id, name, classname, label, comment) VALUES (?, '', ?, ?, '')",
                       self.id, class_name, "label of %d" % self.id]]
        self._insert = statements + [self._row(name) for name in self.rows]
        execute(project.database, *self._insert)

    def _row(self, name):
        class_name, value = self.rows[name]
        return ["INSERT INTO Objects (id, parent_id, name, classname, value) VALUES (?, ?, ?, ?, ?)",
                self.numbers[name], self.id, "%d.%s" % (self.id, name), class_name, value]

    def launch(self, status="running", pid=0):
        """As the engine does: the run's database is a copy of the project's, to which the launch was committed before
        (Project.launchProtocol); a run that goes on keeps its own here."""
        os.makedirs(os.path.dirname(self.database), exist_ok=True)
        if not os.path.exists(self.database):
            execute(self.project.database,
                    ["UPDATE Objects SET value = 'launched' WHERE id = ?", self.numbers["status"]])
            self._copy()
        self.put(status=status, _pid=pid, initTime=repr(time.time()))

    def _copy(self):
        with contextlib.closing(sqlite3.connect(self.project.database)) as source, \
                contextlib.closing(sqlite3.connect(self.database)) as copy:
            source.backup(copy)

    def put(self, **values):
        execute(self.database, *[["UPDATE Objects SET value = ? WHERE id = ?", str(value), self.numbers[name]]
                                 for name, value in values.items()])

    def add_output(self, name="outputMovies", class_name="SetOfMovies", movies=1, start=1):
        made = SetFiles(self, name, class_name)
        made.append(movies, start)
        self.name_output(name, class_name, made.relative, movies)
        return made

    def name_output(self, name, class_name, path, size):
        """The rows of an output whose set lies in a file below the project's folder."""
        self.outputs.append(name)
        number, *rest = self.project.ids(5)
        rows = [("_size", "Integer", size), ("_streamState", "Integer", 1),
                ("_mapperPath", "CsvList", path + ", "), ("_samplingRate", "Float", 1.5)]
        execute(self.database, [
            "INSERT INTO Objects (id, parent_id, name, classname) VALUES (?, ?, ?, ?)", number, self.id,
            "%d.%s" % (self.id, name), class_name], *[[
                "INSERT INTO Objects (id, parent_id, name, classname, value) VALUES (?, ?, ?, ?, ?)", row, number,
                "%d.%d.%s" % (self.id, number, field), kind, str(value)] for row, (field, kind, value) in
                zip(rest, rows)])
        self.put(_outputs=",".join(self.outputs))

    def delete(self):
        shutil.rmtree(self.path, ignore_errors=True)
        execute(self.project.database, ["DELETE FROM Objects WHERE id = ? OR parent_id = ?", self.id, self.id])


class SetFiles:
    """A set in a file of its own."""

    def __init__(self, run, name, class_name):
        self.run = run
        self.relative = "Runs/%s/%s.sqlite" % (run.name, name)
        self.path = os.path.join(run.project.folder, self.relative)
        execute(self.path, ["CREATE TABLE Properties (key TEXT UNIQUE, value TEXT DEFAULT NULL)"],
                ["CREATE TABLE Classes (id INTEGER PRIMARY KEY AUTOINCREMENT, label_property TEXT UNIQUE, "
                 "column_name TEXT UNIQUE, class_name TEXT DEFAULT NULL)"], [SET_OBJECTS],
                *[["INSERT INTO Classes (label_property, column_name, class_name) VALUES (?, ?, ?)", *row] for row in (
                    ("self", "c00", "Movie"), ("_index", "c01", "Integer"), ("_filename", "c02", "String"),
                    ("_samplingRate", "c03", "Float"), ("_micName", "c04", "String"))],
                *[["INSERT INTO Properties VALUES (?, ?)", *row] for row in (
                    ("self", class_name), ("_size", "0"), ("_streamState", "1"), ("_samplingRate", "1.5"),
                    ("_firstDim", "24,16,3"), ("_gainFile", "Runs/gain.mrc"), ("_darkFile", None),
                    ("_acquisition", None), ("_acquisition._voltage", "300.0"))])

    def append(self, count, start=1, created=None):
        created = created or time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        execute(self.path, *[
            ["INSERT INTO Objects (id, label, comment, creation, c01, c02, c03, c04) "
             "VALUES (?, '', '', ?, 0, ?, 1.5, ?)", number, created,
             "Runs/%s/extra/m_%05d.mrc" % (self.run.name, number), "m_%05d.mrc" % number]
            for number in range(start, start + count)],
            ["UPDATE Properties SET value = (SELECT count(*) FROM Objects) WHERE key = '_size'"])

    def make_series(self):
        """Let the items be tilt series, each of which has a table of its own."""
        execute(self.path, ["UPDATE Classes SET class_name = 'TiltSeries' WHERE label_property = 'self'"],
                ["UPDATE Classes SET label_property = '_size' WHERE label_property = '_index'"],
                ["UPDATE Classes SET label_property = '_tsId' WHERE label_property = '_micName'"],
                ["UPDATE Classes SET label_property = '_objLabel' WHERE label_property = '_filename'"])

    def append_series(self, number, images):
        execute(self.path, ["INSERT INTO Objects (id, label, creation, c01, c04) VALUES (?, '', 'now', ?, ?)",
                            number, images, "TS_%d" % number])

    def append_images(self, number, images):
        prefix = "TS_%d_" % number
        execute(self.path, [SET_OBJECTS.replace("Objects", prefix + "Objects")],
                ["CREATE TABLE %sClasses (id INTEGER PRIMARY KEY, label_property TEXT, column_name TEXT, "
                 "class_name TEXT)" % prefix],
                *[["INSERT INTO %sClasses (label_property, column_name, class_name) VALUES (?, ?, ?)" % prefix, *row]
                  for row in (("self", "c00", "TiltImage"), ("_index", "c01", "Integer"),
                              ("_filename", "c02", "String"), ("_tiltAngle", "c03", "Float"))],
                *[["INSERT INTO %sObjects (id, label, creation, c01, c02, c03) VALUES (?, '', 'now', ?, ?, ?)" % prefix,
                   image, image, "Runs/TS_%d.mrcs" % number, 10.0 * image] for image in range(1, images + 1)])

    def take(self, *numbers):
        execute(self.path, *[["DELETE FROM Objects WHERE id = ?", number] for number in numbers])

    def close(self):
        execute(self.path, ["UPDATE Properties SET value = '2' WHERE key = '_streamState'"])
