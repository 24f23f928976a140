# SPDX-License-Identifier: GPL-3.0-or-later
"""What HTTP answers say of a file, whether our own client got them or requests."""
import re
from http.client import HTTPMessage
from typing import Iterator, Mapping, Optional, Tuple, Union
from urllib.parse import quote, unquote, urlsplit

import requests

from ..errors import without_password
from . import FileState

Headers = Union[Mapping[str, str], HTTPMessage]
# What servers answer in place of a file, and the endings of files that are such themselves.
PAGE_TYPES = {
    "text/html": (".html", ".htm", ".xhtml"), "application/xhtml+xml": (".html", ".htm", ".xhtml"),
    "application/json": (".json",), "application/problem+json": (), "application/xml": (".xml",), "text/xml": (".xml",)}


class Response:
    """An answer, whose bytes are read before the next one is asked for."""
    status: int
    headers: Headers
    url: str                    # where it came from
    is_redirected = False

    @property
    def encoding(self) -> str:
        """How its bytes are compressed, '' where they are not."""
        told = self.headers.get("Content-Encoding", "").strip().lower()
        return "" if told == "identity" else told

    @property
    def received(self) -> int:
        """How many bytes have come, as they were on the way."""
        raise NotImplementedError

    def read(self, size: int) -> memoryview:
        """The next ``size`` bytes, fewer at the end, none after it. Raises HTTPException, OSError and what requests
        and urllib3 raise."""
        raise NotImplementedError

    def blocks(self, size: int) -> Iterator[bytes]:
        """All bytes, with a compression undone."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class FollowedResponse(Response):
    """One that requests got."""

    def __init__(self, response: requests.Response):
        self._response = response
        self.status, self.headers, self.url = response.status_code, response.headers, response.url
        self.is_redirected = bool(response.history)

    @property
    def received(self) -> int:
        return int(self._response.raw.tell())

    def read(self, size: int) -> memoryview:
        return memoryview(self._response.raw.read(size, decode_content=False))

    def blocks(self, size: int) -> Iterator[bytes]:
        return self._response.iter_content(size)    # type: ignore[no-any-return]

    def close(self) -> None:
        self._response.close()


def in_place_of(path: str, response: Response) -> str:
    """What came where a file was asked for, '' where it may be the file, or a folder's page."""
    if path.endswith("/") or not path:
        return ""
    asked, came = (unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2] for url in (
        "/" + quote(path, errors="surrogateescape"), response.url))
    if response.is_redirected and asked != came:
        return "another address (%s)" % without_password(response.url)[:200]
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in PAGE_TYPES and not asked.lower().endswith(PAGE_TYPES[kind]):
        return "a web page (%s)" % kind
    return ""


def told_by(response: Response) -> Optional[FileState]:
    size = _total_bytes(response.status, response.headers)
    return FileState(size, *versions(response.headers)) if response.status == 200 and size is not None else None


def size_and_versions(response: Response) -> Tuple[Optional[int], Tuple[str, str]]:
    return _total_bytes(response.status, response.headers), versions(response.headers)


def versions(headers: Headers) -> Tuple[str, str]:
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


def complaint_of(response: Response, start: int, end: int, partial: bool) -> str:
    """What is wrong with an answer that should hold the bytes [start, end) as they are in the file, else ''."""
    if response.encoding:
        return "%s-compressed bytes" % response.encoding
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
