# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading SQLite databases that another program is writing, without being in its way.

Part of the child process (see __main__.py): standard library only, Python 3.6 or newer.
"""
import atexit
import contextlib
import os
import pathlib
import shutil
import sqlite3
import tempfile
import time

# How long a look waits for a writer's commit: with 100 commits a second none was refused (measured).
BUSY_SECONDS = 0.25
# A change so shortly before a look may have a twin with the same time stamp after it.
SAME_TICK_SECONDS = 1.0
# Network file systems may hide a change from stat for as long; opening a file asks the server.
OPEN_AGAIN_SECONDS = 10.0


# A database that cannot be read at all may be in the midst of being copied, as the engine does at each launch; of a
# network's disk one reading may fail and the next one not.
DAMAGED_SECONDS = 3.0


class NotYetError(Exception):
    """Nothing is there yet, or not whole: another look will tell."""


class BusyError(NotYetError):
    """A writer keeps it for itself, for however long."""


class UnreadableError(Exception):
    """A sentence for the user."""
    KIND = ""


class RestartedError(UnreadableError):
    """Another set has the place of the one that a position tells of."""
    KIND = "restarted"

    def __init__(self, path):
        super().__init__("%s was made anew after this position, by a Restart of its run: follow it from the beginning."
                         % path)


class ProjectGoneError(UnreadableError):
    """The project was there, and is no more."""
    KIND = "gone"


@contextlib.contextmanager
def opened(path, what=""):
    """A connection that only reads, for a few short queries. Fetch everything at once: an open cursor holds up the
    writer. ``what`` is read: only a reading that has failed for a while, the same one, is given up."""
    try:
        with contextlib.closing(sqlite3.connect(
                pathlib.Path(path).as_uri() + "?mode=ro", uri=True, timeout=BUSY_SECONDS)) as connection:
            # A journal that a killed writer left shows itself at the first reading, not at the opening.
            hot = _is_hot(connection)
            if not hot:
                yield connection
                _damaged_since.pop((path, what), None)
        if hot:
            with contextlib.closing(sqlite3.connect(_copy_of(path))) as connection:
                yield connection
        else:
            _forget_copy(path)
    except sqlite3.Error as error:
        raise _translated(path, what, error) from error


def is_empty(path):
    """Whether there is no file, or nothing in it."""
    try:
        return os.stat(path).st_size == 0
    except OSError:
        return True


def _is_hot(connection):
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except sqlite3.OperationalError as error:
        if "readonly database" not in str(error):
            raise
        return True
    return False


def _copy_of(path):
    """A copy in a folder of its own, where SQLite can take back what a killed writer had not finished; the original
    stays as it is, byte for byte. The copy serves as long as nobody writes."""
    sources = [path, path + "-journal"]
    before = [stamp_of(source) for source in sources]
    kept = _copies.get(path)
    if kept is not None and kept[0] == before:
        return kept[1]
    _forget_copy(path)
    folder = tempfile.mkdtemp(prefix="follow-")
    try:
        for source in sources:
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(source, os.path.join(folder, "copy" + source[len(path):]))
        if before != [stamp_of(source) for source in sources]:
            raise NotYetError
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UnreadableError("%s was left by a writer that was killed, and cannot be copied to be read (%s)." % (
            path, (error.strerror or str(error)).lower())) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _copies[path] = before, os.path.join(folder, "copy")
    return _copies[path][1]


def _forget_copy(path):
    kept = _copies.pop(path, None)
    if kept is not None:
        shutil.rmtree(os.path.dirname(kept[1]), ignore_errors=True)


def _forget_copies():
    for path in list(_copies):
        _forget_copy(path)


_copies = {}        # path -> (stamps of it and its journal, path of the copy)
atexit.register(_forget_copies)


def _translated(path, what, error):
    text = str(error)
    if "locked" in text:
        return BusyError()
    if "no such table" in text:
        return NotYetError()
    if "unable to open" in text:
        if not os.path.exists(path):
            return NotYetError()
        if os.path.exists(path + "-wal"):
            return UnreadableError("%s is in SQLite's WAL mode, which can be followed only by users who may write "
                                   "in its folder." % path)
        return UnreadableError("%s cannot be opened: check its permissions." % path)
    failed = "disk I/O error" in text
    if failed or "not a database" in text or "malformed" in text or "file is encrypted" in text:
        since = _damaged_since.setdefault((path, what), time.monotonic())
        if time.monotonic() - since < DAMAGED_SECONDS:
            return BusyError()
        return UnreadableError("%s cannot be read: its disk fails (%s)." % (path, text) if failed else
                               "%s is no SQLite database, or a damaged one." % path)
    if "no such column" in text or "no column" in text:
        return UnreadableError("%s was written by a version of Scipion that is not known here (%s)." % (path, text))
    return UnreadableError("%s cannot be read (%s)." % (path, text))


_damaged_since = {}     # (path, what is read) -> the first failure since it could be read


def stamp_of(path):
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Watched:
    """Whether a file may have changed since it was last read."""

    def __init__(self, path):
        self.path = path
        self._stamps = None
        self._looked_at = self._read_at = self._changed_at = float("-inf")

    def stamps(self):
        """What to hand to ``has_read`` once it has been read; None: nothing new in it."""
        stamps = (stamp_of(self.path), stamp_of(self.path + "-wal"))
        now = time.monotonic()
        if stamps != self._stamps:
            self._changed_at = now
        elif self._read_at - self._changed_at > SAME_TICK_SECONDS and now - self._read_at < OPEN_AGAIN_SECONDS:
            return None
        self._looked_at = now
        return stamps

    def has_read(self, stamps):
        """What was found belongs to these stamps, taken before reading, or to newer ones."""
        self._stamps = stamps
        self._read_at = self._looked_at
