# SPDX-License-Identifier: GPL-3.0-or-later
"""StreamingBackend: images out of a program into a viewer, without the program waiting for it.

``save`` puts an image into a bounded queue; a thread sends it, at most a few at a time, and waits for the viewer's word
that it is shown. A viewer that is closed, frozen or dead costs pictures, never the program.
"""
import abc
import contextlib
import logging
import os
import queue
import threading
import time
from typing import Any, Dict, Iterable, List, Optional, Type, Union

import numpy as np

from . import places
from .errors import LiveError
from .links import IPC, LOCAL, TCP, Link
from .outbox import Outbox
from .outgoing import Facts, Outgoing, Picks, head_of, outgoing_of
from .sender import CLOSED, Sender, ViewerPlan
from .tracker import QueueTracker

logger = logging.getLogger(__name__)
MOST_BYTES = 256 << 20      # of images that wait to be sent
PATIENCE = 0.25             # seconds that ``save`` waits for room
NEVER_OPENED = "there is no viewer"
OTHER_PROCESS = "the viewer belongs to the process that opened it, and this is a copy of that"


class StreamingBackend(abc.ABC):
    """Shows what is saved in a viewer of its own process.

    ``transport_mode``: 'ipc' (sockets in a folder that nobody else can enter) or 'tcp' (on 127.0.0.1, ``port`` or a
    free one; with a port the one after it is used, too). ``host``: this machine; to look from another one follow the
    run from there. ``most_bytes``: of images that wait; beyond them ``save`` waits for ``patience`` seconds, then the
    image that has waited longest gives way. Subclasses name their viewer, and say how it is started.
    """
    VIEWER_TYPE = ""
    SHM_PREFIX = ""             # of what lies in shared memory and in the folder for temporary files
    SCREEN = ""                 # what draws in the viewer's process: a module of window/ and a class in it
    LINK: Type[Link]            # the sockets between here and there

    def __init__(self, host: str = LOCAL[0], port: int = 0, transport_mode: str = IPC, title: str = "",
                 most_bytes: int = MOST_BYTES, patience: float = PATIENCE) -> None:
        if host not in LOCAL:
            msg = ("A viewer is shown on this machine, not on %s: log in there with ssh, and follow the run with "
                   "python -m empiardownloader.live %s user@host:/folder." % (host, self.VIEWER_TYPE))
            raise LiveError(msg)
        if transport_mode not in (IPC, TCP):
            msg = "The transport mode is %s or %s, not %r." % (IPC, TCP, transport_mode)
            raise LiveError(msg)
        self.tracker = QueueTracker()
        self.requests: "queue.SimpleQueue[Dict[str, Any]]" = queue.SimpleQueue()    # of the viewer's user
        self._transport, self._port, self._title = transport_mode, port, title
        self._outbox = Outbox(self.tracker, most_bytes, patience)
        self._identity = places.identity()
        self._owner = os.getpid()
        # A signal's handler may come in while its thread has one of them.
        self._counting, self._opening = threading.RLock(), threading.RLock()
        self._counter = 0               # of images; guarded by _counting
        self._sender: Optional[Sender] = None       # guarded, like the next one, by _opening
        self._was_opened = False

    # What a viewer is.

    @abc.abstractmethod
    def check(self) -> None:
        """Raises LiveError where this viewer cannot be had here, with the line that cures it."""

    @abc.abstractmethod
    def _python(self) -> str:
        """The interpreter that the viewer runs on."""

    def _settings(self) -> Dict[str, Any]:
        """What only this viewer has to be told."""
        return {}

    # Its life.

    def open(self) -> None:
        """Start the viewer, unless it is open; after it was closed, another one. Raises LiveError."""
        with self._opening:
            if self.is_open():
                return
            self._was_opened = True
            self.check()
            self.cleanup()
            plan = ViewerPlan(self.VIEWER_TYPE, self.SHM_PREFIX, self._python(), self.SCREEN,
                              lambda folder: self.LINK(folder, self._port), self._transport == IPC, self._title,
                              self._settings())
            self._sender = Sender(plan, self._outbox, self.tracker, self.requests)

    def is_open(self) -> bool:
        return self._sender is not None and self._sender.is_alive() and not self._sender.is_over

    @property
    def pid(self) -> Optional[int]:
        """Of the viewer's process."""
        return self._sender.viewer.pid if self.is_open() else None

    def places(self, seconds: float = 60.0) -> List[str]:
        """How the viewer is reached where it has no window: lines for the user, as soon as it is there."""
        deadline = time.monotonic() + seconds
        while self.is_open() and time.monotonic() < deadline:
            if self._sender.said_hello.wait(0.2):
                return self._sender.places
        return []

    def problem(self) -> str:
        """Why the viewer ended, where that was not its user's will."""
        return self._sender.problem if self._sender is not None else ""

    def wait(self, seconds: float = float("inf")) -> bool:
        """Wait until all is shown that was saved, or the viewer is gone -> whether all is shown."""
        deadline = time.monotonic() + seconds
        while self.is_open() and time.monotonic() < deadline:
            if self.tracker.wait(min(0.2, max(0.0, deadline - time.monotonic()))):
                break
        return not self.tracker.pending() and not self.tracker.lost()

    def wait_closed(self, seconds: float = float("inf")) -> bool:
        """Wait until the viewer's user has closed it -> whether it is closed."""
        deadline = time.monotonic() + seconds
        # Its thread ends once all that waited is given up, and all that was left behind is removed.
        while self._sender is not None and self._sender.is_alive() and time.monotonic() < deadline:
            self._sender.join(min(0.2, max(0.0, deadline - time.monotonic())))
        return not self.is_open()

    def cleanup(self) -> None:
        """End the viewer and remove all that belongs to it; what waits is given up, counted and told."""
        if self._sender is not None:
            self._sender.end()
        self._outbox.give_up(CLOSED)

    def __enter__(self) -> "StreamingBackend":
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.cleanup()

    # What is shown.

    def save(self, data: Union[np.ndarray, Picks, Facts], file_path: Union[str, os.PathLike], **kwargs: Any) -> bool:
        """Show an image, array (height, width) of numbers, or Picks or Facts over the image saved under the same name
        -> whether it was taken; if not, ``tracker.lost()`` counts it.

        ``file_path``: where it comes from; its name is the image's. Keywords, all optional: ``kind`` ('images'): what
        it is a picture of, each kind has a stack of its own; ``source``: whose it is, where several are shown;
        ``place``: number by which images are ordered (as saved); ``name``: images of one name, of whatever kind and
        source, are looked at together; ``pixel_size`` in angstrom; ``binning``: pixels of the original that make one of
        the image; ``limits``: grey values of black and white; ``remark``: a few words for the title; ``metadata``;
        ``over``: of Picks and Facts, the sources of the images that they belong to (all); ``item``: the image's id in
        its source, and of Facts the image that they are of alone; ``family``: only images of one family are looked at
        together, whatever their names; ``section``: one of
        SECTIONS in window/live_messages.py, what is looked at by itself; ``created``: when, as Scipion's sets have it;
        ``movie_pixel_size``: of a power spectrum, that of the image it is of; ``cells``: of a montage, 'side' in
        pixels, 'columns' and 'labels'. An image of the same kind, source and
        path takes the place of the former. Raises ValueError for what is no image.
        """
        return self.save_batch([data], [file_path], **kwargs) == 1

    def save_batch(self, data: Iterable[Union[np.ndarray, Picks, Facts]], file_paths: Iterable[Union[str, os.PathLike]],
                   **kwargs: Any) -> int:
        """``save`` for each of several, with the same keywords -> how many were taken."""
        items, paths = list(data), [os.fsdecode(path) for path in file_paths]
        if len(items) != len(paths):
            msg = "%d images and %d paths" % (len(items), len(paths))
            raise ValueError(msg)
        # All are looked at before the first is sent.
        images = [outgoing_of(item, path, dict(kwargs)) for item, path in zip(items, paths)]
        with self._opening:
            if not self._was_opened:
                try:
                    self.open()
                except LiveError as error:
                    logger.warning("%s", error)
        return sum(self._take(image) for image in images)

    def note(self, **facts: Any) -> None:
        """Tell the viewer about the run as a whole: ``title``, ``state``, ``head`` (pairs of words), ``said`` (the last
        sentence for its user). Raises ValueError."""
        found = {name: head_of(value) if name == "head" else value if isinstance(value, (bool, list)) else str(value)
                 for name, value in facts.items()}
        if self.is_open():
            self._outbox.put_note(found)
            self._sender.wake()

    def forget(self, source: str) -> None:
        """Take away all that was saved with this ``source``; what waits of it is given up and counted."""
        self._outbox.forget(source)
        self.note(forget=source)

    def remove(self, source: str, item: int) -> None:
        """Take away the images that were saved with this ``source`` and ``item``."""
        self._outbox.forget(source, int(item))
        self.note(remove=[source, int(item)])

    def snapshot(self, folder: str, seconds: float = 60.0) -> Dict[str, Any]:
        """Let the viewer write a picture of itself, ``window.png``, and the image each stack shows, ``0.npy`` and so
        on, into a folder -> what it shows: {'title', 'layers': [{'kind', 'source', 'count', 'index', 'name', 'path',
        'limits', 'picks', 'file'}]}. Raises LiveError."""
        answers: "queue.SimpleQueue[Dict[str, Any]]" = queue.SimpleQueue()
        if self.is_open():
            self._sender.snapshots = answers
            self.note(snapshot=os.path.abspath(folder))
            with contextlib.suppress(queue.Empty):
                return answers.get(timeout=seconds)
        msg = "The viewer gave no picture of itself within %g s." % seconds
        raise LiveError(msg)

    def _take(self, image: Outgoing) -> bool:
        with self._counting:
            self._counter += 1
            image.header["image_id"] = "%s_%d" % (self._identity, self._counter)
        self.tracker.register(image.image_id)
        if not self._outbox.put(image, self.is_open):
            reason = CLOSED if self._sender is not None else NEVER_OPENED
            self.tracker.dropped(image.image_id, reason if os.getpid() == self._owner else OTHER_PROCESS)
            return False
        self._sender.wake()
        return True
