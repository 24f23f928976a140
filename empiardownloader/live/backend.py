# SPDX-License-Identifier: GPL-3.0-or-later
"""StreamingBackend: images out of a program into a viewer, without the program waiting for it.

``save`` puts an image into a bounded queue; a thread sends it, at most a few at a time, and waits for the viewer's word
that it is shown. A viewer that is closed, frozen or dead costs pictures, never the program.
"""
import abc
import atexit
import collections
import contextlib
import logging
import os
import queue
import threading
import time
import weakref
from typing import Any, Deque, Dict, Iterable, List, Optional, Set, Union

import numpy as np

from . import places
from .blocks import Blocks
from .entries import Picks, Waiting, entry_of
from .errors import LiveError
from .links import IPC, LOCAL, TCP, Link
from .tracker import QueueTracker
from .viewer_process import ViewerProcess

logger = logging.getLogger(__name__)
MOST_BYTES = 256 << 20      # of images that wait to be sent
MOST_UNDER_WAY = 4          # images that the viewer has not shown yet
ENDING_SECONDS = 5.0
PATIENCE = 0.25             # seconds that ``save`` waits for room
CLOSED, NEVER_OPENED, REPLACED = "the viewer is closed", "there is no viewer", "the viewer was too slow"
OTHER_PROCESS = "the viewer belongs to the process that opened it, and this is a copy of that"
FORGOTTEN = "others have taken their place"


class StreamingBackend(abc.ABC):
    """Shows what is saved in a viewer of its own process.

    ``transport_mode``: 'ipc' (sockets in a folder that nobody else can enter) or 'tcp' (on 127.0.0.1, ``port`` or a
    free one; with a port the one after it is used, too). ``host``: this machine; to look from another one follow the
    run from there. ``most_bytes``: of images that wait; beyond them ``save`` waits for ``patience`` seconds, then the
    image that has waited longest gives way. Subclasses name their viewer and make its link and its process.
    """
    VIEWER_TYPE = ""
    SHM_PREFIX = ""

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
        self._most_bytes, self._patience = most_bytes, patience
        self._identity = places.identity()
        self._owner = os.getpid()
        self._counter = 0
        # A signal's handler may come in while its thread has the lock.
        self._lock = threading.RLock()
        self._opening = threading.RLock()
        self._room = threading.Condition(self._lock)
        self._waiting: Deque[Waiting] = collections.deque()
        self._waiting_bytes = 0
        self._notes: Deque[Dict[str, Any]] = collections.deque()
        self._sender: Optional[Sender] = None
        self._was_opened = False
        self._lost_told: Dict[str, int] = {}

    # What a viewer is.

    @abc.abstractmethod
    def check(self) -> None:
        """Raises LiveError where this viewer cannot be had here, with the line that cures it."""

    @abc.abstractmethod
    def _make_link(self, folder: Optional[str]) -> Link:
        """The sockets, in this folder, or on 127.0.0.1 where it is None."""

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
            self._sender = Sender(self)

    def is_open(self) -> bool:
        return self._sender is not None and self._sender.is_alive() and not self._sender.is_over

    @property
    def pid(self) -> Optional[int]:
        """Of the viewer's process."""
        return self._sender.viewer.pid if self.is_open() else None

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
        while self.is_open() and time.monotonic() < deadline:
            self._sender.join(min(0.2, max(0.0, deadline - time.monotonic())))
        return not self.is_open()

    def cleanup(self) -> None:
        """End the viewer and remove all that belongs to it; what waits is given up, counted and told."""
        if self._sender is not None:
            self._sender.end()
        self._give_up(CLOSED)

    def __enter__(self) -> "StreamingBackend":
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.cleanup()

    # What is shown.

    def save(self, data: Union[np.ndarray, Picks], file_path: Union[str, os.PathLike], **kwargs: Any) -> bool:
        """Show an image, array (height, width) of numbers, or Picks over the image saved under the same name ->
        whether it was taken; if not, ``tracker.lost()`` counts it.

        ``file_path``: where it comes from; its name is the image's. Keywords, all optional: ``kind`` ('images'): what
        it is a picture of, each kind has a stack of its own; ``source``: whose it is, where several are shown;
        ``place``: number by which images are ordered (as saved); ``name``: images of one name, of whatever kind and
        source, are looked at together; ``pixel_size`` in angstrom; ``binning``: pixels of the original that make one of
        the image; ``limits``: grey values of black and white; ``remark``: a few words for the title; ``metadata``;
        ``over``: of Picks, the sources of the images that they belong to (all). An image of the same kind, source and
        path takes the place of the former. Raises ValueError for what is no image.
        """
        return self.save_batch([data], [file_path], **kwargs) == 1

    def save_batch(self, data: Iterable[Union[np.ndarray, Picks]], file_paths: Iterable[Union[str, os.PathLike]],
                   **kwargs: Any) -> int:
        """``save`` for each of several, with the same keywords -> how many were taken."""
        items, paths = list(data), [os.fsdecode(path) for path in file_paths]
        if len(items) != len(paths):
            msg = "%d images and %d paths" % (len(items), len(paths))
            raise ValueError(msg)
        # All are looked at before the first is sent.
        entries = [entry_of(item, path, dict(kwargs)) for item, path in zip(items, paths)]
        with self._opening:
            if not self._was_opened:
                try:
                    self.open()
                except LiveError as error:
                    logger.warning("%s", error)
        return sum(self._take(entry) for entry in entries)

    def note(self, **facts: Any) -> None:
        """Tell the viewer about the run as a whole: ``title``, ``state``."""
        if self.is_open():
            with self._lock:
                self._notes.append({name: value if isinstance(value, bool) else str(value)
                                    for name, value in facts.items()})
            self._sender.wake()

    def forget(self, source: str) -> None:
        """Take away all that was saved with this ``source``; what waits of it is given up and counted."""
        with self._lock:
            old = [entry for entry in self._waiting if entry.header["display"].get("source") == source]
            for entry in old:
                self._waiting.remove(entry)
                self._waiting_bytes -= entry.size
                self.tracker.dropped(entry.image_id, FORGOTTEN)
        self.note(forget=source)

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

    def _take(self, entry: Waiting) -> bool:
        with self._room:
            self._counter += 1
            entry.header["image_id"] = "%s_%d" % (self._identity, self._counter)
            self.tracker.register(entry.image_id)
            deadline = time.monotonic() + self._patience
            while self.is_open() and self._is_full(entry) and time.monotonic() < deadline:
                self._room.wait(min(0.2, deadline - time.monotonic()))
            if not self.is_open():
                reason = CLOSED if self._sender is not None else NEVER_OPENED
                self.tracker.dropped(entry.image_id, reason if os.getpid() == self._owner else OTHER_PROCESS)
                return False
            while self._is_full(entry):
                # The newest is what one wants to see.
                oldest = self._waiting.popleft()
                self._waiting_bytes -= oldest.size
                self.tracker.dropped(oldest.image_id, REPLACED)
            self._waiting.append(entry)
            self._waiting_bytes += entry.size
        self._sender.wake()
        return True

    def _is_full(self, entry: Waiting) -> bool:
        return bool(self._waiting) and self._waiting_bytes + entry.size > self._most_bytes

    def _next(self) -> Optional[Waiting]:
        """What is to be sent now; for the sender."""
        with self._room:
            if not self._waiting:
                return None
            entry = self._waiting.popleft()
            self._waiting_bytes -= entry.size
            self._room.notify_all()
            return entry

    def _next_note(self) -> Optional[Dict[str, Any]]:
        with self._lock:
            return self._notes.popleft() if self._notes else None

    def _give_up(self, reason: str) -> None:
        with self._room:
            for image_id in self.tracker.pending():
                self.tracker.dropped(image_id, reason)
            for why, count in self.tracker.lost().items():
                if count > self._lost_told.get(why, 0):
                    logger.warning("%d images were not shown: %s.", count - self._lost_told.get(why, 0), why)
            self._lost_told = self.tracker.lost()
            self._waiting.clear()
            self._waiting_bytes = 0
            self._notes.clear()
            self._room.notify_all()


class Sender(threading.Thread):
    """Sends what a backend's queue holds to its viewer, and hears what became of it."""

    def __init__(self, backend: StreamingBackend) -> None:
        """Raises LiveError where the sockets or the viewer cannot be made."""
        super().__init__(daemon=True, name="live")
        self.is_over, self.problem = False, ""
        self.snapshots: Optional["queue.SimpleQueue[Dict[str, Any]]"] = None
        self._backend, self._ending = backend, threading.Event()
        self._under_way: Dict[str, Waiting] = {}
        self._again = False         # what is under way has to be sent again
        self._told: Set[str] = set()
        self._folder = None
        try:
            places.sweep(backend.SHM_PREFIX)
            if backend._transport == IPC:
                self._folder = places.private_folder(backend.SHM_PREFIX)
            self._link = backend._make_link(self._folder)
        except Exception as error:
            self._remove_folder()
            msg = "No way to a viewer can be made: %s." % (getattr(error, "strerror", None) or error)
            raise LiveError(msg) from error
        self._blocks = Blocks(backend.SHM_PREFIX)
        try:
            self.viewer = ViewerProcess(backend._python(), dict(
                backend._settings(), viewer=backend.VIEWER_TYPE, addresses=self._link.addresses, title=backend._title,
                token=self._link.token, key=self._link.public_key.decode("ascii"),
                left_behind=[self._folder] if self._folder else [],
                blocks=self._blocks.prefix))
        except (LiveError, OSError) as error:
            self._link.close()
            self._remove_folder()
            if isinstance(error, LiveError):
                raise
            msg = "No viewer can be started: %s." % (error.strerror or error)
            raise LiveError(msg) from error
        self._link.watch(self.viewer.descriptor)
        # Also where nobody calls cleanup; the thread's own end is the same.
        self._at_exit = weakref.WeakMethod(self.end)
        atexit.register(_end, self._at_exit)
        self.start()

    def wake(self) -> None:
        self._link.wake()

    def end(self) -> None:
        """From another thread."""
        self._ending.set()
        self._link.wake()
        if threading.current_thread() is not self:
            # Called by a signal's handler, whose own thread may have what the other one needs for its end.
            self.join(ENDING_SECONDS)

    def run(self) -> None:
        try:
            self._serve()
        finally:
            self.is_over = True
            self._blocks.close()
            self._link.watch(self.viewer.descriptor, on=False)
            self.viewer.close()
            self._link.close()
            self._remove_folder()
            self._backend._give_up(CLOSED)
            atexit.unregister(self._at_exit)

    def _serve(self) -> None:
        seconds = 0.0
        while not self._ending.is_set():
            if self.viewer.descriptor in self._link.wait(seconds) or not self.viewer.is_alive():
                self._hear()
                self.problem = self._viewers_end()
                return
            self._hear()
            self._send()
            seconds = self._link.keep_in_touch(time.monotonic())

    def _viewers_end(self) -> str:
        words = self.viewer.last_words()
        if not words:
            return ""
        return "The viewer (%s) has ended: %s" % (self._backend.VIEWER_TYPE, words)

    def _hear(self) -> None:
        for answer in self._link.answers():
            kind = answer["type"]
            if kind == "ack":
                entry = self._under_way.pop(answer["image_id"], None)
                if entry is not None:
                    self._blocks.release(entry.block)
                if answer["status"] == "failed":
                    self._tell("An image cannot be shown: %s" % answer["error"])
                    self._backend.tracker.failed(answer["image_id"], answer["error"])
                else:
                    self._backend.tracker.shown(answer["image_id"])
            elif kind == "again":
                self._again = True
            elif kind == "snapshot" and self.snapshots is not None:
                self.snapshots.put(answer["found"])
            elif kind == "wanted":
                self._backend.requests.put(answer)

    def _send(self) -> None:
        while self._link.is_ready():
            note = self._backend._next_note()
            if note is not None:
                self._link.send(dict(note, type="note"), ())
                continue
            entries = (list(self._under_way.values()) if self._again else []) or self._more()
            if not entries:
                return
            parts: List[Any] = []
            images = [self._packed(entry, parts) for entry in entries]
            self._again = not self._link.send({"type": "batch", "images": images}, parts)
            if self._again:
                return

    def _more(self) -> List[Waiting]:
        """What is to be sent now, put under way."""
        entries = []
        while len(self._under_way) < MOST_UNDER_WAY:
            entry = self._backend._next()
            if entry is None:
                break
            self._under_way[entry.image_id] = entry
            entries.append(entry)
        return entries

    def _packed(self, entry: Waiting, parts: List[Any]) -> Dict[str, Any]:
        """What a message says of an image; its pixels are in shared memory, or where that is full in ``parts``."""
        if entry.array is not None:
            try:
                entry.block = self._blocks.put(entry.array)
            except OSError as error:
                self._tell("The shared memory (%s) has no room for an image of %.1f MB (%s): images go through the "
                           "socket." % (places.SHARED_MEMORY, entry.size / 1e6, (error.strerror or "").lower()))
                parts.append(entry.array)
                return dict(entry.header, part=len(parts) - 1)
            # The block has it now.
            entry.array = None
        return dict(entry.header, shm_name=entry.block) if entry.block else entry.header

    def _tell(self, text: str) -> None:
        """Once each."""
        if text not in self._told:
            self._told.add(text)
            logger.warning("%s", text)

    def _remove_folder(self) -> None:
        if self._folder is not None:
            places.remove(self._folder)


def _end(sender: "weakref.WeakMethod[Any]") -> None:
    end = sender()
    if end is not None:
        end()
