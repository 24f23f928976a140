# SPDX-License-Identifier: GPL-3.0-or-later
"""follow --serve: the events for browsers and other languages, and nothing for anybody else."""
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import unittest

from empiardownloader.tests.browsers import CHROMIUM, Chromium, found
from empiardownloader.tests.follow_case import FollowCase, alive, children
from empiardownloader.tests.local_asking import Reader, ask, check_refusals
from empiardownloader.tests.scipion_files import execute
from empiardownloader.tests.servers import free_port
from empiardownloader.tests.surroundings import environment

IS_QUICK = True


@unittest.skipUnless(importlib.util.find_spec("tornado"), "tornado is not installed here")
class TestServe(FollowCase):

    def serve(self, *arguments):
        """-> process, port, token"""
        process = subprocess.Popen([sys.executable, "-m", "empiardownloader.follow", self.project.folder, "--serve",
                                    "--interval", "0.1", *arguments], stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        first = process.stdout.readline()
        self.assertIn("Events: ", first)
        if "--socket" in arguments:
            return process, 0, first.split()[-1]
        self.assertRegex(process.stdout.readline(), r"^From another machine first: ssh -N -L (\d+):127.0.0.1:\1 ")
        place, _, token = first.split()[1].partition("/?token=")
        return process, int(place.rpartition(":")[2]), token

    def reader(self, port, token, **headers):
        reader = Reader(port, token, **headers)
        self.addCleanup(reader.close)
        return reader

    def test_the_events_and_from_where_they_go_on(self):
        run = self.finished_run(movies=3)
        expected = [json.loads(json.dumps(event.as_dict())) for event in self.walker().walk_events(wait=False)]
        process, port, token = self.serve("--changes")
        reader = self.reader(port, token)
        told = [reader.next() for _ in range(len(expected) + 1)]
        self.assertEqual([each["type"] for each in expected], [kind for _, kind, _ in told if kind != "CLOSED"])
        data = next(found for _, kind, found in told if kind == "NEW_DATA")
        self.assertEqual([1, 2, 3], [item["id"] for item in data["data"]["data"]])
        # The server is killed, the run goes on, a new server is there: the browser asks with the id it had last.
        process.kill()
        process.wait()
        run.launch()
        from empiardownloader.tests.scipion_files import SetFiles
        movies = object.__new__(SetFiles)
        movies.run, movies.path = run, os.path.join(run.path, "outputMovies.sqlite")
        movies.append(1, 4)
        run.put(status="finished")
        _, port, token = self.serve("--changes")
        again = self.reader(port, token, Last_Event_ID=told[4][0])
        seen = []
        while not seen or seen[-1][1] != "END_SCAN":
            seen.append(again.next())
        self.assertEqual([[4]], [[item["id"] for item in data["data"]["data"]] for _, kind, data in seen
                                 if kind == "NEW_DATA"])
        bad = self.reader(port, token, Last_Event_ID="nonsense")
        self.assertEqual((None, "gone"), bad.next()[:2])

    def test_whoever_read_its_address_may_go(self):
        run = self.project.add_run()
        run.launch()
        movies = run.add_output(movies=1)
        process, port, token = self.serve()
        process.stdout.close()
        reader = self.reader(port, token)
        while reader.next()[1] != "NEW_DATA":
            pass
        movies.append(1, 7)
        self.assertEqual([7], [item["id"] for item in reader.next()[2]["data"]["data"]])

    def test_who_gets_nothing(self):
        self.finished_run()
        _, port, token = self.serve()
        good = check_refusals(self, port, token, "/events", secret=b"Movies")
        self.assertEqual(405, ask(port, "/events", "POST", **good)[0])
        for host in ("localhost:%d" % port, "127.0.0.1:9999", "[::1]:80", "LOCALHOST"):
            self.assertEqual(200, ask(port, "/", **dict(good, Host=host))[0])
        status, answered, content = ask(port, "/?token=" + token)
        self.assertEqual(200, status)
        self.assertIn(b'content="0;url=/"', content)
        # A link in a mail; a page of another site that puts the same into a frame or asks for it gets nothing.
        link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        self.assertEqual(200, ask(port, "/?token=" + token, **link)[0])
        self.assertEqual(403, ask(port, "/?token=" + token, **dict(link, Sec_Fetch_Mode="no-cors"))[0])
        self.assertEqual(403, ask(port, "/events?token=" + token, **link)[0])
        self.assertEqual(403, ask(port, "/?token=x", **link)[0])
        self.assertRegex(answered["Set-Cookie"], "HttpOnly.*SameSite=Strict")
        status, answered, content = ask(port, "/", Cookie=answered["Set-Cookie"].partition(";")[0])
        self.assertEqual(200, status)
        self.assertIn("default-src 'none'", answered["Content-Security-Policy"])

    def test_a_page_of_ones_own(self):
        """Named by whoever starts the server; it asks with the token in the address, as EventSource can."""
        self.finished_run()
        _, port, token = self.serve("--origin", "http://127.0.0.1:9123")
        path = "/events?token=" + token
        mine = {"Origin": "http://127.0.0.1:9123", "Sec_Fetch_Site": "same-site"}
        status, answered, _ = ask(port, path, **mine)
        self.assertEqual((200, "http://127.0.0.1:9123"), (status, answered["Access-Control-Allow-Origin"]))
        self.assertEqual(401, ask(port, "/events", **mine)[0])
        self.assertEqual(403, ask(port, path, **dict(mine, Origin="http://127.0.0.1:9124"))[0])

    def test_the_token_of_a_port(self):
        """The same each time, so that what was open goes on; and it is written down nowhere."""
        self.finished_run()
        with environment(XDG_CACHE_HOME=self.folder):
            port = free_port()
            process, _, token = self.serve("--port", str(port))
            self.assertEqual(403, ask(port, "/events?token=" + token, Origin="http://evil.example")[0])
            process.kill()
            process.wait()
            self.assertEqual(token, self.serve("--port", str(port))[2])

    def test_names_with_markup(self):
        os.rename(self.project.folder, self.project.folder + "<script>alert(1)</script>".replace("/", "_"))
        self.project.folder += "<script>alert(1)</script>".replace("/", "_")
        _, port, token = self.serve()
        _, _, content = ask(port, "/", Authorization="Bearer " + token)
        self.assertNotIn(b"<script>alert", content)

    @unittest.skipUnless(found(CHROMIUM), "Chromium is not installed here")
    def test_the_page_in_a_real_browser(self):
        run = self.project.add_run()
        run.launch()
        movies = run.add_output(movies=3)
        _, port, token = self.serve("--changes")
        with Chromium() as browser:
            browser.open("http://127.0.0.1:%d/?token=%s" % (port, token))
            cell = '[...document.querySelectorAll("#nodes tr")].map((row) => row.children[2].textContent).pop()'
            browser.wait(cell, "3")
            movies.append(2, 4)
            browser.wait(cell, "5")
            run.put(status="finished")
            browser.wait('document.querySelector("#events tr").children[1].textContent', "END_SCAN")
            self.assertEqual([], browser.errors)

    def test_many_and_slow_ones(self):
        """More readers than there are places, a thousand connections, some that take nothing, and some that never end
        their request: the reader who was there goes on, and nothing is left."""
        run = self.project.add_run()
        run.launch()
        movies = run.add_output(movies=1)
        process, port, token = self.serve()
        first = self.reader(port, token)
        self.assertEqual(["NEW_NODE", "NEW_NODE", "NEW_NODE", "PREPARED_SCAN", "NEW_DATA"],
                         [first.next()[1] for _ in range(5)])
        others = [self.reader(port, token) for _ in range(15)]
        # One more is told to come again.
        self.assertEqual((None, "full"), self.reader(port, token).next()[:2])
        open_ones = []
        for _ in range(1000):
            with contextlib.suppress(OSError):
                connection = socket.create_connection(("127.0.0.1", port), 5)
                connection.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\nX: ")
                open_ones.append(connection)
        movies.append(1, 2)
        self.assertEqual("NEW_DATA", first.next()[1])
        for connection in open_ones:
            connection.close()
        for other in others:
            other.close()
        self.wait_for(lambda: len(children(process.pid)) <= 1, what="the walks of readers that are gone end")
        self.assertEqual(200, self.reader(port, token).response.status)
        walks = children(process.pid)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(130, process.wait(20))
        self.wait_for(lambda: not any(map(alive, walks)), what="the walks end")

    def test_a_position_that_is_too_long_for_a_header(self):
        """Of scattered items, as subsets have them: the id is a word that this server knows."""
        run = self.project.add_run()
        run.launch()
        movies = run.add_output(movies=0)
        execute(movies.path, ["INSERT INTO Objects (id, label, creation, c01, c02) WITH RECURSIVE n(i) AS (SELECT 1 "
                              "UNION ALL SELECT i + 1 FROM n WHERE i < 9000) "
                              "SELECT i * i, '', 'now', 0, i || '.mrc' FROM n"])
        run.put(status="finished")
        _, port, token = self.serve()
        reader, told = self.reader(port, token), []
        while not told or told[-1][1] != "END_SCAN":
            told.append(reader.next())
        word = told[-2][0]
        self.assertTrue(word.startswith("@") and len(word) < 30, word)
        self.assertEqual("END_SCAN", self.reader(port, token, Last_Event_ID=word).next()[1])
        self.assertEqual("gone", self.reader(port, token, Last_Event_ID="@nobody").next()[1])

    def test_a_project_that_goes(self):
        self.finished_run()
        _, port, token = self.serve()
        reader = self.reader(port, token)
        for _ in range(6):
            reader.next()
        shutil.rmtree(self.project.folder)
        _, kind, data = reader.next()
        self.assertEqual("gone", kind)
        self.assertIn("is not there any more", data["error"])

    def test_a_socket_of_ones_own(self):
        self.finished_run()
        path = os.path.join(self.folder, "events.socket")
        process, _, token = self.serve("--socket", path)
        self.assertEqual(0o600, os.stat(path).st_mode & 0o777)
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.connect(path)
            connection.sendall(("GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % token).encode())
            said = b""
            while b"event: NEW_NODE" not in said:
                said += connection.recv(1000)
        # Another one does not take it away, and nothing is left of this one.
        done = subprocess.run([sys.executable, "-m", "empiardownloader.follow", self.project.folder, "--serve",
                               "--socket", path], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        self.assertEqual(1, done.returncode)
        self.assertIn("address already in use", done.stderr)
        process.send_signal(signal.SIGINT)
        self.assertEqual(130, process.wait(20))
        self.assertFalse(os.path.exists(path))

    def test_what_is_not_there(self):
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        for arguments in ([self.project.folder + "x", "--serve"],
                          [self.project.folder, "--serve", "--port", str(taken.getsockname()[1])]):
            done = subprocess.run([sys.executable, "-m", "empiardownloader.follow", *arguments], stderr=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True, timeout=60, check=False)
            self.assertEqual((1, 1, ""), (done.returncode, done.stderr.count("\n"), done.stdout), done.stderr)


if __name__ == "__main__":
    unittest.main()
