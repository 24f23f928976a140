# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilt series on their way to tomograms: angles, order, axis, dose and sign are right where gold beads lie right."""
import glob
import os
import tempfile
import unittest

import numpy as np
import pyworkflow as pw

from empiardownloader.demo import kinds
from empiardownloader.images.star import read_rows
from empiardownloader.tests.base import entry, image_set
from empiardownloader.tests.downstream import programs
from empiardownloader.tests.downstream.case import DownstreamCase
from empiardownloader.tests.downstream.standins import read_mrc

REASON = programs.missing("tomo", "motioncorr", "aretomo", "imod")
# Dose-symmetric, as most series are: the order is not that of the angles.
ANGLES = tuple(float(angle) for step in range(0, 55, 9) for angle in ((step, -step) if step else (0,)))
MOVIES, UPRIGHT, STACKS = "92001", "92002", "92003"
SERIES = ("TS_1", "TS_2")
THICKNESS = 60          # pixels; the slab has 40


def fields(series=1):
    return {"category": "tilt series", "directory": "data", "num_images_or_tilt_series": series,
            "pixel_width": kinds.PIXEL_SIZE, "pixel_height": kinds.PIXEL_SIZE, "image_width": str(kinds.WIDTH),
            "image_height": str(kinds.HEIGHT), "frames_per_image": kinds.FRAMES}


def smooth(volume):
    """As coarse as a bead is large."""
    spectrum = np.fft.fftn(volume)
    for axis, size in enumerate(volume.shape):
        shape = [1, 1, 1]
        shape[axis] = size
        spectrum *= np.exp(-60 * np.fft.fftfreq(size) ** 2).reshape(shape)
    return np.fft.ifftn(spectrum).real


@unittest.skipIf(REASON, REASON)
class TestTilts(DownstreamCase):
    PLUGINS = ("tomo", "motioncorr", "aretomo", "imod")

    @classmethod
    def fill(cls):
        kinds.write_tilt_series(os.path.join(cls.root, MOVIES, "data"), 4, angles=ANGLES, series=SERIES)
        cls.demo.entries[MOVIES] = entry(image_set(**fields(len(SERIES))))
        # Its axis is the images' y, as IMOD's tilt wants it.
        kinds.write_tilt_series(os.path.join(cls.root, UPRIGHT, "data"), 4, angles=ANGLES, series=SERIES[:1], axis=0.0)
        cls.demo.entries[UPRIGHT] = entry(image_set(**fields()))
        data = os.path.join(cls.root, STACKS, "data")
        told = {"TS_1": kinds.write_tilt_stack(os.path.join(data, "TS_1.st"), 0, sorted(ANGLES))}
        kinds.write_text(os.path.join(data, "TS_1.st.mdoc"), kinds.mdoc(
            [""] * len(ANGLES), ANGLES, image_file="TS_1.st", places=[sorted(ANGLES).index(each) for each in ANGLES]))
        kinds.write_truth(os.path.join(cls.root, STACKS), {"series": told})
        cls.demo.entries[STACKS] = entry(image_set(**fields()))

    def check_beads(self, number, series, tomogram):
        """Gold is dark where the truth has it, and not at the other side of the slab, nor at the mirror image."""
        volume = smooth(read_mrc(tomogram.getFileName())[0])
        beads = np.array(self.truth(number)["series"][series]["beads"]) / kinds.PIXEL_SIZE

        def depth(places):
            at = [tuple(round(size // 2 + shift) for size, shift in zip(volume.shape, (z, y, x))) for x, y, z in places]
            return (volume.mean() - np.mean([volume[place] for place in at])) / volume.std()

        right = depth(beads)
        others = {"upside down": depth(beads * (1, 1, -1)), "mirrored in x": depth(beads * (-1, 1, 1)),
                  "mirrored in y": depth(beads * (1, -1, 1)), "turned": depth(beads * (-1, -1, 1))}
        self.assertGreater(right, 6, (right, others))
        self.assertLess(max(others.values()), right / 2, others)
        self.measured.append("%s of %s: gold %.1f sigma deep where it is, at most %.1f elsewhere" % (
            series, number, right, max(others.values())))

    def check_series(self, tilt_series, number, series):
        told = self.truth(number)["series"][series]
        tilts = [tilt.clone() for tilt in tilt_series.iterItems()]
        order = {tilt.getAcquisitionOrder(): tilt.getTiltAngle() for tilt in tilts}
        self.assertEqual(dict(enumerate(ANGLES, 1)), order)
        for tilt in tilts:
            self.assertAlmostEqual(kinds.DOSE_PER_TILT * tilt.getAcquisitionOrder(),
                                   tilt.getAcquisition().getAccumDose(), places=3)
        self.assertAlmostEqual(told["axis"], tilt_series.getAcquisition().getTiltAxisAngle(), places=2)

    def test_movies_to_tomograms_while_they_arrive(self):
        self.demo.rate = 120 << 10
        run = self.new(entryId=MOVIES, allImages=True, connections=2)
        run, aligned = self.aligned_from_the_first_movie_on(run)
        composed = self.on("ProtComposeTS", {"inputMicrographs": (aligned, "outputMicrographs")},
                           filesPath=run._getExtraPath("mdocs"), time4NextTilt="20s")
        self.launch(composed, wait=False)
        self.demo.rate = 0
        self.assertTrue(self.ended(run, 200).isFinished())
        composed = self.ended(composed, 300)
        self.assertTrue(composed.isFinished(), composed.getErrorMessage())
        for each in composed.tiltSeries.iterItems():
            self.check_series(each, MOVIES, each.getTsId())
        tomograms = self.finish(self.on("ProtAreTomoAlignRecon", {"inputSetOfTiltSeries": (composed, "tiltSeries")},
                                        makeTomo=True, tomoThickness=THICKNESS, alignZ=40, binFactor=1)).Tomograms
        self.assertEqual(set(SERIES), {each.getTsId() for each in tomograms.iterItems()})
        for each in tomograms.iterItems():
            self.check_beads(MOVIES, each.getTsId(), each)

    def test_whole_series_of_movies(self):
        """outputTiltSeriesM, as tomo's own import gives it."""
        run = self.finish(self.new(entryId=UPRIGHT, allImages=True))
        aligned = self.finish(self.on("ProtTsMotionCorr", {"inputTiltSeriesM": (run, "outputTiltSeriesM")},
                                      patchX=0, patchY=0))
        each = aligned.tiltSeries.getFirstItem()
        self.assertEqual([kinds.DOSE_PER_TILT * place for place in range(1, len(ANGLES) + 1)], sorted(
            tilt.getAcquisition().getAccumDose() for tilt in each.iterItems()))
        self.assertEqual(len(ANGLES), len(self.calls("MotionCor3")))
        tomograms = self.finish(self.on("ProtImodTomoReconstruction", {"inputSetOfTiltSeries": (aligned, "tiltSeries")},
                                        tomoThickness=THICKNESS, useGpu=False)).Tomograms
        self.check_beads(UPRIGHT, "TS_1", tomograms.getFirstItem())

    @unittest.skipIf(programs.missing("reliontomo"), programs.missing("reliontomo"))
    def test_what_relion_5_would_read(self):
        """Its protocols want RELION 5; what scipion-em-reliontomo writes for it can be looked at."""
        run = self.finish(self.new(entryId=UPRIGHT, allImages=True))
        convert = pw.Config.getDomain().importFromPlugin("reliontomo.convert", doRaise=True).convert50_tomo
        folder = tempfile.mkdtemp(dir=self.proj.getPath())
        os.makedirs(os.path.join(folder, "frames"))
        convert.Writer().tsMSet2Star(run.outputTiltSeriesM, folder)
        rows = [(float(row["rlnTomoNominalStageTiltAngle"]), float(row["rlnMicrographPreExposure"]),
                 float(row["rlnTomoNominalTiltAxisAngle"]), os.path.join(folder, row["rlnMicrographMovieName"]))
                for path in glob.glob(os.path.join(folder, "*TS_1*.star"))
                for row in (table.row(words) for table, _, words in read_rows(path))]
        self.assertEqual([(angle, kinds.DOSE_PER_TILT * place, 0.0) for place, angle in enumerate(ANGLES)],
                         [row[:3] for row in rows])
        for row in rows:
            self.assertTrue(os.path.exists(row[3]), row[3])

    def test_stacks(self):
        run = self.finish(self.new(entryId=STACKS, allImages=True))
        self.check_series(run.outputTiltSeries.getFirstItem(), STACKS, "TS_1")
        tomograms = self.finish(self.on("ProtAreTomoAlignRecon", {"inputSetOfTiltSeries": (run, "outputTiltSeries")},
                                        makeTomo=True, tomoThickness=THICKNESS, alignZ=40, binFactor=1)).Tomograms
        self.check_beads(STACKS, "TS_1", tomograms.getFirstItem())


if __name__ == "__main__":
    unittest.main()
