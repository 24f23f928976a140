# SPDX-License-Identifier: GPL-3.0-or-later
"""A walker feeds a viewer: the images of a run, as small pictures, while they are being registered.

Pictures have the first row of the file at the bottom, as the page of Analyze results has.
"""
import contextlib
import os
import queue
import shutil
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from ..constants import RECORD_FILE
from ..follow import Event, FollowError, Item, NodeContent, RemoteNodeWalker
from ..follow.process import split_host
from ..images.header import BadImageError
from ..images.previews import PREVIEW_FOLDER, Preview, bin_image, contrast
from ..units import format_bytes
from . import kinds, pictures
from .backend import StreamingBackend
from .shown_run import (
    COORDINATES,
    CTF,
    IMAGES,
    MOVIE_TILTS,
    MOVIES,
    PARTICLES,
    PROJECT,
    RUN,
    SHOWN,
    STACKS,
    VOLUMES,
    WATCHED,
    Action,
    Forget,
    Remove,
    Retitle,
    ShowFacts,
    ShowImages,
    ShowMontage,
    ShownRun,
)
from .waiting import Job, Waiting
from .window.live_messages import FRAMES, FULL_SIZE

FRAME_PIXELS = 1024         # longest side of a frame that was asked for
RECORD = os.path.join("extra", RECORD_FILE)    # of an EMPIAR download, whose folder takes previews
LOOK_SECONDS = 0.2
BEGIN_SECONDS = 10.0
MOST_UNHEARD = 1000         # events that wait; then the walkers do
QUIET_LOOKS = 3             # of a walker, without an event, before all that has ended is taken to be told
PARTING_SECONDS = 2.0
NAMES_TOLD = 3


class Walking(NamedTuple):
    """What a walker tells of."""
    types: Tuple[str, ...]
    without_items: Tuple[str, ...] = ()     # of these only that they are there
    is_followed: bool = True                # it is of what the user wants to see


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

        def walker(name: str) -> RemoteNodeWalker:
            return RemoteNodeWalker(project, name, interval, ssh)

        self._walkers = {walker(db_name): Walking((PROJECT, RUN, PARTICLES, *WATCHED))}
        if db_name:
            # Picks and CTFs are another run's, and what they are of may be made of what is followed.
            self._walkers[walker("")] = Walking((PROJECT, RUN, *IMAGES, CTF, COORDINATES), IMAGES, is_followed=False)
        self._folder = "" if split_host(project)[0] else project
        self._title = " ".join([os.path.basename(os.path.abspath(project.rpartition(":")[2])), db_name]).strip()
        self._events: "queue.Queue[Tuple[RemoteNodeWalker, Event]]" = queue.Queue(MOST_UNHEARD)
        self._lock = threading.Condition()      # guards what follows, up to the empty line
        self._shown = ShownRun(db_name.partition(":")[2])
        self._waiting = Waiting()
        self._begun: Set[RemoteNodeWalker] = set()      # those that have told something
        self._heard = time.monotonic()                  # when anything was told last
        self._error: Optional[Exception] = None
        self._unread: Dict[str, str] = {}               # name -> why it is not shown
        self._last_title = Retitle("")

        self._order = threading.Lock()          # what the viewer is given of an image, and that it has gone
        self._quiet = QUIET_LOOKS * interval + 1.0
        self._stopping = threading.Event()
        # What the viewer was given, by its path; only of these frames can be asked. One thread writes, another reads.
        self._offered: Dict[str, Job] = {}
        self._started = time.monotonic()

    @property
    def unread(self) -> Dict[str, str]:
        """{name: why it is not shown}."""
        with self._lock:
            return dict(self._unread)

    def run(self, until_end: bool = False) -> None:
        """Show what is there and what comes; ``until_end``: no longer than the run. Raises FollowError."""
        threads = [threading.Thread(target=self._walk, args=(walker, what), daemon=True, name="feed-walk")
                   for walker, what in self._walkers.items()]
        threads.append(threading.Thread(target=self._listen, daemon=True, name="feed-listen"))
        threads.append(threading.Thread(target=self._show_frames, daemon=True, name="feed-frames"))
        self._retitle()
        for thread in threads:
            thread.start()
        try:
            while self._backend.is_open() and self._error is None:
                job = self._next()
                if job is not None:
                    self._show(job)
                elif until_end and self._is_over():
                    with self._lock:
                        has_shown = self._shown.has_shown
                    if not has_shown:
                        self._tell("Nothing to show: there is none of what live views show here (%s)." % SHOWN)
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

    def _walk(self, walker: RemoteNodeWalker, what: Walking) -> None:
        try:
            with walker.walk_events(include_filter=what.types, exclude_children=what.without_items,
                                    changes=WATCHED, infos=True) as events:
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
            actions = self._shown.apply(event, self._walkers[walker].is_followed)
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
            self._add([Job(action.node, [item]) for item in action.items])
        elif isinstance(action, ShowMontage):
            self._add([Job(action.node, action.items, action.first)])
        elif isinstance(action, Forget):
            with self._order:
                with self._lock:
                    self._waiting.keep(lambda job: job.node.db_name != action.source)
                self._backend.forget(action.source)
        elif isinstance(action, Remove):
            with self._order:
                with self._lock:
                    self._waiting.keep(lambda job: not job.is_of(action))
                self._backend.remove(action.source, action.item)
        elif isinstance(action, Retitle):
            self._retitle(action)
        elif isinstance(action, ShowFacts):
            self._backend.save(action.facts, action.name, name=action.name, source=action.source, over=action.over,
                               item=action.item)
        else:
            self._backend.save(action.picks, action.name, name=action.name, source=action.source,
                               pixel_size=action.pixel_size, over=action.over)

    def _add(self, jobs: List[Job]) -> None:
        with self._lock:
            for job in jobs:
                self._waiting.add(job)
            self._lock.notify_all()

    def _retitle(self, title: Optional[Retitle] = None) -> None:
        with self._lock:
            title = self._last_title = title or self._last_title
            skipped, unread = self._waiting.skipped, list(self._unread.items())
        head, state = [list(pair) for pair in title.head], title.state
        if head and self._folder:
            with contextlib.suppress(OSError):
                head.append(["Disk", "%s free" % format_bytes(shutil.disk_usage(self._folder).free)])
        if skipped:
            head.append(["Not shown", "%d particles, too many at a time" % skipped])
        if unread:
            state = ", ".join(word for word in (state, "%d cannot be shown" % len(unread)) if word)
            head.append(["Cannot be shown", "%d, the last %s (%s)" % (len(unread), *unread[-1])])
        self._backend.note(title=self._title, state=state, head=head, frames=True)

    def _say(self, text: str, **facts: str) -> None:
        """To whoever has started this, and to whoever watches."""
        self._tell(text)
        self._backend.note(said=text, **facts)

    def _is_over(self) -> bool:
        """Whether all runs that are followed have ended, and nothing is left to be shown."""
        with self._lock:
            if len(self._begun) < len(self._walkers) or self._events.unfinished_tasks or (
                    time.monotonic() - self._heard < self._quiet):
                return False        # there may be more, of another run or of picks
            return self._shown.is_over and not self._waiting

    # What is shown.

    def _next(self) -> Optional[Job]:
        with self._lock:
            now = time.monotonic()
            # Not until all have told what belongs to what; a project that is away says so soon.
            is_ready = len(self._begun) == len(self._walkers) or now - self._started >= BEGIN_SECONDS
            job = self._waiting.take(now) if is_ready else None
            if job is None:
                self._lock.wait(LOOK_SECONDS)
            return job

    def _show(self, job: Job) -> None:
        item = job.items[-1]
        failed: List[Item] = []

        def cannot(its: Item, error: Exception) -> None:
            failed.append(its)
            self._cannot_show(job, its, error)

        with self._lock:
            family = self._shown.family_of(job.node)
        try:
            found = self._pictures(job, item, cannot)
        except (OSError, BadImageError, FollowError, MemoryError) as error:
            cannot(item, error)
            return
        with self._order:
            with self._lock:
                if not self._waiting.is_taken(job):
                    return          # it has gone while its picture was made
            for shown in found:
                self._backend.save(shown.array, shown.path, family=family, **shown.words)
        with self._lock:
            read = [_word_for(job.node, its) for its in job.items if its not in failed] if self._unread else []
            taken_back = [word for word in read if self._unread.pop(word, None) is not None]
        if taken_back:
            self._retitle()

    def _pictures(self, job: Job, item: Item, cannot: kinds.Unread) -> List[kinds.Shown]:
        node = job.node
        if node.type in STACKS:
            return kinds.of_montage(node, job.first, job.items, self._ssh, cannot)
        if node.type in VOLUMES:
            return kinds.of_volume(node, item, self._ssh)
        if node.type == CTF:
            return kinds.of_fit(node, item, self._ssh)
        preview = self._preview(node, item)
        self._offered[kinds.address_of(item.path, item.index)] = Job(node, [item])
        return kinds.of_image(node, item, preview)

    def _preview(self, node: NodeContent, item: Item) -> Preview:
        gain = node.info.get("gain") if node.type in (MOVIES, MOVIE_TILTS) else None
        folder = os.path.dirname(node.path)
        kept = os.path.join(folder, "extra", PREVIEW_FOLDER) if os.path.exists(os.path.join(folder, RECORD)) else None
        return pictures.preview(item.path, item.index, gain, kept, self._ssh)

    def _cannot_show(self, job: Job, item: Item, error: Exception) -> None:
        """A file that is not whole yet, or not there, is tried again."""
        with self._lock:
            self._waiting.add_again(job, time.monotonic())
            word = _word_for(job.node, item)
            is_new = word not in self._unread
            self._unread[word] = _words(error)
            is_told = is_new and len(self._unread) <= NAMES_TOLD
        if is_told:
            self._say("%s cannot be shown (%s)." % (word, _words(error)))
        if is_new:
            self._retitle()

    def _show_frames(self) -> None:
        """The frames of a movie whose user has asked for them."""
        while not self._stopping.is_set():
            try:
                wanted = self._backend.requests.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            job = self._offered.get(wanted["path"])
            if job is None:
                continue        # nothing that was shown
            try:
                if wanted["what"] == FULL_SIZE:
                    self._show_whole(job.node, job.items[0], wanted["path"])
                else:
                    self._show_frames_of(job.node, job.items[0], wanted["path"])
            except (OSError, BadImageError, FollowError, MemoryError) as error:
                self._say("The %s of %s cannot be shown (%s)." % (wanted["what"], wanted["name"], _words(error)),
                          refused=wanted["what"])

    def _show_frames_of(self, node: NodeContent, item: Item, path: str) -> None:
        for number, (frame, remark) in enumerate(pictures.frames(item.path, self._gain_of(node), self._ssh)):
            if self._stopping.is_set() or not self._backend.requests.empty():
                break
            small = bin_image(frame, FRAME_PIXELS)[::-1]
            self._backend.save(
                small, "%s#%d" % (path, number), kind="frames of %s" % item.name, group=FRAMES, place=number,
                name="%s, frame" % item.name, limits=contrast(small), remark=remark, of=path, takes_picks=False,
                section=kinds.section_of(node))

    def _show_whole(self, node: NodeContent, item: Item, path: str) -> None:
        image, remark = pictures.whole(item.path, item.index, self._gain_of(node), self._ssh)
        self._backend.save(
            image[::-1], path + "#all", kind="all pixels of %s" % item.name, group=FULL_SIZE, name=item.name,
            source=node.db_name, pixel_size=node.info.get("sampling_rate"), limits=contrast(image), remark=remark,
            of=path, flipped=True, section=kinds.section_of(node))

    def _gain_of(self, node: NodeContent) -> Optional[str]:
        with self._lock:
            return self._shown.gain_of(node.db_name)


def _word_for(node: NodeContent, item: Item) -> str:
    name = "%d@%s" % (item.index, item.name) if item.index else item.name
    return "the CTF fit of %s" % item.name if node.type == CTF else name


def _words(error: Exception) -> str:
    return (error.strerror or "").lower() if isinstance(error, OSError) and error.strerror else str(error).rstrip(".")
