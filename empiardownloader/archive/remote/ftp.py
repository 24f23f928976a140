# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive over FTP."""
import contextlib
import errno
import ftplib
import os
import re
import selectors
import socket
import time
from typing import Callable, Iterator, List, Optional, Sequence, Set, Tuple
from urllib.parse import unquote

from ..addresses import KNOWN
from ..errors import (
    BrokenFileError,
    BusyError,
    LineError,
    NoRangesError,
    NotFoundError,
    TransientError,
    UnreachableError,
    is_of_the_line,
    reason,
)
from ..sessions import shut
from . import (
    CONNECT_TIMEOUT,
    FTP,
    LISTING_BYTES,
    READ_BYTES,
    STALL_TIMEOUT,
    Archive,
    Connection,
    FileState,
    Listing,
    NoBytes,
    Stream,
)
from .listings import parse_list_line, parse_mlsd_line

# What an FTP server may take to say that an interrupted transfer is over; after that a new connection is quicker.
ABORT_TIMEOUT = 3
# An answer of several lines, a greeting say, is not longer than this.
ANSWER_CHARACTERS = 1 << 18
# Groups of commands that are sent together where the server takes that. A connection that is lost over one may have
# another cause; several in a row do not.
LOGIN, QUESTIONS, TRANSFER, RANGE = "login", "questions", "transfer", "range"
NO_REST = "502"
CONNECT_SLICE = 0.1     # seconds
# Of a range as short as this little more is sent than asked for.
SHORT_RANGE_BYTES = 64 << 10
TOO_MANY = re.compile(r"too many|maximum|max.*(clients|connections)|connection limit", re.IGNORECASE)
CUT_LISTING = re.compile(r"truncated", re.IGNORECASE)      # pure-ftpd, at the end of a listing past its limit


class FtpArchive(Archive):
    transport = FTP
    # What is in the sockets' buffers is sent in vain, and the next range needs a connection of its own.
    hangup_seconds = 0.1

    def __init__(self, base_url: str, entry: str, timeout: float = STALL_TIMEOUT):
        super().__init__(base_url, entry, timeout)
        # What one connection finds out for all: which groups of commands may be sent together, or that they have to be
        # sent one by one; whether there are listings for machines.
        self.proven: Set[str] = set()
        self.has_welcomed = False       # whether the login has worked
        self.has_mlsd: Optional[bool] = None

    def _new_connection(self, timeout: float) -> "FtpConnection":
        return FtpConnection(self, timeout)


class _RawNamesFtp(ftplib.FTP):
    """ftplib with names as bytes: what is no UTF-8 survives as surrogates instead of ending the session."""

    def connect(self, host: str = "", port: int = 0, timeout: float = -999, source_address: object = None) -> str:
        self.sock = sock = KNOWN.reach(host, lambda address: socket.create_connection((address, port), timeout))
        self.host, self.port, self.timeout, self.af = host, port, timeout, sock.family
        self.file = sock.makefile("r", encoding="utf-8", errors="surrogateescape", newline="\n")
        self.welcome = self.getresp()
        return self.welcome

    @property
    def control(self) -> socket.socket:
        """The control connection's. Raises EOFError where there is none any more."""
        if self.sock is None:
            raise EOFError
        return self.sock

    def putline(self, line: str) -> None:
        self.putlines([line])

    def putlines(self, lines: Sequence[str]) -> None:
        """Several commands in one packet."""
        # A second line in one of them would be a command of its own.
        if any(character in line for line in lines for character in "\r\n\0"):
            msg = "a line break in an FTP command"
            raise ValueError(msg)
        self.control.sendall("".join(line + "\r\n" for line in lines).encode("utf-8", "surrogateescape"))

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
            return ftplib.parse229(self.sendcmd("EPSV"), self.control.getpeername())


class FtpConnection(Connection):

    def __init__(self, archive: FtpArchive, timeout: float):
        self._archive = archive
        self._timeout = timeout
        self._root = unquote(archive.url.path) or "/"
        self._ftp = _RawNamesFtp()
        self._data: Optional[socket.socket] = None
        self._aborted = False

    def begin(self) -> None:
        url = self._archive.url
        with self._translated(login=True):
            self._ftp.connect(url.hostname or "", url.port or ftplib.FTP_PORT, min(self._timeout, CONNECT_TIMEOUT))
            if self._aborted:
                # Given up while the name was still being looked up.
                self._ftp.close()
                return
            self.wait_for(self._timeout)
            self._login(unquote(url.username or "anonymous"), unquote(url.password or ""))
        self._archive.has_welcomed = True

    def wait_for(self, seconds: float) -> None:
        self._timeout = self._ftp.timeout = seconds
        self._ftp.control.settimeout(seconds)

    def _login(self, user: str, password: str) -> None:
        # ftplib's login() sends an address of its own making for anonymous; EMPIAR asks for an empty password.
        commands = ["USER " + user, "PASS " + password, "TYPE I"]
        if self._archive.sequential:
            if self._ftp.sendcmd(commands[0]).startswith("3"):
                self._ftp.sendcmd(commands[1])
            self._ftp.voidcmd(commands[2])
            return
        with self._together(LOGIN, commands):
            asked = self._hear()
            # Where no password is wanted, one that comes all the same is refused.
            self._hear(needed=asked.startswith("3"))
            self._hear()

    # -------------------------- commands sent together -----------------------

    @contextlib.contextmanager
    def _together(self, group: str, commands: Sequence[str]) -> Iterator[None]:
        """Send commands in one go, which saves a round trip each; their answers are heard in the block, one by one.

        A server that does not take that ends the connection, or never answers; from then on it is asked one by one.
        """
        proven = group in self._archive.proven
        try:
            self._ftp.control.settimeout(self._timeout if proven else min(self._timeout, CONNECT_TIMEOUT))
            self._ftp.putlines(commands)
            yield
        except (EOFError, OSError) as error:
            self.usable = False
            if not proven and not self._aborted:
                self._archive.probe_failed(isinstance(error, socket.timeout))
            raise
        else:
            self._archive.proven.add(group)
        finally:
            if self._ftp.sock is not None:
                self._ftp.control.settimeout(self._timeout)

    def _hear(self, needed: bool = True) -> str:
        """The next answer. Raises what ftplib makes of it where it is no good one and ``needed``."""
        if needed:
            return self._ftp.getresp()
        answer = self._ftp.getmultiline()
        if answer.startswith("421"):
            raise ftplib.error_temp(answer)
        return answer

    def _hear_all(self, commands: Sequence[str]) -> List[str]:
        """The answer to each, whatever it is."""
        return [self._hear(needed=False) for _ in commands]

    # -------------------------- the contract -----------------------

    def list_folder(self, path: str) -> Listing:
        with self._translated():
            # Entering the folder tells a missing one from an empty one, and keeps names out of LIST,
            # whose argument many servers take for options or wildcards.
            self._ftp.cwd(self._absolute(path))
            if self._archive.has_mlsd is None:
                self._archive.has_mlsd = self._offers_mlsd()
            lines, cut = self._lines("MLSD" if self._archive.has_mlsd else "LIST")
        parse = parse_mlsd_line if self._archive.has_mlsd else parse_list_line
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
        questions = self._questions(path)
        with self._translated():
            if self._archive.sequential:
                answers = [self._ask(question) for question in questions]
            else:
                with self._together(QUESTIONS, questions):
                    answers = self._hear_all(questions)
            return self._state_of(path, answers)

    def _ask(self, question: str) -> str:
        self._ftp.putcmd(question)
        return self._hear(needed=False)

    def _questions(self, path: str) -> List[str]:
        return ["SIZE " + self._absolute(path), "MDTM " + self._absolute(path)]

    def _state_of(self, path: str, answers: Sequence[str]) -> FileState:
        """What the server answered to the questions."""
        size, version = answers
        if size[:1] in "45":
            raise (ftplib.error_temp if size[:1] == "4" else ftplib.error_perm)(size)
        if not size.startswith("213") or not size[3:].strip().isdigit():
            msg = "the %s does not tell the size of %s" % (self._archive.server, path)
            raise BrokenFileError(msg)
        if version[:1] == "4":
            raise ftplib.error_temp(version)
        return FileState(int(size[3:].strip()), version[4:].strip() if version.startswith("213") else "")

    @contextlib.contextmanager
    def open(self, path: str, start: int, end: Optional[int], also: str = "") -> Iterator[Tuple[FileState, Stream]]:
        # The server knows no end of a range and sends on until it hears that we have hung up. Where the range is short
        # the window is no wider; a long one needs whatever the system thinks best.
        window = end - start if end is not None and end - start <= SHORT_RANGE_BYTES else None
        answers: List[str] = []
        nothing: Optional[FileState] = None
        with self._translated():
            try:
                questions = self._questions(path) + (self._questions(also) if also else [])
                self._open_data("RETR " + self._absolute(path), start, questions, answers, window)
            except ftplib.Error as error:
                if str(error)[:3] != NO_REST and answers and answers[0].startswith(("213", "550")):
                    # The size tells more than the refusal does: there is no file, or it has no such bytes.
                    state = self._state_of(path, answers[:2])
                    nothing = state if start >= state.size else None
                if nothing is None and start and str(error)[:3] in ("500", "501", NO_REST, "504"):
                    msg = "the %s cannot continue a file" % self._archive.server
                    raise NoRangesError(msg) from error
                if nothing is None:
                    raise
        if nothing is not None:
            yield nothing, NoBytes()
            return
        stream = self._stream()
        try:
            with self._translated():
                state = self._state_of(path, answers[:2])
            if also:
                with contextlib.suppress(ftplib.Error, BrokenFileError):
                    stream.also = self._state_of(also, answers[2:])
            yield state, stream
        finally:
            self._finish_transfer(stream)

    def _stream(self) -> "_FtpStream":
        """What comes over the data connection that was opened."""
        assert self._data is not None
        return _FtpStream(self._data, self._translated)

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
        stream = self._stream()
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

    def _open_data(self, command: str, start: int = 0, questions: Sequence[str] = (),
                   answers: Optional[List[str]] = None, window: Optional[int] = None) -> None:
        """Begin a transfer. ``questions`` are asked before it, their ``answers`` are added to the list.

        ``window``: the bytes that may be on their way at a time, None for as many as the system likes.
        """
        answers = [] if answers is None else answers
        rest = ["REST %d" % start] if start else []
        try:
            if self._archive.sequential or self._ftp.af != socket.AF_INET:
                answers += [self._ask(question) for question in questions]
                self._connect_data(self._ftp.makepasv(), window)
                self._accept_transfer([self._ask(line) for line in [*rest, command]])
                return
            with self._together(RANGE if rest else TRANSFER, [*questions, "PASV", *rest, command]):
                answers += self._hear_all(questions)
                passive = self._hear(needed=False)
                if not passive.startswith("227"):
                    # Some servers know the newer command only; what this one answers next cannot be told.
                    self.usable = False
                    self._archive.probe_failed(at_once=True)
                    msg = "the %s said: %s" % (self._archive.server, " ".join(passive.split())[:200])
                    raise TransientError(msg)
                try:
                    self._connect_data((self._ftp.control.getpeername()[0], ftplib.parse227(passive)[1]), window)
                except OSError:
                    # ProFTPD closes the port when it refuses the transfer.
                    self._ftp.control.settimeout(ABORT_TIMEOUT)
                    with contextlib.suppress(OSError, EOFError):
                        self._accept_transfer(self._hear_all([*rest, command]))
                    raise
                self._accept_transfer(self._hear_all([*rest, command]))
        except BaseException:
            if rest:
                # Some servers keep the place for the next file, whose first bytes would be missing without a word.
                self.usable = False
            if self._data is not None:
                self._data.close()
                self._data = None
            raise

    def _connect_data(self, place: Tuple[str, int], window: Optional[int]) -> None:
        self._data = data = socket.socket(self._ftp.af)
        if window is not None:
            data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        # Little by little: nobody can shut a connection that is not there yet.
        data.setblocking(False)
        deadline = time.monotonic() + min(self._timeout, CONNECT_TIMEOUT)
        code = data.connect_ex(place)
        with selectors.DefaultSelector() as selector:
            selector.register(data, selectors.EVENT_WRITE)
            while code == errno.EINPROGRESS:
                if self._aborted or time.monotonic() > deadline:
                    raise socket.timeout
                if selector.select(CONNECT_SLICE):
                    code = data.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    break
        if code:
            raise OSError(code, os.strerror(code))
        data.settimeout(self._timeout)

    def _accept_transfer(self, answers: Sequence[str]) -> None:
        """The answers to REST, where it was said, and to the command. Raises where they refuse."""
        for answer in answers[:-1]:
            if not answer.startswith("3"):
                self.usable = False     # the file comes from its first byte now
                raise ftplib.error_perm(answer if answer[:1] == "5" else "%s %s" % (NO_REST, answer))
        if not answers[-1].startswith("1"):
            raise {"4": ftplib.error_temp, "5": ftplib.error_perm}.get(answers[-1][:1], ftplib.error_reply)(answers[-1])

    def _finish_transfer(self, stream: "_FtpStream") -> str:
        """Close the data connection and hear the server out, so that the next command meets a quiet line.

        -> its words, '' where they cannot be had.
        """
        if self._data is not None:
            self._data.close()
        self._data = None
        if stream.failed:
            self.usable = False
            return ""
        self._ftp.control.settimeout(self._timeout if stream.ended else ABORT_TIMEOUT)
        try:
            answer = self._ftp.getmultiline()
        except (OSError, EOFError, ftplib.Error) as error:
            self.usable = False
            if stream.ended:
                msg = "%s: %s" % (self._archive.server, reason(error))
                raise TransientError(msg) from error
            return ""
        self._ftp.control.settimeout(self._timeout)
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
            # A server that let one connection in and refuses the next has no room for more, in whatever words.
            if str(error).startswith("530") and (self._archive.has_welcomed or TOO_MANY.search(str(error))):
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
            raise (LineError if login or is_of_the_line(error) else TransientError)(msg) from error


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
