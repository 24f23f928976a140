# SPDX-License-Identifier: GPL-3.0-or-later
"""The FTP server of the small EMPIAR."""
import contextlib
import logging
import os
import threading
import time
from typing import Any, List, Optional

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import DTPHandler, FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer

from .faults import BUSY, DROP, ERROR, FILES_PATH, FORBIDDEN, GONE, PROHIBITED, SHORT, STALL, Fault, Play, reset


def start_ftp(archive: Play, stack: contextlib.ExitStack) -> int:
    """Serve the archive's tree until the stack is closed -> the port."""
    logging.getLogger("pyftpdlib").disabled = True
    authorizer = DummyAuthorizer()
    home = os.path.join(archive.root, ".ftp")
    # FTP clients see the archive's own addresses, so its root stands under them.
    os.makedirs(os.path.join(home, *FILES_PATH.strip("/").split("/")[:-1]), exist_ok=True)
    link = os.path.join(home, FILES_PATH.strip("/"))
    if not os.path.islink(link):
        os.symlink(os.path.abspath(archive.root), link)
    authorizer.add_anonymous(home)

    class Handler(_FtpHandler):
        demo = archive

    Handler.authorizer = authorizer
    loop = IOLoop()
    server = FTPServer(("127.0.0.1", 0), Handler, ioloop=loop)
    server.max_cons = server.max_cons_per_ip = 0
    stop = threading.Event()

    def serve() -> None:
        due = None
        while not stop.is_set():
            # What paces a session waits for its turn.
            due = loop.loop(timeout=0.1 if due is None else min(due, 0.1), blocking=False)
        server.close_all()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    stack.callback(thread.join)
    stack.callback(stop.set)
    return server.address[1]


class _FaultyFile:
    """A file whose reading goes wrong as a fault says."""

    def __init__(self, stream: Any, fault: Optional[Fault], handler: "_FtpHandler"):
        self._stream, self._fault, self._handler = stream, fault, handler
        self.name = stream.name
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        fault, position = self._fault, self._stream.tell()
        if fault is None:
            block = self._stream.read(size)
            self._handler.demo.add_sent(len(block))
            return block
        if position < fault.after:
            block = self._stream.read(min(size, fault.after - position))
            self._handler.demo.add_sent(len(block))
            return block
        if fault.kind == SHORT:
            return b""
        channel = self._handler.data_channel
        if fault.kind == STALL:
            channel.stalled = True
            return b"\0"    # never sent
        reset(channel.socket)
        self._handler.ioloop.call_later(0, self._handler.close)
        raise OSError(104, "reset by the demo")

    def seek(self, *args: int) -> int:
        return self._stream.seek(*args)

    def tell(self) -> int:
        return self._stream.tell()

    def fileno(self) -> int:
        return self._stream.fileno()

    def close(self) -> None:
        self.closed = True
        self._stream.close()


class _FaultyFS(AbstractedFS):

    def chdir(self, path: str) -> None:
        # pyftpdlib's own changes the folder of the whole process for a moment, under the feet of its other threads.
        os.listdir(path)
        self.cwd = self.fs2ftp(path)

    def validpath(self, path: str) -> bool:
        return True     # the tree is a symbolic link out of the server's root

    def open(self, filename: str, mode: str) -> _FaultyFile:
        handler = self.cmd_channel
        relative = os.path.relpath(os.path.realpath(filename), os.path.realpath(handler.demo.root))
        fault = handler.demo.fault_for(relative, (DROP, STALL, SHORT))
        return _FaultyFile(super().open(filename, mode), fault, handler)

    def listdir(self, path: str) -> List[str]:
        return [name for name in super().listdir(path) if name != ".ftp"]


class _Channel(DTPHandler):
    stalled = False
    _pause = None

    def send(self, data: bytes) -> int:
        """Keeps a session below the archive's rate; pyftpdlib's own lets a file's first second pass."""
        if self.stalled:
            self.modify_ioloop_events(self.ioloop.READ)
            return 0
        sent = super().send(data)
        session = self.cmd_channel
        if sent and session.demo.rate:
            now = time.monotonic()
            session.due = max(session.due, now) + sent / session.demo.rate
            if session.due > now + 0.01:
                self.del_channel()
                self._pause = self.ioloop.call_later(session.due - now, self.add_channel, events=self.ioloop.WRITE)
        return sent

    def close(self) -> None:
        if self._pause is not None and not self._pause.cancelled:
            self._pause.cancel()
        super().close()


class _FtpHandler(FTPHandler):
    demo: Play
    abstracted_fs = _FaultyFS
    dtp_handler = _Channel
    use_sendfile = False
    due = 0.0       # when the session may send again
    banner = "demo archive"
    timeout = 600

    def handle(self) -> None:
        if self.demo.ftp_mode == "reset":
            reset(self.socket)
            self.close()
        elif self.demo.ftp_mode != "silent":
            super().handle()

    def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
        self.demo.note(line)
        if cmd in ("MLSD", "MLST", "FEAT") and not self.demo.mlsd:
            self.respond("500 Unknown command.")
        elif cmd == "REST" and not self.demo.ranges:
            self.respond("502 REST is not implemented.")
        else:
            super().pre_process_command(line, cmd, arg)

    def ftp_SIZE(self, path: str) -> None:
        if not self._refused(path):
            super().ftp_SIZE(path)

    def ftp_RETR(self, file: str) -> Any:
        return None if self._refused(file) else super().ftp_RETR(file)

    def ftp_CWD(self, path: str) -> None:
        if not self._refused(path):
            super().ftp_CWD(path)

    def _refused(self, path: str) -> bool:
        relative = os.path.relpath(os.path.realpath(path), os.path.realpath(self.demo.root))
        answers = {GONE: "550 No such file.", BUSY: "421 Too many connections from your address.",
                   ERROR: "451 Local error.", FORBIDDEN: "550 Permission denied.",
                   PROHIBITED: "553 Prohibited file name."}
        fault = self.demo.fault_for(relative, answers)
        if fault is None:
            return False
        self.respond(answers[fault.kind])
        if fault.kind == BUSY:
            self.close_when_done()
        return True
