# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/1.1 with pipelining: requests are sent before the answers to those before them have come.

It is over http.client, and does what the archive's files need: GET and HEAD, proxies, TLS. Used by one thread at a
time; only ``abort`` may be called from another one. What else HTTP has (redirects above all) is left to requests.
"""
import base64
import contextlib
import enum
import http.client
import select
import socket
import ssl
from collections import deque
from io import BufferedReader
from typing import BinaryIO, Deque, Dict, Iterator, NamedTuple, Optional, Tuple, cast
from urllib.parse import SplitResult, unquote, urlsplit

import requests

from ..addresses import KNOWN
from ..sessions import USER_AGENT, shut
from .http_answers import Response

PORTS = {"http": 80, "https": 443}


class NotConnectedError(OSError):
    """No connection could be made, so nothing was asked."""


class ProxyError(NotConnectedError):
    """The proxy makes none."""


class Request(NamedTuple):
    method: str             # GET or HEAD
    path: str               # of the address, encoded
    byte_range: str = ""    # 'bytes=0-99', '' for the whole file


class Phase(enum.Enum):
    CLOSED = "there is no connection"
    IDLE = "nothing is asked"
    WAITING = "an answer is to come"
    READING = "the bytes of an answer are coming, perhaps more answers after them"


class Route(NamedTuple):
    """The way to a server, as requests would go it: by the environment's proxies and certificates."""
    url: SplitResult
    proxy: Optional[SplitResult]
    certificates: str               # a file or folder, '' without TLS
    headers: Dict[str, str]

    @classmethod
    def to(cls, url: SplitResult) -> "Optional[Route]":
        """None for one that is left to requests: through a SOCKS proxy, or one that is reached over TLS."""
        address = "%s://%s" % (url.scheme, url.netloc.rpartition("@")[2])
        with requests.Session() as session:
            settings = session.merge_environment_settings(address, {}, True, None, None)
        chosen = requests.utils.select_proxy(address, settings["proxies"])
        # As requests has it, a proxy without a scheme is spoken to in HTTP.
        proxy = urlsplit(chosen if "://" in chosen else "http://" + chosen) if chosen else None
        if url.scheme not in PORTS or (proxy is not None and (proxy.scheme != "http" or not proxy.hostname)):
            return None
        certificates = ""
        if url.scheme == "https":
            verify = settings["verify"]
            certificates = verify if isinstance(verify, str) else requests.certs.where()
        headers = {"Host": url.netloc.rpartition("@")[2], "User-Agent": USER_AGENT, "Accept": "*/*",
                   # Servers of HTTP/1.0 hang up without it.
                   "Connection": "keep-alive",
                   # Ranges are of the file's own bytes, so no compression on the way.
                   "Accept-Encoding": "identity"}
        login = _login(url) or requests.utils.get_netrc_auth(address)
        if login:
            headers["Authorization"] = _basic(*login)
        if proxy is not None and proxy.username and url.scheme == "http":
            headers["Proxy-Authorization"] = _basic(*_login(proxy))
        return cls(url, proxy, certificates, headers)

    @property
    def base(self) -> str:
        return "%s://%s" % (self.url.scheme, self.headers["Host"])

    def bytes_of(self, request: Request) -> bytes:
        target = request.path
        if self.proxy is not None and self.url.scheme == "http":
            # To a proxy the whole address is said.
            target = self.base + target
        headers = {**self.headers, "Range": request.byte_range} if request.byte_range else self.headers
        lines = ["%s %s HTTP/1.1" % (request.method, target), *("%s: %s" % item for item in headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def connect(self, seconds: float) -> socket.socket:
        """A connection to the server, or to the proxy on the way to it. Raises NotConnectedError."""
        to = self.url if self.proxy is None else self.proxy
        port = to.port or PORTS[to.scheme]
        try:
            sock = KNOWN.reach((to.hostname or "").rstrip("."),
                               lambda address: socket.create_connection((address, port), seconds))
        except OSError as error:
            msg = "no connection"
            raise (NotConnectedError if self.proxy is None else ProxyError)(msg) from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def tunnel(self, sock: socket.socket) -> None:
        """Have the proxy pass a connection on to a server that speaks TLS. Raises ProxyError."""
        if self.proxy is None or self.url.scheme == "http":
            return
        host = self.headers["Host"]
        to = host if self.url.port else "%s:%d" % (host, PORTS[self.url.scheme])
        lines = ["CONNECT %s HTTP/1.1" % to, "Host: " + to, "User-Agent: " + USER_AGENT]
        if self.proxy.username:
            lines.append("Proxy-Authorization: " + _basic(*_login(self.proxy)))
        try:
            sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            # Nothing follows the answer before the server is spoken to, so nothing is lost with its buffer.
            answer = http.client.HTTPResponse(sock, method="CONNECT")
            answer.begin()
        except (OSError, http.client.HTTPException) as error:
            msg = "the proxy does not answer"
            raise ProxyError(msg) from error
        if not 200 <= answer.status < 300:
            msg = "Tunnel connection failed: %d" % answer.status
            raise ProxyError(msg)

    def encrypted(self, sock: socket.socket) -> socket.socket:
        if self.url.scheme == "http":
            return sock
        try:
            context = _context(self.certificates)
        except FileNotFoundError as error:
            msg = "there is no TLS CA certificate bundle"
            raise OSError(msg) from error
        context.set_alpn_protocols(["http/1.1"])
        return context.wrap_socket(sock, server_hostname=(self.url.hostname or "").rstrip("."))


def _context(certificates: str) -> ssl.SSLContext:
    with contextlib.suppress(IsADirectoryError):
        context = ssl.create_default_context(cafile=certificates)
        # Institutes' own certificates often lack what newer versions of Python ask for beyond what TLS needs.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        return context
    return ssl.create_default_context(capath=certificates)


def _login(url: SplitResult) -> Tuple[str, ...]:
    """(name, password) of an address, () where it has none"""
    return (unquote(url.username), unquote(url.password or "")) if url.username else ()


def _basic(name: str, password: str) -> str:
    login = "%s:%s" % (name, password)
    try:
        told = login.encode("latin-1")      # as requests has it
    except UnicodeEncodeError:
        told = login.encode("utf-8")
    return "Basic " + base64.b64encode(told).decode("ascii")


class _Lasting:
    """What http.client takes for a socket: each answer reads on where the one before it has ended."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream

    def makefile(self, mode: str) -> "_Lasting":
        return self

    def readline(self, size: int = -1) -> bytes:
        return self._stream.readline(size)

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)

    def readinto(self, buffer: bytearray) -> int:
        return cast(int, self._stream.readinto(buffer))     # type: ignore[attr-defined]

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        """The connection closes the stream."""


class Answer(Response):
    """One that came over a connection of ours."""

    def __init__(self, client: "PipelinedClient", response: http.client.HTTPResponse, url: str):
        self._client, self._response = client, response
        self.status, self.headers, self.url = response.status, response.headers, url
        # Whether the server hangs up after it.
        self.will_close = response.will_close
        self._received = 0
        if response.chunked and response.status in (204, 304):
            # It says that a body comes in pieces, and has none.
            self.will_close = True
            response.close()
        elif response.length == 0:
            response.read()

    @property
    def is_whole(self) -> bool:
        return self._response.isclosed()

    @property
    def received(self) -> int:
        return self._received

    def read(self, size: int) -> memoryview:
        left, buffer = self._response.length, bytearray(size)
        count = self._response.readinto(buffer)
        self._received += count
        if not count and left:
            # http.client takes it for the end.
            self._client.close()
            nothing = b""
            raise http.client.IncompleteRead(nothing, left)
        return memoryview(buffer)[:count]

    def blocks(self, size: int) -> Iterator[bytes]:
        return iter(lambda: bytes(self.read(size)), b"")

    def close(self) -> None:
        """Where bytes are still to come the connection is of no further use; so it is after an error, to which some
        servers add a page that they did not promise."""
        if not self.is_whole or self.will_close or (self.status >= 400 and not self._client.asked):
            self._client.close()


class PipelinedClient:

    def __init__(self, route: Route):
        self._route = route
        self.connect_seconds = self.seconds = 0.0       # how long to wait for a connection, and for a byte
        self._sock: Optional[socket.socket] = None
        # The same connection, which ``abort`` may shut while another thread encrypts or reads.
        self._handle: Optional[socket.socket] = None
        self._stream: Optional[BinaryIO] = None
        self._asked: Deque[Request] = deque()       # their answers come in this order
        self._answer: Optional[Answer] = None       # the last one

    @property
    def phase(self) -> Phase:
        if self._sock is None:
            return Phase.CLOSED
        if self._answer is not None and not self._answer.is_whole:
            return Phase.READING
        return Phase.WAITING if self._asked else Phase.IDLE

    @property
    def asked(self) -> Tuple[Request, ...]:
        """The requests whose answers are to come, in their order."""
        return tuple(self._asked)

    @property
    def carries_on(self) -> bool:
        """Whether the next request may be sent now, as far as the server has said."""
        return self.phase in (Phase.READING, Phase.IDLE) and not (self._answer is not None and self._answer.will_close)

    def is_asked(self, *asked: Request) -> bool:
        return self.asked == asked

    def send(self, *asked: Request) -> None:
        """Send requests in one packet, on a new connection where there is none that works. Raises OSError."""
        if self.phase is Phase.IDLE and self._has_ended():
            self.close()
        if self.phase is Phase.CLOSED:
            self._connect()
        assert self._sock is not None
        # Known before they are sent: a connection with half a request is of no use for another one.
        self._asked.extend(asked)
        self._sock.sendall(b"".join(map(self._route.bytes_of, asked)))

    def answer(self, request: Request, seconds: Optional[float] = None) -> Answer:
        """The answer to ``request``, which has to be the next one; ``seconds``: how long to wait for it.

        Raises HTTPException, OSError; the connection is closed then.
        """
        try:
            if self.phase is not Phase.WAITING or self._asked[0] != request:
                msg = "the next answer is to another request"
                raise http.client.CannotSendRequest(msg)
            assert self._sock is not None
            assert self._stream is not None
            self._sock.settimeout(self.seconds if seconds is None else seconds)
            self._asked.popleft()
            self._answer = Answer(self, self._next_head(request.method, self._stream), self._route.base + request.path)
            self._sock.settimeout(self.seconds)
            return self._answer
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _next_head(method: str, stream: BinaryIO) -> http.client.HTTPResponse:
        while True:
            # HTTPResponse only calls makefile() of its socket.
            response = http.client.HTTPResponse(cast(socket.socket, _Lasting(stream)), method=method)
            response.begin()
            # http.client itself skips 100 alone; 103 (early hints) comes before an answer, too.
            if not 102 <= response.status < 200:
                return response

    def _connect(self) -> None:
        sock = self._route.connect(self.connect_seconds)
        try:
            # Proxies and TLS handshakes may hang, and TLS takes over the descriptor: this one can be shut then.
            self._handle = sock.dup()
            self._route.tunnel(sock)
            self._sock = self._route.encrypted(sock)
        except BaseException:
            sock.close()
            self.close()
            raise
        self._sock.settimeout(self.seconds)
        self._stream = self._sock.makefile("rb")

    def _has_ended(self) -> bool:
        """Whether the server has hung up on a connection that nothing was asked on, or has said more than it was asked:
        that would be taken for the next answer."""
        assert self._sock is not None
        assert self._stream is not None
        look = select.poll()
        look.register(self._sock, select.POLLIN)
        if look.poll(0):
            return True
        self._sock.settimeout(0)
        try:
            return bool(cast(BufferedReader, self._stream).peek(1))
        except OSError:
            return False        # TLS says so that there is nothing
        finally:
            self._sock.settimeout(self.seconds)

    def abort(self) -> None:
        """Make whatever waits for this connection fail at once; from any thread."""
        shut(self._handle)

    def close(self) -> None:
        stream, sock, handle = self._stream, self._sock, self._handle
        self._stream = self._sock = self._handle = self._answer = None
        self._asked.clear()
        for each in (stream, sock, handle):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.close()
