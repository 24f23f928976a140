# SPDX-License-Identifier: GPL-3.0-or-later
"""Real runs for every kind of image set."""
import contextlib
import os
import sqlite3
import subprocess
import sys

from empiardownloader import constants
from empiardownloader.demo import kinds
from empiardownloader.protocols.outputs import hasTomo
from empiardownloader.tests.base import ProtocolTestCase, emdb, entry, read_bytes

OUTPUTS = {
    "micrographs": ("outputMicrographs", "SetOfMicrographs", 6), "particles": ("outputParticles", "SetOfParticles", 120),
    "class averages": ("outputAverages", "SetOfAverages", 20), "volumes": ("outputVolumes", "SetOfVolumes", 3),
    "subtomograms": ("outputSubTomograms", "SetOfSubTomograms", 4), "tilt series": ("outputMovies", "SetOfMovies", 21),
    "tilt stacks": ("outputTiltSeries", "SetOfTiltSeries", 2), "files": (None, None, 0)}
READ = """
import os, sys
os.environ.setdefault("SCIPION_DOMAIN", "pwem")
import pyworkflow as pw
pw.Config.getDomain()
from pwem import objects
name, path = sys.argv[1:]
try:
    kind = getattr(objects, name)
except AttributeError:
    import tomo.objects
    kind = getattr(tomo.objects, name)
items = kind(filename=path)
items.loadAllProperties()
first = items.getFirstItem()
location = getattr(first, "getLocation", lambda: (0, first.getTsId()))()
print(items.getSize(), location, items.getSamplingRate(), items.isStreamClosed(), first.getDim())
"""


class KindsCase(ProtocolTestCase):

    @classmethod
    def fill(cls):
        for kind, number in kinds.NUMBERS.items():
            cls.demo.entries[number] = entry(kinds.build(cls.root, kind))
        cls.demo.emdb["EMD-0001"] = emdb(dose=None)

    def read(self, protocol, name, kind):
        """What another process reads in the file of a set: size, first location, pixel size, whether it is closed."""
        path = getattr(protocol, name).getFileName()
        return subprocess.run([sys.executable, "-c", READ, kind, path], stdout=subprocess.PIPE, text=True, check=True,
                              cwd=self.proj.getPath()).stdout


class TestEveryKind(KindsCase):

    def check(self, kind, transport):
        output, name, size = OUTPUTS[kind]
        run = self.finish(self.new(entryId=kinds.NUMBERS[kind], allImages=True, transport=transport))
        print(kind, transport, run.summary())
        if output is None:
            self.assertEqual([], list(run.iterOutputAttributes()))
            return run
        outputSet = getattr(run, output)
        self.assertEqual((name, size), (outputSet.getClassName(), outputSet.getSize()))
        self.assertAlmostEqual(kinds.PIXEL_SIZE, outputSet.getSamplingRate())
        print(self.read(run, output, name))
        return run

    def test_all(self):
        for kind in OUTPUTS:
            for transport in (constants.TRANSPORT_FTP, constants.TRANSPORT_HTTPS):
                with self.subTest(kind, transport=transport):
                    self.check(kind, transport)
