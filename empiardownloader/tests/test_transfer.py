# SPDX-License-Identifier: GPL-3.0-or-later
"""The transfer over real connections, with everything that goes wrong on them."""
import os
import random
import signal
import subprocess
import tempfile
import time
import unittest

from empiardownloader.archive.errors import ArchiveError, DiskError, UnreachableError
from empiardownloader.archive.remote.ftp import FtpArchive
from empiardownloader.archive.remote.https import HttpArchive
from empiardownloader.archive.stopping import StopToken
from empiardownloader.demo import faults
from empiardownloader.images.header import BadImageError
from empiardownloader.tests.base import ArchiveTestCase, read_bytes
from empiardownloader.tests.transfer_case import QUICK, SIZE, FtpCase, HttpCase, TransferCase
from empiardownloader.transfer.jobs import Job, Settings
from empiardownloader.transfer.steps import MAX_CHUNK_BYTES
from empiardownloader.transfer.transfer import Transfer


class TransferRows(TransferCase):
    """Run for each transport by the classes below."""

    # ---------------------------------------------------------------- what works

    def test_whole_and_in_order(self):
        names = self.fill(6)
        outcomes = self.fetch(names)
        self.check_whole(outcomes, names)
        self.check_clean(names)
        self.assertEqual(6 * SIZE, self.transfer.received)

    def test_one_file_over_several_connections(self):
        names = self.fill(1, 6 << 20)
        self.demo.rate = 2 << 20
        outcomes = self.fetch(names, connections=4)
        self.check_whole(outcomes, names)
        requests = self.demo.count("RETR") + self.demo.count("GET")
        self.assertGreaterEqual(requests, 4)

    def test_odd_names(self):
        names = self.fill(1)
        odd = ["a b.mrc", "é ü.mrc", "#1%2+3.mrc", "x?y&z=1.mrc", "[1]*.mrc", "~tilde'.mrc", "100%25.mrc"]
        for name in odd:
            os.link(os.path.join(self.data, names[0]), os.path.join(self.data, name))
        connection = self.archive().connect()
        listing = connection.list_folder("data")
        connection.close()
        self.assertEqual(sorted(odd + names), [name for name, _ in listing.files])
        self.check_whole(self.fetch(odd), odd)

    def test_servers_that_send_whole_files_only(self):
        names = self.fill(4)
        self.demo.ranges = False
        self.check_whole(self.fetch(names), names)

    def test_what_is_there_is_not_fetched_again(self):
        names = self.fill(2)
        self.fetch(names)
        sent = self.demo.sent_bytes
        outcomes = self.fetch(names)
        self.assertTrue(all(outcome.found for outcome in outcomes.values()))
        self.assertEqual(sent, self.demo.sent_bytes)

    # ---------------------------------------------------------------- faults

    def test_dropped_connections(self):
        names = self.fill()
        self.demo.add_fault(faults.DROP, after=300000, times=6)
        outcomes = self.fetch(names)
        self.check_whole(outcomes, names)
        self.check_clean(names)

    def test_a_file_whose_connection_always_breaks(self):
        names = self.fill()
        self.demo.add_fault(faults.DROP, "*m_1*", after=SIZE // 2)
        outcomes = self.fetch(names)
        self.check_whole(outcomes, ["m_0.mrc", "m_2.mrc", "m_3.mrc"])
        self.assertIn(self.archive().server, outcomes["m_1.mrc"].error)
        self.check_clean(["m_0.mrc", "m_2.mrc", "m_3.mrc"])

    def test_stalled_connections(self):
        names = self.fill(2)
        self.demo.add_fault(faults.STALL, after=300000, times=2)
        outcomes = self.fetch(names, archive=self.archive(timeout=0.7))
        self.check_whole(outcomes, names)

    def test_short_answers_that_count_as_complete(self):
        names = self.fill()
        self.demo.add_fault(faults.SHORT, "*m_2*", after=500000, times=3)
        self.check_whole(self.fetch(names), names)

    def test_a_file_that_is_always_short(self):
        names = self.fill()
        self.demo.add_fault(faults.SHORT, "*m_2*", after=500000)
        outcomes = self.fetch(names)
        self.assertIn("sent less of data/m_2.mrc than it promised", outcomes["m_2.mrc"].error)
        self.check_whole(outcomes, ["m_0.mrc", "m_1.mrc", "m_3.mrc"])
        self.check_clean(["m_0.mrc", "m_1.mrc", "m_3.mrc"])

    def test_gone_and_forbidden(self):
        names = self.fill()
        self.demo.add_fault(faults.GONE, "*m_0*")
        self.demo.add_fault(faults.FORBIDDEN, "*m_1*")
        outcomes = self.fetch(names)
        for name in names[:2]:
            self.assertNotEqual("", outcomes[name].error)
        self.check_whole(outcomes, names[2:])
        self.check_clean(names[2:])

    def test_a_file_that_one_of_several_servers_lacks(self):
        names = self.fill()
        self.demo.add_fault(faults.GONE, "*m_1*", times=1)
        self.check_whole(self.fetch(names), names)

    def test_busy_servers_get_fewer_connections(self):
        names = self.fill()
        self.demo.add_fault(faults.BUSY, times=5)
        limits = []
        outcomes = self.fetch(names, tick=lambda: limits.append(self.transfer.pool.limit))
        self.check_whole(outcomes, names)
        self.assertLess(min(limits), 4)

    def test_errors_of_the_server(self):
        names = self.fill()
        self.demo.add_fault(faults.ERROR, times=6)
        self.check_whole(self.fetch(names), names)

    def test_changed_between_two_runs(self):
        names = self.fill(1, 12 << 20)
        self.demo.rate = 2 << 20
        self.interrupt(names, 3 << 20)
        self.demo.rate = 0
        content = os.urandom(12 << 20)
        with open(os.path.join(self.data, names[0]), "wb") as stream:
            stream.write(content)
        os.utime(os.path.join(self.data, names[0]), (1, 1))
        self.check_whole(self.fetch(names), names)

    def test_changed_while_it_is_fetched(self):
        names = self.fill(1, 12 << 20)
        self.demo.rate = 1 << 20
        path = os.path.join(self.data, names[0])
        changed = []

        def change():
            if not changed and self.transfer.received > 2 << 20:
                changed.append(True)
                with open(path + ".new", "wb") as stream:
                    stream.write(os.urandom(12 << 20))
                os.utime(path + ".new", (1, 1))
                os.replace(path + ".new", path)
                self.demo.rate = 0

        outcomes = self.fetch(names, tick=change)
        self.assertTrue(changed)
        self.check_whole(outcomes, names)

    def test_not_an_image_at_the_source(self):
        names = self.fill(2)

        def check(path):
            if path.endswith("m_0.mrc"):
                raise BadImageError("it is no image")

        outcomes = self.fetch(names, jobs=[self.job(name, check=check) for name in names])
        self.assertEqual("it is no image", outcomes["m_0.mrc"].error)
        self.check_whole(outcomes, names[1:])
        self.check_clean(names[1:])

    def test_nobody_there_any_more(self):
        self.fill(1, 6 << 20)
        self.demo.rate = 2 << 20
        gone = []

        def tick():
            if self.transfer.received > 1 << 20 and not gone:
                gone.append(True)
                self.demo.__exit__()

        with self.assertRaisesRegex(ArchiveError, "Nothing came from .* then Continue") as caught:
            self.fetch(["m_0.mrc"], tick=tick, archive=self.archive(timeout=0.5), give_up=2)
        self.assertEqual(1, len(str(caught.exception).splitlines()))

    # ---------------------------------------------------------------- interruptions

    def interrupt(self, names, after):
        """Stop a transfer once so many bytes have come."""
        cancelled = StopToken()

        def tick():
            if self.transfer.received >= after:
                cancelled.set()

        return self.fetch(names, cancelled, tick)

    def test_resumed_after_a_stop(self):
        names = self.fill(2, 8 << 20)
        self.demo.rate = 2 << 20
        self.interrupt(names, 6 << 20)
        self.demo.rate = 0
        before = self.transfer.received
        self.check_whole(self.fetch(names), names)
        self.assertEqual(16 << 20, before + self.transfer.received)
        self.check_clean(names)

    def test_stop_within_a_second(self):
        names = self.fill(2, 8 << 20)
        self.demo.add_fault(faults.STALL, after=1 << 20)
        cancelled = StopToken()
        stopped = []

        def tick():
            if self.transfer.received > 1 << 19 and not stopped:
                stopped.append(True)
                cancelled.set()

        # What hangs would be waited for longer than a test may take.
        self.fetch(names, cancelled, tick, archive=self.archive(timeout=3600))
        self.assertTrue(stopped)

    def test_killed_at_twenty_random_moments(self):
        names = self.fill(6, 8 << 20)
        self.demo.rate = 1 << 20
        moments = random.Random(20)
        os.makedirs(self.out)
        kills = 0
        while kills < 20:
            process = self.child(names)
            self.addCleanup(process.communicate)
            # The interpreter takes a while to start, longer when the machine is busy: the clock starts with the bytes.
            sent = self.demo.sent_bytes
            while self.demo.sent_bytes == sent and process.poll() is None:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.4))
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            for name in names:
                if os.path.exists(os.path.join(self.out, name)):
                    self.assertEqual(8 << 20, os.path.getsize(os.path.join(self.out, name)))
        journaled = self.bytes_in_journals()
        whole = self.bytes_of_whole(names)
        self.demo.rate = 0
        self.check_whole(self.fetch(names), names)
        # What the last run had to fetch is what no journal told of: nothing is fetched twice once it is written.
        self.assertEqual(6 * (8 << 20), whole + journaled + self.transfer.received)
        self.check_clean(names)
        self.assertEqual(20, kills)

    def test_what_has_come_is_journaled(self):
        """So a kill costs what was on the line, and no more than a chunk for each connection beside."""
        names = self.fill(4, 8 << 20)
        self.demo.add_fault(faults.STALL, after=3 << 20)
        os.makedirs(self.out)
        process = self.child(names)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.wait_for(lambda: self.bytes_in_journals() >= 4 * ((3 << 20) - MAX_CHUNK_BYTES), 20, "the journal")

    def test_two_processes_in_one_folder(self):
        names = self.fill(6, 4 << 20)
        self.demo.rate = 4 << 20
        os.makedirs(self.out)
        first, second = self.child(names), self.child(names)
        received = []
        for process in (first, second):
            output, errors = process.communicate(timeout=60)
            self.assertEqual(0, process.returncode, errors)
            received.append(int(output))
        for name in names:
            self.assertEqual(read_bytes(os.path.join(self.data, name)), read_bytes(os.path.join(self.out, name)))
        self.assertEqual(6 * (4 << 20), sum(received), "a file was fetched twice")
        self.check_clean(names)

    def test_a_full_disk(self):
        names = self.fill(2, 4 << 20)
        os.makedirs(self.out)
        mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", self.out]
        if os.geteuid() != 0 or subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:
            self.skipTest("no small disk can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", self.out], check=False)
        _, errors = self.child(names).communicate(timeout=60)
        self.assertIn("DiskError: %s" % self.out, errors)
        self.assertIn("cannot be written (no space left on device): make room", errors)
        self.assertEqual([], [name for name in os.listdir(self.out) if not name.startswith(".part.")])
        subprocess.run(["mount", "-o", "remount,size=20m", self.out], check=True)
        self.check_whole(self.fetch(names), names)

    def test_a_file_that_the_disk_cannot_have(self):
        """A limit on the size of files stands for a file system with one."""
        names = self.fill(3, 1 << 20)
        with open(os.path.join(self.data, "m_1.mrc"), "ab") as stream:
            stream.truncate(4 << 20)
        os.makedirs(self.out)
        process = self.child(names, "import resource, signal\n"
                                    "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
                                    "resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))\n")
        output, errors = process.communicate(timeout=60)
        self.assertIn("m_1.mrc cannot be had on this disk (file too large)", output, errors)
        self.check_clean(["m_0.mrc", "m_2.mrc"])

    def test_a_name_that_is_too_long_and_one_that_is_nearly(self):
        long = "L" * 247 + ".mrc"
        names = self.fill(2)
        os.rename(os.path.join(self.data, names[0]), os.path.join(self.data, long))
        too_long = Job("data/" + long, os.path.join(self.out, "x" + long + "-long"))
        self.assertIn("file name too long", self.fetch([], jobs=[too_long])[long].error)
        self.fetch([long, "m_1.mrc"])
        self.check_clean([long, "m_1.mrc"])

    def test_a_folder_that_cannot_be_written(self):
        self.fill(1)
        with open(self.out, "w"):
            pass
        with self.assertRaisesRegex(DiskError, "cannot be written"):
            self.fetch(["m_0.mrc"])


class TestFtp(TransferRows, FtpCase):

    def test_listings_without_mlsd(self):
        names = self.fill(2)
        os.symlink("m_0.mrc", os.path.join(self.data, "link.mrc"))
        os.mkdir(os.path.join(self.data, "folder"))
        listings = []
        for mlsd in (True, False):
            self.demo.mlsd = mlsd
            connection = self.archive().connect()
            listings.append(connection.list_folder("data"))
            connection.close()
        self.assertEqual(listings[0], listings[1])
        self.assertEqual(("folder",), listings[0].folders)
        self.assertEqual(sorted(names + ["link.mrc"]), [name for name, _ in listings[0].files])

    def test_login_refused(self):
        url = self.demo.variables[self.variable].replace("ftp://", "ftp://somebody:opensesame@")
        with self.assertRaisesRegex(UnreachableError, "refused the login") as caught:
            FtpArchive(url, "1").connect()
        self.assertNotIn("opensesame", str(caught.exception))


class TestHttp(TransferRows, HttpCase):
    pass


class TestCompressed(ArchiveTestCase):
    """Files that arrive compressed."""

    def fetch(self, name, content):
        os.makedirs(os.path.join(self.root, "1"))
        with open(os.path.join(self.root, "1", name), "wb") as stream:
            stream.write(content)
        demo = self.serve()
        outcomes = []
        plain, extension = os.path.splitext(name)
        jobs = [Job(name, os.path.join(self.folder, plain), extension)]
        Transfer(HttpArchive(demo.variables["EMPIAR_HTTPS_URL"], "1"), Settings(**QUICK), StopToken()).run(
            lambda: jobs.pop() if jobs else None, outcomes.append)
        return outcomes[0], os.path.join(self.folder, plain)

    def test_each_way_of_compressing(self):
        import bz2
        import gzip
        import lzma
        content = os.urandom(100000) * 30
        for extension, module in (("bz2", bz2), ("gz", gzip), ("xz", lzma)):
            with tempfile.TemporaryDirectory() as self.root:
                outcome, path = self.fetch("a_%s.mrc.%s" % (extension, extension), module.compress(content))
            self.assertEqual("", outcome.error)
            self.assertEqual(content, read_bytes(path))

    def test_broken(self):
        import bz2
        whole = bz2.compress(os.urandom(1000000))
        for number, content in enumerate((whole[:-100], b"no bz2 at all", whole[:5000] + bytes(100) + whole[5100:])):
            with tempfile.TemporaryDirectory() as self.root:
                outcome, path = self.fetch("b%d.mrc.bz2" % number, content)
            self.assertEqual("it is no whole .bz2 file", outcome.error)
            self.assertFalse(os.path.exists(path))
        self.assertEqual([], [name for name in os.listdir(self.folder) if name.startswith(".")])


class TestRangeArithmetic(unittest.TestCase):

    def test_missing_spans(self):
        from empiardownloader.transfer.parts import missing_spans
        for done, size, missing in (([], 10, [(0, 10)]), ([(0, 10)], 10, []), ([(2, 4), (3, 6)], 10, [(0, 2), (6, 10)]),
                                    ([(5, 20)], 10, [(0, 5)])):
            self.assertEqual(missing, missing_spans(done, size))


# The common cases run for each transport, not by themselves.
del TransferRows, TransferCase, FtpCase, HttpCase
