# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions that go along with another request or ahead of its turn, and HTTP servers that mind that."""
import contextlib
import os
import tempfile
import time
import unittest

from empiardownloader.archive.errors import NotFoundError, TransientError
from empiardownloader.archive.remote import MOST_FAILED_PROBES, FileState
from empiardownloader.archive.remote.https import MOST_MINDED, HttpArchive, _versions
from empiardownloader.archive.sessions import Session
from empiardownloader.archive.stopping import StopToken
from empiardownloader.tests.scripted import (
    DEAF,
    FORBIDS_HEAD,
    HANGS_UP,
    HEAD_LIES,
    MINDS_AHEAD,
    NEW_COOKIES,
    ONE_EACH,
    small_http,
)
from empiardownloader.transfer.jobs import Job, Settings
from empiardownloader.transfer.transfer import Transfer

CONTENT = os.urandom(3 << 20)


class TestQuestionsAlong(unittest.TestCase):

    def archive(self, port):
        return HttpArchive("http://user:secret@127.0.0.1:%d/x y" % port, "1", 3)

    def read(self, connection, path, also, start=10, end=20):
        with connection.open(path, start, end, also) as (state, stream):
            self.assertEqual(FileState(len(CONTENT), "x"), state)
            data = bytes(stream.read(end - start))
            self.assertEqual(CONTENT[start:end], data)
            return stream.also

    def test_in_one_packet(self):
        with small_http(CONTENT) as (port, packets):
            connection = self.archive(port).connect()
            self.assertIsNone(self.read(connection, "a", ""))
            for also, answer in (("b #1%.mrc", FileState(len(CONTENT), "x")), ("gone", None)):
                self.assertEqual(answer, self.read(connection, "a", also))
            self.assertIsNone(self.read(connection, "a", ""))
            connection.close()
        get = (b"GET", b"/x%20y/1/a")
        self.assertEqual([[get], [(b"HEAD", b"/x%20y/1/b%20%231%25.mrc"), get], [(b"HEAD", b"/x%20y/1/gone"), get],
                          [get]], packets)

    def test_servers_that_take_one_request_at_a_time(self):
        """The bytes come all the same, and soon nothing goes along any more."""
        for manner in (HANGS_UP, DEAF, ONE_EACH):
            with self.subTest(manner), small_http(CONTENT, manner) as (port, packets):
                archive = self.archive(port)
                connection = archive.connect()
                for _ in range(MOST_FAILED_PROBES):
                    if manner == HANGS_UP:
                        with self.assertRaises(TransientError):
                            self.read(connection, "a", "b")
                    else:
                        self.assertEqual(FileState(len(CONTENT), "x"), self.read(connection, "a", "b"))
                self.assertTrue(archive.sequential)
                del packets[:]
                self.assertIsNone(self.read(connection, "a", "b"))
                self.assertEqual([[(b"GET", b"/x%20y/1/a")]], packets)
                connection.close()

    def test_asked_ahead(self):
        """Bytes, and the last look at the file before, asked for while others are still to come."""
        with small_http(CONTENT) as (port, packets):
            connection = self.archive(port).connect()
            self.assertFalse(connection.pipeline("b", 0, 10))      # nothing is known of the server yet
            self.read(connection, "a", "b")
            del packets[:]
            with connection.open("a", 0, 1000) as (_, stream):
                data = bytes(stream.read(500))
                self.assertTrue(connection.pipeline("c", 5, None, "a"))
                data += bytes(stream.read(500))
            self.assertEqual(CONTENT[:1000], data)
            with connection.open("c", 5, None, "a") as (_, stream):
                self.assertEqual(FileState(len(CONTENT), "x"), stream.also)
                self.assertEqual(CONTENT[5:50], bytes(stream.read(45)))
                self.assertTrue(connection.pipeline_state("c"))
                while stream.read(1 << 20):
                    pass
            self.assertEqual(FileState(len(CONTENT), "x"), connection.state("c"))
            self.read(connection, "d", "")
            connection.close()
        place = b"/x%20y/1/"
        self.assertEqual([[(b"GET", place + b"a")], [(b"HEAD", place + b"a"), (b"GET", place + b"c")],
                          [(b"HEAD", place + b"c")], [(b"GET", place + b"d")]], packets)

    def test_what_was_asked_ahead_and_is_not_wanted(self):
        """Its answer is never taken for another's."""
        with small_http(CONTENT) as (port, _):
            connection = self.archive(port).connect()
            self.read(connection, "a", "b")
            for then in (lambda: self.read(connection, "z", ""), lambda: self.read(connection, "c", "", 10, 30),
                         lambda: connection.state("c"), lambda: self.assertRaises(NotFoundError, connection.state,
                                                                                  "gone")):
                with connection.open("a", 0, 1000) as (_, stream):
                    self.assertTrue(connection.pipeline("c", 10, 20))
                    self.assertEqual(CONTENT[:1000], bytes(stream.read(1000)))
                then()
            # Nor where the bytes before it were not all wanted.
            with connection.open("a", 0, 1 << 20) as (_, stream):
                self.assertTrue(connection.pipeline("c", 10, 20))
                stream.read(10)
            self.read(connection, "c", "")
            connection.close()

    def test_a_request_that_differs_never_gets_the_answer(self):
        """Whatever makes it differ: it is not sent where the answer to another one is still to come."""
        with small_http(CONTENT) as (port, packets):
            connection = self.archive(port).connect()
            self.read(connection, "a", "b")
            with connection.open("a", 0, 1000) as (_, stream):
                self.assertTrue(connection.pipeline("c", 10, 20))
                stream.read(1000)
            connection._session.headers["X-Other"] = "than before"
            ahead = [(b"GET", b"/x%20y/1/c")]
            while ahead not in packets:
                time.sleep(0.01)
            before = len(packets)
            self.read(connection, "c", "")
            self.assertEqual([ahead], packets[before:])
            # Nor do those after it get the answers of those before them.
            self.read(connection, "d", "", 100, 200)
            self.read(connection, "e", "f", 300, 400)
            connection.close()

    def test_cookies_are_not_kept(self):
        with small_http(CONTENT, NEW_COOKIES) as (port, _):
            session = Session()
            for _ in range(2):
                answer = session.get("http://127.0.0.1:%d/a" % port)
                self.assertIn("Set-Cookie", answer.headers)
                self.assertNotIn("Cookie", answer.request.headers)
            session.close()

    def test_what_was_asked_along_is_told_of_the_right_file(self):
        with small_http(CONTENT) as (port, _):
            connection = self.archive(port).connect()
            self.read(connection, "a", "b")
            for also, told in (("gone", None), ("b", FileState(len(CONTENT), "x"))):
                with connection.open("a", 0, 1000) as (_, stream):
                    self.assertTrue(connection.pipeline("c", 10, 20, "b" if also == "gone" else "gone"))
                    stream.read(1000)
                self.assertEqual(told, self.read(connection, "c", also))
            # Nor where nothing is wanted along any more.
            with connection.open("a", 0, 1000) as (_, stream):
                self.assertTrue(connection.pipeline("c", 10, 20, "b"))
                stream.read(1000)
            self.assertIsNone(self.read(connection, "c", ""))
            connection.close()

    def test_a_server_that_minds_being_asked_ahead(self):
        """It takes two requests in a packet, and overhears one that comes while it sends bytes."""
        with small_http(CONTENT, MINDS_AHEAD) as (port, _):
            archive = HttpArchive("http://127.0.0.1:%d" % port, "1", 0.5)
            asked = []
            for _ in range(6):
                connection = archive.connect()
                with connection.open("a", 0, 1 << 20, "b") as (_, stream):
                    data = bytes(stream.read(1000))
                    asked.append(connection.pipeline("c", 10, 20))
                    while len(data) < 1 << 20:
                        data += bytes(stream.read(1 << 20))
                self.assertEqual(CONTENT[:1 << 20], data)
                with contextlib.suppress(TransientError), connection.open("c", 10, 20) as (_, stream):
                    self.assertEqual(CONTENT[10:20], bytes(stream.read(10)))
                connection.close()
        self.assertEqual([True] * MOST_MINDED + [False] * (6 - MOST_MINDED), asked)

    def test_states_of_servers_with_odd_answers_to_head(self):
        with small_http(CONTENT, FORBIDS_HEAD) as (port, _):
            connection = self.archive(port).connect()
            self.assertEqual(FileState(len(CONTENT), "x"), connection.state("a"))
            connection.close()
        for headers in ({"ETag": 'W/"1"'}, {"ETag": '"1"'}):
            self.assertEqual(('"1"', ""), _versions(headers))

    def test_a_connection_that_ends_before_what_was_asked_ahead(self):
        with small_http(CONTENT) as (port, _):
            connection = self.archive(port).connect()
            self.read(connection, "a", "b")
            with connection.open("a", 0, 10) as (_, stream):
                self.assertTrue(connection.pipeline("c", 10, 20))
                stream.read(10)
            connection._session.abort()
            self.read(connection, "c", "")
            connection.close()

    def test_the_transfer_with_any_server(self):
        for manner in ("", HANGS_UP, DEAF, ONE_EACH, NEW_COOKIES, HEAD_LIES, FORBIDS_HEAD):
            with self.subTest(manner), tempfile.TemporaryDirectory() as out, \
                    small_http(CONTENT, manner) as (port, packets):
                names = ["%d.mrc" % number for number in range(6)]
                jobs = [Job(name, os.path.join(out, name), size=len(CONTENT)) for name in names]
                outcomes = []
                Transfer(self.archive(port), Settings(connections=2, first_wait=0.05, give_up=20),
                         StopToken()).run(lambda jobs=jobs: jobs.pop(0) if jobs else None, outcomes.append)
                self.assertEqual([""] * 6, [outcome.error for outcome in outcomes])
                for name in names:
                    with open(os.path.join(out, name), "rb") as stream:
                        self.assertEqual(CONTENT, stream.read())
                if not manner:
                    self.assertTrue(any(len(packet) == 2 for packet in packets))
