# SPDX-License-Identifier: GPL-3.0-or-later
"""The power fails: of what was written last, some pages have reached the disk and some have not."""
import os
import random
import shutil
import tempfile
import threading
from unittest import mock

from empiardownloader.archive.stopping import StopToken
from empiardownloader.tests.base import read_bytes
from empiardownloader.tests.transfer_case import HttpCase
from empiardownloader.transfer import parts

IS_QUICK = True

PAGE = 4096
CUTS = 50


class RecordingOs:
    """Stands in for the module os and writes down what is done to the disk, in order."""

    def __init__(self):
        self.log = []                   # (what, inode or path, ...)
        self._inodes = {}               # descriptor -> number of the file
        self._numbers = {}              # inode -> number of the file; a file system gives inodes again
        self._lock = threading.RLock()

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags, *mode):
        with self._lock:
            new = not os.path.lexists(path)
            descriptor = os.open(path, flags, *mode)
            inode = os.fstat(descriptor).st_ino
            if new:
                self._numbers[inode] = len(self.log)
                self.log.append(("create", path, len(self.log)))
            self._inodes[descriptor] = self._numbers[inode]
            return descriptor

    def pwrite(self, descriptor, data, offset):
        with self._lock:
            written = os.pwrite(descriptor, data, offset)
            self.log.append(("write", self._inodes[descriptor], offset, bytes(data[:written])))
            return written

    def write(self, descriptor, data):
        with self._lock:
            offset = os.fstat(descriptor).st_size
            written = os.write(descriptor, data)
            self.log.append(("write", self._inodes[descriptor], offset, bytes(data[:written])))
            return written

    def dup(self, descriptor):
        with self._lock:
            copy = os.dup(descriptor)
            self._inodes[copy] = self._inodes[descriptor]
            return copy

    def ftruncate(self, descriptor, size):
        with self._lock:
            os.ftruncate(descriptor, size)
            self.log.append(("size", self._inodes[descriptor], size))

    def fdatasync(self, descriptor):
        # What is written while it waits is not part of it.
        with self._lock:
            self.log.append(("sync", self._inodes[descriptor]))
        os.fdatasync(descriptor)

    def replace(self, source, target):
        with self._lock:
            os.replace(source, target)
            self.log.append(("rename", source, target))

    def remove(self, path):
        with self._lock:
            os.remove(path)
            self.log.append(("unlink", path))


def disk_after(log, cut, chance):
    """{path: bytes} of a disk whose power failed after ``cut`` entries of the log.

    A synced file's earlier bytes are there, and so are the names and sizes made before. Later names and sizes are
    there up to some moment, later bytes page by page as chance has it; what is not there reads as zeros.
    """
    done = log[:cut]
    synced = {inode: index for index, (what, inode, *_) in enumerate(done) if what == "sync"}
    names_until = chance.randint(max(synced.values(), default=-1) + 1, cut)
    names, sizes = {}, {}
    for what, *facts in done[:names_until]:
        if what == "create":
            names[facts[0]] = facts[1]
        elif what == "rename":
            names[facts[1]] = names.pop(facts[0])
        elif what == "unlink":
            names.pop(facts[0], None)
        elif what == "size":
            sizes[facts[0]] = facts[1]
    contents = {inode: bytearray(sizes.get(inode, 0)) for inode in names.values()}
    for index, (what, inode, *facts) in enumerate(done):
        if what != "write" or inode not in contents:
            continue
        content, (offset, data) = contents[inode], facts
        if inode not in sizes:
            content.extend(bytes(max(0, offset + len(data) - len(content))))
        for start in range(0, len(data), PAGE):
            piece = data[start:start + PAGE]
            if (index < synced.get(inode, -1) or chance.random() < 0.5) and offset + start < len(content):
                content[offset + start:offset + start + len(piece)] = piece
    return {path: bytes(contents[inode]) for path, inode in names.items()}


class TestPowerCut(HttpCase):

    def test_fifty_cuts(self):
        names = self.fill(5, 1 << 20)
        recorder = RecordingOs()
        with mock.patch.object(parts, "os", recorder), mock.patch.object(parts, "SYNC_BYTES", 200000):
            # With more connections all files may end at the same time, and few cuts meet one that is whole.
            self.check_whole(self.fetch(names, connections=2), names)
        # Half of the cuts fall anywhere, the others where a file is surely whole and another is not: how the files
        # share the log is the clock's.
        whats = [what for what, *_ in recorder.log]
        first = whats.index("sync", whats.index("rename")) + 1
        last = len(whats) - 1 - whats[::-1].index("rename")
        self.assertLess(first, last)
        chance = random.Random(11)
        cuts = [chance.randint(1, len(whats)) for _ in range(CUTS // 2)]
        cuts += [chance.randint(first, last) for _ in range(CUTS - len(cuts))]
        whole = unfinished = believed = 0
        for cut in cuts:
            state = disk_after(recorder.log, cut, chance)
            shutil.rmtree(self.out)
            self.out = tempfile.mkdtemp(dir=self.folder)
            for path, content in state.items():
                with open(os.path.join(self.out, os.path.basename(path)), "wb") as stream:
                    stream.write(content)
                name = os.path.basename(path)
                if not name.startswith("."):
                    whole += 1
                    # What has its final name is right, at whatever moment the power failed.
                    self.assertEqual(read_bytes(os.path.join(self.data, name)), content, name)
                elif not name.endswith(parts.JOURNAL):
                    unfinished += 1
            with mock.patch.object(parts, "boot_id", return_value="the next start"):
                self.check_whole(self.fetch(names), names)
            self.check_clean(names)
            if self.transfer.received < sum(len(content) for path, content in state.items()):
                believed += 1
        # The cuts fell where there was something to lose, and not all of it was fetched again.
        self.assertGreaterEqual(whole, CUTS // 2)
        self.assertGreater(unfinished, 20)
        self.assertGreater(believed, 5)

    def test_without_a_new_start_all_of_the_journal_counts(self):
        """The process was killed, the machine was not."""
        names = self.fill(1, 4 << 20)
        self.demo.rate = 1 << 20
        cancelled = StopToken()
        self.fetch(names, cancelled, lambda: self.transfer.received > 1 << 20 and cancelled.set())
        before = self.transfer.received
        self.demo.rate = 0
        self.check_whole(self.fetch(names), names)
        self.assertEqual(4 << 20, before + self.transfer.received)

    def test_a_journal_of_version_1_0_0(self):
        """It has neither an id nor marks: it counts where it was written since the machine was started."""
        import json
        for age, expected in ((0, 2 << 20), (10 ** 9, 3 << 20)):
            names = self.fill(1)
            os.makedirs(self.out, exist_ok=True)
            state = self.archive().connect().state("data/m_0.mrc")
            content = read_bytes(os.path.join(self.data, names[0]))
            part = parts.part_path(os.path.join(self.out, names[0]))
            with open(part, "wb") as stream:
                stream.write(content[:1 << 20])
                stream.truncate(3 << 20)
            with open(part + parts.JOURNAL, "w") as stream:
                stream.write(json.dumps({"path": "data/m_0.mrc", "size": state.size, "version": state.version}) + "\n")
                stream.write("0 %d\n" % (1 << 20))
            written = os.stat(part + parts.JOURNAL).st_mtime - age
            os.utime(part + parts.JOURNAL, (written, written))
            self.check_whole(self.fetch(names), names)
            self.assertEqual(expected, self.transfer.received)
            os.remove(os.path.join(self.out, names[0]))

    def test_a_journal_nobody_can_read(self):
        """What makes no sense in it is ignored, and fetched again."""
        names = self.fill(1)
        for nonsense in ("1 \u00b2\n", "synced \u00b2\n", "9" * 5000 + " 1\n", "synced %s\n" % ("9" * 5000), "\0" * 50):
            cancelled = StopToken()
            self.demo.rate = 4 << 20
            self.fetch(names, cancelled, lambda stop=cancelled: self.transfer.received > 1 << 19 and stop.set())
            self.demo.rate = 0
            journal = parts.part_path(os.path.join(self.out, names[0])) + parts.JOURNAL
            with open(journal, "a") as stream:
                stream.write(nonsense)
            with mock.patch.object(parts, "boot_id", return_value="another"):
                self.check_whole(self.fetch(names), names)
            os.remove(os.path.join(self.out, names[0]))
        with open(parts.part_path(os.path.join(self.out, names[0])) + parts.JOURNAL, "w") as stream:
            stream.write("[" * 100000 + "\n")
        self.check_whole(self.fetch(names), names)


del HttpCase
