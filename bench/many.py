# SPDX-License-Identifier: GPL-3.0-or-later
"""What thousands of movies cost the protocol: registering those that are there, and each check of the engine."""
import os
import subprocess
import sys
import tempfile

SCRIPT = """
import os, resource, sys, time
from empiardownloader.tests.base import ProtocolTestCase, entry, image_set
from empiardownloader.demo import movies
from empiardownloader.protocols import EmpiarDownloader

class Bench(ProtocolTestCase):
    def test(self):
        count = int(os.environ["BENCH_MOVIES"])
        shared = os.path.join(self.folder, "shared")
        folder = os.path.join(shared, "50000", "data", "Movies")
        first = os.path.join(folder, "m_00000.mrc")
        movies.write_movie(first, 1, frames=2, width=8, height=8)
        for number in range(1, count):
            os.link(first, os.path.join(folder, "m_%05d.mrc" % number))
        os.makedirs(os.path.join(self.root, "50000"))
        os.symlink(os.path.join(shared, "50000", "data"), os.path.join(self.root, "50000", "data"))
        self.demo.entries["50000"] = entry(image_set(num_images_or_tilt_series=count, frames_per_image=2))
        protocol = self.finish(self.new(entryId="50000", allImages=True, downloadFolder=shared, connections=8))
        self.assertEqual(count, protocol.outputMovies.getSize())
        steps = protocol.loadSteps()
        registering = sum(step.getElapsedTime().total_seconds() for step in steps
                          if str(step.funcName) == "registerImageStep")
        whole = (protocol.endTime.datetime() - protocol.initTime.datetime()).total_seconds()
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
        print("BENCH", whole, registering, len(steps), peak)
"""

PROTOCOL = """
import os, tempfile, time
import pyworkflow as pw
pw.Config.getDomain().getPlugins()
from pyworkflow.mapper import SqliteMapper
from pyworkflow.protocol.constants import STATUS_FINISHED
from empiardownloader.archive import metadata
from empiardownloader.download.record.events import DescriptionChosen, ImageArrived
from empiardownloader.download.record.log import add_event
from empiardownloader.demo import movies
from empiardownloader.protocols import EmpiarDownloader
from empiardownloader.tests.base import entry, image_set

def protocol_in(folder):
    os.chdir(folder)
    protocol = EmpiarDownloader(workingDir="run", downloadGain=False)
    for name in ("run/extra", "run/logs"):
        os.makedirs(name)
    protocol.mapper = SqliteMapper("run/logs/run.db", pw.Config.getDomain().getMapperDict())
    protocol.mapper.store(protocol)
    protocol._insertAllSteps()
    protocol._getStep(protocol._readId).setStatus(STATUS_FINISHED)
    protocol._storeSteps()
    open(protocol.getRecordFile(), "w").close()
    metadata.write_whole(protocol.getMetadataFile(), {"number": "1", "entry": entry(image_set()), "settled": True,
        "acquisition": {"notes": []}})
    movies.write_movie("run/extra/m_00000.mrc", 1, frames=2, width=8, height=8)
    return protocol

def movie(number):
    name = "m_%05d.mrc" % number
    if number:
        os.link("run/extra/m_00000.mrc", "run/extra/" + name)
    return name
"""

# One step registers all movies, which lie on disk: nothing else runs beside it.
REGISTER = PROTOCOL + """
protocol = protocol_in(tempfile.mkdtemp())
names = [movie(number) for number in range(int(os.environ["BENCH_MOVIES"]))]
began = time.perf_counter()
protocol.registerImageStep(*names)
assert protocol.outputMovies.getSize() == len(names)
print("BENCH", time.perf_counter() - began)
"""

# The same for 200 particles a stack, described by a .star file, and for micrographs.
KINDS = PROTOCOL + """
from empiardownloader.demo import kinds
protocol = protocol_in(tempfile.mkdtemp())
count = int(os.environ["BENCH_FILES"])
particles = os.environ["BENCH_KIND"] == "particles"
category, box, each = ("picked particles - single frame - processed", 32, 200) if particles else (
    "micrographs - single frame", 64, 1)
metadata.write_whole(protocol.getMetadataFile(), {"number": "1", "entry": entry(image_set(category=category)),
                                                   "settled": True, "acquisition": {"notes": []}})
names = ["s_%05d.mrcs" % number for number in range(count)]
kinds.write_stack("run/extra/" + names[0], 1, each, box, box)
for name in names[1:]:
    os.link("run/extra/" + names[0], "run/extra/" + name)
if particles:
    kinds.write_text("run/extra/all.star", kinds.particles_star(names, each))
    add_event(protocol.getRecordFile(), DescriptionChosen(("all.star",), ("all.star",), failed=False))
for name in names:
    star = "all.star" if particles else None
    add_event(protocol.getRecordFile(), ImageArrived(name, name, 1, star=star, stack=name))
def memory(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what)) / 1024
before = memory("VmRSS")
began = time.perf_counter()
protocol.registerImageStep(*names)
seconds = time.perf_counter() - began
output = protocol.outputParticles if particles else protocol.outputMicrographs
assert output.getSize() == count * each
print("BENCH", seconds, memory("VmHWM") - before)
"""

# One movie arrives before each check of the engine.
CHECKS = PROTOCOL + """
protocol = protocol_in(tempfile.mkdtemp())
spans = {}
for number in range(1, 10051):
    name = movie(number)
    add_event(protocol.getRecordFile(), ImageArrived(name, name, 1))
    began = time.perf_counter()
    protocol._stepsCheck()
    seconds = time.perf_counter() - began
    for mark in (1000, 10000):
        if mark <= number < mark + 50:
            spans[mark] = spans.get(mark, 0) + seconds / 50
assert len(protocol._steps) == 3 + number, len(protocol._steps)
began = time.perf_counter()
protocol.updateSteps()
print("BENCH", spans[1000], spans[10000], time.perf_counter() - began)
"""


def run(script, **variables):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "measured.py")
        with open(path, "w") as stream:
            stream.write(script)
        command = [sys.executable, *(["-m", "unittest", "measured"] if "class Bench" in script else [path])]
        done = subprocess.run(command, cwd=folder, env=dict(os.environ, **variables), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("BENCH")]
    if not lines:
        raise RuntimeError(done.stdout[-3000:])
    return [float(word) for word in lines[0].split()[1:]]


def measure_many():
    for count in (1000, 10000):
        whole, registering, steps, peak = run(SCRIPT, BENCH_MOVIES=str(count))
        print("%d movies that are there already: the run %.1f s, registering %.1f s of it in %d steps, peak memory "
              "%.0f MB" % (count, whole, registering, steps - 3, peak))
    costs = {count: min(run(REGISTER, BENCH_MOVIES=str(count))[0] / count for _ in range(3)) for count in (1000, 10000)}
    print("registering, %.3f ms a movie for 1,000 and %.3f ms for 10,000: %.2f" % (
        costs[1000] * 1000, costs[10000] * 1000, costs[10000] / costs[1000]))
    for kind, few, many, words in (("particles", 50, 500, "stacks of 200 particles"),
                                   ("micrographs", 1000, 10000, "micrographs")):
        (less, _), (more, megabytes) = (run(KINDS, BENCH_KIND=kind, BENCH_FILES=str(count)) for count in (few, many))
        print("registering %d %s: %.1f s and %.0f MB more memory; %.2f times what ten times %d of them take" % (
            many, words, more, megabytes, more / (10 * less), few))
    early, late, rewriting = run(CHECKS)
    print("one movie a check: %.2f ms a check at 1,000 steps, %.2f ms at 10,000: %.2f (updateSteps would take %.0f ms)"
          % (early * 1000, late * 1000, late / early, rewriting * 1000))
