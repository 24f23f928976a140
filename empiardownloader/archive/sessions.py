# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP sessions that can be given up: their sockets are known, so that another thread can shut them."""
import contextlib
import http.client
import http.cookiejar
import re
import socket
from typing import Any, BinaryIO, Callable, Iterator, List, Optional, Tuple
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from .addresses import KNOWN

USER_AGENT = "scipion-em-empiardownloader"
LINE_BYTES = 1 << 16


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
        return _retargeted(request, b"HEAD", url, "") + request

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


def _retargeted(request: bytes, method: bytes, url: str, byte_range: str) -> bytes:
    """The bytes of a request, made one for another address and range ('' for none)."""
    first, _, rest = request.partition(b"\r\n")
    _, target, version = first.split(b" ")
    parts = urlsplit(url)
    path = parts.path.encode("ascii")
    if not target.startswith(b"/"):
        # To a proxy the whole address is said.
        path = b"%s://%s%s" % (parts.scheme.encode("ascii"), parts.netloc.encode("ascii"), path)
    headers = re.sub(rb"\r\nRange: [^\r]*", b"", b"\r\n" + rest, flags=re.IGNORECASE)
    if byte_range:
        headers = headers[:-4] + b"\r\nRange: " + byte_range.encode("ascii") + headers[-4:]
    return b"%s %s %s%s" % (method, path, version, headers)


def _in_order(request: bytes) -> List[bytes]:
    """The lines of a request, its headers in an order of their own."""
    first, *headers = request.split(b"\r\n")
    return [first, *sorted(headers)]


class _Kept:
    """What comes over a connection, for one answer after another: none of them takes what follows it along."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """The connection closes it."""


# Older versions look at a connection by themselves, and take one whose answer is there already for a dead one.
CAN_PIPELINE = hasattr(urllib3.connection.HTTPConnection, "is_connected")


class _TrackingAdapter(HTTPAdapter):
    """An adapter that writes the socket in use into ``sockets``, asks ``question`` along, and asks ahead."""

    def __init__(self, sockets: List[socket.socket], retries: Optional[Retry]):
        self._sockets = sockets
        self.question = SideQuestion()
        self.connection: Any = None                 # the one that made the last request
        self._stream: Optional[BinaryIO] = None     # what comes over it
        self._request = b""                         # its last GET
        self._ahead: Optional[Tuple[bytes, SideQuestion]] = None    # what has been asked already
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=retries or 0)

    def pipeline(self, url: str, byte_range: str, along: str) -> bool:
        """Ask for bytes, and about the file ``along``, while those of the request before are still to come; only about
        a file (HEAD) where ``byte_range`` is ''.

        The same request made afterwards is not sent again, but gets the answer; another one may not be made on the
        connection. -> whether it was asked.
        """
        if not CAN_PIPELINE or self.connection is None or self._stream is None:
            return False
        method = b"GET" if byte_range else b"HEAD"
        request, question = _retargeted(self._request, method, url, byte_range), SideQuestion(along)
        # Known before it is sent: a connection with such a request may not be used for anything else.
        self._ahead = request, question
        self.connection.sock.sendall(question.before(request))
        return True

    @property
    def is_pipelined(self) -> bool:
        return self._ahead is not None

    def sending(self, data: bytes) -> bytes:
        """What of a request is to be sent, and what before it. Raises HTTPException for one that would get the answer
        to what was asked ahead."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and _in_order(ahead[0]) != _in_order(data):
            msg = "another request was asked ahead"
            raise http.client.CannotSendRequest(msg)
        if data.startswith(b"GET "):
            self._request = data
        if ahead is not None:
            self.question = ahead[1]
            return b""
        return self.question.before(data)

    def begin(self, answer: http.client.HTTPResponse) -> None:
        """Before an answer is read."""
        if self._stream is None:
            self._stream = answer.fp
        elif answer.fp is not self._stream:
            answer.fp.close()
        answer.fp = _Kept(self._stream)
        self.question.hear(answer.fp)

    def begun(self, answer: http.client.HTTPResponse) -> None:
        if answer.will_close:
            # Its bytes come yet, but http.client gives up the connection now.
            answer.fp, self._stream = self._stream, None

    def disconnected(self) -> None:
        stream, self._stream, self._ahead = self._stream, None, None
        if stream is not None:
            stream.close()

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
            def _read_status(self) -> Tuple[str, int, str]:
                # http.client itself skips 100 alone; 103 (early hints) comes before an answer, too.
                version, status, words = super()._read_status()
                while 102 <= status < 200:
                    http.client.parse_headers(self.fp)
                    version, status, words = super()._read_status()
                return version, status, words

            def begin(self) -> None:
                adapter.begin(self)
                super().begin()
                adapter.begun(self)

        def tracked(pool_class: type) -> type:
            class Tracked(pool_class.ConnectionCls):
                response_class = Answer

                @property
                def is_connected(self) -> bool:
                    # An answer that has come already is no sign that the server has hung up.
                    return adapter.is_pipelined or super().is_connected

                def send(self, data: Any) -> None:
                    if isinstance(data, bytes):
                        data = adapter.sending(data)
                    if data:
                        super().send(data)

                def close(self) -> None:
                    adapter.disconnected()
                    super().close()

                def connect(self) -> None:
                    adapter.disconnected()
                    adapter.connection = self
                    try:
                        super().connect()
                    finally:
                        for handle in sockets:
                            if handle is not self.sock:
                                handle.close()
                    sockets[:] = [self.sock]

                def _new_conn(self) -> socket.socket:
                    # Known before it is encrypted, which may take for ever, too, and takes the descriptor away from it.
                    sock = KNOWN.reach(self.host, self._connected_to)
                    sockets[:] = [sock.dup()]
                    return sock

                def _connected_to(self, address: str) -> socket.socket:
                    # The name stays the host's: certificates are for it.
                    host, self.host = self.host, address
                    try:
                        return super()._new_conn()
                    finally:
                        self.host = host

            return type(pool_class.__name__, (pool_class,), {"ConnectionCls": Tracked})

        manager.pool_classes_by_scheme = {
            "http": tracked(urllib3.HTTPConnectionPool), "https": tracked(urllib3.HTTPSConnectionPool)}


class Session(requests.Session):
    """A requests.Session with one connection, that ``abort`` ends from any thread."""

    def __init__(self, retries: Optional[Retry] = None):
        super().__init__()
        self.headers["User-Agent"] = USER_AGENT
        # No cookies: with what a server sets, a request would not be the one any more that was asked ahead.
        self.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._sockets: List[socket.socket] = []
        self._adapter = _TrackingAdapter(self._sockets, retries)
        for scheme in ("http://", "https://"):
            self.mount(scheme, self._adapter)

    @contextlib.contextmanager
    def asking_along(self, url: str) -> Iterator[Callable[[], SideQuestion]]:
        """The GET that is made in the block also asks about ``url``, where it has not been asked ahead; gives what went
        along with it."""
        adapter = self._adapter
        adapter.question = SideQuestion(url)
        try:
            yield lambda: adapter.question
        finally:
            adapter.question = SideQuestion()

    def pipeline(self, url: str, byte_range: str, along: str) -> bool:
        """See the adapter's."""
        return self._adapter.pipeline(url, byte_range, along)

    def drop_pipelined(self) -> None:
        """What was asked ahead is not wanted any more, and with it the connection."""
        if self._adapter.is_pipelined:
            self._adapter.disconnected()
            self.abort()

    def abort(self) -> None:
        for sock in list(self._sockets):
            shut(sock)


def shut(sock: Optional[socket.socket]) -> None:
    """Make a read or write that waits for a socket fail at once."""
    if sock is None:
        return
    # The socket class's own shutdown: the one of an SSL socket would pull the TLS layer from under the reader.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
