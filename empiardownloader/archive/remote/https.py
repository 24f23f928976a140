# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive over HTTPS (or HTTP)."""
import codecs
import contextlib
import re
from http.client import HTTPMessage
from typing import Dict, Iterator, Mapping, Optional, Tuple, Union
from urllib.parse import quote, unquote, urlsplit

import requests
import urllib3

from ..errors import (
    BUSY_STATUSES,
    GONE_STATUSES,
    UNTRUSTED,
    BrokenFileError,
    BusyError,
    LineError,
    NoRangesError,
    NotFoundError,
    TransientError,
    UnreachableError,
    is_of_the_line,
    may_succeed_later,
    reason,
    retry_after,
    without_password,
)
from ..sessions import Session, SideQuestion
from . import (
    CONNECT_TIMEOUT,
    HTTPS,
    LISTING_BYTES,
    STALL_TIMEOUT,
    Archive,
    Connection,
    FileState,
    Listing,
    NoBytes,
    Stream,
)
from .listings import PageParser

PAGE_BLOCK_BYTES = 256 << 10
# How far a listed size may be from the file's: of '9.9K' half of the last digit, of '10K' half a kilobyte or, where it
# is rounded up, a whole one. Less than a kilobyte is told as it is.
LISTED_SHARE, LISTED_BYTES = 0.1, 1024
# What servers answer in place of a file, and the endings of files that are such themselves.
PAGE_TYPES = {
    "text/html": (".html", ".htm", ".xhtml"), "application/xhtml+xml": (".html", ".htm", ".xhtml"),
    "application/json": (".json",), "application/problem+json": (), "application/xml": (".xml",), "text/xml": (".xml",)}
# Answers of servers that let nobody ask about a file without fetching it.
NOT_ALLOWED = (403, 405, 501)
Headers = Union[Mapping[str, str], HTTPMessage]
# So many connections in a row that were lost over a request asked ahead show a server that minds it.
MOST_MINDED = 3


class HttpArchive(Archive):
    transport = HTTPS
    may_lack_names = True

    def __init__(self, base_url: str, entry: str, timeout: float = STALL_TIMEOUT):
        super().__init__(base_url, entry, timeout)
        # What one connection finds out for all: whether two requests may be sent in one packet, and how often in a row
        # one was lost that had been sent while the bytes of another were still to come.
        self.proven = False
        self.minded = 0
        self.has_welcomed = False       # whether any answer was one to a request as such

    def _new_connection(self, timeout: float) -> "HttpConnection":
        return HttpConnection(self, timeout)

    def is_size(self, listed: int, told: int) -> bool:
        # Listings are rounded, '1.2K' to '543M', some of them up.
        if listed < LISTED_BYTES:
            return listed == told
        return abs(listed - told) <= max(listed, told) * LISTED_SHARE + LISTED_BYTES


class HttpConnection(Connection):
    is_new = True

    def __init__(self, archive: HttpArchive, timeout: float):
        self._archive = archive
        self.wait_for(timeout)
        url = archive.url
        netloc = url.netloc.rpartition("@")[2]
        self._base = "%s://%s%s" % (url.scheme, netloc, quote(unquote(url.path)))
        self._session = Session()
        self._aborted = False
        # Path and range that were asked for ahead, and the file that was asked about along with them.
        self._ahead: Optional[Tuple[str, str, str]] = None
        if url.username:
            self._session.auth = (unquote(url.username), unquote(url.password or ""))
        # Ranges are of the file's own bytes, so no compression on the way.
        self._session.headers["Accept-Encoding"] = "identity"

    def wait_for(self, seconds: float) -> None:
        self._timeout = (min(seconds, CONNECT_TIMEOUT), seconds)

    def list_folder(self, path: str) -> Listing:
        with self._translated(), contextlib.closing(self._request("GET", path + "/" if path else "")) as response:
            parser = PageParser(unquote(urlsplit(response.url).path))
            self._read_page(response, parser, path)
            length = response.headers.get("Content-Length", "").strip()
            # Not all versions of urllib3 complain of an answer that ends too early.
            is_whole = response.raw.tell() >= int(length) if length.isdecimal() else parser.is_whole
        if not is_whole:
            msg = "the %s sent a part of the listing of %s only" % (self._archive.server, path or "the entry's folder")
            raise TransientError(msg)
        if not parser.is_listing:
            msg = "the %s sent a page that is no listing of %s" % (self._archive.server, path or "the entry's folder")
            raise TransientError(msg)
        return Listing(tuple(sorted(parser.folders)), tuple(sorted(parser.files.items())))

    def _read_page(self, response: requests.Response, parser: PageParser, path: str) -> None:
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        left = LISTING_BYTES
        # iter_content also undoes a compression that a server insists on.
        for block in response.iter_content(PAGE_BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                msg = "the listing of %s on the %s is endless" % (path or "the entry's folder", self._archive.server)
                raise BrokenFileError(msg)
            if self._aborted:
                msg = "stopped"
                raise TransientError(msg)
            try:
                parser.feed(decode(block))
            except AssertionError as error:
                # html.parser's own complaint about declarations that make no sense
                msg = "the %s gives no listing of %s" % (self._archive.server, path or "the entry's folder")
                raise BrokenFileError(msg) from error

    def state(self, path: str) -> FileState:
        ahead = self._was_asked(path, "")
        with self._judged(ahead), self._translated(), contextlib.closing(
                self._request("HEAD", path, welcome=(200, 206, *NOT_ALLOWED), ahead=ahead)) as response:
            # There is none, but as long as that has not been seen the connection is of no further use.
            response.raw.read()
            size, state = _size_and_versions(response)
            refused = response.status_code in NOT_ALLOWED
        if not size or refused:
            # Apache does not tell the size of an empty file; others tell that of an answer without a body.
            with self._translated(), contextlib.closing(
                    self._request("GET", path, {"Range": "bytes=0-0"}, (200, 206, 416))) as response:
                size, state = _size_and_versions(response)
        if size is None:
            msg = "the %s does not tell the size of %s" % (self._archive.server, path)
            raise BrokenFileError(msg)
        return FileState(size, *state)

    @contextlib.contextmanager
    def open(self, path: str, start: int, end: Optional[int], also: str = "") -> Iterator[Tuple[FileState, Stream]]:
        response, told = self._open_range(path, start, end, also)
        size, (total, _) = None, _size_and_versions(response)
        if total is None or response.status_code == 416:
            # Some servers do not tell the size with the bytes; a range that begins past the end has none.
            response.close()
            state = self.state(path)
            if start >= state.size:
                yield state, NoBytes()
                return
            size = state.size
            response, _ = self._open_range(path, start, end)
        with contextlib.closing(response):
            partial = response.status_code == 206
            if start and not partial:
                msg = "the %s only sends whole files" % self._archive.server
                raise NoRangesError(msg)
            total, versions = _size_and_versions(response)
            state = FileState((size or 0) if total is None else total, *versions)
            complaint = _complaint(response, start, state.size if end is None else min(end, state.size), partial)
            if complaint:
                msg = "the %s sent %s in place of the bytes of %s that were asked for" % (
                    self._archive.server, complaint, path)
                raise BrokenFileError(msg)
            stream = _HttpStream(response, self)
            stream.whole, stream.also = not partial, told
            yield state, stream

    def _open_range(self, path: str, start: int, end: Optional[int],
                    also: str = "") -> Tuple[requests.Response, Optional[FileState]]:
        """The answer, and what was told of the file ``also``."""
        byte_range = _byte_range(start, end)
        ahead = self._was_asked(path, byte_range, also)
        headers = {"Range": byte_range} if ahead or start or end is not None else {}
        archive, told = self._archive, None
        if ahead or (also and not archive.sequential):
            with self._session.asking_along(self._address(also) if also else "") as along:
                try:
                    with self._judged(ahead), self._translated():
                        response = self._request("GET", path, headers, (200, 206, 416),
                                                 impatient=not archive.proven, ahead=ahead)
                    archive.proven = archive.proven or along().status > 0
                    return response, _told(along()) if also else None
                except TransientError:
                    # Where the question was answered, and nothing else, the server does not take two requests at a
                    # time, or has had enough of this connection; as it may between two requests, too.
                    answered = along().status > 0
                    if not archive.proven and (answered or not self._aborted):
                        archive.probe_failed()
                    if self._aborted or not (answered or ahead):
                        raise
                    told = _told(along())
        with self._translated():
            return self._request("GET", path, headers, (200, 206, 416)), told

    def pipeline(self, path: str, start: int, end: Optional[int], also: str = "") -> bool:
        return self._pipeline(path, _byte_range(start, end), also)

    def pipeline_state(self, path: str) -> bool:
        return self._pipeline(path, "", "")

    def _pipeline(self, path: str, byte_range: str, also: str) -> bool:
        if not self._archive.proven or self._archive.sequential or self._archive.minded >= MOST_MINDED:
            return False
        with self._translated():
            asked = self._session.pipeline(self._address(path), byte_range, self._address(also) if also else "")
        self._ahead = (path, byte_range, also) if asked else None
        return asked

    def _was_asked(self, path: str, byte_range: str, also: str = "") -> bool:
        """Whether this is what was asked for ahead; what was asked along may not be wanted any more."""
        return self._ahead is not None and self._ahead[:2] == (path, byte_range) and also in ("", self._ahead[2])

    @contextlib.contextmanager
    def _judged(self, ahead: bool) -> Iterator[None]:
        """Learn from what becomes of a request that was asked ahead, or from bytes that come while one is."""
        try:
            yield
        except TransientError:
            if ahead:
                self._archive.minded += 1
            raise
        if ahead:
            self._archive.minded = 0

    def read(self, response: requests.Response, size: int) -> memoryview:
        """Bytes of an answer as they come. Raises TransientError."""
        try:
            with self._translated():
                return memoryview(response.raw.read(size, decode_content=False))
        except TransientError:
            if self._ahead is not None:
                # Lost over a request in the midst of it.
                self._archive.minded += 1
            raise

    def abort(self) -> None:
        self._aborted = True
        self._session.abort()

    def close(self) -> None:
        self._session.close()

    def _address(self, path: str) -> str:
        # Every part is encoded, also '#', '%', '+' and blanks.
        return "%s/%s" % (self._base, quote(path, errors="surrogateescape"))

    def _request(self, method: str, path: str, headers: Optional[Dict[str, str]] = None,
                 welcome: Tuple[int, ...] = (200, 206), impatient: bool = False,
                 ahead: bool = False) -> requests.Response:
        self._ahead = None
        if not ahead:
            self._session.drop_pipelined()
        connect, answer = self._timeout
        response = self._session.request(
            method, self._address(path), headers=headers, stream=True, allow_redirects=True,
            timeout=(connect, min(answer, CONNECT_TIMEOUT) if impatient else answer))
        self.is_new = False
        if self._archive.url.scheme == "https" and response.url.startswith("http://"):
            response.close()
            msg = "The %s sends us on to an address without encryption (%s), which is not followed: check " \
                  "EMPIAR_HTTPS_URL." % (self._archive.server, without_password(response.url)[:200])
            raise UnreachableError(msg)
        status = response.status_code
        if status in welcome:
            instead = "" if status in NOT_ALLOWED else _in_place_of(path, response)
            if instead:
                response.close()
                # A maintenance or login page: it is the server's state, and says nothing of the file.
                msg = "the %s sent %s in place of %s" % (self._archive.server, instead,
                                                         path.rstrip("/") or "the entry's folder")
                raise TransientError(msg)
            self._archive.has_welcomed = True
            return response
        response.close()
        msg = "the %s answered with error %d for %s" % (self._archive.server, status,
                                                            path.rstrip("/") or "the entry's folder")
        if status in GONE_STATUSES:
            raise NotFoundError(msg)
        if status in BUSY_STATUSES:
            raise BusyError(msg, retry_after(response.headers.get("Retry-After", "")))
        if may_succeed_later(status):
            raise TransientError(msg)
        if status == 407 or (status == 401 and not self._archive.has_welcomed):
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
                remedy = ": set REQUESTS_CA_BUNDLE to your institute's certificates" if why == UNTRUSTED else ""
                msg = "The %s cannot be trusted (%s)%s." % (self._archive.server, why, remedy)
                raise UnreachableError(msg) from error
            raise (LineError if is_of_the_line(error) else TransientError)(msg) from error


class _HttpStream(Stream):

    def __init__(self, response: requests.Response, connection: HttpConnection):
        self._response, self._connection = response, connection

    def read(self, size: int) -> memoryview:
        return self._connection.read(self._response, size)


def _in_place_of(path: str, response: requests.Response) -> str:
    """What came where a file was asked for, '' where it may be the file, or a folder's page."""
    if path.endswith("/") or not path:
        return ""
    asked, came = (unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2] for url in (
        "/" + quote(path, errors="surrogateescape"), response.url))
    if response.history and asked != came:
        return "another address (%s)" % without_password(response.url)[:200]
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in PAGE_TYPES and not asked.lower().endswith(PAGE_TYPES[kind]):
        return "a web page (%s)" % kind
    return ""


def _byte_range(start: int, end: Optional[int]) -> str:
    return "bytes=%d-%s" % (start, "" if end is None else end - 1)


def _told(question: SideQuestion) -> Optional[FileState]:
    size = _total_bytes(question.status, question.headers)
    return FileState(size, *_versions(question.headers)) if question.status == 200 and size is not None else None


def _size_and_versions(response: requests.Response) -> Tuple[Optional[int], Tuple[str, str]]:
    return _total_bytes(response.status_code, response.headers), _versions(response.headers)


def _versions(headers: Headers) -> Tuple[str, str]:
    """(version, modification time) for FileState"""
    modified = headers.get("Last-Modified") or ""
    # A tag may be called weak in one answer and not in the other.
    return re.sub("^W/", "", headers.get("ETag") or modified), modified


def _content_range(headers: Headers) -> Optional[Tuple[int, int, Optional[int]]]:
    """'bytes 0-9/120' -> (0, 10, 120); what is none -> None"""
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)",
                         headers.get("Content-Range", "").strip(), re.IGNORECASE)
    if match is None:
        return None
    first, last, total = match.groups()
    return int(first), int(last) + 1, None if total == "*" else int(total)


def _total_bytes(status: int, headers: Headers) -> Optional[int]:
    """Size of the whole file, from the header that tells it in this kind of answer."""
    if status == 206:
        found = _content_range(headers)
        return found[2] if found else None
    name, pattern = ("Content-Range", r"bytes \*/([0-9]{1,18})") if status == 416 else (
        "Content-Length", r"([0-9]{1,18})")
    match = re.fullmatch(pattern, headers.get(name, "").strip(), re.IGNORECASE)
    return int(match.group(1)) if match else None


def _complaint(response: requests.Response, start: int, end: int, partial: bool) -> str:
    """What is wrong with an answer that should hold the bytes [start, end) as they are in the file, else ''."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        return "%s-compressed bytes" % encoding
    if not partial:
        return ""
    if response.headers.get("Content-Type", "").lower().startswith("multipart/"):
        return "several parts"
    found = _content_range(response.headers)
    if found is None:
        return "bytes of an unknown place"
    if found[0] != start or found[1] > end:
        return "the bytes %d to %d" % found[:2]
    return ""
