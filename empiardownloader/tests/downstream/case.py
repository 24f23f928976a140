# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests with other programs share."""
import json
import os
import re
import unittest

import numpy as np

from empiardownloader.tests.base import ProtocolTestCase
from empiardownloader.tests.downstream import programs
from empiardownloader.tests.downstream.standins import read_mrc

GAIN_TOLERANCE = 0.01       # a corner of a corrected micrograph against the rest
DRIFT_TOLERANCE = 0.5       # pixels


class DownstreamCase(ProtocolTestCase):
    """``PLUGINS`` and ``RELION``: what has to be here."""
    PLUGINS = ()
    RELION = False
    FORKED = False      # plugins read their variables when they are loaded
    measured = []       # what ``make downstream`` prints at its end

    @classmethod
    def setUpClass(cls):
        reason = programs.missing(*cls.PLUGINS, relion=cls.RELION)
        if reason:
            raise unittest.SkipTest(reason)
        super().setUpClass()

    def setUp(self):
        super().setUp()
        # Scipion's paths are below its project.
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.proj.getPath())
        if os.path.exists(programs.CALLS):
            os.remove(programs.CALLS)

    def calls(self, program):
        """What a stand-in was called with: {'words': [...], 'folder': ...} each."""
        if not os.path.exists(programs.CALLS):
            return []
        with open(programs.CALLS) as stream:
            return [call for call in map(json.loads, stream) if call["program"] == program]

    def aligned_from_the_first_movie_on(self, run):
        """Launch a download and, while it goes on, motion correction -> both, as they are with their first output."""
        self.launch(run, wait=False)
        run = self.with_output(run)
        aligned = self.on("ProtMotionCorr", {"inputMovies": (run, "outputMovies")}, patchX=0, patchY=0,
                          doApplyDoseFilter=False, numberOfThreads=2)
        self.launch(aligned, wait=False)
        self.assertTrue(self.fresh(run).outputMovies.isStreamOpen(), "the download was over before its consumer began")
        return run, self.wait_for(lambda: self.fresh(aligned) if hasattr(self.fresh(aligned), "outputMicrographs")
                                  else None, 90, "the first micrograph")

    def truth(self, number):
        with open(os.path.join(self.root, number, "truth.json")) as stream:
            return json.load(stream)

    def check_micrograph(self, path, shifts, drift, true_corners):
        """The frames' ``shifts``, pixels (n, 2), are what brings each back onto the first, and the micrograph's corners
        are as bright as the specimen's, see ``corners_of``."""
        shifts = np.array(shifts[:len(drift)])
        off = np.abs((shifts - shifts[0]) + np.array(drift)).max()
        self.assertLess(off, DRIFT_TOLERANCE, path)
        image = read_mrc(path)[0][0]
        flat = [found / true for found, true in zip(corners_of(image), true_corners)]
        for corner in flat:
            self.assertAlmostEqual(1.0, corner, delta=GAIN_TOLERANCE, msg="%s: %s" % (path, flat))
        self.measured.append("%s: drift within %.2f px, corners %.3f to %.3f" % (
            os.path.basename(path), off, min(flat), max(flat)))

    @classmethod
    def tearDownClass(cls):
        report = os.environ.get("EMPIAR_DOWNSTREAM_REPORT")
        if report and cls.measured:
            with open(report, "a") as stream:
                stream.writelines("%s %s\n" % (cls.__name__, line) for line in cls.measured)
        cls.measured.clear()
        super().tearDownClass()


def corners_of(image):
    """How bright the four corners of an image are against all of it: without the gain reference 0.79 to 1.27."""
    height, width = (size // 4 for size in image.shape)
    # Not at the very edge, where frames that have moved leave nothing.
    parts = [image[10:height, 10:width], image[10:height, -width:-10], image[-height:-10, 10:width],
             image[-height:-10, -width:-10]]
    return [float(part.mean() / image.mean()) for part in parts]


def relion_shifts(path):
    """The shifts of a movie as RELION writes them: [(x, y)] in pixels."""
    with open(path) as stream:
        table = stream.read().split("_rlnMicrographShiftY")[1].split("data_")[0]
    return [tuple(map(float, row[1:3])) for row in map(str.split, table.splitlines())
            if len(row) >= 3 and re.fullmatch(r"\d+", row[0])]


def log_shifts(path):
    """The same of MotionCor's log."""
    with open(path) as stream:
        return [tuple(map(float, line.split()[1:3])) for line in stream if line.strip() and not line.startswith("#")]
