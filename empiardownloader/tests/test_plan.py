# SPDX-License-Identifier: GPL-3.0-or-later
"""What a download would bring, and an image seen from afar, over both transports."""
import bz2
import json
import os
import subprocess
import sys
import threading
import unittest
from unittest import mock

import numpy as np
import tifffile

from empiardownloader.archive.errors import EntryError
from empiardownloader.constants import VARIABLES
from empiardownloader.demo import faults, kinds, movies
from empiardownloader.download.fetch import fetch
from empiardownloader.download.plan import plan
from empiardownloader.download.preview import preview
from empiardownloader.images.frames import iter_frames
from empiardownloader.images.picture import picture_of
from empiardownloader.images.previews import average_frames, average_of, preview_of
from empiardownloader.protocols.headers import iterFrames
from empiardownloader.tests.base import ArchiveTestCase, emdb, entry, image_set
from empiardownloader.tests.surroundings import environment

IS_QUICK = True
TRANSPORTS = ("FTP", "HTTPS")


class PlanCase(ArchiveTestCase):

    def setUp(self):
        super().setUp()
        self.demo = self.serve(emdb={"EMD-0001": emdb()})
        variables = environment(**{name: self.demo.variables.get(name, "") for name in VARIABLES})
        variables.__enter__()
        self.addCleanup(variables.__exit__, None, None, None)

    def size(self, *paths):
        return sum(os.path.getsize(path) for path in paths)


class TestPlan(PlanCase):

    def movies(self, count=5):
        paths = self.write_movies("1", ["m_%d.mrc" % number for number in range(count)])
        gain = os.path.join(self.root, "1", "data", "Movies", "gain.mrc")
        movies.write_gain(gain, 1)
        self.demo.entries["1"] = entry(image_set(num_images_or_tilt_series=count))
        return paths, gain

    def test_what_comes_is_what_was_planned(self):
        paths, gain = self.movies()
        for transport in TRANSPORTS:
            with self.subTest(transport):
                told = plan("1", 3, transport=transport, folder=self.folder)
                self.assertEqual((3, 5, 4, 0), (told.images, told.of, told.files, told.here))
                if told.exact:
                    self.assertEqual(self.size(*paths[:3], gain), told.bytes)
                else:
                    self.assertAlmostEqual(self.size(*paths[:3], gain), told.bytes, delta=0.1 * told.bytes)
                self.assertTrue(told.rate > 0 and told.seconds > 0 and told.free_bytes > 0 and told.fits)
        self.assertTrue(plan("1", 3, transport="FTP").exact)
        os.remove(gain)
        self.assertGreater(plan("1", 3, transport="FTP").rate, 0)
        movies.write_gain(gain, 1)
        whole = plan("1", None, transport="FTP", measure=False)
        self.assertEqual((5, 6, None, None), (whole.images, whole.files, whole.rate, whole.seconds))
        self.assertEqual(2, plan("1", None, file_pattern="m_[12].mrc", transport="FTP", measure=False).images)

    def test_silence_is_said(self):
        """While nothing comes the progress says so, and why, and not only how far it was."""
        self.movies(2)
        self.demo.add_fault(faults.STALL, "*m_*", after=3000)
        stopped, told = threading.Event(), []

        def listen(progress):
            told.append(str(progress))
            if "nothing has come" in told[-1]:
                stopped.set()

        with mock.patch("empiardownloader.download.download.SILENT_SECONDS", 1.0):
            fetch("1", os.path.join(self.folder, "out"), 2, transport="FTP", stopped=stopped, on_progress=listen)
        self.assertRegex(told[-1] if "nothing" in told[-1] else told[-2],
                         r"^Downloaded 0 of 2 movies, .*nothing has come for \d+ s.*, trying again$")

    def test_a_gain_that_fits_only_turned(self):
        """What the run would say of it is known before, by some hundred bytes of each file."""
        paths, gain = self.movies(2)
        movie = next(iter_frames(paths[0]))
        for turned, suffix in ((False, ".mrc"), (True, ".mrc"), (True, ".tif")):
            with self.subTest(turned=turned, suffix=suffix):
                os.remove(gain)
                gain = os.path.join(os.path.dirname(gain), "gain" + suffix)
                movies.write_image(gain, np.ones(movie.shape[::-1] if turned else movie.shape, "float32"))
                told = plan("1", 2, transport="FTP", measure=False).gain_notes
                self.assertEqual([turned], ["only when turned by 90 degrees" in note for note in told] or [False])
        # Another one that fits as it is comes first.
        movies.write_gain(os.path.join(os.path.dirname(gain), "x_gain.mrc"), 1)
        self.assertEqual((), plan("1", 2, transport="FTP", measure=False).gain_notes)

    def test_a_look_at_the_gain_breaks_no_plan(self):
        """One that does not answer, errs, is damaged or of another folder than the movie only tells nothing."""
        _, gain = self.movies(2)
        for fault in (faults.BUSY, faults.ERROR, faults.DROP, faults.FORBIDDEN, faults.GONE, faults.PAGE):
            for pattern in ("*gain*", "*m_0*"):
                with self.subTest(fault=fault, pattern=pattern):
                    self.demo.add_fault(fault, pattern)
                    told = plan("1", 2, transport="FTP", measure=False)
                    self.demo.clear_faults()
                    self.assertEqual((2, ()), (told.images, told.gain_notes))
        os.remove(gain)
        gain = os.path.splitext(gain)[0] + ".tif"
        for content in (b"II", b"II*\0", b"II*\0\x08\0\0\0", b"II*\0" + b"\xff" * 40, b"MM\0+" + b"\x7f" * 99):
            with self.subTest(content), open(gain, "wb") as stream:
                stream.write(content)
                stream.flush()
                self.assertEqual((2, ()), (lambda told: (told.images, told.gain_notes))(
                    plan("1", 2, transport="FTP", measure=False)))
        os.remove(gain)
        # The gain of another folder is no business of these movies.
        self.write_movies("1", ["n_1.mrc"], "data/Movies/Other", width=40, height=30)
        movies.write_image(os.path.join(self.root, "1", "data", "Movies", "Other", "gain.mrc"), np.ones((30, 40), "f4"))
        self.assertEqual((), plan("1", None, transport="FTP", measure=False).gain_notes)

    def test_what_is_here_already(self):
        self.movies()
        out = os.path.join(self.folder, "out")
        fetch("1", out, 2)
        told = plan("1", 4, folder=out, transport="FTP", measure=False)
        self.assertEqual((2, 2), (told.images, told.here))

    def test_tilt_series(self):
        number = kinds.NUMBERS["tilt series"]
        self.demo.entries[number] = entry(kinds.build(self.root, "tilt series"))
        one, all_of_them = (plan(number, amount, transport="FTP", measure=False) for amount in (1, None))
        self.assertEqual(1, one.images)
        self.assertLess(one.bytes, all_of_them.bytes)
        for amount in (4, 99, None):
            told = plan(number, amount, transport="FTP", measure=False)
            self.assertEqual((3, 3), (told.images, told.of), amount)
        # Each brings its .mdoc.
        self.assertEqual(3 * (7 + 1), told.files)
        # A series counts as here when it is whole.
        folder = os.path.join(self.folder, "tilts")
        fetch(number, folder, 1, transport="FTP")
        os.remove(os.path.join(folder, next(name for name in os.listdir(folder) if name.endswith(".mrc"))))
        for amount, counts in ((1, (1, 0)), (None, (3, 0))):
            told = plan(number, amount, transport="FTP", folder=folder, measure=False)
            self.assertEqual(counts, (told.images, told.here), amount)
        fetch(number, folder, 2, transport="FTP")
        told = plan(number, None, transport="FTP", folder=folder, measure=False)
        self.assertEqual((1, 2, 3), (told.images, told.here, told.of))
        fetch(number, folder, None, transport="FTP")
        told = plan(number, None, transport="FTP", folder=folder)
        self.assertEqual((0, 3, 0, 0.0), (told.images, told.here, told.files, told.seconds))
        self.assertIn("Time:    none, nothing is to come", told.as_lines())

    def test_more_than_the_disk_holds(self):
        self.movies(1)
        path = os.path.join(self.root, "1", "data", "Movies", "m_0.mrc")
        os.truncate(path, 1 << 43)      # a hole, which takes no room here
        told = plan("1", 1, transport="FTP", folder=self.folder, measure=False)
        self.assertFalse(told.fits)
        self.assertIn("it does not fit", "\n".join(told.as_lines()))

    def test_commands(self):
        self.movies()
        for words in (["plan", "1", "--images", "2", "--json"], ["plan", "1", "--all"], ["plan", "1", "--images", "0"],
                      ["plan", "2"], ["preview", "1", "--to", os.path.join(self.folder, "p.png"), "--json"],
                      ["preview", "1", "--to", os.path.join(self.folder, "p.jpg")]):
            done = subprocess.run([sys.executable, "-m", "empiardownloader", *words], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, timeout=60, check=False)
            if words[-1] == "--json":
                told = json.loads(done.stdout)
                self.assertEqual(0, done.returncode, done.stderr)
                self.assertLessEqual({"files", "bytes", "seconds", "free_bytes"} if words[0] == "plan" else {
                    "path", "width", "height", "frames_used", "bytes_received"}, set(told))
            elif words[-1] == "--all":
                self.assertIn("Images:  5 of 5 movies", done.stdout)
                self.assertIn("MB/s measured now", done.stdout)
            else:
                self.assertNotEqual(0, done.returncode)
                self.assertRegex(done.stderr, "from 1 on|no entry 2|ends with .png")


class TestPreview(PlanCase):
    WIDTH, HEIGHT, FRAMES = 512, 384, 12

    def put(self, name, **fields):
        path = os.path.join(self.root, "1", "data", "Movies", name)
        movies.write_movie(path, 3, self.FRAMES, self.WIDTH, self.HEIGHT)
        self.demo.entries["1"] = entry(image_set(data_format="", frames_per_image=self.FRAMES, **fields))
        return path

    def test_frames_within_the_budget(self):
        """The average is that of exactly the frames that were fetched."""
        for name in ("m.mrc", "m.tif", "m.eer"):
            for transport in TRANSPORTS:
                with self.subTest(name, transport=transport):
                    path = self.put(name)
                    shown = preview("1", transport=transport)
                    self.assertEqual((self.WIDTH, self.HEIGHT, self.FRAMES), (
                        shown.width, shown.height, shown.frames_used))
                    whole = preview_of(average_frames(path))
                    np.testing.assert_allclose(whole.average, shown.preview.average, rtol=1e-5)
                    budget = 5 * self.WIDTH * self.HEIGHT
                    part = preview("1", transport=transport, budget=budget)
                    self.assertTrue(1 <= part.frames_used < self.FRAMES, part.frames_used)
                    self.assertLessEqual(part.bytes_received, budget)
                    self.assertEqual((self.WIDTH, self.HEIGHT), (part.width, part.height))
                    os.remove(path)

    def test_the_gain_is_applied(self):
        self.put("m.mrc")
        movies.write_gain(os.path.join(self.root, "1", "data", "Movies", "gain.mrc"), 9, self.WIDTH, self.HEIGHT)
        self.assertEqual("gain applied", preview("1").preview.gain)
        self.assertEqual("", preview("1", gain=False).preview.gain)
        # It is paid for out of the same budget, and left where it would take most of that.
        budget = 9 * self.WIDTH * self.HEIGHT
        shown = preview("1", budget=budget)
        self.assertEqual(("gain applied", True), (shown.preview.gain, shown.bytes_received <= budget))
        self.assertRegex(preview("1", budget=5 * self.WIDTH * self.HEIGHT).describe(),
                         "the gain reference data/Movies/gain.mrc is not applied, for it takes .* larger budget")

    def test_the_lowest_rows_of_a_large_image(self):
        path = os.path.join(self.root, "1", "data", "Movies", "m.mrc")
        movies.write_movie(path, 3, 2, 2048, 1024)
        self.demo.entries["1"] = entry(image_set(data_format="", frames_per_image=2))
        shown = preview("1", budget=1 << 20)
        self.assertEqual((2048, 1024, 1), (shown.width, shown.height, shown.frames_used))
        self.assertTrue(256 <= shown.rows < 1024)
        self.assertLessEqual(shown.bytes_received, 1 << 20)
        part = preview_of(next(iter_frames(path))[:shown.rows].astype("float32"))
        np.testing.assert_allclose(part.average, shown.preview.average, rtol=1e-5)

    def test_gatans_files(self):
        """As Scipion's own reader has their frames; the first row of a file is the uppermost one."""
        path = os.path.join(self.root, "1", "data", "Movies", "m.dm4")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        frames = movies.make_frames(3, 5, 256, 300, "float32")
        movies.write_dm4(path, frames)
        self.demo.entries["1"] = entry(image_set(data_format="DM4", frames_per_image=5))
        for transport in TRANSPORTS:
            with self.subTest(transport):
                shown = preview("1", transport=transport)
                self.assertEqual((256, 300, 5, 5), (shown.width, shown.height, shown.frames_used, shown.frames))
                np.testing.assert_allclose(preview_of(average_of(list(iterFrames(path)), path)).average,
                                           shown.preview.average, rtol=1e-5)
        budget = 3 * frames[0].nbytes
        part = preview("1", budget=budget)
        self.assertTrue(1 <= part.frames_used < 3, part.frames_used)
        self.assertLessEqual(part.bytes_received, budget)
        movies.write_dm4(path, movies.make_frames(3, 1, 1024, 700, "float32"))
        shown = preview("1", budget=2 << 20)
        self.assertEqual((1024, 700, 1), (shown.width, shown.height, shown.frames_used))
        self.assertTrue(256 <= shown.rows < 700, shown.rows)
        upper = preview_of(next(iterFrames(path))[-shown.rows:])
        np.testing.assert_allclose(upper.average, shown.preview.average, rtol=1e-5)
        with self.assertRaisesRegex(EntryError, "takes more than"):
            preview("1", budget=500000)

    def test_a_picture_with_scale(self):
        self.put("m.mrc")
        shown = preview("1")
        picture = picture_of(shown.preview, shown.pixel_size)
        self.assertEqual((512 + 8 + 512, 512), picture.size)
        self.assertNotEqual(picture.tobytes(), picture_of(shown.preview, None).tobytes())

    def test_what_cannot_be_shown(self):
        path = self.put("m.mrc")
        for name, content, why in (
                ("m.mrc.bz2", bz2.compress(b"x" * 9999), "compressed as a whole"),
                ("m.dm4", b"\0" * 9999, "cannot be shown .it holds no image of Gatan's format"),
                ("m.dm3", b"\0\0\0\3" + b"\xff" * 9999, "cannot be shown"),
                ("m.mrc", b"\0" * 9999, "cannot be shown"), ("m.tif", b"II*\0" + b"\xff" * 9999, "cannot be shown"),
                ("m.tif", b"MM\0+" + b"\0" * 99, "cannot be shown")):
            with self.subTest(name, why=why):
                if os.path.exists(path):
                    os.remove(path)
                path = os.path.join(os.path.dirname(path), name)
                with open(path, "wb") as stream:
                    stream.write(content)
                with self.assertRaisesRegex(EntryError, why):
                    preview("1")
        os.remove(path)
        self.put("m.mrc")
        with self.assertRaisesRegex(EntryError, "takes more than the 0.1 MB .* larger budget"):
            preview("1", budget=100000)
        loop = os.path.join(self.root, "1", "data", "Movies", "m.tif")
        os.remove(os.path.join(self.root, "1", "data", "Movies", "m.mrc"))
        tifffile.imwrite(loop, np.zeros((9, 9), "uint8"), photometric="minisblack")
        with open(loop, "r+b") as stream:
            head = stream.read()
            place = int.from_bytes(head[4:8], "little")
            count = int.from_bytes(head[place:place + 2], "little")
            stream.seek(place + 2 + 12 * count)
            stream.write(place.to_bytes(4, "little"))
        with self.assertRaisesRegex(EntryError, "list of frames breaks off after 1 frames"):
            preview("1")
        # A file that is cut, of which tifffile only writes in its log.
        for share in (0.3, 0.5, 0.51, 0.7):     # half is within a directory
            movies.write_tiff(loop, movies.make_frames(1, 6, 300, 300))
            os.truncate(loop, int(os.path.getsize(loop) * share))
            with self.subTest(share), self.assertRaisesRegex(EntryError, "list of frames breaks off after [0-9] fra"):
                preview("1")
        with self.assertRaisesRegex(EntryError, "cannot be shown"):
            preview("1")
        os.remove(loop)
        self.put("m.mrc")
        big = os.path.join(self.root, "1", "data", "Movies", "m.tif")
        os.remove(os.path.join(self.root, "1", "data", "Movies", "m.mrc"))
        tifffile.imwrite(big, np.zeros((2, 999, 999), "uint8"), photometric="minisblack")
        with self.assertRaisesRegex(EntryError, "larger budget"):
            preview("1", budget=300000)


if __name__ == "__main__":
    unittest.main()
