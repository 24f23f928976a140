# SPDX-License-Identifier: GPL-3.0-or-later
"""A position: how far a walk has come, as a line of text from which another one goes on.

It grows by the messages that were given, so it belongs to the last event that the reader has, and not to what waits.
"""
import base64
import json
import zlib
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from .child.marks import UNKNOWN, Ids, add_marks, digest_of, key_of, latest_of, pack_digests, wants_changes
from .events import FollowError

VERSION = "1"
OF_ITEMS = ("NEW_DATA", "CHANGED_DATA", "REMOVED")
BELOW_OUTPUTS = (*OF_ITEMS, "CLOSED")     # which is told once all items were


class Step(NamedTuple):
    """What an event adds to a position."""
    kind: str                   # its type's name
    type: str                   # of its node, as the next one
    db_name: str
    created: Dict[int, Any]     # items, by their ids, and when they were made
    digests: Dict[int, int]     # of the values of items
    removed: List[int]          # ids
    ended: Optional[List[Any]]  # of a run: which launch has ended, and how


class Position:
    """What was told of runs and sets. One thread at a time may use it."""

    def __init__(self, walk: Dict[str, Any], state: Optional[Dict[str, Any]] = None):
        """``walk``: what the walk was asked for, which a position holds for; ``state``: to go on from."""
        self._walk = walk
        self._project = False
        self._runs: Dict[str, Dict[str, Any]] = {}
        self._sets: Dict[str, Dict[str, Any]] = {}      # by db_name and class
        if state is not None:
            self.load(state)

    def load(self, state: Dict[str, Any]) -> None:
        """Go on from a position, or from what a child says of itself."""
        self._project = state["project"]
        self._runs = state["runs"]
        self._sets = {key: dict(each, seen=Ids(each["seen"]), digests={}, packed=each["digests"],
                                latest=each.get("latest"))
                      for key, each in state["sets"].items()}

    def take_up(self, key: str, digests: Iterable[Tuple[int, int]]) -> None:
        """The digests of the items of a set that are as the position says; the others are told as changed."""
        its = self._sets.get(key)
        if its is not None:
            its.update(digests={**dict.fromkeys(its["seen"], UNKNOWN), **dict(digests)}, packed=None)

    def step_of(self, message: Dict[str, Any]) -> Step:
        """What a message adds, for ``apply`` once its reader has it."""
        kind, node, data = message["event"], message["node"], message.get("data") or {}
        items = data["data"] if kind in OF_ITEMS else []
        created: Dict[int, Any] = {}
        digests: Dict[int, int] = {}
        if kind in ("NEW_DATA", "CHANGED_DATA"):
            # One that was removed and added again between two looks has changed.
            place = data["names"].index("creation") if "creation" in data["names"] else None
            created = {item[0]: None if place is None else item[4][place] for item in items}
        if kind in ("NEW_DATA", "CHANGED_DATA") and wants_changes(self._walk["changes"], node["type"]):
            digests = {item[0]: digest_of(item[4]) for item in items}
        ended = [node["info"].get("started"), data["data"]] if kind == "END_SCAN" else None
        return Step(kind, node["type"], node["db_name"], created, digests,
                    [item[0] for item in items] if kind == "REMOVED" else [], ended)

    def apply(self, step: Step) -> None:
        if step.type == "project":
            self._project = True
        elif ":" not in step.db_name:
            self._apply_run(step)
        elif step.kind != "INFO":
            key = key_of(step.db_name, step.type)
            if step.kind == "NEW_NODE":
                self._sets[key] = _nothing_told()
            self._apply_items(self._sets.setdefault(key, _nothing_told()), step)

    def _apply_run(self, step: Step) -> None:
        if step.kind == "NEW_NODE":
            # One of this name that was deleted before has left nothing.
            self._sets = {key: each for key, each in self._sets.items() if not key.startswith(step.db_name + ":")}
            self._runs[step.db_name] = {"prepared": False, "ended": None}
        run = self._runs.setdefault(step.db_name, {"prepared": False, "ended": None})
        if step.kind == "PREPARED_SCAN":
            run.update(prepared=True, ended=None)
        elif step.kind == "END_SCAN":
            run["ended"] = step.ended

    @staticmethod
    def _apply_items(its: Dict[str, Any], step: Step) -> None:
        # A set that was closed and gets items was opened again.
        its["closed"] = (its["closed"] or step.kind == "CLOSED") and step.kind != "NEW_DATA"
        for number in step.removed:
            its["seen"].remove(number)
            its["digests"].pop(number, None)
            its["marks"].pop(str(number), None)
        # Where items were told and none of their moments is known, the latest of them stays unknown.
        is_latest_known = its["latest"] is not None or not its["seen"]
        for number in step.created:
            its["seen"].add(number)
        its["digests"].update(step.digests)
        if step.created:
            its["marks"] = add_marks(its["marks"], step.created)
            if is_latest_known:
                its["latest"] = latest_of([its["latest"], *step.created.values()])

    def as_text(self) -> str:
        sets = {key: {"seen": each["seen"].ranges, "marks": each["marks"], "latest": each["latest"],
                      "closed": each["closed"],
                      "digests": each["packed"] if each["packed"] is not None else pack_digests(each["digests"])}
                for key, each in self._sets.items()}
        state = {"walk": self._walk, "project": self._project, "runs": self._runs, "sets": sets}
        packed = zlib.compress(json.dumps(state, separators=(",", ":"), sort_keys=True).encode("ascii"), 9)
        return "%s.%s" % (VERSION, base64.urlsafe_b64encode(packed).decode("ascii").rstrip("="))


def read_position(text: str, walk: Dict[str, Any]) -> Dict[str, Any]:
    """The state in a position -> for the child. Raises FollowError where it is of another walk, or none at all."""
    version, _, packed = text.strip().partition(".")
    try:
        state: Dict[str, Any] = json.loads(zlib.decompress(base64.urlsafe_b64decode(
            packed + "=" * (-len(packed) % 4))).decode("ascii")) if version == VERSION else {}
    except (ValueError, RecursionError, zlib.error) as error:
        msg = "%r is no position of a walk, or a damaged one." % text[:40]
        raise FollowError(msg) from error
    if not isinstance(state, dict) or not all(isinstance(state.get(name), dict) for name in ("walk", "runs", "sets")):
        msg = "%r is no position of a walk that is known here." % text[:40]
        raise FollowError(msg)
    # An argument that a later version has is one that this walk has not.
    its = state["walk"]
    differing = [name for name in {**walk, **its} if _unordered(its.get(name)) != _unordered(walk.get(name))]
    if differing:
        msg = "This position is of a walk with other arguments (%s): a walk goes on with those that it began with." % (
            ", ".join(differing))
        raise FollowError(msg)
    return state


def _unordered(argument: Any) -> Any:
    """Types are the same ones in any order."""
    return sorted(argument) if isinstance(argument, list) else argument


def _nothing_told() -> Dict[str, Any]:
    return {"seen": Ids(), "marks": {}, "latest": None, "closed": False, "digests": {}, "packed": None}
