# SPDX-License-Identifier: GPL-3.0-or-later
"""RemoteNodeWalker: the runs of a Scipion project, their outputs and items, followed while they grow.

The iterators and their words are those of the remote node walker of the ESRF's blissdata; what differs is told in
docs/follow.rst.
"""
import asyncio
import os
import re
import threading
import time
import weakref
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, TypeVar, Union

from .events import Event, EventData, EventType, FollowError, Item, NodeContent
from .process import Child, split_host

Content = TypeVar("Content", NodeContent, Event)
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
                    timeout: Optional[float] = None) -> "Walk[Event]":
        """What has happened from the beginning, and with ``wait`` what happens from now on.

        ``timeout``: seconds without an event after which the iteration ends.
        """
        return self._start(include_filter, exclude_children, wait, timeout=timeout)

    def walk_on_new_events(self, include_filter: Filter = None, exclude_children: Filter = None, wait: bool = True,
                           timeout: Optional[float] = None,
                           started_event: Optional[threading.Event] = None) -> "Walk[Event]":
        """What happens from now on. What comes after this returns, or after ``started_event`` is set, is seen."""
        walk = self._start(include_filter, exclude_children, wait, timeout=timeout, new_only=True)
        if started_event is not None:
            started_event.set()
        return walk

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
               timeout: Optional[float] = None, new_only: bool = False) -> "Walk[Any]":
        include, exclude = _checked(include), _checked(exclude)
        if timeout is not None and not timeout >= 0:
            msg = "A timeout is a number of seconds, not %r." % timeout
            raise FollowError(msg)
        request = {
            "project": self._folder, "db_name": self.db_name, "items": not nodes, "new_only": new_only,
            # A callable stays here, and has to see all that comes.
            "include": None if callable(exclude) else _types(include), "exclude": _types(exclude) or [],
            "wait": wait, "interval": self.interval}
        child = Child(self._host, self._ssh, request)
        walk: Walk[Any] = Walk(self._host, self.db_name, child, include, exclude, nodes, timeout)
        self._walks.add(walk)
        if new_only:
            walk.wait_for_start()
        return walk


class Walk(Iterator[Content]):
    """An iteration in progress; its end, by ``close``, ``stop`` or when nobody has it any more, ends the child."""

    def __init__(self, host: str, root: str, child: Child, include: Filter, exclude: Filter, nodes: bool,
                 timeout: Optional[float]):
        self._host, self._root, self._child, self._nodes = host, root, child, nodes
        self._timeout = None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        self._owner = os.getpid()
        self._turn = threading.Lock()               # for threads that share a walk
        self._include, self._exclude = _predicate(include), _predicate(exclude) if callable(exclude) else None
        self._excluded: Dict[str, bool] = {}        # by db_name, of nodes seen
        self._stopped = threading.Event()
        self._ended = self._begun = False
        self._waiting: List[Any] = []               # read already, not given yet

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
                return self._waiting.pop(0)
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
                break
            given = self._given(message)
            if given is not None:
                return given
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
        self._waiting += [given for given, old in self._until_started() if not old]

    def keep_newest(self, include_last: bool) -> None:
        """Of the nodes that are there only the newest one is given, or none."""
        # One that could not be seen at first comes late.
        found = sorted((node for node, _ in self._until_started()), key=_age)
        if include_last:
            self._waiting += found[-1:]

    def _until_started(self) -> Iterator[Tuple[Any, bool]]:
        """What comes until the child has seen all that is there, and whether it was there before."""
        while not self._ended and not self._stopped.is_set():
            message = self._next_message(None)
            if message is None:
                continue
            if "started" in message:
                return
            given = self._given(message)
            if given is not None:
                yield given, message.get("old", False)

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
            if self._exclude is not None and self._is_excluded(node, message["event"] == EventType.NEW_DATA.name):
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


def _data(kind: EventType, found: Optional[Dict[str, Any]], host: str) -> Optional[EventData]:
    if found is None:
        return None
    if kind is not EventType.NEW_DATA:
        return EventData(**found)
    names = found.pop("names")
    found["data"] = [Item(number, _placed(host, path), index, name, dict(zip(names, values)))
                     for number, path, index, name, values in found["data"]]
    for item in found["data"]:
        for image in item.attributes.get("images", ()):
            image["path"] = _placed(host, image["path"])
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
