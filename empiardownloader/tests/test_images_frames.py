# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames of movies as microscopes write them, for the viewer: every pixel, whatever the compression."""
import importlib.util
import os
import shutil
import struct
import tempfile
import unittest
from unittest import mock

import numpy as np
import tifffile

from empiardownloader.demo import movies
from empiardownloader.follow.images import read_image
from empiardownloader.images import frames as image_frames
from empiardownloader.images.header import BadImageError, read_header
from empiardownloader.images.previews import average_frames, load_preview
from empiardownloader.protocols.headers import iterFrames

DATA = np.random.default_rng(5).poisson(3, (4, 30, 40)).astype("uint8")


class TestFrames(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def check(self, path, data=DATA):
        self.assertTrue(np.array_equal(data, np.stack(list(image_frames.iter_frames(path)))), path)
        self.assertTrue(np.allclose(data.mean(axis=0), average_frames(path)))

    def test_bytes_without_sign(self):
        """P12: IMOD says so with a stamp and a flag; without the stamp bytes are signed."""
        data = np.array([[[0, 127], [128, 255]]], "uint8")
        for stamp, flags, wanted in ((1146047817, 0, data), (1146047817, 1, data.astype("int8")),
                                     (0, 0, data.astype("int8"))):
            path = self.path("bytes.mrc")
            movies.write_mrc(path, data)
            with open(path, "r+b") as stream:
                stream.seek(152)
                stream.write(struct.pack("<2i", stamp, flags))
            self.check(path, wanted)
            self.assertTrue(np.array_equal(wanted[0], read_image(path).reshape(2, 2)))

    @unittest.skipIf(importlib.util.find_spec("imagecodecs") is None, "imagecodecs is not installed")
    def test_the_sum_in_an_eer_file_is_no_frame(self):
        """P13: some microscopes put it first, uncompressed."""
        events = DATA > 3
        for with_sum in (False, True):
            movies.write_eer(self.path("a.eer"), events, with_sum)
            self.assertEqual((40, 30, 4), (lambda its: (its.width, its.height, its.frames))(
                read_header(self.path("a.eer"))))
            self.check(self.path("a.eer"), events)

    def lzw(self):
        """LZW-compressed, as EPU and SerialEM write them."""
        from PIL import Image
        images = [Image.fromarray(frame) for frame in DATA]
        images[0].save(self.path("lzw.tif"), save_all=True, append_images=images[1:], compression="tiff_lzw")
        return self.path("lzw.tif")

    def test_lzw_with_and_without_the_extra(self):
        path = self.lzw()
        self.assertEqual(4, read_header(path).frames)
        self.check(path, DATA[:, ::-1])
        original = tifffile.TiffPage.asarray

        def without(page, *arguments, **options):
            if page.compression != 1:
                raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")
            return original(page, *arguments, **options)

        with mock.patch.object(tifffile.TiffPage, "asarray", without):
            self.check(path, DATA[:, ::-1])

    @unittest.skipIf(importlib.util.find_spec("imagecodecs") is None, "imagecodecs is not installed")
    def test_other_compressions(self):
        for compression in ("zlib", "zstd"):
            path = self.path(compression + ".tif")
            tifffile.imwrite(path, DATA, photometric="minisblack", compression=compression)
            self.check(path, DATA[:, ::-1])

    def test_what_is_not_decoded_here_is_a_sentence(self):
        path = self.path("a.eer")
        movies.write_movie(path, 1, frames=2, width=40, height=30)
        with open(path, "r+b") as stream:
            content = stream.read()
            # The compression of EER files, which nobody but imagecodecs knows.
            stream.seek(0)
            stream.write(content.replace(struct.pack("<HHQQ", 259, 3, 1, 1), struct.pack("<HHQQ", 259, 3, 1, 65000)))

        def without(page, *arguments, **options):
            raise ValueError("<COMPRESSION.EER_V0: 65000> requires the 'imagecodecs' package")

        with mock.patch.object(tifffile.TiffPage, "asarray", without), \
                self.assertRaisesRegex(BadImageError, r"a.eer is compressed in a way .*\[view\]"):
            list(image_frames.iter_frames(path))

    def test_four_bits_a_pixel(self):
        data = np.minimum(DATA[:, :, :39], 15)
        packed = np.zeros((4, 30, 40), "uint8")
        packed[:, :, :39] = data
        header = bytearray(1024)
        struct.pack_into("<4i", header, 0, 39, 30, 4, 101)
        with open(self.path("a.mrc"), "wb") as stream:
            stream.write(header + (packed[:, :, ::2] | packed[:, :, 1::2] << 4).astype("uint8").tobytes())
        self.check(self.path("a.mrc"), data)

    def test_mrc_modes(self):
        for kind in ("int8", "int16", "uint16", "float32"):
            movies.write_mrc(self.path("a.mrc"), DATA.astype(kind))
            self.check(self.path("a.mrc"), DATA.astype(kind))

    def test_gatans_files(self):
        movies.write_dm4(self.path("a.dm4"), DATA.astype("float32"))
        self.assertTrue(np.allclose(DATA[:, ::-1].mean(axis=0), average_frames(self.path("a.dm4"), iterFrames)))
        with open(self.path("b.dm4"), "wb") as stream:
            stream.write(b"no Gatan file" * 100)
        with self.assertRaisesRegex(BadImageError, "scipion-em cannot read"):
            load_preview(self.path("b.dm4"), self.folder, reader=iterFrames)

    def test_files_that_are_not_what_they_seem(self):
        for content in (b"", b"II*\0", bytes(2000), b"<html>" * 400):
            with open(self.path("x.mrc"), "wb") as stream:
                stream.write(content)
            with self.assertRaises(BadImageError):
                list(image_frames.iter_frames(self.path("x.mrc")))
