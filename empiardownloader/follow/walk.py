# SPDX-License-Identifier: GPL-3.0-or-later
"""An iteration in progress: what a child tells, as nodes or events, through the filters of its reader."""
import asyncio
import dataclasses
import os
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, TypeVar, Union

from .events import Event, EventData, EventType, FollowError, Item, NodeContent
from .position import BELOW_OUTPUTS, Position, Step
from .process import Child

Content = TypeVar("Content", NodeContent, Event)
Told = Tuple[Any, List[Step]]       # what is given to the reader, and how far that is
Filter = Union[None, str, Tuple[str, ...], List[str], Callable[[NodeContent], bool]]
BEGIN_SECONDS = 30.0        # a child, and the way to another machine, have these to begin, beyond a walk's timeout
_OVER = object()


class Walk(Iterator[Content]):
    """An iteration in progress; its end, by ``close``, ``stop`` or when nobody has it any more, ends the child."""

    def __init__(self, host: str, root: str, child: Child, include: Filter, exclude: Filter, nodes: bool,
                 timeout: Optional[float], position: Position, last_only: bool):
        self._host, self._root, self._child, self._nodes = host, root, child, nodes
        self._timeout = None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        self._owner = os.getpid()
        self._turn = threading.Lock()               # for threads that share a walk
        # Of its own: whoever waits for an event must not keep the position from others, or from a signal handler.
        self._placing = threading.RLock()
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
                self._place(steps)
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
        found = sorted((told for told, _ in self._until_started()), key=lambda told: age_of(told[0]))
        if include_last:
            self._waiting += found[-1:]

    def seen_last(self) -> Any:
        """What was read and not given when the walk was stopped; None for nothing."""
        return self._waiting[-1][0] if self._waiting else None

    def _until_started(self) -> Iterator[Tuple[Any, bool]]:
        """What comes until the child has seen all that is there, and whether it was there before."""
        while not self._ended and not self._stopped.is_set():
            message = self._next_message(None)
            if message is None:
                continue
            if "started" in message:
                if message["state"] is not None:
                    with self._placing:
                        self._position.load(message["state"])
                        for key, digests in message["state"]["exact"].items():
                            self._position.take_up(key, digests)
                return
            for told in self._told(message):
                yield told, message.get("old", False)

    @property
    def position(self) -> str:
        """How far this walk has come, up to the event that it gave last, as a line of text for ``since``: it is good
        for another process and after a restart of the machine. What INFO tells is no part of it."""
        with self._placing:
            return self._position.as_text()

    def _told(self, message: Dict[str, Any]) -> List[Told]:
        """What a message gives, with its step of the position; one that gives nothing takes the step at once."""
        if "taken_up" in message:
            with self._placing:
                self._position.take_up(message["taken_up"], message["digests"])
        if "known" in message and self._exclude is not None:
            node = self._node(message["known"])
            self._excluded[node.db_name] = self._exclude(node)
        if "event" not in message:
            return []
        steps = [] if self._nodes else [self._position.step_of(message)]
        given = self._given(message)
        if given is not None:
            return [(given, steps)]
        self._place(steps)
        return []

    def _place(self, steps: List[Step]) -> None:
        with self._placing:
            for step in steps:
                self._position.apply(step)

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
            if self._exclude is not None and self._is_excluded(node, message["event"] in BELOW_OUTPUTS):
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
        return Event(kind, node, _data(message.get("data"), self._host))

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


def _newest_item(event: Event) -> Event:
    data = event.data
    if data is None or not isinstance(data.data, list) or len(data.data) < 2:
        return event
    return dataclasses.replace(event, data=dataclasses.replace(
        data, data=data.data[-1:], first_index=data.first_index + len(data.data) - 1, block_size=1))


def _data(found: Optional[Dict[str, Any]], host: str) -> Optional[EventData]:
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


def age_of(node: NodeContent) -> Tuple[str, str, int]:
    """Grows with the time when a node was made: to the second, then by the runs' and the objects' numbers."""
    return node.info.get("created") or "", node.db_name[:node.db_name.find("_")].zfill(9), node.info.get("id", 0)


def types_of(chosen: Filter) -> Optional[List[str]]:
    if chosen is None or callable(chosen):
        return None
    return [chosen] if isinstance(chosen, str) else list(chosen)


def _predicate(chosen: Filter) -> Callable[[NodeContent], bool]:
    if callable(chosen):
        return chosen
    types = types_of(chosen)
    return lambda node: types is None or node.type in types
