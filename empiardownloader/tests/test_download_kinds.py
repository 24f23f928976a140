# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries that hold anything but movies, laid out as real ones are: what comes, in which order, and what is said."""
import os
import subprocess
import sys
import unittest

from empiardownloader.archive import mdoc as mdocs
from empiardownloader.archive.tilt_names import parse_tilt_name, series_name
from empiardownloader.demo import faults, kinds, movies
from empiardownloader.download.particles import ParticleFile, match_stacks
from empiardownloader.images.header import BadImageError
from empiardownloader.tests.base import image_set, read_bytes
from empiardownloader.tests.layout_case import Layout

PARTICLES = {"category": "picked particles - single frame - processed", "data_format": "MRCS",
             "directory": "data/Particles"}
TILTS = {"category": "tilt series", "directory": "data", "frames_per_image": None}


class KindLayouts(Layout):
    """Run for each transport by the classes below."""

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def names_of(self, facts):
        return sorted(facts.images)

    def test_10017_micrographs_with_their_coordinates(self):
        names = ["Falcon_2012_06_12-14_33_35_0", "Falcon_2012_06_12-14_57_34_0", "Falcon_2012_06_12-15_07_41_0"]
        for seed, name in enumerate(names):
            kinds.write_stack(self.path("10017/data", name + ".mrc"), seed, 1)
            kinds.write_text(self.path("10017/data", name + ".coord"), "1 2\n")
        self.put_text("10017/data/README.txt")
        facts = self.download("10017", image_set(category="micrographs - single frame", directory="data"), amount=2)
        self.assertEqual([name + ".mrc" for name in names[:2]], self.names_of(facts))
        self.assertEqual(sorted(name + ".coord" for name in names[:2]),
                         sorted(companion.name for companion in facts.companions.values()))
        facts = self.download("10017", image_set(category="micrographs - single frame", directory="data"), amount=3,
                              companions=False)
        self.assertEqual(2, len(facts.companions))

    def test_10028_movies_among_the_micrographs(self):
        kinds.write_stack(self.path("10028/data/Micrographs/Micrographs_part1/001.mrc"), 1, 1)
        kinds.write_stack(self.path("10028/data/Micrographs/Micrographs_part2/003.mrc"), 3, 1)
        kinds.write_stack(self.path("10028/data/Micrographs/Micrographs_part2/004_movie.mrcs"), 4, 16)
        facts = self.download("10028", image_set(category="micrographs - single frame",
                                                 directory="data/Micrographs"), left_out=1)
        self.assertEqual(["Micrographs_part1_001.mrc", "Micrographs_part2_003.mrc"], self.names_of(facts))
        self.assertIn("it has 16 frames, so it looks like a movie and not like a micrograph",
                      next(iter(facts.left_out.values())))

    def particles(self, number, paths, star, place="shiny_2sets.star", count=5):
        for seed, path in enumerate(paths):
            kinds.write_stack(self.path(number, "data/Particles", path), seed, count)
        if star is not None:
            kinds.write_text(self.path(number, "data/Particles", place), star)

    def test_10028_particles_below_what_describes_them(self):
        paths = ["MRC_0601/001_particles.mrcs", "MRC_0601/002_particles.mrcs", "MRC_1901/001_particles.mrcs",
                 "MRC_1901/009_particles.mrcs"]
        named = ["Particles/" + path for path in paths[:3]] + ["Particles/MRC_1901/010_particles.mrcs"]
        self.particles("10028", paths, kinds.particles_star(named, 5, old=True))
        facts = self.download("10028", image_set(**PARTICLES))
        self.assertEqual(("shiny_2sets.star",), facts.description.names)
        self.assertEqual({"Particles/" + path for path in paths[:3]},
                         {image.stack for image in facts.images.values()})
        self.assertEqual(["MRC_0601_001_particles.mrcs", "MRC_0601_002_particles.mrcs",
                          "MRC_1901_001_particles.mrcs"], self.names_of(facts))
        notes = "\n".join(facts.notes)
        self.assertIn("1 of the 4 stacks that data/Particles/shiny_2sets.star names are not in the archive "
                      "(Particles/MRC_1901/010_particles.mrcs): their 5 particles are skipped", notes)
        self.assertIn("1 stacks are not downloaded", notes)

    def test_10180_a_deep_tree(self):
        paths = ["Extract/job%d/Micrographs/%02d.mrcs" % (job, number) for job in (1, 2) for number in range(3)]
        self.particles("10180", paths, kinds.particles_star(["/home/me/proj/" + path for path in paths], 5),
                       "consensus/run_data.star")
        facts = self.download("10180", image_set(**dict(PARTICLES, picked_particles_file_pattern="data/Particles/"
                                                        "consensus/run_data.star")), amount=4)
        self.assertEqual(4, len(facts.images))
        self.assertEqual(["/home/me/proj/" + path for path in paths[:4]],
                         sorted(image.stack for image in facts.images.values()))

    def test_stacks_that_nobody_describes(self):
        """Also where they are called .mrc: Scipion would take each for a volume."""
        self.particles("1", ["a.mrc", "b.mrc"], None)
        facts = self.download("1", image_set(**PARTICLES))
        self.assertEqual(["a.mrcs", "b.mrcs"], self.names_of(facts))
        self.assertIsNone(facts.description)
        self.assertEqual(read_bytes(self.path("1/data/Particles/a.mrc")), read_bytes(os.path.join(self.out, "a.mrcs")))

    def test_stars_that_describe_something_else(self):
        self.particles("1", ["a.mrcs", "b.mrcs"], None)
        kinds.write_text(self.path("1/data/Particles/model.star"), kinds.star_table("model", ["rlnClass"], [(1,)]))
        kinds.write_text(self.path("1/data/Particles/run.star"), kinds.particles_star(["x/nobody_has.mrcs"], 2))
        kinds.write_text(self.path("1/data/all.star"), "no star at all")
        facts = self.download("1", image_set(**PARTICLES))
        self.assertEqual((2, ()), (len(facts.images), facts.description.names))
        notes = "\n".join(facts.notes)
        for words in ("model.star does not describe the particles: it names no images in stacks",
                      "run.star does not describe the particles: it names no stack that is in the archive",
                      "all.star does not describe the particles: it is no STAR file"):
            self.assertIn(words, notes)

    def test_the_file_that_the_user_names(self):
        self.particles("1", ["a.mrcs", "b.mrcs"], kinds.particles_star(["a.mrcs", "b.mrcs"], 5), "all.star")
        kinds.write_text(self.path("1/data/chosen/half.star"), kinds.particles_star(["b.mrcs"], 5))
        facts = self.download("1", image_set(**PARTICLES), particles_file="data/chosen/*.star")
        self.assertEqual((("half.star",), ["b.mrcs"]), (facts.description.names, self.names_of(facts)))

    def test_the_same_name_in_two_folders(self):
        """Which is which the folders tell; where they do not, neither is taken."""
        self.particles("1", ["A/x.mrcs", "B/x.mrcs", "A/y.mrcs"],
                       kinds.particles_star(["job/B/x.mrcs", "job/A/x.mrcs", "job/A/y.mrcs"], 5))
        facts = self.download("1", image_set(**PARTICLES))
        self.assertEqual({"A_x.mrcs": "job/A/x.mrcs", "B_x.mrcs": "job/B/x.mrcs", "A_y.mrcs": "job/A/y.mrcs"},
                         {name: image.stack for name, image in facts.images.items()})
        matches = match_stacks(["job/x.mrcs", "job/y.mrcs"], ["A/x.mrcs", "B/x.mrcs", "A/y.mrcs"])
        self.assertEqual(({"A/y.mrcs": "job/y.mrcs"}, ("job/x.mrcs",)), (matches.names, matches.ambiguous))
        matches = match_stacks(["one/x.mrcs", "two/x.mrcs"], ["A/x.mrcs"])
        self.assertEqual(({}, {"one/x.mrcs", "two/x.mrcs"}), (matches.names, set(matches.ambiguous)))

    def test_several_files_that_describe_a_part_each(self):
        paths = ["A/1.mrcs", "A/2.mrcs", "B/3.mrcs"]
        self.particles("1", paths, kinds.particles_star(["job/A/1.mrcs", "job/A/2.mrcs"], 5), "A.star")
        kinds.write_text(self.path("1/data/Particles/B.star"), kinds.particles_star(["job/B/3.mrcs"], 5))
        for number in range(8):
            kinds.write_text(self.path("1/data/Particles/%03d_autopick.star" % number), kinds.star_table(
                "", ["rlnCoordinateX"], [(1,)]))
        facts = self.download("1", image_set(**PARTICLES))
        self.assertEqual({"A_1.mrcs": "A.star", "A_2.mrcs": "A.star", "B_3.mrcs": "B.star"},
                         {name: image.star for name, image in facts.images.items()})
        self.assertTrue(facts.is_complete(None))

    def test_many_stacks_of_one_name(self):
        # Each compared with each would take hours.
        paths = ["j%05d/particles.mrcs" % number for number in range(60000)]
        self.assertEqual(60000, len(match_stacks(["home/" + path for path in paths], paths).names))

    # -------------------------- tilt series -----------------------

    def frames(self, number, folder, series, ending=".mrc", names=None):
        for seed, name in enumerate(names or kinds.tilt_names(series)):
            movies.write_movie(self.path(number, folder, os.path.splitext(name)[0] + ending), seed, 3, 24, 16)

    def series_of(self, facts):
        """{name of a series: [(base name at the source, angle)] in the order of acquisition}"""
        return {name: [(os.path.basename(tilt.path), tilt.angle) for tilt in event.tilts]
                for name, event in facts.series.items()}

    def check_mdoc(self, facts, series):
        """The .mdoc of a series names its images as they are called here."""
        event = facts.series[series]
        names = {image.path: name for name, image in facts.images.items()}
        with open(os.path.join(self.out, event.mdoc)) as stream:
            tilts = mdocs.parse_mdoc(stream.read()).tilts
        self.assertEqual(sorted(names[tilt.path] for tilt in event.tilts), sorted(tilt.file for tilt in tilts))
        self.assertEqual([tilt.angle for tilt in event.tilts],
                         [tilt.angle for tilt in sorted(tilts, key=lambda tilt: tilt.order)])

    def test_10164_described_in_a_sister_folder(self):
        for series in ("TS_01", "TS_03"):
            self.frames("10164", "data/frames", series)
            kinds.write_text(self.path("10164/data/mdoc-files/%s.mrc.mdoc" % series),
                             kinds.mdoc(kinds.tilt_names(series)))
        for category in ("tilt series", "micrographs - multiframe"):
            self.setUpOut(category)
            facts = self.download("10164", image_set(**dict(TILTS, category=category, directory="data/frames")))
            self.assertEqual(14, len(facts.images))
            for series in ("TS_01", "TS_03"):
                self.assertEqual(list(zip(kinds.tilt_names(series), kinds.ANGLES)), self.series_of(facts)[series])
                self.check_mdoc(facts, series)
        self.setUpOut("one")
        facts = self.download("10164", image_set(**TILTS), amount=1)
        self.assertEqual((7, ["TS_01"]), (len(facts.images), list(facts.series)))
        self.assertFalse(facts.end.exhausted)

    def test_11830_a_folder_for_each_series(self):
        """Frames, their stack and what describes them in one folder: the format says which of them is meant."""
        for series in ("Position_1", "Position_2"):
            folder = "data/chlamy/01082022_BrnoKrios_%s" % series
            names = ["%s_%03d[%.2f]_EER.eer" % (series, number, angle) for number, angle in enumerate(kinds.ANGLES)]
            self.frames("11830", folder, series, ".eer", names)
            kinds.write_stack(self.path("11830", folder, series + ".st"), 1, len(kinds.ANGLES))
            kinds.write_text(self.path("11830", folder, series + ".st.mdoc"),
                             kinds.mdoc(names, image_file=series + ".st"))
            movies.write_gain(self.path("11830", folder, "gain.mrc"), 7, 24, 16)
        facts = self.download("11830", image_set(**dict(TILTS, data_format="EER", directory="data/chlamy")))
        self.assertEqual(["Position_1", "Position_2"], list(facts.series))
        self.assertEqual(14, len(facts.images))
        self.assertTrue(all(name.endswith(".eer") for name in facts.images))
        self.check_mdoc(facts, "Position_1")
        self.setUpOut("stacks")
        facts = self.download("11830", image_set(**dict(TILTS, directory="data/chlamy")), gain=False,
                              file_pattern="*.st")
        self.assertEqual([True, True], [event.stack for event in facts.series.values()])
        self.assertEqual(list(kinds.ANGLES), [angle for _, angle in self.series_of(facts)["Position_1"]])
        self.assertTrue(all(name.endswith(".mrcs") for name in facts.images))

    def test_12104_all_of_it(self):
        names = ["TS_006_%d_%.1f.tif" % item for item in enumerate(kinds.ANGLES)]
        self.frames("12104", "data/Control/frames", "TS_006", ".tif", names)
        kinds.write_text(self.path("12104/data/Control/metadata/mdocs_modified/TS_006.mdoc"), kinds.mdoc(names))
        kinds.write_stack(self.path("12104/data/Control/metadata/TS_006.st"), 1, 7)
        kinds.write_volume(self.path("12104/data/Control/tomograms/TS_006_aretomo.mrc"), 1)
        facts = self.download("12104", image_set(**dict(TILTS, directory="data/Control/frames", data_format="TIFF")))
        self.assertEqual({"TS_006": list(zip(names, kinds.ANGLES))}, self.series_of(facts))
        self.check_mdoc(facts, "TS_006")
        facts = self.download("12104", image_set(category="reconstructed volumes", directory="data/Control/tomograms"))
        self.assertIn("TS_006_aretomo.mrc", facts.images)

    def test_10045_and_10064_stacks_without_angles(self):
        kinds.write_stack(self.path("10045/data/ribosomes/Tomograms/11/IS002_291013_011.mrcs"), 1, 5)
        kinds.write_stack(self.path("10045/data/ribosomes/Tomograms/12/IS002_291013_012.mrcs"), 2, 5)
        facts = self.download("10045", image_set(**dict(TILTS, directory="data/ribosomes/Tomograms")))
        self.assertEqual(["IS002_291013_011", "IS002_291013_012"], list(facts.series))
        self.assertEqual([None], [angle for _, angle in self.series_of(facts)["IS002_291013_011"]])
        self.setUpOut("10064")
        kinds.write_stack(self.path("10064/data/mixedCTEM_tomo3.mrc"), 1, 5)
        kinds.write_text(self.path("10064/data/mixedCTEM_tomo3.tlt"), "-6\n-3\n0\n3\n6\n")
        facts = self.download("10064", image_set(**TILTS))
        self.assertEqual([-6, -3, 0, 3, 6], [angle for _, angle in self.series_of(facts)["mixedCTEM_tomo3"]])

    def test_names_tell_where_nothing_else_does(self):
        self.frames("1", "data", "TS_02")
        self.frames("1", "data", "", names=["tomo_7_%.1f.mrc" % angle for angle in kinds.ANGLES])
        facts = self.download("1", image_set(**TILTS))
        self.assertEqual(list(kinds.ANGLES), [angle for _, angle in self.series_of(facts)["TS_02"]])
        self.assertEqual(sorted(kinds.ANGLES), [angle for _, angle in self.series_of(facts)["tomo_7"]])
        self.assertIn("No file says in which order the tilts of tomo_7 were taken", "\n".join(facts.notes))

    def test_mdocs_of_two_branches_and_in_mirrored_folders(self):
        for branch in ("Control", "Treated"):
            self.frames("1", "data/%s/frames/s1" % branch, "TS_01")
            self.frames("1", "data/%s/frames/s2" % branch, "TS_01")
            for session in ("s1", "s2"):
                kinds.write_text(self.path("1/data/%s/mdocs/%s/TS_01.mdoc" % (branch, session)),
                                 kinds.mdoc(kinds.tilt_names("TS_01")))
        facts = self.download("1", image_set(**TILTS))
        self.assertEqual((28, 4), (len(facts.images), len(facts.series)))
        for name, event in facts.series.items():
            self.assertTrue(event.mdoc, name)
            self.assertEqual(1, len({os.path.dirname(tilt.path) for tilt in event.tilts}))
            self.check_mdoc(facts, name)

    def test_images_of_which_nobody_knows_the_angle(self):
        """More of them than the entry has series are tilts, and no stacks."""
        for name in ("20171221_00%d" % number for number in range(4)):
            movies.write_movie(self.path("1/data", name + ".mrc"), 1, 3, 24, 16)
        facts = self.download("1", image_set(**dict(TILTS, num_images_or_tilt_series=1)))
        self.assertEqual((4, {}), (len(facts.images), facts.series))
        self.assertIn("The angles of 4 images are neither", "\n".join(facts.notes))

    def test_angles_that_cannot_be_read(self):
        kinds.write_stack(self.path("1/data/a.st"), 1, 3)
        kinds.write_text(self.path("1/data/a.rawtlt"), "-3 9 3\n0 3 1\n3 6 2\n")
        self.demo.add_fault(faults.PROHIBITED if self.transport == "FTP" else faults.FORBIDDEN, "*.rawtlt")
        facts = self.download("1", image_set(**TILTS))
        self.assertEqual((1, False), (len(facts.images), facts.end.complete))
        self.demo.clear_faults()
        facts = self.download("1", image_set(**TILTS))
        # The second number is the dose accumulated by then.
        self.assertEqual([(-3, 3, 3, 6), (0, 1, 3, 0), (3, 2, 3, 3)], [
            (tilt.angle, tilt.order, tilt.dose, tilt.before) for tilt in facts.series["a"].tilts])

    def test_mdocs_with_faults(self):
        """A gap in their count, a tilt that nobody has, one without an angle, one of a single movie."""
        names = {series: kinds.tilt_names(series) for series in ("gap", "lack", "odd")}
        for series, its in names.items():
            self.frames("1", "data", series, names=its if series != "lack" else its[:-1])
        kinds.write_text(self.path("1/data/gap.mdoc"), kinds.mdoc(names["gap"], places=[1, 2, 3, 5, 6, 7, 9]))
        kinds.write_text(self.path("1/data/lack.mdoc"), kinds.mdoc(names["lack"]))
        kinds.write_text(self.path("1/data/odd.mdoc"), kinds.mdoc(names["odd"]).replace("TiltAngle = 6", "Tilt = 6"))
        kinds.write_text(self.path("1/data/gap_000_0.0.mrc.mdoc"), "[FrameSet = 0]\nTiltAngle = 0\n")
        facts = self.download("1", image_set(**TILTS))
        self.assertEqual({"gap": 7, "lack": 6, "odd": 7}, {name: len(its) for name, its in
                                                           self.series_of(facts).items()})
        self.check_mdoc(facts, "gap")
        self.check_mdoc(facts, "lack")
        self.assertEqual("", facts.series["odd"].mdoc)
        notes = "\n".join(facts.notes)
        self.assertIn("data/lack.mdoc: 1 of 7 tilts are not in the archive (lack_006_-9.0.mrc)", notes)
        self.assertIn("data/odd.mdoc is not used: the tilt angle of its section 3 is missing", notes)
        with open(os.path.join(self.out, facts.series["lack"].mdoc)) as stream:
            self.assertEqual(["[ZValue = %d]" % number for number in range(6)],
                             [line for line in stream.read().splitlines() if line.startswith("[ZValue")])

    # -------------------------- what does not belong -----------------------

    def test_images_in_a_set_of_volumes(self):
        kinds.write_volume(self.path("1/data/map.mrc"), 1)
        kinds.write_stack(self.path("1/data/particles.mrc"), 2, 50)
        kinds.write_stack(self.path("1/data/slice.mrc"), 3, 1)
        facts = self.download("1", image_set(category="reconstructed volumes", directory="data"), left_out=2)
        self.assertEqual(["map.mrc"], self.names_of(facts))
        self.assertIn("its header says that it is a stack of 50 images and no volume", facts.left_out.values())
        self.assertIn("it has a single section, so it is an image and no volume", facts.left_out.values())

    def test_a_map_with_the_header_of_a_stack(self):
        """L7: as older programs write it; the entry's category decides where the shape is a cube."""
        kinds.write_stack(self.path("1/data/old_map.mrc"), 1, 16, 16, 16)
        kinds.write_stack(self.path("1/data/stack.mrc"), 2, 50, 16, 16)
        facts = self.download("1", image_set(category="reconstructed volumes", directory="data"), left_out=1)
        self.assertEqual(["old_map.mrc"], self.names_of(facts))

    def test_files_as_they_are(self):
        for name in ("run 1/frame.smv", "run 2/frame.smv", "notes.txt", "entry.json", "packed.tar.gz"):
            self.put_text("1/data/" + name)
        for category, data_format in (("diffraction images", "SMV"), ("something never seen", "OT")):
            self.setUpOut(data_format)
            facts = self.download("1", image_set(category=category, data_format=data_format, directory="data"))
            self.assertEqual(["entry.json", "notes.txt", "packed.tar.gz", "run 1/frame.smv", "run 2/frame.smv"],
                             self.names_of(facts))
            for name in facts.images:
                self.assertEqual(b"text", read_bytes(os.path.join(self.out, name)))


class TestFtpKinds(KindLayouts):
    transport = "FTP"


class TestHttpsKinds(KindLayouts):
    transport = "HTTPS"


class TestNames(unittest.TestCase):

    def test_angles_in_names(self):
        for name, series, angle, order in (
                ("TS_01_000_0.0.mrc", "TS_01", 0.0, 1), ("TS_01_039_-57.0.mrc.bz2", "TS_01", -57.0, 40),
                ("Position_12_003[-9.00]_2023_fractions.tiff", "Position_12", -9.0, 4),
                ("tomo2_-60.0_Mar07_10.11.12.tif", "tomo2", -60.0, 0), ("TS_006_4_-6.tif", "TS_006", -6.0, 5),
                ("tilt_3_+12.00.mrc", "tilt", 12.0, 4), ("TS_01_00_0.0.mrc", "TS_01", 0.0, 1),
                ("Position_1_2_001_3.00_20230101_12_15_11.eer", "Position_1_2", 3.0, 2),
                ("2021_07_12_ts1_001_3.00.tif", "2021_07_12_ts1", 3.0, 2), ("TS_01_0001_0.0.mrc", "TS_01", 0.0, 2)):
            found = parse_tilt_name(name)
            self.assertIsNotNone(found, name)
            self.assertEqual((series, angle, order), found[:3], name)
        for name, series, angle in (("tilt_3_+12.00.mrc", "tilt_3", 12.0), ("TS_01_-60.mrc", "TS_01", -60.0)):
            self.assertEqual((series, angle, 0), parse_tilt_name(name, ordered=False)[:3])
        for name in ("TS_006.st", "FoilHole_123_456.mrc", "IS002_291013_011.mrcs", "tomo_120.0.mrc"):
            self.assertIsNone(parse_tilt_name(name), name)

    def test_names_of_tables(self):
        for base, name in (("TS_01.mrc", "TS_01"), ("1-ts [2].mrc", "TS_1_ts2"), ("a__b", "a_b"), ("...", "series")):
            self.assertEqual(name, series_name(base))


class TestStarFiles(unittest.TestCase):

    def setUp(self):
        self.path = os.path.join(os.environ.get("TMPDIR", "/tmp"), "empiar-test-%d.star" % os.getpid())
        self.addCleanup(lambda: os.path.exists(self.path) and os.remove(self.path))

    def read(self, text):
        with open(self.path, "w") as stream:
            stream.write(text)
        return ParticleFile.read(self.path)

    def test_both_generations(self):
        for old in (False, True):
            found = self.read(kinds.particles_star(["a/x.mrcs", "b/y.mrcs"], 3, old=old))
            self.assertEqual(({"a/x.mrcs": 3, "b/y.mrcs": 3}, 6, 0 if old else 1), (
                {name: len(rows) for name, rows in found.rows.items()}, found.particles, len(found.optics)))

    def test_oddities(self):
        text = kinds.particles_star(["a/x.mrcs", "b/y.mrcs"], 3)
        self.assertEqual(6, self.read(text.replace("\n", "\r\n")).particles)
        self.assertEqual(6, self.read(text.replace("loop_", "loop_ \n# a comment\n")).particles)
        self.assertEqual(6, self.read(text.replace("opticsGroup1", "'optics group 1'")).particles)
        self.assertEqual(6, self.read(text + "\n\ndata_empty\n\nloop_\n_rlnNothing #1\n\n").particles)
        for broken in (text.replace("@", "-"), "", "<html>"):
            with self.assertRaises(BadImageError):
                self.read(broken)

    def test_a_million_rows(self):
        """In seconds, and in memory that has little to do with their number."""
        script = ("import sys\n"
                  "from empiardownloader.download.particles import ParticleFile\n"
                  "found = ParticleFile.read(sys.argv[1])\n"
                  "most = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
                  "print(found.particles, len(found.rows), int(most.split()[1]) / 1024)\n")
        rows = kinds.particles_star(["a/%04d.mrcs" % number for number in range(20)], 50).split("\n")
        head, body = rows[:-1001], rows[-1001:-1]
        with open(self.path, "w") as stream:
            stream.write("\n".join(head) + "\n")
            for _ in range(1000):
                stream.write("\n".join(body) + "\n")
        out = subprocess.run([sys.executable, "-c", script, self.path], stdout=subprocess.PIPE, text=True, check=True)
        particles, stacks, megabytes = map(float, out.stdout.split())
        self.assertEqual((1000000, 20), (particles, stacks))
        self.assertLess(megabytes, 100)


class TestMdocs(unittest.TestCase):

    def test_what_is_read(self):
        found = mdocs.parse_mdoc(kinds.mdoc(["a_%d.tif" % number for number in range(3)], (0, 3, -3)))
        self.assertEqual((1.5, 85.3), (found.pixel_size, found.axis))
        self.assertEqual([("a_0.tif", 0.0, 1, 3.0), ("a_1.tif", 3.0, 2, 3.0), ("a_2.tif", -3.0, 3, 3.0)],
                         [(tilt.file, tilt.angle, tilt.order, tilt.dose) for tilt in found.tilts])

    def test_the_time_tells_the_order(self):
        text = kinds.mdoc(["a", "b", "c"], (-3, 0, 3))
        text = text.replace("12:00:00", "13:00:00")
        self.assertEqual([3, 1, 2], [tilt.order for tilt in mdocs.parse_mdoc(text).tilts])

    def test_doses_in_other_words(self):
        text = kinds.mdoc(["a"], (0,))
        for words, dose in (("FrameDosesAndNumber = 0.5 6", 3.0), ("FrameDosesAndNumber = 0.5 4 0.25 4", 3.0),
                            ("DoseRate = 4.5\nExposureTime = 1.5", 3.0), ("ExposureDose = 0", None)):
            found = mdocs.parse_mdoc(text.replace("ExposureDose = 3", words))
            self.assertEqual(dose, found.tilts[0].dose, words)

    def test_what_is_none(self):
        for text in ("", "[FrameSet = 0]\nTiltAngle = 3\n", "<html>", "[ZValue = 0]\nStagePosition = 1 2\n"):
            with self.assertRaises(mdocs.BadMdocError):
                mdocs.parse_mdoc(text)


# The common cases run for each transport, not by themselves.
del KindLayouts, Layout
