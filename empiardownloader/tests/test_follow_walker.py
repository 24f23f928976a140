# SPDX-License-Identifier: GPL-3.0-or-later
"""The walker's contract, over projects written without Scipion: each iterator, filters, ends, order, odd files."""
import contextlib
import gc
import json
import os
import pickle
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import empiardownloader
from empiardownloader.follow import Event, EventType, FollowError, Item, NodeContent, RemoteNodeWalker
from empiardownloader.tests.scipion_files import ProjectFiles, execute

NEW_NODE, NEW_DATA, PREPARED, END = (
    EventType.NEW_NODE, EventType.NEW_DATA, EventType.PREPARED_SCAN, EventType.END_SCAN)
TOP = os.path.dirname(os.path.dirname(os.path.abspath(empiardownloader.__file__)))
# As on a machine where nothing is installed: the package alone, and no site-packages.
BARE = {"PYTHONPATH": TOP, "PATH": os.environ["PATH"]}


def children(pid=None):
    """The readers that a process has begun and that still live."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                with open("/proc/%s/stat" % name) as stream:
                    state, parent = stream.read().rpartition(")")[2].split()[:2]
                with open("/proc/%s/cmdline" % name, "rb") as stream:
                    if b"follow/child" in stream.read() and int(parent) == (pid or os.getpid()) and state != "Z":
                        found.append(int(name))
    return found


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class FollowCase(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="empiar-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.project = ProjectFiles(os.path.join(self.folder, "Project"))

    def walker(self, db_name="", **options):
        options.setdefault("interval", 0.05)
        walker = RemoteNodeWalker(self.project.folder, db_name, **options)
        self.addCleanup(walker.__exit__)
        return walker

    def finished_run(self, movies=3, **options):
        run = self.project.add_run(**options)
        run.launch()
        movie_set = run.add_output(movies=movies)
        movie_set.close()
        run.put(status="finished")
        return run

    def told(self, events):
        return [(event.type, event.node.db_name) for event in events]

    def ids(self, events):
        return [item.id for event in events if event.type is NEW_DATA for item in event.data.data]

    def wait_for(self, condition, seconds=10, what="it"):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            result = condition()
            if result:
                return result
            time.sleep(0.02)
        return self.fail("%s did not happen within %d s" % (what, seconds))


class TestNodes(FollowCase):

    def setUp(self):
        super().setUp()
        self.one = self.finished_run()
        self.two = self.finished_run(class_name="ProtOther", inputs="x")
        self.saved = self.project.add_run()
        self.names = ["", self.one.name, self.one.name + ":outputMovies", self.two.name,
                      self.two.name + ":outputMovies", self.saved.name]

    def walked(self, walk):
        return [node.db_name for node in walk]

    def test_parents_before_children(self):
        nodes = list(self.walker().walk(wait=False))
        self.assertEqual(self.names, [node.db_name for node in nodes])
        self.assertEqual(["project", "run", "SetOfMovies", "run", "SetOfMovies", "run"], [node.type for node in nodes])
        self.assertEqual(self.project.folder, nodes[0].path)
        self.assertEqual(self.two.path, nodes[3].path)
        self.assertEqual(("finished", "ProtOther", "label of %d" % self.two.id, {"inputs": "x"}), tuple(
            nodes[3].info[name] for name in ("status", "class", "label", "form")))
        info = nodes[4].info
        self.assertEqual((3, "closed", 1.5, [24, 16, 3], {"voltage": 300.0}), tuple(
            info[name] for name in ("size", "stream_state", "sampling_rate", "dimensions", "acquisition")))
        self.assertEqual(os.path.join(self.project.folder, "Runs/gain.mrc"), info["gain"])
        self.assertIsNone(info["dark"])

    def test_filters(self):
        walker = self.walker()
        for chosen, names in (("run", [self.one.name, self.two.name, self.saved.name]),
                              (("project", "SetOfMovies"), ["", self.names[2], self.names[4]]),
                              (["SetOfMovies"], [self.names[2], self.names[4]]), ("SetOfCoordinates", []),
                              (lambda node: node.info.get("class") == "ProtOther", [self.two.name])):
            self.assertEqual(names, self.walked(walker.walk(chosen, wait=False)))
        for excluded in ("run", lambda node: node.type == "run"):
            self.assertEqual(["", self.one.name, self.two.name, self.saved.name],
                             self.walked(walker.walk(exclude_children=excluded, wait=False)))
        self.assertEqual(self.names[:2] + self.names[3:], self.walked(walker.walk(
            exclude_children=lambda node: node.db_name == self.one.name, wait=False)))
        self.assertEqual([""], self.walked(walker.walk(exclude_children=("project",), wait=False)))

    def test_wait(self):
        found = []
        walk = self.walker().walk("run")
        for node in walk:
            found.append(node.db_name)
            if len(found) == 3:
                new = self.project.add_run()
            elif len(found) == 4:
                break
        self.assertEqual(new.name, found[3])
        walk.close()
        self.assertEqual([], list(walk))

    def test_a_single_node_and_addresses(self):
        for node in self.walker().walk(wait=False):
            walker = self.walker(node.db_name)
            below = [name for name in self.names if name == node.db_name or not node.db_name
                     or name.startswith(node.db_name + ":")]
            self.assertEqual(below, self.walked(walker.walk(wait=False)))

    def test_a_node_that_is_not_there_yet(self):
        name = "%06d_ProtSomething" % (self.saved.id + 8)
        self.assertEqual([], list(self.walker(name).walk(wait=False)))
        self.assertEqual([], list(self.walker(name + ":outputMovies").walk_events(wait=False)))
        with self.walker(name + ":outputMovies").walk_events() as events:
            run = self.project.add_run()
            self.assertEqual(name, run.name)
            run.launch()
            run.add_output("outputCoordinates", "SetOfCoordinates")
            run.add_output(movies=2)
            self.assertEqual([(NEW_NODE, name + ":outputMovies"), (NEW_DATA, name + ":outputMovies")],
                             self.told([next(events), next(events)]))
            run.put(status="finished")
            self.assertEqual((END, name), self.told([next(events)])[0])

    def test_walk_from_last(self):
        walker = self.walker()
        self.assertEqual([self.saved.name], self.walked(walker.walk_from_last(wait=False)))
        self.assertEqual([self.names[4]], self.walked(walker.walk_from_last("SetOfMovies", wait=False)))
        self.assertEqual([], self.walked(walker.walk_from_last("SetOfMovies", wait=False, include_last=False)))
        self.assertEqual([self.two.name], self.walked(walker.walk_from_last(
            lambda node: node.info.get("class") == "ProtOther", wait=False)))
        self.assertEqual([], self.walked(walker.walk_from_last("SetOfClasses2D", wait=False)))

    def test_walk_from_last_and_on(self):
        for include_last in (True, False):
            with self.walker().walk_from_last("run", include_last=include_last) as walk:
                newest = "%06d" % (self.project.ids(0).stop)
                self.project.add_run()
                found = [next(walk).name for _ in range(1 + include_last)]
            self.assertEqual(newest, found[-1][:6])


class TestEvents(FollowCase):

    def test_the_order_of_a_run(self):
        events = self.walker().walk_events()
        seen = [next(events)]
        run = self.project.add_run()
        seen.append(next(events))
        run.launch()
        movie_set = run.add_output(movies=2)
        seen += [next(events) for _ in range(3)]
        movie_set.append(3, start=3)
        seen.append(next(events))
        movie_set.close()
        run.put(status="finished")
        seen.append(next(events))
        output = run.name + ":outputMovies"
        self.assertEqual([(NEW_NODE, ""), (NEW_NODE, run.name), (NEW_NODE, output), (PREPARED, run.name),
                          (NEW_DATA, output), (NEW_DATA, output), (END, run.name)], self.told(seen))
        first, second = seen[4].data, seen[5].data
        self.assertEqual((0, 2, 2, 3), (first.first_index, first.block_size, second.first_index, second.block_size))
        self.assertEqual([1, 2, 3, 4, 5], self.ids(seen))
        item = second.data[0]
        self.assertEqual((3, os.path.join(run.path, "extra", "m_00003.mrc"), 0, "m_00003.mrc"),
                         (item.id, item.path, item.index, item.name))
        self.assertEqual(1.5, item.attributes["_samplingRate"])
        self.assertEqual(("finished", None), (seen[6].data.data, seen[6].data.description))
        self.assertEqual("open", seen[5].node.info["stream_state"])

    def test_what_was_there(self):
        runs = [self.finished_run(movies) for movies in (0, 1, 2500)]
        events = list(self.walker().walk_events(wait=False))
        expected = [(NEW_NODE, "")]
        for run, blocks in zip(runs, (0, 1, 3)):
            output = run.name + ":outputMovies"
            expected += [(NEW_NODE, run.name), (NEW_NODE, output), (PREPARED, run.name)]
            expected += [(NEW_DATA, output)] * blocks + [(END, run.name)]
        self.assertEqual(expected, self.told(events))
        self.assertEqual([1, *range(1, 2501)], self.ids(events))
        self.assertEqual([0, 1000, 2000], [event.data.first_index for event in events[-4:-1]])

    def test_filters(self):
        run = self.finished_run()
        output = run.name + ":outputMovies"
        walker = self.walker()
        for chosen in ("SetOfMovies", lambda node: node.type == "SetOfMovies"):
            self.assertEqual([(NEW_NODE, output), (NEW_DATA, output)],
                             self.told(walker.walk_events(chosen, wait=False)))
        for chosen in ("run", lambda node: node.type == "run"):
            self.assertEqual([NEW_NODE, PREPARED, END],
                             [event.type for event in walker.walk_events(chosen, wait=False)])
        for excluded in ("run", lambda node: node.type == "run"):
            self.assertEqual([(NEW_NODE, ""), (NEW_NODE, run.name), (PREPARED, run.name), (END, run.name)],
                             self.told(walker.walk_events(exclude_children=excluded, wait=False)))
        for excluded in ("SetOfMovies", lambda node: node.type == "SetOfMovies"):
            self.assertEqual([], self.ids(walker.walk_events(exclude_children=excluded, wait=False)))

    def test_only_what_is_new(self):
        old = self.finished_run()
        going = self.project.add_run()
        going.launch()
        movie_set = going.add_output(movies=5)
        started = threading.Event()
        events = self.walker().walk_on_new_events(started_event=started)
        self.assertTrue(started.is_set())
        movie_set.append(2, start=6)
        event = next(events)
        self.assertEqual((NEW_DATA, going.name + ":outputMovies"), self.told([event])[0])
        self.assertEqual((5, [6, 7]), (event.data.first_index, self.ids([event])))
        going.put(status="finished")
        self.assertEqual([(END, going.name)], self.told([next(events)]))
        new = self.project.add_run()
        self.assertEqual([(NEW_NODE, new.name)], self.told([next(events)]))
        self.assertEqual([], list(self.walker().walk_on_new_events(wait=False)))
        self.assertEqual([], list(self.walker(old.name).walk_on_new_events(timeout=0.3)))
        for chosen in (None, lambda node: True):
            with self.walker().walk_on_new_events(chosen, exclude_children=lambda node: node.db_name == going.name) as \
                    events:
                movie_set.append(1, start=100)
                last = self.project.add_run()
                self.assertEqual([(NEW_NODE, last.name)], self.told([next(events)]))
            movie_set.take(100)

    def test_timeout(self):
        self.finished_run()
        begun = time.monotonic()
        self.assertEqual(6, len(list(self.walker().walk_events(timeout=0.7))))
        self.assertGreater(time.monotonic() - begun, 0.6)
        # What a filter leaves out is no event.
        run = self.project.add_run()
        run.launch()
        movie_set = run.add_output()
        events = self.walker().walk_on_new_events("project", timeout=0.6)
        ended = threading.Event()

        def append():
            for start in range(2, 100):
                if ended.is_set():
                    return
                movie_set.append(1, start)
                time.sleep(0.1)

        thread = threading.Thread(target=append)
        thread.start()
        self.assertEqual([], list(events))
        ended.set()
        thread.join()

    def test_a_run_that_fails(self):
        run = self.project.add_run()
        run.launch()
        run.put(status="failed", _error="The movie is too dark.")
        events = list(self.walker().walk_events(wait=False))
        self.assertEqual([(NEW_NODE, ""), (NEW_NODE, run.name), (END, run.name)], self.told(events))
        self.assertEqual(("failed", "The movie is too dark."), (events[-1].data.data, events[-1].data.description))

    def test_continued_after_its_end(self):
        run = self.finished_run()
        events = self.walker(run.name).walk_events()
        self.assertEqual([NEW_NODE, NEW_NODE, PREPARED, NEW_DATA, END], [next(events).type for _ in range(5)])
        run.launch()
        execute(run.database, ["DELETE FROM Objects WHERE classname = 'SetOfMovies' OR name LIKE '%.%.%'"])
        time.sleep(0.3)     # the copy of the project's database knows of no output
        run.add_output("again")
        movie_set = os.path.join(run.path, "outputMovies.sqlite")
        execute(movie_set, ["INSERT INTO Objects (id, creation, c02) VALUES (9, 'now', 'm_9.mrc')"])
        seen = [next(events) for _ in range(3)]
        self.assertEqual({(NEW_NODE, run.name + ":again"), (PREPARED, run.name), (NEW_DATA, run.name + ":again")},
                         set(self.told(seen)))

    def test_restarted(self):
        run = self.finished_run(movies=4)
        events = self.walker(run.name).walk_events()
        for _ in range(5):
            next(events)
        shutil.rmtree(run.path)
        run.launch()
        time.sleep(0.2)
        run.outputs.clear()
        movie_set = run.add_output(movies=0)
        movie_set.append(2, created="2037-01-01 00:00:00")
        seen = [next(events) for _ in range(3)]
        self.assertEqual({NEW_NODE, PREPARED, NEW_DATA}, {event.type for event in seen})
        self.assertEqual([1, 2], self.ids(seen))
        self.assertEqual([0], [event.data.first_index for event in seen if event.type is NEW_DATA])
        run.put(status="finished")
        self.assertIs(END, next(events).type)

    def test_restarted_with_other_ids(self):
        """A subset's ids are those of its source: the first one seen need not be in the new set."""
        for old, new in (((1, 2, 9), (2, 9, 30)), ((1, 2, 3, 4), (1, 2)), ((3, 4), (3,)), ((5,), (1, 2))):
            with self.subTest(old=old, new=new):
                run = self.project.add_run()
                run.launch()
                movie_set = run.add_output(movies=0)
                for number in old:
                    movie_set.append(1, number)
                run.put(status="finished")
                with self.walker(run.name).walk_events() as events:
                    while next(events).type is not END:
                        pass
                    run.put(status="running")
                    os.remove(movie_set.path)
                    movie_set = type(movie_set)(run, "outputMovies", "SetOfMovies")
                    for number in new:
                        movie_set.append(1, number, "2037-01-01 00:00:00")
                    run.put(status="finished", initTime="later")
                    seen = []
                    while not seen or seen[-1].type is not END:
                        seen.append(next(events))
                self.assertEqual(list(new), self.ids(seen))
                self.assertIn((NEW_NODE, run.name + ":outputMovies"), self.told(seen))
                self.assertEqual(0, next(event.data.first_index for event in seen if event.type is NEW_DATA))

    def test_random_schedules(self):
        """Items come, in any order, and go; whatever is there in the end was told, once for each time it came."""
        for seed in range(6):
            with self.subTest(seed=seed):
                dice = random.Random(seed)
                run = self.project.add_run()
                run.launch()
                movie_set = run.add_output(movies=0)
                told, came, there, moment = [], [], set(), 0
                with self.walker(run.name, interval=0.01).walk_events() as events:
                    reader = threading.Thread(target=lambda events=events, told=told: told.extend(
                        number for event in events for number in self.ids([event])))
                    reader.start()
                    for _ in range(60):
                        number, moment = dice.randrange(1, 80), moment + 1
                        if number in there:
                            movie_set.take(number)
                            there.discard(number)
                        elif number not in came:
                            # An item that is gone before anybody looks is nobody's.
                            movie_set.append(1, number, "2037-01-01 00:%02d:%02d" % divmod(moment, 60))
                            there.add(number)
                            came.append(number)
                        time.sleep(dice.choice((0, 0, 0.02)))
                    time.sleep(0.5)
                    events.stop()
                    reader.join(10)
                self.assertEqual(len(told), len(set(told)))
                self.assertLessEqual(there, set(told))
                self.assertLessEqual(set(told), set(came))

    def test_the_runs_database_is_being_copied(self):
        """The engine copies it in place at each launch: half of it is no damaged database."""
        run = self.finished_run()
        events = self.walker(run.name).walk_events()
        while next(events).type is not END:
            pass
        with open(run.database, "rb") as stream:
            content = stream.read()
        with open(run.database, "r+b") as stream:
            stream.truncate(len(content) // 2)
            time.sleep(0.5)
            stream.seek(0)
            stream.write(content)
        run.put(status="failed", initTime="later", _error="again")
        self.assertEqual([PREPARED, END], [next(events).type for _ in range(2)])

    def test_an_empty_database_of_one_run(self):
        self.finished_run()
        empty = self.project.add_run()
        os.makedirs(os.path.dirname(empty.database))
        with open(empty.database, "w"):
            pass
        begun = time.monotonic()
        events = list(self.walker().walk_events(wait=False))
        self.assertEqual((1, [1, 2, 3]), (sum(event.type is END for event in events), self.ids(events)))
        self.assertLess(time.monotonic() - begun, 5)
        new = self.walker().walk_on_new_events()
        execute(self.project.database, ["UPDATE Objects SET value = 'failed' WHERE id = ?", empty.numbers["status"]])
        self.assertEqual((END, empty.name), self.told([next(new)])[0])

    def test_a_set_that_is_locked_at_the_end(self):
        run = self.project.add_run()
        run.launch()
        movie_set = run.add_output(movies=2)
        database = sqlite3.connect(movie_set.path, isolation_level=None)
        self.addCleanup(database.close)
        database.execute("BEGIN EXCLUSIVE")
        run.put(status="finished")
        events = self.walker().walk_events(timeout=7)
        self.assertEqual([NEW_NODE, NEW_NODE], [event.type for event in events])
        events = self.walker(run.name).walk_events()
        next(events)
        database.execute("COMMIT")
        self.assertEqual([NEW_NODE, PREPARED, NEW_DATA, END], [next(events).type for _ in range(4)])

    def test_the_newest_of_runs_that_come_late(self):
        runs = [self.finished_run() for _ in range(3)]
        database = sqlite3.connect(runs[1].database, isolation_level=None, check_same_thread=False)
        self.addCleanup(database.close)
        database.execute("BEGIN EXCLUSIVE")
        threading.Timer(1.0, database.execute, ["COMMIT"]).start()
        self.assertEqual([runs[2].name], [node.name for node in self.walker().walk_from_last("run", wait=False)])

    def test_gaps_late_ids_and_sets_that_shrink(self):
        run = self.project.add_run()
        run.launch()
        movie_set = run.add_output(movies=0)
        events = self.walker().walk_events("SetOfMovies")
        next(events)
        for start, count in ((10, 2), (5, 1), (20, 1), (1, 2)):
            movie_set.append(count, start)
            self.assertEqual(list(range(start, start + count)), self.ids([next(events)]))
        movie_set.take(10, 20, 1)
        movie_set.append(1, 7)
        self.assertEqual([7], self.ids([next(events)]))
        movie_set.append(1, 30)
        event = next(events)
        # Its place among 2, 5, 7 and 11.
        self.assertEqual(([30], 4), (self.ids([event]), event.data.first_index))

    def test_tilt_series_come_whole(self):
        run = self.project.add_run()
        run.launch()
        series = run.add_output("outputTiltSeries", "SetOfTiltSeries", movies=0)
        series.make_series()
        events = self.walker().walk_events("SetOfTiltSeries", timeout=1)
        next(events)
        series.append_series(1, 3)
        series.append_series(2, 1)
        series.append_images(2, 1)
        self.assertEqual([], list(events))
        events = self.walker().walk_events("SetOfTiltSeries")
        next(events)
        series.append_images(1, 3)
        run.put(status="finished")
        items = [item for _ in range(2) for item in next(events).data.data]
        self.assertEqual(["TS_1", "TS_2"], [item.name for item in items])
        self.assertEqual(os.path.join(self.project.folder, "Runs/TS_1.mrcs"), items[0].path)
        self.assertEqual([(1, 10.0), (2, 20.0), (3, 30.0)], [
            (image["index"], image["_tiltAngle"]) for image in items[0].attributes["images"]])

    def test_a_deleted_run_ends_quietly(self):
        run, other = self.finished_run(), self.finished_run()
        alone, all_of_it = self.walker(run.name).walk_events(), self.walker().walk_events()
        self.assertEqual([5, 11], [len([next(events) for _ in range(count)])
                                   for events, count in ((alone, 5), (all_of_it, 11))])
        run.delete()
        self.assertEqual([], list(alone))
        new = self.project.add_run()
        self.assertEqual([(NEW_NODE, new.name)], self.told([next(all_of_it)]))
        self.assertTrue(os.path.exists(other.path))

    def test_a_killed_run(self):
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)", "pw_protocol_run"])
        self.addCleanup(sleeper.wait)
        self.addCleanup(sleeper.kill)
        run = self.project.add_run()
        run.launch(pid=sleeper.pid)
        movie_set = run.add_output(movies=2)
        events = self.walker(run.name).walk_events()
        self.assertEqual([NEW_NODE, NEW_NODE, PREPARED, NEW_DATA], [next(events).type for _ in range(4)])
        sleeper.kill()
        sleeper.wait()
        end = next(events)
        self.assertEqual((END, "killed", "killed"), (end.type, end.data.data, end.node.info["status"]))
        self.assertIn("Continue goes on", end.data.description)
        run.launch()
        movie_set.append(1, 3)
        run.put(status="finished")
        seen = [next(events) for _ in range(3)]
        self.assertEqual([PREPARED, NEW_DATA, END], [event.type for event in seen])
        self.assertEqual([3], self.ids(seen))

    def test_plain_data(self):
        self.finished_run()
        for event in self.walker().walk_events(wait=False):
            self.assertEqual(event, pickle.loads(pickle.dumps(event)))
            self.assertEqual(event.type.name, json.loads(json.dumps(event.as_dict()))["type"])
            for part, kind in ((event, Event), (event.node, NodeContent)):
                self.assertIsInstance(part, kind)
            for item in event.data.data if event.type is NEW_DATA else []:
                self.assertIsInstance(item, Item)

    def test_two_walkers_and_walks_at_once(self):
        run = self.project.add_run()
        run.launch()
        movie_set = run.add_output(movies=0)
        one, other = self.walker(), self.walker(run.name)
        walks = [one.walk_events("SetOfMovies"), one.walk_events("SetOfMovies"), other.walk_events("SetOfMovies")]
        for walk in walks:
            next(walk)
        for start in range(1, 5):
            movie_set.append(1, start)
            self.assertEqual([[start]] * 3, [self.ids([next(walk)]) for walk in walks])
        one.stop()
        self.assertEqual([[], []], [list(walk) for walk in walks[:2]])
        movie_set.append(1, 9)
        self.assertEqual([9], self.ids([next(walks[2])]))
        # A stop is for the walks in progress.
        self.assertEqual(5, len(self.ids(one.walk_events(wait=False))))

    def test_threads_that_share_a_walk(self):
        for end in (None, "stop", "close"):
            walk = self.walker().walk_events(wait=end is not None)
            found = []
            threads = [threading.Thread(target=lambda walk=walk, found=found: found.extend(walk)) for _ in range(5)]
            for thread in threads:
                thread.start()
            if end:
                time.sleep(0.4)
                getattr(walk, end)()
            for thread in threads:
                thread.join(10)
                self.assertFalse(thread.is_alive(), end)
            self.assertEqual(1, len(found))

    def test_a_walk_in_a_forked_process(self):
        events = self.walker().walk_events()
        next(events)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                next(events)
            except FollowError as error:
                os.write(writing, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        with open(reading) as stream:
            self.assertIn("belongs to the process that began it", stream.read())
        self.project.add_run()
        self.assertIs(NEW_NODE, next(events).type)

    def test_walkers_are_plain_data_too(self):
        run = self.finished_run()
        walker = pickle.loads(pickle.dumps(self.walker(run.name)))
        self.assertEqual([1, 2, 3], self.ids(walker.walk_events(wait=False)))

    def test_stop_from_another_thread(self):
        walker = self.walker()
        threading.Timer(0.4, walker.stop).start()
        begun = time.monotonic()
        self.assertEqual(1, len(list(walker.walk_events())))
        self.assertLess(time.monotonic() - begun, 5)
        self.assertEqual([], children())
        walk = walker.walk_events()
        threading.Timer(0.4, walk.close).start()
        self.assertEqual(1, len(list(walk)))

    def test_a_reader_that_sleeps(self):
        """More than a pipe holds, told late: nothing is lost, and the writer is not held up meanwhile."""
        run = self.project.add_run()
        run.launch()
        movie_set = run.add_output(movies=1)
        events = self.walker().walk_events("SetOfMovies")
        next(events)
        worst = 0.0
        for start in range(2, 40002, 1000):
            begun = time.monotonic()
            movie_set.append(1000, start)
            worst = max(worst, time.monotonic() - begun)
        run.put(status="finished")
        movie_set.close()
        time.sleep(1)
        found = []
        for event in events:
            found += self.ids([event])
            if len(found) == 40001:
                break
        self.assertEqual(list(range(1, 40002)), found)


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
        self.assertEqual(6, len(list(self.walker().walk_events(timeout=0.3))))
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
            events = self.walker().walk_events(timeout=0.4)
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


class TestEnds(FollowCase):
    """The child is gone, however the reader ends."""

    def setUp(self):
        super().setUp()
        self.finished_run()

    def test_within_a_program(self):
        walker = self.walker()
        for _ in walker.walk_events():
            break
        self.assertEqual([], children())
        with contextlib.suppress(ZeroDivisionError):
            for _ in walker.walk_events():
                raise ZeroDivisionError
        gc.collect()
        self.assertEqual([], children())
        events = walker.walk_events()
        next(events)
        self.assertEqual(1, len(children()))
        del events
        self.assertEqual([], children())
        with walker:
            events = walker.walk_events()
            next(events)
        self.assertEqual([], children())
        never_begun = walker.walk_events()
        del never_begun
        self.assertEqual([], children())
        with self.assertRaises(ZeroDivisionError):
            list(walker.walk(lambda node: 1 / 0))
        self.assertEqual([], children())

    def test_a_hundred_walks(self):
        walker = self.walker()
        list(walker.walk(wait=False))
        descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        for _ in range(100):
            next(walker.walk_events())
        self.assertEqual((descriptors, threads, []), (
            len(os.listdir("/proc/self/fd")), threading.active_count(), children()))

    def test_a_child_that_is_killed_is_an_error(self):
        events = self.walker().walk_events()
        next(events)
        os.kill(children()[0], signal.SIGKILL)
        with self.assertRaisesRegex(FollowError, "What reads .*Project has ended .return code -9"):
            list(events)
        self.assertEqual([], list(events))

    def test_whatever_ends_the_program(self):
        script = ("import os, signal, sys, time\n"
                  "from empiardownloader.follow import RemoteNodeWalker\n"
                  "events = RemoteNodeWalker(%r).walk_events()\n"
                  "next(events)\n"
                  "if sys.argv[1] == 'fork' and os.fork() == 0:\n"
                  "    time.sleep(20); os._exit(0)\n"
                  "print('now', flush=True)\n"
                  "if sys.argv[1] == 'exit': sys.exit()\n"
                  "if sys.argv[1] == 'error': 1 / 0\n"
                  "if sys.argv[1] == '_exit': os._exit(1)\n"
                  "time.sleep(60)\n" % self.project.folder)
        for how in ("exit", "error", "_exit", signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, "fork"):
            with self.subTest(how=how):
                reader = subprocess.Popen([sys.executable, "-S", "-c", script, str(how)], env=BARE,
                                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                reader.stdout.readline()
                found = children(reader.pid)
                if not isinstance(how, str):
                    self.assertEqual(1, len(found))
                    reader.send_signal(how)
                elif how == "fork":
                    self.assertEqual(1, len(found))
                    reader.kill()
                reader.wait(20)
                self.wait_for(lambda found=found: not any(alive(pid) for pid in found), 5, "the end of the child")
                reader.stdout.close()

    def test_the_command(self):
        command = [sys.executable, "-S", "-m", "empiardownloader.follow", self.project.folder]
        done = subprocess.run([*command, "--no-wait"], env=BARE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, check=False)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        told = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(["NEW_NODE"] * 3 + ["PREPARED_SCAN", "NEW_DATA", "END_SCAN"], [line["type"] for line in told])
        self.assertEqual("m_00001.mrc", told[4]["data"]["data"][0]["name"])
        nodes = subprocess.run([*command, "--no-wait", "--nodes", "--only", "run"], env=BARE, stdout=subprocess.PIPE,
                               text=True, check=False)
        self.assertEqual(["run"], [json.loads(line)["type"] for line in nodes.stdout.splitlines()])
        wrong = subprocess.run([*command[:-1], self.folder], env=BARE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, check=False)
        self.assertEqual((1, "", 1), (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")))
        self.assertIn("is no Scipion project", wrong.stderr)
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 130)):
            going = subprocess.Popen(command, env=BARE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            going.stdout.readline()
            going.send_signal(number)
            self.assertEqual(("", code), (going.communicate(timeout=20)[1], going.returncode))
        piped = subprocess.run("%s | head -n 1" % " ".join("'%s'" % part for part in [*command, "--interval", "0.1"]),
                               shell=True, env=BARE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               timeout=30, check=False)
        self.assertEqual((1, ""), (piped.stdout.count("\n"), piped.stderr))
