# SPDX-License-Identifier: GPL-3.0-or-later
"""A walker feeds a viewer: the images of a run, as small pictures, while they are being registered.

Pictures have the first row of the file at the bottom, as the page of Analyze results has.
"""
import os
import queue
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from ..follow import Event, EventType, FollowError, Item, NodeContent, RemoteNodeWalker
from ..images.header import BadImageError
from ..images.previews import PREVIEW_FOLDER, Preview, bin_image, contrast
from . import pictures
from .backend import Picks, StreamingBackend

MOVIES, MICROGRAPHS, COORDINATES = "SetOfMovies", "SetOfMicrographs", "SetOfCoordinates"
AVERAGES, SPECTRA = {MOVIES: "averages", MICROGRAPHS: "micrographs"}, "power spectra"
PROJECT, RUN, ACTIVE = "project", "run", ("launched", "running", "scheduled")
FRAME_PIXELS = 1024         # longest side of a frame that was asked for
RECORD = os.path.join("extra", "download.jsonl")    # of an EMPIAR download, whose folder takes previews
LOOK_SECONDS = 0.2
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
    newer ones before the older.
    """

    def __init__(self, backend: StreamingBackend, project: str, db_name: str = "", interval: float = 0.5,
                 ssh: Any = "ssh", tell: Callable[[str], None] = lambda text: None) -> None:
        """Raises FollowError."""
        self._backend, self._tell, self._ssh = backend, tell, ssh
        self._walkers = {RemoteNodeWalker(project, db_name, interval, ssh): (RUN, MOVIES, MICROGRAPHS, COORDINATES)}
        if db_name:
            # Picks are another run's.
            self._walkers[RemoteNodeWalker(project, "", interval, ssh)] = (PROJECT, COORDINATES, MICROGRAPHS)
        self._title = " ".join([os.path.basename(os.path.abspath(project.rpartition(":")[2])), db_name])
        self._lock = threading.Condition()
        self._jobs: List[Job] = []
        self._sets: Dict[str, NodeContent] = {}                 # by db_name, as last told
        self._states: Dict[str, str] = {}                       # of runs
        self._picks: Dict[Tuple[str, str], List[Tuple[float, float]]] = {}     # by set and micrograph
        self._error: Optional[FollowError] = None
        self._stopping = threading.Event()
        self._ended: Set[str] = set()       # runs
        self._begun: Set[RemoteNodeWalker] = set()      # those that have told something
        self._heard, self._quiet = time.monotonic(), QUIET_LOOKS * interval + 1.0
        self.unread: Dict[str, str] = {}                        # path -> why it is not shown

    def run(self, until_end: bool = False) -> None:
        """Show what is there and what comes; ``until_end``: no longer than the run. Raises FollowError."""
        threads = [threading.Thread(target=self._walk, args=walk, daemon=True) for walk in self._walkers.items()]
        threads.append(threading.Thread(target=self._show_frames, daemon=True))
        self._note()
        for thread in threads:
            thread.start()
        try:
            while self._backend.is_open() and self._error is None:
                job = self._next()
                if job is not None:
                    self._show(job)
                elif until_end and self._is_over():
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

    def _walk(self, walker: RemoteNodeWalker, types: Tuple[str, ...]) -> None:
        try:
            with walker.walk_events(include_filter=types) as events:
                for event in events:
                    self._begun.add(walker)
                    self._hear(event, RUN in types)
        except FollowError as error:
            with self._lock:
                if not self._stopping.is_set():
                    self._error = error
                self._lock.notify_all()

    def _hear(self, event: Event, is_followed: bool) -> None:
        node = event.node
        self._heard = time.monotonic()
        if node.type == RUN:
            self._hear_of_run(event)
        elif event.type is EventType.NEW_NODE:
            with self._lock:
                self._sets[node.db_name] = node
                # Perhaps another one in its place, after a Restart.
                self._jobs = [job for job in self._jobs if job.node.db_name != node.db_name or not is_followed]
                self._picks = {key: found for key, found in self._picks.items() if key[0] != node.db_name}
        elif event.type is EventType.NEW_DATA and node.type == COORDINATES:
            # Both walkers tell of coordinates that are within what is followed.
            if is_followed == (len(self._walkers) == 1):
                self._hear_of_picks(node, event.data.data)
        elif event.type is EventType.NEW_DATA and is_followed:
            with self._lock:
                self._sets[node.db_name] = node
                self._jobs += [Job(node, item) for item in event.data.data]
                self._lock.notify_all()

    def _hear_of_run(self, event: Event) -> None:
        name, ended = event.node.name, event.type is EventType.END_SCAN
        with self._lock:
            self._states[name] = str(event.data.data) if ended else event.node.info.get("status") or ""
            self._ended = self._ended | {name} if ended else self._ended - {name}
            self._lock.notify_all()
        self._note()

    def _is_over(self) -> bool:
        """Whether all runs that are followed have ended, and nothing is left to be shown."""
        with self._lock:
            if len(self._begun) < len(self._walkers) or time.monotonic() - self._heard < self._quiet:
                return False        # there may be more, of another run or of picks
            return bool(self._ended) and not self._jobs and all(
                name in self._ended or state not in ACTIVE for name, state in self._states.items())

    def _hear_of_picks(self, node: NodeContent, items: List[Item]) -> None:
        changed: Set[str] = set()
        for item in items:
            name = item.attributes.get("_micName")
            x, y = item.attributes.get("_x"), item.attributes.get("_y")
            if name and x is not None and y is not None:
                self._picks.setdefault((node.db_name, name), []).append((float(x), float(y)))
                changed.add(name)
        box = float(node.info.get("properties", {}).get("_boxSize") or 0)
        for name in changed:
            self._save(Picks(self._picks[node.db_name, name], box), name, name=name, pixel_size=self._pixel_of(node))

    def _pixel_of(self, coordinates: NodeContent) -> Optional[float]:
        """The pixel size of the micrographs that were picked, where they are known."""
        named = coordinates.info.get("micrographs")
        with self._lock:
            found = self._sets.get(named) if named else None
        return found.info.get("sampling_rate") if found is not None else None

    def _note(self) -> None:
        state = next(iter(self._states.values())) if len(self._states) == 1 else ""
        self._backend.note(title=self._title.strip(), state=state, frames=True)

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
        except (OSError, BadImageError, FollowError) as error:
            self._cannot_show(item, error)
            return
        pixel_size = node.info.get("sampling_rate")
        common = {"source": node.db_name, "place": item.id, "name": item.name, "remark": preview.gain}
        # Rows from the bottom to the top.
        self._save(preview.average[::-1], item.path, kind=AVERAGES[node.type], pixel_size=pixel_size,
                   binning=preview.binning, limits=preview.limits(), flipped=True,
                   metadata={"source": node.db_name, "id": item.id}, **common)
        self._save(preview.spectrum[::-1], item.path, kind=SPECTRA, limits=contrast(preview.spectrum),
                   takes_picks=False, **common)

    def _preview(self, node: NodeContent, item: Item) -> Preview:
        gain = node.info.get("gain") if node.type == MOVIES else None
        folder = os.path.dirname(node.path)
        kept = os.path.join(folder, "extra", PREVIEW_FOLDER) if os.path.exists(os.path.join(folder, RECORD)) else None
        return pictures.preview(item.path, item.index, gain, kept, self._ssh)

    def _save(self, data: Any, path: str, **keywords: Any) -> None:
        """As long as there is a viewer its turn is waited for: nothing of a run is left out."""
        self._backend.save(data, path, **keywords)

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
            with self._lock:
                source = self._sets.get(wanted["source"])
            try:
                gain = source.info.get("gain") if source is not None and source.type == MOVIES else None
                for number, (frame, remark) in enumerate(pictures.frames(wanted["path"], gain, self._ssh)):
                    if self._stopping.is_set() or not self._backend.requests.empty():
                        break
                    small = bin_image(frame, FRAME_PIXELS)[::-1]
                    self._save(small, "%s#%d" % (wanted["path"], number), kind=kind, group="frames", place=number,
                               name="%s, frame" % wanted["name"], limits=contrast(small), remark=remark,
                               takes_picks=False)
            except (OSError, BadImageError, FollowError) as error:
                self._tell("The frames of %s cannot be shown (%s)." % (wanted["name"], _words(error)))


def _words(error: Exception) -> str:
    return (error.strerror or "").lower() if isinstance(error, OSError) and error.strerror else str(error).rstrip(".")


def describe_losses(backend: StreamingBackend, feed: Feed) -> List[str]:
    """Sentences about what was not shown."""
    found = ["%d pictures were not shown: %s." % (count, reason) for reason, count in backend.tracker.lost().items()]
    if len(feed.unread) > NAMES_TOLD:
        found.append("%d images could not be read." % len(feed.unread))
    return found
