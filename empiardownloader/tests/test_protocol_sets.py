# SPDX-License-Identifier: GPL-3.0-or-later
"""What the next protocol gets: acquisition, references, formats, and movies it can really process."""
import bz2
import os
import shutil
from unittest import mock

import mrcfile
import numpy as np
from pwem.objects import SetOfMovies
from pwem.protocols import ProtAverageFrames

from empiardownloader.demo import movies
from empiardownloader.download.record.events import ImageArrived
from empiardownloader.download.record.log import add_event
from empiardownloader.images.header import Header
from empiardownloader.protocols.headers import readMovieHeader
from empiardownloader.tests.base import ProtocolTestCase, emdb, entry, image_set, read_bytes, write_movies


class TestSets(ProtocolTestCase):

    @classmethod
    def fill(cls):
        super().fill()
        for number, extension in (("30001", "tif"), ("30002", "eer"), ("30003", "mrcs")):
            write_movies(cls.root, number, ["a.%s" % extension, "b.%s" % extension])
            cls.demo.entries[number] = entry(image_set(data_format={"tif": "TIFF"}.get(extension, extension.upper()),
                                                              num_images_or_tilt_series=2))
        for path in write_movies(cls.root, "30004", ["a.tif", "b.tif"]):
            with open(path + ".bz2", "wb") as stream:
                stream.write(bz2.compress(read_bytes(path)))
            os.remove(path)
        cls.demo.entries["30004"] = entry(image_set(data_format="TIFF", num_images_or_tilt_series=2))
        for number, record in (("30011", emdb(voltage=None, dose=None)), ("30012", None), ("30013", 500)):
            write_movies(cls.root, number, ["a.mrc"])
            links = [] if record is None else [{"name": "EMD-%s" % number}]
            cls.demo.entries[number] = entry(image_set(num_images_or_tilt_series=1), cross_references=links)
            cls.demo.emdb["EMD-%s" % number] = record
        # As float32: scipion-em's sum of frames stays in the movies' own type.
        write_movies(cls.root, "30030", ["m_%02d.mrc" % n for n in range(12)], dtype="float32")
        cls.demo.entries["30030"] = entry(image_set())
        write_movies(cls.root, "30020", ["a.mrc"], frames=5, width=64, height=48)
        cls.demo.entries["30020"] = entry(image_set(image_width="32", image_height="24"))

    def run_all(self, forms):
        protocols = [self.new(**form) for form in forms]
        for protocol in protocols:
            self.launch(protocol, wait=False)
        ended = [self.ended(protocol) for protocol in protocols]
        for run in ended:
            self.assertTrue(run.isFinished(), run.getErrorMessage())
        return ended

    def test_formats(self):
        forms = [{"entryId": "3000%d" % n, "amountOfImages": 2} for n in (1, 2, 3, 4, 4)]
        forms[4]["decompress"] = False
        runs = self.run_all(forms)
        for run in runs[:4]:
            movie_set = run.outputMovies
            self.assertEqual((2, (128, 96, 8)), (movie_set.getSize(), movie_set.getDim()), run)
            for movie in movie_set.iterItems():
                self.assertEqual((128, 96, 8), movie.getDim())
            movie_set.close()
        packed = runs[4].outputMovies
        self.assertEqual({"a.tif.bz2", "b.tif.bz2"}, {row[2] for row in self.rows(runs[4])})
        self.assertTrue(packed.getFirstItem().isCompressed())
        packed.close()

    def test_acquisition(self):
        typed = {"samplingRate": 1.25, "voltage": 120.0, "sphericalAberration": 0.01, "magnification": 60000.0,
                 "dosePerFrame": 1.5, "doseInitial": 3.0, "amplitudeContrast": 0.07}
        runs = self.run_all([{"entryId": "10200"}, {"entryId": "30011"}, {"entryId": "30012"}, {"entryId": "30013"},
                             dict(typed, entryId="10200")])
        expected = [(200, 2.0, 105000, 5.0, 0.0, 0.1, 0.66), (300, 2.0, 105000, None, 0.0, 0.1, 0.66),
                    (300, 2.7, 50000, None, 0.0, 0.1, 0.66), (300, 2.7, 50000, None, 0.0, 0.1, 0.66),
                    (120, 0.01, 60000, 1.5, 3.0, 0.07, 1.25)]
        words = ["(EMD-0001)", "Cs 2 mm, magnification 105000 (EMD-30011)", "linked to no EMDB record", "error 500",
                 "(the form)"]
        for run, values, text in zip(runs, expected, words):
            # From the set's own file, as a protocol on another machine would read it.
            path = os.path.join(self.proj.getPath(), run._getPath("movies.sqlite"))
            movie_set = SetOfMovies(filename=path)
            movie_set.loadAllProperties()
            for item in (movie_set, movie_set.getFirstItem()):
                got = item.getAcquisition()
                self.assertEqual(values, (got.getVoltage(), got.getSphericalAberration(), got.getMagnification(),
                                          got.getDosePerFrame(), got.getDoseInitial(), got.getAmplitudeContrast(),
                                          item.getSamplingRate()))
            movie_set.close()
            self.assertIn(text, "\n".join(run.summary()))

    def test_files_that_disagree_with_the_entry(self):
        run, = self.run_all([{"entryId": "30020"}])
        self.assertEqual((64, 48, 5), run.outputMovies.getDim())
        self.assertEqual(8.0, run.outputMovies.getAcquisition().getDosePerFrame())
        summary = "\n".join(run.summary())
        self.assertIn("5 frames, the entry says 8", summary)
        self.assertIn("64 x 48, the entry says 32 x 24", summary)
        self.assertIn("super-resolved", summary)

    def test_what_a_step_was_told_stays_so(self):
        """F16: _stepsCheck reads the record on, in a thread of its own."""
        run = self.finish(self.new(amountOfImages=2))
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.proj.getPath())
        names = []
        for name in run.readFacts().images:
            names.append(name)
            add_event(run.getRecordFile(), ImageArrived("n_%d" % len(names), "n", 1))
            run.readFacts()
        self.assertEqual(2, len(names))
        self.assertEqual(4, len(run.readFacts().images))

    def test_what_arrives_while_others_are_taken(self):
        """The download reads the record, too, for its progress; the engine is in the middle of _stepsCheck then."""
        run = self.finish(self.new(amountOfImages=2))
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.proj.getPath())
        run = self.fresh(run)
        self.assertEqual([], run._takeNewNames(False))
        settled = run._isSettled

        def tell(name):
            shutil.copy(run._getExtraPath("m_00.mrc"), run._getExtraPath(name))
            add_event(run.getRecordFile(), ImageArrived(name, "data/" + name, 1))

        def meanwhile(facts, name):
            tell("later.mrc")
            run.readFacts()
            return settled(facts, name)

        tell("first.mrc")
        with mock.patch.object(run, "_isSettled", meanwhile):
            taken = run._takeNewNames(False)
        self.assertEqual(["first.mrc", "later.mrc"], taken + run._takeNewNames(True))

    def test_a_dm4_reference_through_scipions_reader(self):
        path = os.path.join(self.folder, "gain.dm4")
        movies.write_dm4(path, np.ones((1, 96, 128), "float32"))
        self.assertEqual(Header(128, 96, 1), readMovieHeader(path))
        movies.write_dm4(path, np.ones((5, 96, 128), "float32"))
        self.assertEqual(Header(128, 96, 5), readMovieHeader(path))

    def test_the_next_protocol_processes_every_movie_once_while_it_streams(self):
        self.demo.rate = 240000
        protocol = self.new(entryId="30030", amountOfImages=12, connections=1)
        self.launch(protocol, wait=False)
        self.with_output(protocol)
        average = self.newProtocol(ProtAverageFrames)
        average.inputMovies.set(self.fresh(protocol))
        average.inputMovies.setExtended("outputMovies")
        self.launch(average, wait=False)
        self.wait_for(lambda: self.fresh(average).isActive(), 30)
        self.assertTrue(self.fresh(protocol).isActive(), "the next protocol was to start before the download's end")
        run = self.ended(average)
        self.assertTrue(run.isFinished(), run.getErrorMessage())
        frames = sum(movies.make_frames(seed).astype("float32").sum(axis=0) for seed in range(12))
        path = os.path.join(self.proj.getPath(), run._getPath("all_frames_sum.mrc"))
        with mrcfile.open(path, permissive=True) as mrc:
            self.assertTrue(np.allclose(frames, mrc.data.squeeze()))
