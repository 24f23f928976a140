# SPDX-License-Identifier: GPL-3.0-or-later
"""Particles with what their .star file says of them, in RELION: rows, reconstruction, classes."""
import glob
import os
import unittest

import numpy as np

from empiardownloader.demo import kinds, specimen
from empiardownloader.images.star import read_rows, split_image
from empiardownloader.tests.downstream import programs
from empiardownloader.tests.downstream.case import DownstreamCase
from empiardownloader.tests.downstream.standins import read_mrc

REASON = programs.missing("relion", relion=True)
NUMBER = kinds.NUMBERS["particles"]
COUNT = kinds.STACKS * kinds.PARTICLES_A_STACK
RESOLUTION = 8.0        # angstrom, to which 120 noisy particles are compared
# What the two files have to agree on: label -> how far apart two numbers may be. Scipion's coordinates are whole.
ALIKE = {"rlnCoordinateX": 0.5, "rlnCoordinateY": 0.5, "rlnDefocusU": 0.1, "rlnDefocusV": 0.1, "rlnDefocusAngle": 0.01,
         "rlnAngleRot": 0.01, "rlnAngleTilt": 0.01, "rlnAnglePsi": 0.01, "rlnOriginXAngst": 1e-3,
         "rlnOriginYAngst": 1e-3}


def rows_of(path, columns=tuple(ALIKE)):
    """{(number in the stack, its file name): the values of some columns} of a .star file's particles."""
    found = {}
    for table, _, words in read_rows(path):
        if table.name == "particles":
            row = table.row(words)
            index, stack = split_image(row["rlnImageName"])
            # Local names have the folder in front.
            found[index, os.path.basename(stack)[-len("001_particles.mrcs"):]] = {
                label: float(row[label]) for label in columns}
    return found


@unittest.skipIf(REASON, REASON)
class TestRelion(DownstreamCase):
    PLUGINS = ("relion",)
    RELION = True

    @classmethod
    def fill(cls):
        cls.demo.entries[NUMBER] = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        from empiardownloader.demo import entries
        records, emdb = entries.build(cls.root, "particles")
        cls.demo.entries.update(records)
        cls.demo.emdb.update(emdb)

    def setUp(self):
        super().setUp()
        self.run_of_all = self.finish(self.new(entryId=NUMBER, allImages=True))

    def on_particles(self, name, **form):
        return self.finish(self.on(name, {"inputParticles": (self.run_of_all, "outputParticles")}, **form))

    def test_exported_rows_are_the_archives(self):
        exported = self.on_particles("ProtRelionExportParticles", stackType=0)
        star, = glob.glob(exported._getPath("Export", "*.star"))
        wanted = rows_of(os.path.join(self.root, NUMBER, "data", "Particles", "shiny_2sets.star"))
        found = rows_of(star)
        self.assertEqual(COUNT, len(wanted))
        self.assertEqual(set(wanted), set(found))
        for key, row in wanted.items():
            for label, tolerance in ALIKE.items():
                self.assertAlmostEqual(row[label], found[key][label], delta=tolerance, msg="%s of %s" % (label, key))
        optics = {label: value for table, _, words in read_rows(star) if table.name == "optics"
                  for label, value in table.row(words).items()}
        self.assertEqual((300.0, kinds.CS, kinds.AMPLITUDE_CONTRAST, kinds.PIXEL_SIZE), tuple(
            float(optics[label]) for label in ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast",
                                               "rlnImagePixelSize")))
        self.measured.append("export: %d rows equal in %s" % (COUNT, ", ".join(ALIKE)))

    def test_a_reconstruction_is_the_phantom_and_not_its_mirror_image(self):
        done = self.on_particles("ProtRelionReconstruct", doCTF=True)
        volume = read_mrc(done.outputVolume.getFileName())[0]
        truth = specimen.volume(specimen.phantom(), kinds.BOX, kinds.PIXEL_SIZE)
        places = np.arange(kinds.BOX) - kinds.BOX // 2
        inside = (places[:, None, None] ** 2 + places[None, :, None] ** 2 + places[None, None, :] ** 2) < 13 ** 2

        frequency = np.fft.fftfreq(kinds.BOX, kinds.PIXEL_SIZE)
        seen = (frequency[:, None, None] ** 2 + frequency[None, :, None] ** 2 + frequency[None, None, :] ** 2
                ) < 1 / RESOLUTION ** 2

        def alike(one, other):
            one, other = [np.fft.ifftn(np.fft.fftn(each) * seen).real[inside] for each in (one, other)]
            return np.corrcoef(one, other)[0, 1]

        right, mirrored = alike(volume, truth), alike(volume, np.roll(truth[:, :, ::-1], 1, axis=2))
        self.assertGreater(right, 0.8)
        self.assertGreater(right, mirrored + 0.1)
        self.measured.append("reconstruction: correlates %.2f with the phantom, %.2f with its mirror image" % (
            right, mirrored))

    def test_classes(self):
        done = self.on_particles("ProtRelionClassify2D", numberOfClasses=2, useGradientAlg=False, numberOfIterations=4,
                                 doGpu=False, maskDiameterA=44, numberOfMpi=1, numberOfThreads=2)
        total = 0
        for each in done.outputClasses.iterItems():
            total += each.getSize()
            stack = read_mrc(each.getRepresentative().getFileName().replace(":mrcs", ""))[0]
            image = stack[each.getRepresentative().getIndex() - 1]
            middle = image[10:22, 10:22].mean() - image[:4].mean()
            # A particle in the middle, bright.
            self.assertGreater(middle, 2 * image[:4].std(), each)
            self.measured.append("2D class of %d: %.1f sigma in the middle" % (
                each.getSize(), middle / image[:4].std()))
        self.assertEqual(COUNT, total)


if __name__ == "__main__":
    unittest.main()
