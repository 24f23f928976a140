# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of movies as cameras write them: MRC, TIFF, EER or Gatan's; and movies of seeded random numbers, made quickly.

Movies of a specimen of which all is known: specimen.py.
"""
import os
import struct
from typing import Optional

import numpy as np

TIFF_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
EER_METADATA_TAG = 65001        # on the first page it makes a TIFF file an EER file
MRC_MODES = {"int8": 0, "int16": 1, "float32": 2, "uint16": 6}


def make_frames(seed: int, frames: int = 8, width: int = 128, height: int = 96, dtype: str = "uint8") -> np.ndarray:
    """An array (frames, height, width): shot noise, with a few darker discs that drift from frame to frame."""
    random = np.random.default_rng(seed)
    x, y = np.arange(width), np.arange(height)
    ice = np.full((frames, height, width), 20.0)
    for _ in range(6):
        centre_x, centre_y = random.uniform(0, width), random.uniform(0, height)
        down = 6 * np.exp(-(y - centre_y) ** 2 / 60)
        for frame in range(frames):
            ice[frame] -= np.outer(down, np.exp(-(x - centre_x - 0.2 * frame) ** 2 / 60))
    return random.poisson(np.clip(ice, 1, None)).clip(0, 127).astype(dtype)


def write_mrc(path: str, data: np.ndarray, pixel_size: float = 1.0) -> None:
    """``data`` (frames, height, width) as an MRC image stack; ``pixel_size`` in angstrom."""
    frames, height, width = data.shape
    if data.dtype == np.uint8:
        data = data.astype(np.int8)
    header = bytearray(1024)
    struct.pack_into("<4i", header, 0, width, height, frames, MRC_MODES[data.dtype.name])
    struct.pack_into("<3i", header, 28, width, height, 1)
    struct.pack_into("<6f", header, 40, width * pixel_size, height * pixel_size, pixel_size, 90, 90, 90)
    struct.pack_into("<3i", header, 64, 1, 2, 3)
    header[208:216] = b"MAP \x44\x44\x00\x00"
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "wb") as stream:
        stream.write(header)
        stream.write(np.ascontiguousarray(data).tobytes())


def write_tiff(path: str, data: np.ndarray, big: bool = False) -> None:
    """``data`` (frames, height, width) as a TIFF (or BigTIFF, as EER files are) with one strip a frame."""
    frames, height, width = data.shape
    sample_bits = data.dtype.itemsize * 8
    entry, count, offset = ("<HHQQ", "<Q", "<Q") if big else ("<HHII", "<H", "<I")
    strip_bytes = height * width * data.dtype.itemsize
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "wb") as stream:
        stream.write(b"II+\0\x08\0\0\0" if big else b"II*\0")
        position = stream.tell() + struct.calcsize(offset)
        stream.write(struct.pack(offset, position + strip_bytes))
        for number, frame in enumerate(data, start=1):
            strip = stream.tell()
            stream.write(np.ascontiguousarray(frame).tobytes())
            tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, sample_bits), (259, 3, 1, 1), (262, 3, 1, 1),
                    (273, 4, 1, strip), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, strip_bytes),
                    (339, 3, 1, TIFF_SAMPLE_FORMATS[data.dtype.kind])]
            stream.write(struct.pack(count, len(tags)))
            for tag in tags:
                stream.write(struct.pack(entry, *tag))
            following = stream.tell() + struct.calcsize(offset) + strip_bytes
            stream.write(struct.pack(offset, 0 if number == frames else following))


def write_eer(path: str, events: np.ndarray, with_sum: bool = False) -> None:
    """``events`` (frames, height, width), bool: where electrons hit, as an EER file; ``with_sum``: the sum of all
    frames comes first, uncompressed, as some microscopes write it.

    The format: a BigTIFF page for each frame, compression 65000: for each electron the pixels between it and the last
    one in 8 bits (255: so many without one), then 4 bits of where in the pixel.
    """
    height, width = events.shape[1:]
    strips = [(65000, 1, _eer_strip(frame)) for frame in events]
    if with_sum:
        strips.insert(0, (1, 8, events.sum(axis=0).astype("uint8").tobytes()))
    with open(path, "wb") as stream:
        stream.write(b"II+\0\x08\0\0\0")
        place = 16
        stream.write(struct.pack("<Q", place + len(strips[0][2])))
        for number, (compression, bits, strip) in enumerate(strips):
            tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, compression),
                    (262, 3, 1, 1), (273, 16, 1, place), (277, 3, 1, 1), (278, 4, 1, height), (279, 16, 1, len(strip)),
                    (EER_METADATA_TAG, 7, 4, 0)]
            page = strip + struct.pack("<Q", len(tags)) + b"".join(struct.pack("<HHQQ", *tag) for tag in tags)
            place += len(page) + 8
            following = place + len(strips[number + 1][2]) if number + 1 < len(strips) else 0
            stream.write(page + struct.pack("<Q", following))


def _eer_strip(frame: np.ndarray) -> bytes:
    hits = np.append(np.flatnonzero(frame), frame.size)
    gaps = np.diff(hits, prepend=-1) - 1
    # For each electron bytes of 255 without one, 8 bits of the rest, 4 of where in the pixel; lowest bits first.
    runs = gaps // 255
    bits = np.ones(int((8 * runs + 12).sum()), "uint8")
    starts = np.cumsum(8 * runs + 12) - 12
    for bit in range(8):
        bits[starts + bit] = gaps % 255 >> bit & 1
    for bit, value in enumerate((0, 1, 0, 1)):
        bits[starts + 8 + bit] = value
    return np.packbits(bits, bitorder="little").tobytes()


def write_dm4(path: str, data: np.ndarray) -> None:
    """``data`` (frames, height, width), float32, as a minimal Gatan DM4 file: the image and no other tag.

    The format: https://personal.ntu.edu.sg/cbb/info/dmformat/ (DM3 and DM4 file formats).
    """
    def tag(name: str, kind: int, content: bytes) -> bytes:
        return struct.pack(">BH", kind, len(name)) + name.encode() + struct.pack(">Q", len(content)) + content

    def values(kind: int, packed: bytes) -> bytes:
        return b"%%%%" + struct.pack(">QQ", 1, kind) + packed

    def array(kind: int, count: int, packed: bytes) -> bytes:
        return b"%%%%" + struct.pack(">QQQQ", 3, 20, kind, count) + packed

    def group(*tags: bytes) -> bytes:
        return struct.pack(">BBQ", 1, 0, len(tags)) + b"".join(tags)

    shape = [size for size in data.shape[::-1] if size != 1] or [1]
    dimensions = group(*[tag("", 21, values(5, struct.pack("<I", size))) for size in shape])
    calibration = group(tag("Origin", 21, values(6, struct.pack("<f", 0))), tag("Scale", 21, values(6, struct.pack(
        "<f", 1))))
    image = group(tag("Calibrations", 20, group(tag("Dimension", 20, group(*[tag("", 20, calibration)] * len(shape))))),
                  tag("Data", 21, array(6, data.size, np.ascontiguousarray(data, "<f4").tobytes())),
                  tag("DataType", 21, values(5, struct.pack("<I", 2))),
                  tag("Dimensions", 20, dimensions),
                  tag("PixelDepth", 21, values(5, struct.pack("<I", 4))))
    root = group(tag("ImageList", 20, group(tag("", 20, group(tag("ImageData", 20, image))))))
    with open(path, "wb") as stream:
        stream.write(struct.pack(">IQI", 4, len(root) + 8, 1) + root + bytes(8))


def write_movie(path: str, seed: int, frames: int = 8, width: int = 128, height: int = 96,
                dtype: Optional[str] = None) -> None:
    """A movie in the format that the name's extension says; its folder is made."""
    extension = os.path.splitext(path)[1].lower()
    if extension in (".mrc", ".mrcs"):
        write_mrc(path, make_frames(seed, frames, width, height, dtype or "int8"))
    else:
        write_tiff(path, make_frames(seed, frames, width, height, dtype or "uint8"), big=extension == ".eer")


def write_image(path: str, image: np.ndarray) -> None:
    """One image (height, width), MRC or TIFF as the extension says; its folder is made."""
    if os.path.splitext(path)[1].lower() in (".mrc", ".mrcs"):
        write_mrc(path, image[None])
    else:
        write_tiff(path, image[None])


def write_gain(path: str, seed: int, width: int = 128, height: int = 96) -> None:
    """A gain reference around 1: a float32 image, MRC or TIFF as the extension says."""
    write_image(path, np.random.default_rng(seed).normal(1, 0.02, (height, width)).astype("float32"))
