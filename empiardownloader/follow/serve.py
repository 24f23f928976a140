# SPDX-License-Identifier: GPL-3.0-or-later
"""The events of a project as server-sent events, for browsers and programs of other languages on this machine.

Nothing can be changed, started or read but the events; who may ask: see local_server.py. Each reader has a walk of its
own, which waits for it: one that is slow or gone costs nobody anything.
"""
import asyncio
import concurrent.futures
import json
import os
import secrets
from collections import OrderedDict
from typing import Any, Callable, Optional, Sequence

from ..local_access import kept_token
from ..local_server import EventStream, LocalServer
from .events import FollowError
from .walk import Walk

MOST_ID_LETTERS = 8 << 10
_OVER = object()
# A walk from a position, '' for the beginning. Raises FollowError.
Begin = Callable[[str], "Walk[Any]"]


class Server(LocalServer):
    """``begin`` starts a walk, ``line`` writes an event as JSON; the rest as for LocalServer. Raises OSError."""

    folder, front = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page"), "events.html"

    def __init__(self, title: str, begin: Begin, line: Callable[[Any], str], port: int = 0, path: str = "",
                 origins: Sequence[str] = ()) -> None:
        super().__init__(title, [("/events", _Events)], port, path, kept_token(port), origins)
        self.begin_walk, self.line = begin, line
        # One that waits for an event, and one that begins or ends.
        self.executor = concurrent.futures.ThreadPoolExecutor(2 * self.most_readers, "reader")
        self.walks: "set[Walk[Any]]" = set()
        self._long: "OrderedDict[str, str]" = OrderedDict()     # short id -> position

    def id_of(self, position: str) -> str:
        """What a browser has to send to go on: the position, or, where that is too long for a header, a word for it
        that is good as long as this server lives."""
        if len(position) <= MOST_ID_LETTERS:
            return position
        word = "@" + secrets.token_urlsafe(12)
        self._long[word] = position
        while len(self._long) > self.most_readers * 4:
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
        self.begin()
        await ending.wait()
        self.is_over = True
        for walk in list(self.walks):
            walk.stop()
        await self.end()
        self.executor.shutdown(wait=False)


class _Events(EventStream):
    """An event a message; its id is the position behind it, so that a browser goes on by itself where it was."""
    _walk: "Optional[Walk[Any]]" = None

    async def tell(self) -> None:
        server: Server = self.server
        since = self.request.headers.get("Last-Event-ID") or self.get_query_argument("since", "")
        loop = asyncio.get_event_loop()
        try:
            # Beside: to begin a walk takes a while, on another machine seconds.
            self._walk = await loop.run_in_executor(server.executor, server.begin_walk, server.position_of(since))
            server.walks.add(self._walk)
            await self._tell(self._walk, loop)
        except FollowError as error:
            await self.say("gone", json.dumps({"error": str(error)}))

    async def _tell(self, walk: "Walk[Any]", loop: asyncio.AbstractEventLoop) -> None:
        await self.send()
        coming: "Optional[asyncio.Future[Any]]" = None
        while not self.server.is_over:
            coming = coming or loop.run_in_executor(self.server.executor, _next, walk)
            if not await self.wait_for(coming):
                continue
            told, coming = coming.result(), None
            if self.server.is_over:
                return
            if told is _OVER:
                await self.say("over", "{}")
                return
            event, position = told
            await self.say(event.type.name, self.server.line(event.as_dict()), self.server.id_of(position))

    def left(self) -> None:
        if self._walk is None:
            return
        self.server.walks.discard(self._walk)
        self._walk.stop()
        if not self.server.is_over:
            asyncio.get_event_loop().run_in_executor(self.server.executor, self._walk.close)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self._walk is not None:
            self._walk.stop()


def _next(walk: "Walk[Any]") -> Any:
    event = next(walk, _OVER)
    return _OVER if event is _OVER else (event, walk.position)
