# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader's end, and what it leaves: nothing. Threads, forks, signals, and the command for shells."""
import asyncio
import contextlib
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from unittest import mock

from empiardownloader.follow import FollowError, RemoteNodeWalker
from empiardownloader.tests.follow_case import BARE, NEW_DATA, NEW_NODE, FollowCase, alive, children

IS_QUICK = True


class TestEnds(FollowCase):
    """The child is gone, however the reader ends."""

    def setUp(self):
        super().setUp()
        self.finished_run()

    def test_within_a_program(self):
        walker = self.walker()
        for _ in walker.walk_events():
            break
        self.assertEqual([], children())
        with contextlib.suppress(ZeroDivisionError):
            for _ in walker.walk_events():
                raise ZeroDivisionError
        gc.collect()
        self.assertEqual([], children())
        events = walker.walk_events()
        next(events)
        self.assertEqual(1, len(children()))
        del events
        self.assertEqual([], children())
        with walker:
            events = walker.walk_events()
            next(events)
        self.assertEqual([], children())
        never_begun = walker.walk_events()
        del never_begun
        self.assertEqual([], children())
        with self.assertRaises(ZeroDivisionError):
            list(walker.walk(lambda node: 1 / 0))
        self.assertEqual([], children())

    def test_a_hundred_walks(self):
        walker = self.walker()
        list(walker.walk(wait=False))
        descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        for _ in range(100):
            next(walker.walk_events())
        self.assertEqual([], children())
        # Those of a test before may have ended in the meantime.
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), descriptors)
        self.assertLessEqual(threading.active_count(), threads)

    def test_a_child_that_is_killed_is_an_error(self):
        events = self.walker().walk_events()
        next(events)
        os.kill(children()[0], signal.SIGKILL)
        with self.assertRaisesRegex(FollowError, "What reads .*Project has ended .return code -9"):
            list(events)
        self.assertEqual([], list(events))

    def test_whatever_ends_the_program(self):
        script = ("import os, signal, sys, time\n"
                  "from empiardownloader.follow import RemoteNodeWalker\n"
                  "events = RemoteNodeWalker(%r).walk_events()\n"
                  "next(events)\n"
                  "if sys.argv[1] == 'fork' and os.fork() == 0:\n"
                  "    time.sleep(20); os._exit(0)\n"
                  "print('now', flush=True)\n"
                  "if sys.argv[1] == 'exit': sys.exit()\n"
                  "if sys.argv[1] == 'error': 1 / 0\n"
                  "if sys.argv[1] == '_exit': os._exit(1)\n"
                  "time.sleep(60)\n" % self.project.folder)
        for how in ("exit", "error", "_exit", signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, "fork"):
            with self.subTest(how=how):
                reader = subprocess.Popen([sys.executable, "-S", "-c", script, str(how)], env=BARE,
                                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                reader.stdout.readline()
                found = children(reader.pid)
                if not isinstance(how, str):
                    self.assertEqual(1, len(found))
                    reader.send_signal(how)
                elif how == "fork":
                    self.assertEqual(1, len(found))
                    reader.kill()
                reader.wait(20)
                self.wait_for(lambda found=found: not any(alive(pid) for pid in found), 5, "the end of the child")
                reader.stdout.close()

    def wrapper(self, text):
        """A command in place of ssh."""
        path = os.path.join(self.folder, "my-ssh")
        with open(path, "w") as stream:
            stream.write("#!/bin/sh\n" + text)
        os.chmod(path, 0o755)
        return path

    def test_a_wrapper_around_ssh_and_a_far_end_that_is_silent(self):
        """F6: what it has started holds the pipes, and goes with it."""
        # A number of our own: other tests on this machine may run the same.
        nap = "sleep 987.%d" % os.getpid()
        walk = RemoteNodeWalker("host:/x", ssh=self.wrapper(nap + "\n")).walk_events()
        walk.close()
        self.wait_for(lambda: not subprocess.run(["pgrep", "-f", "^" + nap], stdout=subprocess.PIPE,
                                                 check=False).stdout, 10, "the end of what the wrapper had started")

    def test_a_timeout_holds_before_the_first_message(self):
        """F7"""
        with mock.patch("empiardownloader.follow.walk.BEGIN_SECONDS", 1.0):
            walk = RemoteNodeWalker("host:/x", ssh=self.wrapper("sleep 988\n")).walk_events(timeout=0.5)
            with self.assertRaisesRegex(FollowError, "Nothing came from host within 2 s"):
                next(walk)

    def test_async_for(self):
        """F17"""
        run = self.finished_run(movies=5)

        async def ids():
            found = []
            async for event in self.walker(run.name).walk_events(wait=False):
                if event.type is NEW_DATA:
                    found += [item.id for item in event.data.data]
            return found

        async def several():
            return await asyncio.gather(ids(), ids(), ids())

        self.assertEqual([[1, 2, 3, 4, 5]] * 3, asyncio.run(several()))

    def test_the_command(self):
        command = [sys.executable, "-S", "-m", "empiardownloader.follow", self.project.folder]
        done = subprocess.run([*command, "--no-wait"], env=BARE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, check=False)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        told = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(["NEW_NODE"] * 3 + ["PREPARED_SCAN", "NEW_DATA", "END_SCAN"], [line["type"] for line in told])
        self.assertEqual("m_00001.mrc", told[4]["data"]["data"][0]["name"])
        nodes = subprocess.run([*command, "--no-wait", "--nodes", "--only", "run"], env=BARE, stdout=subprocess.PIPE,
                               text=True, check=False)
        self.assertEqual(["run"], [json.loads(line)["type"] for line in nodes.stdout.splitlines()])
        wrong = subprocess.run([*command[:-1], self.folder], env=BARE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, check=False)
        self.assertEqual((1, "", 1), (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")))
        self.assertIn("is no Scipion project", wrong.stderr)
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 130)):
            going = subprocess.Popen(command, env=BARE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            going.stdout.readline()
            going.send_signal(number)
            self.assertEqual(("", code), (going.communicate(timeout=20)[1], going.returncode))
        piped = subprocess.run("%s | head -n 1" % " ".join("'%s'" % part for part in [*command, "--interval", "0.1"]),
                               shell=True, env=BARE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               timeout=30, check=False)
        self.assertEqual((1, ""), (piped.stdout.count("\n"), piped.stderr))


class TestSharing(FollowCase):

    def test_two_walkers_and_walks_at_once(self):
        run = self.project.add_run()
        run.launch()
        movie_set = run.add_output(movies=0)
        one, other = self.walker(), self.walker(run.name)
        walks = [one.walk_events("SetOfMovies"), one.walk_events("SetOfMovies"), other.walk_events("SetOfMovies")]
        for walk in walks:
            next(walk)
        for start in range(1, 5):
            movie_set.append(1, start)
            self.assertEqual([[start]] * 3, [self.ids([next(walk)]) for walk in walks])
        one.stop()
        self.assertEqual([[], []], [list(walk) for walk in walks[:2]])
        movie_set.append(1, 9)
        self.assertEqual([9], self.ids([next(walks[2])]))
        # A stop is for the walks in progress.
        self.assertEqual(5, len(self.ids(one.walk_events(wait=False))))

    def test_threads_that_share_a_walk(self):
        for end in (None, "stop", "close"):
            walk = self.walker().walk_events(wait=end is not None)
            found = []
            threads = [threading.Thread(target=lambda walk=walk, found=found: found.extend(walk)) for _ in range(5)]
            for thread in threads:
                thread.start()
            if end:
                self.wait_for(lambda found=found: found, 30, "the node")
                getattr(walk, end)()
            for thread in threads:
                thread.join(10)
                self.assertFalse(thread.is_alive(), end)
            self.assertEqual(1, len(found))

    def test_a_walk_in_a_forked_process(self):
        events = self.walker().walk_events()
        next(events)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                next(events)
            except FollowError as error:
                os.write(writing, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        with open(reading) as stream:
            self.assertIn("belongs to the process that began it", stream.read())
        self.project.add_run()
        self.assertIs(NEW_NODE, next(events).type)

    def test_walkers_are_plain_data_too(self):
        run = self.finished_run()
        walker = pickle.loads(pickle.dumps(self.walker(run.name)))
        self.assertEqual([1, 2, 3], self.ids(walker.walk_events(wait=False)))

    def test_stop_from_another_thread(self):
        walker = self.walker()

        def check_ends(walk, stop):
            self.assertIs(NEW_NODE, next(walk).type)
            threading.Timer(0.2, stop).start()
            self.assertEqual([], list(walk))

        check_ends(walker.walk_events(), walker.stop)
        self.assertEqual([], children())
        walk = walker.walk_events()
        check_ends(walk, walk.close)
        # On a busy machine the child may be gone before the stopping thread gets any further.
        walk = walker.walk_events()
        walk._child.wake = lambda: None
        check_ends(walk, walk.stop)

    def test_a_reader_that_sleeps(self):
        """More than a pipe holds, told late: nothing is lost, and the writer is not held up meanwhile."""
        run = self.project.add_run()
        run.launch()
        movie_set = run.add_output(movies=1)
        events = self.walker().walk_events("SetOfMovies")
        next(events)
        worst = 0.0
        for start in range(2, 40002, 1000):
            begun = time.monotonic()
            movie_set.append(1000, start)
            worst = max(worst, time.monotonic() - begun)
        run.put(status="finished")
        movie_set.close()
        time.sleep(1)
        found = []
        for event in events:
            found += self.ids([event])
            if len(found) == 40001:
                break
        self.assertEqual(list(range(1, 40002)), found)
