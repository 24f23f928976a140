# SPDX-License-Identifier: GPL-3.0-or-later
"""Gain correction, as the programs of the field do it.

Source: RELION's reference, page "Movie Compression" (of EER movies only a .gain file multiplies, any other divides, and
a gain of zero marks a defect); measured with RELION 3.1. How rows run: see frames.py.
"""
import os
from typing import Callable, Iterator, Optional, Tuple

import numpy as np

from .frames import iter_frames
from .header import BadImageError

Reader = Callable[[str], Iterator[np.ndarray]]
EER_ENDING, EER_GAIN_ENDING = ".eer", ".gain"
NO_GAIN, GAIN_APPLIED = "", "gain applied"


def read_gain(path: str, movie: str, reader: Reader = iter_frames) -> np.ndarray:
    """What the pixels of the movie at ``movie`` are to be multiplied with: float32 (height, width), in its rows' order.

    ``path``: the gain reference; of several images in it the first counts. Raises BadImageError, OSError.
    """
    first: Optional[np.ndarray] = next(iter(reader(path)), None)
    if first is None or first.ndim != 2:
        msg = "%s has no grey image" % os.path.basename(path)
        raise BadImageError(msg)
    gain = np.asarray(first, "float32")
    gain_ending, movie_ending = (os.path.splitext(name)[1].lower() for name in (path, movie))
    if movie_ending == EER_ENDING and gain_ending != EER_GAIN_ENDING:
        gain = np.divide(1, gain, out=np.zeros_like(gain), where=gain != 0)
    return gain


class Correction:
    """Corrects a movie's images by a gain reference, which is read once and not applied where it does not fit.

    ``gain``: its path, None where there is none; ``movie``: path of the movie.
    """

    def __init__(self, gain: Optional[str], movie: str, reader: Reader = iter_frames) -> None:
        self._factors: Optional[np.ndarray] = None
        self._problem = ""
        if gain:
            try:
                self._factors = read_gain(gain, movie, reader)
            except (OSError, BadImageError) as error:
                self._problem = _not_applied(error)

    def apply(self, image: np.ndarray) -> Tuple[np.ndarray, str]:
        """An image (height, width) -> corrected where that can be, and what has become of the gain: GAIN_APPLIED,
        NO_GAIN, or why it is not applied."""
        if self._factors is None:
            return image, self._problem or NO_GAIN
        try:
            return apply_gain(image, self._factors), GAIN_APPLIED
        except BadImageError as error:
            return image, _not_applied(error)


def _not_applied(error: Exception) -> str:
    return "gain not applied: %s" % (getattr(error, "strerror", None) or error)


def apply_gain(average: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """The average of the frames (height, width), corrected: what each of them corrected comes to, too.

    Defects, where the gain is zero or no number, get the mean of all others. Raises BadImageError where the sizes
    differ.
    """
    if average.shape != gain.shape:
        msg = "it has %d x %d pixels and the movie %d x %d" % (*gain.shape[::-1], *average.shape[::-1])
        raise BadImageError(msg)
    corrected = average * gain
    defects = ~np.isfinite(corrected) | (gain == 0)
    if defects.all():
        msg = "it has no pixel that is not zero"
        raise BadImageError(msg)
    if defects.any():
        corrected[defects] = corrected[~defects].mean()
    result: np.ndarray = corrected.astype("float32", copy=False)
    return result
