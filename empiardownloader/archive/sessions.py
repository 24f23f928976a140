# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP sessions that can be given up: their socket is known, so that another thread can shut it."""
import contextlib
import http.cookiejar
import socket
from typing import Any, List, Optional

import requests
import urllib3
from requests.adapters import HTTPAdapter

from .addresses import KNOWN

USER_AGENT = "scipion-em-empiardownloader"


class _TrackingAdapter(HTTPAdapter):
    """An adapter of one connection that writes its socket into ``sockets``."""

    def __init__(self, sockets: List[socket.socket]):
        self._sockets = sockets
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: object, **kwargs: object) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._track(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: object) -> urllib3.ProxyManager:
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._track(manager)
        return manager

    def _track(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = {
            scheme: type(pool.__name__, (pool,), {"ConnectionCls": _tracked(pool.ConnectionCls, self._sockets)})
            for scheme, pool in manager.pool_classes_by_scheme.items()}


def _tracked(connection: Any, sockets: List[socket.socket]) -> type:
    """urllib3's connections offer no other place to see a socket before it is encrypted, which may take for ever, too,
    and takes the descriptor away from it."""

    class Tracked(connection):

        def connect(self) -> None:
            try:
                super().connect()
            finally:
                for handle in sockets:
                    if handle is not self.sock:
                        handle.close()
            sockets[:] = [self.sock]

        def _new_conn(self) -> socket.socket:
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

    return Tracked


class Session(requests.Session):
    """A requests.Session with one connection, that ``abort`` ends from any thread; it keeps no cookies."""

    def __init__(self) -> None:
        super().__init__()
        self.headers["User-Agent"] = USER_AGENT
        self.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._sockets: List[socket.socket] = []
        adapter = _TrackingAdapter(self._sockets)
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)

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
