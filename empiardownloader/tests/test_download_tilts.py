# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilt series as entries hold them: what describes them beside, below, one by one, or not at all."""
import os

from empiardownloader.demo import kinds, movies
from empiardownloader.tests.base import image_set
from empiardownloader.tests.layout_case import Layout

TILTS = {"category": "tilt series", "directory": "data", "frames_per_image": None}
ANGLES = (0, 3, -3, 6, -6)


def frame_set(name, angle, number):
    """The .mdoc that SerialEM writes for one movie."""
    return ("T = SerialEM: synthetic\nVoltage = 300\n\n[FrameSet = 0]\nTiltAngle = %g\nExposureDose = 3\n"
            "RotationAngle = 175.3\nPriorRecordDose = %g\nSubFramePath = D:\\frames\\%s\n"
            "DateTime = 01-Jan-2026  12:%02d:00\n" % (angle, 3 * number, name, number))


class TestTilts(Layout):
    transport = "FTP"

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def movies(self, names, folder="1/data"):
        for seed, name in enumerate(names):
            movies.write_movie(self.path(folder, name), seed, 3, 24, 16)

    def tilts(self, facts, series, *keys):
        return [tuple(getattr(tilt, key) for key in keys) for tilt in facts.series[series].tilts]

    def test_times_in_names_are_no_angles(self):
        """P3: the movies' own .mdoc files tell the angles."""
        names = ["Jan01_12.%02d.00.mrc" % number for number in range(5)]
        self.movies(names)
        for number, (name, angle) in enumerate(zip(names, ANGLES)):
            kinds.write_text(self.path("1/data", name + ".mdoc"), frame_set(name, angle, number))
        facts = self.download("1", image_set(**TILTS))
        self.assertEqual(["Jan01"], list(facts.series))
        self.assertEqual([(angle, number + 1, 3, 3 * number) for number, angle in enumerate(ANGLES)],
                         self.tilts(facts, "Jan01", "angle", "order", "dose", "before"))
        self.assertEqual((85.3, 300.0), (facts.series["Jan01"].axis, facts.series["Jan01"].voltage))

    def test_times_in_names_without_any_description(self):
        self.movies(["Jan01_12.%02d.00.mrc" % number for number in range(5)])
        facts = self.download("1", image_set(**dict(TILTS, num_images_or_tilt_series=1)))
        self.assertEqual({}, facts.series)
        self.assertIn("The angles of 5 images are neither", "\n".join(facts.notes))

    def test_movies_described_one_by_one_and_by_their_names(self):
        """P15: five digits, a label before them; dose and axis are in the movies' own .mdoc files."""
        for series in ("TS_001_29", "TS_002_31"):
            names = ["%s_%05d_%.1f.mrc" % (series, number + 1, angle) for number, angle in enumerate(ANGLES)]
            self.movies(names)
            for number, (name, angle) in enumerate(zip(names, ANGLES)):
                kinds.write_text(self.path("1/data", name + ".mdoc"), frame_set(name, angle, number))
        facts = self.download("1", image_set(**TILTS))
        self.assertEqual(["TS_001_29", "TS_002_31"], list(facts.series))
        for series in facts.series:
            self.assertEqual([(angle, 3, 3 * number) for number, angle in enumerate(ANGLES)],
                             self.tilts(facts, series, "angle", "dose", "before"))
            with open(os.path.join(self.out, facts.series[series].mdoc)) as stream:
                self.assertEqual(5, stream.read().count("[ZValue"))
        self.setUpOut("one")
        self.assertEqual(["TS_001_29"], list(self.download("1", image_set(**TILTS), amount=1).series))

    def test_movies_of_which_some_share_an_angle(self):
        """Two series called alike: which is which is not invented."""
        names = ["a_%03d.mrc" % number for number in range(6)]
        self.movies(names)
        for number, (name, angle) in enumerate(zip(names, (0, 3, -3, 0, 3, -3))):
            kinds.write_text(self.path("1/data", name + ".mdoc"), frame_set(name, angle, number))
        facts = self.download("1", image_set(**dict(TILTS, num_images_or_tilt_series=2)))
        self.assertEqual({}, facts.series)
        self.assertIn("which of them make a series is not known", "\n".join(facts.notes))

    def test_a_stack_in_the_order_of_its_list_of_angles(self):
        """L1: sections by the .rawtlt, order and dose by the .mdoc's tilt of that angle."""
        kinds.write_stack(self.path("1/data/a.st"), 1, 5)
        kinds.write_text(self.path("1/data/a.st.mdoc"), kinds.mdoc([""] * 5, ANGLES, image_file="a.st"))
        kinds.write_text(self.path("1/data/a.rawtlt"), "-6.01\n-3.01\n0.00\n2.99\n5.99\n")
        facts = self.download("1", image_set(**TILTS))
        self.assertEqual([(angle, order, (order - 1) * kinds.DOSE_PER_TILT) for angle, order in (
            (-6.01, 5), (-3.01, 3), (0.0, 1), (2.99, 2), (5.99, 4))],
            self.tilts(facts, "a", "angle", "order", "before"))

    def test_a_list_of_angles_that_does_not_fit(self):
        kinds.write_stack(self.path("1/data/a.st"), 1, 5)
        kinds.write_text(self.path("1/data/a.st.mdoc"), kinds.mdoc([""] * 5, ANGLES, image_file="a.st"))
        kinds.write_text(self.path("1/data/a.rawtlt"), "-20\n-10\n0\n10\n20\n")
        facts = self.download("1", image_set(**TILTS))
        self.assertEqual([(-20, None), (-10, None), (0, None), (10, None), (20, None)],
                         self.tilts(facts, "a", "angle", "before"))
        self.assertFalse(facts.series["a"]["ordered"])
        self.assertIn("which tilt is which is not known", "\n".join(facts.notes))

    def test_versions_of_a_described_stack(self):
        """L2: left out and named, and stacks are never movies."""
        for name in ("TS_1.st", "TS_1_dose-filt.st", "TS_1_EVN.st", "TS_1_ODD.st"):
            kinds.write_stack(self.path("1/data", name), 1, 5)
        kinds.write_text(self.path("1/data/TS_1.st.mdoc"), kinds.mdoc([""] * 5, ANGLES, image_file="TS_1.st"))
        facts = self.download("1", image_set(**dict(TILTS, num_images_or_tilt_series=1)))
        self.assertEqual((["TS_1.mrcs"], ["TS_1"]), (list(facts.images), list(facts.series)))
        self.assertIn("3 files are not downloaded, for by their names they are versions of stacks that are described "
                      "(data/TS_1_EVN.st, data/TS_1_ODD.st, data/TS_1_dose-filt.st)", "\n".join(facts.notes))

    def test_names_alone_make_no_version(self):
        """'TS_1' and 'TS_1_2' are two stacks; a tilt called like a described stack is no version of it."""
        for name in ("TS_1.st", "TS_1_2.st", "TS_1_bin4.st"):
            kinds.write_stack(self.path("1/data", name), 1, 5)
        kinds.write_text(self.path("1/data/TS_1.st.mdoc"), kinds.mdoc([""] * 5, ANGLES, image_file="TS_1.st"))
        facts = self.download("1", image_set(**dict(TILTS, num_images_or_tilt_series=2)))
        self.assertEqual(["TS_1", "TS_1_2"], sorted(facts.series))

    def test_a_stack_and_its_mdoc_that_were_renamed(self):
        """The name inside is the old one, which another stack has now."""
        for name, frames in (("a.st", 5), ("b.st", 5)):
            kinds.write_stack(self.path("1/data", name), 1, frames)
        for name, old in (("a.st", "b.st"), ("b.st", "a.st")):
            kinds.write_text(self.path("1/data", name + ".mdoc"), kinds.mdoc(
                [""] * 5, ANGLES if name == "a.st" else (0, -3, 3, -6, 6), image_file=old))
        facts = self.download("1", image_set(**TILTS))
        self.assertEqual({"a": 3, "b": -3}, {name: event.tilts[1].angle for name, event in facts.series.items()})
        self.assertIn("data/a.st.mdoc names data/b.st as its stack, and is called like data/a.st: it is taken to be "
                      "about that", "\n".join(facts.notes))

    def test_lists_of_angles(self):
        """Columns of scipion-em-tomo, of AreTomo, with doses a tilt, and such as nobody can tell."""
        lists = {
            "tomo": ("-3 6\n0 3\n3 9\n", True, [(2, 3, 3), (1, 3, 0), (3, 3, 6)]),
            "tomo3": ("-3 6 2\n0 3 1\n3 9 3\n", True, [(2, 3, 3), (1, 3, 0), (3, 3, 6)]),
            "before": ("-3 3\n0 0\n3 6\n", True, [(2, 3, 3), (1, 3, 0), (3, 3, 6)]),
            "aretomo": ("-3 1 2.5\n0 0 2.5\n3 2 2.5\n", True, [(2, 2.5, 2.5), (1, 2.5, 0), (3, 2.5, 5)]),
            "order": ("-3 2\n0 1\n3 3\n", True, [(2, None, None), (1, None, None), (3, None, None)]),
            "each": ("-3 3.1\n0 3.1\n3 3.1\n", False, [(1, 3.1, None), (2, 3.1, None), (3, 3.1, None)]),
            "nobody": ("-3 7\n0 -1\n3 7\n", False, [(1, None, None), (2, None, None), (3, None, None)])}
        for name, (text, *_) in lists.items():
            kinds.write_stack(self.path("1/data", name + ".st"), 1, 3)
            kinds.write_text(self.path("1/data", name + ".tlt"), text)
        kinds.write_stack(self.path("1/data/nan.st"), 1, 3)
        kinds.write_text(self.path("1/data/nan.tlt"), "-3\nnan\n3\n")
        facts = self.download("1", image_set(**dict(TILTS, num_images_or_tilt_series=8)))
        for name, (_, ordered, wanted) in lists.items():
            with self.subTest(name):
                self.assertEqual((ordered, wanted), (facts.series[name]["ordered"],
                                                     self.tilts(facts, name, "order", "dose", "before")))
        notes = "\n".join(facts.notes)
        self.assertIn("data/nobody.tlt: the numbers behind its angles are neither doses nor an order of acquisition",
                      notes)
        self.assertIn("data/nan.tlt: it has numbers that are no angles", notes)

    def test_two_series_that_names_do_not_tell_apart(self):
        """The entry says two; by their names, which say no order, it would be one with angles twice."""
        self.movies(["a_%03d_%.1f.mrc" % item for item in enumerate(
            [*range(-30, 31, 3), -30.1, 30.1, 0.1])])
        facts = self.download("1", image_set(**dict(TILTS, num_images_or_tilt_series=2)))
        self.assertIn("would be one tilt series by their names, some of them at one angle; but there would be 1 "
                      "series, and the entry says 2", "\n".join(facts.notes))
        self.assertEqual((24, {}), (len(facts.images), facts.series))

    def test_movies_that_were_taken_hours_apart(self):
        names = ["a_%03d.mrc" % number for number in range(6)]
        self.movies(names)
        for number, (name, angle) in enumerate(zip(names, (0, 3, -3, 10, 13, -13))):
            text = frame_set(name, angle, number)
            kinds.write_text(self.path("1/data", name + ".mdoc"), text.replace(" 12:", " 15:") if number > 2 else text)
        facts = self.download("1", image_set(**dict(TILTS, num_images_or_tilt_series=2)))
        self.assertEqual({}, facts.series)
        self.assertIn("more than an hour lies between two of them", "\n".join(facts.notes))

    def test_numbers_of_series_that_look_like_an_order(self):
        """'g_100_-3.0': each movie has its .mdoc, and 100 and 101 are two series."""
        for series in (100, 101):
            names = ["g_%d_%.1f.mrc" % (series, angle) for angle in ANGLES]
            self.movies(names)
            for number, (name, angle) in enumerate(zip(names, ANGLES)):
                kinds.write_text(self.path("1/data", name + ".mdoc"), frame_set(name, angle, number))
        facts = self.download("1", image_set(**dict(TILTS, num_images_or_tilt_series=2)))
        self.assertEqual(["g_100", "g_101"], sorted(facts.series))

    def test_a_series_beside_movies_described_one_by_one(self):
        """What an .mdoc is about its text tells, not that others are about single movies."""
        names = ["a_%03d.mrc" % number for number in range(5)]
        self.movies(names)
        for number, (name, angle) in enumerate(zip(names, ANGLES)):
            kinds.write_text(self.path("1/data", name + ".mdoc"), frame_set(name, angle, number))
        kinds.write_stack(self.path("1/data/z.st"), 1, 5)
        kinds.write_text(self.path("1/data/z.st.mdoc"), kinds.mdoc([""] * 5, ANGLES, image_file="z.st"))
        facts = self.download("1", image_set(**dict(TILTS, num_images_or_tilt_series=2)))
        self.assertEqual((["a", "z"], list(ANGLES)), (sorted(facts.series), [
            angle for angle, in self.tilts(facts, "z", "angle")]))

    def test_stacks_without_angles_stay_stacks(self):
        for name in ("a.st", "b.st", "c.st"):
            kinds.write_stack(self.path("1/data", name), 1, 5)
        facts = self.download("1", image_set(**dict(TILTS, num_images_or_tilt_series=1)))
        self.assertEqual([True] * 3, [event.stack for event in facts.series.values()])

    def test_a_used_mdoc_is_not_told_as_unused(self):
        """W6: its images are in another folder than most."""
        names = kinds.tilt_names("TS_01")
        self.movies(names, "1/data/frames/late")
        self.movies(["other_001_0.0.mrc"], "1/data/frames")
        kinds.write_text(self.path("1/data/frames/TS_01.mdoc"), kinds.mdoc(names))
        facts = self.download("1", image_set(**TILTS))
        self.assertTrue(facts.series["TS_01"].mdoc)
        self.assertNotIn("are not used", "\n".join(facts.notes))

    def test_a_map_beside_the_series(self):
        """P9"""
        names = kinds.tilt_names("TS_01")
        self.movies(names)
        kinds.write_text(self.path("1/data/TS_01.mdoc"), kinds.mdoc(names))
        kinds.write_stack(self.path("1/data/LMM.mrc"), 1, 2)
        kinds.write_text(self.path("1/data/LMM.mrc.mdoc"), "Montage = 1\nImageFile = LMM.mrc\n"
                         "[ZValue = 0]\nPieceCoordinates = 0 0 0\nTiltAngle = -0.0065\n"
                         "[ZValue = 1]\nPieceCoordinates = 3686 0 0\nTiltAngle = -0.0065\n")
        facts = self.download("1", image_set(**TILTS))
        self.assertIn("data/LMM.mrc.mdoc is not used: it describes the pieces of a montage", "\n".join(facts.notes))
        self.assertEqual([None], [angle for angle, in self.tilts(facts, "LMM", "angle")])
