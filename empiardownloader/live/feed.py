# SPDX-License-Identifier: GPL-3.0-or-later
"""A walker feeds a viewer: the images of a run, as small pictures, while they are being registered.

Pictures have the first row of the file at the bottom, as the page of Analyze results has.
"""
import os
import queue
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from ..follow import Event, FollowError, Item, NodeContent, RemoteNodeWalker
from ..images.header import BadImageError
from ..images.previews import PREVIEW_FOLDER, Preview, bin_image, contrast
from . import pictures
from .backend import StreamingBackend
from .shown_run import (
    COORDINATES,
    IMAGES,
    MICROGRAPHS,
    MOVIES,
    NOTHING_SHOWN,
    PROJECT,
    RUN,
    Action,
    Forget,
    Retitle,
    ShowImages,
    ShownRun,
)

AVERAGES, SPECTRA = {MOVIES: "averages", MICROGRAPHS: "micrographs"}, "power spectra"
FRAME_PIXELS = 1024         # longest side of a frame that was asked for
RECORD = os.path.join("extra", "download.jsonl")    # of an EMPIAR download, whose folder takes previews
LOOK_SECONDS = 0.2
MOST_UNHEARD = 1000         # events that wait; then the walkers do
QUIET_LOOKS = 3             # of a walker, without an event, before all that has ended is taken to be told
PARTING_SECONDS = 2.0
NAMES_TOLD = 3


class Job(NamedTuple):
    """An image of a set that is to be shown."""
    node: NodeContent
    item: Item


class Feed:
    """What is registered in a project, a run or an output (``db_name``), shown by a backend until its viewer is closed.

    ``tell``: gets sentences for the user. The newest image is shown first; those that were there before follow, the
    newer ones before the older. Each walker has a thread, one thread hears what they tell, one shows frames, and the
    caller of ``run`` shows images.
    """

    def __init__(self, backend: StreamingBackend, project: str, db_name: str = "", interval: float = 0.5,
                 ssh: Any = "ssh", tell: Callable[[str], None] = lambda text: None) -> None:
        """Raises FollowError."""
        self._backend, self._tell, self._ssh = backend, tell, ssh
        self._followed = RemoteNodeWalker(project, db_name, interval, ssh)
        # What each tells of, and what of only that it is there.
        self._walkers: Dict[RemoteNodeWalker, Tuple[Tuple[str, ...], Tuple[str, ...]]] = {
            self._followed: ((PROJECT, RUN, *IMAGES, COORDINATES), ())}
        if db_name:
            # Picks are another run's, and what they were picked on may be made of what is followed.
            self._walkers = {
                self._followed: ((RUN, *IMAGES), ()),
                RemoteNodeWalker(project, "", interval, ssh): ((PROJECT, RUN, *IMAGES, COORDINATES), IMAGES)}
        self._title = " ".join([os.path.basename(os.path.abspath(project.rpartition(":")[2])), db_name]).strip()
        self._events: "queue.Queue[Tuple[RemoteNodeWalker, Event]]" = queue.Queue(MOST_UNHEARD)
        self._lock = threading.Condition()      # guards what follows, up to the empty line
        self._shown = ShownRun()
        self._jobs: List[Job] = []
        self._begun: Set[RemoteNodeWalker] = set()      # those that have told something
        self._heard = time.monotonic()                  # when anything was told last
        self._error: Optional[Exception] = None

        self._quiet = QUIET_LOOKS * interval + 1.0
        self._stopping = threading.Event()
        self._offered: Set[str] = set()         # paths of what the viewer was given; only of these frames can be asked
        self.unread: Dict[str, str] = {}        # path -> why it is not shown

    def run(self, until_end: bool = False) -> None:
        """Show what is there and what comes; ``until_end``: no longer than the run. Raises FollowError."""
        threads = [threading.Thread(target=self._walk, args=(walker, *types), daemon=True)
                   for walker, types in self._walkers.items()]
        threads.append(threading.Thread(target=self._listen, daemon=True))
        threads.append(threading.Thread(target=self._show_frames, daemon=True))
        self._retitle("")
        for thread in threads:
            thread.start()
        try:
            while self._backend.is_open() and self._error is None:
                job = self._next()
                if job is not None:
                    self._show(job)
                elif until_end and self._is_over():
                    if not self._shown.has_shown:
                        self._tell("Nothing was shown: there are %s." % NOTHING_SHOWN)
                    break
        finally:
            self._stopping.set()
            for walker in self._walkers:
                walker.stop()
            for thread in threads:
                # One of them may wait for a viewer that is frozen.
                thread.join(PARTING_SECONDS)
        if self._error is not None:
            raise self._error

    # What the walkers tell.

    def _walk(self, walker: RemoteNodeWalker, types: Tuple[str, ...], without_items: Tuple[str, ...]) -> None:
        try:
            with walker.walk_events(include_filter=types, exclude_children=without_items) as events:
                for event in events:
                    while not self._stopping.is_set():
                        try:
                            self._events.put((walker, event), timeout=LOOK_SECONDS)
                            break
                        except queue.Full:
                            continue
        except Exception as error:  # noqa: BLE001 - raised again by ``run``, in whose thread it is heard
            self._fail(error)

    def _listen(self) -> None:
        """Hear what the walkers tell, one event after the other."""
        while not self._stopping.is_set():
            try:
                walker, event = self._events.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            try:
                self._hear(walker, event)
                self._events.task_done()
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(error)
                return

    def _fail(self, error: Exception) -> None:
        with self._lock:
            if not self._stopping.is_set():
                self._error = error
            self._lock.notify_all()

    def _hear(self, walker: RemoteNodeWalker, event: Event) -> None:
        with self._lock:
            actions = self._shown.apply(event, walker is self._followed)
        for action in actions:
            self._perform(action)
        with self._lock:
            # Only now, for a viewer may take its time.
            self._begun.add(walker)
            self._heard = time.monotonic()
            self._lock.notify_all()

    def _perform(self, action: Action) -> None:
        """Without the lock: a viewer may take its time."""
        if isinstance(action, ShowImages):
            with self._lock:
                self._jobs += [Job(action.node, item) for item in action.items]
                self._lock.notify_all()
        elif isinstance(action, Forget):
            with self._lock:
                self._jobs = [job for job in self._jobs if job.node.db_name != action.source]
            self._backend.forget(action.source)
        elif isinstance(action, Retitle):
            self._retitle(action.state)
        else:
            self._backend.save(action.picks, action.name, name=action.name, source=action.source,
                               pixel_size=action.pixel_size, over=action.over)

    def _retitle(self, state: str) -> None:
        self._backend.note(title=self._title, state=state, frames=True)

    def _is_over(self) -> bool:
        """Whether all runs that are followed have ended, and nothing is left to be shown."""
        with self._lock:
            if len(self._begun) < len(self._walkers) or self._events.unfinished_tasks or (
                    time.monotonic() - self._heard < self._quiet):
                return False        # there may be more, of another run or of picks
            return self._shown.is_over and not self._jobs

    # What is shown.

    def _next(self) -> Optional[Job]:
        with self._lock:
            if not self._jobs:
                self._lock.wait(LOOK_SECONDS)
            return self._jobs.pop() if self._jobs else None

    def _show(self, job: Job) -> None:
        node, item = job
        try:
            preview = self._preview(node, item)
        except (OSError, BadImageError, FollowError, MemoryError) as error:
            self._cannot_show(item, error)
            return
        # Of a stack's images each has a place of its own.
        path = "%d@%s" % (item.index, item.path) if item.index else item.path
        self._offered.add(path)
        pixel_size = node.info.get("sampling_rate")
        common = {"source": node.db_name, "place": item.id, "name": item.name, "remark": preview.gain}
        # Rows from the bottom to the top.
        self._backend.save(
            preview.average[::-1], path, kind=AVERAGES[node.type], pixel_size=pixel_size, binning=preview.binning,
            limits=preview.limits(), flipped=True, metadata={"source": node.db_name, "id": item.id}, **common)
        self._backend.save(
            preview.spectrum[::-1], path, kind=SPECTRA, limits=contrast(preview.spectrum), takes_picks=False, **common)

    def _preview(self, node: NodeContent, item: Item) -> Preview:
        gain = node.info.get("gain") if node.type == MOVIES else None
        folder = os.path.dirname(node.path)
        kept = os.path.join(folder, "extra", PREVIEW_FOLDER) if os.path.exists(os.path.join(folder, RECORD)) else None
        return pictures.preview(item.path, item.index, gain, kept, self._ssh)

    def _cannot_show(self, item: Item, error: Exception) -> None:
        self.unread[item.path or item.name] = _words(error)
        if len(self.unread) <= NAMES_TOLD:
            self._tell("%s cannot be shown (%s)." % (item.name, _words(error)))

    def _show_frames(self) -> None:
        """The frames of a movie whose user has asked for them."""
        while not self._stopping.is_set():
            try:
                wanted = self._backend.requests.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            kind = "frames of %s" % wanted["name"]
            if wanted["path"] not in self._offered:
                continue        # nothing that was shown
            with self._lock:
                gain = self._shown.gain_of(wanted["source"])
            try:
                for number, (frame, remark) in enumerate(pictures.frames(wanted["path"], gain, self._ssh)):
                    if self._stopping.is_set() or not self._backend.requests.empty():
                        break
                    small = bin_image(frame, FRAME_PIXELS)[::-1]
                    self._backend.save(
                        small, "%s#%d" % (wanted["path"], number), kind=kind, group="frames", place=number,
                        name="%s, frame" % wanted["name"], limits=contrast(small), remark=remark, of=wanted["path"],
                        takes_picks=False)
            except (OSError, BadImageError, FollowError, MemoryError) as error:
                self._tell("The frames of %s cannot be shown (%s)." % (wanted["name"], _words(error)))


def _words(error: Exception) -> str:
    return (error.strerror or "").lower() if isinstance(error, OSError) and error.strerror else str(error).rstrip(".")
