# SPDX-License-Identifier: GPL-3.0-or-later
"""What the servers of the small EMPIAR share: its tree, what goes wrong with it, and what was asked of it."""
import contextlib
import fnmatch
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Any, Container, Dict, List, Optional, Set

FILES_PATH = "/empiar/world_availability"
API_PATH = "/empiar/api/entry"
EMDB_PATH = "/emdb/api/entry"
PICTURES_PATH = "/entryIcons"
EMDB_SEARCH_PATH, EMDB_REF_PATH, EBI_SEARCH_PATH = "/emdb/api/search", "/empiar/api/emdb_ref", "/ebisearch/empiar"

DROP, STALL, SHORT, GONE, BUSY, ERROR, FORBIDDEN, PROHIBITED = (
    "drop", "stall", "short", "gone", "busy", "error", "forbidden", "prohibited")
CIRCLE, OTHER_RANGE, OTHER_VERSION, PAGE, SHORT_FILE = "circle", "other range", "other version", "page", "short file"
KINDS = (DROP, STALL, SHORT, GONE, BUSY, ERROR, FORBIDDEN, PROHIBITED, CIRCLE, OTHER_RANGE, OTHER_VERSION, PAGE,
         SHORT_FILE)


@dataclass
class Fault:
    """What goes wrong with the files whose path below the archive's root matches ``pattern``.

    drop: the connection is reset after ``after`` bytes; stall: no byte more after ``after``; short: the answer ends
    there and counts as complete; gone, busy, error, forbidden, prohibited: refused with the transport's own code;
    circle: redirected to itself; other range: the file's first bytes come whatever range is asked for; other version:
    every answer has an entity tag and a time of its own; page: a page of maintenance comes with status 200; short file:
    the file has ``after`` bytes only (the last five over HTTP only). ``times``: how often, None
    for always.
    """
    kind: str
    pattern: str = "*"
    after: int = 0
    times: Optional[int] = None


class Play:
    """The state of the small EMPIAR, for its servers to look at and for tests to change."""

    def __init__(self, root: str, entries: Optional[Dict[str, Any]] = None, emdb: Optional[Dict[str, Any]] = None,
                 rate: int = 0):
        """``entries`` and ``emdb``: number -> the record, or bytes or an int (status) to answer instead;
        ``rate``: bytes a second for each connection, 0 for no limit.
        """
        self.root = root
        self.entries = entries or {}
        self.emdb = emdb or {}
        self.rate = rate
        self.emdb_rows: List[Dict[str, str]] = []       # of EMDB's search, each with all of its fields
        self.pictures: Dict[str, bytes] = {}            # of entries, by number: GIF files
        self.delay = 0.0            # seconds before each answer over HTTP
        self.short_records = False  # whether entries that are asked for together come without their image sets
        self.ranges = True          # Range requests and FTP's REST
        self.versions = True        # whether files have a time and an entity tag
        self.mlsd = True
        self.ftp_mode = ""          # 'reset' before the greeting, 'silent'
        self.requests: List[str] = []
        self.sent_bytes = 0
        self.answers = 0            # with a version of their own
        self.connections: Set[socket.socket] = set()
        self._faults: List[Fault] = []
        self._lock = threading.Lock()

    def add_fault(self, kind: str, pattern: str = "*", after: int = 0, times: Optional[int] = None) -> None:
        with self._lock:
            self._faults.append(Fault(kind, pattern, after, times))

    def clear_faults(self) -> None:
        with self._lock:
            self._faults.clear()

    def fault_for(self, path: str, kinds: Container[str] = KINDS) -> Optional[Fault]:
        """The first fault of one of the kinds that concerns a path; it is used up once."""
        with self._lock:
            for fault in self._faults:
                if fault.kind in kinds and fault.times != 0 and fnmatch.fnmatchcase(path.lstrip("/"), fault.pattern):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def note(self, request: str) -> None:
        with self._lock:
            self.requests.append(request)

    def count(self, beginning: str) -> int:
        """How many requests so far began with ``beginning``, 'LIST' say."""
        with self._lock:
            return sum(request.startswith(beginning) for request in self.requests)

    def add_sent(self, count: int) -> None:
        with self._lock:
            self.sent_bytes += count


def reset(connection: socket.socket) -> None:
    """Hang up with a RST, as a broken line does."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.close()
