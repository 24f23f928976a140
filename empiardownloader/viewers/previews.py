# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pictures of a movie: the average of its frames and the power spectrum of that average, kept on disk."""
import os
from dataclasses import dataclass

import numpy as np

from ..images.frames import iter_frames
from ..images.header import BadImageError
from ..protocols.headers import isDmFile, readDmFrames

PREVIEW_PIXELS = 384    # longest side of the frame average shown
TILE_PIXELS = 512       # side of the periodograms that are averaged
CONTRAST_SIGMAS = 3     # grey values shown: mean -/+ so many standard deviations, as is usual in the field
PREVIEW_FOLDER = "previews"


@dataclass(frozen=True)
class Preview:
    """Arrays (height, width), float32: the average in the movie's own grey values, the spectrum as its logarithm."""
    average: np.ndarray
    spectrum: np.ndarray

    def limits(self):
        """Grey values to show as black and as white."""
        mean, sigma = float(self.average.mean()), float(self.average.std()) or 1.0
        return mean - CONTRAST_SIGMAS * sigma, mean + CONTRAST_SIGMAS * sigma


def load_preview(path, folder):
    """The preview of the movie at ``path``, from ``folder`` where an up to date one is kept, else made and kept.

    Raises OSError and BadImageError when the movie cannot be drawn.
    """
    kept = os.path.join(folder, os.path.basename(path) + ".npz")
    if os.path.exists(kept) and os.path.getmtime(kept) >= os.path.getmtime(path):
        with np.load(kept) as arrays:
            return Preview(arrays["average"].astype("float32"), arrays["spectrum"].astype("float32"))
    preview = make_preview(average_frames(path))
    os.makedirs(folder, exist_ok=True)
    temporary = kept + ".new.npz"
    np.savez(temporary, average=preview.average, spectrum=preview.spectrum.astype("float16"))
    os.replace(temporary, kept)
    return preview


def average_frames(path):
    """The average of a movie's frames, float32 (height, width); one frame at a time is in memory."""
    total, count = None, 0
    for frame in _frames(path):
        if total is None:
            total = np.zeros(frame.shape, "float32")
        total += frame
        count += 1
    if total is None:
        msg = "%s has no frame" % os.path.basename(path)
        raise BadImageError(msg)
    return total / count


def _frames(path):
    """The frames of a movie, arrays (height, width); Gatan's files go through Scipion's reader, as a whole."""
    if not isDmFile(path):
        yield from iter_frames(path)
        return
    yield from readDmFrames(path)


def make_preview(average):
    """The frame average (height, width) -> Preview."""
    return Preview(bin_image(average, PREVIEW_PIXELS), power_spectrum(average))


def bin_image(image, longest):
    """An image averaged over blocks of pixels until no side is longer than ``longest``."""
    factor = max(1, -(-max(image.shape) // longest))
    height, width = (size // factor * factor for size in image.shape)
    blocks = image[:height, :width].reshape(height // factor, factor, width // factor, factor)
    return blocks.mean(axis=(1, 3)).astype("float32")


def power_spectrum(image):
    """The logarithm of the periodogram averaged over half-overlapping tiles, zero frequency in the middle."""
    side = min(TILE_PIXELS, *image.shape)
    step = max(side // 2, 1)
    total = np.zeros((side, side), "float64")
    window = np.hanning(side)[:, np.newaxis] * np.hanning(side)[np.newaxis, :]
    for top in range(0, image.shape[0] - side + 1, step):
        for left in range(0, image.shape[1] - side + 1, step):
            tile = image[top:top + side, left:left + side]
            total += np.abs(np.fft.fft2((tile - tile.mean()) * window)) ** 2
    spectrum = np.log(np.fft.fftshift(total) + 1e-6)
    # The middle would outshine all rings.
    centre = side // 2
    spectrum[centre - 1:centre + 2, centre - 1:centre + 2] = np.median(spectrum)
    return spectrum.astype("float32")
