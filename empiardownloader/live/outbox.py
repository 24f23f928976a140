# SPDX-License-Identifier: GPL-3.0-or-later
"""What waits to be sent to a viewer: images, bounded in bytes, and notes about the run."""
import collections
import logging
import threading
import time
from typing import Any, Callable, Deque, Dict, Optional

from .outgoing import Outgoing
from .tracker import QueueTracker

logger = logging.getLogger(__name__)

REPLACED, FORGOTTEN = "the viewer was too slow", "others have taken their place"
LOOK_SECONDS = 0.2          # between two looks whether the viewer is still open


class Outbox:
    """For any thread: ``_room``'s lock guards all that is here."""

    def __init__(self, tracker: QueueTracker, most_bytes: int, patience: float) -> None:
        """``patience``: seconds that ``put`` waits for room."""
        self._tracker, self._most_bytes, self._patience = tracker, most_bytes, patience
        # A signal's handler may come in while its thread has the lock.
        self._room = threading.Condition(threading.RLock())
        self._images: Deque[Outgoing] = collections.deque()
        self._bytes = 0             # of these
        self._notes: Deque[Dict[str, Any]] = collections.deque()
        self._lost_told: Dict[str, int] = {}

    def put(self, image: Outgoing, is_open: Callable[[], bool]) -> bool:
        """Add an image; where there is no room in time, those that have waited longest give way -> whether there is a
        viewer for it."""
        with self._room:
            deadline = time.monotonic() + self._patience
            while is_open() and self._is_full(image) and time.monotonic() < deadline:
                self._room.wait(min(LOOK_SECONDS, deadline - time.monotonic()))
            if not is_open():
                return False
            while self._is_full(image):
                # The newest is what one wants to see.
                oldest = self._images.popleft()
                self._bytes -= oldest.size
                self._tracker.dropped(oldest.image_id, REPLACED)
            self._images.append(image)
            self._bytes += image.size
        return True

    def _is_full(self, image: Outgoing) -> bool:
        return bool(self._images) and self._bytes + image.size > self._most_bytes

    def next(self) -> Optional[Outgoing]:
        with self._room:
            if not self._images:
                return None
            image = self._images.popleft()
            self._bytes -= image.size
            self._room.notify_all()
            return image

    def put_note(self, note: Dict[str, Any]) -> None:
        with self._room:
            self._notes.append(note)

    def next_note(self) -> Optional[Dict[str, Any]]:
        with self._room:
            return self._notes.popleft() if self._notes else None

    def forget(self, source: str, item: Optional[int] = None) -> None:
        """What waits of a source, or of an image of it, is given up."""
        def is_of(display: Dict[str, Any]) -> bool:
            return display.get("source") == source and (item is None or display.get("item") == item)

        with self._room:
            for image in [image for image in self._images if is_of(image.header["display"])]:
                self._images.remove(image)
                self._bytes -= image.size
                self._tracker.dropped(image.image_id, FORGOTTEN)

    def give_up(self, reason: str) -> None:
        """Nothing more will be shown: all that is not counts as lost, which is told."""
        with self._room:
            for image_id in self._tracker.pending():
                self._tracker.dropped(image_id, reason)
            lost = self._tracker.lost()
            for why, count in lost.items():
                if count > self._lost_told.get(why, 0):
                    logger.warning("%d images were not shown: %s.", count - self._lost_told.get(why, 0), why)
            self._lost_told = lost
            self._images.clear()
            self._bytes = 0
            self._notes.clear()
            self._room.notify_all()
