# SPDX-License-Identifier: GPL-3.0-or-later
"""What following a run costs: how late an event is, the processor's share, many items, and the writer's time."""
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from empiardownloader.follow import EventType, RemoteNodeWalker
from empiardownloader.tests.follow_case import children
from empiardownloader.tests.scipion_files import ProjectFiles

WRITER = """
import sqlite3, sys, time
path, first, seconds, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
database = sqlite3.connect(path, timeout=1000)
end, worst, number = time.time() + seconds, [], first
while time.time() < end:
    begun = time.perf_counter()
    with database:
        database.execute("INSERT INTO Objects (id, label, creation, c02) VALUES (?, ?, 'now', 'Runs/m.mrc')",
                         (number, repr(time.time())))
    worst.append(time.perf_counter() - begun)
    number += 1
    time.sleep(pause)
worst.sort()
print(len(worst), worst[len(worst) // 2] * 1e3, worst[-1] * 1e3)
"""
RUN = """
import os, sys, time
from empiardownloader.tests.test_follow_runs import Follower, FollowedCase

class Bench(FollowedCase):
    RATE = 400000
    def test(self):
        for walkers in (0, 10, 0, 10, 0, 10):
            followers = [self.follow() for _ in range(walkers)]
            protocol = self.finish(self.new(amountOfImages=12, connections=2))
            steps = (protocol.endTime.datetime() - protocol.initTime.datetime()).total_seconds()
            print("BENCH", walkers, steps, flush=True)
            for follower in followers:
                follower.stop()
"""


def measure_follow():
    with tempfile.TemporaryDirectory() as folder:
        for number, measure in enumerate((measure_delay, measure_share, measure_many, measure_commits)):
            measure(ProjectFiles(os.path.join(folder, "Project%d" % number)))
    measure_run()


def running_set(project, items):
    run = project.add_run()
    run.launch()
    return run.add_output(movies=items)


def write(movie_set, first, seconds, pause):
    return subprocess.Popen([sys.executable, "-c", WRITER, movie_set.path, str(first), str(seconds), str(pause)],
                            stdout=subprocess.PIPE, text=True)


def measure_delay(project):
    movie_set = running_set(project, 1)
    for turn, interval in enumerate((0.1, 0.5)):
        first = 10 + 1000 * turn
        events = RemoteNodeWalker(project.folder, interval=interval).walk_on_new_events(timeout=3)
        writer = write(movie_set, first, 20, 0.173)
        delays = []
        for event in events:
            for item in event.data.data:
                with sqlite3.connect(movie_set.path) as database:
                    label, = database.execute("SELECT label FROM Objects WHERE id = ?", (item.id,)).fetchone()
                delays.append(time.time() - float(label))
        writer.communicate()
        print("registered to told, a look every %.1f s: median %.0f ms, worst %.0f ms of %d; worst %.2f x the interval"
              % (interval, 1e3 * statistics.median(delays), 1e3 * max(delays), len(delays), max(delays) / interval))


def processor_seconds(pid):
    with open("/proc/%d/stat" % pid) as stream:
        fields = stream.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_megabytes(pid):
    with open("/proc/%d/status" % pid) as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith("VmHWM")) / 1000


def measure_share(project):
    for items in (10000, 100000):
        movie_set = running_set(project, items)
        with RemoteNodeWalker(project.folder, movie_set.run.name).walk_on_new_events() as events:
            child, = children()
            shares = []
            for pause in (None, 1.0):
                writer = write(movie_set, items + 100, 10, pause) if pause else None
                begun, before = time.monotonic(), processor_seconds(child)
                reader = threading.Thread(target=lambda events=events: list(events), daemon=True)
                if writer:
                    reader.start()
                time.sleep(10)
                shares.append((processor_seconds(child) - before) / (time.monotonic() - begun))
                if writer:
                    writer.communicate()
            print("%d items, a look every 0.5 s: %.2f %% of a processor while nothing comes, %.2f %% with one a second"
                  % (items, *(100 * share for share in shares)))


def measure_many(project):
    seconds = {}
    for items in (10000, 100000):
        movie_set = running_set(project, items)
        begun = time.monotonic()
        found, peak = 0, 0.0
        with RemoteNodeWalker(project.folder, movie_set.run.name).walk_events() as events:
            child, = children()
            for event in events:
                if event.type is EventType.NEW_DATA:
                    found += event.data.block_size
                    if found == items:
                        seconds[items] = time.monotonic() - begun
                        peak = peak_megabytes(child)
                        break
        print("%d items from the beginning: %.2f s, %.0f microseconds an item, the child's peak %.0f MB" % (
            items, seconds[items], 1e6 * seconds[items] / items, peak))
    print("ten times the items: %.2f x ten times the seconds" % (seconds[100000] / seconds[10000] / 10))


def measure_commits(project):
    movie_set = running_set(project, 1000)
    found = {}
    for walkers in (0, 10):
        walks = [RemoteNodeWalker(project.folder, interval=0.1).walk_on_new_events() for _ in range(walkers)]
        threads = [threading.Thread(target=list, args=(walk,), daemon=True) for walk in walks]
        for thread in threads:
            thread.start()
        count, median, worst = (float(word) for word in write(
            movie_set, 5000 * (1 + walkers), 15, 0.05).communicate()[0].split())
        for walk in walks:
            walk.stop()
        found[walkers] = median, worst
        print("a writer beside %d walkers at 0.1 s: %d commits, median %.2f ms, longest %.1f ms" % (
            walkers, count, median, worst))
    print("median commit with ten walkers: %.2f x" % (found[10][0] / found[0][0]))


def measure_run():
    with tempfile.TemporaryDirectory() as folder:
        name = "bench_follow_run"
        with open(os.path.join(folder, name + ".py"), "w") as stream:
            stream.write(RUN)
        done = subprocess.run([sys.executable, "-m", "unittest", name + ".Bench.test"], stdout=subprocess.PIPE,
                              text=True, env=dict(os.environ, PYTHONPATH=os.pathsep.join([folder, os.getcwd()])),
                              check=False)
    seconds = {0: [], 10: []}
    for line in done.stdout.splitlines():
        if line.startswith("BENCH"):
            _, walkers, value = line.split()
            seconds[int(walkers)].append(float(value))
    alone, followed = (statistics.median(seconds[walkers]) for walkers in (0, 10))
    print("a real run of 12 movies: %.1f s alone, %.1f s with ten walkers at 0.1 s: %.2f x" % (
        alone, followed, followed / alone))
