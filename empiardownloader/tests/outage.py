# SPDX-License-Identifier: GPL-3.0-or-later
"""A line to a server that can be cut and mended: a forwarder whose connections are reset and whose port refuses."""
import contextlib
import re
import socket
import threading

PASSIVE = re.compile(rb"227 [^(]*\((\d+,\d+,\d+,\d+),(\d+),(\d+)\)")
BLOCK_BYTES = 64 << 10


class Line:
    """Forwards a port of loopback, and FTP's data ports, until ``cut`` is called, and again after ``mend``."""

    def __init__(self, port, ftp=False, silent=False):
        """``silent``: a cut line answers nothing, instead of refusing and resetting."""
        self._target, self._ftp, self._silent = port, ftp, silent
        self._lock = threading.Lock()
        self._up = True
        self._sockets = set()
        self._over = threading.Event()
        self.port = self._listen(port, ftp)

    def address(self, url):
        """The server's address as it is on this line."""
        return url.replace(":%d/" % self._target, ":%d/" % self.port)

    def cut(self):
        with self._lock:
            self._up = False
            sockets = [] if self._silent else list(self._sockets)
        for connection in sockets:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def mend(self):
        with self._lock:
            self._up = True

    def close(self):
        self._over.set()
        self._silent = False
        self.cut()

    def _listen(self, target, control):
        server = socket.create_server(("127.0.0.1", 0), backlog=64)
        server.settimeout(0.2)
        threading.Thread(target=self._accept, args=(server, target, control), daemon=True).start()
        return server.getsockname()[1]

    def _accept(self, server, target, control):
        with server:
            while not self._over.is_set():
                try:
                    near, _ = server.accept()
                except (socket.timeout, OSError):
                    continue
                if not self._up:
                    if not self._silent:
                        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                        near.close()
                    else:
                        self._sockets.add(near)
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", target), 5)
                    far.settimeout(None)
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._sockets |= {near, far}
                for one, other, changes in ((near, far, False), (far, near, control and self._ftp)):
                    threading.Thread(target=self._pump, args=(one, other, changes), daemon=True).start()

    def _pump(self, one, other, changes):
        with contextlib.suppress(OSError):
            while True:
                data = one.recv(BLOCK_BYTES)
                while not self._up and self._silent and not self._over.wait(0.1):
                    pass
                if not data:
                    break
                found = PASSIVE.search(data) if changes else None
                if found:
                    mine = self._listen(256 * int(found.group(2)) + int(found.group(3)), False)
                    data = data.replace(b",".join(found.groups()), b"127,0,0,1,%d,%d" % divmod(mine, 256))
                other.sendall(data)
        for connection in (one, other):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
            with self._lock:
                self._sockets.discard(connection)


@contextlib.contextmanager
def cuttable(port, ftp=False, silent=False):
    line = Line(port, ftp, silent)
    try:
        yield line
    finally:
        line.close()
