# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive over FTP."""
import contextlib
import ftplib
import re
import socket
from typing import Callable, Iterator, List, Optional, Tuple
from urllib.parse import unquote

from ..errors import (
    BrokenFileError,
    BusyError,
    NoRangesError,
    NotFoundError,
    TransientError,
    UnreachableError,
    reason,
)
from ..sessions import shut
from . import CONNECT_TIMEOUT, FTP, LISTING_BYTES, READ_BYTES, Archive, Connection, FileState, Listing, Stream
from .listings import parse_list_line, parse_mlsd_line

# What an FTP server may take to say that an interrupted transfer is over; after that a new connection is quicker.
ABORT_TIMEOUT = 3
# An answer of several lines, a greeting say, is not longer than this.
ANSWER_CHARACTERS = 1 << 18
TOO_MANY = re.compile(r"too many|maximum|max.*(clients|connections)|connection limit", re.IGNORECASE)
CUT_LISTING = re.compile(r"truncated", re.IGNORECASE)      # pure-ftpd, at the end of a listing past its limit


class FtpArchive(Archive):
    transport = FTP

    def _new_connection(self, timeout: float) -> "FtpConnection":
        return FtpConnection(self, timeout)


class _RawNamesFtp(ftplib.FTP):
    """ftplib with names as bytes: what is no UTF-8 survives as surrogates instead of ending the session."""

    def connect(self, host: str = "", port: int = 0, timeout: float = -999, source_address: object = None) -> str:
        self.sock = socket.create_connection((host, port), timeout)
        self.host, self.port, self.timeout, self.af = host, port, timeout, self.sock.family
        self.file = self.sock.makefile("r", encoding="utf-8", errors="surrogateescape", newline="\n")
        self.welcome = self.getresp()
        return self.welcome

    def putline(self, line: str) -> None:
        # A second line would be a second command.
        if any(character in line for character in "\r\n\0"):
            msg = "a line break in an FTP command"
            raise ValueError(msg)
        self.sock.sendall((line + "\r\n").encode("utf-8", "surrogateescape"))

    def getmultiline(self) -> str:
        """ftplib's own would read an endless answer for ever."""
        line = answer = self.getline()
        code = line[:3]
        while answer[3:4] == "-" and not (line[:3] == code and line[3:4] != "-"):
            line = self.getline()
            answer += "\n" + line
            if len(answer) > ANSWER_CHARACTERS:
                msg = "endless answer"
                raise ftplib.Error(msg)
        return answer

    def makepasv(self) -> Tuple[str, int]:
        try:
            return super().makepasv()
        except ftplib.error_perm:
            if self.af != socket.AF_INET:
                raise
            # Some servers know the newer command only.
            return ftplib.parse229(self.sendcmd("EPSV"), self.sock.getpeername())


class FtpConnection(Connection):

    def __init__(self, archive: FtpArchive, timeout: float):
        self._archive = archive
        self._timeout = timeout
        self._root = unquote(archive.url.path) or "/"
        self._ftp = _RawNamesFtp()
        self._data: Optional[socket.socket] = None
        self._has_mlsd: Optional[bool] = None
        self._aborted = False

    def begin(self) -> None:
        url = self._archive.url
        with self._translated(login=True):
            self._ftp.connect(url.hostname, url.port or ftplib.FTP_PORT, min(self._timeout, CONNECT_TIMEOUT))
            if self._aborted:
                # Given up while the name was still being looked up.
                self._ftp.close()
                return
            self._ftp.sock.settimeout(self._timeout)
            self._ftp.timeout = self._timeout
            self._login(unquote(url.username or "anonymous"), unquote(url.password or ""))
            self._ftp.voidcmd("TYPE I")

    def _login(self, user: str, password: str) -> None:
        # ftplib's login() sends an address of its own making for anonymous; EMPIAR asks for an empty password.
        answer = self._ftp.sendcmd("USER " + user)
        if answer.startswith("3"):
            self._ftp.sendcmd("PASS " + password)

    def list_folder(self, path: str) -> Listing:
        with self._translated():
            # Entering the folder tells a missing one from an empty one, and keeps names out of LIST,
            # whose argument many servers take for options or wildcards.
            self._ftp.cwd(self._absolute(path))
            if self._has_mlsd is None:
                self._has_mlsd = self._offers_mlsd()
            lines, cut = self._lines("MLSD" if self._has_mlsd else "LIST")
        parse = parse_mlsd_line if self._has_mlsd else parse_list_line
        folders, files = [], []
        for line in lines:
            parsed = parse(line)
            if parsed is None:
                continue
            kind, name, size = parsed
            if kind == "link":
                kind, size = self._resolve("%s/%s" % (path, name))
            if kind == "folder":
                folders.append(name)
            elif kind == "file":
                files.append((name, size))
        return Listing(tuple(sorted(folders)), tuple(sorted(files)), cut)

    def state(self, path: str) -> FileState:
        with self._translated():
            size = self._ftp.size(self._absolute(path))
            try:
                version = self._ftp.sendcmd("MDTM " + self._absolute(path))[4:].strip()
            except ftplib.error_perm:
                version = ""
        if size is None:
            msg = "the %s does not tell the size of %s" % (self._archive.server, path)
            raise BrokenFileError(msg)
        return FileState(size, version)

    @contextlib.contextmanager
    def open(self, path: str, start: int, end: int, state: Optional[FileState]) -> Iterator[Stream]:
        with self._translated():
            self._start_transfer(path, start)
        stream = _FtpStream(self._data, self._translated)
        try:
            yield stream
        finally:
            self._finish_transfer(stream)

    def abort(self) -> None:
        self._aborted = True
        for sock in (self._data, self._ftp.sock):
            shut(sock)

    def close(self) -> None:
        if self._data is not None:
            self._data.close()
        self._ftp.close()

    def _absolute(self, path: str) -> str:
        return "%s/%s" % (self._root, path) if path else self._root

    def _offers_mlsd(self) -> bool:
        try:
            # RFC 3659: a server that has MLSD announces MLST.
            return "MLST" in self._ftp.sendcmd("FEAT").upper()
        except ftplib.error_perm:
            return False

    def _lines(self, command: str) -> Tuple[List[str], bool]:
        """The lines of a listing, and whether the server says that it left some out."""
        self._open_data(command)
        blocks, left = [], LISTING_BYTES
        stream = _FtpStream(self._data, self._translated)
        answer = ""
        try:
            for block in iter(lambda: bytes(stream.read(READ_BYTES)), b""):
                blocks.append(block)
                left -= len(block)
                if left < 0:
                    msg = "a listing on the %s is endless" % self._archive.server
                    raise BrokenFileError(msg)
        finally:
            answer = self._finish_transfer(stream)
        # Not splitlines(): a name may hold what Unicode counts as a line's end.
        lines = b"".join(blocks).decode("utf-8", "surrogateescape").split("\n")
        return [line[:-1] if line.endswith("\r") else line for line in lines], bool(CUT_LISTING.search(answer))

    def _resolve(self, path: str) -> Tuple[str, Optional[int]]:
        """A symbolic link -> ('file', bytes), ('folder', None) or ('nothing', None)"""
        try:
            with self._translated():
                return "file", self._ftp.size(self._absolute(path))
        except (NotFoundError, BrokenFileError):
            pass
        try:
            with self._translated():
                self._ftp.cwd(self._absolute(path))
        except (NotFoundError, BrokenFileError):
            return "nothing", None
        return "folder", None

    def _start_transfer(self, path: str, start: int) -> None:
        try:
            self._open_data("RETR " + self._absolute(path), start)
        except ftplib.error_perm as error:
            if start and str(error)[:3] in ("500", "501", "502", "504"):
                msg = "the %s cannot continue a file" % self._archive.server
                raise NoRangesError(msg) from error
            raise

    def _open_data(self, command: str, start: int = 0) -> None:
        host, port = self._ftp.makepasv()
        data = socket.create_connection((host, port), min(self._timeout, CONNECT_TIMEOUT))
        try:
            data.settimeout(self._timeout)
            if start:
                answer = self._ftp.sendcmd("REST %d" % start)
                if not answer.startswith("3"):
                    raise ftplib.error_perm(502, answer)
            answer = self._ftp.sendcmd(command)
            if not answer.startswith("1"):
                raise ftplib.error_reply(answer)
        except BaseException:
            data.close()
            raise
        self._data = data

    def _finish_transfer(self, stream: "_FtpStream") -> str:
        """Close the data connection and hear the server out, so that the next command meets a quiet line.

        -> its words, '' where they cannot be had.
        """
        self._data.close()
        self._data = None
        if stream.failed:
            self.usable = False
            return ""
        self._ftp.sock.settimeout(self._timeout if stream.ended else ABORT_TIMEOUT)
        try:
            answer = self._ftp.getmultiline()
        except (OSError, EOFError, ftplib.Error) as error:
            self.usable = False
            if stream.ended:
                msg = "%s: %s" % (self._archive.server, reason(error))
                raise TransientError(msg) from error
            return ""
        self._ftp.sock.settimeout(self._timeout)
        # Where we hung up, 426 or 451 is the right answer. Where the server did, they tell that it broke off.
        if stream.ended and answer[:1] in "45":
            msg = "the %s said: %s" % (self._archive.server, " ".join(answer.split())[:200])
            raise TransientError(msg)
        return answer

    @contextlib.contextmanager
    def _translated(self, login: bool = False) -> Iterator[None]:
        server = self._archive.server
        try:
            yield
        except ftplib.error_temp as error:
            busy = str(error).startswith("421") and (login or TOO_MANY.search(str(error)))
            # 421 is also how a server ends a connection that was idle for long.
            self.usable = self.usable and not str(error).startswith("421")
            msg = "the %s said: %s" % (server, _one_line(error))
            raise (BusyError if busy else TransientError)(msg) from error
        except ftplib.error_perm as error:
            msg = "the %s said: %s" % (server, _one_line(error))
            if str(error).startswith("530") and TOO_MANY.search(str(error)):
                raise BusyError(msg) from error
            if login or str(error).startswith("530"):
                msg = "The %s refused the login (%s): check EMPIAR_FTP_URL, or choose HTTPS as transport." % (
                    server, _one_line(error))
                raise UnreachableError(msg) from error
            # What a server does not allow or does not know now, it will not the next time either.
            raise (NotFoundError if str(error).startswith("550") else BrokenFileError)(msg) from error
        except ValueError as error:
            msg = "the %s cannot be asked for a name like this" % server
            raise BrokenFileError(msg) from error
        except (ftplib.Error, EOFError, OSError) as error:
            msg = "%s: %s" % (server, reason(error))
            raise TransientError(msg) from error


class _FtpStream(Stream):

    def __init__(self, data: socket.socket, translated: Callable[[], "contextlib.AbstractContextManager[None]"]):
        self._data = data
        self._translated = translated
        self._buffer = memoryview(bytearray(READ_BYTES))
        self.ended = False
        self._fault: Optional[OSError] = None

    @property
    def failed(self) -> bool:
        return self._fault is not None

    def read(self, size: int) -> memoryview:
        filled, size = 0, min(size, READ_BYTES)
        with self._translated():
            if self._fault is not None:
                # It came after some bytes and is told now: to wait for it once more would double a timeout.
                raise self._fault
            while filled < size and not self.ended:
                try:
                    count = self._data.recv_into(self._buffer[filled:size])
                except OSError as error:
                    # What came before the fault is kept; the next read tells of the fault.
                    self._fault = error
                    if filled:
                        break
                    raise
                self.ended = not count
                filled += count
        return self._buffer[:filled]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
