# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of particles and tilt series that are continued: with more known, another form, or nothing changed."""
import os

from empiardownloader import constants
from empiardownloader.demo import faults, kinds, movies
from empiardownloader.tests.base import ProtocolTestCase, emdb, entry, image_set

PARTICLES = {"category": "picked particles - single frame - processed", "data_format": "MRCS", "directory": "data",
             "pixel_width": kinds.PIXEL_SIZE, "pixel_height": kinds.PIXEL_SIZE}
ANGLES = (0.0, 3.0, -3.0)
OPTICS = ((1, "group 1", "300.0", "2.7", "0.1", "1.0", 32, 2), (2, "b", "200.0", "2.0", "0.07", "2.0", 32, 2))


class AgainCase(ProtocolTestCase):

    @classmethod
    def fill(cls):
        cls.demo.emdb["EMD-0001"] = emdb()

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def go(self, number, **form):
        return self.finish(self.new(entryId=number, **dict({"allImages": True, "transport": constants.TRANSPORT_FTP},
                                                           **form)))

    def go_on(self, run, **changes):
        return self.finish(self.again(run, **changes))


class TestParticlesAgain(AgainCase):

    def stacks(self, number, count, star, each=4):
        for seed in range(count):
            kinds.write_stack(self.path(number, "data", "%d.mrcs" % seed), seed, each)
        if star:
            kinds.write_text(self.path(number, "data", "p.star"), star)
        self.demo.entries[number] = entry(image_set(**PARTICLES))

    def star(self, groups, each=4, **options):
        """Rows of stacks, the n-th row of each in the n-th of its optics groups."""
        rows = kinds.particle_rows(["job/%d.mrcs" % stack for stack in range(len(groups))], each)
        optics = kinds.star_table("optics", kinds.OPTICS_COLUMNS, [
            ["'%s'" % word if " " in str(word) else word for word in group] for group in OPTICS])
        return optics + kinds.star_table("particles", (*kinds.PARTICLE_COLUMNS, "rlnOpticsGroup"), [
            (*row, groups[place // each][place % each]) for place, row in enumerate(rows)])

    def told(self, run):
        return {(each.getSize(), each.getSamplingRate(), each.getAcquisition().getVoltage(),
                 each.getAcquisition().getSphericalAberration()) for _, each in run.iterOutputAttributes()}

    def test_optics_groups_stay_what_they_are(self):
        """Also in one stack, and when nothing has changed; a group's name may have a blank."""
        self.stacks("70001", 3, self.star([[1] * 4, [2] * 4, [1, 1, 1, 2]]))
        wanted = {(7, 1.0, 300.0, 2.7), (5, 2.0, 200.0, 2.0)}
        run = self.go("70001")
        self.assertEqual(wanted, self.told(run))
        self.assertEqual(wanted, self.told(self.go_on(run)))
        self.assertIn(" group_1 ", run.outputParticles.getAcquisition().opticsGroupInfo.get())
        shifts = {each.getSamplingRate(): each.getFirstItem().getTransform().getMatrix()[:3, 3].tolist()
                  for _, each in run.iterOutputAttributes()}
        run = self.go_on(run, samplingRate=4.0, voltage=120.0)
        self.assertEqual({(7, 4.0, 120.0, 2.7), (5, 4.0, 120.0, 2.0)}, self.told(run))
        for before, (_, each) in zip(sorted(shifts, key=lambda size: -[7, 5][int(size) - 1]), sorted(
                run.iterOutputAttributes(), key=lambda item: -item[1].getSize())):
            after = each.getFirstItem().getTransform().getMatrix()[:3, 3]
            for one, other in zip(shifts[before], after):
                self.assertAlmostEqual(one * before / 4.0, other, 4)

    def test_stacks_described_and_not(self):
        self.stacks("70002", 4, kinds.particles_star(["x/%d.mrcs" % number for number in range(4)], 4))
        run = self.go("70002", allImages=False, amountOfImages=2)
        run = self.go_on(run, allImages=True, companionFiles=False)
        self.assertEqual([(8, True), (8, False)], [(run.outputParticles.getSize(), run.outputParticles.hasCTF()),
                                                   (run.outputParticles2.getSize(), run.outputParticles2.hasCTF())])
        run = self.go("70002", allImages=False, amountOfImages=2, companionFiles=False)
        run = self.go_on(run, allImages=True, companionFiles=True)
        self.assertEqual([False, True], [run.outputParticles.hasCTF(), run.outputParticles2.hasCTF()])
        self.assertIn("2 stacks arrived before that was known", "\n".join(run.summary()))

    def test_rows_that_cannot_be_used(self):
        """A coordinate that is no number stays open, an image that its stack has not is left out and told."""
        lines = kinds.particles_star(["x/0.mrcs"], 6).split("\n")
        place = next(number for number, line in enumerate(lines) if line.startswith("000003@"))
        lines[place] = "  ".join(["nan" if number == 2 else word for number, word in enumerate(lines[place].split())])
        self.stacks("70003", 1, "\n".join(lines))
        run = self.go("70003")
        self.assertEqual([True, True, False, True], [particle.getCoordinate().getX() is not None
                                                     for particle in run.outputParticles.iterItems()])
        self.assertIn("2 particles are skipped: 0.mrcs has no more than 4 images", "\n".join(run.summary()))
        run = self.go_on(run)
        self.assertIn("2 particles are skipped", "\n".join(run.summary()))
        # All that the stack has is there: Continue has nothing to register.
        self.assertEqual({"0.mrcs"}, run.getSets().getRegisteredNames())

    def test_a_file_of_the_particles_that_nobody_has(self):
        self.stacks("70004", 1, None)
        self.assertIn('No file of EMPIAR-70004 matches the particle .star file "q*.star"', "\n".join(
            self.go("70004", particlesFile="q*.star").summary()))

    def test_what_the_star_said_stays_when_it_is_gone(self):
        self.stacks("70005", 2, kinds.particles_star(["x/0.mrcs", "x/1.mrcs"], 4, pixel_size=2.5))
        run = self.go("70005", allImages=False, amountOfImages=1)
        os.remove(self.extra(run, "p.star"))
        run = self.go_on(run, allImages=True)
        self.assertEqual([(8, 2.5)], [(each.getSize(), each.getSamplingRate())
                                      for _, each in run.iterOutputAttributes()])


class TestStacksAgain(AgainCase):

    def test_more_stacks(self):
        """Those that are registered stay as they are; a window that shows the summary does not lock the run out."""
        number = kinds.NUMBERS["tilt stacks"]
        self.demo.entries[number] = entry(kinds.build(self.root, "tilt stacks"))
        run = self.go(number, allImages=False, amountOfImages=1)
        prints = dict(run.readFacts().registered)
        for _ in range(2):
            self.assertIn("A synthetic data set", "\n".join(run.summary()))
            run = self.go_on(run, allImages=True)
            told = run.readFacts().registered
            self.assertEqual(prints, {name: told.get(name) for name in prints})
            self.assertLess(1, len(told))


class TestTiltsAgain(AgainCase):

    def series(self, number, *names, category="tilt series", frames=(3, 3, 3)):
        for name in names:
            files = kinds.tilt_names(name, ANGLES)
            for seed, file in enumerate(files):
                movies.write_movie(self.path(number, "data", "frames", file), seed, frames[seed], 32, 24)
            kinds.write_text(self.path(number, "data", "mdocs", name + ".mdoc"), kinds.mdoc(files, ANGLES))
        self.demo.entries[number] = entry(image_set(category=category, directory="data/frames", frames_per_image=3,
                                                    num_images_or_tilt_series=len(names), image_width="32",
                                                    image_height="24"))

    def tilts(self, run, name="TS_01"):
        """[(order, angle, dose, received by then, frames)] of a series, its axis, the set's voltage"""
        found = []
        for series in run.outputTiltSeriesM.iterItems():
            if series.getTsId() == name:
                found = sorted((tilt.getAcquisitionOrder(), tilt.getTiltAngle(),
                                tilt.getAcquisition().getDosePerFrame(), tilt.getAcquisition().getAccumDose(),
                                tilt.getFramesRange()[1]) for tilt in series.iterItems())
                return found, series.getAcquisition().getTiltAxisAngle(), series.getAcquisition().getVoltage()
        return found, None, None

    WHOLE = ([(1, 0.0, 3.0, 3.0, 3), (2, 3.0, 3.0, 6.0, 3), (3, -3.0, 3.0, 9.0, 3)], 85.3, 300.0)

    def test_a_series_without_dose_gets_none_of_another(self):
        """W1, R6: each series has an acquisition of its own, and series of one length are no mixture."""
        self.series("71009", "TS_01", "TS_02", "TS_03")
        path = self.path("71009", "data", "mdocs", "TS_02.mdoc")
        with open(path) as stream:
            text = stream.read()
        kinds.write_text(path, text.replace("ExposureDose = 3", "ExposureDose = 0").replace("85.3", "-94").replace(
            "Voltage = 300", "Voltage = 120"))
        run = self.go("71009")
        self.assertEqual({"TS_01": (3.0, 3.0, 9.0, 85.3), "TS_02": (None, None, None, -94.0),
                          "TS_03": (3.0, 3.0, 9.0, 85.3)}, {
            series.getTsId(): (series.getAcquisition().getDosePerFrame(),
                               series.getFirstItem().getAcquisition().getDosePerFrame(),
                               series.getAcquisition().getAccumDose(), series.getAcquisition().getTiltAxisAngle())
            for series in run.outputTiltSeriesM.iterItems()})
        self.assertFalse(run.outputTiltSeriesM.isHeterogeneousSet())
        self.assertEqual(3, run.outputTiltSeriesM.getAnglesCount())
        summary = "\n".join(run.summary())
        self.assertIn("3 e/Å² per tilt (the .mdoc files)", summary)
        self.assertIn("1 of 3 tilt series, like TS_02, have no dose: type it in", summary)
        self.assertIn("The .mdoc files give different voltages (120, 300 kV): each series has its own", summary)
        self.assertEqual([120, 300, 300], sorted(series.getAcquisition().getVoltage()
                                                 for series in run.outputTiltSeriesM.iterItems()))
        self.assertIn("300 kV by the .mdoc files, but 200 kV by EMD-0001: the first is used",
                      summary)

    def test_more_series_and_an_unchanged_form(self):
        """The microscope of all of them is known to the end."""
        self.series("71001", "TS_01", "TS_02", "TS_03")
        run = self.go("71001", allImages=False, amountOfImages=1)
        for amount in (2, 2, 3):
            run = self.go_on(run, amountOfImages=amount)
            self.assertEqual(amount, run.outputTiltSeriesM.getSize())
        for name in ("TS_01", "TS_02", "TS_03"):
            self.assertEqual(self.WHOLE, self.tilts(run, name))

    def test_a_tilt_that_comes_late(self):
        self.series("71002", "TS_01")
        self.demo.add_fault(faults.PROHIBITED, "*TS_01_001*")
        run = self.go("71002")
        self.assertEqual([(1, 0.0, 3.0, 3.0, 3), (3, -3.0, 3.0, 9.0, 3)], self.tilts(run)[0])
        self.assertIn("TS_01 is without 1 of its 3 tilts", "\n".join(run.summary()))
        self.demo.clear_faults()
        run = self.go_on(run)
        self.assertEqual(self.WHOLE, self.tilts(run))
        self.assertEqual((3, 1), (run.outputMovies.getSize(), run.outputTiltSeriesM.getSize()))
        self.assertNotIn("is without", "\n".join(run.summary()))

    def test_what_describes_them_comes_late(self):
        self.series("71003", "TS_01")
        self.demo.add_fault(faults.PROHIBITED, "*TS_01.mdoc")
        run = self.go("71003")
        self.assertIsNone(self.tilts(run)[1])
        self.assertIn("TS_01.mdoc could not be read", "\n".join(run.summary()))
        self.demo.clear_faults()
        self.assertEqual(self.WHOLE, self.tilts(self.go_on(run)))

    def test_the_gain_reference_of_a_project_that_was_moved(self):
        """Its path is an absolute one, in the set of movies and in that of series; Continue writes both anew."""
        self.series("71010", "TS_01", "TS_02")
        movies.write_gain(self.path("71010", "data", "frames", "gain.mrc"), 1, 32, 24)
        run = self.go("71010", allImages=False, amountOfImages=1)
        right = os.path.join(self.proj.getPath(), run._getExtraPath("gain.mrc"))
        for name in ("outputMovies", "outputTiltSeriesM"):
            images = getattr(run, name)
            self.assertEqual(right, images.getGain(), name)
            images.setGain("/elsewhere" + right)
            images.write()
            run._store(images)
            images.close()
        run = self.go_on(run, amountOfImages=2)
        self.assertEqual([right] * 2, [run.outputMovies.getGain(), run.outputTiltSeriesM.getGain()])
        self.assertEqual(2, run.outputTiltSeriesM.getSize())
        self.assertEqual(self.WHOLE, self.tilts(run))

    def test_movies_that_are_tilts_wait_for_their_series(self):
        self.series("71004", "TS_01", "TS_02", category="micrographs - multiframe")
        run = self.go("71004", allImages=False, amountOfImages=2)
        self.assertEqual((2, False), (run.outputMovies.getSize(), hasattr(run, "outputTiltSeriesM")))
        run = self.go_on(run, allImages=True)
        self.assertEqual((6, 2), (run.outputMovies.getSize(), run.outputTiltSeriesM.getSize()))
        self.assertEqual(self.WHOLE, self.tilts(run))

    def test_another_form_and_other_frames(self):
        self.series("71005", "TS_01", frames=(6, 3, 3))
        run = self.go("71005", dosePerFrame=0.5)
        self.assertEqual([(1, 0.0, 3.0, 3.0, 6), (2, 3.0, 1.5, 3.0, 3), (3, -3.0, 1.5, 4.5, 3)], self.tilts(run)[0])
        run = self.go_on(run, dosePerFrame=1.0, samplingRate=4.0)
        self.assertEqual(4.0, run.outputTiltSeriesM.getSamplingRate())
        self.assertEqual([6.0, 3.0, 3.0], [tilt[2] for tilt in self.tilts(run)[0]])
