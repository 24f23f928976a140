# SPDX-License-Identifier: GPL-3.0-or-later
"""A file on its way: its bytes, the journal of what is already there, and the lock that keeps others off.

The part lies beside the file's final place, under a hidden name, and gets the final name by os.replace
when it is whole: other programs never see half a file. The journal is only added to, after the bytes it tells of
were written, so that it is true at whatever moment the process dies.
"""
import contextlib
import fcntl
import json
import os
from typing import List, Optional, Tuple

from .errors import DiskError
from .remote import FileState

PREFIX = ".part."
JOURNAL = ".journal"


def part_path(target: str) -> str:
    """'/x/a.mrc' -> '/x/.part.a.mrc'"""
    folder, name = os.path.split(target)
    return os.path.join(folder, PREFIX + name)


def disk_error(error: OSError, path: str) -> DiskError:
    """An error of the local file system -> the sentence for the user."""
    msg = "%s cannot be written (%s): make room or choose another folder, then Continue; what is whole is kept." % (
        path, (os.strerror(error.errno) if error.errno else str(error)).lower())
    return DiskError(msg)


class Part:
    """The part of one file, open and locked by this process.

    Spans are pairs (start, end) of byte offsets, end excluded.
    """

    def __init__(self, target: str, descriptor: int):
        self.target = target
        self.path = part_path(target)
        self._descriptor = descriptor
        self._journal = -1
        self.resumed = False

    @classmethod
    def acquire(cls, target: str) -> Optional["Part"]:
        """The part for ``target``, or None while another process works on it. Raises DiskError."""
        path = part_path(target)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # Between opening and locking, the other process may have given the part its final name.
                    if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                        return cls(target, descriptor)
                except BlockingIOError:
                    os.close(descriptor)
                    return None
                os.close(descriptor)
        except OSError as error:
            raise disk_error(error, target) from error

    def begin(self, remote_path: str, state: FileState) -> List[Tuple[int, int]]:
        """Get ready for the file in the version ``state``; the spans that are still to be fetched."""
        header = json.dumps({"path": remote_path, "size": state.size, "version": state.version})
        try:
            done = self._read_journal(header)
            self.resumed = bool(done)
            if not done:
                os.ftruncate(self._descriptor, 0)
                with open(self.path + JOURNAL, "w", encoding="utf-8") as journal:
                    journal.write(header + "\n")
            os.ftruncate(self._descriptor, state.size)
            self._journal = os.open(self.path + JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            # Ends a line that a killed process may have left unfinished.
            os.write(self._journal, b"\n" if done else b"")
        except OSError as error:
            raise disk_error(error, self.target) from error
        return missing_spans(done, state.size)

    def write(self, offset: int, data: memoryview) -> None:
        """Raises DiskError. Any thread may write, each its own span."""
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], offset + written)
            os.write(self._journal, b"%d %d\n" % (offset, len(data)))
        except OSError as error:
            raise disk_error(error, self.target) from error

    def finish(self) -> None:
        """Give the part its final name. Raises DiskError."""
        try:
            os.replace(self.path, self.target)
        except OSError as error:
            raise disk_error(error, self.target) from error
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.path + JOURNAL)
        self.release()

    def discard(self) -> None:
        """Remove the part and all that is known of it."""
        for path in (self.path, self.path + JOURNAL):
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
        self.release()

    def release(self) -> None:
        """Let others have it; what was fetched stays for a later run."""
        for descriptor in (self._journal, self._descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._journal = self._descriptor = -1

    def _read_journal(self, header: str) -> List[Tuple[int, int]]:
        """The spans already fetched of exactly this version of the file."""
        try:
            with open(self.path + JOURNAL, encoding="utf-8", errors="replace") as journal:
                if journal.readline().rstrip("\n") != header:
                    return []
                lines = journal.read().split("\n")
        except FileNotFoundError:
            return []
        if os.fstat(self._descriptor).st_size != json.loads(header)["size"]:
            return []   # somebody cut the part: the journal tells of bytes that are gone
        # A line without its end was being written when the process died.
        spans = []
        for line in lines[:-1]:
            offset, _, length = line.partition(" ")
            if offset.isdigit() and length.isdigit():
                spans.append((int(offset), int(offset) + int(length)))
        return spans


def missing_spans(done: List[Tuple[int, int]], size: int) -> List[Tuple[int, int]]:
    """[(0, 4), (2, 6)] of 10 bytes -> [(6, 10)]"""
    missing, position = [], 0
    for start, end in sorted(done):
        if start > position:
            missing.append((position, min(start, size)))
        position = max(position, end)
    if position < size:
        missing.append((position, size))
    return missing
