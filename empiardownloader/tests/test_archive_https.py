# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions that go along with another request or ahead of its turn, and HTTP servers that mind that."""
import base64
import contextlib
import gzip
import http.client
import os
import select
import socket
import tempfile
import threading
import time
import unittest
from urllib.parse import urlsplit

from empiardownloader.archive.errors import (
    BrokenFileError,
    BusyError,
    LineError,
    NotFoundError,
    TransientError,
    UnreachableError,
)
from empiardownloader.archive.remote import MOST_FAILED_PROBES, FileState, Listing
from empiardownloader.archive.remote.http_answers import versions
from empiardownloader.archive.remote.http_client import Phase, PipelinedClient, Request, Route
from empiardownloader.archive.remote.https import MOST_MINDED, HttpArchive
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
    conversing,
    small_http,
)
from empiardownloader.tests.servers import certificates, nginx
from empiardownloader.tests.surroundings import environment
from empiardownloader.transfer.jobs import Job, Settings
from empiardownloader.transfer.transfer import Transfer

CONTENT = os.urandom(3 << 20)
TWO_BYTES = b"HTTP/1.1 206 Partial\r\nContent-Length: 2\r\nContent-Range: bytes 0-1/9\r\n\r\nab"


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
        """Nothing is read from a connection where the answer to another request is the next one."""
        with small_http(CONTENT) as (port, packets):
            client = PipelinedClient(Route.to(urlsplit("http://127.0.0.1:%d" % port)))
            client.connect_seconds = client.seconds = 3
            first, second, other = (Request("GET", "/" + name, "bytes=0-9") for name in "abc")
            client.send(first, second)
            answer = client.answer(first)
            for wrong in (other, second):       # one that was not asked, and one before all of the first has come
                with self.assertRaises(http.client.CannotSendRequest):
                    client.answer(wrong)
                self.assertIs(Phase.CLOSED, client.phase)
                client.send(first, second)
                answer = client.answer(first)
            self.assertEqual(CONTENT[:10], bytes(answer.read(100)))
            self.assertEqual((second,), client.asked)
            self.assertEqual(CONTENT[:10], bytes(client.answer(second).read(100)))
            self.assertIs(Phase.IDLE, client.phase)
            client.close()
        self.assertEqual(3, len(packets))

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
            archive = HttpArchive("http://127.0.0.1:%d" % port, "1", 30)
            asked = []
            for _ in range(6):
                connection = archive.connect()
                with connection.open("a", 0, 1 << 20, "b") as (_, stream):
                    data = bytes(stream.read(1000))
                    asked.append(connection.pipeline("c", 10, 20))
                    while len(data) < 1 << 20:
                        data += bytes(stream.read(1 << 20))
                self.assertEqual(CONTENT[:1 << 20], data)
                connection.wait_for(0.5)
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
            self.assertEqual(('"1"', ""), versions(headers))

    def test_early_hints(self):
        """Answers before the answer, alone and pipelined."""
        def converse(connection):
            with connection:
                while connection.recv(65536):
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                                       + TWO_BYTES)
        with conversing(converse) as port:
            connection = self.archive(port).connect()
            for _ in range(2):
                with connection.open("a", 0, 2) as (state, stream):
                    self.assertEqual((9, b"ab"), (state.size, bytes(stream.read(10))))
            connection.close()

    def test_an_answer_that_ends_early(self):
        """It is the connection's end, whatever the file: the next answer comes over another one."""
        def converse(connection):
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 206 Partial\r\nContent-Length: 9\r\nContent-Range: bytes 0-8/9\r\n\r\nab")
        with conversing(converse) as port:
            connection = self.archive(port).connect()
            for _ in range(2):
                with self.assertRaisesRegex(TransientError, "closed early"), \
                        connection.open("a", 0, 9) as (_, stream):
                    self.assertEqual(b"ab", bytes(stream.read(9)))
                    stream.read(7)
            connection.close()

    def test_a_server_that_sends_us_on(self):
        """The first file goes by way of a redirect, and from then on all do; a listing that comes compressed too."""
        page = gzip.compress(b'<html><title>Index of /x y/1/sub</title><a href="b.mrc">b.mrc</a></html>')
        seen = []

        def elsewhere(connection):
            with connection:
                for head in iter(lambda: connection.recv(65536), b""):
                    seen.append(head.split(b" ")[1])
                    if head.split(b" ")[1].endswith(b"sub/"):
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n"
                                           b"Content-Length: %d\r\n\r\n%s" % (len(page), page))
                        continue
                    connection.sendall(TWO_BYTES)

        with conversing(elsewhere) as there:
            def converse(connection):
                with connection:
                    for head in iter(lambda: connection.recv(65536), b""):
                        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d%s\r\n"
                                           b"Content-Length: 0\r\n\r\n" % (there, head.split(b" ")[1]))
            with conversing(converse) as port:
                archive = self.archive(port)
                connection = archive.connect()
                self.assertFalse(archive.by_requests)
                for name in "abc":
                    with connection.open(name, 0, 2) as (state, stream):
                        self.assertEqual((9, b"ab"), (state.size, bytes(stream.read(10))))
                        self.assertFalse(connection.pipeline("z", 0, 2))
                self.assertTrue(archive.by_requests)
                self.assertEqual(Listing((), (("b.mrc", None),)), connection.list_folder("sub"))
                connection.close()
            direct = self.archive(there).connect()
            self.assertEqual(Listing((), (("b.mrc", None),)), direct.list_folder("sub"))
            direct.close()
        self.assertEqual([b"/x%20y/1/a", b"/x%20y/1/b", b"/x%20y/1/c"], seen[:3])

    def answers(self, *answers):
        """A server that gives these one after another, whatever is asked -> (its port, [connection's requests])"""
        asked = []

        def converse(connection):
            its = []
            asked.append(its)
            with connection, contextlib.suppress(OSError):
                for head in iter(lambda: connection.recv(65536), b""):
                    its.append(head)
                    connection.sendall(answers[min(sum(map(len, asked)), len(answers)) - 1])

        return conversing(converse), asked

    def test_errors_with_a_page_that_nobody_asked_for(self):
        """It is not taken for the next answer."""
        missing = b"HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\npage"
        server, _ = self.answers(missing)
        with server as port:
            connection = self.archive(port).connect()
            for _ in range(4):
                with self.assertRaises(NotFoundError):
                    connection.state("a")
            connection.close()

    def test_an_answer_longer_than_it_says(self):
        server, asked = self.answers(TWO_BYTES + b"more")
        with server as port:
            connection = self.archive(port).connect()
            for _ in range(4):
                with connection.open("a", 0, 2) as (_, stream):
                    self.assertEqual(b"ab", bytes(stream.read(10)))
            connection.close()
        self.assertEqual([1] * 4, [len(its) for its in asked])

    def test_no_body_in_pieces(self):
        server, _ = self.answers(b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n")
        with server as port:
            connection = self.archive(port).connect()
            with self.assertRaisesRegex(BrokenFileError, "error 304"), connection.open("a", 0, 2):
                pass
            connection.close()

    def test_a_busy_server_is_left_alone(self):
        """Also where it says so in answer to a request that was pipelined."""
        with_head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
        busy = b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
        server, asked = self.answers(with_head + TWO_BYTES, busy)
        with server as port:
            connection = self.archive(port).connect()
            with connection.open("a", 0, 2, "b") as (_, stream):
                self.assertTrue(connection.pipeline("c", 0, 2))
                stream.read(2)
            with self.assertRaises(BusyError) as caught, connection.open("c", 0, 2):
                pass
            self.assertEqual(7, caught.exception.retry_after)
            connection.close()
        self.assertEqual(2, sum(map(len, asked)))

    def test_a_server_that_does_not_accept(self):
        """That is the line's fault, not the file's."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(server.getsockname())
            connection = HttpArchive("http://127.0.0.1:%d" % server.getsockname()[1], "1", 0.5).connect()
            with self.assertRaisesRegex(LineError, "no answer in time"):
                connection.state("a")

    def test_one_file_elsewhere(self):
        """It comes from there, over one connection for all its requests; the others go on as they were."""
        elsewhere, there = self.answers(TWO_BYTES)
        with elsewhere as other:
            moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/x\r\nContent-Length: 0\r\n\r\n" % other
            server, asked = self.answers(moved, moved, moved, TWO_BYTES)
            with server as port:
                archive = self.archive(port)
                connection = archive.connect()
                for name in "xxya":
                    with contextlib.suppress(BrokenFileError, TransientError):
                        connection.state(name)
                self.assertFalse(archive.by_requests)
                connection.close()
        self.assertLessEqual(len(there), 3)
        self.assertTrue(all(b"Connection: keep-alive" in head for its in asked for head in its))

    def test_a_proxy_that_does_not_answer(self):
        """A stop does not wait for it; the name of the server is said in its way."""
        heard = []

        def converse(connection):
            with connection:
                heard.append(connection.recv(65536))
                connection.recv(1)

        with conversing(converse) as port, environment(https_proxy="http://127.0.0.1:%d" % port, no_proxy=None,
                                                       NO_PROXY=None):
            connection = HttpArchive("https://[::1]:8443/x", "1", 60).connect()
            failed = []
            thread = threading.Thread(target=lambda: failed.append(self.assertRaises(LineError, connection.state, "a")))
            thread.start()
            while not heard:
                time.sleep(0.01)
            connection.abort()
            thread.join(3)
            self.assertFalse(thread.is_alive())
            self.assertEqual([None], failed)
        self.assertTrue(heard[0].startswith(b"CONNECT [::1]:8443 HTTP/1.1\r\n"), heard)

    def test_proxies(self):
        """Pipelined through one, in its way for each scheme; what a proxy refuses is said."""
        packets = []

        def proxy(status):
            def converse(connection):
                with connection, contextlib.suppress(OSError):
                    head = connection.recv(65536)
                    packets.append(head)
                    if status != 200:
                        connection.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
                        return
                    host, _, port = urlsplit(head.split(b" ")[1] if head.startswith(
                        (b"GET", b"HEAD")) else b"//" + head.split(b" ")[1]).netloc.rpartition(b":")
                    with socket.create_connection((host, int(port))) as server:
                        if head.startswith(b"CONNECT"):
                            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                        else:
                            server.sendall(head.replace(b"http://%s:%s" % (host, port), b""))
                        while True:
                            for end in select.select([connection, server], [], [])[0]:
                                data = end.recv(65536)
                                if not data:
                                    return
                                if end is connection and not head.startswith(b"CONNECT"):
                                    packets.append(data)
                                    data = data.replace(b"http://%s:%s" % (host, port), b"")
                                (server if end is connection else connection).sendall(data)
            return conversing(converse)

        login = b"Proxy-Authorization: Basic " + base64.b64encode(b"joe:se cret")
        with tempfile.TemporaryDirectory() as folder, small_http(CONTENT) as (port, _):
            with proxy(200) as through, environment(http_proxy="http://joe:se%%20cret@127.0.0.1:%d" % through,
                                                    no_proxy=None, NO_PROXY=None):
                connection = self.archive(port).connect()
                self.assertEqual(FileState(len(CONTENT), "x"), self.read(connection, "a", "b"))
                with connection.open("a", 0, 1000) as (_, stream):
                    stream.read(500)
                    self.assertTrue(connection.pipeline("c", 10, 20, "a"))
                    stream.read(500)
                self.assertEqual(FileState(len(CONTENT), "x"), self.read(connection, "c", "a"))
                connection.close()
                self.assertIn(login, packets[0])
                self.assertIn(b"GET http://127.0.0.1:%d/x%%20y/1/a HTTP/1.1" % port, packets[0])
            del packets[:]
            certificate, authority = certificates(folder, "localhost")
            os.makedirs(os.path.join(folder, "1"))
            with open(os.path.join(folder, "1", "a"), "wb") as stream:
                stream.write(CONTENT)
            with nginx(folder, certificate=certificate) as secure, \
                    environment(REQUESTS_CA_BUNDLE=authority, no_proxy=None, NO_PROXY=None):
                address = "https://localhost:%d" % secure
                with proxy(200) as through, environment(https_proxy="http://joe:se%%20cret@127.0.0.1:%d" % through):
                    connection = HttpArchive(address, "1", 3).connect()
                    with connection.open("a", 0, 1000) as (_, stream):
                        self.assertEqual(CONTENT[:1000], bytes(stream.read(1000)))
                    connection.close()
                    self.assertTrue(packets[0].startswith(b"CONNECT localhost:%d " % secure))
                    self.assertIn(login, packets[0])
                for status, said in ((407, "the proxy wants a login"), (403, "the proxy does not let us through")):
                    with proxy(status) as through, environment(https_proxy="http://127.0.0.1:%d" % through):
                        connection = HttpArchive(address, "1", 3).connect()
                        with self.assertRaisesRegex(LineError, said):
                            connection.state("a")
                with environment(https_proxy="socks5://127.0.0.1:1"), self.assertRaises(TransientError):
                    HttpArchive(address, "1", 3).connect().state("a")
                with environment(REQUESTS_CA_BUNDLE="/nowhere.pem"), \
                        self.assertRaisesRegex(UnreachableError, "certificates that REQUESTS_CA_BUNDLE"):
                    HttpArchive(address, "1", 3).connect().state("a")

    def test_a_connection_that_ends_before_what_was_asked_ahead(self):
        with small_http(CONTENT) as (port, _):
            connection = self.archive(port).connect()
            self.read(connection, "a", "b")
            with connection.open("a", 0, 10) as (_, stream):
                self.assertTrue(connection.pipeline("c", 10, 20))
                stream.read(10)
            connection._client.abort()
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
