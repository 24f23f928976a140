# SPDX-License-Identifier: GPL-3.0-or-later
"""RemoteNodeWalker: the runs of a Scipion project, their outputs and items, followed while they grow.

The iterators and their words are those of the remote node walker of the ESRF's blissdata; what differs is told in
docs/follow.rst.
"""
import contextlib
import os
import re
import threading
import time
import weakref
from typing import Any, Dict, Iterable, Iterator, List, Optional, Union

from .events import Event, EventType, FollowError, GoneError, NeverError, NodeContent, NotThereYetError
from .position import Position, read_position
from .process import Child, split_host
from .walk import Filter, Walk, types_of

DB_NAME = re.compile(r"(\d{6,}_\w+(:\w+)?)?")

Changes = Union[bool, str, Iterable[str]]      # whether they are told, or of which classes of sets

class RemoteNodeWalker:
    """Walks over a project, a run or an output, and over all that is below it.

    ``project``: the folder of a Scipion project, or 'user@host:/folder', read over ssh with nothing but python3 there.
    ``db_name``: '' for all, '000002_EmpiarDownloader' for a run, '000002_EmpiarDownloader:outputMovies' for an output;
    it need not be there yet. ``interval``: seconds between two looks. ``ssh``: the command, with options of its own.
    Each walk has a child process that reads, and is gone with the iterator, by ``stop`` or with this program. The
    methods raise FollowError, whose text is one sentence for the user.
    """

    def __init__(self, project: str, db_name: str = "", interval: float = 0.5, ssh: Union[str, List[str]] = "ssh"):
        if not isinstance(db_name, str) or not DB_NAME.fullmatch(db_name):
            msg = "%r is no name of a run or an output; such are '000002_EmpiarDownloader' and " \
                  "'000002_EmpiarDownloader:outputMovies'." % db_name
            raise FollowError(msg)
        if not 0 < interval < threading.TIMEOUT_MAX:
            msg = "Between two looks there has to be some time, not %r s." % interval
            raise FollowError(msg)
        self.project, self.db_name, self.interval = os.fspath(project), db_name, float(interval)
        self._host, self._folder = split_host(self.project)
        self._ssh = ssh
        self._walks: "weakref.WeakSet[Walk[Any]]" = weakref.WeakSet()

    def walk(self, include_filter: Filter = None, exclude_children: Filter = None,
             wait: bool = True) -> "Walk[NodeContent]":
        """The nodes there are, parents before children, and with ``wait`` those that come.

        A filter is a type, several of them, or a callable that gets a NodeContent; it decides what is given, while
        what is below is walked all the same, but below what ``exclude_children`` matches: the outputs of a run, the
        items of a set.
        """
        return self._start(include_filter, exclude_children, wait, nodes=True)

    def walk_from_last(self, include_filter: Filter = None, wait: bool = True,
                       include_last: bool = True) -> "Walk[NodeContent]":
        """The newest node, unless not ``include_last``, and with ``wait`` those that come after it."""
        walk = self._start(include_filter, None, wait, nodes=True)
        walk.keep_newest(include_last)
        return walk

    def walk_events(self, include_filter: Filter = None, exclude_children: Filter = None, wait: bool = True,
                    timeout: Optional[float] = None, since: str = "", changes: Changes = False, infos: bool = False,
                    last_only: bool = False) -> "Walk[Event]":
        """What has happened from the beginning, or after ``since``, the ``position`` of a former walk with the same
        arguments; and with ``wait`` what happens from now on.

        ``timeout``: seconds without an event after which the iteration ends. ``changes``: also CHANGED_DATA, REMOVED
        and CLOSED, or these of sets of some classes only ('SetOfCTF', or several); ``infos``: also INFO.
        ``last_only``: a reader that is slower than the run gets the newest item of each output alone, of what came
        since it asked last. Raises RestartedError where ``since`` is of a set that a Restart has made anew.
        """
        return self._start(include_filter, exclude_children, wait, timeout=timeout, since=since, changes=changes,
                           infos=infos, last_only=last_only)

    def walk_on_new_events(self, include_filter: Filter = None, exclude_children: Filter = None, wait: bool = True,
                           timeout: Optional[float] = None, started_event: Optional[threading.Event] = None,
                           changes: Changes = False, infos: bool = False, last_only: bool = False) -> "Walk[Event]":
        """What happens from now on. What comes after this returns, or after ``started_event`` is set, is seen. The
        other arguments are those of ``walk_events``."""
        walk = self._start(include_filter, exclude_children, wait, timeout=timeout, new_only=True, changes=changes,
                           infos=infos, last_only=last_only)
        if started_event is not None:
            started_event.set()
        return walk

    def get(self, db_name: str, timeout: float = 60.0) -> NodeContent:
        """A node of the project as it is now. Raises NotThereYetError, and NeverError where its run has ended without
        it."""
        walker, found = self._at(_checked_name(db_name).partition(":")[0]), {}
        with _ended_after(timeout, walker), walker:
            nodes: Iterator[NodeContent] = walker.walk(wait=False)
            for node in nodes:
                found[node.db_name] = node
                if node.db_name == db_name:
                    return node
        run = found.get(db_name.partition(":")[0])
        if run is not None and ":" in db_name:
            raise _absent(db_name, run)
        msg = "There is no %s in %s yet." % (db_name, self.project)
        raise NotThereYetError(msg)

    def wait_for_run(self, class_name: str, timeout: Optional[float] = None) -> NodeContent:
        """The newest run of a protocol class ('EmpiarDownloader'), as soon as there is one.

        Raises NotThereYetError after ``timeout`` seconds.
        """
        walker = self._at("")
        with _ended_after(timeout, walker), walker:
            walk = walker.walk_from_last(lambda node: node.info.get("class") == class_name)
            # What was there when the time was over, too.
            found: Optional[NodeContent] = next(walk, None) or walk.seen_last()
        if found is None:
            msg = "There is no run of %s in %s yet." % (class_name, self.project)
            raise NotThereYetError(msg)
        return found

    def wait_until_closed(self, db_name: str, timeout: Optional[float] = None) -> NodeContent:
        """An output ('000002_EmpiarDownloader:outputMovies') once no more items come to it.

        Raises NotThereYetError after ``timeout`` seconds; NeverError where its run has ended without it, or left it
        open.
        """
        run_name, _, output = _checked_name(db_name).partition(":")
        if not output:
            msg = "%r is no output: such are '000002_EmpiarDownloader:outputMovies'." % db_name
            raise FollowError(msg)
        walker = self._at(run_name)
        known: Dict[str, NodeContent] = {}
        began = time.monotonic()
        with _ended_after(timeout, walker), walker:
            for event in walker.walk_events(infos=True):
                known[event.node.db_name] = event.node
                its = known.get(db_name)
                if its is not None and its.info.get("problem"):
                    raise FollowError(its.info["problem"])
                # What is no set has no such state.
                if its is not None and its.info.get("stream_state", "closed") == "closed":
                    return its
                if event.type is EventType.END_SCAN:
                    raise _absent(db_name, event.node, its is not None)
        if known and (timeout is None or time.monotonic() - began < timeout):
            msg = "%s was deleted from %s." % (run_name, self.project)
            raise GoneError(msg)
        msg = "%s of %s is not closed yet." % (db_name, self.project)
        raise NotThereYetError(msg)

    def _at(self, db_name: str) -> "RemoteNodeWalker":
        return RemoteNodeWalker(self.project, db_name, self.interval, self._ssh)

    def __reduce__(self) -> Any:
        # Walks in progress belong to the program that began them.
        return RemoteNodeWalker, (self.project, self.db_name, self.interval, self._ssh)

    def stop(self) -> None:
        """End the walks in progress, from any thread."""
        for walk in list(self._walks):
            walk.stop()

    def __enter__(self) -> "RemoteNodeWalker":
        return self

    def __exit__(self, *error: object) -> None:
        for walk in list(self._walks):
            walk.close()

    def _start(self, include: Filter, exclude: Filter, wait: bool, nodes: bool = False,
               timeout: Optional[float] = None, new_only: bool = False, since: str = "", changes: Changes = False,
               infos: bool = False, last_only: bool = False) -> "Walk[Any]":
        include, exclude = _checked(include), _checked(exclude)
        if timeout is not None and not timeout >= 0:
            msg = "A timeout is a number of seconds, not %r." % timeout
            raise FollowError(msg)
        request = {
            "project": self._folder, "db_name": self.db_name, "items": not nodes, "new_only": new_only,
            # A callable stays here, and has to see all that comes.
            "include": None if callable(exclude) else types_of(include), "exclude": types_of(exclude) or [],
            "wait": wait, "interval": self.interval, "infos": infos,
            "changes": changes if isinstance(changes, bool) else [changes] if isinstance(changes, str) else [*changes]}
        # A position holds for a walk that tells of the same; what a callable lets through nobody can compare.
        told = {name: request[name] for name in ("include", "exclude", "changes")}
        told["db_name"] = self.db_name
        state = read_position(since, told) if since else None
        request.update(since=state, tells_known=state is not None and callable(exclude))
        child = Child(self._host, self._ssh, request)
        walk: Walk[Any] = Walk(self._host, self.db_name, child, include, exclude, nodes, timeout,
                               Position(told, state), last_only)
        self._walks.add(walk)
        if new_only:
            walk.wait_for_start()
        return walk


@contextlib.contextmanager
def _ended_after(timeout: Optional[float], walker: RemoteNodeWalker) -> Iterator[None]:
    """The walks of a walker end after so many seconds, whatever they wait for."""
    if timeout is None:
        yield
        return
    ending = threading.Timer(min(timeout, threading.TIMEOUT_MAX), walker.stop)
    ending.daemon, ending.name = True, "walk-ending"
    ending.start()
    try:
        yield
    finally:
        ending.cancel()


def _checked_name(db_name: str) -> str:
    """Raises FollowError for what is no name of a node."""
    return RemoteNodeWalker("", db_name).db_name


def _absent(db_name: str, run: NodeContent, is_open: bool = False) -> FollowError:
    """Why an output of a run is not there, or not closed."""
    status, name = run.info.get("status"), db_name.partition(":")[2]
    if status in ("finished", "failed", "aborted", "killed", "interactive"):
        return NeverError("%s has ended (%s) %s %s: continue that run." % (
            run.name, status, "and left open its output" if is_open else "without an output", name))
    return NotThereYetError("%s is there (%s), and has no output %s yet." % (run.name, status, name))


def _checked(chosen: Filter) -> Filter:
    """A filter that can be used more than once. Raises FollowError."""
    if chosen is None or callable(chosen) or isinstance(chosen, str):
        return chosen
    try:
        names = tuple(chosen)
    except TypeError:
        names = (chosen,)       # type: ignore[assignment]  # no filter at all, as is told below
    if not all(isinstance(name, str) for name in names):
        msg = "A filter is a type such as 'run', several of them, or a function of the node, not %r." % (names,)
        raise FollowError(msg)
    return names
