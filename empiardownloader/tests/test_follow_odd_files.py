# SPDX-License-Identifier: GPL-3.0-or-later
"""Projects that are none, are damaged, locked, written by a killed program or read by somebody else."""
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from empiardownloader import follow
from empiardownloader.follow import FollowError, RemoteNodeWalker
from empiardownloader.tests.follow_case import BARE, END, NEW_DATA, NEW_NODE, PREPARED, TOP, FollowCase, children
from empiardownloader.tests.scipion_files import ProjectFiles, execute


class TestOddFiles(FollowCase):

    def refused(self, folder, db_name="", words=""):
        with self.assertRaisesRegex(FollowError, words):
            list(RemoteNodeWalker(folder, db_name).walk_events(wait=False))
        self.assertEqual([], children())

    def test_no_project(self):
        self.refused(os.path.join(self.folder, "nowhere"), words="There is no folder .*nowhere here")
        self.refused(self.folder, words="is no Scipion project: it has no project.sqlite")
        path = os.path.join(self.folder, "file")
        with open(path, "w"):
            pass
        self.refused(path, words="There is no folder")

    def test_names_that_are_none(self):
        for name in ("outputMovies", "2_Prot", "000002_Prot:", "000002_Prot:a:b", "../x"):
            with self.assertRaisesRegex(FollowError, "is no name of a run or an output"):
                RemoteNodeWalker(self.project.folder, name)
        for interval in (0, -1, float("nan")):
            with self.assertRaisesRegex(FollowError, "Between two looks"):
                RemoteNodeWalker(self.project.folder, interval=interval)
        for chosen in ((lambda node: True, "run"), (b"run",), 5):
            with self.assertRaisesRegex(FollowError, "A filter is a type"):
                self.walker().walk(chosen)
        for timeout in (-1, float("nan")):
            with self.assertRaisesRegex(FollowError, "A timeout is"):
                self.walker().walk_events(timeout=timeout)
        self.finished_run()
        self.assertEqual(6, len(list(self.walker().walk_events(timeout=2))))
        self.assertEqual(1, len(list(self.walker().walk(iter(["run"]), wait=False))))

    def test_garbage(self):
        run = self.finished_run()
        bad = self.finished_run()
        with open(os.path.join(bad.path, "outputMovies.sqlite"), "wb") as stream:
            stream.write(b"garbage " * 1000)
        events = list(self.walker().walk_events(wait=False))
        self.assertEqual([1, 2, 3], self.ids(events))
        node, = [event.node for event in events if event.node.db_name == bad.name + ":outputMovies"]
        self.assertRegex(node.info["problem"], "is no SQLite database, or a damaged one")
        self.assertIs(END, events[-1].type)
        self.refused(self.project.folder, bad.name + ":outputMovies", "is no SQLite database")
        with open(run.database, "wb") as stream:
            stream.write(b"garbage " * 1000)
        self.refused(self.project.folder, run.name, "run.db is no SQLite database")
        node = next(self.walker().walk(lambda node: node.db_name == run.name))
        self.assertIn("run.db is no SQLite", node.info["problem"])
        with open(self.project.database, "wb") as stream:
            stream.write(b"garbage " * 1000)
        self.refused(self.project.folder, words="project.sqlite is no SQLite database")

    def test_another_version_of_scipion(self):
        run = self.finished_run()
        other = self.finished_run()
        execute(os.path.join(run.path, "outputMovies.sqlite"),
                ["UPDATE Classes SET column_name = 'x); DROP' WHERE id = 3"])
        self.refused(self.project.folder, run.name + ":outputMovies", "a column of a name that is not known here")
        execute(other.database, ["ALTER TABLE Objects RENAME COLUMN classname TO kind"])
        self.refused(self.project.folder, other.name, "a version of Scipion that is not known here .no such column")

    def test_not_yet(self):
        run = self.project.add_run()
        run.launch()
        movie_set = run.add_output(movies=1)
        os.rename(movie_set.path, movie_set.path + "x")
        for content in (None, b""):
            if content is not None:
                with open(movie_set.path, "wb"):
                    pass
            events = self.walker().walk_events(timeout=2)
            self.assertEqual([(NEW_NODE, ""), (NEW_NODE, run.name)], self.told(events))
        events = self.walker().walk_events()
        next(events), next(events)
        os.replace(movie_set.path + "x", movie_set.path)
        self.assertEqual([NEW_NODE, PREPARED, NEW_DATA], [next(events).type for _ in range(3)])

    def test_a_hot_journal(self):
        """Left by a killed writer: the rows are right, and no byte is changed."""
        run = self.project.add_run()
        run.launch()
        movie_set = run.add_output(movies=500)
        script = ("import sqlite3, sys, time\n"
                  "database = sqlite3.connect(%r, isolation_level=None)\n"
                  "database.execute('PRAGMA cache_size = 1')\n"
                  "database.execute('BEGIN IMMEDIATE')\n"
                  "database.execute(\"UPDATE Objects SET c02 = 'dirty'\")\n"
                  "for number in range(1000, 3000):\n"
                  "    database.execute(\"INSERT INTO Objects (id, c02) VALUES (?, 'dirty')\", (number,))\n"
                  "print('now', flush=True)\n"
                  "time.sleep(99)\n" % movie_set.path)
        writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        writer.stdout.readline()
        writer.kill()
        writer.communicate()
        self.assertTrue(os.path.exists(movie_set.path + "-journal"))
        before = [self.bytes_of(movie_set.path), self.bytes_of(movie_set.path + "-journal")]
        events = list(self.walker().walk_events(wait=False))
        self.assertEqual(list(range(1, 501)), self.ids(events))
        self.assertEqual({True}, {item.path.endswith(".mrc") for event in events if event.type is NEW_DATA
                                  for item in event.data.data})
        self.assertEqual(before, [self.bytes_of(movie_set.path), self.bytes_of(movie_set.path + "-journal")])

    def bytes_of(self, path):
        with open(path, "rb") as stream:
            return stream.read()

    @unittest.skipIf(os.geteuid() != 0, "needs root, to become somebody else")
    def test_an_item_says_all_that_the_set_has_of_it(self):
        """F4, F13: whether it is enabled, its label and comment; of a CTF the micrograph that it is of."""
        run = self.project.add_run()
        run.launch()
        found = run.add_output("outputCTF", "SetOfCTF", movies=2)
        execute(found.path, ["UPDATE Objects SET enabled = 0, comment = 'bad ice', label = 'x' WHERE id = 2"],
                ["UPDATE Classes SET label_property = '_micObj._filename' WHERE label_property = '_filename'"],
                ["UPDATE Classes SET label_property = '_micObj._micName' WHERE label_property = '_micName'"])
        found.close()
        run.put(status="finished")
        items = [item for event in self.walker().walk_events(wait=False) if event.data and event.type.name == "NEW_DATA"
                 for item in event.data.data]
        self.assertEqual([(1, 1, ""), (2, 0, "bad ice")], [
            (item.id, item.attributes["enabled"], item.attributes["comment"]) for item in items])
        self.assertEqual("m_00001.mrc", items[0].name)
        self.assertTrue(items[0].path.endswith("extra/m_00001.mrc"))

    def test_a_hot_journal_is_copied_once(self):
        """F8: not for each thousand items; and a full disk for temporary files is that set's problem."""
        script = ("import os, sys\nsys.path.insert(0, %r)\nimport databases, shutil\ncopies = []\n"
                  "copy = shutil.copyfile\n"
                  "shutil.copyfile = lambda *names: copies.append(names) or copy(*names)\n"
                  "for _ in range(5):\n"
                  "    with databases.opened(sys.argv[1]) as connection:\n"
                  "        rows = connection.execute('SELECT count(*) FROM t').fetchall()[0][0]\n"
                  "print(rows, len(copies))\n") % os.path.join(os.path.dirname(follow.__file__), "child")
        path = os.path.join(self.folder, "hot.sqlite")
        writer = ("import os, sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\n"
                  "c.execute('CREATE TABLE t (a)')\nc.commit()\nc.execute('PRAGMA cache_size = 1')\n"
                  "c.executemany('INSERT INTO t VALUES (?)', [('x' * 500,)] * 5000)\nos.kill(os.getpid(), 9)\n")
        subprocess.run([sys.executable, "-c", writer, path], check=False)
        self.assertTrue(os.path.exists(path + "-journal"))
        os.chmod(path, 0o444)
        done = subprocess.run([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True, check=True)
        self.assertEqual("0 2", done.stdout.strip())

    def test_a_reader_without_write_permission(self):
        self.finished_run()
        os.chmod(self.folder, 0o755)
        script = ("import os; os.setgid(65534); os.setuid(65534)\n"
                  "from empiardownloader.follow import RemoteNodeWalker\n"
                  "events = RemoteNodeWalker(%r).walk_events(wait=False)\n"
                  "print(sum(event.data.block_size for event in events if event.data))" % self.project.folder)
        with tempfile.TemporaryDirectory() as folder:
            # Where somebody else can read it, wherever this is run from.
            os.chmod(folder, 0o755)
            shutil.copytree(os.path.join(TOP, "empiardownloader"), os.path.join(folder, "empiardownloader"))
            python = os.path.realpath(sys.executable)
            if not os.access(python, os.X_OK) or python.startswith("/root"):
                python = shutil.which("python3", path="/usr/bin:/bin")
            if python is None:
                self.skipTest("no Python that others may run")
            done = subprocess.run([python, "-S", "-c", script], env=dict(BARE, PYTHONPATH=folder),
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.assertEqual("3", done.stdout.strip())

    def test_fifty_runs_and_odd_paths(self):
        odd = os.path.join(self.folder, "a b#%?é:x")
        project = self.project = ProjectFiles(odd)
        for _ in range(50):
            self.finished_run(movies=2)
        events = list(RemoteNodeWalker(project.folder).walk_events(wait=False))
        self.assertEqual((50, 100), (sum(event.type is END for event in events), len(self.ids(events))))

    def test_beside_a_busy_writer(self):
        run = self.project.add_run()
        run.launch()
        movie_set = run.add_output(movies=0)
        events = self.walker(interval=0.01).walk_events("SetOfMovies")
        next(events)
        database = sqlite3.connect(movie_set.path, timeout=60)
        self.addCleanup(database.close)

        def write():
            for number in range(1, 301):
                with database:
                    database.execute("INSERT INTO Objects (id, creation, c02) VALUES (?, 'now', 'm')", (number,))
                time.sleep(0.003)

        database.close()
        database = sqlite3.connect(movie_set.path, timeout=60, check_same_thread=False)
        thread = threading.Thread(target=write)
        thread.start()
        found = []
        while len(found) < 300:
            found += self.ids([next(events)])
        thread.join()
        self.assertEqual(list(range(1, 301)), found)
