# SPDX-License-Identifier: GPL-3.0-or-later
"""Real runs, followed while they grow: begun, killed, continued, restarted, stopped, failed, side by side."""
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import unittest

from pwem.objects import SetOfAverages, SetOfCoordinates, SetOfCTF, SetOfMicrographs, SetOfParticles
from pwem.protocols import ProtAverageFrames, ProtSubSet
from pyworkflow.protocol import MODE_RESTART

from empiardownloader.follow import ImageChannel, RemoteNodeWalker
from empiardownloader.tests.follow_case import BARE, END, NEW_DATA, NEW_NODE, PREPARED, TOP, children
from empiardownloader.tests.scipion_files import ProjectFiles
from empiardownloader.tests.test_protocol_continue import InterruptedCase

EXAMPLES = os.path.join(TOP, "examples")


class Follower:
    """Follows in a thread of its own, and keeps what was told."""

    def __init__(self, project, db_name="", **options):
        self.walker = RemoteNodeWalker(project, db_name, interval=0.1)
        self.events = []
        walk = self.walker.walk_events(**options)
        self._thread = threading.Thread(target=lambda: self.events.extend(self._kept(walk)), daemon=True)
        self._thread.start()

    def _kept(self, walk):
        for event in walk:
            self.events.append(event)
        return ()

    def stop(self):
        self.walker.stop()
        self._thread.join(20)

    def of(self, kind, name=""):
        return [event for event in list(self.events) if event.type is kind and event.node.db_name.startswith(name)]

    def names(self, name=""):
        return [item.name for event in self.of(NEW_DATA, name) for item in event.data.data]


class FollowedCase(InterruptedCase):
    RATE = 120000

    def follow(self, db_name="", **options):
        follower = Follower(self.proj.getPath(), db_name, **options)
        self.addCleanup(follower.stop)
        return follower

    def run_name(self, protocol):
        return os.path.basename(protocol.getWorkingDir())

    def check_order(self, events, name):
        """Of one launch: run, output, PREPARED, items in blocks without a gap, END and nothing after it."""
        kinds = [event.type for event in events if event.node.db_name.partition(":")[0] == name]
        self.assertEqual([NEW_NODE, NEW_NODE, PREPARED], kinds[:3])
        self.assertEqual({NEW_DATA}, set(kinds[3:-1]))
        self.assertIs(END, kinds[-1])
        first = 0
        for event in events:
            if event.type is NEW_DATA and event.node.db_name.startswith(name):
                self.assertEqual(first, event.data.first_index)
                first += event.data.block_size


class TestFollowed(FollowedCase):

    def test_from_before_its_start_to_its_end(self):
        follower = self.follow()
        protocol = self.new(amountOfImages=8, connections=2)
        self.launch(protocol, wait=False)
        name = self.run_name(protocol)
        end = self.wait_for(lambda: follower.of(END, name), 60, "the end of the run")[0]
        self.check_order(follower.events, name)
        rows = self.rows(self.fresh(protocol))
        self.assertEqual([row[2] for row in rows], follower.names(name))
        self.assertEqual(8, len(rows))
        self.assertEqual(("finished", None), (end.data.data, end.data.description))
        progress = end.node.info["progress"]
        self.assertEqual((8, progress["total_bytes"]), (progress["images"], progress["done_bytes"]))
        # It came while the run went on, not at its end.
        self.assertGreater(len(follower.of(NEW_DATA, name)), 1)
        output = follower.of(NEW_DATA, name)[-1].node
        self.assertEqual(0.66, output.info["sampling_rate"])
        self.assertEqual([128, 96, 8], output.info["dimensions"])
        self.assertTrue(os.path.exists(output.info["gain"]))
        view = ImageChannel(output).get(0)
        self.assertEqual((8, 8), (view.last_index, len(view)))
        self.assertEqual((8, 96, 128), view.get_image(5).shape)
        again = self.follow(name)
        self.wait_for(lambda: again.of(END), 10)
        self.assertEqual(follower.names(name), again.names())

    def test_killed_and_continued(self):
        follower = self.follow()
        protocol = self.new(amountOfImages=10, connections=1)
        pid = self.launched(protocol)
        self.with_output(protocol, 3)
        self.kill(pid)
        name = self.run_name(protocol)
        killed = self.wait_for(lambda: follower.of(END, name), 20)[0]
        # Another look at the project makes it a failed run; it has been told already.
        self.assertEqual("killed", killed.data.data)
        run = self.ended(protocol)
        self.demo.rate = 0
        run = self.finish(self.again(run))
        end = self.wait_for(lambda: follower.of(END, name)[1:], 20)[0]
        self.assertEqual("finished", end.data.data)
        self.assertEqual([row[2] for row in self.rows(run)], follower.names(name))
        self.assertEqual(10, len(set(follower.names(name))))
        self.assertEqual(2, len(follower.of(PREPARED, name)))

    def test_restarted_and_stopped(self):
        protocol = self.finish(self.new(amountOfImages=2, connections=2))
        name = self.run_name(protocol)
        follower = self.follow(name)
        self.wait_for(lambda: follower.of(END), 10)
        self.assertEqual(2, len(follower.names()))
        run = self.fresh(protocol)
        run.runMode.set(MODE_RESTART)
        run.amountOfImages.set(12)
        run.connections.set(1)
        self.launch(run, wait=False)
        run = self.with_output(run, 4)
        self.inProject(run.stopDownload)
        self.ended(run)
        self.wait_for(lambda: len(follower.of(END)) == 2, 20)
        rows = [row[2] for row in self.rows(self.fresh(run))]
        self.assertLess(len(rows), 12)
        self.assertEqual(rows, follower.names()[2:])
        self.assertEqual([0], [event.data.first_index for event in follower.of(NEW_DATA)][1:2])

    def test_two_runs_at_once_and_one_that_fails(self):
        follower = self.follow()
        protocols = [self.new(amountOfImages=5, connections=1), self.new(amountOfImages=6, connections=1)]
        failing = self.new(entryId="49999")
        for protocol in [*protocols, failing]:
            self.launch(protocol, wait=False)
        for protocol in [*protocols, failing]:
            self.wait_for(lambda protocol=protocol: follower.of(END, self.run_name(protocol)), 90)
        for protocol, count in zip(protocols, (5, 6)):
            self.check_order(follower.events, self.run_name(protocol))
            self.assertEqual(count, len(follower.names(self.run_name(protocol))))
        end, = follower.of(END, self.run_name(failing))
        self.assertEqual("failed", end.data.data)
        self.assertIn("no entry 49999", end.data.description)

    def test_ten_walkers_disturb_nothing(self):
        followers = [self.follow() for _ in range(10)]
        protocol = self.finish(self.new(amountOfImages=12, connections=4))
        self.check_set(self.fresh(protocol), 12)
        name = self.run_name(protocol)
        for follower in followers:
            self.wait_for(lambda follower=follower: follower.of(END, name), 20)
            self.assertEqual(12, len(follower.names(name)))
            follower.stop()
        self.assertEqual([], children())

    def test_without_anything_installed(self):
        """The package alone, on a Python without site-packages, as a monitor of another environment has it."""
        command = [sys.executable, "-S", "-m", "empiardownloader.follow", self.proj.getPath(), "--new",
                   "--timeout", "120", "--interval", "0.1"]
        reader = subprocess.Popen(command, env=BARE, stdout=subprocess.PIPE, text=True)
        lines = queue.Queue()
        listener = threading.Thread(target=lambda: [lines.put(json.loads(line)) for line in reader.stdout], daemon=True)
        listener.start()
        for end in (reader.stdout.close, listener.join, reader.wait, reader.kill):
            self.addCleanup(end)

        def tells_of_a_saved_run():
            self.proj.saveProtocol(self.new())
            with contextlib.suppress(queue.Empty):
                return lines.get(timeout=2)
            return None

        self.wait_for(tells_of_a_saved_run, 60, "the first look")
        protocol = self.new(amountOfImages=3)
        self.launch(protocol, wait=False)
        name, told = self.run_name(protocol), []
        while not told or told[-1]["type"] != "END_SCAN":
            line = lines.get(timeout=120)
            if line["node"]["db_name"].startswith(name):
                told.append(line)
            else:
                self.assertEqual("NEW_NODE", line["type"])
                self.assertRegex(line["node"]["db_name"], "^[0-9]{6}_EmpiarDownloader$")
        self.assertEqual([["NEW_NODE", name], ["NEW_NODE", name + ":outputMovies"], ["PREPARED_SCAN", name]],
                         [[line["type"], line["node"]["db_name"]] for line in told[:3]])
        self.assertEqual(3, sum(line["data"]["block_size"] for line in told if line["type"] == "NEW_DATA"))

    def test_a_run_between_the_two_times_that_it_is_stored(self):
        protocol = self.new()
        self.proj._storeProtocol(protocol)      # as Project._setupProtocol begins
        names = {node.db_name for node in RemoteNodeWalker(self.proj.getPath()).walk(wait=False)}
        self.proj._setupProtocol(protocol)
        after = {node.db_name for node in RemoteNodeWalker(self.proj.getPath()).walk(wait=False)}
        self.assertEqual({self.run_name(protocol)}, after ^ names)

    @unittest.skipUnless(os.path.isdir(EXAMPLES), "only the installed package is here")
    def test_the_examples(self):
        protocol = self.new(amountOfImages=3, connections=1)
        self.launch(protocol, wait=False)
        name = self.run_name(protocol)
        printing = subprocess.Popen([sys.executable, "-S", os.path.join(EXAMPLES, "print_events.py"),
                                     self.proj.getPath()], env=BARE, stdout=subprocess.PIPE, text=True)
        means = subprocess.run([sys.executable, os.path.join(EXAMPLES, "mean_of_each_movie.py"), self.proj.getPath(),
                                name], env=dict(os.environ, PYTHONPATH=TOP), stdout=subprocess.PIPE, text=True,
                               timeout=90, check=False)
        self.assertEqual(0, means.returncode)
        self.assertEqual(3, len(means.stdout.splitlines()))
        self.assertRegex(means.stdout, "^m_00.mrc: 8x96x128, mean")
        self.assertTrue(next(line for line in printing.stdout if line.startswith(name + " finished")))
        printing.send_signal(signal.SIGINT)
        printing.communicate(timeout=20)
        self.assertEqual(0, printing.returncode)


class TestOtherSets(FollowedCase):
    """What others make: a single image and a subset of real protocols, and sets as pwem writes them."""

    def test_protocols_downstream(self):
        follower = self.follow()
        protocol = self.finish(self.new(amountOfImages=6))
        average = self.newProtocol(ProtAverageFrames)
        subset = self.newProtocol(ProtSubSet, chooseAtRandom=True, nElements=3)
        for chosen in (average.inputMovies, subset.inputFullSet):
            chosen.set(protocol)
            chosen.setExtended("outputMovies")
        for other in (average, subset):
            self.finish(other)
        for run in (protocol, average, subset):
            self.wait_for(lambda run=run: follower.of(END, self.run_name(run)), 20)
        name = self.run_name(average)
        data, = follower.of(NEW_DATA, name)
        self.assertEqual(("Image", True), (data.node.type, os.path.exists(data.data.data[0].path)))
        self.assertEqual(self.run_name(protocol) + ":outputMovies",
                         follower.of(END, name)[0].node.info["form"]["inputMovies"])
        ids = [item.id for event in follower.of(NEW_DATA, self.run_name(subset)) for item in event.data.data]
        rows = self.rows(protocol)
        chosen = follower.names(self.run_name(subset))
        self.assertEqual([row[2] for row in rows if row[0] in ids], chosen)
        self.assertEqual(3, len(chosen))

    def test_sets_as_pwem_writes_them(self):
        project = ProjectFiles(os.path.join(self.folder, "Written"))
        run = project.add_run()
        run.launch()
        expected = {}
        for set_class, fill in ((SetOfMicrographs, micrograph), (SetOfParticles, particle), (SetOfCTF, ctf),
                                (SetOfCoordinates, coordinate), (SetOfAverages, particle)):
            path = os.path.join("Runs", run.name, set_class.__name__ + ".sqlite")
            written = set_class(filename=os.path.join(project.folder, path))
            for number in range(1, 4):
                item = set_class.ITEM_TYPE()
                fill(item, number)
                written.append(item)
            written.write()
            written.close()
            run.name_output("output" + set_class.__name__, set_class.__name__, path, 3)
            expected[set_class.__name__] = fill(set_class.ITEM_TYPE(), 2)
        run.put(status="finished")
        walker = RemoteNodeWalker(project.folder)
        found = {event.node.type: event.data.data for event in walker.walk_events(wait=False) if event.type is NEW_DATA}
        self.assertEqual(set(expected), set(found))
        for name, items in found.items():
            path, index, label, attributes = expected[name]
            item = items[1]
            self.assertEqual([1, 2, 3], [item.id for item in items])
            self.assertEqual((path and os.path.join(project.folder, path), index, label),
                             (item.path, item.index, item.name))
            for attribute, value in attributes.items():
                self.assertEqual(value, item.attributes[attribute], (name, attribute))


def micrograph(item, number):
    item.setFileName("Runs/mic_%d.mrc" % number)
    item.setMicName("mic_%d.mrc" % number)
    item.setSamplingRate(1.25)
    return "Runs/mic_%d.mrc" % number, 0, "mic_%d.mrc" % number, {"_samplingRate": 1.25}


def particle(item, number):
    item.setLocation(number, "Runs/stack.mrcs")
    return "Runs/stack.mrcs", number, "stack.mrcs", {"_index": number}


def ctf(item, number):
    item.setStandardDefocus(1000.0 * number, 900.0 * number, 45.0)
    return None, 0, str(number), {"_defocusU": 1000.0 * number, "_defocusV": 900.0 * number}


def coordinate(item, number):
    item.setPosition(10 * number, 20 * number)
    item.setMicId(7)
    item.setMicName("mic_7.mrc")
    return None, 0, "mic_7.mrc", {"_x": 10 * number, "_y": 20 * number, "_micId": 7}
