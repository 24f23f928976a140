# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of whole downloads share: entries built in small, and their way into a folder."""
import bz2
import os
import zlib
from unittest import mock

from empiardownloader.archive import entry as archive_entry
from empiardownloader.archive.remote.choice import open_archive
from empiardownloader.archive.selection import GAIN
from empiardownloader.archive.stopping import StopToken
from empiardownloader.demo import movies
from empiardownloader.download import lister
from empiardownloader.download.download import Download
from empiardownloader.download.request import Places, Request
from empiardownloader.tests.base import ArchiveTestCase, entry, read_bytes
from empiardownloader.tests.forked import HASTE
from empiardownloader.transfer.jobs import Settings

TINY = {"frames": 3, "width": 24, "height": 16}
FIELDS = {"image_width": "24", "image_height": "16", "frames_per_image": 3}


class Layout(ArchiveTestCase):
    """Helpers to build an entry and to download from it."""
    transport = ""

    def setUp(self):
        super().setUp()
        # Second looks at folders come as often as ever, and sooner.
        hasty = mock.patch.object(lister, "SETTLE_SECONDS", tuple(seconds / HASTE for seconds in lister.SETTLE_SECONDS))
        hasty.start()
        self.addCleanup(hasty.stop)
        self.demo = self.serve()
        self.out = os.path.join(self.folder, "out")
        os.makedirs(self.out)

    def put(self, path, gain=False, seed=None, **size):
        """A movie, or a gain reference, at a path below the archive's root; compressed where the name says so."""
        full = os.path.join(self.root, path)
        seed = zlib.crc32(path.encode()) if seed is None else seed
        plain = full[:-4] if full.endswith(".bz2") else full
        if gain:
            movies.write_gain(plain, seed, size.get("width", TINY["width"]), size.get("height", TINY["height"]))
        else:
            movies.write_movie(plain, seed, **dict(TINY, **size))
        if plain != full:
            content = read_bytes(plain)
            os.remove(plain)
            with open(full, "wb") as stream:
                stream.write(bz2.compress(content))
        return full

    def put_text(self, path):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w") as stream:
            stream.write("text")

    def download(self, number, *image_sets, amount=None, choice="", left_out=0, shared="", cancelled=None, **request):
        record_of_entry = entry(*image_sets)
        found = archive_entry.parse_entry(number, record_of_entry)
        self.demo.requests.clear()
        urls = self.demo.variables
        archive = open_archive(number, urls, self.transport)
        places = Places(self.out, os.path.join(self.out, "record"), shared)
        request = Request(found, found.image_set(choice), amount, **request)
        self.demo.requests.clear()
        facts = Download(request, archive, places, Settings(first_wait=0.05), cancelled or StopToken()).run()
        self.assertEqual(left_out, len(facts.left_out), facts.left_out)
        return facts

    def check(self, facts, names, gain, sources=()):
        self.assertEqual(sorted(names), sorted(facts.images))
        self.assertEqual([gain] if gain else [], [event.path for event in facts.chosen(GAIN)])
        for source, name in zip(sources, names):
            self.assertEqual(read_bytes(source), read_bytes(os.path.join(self.out, name)))
        for name in list(names) + [event.name for event in facts.chosen(GAIN)]:
            self.assertTrue(os.path.isfile(os.path.join(self.out, name)), name)

    def folders_listed(self):
        return self.demo.count("MLSD") + self.demo.count("LIST") + sum(
            request.startswith("GET") and request.endswith("/") for request in self.demo.requests)

    def gains_of(self, facts):
        """{path of a movie: path of its gain reference}"""
        return {movie.path: facts.reference(GAIN, movie).path for movie in facts.images.values()}

    def setUpOut(self, name):
        self.out = os.path.join(self.folder, "out_" + name)
        os.makedirs(self.out)
