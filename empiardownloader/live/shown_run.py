# SPDX-License-Identifier: GPL-3.0-or-later
"""What a walker's events mean for a viewer: pure, without threads and sockets.

Events go in, one after the other; what is to be shown, forgotten or written into the title comes out.
"""
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from ..follow import Event, EventType, Item, NodeContent
from ..follow.walker import DB_NAME
from .entries import Picks

MOVIES, MICROGRAPHS, COORDINATES = "SetOfMovies", "SetOfMicrographs", "SetOfCoordinates"
IMAGES = (MOVIES, MICROGRAPHS)
PROJECT, RUN, ACTIVE = "project", "run", ("launched", "running", "scheduled")
NOTHING_SHOWN = "no movies or micrographs here; other images are not shown live"


class ShowImages(NamedTuple):
    """Images of a set, the oldest first."""
    node: NodeContent
    items: Sequence[Item]


class ShowPicks(NamedTuple):
    """Points over the images of one name; they take the place of this picker's former ones."""
    name: str
    picks: Picks
    source: str                     # db_name of the picker's set
    pixel_size: Optional[float]     # of the pixels that the points are in, Å; None where it is not known
    over: Sequence[str]             # db_names of the sets and runs whose images they lie on


class Forget(NamedTuple):
    """Another set has this db_name now: what was shown of the former one is to go."""
    source: str


class Retitle(NamedTuple):
    state: str


Action = Union[ShowImages, ShowPicks, Forget, Retitle]


class ShownRun:
    """What is known of the runs and sets that are shown. One thread at a time may use it."""

    def __init__(self) -> None:
        self._sets: Dict[str, NodeContent] = {}             # by db_name, as last told
        self._states: Dict[str, str] = {}                   # of runs that are followed
        self._ended: Set[str] = set()                       # of these
        self._outputs: Dict[str, List[str]] = {}            # of these
        self._shown: Set[str] = set()                       # sets of images that are followed
        self._inputs: Dict[str, List[str]] = {}             # of all runs: what their forms point at
        self._pickers: Dict[str, NodeContent] = {}          # sets of coordinates, as last told
        # By set and micrograph.
        self._picks: Dict[Tuple[str, str], List[Tuple[float, float]]] = {}

    @property
    def has_shown(self) -> bool:
        """Whether there are images to be shown."""
        return bool(self._shown)

    @property
    def is_over(self) -> bool:
        """Whether all runs that are followed have ended."""
        return bool(self._ended) and all(
            name in self._ended or state not in ACTIVE for name, state in self._states.items())

    def gain_of(self, source: str) -> Optional[str]:
        """The gain reference of a set of movies."""
        node = self._sets.get(source)
        gain: Optional[str] = node.info.get("gain") if node is not None and node.type == MOVIES else None
        return gain

    @property
    def state(self) -> str:
        """For the title."""
        state = next(iter(self._states.values())) if len(self._states) == 1 else ""
        if not self._shown and any(self._outputs.values()):
            # Known by the names only, so it may be wrong for a moment: what is shown takes it back.
            state = ", ".join(word for word in (state, NOTHING_SHOWN) if word)
        return state

    def apply(self, event: Event, is_followed: bool) -> List[Action]:
        """``is_followed``: the event is of what its user wants to see; of others only the picks and what they lie on
        count."""
        node = event.node
        if node.type == RUN:
            return self._apply_run(event, is_followed)
        if node.type == PROJECT:
            return []
        if event.type is EventType.NEW_NODE:
            return self._apply_set(node, is_followed)
        if event.type is not EventType.NEW_DATA or event.data is None:
            return []
        items = event.data.data
        assert isinstance(items, list)
        if node.type == COORDINATES:
            return self._apply_picks(node, items)
        self._sets[node.db_name] = node
        return [ShowImages(node, items)]

    def _apply_run(self, event: Event, is_followed: bool) -> List[Action]:
        node, ended = event.node, event.type is EventType.END_SCAN
        self._inputs[node.name] = _pointers(node.info.get("form") or {})
        if not is_followed:
            return []
        self._outputs[node.name] = node.info.get("outputs") or []
        self._states[node.name] = str(event.data.data if event.data else "") if ended else node.info.get("status") or ""
        self._ended = self._ended | {node.name} if ended else self._ended - {node.name}
        return [Retitle(self.state)]

    def _apply_set(self, node: NodeContent, is_followed: bool) -> List[Action]:
        """A set that is new, or another one in its place, after a Restart."""
        actions: List[Action] = []
        self._sets[node.db_name] = node
        if node.type == COORDINATES:
            self._picks = {key: found for key, found in self._picks.items() if key[0] != node.db_name}
            if node.db_name in self._pickers:
                actions.append(Forget(node.db_name))
        elif is_followed:
            is_first = not self._shown
            if node.db_name in self._shown:
                actions.append(Forget(node.db_name))
            self._shown.add(node.db_name)
            if is_first:
                actions.append(Retitle(self.state))
        # What was picked on it had no pixel size so far.
        for db_name, picker in self._pickers.items():
            if _is_of(node.db_name, picker.info.get("micrographs")):
                actions += self._show_picks(picker, [name for its, name in self._picks if its == db_name])
        return actions

    def _apply_picks(self, node: NodeContent, items: Sequence[Item]) -> List[Action]:
        self._pickers[node.db_name] = node
        changed: Set[str] = set()
        for item in items:
            name = item.attributes.get("_micName")
            x, y = item.attributes.get("_x"), item.attributes.get("_y")
            if name and x is not None and y is not None:
                self._picks.setdefault((node.db_name, name), []).append((float(x), float(y)))
                changed.add(name)
        return self._show_picks(node, sorted(changed))

    def _show_picks(self, picker: NodeContent, names: Sequence[str]) -> List[Action]:
        try:
            box = float(picker.info.get("properties", {}).get("_boxSize") or 0)
        except ValueError:
            box = 0.0
        micrographs = picker.info.get("micrographs")
        # A copy of the points, for more may come while another thread shows these.
        return [ShowPicks(name, Picks(list(self._picks[picker.db_name, name]), box), picker.db_name,
                          self._pixel_size(micrographs), self._origins(micrographs)) for name in names]

    def _pixel_size(self, micrographs: Optional[str]) -> Optional[float]:
        """Of the micrographs that were picked, where they are known."""
        found = [node for db_name, node in self._sets.items() if node.type in IMAGES and _is_of(db_name, micrographs)]
        size: Optional[float] = found[0].info.get("sampling_rate") if found else None
        return size

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


def _is_of(db_name: str, named: Optional[str]) -> bool:
    """Whether a set is what a pointer names: itself, or its run."""
    return bool(named) and (db_name == named or db_name.startswith("%s:" % named))


def _pointers(form: Dict[str, object]) -> List[str]:
    """The sets and runs that a run's form points at."""
    values = [value for entry in form.values() for value in (entry if isinstance(entry, list) else [entry])]
    return [value for value in values if isinstance(value, str) and DB_NAME.fullmatch(value) and value]
