# SPDX-License-Identifier: GPL-3.0-or-later
"""Analyze results, asked with a run's object as old as the window that it is clicked in."""
import os
import unittest

from empiardownloader.demo import kinds
from empiardownloader.tests.base import entry, image_set
from empiardownloader.tests.test_live_windows import WindowCase
from empiardownloader.tests.test_protocol_kinds_again import PARTICLES
from empiardownloader.viewers import EmpiarDownloadViewer
from empiardownloader.viewers.viewer_empiar import ImagesPage


class TestAnalyzeResults(WindowCase):
    RATE = 150000

    def see(self, run):
        viewer = EmpiarDownloadViewer(project=self.proj, protocol=run)
        # Where the project's window is.
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.proj.getPath())
        return viewer._visualize(run)

    def test_movies_that_have_come_since_the_window_looked(self):
        run = self.new(amountOfImages=12)
        self.launch(run, wait=False)
        old = self.proj.getProtocol(run.getObjId())
        while hasattr(old, "outputMovies"):
            old.deleteAttribute("outputMovies")
        self.with_output(run, 2)
        views = self.see(old)
        self.assertIsInstance(views[0], ImagesPage)
        views[0].plotter.close()
        self.ended(run)

    def test_particles_and_averages_open_in_scipions_own_viewers(self):
        kinds.write_stack(self.path("particles.mrcs"), 1, 4)
        self.demo.entries["10202"] = entry(image_set(**PARTICLES))
        run = self.finish(self.new(entryId="10202", allImages=True))
        views = self.see(self.proj.getProtocol(run.getObjId()))
        self.assertEqual(["MDView", "HistoryPlot"], [type(view).__name__ for view in views])
        self.assertEqual("particles.sqlite", os.path.basename(views[0]._emSet.getFileName()))
        views[1].plotter.close()

    def path(self, name):
        folder = os.path.join(self.root, "10202", "data")
        os.makedirs(folder, exist_ok=True)
        return os.path.join(folder, name)


if __name__ == "__main__":
    unittest.main()
