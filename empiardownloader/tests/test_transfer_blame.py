# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose fault it is: the rules by themselves, and real servers and lines that fail at this very moment."""
import os
import random
import signal
import threading
import time
import unittest
from unittest import mock

from empiardownloader.archive.errors import (
    ArchiveError,
    BrokenFileError,
    BusyError,
    LineError,
    LocalNameError,
    NotFoundError,
    TransientError,
    retry_after,
)
from empiardownloader.archive.stopping import StopToken
from empiardownloader.demo import faults
from empiardownloader.tests.base import read_bytes
from empiardownloader.tests.outage import cuttable
from empiardownloader.tests.transfer_case import FtpCase, HttpCase, TransferCase
from empiardownloader.transfer import board
from empiardownloader.transfer.blame import (
    TRIES_BROKEN,
    TRIES_GONE,
    TRIES_UNCLEAR,
    is_held_against,
    may_be_of_the_file,
    tries_for,
)
from empiardownloader.transfer.jobs import Job

CUT_SECONDS = 3.0


class TestRules(unittest.TestCase):

    def test_what_counts_against_a_file(self):
        for error, alone, while_others_come, tries in (
                (LineError("refused"), False, False, None), (BusyError("503"), False, False, None),
                (TransientError("reset"), False, True, TRIES_UNCLEAR), (NotFoundError("404"), False, True, TRIES_GONE),
                (BrokenFileError("403"), False, True, TRIES_BROKEN), (LocalNameError("too long"), True, True, 1)):
            self.assertEqual((alone, while_others_come), (is_held_against(error, False), is_held_against(error, True)))
            self.assertEqual(tries is not None and tries > 1, may_be_of_the_file(error))
            if tries:
                self.assertEqual(tries, tries_for(error))

    def test_how_long_a_server_asks_to_wait(self):
        self.assertEqual([120.0, 0.0, 0.0, 0.0], [retry_after(words) for words in (" 120 ", "", "soon", "-5")])
        self.assertEqual(0.0, retry_after("Wed, 21 Oct 2015 07:28:00 GMT"))
        self.assertGreater(retry_after("Wed, 21 Oct 2065 07:28:00 GMT"), 1e6)


class TestClock(unittest.TestCase):

    def test_stopped_before_the_first_byte_and_after(self):
        """The time in which this process did not run is no silence of the server."""
        for first_byte in (False, True):
            with self.subTest(first_byte=first_byte), mock.patch.object(board, "time") as clock:
                clock.monotonic.return_value = 1000.0
                its = board.Board(0.0)
                its.turn_clock(1000.0)
                its.add(Job("a.mrc", "a.mrc"))
                if first_byte:
                    its.line_works()
                clock.monotonic.return_value = 1060.0
                self.assertFalse(its.is_awake())
                its.turn_clock(1060.0)
                self.assertEqual((True, 0.0, 60.0), (its.is_awake(), its.silent_seconds(), its.slept))
                clock.monotonic.return_value = 1062.0
                self.assertEqual(2.0, its.silent_seconds())


class BlameRows(TransferCase):
    """Run for each transport by the classes below."""

    def meanwhile(self, *acts, names=()):
        """Run (seconds from now, act) beside the transfer; with ``names``: from when one of these files has come.
        Before that there is nothing by which a server that refuses can be told from files that are gone."""
        def begin():
            while names and not any(os.path.exists(os.path.join(self.out, name)) for name in names):
                time.sleep(0.01)
            began = time.monotonic()
            for seconds, act in acts:
                time.sleep(max(0.0, began + seconds - time.monotonic()))
                act()

        thread = threading.Thread(target=begin, daemon=True)
        thread.start()
        self.addCleanup(thread.join)

    def line(self, **options):
        port = int(self.url.rsplit(":", 1)[1].split("/")[0])
        line = self.enterContext(cuttable(port, self.variable == "EMPIAR_FTP_URL", **options)) if hasattr(
            self, "enterContext") else self._entered(cuttable(port, self.variable == "EMPIAR_FTP_URL", **options))
        self.url = line.address(self.url)
        return line

    def _entered(self, manager):
        self.addCleanup(manager.__exit__, None, None, None)
        return manager.__enter__()

    def test_a_line_that_is_cut_for_a_while_costs_no_file(self):
        """T6: at seeded moments; refused, reset and silent."""
        names = self.fill(12, 400000)
        self.demo.rate = 600000
        for seed in range(3):
            chance = random.Random(seed)
            line = self.line(silent=seed == 2)
            self.out = os.path.join(self.folder, "out%d" % seed)
            moment = chance.uniform(0.1, 1.5)
            self.meanwhile((moment, line.cut), (moment + CUT_SECONDS, line.mend))
            with self.subTest(moment=moment):
                self.check_whole(self.fetch(names, archive=self.archive(timeout=1.5)), names)
                self.check_clean(names)
            line.close()
            self.url = self.demo.variables[self.variable]

    def test_a_line_that_stays_away_ends_the_run(self):
        """As failed, with a sentence; what is there goes on from there."""
        names = self.fill(12, 400000)
        self.demo.rate = 600000
        line = self.line()
        self.meanwhile((0.5, line.cut))
        with self.assertRaisesRegex(ArchiveError, "Nothing came from the .* check the network, then Continue"):
            self.fetch(names, archive=self.archive(timeout=1.5), give_up=3)
        line.mend()
        self.check_whole(self.fetch(names), names)

    def test_all_files_gone_for_a_while(self):
        """T9: that is the server's state; the same ones come as at any other time."""
        names = self.fill(30, 20000)
        for kind in (faults.GONE, faults.FORBIDDEN, faults.ERROR):
            self.out = os.path.join(self.folder, "out " + kind)
            self.demo.add_fault(kind, "*.mrc")
            self.meanwhile((CUT_SECONDS, self.demo.clear_faults))
            with self.subTest(kind):
                jobs = [self.job(name) for name in names]
                self.transfer = None
                outcomes = self.fetch(names, jobs=jobs, witness=lambda path: "data/m_0.mrc" if "m_1.mrc" in path
                                      else "data/m_1.mrc")
                self.check_whole(outcomes, names)

    def test_all_new_requests_refused_while_one_file_still_comes(self):
        """T9: what a stream that began before brings says nothing of the refusals."""
        names = self.fill(12, 20000)
        with open(os.path.join(self.data, "a_long.mrc"), "wb") as stream:
            stream.write(b"\1" * 2500000)
        self.demo.rate = 500000
        for kind in (faults.GONE, faults.FORBIDDEN):
            self.out = os.path.join(self.folder, "out " + kind)
            self.demo.clear_faults()
            self.meanwhile((0.1, lambda: self.demo.add_fault(kind, "*.mrc")),  # noqa: B023 - over before the next
                           (0.1 + CUT_SECONDS, self.demo.clear_faults), names=names)
            with self.subTest(kind):
                self.check_whole(self.fetch(["a_long.mrc", *names], connections=4), ["a_long.mrc", *names])

    def test_refusals_that_come_and_go(self):
        """Three of them in three bad moments, which other files met as well, say nothing of a file."""
        names = self.fill(20, 60000)
        self.demo.rate = 100000
        acts = []
        for number in range(6):
            acts += [(0.2 + 1.2 * number, lambda: self.demo.add_fault(faults.GONE, "*.mrc")),
                     (0.9 + 1.2 * number, self.demo.clear_faults)]
        self.meanwhile(*acts, names=names)
        self.check_whole(self.fetch(names, connections=4), names)

    def test_bodies_lost_while_questions_are_answered(self):
        """A server that tells sizes and gives nothing is at fault, not its files."""
        names = self.fill(6, 20000)
        self.demo.add_fault(faults.DROP, "*.mrc")
        self.meanwhile((CUT_SECONDS, self.demo.clear_faults))
        self.check_whole(self.fetch(names, witness=lambda path: "data/m_0.mrc" if "m_1.mrc" in path
                                    else "data/m_1.mrc"), names)

    def test_busy_files_let_others_go_first(self):
        names = self.fill(12, 20000)
        for number in range(6):
            self.demo.add_fault(faults.BUSY, "*m_%d.mrc" % number)
        came = []

        def watch():
            came[:] = [name for name in os.listdir(self.out) if name in names] if os.path.isdir(self.out) else []

        with self.assertRaisesRegex(ArchiveError, "Nothing came from the "):
            self.fetch(names, tick=watch, give_up=6)
        self.assertEqual(sorted(names[6:]), sorted(came))

    def test_a_slow_caller_is_no_sleep(self):
        """Whose turns take longer than the clock's, and than a sleep, is not asleep: the run gives up in time."""
        line = self.line(silent=True)
        names = self.fill(2, 20000)
        line.cut()
        with mock.patch.object(board, "ASLEEP_SECONDS", 1.5), self.assertRaisesRegex(ArchiveError, "Nothing came"):
            self.fetch(names, tick=lambda: time.sleep(2), archive=self.archive(timeout=1.0), give_up=3)

    def test_one_file_gone_among_others(self):
        names = self.fill(6, 20000)
        self.demo.add_fault(faults.GONE, "*m_0*")
        outcomes = self.fetch(names, witness=lambda path: "data/m_5.mrc")
        self.assertNotEqual("", outcomes["m_0.mrc"].error)
        self.check_whole(outcomes, names[1:])

    def test_a_busy_server_is_waited_for(self):
        """T10"""
        names = self.fill(30, 20000)
        self.demo.add_fault(faults.BUSY, "*")
        self.meanwhile((CUT_SECONDS, self.demo.clear_faults))
        self.check_whole(self.fetch(names), names)

    def test_a_server_that_takes_so_many_requests_a_second(self):
        """T10: as nginx's limit_req does."""
        names = self.fill(20, 20000)
        for number in range(40):
            self.demo.add_fault(faults.BUSY, "*m_%d.mrc" % (number % 20), times=1)
        self.check_whole(self.fetch(names), names)

    def test_a_process_that_was_stopped(self):
        """T11: for longer than it would wait for a silent server."""
        names = self.fill(8, 400000)
        self.demo.rate = 300000
        # As long as a busy machine may take for an answer, and more.
        child = self.child(names, give_up=15)
        time.sleep(1.5)
        child.send_signal(signal.SIGSTOP)
        time.sleep(17)
        child.send_signal(signal.SIGCONT)
        output, errors = child.communicate(timeout=60)
        self.assertEqual(0, child.returncode, output + errors)
        self.check_clean(names)


class TestFtpBlame(BlameRows, FtpCase):

    def test_a_refused_range_leaves_no_place_behind(self):
        """Some servers keep what REST said when they refuse RETR: the next file would come without its beginning."""
        names = self.fill(2, 20000)
        archive = self.archive()
        connection = archive.connect()
        self.addCleanup(connection.close)
        self.demo.add_fault(faults.FORBIDDEN, "*m_0.mrc", times=2)
        with self.assertRaises(NotFoundError), connection.open("data/m_0.mrc", 7000, None):
            pass
        if not connection.usable:
            connection = archive.connect()
            self.addCleanup(connection.close)
        with connection.open("data/m_1.mrc", 0, None) as (_, stream):
            came = b"".join(iter(lambda: bytes(stream.read(1 << 20)), b""))
        self.assertEqual(read_bytes(os.path.join(self.data, names[1])), came)


class TestHttpBlame(BlameRows, HttpCase):

    def test_a_page_in_place_of_the_files(self):
        """T1: a maintenance page with status 200, also for a while; no image check stands behind."""
        names = self.fill(6, 3000)
        self.demo.add_fault(faults.PAGE, "*")
        self.meanwhile((CUT_SECONDS, self.demo.clear_faults))
        self.check_whole(self.fetch(names, jobs=[self.job(name, size=3000) for name in names]), names)

    def test_a_size_that_is_not_the_listed_one(self):
        """T1: it is asked once more; a listing that is out of date does not cost the file."""
        names = self.fill(2, 300000)
        outcomes = self.fetch(names, jobs=[self.job("m_0.mrc", size=300000), self.job("m_1.mrc", size=900000)])
        self.check_whole(outcomes, names)
        self.demo.add_fault(faults.SHORT_FILE, "*m_0*", after=1000, times=2)
        self.out = os.path.join(self.folder, "again")
        self.check_whole(self.fetch(names[:1], jobs=[self.job("m_0.mrc", size=300000)]), names[:1])

    def test_without_time_and_tag_a_later_run_begins_anew(self):
        """T4: two versions of one size would be mixed."""
        names = self.fill(1, 400000)
        self.demo.versions = False
        self.demo.rate = 100000
        cancelled = StopToken()
        self.fetch(names, cancelled=cancelled, tick=lambda: self.transfer.received and cancelled.set())
        with open(os.path.join(self.data, names[0]), "wb") as stream:
            stream.write(bytes(400000))
        self.demo.rate = 0
        self.check_whole(self.fetch(names), names)


# The common cases run for each transport, not by themselves.
del BlameRows
