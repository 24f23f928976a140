# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image is fetched next: the rules alone, without sockets and files."""
from collections import deque
from typing import Callable, Deque, Dict, Iterable, Optional, Set

from .lister import Listed
from .record.events import ImageArrived


class ImageQueue:
    """The images of one run. Only the thread that runs the download changes it."""

    def __init__(self, amount: Optional[int]):
        """``amount``: of images that are to be there in the end, None for all that get listed."""
        self.here: Dict[str, ImageArrived] = {}     # those that are whole, by path in the archive
        self.incomplete: Set[str] = set()           # of these, those whose references or sidecar files are to be found
        self.ended = False                          # nothing more will be listed
        self.amount = amount
        self._listed: Deque[Listed] = deque()
        self._later: Deque[Listed] = deque()        # those for which there was no room when they came up
        self._blocked: Deque[Listed] = deque()      # those whose place on the disk another file has now
        self._begun: Set[str] = set()               # paths of those that were begun in this run
        self._under_way: Set[str] = set()

    @property
    def has_room(self) -> bool:
        """Whether fewer images than asked for are whole or under way."""
        return self.amount is None or len(self.here) + len(self._under_way) < self.amount

    @property
    def is_exhausted(self) -> bool:
        """Whether no image is left that has not been begun."""
        return self.ended and not self._later

    @property
    def is_open(self) -> bool:
        """Whether there may be something to do with a further image."""
        return (self.has_room and not self.is_exhausted) or bool(self.incomplete)

    @property
    def is_empty(self) -> bool:
        """Whether ``next`` has nothing to give before more is listed."""
        return not self._listed and not self.has_put_off

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    def add(self, images: Iterable[Listed]) -> None:
        self._listed.extend(images)

    def keep(self, condition: Callable[[Listed], bool]) -> None:
        """Forget the listed images that do not meet a condition."""
        self._listed = deque(image for image in self._listed if condition(image))

    @property
    def has_put_off(self) -> bool:
        """Whether ``next`` gives an image that was put off."""
        return bool(self._later) and self.has_room

    def next(self) -> Listed:
        return self._later.popleft() if self.has_put_off else self._listed.popleft()

    def wants(self, image: Listed) -> bool:
        """Whether an image is to be fetched now; one for which there is no room is kept for later."""
        if image.path in self.here or image.path in self._begun:
            return False
        if not self.has_room:
            self._later.append(image)
            return False
        return True

    def begin(self, path: str) -> None:
        self._begun.add(path)
        self._under_way.add(path)

    def has_begun(self, path: str) -> bool:
        return path in self._begun

    def put_off(self, image: Listed) -> None:
        """An image that is begun once there is room."""
        self._later.append(image)

    def block(self, image: Listed) -> None:
        """An image whose place another file has: it may be tried as a reference, and turn out to be an image."""
        self._blocked.append(image)

    def unblock(self) -> None:
        """A file has ended, so a place may be free."""
        self._later.extend(self._blocked)
        self._blocked.clear()

    def recall(self, image: ImageArrived, incomplete: bool) -> None:
        """An image of an earlier run."""
        self.here[image.path] = image
        if incomplete:
            self.incomplete.add(image.path)

    def arrive(self, image: ImageArrived) -> None:
        self._under_way.discard(image.path)
        self.here[image.path] = image

    def skip(self, path: str) -> None:
        self._under_way.discard(path)
