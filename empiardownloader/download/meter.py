# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a download is, and whether the rest fits on the disk."""
import os
import time
from typing import Callable, Optional

from ..archive.selection import ImageFinder
from .progress import Progress, Rate
from .queue import ImageQueue
from .request import Places, Request
from .space import bytes_in_parts, bytes_needed, check_space


class Meter:
    """Counts images and bytes; the thread that runs the download calls it."""

    def __init__(self, request: Request, places: Places, finder: ImageFinder, queue: ImageQueue):
        self._request, self._places, self._finder, self._queue = request, places, finder, queue
        self.done_bytes = 0             # of whole images
        self.limited = False            # whether there is more in the entry than what was listed
        self._rate = Rate()
        self._space_checked = self._size_seen = self._unpacked_checked = False

    def begin_image(self) -> None:
        """Before the first one. Raises DiskError."""
        if not self._space_checked:
            self._space_checked = True
            self.check_space()

    def see_size(self, size: int) -> None:
        """The bytes of an image that has begun to come: the first to tell where listings do not. Raises DiskError."""
        if not self._size_seen:
            self._size_seen = True
            if not any(file.size for file in self._finder.known):
                self.check_space(size)

    def see_unpacked(self, path: str) -> None:
        """A file that was decompressed: only now it is known what the files become. Raises DiskError."""
        if not self._unpacked_checked:
            self._unpacked_checked = True
            self.check_space(os.path.getsize(path))

    def check_space(self, measured: Optional[int] = None) -> None:
        """Raises DiskError when what is asked for cannot fit; sizes over HTTPS are rounded, so this is an estimate."""
        request, places, wanted = self._request, self._places, self.wanted()
        place = os.path.join(places.shared, request.entry.number) if places.shared else places.folder
        known = list(self._finder.known)
        there = set(self._queue.here) | {file.path for file in known[:wanted] if places.has_shared(request, file.path)}
        needed = bytes_needed(known, wanted, there, request.image_set, request.unpacks, measured)
        if needed is not None:
            check_space("%d %s of %s" % (wanted or 0, request.kind.files, request.entry.name),
                        needed - bytes_in_parts(place), place)

    def wanted(self) -> Optional[int]:
        """How many images are to come, as far as is known."""
        amount = self._queue.amount
        if self._request.kind.stacks is None and amount is None:
            # What the entry counts are particles, or series.
            return len(self._finder.known) if self._queue.ended and not self.limited else None
        return amount or self._request.image_set.num_images

    def progress(self, received: int, under_way: int, remark: Callable[[], str]) -> Progress:
        """``received``: bytes that came in this run; ``under_way``: bytes on the disk of files that are not whole."""
        queue = self._queue
        rate = self._rate.update(time.monotonic(), received)
        done = self.done_bytes + under_way
        images = len(queue.here)
        wanted = images + queue.under_way if queue.is_exhausted else self.wanted()
        total = None
        known = [file.size for file in self._finder.known if file.size] if not images else []
        if wanted is not None and (images or known):
            average = self.done_bytes / images if images else sum(known) / len(known)
            total = max(int(self.done_bytes + (wanted - images) * average), done)
        left = (total - done) / rate if total is not None and rate > 0 and images < (wanted or 0) else None
        return Progress(images, wanted, done, total, rate, left, remark(), self._request.kind.files)
