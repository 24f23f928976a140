# SPDX-License-Identifier: GPL-3.0-or-later
"""napari's and ImageJ's real windows on a virtual screen, during real runs."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest

import mrcfile
import numpy as np
from pwem.objects import Coordinate, SetOfCoordinates

from empiardownloader import live
from empiardownloader.demo import kinds
from empiardownloader.images.previews import PREVIEW_PIXELS
from empiardownloader.live import FijiStreamingBackend, LiveError, NapariStreamingBackend, Picks
from empiardownloader.live.feed import Feed
from empiardownloader.live.fiji import DEBIANS_JAR
from empiardownloader.tests.base import ProtocolTestCase, entry, image_set, write_movies
from empiardownloader.tests.follow_case import alive, children
from empiardownloader.tests.live_case import left_behind
from empiardownloader.tests.surroundings import environment
from empiardownloader.tests.test_gui import missing as missing_screen
from empiardownloader.tests.test_gui import screen
from empiardownloader.viewers import LiveImageJViewer, LiveNapariViewer

WINDOW = b"live/window"       # in the command of a viewer
WINDOW_FOLDER = os.path.join(os.path.dirname(live.__file__), "window")
BACKENDS = {"napari": NapariStreamingBackend, "fiji": FijiStreamingBackend}


def missing(kind):
    """Why a viewer cannot be shown here, '' if it can."""
    if missing_screen():
        return missing_screen()
    try:
        kind().check()
    except LiveError as error:
        return str(error)
    return ""


def average_of(path, gain=None):
    """The picture that a movie should be, computed apart: from the bytes of an MRC file, small enough not to be
    binned, its first row at the bottom."""
    with open(path, "rb") as stream:
        width, height, frames, mode = np.frombuffer(stream.read(16), "<i4")
        stream.seek(1024)
        data = np.frombuffer(stream.read(), {0: "i1", 2: "<f4"}[mode]).reshape(frames, height, width)
    assert max(width, height) <= PREVIEW_PIXELS
    average = data.astype("float64").mean(axis=0)
    return np.flipud(average if gain is None else average * gain)


class WatchedCase(ProtocolTestCase):
    """Runs that are watched, and pictures of that."""

    @classmethod
    def fill(cls):
        """Beside the usual ones an entry of two hundred small movies."""
        super().fill()
        small = ["s_%03d.mrc" % number for number in range(200)]
        write_movies(cls.root, "10201", small, frames=2, width=48, height=32)
        cls.demo.entries["10201"] = entry(image_set(num_images_or_tilt_series=200, frames_per_image=2,
                                                    image_width="48", image_height="32"))

    def setUp(self):
        super().setUp()
        # Pictures for the README are kept where this variable says.
        self.pictures = os.environ.get("EMPIAR_PICTURES") or os.path.join(self.folder, "pictures", self._testMethodName)

    def address(self, run, output=""):
        return os.path.basename(run.getWorkingDir()) + (output and ":" + output)

    def follow(self, backend, run, **options):
        """A feed in a thread -> it and the thread."""
        feed = Feed(backend, self.proj.getPath(), self.address(run), interval=0.2)
        thread = threading.Thread(target=feed.run, kwargs=options, daemon=True)
        thread.start()
        return feed, thread


class WindowCase(WatchedCase):
    """A virtual screen for all tests of a class."""

    @classmethod
    def setUpClass(cls):
        if missing_screen():
            raise unittest.SkipTest(missing_screen())
        super().setUpClass()
        cls.screen = screen()
        cls.windows = environment(DISPLAY=cls.screen.__enter__(), LIBGL_ALWAYS_SOFTWARE="1")
        cls.windows.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.windows.__exit__(None, None, None)
        cls.screen.__exit__(None, None, None)
        super().tearDownClass()

    def need(self, name):
        reason = missing(BACKENDS[name])
        if reason:
            self.skipTest(reason)
        return BACKENDS[name]

    def last_name(self, run):
        """The movie that was registered last: they are so as they come."""
        return self.rows(run)[-1][2]

    def shown(self, snapshot, folder):
        """{kind: (what the window says of the stack, the pixels it shows)}"""
        return {layer["kind"]: (layer, np.load(os.path.join(folder, layer["file"]))) for layer in snapshot["layers"]}

    def gain(self):
        path = os.path.join(self.root, "10200", "data", "Movies", "CountRef_m.mrc")
        with open(path, "rb") as stream:
            stream.seek(1024)
            return np.frombuffer(stream.read(), "<f4").reshape(96, 128)


class TestRuns(WindowCase):
    FORKED = False

    def check_run_of_twelve(self, name):
        kind = self.need(name)
        self.demo.rate = 60000
        run = self.new(amountOfImages=12)
        self.launch(run, wait=False)
        with kind(patience=float("inf")) as backend:
            feed, thread = self.follow(backend, run, until_end=True)
            self.wait_for(lambda: backend.tracker.progress()[0] >= 4, 120, "the first pictures")
            during = self.fresh(run)
            self.assertTrue(during.isActive(), "the run was over before anything was shown")
            self.demo.rate = 0
            thread.join(120)
            self.assertFalse(thread.is_alive())
            self.assertTrue(backend.wait(60), backend.tracker.lost())
            # An average and a spectrum each.
            self.assertEqual((24, 24), backend.tracker.progress())
            self.assertEqual({}, feed.unread)
            found = backend.snapshot(self.pictures)
            pid = backend.pid
        run = self.ended(run)
        self.assertTrue(run.isFinished(), run.getErrorMessage())
        layers = self.shown(found, self.pictures)
        self.assertEqual({"averages", "power spectra"}, set(layers))
        averages, pixels = layers["averages"]
        last = self.last_name(run)
        self.assertEqual((12, 11, last), (averages["count"], averages["index"], averages["name"]))
        expected = average_of(averages["path"], self.gain())
        self.assertTrue(np.allclose(expected, pixels, rtol=1e-5), np.abs(expected - pixels).max())
        self.assertFalse(np.allclose(average_of(averages["path"]), pixels, rtol=1e-5), "the gain was not applied")
        self.assertIn("%s, 12 of 12, gain applied" % last, found["title"])
        self.assertIn("finished", found["title"])
        self.assertTrue(np.allclose([0.66, 0.66], averages["pixel"]))
        mean, sigma = expected.mean(), expected.std()
        self.assertTrue(np.allclose([mean - 3 * sigma, mean + 3 * sigma], averages["limits"], rtol=1e-3),
                        averages["limits"])
        self.assertGreater(os.path.getsize(os.path.join(self.pictures, "window.png")), 5000)
        self.assertFalse(alive(pid))
        self.assertEqual([], left_behind(os.getpid()))

    def test_napari_during_a_run(self):
        self.check_run_of_twelve("napari")

    def test_imagej_during_a_run(self):
        self.check_run_of_twelve("fiji")

    def test_two_viewers_on_a_run_of_two_hundred(self):
        classes = [self.need(name) for name in BACKENDS]
        run = self.new(entryId="10201", allImages=True, downloadGain=False)
        self.launch(run, wait=False)
        with contextlib.ExitStack() as stack:
            backends = [stack.enter_context(kind(patience=float("inf"))) for kind in classes]
            threads = [self.follow(backend, run, until_end=True)[1] for backend in backends]
            for thread in threads:
                thread.join(240)
                self.assertFalse(thread.is_alive())
            for backend in backends:
                self.assertTrue(backend.wait(60), backend.tracker.lost())
                self.assertEqual((400, 400), backend.tracker.progress())
                layers = self.shown(backend.snapshot(self.pictures), self.pictures)
                layer, pixels = layers["averages"]
                self.assertEqual((200, self.last_name(run)), (layer["count"], layer["name"]))
                self.assertTrue(np.allclose(average_of(layer["path"]), pixels, rtol=1e-5))

    def test_the_command_ends_with_the_run_and_a_killed_one_leaves_nothing(self):
        self.need("fiji")
        run = self.finish(self.new(amountOfImages=3, downloadGain=False))
        words = [sys.executable, "-m", "empiardownloader.live", "imagej", self.proj.getPath(),
                 self.address(run, "outputMovies")]
        done = subprocess.run([*words, "--end-with-run"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=120, check=False)
        self.assertEqual((0, "6 of 6 pictures were shown.\n"), (done.returncode, done.stdout))
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            with subprocess.Popen([*words, "--tcp"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
                self.wait_for(lambda sender=process: left_behind(sender.pid), 60, "the first image")
                viewer = self.wait_for(lambda sender=process: children(sender.pid, WINDOW), 30, "the viewer")
                process.send_signal(number)
                process.wait(30)
            self.wait_for(lambda pids=viewer: not any(map(alive, pids)), 30, "the end of the viewer")
            self.assertEqual([], left_behind(process.pid), number)

    def test_scipions_viewers(self):
        run = self.finish(self.new(amountOfImages=3, downloadGain=False))
        for viewer_class, name in ((LiveNapariViewer, "napari"), (LiveImageJViewer, "fiji")):
            self.need(name)
            for shown, address in ((run, ""), (run.outputMovies, "outputMovies")):
                viewer = viewer_class(project=self.proj)
                view, = viewer._visualize(shown)
                self.assertEqual([name, self.proj.getPath(), self.address(run, address)], view.command[-3:])
                view.show()
                self.addCleanup(view.process.wait)
                self.addCleanup(view.process.kill)
                self.assertIsNone(view.process.poll())
                # In its first seconds it has begun a viewer, if anything.
                self.wait_for(lambda process=view.process: children(process.pid, WINDOW), 30, "the viewer")
                view.process.terminate()
                view.process.wait(30)
        with environment(DISPLAY=None, WAYLAND_DISPLAY=None):
            view, = LiveNapariViewer(project=self.proj)._visualize(run)
            self.assertIn("There is no screen here", view.getMessage())


class TestPictures(WindowCase):

    def images(self, count):
        random = np.random.default_rng(3)
        return [random.normal(50, 4, (90, 120)).astype("float32") for _ in range(count)]

    def check_plain_arrays(self, name):
        kind = self.need(name)
        with kind(title="A script") as backend:
            images = self.images(5)
            for number, image in enumerate(images[:3]):
                backend.save(image, "a/m_%d.mrc" % number, kind="averages", pixel_size=1.2, binning=4)
            backend.save_batch(images[3:], ["a/m_3.mrc", "a/m_4.mrc"], kind="averages", pixel_size=1.2, binning=4)
            backend.save((images[4] * 100).astype("uint16"), "a/m_4.mrc", kind="counts")
            backend.save(np.clip(images[4], 0, 255).astype("uint8"), "a/m_4.mrc", kind="bytes")
            backend.save(Picks([(40, 40), (400, 200)], 60), "a/m_4.mrc")
            self.assertTrue(backend.wait(60), backend.tracker.lost())
            layers = self.shown(backend.snapshot(self.pictures), self.pictures)
            layer, pixels = layers["averages"]
            self.assertTrue(np.array_equal(images[4], pixels))
            self.assertTrue(np.allclose([4.8, 4.8], layer["pixel"]))
            # The middle of a pixel of four lies between its second and third.
            self.assertTrue(np.allclose([[9.625, 9.625], [99.625, 49.625]], layer["picks"]), layer["picks"])
            self.assertTrue(np.array_equal((images[4] * 100).astype("uint16"), layers["counts"][1]))
            self.assertTrue(np.array_equal(np.clip(images[4], 0, 255).astype("uint8"), layers["bytes"][1]))

    def test_napari_shows_plain_arrays(self):
        self.check_plain_arrays("napari")

    def test_imagej_shows_plain_arrays(self):
        self.check_plain_arrays("fiji")

    def check_frozen_and_killed(self, name):
        kind = self.need(name)
        with kind(patience=float("inf")) as backend:
            images = self.images(30)
            backend.save(images[0], "m_00.mrc", place=0)
            self.assertTrue(backend.wait(60))
            os.kill(backend.pid, signal.SIGSTOP)
            for number, image in enumerate(images[1:], 1):
                self.assertTrue(backend.save(image, "m_%02d.mrc" % number, place=number))
            time.sleep(2)
            os.kill(backend.pid, signal.SIGCONT)
            self.assertTrue(backend.wait(60), backend.tracker.lost())
            layer, pixels = self.shown(backend.snapshot(self.pictures), self.pictures)["images"]
            self.assertEqual((30, 29), (layer["count"], layer["index"]))
            self.assertTrue(np.array_equal(images[29], pixels))
            os.kill(backend.pid, signal.SIGKILL)
            self.assertTrue(backend.wait_closed(20))
            self.assertFalse(backend.save(images[0], "late.mrc"))
            self.assertEqual([], left_behind(os.getpid()))
            backend.open()
            backend.save(images[0], "again.mrc")
            self.assertTrue(self.wait_for(lambda: backend.tracker.progress() == (31, 32), 60, "the next picture"))

    def test_napari_frozen_and_killed(self):
        self.check_frozen_and_killed("napari")

    def test_imagej_frozen_and_killed(self):
        self.check_frozen_and_killed("fiji")


class TestHands(WindowCase):
    """What a user does at the windows, and what they do by themselves."""

    def play(self, name, python):
        self.need(name)
        script = os.path.join(os.path.dirname(__file__), "window_play.py")
        done = subprocess.run([python, script, name, WINDOW_FOLDER, DEBIANS_JAR],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=240, check=False)
        self.assertEqual(0, done.returncode, done.stderr[-2000:])
        found = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual([], found.pop("failed"))
        return found

    def test_layers_of_napari(self):
        found = self.play("napari", NapariStreamingBackend()._python())
        # Each of four lies in view, about as large as the others.
        sizes = list(found["shown"].values())
        self.assertGreater(min(sizes), 2000, found)
        self.assertGreater(min(sizes), 0.5 * max(sizes), found)
        # What has no image here is not seen; before, it was an area of middle grey.
        self.assertLess(found["nothing"], 1000, found)
        # Three dimensions are set back, and not all of the 40 images were read for them.
        self.assertEqual(2, found["ndisplay"])
        self.assertLess(found["read"], 8)

    def test_grey_values_of_imagej(self):
        if not os.path.exists(DEBIANS_JAR):
            self.skipTest("Debian's imagej is not installed")
        self.assertEqual({"after its own look": [1000, 2000], "the next": [1100, 2100], "the user's": [5, 10]},
                         self.play("fiji", sys.executable))


class TestPicks(WindowCase):

    def check_picks(self, name):
        """A picker's coordinates over the movies that they were picked on, in a project of several runs."""
        kind = self.need(name)
        run = self.finish(self.new(amountOfImages=3, downloadGain=False))
        folder = os.path.join(self.proj.getPath(), run.getWorkingDir())
        coordinates = SetOfCoordinates(filename=os.path.join(folder, "coordinates.sqlite"))
        coordinates.setBoxSize(20)
        coordinates.setMicrographs(run.outputMovies)
        for movie in run.outputMovies:
            for x in (10, 60):
                point = Coordinate(x=x, y=30)
                point.setMicrograph(movie)
                coordinates.append(point)
        coordinates.write()
        picker = self.proj.getProtocol(run.getObjId())
        picker._defineOutputs(outputCoordinates=coordinates)
        self.proj.mapper.commit()
        self.assertEqual(6, coordinates.getSize())
        coordinates.close()
        # As the engine does at each launch.
        shutil.copy(os.path.join(self.proj.getPath(), "project.sqlite"), os.path.join(
            self.proj.getPath(), run._getLogsPath("run.db")))
        with kind(patience=float("inf")) as backend:
            feed = Feed(backend, self.proj.getPath(), self.address(run, "outputMovies"), interval=1)
            feed.run(until_end=True)
            self.assertTrue(backend.wait(60))
            layer, _ = self.shown(backend.snapshot(self.pictures), self.pictures)["averages"]
        self.assertEqual(self.last_name(run), layer["name"])
        # The first row is at the bottom.
        self.assertTrue(np.allclose([[10, 96 - 1 - 30], [60, 96 - 1 - 30]], sorted(layer["picks"])), layer["picks"])

    def test_picks_in_napari(self):
        self.check_picks("napari")

    def test_picks_in_imagej(self):
        self.check_picks("fiji")

    def check_frames(self, name):
        kind = self.need(name)
        run = self.finish(self.new(amountOfImages=2))
        with kind(patience=float("inf")) as backend:
            _, thread = self.follow(backend, run)
            self.assertTrue(self.wait_for(lambda: backend.tracker.progress() == (4, 4), 60, "the averages"))
            averages, _ = self.shown(backend.snapshot(self.pictures), self.pictures)["averages"]
            # What a click on the button says.
            backend.requests.put({"path": averages["path"], "name": averages["name"], "source": averages["source"],
                                  "what": "frames"})
            self.assertTrue(self.wait_for(lambda: backend.tracker.progress() == (12, 12), 60, "the frames"))
            layers = self.shown(backend.snapshot(self.pictures), self.pictures)
            backend.cleanup()
            thread.join(20)
        layer, pixels = layers["frames of %s" % self.last_name(run)]
        self.assertEqual(8, layer["count"])
        with open(averages["path"], "rb") as stream:
            stream.seek(1024)
            frames = np.frombuffer(stream.read(), "i1").reshape(8, 96, 128)
        self.assertTrue(np.allclose(np.flipud(frames[layer["index"]] * self.gain()), pixels, rtol=1e-5))

    def test_frames_in_napari(self):
        self.check_frames("napari")

    def test_frames_in_imagej(self):
        self.check_frames("fiji")


class TestKinds(WindowCase):
    """Image sets of other kinds in the windows; the page's are in test_live_browser.py."""
    KINDS = ("particles", "class averages", "volumes", "tilt stacks")
    SHOWN = {"particles", "class averages", "volumes", "tilts", "power spectra"}

    @classmethod
    def fill(cls):
        for kind in cls.KINDS:
            cls.demo.entries[kinds.NUMBERS[kind]] = entry(kinds.build(cls.root, kind))

    def check_each_kind(self, name):
        backend_class = self.need(name)
        runs = {kind: self.finish(self.new(entryId=kinds.NUMBERS[kind], allImages=True)) for kind in self.KINDS}
        with backend_class(patience=float("inf")) as backend:
            feed = Feed(backend, self.proj.getPath(), interval=1)
            feed.run(until_end=True)
            self.assertTrue(backend.wait(60), backend.tracker.lost())
            found = backend.snapshot(self.pictures)
        self.assertEqual({}, feed.unread)
        self.assertEqual(self.SHOWN, {layer["kind"] for layer in found["layers"]})
        counts = {layer["kind"]: layer["count"] for layer in found["layers"]}
        self.assertEqual((1, 3), (counts["class averages"], counts["volumes"]))
        # ImageJ shows each stack by itself, napari what is at the slider's place.
        layer, pixels = self.shown(found, self.pictures)["volumes"]
        if not layer["name"]:
            return
        with mrcfile.open(self.extra(self.fresh(runs["volumes"]), layer["name"]), permissive=True) as file:
            data = np.array(file.data)
        side = len(data)
        self.assertTrue(np.allclose(data[side // 2][::-1], pixels[:side, :side]))
        self.assertTrue(np.allclose(data[:, side // 2], pixels[-side:, :side]))

    def test_in_napari(self):
        self.check_each_kind("napari")

    def test_in_imagej(self):
        self.check_each_kind("fiji")


if __name__ == "__main__":
    unittest.main()
