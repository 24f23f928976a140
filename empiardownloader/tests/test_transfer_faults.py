# SPDX-License-Identifier: GPL-3.0-or-later
"""One bad file costs itself only; nothing ends falsely, and nothing waits for ever."""
import bz2
import os
import threading
import time
from unittest import mock

from empiardownloader.archive.errors import ArchiveError, DiskError, TransientError
from empiardownloader.archive.remote import https
from empiardownloader.archive.stopping import StopToken
from empiardownloader.demo import faults
from empiardownloader.tests.base import read_bytes
from empiardownloader.tests.transfer_case import QUICK, SIZE, FtpCase, HttpCase, TransferCase
from empiardownloader.transfer import unpack as unpacking
from empiardownloader.transfer.blame import TRIES_UNCLEAR
from empiardownloader.transfer.jobs import PENDING, Job, Settings
from empiardownloader.transfer.parts import Part
from empiardownloader.transfer.pool import ConnectionPool
from empiardownloader.transfer.transfer import Transfer


class FaultRows(TransferCase):
    """Run for each transport by the classes below."""

    def check_all_but(self, outcomes, names, bad):
        self.assertNotEqual("", outcomes[bad].error)
        good = [name for name in names if name != bad]
        self.check_whole(outcomes, good)
        self.check_clean(good)

    def test_a_file_on_which_the_server_errs_for_ever(self):
        """B1, S3."""
        names = self.fill(8, 300000)
        self.demo.add_fault(faults.ERROR, "*m_1*")
        self.check_all_but(self.fetch(names), names, "m_1.mrc")

    def test_a_prohibited_name(self):
        """S3: pure-ftpd lists what it then refuses with 553."""
        names = self.fill(6, 300000)
        self.demo.add_fault(faults.PROHIBITED, "*m_0*")
        self.check_all_but(self.fetch(names), names, "m_0.mrc")

    def test_a_file_at_which_the_server_hangs_up(self):
        """B1: before the first byte, each time."""
        names = self.fill(8, 300000)
        self.demo.add_fault(faults.DROP, "*m_1*", after=0)
        self.check_all_but(self.fetch(names), names, "m_1.mrc")

    def test_a_file_for_which_the_server_is_always_busy(self):
        """503 or 421 for one file is not the server's state: all others come. It is waited for, and never left out."""
        names = self.fill(8, 300000)
        self.demo.add_fault(faults.BUSY, "*m_1*")
        with self.assertRaisesRegex(ArchiveError, "Nothing came from the .* (421|503)"):
            self.fetch(names, give_up=8)
        self.demo.clear_faults()
        outcomes = self.fetch(names)
        self.assertEqual(["m_1.mrc"], [name for name, outcome in outcomes.items() if not outcome.found])
        self.check_whole(outcomes, names)

    def test_whole_files_only_and_a_line_that_always_breaks_there(self):
        """No progress is made by fetching the same bytes again and again."""
        names = self.fill(4, 1200000)
        self.demo.ranges = False
        self.demo.add_fault(faults.DROP, "*m_1*", after=500000)
        self.check_all_but(self.fetch(names), names, "m_1.mrc")
        # The first fault of a file is not held against it, and two connections may be at it. Each of the four may have
        # begun in the middle of a file, which then comes from its beginning.
        self.assertLess(self.transfer.received, (3 + 4) * 1200000 + 2 * (TRIES_UNCLEAR + 1) * 500000 + 1)

    def test_the_line_dies_before_the_last_look(self):
        names = self.fill(1, 300000)

        original = type(self.archive().connect()).state

        def state(connection, path):
            if getattr(self, "transfer", None) and self.transfer.received:
                raise TransientError("the line is dead")
            return original(connection, path)

        with mock.patch.object(type(self.archive().connect()), "state", state), \
                mock.patch.object(type(self.archive().connect()), "list_folder", side_effect=TransientError("dead")), \
                self.assertRaisesRegex(ArchiveError, "Nothing came from"):
            self.fetch(names, give_up=6)
        self.check_whole(self.fetch(names), names)
        self.assertEqual(0, self.transfer.received)

    def test_an_outage_while_folders_are_listed(self):
        """Nothing answers: that is the line, not the folder."""
        self.fill(1, 1000)
        archive = self.archive()
        transfer = Transfer(archive, Settings(**dict(QUICK, give_up=2)), StopToken())
        outcome = []

        def listing():
            try:
                transfer.ask(lambda connection: connection.list_folder("data"), persistent=True)
            except ArchiveError as error:
                outcome.append(str(error))

        thread = threading.Thread(target=listing)
        with mock.patch.object(type(archive.connect()), "list_folder", side_effect=TransientError("dead")):
            thread.start()
            transfer.run(lambda: PENDING if thread.is_alive() else None, lambda outcome: None)
        thread.join()
        self.assertIn("Nothing came from", outcome[0])

    def test_the_only_file_errs(self):
        """That the line works is shown by the folder's listing then."""
        names = self.fill(1, 300000)
        self.demo.add_fault(faults.ERROR, "*m_0*")
        outcomes = self.fetch(names)
        self.assertIn(self.archive().server, outcomes["m_0.mrc"].error)

    def test_every_file_errs(self):
        names = self.fill(40, 2000)
        self.demo.add_fault(faults.ERROR, "*.mrc")
        with self.assertRaisesRegex(ArchiveError, "20 files in a row .* wait some hours, then Continue"):
            self.fetch(names)

    def test_a_connection_that_hangs_costs_seconds(self):
        """B4: one range of the first file brings nothing more, with a timeout of minutes."""
        names = self.fill(4, 6 << 20)
        self.demo.rate = 1 << 20
        self.demo.add_fault(faults.STALL, "*m_0*", after=1 << 20, times=1)
        with mock.patch("empiardownloader.transfer.ranges.STALLED_SECONDS", 1.0):
            self.check_whole(self.fetch(names, archive=self.archive(timeout=3600)), names)

    def test_looking_at_what_is_there_is_progress(self):
        """B2: each question takes long, no byte comes, and the run goes on."""
        names = self.fill(12, 20000)
        self.fetch(names)
        original = Job.is_whole

        def slowly(job, size):
            time.sleep(0.4)
            return original(job, size)

        with mock.patch.object(Job, "is_whole", slowly):
            outcomes = self.fetch(names, give_up=4.0, connections=1)
        self.assertTrue(all(outcome.found for outcome in outcomes.values()))
        self.assertEqual(12, len(outcomes))

    def test_stop_while_a_listing_waits_for_a_connection(self):
        """B8: the only connection is busy with a long range."""
        names = self.fill(1, 8 << 20)
        self.demo.rate = 300000
        cancelled, asked = StopToken(), []

        def listing():
            self.transfer.ask(lambda connection: connection.list_folder("data"), persistent=False)
            asked.append(time.monotonic())

        def tick():
            if self.transfer.received > 100000 and not asked:
                asked.append(time.monotonic())
                threading.Thread(target=listing, daemon=True).start()
            if len(asked) == 2:
                cancelled.set()

        self.fetch(names, cancelled, tick, connections=1)
        # The listing got the connection from within the range, whose bytes stay.
        self.assertLess(asked[1] - asked[0], 10)
        self.demo.rate = 0
        before = self.transfer.received
        self.check_whole(self.fetch(names), names)
        self.assertEqual(8 << 20, before + self.transfer.received)

    def test_a_part_that_another_run_holds_is_told(self):
        """B6."""
        names = self.fill(2, 20000)
        os.makedirs(self.out)
        held = Part.acquire(os.path.join(self.out, "m_0.mrc"))
        told = []

        def tick():
            told.extend(self.transfer.held_elsewhere())
            if told and held._descriptor >= 0:
                held.discard()

        with self.assertLogs("empiardownloader.transfer.steps", "WARNING") as log:
            self.check_whole(self.fetch(names, tick=tick), names)
        self.assertIn("m_0.mrc", told)
        self.assertEqual(1, sum("is being fetched by another run" in line for line in log.output))

    def test_links_laid_before(self):
        """S12: what a link in place of the part points to is not touched."""
        names = self.fill(1, 20000)
        os.makedirs(self.out)
        victims = [os.path.join(self.folder, "victim%d" % n) for n in range(3)]
        for victim, name in zip(victims, (".part.m_0.mrc", ".part.m_0.mrc.journal", ".unpacked.m_0.mrc")):
            with open(victim, "w") as stream:
                stream.write("precious")
            os.symlink(victim, os.path.join(self.out, name))
        self.check_whole(self.fetch(names), names)
        for victim in victims:
            self.assertEqual(b"precious", read_bytes(victim))

    def test_file_systems_without_locks(self):
        """C4."""
        names = self.fill(2, 20000)
        with mock.patch("fcntl.flock", side_effect=OSError(38, "Function not implemented")), \
                self.assertLogs("empiardownloader.transfer.parts", "WARNING") as log:
            self.check_whole(self.fetch(names), names)
        self.assertEqual(1, len(log.output))
        self.assertIn("knows no locks", log.output[0])


class TestFtpFaults(FaultRows, FtpCase):
    pass


class TestHttpFaults(FaultRows, HttpCase):

    def test_a_redirect_in_a_circle(self):
        names = self.fill(4, 20000)
        self.demo.add_fault(faults.CIRCLE, "*m_1*")
        outcomes = self.fetch(names)
        self.check_all_but(outcomes, names, "m_1.mrc")
        self.assertIn("in a circle", outcomes["m_1.mrc"].error)

    def test_another_range_than_the_one_asked_for(self):
        """S5: no byte of such an answer reaches the file."""
        names = self.fill(2, 4 << 20)
        self.demo.add_fault(faults.OTHER_RANGE, "*m_0*")
        outcomes = self.fetch(names)
        self.assertIn("in place of the bytes", outcomes["m_0.mrc"].error)
        self.check_whole(outcomes, ["m_1.mrc"])

    def test_servers_whose_versions_differ(self):
        """S4, B5: the file comes by one request then, and no more than a few times its size over the line."""
        names = self.fill(3, 3 << 20)
        self.demo.add_fault(faults.OTHER_VERSION, "*m_1*")
        outcomes = self.fetch(names)
        self.check_whole(outcomes, names)
        self.check_clean(names)
        self.assertLess(self.transfer.received, (3 + 4) * (3 << 20))

    def test_sizes_beyond_everything(self):
        """S13, S15: a size no disk can have, and one no number can hold, cost their file."""
        names = self.fill(2, 20000)
        original = https.size_and_versions

        def told(response):
            size, versions = original(response)
            return sizes[-1] if "m_0" in response.url else size, versions

        sizes = []
        for size in (2 ** 63 + 5, 50 * 10 ** 17):
            sizes.append(size)
            with mock.patch.object(https, "size_and_versions", told):
                outcomes = self.fetch(names)
            self.assertIn("cannot be had on this disk", outcomes["m_0.mrc"].error)
            self.check_whole(outcomes, names[1:])


class TestUnpacking(HttpCase):

    def packed(self, count, content, extension=".bz2"):
        names = ["m_%03d.mrc" % number for number in range(count)]
        for name in names:
            with open(os.path.join(self.data, name + extension), "wb") as stream:
                stream.write(content)
        return names, [Job("data/" + name + extension, os.path.join(self.out, name), extension) for name in names]

    def test_few_files_wait_to_be_unpacked(self):
        """B3: however slow that is, the files under way stay few."""
        names, jobs = self.packed(60, bz2.compress(os.urandom(20000)))
        original, most = unpacking.unpack, []

        def slowly(*arguments):
            time.sleep(0.05)
            original(*arguments)

        with mock.patch("empiardownloader.transfer.finisher.unpack", slowly):
            outcomes = self.fetch([], jobs=jobs, tick=lambda: most.append(len(self.transfer._board.plan.files)))
        self.assertEqual(60, sum(not outcome.error for outcome in outcomes.values()))
        self.assertLess(max(most), 25)
        self.check_clean(names)

    def test_a_file_that_grows_beyond_all_measure(self):
        """S10."""
        bomb = bz2.compress(bytes(1 << 20)) * 400
        _, jobs = self.packed(1, bomb)
        with mock.patch.object(unpacking, "LEAST_BOUND_BYTES", 8 << 20):
            outcome, = self.fetch([], jobs=jobs).values()
        self.assertIn("when it is decompressed, so it is no movie", outcome.error)
        self.check_clean([])

    def test_no_room_to_unpack(self):
        _, jobs = self.packed(1, bz2.compress(os.urandom(100000)))
        with mock.patch.object(unpacking, "SPARE_BYTES", 1 << 60), \
                self.assertRaisesRegex(DiskError, "no room to decompress m_000.mrc.bz2|no room to decompress"):
            self.fetch([], jobs=jobs)
        self.assertEqual([], [name for name in os.listdir(self.out) if name.startswith(".unpacked")])
        outcome, = self.fetch([], jobs=jobs).values()
        self.assertEqual(("", 0), (outcome.error, self.transfer.received))


class TestPool(FtpCase):

    def test_the_limit_settles_where_the_server_wants_it(self):
        """B7: two connections are allowed, and two are used in the end."""
        self.fill(1, 1000)
        archive = self.archive()
        for asked in (3, 4, 8):
            pool = ConnectionPool(archive, asked, 0.2)
            slots = [pool.slot() for _ in range(2)]
            for slot in slots:
                slot.__enter__().connect()
            # All others are refused at once.
            for _ in range(asked - 2):
                pool.too_many()
            self.assertEqual(2, pool.limit)
            waits = []
            with mock.patch("empiardownloader.transfer.pool.time", mock.Mock()) as clock:
                clock.monotonic.return_value = time.monotonic()
                for _ in range(3):
                    pool.too_many()
                    self.assertEqual(2, pool.limit)
                    began = clock.monotonic()
                    while pool.limit == 2:
                        clock.monotonic.return_value += 0.01
                        pool.wanted_elsewhere()
                    waits.append(clock.monotonic() - began)
                pool.too_many()
            self.assertGreater(waits[-1], waits[0])     # asked less and less often
            for slot in slots:
                slot.__exit__(None, None, None)
            pool.close()


class TestHeaders(HttpCase):

    def test_a_header_nobody_can_read_costs_its_file(self):
        """S6: a BigTIFF whose numbers no file can have."""
        from empiardownloader.images.header import read_header
        names = self.fill(2, SIZE)
        with open(os.path.join(self.data, "a.tif"), "wb") as stream:
            stream.write(b"II+\0\x08\0\0\0" + (16).to_bytes(8, "little") + (2 ** 62).to_bytes(8, "little"))
            stream.write(bytes(2000))

        def check(path):
            if path.endswith("a.tif"):
                read_header(path)

        outcomes = self.fetch([], jobs=[self.job(name, check=check) for name in ["a.tif", *names]])
        self.assertEqual("its list of frames breaks off after 0 frames", outcomes["a.tif"].error)
        self.check_whole(outcomes, names)


# The common cases run for each transport, not by themselves.
del FaultRows, TransferCase, FtpCase, HttpCase
