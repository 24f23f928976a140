# SPDX-License-Identifier: GPL-3.0-or-later
"""One contract for a connection to the archive's files, two transports: FTP and HTTPS.

A ``Connection`` is used by one thread at a time; only ``abort`` may be called from another one.
Paths are relative to the entry's folder, parts joined by '/'.
"""
import contextlib
import ftplib
import html.parser
import logging
import re
import socket
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Tuple
from urllib.parse import quote, unquote, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from .entry import USER_AGENT
from .errors import (
    ArchiveError,
    BrokenFileError,
    BusyError,
    ChangedFileError,
    NoRangesError,
    NotFoundError,
    TransientError,
    UnreachableError,
    reason,
)

logger = logging.getLogger(__name__)

# Seconds to wait for a connection, and for FTP to show that it works at all: institutes that block
# FTP often drop its packets silently, and nobody wants to wait long for that.
CONNECT_TIMEOUT = 6
# Seconds without a byte after which a connection counts as dead.
STALL_TIMEOUT = 30
# What an FTP server may take to say that an interrupted transfer is over; after that a new connection is quicker.
ABORT_TIMEOUT = 3
# Bytes asked from a socket at once: enough to keep system calls rare at full speed.
READ_BYTES = 1 << 20
TOO_MANY = re.compile(r"too many|maximum number|max.*(clients|connections)|connection limit", re.IGNORECASE)

AUTOMATIC, FTP, HTTPS = "automatic", "FTP", "HTTPS"


@dataclass(frozen=True)
class Listing:
    """A remote folder: names of its folders, and (name, bytes) of its files; bytes are exact only over FTP."""
    folders: Tuple[str, ...]
    files: Tuple[Tuple[str, Optional[int]], ...]


@dataclass(frozen=True)
class FileState:
    """What tells one version of a remote file from another."""
    size: int       # bytes
    version: str    # modification time or entity tag, '' where the server gives none


class Stream:
    """The bytes of a file from some offset on, as they come."""

    def read(self, size: int) -> memoryview:
        """Up to ``size`` bytes; empty when the server says that there are no more. Raises TransientError."""
        raise NotImplementedError


class Connection:
    """One connection to the server that holds an entry."""
    # False once the connection cannot carry another request.
    usable = True

    def list_folder(self, path: str) -> Listing:
        """Raises NotFoundError, TransientError."""
        raise NotImplementedError

    def state(self, path: str) -> FileState:
        """Raises NotFoundError, TransientError."""
        raise NotImplementedError

    def open(self, path: str, start: int, end: int, state: FileState) -> "contextlib.AbstractContextManager[Stream]":
        """The bytes [start, end) of the file in the version ``state``.

        Raises NoRangesError where the server only sends whole files, and ChangedFileError when the file is
        not the version any more.
        """
        raise NotImplementedError

    def abort(self) -> None:
        """Make whatever waits for this connection fail soon; from any thread."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Archive:
    """The files of one entry on one server: opens connections to it."""
    transport = ""

    def __init__(self, base_url: str, entry: str, timeout: float = STALL_TIMEOUT):
        """``base_url`` is the address of the folder that holds the entries, ``timeout`` in seconds."""
        self.url = urlsplit("%s/%s" % (base_url.rstrip("/"), entry))
        self.entry = entry
        self.timeout = timeout
        if not self.url.hostname:
            msg = 'The archive\'s address "%s" is no URL: check the configuration variables EMPIAR_FTP_URL and ' \
                  'EMPIAR_HTTPS_URL.' % base_url
            raise UnreachableError(msg)

    @property
    def server(self) -> str:
        """Name of transport and host, without credentials: 'FTP server ftp.ebi.ac.uk'."""
        return "%s server %s" % (self.transport, self.url.hostname)

    def connect(self, timeout: Optional[float] = None) -> Connection:
        """Raises TransientError, BusyError, UnreachableError."""
        raise NotImplementedError


# -------------------------- FTP -----------------------

class FtpArchive(Archive):
    transport = FTP

    def connect(self, timeout: Optional[float] = None) -> "FtpConnection":
        return FtpConnection(self, timeout or self.timeout)


class _RawNamesFtp(ftplib.FTP):
    """ftplib with names as bytes: what is no UTF-8 survives as surrogates instead of ending the session."""

    def connect(self, host: str = "", port: int = 0, timeout: float = -999, source_address: object = None) -> str:
        self.sock = socket.create_connection((host, port), timeout)
        self.host, self.port, self.timeout, self.af = host, port, timeout, self.sock.family
        self.file = self.sock.makefile("r", encoding="utf-8", errors="surrogateescape", newline="\r\n")
        self.welcome = self.getresp()
        return self.welcome

    def putline(self, line: str) -> None:
        self.sock.sendall((line + "\r\n").encode("utf-8", "surrogateescape"))


class FtpConnection(Connection):

    def __init__(self, archive: FtpArchive, timeout: float):
        self._archive = archive
        self._timeout = timeout
        self._root = unquote(archive.url.path) or "/"
        self._ftp = _RawNamesFtp()
        self._data: Optional[socket.socket] = None
        self._has_mlsd: Optional[bool] = None
        url = archive.url
        try:
            with self._translated():
                self._ftp.connect(url.hostname, url.port or ftplib.FTP_PORT, min(timeout, CONNECT_TIMEOUT))
                self._ftp.sock.settimeout(timeout)
                self._ftp.timeout = timeout
                self._login(unquote(url.username or "anonymous"), unquote(url.password or ""))
                self._ftp.voidcmd("TYPE I")
        except BaseException:
            self._ftp.close()
            raise

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
            lines = self._lines("MLSD" if self._has_mlsd else "LIST")
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
        return Listing(tuple(sorted(folders)), tuple(sorted(files)))

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
    def open(self, path: str, start: int, end: int, state: FileState) -> Iterator[Stream]:
        with self._translated():
            self._start_transfer(path, start)
        stream = _FtpStream(self._data, self._translated)
        try:
            yield stream
        finally:
            self._finish_transfer(stream)

    def abort(self) -> None:
        for sock in (self._data, self._ftp.sock):
            _shutdown(sock)

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

    def _lines(self, command: str) -> List[str]:
        self._open_data(command)
        blocks = []
        stream = _FtpStream(self._data, self._translated)
        try:
            for block in iter(lambda: bytes(stream.read(READ_BYTES)), b""):
                blocks.append(block)
        finally:
            self._finish_transfer(stream)
        return b"".join(blocks).decode("utf-8", "surrogateescape").splitlines()

    def _resolve(self, path: str) -> Tuple[str, Optional[int]]:
        """A symbolic link -> ('file', bytes) or ('folder', None)"""
        try:
            with self._translated():
                return "file", self._ftp.size(self._absolute(path))
        except NotFoundError:
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

    def _finish_transfer(self, stream: "_FtpStream") -> None:
        """Close the data connection and hear the server out, so that the next command meets a quiet line."""
        self._data.close()
        self._data = None
        if stream.failed:
            self.usable = False
            return
        self._ftp.sock.settimeout(self._timeout if stream.ended else ABORT_TIMEOUT)
        try:
            answer = self._ftp.getmultiline()
        except (OSError, EOFError, ftplib.Error) as error:
            self.usable = False
            if stream.ended:
                msg = "%s: %s" % (self._archive.server, reason(error))
                raise TransientError(msg) from error
            return
        self._ftp.sock.settimeout(self._timeout)
        # Where we hung up, 426 or 451 is the right answer. Where the server did, they tell that it broke off.
        if stream.ended and answer[:1] in "45":
            msg = "the %s said: %s" % (self._archive.server, answer.strip()[:200])
            raise TransientError(msg)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        server = self._archive.server
        try:
            yield
        except ftplib.error_temp as error:
            kind = BusyError if str(error).startswith("421") else TransientError
            msg = "the %s said: %s" % (server, _one_line(error))
            raise kind(msg) from error
        except ftplib.error_perm as error:
            code = str(error)[:3]
            msg = "the %s said: %s" % (server, _one_line(error))
            if code == "530" and not TOO_MANY.search(str(error)):
                msg = "The %s refused the login (%s): check EMPIAR_FTP_URL, or choose HTTPS as transport." % (
                    server, _one_line(error))
                raise UnreachableError(msg) from error
            if code == "550":
                raise NotFoundError(msg) from error
            # 50x: the server does not know the command, and will not know it the next time.
            kinds = {"530": BusyError, "500": BrokenFileError, "501": BrokenFileError, "502": BrokenFileError,
                     "504": BrokenFileError}
            raise kinds.get(code, TransientError)(msg) from error
        except (ftplib.Error, EOFError, OSError, ValueError) as error:
            msg = "%s: %s" % (server, reason(error))
            raise TransientError(msg) from error


class _FtpStream(Stream):

    def __init__(self, data: socket.socket, translated: Callable[[], "contextlib.AbstractContextManager[None]"]):
        self._data = data
        self._translated = translated
        self._buffer = memoryview(bytearray(READ_BYTES))
        self.ended = False
        self.failed = False

    def read(self, size: int) -> memoryview:
        filled, size = 0, min(size, READ_BYTES)
        with self._translated():
            while filled < size and not self.ended:
                try:
                    count = self._data.recv_into(self._buffer[filled:size])
                except OSError:
                    # What came before the fault is kept; the fault shows again on the next read.
                    self.failed = True
                    if filled:
                        break
                    raise
                self.ended = not count
                filled += count
        return self._buffer[:filled]


def parse_mlsd_line(line: str) -> Optional[Tuple[str, str, Optional[int]]]:
    """'type=file;size=12; a b.mrc' -> ('file', 'a b.mrc', 12)"""
    facts_text, _, name = line.partition(" ")
    facts = dict(fact.lower().split("=", 1) for fact in facts_text.split(";") if "=" in fact)
    kind = facts.get("type", "")
    if kind == "file":
        size = facts.get("size", "")
        return "file", name, int(size) if size.isdigit() else None
    if kind == "dir":
        return "folder", name, None
    # RFC 3659 leaves links to the server: pyftpdlib and ProFTPD say OS.unix=slink.
    return ("link", name, None) if "link" in kind else None


_LIST_UNIX = re.compile(r"([-dl])[rwxsStT-]{9}\S*\s+\d+\s+\S+\s+\S+\s+(\d+)\s+"
                        r"(?:\w{3}\s+\d{1,2}\s+(?:\d{4}|\d{1,2}:\d\d)|\d{4}-\d\d-\d\d \d\d:\d\d) (.+)")
_LIST_DOS = re.compile(r"\d\d-\d\d-\d{2,4}\s+\d\d:\d\d(?:AM|PM)?\s+(<DIR>|\d+)\s+(.+)", re.IGNORECASE)


def parse_list_line(line: str) -> Optional[Tuple[str, str, Optional[int]]]:
    """'-rw-r--r-- 1 ftp ftp 12 Nov 21 01:18 a b.mrc' -> ('file', 'a b.mrc', 12); also the DOS form"""
    match = _LIST_UNIX.fullmatch(line)
    if match:
        letter, size, name = match.groups()
        if letter == "l":
            return "link", name.split(" -> ")[0], None
        if letter == "d":
            return None if name in (".", "..") else ("folder", name, None)
        return "file", name, int(size)
    match = _LIST_DOS.fullmatch(line)
    if match:
        size, name = match.groups()
        return ("folder", name, None) if size.upper() == "<DIR>" else ("file", name, int(size))
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _shutdown(sock: Optional[socket.socket]) -> None:
    if sock is None:
        return
    # The socket class's own shutdown: the one of an SSL socket would pull the TLS layer from under the reader.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


# -------------------------- HTTPS -----------------------

class HttpArchive(Archive):
    transport = HTTPS

    def connect(self, timeout: Optional[float] = None) -> "HttpConnection":
        return HttpConnection(self, timeout or self.timeout)


class _TrackingAdapter(HTTPAdapter):
    """An adapter that knows the sockets in use, so that they can be shut from another thread."""

    def __init__(self) -> None:
        self.sockets: List[socket.socket] = []
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: object, **kwargs: object) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.track(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: object) -> urllib3.ProxyManager:
        manager = super().proxy_manager_for(proxy, **kwargs)
        self.track(manager)
        return manager

    def track(self, manager: urllib3.PoolManager) -> None:
        sockets = self.sockets

        def tracked(pool_class: type) -> type:
            class Tracked(pool_class.ConnectionCls):
                def connect(self) -> None:
                    super().connect()
                    sockets[:] = [self.sock]

            return type(pool_class.__name__, (pool_class,), {"ConnectionCls": Tracked})

        manager.pool_classes_by_scheme = {
            "http": tracked(urllib3.HTTPConnectionPool), "https": tracked(urllib3.HTTPSConnectionPool)}


class HttpConnection(Connection):
    def __init__(self, archive: HttpArchive, timeout: float):
        self._archive = archive
        self._timeout = (min(timeout, CONNECT_TIMEOUT), timeout)
        url = archive.url
        netloc = url.netloc.rpartition("@")[2]
        self._base = "%s://%s%s" % (url.scheme, netloc, quote(unquote(url.path)))
        self._adapter = _TrackingAdapter()
        self._session = requests.Session()
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)
        if url.username:
            self._session.auth = (unquote(url.username), unquote(url.password or ""))
        # Ranges are of the file's own bytes, so no compression on the way.
        self._session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})

    def list_folder(self, path: str) -> Listing:
        with self._translated(), self._request("GET", path + "/" if path else "") as response:
            folder = urlsplit(response.url).path
            text = response.content.decode("utf-8", "replace")
        parser = _ListingParser(unquote(folder))
        parser.feed(text)
        return Listing(tuple(sorted(parser.folders)), tuple(sorted(parser.files.items())))

    def state(self, path: str) -> FileState:
        with self._translated(), self._request("HEAD", path) as response:
            size, version = _total_bytes(response), _version(response)
        if size is None:
            msg = "the %s does not tell the size of %s" % (self._archive.server, path)
            raise BrokenFileError(msg)
        return FileState(size, version)

    @contextlib.contextmanager
    def open(self, path: str, start: int, end: int, state: FileState) -> Iterator[Stream]:
        partial = start > 0 or end < state.size
        headers = {"Range": "bytes=%d-%d" % (start, end - 1)} if partial else {}
        if partial and state.version and not state.version.startswith("W/"):
            headers["If-Range"] = state.version
        with self._translated():
            response = self._request("GET", path, headers=headers)
        with contextlib.closing(response):
            version, total = _version(response), _total_bytes(response)
            if version != state.version or total not in (None, state.size):
                msg = "%s changed on the %s" % (path, self._archive.server)
                raise ChangedFileError(msg)
            if partial and response.status_code == 200:
                msg = "the %s only sends whole files" % self._archive.server
                raise NoRangesError(msg)
            yield _HttpStream(response, self._translated)

    def abort(self) -> None:
        for sock in list(self._adapter.sockets):
            _shutdown(sock)

    def close(self) -> None:
        self._session.close()

    def _request(self, method: str, path: str, headers: Optional[dict] = None) -> requests.Response:
        # Every part is encoded, also '#', '%', '+' and blanks.
        response = self._session.request(method, "%s/%s" % (self._base, quote(path, errors="surrogateescape")),
                                         headers=headers, stream=True, timeout=self._timeout,
                                         allow_redirects=True)
        status = response.status_code
        if status in (200, 206):
            return response
        response.close()
        msg = "the %s answered with error %d for %s" % (self._archive.server, status, path or "the entry's folder")
        if status in (404, 410):
            raise NotFoundError(msg)
        if status in (429, 503):
            raise BusyError(msg)
        if status >= 500 or status == 408:
            raise TransientError(msg)
        if status in (401, 407):
            msg = "The %s refused the login (error %d): check the addresses in the configuration and the proxy." % (
                self._archive.server, status)
            raise UnreachableError(msg)
        raise BrokenFileError(msg)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, EOFError, ValueError) as error:
            why = reason(error)
            msg = "%s: %s" % (self._archive.server, why)
            if "certificate" in why:
                msg = "The %s cannot be trusted (%s): set REQUESTS_CA_BUNDLE to your institute's certificates." % (
                    self._archive.server, why)
                raise UnreachableError(msg) from error
            raise TransientError(msg) from error


class _HttpStream(Stream):

    def __init__(self, response: requests.Response,
                 translated: Callable[[], "contextlib.AbstractContextManager[None]"]):
        self._raw = response.raw
        self._translated = translated

    def read(self, size: int) -> memoryview:
        with self._translated():
            return memoryview(self._raw.read(size, decode_content=False))


def _version(response: requests.Response) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


def _total_bytes(response: requests.Response) -> Optional[int]:
    """Size of the whole file: 'Content-Range: bytes 0-9/120' -> 120, else 'Content-Length: 120' -> 120"""
    text = response.headers.get("Content-Range" if response.status_code == 206 else "Content-Length", "")
    text = text.rpartition("/")[2]
    return int(text) if text.isdigit() else None


class _ListingParser(html.parser.HTMLParser):
    """The folders and files that a server's page about ``folder`` links to (Apache, nginx and others)."""

    def __init__(self, folder: str):
        super().__init__()
        self._folder = folder
        self.folders = set()
        self.files = {}
        self._last: Optional[str] = None
        self._in_link = False

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        if tag != "a":
            return
        self._in_link, self._last = True, None
        href = (dict(attrs).get("href") or "").partition("?")[0].partition("#")[0]
        # A way out of the folder written plainly is the page's own navigation; an encoded one is a name, to be
        # refused as such later.
        if "://" in href or href in ("", ".", "..", "./", "../"):
            return
        name = unquote(href[2:] if href.startswith("./") else href, errors="surrogateescape")
        if href.startswith("/"):
            if not name.startswith(self._folder) or name == self._folder:
                return
            name = name[len(self._folder):]
        if name.endswith("/"):
            self.folders.add(name[:-1])
        else:
            self.files[name] = None
            self._last = name

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._in_link = False

    def handle_data(self, data: str) -> None:
        """What follows a link tells the size: '543M', '1.2G', or plain bytes."""
        if self._in_link or self._last is None:
            return
        for word in reversed(data.split()):
            match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", word)
            if match:
                self.files[self._last] = int(float(match.group(1)) * 1024 ** " KMGT".index(match.group(2) or " "))
                break


# -------------------------- Choice -----------------------

def open_archive(entry: str, ftp_url: str, https_url: str, transport: str = AUTOMATIC,
                 timeout: float = STALL_TIMEOUT) -> Archive:
    """The archive over the transport asked for, after it has shown that it lists the entry's folder.

    With ``automatic`` that is FTP, or HTTPS where FTP is refused, silent or reset.
    Raises UnreachableError when neither works, NotFoundError never: an unknown folder is one too.
    """
    offers: List[Tuple[Callable[..., Archive], str]] = []
    if transport in (AUTOMATIC, FTP):
        offers.append((FtpArchive, ftp_url))
    if transport in (AUTOMATIC, HTTPS):
        offers.append((HttpArchive, https_url))
    complaints = []
    for kind, url in offers:
        archive = kind(url, entry, timeout)
        try:
            _prove(archive)
        except NotFoundError as error:
            complaints.append("it has no folder for entry %s (%s)" % (entry, error))
        except (TransientError, BrokenFileError) as error:
            complaints.append(str(error))
        except ArchiveError as error:
            if len(offers) == 1:
                raise
            complaints.append(str(error).rstrip("."))
        else:
            if complaints:
                logger.warning("FTP does not work here (%s): the files come over HTTPS.", "; ".join(complaints))
            return archive
    msg = "The files of EMPIAR-%s cannot be reached: %s. Check the network%s, then Continue." % (
        entry, "; ".join(complaints), "" if transport == AUTOMATIC else " or choose another transport")
    raise UnreachableError(msg)


def _prove(archive: Archive) -> None:
    connection = archive.connect(min(archive.timeout, CONNECT_TIMEOUT))
    try:
        connection.list_folder("")
    finally:
        connection.close()
