# SPDX-License-Identifier: GPL-3.0-or-later
"""Movies in every format into motion correction, from the first one on: gain, drift, dose, pixel size are right."""
import glob
import os
import shutil
import unittest

import numpy as np
import tifffile
from pyworkflow.project import Project
from pyworkflow.protocol import MODE_RESUME

from empiardownloader.demo import entries, movies, specimen
from empiardownloader.tests.base import emdb, entry, image_set
from empiardownloader.tests.downstream import programs
from empiardownloader.tests.downstream.case import DownstreamCase, corners_of, log_shifts, relion_shifts

COUNT = 3
EER_SIDE, EER_FRAMES, EER_ELECTRONS = 4096, 8, 0.08      # the only size that RELION reads; electrons a pixel and frame
FORMATS = {"MRC": "91001", "TIFF": "91002", "LZW": "91003"}
EER, DARK, TURNED = "91004", "91005", "91006"
# Frames of 16 bits are 2.1 MB: some seconds apart, so that whoever listens hears of each.
RATE = 700000


def true_corners(frames, camera):
    """Of what the camera saw, its dead columns aside."""
    seen = frames.mean(axis=0) * camera.gain
    for row, column in camera.hot:
        seen[row, column] = np.median(seen)
    seen[:, camera.dead_columns] = np.median(seen)
    return corners_of(seen)


def write_formats(root, demo):
    """The same movies in MRC; in TIFF with a gain in TIFF; in TIFF compressed by LZW with a gain in MRC; and in MRC
    with a dark reference, and with a gain that lies on its side."""
    camera = specimen.Camera(entries.WIDTH, entries.HEIGHT)
    # Counts of a frame without electrons, more of them to the right.
    dark = np.broadcast_to(np.linspace(0, 12, entries.WIDTH).round().astype("float32"),
                           (entries.HEIGHT, entries.WIDTH))
    told = {}
    for number in range(1, COUNT + 1):
        frames, told["m_%d" % number] = entries.make_movie(number, camera)
        told["m_%d" % number]["corners"] = true_corners(frames, camera)
        upside = frames[:, ::-1].astype("uint8")
        movies.write_mrc(os.path.join(root, DARK, "data", "m_%d.mrc" % number), frames + dark.astype("int8"),
                         entries.PIXEL_SIZE)
        movies.write_mrc(os.path.join(root, TURNED, "data", "m_%d.mrc" % number), frames, entries.PIXEL_SIZE)
        for name, folder in FORMATS.items():
            path = os.path.join(root, folder, "data", "m_%d.%s" % (number, "mrc" if name == "MRC" else "tif"))
            if name == "MRC":
                movies.write_mrc(path, frames, entries.PIXEL_SIZE)
            elif name == "TIFF":
                movies.write_tiff(path, upside)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                tifffile.imwrite(path, upside, photometric="minisblack", compression="lzw")
    movies.write_image(os.path.join(root, DARK, "data", "dark.mrc"), dark)
    movies.write_image(os.path.join(root, TURNED, "data", "gain.mrc"), np.rot90(camera.gain, -1))
    for name, folder in [*FORMATS.items(), ("MRC", DARK), ("MRC", TURNED)]:
        data = os.path.join(root, folder, "data")
        if name == "TIFF":
            movies.write_image(os.path.join(data, "gain.tif"), camera.gain[::-1])
        elif folder != TURNED:
            movies.write_image(os.path.join(data, "gain.mrc"), camera.gain)
        demo.entries[folder] = entry(image_set(
            directory="data", data_format="MRC" if name == "MRC" else "TIFF", num_images_or_tilt_series=COUNT,
            frames_per_image=entries.FRAMES, pixel_width=entries.PIXEL_SIZE, pixel_height=entries.PIXEL_SIZE,
            image_width=str(entries.WIDTH), image_height=str(entries.HEIGHT)))
    return told


def write_eer(root, demo):
    """One movie with a gain as Falcon cameras have it -> its drift and its corners."""
    random = np.random.default_rng(9)
    seen = specimen.field(random, EER_SIDE, EER_SIDE, entries.PIXEL_SIZE, specimen.Optics(12000, 11600, 20))
    camera, drift = specimen.Camera(EER_SIDE, EER_SIDE), specimen.drift(EER_FRAMES, random, 8.0)
    events = np.stack([camera.expose(specimen.moved(seen.intensity, x, y), EER_ELECTRONS, random) > 0
                       for x, y in drift])
    data = os.path.join(root, EER, "data")
    os.makedirs(data)
    movies.write_eer(os.path.join(data, "m_1.eer"), events)
    movies.write_image(os.path.join(data, "gain.tif"), camera.gain)
    os.replace(os.path.join(data, "gain.tif"), os.path.join(data, "EER_GainReference.gain"))
    demo.entries[EER] = entry(image_set(
        directory="data", data_format="EER", num_images_or_tilt_series=1, frames_per_image=EER_FRAMES,
        pixel_width=entries.PIXEL_SIZE, pixel_height=entries.PIXEL_SIZE, image_width=str(EER_SIDE),
        image_height=str(EER_SIDE)))
    return drift, true_corners(events, camera)


class MotionCase(DownstreamCase):

    @classmethod
    def fill(cls):
        cls.told = write_formats(cls.root, cls.demo)
        cls.demo.emdb["EMD-0001"] = emdb(dose=entries.DOSE_PER_FRAME * entries.FRAMES, frames=entries.FRAMES)

    def begin(self, number, **form):
        """A download that has its first movie and goes on."""
        self.demo.rate = RATE
        run = self.new(entryId=number, allImages=True, connections=1, **form)
        self.launch(run, wait=False)
        return self.with_output(run)

    def attach(self, protocol):
        """Launch a consumer while the set is open, and let the archive be quick again."""
        self.launch(protocol, wait=False)
        self.wait_for(lambda: self.fresh(protocol).isActive(), 60, "the begin of the consumer")
        source = self.fresh(protocol.inputMovies.getObjValue())
        self.assertTrue(source.outputMovies.isStreamOpen(), "the download was over before its consumer began")
        self.demo.rate = 0
        done = self.ended(protocol, 300)
        self.assertTrue(done.isFinished(), done.getErrorMessage())
        return done

    def micrographs(self, run, output="outputMicrographs"):
        micrographs = getattr(run, output)
        self.assertEqual((COUNT, entries.PIXEL_SIZE, True), (
            micrographs.getSize(), micrographs.getSamplingRate(), micrographs.isStreamClosed()))
        return [item.clone() for item in micrographs.iterItems()]


@unittest.skipIf(programs.missing("relion", relion=True), programs.missing("relion", relion=True))
class TestRelion(MotionCase):
    PLUGINS = ("relion",)
    RELION = True

    def check_format(self, name):
        run = self.begin(FORMATS[name])
        done = self.attach(self.on("ProtRelionMotioncor", {"inputMovies": (run, "outputMovies")}, saveFloat16=False,
                                   doDW=True, saveNonDW=True, savePSsum=False, numberOfThreads=2))
        for micrograph in self.micrographs(done):
            stem = os.path.basename(micrograph.getFileName()).replace("_aligned_mic.mrc", "")
            self.check_micrograph(micrograph.getFileName(), relion_shifts(done._getExtraPath(stem + ".star")),
                                  self.told[stem]["drift"], self.told[stem]["corners"])
        self.micrographs(done, "outputMicrographsDoseWeighted")

    def test_mrc(self):
        self.check_format("MRC")

    def test_tiff_with_a_gain_in_tiff(self):
        self.check_format("TIFF")

    def test_lzw_with_a_gain_in_mrc(self):
        self.check_format("LZW")


@unittest.skipIf(programs.missing("relion", relion=True), programs.missing("relion", relion=True))
class TestEer(DownstreamCase):
    PLUGINS = ("relion",)
    RELION = True

    @classmethod
    def fill(cls):
        cls.drift, cls.corners = write_eer(cls.root, cls.demo)
        cls.demo.emdb["EMD-0001"] = emdb(dose=EER_ELECTRONS * EER_FRAMES / entries.PIXEL_SIZE ** 2)

    def test_relion(self):
        run = self.finish(self.new(entryId=EER, allImages=True))
        done = self.finish(self.on("ProtRelionMotioncor", {"inputMovies": (run, "outputMovies")}, saveFloat16=False,
                                   doDW=False, savePSsum=False, eerGroup=1, numberOfThreads=2))
        micrograph = done.outputMicrographs.getFirstItem()
        self.check_micrograph(micrograph.getFileName(), relion_shifts(done._getExtraPath("m_1.star")),
                              self.drift, self.corners)


@unittest.skipIf(programs.missing("motioncorr"), programs.missing("motioncorr"))
class TestMotionCor(MotionCase):
    """By a stand-in, which fails where MotionCor only warns."""
    PLUGINS = ("motioncorr",)

    def check_done(self, done, output="outputMicrographsDoseWeighted"):
        for micrograph in self.micrographs(done, output):
            name = os.path.basename(micrograph.getMicName() or micrograph.getFileName())
            stem = os.path.splitext(name)[0]
            number = micrograph.getObjId()
            log, = glob.glob(done._getExtraPath("*%s*.log" % (stem if os.path.exists(
                done._getExtraPath(stem + "-Full.log")) else "%06d" % number)))
            self.check_micrograph(micrograph.getFileName(), log_shifts(log), self.told[stem]["drift"],
                                  self.told[stem]["corners"])

    def test_each_format(self):
        """R1: the gain's path is found from the program's own folder, in another one for each movie."""
        for name, number in FORMATS.items():
            with self.subTest(name):
                if os.path.exists(programs.CALLS):
                    os.remove(programs.CALLS)
                run = self.begin(number)
                done = self.attach(self.on("ProtMotionCorr", {"inputMovies": (run, "outputMovies")}, patchX=0, patchY=0,
                                           numberOfThreads=2))
                self.check_done(done)
                calls = self.calls("MotionCor3")
                self.assertEqual(COUNT, len(calls))
                for call in calls:
                    words = call["words"]
                    gain = words[words.index("-Gain") + 1]
                    self.assertTrue(os.path.isabs(gain) and os.path.exists(gain), gain)
                    self.assertNotEqual(self.proj.getPath(), call["folder"])
                    self.assertEqual((entries.PIXEL_SIZE, entries.DOSE_PER_FRAME), (
                        float(words[words.index("-PixSize") + 1]), float(words[words.index("-FmDose") + 1])))

    def test_a_dark_reference(self):
        run = self.finish(self.new(entryId=DARK, allImages=True))
        if os.path.exists(programs.CALLS):
            os.remove(programs.CALLS)
        done = self.finish(self.on("ProtMotionCorr", {"inputMovies": (run, "outputMovies")}, patchX=0, patchY=0))
        self.check_done(done)
        for call in self.calls("MotionCor3"):
            self.assertEqual(os.path.abspath(run._getExtraPath("dark.mrc")), os.path.realpath(
                call["words"][call["words"].index("-Dark") + 1]))

    def test_a_gain_that_lies_on_its_side(self):
        """It is said, and right once the user has turned it as the summary asks for."""
        run = self.finish(self.new(entryId=TURNED, allImages=True))
        self.assertIn("which fits the movies only when turned by 90 degrees", "\n".join(run.summary()))
        movies_as_they_are = {"inputMovies": (run, "outputMovies")}
        self.check_done(self.finish(self.on("ProtMotionCorr", movies_as_they_are, patchX=0, patchY=0, gainRot=1)))
        refused = self.on("ProtMotionCorr", movies_as_they_are, patchX=0, patchY=0)
        self.launch(refused)
        micrographs = getattr(self.fresh(refused), "outputMicrographsDoseWeighted", None)
        self.assertFalse(micrographs is not None and micrographs.getSize(), self.fresh(refused).getStatus())

    @unittest.skipIf(programs.missing("warp"), programs.missing("warp"))
    def test_warp(self):
        run = self.begin(FORMATS["LZW"])
        done = self.attach(self.on("ProtWarpMotionCorr", {"inputMovies": (run, "outputMovies")}, streamingBatchSize=1,
                                   streamingSleepOnWait=2, range_min=500, range_max=10))
        for micrograph in self.micrographs(done, "Micrographs"):
            stem = os.path.splitext(os.path.basename(micrograph.getFileName()))[0]
            log = os.path.join(os.path.dirname(micrograph.getFileName()), stem + "-Full.log")
            self.check_micrograph(micrograph.getFileName(), log_shifts(log), self.told[stem]["drift"],
                                  self.told[stem]["corners"])

    def test_tasks(self):
        """The same program on batches of movies, in folders of their own."""
        run = self.begin(FORMATS["MRC"])
        done = self.attach(self.on("ProtMotionCorrTasks", {"inputMovies": (run, "outputMovies")}, patchX=0, patchY=0,
                                   streamingSleepOnWait=2, streamingBatchSize=1))
        self.check_done(done)

    def test_after_the_project_has_moved(self):
        """An absolute path is of the old place: Continue of the download writes the new one, and says so."""
        run = self.finish(self.new(entryId=FORMATS["MRC"], allImages=True))
        there = self.proj.getPath() + "_moved"
        shutil.copytree(self.proj.getPath(), there, symlinks=True)
        self.addCleanup(shutil.rmtree, there, ignore_errors=True)
        kept = self.proj
        try:
            type(self).proj = Project(kept._domain, there)
            self.proj.load()
            os.chdir(there)
            # As if the old place were gone.
            gain = run.outputMovies.getGain()
            os.rename(gain, gain + "_away")
            self.addCleanup(os.rename, gain + "_away", gain)
            moved = self.proj.getProtocol(run.getObjId())
            self.assertIn("*The gain reference is not at %s any more*" % gain, "\n".join(moved.summary()))
            again = self.finish(self.again(moved))
            self.assertNotIn("any more", "\n".join(again.summary()))
            self.assertTrue(again.outputMovies.getGain().startswith(there), again.outputMovies.getGain())
            done = self.finish(self.on("ProtMotionCorr", {"inputMovies": (again, "outputMovies")}, patchX=0, patchY=0))
            self.check_done(done)
            with open(again._getLogsPath("run.stdout")) as stream:
                self.assertIn("The path of the gain reference of outputMovies is this project's now.", stream.read())
        finally:
            type(self).proj = kept

    def test_stop_and_continue_all(self):
        """The consumer is attached, the download is stopped; Continue with all that depend on it ends both well."""
        run = self.begin(FORMATS["MRC"])
        consumer = self.on("ProtMotionCorr", {"inputMovies": (run, "outputMovies")}, patchX=0, patchY=0)
        self.launch(consumer, wait=False)
        self.wait_for(lambda: self.fresh(consumer).isActive(), 60, "the begin of the consumer")
        self.proj.stopProtocol(self.fresh(run))
        self.wait_for(lambda: not self.fresh(run).isActive(), 60, "the stop")
        self.proj.stopProtocol(self.fresh(consumer))
        self.demo.rate = 0
        workflow, _ = self.proj._getSubworkflow(self.fresh(run))
        errors = self.proj.launchWorkflow(workflow, MODE_RESUME)
        self.assertFalse(errors, errors)
        self.assertTrue(self.ended(run, 120).isFinished())
        done = self.ended(consumer, 200)
        self.assertTrue(done.isFinished(), done.getErrorMessage())
        self.check_done(done)


if __name__ == "__main__":
    unittest.main()
