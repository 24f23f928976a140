# SPDX-License-Identifier: GPL-3.0-or-later
"""The defocus of the demo's movies is found from our sets: pixel size and voltage have come through."""
import importlib.util
import unittest

import numpy as np

from empiardownloader.demo import entries, specimen
from empiardownloader.tests.downstream import programs
from empiardownloader.tests.downstream.case import DownstreamCase

REASON = programs.missing("motioncorr", "cistem")
OTHERS = "contrasttransferfunction"
TOLERANCE = 0.02        # of the defocus
ASTIGMATISM, ANGLE = 100, 10        # angstrom, degrees
COUNT = 4


class TestModel(unittest.TestCase):

    @unittest.skipIf(importlib.util.find_spec(OTHERS) is None, "not installed: %s (make downstream)" % OTHERS)
    def test_the_specimens_contrast_transfer_is_that_of_others(self):
        from contrasttransferfunction import ContrastTransferFunction
        side, pixel = 128, 0.85
        optics = specimen.Optics(13000, 11800, 35)
        theirs = ContrastTransferFunction(
            defocus1_angstroms=optics.defocus_u, defocus2_angstroms=optics.defocus_v,
            defocus_angle_degrees=optics.angle, pixel_size_angstroms=pixel, voltage_kv=optics.voltage,
            spherical_aberration_mm=optics.cs, amplitude_contrast=optics.amplitude_contrast)
        ky, kx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
        frequency = np.sqrt(kx ** 2 + ky ** 2)
        envelope = np.exp(-0.25 * specimen.ENVELOPE * (frequency / pixel) ** 2)
        wanted = theirs.evaluate(frequency=frequency, azimuth=np.arctan2(ky, kx + 0 * ky)) * envelope
        found = optics.transfer((side, side), pixel)
        # Their sign is that of dark particles.
        self.assertLess(min(np.abs(found - wanted).max(), np.abs(found + wanted).max()), 2e-3)


@unittest.skipIf(REASON, REASON)
class TestDefocus(DownstreamCase):
    PLUGINS = ("motioncorr", "cistem")

    @classmethod
    def fill(cls):
        records, emdb = entries.build(cls.root)
        cls.demo.entries.update(records)
        cls.demo.emdb.update(emdb)

    def test_movies_aligned_and_fitted_while_they_arrive(self):
        self.demo.rate = 700000
        run = self.new(entryId=entries.NUMBER, amountOfImages=COUNT, connections=1)
        run, aligned = self.aligned_from_the_first_movie_on(run)
        self.demo.rate = 0
        fitted = self.on("CistemProtCTFFind", {"inputMicrographs": (aligned, "outputMicrographs")}, lowRes=30.0,
                         highRes=4.0, minDefocus=5000.0, maxDefocus=25000.0, numberOfThreads=2)
        self.launch(fitted, wait=False)
        done = self.ended(fitted, 300)
        self.assertTrue(done.isFinished(), done.getErrorMessage())
        self.assertEqual(COUNT, done.outputCTF.getSize())
        # A fit does not tell these two.
        acquisition = aligned.outputMicrographs.getAcquisition()
        self.assertEqual((specimen.CS, specimen.AMPLITUDE_CONTRAST), (
            acquisition.getSphericalAberration(), acquisition.getAmplitudeContrast()))
        told = self.truth(entries.NUMBER)["movies"]
        for ctf in done.outputCTF.iterItems():
            truth = told[ctf.getMicrograph().getMicName().split(".")[0]]
            for name, found in (("defocus_u", ctf.getDefocusU()), ("defocus_v", ctf.getDefocusV())):
                self.assertAlmostEqual(1, found / truth[name], delta=TOLERANCE, msg=str(truth))
            self.assertAlmostEqual(truth["defocus_u"] - truth["defocus_v"], ctf.getDefocusU() - ctf.getDefocusV(),
                                   delta=ASTIGMATISM)
            turned = abs(ctf.getDefocusAngle() - truth["defocus_angle"]) % 180
            self.assertLess(min(turned, 180 - turned), ANGLE)
            self.measured.append("defocus %.0f, %.0f at %.0f; truth %.0f, %.0f at %.0f" % (
                ctf.getDefocusU(), ctf.getDefocusV(), (ctf.getDefocusAngle() + 90) % 180 - 90, truth["defocus_u"],
                truth["defocus_v"], truth["defocus_angle"]))


if __name__ == "__main__":
    unittest.main()
