# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of each image that was to be shown."""
import threading
import time
from typing import Dict, List, Tuple

STUCK_SECONDS = 30.0


class QueueTracker:
    """Counts images from the call that asked for them to the viewer's word that they are shown. For several threads."""

    def __init__(self) -> None:
        # A signal's handler may come in while its thread has the lock.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._pending: Dict[str, float] = {}        # id -> when it was asked for
        self._shown = 0
        self._dropped: Dict[str, int] = {}          # reason -> how many
        self._failed: Dict[str, int] = {}

    def register(self, image_id: str) -> None:
        """Call it before the image is sent: the answer may come before the sender goes on."""
        with self._lock:
            self._pending[image_id] = time.monotonic()

    def shown(self, image_id: str) -> None:
        with self._changed:
            # A repetition, of an image that was sent twice, is no other image.
            if self._pending.pop(image_id, None) is not None:
                self._shown += 1
            self._changed.notify_all()

    def dropped(self, image_id: str, reason: str) -> None:
        """It never went to a viewer."""
        self._given_up(image_id, reason, self._dropped)

    def failed(self, image_id: str, reason: str) -> None:
        """The viewer could not show it."""
        self._given_up(image_id, reason, self._failed)

    def _given_up(self, image_id: str, reason: str, where: Dict[str, int]) -> None:
        with self._changed:
            if self._pending.pop(image_id, None) is not None:
                where[reason] = where.get(reason, 0) + 1
            self._changed.notify_all()

    def progress(self) -> Tuple[int, int]:
        """How many are shown, and how many were asked for."""
        with self._lock:
            lost = sum(self._dropped.values()) + sum(self._failed.values())
            return self._shown, self._shown + lost + len(self._pending)

    def pending(self) -> List[str]:
        """The ids of images that are under way, in the order in which they were asked for."""
        with self._lock:
            return list(self._pending)

    def stuck(self, seconds: float = STUCK_SECONDS) -> List[str]:
        """The ids of those that are under way for longer than so many seconds."""
        with self._lock:
            now = time.monotonic()
            return [image_id for image_id, since in self._pending.items() if now - since > seconds]

    def lost(self) -> Dict[str, int]:
        """How many are not shown and will not be, by the reason."""
        with self._lock:
            found = dict(self._dropped)
            for reason, count in self._failed.items():
                found[reason] = found.get(reason, 0) + count
            return found

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is under way, at most so long -> whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending, seconds)
