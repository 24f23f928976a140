# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP sessions that can be given up: their sockets are known, so that another thread can shut them."""
import contextlib
import http.client
import re
import socket
import threading
import time
from typing import Any, BinaryIO, Callable, Iterator, List, Optional
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from .errors import StoppedError, TransientError

USER_AGENT = "scipion-em-empiardownloader"
# How long a request that was told to end may take to do so before it is left to itself; a name server that does not
# answer cannot be hurried.
PARTING_SECONDS = 1.0
LINE_BYTES = 1 << 16
NEVER = threading.Event()       # for whoever has nothing to stop a request with


class SideQuestion:
    """A HEAD about one file, sent in one packet with the GET of another: it costs no round trip of its own."""

    def __init__(self, url: str = ""):
        self._url = url
        self._sent = False
        self.status = 0             # of the answer, 0 as long as there is none
        self.headers = http.client.HTTPMessage()

    def before(self, request: bytes) -> bytes:
        """A request's bytes, with those of the question before them where it goes along."""
        if not self._url or not request.startswith(b"GET "):
            return request
        url, self._url, self._sent = self._url, "", True
        first, _, rest = request.partition(b"\r\n")
        _, target, version = first.split(b" ")
        parts = urlsplit(url)
        path = parts.path.encode("ascii")
        if not target.startswith(b"/"):
            # To a proxy the whole address is said.
            path = b"%s://%s%s" % (parts.scheme.encode("ascii"), parts.netloc.encode("ascii"), path)
        headers = re.sub(rb"\r\nRange: [^\r]*", b"", b"\r\n" + rest, flags=re.IGNORECASE)
        return b"HEAD %s %s%s%s" % (path, version, headers, request)

    def hear(self, stream: BinaryIO) -> None:
        """Read the answer, where there is one to come."""
        if not self._sent:
            return
        self._sent = False
        status = 100
        while 100 <= status < 200:
            line = stream.readline(LINE_BYTES)
            match = re.match(rb"HTTP/1\.[01] ([0-9]{3})\b", line)
            if match is None:
                raise http.client.BadStatusLine(repr(line)) if line else http.client.RemoteDisconnected("no answer")
            status, headers = int(match.group(1)), http.client.parse_headers(stream)
        self.status, self.headers = status, headers


class _TrackingAdapter(HTTPAdapter):
    """An adapter that writes the sockets in use into ``sockets``, and asks ``question`` along."""

    def __init__(self, sockets: List[socket.socket], retries: Optional[Retry]):
        self._sockets = sockets
        self.question = SideQuestion()
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=retries or 0)

    def init_poolmanager(self, *args: object, **kwargs: object) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._track(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: object) -> urllib3.ProxyManager:
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._track(manager)
        return manager

    def _track(self, manager: urllib3.PoolManager) -> None:
        sockets, adapter = self._sockets, self

        class Answer(http.client.HTTPResponse):
            def begin(self) -> None:
                adapter.question.hear(self.fp)
                super().begin()

        def tracked(pool_class: type) -> type:
            class Tracked(pool_class.ConnectionCls):
                response_class = Answer

                def send(self, data: Any) -> None:
                    super().send(adapter.question.before(data) if isinstance(data, bytes) else data)

                def connect(self) -> None:
                    try:
                        super().connect()
                    finally:
                        for handle in sockets:
                            if handle is not self.sock:
                                handle.close()
                    sockets[:] = [self.sock]

                def _new_conn(self) -> socket.socket:
                    # Known before it is encrypted, which may take for ever, too, and takes the descriptor away from it.
                    sock = super()._new_conn()
                    sockets[:] = [sock.dup()]
                    return sock

            return type(pool_class.__name__, (pool_class,), {"ConnectionCls": Tracked})

        manager.pool_classes_by_scheme = {
            "http": tracked(urllib3.HTTPConnectionPool), "https": tracked(urllib3.HTTPSConnectionPool)}


class Session(requests.Session):
    """A requests.Session with one connection, that ``abort`` ends from any thread."""

    def __init__(self, retries: Optional[Retry] = None):
        super().__init__()
        self.headers["User-Agent"] = USER_AGENT
        self._sockets: List[socket.socket] = []
        for scheme in ("http://", "https://"):
            self.mount(scheme, _TrackingAdapter(self._sockets, retries))

    @contextlib.contextmanager
    def asking_along(self, url: str) -> Iterator[SideQuestion]:
        """The GET that is made in the block also asks about ``url``."""
        adapter = self.get_adapter(url)
        adapter.question = SideQuestion(url)
        try:
            yield adapter.question
        finally:
            adapter.question = SideQuestion()

    def abort(self) -> None:
        for sock in list(self._sockets):
            shut(sock)


def shut(sock: Optional[socket.socket]) -> None:
    """Make whoever waits for a socket fail at once."""
    if sock is None:
        return
    # The socket class's own shutdown: the one of an SSL socket would pull the TLS layer from under the reader.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def within(seconds: float, stopped: threading.Event, function: Callable[[], Any],
           abort: Callable[[], None] = lambda: None) -> Any:
    """The function's result, unless ``stopped`` is set or it takes longer: then ``abort`` is called.

    A timeout of a socket is no bound: a server that sends a byte now and then never meets it.
    Raises StoppedError, TransientError and what the function raises.
    """
    outcome: List[Any] = []
    done = threading.Event()

    def run() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            outcome.append((None, error))
        finally:
            done.set()

    # The function runs beside, not its watcher: a look-up of a name cannot be interrupted, only be left behind.
    threading.Thread(target=run, daemon=True, name="request").start()
    deadline = time.monotonic() + seconds
    while not done.wait(0.1):
        if stopped.is_set() or time.monotonic() > deadline:
            abort()
            done.wait(PARTING_SECONDS)
            if stopped.is_set():
                msg = "stopped"
                raise StoppedError(msg)
            msg = "no whole answer within %d s" % seconds
            raise TransientError(msg)
    value, error = outcome[0]
    if error is not None:
        raise error
    return value
