# SPDX-License-Identifier: GPL-3.0-or-later
"""A server far away: a forwarder that passes every byte on later, in each direction, and hang-ups as well."""
import asyncio
import contextlib
import re
import subprocess
import sys
import threading
from typing import Any, Callable, Iterator, List, Optional

PASSIVE = re.compile(rb"227 [^(]*\((\d+,\d+,\d+,\d+),(\d+),(\d+)\)")
BLOCK_BYTES = 64 << 10


class Far:
    """Forwards to ``port`` on loopback; ``round_trip`` in seconds. Data connections of FTP go the same way.

    ``opened``: connections so far; ``most``: so many at a time; ``hang``: called with the number of a connection, tells
    after how many bytes from the server it is to bring nothing more, None for never.
    """

    def __init__(self, round_trip: float, hang: Any = None):
        self._half = round_trip / 2
        self._hang = hang
        self.opened = self.most = 0
        self._open = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._servers: List[Any] = []

    @contextlib.contextmanager
    def forward(self, port: int, ftp: bool = False) -> Iterator[int]:
        """The port to use in place of the server's."""
        self._thread.start()
        try:
            yield asyncio.run_coroutine_threadsafe(self._listen(port, ftp), self._loop).result(10)
        finally:
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, port: int, control: bool) -> int:
        async def accepted(reader: Any, writer: Any) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._pass_on(reader, writer, port, control)

        server = await asyncio.start_server(accepted, "127.0.0.1", 0, limit=4 * BLOCK_BYTES)
        self._servers.append(server)
        return server.sockets[0].getsockname()[1]

    async def _pass_on(self, reader: Any, writer: Any, port: int, control: bool) -> None:
        self.opened += 1
        self._open += 1
        self.most = max(self.most, self._open)
        hang_after = self._hang(self.opened) if self._hang else None
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port, limit=4 * BLOCK_BYTES)
        except OSError:
            writer.transport.abort()
            self._open -= 1
            return
        there = asyncio.ensure_future(self._pump(reader, server_writer, False, None, self._hung_up))
        back = asyncio.ensure_future(self._pump(server_reader, writer, control, hang_after, lambda: None))
        try:
            await asyncio.wait([there, back])
        finally:
            for pump in (there, back):
                pump.cancel()

    def _hung_up(self) -> None:
        # To whoever hung up the connection is no more, though the server has not heard of it yet.
        self._open -= 1

    async def _pump(self, reader: Any, writer: Any, control: bool, hang_after: Optional[int],
                    ended: Callable[[], None]) -> None:
        """Each block, and the end, half a round trip later; ``ended`` is called when the reader's side hangs up."""
        queue: "asyncio.Queue[Any]" = asyncio.Queue(512)
        sender = asyncio.ensure_future(self._send_later(queue, writer))
        passed = 0
        try:
            while True:
                data = await reader.read(BLOCK_BYTES)
                if not data:
                    break
                if control:
                    data = await self._with_own_port(data)
                passed += len(data)
                if hang_after is not None and passed > hang_after:
                    await asyncio.sleep(3600)
                await queue.put((self._loop.time() + self._half, data))
        except OSError:
            pass
        ended()
        await queue.put((self._loop.time() + self._half, None))
        await sender

    async def _send_later(self, queue: "asyncio.Queue[Any]", writer: Any) -> None:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if data is None:
                # Whoever hangs up is gone for the other side: a half-open line would let it send on.
                if writer.transport.get_write_buffer_size() == 0 or writer.transport.is_closing():
                    writer.close()
                else:
                    with contextlib.suppress(OSError):
                        await writer.drain()
                    writer.close()
                return
            if writer.transport.is_closing():
                continue
            writer.write(data)
            with contextlib.suppress(OSError):
                await writer.drain()

    async def _with_own_port(self, data: bytes) -> bytes:
        """The server's word on its data port, with a port of ours."""
        found = PASSIVE.search(data)
        if not found:
            return data
        port = await self._listen(256 * int(found.group(2)) + int(found.group(3)), False)
        mine = b"127,0,0,1,%d,%d" % (port // 256, port % 256)
        return data.replace(b",".join(found.groups()), mine)


@contextlib.contextmanager
def forwarder(port: int, round_trip: float, ftp: bool = False, hang: str = "") -> Iterator["Forwarded"]:
    """A forwarder in a process of its own, so that its work costs nobody else time.

    ``hang``: 'half' lets each connection hang once it has brought 3 MB, the first of eight only; 'first' lets one
    connection in twenty hang before its first byte.
    """
    process = subprocess.Popen([sys.executable, "-m", "empiardownloader.tests.far", str(port), str(round_trip),
                                str(int(ftp)), hang], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Forwarded(process, port, int(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


class Forwarded:
    """A forwarder at work."""

    def __init__(self, process: "subprocess.Popen[str]", near: int, port: int):
        self._process, self._near, self.port = process, near, port

    def address(self, url: str) -> str:
        """The server's address as it is from afar."""
        return url.replace(":%d/" % self._near, ":%d/" % self.port)

    def counts(self) -> "tuple[int, int]":
        """-> connections opened so far, and the most at a time"""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        opened, most = self._process.stdout.readline().split()
        return int(opened), int(most)


HANGS = {"half": lambda number: 3000000 if number % 8 == 1 else None,
         "first": lambda number: 0 if number % 20 == 7 else None}


def main() -> None:
    port, round_trip, ftp, hang = sys.argv[1:]
    far = Far(float(round_trip), HANGS.get(hang))
    with far.forward(int(port), ftp == "1") as mine:
        sys.stdout.write("%d\n" % mine)
        sys.stdout.flush()
        for _ in sys.stdin:
            sys.stdout.write("%d %d\n" % (far.opened, far.most))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
