# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in an entry and is found: references in folders of their own, second formats, movies called like
references; and what is told from the images by its name."""
import os

from empiardownloader.archive.names import has_word
from empiardownloader.demo import faults, kinds
from empiardownloader.tests.base import image_set
from empiardownloader.tests.layout_case import FIELDS, Layout


class FoundLayouts(Layout):
    """Run for each transport by the classes below."""

    def notes(self, facts):
        return "\n".join(facts.notes)

    def test_a_gain_in_a_folder_below_or_beside(self):
        """L3: HeLa/gain_ref/20230101.gain, gain/, ../gain_reference/."""
        for number, place in enumerate(("HeLa/gain_ref/20230101_ref.mrc", "HeLa/movies/gain/x.mrc",
                                        "HeLa/GainRefs/session.tif", "gain_reference/a_gain.mrc"), start=1):
            with self.subTest(place):
                self.setUpOut(str(number))
                for movie in range(3):
                    self.put("%d/data/HeLa/movies/m_%d.mrc" % (number, movie))
                self.put("%d/data/%s" % (number, place), gain=True)
                facts = self.download(str(number), image_set(directory="data/HeLa/movies", **FIELDS))
                self.check(facts, ["m_%d.mrc" % movie for movie in range(3)], "data/" + place)

    def test_folders_that_are_refused_once(self):
        """What the folder above shows is there: that of the images, and those of references, below and beside."""
        for number, (place, refused) in enumerate((("movies/gain/x.mrc", "movies/gain"),
                                                   ("gain_reference/a_gain.mrc", "gain_reference"),
                                                   ("movies/gain.mrc", "movies")), start=1):
            for kind in (faults.GONE, faults.FORBIDDEN):
                with self.subTest(refused, kind=kind):
                    self.setUpOut("%d %s" % (number, kind))
                    self.put("%d/data/movies/m_1.mrc" % number)
                    self.put("%d/data/%s" % (number, place), gain=True)
                    self.demo.clear_faults()
                    for ending in ("", "/"):
                        self.demo.add_fault(kind, "%d/data/%s%s" % (number, refused, ending), times=1)
                    facts = self.download(str(number), image_set(directory="data/movies", **FIELDS))
                    self.check(facts, ["m_1.mrc"], "data/" + place)

    def test_a_description_that_is_cut_on_its_way(self):
        """An answer that ends too early is asked for again; half an .mdoc is none."""
        names = kinds.tilt_names("TS_01")
        for seed, name in enumerate(names):
            self.put("1/data/" + name, seed=seed)
        kinds.write_text(os.path.join(self.root, "1/data/TS_01.mdoc"), kinds.mdoc(names))
        self.demo.add_fault(faults.SHORT, "*TS_01.mdoc", after=200, times=1)
        facts = self.download("1", image_set(directory="data", category="tilt series", num_images_or_tilt_series=1))
        self.assertEqual(len(names), len(facts.series["TS_01"].tilts))
        self.assertTrue(facts.series["TS_01"].mdoc)

    def test_a_pattern_looks_in_the_whole_entry(self):
        self.put("1/data/movies/m_1.mrc")
        self.put("1/data/calibration/2023/K3-0001.mrc", gain=True)
        facts = self.download("1", image_set(directory="data/movies", **FIELDS), gain_pattern="K3-*.mrc")
        self.check(facts, ["m_1.mrc"], "data/calibration/2023/K3-0001.mrc")

    def test_a_gain_of_other_size_in_such_a_folder_is_none(self):
        self.put("1/data/movies/m_1.mrc")
        self.put("1/data/gain/wide.mrc", gain=True, width=60, height=40)
        facts = self.download("1", image_set(directory="data/movies", **FIELDS))
        self.check(facts, ["m_1.mrc"], "")

    def test_a_word_within_a_word(self):
        """P11: 'flat' in 'deflate'."""
        names = ["deflate_01.mrc", "inflated_02.mrc", "normoxia_3.mrc", "abnormal_4.mrc", "darkness_5.mrc", "m_6.mrc"]
        for name in names:
            self.put("1/data/" + name)
        self.put("1/data/flatfield.mrc", gain=True)
        facts = self.download("1", image_set(directory="data", **FIELDS))
        self.check(facts, names, "data/flatfield.mrc")

    def test_a_movie_called_like_a_reference(self):
        """P11: its name alone spoke against it."""
        for name in ("gain_control_1.mrc", "m_2.mrc", "m_3.mrc"):
            self.put("1/data/" + name)
        facts = self.download("1", image_set(directory="data", **FIELDS))
        self.check(facts, ["gain_control_1.mrc", "m_2.mrc", "m_3.mrc"], "")
        self.assertIn("data/gain_control_1.mrc is taken for a movie although its name is like that of a reference: it "
                      "has 3 frames", self.notes(facts))

    def test_a_second_format(self):
        """L5: taken where the promised number is not reached otherwise, else named."""
        for number in range(4):
            self.put("1/data/a_%d.mrc.bz2" % number)
            self.put("1/data/b_%d.tif" % number)
        facts = self.download("1", image_set(directory="data", num_images_or_tilt_series=8, **FIELDS))
        self.assertEqual(8, len(facts.images))
        self.assertIn("are taken, for there are fewer movies of that format than the 8", self.notes(facts))
        self.setUpOut("named")
        facts = self.download("1", image_set(directory="data", num_images_or_tilt_series=4, **FIELDS))
        self.assertEqual(["a_%d.mrc" % number for number in range(4)], sorted(facts.images))
        self.assertIn("4 files of another format than MRC, like data/b_0.tif, are there too: they are not downloaded",
                      self.notes(facts))

    def test_products_of_processing_beside_micrographs(self):
        """P16: RELION's MotionCorr folder, MotionCor's, Warp's."""
        layouts = {
            "relion": (["m_0.mrc", "m_1.mrc"], ["m_0_PS.mrc", "m_0_noDW.mrc", "m_1_PS.mrc", "m_1_noDW.mrc"]),
            "motioncor": (["m_0.mrc"], ["m_0_DW.mrc", "m_0_DWS.mrc", "m_0_EVN.mrc", "m_0_ODD.mrc"]),
            "cryosparc": (["m_0_patch_aligned_doseweighted.mrc"], ["m_0_patch_aligned.mrc", "m_0_background.mrc"]),
            "alone": (["m_0_DW.mrc", "m_1_DW.mrc"], [])}
        for number, (name, (micrographs, products)) in enumerate(layouts.items(), start=1):
            with self.subTest(name):
                self.setUpOut(name)
                for seed, file in enumerate(micrographs + products):
                    kinds.write_stack(os.path.join(self.root, str(number), "data", file), seed, 1)
                facts = self.download(str(number), image_set(category="micrographs - single frame", directory="data",
                                                              num_images_or_tilt_series=len(micrographs)))
                self.assertEqual(sorted(micrographs), sorted(facts.images))
                if products:
                    self.assertIn("%d files in data are not downloaded, for by their names they are products of "
                                  "processing" % len(products), self.notes(facts))

    def test_a_gain_that_fits_only_when_turned(self):
        """L6: it is not the same reference, and said; one that fits as it is goes before it."""
        self.put("1/data/m_1.mrc")
        self.put("1/data/gain_a.mrc", gain=True, width=16, height=24)
        facts = self.download("1", image_set(directory="data", **FIELDS))
        self.check(facts, ["m_1.mrc"], "data/gain_a.mrc")
        self.assertIn("data/gain_a.mrc is as large as the movies only when turned by 90 degrees", self.notes(facts))
        self.put("1/data/gain_b.mrc", gain=True)
        self.setUpOut("both")
        facts = self.download("1", image_set(directory="data", **FIELDS))
        self.check(facts, ["m_1.mrc"], "data/gain_b.mrc")

    def test_movies_in_a_folder_that_is_called_like_one_of_references(self):
        for folder in ("gain_corrected", "gain"):
            self.setUpOut(folder)
            self.put("%s/data/%s/m_1.mrc" % (len(folder), folder))
            facts = self.download(str(len(folder)), image_set(directory="data/" + folder, **FIELDS))
            self.check(facts, ["m_1.mrc"], "")

    def test_words(self):
        for name, word, wanted in (("CameraDark.mrc", "dark", True), ("darkref_1.tif", "dark", True),
                                   ("K2_NORM.mrc", "norm", True), ("normal.mrc", "norm", False),
                                   ("x_flat-field.mrc", "flat", True), ("Deflated.mrc", "flat", False)):
            self.assertEqual(wanted, has_word(name, word), name)


class TestFtpFound(FoundLayouts):
    transport = "FTP"


class TestHttpsFound(FoundLayouts):
    transport = "HTTPS"


del FoundLayouts
