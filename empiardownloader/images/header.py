# SPDX-License-Identifier: GPL-3.0-or-later
"""Width, height and frames of a movie or a gain reference, from its own header.

Sources: the MRC2014 format (https://www.ccpem.ac.uk/mrc_format/mrc2014.php, with IMOD's modes 16 and
101), TIFF 6.0, BigTIFF; EER files are BigTIFF with one directory per frame.
"""
import functools
import os
import struct
from dataclasses import dataclass, field
from typing import BinaryIO, Callable, Dict, List, NamedTuple, Optional, Tuple

MRC_HEADER_BYTES = 1024
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")      # the last two of BigTIFF
MRC_MODE_BITS = {0: 8, 1: 16, 2: 32, 3: 32, 4: 64, 6: 16, 7: 32, 12: 16, 16: 24}
MRC_MODE_4BIT = 101  # two pixels in a byte, every row starts on a new byte
MAX_PIXELS = 1 << 17  # a side longer than this is no camera but a misread header
# The longest EER movies have some thousand frames, and each is a directory to be read.
MAX_FRAMES = 1 << 17
MAX_DIRECTORY_BYTES = 1 << 16       # of a page of a TIFF file that is looked at from afar
# MRC2014's machine stamp, of files whose numbers begin with the largest byte.
MRC_STAMP_BYTE, MRC_BIG_ENDIAN = 212, b"\x11\x11"
# IMOD writes this stamp, and behind it flags of which the first says whether bytes are signed.
IMOD_STAMP, IMOD_STAMP_OFFSET_BYTES, IMOD_SIGNED_BYTES = 1146047817, 152, 1
MRC_MODE_BYTES = 0
TIFF_WIDTH, TIFF_HEIGHT, TIFF_COMPRESSION, TIFF_SUBFILE_TYPE = 256, 257, 259, 254
# A page that shows another one smaller is no frame.
TIFF_REDUCED = 1
# How the frames of EER files are compressed. A page of such a file that is compressed in another way is none of them:
# some microscopes put the sum of all frames first.
EER_COMPRESSIONS = (65000, 65001, 65002)
TIFF_OFFSETS = (273, 324)       # of strips, of tiles
TIFF_BYTE_COUNTS = (279, 325)
TIFF_TAGS = (TIFF_WIDTH, TIFF_HEIGHT, TIFF_COMPRESSION, TIFF_SUBFILE_TYPE) + TIFF_OFFSETS + TIFF_BYTE_COUNTS
TIFF_TYPE_BYTES = {1: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}
TIFF_INTEGER_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


class BadImageError(Exception):
    """A file on disk that is not a whole image of a known format."""


@dataclass(frozen=True)
class Header:
    """Size of an image file in pixels: ``frames`` images of ``width`` x ``height``."""
    width: int
    height: int
    frames: int
    # Whether an MRC file says that its sections are images of their own, and not those of a volume.
    is_image_stack: bool = field(default=False, compare=False)

    def fits(self, other: "Header") -> bool:
        """Whether one frame of each is equally large, also when turned by 90 degrees."""
        return (self.width, self.height) in ((other.width, other.height), (other.height, other.width))

    def fits_turned_only(self, other: "Header") -> bool:
        """Whether one frame has to be turned by 90 degrees (or transposed, which nobody can tell) to be as large."""
        return self.fits(other) and (self.width, self.height) != (other.width, other.height)

    @property
    def is_cube(self) -> bool:
        return self.width == self.height == self.frames


def is_gatan(path: str) -> bool:
    """Whether a file is in one of Gatan's formats, which Scipion's own reader opens and nothing here does."""
    return path.lower().endswith((".dm3", ".dm4"))


def read_header(path: str) -> Header:
    """The header of an MRC, TIFF, BigTIFF or EER file, told apart by their first bytes, not by the name.

    Raises BadImageError when the file is neither, or shorter than its header says.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        start = stream.read(MRC_HEADER_BYTES)
        try:
            if start[:4] in TIFF_STARTS:
                return _read_tiff(stream, start, size)
            return _read_mrc(start, size)
        except (struct.error, ValueError, OverflowError, MemoryError) as error:
            # Numbers that no file can have: an offset past every end, a list of billions of entries.
            msg = "its header cannot be read"
            raise BadImageError(msg) from error


def peek_header(start: bytes, size: int) -> Optional[Header]:
    """The header of an MRC file of ``size`` bytes that begins like this; None for other formats, whose headers may lie
    anywhere, and where too little of it is there.

    Raises BadImageError when the file is shorter than its header says.
    """
    try:
        mrc_layout(start)
    except BadImageError:
        return None
    return _read_mrc(start, size)


def size_of_first(stream: BinaryIO, size: int) -> Optional[Header]:
    """The header by the first bytes of an MRC or TIFF file and by nothing but the first directory of the latter, whose
    ``frames`` are 0; None where they do not tell. ``stream`` may be far away: what it raises is its own."""
    start = stream.read(MRC_HEADER_BYTES)
    try:
        if start[:4] not in TIFF_STARTS:
            layout = mrc_layout(start)
            return Header(layout.width, layout.height, layout.frames)
        tiff = _tiff_layout(start)
        unpack_at = functools.partial(tiff.unpack_at, stream)
        entries, = unpack_at(tiff.first, tiff.count_code)
        if not 0 < entries * tiff.entry_bytes <= min(size, MAX_DIRECTORY_BYTES):
            return None
        directory = stream.read(entries * tiff.entry_bytes)
        tags = _tags(directory, entries, tiff.order, tiff.is_big, unpack_at)
    except (struct.error, ValueError, OverflowError, BadImageError):
        return None
    width, height = tags.get(TIFF_WIDTH, 0), tags.get(TIFF_HEIGHT, 0)
    return Header(width, height, 0) if 0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS else None


@dataclass(frozen=True)
class MrcLayout:
    """What the first 1024 bytes of an MRC file say; sizes in pixels."""
    width: int
    height: int
    frames: int
    mode: int
    data_offset: int        # bytes
    is_image_stack: bool
    has_unsigned_bytes: bool = False
    order: str = "<"        # of the bytes of numbers, as struct has it

    @property
    def promised_bytes(self) -> int:
        """How long the file is at least."""
        if self.mode == MRC_MODE_4BIT:
            frame_bytes = (self.width + 1) // 2 * self.height
        else:
            frame_bytes = self.width * self.height * MRC_MODE_BITS[self.mode] // 8
        return self.data_offset + frame_bytes * self.frames


def promised_bytes(start: bytes) -> Optional[int]:
    """How long an MRC file says to be, from its first bytes (1024 or more); None for what is no MRC file."""
    try:
        return mrc_layout(start).promised_bytes
    except BadImageError:
        return None


def _read_mrc(start: bytes, size: int) -> Header:
    layout = mrc_layout(start)
    if size < layout.promised_bytes:
        msg = "its header promises %d bytes (%d x %d x %d), the file has %d" % (
            layout.promised_bytes, layout.width, layout.height, layout.frames, size)
        raise BadImageError(msg)
    return Header(layout.width, layout.height, layout.frames, layout.is_image_stack)


def mrc_layout(start: bytes) -> MrcLayout:
    """The first bytes of an MRC file (1024 or more) -> what they say. Raises BadImageError."""
    if len(start) < MRC_HEADER_BYTES:
        msg = "it is no image: only %d bytes" % len(start)
        raise BadImageError(msg)
    # A file of width 256 makes sense in both orders where all pixels are bytes: then the machine stamp decides.
    for order in (">", "<") if start[MRC_STAMP_BYTE:MRC_STAMP_BYTE + 2] == MRC_BIG_ENDIAN else ("<", ">"):
        width, height, frames, mode = struct.unpack_from(order + "4i", start)
        extended, = struct.unpack_from(order + "i", start, 92)
        known = mode in MRC_MODE_BITS or mode == MRC_MODE_4BIT
        if known and 0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS and frames > 0 and extended >= 0:
            break
    else:
        msg = "it is neither an MRC nor a TIFF image"
        raise BadImageError(msg)
    depth, = struct.unpack_from(order + "i", start, 36)
    space_group, = struct.unpack_from(order + "i", start, 88)
    stamp, flags = struct.unpack_from(order + "2i", start, IMOD_STAMP_OFFSET_BYTES)
    unsigned = mode == MRC_MODE_BYTES and stamp == IMOD_STAMP and not flags & IMOD_SIGNED_BYTES
    # MRC2014: space group 0 and a depth of 1 stand for images; many programs write the number of sections for volumes.
    return MrcLayout(width, height, frames, mode, MRC_HEADER_BYTES + extended,
                     frames > 1 and space_group == 0 and depth == 1, unsigned, order)


class _TiffLayout(NamedTuple):
    """How a TIFF or BigTIFF file writes its numbers, as struct has it."""
    order: str
    is_big: bool
    offset_code: str
    count_code: str         # of the entries of a directory
    entry_bytes: int        # of one of these
    first: int              # where the first directory is

    def unpack_at(self, stream: BinaryIO, offset: int, code: str) -> Tuple[int, ...]:
        stream.seek(offset)
        layout = self.order + code
        return struct.unpack(layout, stream.read(struct.calcsize(layout)))


def _tiff_layout(start: bytes) -> _TiffLayout:
    """Raises struct.error."""
    order, is_big = "<" if start[:2] == b"II" else ">", b"+" in start[2:4]
    offset_code, count_code, entry_bytes = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    first, = struct.unpack_from(order + offset_code, start, 8 if is_big else 4)
    return _TiffLayout(order, is_big, offset_code, count_code, entry_bytes, first)


def _read_tiff(stream: BinaryIO, start: bytes, size: int) -> Header:
    tiff = _tiff_layout(start)
    order, big, offset_code, count_code, entry_bytes, next_offset = tiff
    unpack_at = functools.partial(tiff.unpack_at, stream)
    sizes: List[Tuple[int, int]] = []           # of the pages with pixels
    eer_sizes: List[Tuple[int, int]] = []       # of those that are compressed as frames of EER files
    frames = 0
    seen = set()
    while next_offset:
        if next_offset in seen or next_offset >= size:
            msg = "its list of frames breaks off after %d frames" % frames
            raise BadImageError(msg)
        seen.add(next_offset)
        entries, = unpack_at(next_offset, count_code)
        if entries * entry_bytes > size:
            msg = "its list of frames breaks off after %d frames" % frames
            raise BadImageError(msg)
        stream.seek(next_offset + struct.calcsize(order + count_code))
        directory = stream.read(entries * entry_bytes + struct.calcsize(order + offset_code))
        if len(directory) < entries * entry_bytes:
            msg = "its list of frames breaks off after %d frames" % frames
            raise BadImageError(msg)
        tags = _tags(directory, entries, order, big, unpack_at)
        end = sum(max((tags.get(code, 0) for code in codes)) for codes in (TIFF_OFFSETS, TIFF_BYTE_COUNTS))
        if end > size:
            msg = "frame %d ends at byte %d, the file has %d" % (frames + 1, end, size)
            raise BadImageError(msg)
        # A directory without pixels describes the file, or nothing.
        if any(code in tags for code in TIFF_OFFSETS) and not tags.get(TIFF_SUBFILE_TYPE, 0) & TIFF_REDUCED:
            frames += 1
            size_of_page = tags.get(TIFF_WIDTH, 0), tags.get(TIFF_HEIGHT, 0)
            sizes.append(size_of_page)
            if tags.get(TIFF_COMPRESSION) in EER_COMPRESSIONS:
                eer_sizes.append(size_of_page)
        if len(seen) > MAX_FRAMES:
            msg = "it has more than %d frames" % MAX_FRAMES
            raise BadImageError(msg)
        next_offset, = struct.unpack_from(order + offset_code, directory, entries * entry_bytes)
    if not frames:
        msg = "its TIFF header names no pixels"
        raise BadImageError(msg)
    frames = len(eer_sizes) or frames
    width, height = (eer_sizes or sizes)[0]
    if not (0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS):
        msg = "its TIFF header gives no size"
        raise BadImageError(msg)
    return Header(width, height, frames)


def _tags(directory: bytes, entries: int, order: str, big: bool,
          unpack_at: Callable[[int, str], Tuple[int, ...]]) -> Dict[int, int]:
    """The last value of each tag that tells size or place of the pixels."""
    tags = {}
    value_at, inline_bytes, entry_bytes = (12, 8, 20) if big else (8, 4, 12)
    for index in range(entries):
        at = index * entry_bytes
        tag, kind = struct.unpack_from(order + "HH", directory, at)
        if tag not in TIFF_TAGS or kind not in TIFF_INTEGER_CODES:
            continue
        count, = struct.unpack_from(order + ("Q" if big else "I"), directory, at + 4)
        if not count:
            continue
        item_bytes = TIFF_TYPE_BYTES[kind]
        if count * item_bytes <= inline_bytes:
            tags[tag], = struct.unpack_from(order + TIFF_INTEGER_CODES[kind], directory,
                                            at + value_at + (count - 1) * item_bytes)
        else:
            offset, = struct.unpack_from(order + ("Q" if big else "I"), directory, at + value_at)
            tags[tag], = unpack_at(offset + (count - 1) * item_bytes, TIFF_INTEGER_CODES[kind])
    return tags
