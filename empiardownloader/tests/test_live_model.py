# SPDX-License-Identifier: GPL-3.0-or-later
"""What a viewer keeps of the images, whatever draws them."""
import importlib
import os
import resource
import signal
import sys
import unittest
from unittest import mock

import numpy as np

from empiardownloader.live.viewer_process import FOLDER

IS_QUICK = True


def model_modules():
    """The viewer's own modules, which lie in a folder that is run by its path."""
    sys.path.insert(0, FOLDER)
    try:
        return importlib.import_module("live_model"), importlib.import_module("live_link")
    finally:
        sys.path.remove(FOLDER)


live_model, live_link = model_modules()


def image(number, array=None, **display):
    array = np.full((4, 5), number, "float32") if array is None else array
    display.setdefault("name", "m_%d" % number)
    return {"image_id": "x_%d" % number, "path": "m_%d.mrc" % number, "data_type": "image", "display": display,
            "shape": list(array.shape), "dtype": array.dtype.str}, array


class TestModel(unittest.TestCase):

    def setUp(self):
        self.model = live_model.Model("A project")

    def take(self, *numbers, **display):
        for number in numbers:
            stack = self.model.take(*image(number, place=number, **display))
        return stack

    def test_the_title_says_which_of_how_many(self):
        stack = self.take(*range(1, 13), kind="averages", remark="gain applied")
        self.assertEqual("m_7, 7 of 12, gain applied", self.model.describe(stack, 6))
        self.model.state = "running"
        self.assertEqual("A project - running", self.model.caption())

    def test_late_ones_find_their_place_and_the_picture_looked_at_is_kept(self):
        stack = self.take(5, 9)
        looked_at = stack.pictures[0]
        self.take(1, 7)
        self.assertEqual(["m_1", "m_5", "m_7", "m_9"], [picture.name for picture in stack.pictures])
        self.assertEqual(1, stack.place_of(looked_at))
        self.assertTrue((stack.pixels(stack.pictures[2]) == 7).all())

    def test_images_of_one_name_of_two_families(self):
        """Two downloads of which both call their first movie m_1 are not the same."""
        self.take(1, kind="averages", source="a", family="000002_A")
        self.take(11, kind="averages", source="b", family="000009_B", name="m_1")
        self.take(21, kind="micrographs", source="c", family="000002_A", name="m_1")
        self.assertEqual([("m_1", 0, "000002_A"), ("m_1", 0, "000009_B")], self.model.positions.keys)

    def test_facts_are_of_an_image_or_of_all_of_a_name(self):
        stack = self.take(1, 2, kind="averages", source="a", name="same.mrc")
        for picture, number in zip(stack.pictures, (1, 2)):
            picture.item = number

        def say(source, facts, item=None, over=None):
            self.model.take({"data_type": "facts", "facts": facts, "display": {
                "name": "same.mrc", "source": source, "item": item, "over": over}}, None)

        say("a", {"rejected": True}, item=2, over=["a"])
        say("ctf", {"note": "defocus 1"})
        say("other", {"note": "defocus 2"}, over=["b"])
        self.assertEqual([False, True], [self.model.is_rejected(picture) for picture in stack.pictures])
        self.assertEqual([["defocus 1"], ["defocus 1", "rejected"]],
                         [sorted(self.model.notes_on(picture)) for picture in stack.pictures])
        self.model.remove("a", 1)
        self.assertEqual([2], [picture.item for picture in stack.pictures])
        self.model.forget("a")
        self.assertEqual({("ctf", None), ("other", None)}, set(self.model.facts["same.mrc"]))

    def test_what_has_shrunk_is_drawn(self):
        """A window that was not told would show what is gone, and stumble over it."""
        stack = self.take(1, 2, kind="averages", source="a")
        for picture, number in zip(stack.pictures, (1, 2)):
            picture.item = number
        self.model.remove("a", 2)
        self.assertEqual([stack], self.model.shrunk)
        self.model.shrunk = []
        self.model.take(*image(1, np.zeros((9, 9), "float32"), kind="averages", source="a"))
        self.assertEqual([stack], self.model.shrunk)

    def test_facts_go_with_their_image(self):
        stack = self.take(1, kind="averages", source="a")
        stack.pictures[0].item = 1
        self.model.take({"data_type": "facts", "facts": {"rejected": True}, "display": {
            "name": "m_1", "source": "a", "item": 1, "over": ["a"]}}, None)
        self.model.remove("a", 1)
        again = self.take(1, kind="averages", source="a")
        again.pictures[0].item = 1
        self.assertFalse(self.model.is_rejected(again.pictures[0]))

    def test_an_image_that_finds_no_room_leaves_the_former_one(self):
        self.take(1)
        message, _ = image(9, np.zeros((100, 100), "float32"), name="m_1")
        message["path"] = "m_1.mrc"
        with mock.patch.object(live_model.Stack, "put", side_effect=live_link.ImageError("no room")), \
                self.assertRaises(live_link.ImageError):
            self.model.take(message, np.zeros((100, 100), "float32"))
        self.assertEqual([1], [len(stack) for stack in self.model.stacks.values()])

    def test_names_tell_stacks_apart_only_where_needed(self):
        first = self.take(1, kind="averages", source="run_a")
        self.assertEqual("averages", self.model.name_of(first))
        second = self.take(1, kind="averages", source="run_b")
        self.assertEqual("averages run_a", self.model.name_of(first))
        self.model.take(*image(2, np.zeros((6, 5), "<f4"), kind="averages", source="run_b"))
        self.assertEqual("averages run_b 5 x 4 float32", self.model.name_of(second))

    def test_images_of_one_name_have_one_position(self):
        """A movie's average, its spectrum, and the micrograph that became of it; not two movies of one name."""
        for source, number, kind in (("movies", 5, "averages"), ("movies", 2, "averages"), ("movies", 5, "spectra"),
                                     ("micrographs", 5, "micrographs")):
            self.model.take(*image(number, place=number, kind=kind, source=source))
        self.assertEqual([("m_2", 0, None), ("m_5", 0, None)], self.model.positions.keys)
        self.assertEqual(["averages", "spectra", "micrographs"], [
            stack.kind for stack in self.model.stacks.values() if ("m_5", 0, None) in stack.by_key])
        self.assertEqual("m_5, 2 of 2", self.model.describe_at(1))
        other, array = image(6, place=6, kind="averages", source="movies", name="m_5")
        self.model.take(other, array)
        self.assertEqual([("m_2", 0, None), ("m_5", 0, None), ("m_5", 1, None)], self.model.positions.keys)
        self.model.forget("movies")
        self.assertEqual([("m_5", 0, None)], self.model.positions.keys)

    def test_what_is_saved_again_in_another_size_or_type_replaces(self):
        """F9"""
        self.take(1, 2, kind="averages")
        self.model.take(*image(1, np.zeros((8, 9), "uint8"), kind="averages", place=1))
        self.assertEqual([((4, 5), ["m_2"]), ((8, 9), ["m_1"])], [
            (stack.shape, [picture.name for picture in stack.pictures]) for stack in self.model.stacks.values()])
        self.model.take(*image(2, np.zeros((8, 9), "uint8"), kind="averages", place=2))
        self.assertEqual([["m_1", "m_2"]], [[picture.name for picture in stack.pictures]
                                            for stack in self.model.stacks.values()])
        self.assertEqual(2, len(self.model.positions.keys))

    def test_frames_of_one_movie_at_a_time(self):
        self.take(1, kind="averages")
        first = self.take(0, 1, 2, kind="frames of m_1", group="frames")
        self.assertIs(first, self.model.frames)
        second = self.take(0, kind="frames of m_2", group="frames")
        self.assertIs(second, self.model.frames)
        self.assertEqual(["averages", "frames of m_2"], [stack.kind for stack in self.model.stacks.values()])

    def test_points_at_another_pixel_size_and_upside_down(self):
        # Two pixels of the movie make one of the picture, and picking was done at twice the movie's pixel size.
        stack = self.take(1, binning=2, pixel_size=1.0, flipped=True)
        def pick(source, points, pixel_size, box=8):
            self.model.take({"data_type": "shapes", "path": "m_1.mrc", "points": points, "box": box, "display": {
                "name": "m_1", "pixel_size": pixel_size, "source": source}}, None)

        pick("a", [[0, 0], [1, 2]], 2.0)
        picture, = stack.pictures
        self.assertEqual([(0.0, 3.0, 8.0), (1.0, 1.0, 8.0)], self.model.picks_over(picture))
        # Another picker's are shown beside them, and go with it.
        pick("b", [[0.5, 0.5]], 1.0, 12)
        self.assertEqual([(0.0, 3.0, 8.0), (1.0, 1.0, 8.0), (0.0, 3.0, 6.0)], self.model.picks_over(picture))
        self.model.forget("a")
        self.assertEqual([(0.0, 3.0, 6.0)], self.model.picks_over(picture))

    def test_what_is_forgotten_is_gone(self):
        self.take(1, 2, kind="averages", source="a")
        self.take(1, 2, kind="averages", source="b")
        self.model.forget("a")
        self.assertEqual(["b"], [stack.source for stack in self.model.stacks.values()])

    def test_contrast_where_nobody_says_it(self):
        array = np.random.default_rng(1).normal(10, 2, (64, 64)).astype("<f4")
        array[0, 0] = np.nan
        stack = self.model.take(*image(1, array))
        low, high = stack.pictures[0].limits
        self.assertTrue(3 < low < 5 and 15 < high < 17, (low, high))
        stack = self.model.take(*image(2, np.full((3, 3), np.nan, "<f4")))
        self.assertEqual([0.0, 1.0], stack.pictures[0].limits)

    def test_a_full_disk_keeps_the_newest(self):
        # A limit on the size of files stands for the disk's.
        before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGXFSZ, handler)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, before)
        arrays = [np.full((256, 256), number, "<f4") for number in range(12)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (5 * arrays[0].nbytes, before[1]))
        for number, array in enumerate(arrays):
            stack = self.model.take(*image(number, array, place=number))
        self.assertEqual((5, 7), (len(stack), stack.dropped))
        self.assertEqual(list(range(7, 12)), [int(stack.pixels(picture)[0, 0]) for picture in stack.pictures])
        self.assertIn("7 older ones gave way, the disk for temporary files is full", self.model.describe(stack, 4))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        with self.assertRaisesRegex(live_link.ImageError, "the folder for temporary files takes no more"):
            self.model.take(*image(50, np.zeros((10, 10), "<f4"), kind="other"))

    def test_memory_does_not_grow_with_the_images(self):
        with open("/proc/self/status") as stream:
            before = int(stream.read().partition("VmRSS:")[2].split()[0])
        array = np.zeros((512, 512), "<f4")
        for number in range(300):
            stack = self.model.take(*image(number, array, place=number))
        with open("/proc/self/status") as stream:
            grown = int(stream.read().partition("VmRSS:")[2].split()[0]) - before
        self.assertEqual(300, len(stack))
        # 300 MB of pixels.
        self.assertLess(grown, 30000)
        self.assertEqual(0, os.fstat(stack.descriptor).st_nlink)


if __name__ == "__main__":
    unittest.main()
