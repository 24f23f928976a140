# SPDX-License-Identifier: GPL-3.0-or-later
"""The events of a project as server-sent events, for browsers and programs of other languages on this machine.

Whoever asks has to have the token, and to ask under a name of this machine: other accounts and other machines get
nothing, nor do pages of other sites in the same browser. Nothing can be changed, started or read but the events.
Each reader has a walk of its own, which waits for it: one that is slow or gone costs nobody anything.
"""
import asyncio
import concurrent.futures
import contextlib
import errno
import hmac
import html
import json
import os
import secrets
import socket
import stat
import time
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Optional
from urllib.parse import urlsplit

import tornado.httpserver
import tornado.iostream
import tornado.netutil
import tornado.web

from .events import FollowError
from .walk import Walk

LOCAL = ("127.0.0.1", "localhost", "::1")
COOKIE = "empiar_token_%d"          # of a port: several of these may run on a machine
MOST_READERS, MOST_CONNECTIONS = 16, 64
# A request has to be told within so long; a line that is idle for longer is closed.
REQUEST_SECONDS = 10.0
# Between two signs of life, by which a line that is gone is noticed.
ALIVE_SECONDS = 15.0
FROZEN_SECONDS = 30.0               # after which a reader that takes nothing may give way to another one
RETRY_MS = 2000                     # after which a browser asks anew
MOST_HEADER_BYTES, MOST_ID_LETTERS = 64 << 10, 8 << 10     # a position may be long
FULL_MS = 15000                     # after which a browser asks anew that found no place
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>%s</title></head>
<body><h1>%s</h1><p>The events are at <a href="/events">/events</a> (server-sent events).</p></body></html>"""
_OVER = object()
# A walk from a position, '' for the beginning. Raises FollowError.
Begin = Callable[[str], "Walk[Any]"]


class Server:
    """``begin`` starts a walk, ``line`` writes an event as JSON. ``port``: of 127.0.0.1, 0 for a free one; ``path``: a
    socket file in place of it, which only this account may open. Raises OSError."""

    def __init__(self, title: str, begin: Begin, line: Callable[[Any], str], port: int = 0, path: str = "") -> None:
        self.title, self.begin, self.line = title, begin, line
        self.token = secrets.token_urlsafe(24)
        self.readers: "List[_Events]" = []      # the one that came first is the first
        # One that waits for an event, and one that begins or ends.
        self.executor = concurrent.futures.ThreadPoolExecutor(2 * MOST_READERS, "reader")
        self.walks: "set[Walk[Any]]" = set()
        self.is_over = False
        self._long: "OrderedDict[str, str]" = OrderedDict()     # short id -> position
        self._path = path
        self.sockets = [_own_socket(path)] if path else tornado.netutil.bind_sockets(port, "127.0.0.1")
        self.port = 0 if path else self.sockets[0].getsockname()[1]
        self._server = _Bounded(
            tornado.web.Application([("/", _Front), ("/events", _Events)], server=self, default_handler_class=_Nothing),
            idle_connection_timeout=REQUEST_SECONDS, max_header_size=MOST_HEADER_BYTES, max_body_size=0,
            body_timeout=REQUEST_SECONDS)

    @property
    def address(self) -> str:
        return "http://127.0.0.1:%d/?token=%s" % (self.port, self.token)

    @property
    def cookie(self) -> str:
        return COOKIE % self.port

    def id_of(self, position: str) -> str:
        """What a browser has to send to go on: the position, or, where that is too long for a header, a word for it
        that is good as long as this server lives."""
        if len(position) <= MOST_ID_LETTERS:
            return position
        word = "@" + secrets.token_urlsafe(12)
        self._long[word] = position
        while len(self._long) > MOST_READERS * 4:
            self._long.popitem(last=False)
        return word

    def position_of(self, word: str) -> str:
        """Raises FollowError."""
        if not word.startswith("@"):
            return word
        if word not in self._long:
            msg = "This position is of a server that has ended: follow from the beginning."
            raise FollowError(msg)
        return self._long[word]

    async def run(self, ending: asyncio.Event) -> None:
        """Serve until ``ending``."""
        self._server.add_sockets(self.sockets)
        await ending.wait()
        self.is_over = True
        self._server.stop()
        for walk in list(self.walks):
            walk.stop()
        await self._server.close_all_connections()
        self.executor.shutdown(wait=False)
        if self._path:
            with contextlib.suppress(OSError):
                os.remove(self._path)


def _own_socket(path: str) -> socket.socket:
    """A socket file; one that a server left behind is taken. Raises OSError where one listens, or for other files."""
    if os.path.lexists(path):
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as other:
            if not stat.S_ISSOCK(os.stat(path).st_mode) or other.connect_ex(path) == 0:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    return tornado.netutil.bind_unix_socket(path, mode=0o600)


class _Bounded(tornado.httpserver.HTTPServer):
    """Of so many connections; more are closed at once, so that those there are go on."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        self._count = 0

    def handle_stream(self, stream: tornado.iostream.IOStream, address: Any) -> None:
        if self._count >= MOST_CONNECTIONS:
            stream.close()
            return
        self._count += 1
        super().handle_stream(stream, address)

    def on_close(self, server_conn: object) -> None:
        self._count -= 1
        super().on_close(server_conn)


class _Handler(tornado.web.RequestHandler):
    """GET alone, from this machine, with the token."""
    SUPPORTED_METHODS = ("GET",)

    @property
    def server(self) -> Server:
        server: Server = self.settings["server"]
        return server

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
            self._refuse(403, "This is to be asked as 127.0.0.1 or localhost.")
        origin = self.request.headers.get("Origin")
        site = self.request.headers.get("Sec-Fetch-Site", "same-origin")
        if (origin is not None and origin != "http://" + host) or site not in ("same-origin", "none"):
            self._refuse(403, "Pages of other sites may not ask here.")
        if not self._has_token():
            self._refuse(401, "The address with the token is needed, as it was printed.")

    def _has_token(self) -> bool:
        offered = [self.get_query_argument("token", ""), self.get_cookie(self.server.cookie, "")]
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        offered.append(token if scheme == "Bearer" else "")
        return any(each and hmac.compare_digest(each.encode(), self.server.token.encode()) for each in offered)

    def _refuse(self, status: int, words: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        raise tornado.web.Finish(words + "\n")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Without a word of what went wrong inside."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("%s\n" % self._reason)


class _Nothing(_Handler):
    def get(self) -> None:
        self._refuse(404, "There is nothing here.")


class _Front(_Handler):
    """The token moves from the address, which is seen in lists of pages, into a cookie."""

    def get(self) -> None:
        if self.get_query_argument("token", ""):
            self.set_cookie(self.server.cookie, self.server.token, httponly=True, samesite="Strict", path="/")
            self.redirect("/", status=303)
            return
        title = html.escape(self.server.title)
        self.finish(PAGE % (title, title))


class _Events(_Handler):
    """An event a message; its id is the position behind it, so that a browser goes on by itself where it was."""
    _walk: "Optional[Walk[Any]]" = None
    _waits_since = float("inf")         # for its reader to take what was sent

    async def get(self) -> None:
        server = self.server
        if len(server.readers) >= MOST_READERS and not self._made_room():
            # A browser never comes back after an error, but after this.
            self.set_header("Content-Type", "text/event-stream; charset=utf-8")
            self.write("retry: %d\n\nevent: full\ndata: {}\n\n" % FULL_MS)
            return
        since = self.request.headers.get("Last-Event-ID") or self.get_query_argument("since", "")
        loop = asyncio.get_event_loop()
        server.readers.append(self)
        try:
            self.set_header("Content-Type", "text/event-stream; charset=utf-8")
            self.write("retry: %d\n\n" % RETRY_MS)
            try:
                # Beside: to begin a walk takes a while, on another machine seconds.
                self._walk = await loop.run_in_executor(server.executor, server.begin, server.position_of(since))
                server.walks.add(self._walk)
                await self._tell(self._walk, loop)
            except FollowError as error:
                await self._say("gone", {"error": str(error)})
        except tornado.iostream.StreamClosedError:
            pass            # the reader is gone
        finally:
            server.readers.remove(self)
            if self._walk is not None:
                server.walks.discard(self._walk)
                self._walk.stop()
                if not server.is_over:
                    loop.run_in_executor(server.executor, self._walk.close)

    def _made_room(self) -> bool:
        """One that has not taken anything for long gives way: it comes back by itself when it wakes."""
        frozen = min(self.server.readers, key=lambda reader: reader._waits_since)
        if time.monotonic() - frozen._waits_since < FROZEN_SECONDS:
            return False
        connection: Any = frozen.request.connection
        connection.stream.close()
        return True

    async def _send(self) -> None:
        self._waits_since = time.monotonic()
        try:
            await self.flush()
        finally:
            self._waits_since = float("inf")

    async def _tell(self, walk: "Walk[Any]", loop: asyncio.AbstractEventLoop) -> None:
        await self._send()
        coming = None
        while not self.server.is_over:
            coming = coming or loop.run_in_executor(self.server.executor, _next, walk)
            done, _ = await asyncio.wait([coming], timeout=ALIVE_SECONDS)
            if not done:
                self.write(": still here\n\n")
                await self._send()
                continue
            told, coming = coming.result(), None
            if self.server.is_over:
                return
            if told is _OVER:
                await self._say("over", {})
                return
            event, position = told
            self.write("id: %s\nevent: %s\ndata: %s\n\n" % (
                self.server.id_of(position), event.type.name, self.server.line(event.as_dict())))
            # Not before the reader has taken it: what waits, waits in the walk.
            await self._send()

    async def _say(self, kind: str, data: Dict[str, str]) -> None:
        self.write("event: %s\ndata: %s\n\n" % (kind, json.dumps(data)))
        await self._send()

    def on_connection_close(self) -> None:
        if self._walk is not None:
            self._walk.stop()


def _next(walk: "Walk[Any]") -> Any:
    event = next(walk, _OVER)
    return _OVER if event is _OVER else (event, walk.position)
