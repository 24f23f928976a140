# SPDX-License-Identifier: GPL-3.0-or-later
""".mdoc files as SerialEM, Tomo5, PACE-tomo and others write them: what they tell, and what they do not."""
import unittest

from empiardownloader.archive.mdoc import (
    BadMdocError,
    join_frame_sets,
    parse_frame_sets,
    parse_mdoc,
    parse_time,
    write_mdoc,
)
from empiardownloader.archive.tilt_names import are_angles, common_name, parse_tilt_name


def mdoc(sections, head="PixelSpacing = 1.5\nVoltage = 300\n", titles=("Tilt axis angle = 85.3, binning = 1",)):
    """Text of an .mdoc; ``sections``: a dict of its keys each."""
    text = head + "".join("\n[T =     %s]\n" % title for title in titles)
    for number, section in enumerate(sections):
        text += "\n[ZValue = %d]\n" % number + "".join("%s = %s\n" % item for item in section.items())
    return text


def tilts(*angles, **keys):
    """Sections at some angles; ``keys``: a value for each."""
    return [dict({"TiltAngle": angle}, **{key: values[place] for key, values in keys.items()})
            for place, angle in enumerate(angles)]


class TestOrder(unittest.TestCase):

    def order(self, *sections, **options):
        found = parse_mdoc(mdoc(*sections, **options))
        return [tilt.order for tilt in found.tilts], found.order_from, [tilt.before for tilt in found.tilts]

    def test_dose_before_a_tilt_goes_before_all(self):
        """Sections may have been cut out: what a tilt had received is more than the sum of those that are left."""
        times = ["01-Jan-2026  12:0%d:00" % minute for minute in (1, 2, 3)]
        sections = tilts(-3, 0, 3, PriorRecordDose=[6.5, 0.5, 9.5], ExposureDose=[3, 3, 3], DateTime=times)
        self.assertEqual(([2, 1, 3], "PriorRecordDose", [6.5, 0.5, 9.5]), self.order(sections))
        self.assertEqual(["PriorRecordDose and DateTime tell different orders of acquisition: PriorRecordDose is "
                          "used"], parse_mdoc(mdoc(sections)).remarks)

    def test_times_in_every_form(self):
        for form in ("%02d-Aug-22  18:58:35", "%02d-Aug-2022 18:58:35", "2022-08-%02dT18:58:35.25",
                     "2022-08-%02d 18:58:35"):
            with self.subTest(form):
                sections = tilts(-3, 0, 3, DateTime=[form % day for day in (2, 1, 3)], ExposureDose=[3, 3, 3])
                self.assertEqual(([2, 1, 3], "DateTime", [3, 0, 6]), self.order(sections))

    def test_tomo5_writes_the_year_first(self):
        sections = tilts(0, 3, DateTime=["22-Jan-31  23:59:00", "22-Feb-01  00:01:00"])
        titles = ("Tomography: TITAN 22-Jan-31  23:58:00", "  TiltAxisAngle = -176.20  Binning = 1  SpotSize = 7")
        self.assertEqual(([1, 2], "DateTime"), self.order(sections, titles=titles)[:2])
        self.assertEqual((2022, 1, 31), parse_time("22-Jan-31  23:59:00", True).timetuple()[:3])
        self.assertIsNone(parse_time("31-Feb-2022  10:00:00"))

    def test_what_tells_it_where_times_do_not(self):
        for times in ({}, {"DateTime": ["", "", ""]}, {"DateTime": ["24-Sep-18  16:47:20"] * 3}):
            with self.subTest(times):
                self.assertEqual(([2, 1, 3], "TimeStamp"),
                                 self.order(tilts(-3, 0, 3, TimeStamp=[121, 120, 130], **times))[:2])
                names = ["x\\TS_01_%03d_%d.0.tif" % item for item in ((1, -3), (0, 0), (2, 3))]
                self.assertEqual(([2, 1, 3], "the names of the files"),
                                 self.order(tilts(-3, 0, 3, SubFramePath=names, **times))[:2])

    def test_where_nothing_tells_it_no_dose_before_a_tilt_is_invented(self):
        self.assertEqual(([1, 2, 3], "", [None] * 3), self.order(tilts(-3, 0, 3, ExposureDose=[3, 3, 3])))


class TestAxis(unittest.TestCase):

    def axis(self, *titles, rotation=None, head="", text=None):
        section = {"TiltAngle": 0} if rotation is None else {"TiltAngle": 0, "RotationAngle": rotation}
        found = parse_mdoc(text or mdoc([section, dict(section, TiltAngle=3)], head, titles))
        return found.axis, found.remarks

    def test_by_whom_it_was_written(self):
        tomo5 = "Tomography: TITAN52337180    22-Feb-04  23:02:05"
        for wanted, titles, rotation in (
                (85.3, ("SerialEM: x", "Tilt axis angle = 85.3, binning = 4  spot = 8  camera = 2"), 175.3),
                (-94.7, ("Tilt axis rotation angle = -94.7",), None),
                (86.2, (tomo5, "  TiltAxisAngle = -176.20  Binning = 1  SpotSize = 7"), 86.2),
                (84.23, (tomo5, "TiltAxisAngle = -174.23 Binning = 1"), -84.23),
                (82.9, ("SerialEM: Titan Krios",), 172.9), (85.84, (tomo5,), 85.84), (None, ("SerialEM: x",), None)):
            with self.subTest(titles):
                self.assertEqual((wanted, []), self.axis(*titles, rotation=rotation))

    def test_titles_that_are_broken(self):
        sections = "\n[ZValue = 0]\nTiltAngle = 0\n[ZValue = 1]\nTiltAngle = 3\n"
        for text in ("[T =     Tilt axis angle = 84.8, binning = 1  spot = 4  camera = 1 dosym = -10.0\n]\n",
                     "[T = SerialEM: no end\n[T = Tilt axis angle = 84.8, binning = 1]\n",
                     "T = Tilt axis angle = 84.8, binning = 1\n", "TiltAxisAngle = -174.8\n",
                     "\ufeff[T = Tilt axis angle = 84,8]\r\n"):
            with self.subTest(text):
                self.assertEqual((84.8, []), self.axis(text=text + sections))

    def test_two_that_differ(self):
        axis, remarks = self.axis("Tilt axis angle = 85.3", rotation=160.0)
        self.assertEqual((85.3, ["its title says a tilt axis of 85.3 degrees, its RotationAngle 70: the title is "
                                 "used"]), (axis, remarks))


class TestDose(unittest.TestCase):

    def dose(self, head="PixelSpacing = 2.0\n", **keys):
        found = parse_mdoc(mdoc([dict(keys, TiltAngle=0), dict(keys, TiltAngle=3)], head))
        return round(found.tilts[0].dose, 4) if found.tilts[0].dose else None, found.dose_from

    def test_what_tells_it(self):
        self.assertEqual((3.1, "ExposureDose"), self.dose(ExposureDose="3.1", DoseRate="5", ExposureTime="1"))
        self.assertEqual((0.3198, "FrameDosesAndNumber"),
                         self.dose(ExposureDose="0", FrameDosesAndNumber="0.023687 3  0.035531 7"))
        self.assertEqual((None, ""), self.dose(FrameDosesAndNumber="NaN -1  "))

    def test_a_rate_is_per_unbinned_pixel(self):
        """P14: PixelSpacing is of the binned one."""
        self.assertEqual((1.25, "DoseRate, behind the sample"), self.dose(DoseRate="5", ExposureTime="1"))
        self.assertEqual((5.0, "DoseRate, behind the sample"), self.dose(DoseRate="5", ExposureTime="1", Binning="2"))
        self.assertEqual((5.0, "DoseRate, behind the sample"),
                         self.dose("PixelSpacing = 2.0\nBinning = 2\n", DoseRate="5", ExposureTime="1"))


class TestSections(unittest.TestCase):

    def test_the_number_is_that_of_the_image(self):
        """Wherever its section stands: some are sorted by angle, or by time, after the stack was written."""
        text = "".join("[ZValue = %d]\nTiltAngle = %g\n" % item for item in ((2, 3), (0, -3), (1, 0)))
        self.assertEqual([-3, 0, 3], [tilt.angle for tilt in parse_mdoc(text).tilts])

    def test_years_of_two_digits(self):
        """Tomo5 writes year-month-day, and has written the other way round; SerialEM day-month-year."""
        for text, is_tomo5, wanted in (("22-Aug-01  18:58:35", True, (2022, 8, 1)),
                                       ("01-Aug-22  18:58:35", False, (2022, 8, 1)),
                                       ("31-Aug-22  18:58:35", True, (2022, 8, 31)),
                                       ("22-Aug-31  18:58:35", False, (2022, 8, 31))):
            with self.subTest(text):
                self.assertEqual(wanted, parse_time(text, is_tomo5).timetuple()[:3])

    def test_titles_of_tomo5(self):
        for title, wanted in (("Tomography_2023-01-05", True), ("  Tomography", True), ("Tomographyish", False)):
            found = parse_mdoc(mdoc(tilts(-3, 0, 3), titles=(title,)))
            self.assertEqual(wanted, found.is_tomo5, title)


class TestWhatIsNoSeries(unittest.TestCase):

    def refused(self, text, words):
        with self.assertRaisesRegex(BadMdocError, words):
            parse_mdoc(text)

    def test_maps_of_the_grid(self):
        """P9; 'Montage = 1' alone decides nothing."""
        pieces = tilts(-0.0065, -0.0065, PieceCoordinates=["0 0 0", "3686 0 0"])
        self.refused(mdoc(pieces, "Montage = 1\n"), "the pieces of a montage")
        self.refused(mdoc(tilts(0.01, 0.012, 0.3)), "all its images are at one angle")
        series = tilts(-3, 0, 3, PieceCoordinates=["0 0 0"] * 3)
        self.assertEqual(3, len(parse_mdoc(mdoc(series, "Montage = 1\n")).tilts))
        self.refused(mdoc(tilts(-3, -3, 0, 0, PieceCoordinates=["0 0 0", "9 0 0"] * 2)), "the pieces of a montage")


class TestFrameSets(unittest.TestCase):

    def test_movies_described_one_by_one(self):
        def text(number, angle):
            return ("T = SerialEM: Titan Krios\nVoltage = 300\n\n[FrameSet = 0]\nTiltAngle = %s\nExposureDose = 2.5\n"
                    "RotationAngle = 172.9\nPriorRecordDose = %g\nSubFramePath = a_%d.mrc\nDateTime = \n" % (
                        angle, 0.07 + 2.5 * number, number))

        sections = [parse_frame_sets(text(*item))[0] for item in enumerate((8, 11, 5))]
        found = join_frame_sets(sections)
        self.assertEqual(([8, 11, 5], [1, 2, 3], [2.5] * 3, 82.9, 300.0, "PriorRecordDose"), (
            [tilt.angle for tilt in found.tilts], [tilt.order for tilt in found.tilts],
            [tilt.dose for tilt in found.tilts], found.axis, found.voltage, found.order_from))
        self.assertEqual([], parse_frame_sets(mdoc(tilts(0, 3))))
        # A movie by itself may be called a section, too.
        self.assertEqual(["3"], [section["TiltAngle"] for section in parse_frame_sets(mdoc(tilts(3)))])


class TestWriting(unittest.TestCase):

    def test_what_others_can_read(self):
        sections = tilts(-3, 0, 3, DateTime=["2022-08-0%dT18:58:35" % day for day in (2, 1, 3)], Note=["a = b"] * 3,
                         DoseRate=[4] * 3, ExposureTime=[1] * 3, Binning=[2] * 3)
        text = write_mdoc(parse_mdoc(mdoc(sections, titles=("SerialEM: -> 0:Ceta", "TiltAxisAngle = -176.2"))),
                          {0: "a.tif", 1: "b.tif", 2: "c.tif"})
        lines = text.splitlines()
        self.assertEqual(["[ZValue = 0]", "[ZValue = 1]", "[ZValue = 2]"],
                         [line for line in lines if line.startswith("[Z")])
        self.assertEqual("[T =     Tilt axis angle = 86.2, binning = 2]", next(li for li in lines if li[:2] == "[T"))
        self.assertTrue(all(line.count("=") == 1 for line in lines if line and line[0] != "["))
        again = parse_mdoc(text)
        self.assertEqual([("b.tif", 0, 1, 7.1111), ("a.tif", -3, 2, 7.1111), ("c.tif", 3, 3, 7.1111)],
                         [(tilt.file, tilt.angle, tilt.order, round(tilt.dose, 4)) for tilt in again.tilts])
        self.assertIn("DateTime = 01-Aug-2022  18:58:35", lines)

    def test_numbers_are_plain_and_unknown_doses_absent(self):
        """RELION and scipion-em-tomo turn what stands behind the sign into a number, and stop where it is none."""
        sections = tilts("-3.00 deg", "0,50", 3, FrameDosesAndNumber=["NaN -1"] * 3, CountsPerElectron=["37"] * 3,
                         Magnification=["53000x"] * 3)
        text = write_mdoc(parse_mdoc(mdoc(sections, "PixelSpacing = 1,35\nVoltage = 300 kV\n")),
                          {0: "a", 1: "b", 2: "c"})
        for line in ("PixelSpacing = 1.35", "Voltage = 300", "TiltAngle = -3", "TiltAngle = 0.5"):
            self.assertIn(line, text.splitlines())
        for word in ("Dose", "CountsPerElectron", "Magnification"):
            self.assertNotIn(word, text)

    def test_times_that_contradict_are_left_out(self):
        """scipion-em-tomo sorts by them."""
        sections = tilts(-3, 0, PriorRecordDose=[3, 0], DateTime=["01-Aug-2022  10:00:0%d" % n for n in (1, 2)])
        text = write_mdoc(parse_mdoc(mdoc(sections)), {0: "a", 1: "b"})
        self.assertNotIn("DateTime", text)
        self.assertLess(text.index("SubFramePath = b"), text.index("SubFramePath = a"))


class TestTiltNames(unittest.TestCase):
    # How programs call the images of a tilt series; sources: public data and bug reports of the field.
    NAMES = (
        ("2Dvs3D_53-1_00001_-0.0_Jul31_10.36.03.tif", "2Dvs3D_53-1", -0.0, 2),
        ("tomo200528_100_-12.0_May30_22.22.24.tif", "tomo200528", -12.0, 101),
        ("TS_001_29_00001_-10.0.eer", "TS_001_29", -10.0, 2),
        ("area_5-A_ts_002_001_000_-10.0.tif", "area_5-A_ts_002_001", -10.0, 1),
        ("2024-04-14_17.57.51_TS_001_-51.0.tif", "TS", -51.0, 2),
        ("s_mmm_00993_33.0_Oct08_07.39.05.tif", "s_mmm", 33.0, 994),
        ("Position_1_001[30.00]-847511.mrc", "Position_1", 30.0, 2),
        ("Position_1_001_[30.0]_date_time_fractions.tiff", "Position_1", 30.0, 2),
        ("Position_12_001_-10.00_20231020_234209_EER.eer", "Position_12", -10.0, 2),
        ("VLP3x3_p05_ts_009_-6.01026_blended_frames.mrc", "VLP3x3_p05_ts", -6.01026, 10))

    def test_of_many_programs(self):
        for name, series, angle, order in self.NAMES:
            self.assertEqual((series, angle, order), parse_tilt_name(name)[:3], name)

    def test_times_dates_and_a_defocus_are_no_angles(self):
        for name in ("Jan01_12.00.00.mrc", "a_23.33.18.tif", "1015B_g1_0000_Dec23_13.20.21.tif",
                     "AM880_2_-1um_area_11_0000.mrc", "x_Dec23_13.20.tif"):
            self.assertIsNone(parse_tilt_name(name), name)

    def test_numbers_that_count_or_tell_the_time(self):
        def are(*names):
            return are_angles([parse_tilt_name(name, ordered=False) for name in names])

        self.assertTrue(are("a_-3.0.mrc", "a_0.0.mrc", "a_3.0.mrc"))
        self.assertTrue(are("a_0.0.mrc", "a_3.0.mrc", "a_6.0.mrc"))
        self.assertFalse(are("a_12.00.mrc", "a_12.01.mrc", "a_12.59.mrc"))
        self.assertFalse(are("a_1.mrc", "a_2.mrc", "a_3.mrc"))
        self.assertFalse(are("a_-3.0.mrc", "a_3.0.mrc"))
        # Measured angles of two series: each is near one of the other.
        self.assertFalse(are("a_-2.98.mrc", "a_-3.01.mrc", "a_0.0.mrc", "a_0.02.mrc", "a_3.0.mrc", "a_3.01.mrc"))

    def test_what_names_have_in_common(self):
        self.assertEqual("Jan01", common_name(["x/Jan01_12.00.00.mrc", "x/Jan01_12.01.10.mrc"]))
        self.assertEqual("s1", common_name(["s1_0001.mrc", "s1_0012.mrc"]))
