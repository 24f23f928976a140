# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job in real projects: an entry becomes a streaming set of movies, or one sentence says why not."""
import os
import subprocess
import sys
from unittest import mock

from pyworkflow.object import Set

from empiardownloader import constants
from empiardownloader.demo import faults
from empiardownloader.tests.base import ProtocolTestCase, entry, image_set, quick
from empiardownloader.tests.surroundings import environment


class TestMainJob(ProtocolTestCase):
    FORKED = False

    def test_streaming_steps_and_prerequisites(self):
        self.demo.rate = 40000
        protocol = self.new(amountOfImages=8, connections=1)
        self.launch(protocol, wait=False)

        run = self.with_output(protocol)
        self.assertTrue(self.is_downloading(run))
        self.assertEqual(Set.STREAM_OPEN, run.outputMovies.getStreamState())
        self.assertGreater(run.outputMovies.getSize(), 0)
        self.assertLess(run.outputMovies.getSize(), 8)
        self.assertIn("of 8 movies", "\n".join(run.summary()))
        self.assertEqual(["STOP STREAMING"], [action[0] for action in run.getActions()])
        self.demo.rate = 0
        run = self.ended(protocol)
        self.check_set(run, 8)
        steps = run.loadSteps()
        self.assertEqual(["readXmlFileStep", "downloadImagesStep", "closeSetStep"],
                         [str(step.funcName) for step in steps[:3]])
        registers = steps[3:]
        self.assertGreater(len(registers), 1)
        for step in registers:
            self.assertEqual("registerImageStep", str(step.funcName))
            self.assertEqual([1], [int(i) for i in step._prerequisites])
        self.assertEqual([2] + [step.getObjId() for step in registers], [int(i) for i in steps[2]._prerequisites])
        self.assertTrue(all(step.isFinished() for step in steps))
        run.getStepsGraph()

    @quick
    def test_more_than_there_are_and_what_the_user_reads(self):
        self.demo.add_fault(faults.GONE, "*m_03*")
        protocol = self.finish(self.new(amountOfImages=50))
        self.check_set(protocol, 11)
        summary = "\n".join(protocol.summary())
        for words in ("EMPIAR-10200", "A synthetic data set", "10.6019/EMPIAR-10200", "An institute", "0.66 Å/px",
                      "Gain reference: data/Movies/CountRef_m.mrc",
                      "Only 11 movies can be downloaded; you asked for 50",
                      "Skipped: data/Movies/m_03.mrc", "200 kV, Cs 2 mm, magnification 105000"):
            self.assertIn(words, summary)
        self.assertIn("11 movies of EMPIAR-10200", protocol.methods()[0])
        self.assertEqual(["Iudin2016", "Iudin2023"], list(protocol.getCitations()))

    def test_two_runs_in_one_process_share_nothing(self):
        runs = [self.new(amountOfImages=amount, numberOfThreads=threads) for amount, threads in ((2, 1), (3, 3))]
        with mock.patch("pyworkflow.project.project.pwprot.launch"):
            for protocol in runs:
                self.launch(protocol, wait=False)
        script = ("import sys\n"
                  "from pyworkflow.protocol import runProtocolMain\n"
                  "for database, number in zip(sys.argv[2::2], sys.argv[3::2]):\n"
                  "    runProtocolMain(sys.argv[1], database, int(number))\n")
        arguments = [text for protocol in runs for text in (protocol.getDbPath(), str(protocol.getObjId()))]
        subprocess.run([sys.executable, "-c", script, self.proj.getPath(), *arguments], check=True, timeout=120,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for protocol, amount in zip(runs, (2, 3)):
            self.check_set(self.fresh(protocol), amount)


class TestThreads(ProtocolTestCase):

    def test_any_number_of_threads_gives_the_same_set(self):
        protocols = [self.new(amountOfImages=5, numberOfThreads=threads) for threads in (1, 2, 3, 5)]
        for protocol in protocols:
            few = protocol.numberOfThreads.get() < 3
            self.assertEqual(few, any("no streaming" in warning for warning in protocol.warnings()))
            self.launch(protocol, wait=False)
        for run in map(self.ended, protocols):
            self.assertTrue(run.isFinished(), run.getErrorMessage())
            movies = self.check_set(run, 5)
            self.assertEqual((128, 96, 8), movies.getDim())
            self.assertEqual([1, 8, 1], list(movies.getFramesRange()))
            self.assertAlmostEqual(0.66, movies.getSamplingRate())
            self.assertEqual({"m_%02d.mrc" % n for n in range(5)}, {row[2] for row in self.rows(run)})
            self.assertTrue(movies.getGain().endswith("extra/CountRef_m.mrc"))
            self.assertTrue(os.path.isabs(movies.getGain()) and os.path.exists(movies.getGain()), "R1")
            for movie in movies.iterItems():
                self.assertEqual([1, 8, 1], list(movie.getFramesRange()))
                self.assertEqual(200, movie.getAcquisition().getVoltage())
            movies.close()


class TestAsked(ProtocolTestCase):
    """What is asked for, and said of what cannot be had."""

    def test_one_sentence_for_what_cannot_be_had(self):
        entries = {
            "20001": entry(image_set(), status="OBS"), "20002": entry(image_set(), status="HPUB"),
            "20003": entry(), "20004": b"<html>maintenance</html>",
            "20005": b'{"EMPIAR-20005": {"tit', "20006": b"{}", "20007": b"[]",
            "20008": entry(image_set(pixel_width=None, pixel_height=None))}
        self.demo.entries.update(entries)
        words = {"20000": "has no entry 20000", "20001": "obsolete",
                 "20002": "not public yet", "20003": "no image set",
                 "20004": "readable", "20005": "readable", "20006": "not with the metadata",
                 "20007": "not with the metadata", "20008": "pixel size"}
        protocols = {number: self.new(entryId=number) for number in words}
        for protocol in protocols.values():
            self.launch(protocol, wait=False)
        with environment(EMPIAR_API_URL="http://localhost:1/api"):
            protocols["nobody"] = self.new()
            words["nobody"] = "could not be asked for entry 10200 (connection refused)"
            self.launch(protocols["nobody"], wait=False)
        for number, protocol in protocols.items():
            run = self.ended(protocol)
            self.assertTrue(run.isFailed(), number)
            message = run.getErrorMessage()
            self.assertIn(words[number], message, number)
            self.assertEqual(1, len(message.splitlines()), message)
            self.assertNotIn("Traceback", message)
            self.assertNotIn("Error:", message)
            left = os.listdir(self.extra(run))
            self.assertLessEqual(set(left), {constants.METADATA_FILE}, number)
        with_pixel_size = self.new(entryId="20008", samplingRate=1.5)
        self.assertEqual([], with_pixel_size.validate())

    def test_a_code_in_place_of_a_number(self):
        """Of the map that the entry names; what is no entry's is said before the first byte."""
        self.addCleanup(self.demo.entries.__setitem__, "10200", self.demo.entries["10200"])
        self.demo.entries["10200"] = dict(self.demo.entries["10200"], cross_references=[{"name": "EMD-4321"}])
        run = self.finish(self.new(entryId="EMD-4321", amountOfImages=2))
        self.assertEqual((2, "10200"), (run.outputMovies.getSize(), run.readFacts().begin.entry))
        self.assertIn("*EMPIAR-10200*", "\n".join(run.summary()))
        again = self.finish(self.again(run, amountOfImages=3))
        self.assertEqual(3, again.outputMovies.getSize())
        other = self.new(entryId="EMD-9876")
        self.assertEqual([], other.validate())
        self.launch(other)
        self.assertTrue(other.isFailed())
        self.assertIn("no entry that is linked to EMD-9876", str(other.getErrorMessage()))

    def test_form_errors_are_sentences(self):
        for form, words in (({"entryId": "abc"}, 'abc" is not an EMPIAR entry number'),
                            ({"entryId": ""}, "not an EMPIAR entry number"), ({"connections": 9}, "between 1 and 8"),
                            ({"connections": 0}, "between 1 and 8"), ({"samplingRate": -1.0}, "greater than zero"),
                            ({"amplitudeContrast": 7.0}, "between 0 and 1"),
                            ({"amountOfImages": 0}, "greater than zero"),
                            ({"downloadFolder": "some/folder"}, "must be a full path"),
                            ({"downloadFolder": __file__ + "/below"}, "cannot be written")):
            errors = self.new(**form).validate()
            self.assertEqual(1, len(errors), form)
            self.assertIn(words, errors[0], form)
        protocol = self.new()
        protocol.amountOfImages.set(None)
        self.assertTrue(protocol.validate())
        protocol.allImages.set(True)
        self.assertEqual([], protocol.validate())
