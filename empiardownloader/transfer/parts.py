# SPDX-License-Identifier: GPL-3.0-or-later
"""A file on its way: its bytes, the journal of what is already there, and the lock that keeps others off.

The part lies beside the file's final place, under a hidden name, and gets the final name by os.replace
when it is whole: other programs never see half a file. The journal is only added to, after the bytes it tells of
were written, so that it is true at whatever moment the process dies. When the machine dies, bytes written last may
be holes of zeros: of what was journaled before the machine was started the last time, only that is believed which
a mark says to have reached the disk. The final name is given after all has reached it.
"""
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import threading
import time
from typing import Any, Dict, List, Optional, Set, Tuple

from ..archive.errors import DiskError, LocalNameError
from ..archive.remote import FileState
from .modes import make_folders, share_file

logger = logging.getLogger(__name__)

PREFIX = ".part."
JOURNAL = ".journal"
UNPACKED_PREFIX = ".unpacked."
NAME_BYTES = 255        # what most file systems take; eCryptfs takes 143
# So many bytes may be lost with the power; a disk writes them in a moment.
SYNC_BYTES = 64 << 20
# What is wrong with one file and not with the disk.
THIS_FILE_ONLY = (errno.ENAMETOOLONG, errno.EFBIG, errno.EOVERFLOW, errno.EISDIR, errno.EILSEQ, errno.EINVAL)
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)
NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
NOT_ALLOWED = (errno.EACCES, errno.EPERM)
LINKS_ARE_NOT_FOLLOWED = os.O_NOFOLLOW | os.O_CLOEXEC

Span = Tuple[int, int]


def part_path(target: str) -> str:
    """'/x/a.mrc' -> '/x/.part.a.mrc'; of a name that is too long then, a digest is put in the middle"""
    return hidden_path(target, PREFIX, JOURNAL)


def hidden_path(target: str, prefix: str, behind: str = "") -> str:
    """A name beside ``target`` for the time being, with room for ``behind``."""
    folder, name = os.path.split(target)
    if len(os.fsencode(prefix + name + behind)) > most_name_bytes(folder):
        name = hashlib.sha1(os.fsencode(name)).hexdigest() + os.path.splitext(name)[1][:16]
    return os.path.join(folder, prefix + name)


def most_name_bytes(folder: str) -> int:
    """How long a name in a folder may be, whether it is there yet or not."""
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        return min(NAME_BYTES, os.pathconf(folder or ".", "PC_NAME_MAX"))
    except (OSError, ValueError):
        return NAME_BYTES


def remove_leftovers(target: str) -> None:
    """A power cut right after a part got its final name may have left its journal."""
    path = part_path(target)
    if not os.path.lexists(path):
        _remove(path + JOURNAL)


def disk_error(error: Exception, path: str) -> Exception:
    """An error of the local file system -> DiskError with the sentence for the user, or LocalNameError."""
    number = getattr(error, "errno", None) or errno.EFBIG
    why = os.strerror(number).lower()
    if number in THIS_FILE_ONLY:
        msg = "%s cannot be had on this disk (%s)" % (os.path.basename(path)[:80], why)
        return LocalNameError(msg)
    if number in NOT_ALLOWED:
        msg = "%s cannot be written (%s), for it or its folder belongs to another user: ask for the right to write " \
              "there, or choose another folder, then Continue; what is whole is kept." % (path, why)
        return DiskError(msg)
    msg = "%s cannot be written (%s): make room or choose another folder, then Continue; what is whole is kept." % (
        path, why)
    return DiskError(msg)


def sync_to_disk(descriptor: int, path: str) -> None:
    """Wait until what was written has reached the disk; where the file system cannot tell, that is said once."""
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
        _tell_once(path, "The file system of %s does not say when bytes have reached the disk: after a power cut files "
                         "may have to be fetched anew.")


def lock(descriptor: int, path: str) -> None:
    """Take the lock on an open file. Raises BlockingIOError while another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _tell_once(path, "The file system of %s knows no locks: let only one run at a time download into it.")


def _tell_once(path: str, text: str) -> None:
    """Warn of the folder of a file; ``text``: with a place for it."""
    folder = os.path.dirname(os.path.abspath(path))
    if (folder, text) not in _told:
        _told.add((folder, text))
        logger.warning(text, folder)


_told: Set[Tuple[str, str]] = set()     # (folder, what was told of it)


class Part:
    """The part of one file, open and locked by this process.

    Spans are pairs (start, end) of byte offsets, end excluded.
    """

    def __init__(self, target: str, descriptor: int):
        self.target = target
        self.path = part_path(target)
        self._descriptor = descriptor
        self._journal = -1
        self._lock = threading.Lock()
        self._lines = 0                 # of the journal
        self._unsynced = 0              # bytes
        self._trusted = 0               # bytes of the journal that tell of what is known to be on the disk, and no more
        self._broken: Optional[OSError] = None      # of the disk: nothing more is written, and it gets no final name
        self.resumed = False

    @classmethod
    def acquire(cls, target: str) -> Optional["Part"]:
        """The part for ``target``, or None while another process works on it. Raises DiskError, LocalNameError."""
        path = part_path(target)
        try:
            make_folders(os.path.dirname(path))
            while True:
                _remove_link(path)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | LINKS_ARE_NOT_FOLLOWED, 0o666)
                try:
                    lock(descriptor, path)
                    # Between opening and locking, the other process may have given the part its final name.
                    if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                        share_file(path)
                        return cls(target, descriptor)
                except BlockingIOError:
                    os.close(descriptor)
                    return None
                os.close(descriptor)
        except OSError as error:
            raise disk_error(error, target) from error

    @property
    def is_fresh(self) -> bool:
        """Whether no earlier run left anything of it."""
        return not os.path.lexists(self.path + JOURNAL)

    def begin(self, remote_path: str, state: FileState) -> List[Span]:
        """Get ready for the file in the version ``state``; the spans that are still to be fetched."""
        header = {"path": remote_path, "size": state.size, "version": state.version, "modified": state.modified,
                  "boot": boot_id()}
        self.close_journal()
        try:
            done, lines = self._read_journal(remote_path, state)
            self.resumed = bool(done)
            if lines is None:
                _remove(self.path + JOURNAL)
                if not done:
                    os.ftruncate(self._descriptor, 0)
                lines = [json.dumps(header)] + ["%d %d" % (start, end - start) for start, end in done]
                if done:
                    lines.append("synced %d" % len(lines))
                # A link that somebody has laid in place of the journal is not followed.
                self._journal = os.open(self.path + JOURNAL,
                                        os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                share_file(self.path + JOURNAL)
                self._trusted = _write_all(self._journal, _as_text(lines))
            else:
                self._journal = os.open(self.path + JOURNAL, os.O_WRONLY | os.O_APPEND | LINKS_ARE_NOT_FOLLOWED)
                # Ends a line that a killed process may have left unfinished.
                os.write(self._journal, b"\n")
                self._trusted = len(_as_text(lines[:_believed(lines)]))
                lines.append("")
            self._lines = len(lines)
            os.ftruncate(self._descriptor, state.size)
        except (OSError, OverflowError) as error:
            raise disk_error(error, self.target) from error
        return missing_spans(done, state.size)

    def write(self, offset: int, data: memoryview) -> bool:
        """Whether it is time to ``sync``. Raises DiskError. Any thread may write, each its own span."""
        try:
            written = os.pwrite(self._descriptor, data, offset)
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], offset + written)
            with self._lock:
                self._check_disk()
                self._add_line_locked(b"%d %d\n" % (offset, len(data)))
                self._unsynced += len(data)
                due = self._unsynced >= SYNC_BYTES
                if due:
                    self._unsynced = 0
        except OSError as error:
            self._breaks(error)
            raise disk_error(error, self.target) from error
        return due

    def sync(self) -> None:
        """Wait until what was written so far has reached the disk, and mark it in the journal; from any thread."""
        try:
            with self._lock:
                self._check_disk()
                if self._journal < 0:
                    return      # given its name, or given up, in the meantime
                # Counted before: what others write meanwhile is not meant.
                lines, descriptor = self._lines, os.dup(self._descriptor)
                told = os.fstat(self._journal).st_size
            try:
                sync_to_disk(descriptor, self.target)
            except OSError as error:
                self._believe_less(error)
                raise
            finally:
                os.close(descriptor)
            with self._lock:
                self._trusted = max(self._trusted, told)
                if self._journal >= 0:
                    self._check_disk()
                    self._add_line_locked(b"synced %d\n" % lines)
        except OSError as error:
            raise disk_error(error, self.target) from error

    def _check_disk(self) -> None:
        """An error of the disk is told once, to whoever happens to be there: nobody may go on after it."""
        if self._broken is not None:
            raise OSError(self._broken.errno, self._broken.strerror)

    def _add_line_locked(self, line: bytes) -> None:
        try:
            _write_all(self._journal, line)
        except OSError as error:
            # Half of it may be there, which would be one with the next line.
            self._broken = error
            raise
        self._lines += 1

    def _breaks(self, error: OSError) -> None:
        """Something could not be written; the error may be of what was written before, as where a server is full."""
        with self._lock:
            is_first = self._broken is None or self._broken is error
            self._broken = self._broken or error
        if is_first:
            try:
                sync_to_disk(self._descriptor, self.target)
            except OSError as its:
                self._believe_less(its)

    def _believe_less(self, error: OSError) -> None:
        """What has not reached the disk by now never will, so the journal must not tell of it."""
        with self._lock:
            self._broken = self._broken or error
            try:
                if self._journal >= 0:
                    os.ftruncate(self._journal, self._trusted)
            except OSError:
                try:
                    _remove(self.path + JOURNAL)
                except OSError:
                    logger.warning("%s tells of bytes that its disk may have lost, and can be neither changed nor "
                                   "removed now: remove it before Continue.", self.path + JOURNAL)

    def finish(self) -> None:
        """Give the part its final name. Raises DiskError."""
        self.sync()
        try:
            os.replace(self.path, self.target)
        except OSError as error:
            raise disk_error(error, self.target) from error
        _remove(self.path + JOURNAL)
        self.release()

    def discard(self) -> None:
        """Remove the part and all that is known of it."""
        _remove(self.path)
        _remove(self.path + JOURNAL)
        self.release()

    def release(self) -> None:
        """Let others have it; what was fetched stays for a later run."""
        self.close_journal()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def close_journal(self) -> None:
        """Nothing more is written; the lock stays."""
        with self._lock:
            journal, self._journal = self._journal, -1
        if journal >= 0:
            os.close(journal)

    def _read_journal(self, remote_path: str, state: FileState) -> Tuple[List[Span], Optional[List[str]]]:
        """The spans already fetched of exactly this version of the file, and the lines of the journal.

        None for the lines: the journal is to be written anew.
        """
        path = self.path + JOURNAL
        try:
            descriptor = os.open(path, os.O_RDONLY | LINKS_ARE_NOT_FOLLOWED)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                return [], None
            raise
        with open(descriptor, encoding="utf-8", errors="replace") as journal:
            # A line without its end was being written when the process died.
            lines = journal.read().split("\n")[:-1]
            written = os.fstat(journal.fileno()).st_mtime
        header = _parse_header(lines[0] if lines else "")
        then = FileState(header.get("size", -1), str(header.get("version", "")), str(header.get("modified", "")))
        if header.get("path") != remote_path or not then.same_as(state) or not state.is_sure:
            return [], None     # without a time or a tag, another version of the same size would not show
        if os.fstat(self._descriptor).st_size != state.size:
            return [], None     # somebody cut the part: the journal tells of bytes that are gone
        # Version 1.0.0 wrote no id; its journal is of this start of the machine where it was written after it.
        same_start = header["boot"] == boot_id() if "boot" in header else written > time.time() - _uptime()
        if same_start:
            return _spans(lines[1:]), lines
        return _spans(lines[1:_believed(lines)]), None


def boot_id() -> str:
    """What tells one start of this machine from another, '' where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def _uptime() -> float:
    """Seconds since the machine was started, 0 where the system does not say."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):
        return 0.0


def _parse_header(line: str) -> Dict[str, Any]:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _as_text(lines: List[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


def _write_all(descriptor: int, data: bytes) -> int:
    """-> how many bytes; a disk that is nearly full takes a part of them first."""
    written = 0
    while written < len(data):
        written += os.write(descriptor, data[written:])
    return written


def _believed(lines: List[str]) -> int:
    """How many lines of a journal tell of bytes that reached the disk, the header's line included."""
    believed = 1
    for index, line in enumerate(lines):
        if "\0" in line:
            break       # the journal's own bytes did not reach it
        match = re.fullmatch(r"synced ([0-9]{1,18})", line)
        if match and int(match.group(1)) <= index:
            believed = max(believed, int(match.group(1)))
    return believed


def _spans(lines: List[str]) -> List[Span]:
    spans = []
    for line in lines:
        match = re.fullmatch(r"([0-9]{1,18}) ([0-9]{1,18})", line)
        if match:
            offset, length = int(match.group(1)), int(match.group(2))
            spans.append((offset, offset + length))
    return spans


def missing_spans(done: List[Span], size: int) -> List[Span]:
    """[(0, 4), (2, 6)] of 10 bytes -> [(6, 10)]"""
    missing, position = [], 0
    for start, end in sorted(done):
        if start > position:
            missing.append((position, min(start, size)))
        position = max(position, end)
    if position < size:
        missing.append((position, size))
    return missing


def _remove(path: str) -> None:
    try:
        os.remove(path)
    except OSError as error:
        # A name that is too long was never there.
        if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
            raise


def _remove_link(path: str) -> None:
    """Somebody else may have laid a link under the name of a part: what it points to is not ours to write."""
    if os.path.islink(path):
        _remove(path)
