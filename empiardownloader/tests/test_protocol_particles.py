# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of particles whose .star file says more than the archives: the set has what it says, and the summary says so."""
import os

import numpy as np
from pwem.constants import ALIGN_2D

from empiardownloader.demo import kinds
from empiardownloader.tests.base import entry, image_set
from empiardownloader.tests.scipion_files import execute
from empiardownloader.tests.test_protocol_kinds_again import PARTICLES, AgainCase

COLUMNS = ("rlnImageName", "rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnDefocusU", "rlnDefocusV",
           "rlnDefocusAngle", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst",
           "rlnOpticsGroup")
OPTICS = ("rlnOpticsGroup", "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnImagePixelSize")


class TestWhatTheStarSays(AgainCase):

    def put(self, number, rows, optics, columns=OPTICS, stacks=1):
        for seed in range(stacks):
            kinds.write_stack(self.path(number, "data", "%d.mrcs" % seed), seed, 4)
        text = kinds.star_table("optics", columns, optics) + kinds.star_table("particles", COLUMNS, rows)
        kinds.write_text(self.path(number, "data", "p.star"), text)
        self.demo.entries[number] = entry(image_set(**PARTICLES))

    @staticmethod
    def row(index, group=1, stack=0, rot=10.0, micrograph="m1.mrc", x=200.0):
        return ("%d@job/%d.mrcs" % (index, stack), "MotionCorr/" + micrograph, x, 400.0, 15000.0, 14000.0, 45.0, rot,
                20.0, 30.0, 3.0, -3.0, group)

    def views(self, particles):
        """(image, its rotation matrix) of each particle."""
        return [(particle.getIndex(), tuple(particle.getTransform().getMatrix()[:3, :3].round(4).ravel()))
                for particle in particles.iterItems()]

    def test_amplitude_contrast_and_cs(self):
        """P1: a default of the form stands in front of no file, and the summary says what the set has."""
        self.put("71001", [self.row(index) for index in (1, 2)], [(1, 200.0, 2.0, 0.07, 1.5)])
        run = self.go("71001")
        acquisition = run.outputParticles.getAcquisition()
        item = run.outputParticles.getFirstItem().getAcquisition()
        for its in (acquisition, item):
            self.assertEqual((200.0, 2.0, 0.07), (its.getVoltage(), its.getSphericalAberration(),
                                                  its.getAmplitudeContrast()))
        summary = "\n".join(run.summary())
        self.assertIn("Acquisition: 1.5 Å/px, 200 kV, Cs 2 mm, amplitude contrast 0.07 (p.star)", summary)
        run = self.go_on(run, amplitudeContrast=0.1)
        self.assertEqual(0.1, run.outputParticles.getAcquisition().getAmplitudeContrast())
        self.assertIn("amplitude contrast 0.1 (the form)", "\n".join(run.summary()))

    def test_a_symmetry_expanded_image_keeps_its_copies(self):
        """P2: also when the form has changed: three particles of one image, each with its own angles."""
        rots = (10.0, 130.0, 250.0)
        self.put("71002", [self.row(index, rot=rot) for index in (1, 2) for rot in rots], [(1, 300.0, 2.7, 0.1, 1.5)])
        run = self.go("71002")
        first = self.views(run.outputParticles)
        self.assertEqual(3, len({view for _, view in first}))
        run = self.go_on(run, samplingRate=3.0)
        self.assertEqual(first, self.views(run.outputParticles))
        shift = np.linalg.inv(run.outputParticles.getFirstItem().getTransform().getMatrix())[0, 3]
        self.assertAlmostEqual(-1.0, float(shift))
        self.assertEqual(3.0, run.outputParticles.getSamplingRate())

    def test_refined_optics_make_one_set(self):
        """P6: six groups with a Cs each; every particle has its own."""
        cs = [2.6 + number / 100 for number in range(6)]
        self.put("71003", [self.row(1 + number % 4, group="%d.000000" % (number + 1), stack=number // 4)
                           for number in range(6)],
                 [(number + 1, 300.0, value, 0.1, 1.5) for number, value in enumerate(cs)], stacks=2)
        run = self.go("71003")
        self.assertEqual(["outputParticles"], [name for name, _ in run.iterOutputAttributes()])
        self.assertEqual(cs, sorted(round(particle.getAcquisition().getSphericalAberration(), 2)
                                    for particle in run.outputParticles.iterItems()))
        run = self.go_on(run, amplitudeContrast=0.07)
        self.assertEqual(cs, sorted(round(particle.getAcquisition().getSphericalAberration(), 2)
                                    for particle in run.outputParticles.iterItems()))
        self.assertEqual({0.07}, {particle.getAcquisition().getAmplitudeContrast()
                                  for particle in run.outputParticles.iterItems()})

    def test_pixel_sizes_that_hardly_differ(self):
        """They are one set's, also where one stack has both."""
        self.put("71019", [self.row(index, group=1 + index % 2) for index in (1, 2, 3, 4)],
                 [(1, 300.0, 2.7, 0.1, 1.5), (2, 300.0, 2.7, 0.1, 1.50005)])
        run = self.go("71019")
        self.assertEqual(["outputParticles"], [name for name, _ in run.iterOutputAttributes()])
        self.assertEqual([1, 2, 3, 4], sorted(particle.getIndex() for particle in run.outputParticles.iterItems()))
        self.assertEqual(4, self.go_on(run).outputParticles.getSize())

    def test_killed_before_the_second_set_of_a_stack(self):
        """What the first set has is not all of it."""
        self.put("71024", [self.row(index, group=1 + index % 2) for index in (1, 2, 3, 4)],
                 [(1, 300.0, 2.7, 0.1, 1.5), (2, 300.0, 2.7, 0.1, 3.0)])
        run = self.go("71024")
        both = [[1, 3], [2, 4]]
        self.assertEqual(both, [[particle.getIndex() for particle in output.iterItems()]
                                for output in (run.outputParticles, run.outputParticles2)])
        # As a kill leaves it after the first set was stored: the second one's file is there, and nobody knows of it.
        path = os.path.join(self.proj.getPath(), run.outputParticles2.getFileName())
        execute(path, ["DELETE FROM Objects"], ["DELETE FROM Properties"])
        for database in (os.path.join(self.proj.getPath(), run.getDbPath()), self.proj.getDbPath()):
            execute(database, ["DELETE FROM Objects WHERE name LIKE '%.outputParticles2' OR name LIKE ?",
                               "%%.%d.%%" % run.outputParticles2.getObjId()])
        run = self.go_on(run)
        self.assertEqual(both, [[particle.getIndex() for particle in output.iterItems()]
                                for _, output in run.iterOutputAttributes()])

    def test_continued_with_another_entry(self):
        """The first one had no images. Until the archive has told of the other, its kind is not known."""
        self.demo.entries["71022"] = entry(image_set())
        self.put("71023", [self.row(index) for index in (1, 2)], [(1, 300.0, 2.7, 0.1, 1.5)])
        run = self.new(entryId="71022", allImages=True, downloadGain=False)
        self.launch(run)
        self.assertTrue(self.fresh(run).isFailed())
        self.demo.delay = 4
        self.addCleanup(setattr, self.demo, "delay", 0.0)
        run = self.go_on(run, entryId="71023")
        self.assertEqual(["outputParticles"], [name for name, _ in run.iterOutputAttributes()])
        self.assertEqual(2, run.outputParticles.getSize())

    def test_two_tables_of_optics_make_two_sets(self):
        """The number of an optics group means what its own file's table says."""
        for name, contrast in (("p", 0.07), ("q", 0.1)):
            stack = "pq".index(name)
            kinds.write_stack(self.path("71006", "data", "%d.mrcs" % stack), stack, 4)
            text = kinds.star_table("optics", OPTICS, [(1, 300.0, 2.7, contrast, 1.5)]) + kinds.star_table(
                "particles", COLUMNS, [self.row(index, stack=stack) for index in (1, 2)])
            kinds.write_text(self.path("71006", "data", name + ".star"), text)
        self.demo.entries["71006"] = entry(image_set(**PARTICLES))
        run = self.go("71006")
        self.assertEqual([(2, 0.07), (2, 0.1)], sorted(
            (output.getSize(), output.getAcquisition().getAmplitudeContrast())
            for _, output in run.iterOutputAttributes()))

    def test_copies_of_an_image_in_two_groups(self):
        """A changed form gives each its own group's values again."""
        self.put("71007", [self.row(1, group=group) for group in (1, 2)],
                 [(1, 300.0, 2.7, 0.1, 1.5), (2, 300.0, 2.6, 0.1, 1.5)])
        run = self.go("71007")
        run = self.go_on(run, amplitudeContrast=0.07)
        self.assertEqual([2.6, 2.7], sorted(round(particle.getAcquisition().getSphericalAberration(), 2)
                                            for particle in run.outputParticles.iterItems()))
        self.assertIn("each particle has its own group's", "\n".join(run.summary()))

    def test_values_that_cannot_be(self):
        """A template that nobody filled in: the archives are asked instead."""
        self.put("71008", [self.row(1)], [(1, 0.0, -1.0, 7.0, 0.0)])
        acquisition = self.go("71008").outputParticles.getAcquisition()
        self.assertEqual((0.1, True), (acquisition.getAmplitudeContrast(), acquisition.getVoltage() > 0))
        self.assertGreaterEqual(acquisition.getSphericalAberration(), 0)

    def test_angles_in_the_plane_alone(self):
        """A .star of class averaging has columns for all three angles, two of them zero."""
        row = list(self.row(1))
        row[7] = row[8] = 0.0
        self.put("71009", [row], [(1, 300.0, 2.7, 0.1, 1.5)])
        self.assertEqual(ALIGN_2D, self.go("71009").outputParticles.getAlignment())

    def test_micrographs_and_coordinates(self):
        """R4, R5: Scipion's coordinates are in pixels of the particles, and a micrograph has a number."""
        self.put("71004", [self.row(1), self.row(2, micrograph="m2.mrc"), self.row(3)],
                 [(1, 300.0, 2.7, 0.1, 4.0, 1.0)], (*OPTICS, "rlnMicrographPixelSize"))
        run = self.go("71004")
        found = [(particle.getMicId(), particle.getCoordinate().getMicId(), particle.getCoordinate().getMicName(),
                  particle.getCoordinate().getX(), particle.getCoordinate().getY())
                 for particle in run.outputParticles.iterItems()]
        self.assertEqual([(1, 1, "m1.mrc", 50, 100), (2, 2, "m2.mrc", 50, 100), (1, 1, "m1.mrc", 50, 100)], found)
        # What RELION reads beside them agrees.
        optics = run.outputParticles.getAcquisition().opticsGroupInfo.get().split()
        self.assertEqual(("4.0", "4"), (optics[-2], optics[-1]))
        self.assertIn("_rlnMicrographPixelSize", optics)
        run = self.go_on(run, samplingRate=2.0)
        # The .star file's own pixel sizes tell how the two are to one another, whatever they are.
        self.assertEqual([(1, 50, 100)], [(its.getMicId(), its.getCoordinate().getX(), its.getCoordinate().getY())
                                           for its in run.outputParticles.iterItems()][:1])

    def test_rows_that_are_not_believed(self):
        """P4, P5, P7: they are left out and said, the others are there."""
        bad = [("nan" if place == 4 else word) for place, word in enumerate(self.row(2))]
        blank = [("my mic.mrc" if place == 1 else word) for place, word in enumerate(self.row(3))]
        self.put("71005", [self.row(1), bad, blank, (9,), self.row(4)], [(1, 300.0, 2.7, 0.1, 1.5)])
        run = self.go("71005")
        self.assertEqual([1, 4], [particle.getIndex() for particle in run.outputParticles.iterItems()])
        self.assertTrue(all(particle.getCTF().getDefocusU() == 15000 for particle in run.outputParticles.iterItems()))
        summary = "\n".join(run.summary())
        self.assertIn("1 particles of data/p.star are skipped: their rlnDefocusU is no number", summary)
        self.assertIn("2 particles of data/p.star are skipped: they have not one value for each of the 13 columns",
                      summary)
