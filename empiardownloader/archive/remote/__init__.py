# SPDX-License-Identifier: GPL-3.0-or-later
"""One contract for a connection to the archive's files; a module for each transport.

A ``Connection`` is used by one thread at a time; only ``abort`` may be called from another one.
Paths are relative to the entry's folder, parts joined by '/'.
"""
import calendar
import contextlib
import email.utils
import re
import threading
import time
from dataclasses import dataclass
from typing import Callable, Optional, Tuple
from urllib.parse import urlsplit

from ..errors import TransientError, UnreachableError, without_password
from ..stopping import NEVER, Answer, StopToken, within

AUTOMATIC, FTP, HTTPS = "automatic", "FTP", "HTTPS"

# Seconds to wait for a connection, and for FTP to show that it works at all: institutes that block
# FTP often drop its packets silently, and nobody wants to wait long for that.
CONNECT_TIMEOUT = 6
# The same for all that is said until the first request can be sent; a greeting may come in many lines.
CONNECT_SECONDS = 20
# Seconds without a byte after which a connection counts as dead.
STALL_TIMEOUT = 30
# Servers end connections that are idle for long; so long one is good for another use.
SPARE_SECONDS = 10
# Bytes asked from a socket at once: enough to keep system calls rare at full speed.
READ_BYTES = 1 << 20
# A connection that is lost during a probe may be lost for another reason; so often it is the probe's.
MOST_FAILED_PROBES = 2
# The text of a folder's listing: 600,000 names; the largest folders of the archive hold about 30,000.
LISTING_BYTES = 64 << 20


@dataclass(frozen=True)
class Listing:
    """A remote folder: names of its folders, and (name, bytes) of its files; bytes are exact only over FTP."""
    folders: Tuple[str, ...]
    files: Tuple[Tuple[str, Optional[int]], ...]
    cut: bool = False               # whether the server said that it left names out


@dataclass(frozen=True)
class FileState:
    """What tells one version of a remote file from another."""
    size: int           # bytes
    version: str        # modification time or entity tag, '' where the server gives none
    modified: str = ""  # modification time, where the version is an entity tag

    def same_as(self, other: "FileState") -> bool:
        """Servers that share their load make entity tags of their own for one file, but keep its time; FTP and HTTP
        write that in ways of their own."""
        if self.size != other.size:
            return False
        when = self._moment()
        return (self.version == other.version or (bool(self.modified) and self.modified == other.modified)
                or (when is not None and when == other._moment()))

    def _moment(self) -> Optional[int]:
        """The modification time, in seconds as time.time() has them; None where it is not told."""
        for text in (self.modified, self.version):
            if re.fullmatch(r"[0-9]{14}(\.[0-9]+)?", text):        # MDTM
                with contextlib.suppress(ValueError):
                    return calendar.timegm(time.strptime(text[:14], "%Y%m%d%H%M%S"))
            found = email.utils.parsedate_tz(text) if text[-4:] == " GMT" else None
            if found is not None:
                return int(email.utils.mktime_tz(found))
        return None

    @property
    def is_sure(self) -> bool:
        """Whether another version of the same size would show: only then a later run may go on with half a file."""
        return bool(self.version or self.modified)


class Stream:
    """The bytes of a file from some offset on, as they come."""
    whole = False       # whether all of the file comes, whatever was asked for
    # Of the file that was asked about along with this one; None where that could not be told.
    also: Optional[FileState] = None

    def read(self, size: int) -> memoryview:
        """Up to ``size`` bytes; empty when the server says that there are no more. Raises TransientError."""
        raise NotImplementedError

    def read_up_to(self, size: int) -> bytes:
        """``size`` bytes, fewer where there are no more. Raises TransientError."""
        content = bytearray()
        while len(content) < size:
            data = self.read(min(READ_BYTES, size - len(content)))
            if not data:
                break
            content += data
        return bytes(content)


class NoBytes(Stream):
    """Of a range that begins where the file has ended."""

    def read(self, size: int) -> memoryview:
        return memoryview(b"")


class Connection:
    """One connection to the server that holds an entry."""
    # False once the connection cannot carry another request.
    usable = True
    # Whether the next request also makes the connection.
    is_new = False

    def begin(self) -> None:
        """Connect and log in. Raises TransientError, BusyError, UnreachableError."""

    def wait_for(self, seconds: float) -> None:
        """From now on, how long to wait for a byte."""
        raise NotImplementedError

    def list_folder(self, path: str) -> Listing:
        """Raises NotFoundError, BrokenFileError, TransientError."""
        raise NotImplementedError

    def state(self, path: str) -> FileState:
        """Raises NotFoundError, BrokenFileError, TransientError."""
        raise NotImplementedError

    def open(self, path: str, start: int, end: Optional[int],
             also: str = "") -> "contextlib.AbstractContextManager[Tuple[FileState, Stream]]":
        """The file's state, and its bytes [start, end), or up to the file's end where it has fewer or ``end`` is None.

        ``also``: another file whose state as it is from now on is asked for in the same go; see ``Stream.also``.
        Where ``stream.whole`` all of the file comes in place of its first bytes. Raises NoRangesError where the server
        only sends whole files and other bytes than the first were asked for, BrokenFileError for bytes that are not
        those asked for, and what ``state`` raises.
        """
        raise NotImplementedError

    def pipeline(self, path: str, start: int, end: Optional[int], also: str = "") -> bool:
        """Ask for what is to be opened next, while bytes of the file that is open are still to come.

        -> whether that was done: then nothing but ``open`` with the same arguments may follow, unless the connection is
        to be made anew. Raises TransientError.
        """
        return False

    def pipeline_state(self, path: str) -> bool:
        """The same for ``state``."""
        return False

    def abort(self) -> None:
        """Make whatever waits for this connection fail soon; from any thread."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Archive:
    """The files of one entry on one server: opens connections to it."""
    transport = ""
    # Seconds that it costs to hang up in the middle of a file.
    hangup_seconds = 0.0
    # Whether listings tell sizes to the byte.
    tells_exact_sizes = True
    # Whether servers that share the load may give different listings.
    may_lack_names = False
    # Whether requests go one after the other, since the server does not take what saves round trips.
    sequential = False

    def __init__(self, base_url: str, entry: str, timeout: float = STALL_TIMEOUT):
        """``base_url`` is the address of the folder that holds the entries, ``timeout`` in seconds."""
        self.url = urlsplit("%s/%s" % (base_url.rstrip("/"), entry))
        self.entry = entry
        self.timeout = timeout
        self.failed_probes = 0        # how often it was learned that something is to be asked in another way
        self._spare: Optional[Tuple[Connection, float]] = None
        self._lock = threading.Lock()
        if not self.url.hostname:
            msg = 'The archive\'s address "%s" is no URL: check the configuration variables EMPIAR_FTP_URL and ' \
                  'EMPIAR_HTTPS_URL.' % without_password(base_url)
            raise UnreachableError(msg)

    def is_size(self, listed: int, told: int) -> bool:
        """Whether a file of ``told`` bytes may be listed with ``listed`` bytes."""
        return listed == told

    def other_size(self, path: str, listed: Optional[int], told: int) -> str:
        """What is wrong with the size that the server tells of a file, by the one that it lists; '' for nothing."""
        if listed is None or self.is_size(listed, told):
            return ""
        return "the %s says that %s has %d bytes, and lists it with %d" % (self.server, path, told, listed)

    @property
    def server(self) -> str:
        """Name of transport and host, without credentials: 'FTP server ftp.ebi.ac.uk'."""
        return "%s server %s" % (self.transport, self.url.hostname)

    def connect(self, timeout: Optional[float] = None, stop: StopToken = NEVER) -> Connection:
        """Raises TransientError, BusyError, Stopped, UnreachableError."""
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None:
            connection, since = spare
            if time.monotonic() - since < SPARE_SECONDS:
                connection.wait_for(timeout or self.timeout)
                return connection
            connection.close()
        return self.probing(lambda: self._begun(timeout or self.timeout, stop))

    def probing(self, ask: Callable[[], Answer]) -> Answer:
        """Call ``ask``; call it again where a failed probe has changed how requests are sent."""
        while True:
            failed_probes = self.failed_probes
            try:
                return ask()
            except TransientError:
                if self.failed_probes == failed_probes:
                    raise

    def probe_failed(self, at_once: bool = False) -> None:
        """A probe failed. It may have another cause, unless ``at_once``: then requests are sequential from now on."""
        if not self.sequential:
            self.failed_probes += 1
            self.sequential = at_once or self.failed_probes >= MOST_FAILED_PROBES

    def _begun(self, timeout: float, stop: StopToken) -> Connection:
        connection = self._new_connection(timeout)
        try:
            within(CONNECT_SECONDS, stop, connection.begin, connection.abort)
        except BaseException:
            connection.close()
            raise
        return connection

    def keep(self, connection: Connection) -> None:
        """Keep a connection that works, for the next one that is asked for soon."""
        self._spare = (connection, time.monotonic())

    def close(self) -> None:
        """Close a connection that was kept and not asked for."""
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None:
            spare[0].close()

    def _new_connection(self, timeout: float) -> Connection:
        raise NotImplementedError
