# SPDX-License-Identifier: GPL-3.0-or-later
"""Images by reference: the right one, as stored, or a sentence."""
import os
import shutil

import mrcfile
import numpy as np
import tifffile

from empiardownloader.follow import EventType, FollowError, ImageChannel
from empiardownloader.follow.images import read_image
from empiardownloader.tests.follow_case import FollowCase


class TestImages(FollowCase):

    def place(self, name):
        return os.path.join(self.folder, name)

    def stack(self, name, count=4, kind=np.int16):
        data = np.arange(count * 6 * 8, dtype=kind).reshape(count, 6, 8)
        if name.endswith(".tif"):
            tifffile.imwrite(self.place(name), data)
        else:
            with mrcfile.new(self.place(name), data):
                pass
        return data

    def test_whole_files_and_images_of_stacks(self):
        for name in ("a.mrc", "a.mrcs", "a.tif"):
            data = self.stack(name)
            np.testing.assert_array_equal(data, read_image(self.place(name)))
            for index in (1, 4):
                np.testing.assert_array_equal(data[index - 1], read_image(self.place(name), index))
            for index in (-1, 5):
                with self.assertRaisesRegex(FollowError, "counted from 1|it has 4 images"):
                    read_image(self.place(name), index)
        self.stack("one.mrc", 1)
        self.assertEqual(2, read_image(self.place("one.mrc"), 1).ndim)

    def test_what_cannot_be_read(self):
        for name in ("cut.mrc", "cut.tif"):
            data = self.stack(name)
            size = os.path.getsize(self.place(name))
            for length in (0, 10, 700, size // 2, size - 1):
                shutil.copy(self.place(name), self.place("x" + name))
                os.truncate(self.place("x" + name), length)
                try:
                    found = read_image(self.place("x" + name))
                except FollowError as error:
                    self.assertEqual(1, len(str(error).splitlines()))
                else:
                    np.testing.assert_array_equal(data, found)
        for name, words in (("a.dm4", "only MRC and TIFF"), ("none.mrc", "no such file"), ("", "no file of its own")):
            with self.assertRaisesRegex(FollowError, words):
                read_image(self.place(name) if name else name)
        with open(self.place("odd.mrc"), "wb") as stream:
            stream.write(np.array([2 ** 31 - 1] * 3 + [2], "<i4").tobytes().ljust(1024, b"\0"))
        with self.assertRaisesRegex(FollowError, "odd.mrc cannot be read"):
            read_image(self.place("odd.mrc"))
        tifffile.imwrite(self.place("mixed.tif"), np.zeros((4, 4), np.uint8))
        tifffile.imwrite(self.place("mixed.tif"), np.zeros((5, 6), np.uint8), append=True)
        with self.assertRaisesRegex(FollowError, "not of one size"):
            read_image(self.place("mixed.tif"))

    def test_the_events_own_images(self):
        run = self.project.add_run()
        run.launch()
        movie_set = run.add_output(movies=0)
        os.makedirs(os.path.join(run.path, "extra"))

        def add(number):
            with mrcfile.new(os.path.join(run.path, "extra", "m_%05d.mrc" % number),
                             np.full((2, 4, 4), number, np.int16)):
                pass
            movie_set.append(1, number)

        events = self.walker().walk_events("SetOfMovies")
        next(events)
        for number in (10, 11, 5, 12):
            add(number)
            event = next(events)
            self.assertIs(EventType.NEW_DATA, event.type)
            channel = ImageChannel(event.node)
            self.assertEqual(number, channel.get(event.data.first_index).get_image(event.data.first_index)[0, 0, 0])
            self.assertEqual(number, channel.read(event.data.data[0])[0, 0, 0])
        view = channel.get(0)
        self.assertEqual([5, 10, 11, 12], [image[0, 0, 0] for image in view])
        # After a Restart the channel shows what is there then.
        os.remove(movie_set.path)
        movie_set = type(movie_set)(run, "outputMovies", "SetOfMovies")
        add(21)
        self.assertEqual([21], [image[0, 0, 0] for image in view])
        for place in (-1, 1, 7):
            with self.assertRaises(IndexError):
                view.get_image(place)
        with self.assertRaises(IndexError):
            channel.get(-1)
        node = next(self.walker().walk("run"))
        with self.assertRaisesRegex(FollowError, "images come from a set"):
            ImageChannel(node)
