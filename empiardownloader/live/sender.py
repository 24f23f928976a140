# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread that sends what waits to a viewer, and hears what became of it."""
import atexit
import logging
import threading
import time
import weakref
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set

from . import places
from .blocks import Blocks
from .errors import LiveError
from .links import Link
from .outbox import Outbox
from .outgoing import Outgoing
from .tracker import QueueTracker
from .viewer_process import ViewerProcess
from .window.live_messages import ACK, BATCH, CONNECTED_ANEW, FAILED, HELLO, NOTE, SHARED_MEMORY, SNAPSHOT, TYPE, WANTED

logger = logging.getLogger(__name__)

MOST_UNDER_WAY = 4          # images that the viewer has not shown yet
MOST_WORDS = 200            # picks and facts in one message: they are small, and may be thousands
ENDING_SECONDS = 5.0
CLOSED = "the viewer is closed"
Answers = "queue.SimpleQueue[Dict[str, Any]]"


class ViewerPlan(NamedTuple):
    """How a viewer is started and reached."""
    name: str
    prefix: str                         # of what lies in shared memory and in the folder for temporary files
    python: str                         # the interpreter that it runs on
    screen: str                         # what draws there: 'live_napari:NapariScreen'
    make_link: Callable[[Optional[str]], Link]      # the sockets, in a folder, or on 127.0.0.1 where it is None
    in_folder: bool                     # whether the sockets are in a folder that nobody else can enter
    title: str
    settings: Dict[str, Any]            # what only this viewer has to be told


class Sender(threading.Thread):
    """Sends what an outbox holds to a viewer, which it starts and ends. Its own attributes are its thread's alone, but
    for ``is_over``, ``problem``, ``snapshots`` and what the viewer said of itself."""

    def __init__(self, plan: ViewerPlan, outbox: Outbox, tracker: QueueTracker, requests: Answers) -> None:
        """``requests``: takes what the viewer's user wants. Raises LiveError where the sockets or the viewer cannot be
        made."""
        super().__init__(daemon=True, name="live")
        self.is_over, self.problem = False, ""
        self.snapshots: Optional[Answers] = None
        self.said_hello = threading.Event()
        self.places: List[str] = []
        self._plan, self._outbox, self._tracker, self._requests = plan, outbox, tracker, requests
        self._ending = threading.Event()
        self._under_way: Dict[str, Outgoing] = {}
        self._again = False         # what is under way has to be sent again
        self._told: Set[str] = set()
        self._folder: Optional[str] = None
        try:
            places.sweep(plan.prefix)
            if plan.in_folder:
                self._folder = places.private_folder(plan.prefix)
            self._link = plan.make_link(self._folder)
        except Exception as error:
            self._remove_folder()
            msg = "No way to a viewer can be made: %s." % (getattr(error, "strerror", None) or error)
            raise LiveError(msg) from error
        self._blocks = Blocks(plan.prefix)
        try:
            self.viewer = ViewerProcess(plan.python, dict(
                plan.settings, screen=plan.screen, link=self._link.VIEWERS_END, addresses=self._link.addresses,
                title=plan.title, token=self._link.token, key=self._link.public_key.decode("ascii"),
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
            self._outbox.give_up(CLOSED)
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
        return "The viewer (%s) has ended: %s" % (self._plan.name, words)

    def _hear(self) -> None:
        for answer in self._link.answers():
            kind = answer[TYPE]
            if kind == ACK:
                image = self._under_way.pop(answer["image_id"], None)
                if image is not None:
                    self._blocks.release(image.block)
                if answer["status"] == FAILED:
                    self._tell("An image cannot be shown: %s" % answer["error"])
                    self._tracker.failed(answer["image_id"], answer["error"])
                else:
                    self._tracker.shown(answer["image_id"])
            elif kind == CONNECTED_ANEW:
                self._again = True
            elif kind == SNAPSHOT and self.snapshots is not None:
                self.snapshots.put(answer["found"])
            elif kind == WANTED:
                self._requests.put(answer)
            elif kind == HELLO:
                self.places = answer.get("places") or []
                self.said_hello.set()

    def _send(self) -> None:
        while self._link.is_ready():
            note = self._outbox.next_note()
            if note is not None:
                self._link.send({**note, TYPE: NOTE}, ())
                continue
            images = (list(self._under_way.values()) if self._again else []) or self._more()
            if not images:
                return
            parts: List[Any] = []
            told = [self._packed(image, parts) for image in images]
            self._again = not self._link.send({TYPE: BATCH, "images": told}, parts)
            if self._again:
                return

    def _more(self) -> List[Outgoing]:
        """What is to be sent now, put under way."""
        images = []
        while len(self._under_way) < MOST_UNDER_WAY or (images and images[-1].array is None and (
                len(images) < MOST_WORDS)):
            image = self._outbox.next()
            if image is None:
                break
            self._under_way[image.image_id] = image
            images.append(image)
        return images

    def _packed(self, image: Outgoing, parts: List[Any]) -> Dict[str, Any]:
        """What a message says of an image; its pixels are in shared memory, or where that is full in ``parts``."""
        if image.array is not None:
            try:
                image.block = self._blocks.put(image.array)
            except OSError as error:
                self._tell("The shared memory (%s) has no room for an image of %.1f MB (%s): images go through the "
                           "socket." % (SHARED_MEMORY, image.size / 1e6, (error.strerror or "").lower()))
                parts.append(image.array)
                return dict(image.header, part=len(parts) - 1)
            # The block has it now.
            image.array = None
        return dict(image.header, shm_name=image.block) if image.block else image.header

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
