# SPDX-License-Identifier: GPL-3.0-or-later
"""What a feed shows of a project, written as Scipion writes it in any state, in a viewer without windows."""
import os
import threading
import time
from unittest import mock

import numpy as np
import tifffile

from empiardownloader.demo import movies
from empiardownloader.follow import FollowError, Item, NodeContent
from empiardownloader.live import NapariStreamingBackend, kinds
from empiardownloader.live.feed import Feed, Job
from empiardownloader.live.shown_run import SHOWN, Forget, Remove, ShownRun
from empiardownloader.tests.live_case import LiveCase, crc
from empiardownloader.tests.scipion_files import ProjectFiles, execute

IS_QUICK = True

WIDTH, HEIGHT, FRAMES = 40, 30, 3


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
        node = NodeContent("SetOfMicrographs", "m", "000002_X:m", {}, "/p/m.sqlite")
        for action in (Remove("000002_X:m", 7), Forget("000002_X:m")):
            feed._add([Job(node, [Item(7, "/p/m.mrc", 0, "m", {})])])
            feed._begun = set(feed._walkers)
            job = feed._next()

            def made(*arguments, action=action):
                feed._perform(action)
                return [kinds.Shown(np.zeros((2, 2)), "/p/m.mrc", {})]

            with mock.patch.object(feed, "_pictures", made):
                feed._show(job)
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
