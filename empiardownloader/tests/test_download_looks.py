# SPDX-License-Identifier: GPL-3.0-or-later
"""What is no movie is told by names, sizes and first bytes, before it is downloaded."""
import os

from empiardownloader.archive import entry as archive_entry
from empiardownloader.archive.selection import GAIN, RemoteFile
from empiardownloader.download.record.events import ImageArrived, ReferenceChosen
from empiardownloader.download.space import bytes_needed
from empiardownloader.tests.base import entry, image_set
from empiardownloader.tests.layout_case import Layout

MOVIE = {"frames": 20, "width": 512, "height": 512}
FIELDS = {"image_width": "512", "image_height": "512", "frames_per_image": 20}
PAIRS = 8


class LookRows(Layout):
    """Run for each transport by the classes below."""
    sent_in_vain = 0        # bytes that a server hands to its system before it hears that it was hung up on

    def session(self, movie_name, image_name):
        """Movies and their averages in one folder -> the movies' names, the averages' paths, the movies' bytes."""
        names = [movie_name % number for number in range(1, PAIRS + 1)]
        paths = ["data/Movies/" + image_name % number for number in range(1, PAIRS + 1)]
        # One of each is made, which takes its time, and has several names.
        movie = self.put("1/data/Movies/" + names[0], **MOVIE)
        image = self.put("1/" + paths[0], **dict(MOVIE, frames=1))
        for name, path in zip(names[1:], paths[1:]):
            os.link(movie, os.path.join(self.root, "1/data/Movies", name))
            os.link(image, os.path.join(self.root, "1", path))
        total = PAIRS * os.path.getsize(movie)
        self.demo.rate = 4 << 20
        return names, paths, total

    def check_session(self, names, paths, total, fields=None, at_most=0.01):
        facts = self.download("1", image_set(**FIELDS if fields is None else fields), left_out=PAIRS)
        self.check(facts, names, "")
        self.assertEqual(sorted(paths), sorted(facts.left_out))
        self.assertEqual(1, len(set(facts.left_out.values())), facts.left_out)
        self.assertLess(self.demo.sent_bytes - total, at_most * total + PAIRS * self.sent_in_vain)
        self.assertEqual(sorted([*names, "record"]), sorted(os.listdir(self.out)))
        return facts

    def test_an_epu_session(self):
        facts = self.check_session(*self.session("FoilHole_7_Data_%02d_fractions.mrc", "FoilHole_7_Data_%02d.mrc"))
        self.assertIn("single frame where the entry says 20", facts.left_out["data/Movies/FoilHole_7_Data_01.mrc"])

    def test_sizes_alone(self):
        self.check_session(*self.session("x_%02d.mrc", "ali_%02d.mrc"))

    def test_first_bytes_alone(self):
        """Nothing is known beforehand: what all connections had brought of the first one is lost."""
        self.check_session(*self.session("x_%02d.mrc", "ali_%02d.mrc"), fields={}, at_most=0.03)

    def test_all_that_is_there_where_the_user_chose(self):
        paths = self.session("x_%02d.mrc", "ali_%02d.mrc")[1]
        facts = self.download("1", image_set(**FIELDS), file_pattern="ali_*.mrc")
        self.check(facts, [os.path.basename(path) for path in paths], "")

    def test_the_gain_is_known_before_the_first_movie_is_whole(self):
        self.put("1/data/Movies/m_1.mrc", **MOVIE)
        self.put("1/data/Movies/gain.mrc", gain=True, width=512, height=512)
        self.demo.rate = 2 << 20
        facts = self.download("1", image_set(**FIELDS))
        self.assertEqual(["data/Movies/gain.mrc"], [event.path for event in facts.chosen(GAIN)])
        with open(os.path.join(self.out, "record"), encoding="utf-8") as stream:
            order = [line.split('"what": "')[1].split('"')[0] for line in stream]
        self.assertLess(order.index(ReferenceChosen.what), order.index(ImageArrived.what))

    def test_room_for_files_whose_sizes_are_not_listed(self):
        files = [RemoteFile("a.mrc"), RemoteFile("b.mrc")]
        chosen = archive_entry.parse_entry("1", entry(image_set(**FIELDS))).image_set()
        self.assertIsNone(bytes_needed(files, 2, set(), chosen, False))
        self.assertEqual(20, bytes_needed(files, 2, set(), chosen, False, measured=10))


class TestFtpLooks(LookRows):
    transport = "FTP"
    sent_in_vain = 5 * 65536        # blocks of pyftpdlib; few of them leave its machine


class TestHttpLooks(LookRows):
    transport = "HTTPS"


# The common cases run for each transport, not by themselves.
del LookRows, Layout
