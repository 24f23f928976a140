# SPDX-License-Identifier: GPL-3.0-or-later
"""RemoteNodeWalker: the runs of a Scipion project, their outputs and items, followed while they grow.

The iterators and their words are those of the remote node walker of the ESRF's blissdata; what differs is told in
docs/follow.rst.
"""
import asyncio
import dataclasses
import os
import re
import threading
import time
import weakref
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, TypeVar, Union

from .events import Event, EventData, EventType, FollowError, Item, NeverError, NodeContent, NotThereYetError
from .position import OF_ITEMS, Position, Step, read_position
from .process import Child, split_host

Content = TypeVar("Content", NodeContent, Event)
Told = Tuple[Any, List[Step]]       # what is given to the reader, and how far that is
Filter = Union[None, str, Tuple[str, ...], List[str], Callable[[NodeContent], bool]]
BEGIN_SECONDS = 30.0        # a child, and the way to another machine, have these to begin, beyond a walk's timeout
_OVER = object()
DB_NAME = re.compile(r"(\d{6,}_\w+(:\w+)?)?")


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
        what is below is walked all the same, but below what ``exclude_children`` matches.
        """
        return self._start(include_filter, exclude_children, wait, nodes=True)

    def walk_from_last(self, include_filter: Filter = None, wait: bool = True,
                       include_last: bool = True) -> "Walk[NodeContent]":
        """The newest node, unless not ``include_last``, and with ``wait`` those that come after it."""
        walk = self._start(include_filter, None, wait, nodes=True)
        walk.keep_newest(include_last)
        return walk

    def walk_events(self, include_filter: Filter = None, exclude_children: Filter = None, wait: bool = True,
                    timeout: Optional[float] = None, since: str = "", changes: bool = False, infos: bool = False,
                    last_only: bool = False) -> "Walk[Event]":
        """What has happened from the beginning, or after ``since``, the ``position`` of a former walk with the same
        arguments; and with ``wait`` what happens from now on.

        ``timeout``: seconds without an event after which the iteration ends. ``changes``: also CHANGED_DATA, REMOVED
        and CLOSED; ``infos``: also INFO. ``last_only``: a reader that is slower than the run gets the newest item of
        each output alone, of what came since it asked last. Raises RestartedError where ``since`` is of a set that a
        Restart has made anew.
        """
        return self._start(include_filter, exclude_children, wait, timeout=timeout, since=since, changes=changes,
                           infos=infos, last_only=last_only)

    def walk_on_new_events(self, include_filter: Filter = None, exclude_children: Filter = None, wait: bool = True,
                           timeout: Optional[float] = None, started_event: Optional[threading.Event] = None,
                           changes: bool = False, infos: bool = False, last_only: bool = False) -> "Walk[Event]":
        """What happens from now on. What comes after this returns, or after ``started_event`` is set, is seen. The
        other arguments are those of ``walk_events``."""
        walk = self._start(include_filter, exclude_children, wait, timeout=timeout, new_only=True, changes=changes,
                           infos=infos, last_only=last_only)
        if started_event is not None:
            started_event.set()
        return walk

    def get(self, db_name: str) -> NodeContent:
        """A node of the project as it is now. Raises NotThereYetError, and NeverError where its run has ended without
        it."""
        nodes: Iterator[NodeContent] = self._at(db_name.partition(":")[0]).walk(wait=False)
        found = {node.db_name: node for node in nodes}
        if db_name in found:
            return found[db_name]
        run = found.get(db_name.partition(":")[0])
        if run is not None and ":" in db_name:
            raise _absent(db_name, run)
        msg = "There is no %s in %s yet." % (db_name, self.project)
        raise NotThereYetError(msg)

    def wait_for_run(self, class_name: str, timeout: Optional[float] = None) -> NodeContent:
        """The newest run of a protocol class ('EmpiarDownloader'), as soon as there is one.

        Raises NotThereYetError after ``timeout`` seconds.
        """
        with self._at("").walk_from_last(lambda node: node.info.get("class") == class_name) as walk:
            found: Optional[NodeContent] = _first(walk, timeout)
        if found is None:
            msg = "There is no run of %s in %s yet." % (class_name, self.project)
            raise NotThereYetError(msg)
        return found

    def wait_until_closed(self, db_name: str, timeout: Optional[float] = None) -> NodeContent:
        """An output ('000002_EmpiarDownloader:outputMovies') once no more items come to it.

        Raises NotThereYetError after ``timeout`` seconds; NeverError where its run has ended without it, or left it
        open.
        """
        run_name = db_name.partition(":")[0]
        with self._at(run_name).walk_events(infos=True) as walk:
            deadline = None if timeout is None else time.monotonic() + timeout
            known: Dict[str, NodeContent] = {}
            while True:
                event = _first(walk, None if deadline is None else max(0.0, deadline - time.monotonic()))
                if event is None:
                    break
                known[event.node.db_name] = event.node
                its = known.get(db_name)
                if its is not None and its.info.get("stream_state") in ("closed", None):
                    return its
                if event.type is EventType.END_SCAN:
                    raise _absent(db_name, event.node, its is not None)
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
               timeout: Optional[float] = None, new_only: bool = False, since: str = "", changes: bool = False,
               infos: bool = False, last_only: bool = False) -> "Walk[Any]":
        include, exclude = _checked(include), _checked(exclude)
        if timeout is not None and not timeout >= 0:
            msg = "A timeout is a number of seconds, not %r." % timeout
            raise FollowError(msg)
        request = {
            "project": self._folder, "db_name": self.db_name, "items": not nodes, "new_only": new_only,
            # A callable stays here, and has to see all that comes.
            "include": None if callable(exclude) else _types(include), "exclude": _types(exclude) or [],
            "wait": wait, "interval": self.interval, "changes": changes, "infos": infos}
        # A position holds for a walk that tells of the same; what a callable lets through nobody can compare.
        told = {"db_name": self.db_name, "include": request["include"], "exclude": request["exclude"],
                "changes": changes}
        state = read_position(since, told) if since else None
        request["since"] = state
        child = Child(self._host, self._ssh, request)
        walk: Walk[Any] = Walk(self._host, self.db_name, child, include, exclude, nodes, timeout,
                               Position(told, state), last_only)
        self._walks.add(walk)
        if new_only:
            walk.wait_for_start()
        return walk


class Walk(Iterator[Content]):
    """An iteration in progress; its end, by ``close``, ``stop`` or when nobody has it any more, ends the child."""

    def __init__(self, host: str, root: str, child: Child, include: Filter, exclude: Filter, nodes: bool,
                 timeout: Optional[float], position: Position, last_only: bool):
        self._host, self._root, self._child, self._nodes = host, root, child, nodes
        self._timeout = None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        self._owner = os.getpid()
        self._turn = threading.Lock()               # for threads that share a walk
        self._include, self._exclude = _predicate(include), _predicate(exclude) if callable(exclude) else None
        self._excluded: Dict[str, bool] = {}        # by db_name, of nodes seen
        self._stopped = threading.Event()
        self._ended = self._begun = False
        self._position, self._last_only = position, last_only
        self._waiting: List[Told] = []              # read already, not given yet
        self._over = False
        self._error: Optional[FollowError] = None   # told after what waits

    def __iter__(self) -> "Walk[Content]":
        return self

    def __next__(self) -> Any:
        if os.getpid() != self._owner:
            msg = "This walk belongs to the process that began it: begin another one here."
            raise FollowError(msg)
        with self._turn:
            return self._next()

    def _next(self) -> Any:
        deadline, begun = None, False
        while not self._ended and not self._stopped.is_set():
            if self._waiting:
                given, steps = self._waiting.pop(0)
                for step in steps:
                    self._position.apply(step)
                return given
            if self._error is not None:
                raise self._error
            if self._over:
                break
            if self._timeout is not None and (deadline is None or begun != self._begun):
                # More while the child begins, or the way to another machine is made.
                begun = self._begun
                deadline = time.monotonic() + self._timeout + (0 if begun else BEGIN_SECONDS)
            message = self._next_message(deadline)
            if message is None:
                if deadline is not None and time.monotonic() >= deadline:
                    if not self._begun and not self._stopped.is_set():
                        self.close()
                        msg = "Nothing came from %s within %.0f s: check that it can be reached." % (
                            self._host or "what reads the project", (self._timeout or 0) + BEGIN_SECONDS)
                        raise FollowError(msg)
                    break
                continue
            if "end" in message:
                self._over = True
                continue
            self._waiting += self._newest(message) if self._last_only else self._told(message)
        self.close()
        raise StopIteration

    def __aiter__(self) -> "Walk":
        return self

    async def __anext__(self) -> Any:
        """For ``async for``: waits in a thread of its own, so that the loop goes on."""
        found = await asyncio.get_event_loop().run_in_executor(None, next, self, _OVER)
        if found is _OVER:
            raise StopAsyncIteration
        return found

    def stop(self) -> None:
        """End the iteration, from any thread."""
        self._stopped.set()
        self._child.ask_to_end()
        self._child.wake()

    def close(self) -> None:
        self._ended = True
        self._child.close()

    def __enter__(self) -> "Walk":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def wait_for_start(self) -> None:
        """Read on until the child has seen all that is there."""
        self._waiting += [told for told, old in self._until_started() if not old]

    def keep_newest(self, include_last: bool) -> None:
        """Of the nodes that are there only the newest one is given, or none."""
        # One that could not be seen at first comes late.
        found = sorted((told for told, _ in self._until_started()), key=lambda told: _age(told[0]))
        if include_last:
            self._waiting += found[-1:]

    def _until_started(self) -> Iterator[Tuple[Any, bool]]:
        """What comes until the child has seen all that is there, and whether it was there before."""
        while not self._ended and not self._stopped.is_set():
            message = self._next_message(None)
            if message is None:
                continue
            if "started" in message:
                if message["state"] is not None:
                    self._position.load(message["state"])
                return
            for told in self._told(message):
                yield told, message.get("old", False)

    @property
    def position(self) -> str:
        """How far this walk has come, up to the event that it gave last, as a line of text for ``since``: it is good
        for another process and after a restart of the machine. What INFO tells is no part of it."""
        with self._turn:
            return self._position.as_text()

    def _told(self, message: Dict[str, Any]) -> List[Told]:
        """What a message gives, with its step of the position; one that gives nothing takes the step at once."""
        if "taken_up" in message:
            self._position.take_up(message["taken_up"], message["digests"])
        if "event" not in message:
            return []
        steps = [] if self._nodes else [self._position.step_of(message)]
        given = self._given(message)
        if given is not None:
            return [(given, steps)]
        for step in steps:
            self._position.apply(step)
        return []

    def _newest(self, message: Dict[str, Any]) -> List[Told]:
        """Of all that waits, of each output only the newest item."""
        found: List[Told] = []
        more: Optional[Dict[str, Any]] = message
        try:
            while more is not None and "end" not in more and not self._stopped.is_set():
                found += self._told(more)
                more = self._next_message(time.monotonic())
            self._over = more is not None and "end" in more
        except FollowError as error:
            self._error = error         # told after what came before
        kept: List[Told] = []
        last: Dict[str, Told] = {}      # of each output, with the steps of those that it stands for
        for event, steps in found:
            if event.type is EventType.NEW_DATA:
                _, former = last.get(event.node.db_name, (None, []))
                last[event.node.db_name] = event, former + steps
                continue
            if event.type is not EventType.INFO:
                # The items come before the end of their run.
                kept += [(_newest_item(each), its) for each, its in last.values()]
                last = {}
            kept.append((event, steps))
        return kept + [(_newest_item(event), steps) for event, steps in last.values()]

    def _next_message(self, deadline: Optional[float]) -> Optional[Dict[str, Any]]:
        try:
            message = self._child.next(None if deadline is None else max(0.0, deadline - time.monotonic()))
            self._begun = self._begun or message is not None
            return message
        except FollowError:
            if self._ended or self._stopped.is_set():
                return None     # by another thread meanwhile, and the child was the first to hear of it
            self.close()
            raise
        except BaseException:
            self.close()
            raise

    def _given(self, message: Dict[str, Any]) -> Union[NodeContent, Event, None]:
        """The node or event of a message; None where the filters skip it."""
        if "event" not in message:
            return None
        node = self._node(message["node"])
        try:
            if self._exclude is not None and self._is_excluded(node, message["event"] in OF_ITEMS):
                return None
            if not self._include(node):
                return None
        except StopIteration as error:
            self.close()
            msg = "a filter raised StopIteration"
            raise RuntimeError(msg) from error
        except BaseException:
            self.close()
            raise
        if self._nodes:
            return node
        kind = EventType[message["event"]]
        return Event(kind, node, _data(kind, message.get("data"), self._host))

    def _is_excluded(self, node: NodeContent, is_data: bool) -> bool:
        """Whether a node, or its data, lies below one that is excluded."""
        if node.db_name not in self._excluded:
            self._excluded[node.db_name] = self._exclude is not None and self._exclude(node)
        above = [""] if node.db_name else []
        if ":" in node.db_name:
            above.append(node.db_name.partition(":")[0])
        if is_data:
            above.append(node.db_name)
        # A walk that begins at a run or an output does not see the nodes above it, so they cannot exclude anything.
        return any(self._excluded.get(name, False) for name in above
                   if name == self._root or not self._root or name.startswith(self._root + ":"))

    def _node(self, found: Dict[str, Any]) -> NodeContent:
        info = found["info"]
        for name in ("project", "gain", "dark"):
            if info.get(name):
                info[name] = _placed(self._host, info[name])
        return NodeContent(found["type"], found["name"], found["db_name"], info, _placed(self._host, found["path"]))


def _first(walk: "Walk[Content]", timeout: Optional[float]) -> Optional[Content]:
    """What a walk gives next; None where that takes longer than so many seconds, or nothing comes any more."""
    if timeout is None:
        return next(walk, None)
    ending = threading.Timer(min(timeout, threading.TIMEOUT_MAX), walk.stop)
    ending.daemon = True
    ending.start()
    try:
        return next(walk, None)
    finally:
        ending.cancel()


def _absent(db_name: str, run: NodeContent, is_open: bool = False) -> FollowError:
    """Why an output of a run is not there, or not closed."""
    status, name = run.info.get("status"), db_name.partition(":")[2]
    if status in ("finished", "failed", "aborted", "killed", "interactive"):
        return NeverError("%s has ended (%s) %s %s: continue that run." % (
            run.name, status, "and left open its output" if is_open else "without an output", name))
    return NotThereYetError("%s is there (%s), and has no output %s yet." % (run.name, status, name))


def _newest_item(event: Event) -> Event:
    data = event.data
    if data is None or not isinstance(data.data, list) or len(data.data) < 2:
        return event
    return dataclasses.replace(event, data=dataclasses.replace(
        data, data=data.data[-1:], first_index=data.first_index + len(data.data) - 1, block_size=1))


def _data(kind: EventType, found: Optional[Dict[str, Any]], host: str) -> Optional[EventData]:
    if found is None:
        return None
    if "names" not in found:
        return EventData(**found)
    names = found.pop("names")
    found["data"] = [Item(number, _placed(host, path), index, name, dict(zip(names, values)))
                     for number, path, index, name, values in found["data"]]
    for item in found["data"]:
        for image in item.attributes.get("images", ()):
            image["path"] = _placed(host, image["path"])
        if "micrograph" in item.attributes:
            item.attributes["micrograph"] = _placed(host, item.attributes["micrograph"])
    return EventData(**found)


def _placed(host: str, path: Optional[str]) -> Optional[str]:
    return "%s:%s" % (host, path) if host and path else path


def _age(node: NodeContent) -> Tuple[str, str, int]:
    """Grows with the time when a node was made: to the second, then by the runs' and the objects' numbers."""
    return node.info.get("created") or "", node.db_name[:node.db_name.find("_")].zfill(9), node.info.get("id", 0)


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


def _types(chosen: Filter) -> Optional[List[str]]:
    if chosen is None or callable(chosen):
        return None
    return [chosen] if isinstance(chosen, str) else list(chosen)


def _predicate(chosen: Filter) -> Callable[[NodeContent], bool]:
    if callable(chosen):
        return chosen
    types = _types(chosen)
    return lambda node: types is None or node.type in types
