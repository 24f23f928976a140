# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of files on a disk that errs, and files that several workers have at the same time; without a server."""
import errno
import os
import shutil
import tempfile
import unittest
from unittest import mock

from empiardownloader.archive.errors import DiskError, LocalNameError, NotFoundError
from empiardownloader.archive.remote import FileState
from empiardownloader.archive.stopping import StopToken
from empiardownloader.transfer import parts
from empiardownloader.transfer.board import Board
from empiardownloader.transfer.file import FileTransfer, Phase, Piece
from empiardownloader.transfer.jobs import Job, Settings
from empiardownloader.transfer.steps import Steps
from empiardownloader.transfer.transfer import Transfer

IS_QUICK = True
SIZE = 4000
STATE = FileState(SIZE, "x", "20240101000000")


class PartCase(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.target = os.path.join(self.folder, "m.mrc")

    def part(self):
        part = parts.Part.acquire(self.target)
        self.addCleanup(part.release)
        return part

    def missing(self):
        """What a later run on the same start of the machine fetches."""
        part = self.part()
        try:
            return part.begin("m.mrc", STATE)
        finally:
            part.release()


class TestDisk(PartCase):

    def test_what_the_disk_lost_is_fetched_again(self):
        """A server that is full says so when it is waited for, and has dropped what was written since."""
        part = self.part()
        self.assertEqual([(0, SIZE)], part.begin("m.mrc", STATE))
        part.write(0, memoryview(bytes(1000)))
        part.sync()
        part.write(1000, memoryview(bytes(3000)))
        with mock.patch.object(parts, "sync_to_disk", side_effect=OSError(errno.EDQUOT, "full")), \
                self.assertRaises(DiskError):
            part.sync()
        # The system tells the error once; the file is not named whole by whoever asks next.
        with self.assertRaises(DiskError):
            part.finish()
        with mock.patch.object(parts, "sync_to_disk") as sync, self.assertRaises(DiskError):
            part.write(0, memoryview(b"x"))
        # A disk that hangs is not waited for by every worker.
        sync.assert_not_called()
        self.assertFalse(os.path.exists(self.target))
        part.release()
        self.assertEqual([(1000, SIZE)], self.missing())

    def test_a_write_that_fails_costs_what_had_not_come_to_the_disk(self):
        for lost, expected in ((False, [(3000, SIZE)]), (True, [(1000, SIZE)])):
            with self.subTest(lost=lost):
                part = self.part()
                part.begin("m.mrc", STATE)
                part.write(0, memoryview(bytes(1000)))
                part.sync()
                part.write(1000, memoryview(bytes(2000)))
                full = OSError(errno.ENOSPC, "full")
                with mock.patch.object(parts.os, "pwrite", side_effect=full), mock.patch.object(
                        parts, "sync_to_disk", side_effect=full if lost else None), self.assertRaises(DiskError):
                    part.write(3000, memoryview(bytes(1000)))
                part.release()
                self.assertEqual(expected, self.missing())
                os.remove(parts.part_path(self.target))
                os.remove(parts.part_path(self.target) + parts.JOURNAL)

    def test_of_an_earlier_run_what_it_did_not_wait_for_is_not_sure(self):
        part = self.part()
        part.begin("m.mrc", STATE)
        part.write(0, memoryview(bytes(1000)))
        part.sync()
        part.write(1000, memoryview(bytes(1000)))
        part.release()
        part = self.part()
        self.assertEqual([(2000, SIZE)], part.begin("m.mrc", STATE))
        part.write(2000, memoryview(bytes(1000)))
        with mock.patch.object(parts, "sync_to_disk", side_effect=OSError(errno.EIO, "bad")), \
                self.assertRaises(DiskError):
            part.sync()
        part.release()
        self.assertEqual([(1000, SIZE)], self.missing())

    def test_a_line_that_is_written_in_two(self):
        part = self.part()
        part.begin("m.mrc", STATE)
        write = os.write
        with mock.patch.object(parts.os, "write", lambda descriptor, data: write(descriptor, data[:3])):
            part.write(1000, memoryview(bytes(1000)))
            part.sync()
        part.release()
        self.assertEqual([(0, 1000), (2000, SIZE)], self.missing())

    def test_half_a_line_is_not_gone_on_with(self):
        """Another worker gets the lock at once, and there is room again: 50 and 7000 would be 507000."""
        part = self.part()
        part.begin("m.mrc", STATE)
        part.write(0, memoryview(bytes(10)))
        write, told, part._lock = os.write, [], Handed(part._lock, lambda: other())

        def other():
            with mock.patch.object(parts.os, "write", write):
                try:
                    part.write(2000, memoryview(bytes(20)))
                except DiskError as error:
                    told.append(str(error))

        def short(descriptor, data):
            if len(data) < len(b"50 1000\n"):
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data[:2])

        with mock.patch.object(parts.os, "write", short), self.assertRaises(DiskError):
            part.write(50, memoryview(bytes(1000)))
        part.release()
        self.assertEqual(1, len(told))
        self.assertIn("no space left", told[0])
        self.assertEqual([(10, SIZE)], self.missing())

    def test_a_disk_that_can_only_be_read_by_now(self):
        """As ext4 leaves it after an error: the journal can be neither changed nor removed."""
        part = self.part()
        part.begin("m.mrc", STATE)
        part.write(0, memoryview(bytes(1000)))
        refusal, lost = OSError(errno.EROFS, "Read-only file system"), OSError(errno.EIO, "Input/output error")
        with mock.patch.multiple(parts.os, pwrite=mock.Mock(side_effect=refusal), remove=mock.Mock(side_effect=refusal),
                                 ftruncate=mock.Mock(side_effect=refusal)), mock.patch.object(
                parts, "sync_to_disk", side_effect=lost), self.assertLogs(parts.logger, "WARNING") as log:
            for act in (lambda: part.write(1000, memoryview(bytes(1000))), part.sync, part.finish):
                with self.assertRaises(DiskError):
                    act()
        self.assertIn(parts.JOURNAL + " tells of bytes that its disk may have lost", log.output[0])


class Handed:
    """A lock that another one has as soon as it is given back the first time."""

    def __init__(self, lock, other):
        self._lock, self._other = lock, other

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *error):
        self._lock.release()
        other, self._other = self._other, None
        if other is not None:
            other()


class TestWorkers(PartCase):
    """Two workers have to do with a file; what one finds out about it the other may not undo, nor leave undone."""

    def file(self, phase=Phase.OPEN):
        file = FileTransfer(Job("m.mrc", self.target))
        file.prepared(SIZE, [(0, SIZE)], False)
        file.phase, file.state = phase, STATE
        return file

    def test_refused_while_a_range_was_asked_for_ahead(self):
        board, file = Board(0.0), self.file()
        board.plan.files.append(file)
        piece = Piece(file, 0, 1000, 0.0)
        file.gaps, file.pieces = [(1000, SIZE)], [piece]
        connection = object()
        board.put_pipelined_locked(connection, piece)
        file.refuse("gone")
        board.settle_locked(file)
        self.assertEqual([file], board.plan.files)
        board.drop_pipelined(connection)
        self.assertEqual([], board.plan.files)

    def test_whole_while_it_was_judged(self):
        transfer, file = Transfer(mock.Mock(server="server"), Settings(), StopToken()), self.file(Phase.COMPLETE)
        file.trouble.attempts = file.trouble.faults = 9

        def gives(slot, its):
            file.phase = Phase.FINISHING
            return True

        with mock.patch.object(transfer, "_gives_another", gives):
            transfer._judge(None, file, NotFoundError("gone"))
        self.assertEqual("", file.refused)

    def steps(self, board=None):
        board = board or Board(0.0)
        return Steps(mock.Mock(server="server", other_size=lambda *sizes: ""), board, mock.Mock(limit=4), mock.Mock(),
                     mock.Mock())

    def test_refused_while_it_was_asked_for_the_last_time(self):
        steps, file, connection = self.steps(), self.file(Phase.COMPLETE), mock.Mock()

        def state(path):
            file.refuse("gone")
            return STATE

        connection.state = state
        steps._end(connection, file)
        self.assertEqual((Phase.COMPLETE, []), (file.phase, steps._finisher.submit.mock_calls))

    def test_a_name_that_the_disk_does_not_take(self):
        """It is met while another file is read, which is not to blame."""
        board = Board(0.0)
        steps = self.steps(board)
        board.add(Job("m.mrc", self.target))
        with mock.patch.object(parts.Part, "acquire", side_effect=LocalNameError("too long")):
            self.assertIsNone(steps._claim_next())
        file, = board.plan.files
        self.assertEqual((False, False), (file.busy, file.is_abandoned))

    def test_one_request_that_brings_another_version(self):
        """Of the same size: what is written down is the version of the bytes that come."""
        steps, file = self.steps(), self.file()
        file.part, file.single = self.part(), True
        self.addCleanup(file.part.release)
        file.part.begin("m.mrc", STATE)
        file.part.write(0, memoryview(bytes(1000)))
        other = FileState(SIZE, "y", "20250101000000")
        steps._recognize(Piece(file, 0, SIZE, 0.0), other)
        file.part.release()
        self.assertEqual((other, [(0, SIZE)]), (file.state, self.missing()))
