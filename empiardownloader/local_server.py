# SPDX-License-Identifier: GPL-3.0-or-later
"""A server for this account's own programs and browsers, on 127.0.0.1 or a socket file; needs tornado.

Whoever asks has to have the token, and to ask under a name of this machine: other accounts and other machines get
nothing, nor do pages of other sites in the same browser.
"""
import asyncio
import contextlib
import errno
import hashlib
import hmac
import html
import os
import platform
import re
import secrets
import socket
import time
from typing import Any, List, Optional, Sequence
from urllib.parse import urlsplit

import tornado.httpserver
import tornado.iostream
import tornado.netutil
import tornado.web

from .local_access import is_taken

LOCAL = ("127.0.0.1", "localhost", "::1")
COOKIE = "empiar_token_%s"          # of a server: a browser may watch several, behind one name and port after the other
# A request has to be told within so long; a line that is idle for longer is closed.
REQUEST_SECONDS = 10.0
# Between two signs of life, by which a line that is gone is noticed.
ALIVE_SECONDS = 15.0
FROZEN_SECONDS = 30.0               # after which a reader that takes nothing may give way to another one
RETRY_MS = 2000                     # after which a browser asks anew
FULL_MS = 15000                     # the same where it found no place
MOST_HEADER_BYTES = 64 << 10        # a position may be long
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")

MOVED = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">
<title>Live</title></head><body><a href="/">The page</a></body></html>"""

TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml; charset=utf-8"}


class LocalServer:
    """``port``: of 127.0.0.1, 0 for a free one; ``path``: a socket file in place of it, which only this account may
    open; ``token``: a new one unless given; ``origins``: of the user's own pages, which may ask with the token in the
    address ('http://127.0.0.1:9000'). Raises OSError."""

    most_readers, most_connections = 16, 64
    folder, front = "", ""          # of the files of its page, and the one that is its beginning

    def __init__(self, title: str, pages: Sequence[Any], port: int = 0, path: str = "", token: str = "",
                 origins: Sequence[str] = ()) -> None:
        """``pages``: [(address, Handler)]"""
        self.title, self._path, self.origins = title, path, tuple(origins)
        self.files = {name: _read(os.path.join(self.folder, name)) for name in os.listdir(self.folder)
                      if os.path.splitext(name)[1] in TYPES}
        others = "|".join(re.escape(name) for name in self.files if name != self.front)
        self.token = token or secrets.token_urlsafe(24)
        self.readers: "List[EventStream]" = []      # the one that came first is the first
        self.is_over = False
        self.sockets = [_own_socket(path)] if path else tornado.netutil.bind_sockets(port, "127.0.0.1")
        self.port = 0 if path else self.sockets[0].getsockname()[1]
        self._server = _Bounded(
            # Of what was asked nothing is written down: it has the token.
            tornado.web.Application([*pages, ("/", _Front), ("/(%s)" % others, _File), ("/favicon.ico", _Icon)],
                                    log_function=lambda handler: None, server=self, default_handler_class=Nothing),
            idle_connection_timeout=REQUEST_SECONDS, max_header_size=MOST_HEADER_BYTES, max_body_size=0,
            body_timeout=REQUEST_SECONDS)
        self._server.most = self.most_connections

    @property
    def address(self) -> str:
        return "http://127.0.0.1:%d/?token=%s" % (self.port, self.token)

    @property
    def cookie(self) -> str:
        return COOKIE % hashlib.sha256(self.token.encode()).hexdigest()[:12]

    def places(self, what: str) -> List[str]:
        """Lines for the user: where it is, from here and from another machine."""
        if self._path:
            return ["%s: the socket %s, with the header Authorization: Bearer %s" % (what, self._path, self.token)]
        return ["%s: %s" % (what, self.address),
                "From another machine first: ssh -N -L %d:127.0.0.1:%d %s" % (self.port, self.port, platform.node())]

    def note_asker(self) -> None:
        """Called for each request of somebody who may ask."""

    def begin(self) -> None:
        self._server.add_sockets(self.sockets)

    async def end(self) -> None:
        self.is_over = True
        self._server.stop()
        await self._server.close_all_connections()
        if self._path:
            with contextlib.suppress(OSError):
                os.remove(self._path)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def _own_socket(path: str) -> socket.socket:
    """A socket file; one that a server left behind is taken. Raises OSError where one listens, or for other files."""
    if is_taken(path):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    return tornado.netutil.bind_unix_socket(path, mode=0o600)


class _Bounded(tornado.httpserver.HTTPServer):
    """Of so many connections; more are closed at once, so that those there are go on."""
    most = 0

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        self._count = 0

    def handle_stream(self, stream: tornado.iostream.IOStream, address: Any) -> None:
        if self._count >= self.most:
            stream.close()
            return
        self._count += 1
        super().handle_stream(stream, address)

    def on_close(self, server_conn: object) -> None:
        self._count -= 1
        super().on_close(server_conn)


class Handler(tornado.web.RequestHandler):
    """GET alone, from this machine, with the token."""
    SUPPORTED_METHODS = ("GET",)

    @property
    def server(self) -> Any:
        return self.settings["server"]

    def set_default_headers(self) -> None:
        for name, value in (("Content-Security-Policy", POLICY), ("X-Content-Type-Options", "nosniff"),
                            ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store"),
                            ("Cross-Origin-Resource-Policy", "same-origin"), ("X-Frame-Options", "DENY")):
            self.set_header(name, value)
        self.clear_header("Server")

    def prepare(self) -> None:
        host = self.request.headers.get("Host", "")
        try:
            name = urlsplit("//" + host).hostname
        except ValueError:
            name = None
        # Under a name of somebody else's a page of his could read what is here (DNS rebinding).
        if self.server.port and name not in LOCAL:
            self.refuse(403, "This is to be asked as 127.0.0.1 or localhost.")
        origin = self.request.headers.get("Origin")
        site = self.request.headers.get("Sec-Fetch-Site", "same-origin")
        if origin is not None and origin in self.server.origins:
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Vary", "Origin")
            self.set_header("Cross-Origin-Resource-Policy", "cross-origin")
        elif (origin is not None and origin != "http://" + host) or not (
                site in ("same-origin", "none") or self._is_link()):
            self.refuse(403, "Pages of other sites may not ask here.")
        if not self._has_token():
            self.refuse(401, "The address with the token is needed, as it was printed.")
        self.server.note_asker()

    def _is_link(self) -> bool:
        """Whether a link with the token was followed, from a mail say."""
        return self.request.path == "/" and self.request.headers.get("Sec-Fetch-Mode") == "navigate" and \
            self._is_token(self.get_query_argument("token", ""))

    def _is_token(self, offered: str) -> bool:
        return bool(offered) and hmac.compare_digest(offered.encode(), self.server.token.encode())

    def _has_token(self) -> bool:
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        return any(map(self._is_token, (self.get_query_argument("token", ""), token if scheme == "Bearer" else "",
                                        self.get_cookie(self.server.cookie, "") or "")))

    def refuse(self, status: int, words: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        raise tornado.web.Finish(words + "\n")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Without a word of what went wrong inside."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("%s\n" % self._reason)


class Nothing(Handler):
    def get(self) -> None:
        self.refuse(404, "There is nothing here.")


class _Front(Handler):

    def get(self) -> None:
        if not self._takes_token():
            self.set_header("Content-Type", TYPES[".html"])
            self.finish(self.server.files[self.server.front].replace("TITLE", html.escape(self.server.title)))

    def _takes_token(self) -> bool:
        """The token moves from the address, which is seen in lists of pages, into a cookie -> whether it did."""
        if not self.get_query_argument("token", ""):
            return False
        self.set_cookie(self.server.cookie, self.server.token, httponly=True, samesite="Strict", path="/")
        # A redirection would come from the page with the link, and without the cookie.
        self.finish(MOVED)
        return True


class _File(Handler):

    def get(self, name: str) -> None:
        self.set_header("Content-Type", TYPES[os.path.splitext(name)[1]])
        self.finish(self.server.files[name])


class _Icon(Handler):
    """Browsers ask for it unasked; there is none of that name."""

    def get(self) -> None:
        self.set_status(204)


class EventStream(Handler):
    """Server-sent events: a subclass says what is told. A reader that is slow waits alone."""
    alive = ": still here\n\n"          # a sign of life
    _waits_since = float("inf")         # for its reader to take what was sent
    _closed: "Optional[asyncio.Future[None]]" = None        # done when the reader is gone

    async def tell(self) -> None:
        """Call ``say`` until ``self.server.is_over``."""
        raise NotImplementedError

    async def get(self) -> None:
        server = self.server
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        if len(server.readers) >= server.most_readers and not self._made_room():
            # A browser never comes back after an error, but after this.
            self.write("retry: %d\n\nevent: full\ndata: {}\n\n" % FULL_MS)
            return
        server.readers.append(self)
        try:
            self.write("retry: %d\n\n" % RETRY_MS)
            await self.tell()
        except tornado.iostream.StreamClosedError:
            pass            # the reader is gone
        finally:
            server.readers.remove(self)
            self.left()

    def left(self) -> None:
        """The reader is gone, or all is told."""

    def _made_room(self) -> bool:
        """One that has not taken anything for long gives way: it comes back by itself when it wakes."""
        frozen = min(self.server.readers, key=lambda reader: reader._waits_since)
        if time.monotonic() - frozen._waits_since < FROZEN_SECONDS:
            return False
        connection: Any = frozen.request.connection
        connection.stream.close()
        return True

    async def say(self, kind: str, data: str, word: str = "") -> None:
        """``word``: the id, which a browser sends when it comes back. Returns once the reader has taken it: what
        waits, waits elsewhere."""
        self.write("%sevent: %s\ndata: %s\n\n" % ("id: %s\n" % word if word else "", kind, data))
        await self.send()

    async def send(self) -> None:
        self._waits_since = time.monotonic()
        try:
            await self.flush()
        finally:
            self._waits_since = float("inf")

    async def wait_for(self, coming: "asyncio.Future[Any]") -> bool:
        """Wait for what is to be told, not for ever -> whether it has come; if not, a sign of life was sent."""
        if self._closed is None:
            self._closed = asyncio.get_event_loop().create_future()
        done, _ = await asyncio.wait([coming, self._closed], timeout=ALIVE_SECONDS,
                                     return_when=asyncio.FIRST_COMPLETED)
        if self._closed in done:
            raise tornado.iostream.StreamClosedError
        if not done:
            self.write(self.alive)
            await self.send()
        return bool(done)

    def on_connection_close(self) -> None:
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

