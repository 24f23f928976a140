# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of images: how many, which next, and what becomes of those that wait."""
import unittest

from empiardownloader.archive.selection import RemoteFile
from empiardownloader.download.lister import Listed
from empiardownloader.download.queue import ImageQueue
from empiardownloader.download.record.events import ImageArrived

IS_QUICK = True


def images(*names):
    return [Listed(RemoteFile(name), {}, [], None) for name in names]


def arrived(name):
    return ImageArrived(name, name, 1)


class TestQueue(unittest.TestCase):

    def drain(self, queue):
        """Begin all that is wanted now -> names."""
        begun = []
        while queue.is_open and not queue.is_empty:
            image = queue.next()
            if queue.wants(image):
                queue.begin(image.path)
                begun.append(image.path)
        return begun

    def test_no_more_than_asked_for(self):
        queue = ImageQueue(2)
        queue.add(images("a", "b", "c"))
        self.assertEqual(["a", "b"], self.drain(queue))
        self.assertFalse(queue.is_open)

    def test_another_one_for_each_that_could_not_be_had(self):
        queue = ImageQueue(2)
        queue.add(images("a", "b", "c", "d"))
        self.drain(queue)
        queue.skip("a")
        self.assertEqual(["c"], self.drain(queue))
        queue.arrive(arrived("b"))
        queue.arrive(arrived("c"))
        self.assertFalse(queue.is_open)
        self.assertEqual(["b", "c"], list(queue.here))

    def test_all_that_get_listed(self):
        queue = ImageQueue(None)
        queue.add(images("a"))
        self.assertEqual(["a"], self.drain(queue))
        self.assertTrue(queue.is_open)      # the lister may give more
        queue.add(images("b"))
        self.assertEqual(["b"], self.drain(queue))
        queue.ended = True
        self.assertTrue(queue.is_exhausted)
        self.assertFalse(queue.is_open)

    def test_what_is_here_is_not_fetched_again(self):
        queue = ImageQueue(2)
        queue.recall(arrived("b"), incomplete=False)
        queue.add(images("a", "b", "c"))
        self.assertEqual(["a"], self.drain(queue))

    def test_the_list_goes_on_for_what_is_here_and_lacks_something(self):
        """Its references are found with its folder, though no further image is wanted."""
        queue = ImageQueue(1)
        queue.recall(arrived("c"), incomplete=True)
        queue.add(images("a", "b", "c"))
        self.assertFalse(queue.has_room)
        self.assertTrue(queue.is_open)
        seen = []
        while queue.is_open and not queue.is_empty:
            image = queue.next()
            seen.append(image.path)
            queue.incomplete.discard(image.path)
            self.assertFalse(queue.wants(image))
        self.assertEqual(["a", "b", "c"], seen)
        # More are asked for: those that were passed over come first, in their order.
        queue.amount = 3
        self.assertEqual(["a", "b"], self.drain(queue))

    def test_listed_twice_and_begun_once(self):
        """Folders are listed a second time where the server may not have shown every file."""
        queue = ImageQueue(None)
        queue.add(images("a", "b"))
        self.drain(queue)
        queue.arrive(arrived("a"))
        queue.skip("b")
        queue.add(images("a", "b", "c"))
        self.assertEqual(["c"], self.drain(queue))

    def test_a_place_on_the_disk_that_is_taken_now(self):
        queue = ImageQueue(None)
        queue.add(images("a", "b"))
        queue.block(queue.next())
        self.assertEqual(["b"], self.drain(queue))
        queue.ended = True
        queue.unblock()
        self.assertTrue(queue.is_open)
        self.assertEqual(["a"], self.drain(queue))

    def test_a_stop_is_no_end_of_the_list(self):
        queue = ImageQueue(None)
        self.assertFalse(queue.is_exhausted)
        self.assertTrue(queue.is_open)

    def test_what_a_description_does_not_name_is_forgotten(self):
        queue = ImageQueue(None)
        queue.add(images("a", "b"))
        queue.keep(lambda image: image.path == "b")
        self.assertEqual(["b"], self.drain(queue))
