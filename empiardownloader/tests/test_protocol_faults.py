# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in real projects with what would be wrong without a word, or would end a run that could go on."""
import json
import os
import shutil

import mrcfile
import numpy as np
from pwem.objects import SetOfMovies
from pwem.protocols import ProtAverageFrames

from empiardownloader.demo import faults, movies
from empiardownloader.tests.base import ProtocolTestCase, entry, image_set, write_movies

SIZE = {"image_width": "24", "image_height": "16", "frames_per_image": 3}
TINY = {"frames": 3, "width": 24, "height": 16}


class TestRightScience(ProtocolTestCase):

    @classmethod
    def fill(cls):
        super().fill()

        def put(number, names, folder="data/Movies", **size):
            write_movies(cls.root, number, names, folder, **dict(TINY, **size))

        def gain(path, seed):
            movies.write_gain(os.path.join(cls.root, path), seed, 24, 16)

        for number in ("50001", "50002", "50003", "50004", "50005", "50006", "50007", "50008", "50009", "50010"):
            cls.demo.entries[number] = entry(image_set(num_images_or_tilt_series=3, **SIZE))
        put("50001", ["m_0.mrc", "m_1.mrc", "m_2.mrc"])
        gain("50001/data/Movies/K2ref.mrc", 1)
        # Three sessions, two of which share a gain.
        for session in "ABC":
            put("50002", ["%s.mrc" % session.lower()], "data/Movies/Session" + session)
        gain("50002/data/Movies/gain.mrc", 1)
        gain("50002/data/Movies/SessionC/gain.mrc", 2)
        cls.demo.entries["50003"] = entry(image_set(directory="data", num_images_or_tilt_series=2, **SIZE), image_set(
            directory="data/Particles", category="picked particles - single frame - processed"), image_set(
            directory="data/Other", pixel_width=2.0, pixel_height=2.0))
        put("50003", ["m_0.mrc", "m_1.mrc"], "data")
        put("50003", ["o_0.mrc"], "data/Other")
        put("50003", ["stack_0.mrcs"], "data/Particles", frames=50, width=12, height=12)
        put("50004", ["a_0.mrc", "a_1.mrc"])
        put("50004", ["b_0.mrc", "b_1.mrc"], frames=5, width=48, height=32)
        put("50004", ["c_0.mrc"], frames=10)
        cls.demo.entries["50004"] = entry(image_set(num_images_or_tilt_series=5, **SIZE))
        for folder in "ABC":
            put("50005", ["m_%s.mrc" % folder.lower()], "data/Movies/" + folder)
        put("50006", ["m_0.mrc", "m_1.mrc", "m_2.mrc"])
        # 39 frames of 40: one was lost, the exposure is the same.
        put("50007", ["m_0.mrc", "m_1.mrc"], frames=40)
        put("50007", ["m_2.mrc"], frames=39)
        gain("50007/data/Movies/gain.mrc", 1)
        put("50008", ["m_0.mrc", "m_1.mrc", "m_2.mrc"])
        gain("50008/data/Movies/gain.mrc", 1)
        gain("50008/data/Movies/better.mrc", 2)
        cls.demo.entries["50009"] = entry(image_set(num_images_or_tilt_series=4, **SIZE))
        put("50009", ["m_0.mrc", "m_1.mrc", "m_2.mrc", "m_3.mrc"])
        gain("50009/data/Movies/gain.mrc", 1)
        put("50010", ["hole_%d_fractions.mrc" % number for number in range(3)])
        put("50010", ["hole_%d.mrc" % number for number in range(3)], frames=1)

    def sets(self, run):
        """{name: set} as another process finds them."""
        found = {}
        for name, _ in run.iterOutputAttributes():
            path = os.path.join(self.proj.getPath(), getattr(run, name).getFileName())
            found[name] = SetOfMovies(filename=path)
            found[name].loadAllProperties()
            self.addCleanup(found[name].close)
        return found

    def names(self, movieSet):
        return sorted(movie.getMicName() for movie in movieSet.iterItems())

    def summary(self, run):
        return "\n".join(run.summary())

    def test_a_gain_chosen_by_pattern(self):
        """A1: not a KeyError, and not a movie after Continue."""
        run = self.finish(self.new(entryId="50001", allImages=True, gainPattern="K2ref.mrc"))
        movieSet, = self.sets(run).values()
        self.assertEqual(["m_0.mrc", "m_1.mrc", "m_2.mrc"], self.names(movieSet))
        self.assertEqual("K2ref.mrc", os.path.basename(movieSet.getGain()))
        self.assertAlmostEqual(40 / 3, movieSet.getAcquisition().getDosePerFrame())
        run = self.finish(self.again(run))
        self.assertEqual(3, run.outputMovies.getSize())

    def test_each_session_gets_its_gain(self):
        """A2: and the next protocol gets the right one."""
        run = self.finish(self.new(entryId="50002", allImages=True, connections=1))
        sets = self.sets(run)
        self.assertEqual({"outputMovies": ["SessionA_a.mrc", "SessionB_b.mrc"], "outputMovies2": ["SessionC_c.mrc"]},
                         {name: self.names(movieSet) for name, movieSet in sets.items()})
        gains = {name: os.path.join(self.proj.getPath(), movieSet.getGain()) for name, movieSet in sets.items()}
        for name, seed in (("outputMovies", 1), ("outputMovies2", 2)):
            expected = os.path.join(self.folder, "expected.mrc")
            movies.write_gain(expected, seed, 24, 16)
            with mrcfile.open(expected) as one, mrcfile.open(gains[name]) as other:
                self.assertTrue(np.array_equal(one.data, other.data))
            self.assertTrue(sets[name].isStreamClosed())
        summary = self.summary(run)
        for words in ("outputMovies: 2 movies of 24 x 16, 3 frames, gain reference data/Movies/gain.mrc",
                      "outputMovies2: 1 movies of 24 x 16, 3 frames, gain reference data/Movies/SessionC/gain.mrc"):
            self.assertIn(words, summary)
        with open(os.path.join(self.proj.getPath(), run.getStdoutLog())) as stream:
            self.assertIn("go to a set of their own, outputMovies2", stream.read())
        average = self.newProtocol(ProtAverageFrames)
        average.inputMovies.set(run)
        average.inputMovies.setExtended("outputMovies2")
        self.finish(average)
        self.assertEqual(gains["outputMovies2"], os.path.join(self.proj.getPath(), average.inputMovies.get().getGain()))
        path = os.path.join(self.proj.getPath(), average._getPath("all_frames_sum.mrc"))
        with mrcfile.open(path, permissive=True) as mrc:
            frames = movies.make_frames(0, **TINY).astype("int64")
            # scipion-em shifts the grey values of a single movie's sum.
            self.assertEqual(0, np.ptp(mrc.data.squeeze().astype("int64") - frames.sum(axis=0)))

    def test_sessions_one_after_the_other(self):
        """A2, with Continue: the sets are found again, and none is made twice."""
        run = self.finish(self.new(entryId="50002", amountOfImages=1, connections=1))
        for amount, expected in ((2, [2]), (3, [2, 1]), (3, [2, 1])):
            run = self.finish(self.again(run, amountOfImages=amount))
            self.assertEqual(expected, [movieSet.getSize() for movieSet in self.sets(run).values()])

    def test_another_gain_pattern_on_continue(self):
        run = self.finish(self.new(entryId="50002", amountOfImages=2))
        self.assertEqual("gain.mrc", os.path.basename(run.outputMovies.getGain()))
        run = self.finish(self.again(run, gainPattern="SessionC/gain.mrc"))
        self.assertEqual(2, run.outputMovies.getSize())
        self.assertEqual("SessionC_gain.mrc", os.path.basename(run.outputMovies.getGain()))
        self.assertFalse(hasattr(run, "outputMovies2"))

    def test_stopped_while_another_gain_comes(self):
        """Not known yet is not the same as none."""
        run = self.finish(self.new(entryId="50008", allImages=True))
        self.demo.add_fault(faults.STALL, "*better*", after=100)
        run = self.again(run, gainPattern="better.mrc", connections=1)
        self.demo.requests.clear()      # the first run may have looked at that file too
        self.launch(run, wait=False)
        self.wait_for(lambda: any("better" in request for request in self.demo.requests), 60)
        with open(self.extra(run, "STOP_STREAMING.TXT"), "w"):
            pass
        run = self.ended(run)
        self.assertTrue(run.isFinished(), run.getErrorMessage())
        self.assertEqual("gain.mrc", os.path.basename(run.outputMovies.getGain()))
        self.assertIn("Gain reference: data/Movies/gain.mrc", self.summary(run))
        self.demo.clear_faults()
        run = self.finish(self.again(run))
        self.assertEqual("better.mrc", os.path.basename(run.outputMovies.getGain()))
        self.assertIn("Gain reference: data/Movies/better.mrc", self.summary(run))

    def test_a_run_of_version_1_0_0(self):
        """Its record knows neither sizes nor digests: the movies still go to the set that is there."""
        run = self.finish(self.new(entryId="50009", amountOfImages=2))
        path = self.extra(run, "download.jsonl")
        with open(path) as stream:
            events = [json.loads(line) for line in stream]
        for event in events:
            for name in ("size", "frames", "key", "digest", "failed", "dark") + (
                    ("gain",) if event["what"] == "movie" else ()):
                event.pop(name, None)
        events = [event for event in events if event["what"] != "file" and event.get("kind") != "dark"]
        with open(path, "w") as stream:
            stream.writelines(json.dumps(event) + "\n" for event in events)
        run = self.finish(self.again(run, amountOfImages=4))
        self.assertEqual(["outputMovies"], [name for name, _ in run.iterOutputAttributes()])
        self.assertEqual(4, run.outputMovies.getSize())
        self.assertEqual("gain.mrc", os.path.basename(run.outputMovies.getGain()))

    def test_a_gain_that_could_not_be_had(self):
        self.demo.add_fault(faults.ERROR, "*50008*gain*")
        self.demo.add_fault(faults.ERROR, "*50008*better*")
        run = self.finish(self.new(entryId="50008", allImages=True, transport=1))
        self.assertIsNone(run.outputMovies.getGain())
        self.assertIn("No usable gain reference", self.summary(run))
        self.demo.clear_faults()
        run = self.finish(self.again(run))
        self.assertEqual("gain.mrc", os.path.basename(run.outputMovies.getGain()))
        self.assertIn("Gain reference: data/Movies/gain.mrc", self.summary(run))

    def test_other_image_sets_keep_their_folders(self):
        """A3."""
        run = self.finish(self.new(entryId="50003", allImages=True))
        movieSet, = self.sets(run).values()
        self.assertEqual(["m_0.mrc", "m_1.mrc"], self.names(movieSet))
        self.assertNotIn("more than", self.summary(run))

    def test_movies_of_other_sizes_and_frames(self):
        """A4: each set with the dose that is right for it."""
        run = self.finish(self.new(entryId="50004", allImages=True, connections=1))
        found = {name: (self.names(movieSet), movieSet.getDim(), round(movieSet.getAcquisition().getDosePerFrame(), 2))
                 for name, movieSet in self.sets(run).items()}
        self.assertEqual({"outputMovies": (["a_0.mrc", "a_1.mrc"], (24, 16, 3), 13.33),
                          "outputMovies2": (["b_0.mrc", "b_1.mrc"], (48, 32, 5), 8.0),
                          "outputMovies3": (["c_0.mrc"], (24, 16, 10), 4.0)}, found)
        self.assertIn("outputMovies2: 2 movies of 48 x 32, 5 frames, no gain reference, 8 e/Å² per frame",
                      self.summary(run))

    def test_a_lost_frame_makes_no_set(self):
        run = self.finish(self.new(entryId="50007", allImages=True))
        movieSet, = self.sets(run).values()
        self.assertEqual([39, 40, 40], sorted(movie.getFramesRange()[1] for movie in movieSet.iterItems()))
        self.assertEqual(1.0, movieSet.getAcquisition().getDosePerFrame())
        self.assertIn("39 to 40 frames", self.summary(run))

    def test_a_folder_that_cannot_be_entered(self):
        """A6: the run finishes with what there is, and says what is missing."""
        self.demo.add_fault(faults.FORBIDDEN, "50005/data/Movies/B")
        run = self.finish(self.new(entryId="50005", allImages=True))
        self.assertEqual(["A_m_a.mrc", "C_m_c.mrc"], self.names(self.sets(run)["outputMovies"]))
        summary = self.summary(run)
        self.assertIn("The folder data/Movies/B could not be entered", summary)
        self.assertIn("2 movies were found, fewer than the 3 that the entry says.", summary)
        self.demo.clear_faults()
        run = self.finish(self.again(run))
        self.assertEqual(3, run.outputMovies.getSize())
        self.assertNotIn("could not be entered", self.summary(run))

    def test_an_epu_session(self):
        """Each movie beside its average: one line for all of those."""
        for transport in (1, 2):
            run = self.finish(self.new(entryId="50010", allImages=True, transport=transport))
            self.assertEqual(["hole_%d_fractions.mrc" % number for number in range(3)],
                             self.names(self.sets(run)["outputMovies"]))
            lines = [line for line in run.summary() if "Skipped" in line]
            self.assertEqual(1, len(lines), lines)
            self.assertIn("3 files (it has a single frame", lines[0])

    def test_one_file_on_which_the_server_errs(self):
        """B1, S3: it is left out, and comes with Continue once the server has it."""
        self.demo.add_fault(faults.ERROR, "*m_1*")
        runs = [self.new(entryId="50006", allImages=True, transport=transport) for transport in (1, 2)]
        # Side by side: each waits for long before it gives the file up.
        for run in runs:
            self.launch(run, wait=False)
        runs = [self.ended(run) for run in runs]
        for run in runs:
            self.assertTrue(run.isFinished(), run.getErrorMessage())
            self.assertEqual(["m_0.mrc", "m_2.mrc"], self.names(self.sets(run)["outputMovies"]))
            self.assertIn("Skipped: data/Movies/m_1.mrc", self.summary(run))
        self.demo.clear_faults()
        for run in runs:
            run = self.finish(self.again(run))
            self.assertEqual(3, run.outputMovies.getSize())
            self.assertNotIn("Skipped", self.summary(run))

    def test_servers_that_do_not_agree(self):
        """S4, S5: over HTTP, versions of their own, and bytes of another place."""
        self.demo.add_fault(faults.OTHER_VERSION, "*50006*m_0*")
        self.demo.add_fault(faults.OTHER_RANGE, "10200/*m_02*")
        runs = [self.finish(self.new(entryId=number, amountOfImages=3, transport=2)) for number in ("50006", "10200")]
        self.check_set(runs[0], 3, {"m_%d.mrc" % n: os.path.join(self.root, "50006/data/Movies/m_%d.mrc" % n)
                                    for n in range(3)})
        self.check_set(runs[1], 3)

    def test_never_an_empty_output(self):
        """C6: whoever looks finds the output with its first movie in it, or none."""
        self.demo.rate = 20000
        protocol = self.new(entryId="50006", amountOfImages=3, connections=1)
        self.launch(protocol, wait=False)
        sizes = set()

        def ended():
            run = self.fresh(protocol)
            if hasattr(run, "outputMovies"):
                sizes.add(run.outputMovies.getSize())
            return not run.isActive()

        self.wait_for(ended, 60, "the end of the run")
        self.assertNotIn(0, sizes)
        self.assertIn(3, sizes)

    def test_a_failed_run_says_that_its_output_is_closed(self):
        """C5."""
        run = self.finish(self.new(entryId="50006", amountOfImages=2))
        folder = os.path.join(self.root, "50006")
        os.rename(folder, folder + "-away")
        self.addCleanup(shutil.move, folder + "-away", folder)
        run = self.again(run, amountOfImages=3)
        self.launch(run)
        run = self.fresh(run)
        self.assertTrue(run.isFailed())
        summary = self.summary(run)
        self.assertTrue(summary.startswith("*Failed*: The files of EMPIAR-50006 cannot be reached"), summary)
        self.assertIn("The output was closed with 2 items: Continue opens it again", summary)
