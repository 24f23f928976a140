# SPDX-License-Identifier: GPL-3.0-or-later
"""A walk that goes on where another one was: from every position, after whatever happened to the run meanwhile; and
what changes in items that were told."""
import asyncio
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from unittest import mock

from empiardownloader.follow import (
    EventType,
    FollowError,
    GoneError,
    NeverError,
    NotThereYetError,
    RemoteNodeWalker,
    RestartedError,
)
from empiardownloader.follow.child.marks import MOST_DIGESTS, Ids
from empiardownloader.follow.position import Position
from empiardownloader.follow.walk import Walk
from empiardownloader.tests.follow_case import END, NEW_DATA, NEW_NODE, PREPARED, FollowCase, children
from empiardownloader.tests.scipion_files import execute

IS_QUICK = True
CHANGED, REMOVED, CLOSED, INFO = EventType.CHANGED_DATA, EventType.REMOVED, EventType.CLOSED, EventType.INFO


def told(event):
    """An event without what depends on when it was told: the info of its node."""
    data = event.as_dict()["data"] or {}
    return [event.type.name, event.node.db_name, data.get("first_index"), [
        (item["id"], item["path"], item["name"], item["attributes"]) if isinstance(item, dict) else item
        for item in data.get("data") or ()]]


def ids_of(events):
    return [[item.id for item in event.data.data] for event in events if event.data and event.type is not END
            and event.type is not PREPARED and event.type is not CLOSED]


def add_volume(run):
    """An output that is no set -> the numbers of its rows, the second one that of its pixel size."""
    number = run.project.ids(2)
    execute(run.database, ["INSERT INTO Objects (id, parent_id, name, classname) VALUES (?, ?, ?, 'Volume')",
                           number[0], run.id, "%d.outputVolume" % run.id],
            ["INSERT INTO Objects (id, parent_id, name, classname, value) VALUES (?, ?, ?, 'Float', '1.5')",
             number[1], number[0], "%d.%d._samplingRate" % (run.id, number[0])])
    return number


class Reader(threading.Thread):
    """Reads a walk, and keeps the position after each event."""

    def __init__(self, walk):
        super().__init__(daemon=True)
        self.walk, self.events, self.positions, self.error = walk, [], [], None
        self.start()

    def run(self):
        try:
            for event in self.walk:
                self.positions.append(self.walk.position)
                self.events.append(event)
        except Exception as error:  # noqa: BLE001 - for the test
            self.error = error

    def wait_for_silence(self, seconds=1.2):
        """Until no event has come for a while."""
        count, since = -1, time.monotonic()
        while time.monotonic() - since < seconds:
            if len(self.events) != count:
                count, since = len(self.events), time.monotonic()
            time.sleep(0.02)


class TestIds(FollowCase):

    def test_ranges(self):
        ids = Ids()
        for number in (5, 1, 2, 9, 4, 3, 3, 8, 20):
            ids.add(number)
        self.assertEqual([[1, 5], [8, 9], [20, 20]], ids.ranges)
        for number in (3, 9, 20, 77):
            ids.remove(number)
        self.assertEqual([[1, 2], [4, 5], [8, 8]], ids.ranges)
        self.assertEqual([1, 2, 4, 5, 8], list(ids))
        self.assertEqual([True, False, True, False], [number in ids for number in (5, 3, 8, 9)])


class TestPositions(FollowCase):

    def lived(self, changes):
        """What happens to a run, in steps; each gives the events of one uninterrupted walk that it leads to."""
        run = self.project.add_run()
        steps = [lambda: (run.launch(), run.add_output(movies=2)),
                 lambda: self.movies(run).append(3, 3),
                 lambda: run.put(status="failed"),                              # killed
                 lambda: (run.launch(), self.movies(run).append(2, 6)),         # and continued
                 lambda: run.add_output("outputCoordinates", "SetOfCoordinates", movies=1),
                 lambda: self.movies(run).append(1, 11),
                 lambda: self.movies(run).append(1, 9),                         # late, and below the last one
                 lambda: run.put(status="finished")]
        if changes:
            steps[5:5] = [lambda: execute(self.movies(run).path,
                                          ["UPDATE Objects SET c03 = 2.5 WHERE id IN (2, 3, 6)"]),
                          lambda: execute(self.movies(run).path, ["UPDATE Objects SET enabled = 0 WHERE id = 4"]),
                          lambda: self.movies(run).take(1, 5), lambda: self.movies(run).close()]
        return run, steps

    def movies(self, run):
        found = object.__new__(type(run.add_output.__globals__["SetFiles"](run, "spare", "SetOfMovies")))
        found.run, found.path = run, os.path.join(run.path, "outputMovies.sqlite")
        os.remove(os.path.join(run.path, "spare.sqlite"))
        return found

    def uninterrupted(self, run, steps, **options):
        """-> the events, and the position after each; a step is taken once all of the former one is told."""
        with self.walker(run.name, interval=0.02).walk_events(**options) as walk:
            reader = Reader(walk)
            for step in steps:
                step()
                reader.wait_for_silence()
            walk.stop()
            reader.join()
        return reader.events, reader.positions

    def test_from_every_position(self):
        """Each half of the life, walked apart, gives what the whole one does: the reader was away for the time between
        two events, the run was not."""
        for changes in (False, True):
            run, steps = self.lived(changes)
            events, positions = self.uninterrupted(run, steps, changes=changes)
            kinds = {event.type for event in events}
            self.assertLessEqual({NEW_NODE, PREPARED, NEW_DATA, END, *([CHANGED, REMOVED, CLOSED] if changes else ())},
                                 kinds)
            present = {item.id for event in events if event.type is NEW_DATA and event.node.name == "outputMovies"
                       for item in event.data.data} - {item.id for event in events if event.type is REMOVED
                                                       for item in event.data.data}
            final = {event.node.db_name: event.node for event in events}
            values = {}
            for event in events:
                if event.type in (NEW_DATA, CHANGED):
                    values.update({(event.node.db_name, item.id): item.attributes for item in event.data.data})
            for place, position in enumerate(positions):
                with self.subTest(changes=changes, place=place), self.walker(run.name).walk_events(
                        wait=False, since=position, changes=changes) as walk:
                    rest = list(walk)
                    # Nothing that was told before is told again, unless it has changed since; nothing is left out.
                    before = [key for event in events[:place + 1] if event.type is NEW_DATA
                              for key in [(event.node.db_name, item.id) for item in event.data.data]]
                    new = [(event.node.db_name, item.id) for event in rest if event.type is NEW_DATA
                           for item in event.data.data]
                    self.assertEqual(len(new), len(set(new)))
                    self.assertFalse(set(before) & set(new))
                    known = {}
                    for event in [*events[:place + 1], *rest]:
                        if event.type in (NEW_DATA, CHANGED):
                            known.update({(event.node.db_name, item.id): item.attributes for item in event.data.data})
                        if event.type is REMOVED:
                            for item in event.data.data:
                                known.pop((event.node.db_name, item.id), None)
                    gone = {key for key in values if key[0].endswith(":outputMovies") and key[1] not in present}
                    if changes:
                        self.assertEqual({key: each for key, each in values.items() if key not in gone}, known)
                    else:
                        self.assertEqual(set(values), set(known))
                    self.assertEqual(rest[-1:] and END, rest[-1].type if rest else [])
                    self.assertEqual(set(final), {event.node.db_name for event in [*events[:place + 1], *rest]})
                # And a walk from the position of its end has nothing more to tell.
                    with self.walker(run.name).walk_events(wait=False, since=walk.position, changes=changes) as more:
                        self.assertEqual([], [told(event) for event in more])

    def test_at_the_same_moments(self):
        """The second reader takes over at once: then each event is the same, one by one."""
        run, steps = self.lived(True)
        moments = []
        for step in steps:
            step()
            moments.append(shutil.copytree(self.project.folder, os.path.join(self.folder, "moment%d" % len(moments))))

        def walked(since):
            """-> events and position at each moment; a new process each time."""
            found, position = [], since
            for moment in moments:
                # Where the project was, so that paths are the same.
                shutil.rmtree(self.project.folder)
                shutil.copytree(moment, self.project.folder)
                with self.walker(run.name).walk_events(wait=False, since=position, changes=True) as walk:
                    found.append([told(event) for event in walk])
                position = walk.position
            return found

        expected, once = walked(""), []
        shutil.rmtree(self.project.folder)
        shutil.copytree(moments[0], self.project.folder)
        with self.walker(run.name, interval=0.02).walk_events(changes=True) as walk:
            reader = Reader(walk)
            for moment in moments:
                # It must not look while one file is of this moment and the next of the one before.
                for pid in children():
                    os.kill(pid, signal.SIGSTOP)
                for folder, _, names in os.walk(moment):
                    for name in names:
                        target = os.path.join(self.project.folder, os.path.relpath(os.path.join(folder, name), moment))
                        os.makedirs(os.path.dirname(target), exist_ok=True)
                        shutil.copyfile(os.path.join(folder, name), target)      # the same file, as SQLite writes it
                for pid in children():
                    os.kill(pid, signal.SIGCONT)
                wanted = sum(map(len, expected[:len(once) + 1]))
                self.wait_for(lambda wanted=wanted: len(reader.events) >= wanted, what="the events of a moment")
                reader.wait_for_silence()
                once.append([told(event) for event in reader.events[sum(map(len, once)):]])
            walk.stop()
            reader.join()
        self.assertEqual(once, expected)

    def test_after_a_restart_of_the_run(self):
        run = self.finished_run(movies=3)
        with self.walker(run.name).walk_events(wait=False) as walk:
            self.assertEqual(5, len(list(walk)))
        shutil.rmtree(run.path)
        run.launch()
        run.outputs.clear()
        run.add_output(movies=0).append(4, 1, "2037-01-01 00:00:00")
        for db_name in (run.name, run.name + ":outputMovies"):
            since = walk.position
            with self.subTest(db_name), self.assertRaisesRegex(
                    RestartedError if db_name == run.name else FollowError, "Restart|other arguments"):
                list(self.walker(db_name).walk_events(wait=False, since=since))

    def test_a_continued_run_is_no_restarted_one(self):
        run = self.finished_run(movies=3)
        with self.walker(run.name).walk_events(wait=False) as walk:
            list(walk)
        run.launch()
        self.movies(run).append(1, 4)
        run.put(status="finished")
        found = list(self.walker(run.name).walk_events(wait=False, since=walk.position))
        self.assertEqual([PREPARED, NEW_DATA, END], [event.type for event in found])
        self.assertEqual([[4]], ids_of(found))

    def test_of_a_walk_of_new_events(self):
        run = self.finished_run(movies=3)
        with self.walker().walk_on_new_events(changes=True) as walk:
            position = walk.position
        run.launch()
        self.movies(run).append(2, 4)
        execute(self.movies(run).path, ["UPDATE Objects SET c03 = 9.0 WHERE id = 2"])
        found = list(self.walker().walk_events(wait=False, since=position, changes=True))
        self.assertEqual([[4, 5], [2]], ids_of(found))
        self.assertEqual([PREPARED, NEW_DATA, CHANGED], [event.type for event in found if event.type is not CLOSED])

    def seen(self, run, since, **options):
        return [[event.type.name, event.node.name, [item.id for item in event.data.data] if event.data and isinstance(
            event.data.data, list) else None] for event in self.walker(run.name).walk_events(
                wait=False, since=since, **options)]

    def position_after(self, run, count, since="", **options):
        with self.walker(run.name).walk_events(since=since, **options) as walk:
            for _ in range(count):
                next(walk)
            return walk.position

    def test_between_a_node_and_its_items(self):
        """Of a single object, and of a set that had none by then."""
        run = self.project.add_run()
        run.launch()
        number = add_volume(run)
        run.put(_outputs="outputVolume")
        run.put(status="finished")
        for changes in (False, True):
            since = self.position_after(run, 2, changes=changes)
            self.assertEqual([["PREPARED_SCAN", run.name, None], ["NEW_DATA", "outputVolume", [number[0]]],
                              ["END_SCAN", run.name, None]], self.seen(run, since, changes=changes))
            with self.walker(run.name).walk_events(wait=False, since=since, changes=changes) as walk:
                for _ in walk:
                    self.assertTrue(walk.position)
        other = self.project.add_run()
        other.launch()
        movies = other.add_output(movies=0)
        since = self.position_after(other, 3)
        movies.append(2)
        found = next(event for event in self.walker(other.name).walk_events(wait=False, since=since)
                     if event.type is NEW_DATA)
        self.assertEqual(0, found.data.first_index)

    def test_changes_that_were_not_told_yet(self):
        """A second reader takes over while the first one has told a part of what changed, and of what is gone."""
        run = self.finished_run(movies=6)
        with self.walker(run.name).walk_events(wait=False, changes=True) as walk:
            list(walk)
        movies = self.movies(run)
        execute(movies.path, ["UPDATE Objects SET c03 = 9.0 WHERE id IN (1, 4)"])
        movies.take(5)
        since = self.position_after(run, 1, walk.position, changes=True)
        self.assertEqual([["CHANGED_DATA", "outputMovies", [4]], ["REMOVED", "outputMovies", [5]]],
                         self.seen(run, since, changes=True))
        execute(movies.path, ["UPDATE Objects SET c03 = 8.0 WHERE id = 6"])
        # They follow one another in the set, now that 5 is gone.
        self.assertEqual([["CHANGED_DATA", "outputMovies", [4, 6]], ["REMOVED", "outputMovies", [5]]],
                         self.seen(run, since, changes=True))

    def test_of_new_events_and_on(self):
        run = self.project.add_run()
        run.launch()
        movies = run.add_output(movies=4)
        with self.walker(run.name).walk_on_new_events(changes=True) as walk:
            movies.append(2, 5)
            next(walk)
            execute(movies.path, ["UPDATE Objects SET c03 = 9.0 WHERE id = 2"])
            event = next(walk)
            while event.type is not CHANGED:
                event = next(walk)
            since = walk.position
        self.assertEqual([], self.seen(run, since, changes=True))
        execute(movies.path, ["UPDATE Objects SET c03 = 7.0 WHERE id = 6"])
        movies.take(5)
        self.assertEqual([["CHANGED_DATA", "outputMovies", [6]], ["REMOVED", "outputMovies", [5]]],
                         self.seen(run, since, changes=True))

    def test_series_and_picks_that_have_not_changed(self):
        run = self.project.add_run()
        run.launch()
        series = run.add_output("outputTiltSeries", "SetOfTiltSeries", movies=0)
        series.make_series()
        for number in (1, 2):
            series.append_series(number, 3)
            series.append_images(number, 3)
        run.put(status="finished")
        with self.walker(run.name).walk_events(wait=False, changes=True) as walk:
            self.assertEqual(2, sum(len(event.data.data) for event in walk if event.type is NEW_DATA))
        self.assertEqual([], self.seen(run, walk.position, changes=True))
        execute(series.path, ["UPDATE TS_2_Objects SET c03 = 33.0 WHERE id = 1"])
        self.assertEqual([["CHANGED_DATA", "outputTiltSeries", [2]]], self.seen(run, walk.position, changes=True))

    def test_what_is_no_restart(self):
        """All items are gone; one was removed and added again."""
        for again, expected in (((), []), ((3,), [["NEW_DATA", "outputMovies", [3]]]),
                                ((2,), [["NEW_DATA", "outputMovies", [2]]])):
            run = self.finished_run(movies=3)
            with self.walker(run.name).walk_events(wait=False) as walk:
                list(walk)
            movies = self.movies(run)
            movies.take(*(again or (1, 2, 3)))
            for number in again:
                movies.append(1, number, "2037-01-01 00:00:00")
            with self.subTest(again):
                self.assertEqual(expected, self.seen(run, walk.position))
        # And one that is: its first item is not the first one.
        run = self.finished_run(movies=3)
        with self.walker(run.name).walk_events(wait=False) as walk:
            list(walk)
        movies = self.movies(run)
        movies.take(1, 2, 3)
        movies.append(1, 2, "2037-01-01 00:00:00")
        with self.assertRaises(RestartedError):
            self.seen(run, walk.position)

    def test_a_filter_that_looks_at_nodes(self):
        run = self.finished_run(movies=2)

        def excluded(node):
            return node.type == "run"

        walker = self.walker()
        with walker.walk_events(wait=False, exclude_children=excluded) as walk:
            self.assertNotIn("SetOfMovies", [event.node.type for event in walk])
        self.movies(run).append(2, 3)
        self.assertNotIn("SetOfMovies", [event.node.type for event in walker.walk_events(
            wait=False, exclude_children=excluded, since=walk.position)])

    def test_a_position_while_another_thread_waits(self):
        run = self.project.add_run()
        run.launch()
        with self.walker(run.name).walk_events() as walk:
            next(walk)
            threading.Thread(target=next, args=(walk, None), daemon=True).start()
            time.sleep(0.2)
            self.assertTrue(walk.position)
            walk.stop()

    def test_a_run_that_is_deleted_and_made_again(self):
        run = self.finished_run(movies=2)
        with self.walker(run.name).walk_events(wait=False, changes=True) as walk:
            list(walk)
        rows = [["DELETE FROM Objects WHERE id = ? OR parent_id = ?", run.id, run.id]]
        shutil.move(run.path, run.path + ".away")
        execute(self.project.database, *rows)
        with self.walker(run.name).walk_events(since=walk.position, changes=True) as later:
            reader = Reader(later)
            time.sleep(0.5)
            execute(self.project.database, *run._insert)
            shutil.move(run.path + ".away", run.path)
            reader.wait_for_silence()
            later.stop()
            reader.join()
        self.assertIsNone(reader.error)

    def test_what_is_no_position(self):
        run = self.finished_run()
        with self.walker(run.name).walk_events(wait=False) as walk:
            list(walk)
        walker = self.walker(run.name)
        for text in ("x", "1.", "1.!!", "2" + walk.position[1:], walk.position[:-9]):
            with self.subTest(text[:9]), self.assertRaisesRegex(FollowError, "no position"):
                walker.walk_events(since=text)
        for options in ({"changes": True}, {"include_filter": "run"}):
            with self.subTest(options), self.assertRaisesRegex(FollowError, "other arguments"):
                walker.walk_events(since=walk.position, **options)
        self.assertNotIn("\n", walk.position)
        self.assertLess(len(walk.position), 600)
        with self.walker(run.name).walk_events(("run", "SetOfMovies"), wait=False) as walk:
            list(walk)
        self.assertEqual([], list(walker.walk_events(("SetOfMovies", "run"), wait=False, since=walk.position)))
        with mock.patch("empiardownloader.follow.walker.Position",
                        lambda walk, state: Position(dict(walk, later=1), state)):
            later = walker.walk_events(wait=False)
            list(later)
        with self.assertRaisesRegex(FollowError, r"other arguments \(later\)"):
            walker.walk_events(since=later.position)

    def test_many_items(self):
        """A position stays short; where not each item has a digest of its own, those beside one that has changed are
        told with it."""
        run = self.finished_run(movies=0)
        self.movies(run).append(12000)
        with self.walker(run.name).walk_events(wait=False, changes=True) as walk:
            list(walk)
        self.assertLess(len(walk.position), 9000)
        execute(self.movies(run).path, ["UPDATE Objects SET c03 = 9.0 WHERE id IN (7, 11990)"])
        found = list(self.walker(run.name).walk_events(wait=False, since=walk.position, changes=True))
        several = -(-12000 // MOST_DIGESTS)
        self.assertEqual([[*range(1, several + 1)], [*range(12000 - several + 1, 12001)]], ids_of(found))
        self.assertIn(7, ids_of(found)[0])


class TestChanged(FollowCase):

    def test_values_rejected_removed_closed(self):
        run = self.project.add_run()
        run.launch()
        movies = run.add_output(movies=4)
        with self.walker(run.name).walk_events(changes=True) as walk:
            self.assertEqual([NEW_NODE, NEW_NODE, PREPARED, NEW_DATA], [next(walk).type for _ in range(4)])
            execute(movies.path, ["UPDATE Objects SET enabled = 0 WHERE id = 2"],
                    ["UPDATE Objects SET c03 = 2.5, comment = 'seen' WHERE id = 3"])
            event = next(walk)
            self.assertEqual((CHANGED, 1, [(2, 0, 1.5, ""), (3, 1, 2.5, "seen")]), (
                event.type, event.data.first_index, [(item.id, *[item.attributes[name] for name in (
                    "enabled", "_samplingRate", "comment")]) for item in event.data.data]))
            movies.take(1)
            event = next(walk)
            self.assertEqual((REMOVED, [1]), (event.type, [item.id for item in event.data.data]))
            movies.close()
            self.assertEqual(CLOSED, next(walk).type)
            run.put(status="finished")
            self.assertEqual(END, next(walk).type)

    def test_classes_that_grow_and_single_objects(self):
        run = self.project.add_run()
        run.launch()
        classes = run.add_output("outputClasses", "SetOfClasses2D", movies=2)
        number = add_volume(run)
        run.put(_outputs="outputClasses,outputVolume")
        with self.walker(run.name).walk_events(changes=True) as walk:
            seen = []
            while sum(event.type is NEW_DATA for event in seen) < 2:
                seen.append(next(walk))
            position = walk.position
            execute(classes.path, ["UPDATE Objects SET c01 = 77 WHERE id = 1"])
            event = next(walk)
            self.assertEqual((CHANGED, [1]), (event.type, [item.id for item in event.data.data]))
            execute(run.database, ["UPDATE Objects SET value = '3.0' WHERE id = ?", number[1]])
            event = next(walk)
            self.assertEqual((CHANGED, "outputVolume", 3.0), (
                event.type, event.node.name, event.data.data[0].attributes["_samplingRate"]))
        again = list(self.walker(run.name).walk_events(wait=False, changes=True, since=position))
        self.assertEqual({"outputClasses": [1], "outputVolume": [number[0]]}, {
            event.node.name: [item.id for item in event.data.data] for event in again if event.type is CHANGED})

    def test_nobody_asked_for_them(self):
        run = self.finished_run()
        with self.walker(run.name).walk_events() as walk:
            for _ in range(5):
                next(walk)
            execute(os.path.join(run.path, "outputMovies.sqlite"), ["UPDATE Objects SET c03 = 2.5"])
            run.launch()
            self.assertEqual(PREPARED, next(walk).type)

    def test_infos(self):
        run = self.project.add_run()
        run.launch()
        run.add_output(movies=1)
        with self.walker(run.name).walk_events(infos=True) as walk:
            for _ in range(4):
                next(walk)
            os.makedirs(os.path.join(run.path, "extra"))
            with open(os.path.join(run.path, "extra", "progress.json"), "w") as stream:
                json.dump({"images": 3}, stream)
            event = next(walk)
            self.assertEqual((INFO, run.name, {"images": 3}), (
                event.type, event.node.db_name, event.node.info["progress"]))
            run.put(status="finished")
            kinds = [next(walk).type, next(walk).type]
            self.assertEqual({INFO, END}, set(kinds))

    def test_a_slow_reader_gets_the_newest(self):
        run = self.project.add_run()
        run.launch()
        movies = run.add_output(movies=1)
        # One that can be looked into.
        with mock.patch("empiardownloader.follow.process.queue.SimpleQueue", queue.Queue), \
                self.walker(run.name).walk_events(last_only=True) as walk:
            found = [next(walk) for _ in range(4)]
            for number in range(2, 12):
                movies.append(1, number)
                time.sleep(0.06)
            run.put(status="finished")
            self.wait_for(lambda: any(b"END_SCAN" in line for line in list(walk._child._messages.queue)), 20, "the end")
            found += [next(walk), next(walk)]
            position = walk.position
        self.assertEqual([NEW_DATA, END], [event.type for event in found[4:]])
        self.assertEqual(([[11]], 10), (ids_of(found[4:]), found[4].data.first_index))
        self.assertEqual([], list(self.walker(run.name).walk_events(wait=False, since=position)))

    def test_ten_walks_in_one_loop(self):
        runs = [self.finished_run(movies=5) for _ in range(10)]

        async def ids(run):
            return [item.id async for event in self.walker(run.name).walk_events(wait=False)
                    if event.type is NEW_DATA for item in event.data.data]

        async def everything():
            return await asyncio.gather(*[ids(run) for run in runs])

        self.assertEqual([[1, 2, 3, 4, 5]] * 10, asyncio.run(everything()))


class TestWhatIsThere(FollowCase):

    def test_get(self):
        run = self.finished_run()
        self.assertEqual(("SetOfMovies", 3), (lambda node: (node.type, node.info["size"]))(
            self.walker().get(run.name + ":outputMovies")))
        self.assertEqual("finished", self.walker().get(run.name).info["status"])
        self.assertEqual("project", self.walker().get("").type)

    def test_typed_errors(self):
        run = self.project.add_run()
        later = "%06d_ProtSomething" % (run.id + 100)
        walker = self.walker()
        with self.assertRaises(NotThereYetError):
            walker.get(later)
        with self.assertRaises(NotThereYetError):
            walker.get(run.name + ":outputMovies")
        run.launch()
        with self.assertRaises(NotThereYetError):
            walker.get(run.name + ":outputMovies")
        run.put(status="failed")
        with self.assertRaisesRegex(NeverError, "failed"):
            walker.get(run.name + ":outputMovies")
        shutil.rmtree(self.project.folder)
        with self.assertRaises(FollowError):
            walker.get(run.name)

    def test_gone_while_it_is_followed(self):
        self.finished_run()
        with self.walker().walk_events() as walk:
            for _ in range(6):
                next(walk)
            os.rename(self.project.folder, self.project.folder + ".away")
            with self.assertRaises(GoneError):
                next(walk)

    def test_wait_for_the_last_run_of_a_class(self):

        self.finished_run(class_name="ProtOther")
        with self.assertRaises(NotThereYetError):
            self.walker().wait_for_run("ProtSomething", timeout=0.3)
        first, last = self.finished_run(), self.finished_run()
        self.assertEqual(last.name, self.walker().wait_for_run("ProtSomething").name)
        self.assertNotEqual(first.name, last.name)
        code = ("import sys, time; from empiardownloader.tests.scipion_files import ProjectFiles; time.sleep(1); "
                "p = object.__new__(ProjectFiles); p.folder, p.database, p._next = sys.argv[1], sys.argv[1] + "
                "'/project.sqlite', 5000; p.add_run('ProtLate')")
        process = subprocess.Popen([sys.executable, "-c", code, self.project.folder])
        self.addCleanup(process.wait)
        self.assertEqual("ProtLate", self.walker().wait_for_run("ProtLate", timeout=30).info["class"])

    def test_timeouts_hold(self):
        """Whatever is silent: another machine, or a run whose process cannot be seen."""
        path = os.path.join(self.folder, "ssh")
        with open(path, "w") as stream:
            stream.write("#!/bin/sh\nsleep 97.%d\ntouch %s.ended\n" % (os.getpid(), path))
        os.chmod(path, 0o755)
        far = RemoteNodeWalker("host:/x", ssh=path)
        self.addCleanup(far.__exit__)
        hidden = self.project.add_run()
        hidden.launch(pid=4000000)
        other = self.finished_run(class_name="ProtOther")
        near = self.walker()
        for ask in (lambda: far.wait_for_run("X", timeout=0.5), lambda: far.get("", timeout=0.5),
                    lambda: near.wait_for_run("ProtNone", timeout=0.5),
                    lambda: far.wait_until_closed(other.name + ":outputMovies", timeout=0.5)):
            with self.assertRaises(NotThereYetError):
                ask()
            self.assertFalse(os.path.exists(path + ".ended"))
        self.assertEqual(other.name, near.wait_for_run("ProtOther", timeout=30).name)
        self.assertEqual(hidden.name, near.get(hidden.name).name)

    def test_what_is_closed_and_what_is_none(self):
        run = self.project.add_run()
        run.launch()
        run.add_output(movies=1)
        walker = self.walker()
        for name in (run.name, "", None):
            with self.subTest(name), self.assertRaises(FollowError):
                walker.wait_until_closed(name, timeout=5)
        name = run.name + ":outputMovies"
        given = Walk._given

        def last(walk, message):
            run.delete()
            return given(walk, message)

        with mock.patch.object(Walk, "_given", last), self.assertRaises(GoneError):
            walker.wait_until_closed(name, timeout=30)
        damaged = self.project.add_run()
        damaged.launch()
        with open(damaged.add_output(movies=1).path, "wb") as stream:
            stream.write(b"no database at all, but long enough to be looked at" * 99)
        with self.assertRaisesRegex(FollowError, "no SQLite database"):
            walker.wait_until_closed(damaged.name + ":outputMovies", timeout=30)

    def test_wait_until_an_output_is_closed(self):
        run = self.project.add_run()
        run.launch()
        movies = run.add_output(movies=2)
        name = run.name + ":outputMovies"
        with self.assertRaises(NotThereYetError):
            self.walker().wait_until_closed(name, timeout=0.3)
        movies.close()
        self.assertEqual((2, "closed"), (lambda info: (info["size"], info["stream_state"]))(
            self.walker().wait_until_closed(name, timeout=30).info))
        run.put(status="finished")
        with self.assertRaisesRegex(NeverError, "has ended"):
            self.walker().wait_until_closed(run.name + ":outputNothing", timeout=30)


class TestCoordinates(FollowCase):

    def test_the_micrograph_of_a_pick(self):
        """Coordinates have no file; the micrograph that they were picked on has."""
        mics = self.project.add_run(class_name="ProtMics")
        mics.launch()
        made = mics.add_output("outputMicrographs", "SetOfMicrographs", movies=2)
        picker = self.project.add_run(class_name="ProtPick")
        picker.launch()
        picks = picker.add_output("outputCoordinates", "SetOfCoordinates", movies=0)
        execute(picks.path, ["UPDATE Classes SET label_property = '_micId' WHERE label_property = '_index'"],
                ["UPDATE Classes SET label_property = '_x' WHERE label_property = '_samplingRate'"],
                ["UPDATE Classes SET label_property = '_y' WHERE label_property = '_filename'"],
                ["INSERT INTO Objects (id, creation, c01, c02, c03, c04) VALUES (1, 'now', 2, 5, 3, 'm_00002.mrc')"])
        output = next(iter(row for row in self.rows(mics.database) if row[1].endswith(".outputMicrographs")))
        own = next(iter(row for row in self.rows(picker.database) if row[1].endswith(".outputCoordinates")))
        pointer = picker.project.ids(2)
        execute(picker.database, ["INSERT INTO Objects (id, parent_id, name, classname, value) "
                                  "VALUES (?, ?, ?, 'Pointer', ?)", pointer[0], own[0],
                                  "%d.%d._micrographsPointer" % (picker.id, own[0]), str(output[0])])
        item, = [item for event in self.walker(picker.name).walk_events(wait=False) if event.type is NEW_DATA
                 for item in event.data.data]
        self.assertEqual((None, "m_00002.mrc"), (item.path, item.name))
        self.assertEqual(os.path.join(self.project.folder, "Runs", mics.name, "extra", "m_00002.mrc"),
                         item.attributes["micrograph"])
        self.assertTrue(made.path)

    def rows(self, path):
        import contextlib
        import sqlite3
        with contextlib.closing(sqlite3.connect(path)) as database:
            return database.execute("SELECT id, name FROM Objects").fetchall()


if __name__ == "__main__":
    import unittest
    unittest.main()
