# SPDX-License-Identifier: GPL-3.0-or-later
"""What a live view costs: from registered to shown, images a second, memory after thousands, the processor."""
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
from pictures import write_large

from empiardownloader.live import FijiStreamingBackend, LiveError, NapariStreamingBackend, WebStreamingBackend
from empiardownloader.live.feed import Feed
from empiardownloader.tests.browsers import CHROMIUM, Chromium, found
from empiardownloader.tests.scipion_files import ProjectFiles
from empiardownloader.tests.surroundings import environment
from empiardownloader.tests.test_gui import missing, screen

RUN = """
import os, subprocess, sys, time
from empiardownloader.tests.base import ProtocolTestCase
from empiardownloader.tests.live_case import left_behind

class Bench(ProtocolTestCase):
    RATE = 400000

    def test(self):
        for viewers in ([], ["napari", "fiji", "web"]) * 3:
            followers = [subprocess.Popen([sys.executable, "-m", "empiardownloader.live", viewer, self.proj.getPath()])
                         for viewer in viewers]
            # Until their windows are there.
            self.wait_for(lambda: all(left_behind(follower.pid) for follower in followers), 60)
            time.sleep(5)
            protocol = self.finish(self.new(amountOfImages=12, connections=2))
            steps = (protocol.endTime.datetime() - protocol.initTime.datetime()).total_seconds()
            print("BENCH", len(viewers), steps, flush=True)
            for follower in followers:
                follower.terminate()
                follower.wait()
"""

BACKENDS = (NapariStreamingBackend, FijiStreamingBackend, WebStreamingBackend)
MOVIES, FRAMES, SIDE = 10, 40, 4096
PREVIEWS, PREVIEW_SIDE, MANY = 400, 512, 2000
IDLE_SECONDS = 20
SEEN_IMAGES = 20
# The name of the image whose pixels are on the page.
SEEN = """(() => {
  const image = document.querySelector("#large img");
  return image && image.complete && image.getAttribute("src") === image.closest("figure").dataset.address &&
    image.alt.split(":")[0];
})()"""


def measure_live():
    if missing():
        print("left out: %s" % missing())
        return
    with screen() as display, environment(DISPLAY=display, LIBGL_ALWAYS_SOFTWARE="1"):
        for kind in BACKENDS:
            try:
                kind().check()
            except LiveError as error:
                print("left out: %s" % error)
                continue
            measure_delay(kind)
            measure_previews(kind)
        measure_page()
        measure_run()


def measure_run():
    """A run of twelve movies, watched in both viewers and not."""
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "test_bench.py"), "w") as stream:
            stream.write(RUN)
        done = subprocess.run([sys.executable, "-m", "unittest", "test_bench"], cwd=folder, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("BENCH")]
    if not found:
        raise RuntimeError(done.stdout[-2000:])
    alone, watched = (statistics.median(float(seconds) for viewers, seconds in found if viewers == count)
                      for count in "03")
    print("a run of 12 movies: %.1f s, watched in all viewers %.1f s, %.2f x" % (alone, watched, watched / alone))


def measure_delay(kind):
    """Movies that are registered one after the other, each once the one before is shown."""
    with tempfile.TemporaryDirectory() as folder:
        project = ProjectFiles(os.path.join(folder, "Project"))
        run = project.add_run()
        run.launch()
        extra = os.path.join(run.path, "extra")
        first = os.path.join(extra, "m_00001.mrc")
        write_large(first, FRAMES, SIDE, SIDE)
        for number in range(2, MOVIES + 2):
            os.link(first, os.path.join(extra, "m_%05d.mrc" % number))
        reading = read_seconds(first)
        movie_set = run.add_output(movies=1)
        with kind(patience=float("inf")) as backend:
            feed = Feed(backend, project.folder, run.name, interval=0.5)
            threading.Thread(target=feed.run, daemon=True).start()
            wait_shown(backend, 2)
            delays = []
            for number in range(2, MOVIES + 2):
                movie_set.append(1, number)
                began = time.monotonic()
                wait_shown(backend, 2 * number)
                delays.append(time.monotonic() - began)
    print("%s: registered to shown, %d movies of %d x %d x %d: median %.2f s, worst %.2f s; %.2f x reading and "
          "averaging alone" % (kind.VIEWER_TYPE, MOVIES, SIDE, SIDE, FRAMES, statistics.median(delays), max(delays),
                     statistics.median(delays) / reading))


def measure_previews(kind):
    random = np.random.default_rng(1)
    images = [random.normal(10, 2, (PREVIEW_SIDE, PREVIEW_SIDE)).astype("float32") for _ in range(8)]
    with kind(patience=float("inf")) as backend:
        backend.save(images[0], "first.mrc")
        backend.wait()
        began = time.monotonic()
        for number in range(PREVIEWS):
            backend.save(images[number % 8], "m_%05d.mrc" % number)
        backend.wait()
        seconds = time.monotonic() - began
        before = memory(os.getpid()), memory(backend.pid)
        for number in range(PREVIEWS, MANY):
            backend.save(images[number % 8], "m_%05d.mrc" % number)
        backend.wait()
        after = memory(os.getpid()), memory(backend.pid)
        shares = [idle_share(pid) for pid in (os.getpid(), backend.pid)]
    print("%s: %.0f previews of %d x %d a second" % (kind.VIEWER_TYPE, PREVIEWS / seconds, PREVIEW_SIDE, PREVIEW_SIDE))
    print("%s: memory after %d and %d previews: sender %.0f and %.0f MB, viewer %.0f and %.0f MB (%.2f x)" % (
        kind.VIEWER_TYPE, PREVIEWS, MANY, before[0], after[0], before[1], after[1], after[1] / before[1]))
    print("%s: idle, sender %.2f %% and viewer %.2f %% of a core" % (kind.VIEWER_TYPE, *shares))


def measure_page():
    """What a browser sees of it: from saved to seen, bytes over the line, memory of the page."""
    if not found(CHROMIUM):
        print("left out: Chromium is not installed here")
        return
    random = np.random.default_rng(1)
    images = [random.normal(10, 2, (PREVIEW_SIDE, PREVIEW_SIDE)).astype("float32") for _ in range(8)]
    with WebStreamingBackend(patience=float("inf")) as backend, Chromium() as browser:
        browser.size(1366, 768)
        browser.open(backend.places()[0].split()[1])
        delays, count = [], 0

        def seen(wanted):
            browser.wait(SEEN, wanted)

        for count in range(1, SEEN_IMAGES + 1):
            began = time.monotonic()
            save_pair(backend, images, count)
            seen("m_%05d" % count)
            delays.append(time.monotonic() - began)
            time.sleep(1)
        print("web: saved to seen in Chromium, one image a second: median %.2f s, worst %.2f s" % (
            statistics.median(delays[1:]), max(delays[1:])))
        print("web: %.0f kB over the line for each of these" % (browser.received() / SEEN_IMAGES / 1000))
        memories = []
        for last in (PREVIEWS, MANY):
            while count < last:
                count += 1
                save_pair(backend, images, count)
            backend.wait()
            seen("m_%05d" % count)
            memories.append((memory(os.getpid()), memory(backend.pid), browser.memory() / 1e6))
        (_, *before), (_, *after) = memories
        print("web: memory after %d and %d images: server %.0f and %.0f MB, page (its objects) %.1f and %.1f MB" % (
            PREVIEWS, MANY, before[0], after[0], before[1], after[1]))


def save_pair(backend, images, number):
    """An average and a spectrum."""
    backend.save(images[number % 8], "m_%05d.mrc" % number, kind="averages", place=number)
    backend.save(images[(number + 1) % 8], "m_%05d.mrc" % number, kind="spectra", place=number, takes_picks=False)


def wait_shown(backend, count):
    while backend.tracker.progress()[0] < count:
        if not backend.is_open():
            raise RuntimeError(backend.problem() or "the viewer is closed")
        time.sleep(0.01)


def read_seconds(path):
    """What reading and averaging a movie takes by itself, in a process of its own as the live view's is."""
    script = ("import sys, time\nfrom empiardownloader.images.previews import make_preview\nbegan = time.monotonic()\n"
              "make_preview(sys.argv[1])\nprint(time.monotonic() - began)")
    return statistics.median(float(subprocess.check_output([sys.executable, "-c", script, path])) for _ in range(3))


def idle_share(pid):
    """Percent of a core that a process takes while nothing happens."""
    before = processor_seconds(pid)
    time.sleep(IDLE_SECONDS)
    return 100 * (processor_seconds(pid) - before) / IDLE_SECONDS


def processor_seconds(pid):
    with open("/proc/%d/stat" % pid) as stream:
        fields = stream.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid):
    """MB that a process has at the moment."""
    with open("/proc/%d/status" % pid) as stream:
        return next(int(line.split()[1]) / 1000 for line in stream if line.startswith("VmRSS"))
