# SPDX-License-Identifier: GPL-3.0-or-later
"""Our templates, filled and run by Scipion's own command, each to its end."""
import glob
import json
import os
import subprocess
import sys
import unittest

from pyworkflow.project import Manager
from pyworkflow.template import LocalTemplate

import empiardownloader
from empiardownloader.demo import entries, kinds
from empiardownloader.tests.base import its_own_word
from empiardownloader.tests.downstream import programs
from empiardownloader.tests.downstream.case import DownstreamCase

TEMPLATES = os.path.join(os.path.dirname(empiardownloader.__file__), "templates")
PLUGINS = ("motioncorr", "tomo", "aretomo")
REASON = programs.missing(*PLUGINS)


@unittest.skipIf(REASON, REASON)
class TestTemplates(DownstreamCase):
    PLUGINS = PLUGINS

    @classmethod
    def fill(cls):
        for kind in ("movies", "particles", "tilt series"):
            records, emdb = entries.build(cls.root, kind)
            cls.demo.entries.update(records)
            cls.demo.emdb.update(emdb)

    def finished(self, name, **answers):
        """Run a template as ``scipion template`` does -> {class of protocol: {output: size}} when all have ended."""
        project = "Template_" + name
        manager = Manager()
        if manager.hasProject(project):
            manager.deleteProject(project)
        # Where a field is not answered, a window asks, also with --nogui.
        template = LocalTemplate("empiardownloader", os.path.join(TEMPLATES, name + ".json.template"))
        template.replaceEnvVariables()
        template.parseContent()
        answers = dict({field.getAlias(): field.getValue() for field in template.getParams().values()}, **answers)
        log = os.path.join(self.folder, name + ".log")
        with open(log, "w") as stream:
            done = subprocess.run(
                [sys.executable, "-m", "scipion", "template", "empiardownloader-" + name, "--nogui",
                 "project_name=" + project, *["%s=%s" % answer for answer in answers.items()]],
                stdout=stream, stderr=subprocess.STDOUT, timeout=120)
        with open(log) as stream:
            told = stream.read()
        self.assertEqual(0, done.returncode, told)
        self.addCleanup(manager.deleteProject, project)
        self.addCleanup(os.chdir, os.getcwd())
        opened = manager.loadProject(project)
        os.chdir(opened.getPath())

        def over():
            runs = [its_own_word(run) for run in opened.getRuns(refresh=True)]
            for run in runs:
                self.assertFalse(run.isFailed() or run.isAborted(), "%s: %s" % (
                    run.getClassName(), run.getErrorMessage()))
            return runs if runs and all(run.isFinished() for run in runs) else None

        runs = self.wait_for(over, 400, "the end of all runs of " + name)
        found = {run.getClassName(): {output: its.getSize() for output, its in run.iterOutputAttributes()}
                 for run in runs}
        self.measured.append("%s: %s" % (name, found))
        return found

    def test_every_field_gets_its_value(self):
        """pyworkflow replaces fields by their titles: two of one title left "GPU|0|0|gpu" in the second (R2)."""
        paths = glob.glob(os.path.join(TEMPLATES, "*.json.template"))
        self.assertGreaterEqual(len(paths), 4)
        for path in paths:
            with self.subTest(os.path.basename(path)):
                template = LocalTemplate("empiardownloader", path)
                template.replaceEnvVariables()
                template.parseContent()
                workflow = template.createTemplateFile()
                self.addCleanup(os.remove, workflow)
                with open(workflow) as stream:
                    steps = json.load(stream)
                values = [value for step in steps for value in step.values()]
                self.assertEqual([], [value for value in values if "|" in str(value)])
                # Each field has a value that its type takes.
                for field in template.getParams().values():
                    self.assertIsNone(field.validate(), field.getTitle())

    def test_movies(self):
        self.assertEqual({"EmpiarDownloader": {"outputMovies": 2}}, self.finished(
            "empiar_movies", entry=entries.NUMBER, movies=2))

    def test_particles(self):
        self.assertEqual({"EmpiarDownloader": {"outputParticles": 40}}, self.finished(
            "empiar_particles", entry=kinds.NUMBERS["particles"], stacks=2))

    def test_micrographs(self):
        found = self.finished("empiar_to_micrographs", entry=entries.NUMBER, movies=2)
        self.assertEqual(2, found["ProtMotionCorr"]["outputMicrographsDoseWeighted"])

    def test_micrographs_of_an_entry_without_dose(self):
        kept = dict(self.demo.emdb)
        self.addCleanup(self.demo.emdb.update, kept)
        self.demo.emdb.clear()
        found = self.finished("empiar_to_micrographs", entry=entries.NUMBER, movies=2, dosefilter="false")
        self.assertEqual(2, found["ProtMotionCorr"]["outputMicrographs"])

    def test_tomograms(self):
        """R3: composing takes the micrographs that motion correction makes by default."""
        found = self.finished("empiar_tilt_series_to_tomograms", entry=kinds.NUMBERS["tilt series"], series=2)
        self.assertEqual((14, 2, 2), (found["ProtMotionCorr"]["outputMicrographs"],
                                      found["ProtComposeTS"]["tiltSeries"],
                                      found["ProtAreTomoAlignRecon"]["Tomograms"]))


if __name__ == "__main__":
    unittest.main()
