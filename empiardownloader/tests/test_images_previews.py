# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame averages, corrected by the gain reference as the programs of the field do it, and previews that are kept."""
import os
import shutil
import tempfile
import unittest

import numpy as np

from empiardownloader.demo import movies
from empiardownloader.images.gain import GAIN_APPLIED, NO_GAIN, apply_gain
from empiardownloader.images.header import BadImageError
from empiardownloader.images.previews import (
    average_frames,
    bin_image,
    contrast,
    load_preview,
    make_preview,
    power_spectrum,
)

IS_QUICK = True

FRAMES = np.random.default_rng(4).poisson(20, (5, 30, 40)).astype("uint8")
GAIN = np.random.default_rng(5).normal(1, 0.1, (30, 40)).astype("float32")


class TestPreviews(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="empiar-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data):
        data = np.asarray(data)
        data = data if data.ndim == 3 else data[np.newaxis]
        if name.endswith((".mrc", ".mrcs")):
            movies.write_mrc(self.path(name), data)
        else:
            movies.write_tiff(self.path(name), data, big=name.endswith(".eer"))
        return self.path(name)

    def test_corrected_as_each_frame_would_be(self):
        expected = (FRAMES * GAIN).mean(axis=0)
        preview = make_preview(self.write("m.mrc", FRAMES), self.write("gain.mrc", GAIN))
        self.assertTrue(np.allclose(expected, preview.average, rtol=1e-5))
        self.assertEqual((GAIN_APPLIED, 1), (preview.gain, preview.binning))
        self.assertEqual(NO_GAIN, make_preview(self.path("m.mrc")).gain)

    def test_which_way_the_rows_run(self):
        """A TIFF file begins with the upper row, an MRC file with the lower one, an EER movie and its .gain as well."""
        average = FRAMES.mean(axis=0)
        for movie, gain in (("m.mrc", "g.mrc"), ("m.tif", "g.tif"), ("m.tif", "g.mrc"), ("m.mrc", "g.tiff"),
                            ("m.eer", "g.gain"), ("m.eer", "g.tif"), ("m.eer", "g.mrc")):
            with self.subTest(movie=movie, gain=gain):
                # As cameras write them: the same image, the first row above or below.
                upside = movie.endswith((".tif", ".tiff"))
                path = self.write(movie, FRAMES[:, ::-1] if upside else FRAMES)
                # Of an EER movie any gain but a .gain file divides.
                told = 1 / GAIN if movie.endswith(".eer") and not gain.endswith(".gain") else GAIN
                turned = gain.endswith((".tif", ".tiff"))
                preview = make_preview(path, self.write(gain, told[::-1] if turned else told))
                self.assertTrue(np.allclose(average * GAIN, preview.average, rtol=1e-4))

    def test_defects(self):
        gain = GAIN.copy()
        gain[3, 4], gain[5, 6] = 0, np.nan
        average = FRAMES.mean(axis=0, dtype="float32")
        found = apply_gain(average, gain)
        others = np.ones(gain.shape, bool)
        others[3, 4] = others[5, 6] = False
        mean = (average * GAIN)[others].mean()
        self.assertTrue(np.allclose([mean, mean], [found[3, 4], found[5, 6]], rtol=1e-4))
        self.assertTrue(np.allclose((average * GAIN)[others], found[others]))

    def test_a_gain_that_does_not_fit_is_not_applied_and_said(self):
        path = self.write("m.mrc", FRAMES)
        plain = average_frames(path)
        for gain, words in ((self.write("small.mrc", GAIN[:20]), "it has 40 x 20 pixels and the movie 40 x 30"),
                            (self.write("zero.mrc", 0 * GAIN), "it has no pixel that is not zero"),
                            (self.path("gone.mrc"), "No such file")):
            with self.subTest(gain=gain):
                preview = make_preview(path, gain)
                self.assertTrue(np.allclose(plain, preview.average))
                self.assertRegex(preview.gain, "^gain not applied: .*%s" % words)

    def test_kept_as_long_as_nothing_changes(self):
        path, gain, kept = self.write("m.mrc", FRAMES), self.write("gain.mrc", GAIN), self.path("kept")
        first = load_preview(path, kept, gain)
        # Only what is kept can tell now.
        stat = os.stat(path)
        with open(path, "r+b") as stream:
            stream.seek(1024)
            stream.write(bytes(1000))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        again = load_preview(path, kept, gain)
        self.assertTrue(np.array_equal(first.average, again.average))
        self.assertEqual((first.gain, first.binning), (again.gain, again.binning))
        # Without the gain, with another one, and after a change, it is another picture.
        self.assertFalse(np.array_equal(first.average, load_preview(path, kept).average))
        self.write("gain.mrc", 2 * GAIN)
        os.utime(gain, (1, 1))
        self.assertFalse(np.allclose(first.average, load_preview(path, kept, gain).average))
        self.assertEqual(["m.mrc.npz"], os.listdir(kept))

    def test_what_is_kept_may_be_damaged_or_of_another_version(self):
        path, kept = self.write("m.mrc", FRAMES), self.path("kept")
        expected = load_preview(path, kept).average
        for damage in (b"", b"no archive", b"PK\x03\x04 half of one"):
            with open(os.path.join(kept, "m.mrc.npz"), "wb") as stream:
                stream.write(damage)
            self.assertTrue(np.array_equal(expected, load_preview(path, kept).average))
        with open(os.path.join(kept, "m.mrc.npz"), "wb") as stream:
            np.savez(stream, average=0 * expected, spectrum=expected)
        self.assertTrue(np.array_equal(expected, load_preview(path, kept).average))

    def test_a_folder_that_cannot_be_written_to(self):
        path = self.write("m.mrc", FRAMES)
        with open(self.path("no folder"), "w"):
            pass
        preview = load_preview(path, self.path("no folder"))
        self.assertTrue(np.allclose(FRAMES.mean(axis=0), preview.average))

    def test_one_pixel_that_is_no_number(self):
        """It costs itself, and not the whole spectrum."""
        image = np.random.default_rng(6).normal(10, 1, (64, 64)).astype("float32")
        whole = power_spectrum(image)
        image[3, 4] = np.nan
        self.assertTrue(np.isfinite(power_spectrum(image)).all())
        self.assertGreater(np.corrcoef(whole.ravel(), power_spectrum(image).ravel())[0, 1], 0.9)

    def test_binning_and_contrast(self):
        image = np.arange(40 * 30, dtype="float32").reshape(30, 40)
        self.assertTrue(np.allclose(image[:28, :40].reshape(7, 4, 10, 4).mean(axis=(1, 3)), bin_image(image, 10)))
        self.assertEqual((1, 10), bin_image(np.ones((1, 40)), 10).shape)
        image[0, 0] = np.inf
        low, high = contrast(image)
        self.assertTrue(low < 600 < high < 3000)
        self.assertEqual((-3.0, 3.0), contrast(np.full((2, 2), np.nan)))
        with self.assertRaises(BadImageError):
            apply_gain(np.ones((2, 2), "float32"), np.zeros((2, 2), "float32"))
