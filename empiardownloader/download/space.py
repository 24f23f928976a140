# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what is asked for fits on the disk; said before the first byte, and again once more is known."""
import os
import shutil
from typing import List, Optional

from ..archive.entry import ImageSet
from ..archive.errors import DiskError
from ..archive.names import extension_of, split_compression
from ..archive.selection import RemoteFile
from ..transfer.parts import PREFIX
from ..transfer.unpack import SPARE_BYTES
from ..units import format_bytes

# Compressed files on the disk at a time beside what becomes of them.
PACKED_AT_A_TIME = 4


def expected_bytes(file: RemoteFile, image_set: ImageSet, unpack: bool) -> int:
    """What a file takes on the disk: its size as listed, or, where it is to be decompressed, what it becomes.

    An MRC movie holds every pixel in a byte at least; how small a TIFF is inside nobody can tell.
    """
    packed = unpack and bool(split_compression(file.path)[1])
    pixels = (image_set.width or 0) * (image_set.height or 0) * (image_set.frames or 0)
    if packed and extension_of(file.path) in (".mrc", ".mrcs"):
        return max(file.size or 0, pixels)
    return file.size or 0


def check_space(subject: str, needed: int, place: str) -> None:
    """Raises DiskError when ``needed`` bytes more do not fit; ``subject``: '12 movies of EMPIAR-10200'."""
    usage = shutil.disk_usage(existing(place))
    free = usage.free
    # Some network file systems say that they have no room at all, nor a size.
    if usage.total and needed + SPARE_BYTES > free:
        msg = "%s need about %s, and %s must stay free; only %s are free in %s: make room, choose another download " \
              "folder or ask for fewer images." % (subject, format_bytes(needed), format_bytes(SPARE_BYTES),
                                                   format_bytes(free), os.path.abspath(place))
        raise DiskError(msg)


def bytes_needed(known: List[RemoteFile], wanted: Optional[int], there: "set[str]", image_set: ImageSet, unpack: bool,
                 measured: Optional[int] = None) -> Optional[int]:
    """Bytes that are still to come; None where nothing can be said.

    ``known``: the movies listed so far; ``wanted``: how many are asked for, None for all; ``there``: paths of those
    that need no room any more; ``measured``: what a movie took on the disk.
    """
    known = [file for file in known if file.size or measured]
    if not known or wanted is None:
        return None
    sizes = [measured or expected_bytes(file, image_set, unpack) for file in known]
    missing = sum(size for file, size in list(zip(known, sizes))[:wanted] if file.path not in there)
    more = int(max(wanted - len(known), 0) * sum(sizes) / len(sizes))
    packed = max((file.size or 0 for file in known if unpack and split_compression(file.path)[1]), default=0)
    return int(missing) + more + (PACKED_AT_A_TIME * packed if missing or more else 0)


def bytes_in_parts(folder: str) -> int:
    """Disk space that half-fetched files hold already."""
    total = 0
    for current, _, names in os.walk(folder):
        for name in names:
            if name.startswith(PREFIX):
                try:
                    total += os.stat(os.path.join(current, name)).st_blocks * 512
                except FileNotFoundError:
                    continue    # another run has just finished it
    return total


def existing(path: str) -> str:
    """The nearest folder above that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
