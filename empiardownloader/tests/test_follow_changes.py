# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a run while it is followed: restarted, killed, locked, deleted; items in any order; nothing twice."""
import contextlib
import importlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import unittest
from unittest import mock

from empiardownloader.follow import walker
from empiardownloader.follow.position import Position, read_position
from empiardownloader.tests.follow_case import END, NEW_DATA, NEW_NODE, PREPARED, FollowCase
from empiardownloader.tests.scipion_files import execute

IS_QUICK = True


def of_child(name):
    """A module of the child, in this process."""
    sys.path.insert(0, os.path.join(os.path.dirname(walker.__file__), "child"))
    try:
        return importlib.import_module(name)
    finally:
        del sys.path[0]


def set_file(project, path, **options):
    """A SetFile, in this process."""
    return of_child("sets").SetFile(project.folder, path, **options)


def new_ids(items):
    return [item[0] for _, _, found in items.new_items() for item in found]


class Failing:
    """A connection; ``fails``: whether a query cannot be read from the disk."""

    def __init__(self, connection, fails):
        self._connection, self._fails = connection, fails

    def execute(self, query):
        if self._fails(query):
            msg = "disk I/O error"
            raise sqlite3.OperationalError(msg)
        return self._connection.execute(query)


class TestSeen(unittest.TestCase):
    """By what a set is known again, without a set."""

    def seen(self, *rows):
        seen = of_child("seen").SeenItems()
        for number, creation in rows:
            seen.see(number, creation)
        return seen

    @staticmethod
    def sums(*rows):
        """As SQLite makes them."""
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("CREATE TABLE Objects (id, creation)")
            connection.executemany("INSERT INTO Objects VALUES (?, ?)", rows)
            return connection.execute("SELECT %s FROM Objects" % of_child("seen").SUMS).fetchone()

    @staticmethod
    def state_after(*told):
        """What a position says of a set; ``told``: of which items, (id, creation), an event of which kind told."""
        node = {"type": "SetOfMovies", "name": "m", "db_name": "000002_X:m", "info": {}}
        position = Position({"changes": True})
        for kind, items in told:
            position.apply(position.step_of({"event": kind, "node": node, "data": {
                "names": ["creation"], "data": [[number, None, 0, "", [creation]] for number, creation in items]}}))
        state, = read_position(position.as_text(), {"changes": True})["sets"].values()
        return state

    def test_as_it_was(self):
        times = [(number, "2031-01-01 %02d:%02d:%02d" % (number, 59 - number, 7 * number)) for number in range(1, 9)]
        for rows in ([(1, "a")], [(2, "b"), (9, "a"), (1500, "c")], [(7, None), (8, "a")], [(7, None)], times,
                     [(1, ""), (2, "now"), (3, "later"), (4, None)],
                     [(number, "2031-01-01 00:12:" + odd) for number, odd in enumerate(
                         ("09.123456", "09Z", "09.5", " 9", "9.", "-2", "+3", "1e", "0x", "_1", "1_"))]):
            with self.subTest(rows):
                seen = self.seen(*rows)
                self.assertTrue(seen.has_all(self.sums(*rows)))
                seen.look_below()
                self.assertFalse(seen.has_all(self.sums(*rows)))
                self.assertFalse(seen.compare(rows, False))
                self.assertTrue(seen.has_all(self.sums(*rows)))
                self.assertEqual([], seen.missed)

    def test_nothing_was_seen(self):
        self.assertFalse(self.seen().has_all(self.sums()))
        self.assertFalse(self.seen().compare([], False))

    def test_one_in_place_of_another(self):
        """As many, of the same sum, made before the last one."""
        seen = self.seen((1, "a"), (6, "a"), (8, "b"), (9, "c"))
        self.assertFalse(seen.has_all(self.sums((1, "a"), (5, "a"), (8, "b"), (9, "c"))))
        self.assertFalse(seen.has_all(self.sums((2, "a"), (5, "a"), (8, "b"), (9, "c"))))
        self.assertFalse(seen.compare([(2, "a"), (5, "a"), (8, "b"), (9, "c")], False))
        self.assertEqual([(0, 2), (1, 5)], seen.missed)

    def test_again_in_the_second_of_the_latest(self):
        """As many, of the same ids, none later than the last one was."""
        rows = [(1, "2031-01-01 00:00:00"), (2, "2031-01-01 00:00:01"), (3, "2031-01-01 00:00:09")]
        seen = self.seen(*rows)
        rows[1] = 2, rows[2][1]
        self.assertFalse(seen.has_all(self.sums(*rows)))
        self.assertFalse(seen.compare(rows, False))
        self.assertEqual([(1, 2)], seen.missed)
        self.assertTrue(seen.has_all(self.sums(*rows)))

    def test_another_set(self):
        seen = self.seen((1, "a"), (2, "b"))
        for rows, replaced, another in (
                ([(1, "a")], False, False), ([(1, "x"), (2, "b")], False, False), ([], False, False),
                ([(1, "x"), (2, "y")], False, True), ([(3, "a")], False, True),
                ([(1, "a"), (2, "b"), (3, "c")], True, False), ([(1, "a")], True, True), ([], True, True)):
            with self.subTest(rows=rows, replaced=replaced):
                self.assertIs(another, seen.compare(rows, replaced))

    def test_taken_up(self):
        first = self.seen((1, "a"), (2, "b"), (4, "d"))
        for rows, missed in (([(1, "a"), (2, "b"), (4, "d"), (5, "e")], []),
                             ([(1, "a"), (2, "x"), (3, "c"), (4, "d")], [(1, 2), (2, 3)]),
                             ([], []), ([(3, "c")], None), ([(1, "x"), (2, "y")], None)):
            with self.subTest(rows):
                seen = self.seen()
                taken = seen.take_up(first.state(), rows)
                if taken and not seen.compare(rows, False):
                    self.assertEqual((4, missed), (seen.last, seen.missed))
                else:
                    self.assertIsNone(missed)

    def test_one_that_went_and_came_again(self):
        """Within a second, so that it looks as before."""
        seen = self.seen((1, "a"), (2, "a"))
        seen.digests = {1: 11, 2: 12}
        seen.drop(1)
        self.assertFalse(seen.has_all(self.sums((1, "a"), (2, "a"))))
        self.assertFalse(seen.compare([(1, "a"), (2, "a")], False))
        self.assertEqual([(0, 1)], seen.missed)

    def test_another_set_at_a_position(self):
        """A position keeps of some items only when they were made; a subset's ids are any."""
        dice = random.Random(5)
        first = self.seen(*((number, "2031-01-01 %02d:%02d:00" % divmod(place, 60)) for place, number in enumerate(
            sorted(dice.sample(range(1000), 500)))))
        for _ in range(60):
            ids = sorted(dice.sample(sorted(first.creations), 10))
            seen = self.seen()
            self.assertFalse(seen.take_up(first.state(), [(number, "2037-01-01 00:00:00") for number in ids]), ids)
        for again in dice.sample(sorted(first.creations), 60):
            rows = [(number, "2037-01-01 00:00:00" if number == again else creation)
                    for number, creation in first.creations.items()]
            seen = self.seen()
            self.assertTrue(seen.take_up(first.state(), rows))
            self.assertFalse(seen.compare(rows, False))
            self.assertEqual([again], [number for _, number in seen.missed])

    def test_a_position_after_a_change(self):
        """One that was removed and added again between a look and its reading is told as changed."""
        state = self.state_after(("NEW_DATA", [(1, "a"), (2, "a")]), ("CHANGED_DATA", [(1, "b")]))
        seen = self.seen()
        self.assertTrue(seen.take_up(state, [(1, "b")]))
        self.assertFalse(seen.compare([(1, "b")], False))
        self.assertEqual([], seen.missed)

    def test_a_change_where_no_moment_was_known(self):
        """What one item tells is not the latest moment of all."""
        state = self.state_after(("NEW_DATA", [(1, None), (2, None), (3, None)]), ("CHANGED_DATA", [(1, "a")]))
        seen, now = self.seen(), [(1, "a"), (2, "b"), (3, "c")]
        state["marks"] = {"1": "a"}
        self.assertTrue(seen.take_up(state, now))
        self.assertFalse(seen.compare(now, False))
        self.assertEqual([], seen.missed)

    def test_digests_of_what_is_there(self):
        marks = of_child("marks")
        first = self.seen((1, "a"), (2, "b"), (4, "d"))
        state = dict(first.state(), digests=marks.pack_digests({1: 11, 2: 12, 4: 14}))
        seen = self.seen()
        seen.take_up(state, [(1, "a"), (2, "b")])
        seen.take_up_digests(state, {1: 11, 2: 99})
        self.assertEqual({1: 11, 2: None, 4: None}, seen.digests)


class TestScans(FollowCase):

    def watched(self, movies, **options):
        """A set of movies in a run -> it, and a SetFile of it."""
        run = self.project.add_run()
        run.launch()
        its = run.add_output(movies=movies)
        return its, set_file(self.project, its.path, **options)

    def test_written_anew_between_look_and_reading(self):
        """After a Restart, in a file of the same number: a look may find all as it was, nothing, or a part."""
        for before in ((), (1, 2, 9)):
            for after in ((2, 9, 30), (30, 31)):
                with self.subTest(before=before, after=after):
                    run = self.project.add_run()
                    run.launch()
                    movies = run.add_output(movies=0)
                    for number in (1, 2, 9):
                        movies.append(1, number)
                    items = set_file(self.project, movies.path, keeps_digests=True)
                    items.refresh()
                    self.assertEqual([1, 2, 9], new_ids(items))
                    movies.take(*{1, 2, 9} - set(before))
                    execute(movies.path, ["UPDATE Properties SET value = '7' WHERE key = '_size'"])
                    self.assertEqual((True, False), items.refresh())
                    movies.take(1, 2, 9)
                    for number in after:
                        movies.append(1, number, "2037-01-01 00:00:00")
                    for read in (items.new_items, items.changed_items):
                        with self.assertRaises(Exception) as raised:
                            list(read())
                        self.assertEqual("NotYetError", type(raised.exception).__name__)
                    self.assertEqual((True, True), items.refresh())
                    self.assertEqual(list(after), new_ids(items))

    def test_a_series_of_another_set_waits_anew(self):
        """After a Restart, for as long as any other; the first one had come without all of its images."""
        run = self.project.add_run()
        run.launch()
        module, clock, items = of_child("sets"), [1000.0], None
        with mock.patch.object(module, "time", mock.Mock(monotonic=lambda: clock[0], time=time.time)):
            for creation in ("2031-01-01 00:00:00", "2031-01-01 00:00:01"):
                series = run.add_output("outputTiltSeries", "SetOfTiltSeries", movies=0)
                series.make_series()
                series.append_series(1, 3)
                series.append_images(1, 2)
                execute(series.path, ["UPDATE Objects SET creation = ?", creation])
                items = items or set_file(self.project, series.path)
                for waited in (0, module.SERIES_SECONDS - 1):
                    clock[0] += waited
                    items.refresh()
                    with self.assertRaises(Exception) as raised:
                        new_ids(items)
                    self.assertEqual("NotYetError", type(raised.exception).__name__)
                clock[0] += 2
                items.refresh()
                self.assertEqual([1], new_ids(items))
                clock[0] += 100
                os.remove(series.path)

    def test_all_are_removed(self):
        movies, items = self.watched(3, keeps_digests=True)
        items.refresh()
        self.assertEqual([1, 2, 3], new_ids(items))
        movies.take(1, 2, 3)
        self.assertEqual((True, False), items.refresh())
        self.assertEqual([], new_ids(items))
        self.assertEqual([[1, 2, 3]], [[item[0] for item in found] for _, _, found in items.changed_items()])

    def test_others_come_after_all_were_removed(self):
        """As after a Restart, in a file of the same number that was looked at while it was empty."""
        for ids in ((1, 2), (3,), (2, 5), (4,)):
            with self.subTest(ids):
                movies, items = self.watched(3, keeps_digests=True)
                items.refresh()
                list(items.new_items())
                movies.take(1, 2, 3)
                items.refresh()
                list(items.new_items())
                list(items.changed_items())
                for number in ids:
                    movies.append(1, number, "2037-01-01 00:00:00")
                for told in ([(0, list(ids))], []):
                    self.assertEqual((True, False), items.refresh())
                    self.assertEqual(told, [(first, [item[0] for item in found])
                                            for first, _, found in items.new_items()])
                self.assertEqual([], list(items.changed_items()))

    def looked(self, items):
        """The ids of the new items of a few looks, as the teller makes them."""
        found = []
        for _ in range(3):
            with contextlib.suppress(of_child("databases").NotYetError):
                items.refresh()
                for _, _, block in items.new_items():
                    found += [item[0] for item in block]
        return found

    def test_the_witness_goes(self):
        """What showed that it was the same set is gone, and all sums are as they were."""
        movies, items = self.watched(0)
        for number, created in ((1, "2031-01-01 00:00:05"), (9, "2031-01-01 00:00:04")):
            movies.append(1, number, created)
        self.assertEqual([1, 9], self.looked(items))
        movies.take(9)
        movies.append(1, 9, "2031-01-01 00:00:05")
        movies.append(1, 10, "2031-01-01 00:00:06")
        self.assertEqual([9, 10], self.looked(items))

    def test_the_witness_changes_and_goes(self):
        movies, items = self.watched(2, keeps_digests=True)
        self.assertEqual([1, 2], self.looked(items))
        movies.take(1)
        items.refresh()
        movies.append(1, 1, "2037-01-01 00:00:00")
        list(items.new_items())
        self.assertEqual([[1]], [[item[0] for item in found] for _, _, found in items.changed_items()])
        movies.take(1)
        movies.append(1, 3, "2037-01-01 00:00:00")
        self.assertEqual([3], self.looked(items))

    def test_one_below_goes_before_it_is_read_and_comes_again(self):
        movies, items = self.watched(0)
        for number in (1, 5):
            movies.append(1, number)
        self.assertEqual([1, 5], self.looked(items))
        movies.append(1, 3, "2031-01-01 00:00:00")
        items.refresh()
        movies.take(3)
        self.assertEqual([], new_ids(items))
        movies.append(1, 3, "2031-01-01 00:00:00")
        self.assertEqual([3], self.looked(items))

    def test_another_with_other_columns_between_look_and_reading(self):
        movies, items = self.watched(2)
        items.refresh()
        execute(movies.path, ["ALTER TABLE Objects RENAME COLUMN c03 TO c09"],
                ["UPDATE Classes SET column_name = 'c09' WHERE column_name = 'c03'"])
        with self.assertRaises(of_child("databases").NotYetError):
            list(items.new_items())
        self.assertEqual([1, 2], self.looked(items))

    def test_a_change_that_the_files_time_does_not_show(self):
        """Within one tick of the file system's clock: what was read so soon is read once more."""
        databases = of_child("databases")
        path = os.path.join(self.project.folder, "file")
        with open(path, "w"):
            pass
        watched = databases.Watched(path)
        for now, expected in ((100.0, True), (101.2, True), (102.0, False), (111.5, True)):
            with self.subTest(now), mock.patch.object(databases.time, "monotonic", lambda now=now: now):
                stamps = watched.stamps()
                self.assertIs(expected, stamps is not None)
                if stamps:
                    watched.has_read(stamps)

    def test_a_look_for_changes_that_comes_later(self):
        """It was put off, since the last one took its time, and nothing has happened to the file since."""
        movies, items = self.watched(3, keeps_digests=True)
        self.assertEqual((True, False), items.refresh())
        self.assertEqual([1, 2, 3], new_ids(items))
        execute(movies.path, ["UPDATE Objects SET c02 = 'other.mrc' WHERE id = 2"])
        for _ in range(2):
            items.refresh()
            list(items.new_items())
        changed = list(items.changed_items())
        self.assertEqual([2], [item[0] for item in changed[0][2]])

    def test_changes_of_some_classes_only(self):
        run = self.project.add_run()
        run.launch()
        movies = run.add_output("outputMovies", movies=2)
        others = run.add_output("outputParticles", "SetOfParticles", 2)
        reader = self.walker().walk_events(changes=("SetOfMovies", "SetOfCTF"))
        told = [next(reader) for _ in range(7)]
        self.assertEqual(2, sum(event.type is NEW_DATA for event in told))
        for output in (others, movies):
            execute(output.path, ["UPDATE Objects SET c02 = 'other.mrc' WHERE id = 2"])
        told = [next(reader)]
        run.put(status="finished")
        while told[-1].type is not END:
            told.append(next(reader))
        self.assertEqual([("CHANGED_DATA", "SetOfMovies")], [(event.type.name, event.node.type) for event in told[:-1]])


class TestChanges(FollowCase):

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

    def test_the_gap_of_a_restart(self):
        """The run's folder is away for a moment, and the project's database tells of the launch before."""
        run = self.finished_run()
        execute(self.project.database, ["UPDATE Objects SET value = 'finished' WHERE id = ?", run.numbers["status"]])
        events = self.walker(run.name).walk_events()
        while next(events).type is not END:
            pass
        run.put(status="running", initTime="later")
        time.sleep(0.3)
        shutil.rmtree(run.path)
        time.sleep(0.5)
        run.launch()
        run.outputs.clear()
        run.add_output(movies=0).append(1, 7, None)
        run.put(status="finished", initTime="later still")
        seen = []
        while not seen or seen[-1].type is not END:
            seen.append(next(events))
        self.assertEqual([7], self.ids(seen))
        self.assertEqual(1, sum(event.type is END for event in seen))

    def test_sets_without_creation_times(self):
        run = self.project.add_run()
        run.launch()
        movie_set = run.add_output(movies=3)
        execute(movie_set.path, ["UPDATE Objects SET creation = NULL"])
        events = self.walker(run.name).walk_events("SetOfMovies")
        self.assertEqual([1, 2, 3], self.ids([next(events), next(events)]))
        # Kept, so that the new file cannot have its inode: nothing else would tell the two apart.
        os.rename(movie_set.path, movie_set.path + ".old")
        movie_set = type(movie_set)(run, "outputMovies", "SetOfMovies")
        movie_set.append(2)
        execute(movie_set.path, ["UPDATE Objects SET creation = NULL"])
        self.assertEqual([NEW_NODE, NEW_DATA], [next(events).type for _ in range(2)])

    def test_the_process_of_another_run(self):
        run, another = self.project.add_run(), self.project.add_run()
        run.launch(pid=self.process_of(another).pid)
        run.add_output()
        # A run whose process was never seen alive is believed to live for a minute after its last sign of life.
        long_ago = time.time() - 3600
        os.utime(run.database, (long_ago, long_ago))
        events = list(self.walker(run.name).walk_events(wait=False))
        self.assertEqual("killed", events[-1].data.data)
        mine = self.project.add_run()
        mine.launch(pid=self.process_of(mine).pid)
        mine.add_output()
        self.assertIs(NEW_DATA, list(self.walker(mine.name).walk_events(wait=False))[-1].type)

    def process_of(self, run):
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)", "pw_protocol_run.py",
                                    "Runs/%s/logs/run.db" % run.name])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_only_what_is_new_while_something_is_locked(self):
        locked, run = self.finished_run(), self.project.add_run()
        run.launch()
        movie_set = run.add_output(movies=0)
        movie_set.append(2, start=5)
        database = sqlite3.connect(os.path.join(locked.path, "outputMovies.sqlite"), isolation_level=None,
                                   check_same_thread=False)
        self.addCleanup(database.close)
        database.execute("BEGIN EXCLUSIVE")

        def later():
            movie_set.append(1, 1)
            time.sleep(0.9)
            database.execute("COMMIT")

        threading.Timer(0.6, later).start()
        events = self.walker().walk_on_new_events()
        movie_set.append(1, 9)
        event = next(events)
        self.assertEqual(([9], 3), (self.ids([event]), event.data.first_index))

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
                    self.wait_for(lambda there=there, told=told: there <= set(told), 20, "the last item")
                    time.sleep(0.2)     # in which nothing comes twice
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
            time.sleep(0.2)
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
        events = list(self.walker().walk_events(wait=False))
        self.assertEqual((1, [1, 2, 3]), (sum(event.type is END for event in events), self.ids(events)))
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

    def test_a_set_is_closed_after_its_last_item(self):
        """Also where a series has waited for its images."""
        run = self.project.add_run()
        run.launch()
        series = run.add_output("outputTiltSeries", "SetOfTiltSeries", movies=0)
        series.make_series()
        for number, images in ((1, 3), (2, 2)):
            series.append_series(number, 3)
            series.append_images(number, images)
        series.close()
        events = self.walker().walk_events("SetOfTiltSeries", changes=True)
        self.assertEqual([NEW_NODE, NEW_DATA], [next(events).type for _ in range(2)])
        time.sleep(0.5)
        execute(series.path, ["INSERT INTO TS_2_Objects (id, label, creation, c01) VALUES (3, '', 'now', 3)"])
        self.assertEqual(["NEW_DATA", "CLOSED"], [next(events).type.name for _ in range(2)])

    def teller(self, **options):
        """What looks at the project, in this process."""
        return of_child("teller").Teller(dict({
            "project": self.project.folder, "db_name": "", "items": True, "new_only": False, "include": None,
            "exclude": [], "wait": True, "interval": 1, "infos": False, "changes": False, "since": None,
            "tells_known": False}, **options))

    def test_a_set_whose_disk_fails(self):
        """Once: its items come, and then CLOSED. For ever: the run ends, and nobody says that the set was told."""
        run = self.project.add_run()
        run.launch()
        movies = run.add_output(movies=3)
        movies.close()
        run.put(status="finished")
        databases, sets = of_child("databases"), of_child("sets")
        for times, expected in ((1, ["NEW_DATA", "CLOSED", "END_SCAN"]), (99, ["END_SCAN"])):
            failures = iter(range(times))

            @contextlib.contextmanager
            def opened(path, *what, failures=failures):
                with databases.opened(path, *what) as connection:
                    yield Failing(connection, lambda query: "c02" in query and next(failures, None) is not None)

            its, came = self.teller(changes=True), []
            with mock.patch.object(sets, "opened", opened), self.subTest(times=times):
                deadline = time.monotonic() + 10 * databases.DAMAGED_SECONDS
                while its.pending and time.monotonic() < deadline:
                    came += [message for message in its.look() if message["event"] not in ("NEW_NODE", "PREPARED_SCAN")]
                    time.sleep(0.1)
                self.assertEqual(expected, [message["event"] for message in came])
            if times > 1:
                output, = its._project.runs[run.name].outputs.values()
                self.assertIn("its disk fails", output.info()["problem"])

    def test_readings_that_fail_one_by_one(self):
        """Each may be tried again, also while a series waits for its images."""
        run = self.project.add_run()
        run.launch()
        series = run.add_output("outputTiltSeries", "SetOfTiltSeries", movies=0)
        series.make_series()
        series.append_series(1, 3)
        series.append_images(1, 2)
        databases, sets = of_child("databases"), of_child("sets")
        fails = [False]

        @contextlib.contextmanager
        def opened(path, *what):
            def takes(_):
                failed, fails[0] = fails[0], False
                return failed

            with databases.opened(path, *what) as connection:
                yield Failing(connection, takes)

        its = self.teller(db_name=run.name + ":outputTiltSeries")
        with mock.patch.object(sets, "opened", opened), mock.patch.object(databases, "DAMAGED_SECONDS", 0.05):
            for number in range(9):
                fails[0] = number % 3 == 1
                list(its.look())
                self.assertFalse(fails[0])
                self.assertEqual(number % 3 == 1, its.busy)
                time.sleep(0.1)

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

    def test_a_run_whose_process_cannot_be_seen(self):
        """F1: in a container, say, or in a copied project: dead is what gives no sign of life for long; a sign takes it
        back, and its real end is told."""
        run = self.project.add_run()
        run.launch(pid=2 ** 22 + 7)
        run.add_output(movies=1)
        events = self.walker().walk_events(timeout=4)
        self.assertNotIn(END, [event.type for event in events])
        long_ago = time.time() - 3600
        os.utime(run.database, (long_ago, long_ago))
        events = self.walker().walk_events(timeout=20)
        ends = []
        for event in events:
            if event.type is END:
                ends.append(event.data.data)
                if len(ends) == 1:
                    os.utime(run.database)
                    time.sleep(0.3)
                    run.put(status="finished")
                else:
                    break
        self.assertEqual(["killed", "finished"], ends)

    def test_a_killed_run(self):
        run = self.project.add_run()
        sleeper = self.process_of(run)
        run.launch(pid=sleeper.pid)
        movie_set = run.add_output(movies=2)
        events = self.walker(run.name).walk_events()
        self.assertEqual([NEW_NODE, NEW_NODE, PREPARED, NEW_DATA], [next(events).type for _ in range(4)])
        sleeper.kill()
        sleeper.wait()
        end = next(events)
        self.assertEqual((END, "killed", "killed"), (end.type, end.data.data, end.node.info["status"]))
        self.assertIn("Continue goes on", end.data.description)
        # Somebody opens the project, which finds the run dead too and writes that down: it has been told.
        execute(self.project.database, ["UPDATE Objects SET value = 'failed' WHERE id = ?", run.numbers["status"]])
        time.sleep(1)
        run.launch()
        movie_set.append(1, 3)
        run.put(status="finished")
        seen = [next(events) for _ in range(3)]
        self.assertEqual([PREPARED, NEW_DATA, END], [event.type for event in seen])
        self.assertEqual([3], self.ids(seen))
