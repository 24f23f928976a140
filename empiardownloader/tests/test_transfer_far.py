# SPDX-License-Identifier: GPL-3.0-or-later
"""The transfer from afar, where each question takes its time, and with connections that hang."""
import contextlib
import os
import random
import signal
import time

from empiardownloader.demo import faults
from empiardownloader.images.header import BadImageError
from empiardownloader.tests.base import read_bytes
from empiardownloader.tests.far import forwarder
from empiardownloader.tests.transfer_case import SIZE, FtpCase, HttpCase, TransferCase

ROUND_TRIP = 0.1


class FarRows(TransferCase):
    """Run for each transport by the classes below."""
    is_ftp = False
    sockets = 1             # of one connection to the archive, at most

    @contextlib.contextmanager
    def far(self, round_trip=ROUND_TRIP, hang=""):
        """All that comes from the archive comes from afar, while it lasts."""
        port = self.demo.ftp_port if self.is_ftp else self.demo.http_port
        near = self.url
        with forwarder(port, round_trip, self.is_ftp, hang) as forwarded:
            self.url = forwarded.address(near)
            yield forwarded
        self.url = near

    def listed(self, names, rounded=1.0):
        return [self.job(name, size=int(rounded * os.path.getsize(os.path.join(self.data, name)))) for name in names]

    def requests(self):
        return self.demo.count("RETR") + self.demo.count("GET")

    def test_few_requests_on_few_connections(self):
        names = self.fill(16)
        self.demo.rate = 3 << 20
        with self.far() as forwarded:
            self.check_whole(self.fetch(names, jobs=self.listed(names), archive=self.archive(timeout=3600)), names)
            opened, most = forwarded.counts()
        self.check_clean(names)
        self.assertLessEqual(most, 4 * self.sockets)
        # One for each file, and some for the first, which all share, and the last, which end together.
        self.assertLessEqual(self.requests(), 16 + 2 * 4)
        # The last look.
        self.assertLessEqual(self.demo.count("HEAD"), 16)
        self.assertLessEqual(opened, 4 if self.sockets == 1 else 4 + self.requests())

    def test_sizes_that_are_not_quite_as_listed(self):
        names = self.fill(5)
        with self.far(0.02):
            for number, rounded in enumerate((0.5, 0.98, 1.02, 3.0, 1 / SIZE)):
                self.out = os.path.join(self.folder, "out%d" % number)
                self.check_whole(self.fetch(names, jobs=self.listed(names, rounded)), names)
                self.assertEqual(5 * SIZE, self.transfer.received)
                self.check_clean(names)

    def test_changed_while_it_comes(self):
        """Rewritten in its place, so that every range under way brings a mixture."""
        names = self.fill(2, 6 << 20)
        self.demo.rate = 1 << 20
        path, content = os.path.join(self.data, "m_0.mrc"), os.urandom(6 << 20)

        def change():
            if self.demo.rate and self.transfer.received > 4 << 20:
                with open(path, "r+b") as stream:
                    stream.write(content)
                os.utime(path, (1, 1))
                self.demo.rate = 0

        with self.far():
            outcomes = self.fetch(names, tick=change, jobs=self.listed(names))
        self.assertEqual(content, read_bytes(path))
        self.check_whole(outcomes, names)

    def test_what_is_no_movie_is_not_fetched(self):
        """Its first bytes show it; where it is doubted, nothing else is asked for."""
        names = self.fill(12)
        self.demo.rate = 3 << 20
        looked, refused = [], set(names[::2])

        def job(name):
            def look(start, size):
                looked.append((name, start == read_bytes(os.path.join(self.data, name))[:1024], size))
                if name in refused:
                    raise BadImageError("it is no movie")

            return self.job(name, size=SIZE, look=look, doubtful=lambda: name != "m_0.mrc" and name in refused)

        with self.far(0.02):
            outcomes = self.fetch(names, jobs=[job(name) for name in names], archive=self.archive(timeout=3600))
        self.assertEqual(sorted((name, True, SIZE) for name in names), sorted(looked))
        for name in refused:
            self.assertEqual("it is no movie", outcomes[name].error)
        self.check_whole(outcomes, names[1::2])
        self.check_clean(names[1::2])
        # Of the first one four connections bring a part until its first bytes are looked at; of the others nothing but
        # these is asked for.
        self.assertLess(self.transfer.received - 6 * SIZE, SIZE)
        for name in refused - {"m_0.mrc"}:
            self.assertEqual(1, sum(request.startswith(("GET ", "RETR ")) and request.endswith(name)
                                    for request in self.demo.requests), name)

    def test_doubts_that_prove_wrong(self):
        names = self.fill(3)
        jobs = [self.job(name, size=SIZE, doubtful=lambda: True) for name in names]
        self.check_whole(self.fetch(names, jobs=jobs), names)
        self.assertEqual(3 * SIZE, self.transfer.received)

    def test_each_file_hangs_once(self):
        """Another connection takes over long before a dead one is given up."""
        names = self.fill(8)
        self.demo.rate = 3 << 20
        for name in names:
            self.demo.add_fault(faults.STALL, "*" + name, after=300000, times=1)
        with self.assertLogs("empiardownloader.transfer", "INFO") as log:
            self.check_whole(self.fetch(names, archive=self.archive(timeout=3600), jobs=self.listed(names)), names)
        self.assertEqual(8 * SIZE, self.transfer.received)
        self.assertGreaterEqual(sum("brings nothing of" in line for line in log.output), 8)

    def test_the_last_connection_hangs(self):
        """Nobody else is at work then to compare with, but there is nothing else to do either."""
        names = self.fill(1)
        self.demo.add_fault(faults.STALL, after=SIZE // 8, times=1)
        self.check_whole(self.fetch(names, archive=self.archive(timeout=3600), connections=2), names)

    def test_connections_that_hang_before_their_first_byte(self):
        names = self.fill(24, 1 << 20)
        self.demo.rate = 3 << 20
        with self.far(0.02, "first"):
            self.check_whole(self.fetch(names, archive=self.archive(timeout=3600), jobs=self.listed(names)), names)

    def test_killed_from_afar(self):
        size = 6 << 20
        names = self.fill(8, size)
        self.demo.rate = 1 << 20
        os.makedirs(self.out)
        moments = random.Random(5)
        with self.far():
            for _ in range(6):
                process = self.child(names)
                sent = self.demo.sent_bytes
                while self.demo.sent_bytes == sent and process.poll() is None:
                    time.sleep(0.01)
                time.sleep(moments.uniform(0.3, 1.0))
                process.send_signal(signal.SIGKILL)
                process.communicate()
            whole = self.bytes_of_whole(names)
            journaled = self.bytes_in_journals()
            self.demo.rate = 0
            self.check_whole(self.fetch(names), names)
        self.assertEqual(8 * size, whole + journaled + self.transfer.received)
        self.check_clean(names)


class TestFtpFar(FarRows, FtpCase):
    is_ftp = True
    sockets = 2


class TestHttpFar(FarRows, HttpCase):
    pass


# The common cases run for each transport, not by themselves.
del FarRows, TransferCase, FtpCase, HttpCase
