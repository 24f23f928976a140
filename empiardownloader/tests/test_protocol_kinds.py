# SPDX-License-Identifier: GPL-3.0-or-later
"""Real runs for every kind of image set."""
import contextlib
import importlib
import os
import signal
import sqlite3
import subprocess
import sys
import time

from empiardownloader import constants
from empiardownloader.demo import kinds
from empiardownloader.tests.base import ProtocolTestCase, emdb, entry, read_bytes
from empiardownloader.tests.forked import elsewhere
from empiardownloader.tests.surroundings import environment

TRANSPORTS = {"FTP": constants.TRANSPORT_FTP, "HTTPS": constants.TRANSPORT_HTTPS}
# Kind -> output, its class, its size, name of its first item's file where all comes in order.
OUTPUTS = {
    "micrographs": ("outputMicrographs", "SetOfMicrographs", 6),
    "particles": ("outputParticles", "SetOfParticles", kinds.STACKS * kinds.PARTICLES_A_STACK),
    "class averages": ("outputAverages", "SetOfAverages", 50), "volumes": ("outputVolumes", "SetOfVolumes", 3),
    "subtomograms": ("outputSubTomograms", "SetOfSubTomograms", 4),
    "tilt series": ("outputTiltSeriesM", "SetOfTiltSeriesM", len(kinds.SERIES)),
    "tilt stacks": ("outputTiltSeries", "SetOfTiltSeries", 2), "files": (None, None, 0),
    "tilt images": ("outputMicrographs", "SetOfMicrographs", 21)}


def read_set(folder, name, path):
    """What a process sees that knows nothing but a set's class and file: size, pixel size, whether it is closed, and
    the files of all items."""
    os.chdir(folder)
    module = "pwem.objects" if hasattr(importlib.import_module("pwem.objects"), name) else "tomo.objects"
    items = getattr(importlib.import_module(module), name)(filename=path)
    items.loadAllProperties()
    files = []
    for item in items.iterItems():
        files += [image.getFileName() for image in item.iterItems()] if "TiltSeries" in name else [item.getFileName()]
    return items.getSize(), items.getSamplingRate(), items.isStreamClosed(), files


class KindsCase(ProtocolTestCase):

    @classmethod
    def fill(cls):
        for kind, number in kinds.NUMBERS.items():
            cls.demo.entries[number] = entry(kinds.build(cls.root, kind))
        cls.demo.emdb["EMD-0001"] = emdb()

    def read(self, protocol, output, name):
        """What another process reads in an output's file: size, pixel size, whether it is closed, its files."""
        return elsewhere(read_set, os.path.abspath(self.proj.getPath()), name, getattr(protocol, output).getFileName())

    def check_output(self, run, kind):
        output, name, size = OUTPUTS[kind]
        if output is None:
            self.assertEqual([], list(run.iterOutputAttributes()))
            return
        count, sampling, closed, files = self.read(run, output, name)
        self.assertEqual((size, kinds.PIXEL_SIZE, True), (count, sampling, closed), kind)
        self.assertEqual(name, getattr(run, output).getClassName())
        for path in set(files):
            self.assertTrue(os.path.exists(os.path.join(self.proj.getPath(), path)), path)
        # Nothing twice.
        if kind in ("micrographs", "volumes", "subtomograms", "tilt series"):
            self.assertEqual(len(files), len(set(files)), kind)

    def check_bytes(self, run, kind):
        """Every file of the entry is here, and as it is there."""
        facts = run.readFacts()
        root = os.path.join(self.root, kinds.NUMBERS[kind])
        for name, image in facts.images.items():
            self.assertEqual(read_bytes(os.path.join(root, image.path)), read_bytes(self.extra(run, name)), name)
        return facts


class TestEveryKind(KindsCase):

    def test_each_kind_over_each_transport(self):
        runs = {}
        for kind, number in kinds.NUMBERS.items():
            for transport, choice in TRANSPORTS.items():
                run = runs[kind, transport] = self.new(entryId=number, allImages=True, transport=choice)
                self.launch(run, wait=False)
        for (kind, transport), run in runs.items():
            with self.subTest(kind, transport=transport):
                run = self.ended(run, 300)
                self.assertTrue(run.isFinished(), run.getErrorMessage())
                self.check_output(run, kind)
                self.check_bytes(run, kind)
                summary = "\n".join(run.summary())
                words = {"files": "Scipion does not read SMV files",
                         "tilt stacks": "registered in no set: there is no .mdoc"}
                self.assertIn(words.get(kind, OUTPUTS[kind][0]), summary)
                self.check_what_is_known(run, kind)

    def check_what_is_known(self, run, kind):
        if kind == "micrographs":
            first = run.outputMicrographs.getFirstItem()
            self.assertTrue(first.getMicName().startswith("Falcon_2012_06_12-"))
            self.assertIsNone(run.outputMicrographs.getAcquisition().getDosePerFrame())
            self.assertEqual(6, sum(name.endswith(".coord") for name in os.listdir(self.extra(run))))
        elif kind == "particles":
            self.check_particles(run.outputParticles)
        elif kind == "volumes":
            origin = run.outputVolumes.getFirstItem().getOrigin().getShifts()
            self.assertEqual([-kinds.VOXELS / 2 * kinds.PIXEL_SIZE] * 3, list(origin))
            # R9: a map knows its halves, which stay volumes.
            halves = {os.path.basename(volume.getFileName()): [os.path.basename(half) for half in list(
                volume.getHalfMaps(asList=True))] for volume in run.outputVolumes.iterItems()}
            self.assertEqual({"run_class001.mrc": ["run_half%d_class001_unfil.mrc" % half for half in (1, 2)],
                              "run_half1_class001_unfil.mrc": [], "run_half2_class001_unfil.mrc": []}, halves)
        elif kind == "tilt series":
            self.check_tilts(run.outputTiltSeriesM, "_000_0.0.mrc")
            self.assertEqual(21, run.outputMovies.getSize())
            self.assertAlmostEqual(kinds.DOSE_PER_TILT / kinds.FRAMES,
                                   run.outputMovies.getAcquisition().getDosePerFrame())
        elif kind == "tilt images":
            self.assertEqual(kinds.DOSE_PER_TILT, run.outputMicrographs.getAcquisition().getDosePerFrame())
        elif kind == "tilt stacks":
            series = run.outputTiltSeries.getFirstItem()
            self.assertEqual([(number, angle) for number, angle in enumerate(sorted(kinds.ANGLES), start=1)],
                             [(tilt.getLocation()[0] and number, tilt.getTiltAngle())
                              for number, tilt in enumerate(series.iterItems(), start=1)])
        elif kind == "files":
            self.assertEqual(["frame 000.smv", "frame 001.smv", "frame 002.smv"],
                             sorted(os.listdir(self.extra(run, "crystal_1"))))

    def check_particles(self, particles):
        self.assertTrue(particles.hasCTF())
        self.assertTrue(particles.hasAlignmentProj())
        self.assertEqual(300.0, particles.getAcquisition().getVoltage())
        self.assertIn("rlnImagePixelSize", particles.getAcquisition().opticsGroupInfo.get())
        first = particles.getFirstItem()
        self.assertEqual((15010.0, 14810.0, 45.0), (first.getCTF().getDefocusU(), first.getCTF().getDefocusV(),
                                                    first.getCTF().getDefocusAngle()))
        self.assertTrue(first.getCoordinate().getMicName().endswith("_particles.mrc"))
        self.assertEqual((1, 2, 2), (first.getLocation()[0], first._rlnRandomSubset.get(), first.getClassId()))
        self.assertEqual((4, 4), first.getTransform().getMatrix().shape)

    def check_tilts(self, seriesSet, ending):
        self.assertEqual(set(kinds.SERIES), set(seriesSet.getTSIds()))
        for series in seriesSet.iterItems():
            tilts = sorted((tilt.clone() for tilt in series.iterItems()), key=lambda tilt: tilt.getAcquisitionOrder())
            self.assertEqual(list(kinds.ANGLES), [tilt.getTiltAngle() for tilt in tilts])
            self.assertTrue(tilts[0].getFileName().endswith(ending))
            self.assertEqual([kinds.DOSE_PER_TILT * number for number in range(len(tilts))],
                             [tilt.getAcquisition().getDoseInitial() for tilt in tilts])
            self.assertEqual(85.3, series.getAcquisition().getTiltAxisAngle())
            self.assertEqual(kinds.DOSE_PER_TILT * len(tilts), series.getAcquisition().getAccumDose())


BLOCK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tomo", "relion"):
            raise ModuleNotFoundError("no module " + name, name=name)

sys.meta_path.insert(0, Absent())
"""


class TestWithoutOtherPlugins(KindsCase):
    FORKED = False

    def test_what_needs_tomo_says_so(self):
        """Where neither scipion-em-tomo nor scipion-em-relion is there: files, movies and a sentence."""
        folder = os.path.join(self.folder, "absent")
        os.makedirs(folder)
        with open(os.path.join(folder, "sitecustomize.py"), "w") as stream:
            stream.write(BLOCK)
        words = {"tilt series": "For whole tilt series: close Scipion, install scipion-em-tomo",
                 "particles": "with CTF, with alignment",
                 "tilt stacks": "for that close Scipion, install scipion-em-tomo",
                 "subtomograms": "For a set of subtomograms: close Scipion, install scipion-em-tomo"}
        runs = {}
        with environment(PYTHONPATH=os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)):
            for kind in words:
                runs[kind] = self.new(entryId=kinds.NUMBERS[kind], allImages=True)
                self.launch(runs[kind], wait=False)
            for kind, run in runs.items():
                runs[kind] = self.ended(run, 200)
            script = ("import os; os.environ.setdefault('SCIPION_DOMAIN', 'pwem'); import sys, pyworkflow as pw\n"
                      "pw.Config.getDomain().getProtocols()\n"
                      "from pyworkflow.project import Manager\n"
                      "project = Manager().loadProject(sys.argv[1])\n"
                      "for run in project.getRuns(): print(run.getObjId(), ' '.join(run.summary()))\n")
            said = subprocess.run([sys.executable, "-c", script, self.proj.getName()], stdout=subprocess.PIPE,
                                  text=True, check=True).stdout
        for kind, run in runs.items():
            self.assertTrue(run.isFinished(), run.getErrorMessage())
            self.check_bytes(run, kind)
            self.assertTrue(any(line.startswith("%d " % run.getObjId()) and words[kind] in line
                                for line in said.splitlines()), (kind, said))
        self.assertEqual({"outputMovies": 21, "outputParticles": 120}, {
            name: output.getSize() for run in runs.values() for name, output in run.iterOutputAttributes()})


class TestKilled(KindsCase):
    RATE = 10 << 10     # slow enough to be seen half done

    def rows(self, protocol):
        """How many items the database of the output has, whoever writes it."""
        paths = [os.path.join(self.proj.getPath(), protocol._getPath(name)) for name in os.listdir(os.path.join(
            self.proj.getPath(), protocol._getPath())) if name.endswith(".sqlite") and name != "steps.sqlite"]
        for path in paths:
            try:
                with sqlite3.connect("file:%s?mode=ro" % path, uri=True) as database:
                    return database.execute("SELECT COUNT(*) FROM Objects").fetchone()[0]
            except sqlite3.Error:
                continue
        return 0

    def test_killed_in_the_middle_and_continued(self):
        """While it is open another process reads it; nothing is registered twice."""
        runs = {}
        for number, kind in enumerate(kinds.NUMBERS):
            runs[kind] = self.new(entryId=kinds.NUMBERS[kind], allImages=True, numberOfThreads=4,
                                  connections=8 if kind == "tilt series" else 1,
                                  transport=list(TRANSPORTS.values())[number % 2])
            self.launch(runs[kind], wait=False)
        seen, killed, waiting = {}, [], {kind for kind in runs if OUTPUTS[kind][0]}

        def look():
            # All runs are read at once: what takes longer finds them over.
            now = {run.getObjId(): run for run in self.proj.getRuns(refresh=True)}
            for kind in sorted(waiting):
                fresh = now[runs[kind].getObjId()]
                if not hasattr(fresh, OUTPUTS[kind][0]):
                    continue
                seen[kind] = self.read(fresh, *OUTPUTS[kind][:2])
                waiting.remove(kind)
                # Signal 9 to process 0, which stands for a run that is over, would end the tests; others end meanwhile.
                with contextlib.suppress(ProcessLookupError):
                    if fresh.getPid() > 1:
                        os.kill(fresh.getPid(), signal.SIGKILL)
                        killed.append(kind)
            return not waiting

        self.wait_for(look, 180, "the output of every kind")
        for kind, (count, sampling, _, _) in seen.items():
            self.assertTrue(0 < count <= OUTPUTS[kind][2], kind)
            self.assertEqual(kinds.PIXEL_SIZE, sampling, kind)
        # On a busy machine the smaller ones may be whole before anybody looks.
        self.assertGreater(sum(not closed for _, _, closed, _ in seen.values()), 1)
        self.assertGreater(len(killed), 1)
        self.demo.rate = 0
        time.sleep(1)
        again = {}
        for kind, run in runs.items():
            self.ended(run)
            again[kind] = self.again(run)
            self.launch(again[kind], wait=False)
        for kind, run in again.items():
            with self.subTest(kind):
                run = self.ended(run, 240)
                self.assertTrue(run.isFinished(), run.getErrorMessage())
                self.check_output(run, kind)
                self.check_bytes(run, kind)
                if kind in seen:
                    self.assertLessEqual(set(seen[kind][3]), set(self.read(run, *OUTPUTS[kind][:2])[3]))
