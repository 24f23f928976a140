# SPDX-License-Identifier: GPL-3.0-or-later
"""One image of an image set looked at from afar: as many of its frames as a budget of bytes allows, averaged.

MRC files tell where each frame lies; of TIFF, BigTIFF and EER files tifffile reads what it needs of the pages, of
Gatan's DM3 and DM4 files ncempy, by ranges.
"""
import contextlib
import logging
import os
import struct
import tempfile
import threading
from dataclasses import dataclass
from typing import Any, BinaryIO, Iterator, List, Mapping, Optional, Tuple, cast

import numpy as np
import tifffile

from ..archive.errors import BrokenFileError, EntryError, NoRangesError, NotFoundError, RemoteError, UnreachableError
from ..archive.names import split_compression
from ..archive.remote import AUTOMATIC, Archive, Connection
from ..archive.remote.choice import open_archive
from ..archive.selection import GAIN, RemoteFile
from ..archive.stopping import StopToken, within
from ..constants import addresses
from ..images.frames import AS_THEY_ARE, EXTRA, iter_frames
from ..images.gain import Correction
from ..images.header import (
    EER_COMPRESSIONS,
    MRC_HEADER_BYTES,
    BadImageError,
    MrcLayout,
    is_gatan,
    mrc_layout,
)
from ..images.previews import Preview, average_of, preview_of
from ..units import format_bytes
from .fetch import listing
from .remote_stream import BLOCK_BYTES, BudgetError, RemoteStream, read_bytes

BUDGET = 16 * 10 ** 6           # bytes
SECONDS = 300.0                 # for one file over a slow line
# Of the budget, what a gain reference may take.
GAIN_SHARE = 0.5
# Of an image that is larger than the budget so many of its lowest rows are shown at least.
LEAST_ROWS = 256


@dataclass(frozen=True)
class Shown:
    """What was seen of an image; ``width``, ``height`` in pixels of the image itself."""
    path: str                   # below the entry's folder
    width: int
    height: int
    frames_used: int
    frames: Optional[int]       # how many it has, None where that was not found out
    bytes_received: int
    pixel_size: Optional[float]     # angstrom, as the entry says
    preview: Preview
    rows: int = 0               # that were seen, where these are not all of a frame

    @property
    def rows_used(self) -> int:
        """How many rows of a frame were within the budget: of MRC files the lowest, of Gatan's the uppermost."""
        return self.rows or self.height

    def describe(self) -> str:
        """-> 'data/m_1.mrc: 4096 x 4096 pixels, 3 frames of 40, 15.9 MB fetched, gain applied'"""
        return "%s: %d x %d pixels%s, %d frame%s%s, %.1f MB fetched%s" % (
            self.path, self.width, self.height,
            ", only %d of its rows within the budget" % self.rows if self.rows else "", self.frames_used,
            "" if self.frames_used == 1 else "s", " of %d" % self.frames if self.frames else "",
            self.bytes_received / 1e6, ", " + self.preview.gain if self.preview.gain else "") + (
            "; right its power spectrum%s" % (", %g Å/px" % self.pixel_size if self.pixel_size else ""))


def preview(entry: str, image_set: str = "", file_pattern: str = "", budget: int = BUDGET, gain: bool = True,
            transport: str = AUTOMATIC, stopped: Optional[threading.Event] = None,
            where: Optional[Mapping[str, str]] = None) -> Shown:
    """The first image of an image set (that matches the pattern), averaged over as many frames as ``budget`` allows.

    The gain reference is applied where it is small enough. ``where``: the archives' addresses, None for those of the
    environment. Raises ArchiveError, also for images that cannot be shown
    (compressed, larger than the budget, of a format that is not read here), and Stopped.
    """
    stop = StopToken(stopped)
    with listing(entry, image_set, file_pattern, transport, stop, where) as (finder, found, archive), \
            _said(found.entry.name):
        chosen = finder.image_set
        image = next(finder.images())
        references = finder.references(image.folder)[GAIN] if gain and chosen.kind.gain else []
    # The connections of the listings are closed by now.
    return _seen(archive, found.entry.name, image, references, budget, chosen.pixel_size, stop)


def preview_file(number: str, path: str, budget: int = BUDGET, transport: str = AUTOMATIC,
                 stopped: Optional[threading.Event] = None, where: Optional[Mapping[str, str]] = None) -> Shown:
    """One file of an entry, by its path below the entry's folder: a gain reference, say. Raises as ``preview``."""
    stop = StopToken(stopped)
    archive = open_archive(number, where or addresses(), transport, stop=stop)
    try:
        return _seen(archive, "EMPIAR-" + number, RemoteFile(path), [], budget, None, stop)
    finally:
        archive.close()


def _seen(archive: Archive, entry: str, image: RemoteFile, references: List[RemoteFile], budget: int,
          pixel_size: Optional[float], stop: StopToken) -> Shown:
    """Over a connection of its own, which a stop breaks off."""
    with _said(entry), contextlib.closing(archive.connect(stop=stop)) as connection:
        return within(SECONDS, stop, lambda: _look(connection, image, references, budget, pixel_size),
                      connection.abort)


@contextlib.contextmanager
def _said(entry: str) -> Iterator[None]:
    """What went wrong with one request, as a sentence that ends the command."""
    try:
        yield
    except (NotFoundError, BrokenFileError, NoRangesError) as error:
        msg = "No image of %s can be shown (%s): choose another image set, or a file pattern." % (entry, error)
        raise EntryError(msg) from error
    except RemoteError as error:
        msg = "The images of %s cannot be reached (%s): check the network, then try again." % (entry, error)
        raise UnreachableError(msg) from error


def _look(connection: Connection, image: RemoteFile, references: List[RemoteFile], budget: int,
          pixel_size: Optional[float]) -> Shown:
    path = image.path
    if split_compression(path)[1]:
        msg = "%s is compressed as a whole, so that no part of it can be shown: download it." % path
        raise EntryError(msg)
    state = connection.state(path)
    try:
        with tempfile.TemporaryDirectory(prefix="empiar-") as folder:
            factors, gain_bytes, note = None, 0, ""
            if references:
                factors, gain_bytes, note = _gain(connection, references[0], path, folder, int(budget * GAIN_SHARE))
            remote = RemoteStream(connection, path, state.size, budget - gain_bytes)
            frames, total, height = _frames(remote, path, budget - gain_bytes)
            average = average_of(frames, path)
            corrected, note = factors.apply(average) if factors else (average, note)
    except BudgetError as error:
        msg = "A frame of %s takes more than the %s that may be fetched: ask for a larger budget." % (
            path, format_bytes(budget))
        raise EntryError(msg) from error
    except (BadImageError, ValueError, RuntimeError, IndexError, KeyError, TypeError, ArithmeticError, AssertionError,
            MemoryError, tifffile.TiffFileError) as error:
        why = EXTRA if "imagecodecs" in str(error) else str(error) or type(error).__name__
        msg = "%s cannot be shown (%s)." % (path, why)
        raise EntryError(msg) from error
    return Shown(path, average.shape[1], height, len(frames), total, remote.received + gain_bytes, pixel_size,
                 preview_of(corrected, note), average.shape[0] if average.shape[0] < height else 0)


def _frames(remote: RemoteStream, path: str, budget: int) -> Tuple[List[np.ndarray], Optional[int], int]:
    """(frames, the first row at the bottom; how many there are; how many rows each has). Raises BudgetError where not
    even one is had."""
    if is_gatan(path):
        return _gatan_frames(remote, budget)
    start = remote.read(MRC_HEADER_BYTES)
    remote.seek(0)
    if start[:2] in (b"II", b"MM"):
        pages, total = _tiff_frames(remote, path)
        return pages, total, pages[0].shape[0]
    layout = mrc_layout(start)
    return list(_mrc_frames(remote, layout, os.path.basename(path), budget)), layout.frames, layout.height


def _mrc_frames(remote: RemoteStream, layout: MrcLayout, name: str, budget: int) -> Iterator[np.ndarray]:
    """By way of a file of its own with these frames alone, which is read as any other; of a frame that is too large its
    lowest rows."""
    frame_bytes = (layout.promised_bytes - layout.data_offset) // layout.frames
    # Half a block more at either end of what is read.
    room = budget - layout.data_offset - 3 * BLOCK_BYTES
    count, height = min(layout.frames, room // frame_bytes), layout.height
    if count < 1:
        count, height = 1, room * layout.height // frame_bytes
    if height < min(layout.height, LEAST_ROWS):
        raise BudgetError
    remote.seek(0)
    content = bytearray(remote.read(layout.data_offset + count * frame_bytes * height // layout.height))
    struct.pack_into(layout.order + "2i", content, 4, height, count)
    with tempfile.TemporaryDirectory(prefix="empiar-") as folder:
        local = os.path.join(folder, name)
        with open(local, "wb") as stream:
            stream.write(content)
        yield from [frame.copy() for frame in iter_frames(local)]


def _gatan_frames(remote: RemoteStream, budget: int) -> Tuple[List[np.ndarray], int, int]:
    """A file's first row is the uppermost one; of a frame that is too large those."""
    try:
        from ncempy.io import dm  # where there is Scipion, there it is
    except ImportError as error:
        msg = "Gatan's format is read by ncempy, which is not here: pip install ncempy"
        raise BadImageError(msg) from error

    class Remote(dm.fileDM):  # type: ignore[misc]
        def fromfile(self, file: RemoteStream, dtype: Any, count: int = 1) -> np.ndarray:
            """As numpy's, which takes files of this machine alone."""
            data = file.read(np.dtype(dtype).itemsize * int(count))
            return np.frombuffer(data, dtype, int(count))

    try:
        file = Remote(remote)
        # The first of several images is a small one, to be shown in lists.
        index = 0 if file.numObjects == 1 else 1
        height, total = int(file.ySize[index]), int(file.zSize[index])
        frame_bytes = max(int(file.dataSize[index]) // max(total * int(file.zSize2[index]), 1), 1)
        room = budget - remote.received - 2 * BLOCK_BYTES
        rows = min(height, room * height // frame_bytes)
        if rows < min(height, LEAST_ROWS):
            raise BudgetError
        file.ySize[index] = rows
        count = max(1, min(total, room // frame_bytes))
        return [file.getSlice(0, number)["data"][::-1] for number in range(count)], total, height
    except OSError as error:
        # As ncempy says of what is no such file, and of colours and complex numbers.
        msg = "it holds no image of Gatan's format that ncempy reads"
        raise BadImageError(msg) from error


def _tiff_frames(remote: RemoteStream, path: str) -> Tuple[List[np.ndarray], Optional[int]]:
    frames: List[np.ndarray] = []
    total: Optional[int] = None
    with contextlib.suppress(BudgetError), _complaints() as complaints, tifffile.TiffFile(
            cast(BinaryIO, remote), name=os.path.basename(path)) as tiff:
        # The directories of all frames lie all over the file: the first one tells.
        is_eer = tiff.pages[0].compression in EER_COMPRESSIONS
        places = set()
        for page in tiff.pages:
            if page.offset in places:
                msg = "its list of frames breaks off after %d frames" % len(frames)
                raise BadImageError(msg)
            places.add(page.offset)
            if getattr(page, "is_reduced", False) or (is_eer and page.compression not in EER_COMPRESSIONS):
                continue
            frame = page.asarray()
            frames.append(frame if is_eer or path.lower().endswith(AS_THEY_ARE) else frame[::-1])
        total = len(frames)
        if complaints:
            # As of a file that is cut: tifffile goes on with the frames that it has seen.
            msg = "its list of frames breaks off after %d frames" % len(frames)
            raise BadImageError(msg)
    if not frames:
        raise BudgetError
    return frames, total


@contextlib.contextmanager
def _complaints() -> Iterator[List[str]]:
    """What tifffile says of a file in its log, which it does not raise."""
    found: List[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # "invalid page offset", "invalid offset to page 4"
            if "page" in record.getMessage() and "offset" in record.getMessage():
                found.append(record.getMessage())

    handler, log = Handler(), logging.getLogger("tifffile")
    log.addHandler(handler)
    try:
        yield found
    finally:
        log.removeHandler(handler)


def _gain(connection: Connection, reference: RemoteFile, movie: str, folder: str,
          most: int) -> Tuple[Optional[Correction], int, str]:
    """The gain reference where it is small enough, how many bytes it had, and why it is not applied."""
    if is_gatan(reference.path) or split_compression(reference.path)[1]:
        return None, 0, "the gain reference %s is not applied, for its format" % reference.path
    with contextlib.suppress(NotFoundError, BrokenFileError):
        size = reference.size if (reference.size or 0) > most else connection.state(reference.path).size
        if size is not None and size > most:
            return None, 0, "the gain reference %s is not applied, for it takes %s: ask for a larger budget" % (
                reference.path, format_bytes(size))
        local = os.path.join(folder, os.path.basename(reference.path))
        with open(local, "wb") as stream:
            stream.write(read_bytes(connection, reference.path, 0, size or 0))
        return Correction(local, movie), size or 0, ""
    return None, 0, "the gain reference %s could not be downloaded" % reference.path
