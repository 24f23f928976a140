# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pictures of a movie: the average of its frames and the power spectrum of that average, kept on disk."""
import contextlib
import os
import tempfile
import zipfile
from dataclasses import dataclass
from typing import Iterable, Optional, Tuple

import numpy as np

from .frames import iter_frames
from .gain import NO_GAIN, Correction, Reader
from .header import BadImageError

PREVIEW_PIXELS = 512    # longest side of the frame average shown
TILE_PIXELS = 512       # side of the periodograms that are averaged
REAL_NUMBERS = "biuf"   # kinds of numpy's numbers
CONTRAST_SIGMAS = 3     # grey values shown: mean -/+ so many standard deviations, as is usual in the field
PREVIEW_FOLDER = "previews"
FORMAT = "2 "           # of kept previews: 1 had the first row of TIFF files at the bottom


@dataclass(frozen=True)
class Preview:
    """Arrays (height, width), float32: the average in the movie's own grey values, the spectrum as its logarithm.

    ``binning``: so many pixels of the movie make one of the average; ``gain``: see Correction.
    """
    average: np.ndarray
    spectrum: np.ndarray
    binning: int = 1
    gain: str = NO_GAIN

    def limits(self) -> Tuple[float, float]:
        """Grey values to show as black and as white."""
        return contrast(self.average)


def contrast(image: np.ndarray) -> Tuple[float, float]:
    """Grey values of an image to show as black and as white; what is no number does not count."""
    known = image[np.isfinite(image)]
    mean, sigma = (float(known.mean(dtype="float64")), float(known.std(dtype="float64"))) if known.size else (0.0, 0.0)
    sigma = sigma or 1.0
    return mean - CONTRAST_SIGMAS * sigma, mean + CONTRAST_SIGMAS * sigma


def load_preview(path: str, folder: str, gain: Optional[str] = None, reader: Reader = iter_frames) -> Preview:
    """The preview of the movie at ``path``, from ``folder`` where an up to date one is kept, else made and kept.

    ``gain``: path of the gain reference; ``reader``: path -> frames. A folder that cannot be written to keeps nothing:
    the next call makes the preview again. Raises OSError and BadImageError when the movie cannot be drawn.
    """
    kept = os.path.join(folder, os.path.basename(path) + ".npz")
    source = FORMAT + _stamp(path) + (_stamp(gain) if gain and os.path.exists(gain) else "")
    preview = _kept(kept, source)
    if preview is None:
        preview = make_preview(path, gain, reader)
        with contextlib.suppress(OSError):
            _keep(kept, source, preview)
    return preview


def make_preview(path: str, gain: Optional[str] = None, reader: Reader = iter_frames) -> Preview:
    """The preview of the movie at ``path``, corrected by the gain reference where that can be. Raises as above."""
    return preview_of(*Correction(gain, path, reader).apply(average_frames(path, reader)))


def average_frames(path: str, reader: Reader = iter_frames) -> np.ndarray:
    """The average of a movie's frames, float32 (height, width); one frame at a time is in memory."""
    return average_of(reader(path), os.path.basename(path))


def average_of(frames: Iterable[np.ndarray], name: str) -> np.ndarray:
    """Frames (height, width) of the movie of that name -> their average, float32. Raises BadImageError."""
    total, count = None, 0
    for frame in frames:
        if frame.ndim != 2 or frame.dtype.kind not in REAL_NUMBERS:
            msg = "%s holds no grey images" % name
            raise BadImageError(msg)
        if total is None:
            total = np.zeros(frame.shape, "float32")
        if frame.shape != total.shape:
            msg = "the frames of %s are not of one size" % name
            raise BadImageError(msg)
        total += frame
        count += 1
    if total is None or not total.size:
        msg = "%s has no frame" % name
        raise BadImageError(msg)
    return total / count


def preview_of(average: np.ndarray, gain: str = NO_GAIN) -> Preview:
    """A frame average (height, width) -> Preview; ``gain``: what has become of the gain reference."""
    return Preview(bin_image(average, PREVIEW_PIXELS), power_spectrum(average), binning(average, PREVIEW_PIXELS), gain)


def binning(image: np.ndarray, longest: int) -> int:
    """So many pixels have to become one for no side to be longer than ``longest``."""
    return max(1, -(-max(image.shape) // longest))


def bin_image(image: np.ndarray, longest: int) -> np.ndarray:
    """An image averaged over blocks of pixels until no side is longer than ``longest``, float32.

    What is left over at the ends, less than a block, is cut off; of an image narrower than a block nothing is.
    """
    factors = [min(binning(image, longest), size) for size in image.shape]
    height, width = (size // factor * factor for size, factor in zip(image.shape, factors))
    blocks = image[:height, :width].reshape(height // factors[0], factors[0], width // factors[1], factors[1])
    small: np.ndarray = blocks.mean(axis=(1, 3)).astype("float32")
    return small


def power_spectrum(image: np.ndarray) -> np.ndarray:
    """The logarithm of the periodogram averaged over half-overlapping tiles, zero frequency in the middle, float32."""
    finite = np.isfinite(image)
    if not finite.all():
        # One pixel that is no number would blank all of it.
        image = np.where(finite, image, image[finite].mean() if finite.any() else 0)
    side = min(TILE_PIXELS, *image.shape)
    step = max(side // 2, 1)
    total = np.zeros((side, side), "float64")
    window = np.hanning(side)[:, np.newaxis] * np.hanning(side)[np.newaxis, :]
    for top in range(0, image.shape[0] - side + 1, step):
        for left in range(0, image.shape[1] - side + 1, step):
            tile = image[top:top + side, left:left + side]
            total += np.abs(np.fft.fft2((tile - tile.mean()) * window)) ** 2
    spectrum: np.ndarray = np.log(np.fft.fftshift(total) + 1e-6)
    # The middle would outshine all rings.
    centre = side // 2
    spectrum[centre - 1:centre + 2, centre - 1:centre + 2] = np.median(spectrum)
    return spectrum.astype("float32")


def _stamp(path: str) -> str:
    found = os.stat(path)
    return "%s %d %d;" % (os.path.abspath(path), found.st_mtime_ns, found.st_size)


def _kept(kept: str, source: str) -> Optional[Preview]:
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            if str(arrays["source"]) != source:
                return None
            return Preview(arrays["average"], arrays["spectrum"].astype("float32"), int(arrays["binning"]),
                           str(arrays["gain"]))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None     # none there, of an earlier version, or damaged: it is made anew


def _keep(kept: str, source: str, preview: Preview) -> None:
    """By way of a name of its own, since several windows may look at one movie."""
    # Not those above it: a run that was deleted meanwhile is not to come back.
    with contextlib.suppress(FileExistsError):
        os.mkdir(os.path.dirname(kept))
    handle, temporary = tempfile.mkstemp(suffix=".new", prefix=os.path.basename(kept), dir=os.path.dirname(kept))
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, average=preview.average, spectrum=preview.spectrum.astype("float16"), source=source,
                     binning=preview.binning, gain=preview.gain)
        os.replace(temporary, kept)
    except OSError:
        os.unlink(temporary)
        raise
