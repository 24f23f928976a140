# SPDX-License-Identifier: GPL-3.0-or-later
"""What a feed shows of a project, written as Scipion writes it in any state, in a viewer without windows."""
import os
import threading
import time
import unittest
from unittest import mock

import numpy as np
import tifffile

from empiardownloader.demo import movies
from empiardownloader.follow import FollowError, Item, NodeContent
from empiardownloader.live import NapariStreamingBackend, kinds
from empiardownloader.live.feed import Feed
from empiardownloader.live.shown_run import SHOWN, Forget, Remove, ShownRun
from empiardownloader.live.waiting import LATE_SECONDS, MOST_MONTAGES, MOST_TRIES, Job, Waiting
from empiardownloader.tests.live_case import LiveCase, crc
from empiardownloader.tests.scipion_files import ProjectFiles, execute

IS_QUICK = True

WIDTH, HEIGHT, FRAMES = 40, 30, 3


def job(number, first=0, source="000002_X:m"):
    node = NodeContent("SetOfMicrographs", source.partition(":")[2], source, {}, "/p/m.sqlite")
    return Job(node, [Item(number, "/p/%d.mrc" % number, 0, str(number), {})], first)


class TestWaiting(unittest.TestCase):

    def taken(self, waiting, now=0.0):
        return [one.items[0].id for one in iter(lambda: waiting.take(now), None)]

    def test_the_newest_first(self):
        waiting = Waiting()
        for number in (1, 2, 3):
            waiting.add(job(number))
        self.assertEqual(3, len(waiting))
        self.assertEqual([3, 2, 1], self.taken(waiting))
        self.assertFalse(waiting)

    def test_tried_again_later_and_not_for_ever(self):
        waiting, tries = Waiting(), 0
        waiting.add(job(1))
        one, now = waiting.take(0.0), 0.0
        while one is not None:
            tries += 1
            waiting.add_again(one, now)
            self.assertIsNone(waiting.take(now))
            now += LATE_SECONDS
            one = waiting.take(now)
        self.assertEqual(MOST_TRIES, tries)

    def test_a_newer_one_of_an_image_takes_the_place_of_the_try(self):
        waiting = Waiting()
        waiting.add(job(1))
        waiting.add_again(waiting.take(0.0), 0.0)
        waiting.add(job(1))
        self.assertEqual([1], self.taken(waiting, LATE_SECONDS))
        waiting.add(job(1))
        waiting.add_again(job(1), 0.0)
        self.assertEqual([1], self.taken(waiting, LATE_SECONDS))

    def test_stacks_grow_and_do_not_wait_for_ever(self):
        waiting = Waiting()
        for first in range(1, MOST_MONTAGES + 2):
            waiting.add(job(first, first))
        waiting.add(job(MOST_MONTAGES + 50, MOST_MONTAGES + 1))
        self.assertEqual((MOST_MONTAGES, 1), (len(waiting), waiting.skipped))
        self.assertEqual(MOST_MONTAGES + 50, waiting.take(0.0).items[0].id)

    def test_what_is_gone(self):
        waiting = Waiting()
        for one in (job(1), job(2), job(3, source="000009_Y:m")):
            waiting.add(one)
        waiting.add_again(job(4), 0.0)
        other = waiting.take(0.0)
        waiting.keep(lambda its: its.node.db_name != "000002_X:m")
        self.assertTrue(waiting.is_taken(other))
        waiting.keep(lambda its: its.items[0].id != 3)
        self.assertFalse(waiting.is_taken(other))
        self.assertEqual([], self.taken(waiting, LATE_SECONDS))


class TestFeed(LiveCase):

    def setUp(self):
        super().setUp()
        self.project = ProjectFiles(os.path.join(self.folder, "Project"))
        self.running = self.project.add_run()
        self.running.launch()

    def write(self, number, value=None, run=None):
        """Movie of a number -> its average."""
        path = os.path.join((run or self.running).path, "extra", "m_%05d.mrc" % number)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        data = np.full((FRAMES, HEIGHT, WIDTH), number if value is None else value, "float32")
        data[:, 0, 0] = np.arange(FRAMES)
        movies.write_mrc(path, data)
        return data.mean(axis=0)

    def feed(self, backend, db_name="", until_end=False, **options):
        told = []
        feed = Feed(backend, self.project.folder, db_name, interval=0.05, tell=told.append, **options)
        thread = threading.Thread(target=feed.run, args=(until_end,), daemon=True)
        thread.start()
        self.addCleanup(thread.join, 20)
        self.addCleanup(backend.cleanup)
        return feed, told

    def shown(self, backend, pictures):
        """Once so many pictures are shown: {kind: [(name, remark, crc)]}, and the points."""
        self.wait_for(lambda: backend.tracker.progress()[0] >= pictures, what="%d pictures" % pictures)
        found = backend.snapshot(self.folder)
        return {stack["kind"]: [tuple(picture) for picture in stack["pictures"]] for stack in found["stacks"]}, found

    def test_a_run_without_movies_or_micrographs(self):
        """F10: the window stays empty, and it is said why."""
        self.running.add_output("outputFSC", "SetOfFSCs", 2)
        backend = self.opened(patience=float("inf"))
        _, told = self.feed(backend, os.path.basename(self.running.path), until_end=True)
        self.running.launch("finished")
        self.wait_for(lambda: any(SHOWN in text for text in told), 60, what="the sentence")

    def test_what_goes_while_its_picture_is_made(self):
        backend = mock.create_autospec(NapariStreamingBackend, instance=True)
        feed = Feed(backend, self.project.folder)
        for action in (Remove("000002_X:m", 7), Forget("000002_X:m")):
            feed._add([job(7)])
            feed._begun = set(feed._walkers)
            taken = feed._next()

            def made(*arguments, action=action):
                feed._perform(action)
                return [kinds.Shown(np.zeros((2, 2)), "/p/m.mrc", {})]

            with mock.patch.object(feed, "_pictures", made):
                feed._show(taken)
        backend.save.assert_not_called()

    def test_what_two_walkers_tell_is_heard_by_one_thread(self):
        """F15: of the run that is followed, and of the project, whose picks may be of it."""
        picker = self.project.add_run("ProtPicking")
        picker.launch()
        for number in (1, 2):
            self.write(number)
        self.running.add_output(movies=2)
        heard, apply = [], ShownRun.apply
        with mock.patch.object(ShownRun, "apply", lambda run, event, followed: (
                heard.append((threading.get_ident(), followed)), apply(run, event, followed))[1]):
            backend = self.opened(patience=float("inf"))
            self.feed(backend, os.path.basename(self.running.path))
            self.shown(backend, 4)
            self.wait_for(lambda: len({followed for _, followed in heard}) == 2, what="both walkers")
        self.assertEqual(1, len({thread for thread, _ in heard}))

    def test_a_damaged_file_costs_itself(self):
        for number in (1, 3):
            self.write(number)
        folder = os.path.join(self.running.path, "extra")
        with open(os.path.join(folder, "m_00002.mrc"), "wb") as stream:
            stream.write(b"no image")
        os.mkfifo(os.path.join(folder, "m_00004.mrc"))
        self.running.add_output(movies=5)
        backend = self.opened(patience=float("inf"))
        feed, told = self.feed(backend)
        stacks, _ = self.shown(backend, 4)
        self.assertEqual(["m_00001.mrc", "m_00003.mrc"], [name for name, _, _ in stacks["averages"]])
        self.wait_for(lambda: len(feed.unread) == 3)
        self.assertRegex("\n".join(told), r"m_00002.mrc cannot be shown \(.*\)\.")
        self.assertRegex("\n".join(told), r"m_00004.mrc cannot be shown \(m_00004.mrc is no file\)\.")
        self.assertRegex("\n".join(told), r"m_00005.mrc cannot be shown \(no such file or directory\)\.")

    def test_odd_tiff_files_are_unreadable_and_no_more(self):
        folder = os.path.join(self.running.path, "extra")
        os.makedirs(folder)
        random = np.random.default_rng(2)
        for number, data in enumerate((random.integers(0, 255, (20, 20, 3), "uint8"), None,
                                       random.random((20, 20)) * 1j), 1):
            path = os.path.join(folder, "m_%05d.tif" % number)
            if data is None:
                with tifffile.TiffWriter(path) as writer:
                    writer.write(np.zeros((20, 20), "uint8"))
                    writer.write(np.zeros((20, 30), "uint8"))
            else:
                tifffile.imwrite(path, data, photometric="rgb" if data.ndim == 3 else "minisblack")
        movie_set = self.running.add_output(movies=3)
        execute(movie_set.path, ["UPDATE Objects SET c02 = replace(c02, '.mrc', '.tif')"])
        backend = self.opened(patience=float("inf"))
        feed, _ = self.feed(backend)
        self.wait_for(lambda: len(feed.unread) == 3)
        self.assertTrue(backend.is_open())

    def test_the_gain_that_is_not_there_is_told_with_the_picture(self):
        average = self.write(1)
        self.running.add_output(movies=1)
        backend = self.opened(patience=float("inf"))
        self.feed(backend)
        stacks, _ = self.shown(backend, 2)
        self.assertEqual([("m_00001.mrc", "gain not applied: No such file or directory", crc(average[::-1]))],
                         stacks["averages"])

    def test_images_of_one_stack_file(self):
        path = os.path.join(self.running.path, "extra", "m_00001.mrc")
        os.makedirs(os.path.dirname(path))
        data = np.random.default_rng(1).random((3, HEIGHT, WIDTH)).astype("float32")
        movies.write_mrc(path, data)
        micrographs = self.running.add_output("outputMicrographs", "SetOfMicrographs", movies=3)
        execute(micrographs.path, ["UPDATE Objects SET c01 = id, c02 = ?", os.path.relpath(path, self.project.folder)])
        backend = self.opened(patience=float("inf"))
        self.feed(backend)
        stacks, _ = self.shown(backend, 6)
        self.assertEqual([("m_0000%d.mrc" % number, "", crc(data[number - 1][::-1])) for number in (1, 2, 3)],
                         stacks["micrographs"])

    def test_after_a_restart_what_is_gone_is_gone(self):
        for number in range(1, 6):
            self.write(number)
        movie_set = self.running.add_output(movies=5)
        backend = self.opened(patience=float("inf"))
        self.feed(backend, self.running.name)
        self.shown(backend, 10)
        os.unlink(movie_set.path)
        averages = [self.write(number, 100 + number) for number in (1, 2)]
        another = type(movie_set)(self.running, "outputMovies", "SetOfMovies")
        another.append(2, created="2031-01-01 00:00:00")
        stacks, _ = self.shown(backend, 14)
        self.assertEqual([crc(average[::-1]) for average in averages], [found for _, _, found in stacks["averages"]])

    def picks(self, run, points):
        """A set of coordinates, in the place of the one before."""
        path = os.path.join(run.path, "coordinates.sqlite")
        if os.path.exists(path):
            os.unlink(path)
        execute(path, ["CREATE TABLE Properties (key TEXT UNIQUE, value TEXT DEFAULT NULL)"],
                ["CREATE TABLE Classes (id INTEGER PRIMARY KEY, label_property TEXT, column_name TEXT, "
                 "class_name TEXT)"],
                ["CREATE TABLE Objects (id INTEGER PRIMARY KEY, enabled INTEGER, label TEXT, comment TEXT, "
                 "creation DATE, c01 INTEGER, c02 INTEGER, c03 TEXT)"],
                *[["INSERT INTO Classes VALUES (?, ?, ?, ?)", *row] for row in (
                    (1, "self", "c00", "Coordinate"), (2, "_x", "c01", "Integer"), (3, "_y", "c02", "Integer"),
                    (4, "_micName", "c03", "String"))],
                *[["INSERT INTO Properties VALUES (?, ?)", *row] for row in (
                    ("self", "SetOfCoordinates"), ("_size", str(len(points))), ("_boxSize", "8"),
                    ("_streamState", "2"))],
                *[["INSERT INTO Objects VALUES (?, 1, '', '', ?, ?, ?, ?)", number, str(time.time_ns()), *point]
                  for number, point in enumerate(points, 1)])
        if "outputCoordinates" not in run.outputs:
            run.name_output("outputCoordinates", "SetOfCoordinates", os.path.relpath(path, self.project.folder),
                            len(points))

    def test_the_points_of_several_pickers(self):
        self.write(1)
        self.running.add_output(movies=1)
        pickers = [self.project.add_run("ProtPicker") for _ in range(2)]
        for number, picker in enumerate(pickers):
            picker.launch()
            self.picks(picker, [(number, 5, "m_00001.mrc"), (number, 6, "m_00001.mrc")])
        backend = self.opened(patience=float("inf"))
        self.feed(backend, self.running.name)

        def points():
            found = backend.snapshot(self.folder)["points"].get("m_00001.mrc", {})
            return {source: [tuple(point) for point in its[0]] for source, its in found.items()}

        names = ["%s:outputCoordinates" % picker.name for picker in pickers]
        self.wait_for(lambda: points() == {names[0]: [(0, 5), (0, 6)], names[1]: [(1, 5), (1, 6)]}, what="all points")
        self.picks(pickers[0], [(7, 7, "m_00001.mrc")])
        self.wait_for(lambda: points() == {names[0]: [(7, 7)], names[1]: [(1, 5), (1, 6)]}, what="the new points")

    def test_a_project_that_is_none(self):
        backend = self.opened()
        with self.assertRaisesRegex(FollowError, "is no Scipion project"):
            Feed(backend, self.folder).run()
