# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive over HTTPS (or HTTP)."""
import codecs
import contextlib
from http.client import HTTPException
from typing import Iterator, Optional, Tuple
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
from ..sessions import Session
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
from .http_answers import FollowedResponse, Response, complaint_of, in_place_of, size_and_versions, told_by
from .http_client import Answer, Phase, PipelinedClient, Request, Route
from .listings import PageParser

PAGE_BLOCK_BYTES = 256 << 10
# How far a listed size may be from the file's: of '9.9K' half of the last digit, of '10K' half a kilobyte or, where it
# is rounded up, a whole one. Less than a kilobyte is told as it is.
LISTED_SHARE, LISTED_BYTES = 0.1, 1024
# Answers of servers that let nobody ask about a file without fetching it.
NOT_ALLOWED = (403, 405, 501)
REDIRECTS = (301, 302, 303, 307, 308)
# After so many lost connections in a row the server does not take pipelined requests.
MOST_MINDED = 3
# So many files in a row at other addresses show that all of them are there.
MOST_REDIRECTED = 3


class HttpArchive(Archive):
    transport = HTTPS
    may_lack_names = True
    tells_exact_sizes = False

    def __init__(self, base_url: str, entry: str, timeout: float = STALL_TIMEOUT):
        super().__init__(base_url, entry, timeout)
        # Of all connections: whether two requests may be sent in one packet, and how many pipelined requests in a row
        # were lost.
        self.proven = False
        self.minded = 0
        self.has_welcomed = False       # whether the server has accepted any request
        self.redirected = 0             # how many answers in a row sent us on to another address

    @property
    def by_requests(self) -> bool:
        """Whether it sends us on to another address for every file, which is left to requests."""
        return self.redirected >= MOST_REDIRECTED

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
        url = archive.url
        self._base, self._path = url.netloc.rpartition("@")[2], quote(unquote(url.path))
        with self._translated():
            route = Route.to(url)
        self._client = PipelinedClient(route) if route else None
        # For what the client leaves to requests; made where it is needed.
        self._session: Optional[Session] = None
        self._aborted = False
        self.wait_for(timeout)

    def wait_for(self, seconds: float) -> None:
        self._timeout = (min(seconds, CONNECT_TIMEOUT), seconds)
        if self._client is not None:
            self._client.connect_seconds, self._client.seconds = self._timeout

    def list_folder(self, path: str) -> Listing:
        folder = path + "/" if path else ""
        with self._translated():
            response = self._request("GET", folder)
            if isinstance(response, Answer) and response.encoding:
                # It insists on compressing pages, which requests undoes.
                response.close()
                response = self._request("GET", folder, by_requests=True)
            with contextlib.closing(response):
                parser = PageParser(unquote(urlsplit(response.url).path))
                self._read_page(response, parser, path)
                length = response.headers.get("Content-Length", "").strip()
                # Not all versions of urllib3 complain of an answer that ends too early.
                is_whole = response.received >= int(length) if length.isdecimal() else parser.is_whole
        if not is_whole:
            msg = "the %s sent a part of the listing of %s only" % (self._archive.server, path or "the entry's folder")
            raise TransientError(msg)
        if not parser.is_listing:
            msg = "the %s sent a page that is no listing of %s" % (self._archive.server, path or "the entry's folder")
            raise TransientError(msg)
        return Listing(tuple(sorted(parser.folders)), tuple(sorted(parser.files.items())))

    def _read_page(self, response: Response, parser: PageParser, path: str) -> None:
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        left = LISTING_BYTES
        for block in response.blocks(PAGE_BLOCK_BYTES):
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
        with self._translated(), contextlib.closing(
                self._request("HEAD", path, welcome=(200, 206, *NOT_ALLOWED))) as response:
            size, state = size_and_versions(response)
            refused = response.status in NOT_ALLOWED
        if not size or refused:
            # Apache does not tell the size of an empty file; others tell that of an answer without a body.
            with self._translated(), contextlib.closing(
                    self._request("GET", path, "bytes=0-0", (200, 206, 416))) as response:
                size, state = size_and_versions(response)
        if size is None:
            msg = "the %s does not tell the size of %s" % (self._archive.server, path)
            raise BrokenFileError(msg)
        return FileState(size, *state)

    @contextlib.contextmanager
    def open(self, path: str, start: int, end: Optional[int], also: str = "") -> Iterator[Tuple[FileState, Stream]]:
        response, told = self._open_range(path, start, end, also)
        size, (total, _) = None, size_and_versions(response)
        if total is None or response.status == 416:
            # Some servers do not tell the size with the bytes; a range that begins past the end has none.
            response.close()
            state = self.state(path)
            if start >= state.size:
                yield state, NoBytes()
                return
            size = state.size
            response, _ = self._open_range(path, start, end)
        with contextlib.closing(response):
            partial = response.status == 206
            if start and not partial:
                msg = "the %s only sends whole files" % self._archive.server
                raise NoRangesError(msg)
            total, versions = size_and_versions(response)
            state = FileState((size or 0) if total is None else total, *versions)
            complaint = complaint_of(response, start, state.size if end is None else min(end, state.size), partial)
            if complaint:
                msg = "the %s sent %s in place of the bytes of %s that were asked for" % (
                    self._archive.server, complaint, path)
                raise BrokenFileError(msg)
            stream = _HttpStream(response, self)
            stream.whole, stream.also = not partial, told
            yield state, stream

    def _open_range(self, path: str, start: int, end: Optional[int],
                    also: str = "") -> Tuple[Response, Optional[FileState]]:
        """The answer, and what was told of the file ``also``."""
        archive, client, told = self._archive, self._client, None
        byte_range = _byte_range(start, end)
        get = Request("GET", self._target(path), byte_range)
        head = Request("HEAD", self._target(also)) if also else None
        if client is not None and not archive.by_requests:
            asked = client.asked
            # What was pipelined along with it may not be wanted any more; its answer comes all the same.
            pipelined = asked[-1:] == (get,) and (head is None or asked[0] == head)
            if not pipelined:
                get = get._replace(byte_range=byte_range if start or end is not None else "")
                asked = (head, get) if head and not archive.sequential else (get,)
            if pipelined or len(asked) > 1:
                answered = False
                try:
                    with self._translated(), self._judged(pipelined):
                        self._ask(*asked)
                        seconds = None if archive.proven else min(self._timeout[1], CONNECT_TIMEOUT)
                        for question in asked[:-1]:
                            with contextlib.closing(client.answer(question, seconds)) as answer:
                                answered, told = True, told_by(answer) if also else None
                        response = self._welcomed(client.answer(get, seconds), get, path, (200, 206, 416))
                    archive.proven = True
                    return response, told
                except BusyError:
                    raise
                except TransientError:
                    # Only the HEAD was answered: the server does not take two requests at a time, or has closed the
                    # connection, as it may between any two.
                    if not archive.proven and (answered or not self._aborted):
                        archive.probe_failed()
                    if self._aborted or not (answered or pipelined):
                        raise
        with self._translated():
            return self._request("GET", path, get.byte_range, (200, 206, 416)), told

    def pipeline(self, path: str, start: int, end: Optional[int], also: str = "") -> bool:
        heads = [Request("HEAD", self._target(also))] if also else []
        return self._pipeline(*heads, Request("GET", self._target(path), _byte_range(start, end)))

    def pipeline_state(self, path: str) -> bool:
        return self._pipeline(Request("HEAD", self._target(path)))

    def _pipeline(self, *asked: Request) -> bool:
        archive, client = self._archive, self._client
        if client is None or not archive.proven or archive.sequential or archive.by_requests \
                or archive.minded >= MOST_MINDED or not client.carries_on:
            return False
        with self._translated():
            client.send(*asked)
        return True

    @contextlib.contextmanager
    def _judged(self, pipelined: bool) -> Iterator[None]:
        """Learn from what becomes of a request that was pipelined, or from bytes that come while one is."""
        try:
            yield
        except (TransientError, HTTPException, OSError):
            if pipelined:
                self._archive.minded += 1
            raise
        if pipelined:
            self._archive.minded = 0

    def read(self, response: Response, size: int) -> memoryview:
        """Bytes of an answer as they come. Raises TransientError."""
        pipelined = self._client is not None and bool(self._client.asked)
        try:
            with self._translated():
                return response.read(size)
        except TransientError:
            # Lost over a request in the midst of it.
            self._archive.minded += pipelined
            raise

    def abort(self) -> None:
        self._aborted = True
        if self._client is not None:
            self._client.abort()
        if self._session is not None:
            self._session.abort()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._session is not None:
            self._session.close()

    def _target(self, path: str) -> str:
        # Every part is encoded, also '#', '%', '+' and blanks.
        return "%s/%s" % (self._path, quote(path, errors="surrogateescape"))

    def _request(self, method: str, path: str, byte_range: str = "", welcome: Tuple[int, ...] = (200, 206),
                 by_requests: bool = False) -> Response:
        request, client = Request(method, self._target(path), byte_range), self._client
        if client is None or self._archive.by_requests or by_requests:
            if client is not None and client.asked:
                client.close()      # what was pipelined is asked for by requests now
            return self._judge(self._followed(request), path, welcome)
        with self._judged(client.is_asked(request)):
            self._ask(request)
            answer = client.answer(request)
        return self._welcomed(answer, request, path, welcome)

    def _ask(self, *asked: Request) -> None:
        """See to it that the answers to these requests come next."""
        client = self._client
        assert client is not None
        if not client.is_asked(*asked):
            if client.phase in (Phase.WAITING, Phase.READING):
                # What was pipelined is not wanted any more, and with it the connection.
                client.close()
            client.send(*asked)

    def _welcomed(self, answer: Answer, request: Request, path: str, welcome: Tuple[int, ...]) -> Response:
        """The answer to a request, or what it refers to. Raises RemoteError, UnreachableError for all others."""
        if answer.status in REDIRECTS and answer.headers.get("Location"):
            answer.close()
            response = self._judge(self._followed(request), path, welcome)
            # Folders may be redirected where files are not.
            self._archive.redirected += not path.endswith("/")
            return response
        response = self._judge(answer, path, welcome)
        if not path.endswith("/"):
            self._archive.redirected = 0
        return response

    def _followed(self, request: Request) -> Response:
        url = self._archive.url
        if self._session is None:
            self._session = Session()
            # Ranges are of the file's own bytes, so no compression on the way.
            self._session.headers["Accept-Encoding"] = "identity"
            if url.username:
                self._session.auth = (unquote(url.username), unquote(url.password or ""))
        if self._aborted:
            msg = "stopped"
            raise TransientError(msg)
        response = FollowedResponse(self._session.request(
            request.method, "%s://%s%s" % (url.scheme, self._base, request.path), stream=True, allow_redirects=True,
            headers={"Range": request.byte_range} if request.byte_range else None, timeout=self._timeout))
        if request.method == "HEAD":
            # There is nothing to read, but as long as that has not been seen the connection is of no further use.
            response.read(1)
        if url.scheme == "https" and response.url.startswith("http://"):
            response.close()
            msg = "The %s sends us on to an address without encryption (%s), which is not followed: check " \
                  "EMPIAR_HTTPS_URL." % (self._archive.server, without_password(response.url)[:200])
            raise UnreachableError(msg)
        return response

    def _judge(self, response: Response, path: str, welcome: Tuple[int, ...]) -> Response:
        self.is_new = False
        status = response.status
        if status in welcome:
            instead = "" if status in NOT_ALLOWED else in_place_of(path, response)
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
        except (requests.RequestException, urllib3.exceptions.HTTPError, HTTPException, OSError, EOFError,
                ValueError) as error:
            why = reason(error)
            msg = "%s: %s" % (self._archive.server, why)
            if "certificate" in why:
                remedy = ": set REQUESTS_CA_BUNDLE to your institute's certificates" if why == UNTRUSTED else ""
                msg = "The %s cannot be trusted (%s)%s." % (self._archive.server, why, remedy)
                raise UnreachableError(msg) from error
            raise (LineError if is_of_the_line(error) else TransientError)(msg) from error


class _HttpStream(Stream):

    def __init__(self, response: Response, connection: HttpConnection):
        self._response, self._connection = response, connection

    def read(self, size: int) -> memoryview:
        return self._connection.read(self._response, size)


def _byte_range(start: int, end: Optional[int]) -> str:
    return "bytes=%d-%s" % (start, "" if end is None else end - 1)
