# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a host's addresses answers.

A host often has an IPv6 and an IPv4 address, and a broken IPv6 line is common: a connection waits for the first
address until his patience ends, at each connection. What answered in its place is asked first for a while.
"""
import socket
import threading
import time
from typing import Callable, Dict, Tuple

DEAD_SECONDS = 1.0      # a connection that took longer may have waited for a dead address
KEPT_SECONDS = 600.0


class Addresses:
    """What is known of hosts, of all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: Dict[str, Tuple[str, float]] = {}      # host -> an address, and until when it comes first

    def best(self, host: str) -> str:
        """What to connect to: the host itself, or that address of it which answered where the first one did not."""
        with self._lock:
            address, until = self._known.get(host, (host, 0.0))
            return address if time.monotonic() < until else host

    def answered(self, host: str, sock: socket.socket, seconds: float) -> None:
        """A connection to ``host`` itself has come about, after so many seconds."""
        address = sock.getpeername()[0] if seconds >= DEAD_SECONDS else host
        if address != host:
            with self._lock:
                self._known[host] = address, time.monotonic() + KEPT_SECONDS

    def reach(self, host: str, connect: Callable[[str], socket.socket]) -> socket.socket:
        """A connection to a host; ``connect`` makes one to it, or to an address of it. Raises what that raises."""
        best, began = self.best(host), time.monotonic()
        try:
            sock = connect(best)
        except Exception:
            self.failed(host)
            raise
        if best == host:
            self.answered(host, sock, time.monotonic() - began)
        return sock

    def failed(self, host: str) -> None:
        """Nothing known of a host is true any more: all of its addresses are tried again."""
        with self._lock:
            self._known.pop(host, None)


KNOWN = Addresses()
