# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames of a movie one by one, whatever its format."""
import os
from typing import Iterator

import mrcfile
import numpy as np
import tifffile

from .header import EER_COMPRESSIONS, MRC_HEADER_BYTES, MRC_MODE_4BIT, BadImageError, mrc_layout, read_header

AS_THEY_ARE = (".eer", ".gain")     # TIFF files whose first row is the lowest one
EXTRA = "pip install 'scipion-em-empiardownloader[view]'"


def iter_frames(path: str) -> Iterator[np.ndarray]:
    """The frames of an MRC, TIFF or EER file one by one, arrays (height, width), the first row at the bottom.

    A TIFF file's first row is the uppermost one, that of an MRC file the lowest: motion correction reads TIFF files
    upside down, so that micrographs, and what is picked in them, lie as MRC movies do (RELION's reference, page
    "Conventions"); not so EER movies and their .gain files (measured with RELION 3.1). Raises
    BadImageError, in words for the user, when it cannot be decoded here; OSError.
    """
    with open(path, "rb") as stream:
        start = stream.read(MRC_HEADER_BYTES)
    try:
        if start[:2] in (b"II", b"MM"):
            yield from _tiff_frames(path)
        elif mrc_layout(start).mode == MRC_MODE_4BIT:
            yield from _four_bit_frames(path, start)
        else:
            yield from _mrc_frames(path, mrc_layout(start).has_unsigned_bytes)
    except (OSError, BadImageError):
        raise
    except Exception as error:
        # Readers and decoders of others, over a file that is damaged or not as its header says.
        msg = "%s cannot be decoded" % os.path.basename(path)
        raise BadImageError(msg) from error


def _mrc_frames(path: str, has_unsigned_bytes: bool) -> Iterator[np.ndarray]:
    with mrcfile.mmap(path, mode="r", permissive=True) as mrc:
        (height, width), dtype, offset = mrc.data.shape[-2:], mrc.data.dtype, mrc.data.offset
        frames = mrc.data.size // (height * width)
    dtype = np.dtype("uint8") if has_unsigned_bytes else dtype
    # Read, not mapped: the pages of a mapped file stay in memory until all of it has passed.
    for frame in range(frames):
        start = offset + frame * height * width * dtype.itemsize
        yield np.fromfile(path, dtype, height * width, offset=start).reshape(height, width)


def _four_bit_frames(path: str, start: bytes) -> Iterator[np.ndarray]:
    """IMOD's mode 101: two pixels a byte, the first in the lower half, every row on a new byte."""
    layout = mrc_layout(start)
    row_bytes = (layout.width + 1) // 2
    for frame in range(layout.frames):
        offset = layout.data_offset + frame * row_bytes * layout.height
        packed = np.fromfile(path, "uint8", row_bytes * layout.height, offset=offset).reshape(layout.height, row_bytes)
        image = np.empty((layout.height, 2 * row_bytes), "uint8")
        image[:, ::2], image[:, 1::2] = packed & 15, packed >> 4
        yield image[:, :layout.width]


def _tiff_frames(path: str) -> Iterator[np.ndarray]:
    # It finds out about directories that lead to one another in a circle, which tifffile would follow for ever.
    read_header(path)
    with tifffile.TiffFile(path) as tiff:
        is_eer = any(page.compression in EER_COMPRESSIONS for page in tiff.pages)
        for number, page in enumerate(tiff.pages):
            if getattr(page, "is_reduced", False) or (is_eer and page.compression not in EER_COMPRESSIONS):
                continue
            try:
                frame = page.asarray()
            except (ValueError, RuntimeError) as error:
                # tifffile leaves LZW, and most others, to imagecodecs, which Scipion does not bring.
                if "imagecodecs" not in str(error):
                    raise
                frame = _pillow_frame(path, number)
            yield frame if is_eer or path.lower().endswith(AS_THEY_ARE) else frame[::-1]


def _pillow_frame(path: str, number: int) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError  # only where tifffile is at its end
    try:
        with Image.open(path) as image:
            image.seek(number)
            return np.asarray(image)
    except (OSError, EOFError, UnidentifiedImageError) as error:
        msg = "%s is compressed in a way that is not decoded here: %s" % (os.path.basename(path), EXTRA)
        raise BadImageError(msg) from error
