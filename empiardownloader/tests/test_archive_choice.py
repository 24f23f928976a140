# SPDX-License-Identifier: GPL-3.0-or-later
"""Which transport, and whether a server is trusted."""
import contextlib
import os
import socket
import threading
import time
from unittest import mock

from empiardownloader.archive.errors import UnreachableError
from empiardownloader.archive.remote import choice
from empiardownloader.archive.remote.choice import open_archive
from empiardownloader.archive.remote.https import HttpArchive
from empiardownloader.archive.remote.transports import TRANSPORTS, Transport
from empiardownloader.archive.stopping import StopToken
from empiardownloader.demo import faults
from empiardownloader.tests import servers
from empiardownloader.tests.base import ArchiveTestCase
from empiardownloader.tests.far import forwarder
from empiardownloader.tests.surroundings import environment
from empiardownloader.tests.transfer_case import SIZE
from empiardownloader.transfer.jobs import Job, Settings
from empiardownloader.transfer.transfer import Transfer

FOR_EVER = 3600     # seconds; the test would be ended before


class TestHttps(ArchiveTestCase):

    def setUp(self):
        super().setUp()
        self.certificate, self.authority = servers.certificates(self.folder, "localhost")
        os.makedirs(os.path.join(self.root, "1", "data"))
        with open(os.path.join(self.root, "1", "data", "a.mrc"), "wb") as stream:
            stream.write(os.urandom(SIZE))

    def test_certificates_are_verified(self):
        demo = self.serve(certificate=self.certificate)
        url = demo.variables["EMPIAR_HTTPS_URL"]
        with environment(REQUESTS_CA_BUNDLE=None, CURL_CA_BUNDLE=None), \
                self.assertRaisesRegex(UnreachableError, "certificate.*REQUESTS_CA_BUNDLE"):
            open_archive("1", {"EMPIAR_HTTPS_URL": url}, "HTTPS")
        with environment(REQUESTS_CA_BUNDLE=self.authority):
            archive = open_archive("1", {"EMPIAR_HTTPS_URL": url}, "HTTPS")
            jobs = [Job("data/a.mrc", os.path.join(self.folder, "a.mrc"))]
            Transfer(archive, Settings(), StopToken()).run(
                lambda: jobs.pop() if jobs else None, lambda outcome: self.assertEqual("", outcome.error))
        self.assertEqual(SIZE, os.path.getsize(os.path.join(self.folder, "a.mrc")))


    def test_stopped_while_it_is_encrypted(self):
        """By a server that takes the connection and says nothing more."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            archive = HttpArchive("https://127.0.0.1:%d/x" % server.getsockname()[1], "1", FOR_EVER)
            jobs, cancelled = [Job("a.mrc", os.path.join(self.folder, "a.mrc"))], StopToken()
            threading.Timer(0.5, cancelled.set).start()
            with mock.patch("empiardownloader.archive.remote.CONNECT_SECONDS", FOR_EVER):
                Transfer(archive, Settings(), cancelled).run(lambda: jobs.pop() if jobs else None, self.fail)


class TestChoice(ArchiveTestCase):
    """Which transport, and how soon that is known."""

    def setUp(self):
        super().setUp()
        os.makedirs(os.path.join(self.root, "1"))

    def choose(self, demo, transport="automatic", **changes):
        urls = dict(demo.variables, **changes)
        return open_archive("1", urls, transport).transport

    def test_ftp_where_it_works(self):
        with mock.patch.object(choice, "QUICKER_SECONDS", FOR_EVER):
            self.assertEqual("FTP", self.choose(self.serve()))

    def test_https_where_ftp_is_refused_reset_or_silent(self):
        demo = self.serve()
        with self.assertLogs("empiardownloader.archive.remote.choice", "WARNING") as log:
            self.assertEqual("HTTPS", self.choose(demo, EMPIAR_FTP_URL="ftp://localhost:1/x"))
            for mode, words in (("reset", "connection reset"), ("silent", "no answer within")):
                demo.ftp_mode = mode
                self.assertEqual("HTTPS", self.choose(demo), mode)
                self.assertIn(words, log.output[-1])

    def test_the_quicker_one(self):
        """FTP takes a round trip or two more for each range: from afar that tells."""
        with open(os.path.join(self.root, "1", "1.xml"), "wb") as stream:
            stream.write(bytes(20000))
        demo = self.serve()
        for seconds, chosen in ((0.2, "HTTPS"), (0.0, "FTP")):
            with forwarder(demo.ftp_port, seconds, ftp=True) as ftp, forwarder(demo.http_port, seconds) as http, \
                    self.assertLogs("empiardownloader.archive.remote.choice", "INFO") as log:
                urls = {name: http.address(ftp.address(url)) for name, url in demo.variables.items()}
                # Near the archive what counts as clearly quicker is less than what other work here costs.
                with mock.patch.object(choice, "QUICKER_SECONDS", choice.QUICKER_SECONDS if seconds else 1.0):
                    self.assertEqual(chosen, self.choose(demo, **urls))
                self.assertIn("come over %s: a short test took" % chosen, log.output[-1])
                self.assertEqual("FTP", self.choose(demo, "FTP", **urls))
                self.assertEqual("HTTPS", self.choose(demo, "HTTPS", **urls))

    @mock.patch.object(choice, "QUICKER_SECONDS", 1.0)
    def test_what_lists_works(self):
        """Whatever comes of the measurement."""
        with open(os.path.join(self.root, "1", "1.xml"), "wb") as stream:
            stream.write(bytes(1000000))
        for kind in (faults.ERROR, faults.BUSY, faults.GONE, faults.FORBIDDEN, faults.DROP, faults.SHORT, faults.STALL):
            demo = self.serve()
            demo.add_fault(kind, "*1.xml")
            for transport in ("FTP", "HTTPS"):
                self.assertEqual(transport, self.choose(demo, transport), kind)
            with self.assertNoWarnings():
                self.assertEqual("FTP", self.choose(demo), kind)
        demo = self.serve(rate=10000)
        with self.assertNoWarnings():
            self.assertEqual("FTP", self.choose(demo))

    @contextlib.contextmanager
    def assertNoWarnings(self):
        with self.assertLogs("empiardownloader.archive.remote.choice", "INFO") as log:
            yield
        self.assertEqual([], [line for line in log.output if line.startswith("WARNING")])

    def test_one_that_dawdles_is_not_waited_for(self):
        demo = self.serve()
        with forwarder(demo.http_port, FOR_EVER) as far:
            self.assertEqual("FTP", self.choose(demo, EMPIAR_HTTPS_URL=far.address(
                demo.variables["EMPIAR_HTTPS_URL"])))

    def test_no_fallback_where_the_user_chose(self):
        demo = self.serve()
        demo.ftp_mode = "reset"
        with self.assertRaisesRegex(UnreachableError, "EMPIAR-1 .*connection reset"):
            self.choose(demo, "FTP")

    def test_a_transport_more(self):
        """A line in the table is all that the choice needs."""
        class Mirror(HttpArchive):
            transport = "MIRROR"

        table = (*TRANSPORTS, Transport("MIRROR", "MIRROR_URL", Mirror))
        demo = self.serve()
        mirror = dict(demo.variables, MIRROR_URL=demo.variables["EMPIAR_HTTPS_URL"])
        nowhere = {"EMPIAR_FTP_URL": "ftp://localhost:1/x", "EMPIAR_HTTPS_URL": "http://localhost:1/x"}
        with mock.patch.object(choice, "TRANSPORTS", table):
            self.assertEqual("MIRROR", open_archive("1", mirror, "MIRROR").transport)
            self.assertEqual("FTP", open_archive("1", mirror).transport)
            with self.assertLogs("empiardownloader.archive.remote.choice", "WARNING") as log:
                self.assertEqual("MIRROR", open_archive("1", dict(mirror, **nowhere)).transport)
        self.assertIn("FTP and HTTPS do not work here", log.output[0])

    def test_a_transport_that_there_is_not(self):
        with self.assertRaisesRegex(UnreachableError, "There is no transport GLOBUS: choose one of automatic, FTP"):
            open_archive("1", {}, "GLOBUS")

    def test_stopped_while_the_pace_is_measured(self):
        """It works; its connection is not left open."""
        with open(os.path.join(self.root, "1", "1.xml"), "wb") as stream:
            stream.write(bytes(20000))
        trial = choice._Trial(HttpArchive(self.serve().variables["EMPIAR_HTTPS_URL"], "1"), choice.PROBES)
        trial._measure = lambda connection, path: (trial.given_up.set(), time.sleep(1))
        trial._try()
        self.assertEqual((True, choice.PROBE_SECONDS), (trial.works, trial.seconds))

    def test_neither(self):
        nobody = {"EMPIAR_FTP_URL": "ftp://localhost:1/x", "EMPIAR_HTTPS_URL": "http://localhost:1/x"}
        with self.assertRaisesRegex(UnreachableError, "FTP server.*HTTPS server") as caught:
            open_archive("1", nobody)
        self.assertEqual(1, len(str(caught.exception).splitlines()))

    def test_an_entry_without_files(self):
        with self.assertRaisesRegex(UnreachableError, "no folder for entry 2"):
            demo = self.serve()
            open_archive("2", demo.variables)
