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
from ..follow.walker import DB_NAME
from ..images.header import BadImageError
from ..images.previews import PREVIEW_FOLDER, Preview, bin_image, contrast
from . import pictures
from .backend import StreamingBackend
from .entries import Picks

MOVIES, MICROGRAPHS, COORDINATES = "SetOfMovies", "SetOfMicrographs", "SetOfCoordinates"
AVERAGES, SPECTRA = {MOVIES: "averages", MICROGRAPHS: "micrographs"}, "power spectra"
PROJECT, RUN, ACTIVE = "project", "run", ("launched", "running", "scheduled")
FRAME_PIXELS = 1024         # longest side of a frame that was asked for
RECORD = os.path.join("extra", "download.jsonl")    # of an EMPIAR download, whose folder takes previews
LOOK_SECONDS = 0.2
MOST_UNHEARD = 1000         # events that wait; then the walkers do
QUIET_LOOKS = 3             # of a walker, without an event, before all that has ended is taken to be told
PARTING_SECONDS = 2.0
NAMES_TOLD = 3
NOTHING_SHOWN = "no movies or micrographs here; other images are not shown live"


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
        self._followed = RemoteNodeWalker(project, db_name, interval, ssh)
        # What each tells of, and what of only that it is there.
        self._walkers: Dict[RemoteNodeWalker, Tuple[Tuple[str, ...], Tuple[str, ...]]] = {
            self._followed: ((PROJECT, RUN, MOVIES, MICROGRAPHS, COORDINATES), ())}
        if db_name:
            # Picks are another run's, and what they were picked on may be made of what is followed.
            self._walkers = {
                self._followed: ((RUN, MOVIES, MICROGRAPHS), ()), RemoteNodeWalker(project, "", interval, ssh): (
                    (PROJECT, RUN, MOVIES, MICROGRAPHS, COORDINATES), (MOVIES, MICROGRAPHS))}
        self._title = " ".join([os.path.basename(os.path.abspath(project.rpartition(":")[2])), db_name])
        self._lock = threading.Condition()
        self._jobs: List[Job] = []
        self._sets: Dict[str, NodeContent] = {}                 # by db_name, as last told
        self._states: Dict[str, str] = {}                       # of runs
        # By set and micrograph; the sets as last told.
        self._picks: Dict[Tuple[str, str], List[Tuple[float, float]]] = {}
        self._pickers: Dict[str, NodeContent] = {}
        self._inputs: Dict[str, List[str]] = {}                 # of runs
        # What the walkers tell, each by a thread of its own; one thread hears it, for they tell of the same sets.
        self._events: "queue.Queue[Tuple[RemoteNodeWalker, Event]]" = queue.Queue(MOST_UNHEARD)
        self._error: Optional[Exception] = None
        self._stopping = threading.Event()
        self._ended: Set[str] = set()       # runs
        self._shown: Set[str] = set()       # sets of images that are followed
        self._outputs: Dict[str, List[str]] = {}        # of runs that are followed
        self._begun: Set[RemoteNodeWalker] = set()      # those that have told something
        self._heard, self._quiet = time.monotonic(), QUIET_LOOKS * interval + 1.0
        self._offered: Set[str] = set()         # paths of what the viewer was given; only of these frames can be asked
        self.unread: Dict[str, str] = {}                        # path -> why it is not shown

    def run(self, until_end: bool = False) -> None:
        """Show what is there and what comes; ``until_end``: no longer than the run. Raises FollowError."""
        threads = [threading.Thread(target=self._walk, args=(walker, *types), daemon=True)
                   for walker, types in self._walkers.items()]
        threads.append(threading.Thread(target=self._listen, daemon=True))
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
                    if not self._shown:
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
                self._begun.add(walker)
                self._hear(event, walker is self._followed)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(error)
                return

    def _fail(self, error: Exception) -> None:
        with self._lock:
            if not self._stopping.is_set():
                self._error = error
            self._lock.notify_all()

    def _hear(self, event: Event, is_followed: bool) -> None:
        node = event.node
        self._heard = time.monotonic()
        if node.type == RUN:
            if is_followed:
                self._outputs[node.name] = node.info.get("outputs") or []
            self._inputs[node.name] = _pointers(node.info.get("form") or {})
            if is_followed:
                self._hear_of_run(event)
        elif node.type == PROJECT:
            return
        elif event.type is EventType.NEW_NODE:
            self._hear_of_set(node, is_followed)
        elif event.type is EventType.NEW_DATA and node.type == COORDINATES:
            self._hear_of_picks(node, event.data.data)
        elif event.type is EventType.NEW_DATA:
            with self._lock:
                self._sets[node.db_name] = node
                self._jobs += [Job(node, item) for item in event.data.data]
                self._lock.notify_all()

    def _hear_of_set(self, node: NodeContent, is_followed: bool) -> None:
        """A set that is new, or another one in its place, after a Restart."""
        with self._lock:
            is_another = is_followed and node.db_name in self._shown
            self._sets[node.db_name] = node
            is_first = is_followed and not self._shown and node.type != COORDINATES
            if is_followed and node.type != COORDINATES:
                self._shown.add(node.db_name)
                self._jobs = [job for job in self._jobs if job.node.db_name != node.db_name]
        if is_first:
            self._note()
        if node.type == COORDINATES:
            self._picks = {key: found for key, found in self._picks.items() if key[0] != node.db_name}
            is_another = node.db_name in self._pickers
        if is_another:
            self._backend.forget(node.db_name)
        # What was picked on it had no pixel size so far.
        for db_name, picker in list(self._pickers.items()):
            if _is_of(node.db_name, picker.info.get("micrographs")):
                self._save_picks(picker, [name for picked, name in self._picks if picked == db_name])

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
            if len(self._begun) < len(self._walkers) or not self._events.empty() or (
                    time.monotonic() - self._heard < self._quiet):
                return False        # there may be more, of another run or of picks
            return bool(self._ended) and not self._jobs and all(
                name in self._ended or state not in ACTIVE for name, state in self._states.items())

    def _hear_of_picks(self, node: NodeContent, items: List[Item]) -> None:
        self._pickers[node.db_name] = node
        changed: Set[str] = set()
        for item in items:
            name = item.attributes.get("_micName")
            x, y = item.attributes.get("_x"), item.attributes.get("_y")
            if name and x is not None and y is not None:
                self._picks.setdefault((node.db_name, name), []).append((float(x), float(y)))
                changed.add(name)
        self._save_picks(node, sorted(changed))

    def _save_picks(self, picker: NodeContent, names: List[str]) -> None:
        try:
            box = float(picker.info.get("properties", {}).get("_boxSize") or 0)
        except ValueError:
            box = 0.0
        for name in names:
            self._backend.save(
                Picks(self._picks[picker.db_name, name], box), name, name=name, source=picker.db_name,
                pixel_size=self._pixel_of(picker), over=self._origins(picker.info.get("micrographs")))

    def _pixel_of(self, coordinates: NodeContent) -> Optional[float]:
        """The pixel size of the micrographs that were picked, where they are known."""
        named = coordinates.info.get("micrographs")
        with self._lock:
            found = [node for db_name, node in self._sets.items() if node.type in AVERAGES and _is_of(db_name, named)]
        return found[0].info.get("sampling_rate") if found else None

    def _origins(self, db_name: Optional[str]) -> List[str]:
        """A set, and those that its run was made from, and so on."""
        found: List[str] = []
        todo = [db_name] if db_name else []
        while todo:
            name = todo.pop()
            if name not in found:
                found.append(name)
                todo += self._inputs.get(name.partition(":")[0], [])
        return found

    def _note(self) -> None:
        state = next(iter(self._states.values())) if len(self._states) == 1 else ""
        with self._lock:
            if not self._shown and any(self._outputs.values()):
                # Known by the names only, so it may be wrong for a moment: what is shown takes it back.
                state = ", ".join(word for word in (state, NOTHING_SHOWN) if word)
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
            with self._lock:
                source = self._sets.get(wanted["source"])
            if wanted["path"] not in self._offered:
                continue        # nothing that was shown
            try:
                gain = source.info.get("gain") if source is not None and source.type == MOVIES else None
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


def _is_of(db_name: str, named: Optional[str]) -> bool:
    """Whether a set is what a pointer names: itself, or its run."""
    return bool(named) and (db_name == named or db_name.startswith("%s:" % named))


def _pointers(form: Dict[str, Any]) -> List[str]:
    """The sets and runs that a run's form points at."""
    values = [value for entry in form.values() for value in (entry if isinstance(entry, list) else [entry])]
    return [value for value in values if isinstance(value, str) and DB_NAME.fullmatch(value) and value]


def _words(error: Exception) -> str:
    return (error.strerror or "").lower() if isinstance(error, OSError) and error.strerror else str(error).rstrip(".")
