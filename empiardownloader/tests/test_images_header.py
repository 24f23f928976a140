# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers of movies and references: what is read, and what is refused."""
import os
import shutil
import struct
import tempfile
import unittest

import numpy as np

from empiardownloader.demo import movies
from empiardownloader.images.header import BadImageError, Header, read_header

IS_QUICK = True


class TestHeader(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def written(self, content):
        with open(self.path("x"), "wb") as stream:
            stream.write(content)
        return self.path("x")

    def test_formats(self):
        for name in ("a.mrc", "a.mrcs", "a.tif", "a.tiff", "a.eer"):
            movies.write_movie(self.path(name), 1, frames=5, width=40, height=30)
            self.assertEqual(Header(40, 30, 5), read_header(self.path(name)), name)

    def test_tiff_of_others(self):
        """tifffile writes strips, tiles and BigTIFF in ways of its own."""
        import tifffile
        data = np.zeros((3, 64, 48), "uint16")
        for name, options in (("strips.tif", {"rowsperstrip": 7}), ("tiles.tif", {"tile": (16, 16)}),
                              ("big.tif", {"bigtiff": True}), ("motorola.tif", {"byteorder": ">"})):
            tifffile.imwrite(self.path(name), data, photometric="minisblack", metadata=None, **options)
            self.assertEqual(Header(48, 64, 3), read_header(self.path(name)), name)

    def test_sizes_that_make_sense_in_both_byte_orders(self):
        """256 read the wrong way round is 65536; where all pixels are bytes the mode tells nothing."""
        for order, stamp in ((">", b"\x11\x11"), ("<", b"DA"), ("<", b"\x11\x11"), (">", b"\0\0")):
            width = 256 if stamp in (b"\x11\x11", b"DA") and (order == ">") == (stamp == b"\x11\x11") else 300
            start = bytearray(1024)
            struct.pack_into(order + "4i", start, 0, width, 256 if width == 256 else 200, 2, 0)
            start[212:214] = stamp
            path = self.written(bytes(start) + bytes(2 * 256 * 300))
            self.assertEqual(Header(width, 256 if width == 256 else 200, 2), read_header(path), (order, stamp))

    def test_mrc_of_others(self):
        import mrcfile
        with mrcfile.new(self.path("a.mrc")) as mrc:
            mrc.set_data(np.zeros((4, 6, 8), "int16"))
            mrc.set_extended_header(np.zeros(32, "V1"))
        self.assertEqual(Header(8, 6, 4), read_header(self.path("a.mrc")))

    def test_big_endian_and_four_bit(self):
        header = bytearray(1024)
        struct.pack_into(">4i", header, 0, 5, 4, 2, 101)
        self.assertEqual(Header(5, 4, 2), read_header(self.written(bytes(header) + bytes(3 * 4 * 2))))
        with self.assertRaises(BadImageError):
            read_header(self.written(bytes(header) + bytes(3 * 4 * 2 - 1)))

    def eer(self, compressions, sizes):
        """A BigTIFF file with a page of one strip of 16 bytes for each."""
        content, place = b"II+\0\x08\0\0\0", 16
        pages = b""
        for number, (compression, (width, height)) in enumerate(zip(compressions, sizes), start=1):
            tags = [(256, width), (257, height), (259, compression), (273, place), (279, 16)]
            page = bytes(16) + struct.pack("<Q", len(tags)) + b"".join(
                struct.pack("<HHQQ", tag, 16, 1, value) for tag, value in tags)
            place += len(page) + 8
            pages += page + struct.pack("<Q", place + 16 if number < len(sizes) else 0)
        return self.written(content + struct.pack("<Q", 32) + pages)

    def test_the_sum_in_an_eer_file_is_no_frame(self):
        """P13: it comes first, uncompressed, as large as the frames or smaller."""
        for first in ((4, 4), (2, 2)):
            self.assertEqual(Header(4, 4, 3), read_header(self.eer([1, 65001, 65001, 65001], [first] + [(4, 4)] * 3)))
        self.assertEqual(Header(4, 4, 3), read_header(self.eer([1, 1, 1], [(4, 4)] * 3)))

    def test_turned(self):
        movie = Header(40, 30, 5)
        self.assertEqual([(True, False), (True, True), (False, False)], [
            (gain.fits(movie), gain.fits_turned_only(movie))
            for gain in (Header(40, 30, 1), Header(30, 40, 1), Header(40, 40, 1))])
        self.assertFalse(Header(40, 40, 1).fits_turned_only(Header(40, 40, 5)))

    def test_truncated(self):
        for name in ("a.mrc", "a.tif", "a.eer"):
            movies.write_movie(self.path(name), 1, frames=5, width=40, height=30)
            with open(self.path(name), "rb") as stream:
                content = stream.read()
            for length in (len(content) - 1, len(content) // 2, 1100, 7, 0):
                with self.assertRaises(BadImageError, msg="%s cut to %d bytes" % (name, length)):
                    read_header(self.written(content[:length]))

    def test_what_is_no_image(self):
        for content in (b"", b"<html>" * 400, bytes(4096), b"\xff" * 4096, b"II*\0" + b"\xff" * 2000,
                        b"II*\0\x08\0\0\0" + b"\x01\0" + bytes(12) + b"\x08\0\0\0" + bytes(2000)):
            with self.assertRaises(BadImageError):
                read_header(self.written(content))

    def test_transposed_reference_fits(self):
        self.assertTrue(Header(30, 40, 1).fits(Header(40, 30, 8)))
        self.assertFalse(Header(30, 41, 1).fits(Header(40, 30, 8)))
