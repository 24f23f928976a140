# SPDX-License-Identifier: GPL-3.0-or-later
"""The page that browsers watch: real Chromium and Firefox during real runs."""
import contextlib
import html
import json
import os
import re
import shutil
import signal
import sqlite3
import threading
import time
import unittest
import urllib.parse
from unittest import mock

import mrcfile
import numpy as np
from pwem.objects import Coordinate, CTFModel, SetOfCoordinates, SetOfCTF

from empiardownloader.demo import kinds, specimen
from empiardownloader.live import LiveError, Picks, WebStreamingBackend
from empiardownloader.live.feed import Feed
from empiardownloader.tests.base import emdb, entry
from empiardownloader.tests.browsers import Chromium, Firefox, found
from empiardownloader.tests.follow_case import alive, children
from empiardownloader.tests.live_case import LiveCase, left_behind
from empiardownloader.tests.local_asking import Reader
from empiardownloader.tests.servers import free_port
from empiardownloader.tests.surroundings import environment
from empiardownloader.tests.test_live_windows import WatchedCase, average_of
from empiardownloader.viewers import LiveBrowserViewer

# Of the figure of a kind: its size, and the red of each pixel, as the browser has them.
PIXELS = """(() => {
  const figure = [...document.querySelectorAll("#large figure")].find((each) => each.dataset.key.startsWith(%s));
  const image = figure && figure.querySelector("img");
  if (!image || !image.complete || !image.naturalWidth || image.getAttribute("src") !== figure.dataset.address) {
    return null;
  }
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  return [canvas.width, canvas.height, [...data].filter((value, place) => place %% 4 === 0)];
})()"""
# Kinds of image sets, and in which section of the page each is.
SECTIONS_OF = {"micrographs": "images", "tilt series": "tilts", "tilt stacks": "tilts",
               "particles": "particles", "class averages": "class averages", "volumes": "volumes",
               "subtomograms": "volumes"}
CAPTION = '[...document.querySelectorAll("#large figcaption")].pop().textContent'
STACKS = {"particles": "SetOfParticles", "class averages": "SetOfAverages"}
NUMBER = r'document.querySelector("#about dd") && document.querySelector("#about dd").textContent'


def known(script):
    """A script of what the page was told: ``told.run`` and ``told.image``; in which words it tells of sections."""
    return 'import("/view.js").then(({told}) => import("/words.js").then(({SECTION_WORDS}) => %s))' % script


def need(kind):
    if not found(kind.NAMES):
        raise unittest.SkipTest("%s is not installed here" % kind.NAMES[0])
    try:
        WebStreamingBackend().check()
    except LiveError as error:
        raise unittest.SkipTest(str(error)) from error
    return kind


def grey_of(image, limits=None):
    """As the page shows an image: 8 bits between two grey values, by default mean -/+ 3 standard deviations."""
    low, high = limits or (image.mean() - 3 * image.std(), image.mean() + 3 * image.std())
    return np.clip((image - low) / (high - low), 0, 1) * 255


def page_of(backend):
    """Its address."""
    return re.search(r"http://\S+", backend.places()[0]).group(0)


class BrowserCase(WatchedCase):

    def setUp(self):
        super().setUp()
        os.makedirs(self.pictures, exist_ok=True)

    def backend(self, **options):
        backend = WebStreamingBackend(patience=float("inf"), **options)
        self.addCleanup(backend.cleanup)
        backend.open()
        return backend

    def browser(self, kind, address="", width=1366, height=768):
        browser = need(kind)()
        self.addCleanup(browser.close)
        browser.size(width, height)
        if address:
            browser.open(address)
        return browser

    def pixels(self, browser, kind):
        """What a figure shows, (height, width)."""
        script = PIXELS % json.dumps(kind + " of ")
        told = self.wait_for(lambda: browser.run(script), 30, "the figure of " + kind)
        return np.array(told[2], "float64").reshape(told[1], told[0])

    def check_pixels(self, browser, path, gain=None):
        expected = grey_of(average_of(path, gain))
        self.assertLess(np.abs(np.floor(expected) - self.pixels(browser, "averages")).max(), 1.01)


class TestRuns(BrowserCase):
    FORKED = False

    def test_chromium_during_a_run_of_twelve(self):
        need(Chromium)
        self.demo.rate = 60000
        backend = self.backend()
        browser = self.browser(Chromium, page_of(backend))
        browser.wait('$("name").textContent', "nothing has come yet")
        run = self.new(amountOfImages=12)
        self.launch(run, wait=False)
        self.follow(backend, run)
        browser.wait('$("line").textContent', "connected")
        self.wait_for(lambda: browser.run(NUMBER), 120, "the first image")
        self.assertTrue(self.fresh(run).isActive(), "the run was over before anything was shown")
        self.demo.rate = 0
        head = self.wait_for(lambda: self.head(browser).get("Entry") and self.head(browser), 60, "the head")
        self.assertEqual("EMPIAR-10200", head["Entry"])
        self.assertRegex(head["Disk"], "free$")
        browser.wait(NUMBER, "12 of 12")
        browser.wait('$("state").textContent', "finished")
        self.assertEqual("12 of 12 movies", self.head(browser)["Downloaded"])
        layers = {layer["kind"]: layer for layer in backend.snapshot(self.pictures)["layers"]}
        self.assertEqual({"averages", "power spectra"}, set(layers))
        gain = np.fromfile(os.path.join(self.root, "10200", "data", "Movies", "CountRef_m.mrc"), "<f4", offset=1024)
        gain = gain.reshape(96, 128)
        self.check_pixels(browser, layers["averages"]["path"], gain)
        # The first, by the keyboard; and it stays when the page is loaded again.
        browser.press("Home", 36)
        browser.wait(NUMBER, "1 of 12")
        name = browser.run('$("name").textContent')
        self.check_pixels(browser, os.path.join(os.path.dirname(layers["averages"]["path"]), name), gain)
        browser.run("location.reload()")
        time.sleep(1)
        browser.wait(NUMBER, "1 of 12")
        # By hand: what was grey becomes white.
        before = self.pixels(browser, "averages").mean()
        browser.run('$("high").value = 50; $("high").dispatchEvent(new Event("input"))')
        self.wait_for(lambda: self.pixels(browser, "averages").mean() > before + 20, 30, "another contrast")
        browser.press("a", 65)
        self.wait_for(lambda: abs(self.pixels(browser, "averages").mean() - before) < 1, 30, "the contrast of before")
        self.check_more_of_a_movie(browser, run, gain)
        browser.picture(os.path.join(self.pictures, "browser.png"))
        self.assertEqual([], browser.errors)
        pid = backend.pid
        backend.cleanup()
        browser.wait('$("line").textContent.startsWith("connection lost")', True)
        self.assertFalse(alive(pid))
        self.assertEqual([], left_behind(os.getpid()))

    def test_the_viewer_in_scipion(self):
        """It tells where the page is, opens a browser, and goes on without Scipion's window."""
        need(Chromium)
        run = self.finish(self.new(amountOfImages=3, downloadGain=False))
        opened = os.path.join(self.folder, "opened")
        script = os.path.join(self.folder, "browser")
        with open(script, "w") as stream:
            stream.write("#!/bin/sh\ncp \"${1#file://}\" %s\n" % opened)
        os.chmod(script, 0o755)
        with environment(BROWSER=script):
            view, = LiveBrowserViewer(project=self.proj)._visualize(run.outputMovies)
            self.assertIn(os.path.basename(run.getWorkingDir()) + ":outputMovies", view.command)
            with mock.patch.object(LiveBrowserViewer, "infoMessage") as told:
                view.show()
                self.addCleanup(view.process.wait)
                self.addCleanup(view.process.kill)
                places = self.wait_for(view.getPlaces, 60, "the page")
                view._look()
                view._look()
            self.assertEqual(1, told.call_count)
            self.assertIn("ssh -N -L", told.call_args[0][0])
        self.assertEqual(2, len(places))
        # What is in a command line everybody can read: the address with the token is in a file of this account.
        with open(self.wait_for(lambda: os.path.exists(opened) and opened, 30, "the browser")) as stream:
            link = html.unescape(stream.read())
        address = places[0].split()[1]
        self.assertIn("url=%s" % address, link)
        for pid in [view.process.pid, *children(view.process.pid, b"live/window")]:
            with open("/proc/%d/cmdline" % pid, "rb") as stream:
                self.assertNotIn(address.partition("token=")[2].encode(), stream.read())
        browser = self.browser(Chromium, "data:text/html," + urllib.parse.quote(link))
        browser.wait(NUMBER, "3 of 3")
        self.assertEqual([], browser.errors)
        view.process.terminate()
        view.process.wait(30)
        self.wait_for(lambda: not left_behind(view.process.pid), 30, "nothing is left")

    def head(self, browser):
        return dict(browser.run('[...document.querySelectorAll("#head div")].map((each) => '
                                '[...each.children].map((its) => its.textContent))'))

    def check_more_of_a_movie(self, browser, run, gain):
        """Its frames, and all its pixels."""
        name = browser.run('$("name").textContent')
        path = os.path.join(self.proj.getPath(), self.fresh(run)._getExtraPath(name))
        browser.press("m", 77)
        browser.wait('[...document.querySelectorAll("#large figcaption")].some((each) => '
                     'each.textContent.startsWith("frames of %s: 1 of 8"))' % name)
        with open(path, "rb") as stream:
            stream.seek(1024)
            frames = np.frombuffer(stream.read(), "i1").reshape(8, 96, 128)
        expected = grey_of(np.flipud(frames[0] * gain))
        self.assertLess(np.abs(np.floor(expected) - self.pixels(browser, "frames of " + name)).max(), 1.01)
        browser.press("f", 70)
        self.wait_for(lambda: browser.run('[...document.querySelectorAll("#large figcaption")].some((each) => '
                                          'each.textContent.startsWith("all pixels of"))'), 60, "the full size")
        self.assertLess(np.abs(np.floor(grey_of(average_of(path, gain)))
                               - self.pixels(browser, "all pixels of " + name)).max(), 1.01)

    def test_firefox_and_a_phone_on_a_run_of_two_hundred(self):
        for kind in (Firefox, Chromium):
            need(kind)
        run = self.new(entryId="10201", allImages=True, downloadGain=False)
        self.launch(run, wait=False)
        backend = self.backend()
        firefox = self.browser(Firefox, page_of(backend))
        phone = self.browser(Chromium)
        phone.size(390, 844, scale=2, is_phone=True)
        phone.open(page_of(backend))
        _, thread = self.follow(backend, run, until_end=True)
        thread.join(240)
        self.assertFalse(thread.is_alive())
        self.assertTrue(backend.wait(60), backend.tracker.lost())
        self.assertEqual((400, 400), backend.tracker.progress())
        path = {layer["kind"]: layer for layer in backend.snapshot(self.pictures)["layers"]}["averages"]["path"]
        for browser in (firefox, phone):
            browser.wait(NUMBER, "200 of 200")
            self.check_pixels(browser, path)
            self.assertEqual([], browser.errors)
            # Nothing sticks out at the side.
            self.assertLessEqual(browser.run("document.documentElement.scrollWidth - window.innerWidth"), 0)
        phone.picture(os.path.join(self.pictures, "phone.png"))
        firefox.picture(os.path.join(self.pictures, "firefox.png"))


class TestWatchers(LiveCase):
    """Pages that sleep, are slow, or lose their viewer; images are saved without a run."""

    def setUp(self):
        super().setUp()
        need(Chromium)
        variables = environment(XDG_CACHE_HOME=self.folder)
        variables.__enter__()
        self.addCleanup(variables.__exit__, None, None, None)

    def serve(self, **options):
        backend = self.opened(WebStreamingBackend, patience=float("inf"), **options)
        return backend, page_of(backend)

    def browser(self, address):
        browser = Chromium()
        self.addCleanup(browser.close)
        browser.size(1366, 768)
        browser.open(address)
        return browser

    def show(self, backend, first, count):
        for number in range(first, first + count):
            backend.save(self.images(1, (192, 256), seed=number)[0], "m_%03d.mrc" % number, kind="averages",
                         place=number)
        self.assertTrue(backend.wait(60), backend.tracker.lost())

    def test_a_browser_that_sleeps(self):
        backend, address = self.serve()
        browser = self.browser(address)
        self.show(backend, 1, 5)
        browser.wait(NUMBER, "5 of 5")
        browser.signal(signal.SIGSTOP)
        self.show(backend, 6, 100)
        # The line's buffers are full by then, or were cut; nobody waits.
        time.sleep(3)
        browser.signal(signal.SIGCONT)
        browser.wait(NUMBER, "105 of 105")
        self.assertEqual([], browser.errors)

    def test_a_viewer_that_is_killed_and_started_again(self):
        port = free_port()
        backend, address = self.serve(port=port)
        browser = self.browser(address)
        self.show(backend, 1, 5)
        browser.wait(NUMBER, "5 of 5")
        browser.press("Home", 36)
        browser.press("ArrowRight", 39)
        browser.wait(NUMBER, "2 of 5")
        os.kill(backend.pid, signal.SIGKILL)
        self.assertTrue(backend.wait_closed(30))
        browser.wait('$("line").classList.contains("lost")')
        again, _ = self.serve(port=port)
        # The newest first, as a run's are; the page was at another one.
        for number in range(8, 0, -1):
            self.show(again, number, 1)
        browser.wait('$("line").textContent', "connected")
        browser.wait(NUMBER, "2 of 8")
        self.assertEqual("m_002", browser.run('$("name").textContent'))
        browser.press("End", 35)
        browser.wait(NUMBER, "8 of 8")

    def test_twenty_watchers_of_whom_one_is_slow(self):
        backend, address = self.serve()
        slow, quick = self.browser(address), self.browser(address)
        slow.slow(20000)
        port, token = re.search(r":(\d+)/\?token=(.+)", address).groups()
        readers = [Reader(int(port), token, "/changes") for _ in range(18)]
        for reader in readers:
            self.addCleanup(reader.close)
        self.show(backend, 1, 100)
        quick.wait(NUMBER, "100 of 100")
        slow.wait(NUMBER, "100 of 100")
        for reader in readers:
            told = {"sections": []}
            while not told["sections"] or told["sections"][0]["count"] < 100:
                told = reader.next()[2]


class TestSlowLine(TestWatchers):
    """Words, pixels and picks of one image are seen together, whatever the line does."""
    # Not those of the class above once more.
    test_a_browser_that_sleeps = test_a_viewer_that_is_killed_and_started_again = None
    test_twenty_watchers_of_whom_one_is_slow = None
    SEEN = """(() => {
      const image = document.querySelector("#large img"), circle = document.querySelector("#large circle.pick");
      return [$("name").textContent, image && image.alt.split(":")[0], circle && Number(circle.getAttribute("cx"))];
    })()"""

    def show(self, backend, first, count):
        for number in range(first, first + count):
            name = "m_%03d.mrc" % number
            # First, and until the page's server has them: it may be asked at any moment what it knows of an image.
            backend.save(Picks([(number, 10)], 20), name, source="picker")
            self.assertTrue(backend.wait(60), backend.tracker.lost())
            backend.save(self.images(1, (512, 512), seed=number)[0], name, kind="averages", place=number)
        self.assertTrue(backend.wait(60), backend.tracker.lost())

    def together(self, browser):
        name, alt, place = browser.run(self.SEEN)
        self.assertEqual((name, int(name[2:]) + 0.5), (alt, place))
        return name

    def test_an_image_under_way(self):
        backend, address = self.serve()
        self.show(backend, 1, 3)
        browser = self.browser(address)
        browser.wait(NUMBER, "3 of 3")
        browser.slow(20000)
        browser.press("ArrowLeft", 37)
        for _ in range(20):
            self.together(browser)
            self.assertTrue(browser.run('document.querySelector("#large img").naturalWidth'))
            browser.press("p", 80)
            browser.press("p", 80)
            time.sleep(0.2)
        browser.slow(-1)
        browser.wait(NUMBER, "2 of 3")
        self.assertEqual("m_002", self.together(browser))

    def test_an_image_that_is_there_stays(self):
        """Whatever its user presses, and where the viewer is away."""
        backend, address = self.serve()
        self.show(backend, 1, 3)
        browser = self.browser(address)
        browser.wait(NUMBER, "3 of 3")
        whole = '[...document.querySelectorAll("#large img")].every((image) => image.complete && image.naturalWidth)'
        for key in "aannppa":
            browser.press(key, ord(key.upper()))
            time.sleep(0.1)
            self.assertTrue(browser.run(whole), key)
        backend.cleanup()
        browser.press("ArrowLeft", 37)
        time.sleep(1)
        self.assertTrue(browser.run(whole))
        self.assertEqual("m_003", self.together(browser))

    def test_numbers_and_links(self):
        backend, address = self.serve()
        self.show(backend, 1, 12)
        browser = self.browser(address)
        browser.wait(NUMBER, "12 of 12")

        def type_number(text):
            browser.run('$("place").value = "%s"; $("place").dispatchEvent(new Event("change"))' % text)

        for text, expected in (("3", 3), ("2.5", 2), ("", 2), ("99", 12), ("-4", 1)):
            type_number(text)
            browser.wait(NUMBER, "%d of 12" % expected)
        browser.run('location.hash = "#section=images&index=5"')
        browser.wait(NUMBER, "6 of 12")
        browser.run('location.hash = "#section=images"')
        browser.wait(NUMBER, "12 of 12")
        self.show(backend, 13, 1)
        browser.wait(NUMBER, "13 of 13")
        browser.run('location.hash = "#index=1e400"')
        browser.wait(NUMBER, "13 of 13")
        self.assertEqual([], browser.errors)

    def test_an_image_that_did_not_come(self):
        backend, address = self.serve()
        self.show(backend, 1, 2)
        browser = self.browser(address)
        browser.wait(NUMBER, "2 of 2")
        browser.tell("Network.setBlockedURLs", urls=["*/image/*side=512*"])
        browser.press("ArrowLeft", 37)
        browser.wait('$("large").textContent.includes("did not come")')
        self.assertIsNone(browser.run('document.querySelector("#large img")'))
        browser.tell("Network.setBlockedURLs", urls=[])
        browser.wait('document.querySelector("#large img").alt', "m_001: averages")
        self.assertEqual("m_001", self.together(browser))

    def test_a_slow_line_while_images_come(self):
        """What has begun to come is shown, and then the newest."""
        backend, address = self.serve()
        self.show(backend, 1, 1)
        browser = self.browser(address)
        browser.wait(NUMBER, "1 of 1")
        browser.slow(200000)
        seen = set()
        for number in range(2, 42):
            self.show(backend, number, 1)
            seen.add(self.together(browser))
            time.sleep(0.3)
        self.assertGreater(len(seen), 3)
        browser.wait(NUMBER, "41 of 41")

    def test_frames_that_come_one_by_one(self):
        backend, address = self.serve()
        self.show(backend, 1, 1)
        backend.note(frames=True)
        browser = self.browser(address)
        browser.wait('!$("frames").hidden')
        for number in range(3):
            backend.save(self.images(1)[0], "m_001.mrc#%d" % number, kind="frames of m_001", group="frames",
                         place=number, name="m_001, frame", of="m_001.mrc", takes_picks=False)
            browser.wait(CAPTION, "frames of m_001: 1 of %d" % (number + 1) if number else "frames of m_001")
        browser.run('(() => { const slider = document.querySelector("#large input"); slider.value = 2; '
                    'slider.dispatchEvent(new Event("input")); })()')
        browser.wait(CAPTION, "frames of m_001: 3 of 3")

    def test_frames_that_are_not_to_be_had(self):
        """Each time that they are asked for; an image of which something is said may be called like them."""
        backend, address = self.serve()
        backend.save(self.images(1)[0], "frames.mrc", kind="averages")
        backend.note(frames=True, said="frames.mrc cannot be shown (it is not whole).")
        browser = self.browser(address)
        browser.wait('!$("frames").hidden')
        for _ in range(2):
            browser.run('$("frames").click()')
            browser.wait('$("frames").textContent', "loading frames")
            self.assertEqual("frames", backend.requests.get(timeout=20)["what"])
            backend.note(said="The frames of frames.mrc cannot be shown (gone).", refused="frames")
            browser.wait('$("frames").textContent', "frames")


class TestKinds(BrowserCase):
    """Each kind of image set as EmpiarDownloader writes it, and CTFs and picks as pwem does."""

    @classmethod
    def fill(cls):
        for kind in SECTIONS_OF:
            cls.demo.entries[kinds.NUMBERS[kind]] = entry(kinds.build(cls.root, kind))
        cls.demo.emdb["EMD-0001"] = emdb()

    def run_of(self, kind):
        return self.finish(self.new(entryId=kinds.NUMBERS[kind], allImages=True))

    def choose(self, browser, section):
        """And wait until it is shown."""
        browser.run("""[...$("sections").children].find((each) => each.textContent.startsWith(%s)).click()"""
                    % json.dumps(section))
        browser.wait(known("SECTION_WORDS[told.image.section]"), section)

    def listed(self, browser, section):
        """What the page's server lists."""
        return browser.run('fetch("/list?section=%s&count=200").then((answer) => answer.json())'
                           % urllib.parse.quote(section))["items"]

    def watch(self):
        """The whole project, in Chromium."""
        backend = self.backend()
        feed = Feed(backend, self.proj.getPath(), interval=0.2)
        threading.Thread(target=feed.run, daemon=True).start()
        return feed, self.browser(Chromium, page_of(backend))

    def test_each_kind(self):
        need(Chromium)
        runs = {kind: self.run_of(kind) for kind in SECTIONS_OF}
        feed, browser = self.watch()
        sections = list(dict.fromkeys(SECTIONS_OF.values()))
        for section in sections:
            browser.wait('[...$("sections").children].some((each) => each.textContent.startsWith(%s))'
                         % json.dumps(section))
        self.assertEqual({}, feed.unread)
        for section in sections:
            with self.subTest(section):
                self.choose(browser, section)
                browser.wait('$("of").textContent', "of %d" % self.expected_count(section), seconds=30)
                time.sleep(0.5)
                browser.picture(os.path.join(self.pictures, "browser_%s.png" % section.replace(" ", "_")))
        self.check_volume(browser, runs["volumes"])
        self.check_particles(browser, runs["particles"])
        self.check_tilts(browser, (runs["tilt series"], runs["tilt stacks"]))
        self.assertEqual([], browser.errors)

    def expected_count(self, section):
        """How many of a section there are, as Scipion reads its own sets; of stacks a hundred to a picture. Another
        test may have been here before."""
        found = 0
        for run in self.proj.getRuns():
            for _, output in run.iterOutputAttributes():
                name, size = output.getClassName(), output.getSize()
                if section == "tilts" and "TiltSeries" in name:
                    found += sum(series.getSize() for series in output.iterItems())
                elif section in STACKS and name == STACKS[section]:
                    found += -(-size // 100)
                elif name in (("SetOfMovies", "SetOfMicrographs") if section == "images" else
                              ("SetOfVolumes", "SetOfSubTomograms") if section == "volumes" else ()):
                    found += size
        return found

    def check_volume(self, browser, run):
        self.choose(browser, "volumes")
        name, index = next((item["name"], item["index"]) for item in self.listed(browser, "volumes")
                           if item["name"].startswith("run_"))
        browser.run('$("place").value = %d; $("place").dispatchEvent(new Event("change"))' % (index + 1))
        browser.wait('$("name").textContent', name)
        data = read_volume(self.extra(run, name))
        middle = data.shape[0] // 2
        shown = self.pixels(browser, "volumes")
        side = data.shape[0]
        low, high = browser.run(known("told.image.pictures[0].limits"))
        for part, plane in (((slice(0, side), slice(0, side)), data[middle][::-1]),
                            ((slice(0, side), slice(-side, None)), data[:, :, middle].T[::-1]),
                            ((slice(-side, None), slice(0, side)), data[:, middle])):
            self.assertLess(np.abs(np.floor(grey_of(plane, (low, high))) - shown[part]).max(), 1.01)

    def check_particles(self, browser, run):
        self.choose(browser, "particles")
        browser.wait(known('told.image.pictures[0].kind'), "particles")
        browser.press("Home", 36)
        browser.wait(known('told.image.index'), 0)
        shown = self.pixels(browser, "particles")
        first = next(iter(self.fresh(run).outputParticles.iterItems()))
        stack = read_volume(os.path.join(self.proj.getPath(), first.getFileName()))
        image = stack[first.getIndex() - 1][::-1]
        side = browser.run(known("told.image.pictures[0].cells.side"))
        self.assertEqual(image.shape, (side, side))
        self.assertLess(np.abs(np.floor(grey_of(image)) - shown[:side, :side]).max(), 1.01)

    def check_tilts(self, browser, runs):
        self.choose(browser, "tilts")
        names = [item["name"] for item in self.listed(browser, "tilt series")]
        # Each in its place, also where two downloads call their series alike.
        self.assertEqual(sorted(names), sorted(
            "%s %+.1f\u00b0" % (series.getTsId(), tilt.getTiltAngle()) for run in runs
            for _, output in self.fresh(run).iterOutputAttributes() if "TiltSeries" in output.getClassName()
            for series in output.iterItems() for tilt in series.iterItems()))

    def test_ctfs_picks_and_what_is_rejected(self):
        need(Chromium)
        run = self.run_of("micrographs")
        with open(os.path.join(self.root, kinds.NUMBERS["micrographs"], "truth.json")) as stream:
            truth = json.load(stream)["micrographs"]
        micrographs = self.fresh(run).outputMicrographs
        others = self.write_ctfs_and_picks(run, micrographs, truth)
        _, browser = self.watch()
        browser.wait('$("of").textContent', "of 6")
        browser.wait(known("Object.keys(told.image.facts).length"), 1)
        name = browser.run('$("name").textContent')
        told = truth[os.path.splitext(name)[0]]
        ctf = browser.run(known("Object.values(told.image.facts)[0].ctf"))
        self.assertEqual((told["defocus_u"], told["defocus_v"], told["defocus_angle"]),
                         (ctf["defocus_u"], ctf["defocus_v"], ctf["angle"]))
        self.assertIn("Defocus", browser.run('$("about").textContent'))
        self.check_zeros(browser, told, micrographs)
        self.assertEqual([4, 4], [browser.run('document.querySelectorAll("#large circle.pick%d").length' % number)
                                  for number in (0, 1)])
        browser.run('document.querySelector("#pickers input").click()')
        browser.wait('document.querySelectorAll("#large circle.pick").length', 4)
        browser.picture(os.path.join(self.pictures, "browser_ctf.png"))
        # One is rejected afterwards.
        self.assertEqual(0, browser.run(known("told.run.sections[0].rejected")))
        reject(micrographs.getFileName(), 2)
        browser.wait(known("told.run.sections[0].rejected"), 1)
        browser.run('$("which").value = "rejected"; $("which").dispatchEvent(new Event("change"))')
        browser.wait('$("of").textContent', "of 1")
        browser.wait('document.querySelectorAll("#strip .rejected").length', 1)
        browser.run('$("which").value = "kept"; $("which").dispatchEvent(new Event("change"))')
        browser.wait('$("of").textContent', "of 5")
        self.assertEqual([], browser.errors)
        self.assertEqual(3, len(others))

    def write_ctfs_and_picks(self, run, micrographs, truth):
        """By pwem, as outputs of the same run: enough of a picker, and of a program that fits CTFs."""
        picker = self.proj.getProtocol(run.getObjId())
        folder = run._getPath()
        outputs = {}
        for number in (1, 2):
            found = SetOfCoordinates(filename=os.path.join(folder, "coordinates_%d.sqlite" % number))
            found.setMicrographs(micrographs)
            found.setBoxSize(20)
            for micrograph in micrographs.iterItems():
                for place in range(4):
                    point = Coordinate(x=20 + 25 * place, y=30 * number)
                    point.setMicrograph(micrograph)
                    found.append(point)
            found.write()
            outputs["outputCoordinates%d" % number] = found
        ctfs = SetOfCTF(filename=os.path.join(folder, "ctfs.sqlite"))
        ctfs.setMicrographs(micrographs)
        for micrograph in micrographs.iterItems():
            told = truth[os.path.splitext(micrograph.getMicName())[0]]
            ctf = CTFModel(defocusU=told["defocus_u"], defocusV=told["defocus_v"], defocusAngle=told["defocus_angle"])
            ctf.setResolution(4.5)
            ctf.setMicrograph(micrograph)
            ctfs.append(ctf)
        ctfs.write()
        outputs["outputCTF"] = ctfs
        picker._defineOutputs(**outputs)
        self.proj.mapper.commit()
        for output in outputs.values():
            output.close()
        # As the engine does at each launch.
        shutil.copy(os.path.join(self.proj.getPath(), "project.sqlite"), os.path.join(
            self.proj.getPath(), run._getLogsPath("run.db")))
        return outputs

    def check_zeros(self, browser, told, micrographs):
        """What is drawn is where the function of the specimen is zero."""
        acquisition = micrographs.getAcquisition()
        optics = specimen.Optics(told["defocus_u"], told["defocus_v"], told["defocus_angle"],
                                 acquisition.getVoltage(), acquisition.getSphericalAberration(),
                                 acquisition.getAmplitudeContrast())
        pixel, size = micrographs.getSamplingRate(), 4096
        radii = browser.run(known("told.image.pictures.find((each) => each.zeros).zeros.map((each) => each[0])"))
        edge = browser.run(known("told.image.pictures.find((each) => each.zeros).width / 2"))
        transfer = optics.transfer((size, size), pixel)[0]
        crossings = np.nonzero(np.diff(np.sign(transfer[1:])))[0] + 1.5
        expected = crossings[:len(radii)] / (size / 2) * edge
        self.assertGreaterEqual(len(radii), 3)
        self.assertLess(np.abs(expected - np.array(radii)).max(), 0.2)


def reject(path, number):
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE Objects SET enabled = 0 WHERE id = ?", (number,))


def read_volume(path):
    with mrcfile.open(path, permissive=True) as file:
        return np.array(file.data)


if __name__ == "__main__":
    unittest.main()
