# SPDX-License-Identifier: GPL-3.0-or-later
"""The layouts of real entries, rebuilt in small, over both transports: movies, local names, gain reference.

The rows are those of the README's table; file names, folders and metadata are the real entries' own.
"""
import bz2
import os
import shutil
import threading
import time
import zlib

from empiardownloader.archive import entry as archive_entry
from empiardownloader.archive.errors import DiskError, EntryError
from empiardownloader.archive.remote.choice import open_archive
from empiardownloader.archive.selection import DARK, GAIN, MovieFinder
from empiardownloader.demo import faults, movies
from empiardownloader.demo import http as demo_http
from empiardownloader.download.download import Download, nothing_missing
from empiardownloader.download.request import Places, Request
from empiardownloader.images.header import read_header
from empiardownloader.tests.base import ArchiveTestCase, entry, image_set, read_bytes
from empiardownloader.transfer.jobs import Settings

TINY = {"frames": 3, "width": 24, "height": 16}
FIELDS = {"image_width": "24", "image_height": "16", "frames_per_image": 3}


class Layout(ArchiveTestCase):
    """Helpers to build an entry and to download from it."""
    transport = ""

    def setUp(self):
        super().setUp()
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
        archive = open_archive(number, urls["EMPIAR_FTP_URL"], urls["EMPIAR_HTTPS_URL"], self.transport)
        places = Places(self.out, os.path.join(self.out, "record"), shared)
        request = Request(found, found.image_set(choice), amount, **request)
        self.demo.requests.clear()
        facts = Download(request, archive, places, Settings(first_wait=0.05), cancelled or threading.Event()).run()
        self.assertEqual(left_out, len(facts.left_out), facts.left_out)
        return facts

    def check(self, facts, names, gain, sources=()):
        self.assertEqual(sorted(names), sorted(facts.movies))
        self.assertEqual([gain] if gain else [], [event["path"] for event in facts.chosen(GAIN)])
        for source, name in zip(sources, names):
            self.assertEqual(read_bytes(source), read_bytes(os.path.join(self.out, name)))
        for name in list(names) + [event["name"] for event in facts.chosen(GAIN)]:
            self.assertTrue(os.path.isfile(os.path.join(self.out, name)), name)

    def folders_listed(self):
        return self.demo.count("MLSD") + self.demo.count("LIST") + sum(
            request.startswith("GET") and request.endswith("/") for request in self.demo.requests)


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
        for name in facts.movies:
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
            self.assertEqual(1, len(facts.movies), (given, real))
            self.assertEqual(read_bytes(source), read_bytes(os.path.join(self.out, next(iter(facts.movies)))))

    # ---------------------------------------------------------------- names

    def test_odd_and_equal_names(self):
        paths = ["a/m.mrc", "b/m.mrc", "b c/m.mrc", "b_c/m.mrc", "é ü.mrc", "#1%2+3.mrc", "100%25.mrc", "a b.mrc"]
        sources = [self.put("1/data/Movies/" + path, seed=n) for n, path in enumerate(paths)]
        facts = self.download("1", image_set(**FIELDS))
        self.assertEqual(len(paths), len(facts.movies))
        self.assertEqual(len(paths), len({name.lower() for name in facts.movies}))
        by_path = {movie["path"]: name for name, movie in facts.movies.items()}
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
        self.assertEqual(["good.mrc"], list(facts.movies))

    # ---------------------------------------------------------------- references

    def test_several_candidates_the_fitting_one_is_taken(self):
        self.put("1/data/Movies/a.mrc")
        self.put("1/data/Movies/gain_small.mrc", gain=True, width=10, height=10)
        self.put("1/data/Movies/gain_turned.mrc", gain=True, width=TINY["height"], height=TINY["width"])
        self.put("1/data/Movies/dark.mrc", gain=True)
        facts = self.download("1", image_set(**FIELDS))
        self.check(facts, ["a.mrc"], "data/Movies/gain_turned.mrc")
        self.assertEqual("data/Movies/dark.mrc", facts.chosen(DARK)[0]["path"])
        self.assertEqual(["data/Movies/gain_small.mrc"], facts.chosen(GAIN)[0]["others"])
        self.assertIn("does not fit the movies", facts.notes[0])

    def test_a_pattern_for_the_gain(self):
        self.put("1/data/Movies/a.mrc")
        self.put("1/data/Movies/gain.mrc", gain=True)
        self.put("1/data/references/K3.mrc", gain=True)
        for pattern in ("data/references/K3.mrc", "references/*.mrc"):
            self.out = os.path.join(self.folder, pattern.replace("/", "_"))
            os.makedirs(self.out)
            facts = self.download("1", image_set(**FIELDS), gain_pattern=pattern)
            self.check(facts, ["a.mrc"], "data/references/K3.mrc")

    def test_a_single_frame_among_movies_is_left_out(self):
        self.put("1/data/Movies/a.mrc")
        self.put("1/data/Movies/b.mrc", gain=True)
        found = archive_entry.parse_entry("1", entry(image_set(**FIELDS)))
        urls = self.demo.variables
        archive = open_archive("1", urls["EMPIAR_FTP_URL"], urls["EMPIAR_HTTPS_URL"], self.transport)
        facts = Download(Request(found, found.image_set(), None), archive,
                                  Places(self.out, self.out + "/record"), Settings(), threading.Event()).run()
        self.assertEqual(["a.mrc"], list(facts.movies))
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
        archive = open_archive("1", urls["EMPIAR_FTP_URL"], urls["EMPIAR_HTTPS_URL"], self.transport)
        self.demo.add_fault(faults.BUSY)
        cancelled = threading.Event()
        timer = threading.Timer(0.5, cancelled.set)
        timer.start()
        facts = Download(Request(found, found.image_set(), None), archive,
                                  Places(self.out, self.out + "/record"), Settings(), cancelled).run()
        timer.join()
        self.assertTrue(facts.end["stopped"])
        self.assertEqual({}, facts.movies)

    # ---------------------------------------------------------------- one file, one job

    def test_a_gain_chosen_by_pattern_is_never_a_movie(self):
        """A1: whether its name sorts before the movies or after them, whatever else is known."""
        for name in ("K2ref.mrc", "zref.mrc"):
            for number, fields in (("1", FIELDS), ("2", dict(FIELDS, frames_per_image=None))):
                for request in ({}, {"file_pattern": "*.mrc"}):
                    self.setUpOut(name + number + str(len(request)))
                    folder = os.path.join(self.root, number)
                    shutil.rmtree(folder, ignore_errors=True)
                    for n in range(3):
                        self.put("%s/data/Movies/m_%d.mrc" % (number, n))
                    self.put("%s/data/Movies/%s" % (number, name), gain=True)
                    facts = self.download(number, image_set(num_images_or_tilt_series=3, **fields), gain_pattern=name,
                                          **request)
                    self.check(facts, ["m_%d.mrc" % n for n in range(3)], "data/Movies/" + name)

    def setUpOut(self, name):
        self.out = os.path.join(self.folder, "out_" + name)
        os.makedirs(self.out)

    def test_a_pattern_that_takes_every_file_for_the_gain(self):
        self.put("1/data/Movies/m_1.mrc")
        with self.assertRaisesRegex(EntryError, "beside what the gain file pattern"):
            self.download("1", image_set(**FIELDS), gain_pattern="*.mrc")

    def test_a_name_that_is_gain_and_dark(self):
        self.put("1/data/Movies/a.mrc")
        self.put("1/data/Movies/gain_darkcorrected.mrc", gain=True)
        facts = self.download("1", image_set(**FIELDS))
        self.check(facts, ["a.mrc"], "data/Movies/gain_darkcorrected.mrc")
        self.assertEqual([], facts.chosen(DARK))

    def test_movies_that_are_there_packed_and_unpacked(self):
        """S7: with a download folder both would have one place."""
        self.put("1/data/Movies/m.mrc.bz2")
        self.put("1/data/Movies/m.mrc")
        self.put("1/data/Movies/n.mrc.bz2")
        for shared in ("", os.path.join(self.folder, "shared")):
            self.setUpOut("shared" if shared else "own")
            facts = self.download("1", image_set(num_images_or_tilt_series=2, **FIELDS), shared=shared)
            self.assertEqual({"data/Movies/m.mrc", "data/Movies/n.mrc.bz2"},
                             {movie["path"] for movie in facts.movies.values()})
            self.assertIn("packed and not", facts.notes[0])

    # ---------------------------------------------------------------- sessions and other image sets

    def gains_of(self, facts):
        """{path of a movie: path of its gain reference}"""
        return {movie["path"]: facts.reference(GAIN, movie)["path"] for movie in facts.movies.values()}

    def test_sessions_with_gain_references_of_their_own(self):
        """A2: three sessions, two of which share one."""
        for session in "ABC":
            self.put("1/data/Movies/%s/m_0.mrc" % session)
        self.put("1/data/Movies/gain.mrc", gain=True)
        self.put("1/data/Movies/C/gain.mrc", gain=True)
        facts = self.download("1", image_set(num_images_or_tilt_series=3, **FIELDS))
        self.assertEqual({"data/Movies/A/m_0.mrc": "data/Movies/gain.mrc",
                          "data/Movies/B/m_0.mrc": "data/Movies/gain.mrc",
                          "data/Movies/C/m_0.mrc": "data/Movies/C/gain.mrc"}, self.gains_of(facts))
        names = {event["path"]: event["name"] for event in facts.chosen(GAIN)}
        self.assertEqual({"data/Movies/gain.mrc": "gain.mrc", "data/Movies/C/gain.mrc": "C_gain.mrc"}, names)
        for path, name in names.items():
            self.assertEqual(read_bytes(os.path.join(self.root, "1", path)), read_bytes(os.path.join(self.out, name)))

    def test_a_gain_of_the_same_bytes_is_the_same(self):
        for session in "AB":
            self.put("1/data/%s/Movies/m_0.mrc" % session)
            self.put("1/data/%s/gain.mrc" % session, gain=True, seed=7)
        facts = self.download("1", image_set(directory="data", num_images_or_tilt_series=2, **FIELDS))
        self.assertEqual({"data/A/gain.mrc", "data/B/gain.mrc"}, set(self.gains_of(facts).values()))
        self.assertEqual(1, len({event["digest"] for event in facts.chosen(GAIN)}))

    def test_sizes_choose_among_the_candidates(self):
        """Movies of two sizes in one folder, each with the gain that fits."""
        self.put("1/data/Movies/a.mrc")
        self.put("1/data/Movies/b.mrc", width=48, height=32)
        self.put("1/data/Movies/gain_1.mrc", gain=True)
        self.put("1/data/Movies/gain_2.mrc", gain=True, width=48, height=32)
        facts = self.download("1", image_set(num_images_or_tilt_series=2, **FIELDS))
        self.assertEqual({"data/Movies/a.mrc": "data/Movies/gain_1.mrc", "data/Movies/b.mrc": "data/Movies/gain_2.mrc"},
                         self.gains_of(facts))

    def test_a_movie_is_no_gain_reference(self):
        """A file of several frames whose name says gain."""
        self.put("1/data/Movies/m.mrc")
        self.put("1/data/Movies/gain_test.mrc")
        facts = self.download("1", image_set(num_images_or_tilt_series=1, **FIELDS))
        self.assertEqual([], facts.chosen(GAIN))
        self.assertIn("could not be used as gain reference: it has 3 frames", facts.notes[0])

    def test_folders_of_the_entrys_other_image_sets(self):
        """A3."""
        for n in range(3):
            self.put("1/data/m_%d.mrc" % n)
            self.put("1/data/Particles/stack_%d.mrcs" % n, frames=5, width=8, height=8)
            self.put("1/data/Other/o_%d.mrc" % n)
        others = (image_set(category="picked particles - single frame - processed", directory="/data/Particles/"),
                  image_set(name="Other", directory="Other", **FIELDS))
        facts = self.download("1", image_set(directory="data", num_images_or_tilt_series=3, **FIELDS), *others)
        self.assertEqual({"m_0.mrc", "m_1.mrc", "m_2.mrc"}, set(facts.movies))
        self.assertEqual([], facts.notes)
        self.setUpOut("other")
        facts = self.download("1", image_set(directory="data", **FIELDS), *others, choice="Other", left_out=0)
        self.assertEqual({"o_0.mrc", "o_1.mrc", "o_2.mrc"}, set(facts.movies))

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
            self.assertEqual(4, len(facts.movies), kind)
            notes = "\n".join(facts.notes)
            self.assertIn("The folder data/Movies/B could not be entered", notes)
            self.assertIn("4 movies were found, fewer than the 6", notes)
            self.assertFalse(facts.end["complete"])
            self.demo.clear_faults()
            facts = self.download("1", image_set(num_images_or_tilt_series=6, **FIELDS))
            self.assertEqual((6, []), (len(facts.movies), facts.notes))

    def test_a_folder_that_is_out_of_reach_for_a_moment(self):
        for folder in "ABC":
            self.put("1/data/Movies/%s/m.mrc" % folder)
        self.demo.add_fault(faults.FORBIDDEN, "*Movies/B*", times=2)
        facts = self.download("1", image_set(num_images_or_tilt_series=3, **FIELDS))
        self.assertEqual((3, []), (len(facts.movies), facts.notes))

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
            self.assertEqual(13 if number < 2 else 4, len(facts.movies), pattern)
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
        self.assertEqual(["data/Movies/x.mrc"], [movie["path"] for movie in facts.movies.values()])
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
            self.assertEqual(["data/Movies/m.mrc"], [movie["path"] for movie in facts.movies.values()])
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
        cancelled, began = threading.Event(), time.monotonic()
        timer = threading.Timer(0.5, cancelled.set)
        timer.start()
        facts = self.download("1", image_set(**FIELDS), cancelled=cancelled)
        self.assertTrue(facts.end["stopped"])
        self.assertFalse(facts.end["exhausted"])
        self.assertLess(time.monotonic() - began, 5)

    def test_the_room_that_unpacking_needs(self):
        """C1: what compressed movies become counts, not what comes over the line."""
        for n in range(4):
            self.put("1/data/Movies/m_%d.mrc.bz2" % n)
        fields = dict(FIELDS, image_width="40000", image_height="40000", frames_per_image=100)
        free = shutil.disk_usage(self.folder).free
        with self.assertRaisesRegex(DiskError, "4 movies of EMPIAR-1 need about .* GB more and .* MB to spare"):
            if free > 640e9:
                self.skipTest("this disk is too large")
            self.download("1", image_set(num_images_or_tilt_series=4, **fields), amount=4)
        self.assertEqual(["record"], os.listdir(self.out))

    # ---------------------------------------------------------------- Continue, and archives that change in between

    def test_another_gain_of_the_same_name(self):
        """A local name belongs to one remote file for good: the old gain's bytes are not taken for the new one's."""
        self.put("1/data/Movies/m.mrc")
        self.put("1/data/gain.mrc", gain=True, seed=1)
        other = self.put("1/data/Refs/gain.mrc", gain=True, seed=2)
        fields = image_set(num_images_or_tilt_series=1, **FIELDS)
        self.download("1", fields)
        facts = self.download("1", fields, gain_pattern="data/Refs/gain.mrc")
        event, = facts.chosen(GAIN)
        self.assertEqual("data/Refs/gain.mrc", event["path"])
        self.assertEqual(read_bytes(other), read_bytes(os.path.join(self.out, event["name"])))

    def test_another_gain_pattern_and_a_stop_in_between(self):
        """What a pattern found is no answer to another one, whatever came in between."""
        self.put("1/data/Movies/m.mrc")
        for seed, name in enumerate(("one", "two")):
            self.put("1/data/Refs/%s.mrc" % name, gain=True, seed=seed)
        fields = image_set(num_images_or_tilt_series=1, **FIELDS)
        self.download("1", fields, amount=1, gain_pattern="data/Refs/one.mrc")
        stopped = threading.Event()
        stopped.set()
        self.download("1", fields, amount=1, gain_pattern="data/Refs/two.mrc", cancelled=stopped)
        found = archive_entry.parse_entry("1", entry(fields))
        request = Request(found, found.image_set(), 1, gain_pattern="data/Refs/two.mrc")
        self.assertFalse(nothing_missing(request, Places(self.out, os.path.join(self.out, "record"))))
        for _ in range(2):
            facts = self.download("1", fields, amount=1, gain_pattern="data/Refs/two.mrc")
            self.assertEqual(["data/Refs/two.mrc"], [event["path"] for event in facts.chosen(GAIN)])

    def test_the_gain_of_another_image_set_that_brought_no_movie(self):
        for folder in "AB":
            self.put("1/data/%s/Movies/m.mrc" % folder)
        gains = [self.put("1/data/%s/gain.mrc" % folder, gain=True, seed=seed) for seed, folder in enumerate("AB")]
        sets = [image_set(name=name, directory="data/%s/Movies" % name, num_images_or_tilt_series=1, **FIELDS)
                for name in "AB"]
        self.demo.add_fault(faults.GONE, "*A/Movies/m*")
        self.download("1", *sets, choice="A", left_out=1)
        facts = self.download("1", *sets, choice="B")
        event, = facts.chosen(GAIN)
        self.assertEqual(read_bytes(gains[1]), read_bytes(os.path.join(self.out, event["name"])))

    def test_a_gain_that_failed_once_is_asked_for_again(self):
        self.put("1/data/Movies/m.mrc")
        self.put("1/data/Movies/gain.mrc", gain=True)
        fields = image_set(num_images_or_tilt_series=1, **FIELDS)
        self.demo.add_fault(faults.FORBIDDEN, "*gain*")
        facts = self.download("1", fields)
        self.assertEqual([], facts.chosen(GAIN))
        found = archive_entry.parse_entry("1", entry(fields))
        request = Request(found, found.image_set(), None)
        places = Places(self.out, os.path.join(self.out, "record"))
        self.assertFalse(nothing_missing(request, places))
        self.demo.clear_faults()
        facts = self.download("1", fields)
        self.assertEqual(1, len(facts.chosen(GAIN)))
        self.assertEqual("gain.mrc", facts.reference(GAIN, facts.movies["m.mrc"])["name"])
        self.assertTrue(nothing_missing(request, places))

    def test_a_pattern_for_the_gain_that_matches_nothing(self):
        self.put("1/data/Movies/m.mrc")
        self.put("1/data/Movies/gain.mrc", gain=True)
        facts = self.download("1", image_set(num_images_or_tilt_series=1, **FIELDS), gain_pattern="K3*")
        self.assertIn('No file of EMPIAR-1 matches the gain file pattern "K3*".', facts.notes)

    def test_a_folder_above_the_movies_that_errs(self):
        """It may hold a gain reference, but the movies do not wait for it."""
        self.put("1/data/Movies/m.mrc")
        for gain in (True, False):
            self.setUpOut("above%s" % gain)
            for kind in (faults.ERROR, faults.BUSY):
                self.demo.add_fault(kind, "1/data")
                self.demo.add_fault(kind, "1/data/")
                facts = self.download("1", image_set(num_images_or_tilt_series=1, **FIELDS), amount=1, gain=gain)
                self.assertEqual(["m.mrc"], list(facts.movies))
                self.demo.clear_faults()

    def test_movies_after_one_that_vanished(self):
        """Looking for the references of what is gone by now uses up no movie."""
        for n in range(8):
            self.put("1/data/Movies/m_%d.mrc" % n)
        fields = image_set(num_images_or_tilt_series=8, **FIELDS)
        self.download("1", fields, amount=2, gain=False)
        os.remove(os.path.join(self.root, "1/data/Movies/m_0.mrc"))
        self.demo.add_fault(faults.GONE, "*m_3*")
        facts = self.download("1", fields, amount=5, left_out=1)
        self.assertEqual({"m_%d.mrc" % n for n in (0, 1, 2, 4, 5)}, set(facts.movies))

    def test_movies_that_are_tried_as_references_first(self):
        for n in range(3):
            self.put("1/data/Movies/again_%d.mrc" % n)
        for n in range(3, 8):
            self.put("1/data/Movies/Sub/again_%d.mrc" % n)
        facts = self.download("1", image_set(num_images_or_tilt_series=8, **FIELDS))
        self.assertEqual(8, len(facts.movies))
        self.assertEqual([], facts.chosen(GAIN))

    def test_a_lost_folder_is_named_also_where_the_amount_is_reached(self):
        for folder in "AB":
            for n in range(3):
                self.put("1/data/Movies/%s/m_%d.mrc" % (folder, n))
        self.demo.add_fault(faults.FORBIDDEN, "*Movies/A")
        self.demo.add_fault(faults.FORBIDDEN, "*Movies/A/")
        facts = self.download("1", image_set(num_images_or_tilt_series=6, **FIELDS), amount=3)
        self.assertEqual(3, len(facts.movies))
        self.assertIn("The folder data/Movies/A could not be entered", "\n".join(facts.notes))

    def test_integrated_images_beside_their_movies(self):
        """Also where the entry does not tell the frames."""
        for n in range(3):
            self.put("1/data/Movies/Foil_%d_fractions.mrc" % n)
            self.put("1/data/Movies/Foil_%d.mrc" % n, frames=1)
        facts = self.download("1", image_set(num_images_or_tilt_series=3, **dict(FIELDS, frames_per_image=None)),
                              left_out=3)
        self.assertEqual({"Foil_%d_fractions.mrc" % n for n in range(3)}, set(facts.movies))

    def test_weak_words_in_folders_of_one(self):
        for n in range(2):
            self.put("1/data/Movies/square_%d/normoxia_%d.mrc" % (n, n))
        self.assertEqual(2, len(self.download("1", image_set(num_images_or_tilt_series=2, **FIELDS)).movies))

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
        self.assertEqual(["square_000_m_00.mrc"], list(facts.movies))
        # The image set's folder, the first subfolder; for the gain: data and the entry's own folder.
        self.assertEqual(4, self.folders_listed())
        found = archive_entry.parse_entry("1", entry(image_set(**FIELDS)))
        archive = open_archive("1", self.demo.variables["EMPIAR_FTP_URL"], self.demo.variables["EMPIAR_HTTPS_URL"],
                               self.transport)
        self.demo.requests.clear()
        connection = archive.connect()
        finder = MovieFinder(found, found.image_set(), lambda folder, expected: connection.list_folder(folder))
        self.assertEqual(30000, sum(1 for _ in finder.movies()))
        connection.close()
        self.assertEqual(501, self.folders_listed())

    def test_the_same_twelve_tomorrow(self):
        for n in range(20):
            self.put("1/data/Movies/m_%02d.mrc" % n)
        first = self.download("1", image_set(num_images_or_tilt_series=20, **FIELDS), amount=5)
        second = self.download("1", image_set(num_images_or_tilt_series=20, **FIELDS), amount=9)
        self.assertEqual({"m_%02d.mrc" % n for n in range(5)}, set(list(second.movies)[:5]))
        self.assertEqual({"m_%02d.mrc" % n for n in range(9)}, set(second.movies))
        self.assertLessEqual(set(first.movies), set(second.movies))

    def test_more_than_there_are(self):
        self.put("1/data/Movies/a.mrc")
        facts = self.download("1", image_set(num_images_or_tilt_series=1, **FIELDS), amount=5)
        self.assertEqual(1, len(facts.movies))
        self.assertTrue(facts.end["exhausted"])

    def test_the_next_one_takes_the_place_of_a_broken_one(self):
        for n in range(6):
            self.put("1/data/Movies/m_%d.mrc" % n)
        with open(os.path.join(self.root, "1/data/Movies/m_1.mrc"), "r+b") as stream:
            stream.truncate(1500)
        found = archive_entry.parse_entry("1", entry(image_set(**FIELDS)))
        urls = self.demo.variables
        archive = open_archive("1", urls["EMPIAR_FTP_URL"], urls["EMPIAR_HTTPS_URL"], self.transport)
        facts = Download(Request(found, found.image_set(), 4), archive,
                                  Places(self.out, self.out + "/record"), Settings(), threading.Event()).run()
        self.assertEqual({"m_0.mrc", "m_2.mrc", "m_3.mrc", "m_4.mrc"}, set(facts.movies))
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
        self.assertEqual(5, len(facts.movies))


    def test_a_gain_that_only_the_second_look_shows(self):
        for n in range(2):
            self.put("1/data/Movies/m_%d.mrc" % n)
        self.put("1/data/Movies/gain.mrc", gain=True)
        original, lacking = demo_http._listed, []

        def listed(folder):
            names = [item for item in original(folder) if item[0] != "gain.mrc" or lacking]
            if folder.endswith("Movies"):
                lacking.append(True)
            return names

        demo_http._listed = listed
        self.addCleanup(setattr, demo_http, "_listed", original)
        facts = self.download("1", image_set(num_images_or_tilt_series=5, **FIELDS))
        self.assertEqual({"data/Movies/gain.mrc"}, set(self.gains_of(facts).values()))

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
        self.assertEqual(2, len(facts.movies))


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
            archive = open_archive("1", urls["EMPIAR_FTP_URL"], urls["EMPIAR_HTTPS_URL"], "FTP")
            places = Places(out, out + "/record", shared)
            sent = self.demo.sent_bytes
            facts = Download(Request(found, found.image_set(), None), archive, places, Settings(),
                                      threading.Event()).run()
            self.assertEqual(3, len(facts.movies))
            for source in sources:
                link = os.path.join(out, os.path.basename(source))
                self.assertTrue(os.path.islink(link))
                self.assertEqual(read_bytes(source), read_bytes(link))
        self.assertEqual(sent, self.demo.sent_bytes)
        self.assertTrue(os.path.exists(os.path.join(shared, "1", "data", "Movies", "m_0.mrc")))


# The common cases run for each transport, not by themselves.
del LayoutRows
