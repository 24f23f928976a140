# SPDX-License-Identifier: GPL-3.0-or-later
"""Names: patterns, local names, and names that must not come near the disk."""
import unittest

from empiardownloader.archive import entry as archive_entry
from empiardownloader.archive import names as archive_names
from empiardownloader.archive import selection
from empiardownloader.archive.errors import NotFoundError
from empiardownloader.archive.remote import Listing
from empiardownloader.archive.remote.listings import parse_list_line, parse_mlsd_line
from empiardownloader.tests.base import entry, image_set

IS_QUICK = True


class TestNames(unittest.TestCase):

    def test_local_names(self):
        for below, expected in (("a.mrc", "a.mrc"), ("Grid 1/a b.mrc", "Grid_1_a_b.mrc"), ("a/b/c.tif", "a_b_c.tif"),
                                ("é#%+.mrc", "___+.mrc"), ("a:b@c.mrc", "a_b_c.mrc"),
                                ("m_$(touch${IFS}x).mrc", "m___touch__IFS_x_.mrc"), ("m (1)'`.mrc", "m__1___.mrc"),
                                ("-rf.mrc", "_rf.mrc")):
            self.assertEqual(expected, archive_names.local_name(below))

    def test_long_names_stay_apart_and_short_enough(self):
        first, second = ("x" * 200 + "/" + "é" * 100 + end for end in ("1.mrc", "2.mrc"))
        names = {archive_names.local_name(first), archive_names.local_name(second)}
        self.assertEqual(2, len(names))
        for name in names:
            self.assertLessEqual(len(name.encode()), archive_names.MAX_NAME_BYTES)
            self.assertTrue(name.endswith(".mrc"))

    def test_every_path_gets_its_own_name_and_keeps_it(self):
        names = archive_names.LocalNames()
        given = [names.name(path, path) for path in ("a b.mrc", "a_b.mrc", "a/b.mrc", "A_B.mrc", "a b.mrc")]
        self.assertEqual("a_b.mrc", given[0])
        self.assertEqual(given[0], given[4])
        self.assertEqual(4, len({name.lower() for name in given}))

    def test_unsafe_names(self):
        for name in ("", ".", "..", "a/b", "/etc/passwd", "a\nb", "a\0b", "a\x7fb", "..\\x", "\udcff.mrc"):
            self.assertFalse(archive_names.is_safe(name), repr(name))
        for name in ("a", "..a", "a..b", "é ü.mrc", "#1%2+3.mrc"):
            self.assertTrue(archive_names.is_safe(name), name)

    def test_patterns(self):
        path = "data/x/Images-Disc1/GridSquare_1/Data/FoilHole_1_fractions.tiff.bz2"
        for pattern in ("*.bz2", "FoilHole_*_fractions.tiff.bz2", "Data/*.bz2", "/" + path,
                        "data/*/Images-Disc1/GridSquare_*/Data/FoilHole_*_fractions.tiff.bz2"):
            self.assertTrue(archive_names.matches(path, pattern), pattern)
        for pattern in ("*.tiff", "data/*.bz2", "x/" + path, ""):
            self.assertFalse(archive_names.matches(path, pattern), pattern)

    def test_several_patterns(self):
        """A user's own, with bars between them; those that the window of files makes spell each name."""
        path = "data/Grid 1/a[1]_x.mrc"
        for text in ("b.mrc | *_x.mrc", "b.mrc|Grid 1/*.mrc", " | " + archive_names.literally(path), "a*.mrc |"):
            self.assertTrue(archive_names.is_chosen(path, text), text)
        for text in ("b.mrc | a[1]_x.mrc", "|", "", "Grid 1 | x.mrc"):
            self.assertFalse(archive_names.is_chosen(path, text), text)
        for name in ("a|b.mrc", "a ", " a", "a*?[]]|x", "TS_1[-60.00].tif", "a[b]c[[]", "|"):
            text = "x.mrc | %s | y.mrc" % archive_names.literally(name)
            self.assertTrue(archive_names.is_chosen("data/" + name, text), name)
            self.assertEqual([False] * 3, [archive_names.is_chosen(other, text) for other in ("b.mrc", "a", "ab")])
            self.assertEqual(["x.mrc", name, "y.mrc"], archive_names.spelt_names(text))
        self.assertEqual([], archive_names.spelt_names("a*.mrc | b.mrc"))
        names = ["data/m_%05d[-60.0].mrc" % number for number in range(600)]
        ticked = " | ".join(archive_names.literally(name) for name in names[::2])
        self.assertEqual(names[::2], [name for name in names if archive_names.is_chosen(name, ticked)])

    def test_listing_lines(self):
        self.assertEqual(("file", " a b.mrc", 12), parse_list_line("-rw-r--r--  1 ftp ftp  12 Nov 21 01:18  a b.mrc"))
        self.assertEqual(("folder", "a", None), parse_list_line("drwxr-xr-x+ 2 0 0 4096 Jan  1 2020 a"))
        self.assertEqual(("link", "l", None), parse_list_line("lrwxrwxrwx 1 0 0 4 Jan  1 2020 l -> a b"))
        self.assertEqual(("file", "a.mrc", 5), parse_list_line("01-02-26  03:04PM       5 a.mrc"))
        for line in ("-rw-r--r-- 1 ftp 12 Nov 21 01:18 a.mrc", "-rw-r--r-- 1 user domain users 12 Nov 21 01:18 a.mrc",
                     "-rw-r--r-- 1 a b 12 21 Nov 01:18 a.mrc", "-rw-r--r-- 1 a b 12 2026-11-21 01:18 a.mrc"):
            self.assertEqual(("file", "a.mrc", 12), parse_list_line(line))
        self.assertEqual(("file", "5 Nov 21 2020 x", 12),
                         parse_list_line("-rw-r--r-- 1 a b 12 Nov 21 2020 5 Nov 21 2020 x"))
        self.assertIsNone(parse_list_line("total 12"))
        self.assertEqual(("file", "a b.mrc", 7), parse_mlsd_line("type=file;size=7;modify=2026; a b.mrc"))
        self.assertIsNone(parse_mlsd_line("type=cdir;modify=2026; ."))


class TestFinder(unittest.TestCase):
    """Which files are movies, without any server."""

    def find(self, tree, **changes):
        self.listed = []

        def lister(folder, expected):
            self.listed.append(folder)
            if folder not in tree:
                raise NotFoundError(folder)
            folders = tuple(sorted({path[len(folder):].strip("/").split("/")[0] for path in tree
                                    if path != folder and (path + "/").startswith(folder + "/" if folder else "")}))
            return Listing(folders, tuple(sorted((name, 100) for name in tree[folder])))

        found = archive_entry.parse_entry("1", entry(image_set(**changes)))
        return selection.ImageFinder(found, found.image_set(), lister)

    def test_references_are_no_movies(self):
        names = ["m_%d.mrc" % n for n in range(20)]
        references = ["CountRef_26.mrc", "SuperRef_x.mrc", "my_GAIN_ref.mrc", "Norm-a.mrc", "flat.mrc", "dark_1.mrc"]
        finder = self.find({"": [], "data": [], "data/Movies": names + references})
        self.assertEqual(sorted("data/Movies/" + name for name in names), sorted(m.path for m in finder.images()))
        self.assertEqual("data/Movies/my_GAIN_ref.mrc", finder.references("data/Movies")["gain"][0].path)
        self.assertEqual(["data/Movies/dark_1.mrc"], [f.path for f in finder.references("data/Movies")["dark"]])

    def test_a_word_in_every_name_tells_nothing(self):
        for stem in ("normoxia", "flatgrid", "darkfield"):
            names = ["%s_%02d.mrc" % (stem, n) for n in range(20)]
            finder = self.find({"": [], "data": [], "data/Movies": names + ["gain.mrc"]})
            self.assertEqual(20, len(list(finder.images())), stem)
        half = ["normal_%02d.mrc" % n for n in range(20)] + ["treated_%02d.mrc" % n for n in range(20)]
        self.assertEqual(40, len(list(self.find({"": [], "data": [], "data/Movies": half}).images())))

    def test_files_beside_the_movies(self):
        tree = {"": ["1.xml"], "data": [], "data/Movies": ["a.mrc", "a.mrc.jpg", "a.mdoc", "a.xml", "b.txt"]}
        finder = self.find(tree)
        self.assertEqual(["data/Movies/a.mrc"], [movie.path for movie in finder.images()])

    def test_an_entrys_pattern_that_matches_nothing(self):
        finder = self.find({"": [], "data": [], "data/Movies": ["a.mrc"]}, micrographs_file_pattern="*_frames.mrc")
        self.assertEqual(1, len(list(finder.images())))
        self.assertIn("*_frames.mrc", finder.notes[0])

    def test_order_is_stable_and_files_come_before_subfolders(self):
        tree = {"": [], "data": ["z.mrc"], "data/b": ["1.mrc"], "data/a": ["2.mrc"], "data/a/c": ["0.mrc"]}
        order = [movie.path for movie in self.find(tree, directory="data").images()]
        self.assertEqual(["data/z.mrc", "data/a/2.mrc", "data/a/c/0.mrc", "data/b/1.mrc"], order)

    def test_listing_is_lazy(self):
        tree = {"": [], "data": []}
        tree.update({"data/square_%03d" % n: ["m.mrc"] for n in range(500)})
        finder = self.find(tree, directory="data", num_images_or_tilt_series=500)
        first = next(finder.images())
        finder.references(first.folder)
        self.assertEqual(["data", "data/square_000", ""], self.listed)
        self.listed.clear()
        self.assertEqual(500, len(list(finder.images())))
        self.assertEqual(499, len(self.listed))
