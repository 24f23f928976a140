# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's server: what it tells, and to whom. Browsers are in test_live_browser.py."""
import contextlib
import importlib.util
import io
import json
import os
import re
import signal
import socket
import time
import unittest
from unittest import mock
from urllib.parse import urlencode

import numpy as np
from PIL import Image

from empiardownloader.images.ctf import wavelength, zeros
from empiardownloader.live import Facts, LiveError, Picks, WebStreamingBackend
from empiardownloader.local_access import kept_token
from empiardownloader.tests.follow_case import alive
from empiardownloader.tests.live_case import LiveCase, left_behind
from empiardownloader.tests.local_asking import Reader, ask, check_refusals
from empiardownloader.tests.servers import free_port
from empiardownloader.tests.surroundings import environment

IS_QUICK = True
MARKUP = "<img src=x onerror=alert(1)>&\"'\u2028"


def processor_seconds(pid):
    with open("/proc/%d/stat" % pid) as stream:
        fields = stream.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@unittest.skipUnless(importlib.util.find_spec("tornado"), "tornado is not installed here")
class PageCase(LiveCase):

    def serve(self, **options):
        """-> backend, port, token"""
        backend = self.opened(WebStreamingBackend, **options)
        found = re.search(r"http://127.0.0.1:(\d+)/\?token=(\S+)", backend.places()[0])
        self.port, self.token = int(found.group(1)), found.group(2)
        return backend

    def get(self, path, **values):
        status, headers, content = ask(self.port, path + ("?" + urlencode(values) if values else ""), most=None,
                                       Authorization="Bearer " + self.token)
        self.assertEqual(200, status, content)
        return json.loads(content) if headers["Content-Type"] == "application/json" else content

    def picture(self, run, found, form="png", **values):
        content = self.get("/image/%s/%d-%d.%s" % (run, found["number"], found["version"], form), **values)
        return np.array(Image.open(io.BytesIO(content)))

    def state(self):
        reader = Reader(self.port, self.token, "/changes")
        with contextlib.closing(reader):
            return reader.next()[2]


class TestPage(PageCase):

    def test_what_is_told_of_images(self):
        backend = self.serve(title="Project")
        images = self.images(12, dtype="uint16")
        for number, image in enumerate(images, 1):
            backend.save(image, "m_%02d.mrc" % number, kind="averages", pixel_size=2.0, place=number, limits=(90, 110))
        backend.save(images[0], "new.mrc", kind="averages", place=0)
        self.assertTrue(backend.wait(30), backend.tracker.lost())
        state = self.state()
        self.assertEqual(("Project", [{"name": "images", "count": 13, "items": 13, "rejected": 0}]),
                         (state["title"], state["sections"]))
        listed = self.get("/list", first=11, count=5)
        self.assertEqual((13, ["m_11", "m_12"]), (listed["total"], [item["name"] for item in listed["items"]]))
        newest = self.get("/about")
        self.assertEqual(("m_12", 12, 13), (newest["name"], newest["index"], newest["total"]))
        about, = newest["pictures"]
        # 2 nm are 10 of these pixels.
        self.assertEqual([2, 10.0], about["bar"])
        expected = np.floor(np.clip((images[11].astype("float64") - 90) / 20, 0, 1) * 255)
        self.assertLessEqual(np.abs(expected - self.picture(state["run"], about)).max(), 1)
        # Smaller, and in other grey values.
        small = self.picture(state["run"], about, side=10, low=80, high=120)
        self.assertEqual((8, 10), small.shape)
        self.assertLess(abs(small.mean() - (images[11].mean() - 80) / 40 * 255), 3)
        # The one that is looked at stays when others come before it.
        backend.save(images[1], "newer.mrc", kind="averages", place=0.5)
        backend.wait(30)
        self.assertEqual(("m_12", 13), tuple(self.get("/about", index=12, number=about["number"])[name]
                                             for name in ("name", "index")))

    def test_facts_picks_and_lists(self):
        backend = self.serve()
        for number in (1, 2, 3):
            backend.save(self.images(1)[0], "m_%d.mrc" % number, kind="averages", source="000002_Run:outputMovies",
                         binning=2, pixel_size=1.0, flipped=True, item=number)
        backend.save(self.images(1)[0], "m_3.mrc", kind="power spectra", source="000002_Run:outputMovies",
                     movie_pixel_size=1.0, takes_picks=False, item=3)
        backend.save(Picks([(10, 20)], 8), "m_3.mrc", source="picker")
        fit = {"defocus_u": 15000, "defocus_v": 14000, "angle": 20, "voltage": 300, "cs": 2.7, "contrast": 0.1,
               "resolution": float("nan")}
        backend.save(Facts({"ctf": fit, "note": "defocus 1.45"}), "m_3.mrc", source="ctf", over=["000002_Run"])
        backend.save(Facts({"rejected": True}), "m_2.mrc", source="000002_Run:outputMovies")
        backend.save(Facts({"rejected": True}), "m_1.mrc", source="other", over=["000009_Other"])
        self.assertTrue(backend.wait(30))
        self.assertEqual([{"name": "images", "count": 3, "items": 3, "rejected": 1}], self.state()["sections"])
        self.assertEqual(["m_1", "m_3"], [item["name"] for item in self.get("/list", which="kept")["items"]])
        self.assertEqual(["m_2"], [item["name"] for item in self.get("/list", which="rejected")["items"]])
        about = self.get("/about")
        average, spectrum = about["pictures"]
        self.assertEqual(({"picker": [[4.8, 19.2, 4.0]]}, ["defocus 1.45"]), (average["picks"], about["notes"]))
        self.assertNotIn("resolution", about["facts"]["ctf"]["ctf"])
        self.assertEqual([None if share is None else round(share * 15, 2) for share in zeros(fit, 1.0)[0]],
                         spectrum["zeros"][0])
        backend.remove("000002_Run:outputMovies", 3)
        backend.wait(30)
        self.wait_for(lambda: self.get("/list")["total"] == 2, what="the end of an image")
        backend.forget("000002_Run:outputMovies")
        self.wait_for(lambda: self.state()["sections"] == [], what="the end of all")
        self.assertEqual({"index": -1, "total": 0, "pictures": []},
                         {name: self.get("/about")[name] for name in ("index", "total", "pictures")})

    def test_what_waits_goes_as_well(self):
        backend = self.serve()
        for number in range(60):
            backend.save(self.images(1, (500, 500))[0], "m_%02d.mrc" % number, source="s", item=number)
        for number in (59, 58):
            backend.remove("s", number)
        backend.wait(60)
        self.wait_for(lambda: self.state()["sections"][0]["count"] == 58, what="58 images")
        self.assertEqual("m_57", self.get("/about")["name"])

    def test_names_with_markup(self):
        backend = self.serve(title=MARKUP)
        backend.save(self.images(1)[0], MARKUP.replace("/", "") + ".mrc", source=MARKUP, remark=MARKUP)
        backend.note(head=[[MARKUP, MARKUP]], state=MARKUP)
        backend.wait(30)
        self.assertNotIn(b"onerror", self.get("/"))
        self.wait_for(lambda: self.state()["head"] == [[MARKUP, MARKUP]], what="the head")
        self.assertIn("onerror", self.get("/about")["name"])

    def test_who_gets_nothing(self):
        backend = self.serve()
        backend.save(self.images(1)[0], "secret.mrc")
        backend.wait(30)
        number = self.get("/about")["pictures"][0]["number"]
        run = self.state()["run"]
        for path in ("/list", "/about", "/changes", "/graph", "/page.js", "/image/%s/%d-1.png" % (run, number)):
            good = check_refusals(self, self.port, self.token, path, secret=b"secret")
        for status, path, method in (
                (404, "/image/other/%d-1.png" % number, "GET"), (404, "/image/%s/999-1.png" % run, "GET"),
                (404, "/image/%s/%d-1.exe" % (run, number), "GET"), (404, "/page.html", "GET"),
                (404, "/page.py", "GET"), (404, "/live_page.py", "GET"), (404, "/page/../live_page.py", "GET"),
                (400, "/about?index=x", "GET"), (400, "/about?index=" + "9" * 5000, "GET"),
                (400, "/about?section=x", "GET"), (400, "/list?which=x", "GET"),
                (400, "/image/%s/%d-1.png?low=nan" % (run, number), "GET"),
                (405, "/want", "GET"), (404, "/want?what=passwords&number=%d" % number, "POST"),
                (404, "/want?what=frames&number=999", "POST"), (405, "/about", "POST")):
            with self.subTest(path=path[:60]):
                self.assertEqual(status, ask(self.port, path, method, **good)[0])
        # Nobody has offered frames.
        self.assertEqual(404, ask(self.port, "/want?what=frames&number=%d" % number, "POST", **good)[0])
        backend.note(frames=True)
        self.wait_for(lambda: self.state()["frames"], what="frames")
        want = "/want?what=full+size&number=%d" % number
        self.assertEqual(401, ask(self.port, want, "POST")[0])
        self.assertEqual(403, ask(self.port, want, "POST", Origin="http://evil.example", **good)[0])
        self.assertTrue(backend.requests.empty())
        self.assertEqual(204, ask(self.port, want, "POST", **good)[0])
        wanted = backend.requests.get(timeout=20)
        self.assertEqual(("full size", "secret.mrc"), (wanted["what"], wanted["path"]))

    def test_a_thousand_connections_and_a_watcher_who_takes_nothing(self):
        backend = self.serve()
        frozen = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(3)]
        for each in frozen:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            each.sendall(b"GET /changes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n"
                         % self.token.encode())
        open_ones = []
        for _ in range(1000):
            with contextlib.suppress(OSError):
                connection = socket.create_connection(("127.0.0.1", self.port), 5)
                connection.sendall(b"GET /changes HTTP/1.1\r\nHost: localhost\r\nX: ")
                open_ones.append(connection)
        for image in self.images(200):
            backend.save(image, "m_%d.mrc" % id(image))
            backend.note(head=[["Size", "x" * 2000]])
        self.assertTrue(backend.wait(60), backend.tracker.lost())
        for connection in (*open_ones, *frozen):
            connection.close()

        def count():
            # As long as there is no room for it, a connection is closed at once.
            with contextlib.suppress(OSError):
                return self.state()["sections"][0]["count"]

        self.wait_for(lambda: count() == 200, what="the count")

    def test_another_viewer_at_the_same_port(self):
        """The page that is open comes back: its token is the same, and it is told that all is new."""
        port = free_port()
        with environment(XDG_CACHE_HOME=self.folder):
            first = self.serve(port=port)
            run, token = self.state()["run"], self.token
            secret = os.path.join(self.folder, "empiardownloader", "page_secret")
            self.assertEqual(0o600, os.stat(secret).st_mode & 0o777)
            second = WebStreamingBackend(port=port)
            self.refused(second, "port %d" % port)
            first.cleanup()
            self.serve(port=port)
            self.assertEqual(token, self.token)
            self.assertNotEqual(run, self.state()["run"])
            self.assertNotEqual(token, kept_token(port + 1))
        self.assertNotEqual(kept_token(0), kept_token(0))

    def test_ends(self):
        """Of the viewer, of the sender, of a page that nobody watches: nothing is left."""
        backend = self.serve()
        backend.save(self.images(1)[0], "m.mrc")
        backend.wait(30)
        pid = backend.pid
        os.kill(pid, signal.SIGKILL)
        self.assertTrue(backend.wait_closed(30))
        self.assertIn("The viewer (web) has ended", backend.problem())
        backend.cleanup()
        unwatched = self.serve(leave_after=0.5)
        self.assertTrue(unwatched.wait_closed(30))
        self.assertEqual("", unwatched.problem())
        unwatched.cleanup()
        self.assertFalse(alive(pid))
        self.assertEqual([], left_behind(os.getpid()))

    def test_a_socket_file(self):
        path = os.path.join(self.folder, "page.socket")
        backend = self.opened(WebStreamingBackend, socket_file=path)
        self.assertRegex(backend.places()[0], r"^Page: http://127.0.0.1:8050/\?token=\S+$")
        self.assertRegex(backend.places()[1], r"ssh -N -L 8050:%s \S+$" % path)
        # Another one does not take it away.
        self.refused(WebStreamingBackend(socket_file=path), "is in use")
        self.assertTrue(os.path.exists(path))
        self.assertEqual(0o600, os.stat(path).st_mode & 0o777)
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as reader:
            reader.connect(path)
            reader.sendall(b"GET / HTTP/1.0\r\n\r\n")
            self.assertIn(b"401", reader.recv(100))
        backend.cleanup()
        self.assertFalse(os.path.exists(path))

    def test_what_is_missing_is_said(self):
        with self.assertRaisesRegex(LiveError, "other_machine"):
            WebStreamingBackend(host="other_machine")


class TestOddWords(PageCase):

    def test_what_is_none_is_refused(self):
        backend = self.serve()
        for facts in ([1, 2], None, "x", {"ctf": [1]}):
            with self.assertRaises(ValueError):
                backend.save(Facts(facts), "m.mrc")
        for head in ([1, 2], [["a"]], "words", None):
            with self.assertRaises(ValueError):
                backend.note(head=head)
        self.assertTrue(backend.is_open())

    def test_what_is_odd_is_left_out(self):
        backend = self.serve()
        backend.save(self.images(1)[0], "m.mrc", movie_pixel_size=1.0)
        for ctf in ({"voltage": "300", "defocus_u": "a", "defocus_v": 1}, {"voltage": -300, "defocus_u": 1e200},
                    {"voltage": 300, "defocus_u": 15000}, {"voltage": 300, "defocus_u": [1], "cs": None}):
            backend.save(Facts({"ctf": ctf, "note": ["a list"]}), "m.mrc")
            self.assertTrue(backend.wait(30))
            self.assertEqual([], self.get("/about")["pictures"][0]["zeros"])
        for box in (float("nan"), float("inf"), -5):
            backend.save(Picks([(1, 2), (float("nan"), 3)], box), "m.mrc")
            self.assertTrue(backend.wait(30))
            self.assertEqual(1, len(self.get("/about")["pictures"][0]["picks"][""]))
        backend.note(head=((np.float32(1), b"x"),), said="words")
        self.wait_for(lambda: (self.state()["head"], self.state()["said"]) == ([["1.0", "b'x'"]], "words"), what="head")
        for times in (1, 2):
            backend.note(said="The frames of m cannot be shown (gone).", refused="frames")
            self.wait_for(lambda times=times: self.state()["refusals"] == {"frames": times}, what="refusals")
        backend.save(np.full((5, 5), 3e38, "float32"), "max.mrc")
        backend.save(np.full((1, 3000), np.nan, "float32"), "nan.mrc")
        self.assertTrue(backend.wait(30), backend.tracker.lost())
        run = self.state()["run"]
        for index in (1, 2):
            about = self.get("/about", index=index)["pictures"][0]
            self.assertEqual((about["height"], about["width"]), self.picture(run, about).shape)

    def test_thousands_of_facts_do_not_hold_an_image_up(self):
        """Not by time, which is the machine's, but by rounds: each message takes many of them."""
        backend = self.serve()
        with mock.patch.object(type(backend._sender._link), "send", autospec=True,
                               side_effect=type(backend._sender._link).send) as send:
            for number in range(3000):
                backend.save(Facts({"rejected": False}), "m_%d.mrc" % number)
            backend.save(self.images(1)[0], "m.mrc")
            self.assertTrue(backend.wait(60))
        self.assertLess(send.call_count, 1500)

    def test_frames_are_asked_for_once(self):
        backend = self.serve()
        backend.save(self.images(1)[0], "m.mrc")
        backend.note(frames=True)
        backend.wait(30)
        self.wait_for(lambda: self.state()["frames"], what="frames")
        number = self.get("/about")["pictures"][0]["number"]
        for _ in range(12):
            self.assertEqual(204, ask(self.port, "/want?what=frames&number=%d" % number, "POST",
                                      Authorization="Bearer " + self.token)[0])
        backend.requests.get(timeout=20)
        self.get("/list")
        self.assertTrue(backend.requests.empty())
        self.assertEqual([], self.get("/list", count=-5)["items"])

    def test_pictures_that_nobody_waits_for(self):
        """Dragging a slider gives up one picture after the other; others are not held up by them."""
        backend = self.serve()
        backend.save(self.images(1, (3000, 3000))[0], "large.mrc")
        backend.save(self.images(1)[0], "small.mrc")
        self.assertTrue(backend.wait(60))
        run = self.state()["run"]
        large, small = (self.get("/about", index=index)["pictures"][0] for index in (0, 1))
        gone = []
        for low in range(40):
            connection = socket.create_connection(("127.0.0.1", self.port))
            connection.sendall(("GET /image/%s/%d-%d.png?low=%d&high=200 HTTP/1.1\r\nHost: localhost\r\n"
                                "Authorization: Bearer %s\r\n\r\n" % (
                                    run, large["number"], large["version"], low, self.token)).encode())
            gone.append(connection)
        for connection in gone:
            connection.close()
        before = processor_seconds(backend.pid)
        self.picture(run, small)
        time.sleep(2)
        one = processor_seconds(backend.pid)
        self.picture(run, large)
        per_picture = processor_seconds(backend.pid) - one
        self.assertLess(one - before, 20 * per_picture)


class TestZeros(unittest.TestCase):

    def test_where_nothing_is_known(self):
        good = {"defocus_u": 15000, "defocus_v": 14000, "angle": 20, "voltage": 300, "cs": 2.7}
        self.assertEqual(6, len(zeros(good, 1.0)))
        for change in ({"voltage": None}, {"voltage": -300}, {"defocus_u": None}):
            self.assertEqual([], zeros(dict(good, **change), 1.0), change)
        self.assertEqual([], zeros(good, 0))
        # Beyond Nyquist's frequency there is nothing to draw.
        self.assertLess(len(zeros(good, 12.0)), 3)

    def test_every_zero_is_found(self):
        """Also of little defocus, of too much, and with phase plates: as the function itself crosses zero."""
        k = np.linspace(1e-6, 0.5 / 0.8, 1000001)
        for defocus, shift in ((15000, 0), (300, 0), (-5000, 0), (0, 0), (2000, 0), (15000, -90), (15000, 90),
                               (-100, 30)):
            ctf = {"defocus_u": defocus, "defocus_v": defocus, "voltage": 300, "cs": 2.7, "contrast": 0.1,
                   "phase_shift": shift}
            phase = np.pi * wavelength(300) * defocus * k ** 2 - 0.5 * np.pi * wavelength(300) ** 3 * 2.7e7 * k ** 4
            signs = np.sign(np.sin(phase + np.radians(shift) + np.arcsin(0.1)))
            expected = k[np.nonzero(np.diff(signs))[0]][:6] / (0.5 / 0.8)
            with self.subTest(defocus=defocus, shift=shift):
                self.assertTrue(np.allclose(expected, [ring[0] for ring in zeros(ctf, 0.8)], atol=1e-5))

    def test_a_defocus_that_differs_by_direction(self):
        """Where it is stronger the rings are narrower: at the angle of defocus_u."""
        first = zeros({"defocus_u": 20000, "defocus_v": 10000, "angle": 30, "voltage": 300, "cs": 2.7}, 1.0)[0]
        self.assertEqual(30, 5 * int(np.argmin(first[:36])))
        self.assertEqual(120, 5 * int(np.argmax(first[:36])))


if __name__ == "__main__":
    unittest.main()
