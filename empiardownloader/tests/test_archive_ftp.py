# SPDX-License-Identifier: GPL-3.0-or-later
"""FTP servers that say odd things, or mind what is asked of them together."""
import ftplib
import os
import socket
import tempfile
import threading
import unittest
from unittest import mock
from urllib.parse import urlsplit

from empiardownloader.archive.errors import (
    BrokenFileError,
    BusyError,
    Stopped,
    TransientError,
    UnreachableError,
)
from empiardownloader.archive.remote.ftp import FtpArchive
from empiardownloader.archive.stopping import StopToken
from empiardownloader.demo.archive import DemoArchive
from empiardownloader.tests.far import forwarder
from empiardownloader.tests.scripted import CLOSES, DEAF, HANGS_UP, NO_PASV, TRIES_ACTIVE, scripted, small_ftp
from empiardownloader.transfer.jobs import Job, Settings
from empiardownloader.transfer.transfer import Transfer


class TestServersThatSayOddThings(unittest.TestCase):

    def connect(self, port, stopped=None):
        return FtpArchive("ftp://127.0.0.1:%d/x" % port, "1", 2).connect(**({"stop": stopped} if stopped else {}))

    def test_tls_required(self):
        """SB: ProFTPD answers 550 to USER; that is no missing folder."""
        with scripted(b"220 hello\r\n", b"550 SSL/TLS required on the control channel\r\n") as port, \
                self.assertRaisesRegex(UnreachableError, "refused the login .*TLS required.*choose HTTPS"):
            self.connect(port)

    def test_lines_that_end_with_a_line_feed_alone(self):
        """S15."""
        with scripted(b"220 hello\n", b"230 in\n", b"503 in already\n", b"200 binary\n") as port:
            self.connect(port).close()

    def test_a_refused_login_after_one_that_worked(self):
        """Who was let in once is known; so the server is full, in whatever words it says so."""
        with scripted(b"220 hello\r\n", b"530 User limit reached, only 2 logins allowed\r\n") as port:
            archive = FtpArchive("ftp://127.0.0.1:%d/x" % port, "1", 2)
            with self.assertRaisesRegex(UnreachableError, "refused the login"):
                archive.connect()
            archive.has_welcomed = True
            with self.assertRaisesRegex(BusyError, "User limit reached"):
                archive.connect()

    def test_the_demo_archive_leaves_the_process_where_it_is(self):
        """Its FTP server is a thread of the tests, and of the demo: what others open by relative paths stays there."""
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(os.path.join(root, "1", "data"))
            with DemoArchive(root) as demo, mock.patch("os.chdir") as chdir, ftplib.FTP() as client:
                url = urlsplit(demo.variables["EMPIAR_FTP_URL"])
                client.connect(url.hostname, url.port)
                client.login()
                client.cwd("%s/1/data" % url.path)
                self.assertEqual("%s/1/data" % url.path, client.pwd())
                with self.assertRaisesRegex(ftplib.error_perm, "550"):
                    client.cwd("%s/1/gone" % url.path)
        chdir.assert_not_called()

    def fetch(self, port, content, names=("a", "b"), **settings):
        """Fetch files of a small server -> {name: what was wrong}."""
        with tempfile.TemporaryDirectory() as out:
            jobs = [Job(name + ".mrc", os.path.join(out, name), size=len(content) if name != "b" else None)
                    for name in names]
            outcomes = {}
            Transfer(FtpArchive("ftp://127.0.0.1:%d/x" % port, "1", 1), Settings(
                **dict({"connections": 1, "first_wait": 0.05, "give_up": 20}, **settings)), StopToken()).run(
                lambda: jobs.pop(0) if jobs else None, lambda o: outcomes.update({o.job.path[:-4]: o.error}))
            for name in "ab":
                with open(os.path.join(out, name), "rb") as stream:
                    self.assertEqual(content, stream.read())
        return outcomes

    def test_servers_that_take_one_command_at_a_time(self):
        """Commands are sent together, which saves round trips, unless the server has shown that it minds."""
        content = os.urandom(3 << 20)
        for manner, since in ((HANGS_UP, "USER"), (DEAF, "USER"), (HANGS_UP, "SIZE"), (DEAF, "SIZE"),
                              (HANGS_UP, "PASV"), (DEAF, "PASV"), (HANGS_UP, "REST"), (DEAF, "REST"),
                              (NO_PASV, "-"), (TRIES_ACTIVE, "-")):
            with self.subTest(manner, since=since), small_ftp(content, manner, since) as port:
                self.assertEqual({"a": "", "b": ""}, self.fetch(port, content))
                self.assertEqual({"a": "", "b": ""}, self.fetch(port, content, connections=4))

    def test_a_refusal_is_heard_though_the_port_is_closed(self):
        """As ProFTPD does; many missing files are no reason to give up, as long as others are there."""
        content = os.urandom(200000)
        missing = ["gone%02d" % number for number in range(25)]
        with small_ftp(content, CLOSES) as port, forwarder(port, 0.05, ftp=True) as far:
            outcomes = self.fetch(far.port, content, [*missing, "a", "b"], connections=4)
        for name in missing:
            self.assertIn("550 no such file", outcomes[name])

    def test_one_lost_connection_is_no_lesson(self):
        archive = FtpArchive("ftp://127.0.0.1:1/x", "1", 1)
        archive.probe_failed(at_once=False)
        self.assertFalse(archive.sequential)
        archive.probe_failed(at_once=False)
        self.assertTrue(archive.sequential)

    def test_a_greeting_that_never_ends(self):
        """S8: neither for ever nor with all the memory; and a stop is heard."""
        with scripted(forever=b"220-" + b"x" * 1000 + b"\r\n") as port, self.assertRaises(TransientError):
            self.connect(port)
        stopped = StopToken()
        with scripted(forever=b"220-x\r\n", pause=0.3) as port:
            timer = threading.Timer(0.5, stopped.set)
            timer.start()
            with self.assertRaises(Stopped):
                self.connect(port, stopped)

    def test_no_second_command_in_a_name(self):
        """S2: whatever comes from the metadata."""
        with scripted(b"220 hello\r\n", b"331 who\r\n", b"230 in\r\n", b"200 binary\r\n", b"250 ok\r\n") as port:
            connection = self.connect(port)
            for name in ("data\r\nDELE x", "data\nDELE x", "data\0"):
                with self.assertRaises(BrokenFileError):
                    connection.list_folder(name)
            connection.close()

    def test_a_listing_that_was_cut(self):
        """S11: pure-ftpd says so in its last word."""
        data = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(data.close)
        port_words = b"227 Entering (127,0,0,1,%d,%d)\r\n" % divmod(data.getsockname()[1], 256)
        with scripted(b"220 hello\r\n", b"331 who\r\n", b"230 in\r\n", b"200 binary\r\n",
                      b"250 in\r\n", b"500 no FEAT\r\n",
                      port_words, b"150 coming\r\n226-Output truncated to 1 matches\r\n226 done\r\n") as port:
            connection = self.connect(port)
            listing = []
            thread = threading.Thread(target=lambda: listing.append(connection.list_folder("data")))
            thread.start()
            channel, _ = data.accept()
            # What Unicode counts as the end of a line is part of the name (S15).
            channel.sendall("-rw-r--r-- 1 a a 5 Nov 21 01:18 odd\u2028name.mrc\r\n".encode())
            channel.close()
            thread.join(10)
            connection.close()
        self.assertTrue(listing[0].cut)
        self.assertEqual((("odd\u2028name.mrc", 5),), listing[0].files)
