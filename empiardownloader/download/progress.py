# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a download is, in numbers and in words."""
from collections import deque
from dataclasses import dataclass
from typing import Deque, Optional, Tuple

from ..units import format_seconds, unit_for

RATE_SECONDS = 15           # over which the rate is averaged


@dataclass(frozen=True)
class Progress:
    """How far a download is; sizes in bytes, times in seconds, None where not known yet."""
    images: int
    images_wanted: Optional[int]
    done_bytes: int
    total_bytes: Optional[int]
    rate: float                     # bytes a second
    seconds_left: Optional[float]
    remark: str = ""                # what it waits for
    words: str = "movies"           # what the images are

    def __str__(self) -> str:
        """-> 'Downloaded 7 of 12 movies, 14.0 of 24.0 MB, 3.1 MB/s, about 3 s left'"""
        wanted = "" if self.images_wanted is None else " of %d" % self.images_wanted
        unit, factor = unit_for(max(self.done_bytes, self.total_bytes or 0))
        size = "%.1f" % (self.done_bytes / factor)
        if self.total_bytes:
            size += " of %.1f" % (self.total_bytes / factor)
        text = "Downloaded %d%s %s, %s %s" % (self.images, wanted, self.words, size, unit)
        if self.rate > 0:
            text += ", %.1f MB/s" % (self.rate / 1e6)
        if self.seconds_left is not None:
            text += ", about %s left" % format_seconds(self.seconds_left)
        return text + (", " + self.remark if self.remark else "")


class Rate:
    """Bytes a second over the last while."""

    def __init__(self) -> None:
        self._samples: Deque[Tuple[float, int]] = deque()

    def update(self, moment: float, received: int) -> float:
        """Take in how many bytes had come by a moment (seconds) -> the rate."""
        self._samples.append((moment, received))
        while len(self._samples) > 2 and moment - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()
        then, before = self._samples[0]
        return (received - before) / (moment - then) if moment > then else 0.0
