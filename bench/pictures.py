# SPDX-License-Identifier: GPL-3.0-or-later
"""How soon the viewer shows its first screenful, and what memory that takes."""
import os
import subprocess
import sys
import tempfile

import numpy as np

from empiardownloader.demo import movies
from empiardownloader.tests.test_gui import missing, screen

SCRIPT = """
import os, sys, time
import matplotlib
matplotlib.use("TkAgg")
import pyworkflow as pw
pw.Config.getDomain().getPlugins()
from pwem.objects import Movie, SetOfMovies
os.chdir(sys.argv[1])
names = sorted(os.listdir("extra"))
count = int(sys.argv[2])
movies = SetOfMovies.create(".")
movies.setSamplingRate(1.0)
for number in range(count):
    movie = Movie(location=os.path.join("extra", names[number % len(names)]))
    movie.setMicName("m_%05d" % number)
    movies.append(movie)
movies.write()
movies.close()
from empiardownloader.viewers.viewer_empiar import ImagesPage
sys.path.insert(0, sys.argv[3])
from transfer import peak_memory
before = peak_memory()
began = time.monotonic()
page = ImagesPage(movies.getFileName(), type(movies))
page.show()
assert page.wait(120)
page.figure.canvas.draw()
print("BENCH", time.monotonic() - began, peak_memory() - before, peak_memory())
os._exit(0)
"""


def measure_viewer():
    if missing():
        print("left out: %s" % missing())
        return
    for count, files, size in ((10000, 100, (2, 64, 64)), (12, 12, (40, 4096, 4096))):
        with tempfile.TemporaryDirectory() as folder, screen() as display:
            first = os.path.join(folder, "extra", "m_000.mrc")
            if size[1] > 1000:
                write_large(first, *size)
            else:
                movies.write_movie(first, 1, *size)
            for number in range(1, files):
                os.link(first, os.path.join(folder, "extra", "m_%03d.mrc" % number))
            done = subprocess.run([sys.executable, "-c", SCRIPT, folder, str(count),
                                   os.path.dirname(os.path.abspath(__file__))], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, env=dict(os.environ, DISPLAY=display),
                                  check=False)
            lines = [line for line in done.stdout.splitlines() if line.startswith("BENCH")]
            if not lines:
                raise RuntimeError(done.stdout[-2000:])
            seconds, memory, peak = (float(word) for word in lines[0].split()[1:])
        print("%d movies of %d x %d x %d: first screenful after %.1f s, memory grows by %.0f to %.0f MB" % (
            count, size[2], size[1], size[0], seconds, memory, peak))


def write_large(path, frames, height, width):
    """One frame of noise, written again and again: random numbers for 671 million pixels would take minutes."""
    os.makedirs(os.path.dirname(path))
    frame = movies.make_frames(1, 1, 1024, 1024, "int8")[0]
    data = np.tile(frame, (height // 1024, width // 1024))
    movies.write_mrc(path, np.broadcast_to(data, (frames, height, width)))
