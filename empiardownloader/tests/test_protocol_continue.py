# SPDX-License-Identifier: GPL-3.0-or-later
"""Interruptions: killed, stopped, failed, continued with another form, restarted. Nothing is lost, nothing is twice."""
import contextlib
import logging
import os
import random
import signal
import tempfile
import time

from pwem.objects import SetOfMovies
from pyworkflow.object import Set
from pyworkflow.project import Manager

from empiardownloader.demo import movies
from empiardownloader.tests.base import ProtocolTestCase, entry, image_set, read_bytes, write_movies
from empiardownloader.tests.surroundings import environment

logger = logging.getLogger(__name__)


class InterruptedCase(ProtocolTestCase):

    @classmethod
    def fill(cls):
        super().fill()
        write_movies(cls.root, "10200", ["n_%02d.mrc" % n for n in range(60)])
        cls.demo.entries["10200"] = entry(image_set(num_images_or_tilt_series=72))
        write_movies(cls.root, "40002", ["a.mrc"])
        cls.demo.entries["40002"] = entry(image_set(), image_set(name="Second", directory="data/Second"))
        write_movies(cls.root, "40002", ["s.mrc"], folder="data/Second")

    def launched(self, protocol):
        """Launch without waiting -> the process id of the run, 0 where it is over already."""
        self.launch(protocol, wait=False)

        def begun():
            run = self.fresh(protocol)
            return [run.getPid() if run.isRunning() else 0] if run.isRunning() or not run.isActive() else None

        return self.wait_for(begun, 30, "the start of the run")[0]

    def kill(self, pid):
        if not pid:
            return
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        # The run is a child of this process, and stays in the table of processes until somebody asks for it.
        self.wait_for(lambda: not os.path.exists("/proc/%d" % pid) or self.reaped(pid), 10, "the death of the run")

    def inProject(self, function):
        before = os.getcwd()
        os.chdir(self.proj.getPath())
        try:
            return function()
        finally:
            os.chdir(before)

    @staticmethod
    def reaped(pid):
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            # Not ours: a process that a shell or a server has started.
            try:
                with open("/proc/%d/stat" % pid) as stream:
                    return stream.read().rpartition(")")[2].split()[0] == "Z"
            except (FileNotFoundError, ProcessLookupError):     # before it is opened, or while it is read
                return True

    def running_steps(self, protocol):
        return [str(step.funcName) for step in protocol.loadSteps() if step.isRunning()]


class TestKilled(InterruptedCase):
    RATE = 120000

    def test_killed_at_twenty_random_moments(self):
        moments = random.Random(7)
        amount, kills, seen = 12, 0, {}
        protocol = self.new(amountOfImages=amount, connections=2)
        while kills < 20:
            pid = self.launched(protocol)
            deadline = time.monotonic() + moments.uniform(0, 4)
            while time.monotonic() < deadline and self.fresh(protocol).isActive():
                time.sleep(0.1)
            run = self.fresh(protocol)
            if run.isActive():
                for name in self.running_steps(run) or ["between steps"]:
                    seen[name] = seen.get(name, 0) + 1
                self.kill(pid)
                kills += 1
            else:
                self.assertTrue(run.isFinished(), run.getErrorMessage())
                self.check_set(run, amount)
                amount += 4
            run = self.ended(protocol)
            protocol = self.again(run, amountOfImages=amount)
        self.demo.rate = 0
        self.launch(protocol, wait=False)
        run = self.ended(protocol)
        self.assertTrue(run.isFinished(), run.getErrorMessage())
        self.check_set(run, amount)
        self.assertTrue(all(step.isFinished() for step in run.loadSteps()))
        self.assertTrue(os.path.exists(os.path.join(self.proj.getPath(), run.outputMovies.getGain())))
        logger.info("killed while running: %s; %d movies", seen, amount)

    def test_what_the_runs_database_lost_is_found_on_disk(self):
        """A script that holds on to its protocol object overwrites what the killed run had stored."""
        protocol = self.new(amountOfImages=10, connections=1)
        pid = self.launched(protocol)
        self.with_output(protocol, 3)
        self.kill(pid)
        before = [row[2] for row in self.rows(protocol)]
        self.demo.rate = 0
        # The object knows nothing of what the run stored since: no output, no step's results.
        self.assertFalse(hasattr(protocol, "outputMovies"))
        self.launch(protocol, wait=False)
        run = self.ended(protocol)
        self.assertTrue(run.isFinished(), run.getErrorMessage())
        self.check_set(run, 10)
        self.assertEqual(before, [row[2] for row in self.rows(run)][:len(before)])


class TestStopped(InterruptedCase):
    RATE = 60000

    def test_scipions_own_stop(self):
        protocol = self.new(amountOfImages=12, connections=1)
        self.launched(protocol)
        run = self.with_output(protocol, 2)
        self.proj.stopProtocol(run)
        run = self.ended(protocol)
        self.assertTrue(run.isAborted())
        self.demo.rate = 0
        run = self.finish(self.again(protocol))
        self.check_set(run, 12)

    def test_stop_streaming(self):
        protocol = self.new(amountOfImages=12, connections=1)
        self.launched(protocol)
        run = self.with_output(protocol, 2)
        self.inProject(run.stopDownload)
        run = self.ended(protocol, 30)
        self.assertTrue(run.isFinished(), run.getErrorMessage())
        stopped_at = run.outputMovies.getSize()
        self.assertTrue(2 <= stopped_at < 12)
        self.check_set(run, stopped_at)
        self.assertIn("Stopped by the user", "\n".join(run.summary()))
        self.demo.rate = 0
        run = self.finish(self.again(protocol))
        self.check_set(run, 12)

    def test_a_failed_registration_ends_the_run_soon(self):
        protocol = self.new(amountOfImages=12, connections=1)
        self.launched(protocol)
        self.with_output(protocol, 1)
        database = os.path.join(self.proj.getPath(), protocol._getPath("movies.sqlite"))
        self.demo.rate = 20000
        began = time.monotonic()
        # Root may write what is read-only: a folder in the way stops everybody.
        os.rename(database, database + ".away")
        os.mkdir(database)
        run = self.ended(protocol, 60)
        self.assertTrue(run.isFailed())
        self.wait_for(lambda: not self.processes(protocol), 10, "the end of the process")
        failed_after = time.monotonic() - began
        os.rmdir(database)
        os.rename(database + ".away", database)
        self.assertLess(failed_after, 30)
        self.demo.rate = 0
        run = self.finish(self.again(protocol))
        self.check_set(run, 12)

    def processes(self, protocol):
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    command = read_bytes("/proc/%s/cmdline" % name)
                except OSError:
                    continue
                if all(word.encode() in command for word in (self.proj.getPath(), protocol._getLogsPath("run.db"))):
                    found.append(int(name))
        return found


class TestContinued(InterruptedCase):

    def test_more_fewer_nothing_and_restart(self):
        protocol = self.finish(self.new(amountOfImages=5))
        first = self.rows(protocol)
        run = self.finish(self.again(protocol, amountOfImages=9))
        self.check_set(run, 9)
        self.assertEqual(first, self.rows(run)[:5])
        run = self.finish(self.again(protocol, amountOfImages=3))
        self.check_set(run, 9)
        self.assertIn("nothing is taken away", "\n".join(run.summary()))
        self.demo.requests.clear()
        run = self.finish(self.again(protocol, amountOfImages=9))
        self.check_set(run, 9)
        self.assertEqual([], self.demo.requests, "a finished run asked the archive for something")
        run.getStepsGraph()
        run = self.finish(self.again(protocol, amountOfImages=9, voltage=120.0, samplingRate=2.0))
        self.check_set(run, 9)
        for item in (run.outputMovies, run.outputMovies.getFirstItem()):
            self.assertEqual((120, 2.0), (item.getAcquisition().getVoltage(), item.getSamplingRate()))
        refused = self.again(protocol, entryId="40002")
        self.assertIn("already holds images of EMPIAR-10200", refused.validate()[0])
        run = self.again(protocol, entryId="10200", filePattern="n_*.mrc")
        self.launch(run)
        self.assertIn("choose Restart", run.getErrorMessage())
        self.check_set(self.fresh(protocol), 9)
        run = self.restart(protocol)
        run.entryId.set("40002")
        run.filePattern.set("")
        run.amountOfImages.set(1)
        self.finish(run)
        self.check_set(run, 1, {"a.mrc": os.path.join(self.root, "40002/data/Movies/a.mrc")})
        run = self.again(run, imageSet="Second")
        self.launch(run)
        self.assertIn("choose Restart", run.getErrorMessage())

    def test_the_gain_asked_for_later(self):
        protocol = self.finish(self.new(amountOfImages=2, downloadGain=False))
        self.assertIsNone(protocol.outputMovies.getGain())
        run = self.finish(self.again(protocol, downloadGain=True))
        self.assertTrue(run.outputMovies.getGain().endswith("CountRef_m.mrc"))

    def test_an_external_folder_outlives_restart(self):
        with tempfile.TemporaryDirectory() as shared:
            protocol = self.finish(self.new(amountOfImages=4, downloadFolder=shared))
            self.check_set(protocol, 4)
            sent = self.demo.sent_bytes
            run = self.finish(self.restart(protocol))
            self.check_set(run, 4)
            self.assertEqual(sent, self.demo.sent_bytes)
            other = self.finish(self.new(amountOfImages=4, downloadFolder=shared))
            self.check_set(other, 4)
            self.assertEqual(sent, self.demo.sent_bytes)

    @staticmethod
    def write(contents):
        for path, content in contents.items():
            with open(path, "wb") as stream:
                stream.write(content)

    def test_a_single_unreadable_movie(self):
        source = os.path.join(self.root, "10200", "data", "Movies", "m_02.mrc")
        content = read_bytes(source)
        self.write({source: content[:2000]})
        try:
            protocol = self.finish(self.new(amountOfImages=5))
        finally:
            self.write({source: content})
        self.check_set(protocol, 5)
        self.assertNotIn("m_02.mrc", [row[2] for row in self.rows(protocol)])
        self.assertIn("Skipped: data/Movies/m_02.mrc (its header promises", "\n".join(protocol.summary()))

    def test_nothing_whole_at_all(self):
        """All that comes is cut short at its source."""
        folder = os.path.join(self.root, "10200", "data", "Movies")
        contents = {os.path.join(folder, name): read_bytes(os.path.join(folder, name))
                    for name in os.listdir(folder) if name.endswith(".mrc")}
        self.write({path: content[:2000] for path, content in contents.items()})
        try:
            protocol = self.new(amountOfImages=5)
            self.launch(protocol)
        finally:
            self.write(contents)
        self.assertTrue(protocol.isFailed())
        self.assertIn("No movie of EMPIAR-10200 could be downloaded", protocol.getErrorMessage())
        self.check_set(self.finish(self.again(protocol)), 5)


class TestReaders(InterruptedCase):
    RATE = 150000

    def test_a_growing_set_read_by_another_process(self):
        protocol = self.new(amountOfImages=10, connections=1)
        self.launched(protocol)
        path = os.path.join(self.proj.getPath(), protocol._getPath("movies.sqlite"))
        sizes, state = [], None
        deadline = time.monotonic() + 60
        while state != Set.STREAM_CLOSED and time.monotonic() < deadline:
            if os.path.exists(path) and os.path.getsize(path):
                movie_set = SetOfMovies(filename=path)
                movie_set.loadAllProperties()
                state = movie_set.getStreamState() if movie_set.getSize() else None
                names = [movie.getFileName() for movie in movie_set.iterItems()] if movie_set.getSize() else []
                movie_set.close()
                sizes.append(len(names))
                for name in names:
                    source = os.path.join(self.root, "10200", "data", "Movies", os.path.basename(name))
                    self.assertEqual(read_bytes(source), read_bytes(os.path.join(self.proj.getPath(), name)))
            time.sleep(0.2)
        self.assertEqual(sorted(sizes), sizes, "the set shrank")
        self.assertEqual(10, sizes[-1])
        self.assertGreater(len(set(sizes)), 2)


class TestPlaces(InterruptedCase):
    """Odd places for project and scratch; each with a kill in the middle."""
    RATE = 100000

    def killed_and_continued(self):
        protocol = self.new(amountOfImages=6, connections=1)
        pid = self.launched(protocol)
        self.with_output(protocol, 1)
        self.kill(pid)
        self.ended(protocol)
        self.demo.rate = 0
        run = self.finish(self.again(protocol))
        self.check_set(run, 6)
        return run

    def test_scratch_on_another_file_system(self):
        if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(self.proj.getPath()).st_dev:
            self.skipTest("there is no second file system")
        with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch, environment(SCIPION_SCRATCH=scratch):
            self.killed_and_continued()

    @contextlib.contextmanager
    def in_project(self, path, name):
        before, cwd = self.__class__.proj, os.getcwd()
        self.__class__.proj = Manager().createProject(name, location=path)
        os.chdir(self.proj.getPath())
        try:
            yield
        finally:
            self.__class__.proj = before
            os.chdir(cwd)

    def test_blanks_and_links_in_the_projects_path(self):
        with tempfile.TemporaryDirectory(prefix="with blanks ") as folder:
            with self.in_project(folder, "a project"):
                self.killed_and_continued()
            real, link = os.path.join(folder, "real"), os.path.join(folder, "link")
            os.mkdir(real)
            os.symlink(real, link)
            self.demo.rate = self.RATE
            with self.in_project(link, "linked"):
                self.killed_and_continued()


class TestMany(InterruptedCase):
    """Thousands of movies that are there at once: grouped, so that the engine's sleeps do not count for each."""
    FORKED = False

    def test_a_thousand_at_once(self):
        folder = os.path.join(self.root, "40010", "data", "Movies")
        first = os.path.join(folder, "m_0000.mrc")
        movies.write_movie(first, 1, frames=2, width=8, height=8)
        for number in range(1, 1000):
            os.link(first, os.path.join(folder, "m_%04d.mrc" % number))
        self.demo.entries["40010"] = entry(image_set(num_images_or_tilt_series=1000, frames_per_image=2))
        protocol = self.finish(self.new(entryId="40010", allImages=True))
        self.check_set(protocol, 1000, {"m_%04d.mrc" % n: first for n in range(1000)})
        registers = [step for step in protocol.loadSteps() if str(step.funcName) == "registerImageStep"]
        self.assertLess(len(registers), 20)
