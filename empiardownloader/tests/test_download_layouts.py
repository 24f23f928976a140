# SPDX-License-Identifier: GPL-3.0-or-later
"""The layouts of real entries, rebuilt in small, over both transports: movies, local names, gain reference.

The rows are those of the table in docs/images.rst; file names, folders and metadata are the real entries' own.
"""
import os
import shutil
import threading
import zlib
from unittest import mock

from empiardownloader.archive import entry as archive_entry
from empiardownloader.archive.errors import DiskError, EntryError
from empiardownloader.archive.remote.choice import open_archive
from empiardownloader.archive.selection import GAIN, ImageFinder
from empiardownloader.archive.stopping import StopToken
from empiardownloader.demo import faults
from empiardownloader.demo import http as demo_http
from empiardownloader.download.download import Download
from empiardownloader.download.request import Places, Request
from empiardownloader.images.header import read_header
from empiardownloader.tests.base import entry, image_set, read_bytes
from empiardownloader.tests.layout_case import FIELDS, Layout
from empiardownloader.transfer.jobs import Settings


class LayoutRows(Layout):
    """Run for each transport by the classes below."""

    # ---------------------------------------------------------------- rows of the table

    def test_10200_gain_beside_the_movies_same_extension(self):
        sources = [self.put("10200/data/Movies/20151004_%02d.mrc" % n) for n in range(4)]
        gain = "data/Movies/CountRef_26_000_Oct04_16.13.54.mrc"
        self.put("10200/" + gain, gain=True)
        facts = self.download("10200", image_set(**FIELDS))
        self.check(facts, [os.path.basename(path) for path in sources], gain, sources)

    def test_10511_plain_data(self):
        sources = [self.put("10511/data/FoilHole_%d.mrc" % n) for n in range(3)]
        self.put("10511/data/gain-reference.mrc", gain=True)
        facts = self.download("10511", image_set(directory="data", **FIELDS))
        self.check(facts, [os.path.basename(path) for path in sources], "data/gain-reference.mrc", sources)

    def test_10934_nested_and_compressed(self):
        base = "10934/data/CL44-1_20201106_111915"
        for square in (1, 2):
            for hole in (1, 2):
                self.put("%s/Images-Disc1/GridSquare_%d/Data/FoilHole_%d_fractions.tiff.bz2" % (base, square, hole))
            self.put_text("%s/Images-Disc1/GridSquare_%d/Data/FoilHole_1.xml" % (base, square))
        self.put(base + "/gain.tiff", gain=True)
        pattern = "data/CL44-1_20201106_111915/Images-Disc1/GridSquare_*/Data/FoilHole_*_fractions.tiff.bz2"
        facts = self.download("10934", image_set(directory="/data/CL44-1_20201106_111915", data_format="TIFF",
                                                 micrographs_file_pattern=pattern, **FIELDS))
        self.check(facts, ["Images-Disc1_GridSquare_%d_Data_FoilHole_%d_fractions.tiff" % (s, h)
                           for s in (1, 2) for h in (1, 2)], "data/CL44-1_20201106_111915/gain.tiff")
        for name in facts.images:
            self.assertEqual(read_header(os.path.join(self.out, name)).frames, 3)

    def test_12870_gain_with_another_extension(self):
        self.put("12870/data/RAW_Tif/a_1.tif")
        self.put("12870/data/RAW_Tif/a_2.tif")
        self.put("12870/data/RAW_Tif/K319040035GainRefx1m3kv300.mrc", gain=True)
        facts = self.download("12870", image_set(directory="data/RAW_Tif", data_format="TIFF", **FIELDS))
        self.check(facts, ["a_1.tif", "a_2.tif"], "data/RAW_Tif/K319040035GainRefx1m3kv300.mrc")

    def test_10491_gain_two_folders_up(self):
        self.put("10491/data/tiltseries/data/ts_1.tif")
        self.put("10491/data/gain_ref.mrc", gain=True)
        facts = self.download("10491", image_set(directory="data/tiltseries/data", data_format="TIFF", **FIELDS))
        self.check(facts, ["ts_1.tif"], "data/gain_ref.mrc")

    def test_10288_reference_in_a_format_the_core_leaves_to_scipion(self):
        self.put("10288/data/CB1__00004_Feb18_23.33.18.tif")
        self.put_text("10288/data/CountRef_CB1__00000_Feb18_23.26.46.dm4")
        facts = self.download("10288", image_set(directory="data", data_format="TIFF", **FIELDS))
        # What is no DM4 file is no gain reference either; with a real one: test_protocol_sets.py.
        self.check(facts, ["CB1__00004_Feb18_23.33.18.tif"], "")
        self.assertIn("could not be used as gain reference", facts.notes[0])

    def test_11119_thumbnails_and_gain_one_folder_up(self):
        for n in (1, 2):
            self.put("11119/data/data/m_%d.tif" % n)
            self.put_text("11119/data/data/m_%d.tif.jpg" % n)
        self.put("11119/data/CountRef_x.mrc", gain=True)
        facts = self.download("11119", image_set(directory="data/data", data_format="TIFF", **FIELDS))
        self.check(facts, ["m_1.tif", "m_2.tif"], "data/CountRef_x.mrc")

    def test_movies_that_are_not_the_first_image_set(self):
        self.put("1/data/Movies/a.mrc")
        self.put("1/data/Particles/p.mrcs")
        facts = self.download("1", image_set(category="picked particles - single frame - processed",
                                             directory="data/Particles"), image_set(**FIELDS))
        self.check(facts, ["a.mrc"], "")

    def test_folders_that_the_metadata_get_wrong(self):
        for given, real in (("Movies", "data/Movies"), ("data/Movies", "data/data/Movies"),
                            ("data/data/Movies", "data/Movies"), ("/data/Movies/", "data/Movies"),
                            ("data/Movies", "data/session 1/Movies"), ("data/Movies", "data/Movies/deeper/still"),
                            ("", "data/Movies"), ("./data/Movies", "data/Movies")):
            number = str(zlib.crc32((given + real).encode()))
            source = self.put("%s/%s/a.mrc" % (number, real))
            self.out = os.path.join(self.folder, "out" + number)
            os.makedirs(self.out, exist_ok=True)
            facts = self.download(number, image_set(directory=given, **FIELDS))
            self.assertEqual(1, len(facts.images), (given, real))
            self.assertEqual(read_bytes(source), read_bytes(os.path.join(self.out, next(iter(facts.images)))))

    # ---------------------------------------------------------------- names

    def test_odd_and_equal_names(self):
        paths = ["a/m.mrc", "b/m.mrc", "b c/m.mrc", "b_c/m.mrc", "é ü.mrc", "#1%2+3.mrc", "100%25.mrc", "a b.mrc"]
        sources = [self.put("1/data/Movies/" + path, seed=n) for n, path in enumerate(paths)]
        facts = self.download("1", image_set(**FIELDS))
        self.assertEqual(len(paths), len(facts.images))
        self.assertEqual(len(paths), len({name.lower() for name in facts.images}))
        by_path = {movie.path: name for name, movie in facts.images.items()}
        for path, source in zip(paths, sources):
            local = os.path.join(self.out, by_path["data/Movies/" + path])
            self.assertEqual(read_bytes(source), read_bytes(local), path)
            self.assertNotIn(" ", local)

    def test_evil_names_are_refused_and_the_rest_goes_on(self):
        self.put("1/data/Movies/good.mrc")
        source = os.path.join(self.root, "1", "data", "Movies", "good.mrc")
        for name in ("new\tline.mrc", "..\\up.mrc", b"latin-\xe9.mrc"):
            name = os.fsencode(name)
            os.link(source, os.path.join(os.fsencode(os.path.dirname(source)), name))
        facts = self.download("1", image_set(**FIELDS), left_out=3)
        self.assertEqual(["good.mrc"], list(facts.images))

    # ---------------------------------------------------------------- what is left out, what stops

    def test_a_single_frame_among_movies_is_left_out(self):
        self.put("1/data/Movies/a.mrc")
        self.put("1/data/Movies/b.mrc", gain=True)
        found = archive_entry.parse_entry("1", entry(image_set(**FIELDS)))
        urls = self.demo.variables
        archive = open_archive("1", urls, self.transport)
        facts = Download(Request(found, found.image_set(), None), archive,
                                  Places(self.out, self.out + "/record"), Settings(), StopToken()).run()
        self.assertEqual(["a.mrc"], list(facts.images))
        self.assertIn("single frame", facts.left_out["data/Movies/b.mrc"])

    def test_compressed_movies_that_scipion_cannot_register_as_they_are(self):
        path = self.put("1/data/Movies/a.tif")
        os.rename(path, path + ".gz")
        with self.assertRaisesRegex(EntryError, "let them be decompressed"):
            self.download("1", image_set(data_format="TIFF", **FIELDS), unpack=False)
        self.assertEqual(["record"], os.listdir(self.out))

    def test_stopped_while_it_still_looks_for_the_movies(self):
        self.put("1/data/Movies/a.mrc")
        found = archive_entry.parse_entry("1", entry(image_set(**FIELDS)))
        urls = self.demo.variables
        archive = open_archive("1", urls, self.transport)
        self.demo.add_fault(faults.BUSY)
        cancelled = StopToken()
        timer = threading.Timer(0.5, cancelled.set)
        timer.start()
        facts = Download(Request(found, found.image_set(), None), archive,
                                  Places(self.out, self.out + "/record"), Settings(), cancelled).run()
        timer.join()
        self.assertTrue(facts.end.stopped)
        self.assertEqual({}, facts.images)

    def test_more_movies_than_the_entry_says(self):
        for n in range(3):
            self.put("1/data/Movies/m_%d.mrc" % n)
        facts = self.download("1", image_set(num_images_or_tilt_series=2, **FIELDS))
        self.assertIn("3 movies were found, more than the 2 that the entry says.", facts.notes)

    # ---------------------------------------------------------------- nothing goes missing without a word

    def test_a_folder_that_cannot_be_entered(self):
        """A6: the others' movies come, it is tried again, and named."""
        for folder in "ABC":
            for n in range(2):
                self.put("1/data/Movies/%s/m_%d.mrc" % (folder, n))
        for kind in (faults.FORBIDDEN, faults.ERROR, faults.GONE):
            self.setUpOut(kind)
            self.demo.clear_faults()
            self.demo.add_fault(kind, "*Movies/B")
            self.demo.add_fault(kind, "*Movies/B/")
            facts = self.download("1", image_set(num_images_or_tilt_series=6, **FIELDS))
            self.assertEqual(4, len(facts.images), kind)
            notes = "\n".join(facts.notes)
            self.assertIn("The folder data/Movies/B could not be entered", notes)
            self.assertIn("4 movies were found, fewer than the 6", notes)
            self.assertFalse(facts.end.complete)
            self.demo.clear_faults()
            facts = self.download("1", image_set(num_images_or_tilt_series=6, **FIELDS))
            self.assertEqual((6, ()), (len(facts.images), facts.notes))

    def test_a_folder_that_is_out_of_reach_for_a_moment(self):
        for folder in "ABC":
            self.put("1/data/Movies/%s/m.mrc" % folder)
        self.demo.add_fault(faults.FORBIDDEN, "*Movies/B*", times=2)
        facts = self.download("1", image_set(num_images_or_tilt_series=3, **FIELDS))
        self.assertEqual((3, ()), (len(facts.images), facts.notes))

    def test_movies_named_like_references(self):
        """A6: a few in a folder of their own, and a pattern that spells the word."""
        for n in range(10):
            self.put("1/data/Movies/b/Foil_%d_gaincorrected.tif" % n)
        for n in range(10, 13):
            self.put("1/data/Movies/a/Foil_%d_gaincorrected.tif" % n)
        fields = dict(FIELDS, data_format="TIFF", num_images_or_tilt_series=13)
        for number, pattern in enumerate(("", "*_gaincorrected.tif", "Foil_1*_gain*.tif")):
            self.setUpOut("named%d" % number)
            facts = self.download("1", image_set(**fields), file_pattern=pattern)
            self.assertEqual(13 if number < 2 else 4, len(facts.images), pattern)
            self.assertEqual([], facts.chosen(GAIN))

    def test_hidden_names(self):
        """S9: another run's parts, in a folder that is served as it is filled."""
        source = self.put("1/data/Movies/x.mrc")
        shutil.copy(source, os.path.join(os.path.dirname(source), ".part.x.mrc"))
        os.makedirs(os.path.join(os.path.dirname(source), ".trash"))
        shutil.copy(source, os.path.join(os.path.dirname(source), ".trash", "y.mrc"))
        facts = self.download("1", image_set(num_images_or_tilt_series=1, **FIELDS))
        self.check(facts, ["x.mrc"], "", [source])

    def test_links_in_a_circle(self):
        """S15: one movie stays one."""
        self.put("1/data/Movies/x.mrc")
        os.symlink("../Movies", os.path.join(self.root, "1/data/Movies/loop"))
        os.symlink("..", os.path.join(self.root, "1/data/Movies/up"))
        facts = self.download("1", image_set(num_images_or_tilt_series=1, **FIELDS))
        self.assertEqual(["data/Movies/x.mrc"], [movie.path for movie in facts.images.values()])
        self.assertIn("links in a circle", facts.notes[0])

    def test_files_that_hold_the_movies(self):
        self.put_text("1/data/Movies/all_movies.tar.gz")
        self.put_text("1/data/Movies/more.zip")
        with self.assertRaisesRegex(EntryError, "data/Movies/all_movies.tar.gz, data/Movies/more.zip.*by hand"):
            self.download("1", image_set(**FIELDS))

    def test_a_directory_that_leads_out(self):
        """S1, S2: neither files nor commands outside of the entry's folder."""
        self.put("1/data/Movies/m.mrc")
        self.put("precious/p.mrc")
        for directory in ("../../precious", "data/Movies\r\nDELE data/Movies/m.mrc", "..", "data/../../precious"):
            self.setUpOut(str(zlib.crc32(directory.encode())))
            facts = self.download("1", image_set(directory=directory, num_images_or_tilt_series=1, **FIELDS),
                                  shared=os.path.join(self.folder, "shared"))
            self.assertEqual(["data/Movies/m.mrc"], [movie.path for movie in facts.images.values()])
            self.assertIn("is not safe as a path", facts.notes[0])
            self.assertFalse(any("precious" in request or "DELE" in request for request in self.demo.requests))

    def test_stop_while_an_endless_tree_is_listed(self):
        """S8: each folder holds two more, and no movie."""
        folder = os.path.join(self.root, "1/data/Movies")
        os.makedirs(folder)
        current = [folder]
        for _ in range(7):
            current = [os.path.join(above, name) for above in current for name in ("a", "b%s" % os.urandom(3).hex())]
            for path in current:
                os.makedirs(path)
        cancelled = StopToken()
        note = self.demo.note

        def noting(request):
            note(request)
            if len(self.demo.requests) == 40:
                cancelled.set()

        with mock.patch.object(self.demo, "note", noting):
            facts = self.download("1", image_set(**FIELDS), cancelled=cancelled)
        self.assertTrue(facts.end.stopped)
        self.assertFalse(facts.end.exhausted)

    def test_the_room_that_unpacking_needs(self):
        """C1: what compressed movies become counts, not what comes over the line."""
        for n in range(4):
            self.put("1/data/Movies/m_%d.mrc.bz2" % n)
        fields = dict(FIELDS, image_width="40000", image_height="40000", frames_per_image=100)
        free = shutil.disk_usage(self.folder).free
        with self.assertRaisesRegex(DiskError, "4 movies of EMPIAR-1 need about .* GB, and .* MB must stay free"):
            if free > 640e9:
                self.skipTest("this disk is too large")
            self.download("1", image_set(num_images_or_tilt_series=4, **fields), amount=4)
        self.assertEqual(["record"], os.listdir(self.out))

    def test_integrated_images_beside_their_movies(self):
        """Also where the entry does not tell the frames."""
        for n in range(3):
            self.put("1/data/Movies/Foil_%d_fractions.mrc" % n)
            self.put("1/data/Movies/Foil_%d.mrc" % n, frames=1)
        facts = self.download("1", image_set(num_images_or_tilt_series=3, **dict(FIELDS, frames_per_image=None)),
                              left_out=3)
        self.assertEqual({"Foil_%d_fractions.mrc" % n for n in range(3)}, set(facts.images))

    def test_a_lost_folder_is_named_also_where_the_amount_is_reached(self):
        for folder in "AB":
            for n in range(3):
                self.put("1/data/Movies/%s/m_%d.mrc" % (folder, n))
        self.demo.add_fault(faults.FORBIDDEN, "*Movies/A")
        self.demo.add_fault(faults.FORBIDDEN, "*Movies/A/")
        facts = self.download("1", image_set(num_images_or_tilt_series=6, **FIELDS), amount=3)
        self.assertEqual(3, len(facts.images))
        self.assertIn("The folder data/Movies/A could not be entered", "\n".join(facts.notes))

    def test_movies_after_one_that_vanished(self):
        """Looking for the references of what is gone by now uses up no movie."""
        for n in range(8):
            self.put("1/data/Movies/m_%d.mrc" % n)
        fields = image_set(num_images_or_tilt_series=8, **FIELDS)
        self.download("1", fields, amount=2, gain=False)
        os.remove(os.path.join(self.root, "1/data/Movies/m_0.mrc"))
        self.demo.add_fault(faults.GONE, "*m_3*")
        facts = self.download("1", fields, amount=5, left_out=1)
        self.assertEqual({"m_%d.mrc" % n for n in (0, 1, 2, 4, 5)}, set(facts.images))

    # ---------------------------------------------------------------- requests and repetition

    def test_few_listings_for_one_movie_one_each_for_all(self):
        """500 folders; that there are 60 movies in each changes nothing, so a few folders hold them."""
        first = self.put("1/data/Movies/square_000/m_00.mrc")
        for square in range(500):
            folder = os.path.join(self.root, "1/data/Movies/square_%03d" % square)
            os.makedirs(folder, exist_ok=True)
            for number in range(60):
                target = os.path.join(folder, "m_%02d.mrc" % number)
                if not os.path.exists(target):
                    os.link(first, target)
        facts = self.download("1", image_set(num_images_or_tilt_series=30000, **FIELDS), amount=1)
        self.assertEqual(["square_000_m_00.mrc"], list(facts.images))
        # The image set's folder, the first subfolder; for the gain: data and the entry's own folder.
        self.assertEqual(4, self.folders_listed())
        found = archive_entry.parse_entry("1", entry(image_set(**FIELDS)))
        archive = open_archive("1", self.demo.variables,
                               self.transport)
        self.demo.requests.clear()
        connection = archive.connect()
        finder = ImageFinder(found, found.image_set(), lambda folder, expected: connection.list_folder(folder))
        self.assertEqual(30000, sum(1 for _ in finder.images()))
        connection.close()
        self.assertEqual(501, self.folders_listed())

    def test_the_same_twelve_tomorrow(self):
        for n in range(20):
            self.put("1/data/Movies/m_%02d.mrc" % n)
        first = self.download("1", image_set(num_images_or_tilt_series=20, **FIELDS), amount=5)
        second = self.download("1", image_set(num_images_or_tilt_series=20, **FIELDS), amount=9)
        self.assertEqual({"m_%02d.mrc" % n for n in range(5)}, set(list(second.images)[:5]))
        self.assertEqual({"m_%02d.mrc" % n for n in range(9)}, set(second.images))
        self.assertLessEqual(set(first.images), set(second.images))

    def test_more_than_there_are(self):
        self.put("1/data/Movies/a.mrc")
        facts = self.download("1", image_set(num_images_or_tilt_series=1, **FIELDS), amount=5)
        self.assertEqual(1, len(facts.images))
        self.assertTrue(facts.end.exhausted)

    def test_the_next_one_takes_the_place_of_a_broken_one(self):
        for n in range(6):
            self.put("1/data/Movies/m_%d.mrc" % n)
        with open(os.path.join(self.root, "1/data/Movies/m_1.mrc"), "r+b") as stream:
            stream.truncate(1500)
        found = archive_entry.parse_entry("1", entry(image_set(**FIELDS)))
        urls = self.demo.variables
        archive = open_archive("1", urls, self.transport)
        facts = Download(Request(found, found.image_set(), 4), archive,
                                  Places(self.out, self.out + "/record"), Settings(), StopToken()).run()
        self.assertEqual({"m_0.mrc", "m_2.mrc", "m_3.mrc", "m_4.mrc"}, set(facts.images))
        self.assertIn("its header promises", facts.left_out["data/Movies/m_1.mrc"])


class TestFtpLayouts(LayoutRows):
    transport = "FTP"


class TestHttpsLayouts(LayoutRows):
    transport = "HTTPS"

    def test_a_listing_that_lacks_a_name_once(self):
        for n in range(5):
            self.put("1/data/Movies/m_%d.mrc" % n)
        original, lacking = demo_http._listed, []

        def listed(folder):
            names = list(original(folder))
            if folder.endswith("Movies") and not lacking:
                lacking.append(True)
                names.pop(2)
            return names

        demo_http._listed = listed
        self.addCleanup(setattr, demo_http, "_listed", original)
        facts = self.download("1", image_set(num_images_or_tilt_series=5, **FIELDS))
        self.assertEqual(5, len(facts.images))


    def test_a_second_look_that_fails(self):
        for n in range(2):
            self.put("1/data/Movies/m_%d.mrc" % n)
        self.put("1/data/Movies/gain.mrc", gain=True)
        original, looks = demo_http._listed, []

        def listed(folder):
            looks.append(folder)
            if sum(look.endswith("Movies") for look in looks) == 1:
                self.demo.add_fault(faults.ERROR, "1/data/Movies/")
            return original(folder)

        demo_http._listed = listed
        self.addCleanup(setattr, demo_http, "_listed", original)
        facts = self.download("1", image_set(num_images_or_tilt_series=5, **FIELDS))
        self.assertEqual(2, len(facts.images))


class TestSharedFolder(Layout):
    """Files that stay in a folder of the user's, for several runs."""
    transport = "FTP"

    def test_second_run_finds_them(self):
        sources = [self.put("1/data/Movies/m_%d.mrc" % n) for n in range(3)]
        self.put("1/data/Movies/gain.mrc", gain=True)
        found = archive_entry.parse_entry("1", entry(image_set(**FIELDS)))
        urls = self.demo.variables
        shared = os.path.join(self.folder, "shared")
        for run in ("one", "two"):
            out = os.path.join(self.folder, run)
            os.makedirs(out)
            archive = open_archive("1", urls, "FTP")
            places = Places(out, out + "/record", shared)
            sent = self.demo.sent_bytes
            facts = Download(Request(found, found.image_set(), None), archive, places, Settings(),
                                      StopToken()).run()
            self.assertEqual(3, len(facts.images))
            for source in sources:
                link = os.path.join(out, os.path.basename(source))
                self.assertTrue(os.path.islink(link))
                self.assertEqual(read_bytes(source), read_bytes(link))
        self.assertEqual(sent, self.demo.sent_bytes)
        self.assertTrue(os.path.exists(os.path.join(shared, "1", "data", "Movies", "m_0.mrc")))


# The common cases run for each transport, not by themselves.
del LayoutRows
