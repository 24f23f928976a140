# SPDX-License-Identifier: GPL-3.0-or-later
"""A file of the archive as one to seek and read in, for readers of images that look here and there."""
import io
import os
from typing import Any, BinaryIO, Dict, Optional, cast

from ..archive.errors import BrokenFileError, NotFoundError
from ..archive.names import split_compression
from ..archive.remote import Connection
from ..images.header import Header, is_gatan, size_of_first

BLOCK_BYTES = 64 << 10          # read at a time where a reader asks for a few bytes
# What a header may take: directories of TIFF files lie anywhere.
HEADER_BUDGET = 1 << 20


class BudgetError(Exception):
    """No more bytes may be fetched."""


class RemoteStream(io.RawIOBase):
    """A remote file as one to seek and read in, within a budget; each block is fetched once."""

    def __init__(self, connection: Connection, path: str, size: int, budget: int):
        super().__init__()
        self._connection, self._path, self.size, self._left = connection, path, size, budget
        self._blocks: Dict[int, bytes] = {}
        self._position = 0
        self.received = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = int(offset) + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[:len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        start = self._position
        end = self.size if size < 0 else min(self.size, start + size)
        if end <= start:
            return b""
        first, last = start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        missing = [number for number in range(first, last + 1) if number not in self._blocks]
        if missing:
            self._fetch(missing[0], missing[-1])
        data = b"".join(self._blocks[number] for number in range(first, last + 1))
        self._position = end
        return data[start - first * BLOCK_BYTES:end - first * BLOCK_BYTES]

    def _fetch(self, first: int, last: int) -> None:
        start, end = first * BLOCK_BYTES, min((last + 1) * BLOCK_BYTES, self.size)
        if end - start > self._left:
            raise BudgetError
        self._left -= end - start
        data = read_bytes(self._connection, self._path, start, end)
        self.received += len(data)
        for number in range(first, last + 1):
            at = (number - first) * BLOCK_BYTES
            self._blocks[number] = data[at:at + BLOCK_BYTES]


def read_bytes(connection: Connection, path: str, start: int, end: int) -> bytes:
    with connection.open(path, start, end) as (_, stream):
        content = stream.read_up_to(end - start)
    if len(content) < end - start:
        msg = "%s ends at byte %d" % (path, start + len(content))
        raise BrokenFileError(msg)
    return content


def size_of(connection: Connection, path: str) -> Optional[Header]:
    """Width, height and frames of an image, by a few of its bytes; None where they do not tell, ``frames`` 0 where only
    these do not. Raises RemoteError."""
    if split_compression(path)[1] or is_gatan(path):
        return None
    try:
        remote = RemoteStream(connection, path, connection.state(path).size or 0, HEADER_BUDGET)
        return size_of_first(cast(BinaryIO, remote), remote.size)
    except (NotFoundError, BrokenFileError, BudgetError):
        return None         # the run, which has the whole file, says what is wrong with it
