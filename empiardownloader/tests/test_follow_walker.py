# SPDX-License-Identifier: GPL-3.0-or-later
"""The walker's contract, over projects written without Scipion: each iterator, filters, order, plain data."""
import json
import os
import pickle
import threading
import time

from empiardownloader.follow import Event, Item, NodeContent
from empiardownloader.tests.follow_case import END, NEW_DATA, NEW_NODE, PREPARED, FollowCase
from empiardownloader.tests.scipion_files import execute

IS_QUICK = True


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
            # The same of a type and of a function.
            self.assertEqual([(NEW_NODE, ""), (NEW_NODE, run.name), (NEW_NODE, output), (PREPARED, run.name),
                              (END, run.name)],
                             self.told(walker.walk_events(exclude_children=excluded, wait=False, changes=True)))

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

    def test_a_run_that_has_no_folder_yet(self):
        """Scipion stores a new run twice; in between its folder is the project's."""
        run = self.project.add_run(workingDir=".")
        events = self.walker().walk_events(timeout=20)
        self.assertEqual([(NEW_NODE, "")], self.told([next(events)]))
        other = self.project.add_run()
        self.assertEqual([(NEW_NODE, other.name)], self.told([next(events)]))
        execute(self.project.database, ["UPDATE Objects SET value = ? WHERE id = ?", "Runs/" + run.name,
                                        run.numbers["workingDir"]])
        self.assertEqual([(NEW_NODE, run.name)], self.told([next(events)]))
        run.launch("failed")
        self.assertEqual([(END, run.name)], self.told([next(events)]))

    def test_timeout(self):
        self.finished_run()
        self.assertEqual(6, len(list(self.walker().walk_events(timeout=2))))
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

    def test_plain_data(self):
        self.finished_run()
        for event in self.walker().walk_events(wait=False):
            self.assertEqual(event, pickle.loads(pickle.dumps(event)))
            self.assertEqual(event.type.name, json.loads(json.dumps(event.as_dict()))["type"])
            for part, kind in ((event, Event), (event.node, NodeContent)):
                self.assertIsInstance(part, kind)
            for item in event.data.data if event.type is NEW_DATA else []:
                self.assertIsInstance(item, Item)
