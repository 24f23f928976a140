# SPDX-License-Identifier: GPL-3.0-or-later
"""What other protocols make of our outputs, while they grow and afterwards."""
import os
import unittest

from pwem.protocols import ProtExtractCoords, ProtImportMicrographs, ProtOrigSampling, ProtSubSet

from empiardownloader.demo import kinds
from empiardownloader.protocols.outputs import hasTomo
from empiardownloader.tests.test_protocol_kinds import KindsCase

if hasTomo():
    from tomo.protocols import ProtComposeTS, ProtInvertTiltAngles, ProtSplitEvenOddTomoSet


class TestDownstream(KindsCase):

    def download(self, kind, **form):
        return self.finish(self.new(entryId=kinds.NUMBERS[kind], allImages=True, **form))

    def run_on(self, protocolClass, pointers, **form):
        return self.finish(self.on(protocolClass, pointers, **form))

    def test_pwem(self):
        particles, micrographs = self.download("particles"), self.download("micrographs")
        volumes = self.download("volumes")
        for run, output, count in ((particles, "outputParticles", 20), (micrographs, "outputMicrographs", 3),
                                   (volumes, "outputVolumes", 2)):
            subset = self.run_on(ProtSubSet, {"inputFullSet": (run, output)}, chooseAtRandom=True, nElements=count)
            made = [made for _, made in subset.iterOutputAttributes()]
            self.assertEqual([count], [each.getSize() for each in made])
            self.assertEqual(getattr(run, output).getClassName(), made[0].getClassName())
        one = self.run_on(ProtOrigSampling, {"inVolume": (volumes, "outputVolumes.1")}, setSampling=True,
                          samplingRate=2.0)
        self.assertEqual(2.0, next(made for _, made in one.iterOutputAttributes()).getSamplingRate())

    def test_coordinates_of_particles(self):
        """Of particles and the micrographs that they were picked in, by their names."""
        folder = os.path.join(self.root, "90003", "data", "Micrographs")
        for number in range(kinds.STACKS):
            kinds.write_stack(os.path.join(folder, "%03d_particles.mrc" % (number + 1)), number, 1, 128, 96)
        particles = self.download("particles")
        imported = self.run_on(ProtImportMicrographs, {}, filesPath=folder, filesPattern="*.mrc", samplingRate=1.5)
        extracted = self.run_on(ProtExtractCoords, {"inputParticles": (particles, "outputParticles"),
                                                    "inputMicrographs": (imported, "outputMicrographs")})
        coordinates = next(made for _, made in extracted.iterOutputAttributes())
        self.assertEqual(particles.outputParticles.getSize(), coordinates.getSize())

    @unittest.skipUnless(hasTomo(), "scipion-em-tomo is not installed")
    def test_tomo(self):
        stacks, subtomograms = self.download("tilt stacks"), self.download("subtomograms")
        inverted = self.run_on(ProtInvertTiltAngles, {"inTsSet": (stacks, "outputTiltSeries")})
        made = next(made for _, made in inverted.iterOutputAttributes())
        self.assertEqual(2, made.getSize())
        split = self.run_on(ProtSplitEvenOddTomoSet, {"inputSet": (subtomograms, "outputSubTomograms")})
        self.assertEqual([2, 2], [made.getSize() for _, made in split.iterOutputAttributes()])

    @unittest.skipUnless(hasTomo(), "scipion-em-tomo is not installed")
    def test_tilt_series_are_composed_while_they_arrive(self):
        """By the names of our micrographs and our .mdoc files."""
        self.demo.rate = 20 << 10
        run = self.new(entryId=kinds.NUMBERS["tilt images"], allImages=True, connections=2)
        self.launch(run, wait=False)
        fresh = self.wait_for(lambda: self.fresh(run) if hasattr(self.fresh(run), "outputMicrographs") else None, 90,
                              "the first micrographs")
        composed = self.on(ProtComposeTS, {"inputMicrographs": (fresh, "outputMicrographs")},
                               filesPath=run._getExtraPath("mdocs"), time4NextTilt="20s")
        self.launch(composed, wait=False)
        self.assertTrue(self.fresh(run).outputMicrographs.isStreamOpen())
        self.demo.rate = 0
        composed = self.ended(composed, 300)
        self.assertTrue(composed.isFinished(), composed.getErrorMessage())
        made = composed.tiltSeries
        self.assertEqual(set(kinds.SERIES), set(made.getTSIds()))
        for series in made.iterItems():
            tilts = [tilt.clone() for tilt in series.iterItems()]
            self.assertEqual(sorted(kinds.ANGLES), [tilt.getTiltAngle() for tilt in tilts])
            self.assertEqual(kinds.DOSE_PER_TILT * len(tilts), max(tilt.getAcquisition().getAccumDose()
                                                                   for tilt in tilts))
