# SPDX-License-Identifier: GPL-3.0-or-later
"""What a walker's events mean for a viewer: pure, without threads and sockets.

Events go in, one after the other; what is to be shown, forgotten or written into the title comes out.
"""
import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from ..follow import Event, EventType, Item, NodeContent
from ..follow.walker import DB_NAME
from .entries import Facts, Picks
from .run_head import head_of

MOVIES, MICROGRAPHS, COORDINATES, CTF = "SetOfMovies", "SetOfMicrographs", "SetOfCoordinates", "SetOfCTF"
IMAGES = (MOVIES, MICROGRAPHS)
TILTS, MOVIE_TILTS = "SetOfTiltSeries", "SetOfTiltSeriesM"
SERIES = (TILTS, MOVIE_TILTS)
CLASSES = ("SetOfAverages", "SetOfClasses2D")
STACKS = ("SetOfParticles", *CLASSES)
VOLUMES = ("Volume", "VolumeMask", "SetOfVolumes", "SetOfClasses3D", "SetOfTomograms", "SetOfSubTomograms")
# Few, so that it is looked for what has changed in them; the others may be millions.
FEW, MANY = (*IMAGES, *SERIES, CTF), (COORDINATES, *STACKS, *VOLUMES)
PROJECT, RUN, ACTIVE = "project", "run", ("launched", "running", "scheduled")
NOTHING_SHOWN = "no images here that are shown live"
SHOWN = "movies, micrographs, tilt series, particles, averages, classes and volumes"
NOT_FOUND = -999
MONTAGE = 100           # images of a stack that are shown side by side
TILTS_A_SERIES = 1000   # more than any has: the place of a tilt is that of its series, and then its own


class ShowImages(NamedTuple):
    """Images of a set, the oldest first."""
    node: NodeContent
    items: Sequence[Item]


class ShowMontage(NamedTuple):
    """Images of a stack that are seen side by side, instead of those that had this first number."""
    node: NodeContent
    first: int              # counted from 1, in the order in which they were told
    items: Sequence[Item]


class ShowFacts(NamedTuple):
    """What is known of the images of a name, instead of what this source said of them before."""
    name: str
    facts: Facts
    source: str
    over: Sequence[str]     # as of ShowPicks


class Remove(NamedTuple):
    """An image of a set is gone."""
    source: str
    name: str


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
    head: Sequence[Tuple[str, str]] = ()


Action = Union[ShowImages, ShowMontage, ShowPicks, ShowFacts, Forget, Remove, Retitle]


class ShownRun:
    """What is known of the runs and sets that are shown. One thread at a time may use it."""

    def __init__(self) -> None:
        self._sets: Dict[str, NodeContent] = {}             # by db_name, as last told
        self._states: Dict[str, str] = {}                   # of runs that are followed
        self._ended: Set[str] = set()                       # of these
        self._outputs: Dict[str, List[str]] = {}            # of these
        self._runs: Dict[str, NodeContent] = {}             # of these, as last told
        self._shown: Set[str] = set()                       # sets of images that are followed
        self._inputs: Dict[str, List[str]] = {}             # of all runs: what their forms point at
        self._pickers: Dict[str, NodeContent] = {}          # sets of coordinates, as last told
        # By set and micrograph.
        self._picks: Dict[Tuple[str, str], List[Tuple[float, float]]] = {}
        self._fits: Dict[str, NodeContent] = {}             # sets of CTFs, as last told
        self._ctfs: Dict[Tuple[str, str], Dict[str, Any]] = {}      # what was fitted, by set and micrograph
        self._names: Dict[Tuple[str, int], str] = {}        # of images, by set and id
        self._rejected: Set[Tuple[str, str]] = set()        # by set and name
        self._montages: Dict[str, Tuple[int, List[Item]]] = {}      # of each stack the last one, and its first number

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

    @property
    def head(self) -> List[Tuple[str, str]]:
        """What is known of the run that is looked at: of several the one that downloads, the newest of these."""
        runs = sorted(self._runs.values(), key=lambda node: ("progress" in node.info, node.name))
        if not runs or (len(runs) > 1 and "progress" not in runs[-1].info):
            return []
        return head_of(runs[-1], with_state=len(runs) > 1)

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
        if event.data is None or not isinstance(event.data.data, list):
            return []
        items = event.data.data
        if event.type is EventType.REMOVED:
            return self._take_away(node, items)
        is_new = event.type is EventType.NEW_DATA
        if node.type == CTF:
            return self._apply_fits(node, items, is_new)
        if node.type in (*IMAGES, *SERIES):
            return self._apply_images(node, items, is_new)
        if not is_new:
            return []
        if node.type == COORDINATES:
            return self._apply_picks(node, items)
        return self._apply_stack(node, items) if node.type in STACKS else [ShowImages(node, items)]

    def _apply_images(self, node: NodeContent, items: Sequence[Item], is_new: bool) -> List[Action]:
        self._sets[node.db_name] = node
        actions: List[Action] = []
        shown: List[Item] = []
        for item in items:
            images = tilts_of(item) if node.type in SERIES else [item]
            shown += images
            for image in images:
                self._names[node.db_name, image.id] = image.name
                key, rejected = (node.db_name, image.name), image.attributes.get("enabled") in (0, False)
                if rejected != (key in self._rejected):
                    self._rejected ^= {key}
                    actions.append(ShowFacts(image.name, Facts({"rejected": rejected}), node.db_name, [node.db_name]))
        return [ShowImages(node, shown), *actions] if is_new else actions

    def _apply_stack(self, node: NodeContent, items: Sequence[Item]) -> List[Action]:
        """Images of one kind, a hundred at a time; of former hundreds nothing is kept here."""
        actions: List[Action] = []
        first, last = self._montages.get(node.db_name, (1, []))
        for item in items:
            if len(last) == MONTAGE:
                actions.append(ShowMontage(node, first, last))
                first, last = first + MONTAGE, []
            last = [*last, _slim(item)]
        self._montages[node.db_name] = first, last
        return [*actions, ShowMontage(node, first, last)] if last else actions

    def _apply_fits(self, node: NodeContent, items: Sequence[Item], is_new: bool) -> List[Action]:
        """CTFs: what was fitted is said of the micrograph, and the picture of the fit is shown."""
        self._fits[node.db_name] = node
        pictures: List[Item] = []
        for item in items:
            self._ctfs[node.db_name, item.name] = _fitted(item)
            self._names[node.db_name, item.id] = item.name
            picture = _picture_of_fit(node, item)
            if picture is not None:
                pictures.append(picture)
        actions: List[Action] = [ShowImages(node, pictures)] if pictures and is_new else []
        return actions + self._show_fits(node, [item.name for item in items])

    def _show_fits(self, node: NodeContent, names: Sequence[str]) -> List[Action]:
        micrographs = node.info.get("micrographs")
        optics = self._optics(micrographs)
        return [ShowFacts(name, _said_of(self._ctfs[node.db_name, name], optics), node.db_name,
                          self._origins(micrographs)) for name in names]

    def _optics(self, micrographs: Optional[str]) -> Dict[str, Any]:
        """Of the microscope, as the set of micrographs has it; what is not known is left out."""
        for db_name, node in self._sets.items():
            if node.type in IMAGES and _is_of(db_name, micrographs):
                found = node.info.get("acquisition") or {}
                return {"voltage": found.get("voltage"), "cs": found.get("spherical_aberration"),
                        "contrast": found.get("amplitude_contrast")}
        return {}

    def _take_away(self, node: NodeContent, items: Sequence[Item]) -> List[Action]:
        names = [self._names.pop((node.db_name, item.id), None) for item in items]
        known = [name for name in names if name is not None]
        if node.type == CTF:
            for name in known:
                self._ctfs.pop((node.db_name, name), None)
            return [action for name in known for action in (
                ShowFacts(name, Facts({}), node.db_name, []), Remove(node.db_name, name))]
        return [Remove(node.db_name, name) for name in known]

    def _apply_run(self, event: Event, is_followed: bool) -> List[Action]:
        node, ended = event.node, event.type is EventType.END_SCAN
        self._inputs[node.name] = _pointers(node.info.get("form") or {})
        if not is_followed:
            return []
        self._outputs[node.name] = node.info.get("outputs") or []
        self._runs[node.name] = node
        self._states[node.name] = str(event.data.data if event.data else "") if ended else node.info.get("status") or ""
        self._ended = self._ended | {node.name} if ended else self._ended - {node.name}
        return [self._title()]

    def _title(self) -> Retitle:
        return Retitle(self.state, self.head)

    def _apply_set(self, node: NodeContent, is_followed: bool) -> List[Action]:
        """A set that is new, or another one in its place, after a Restart."""
        actions: List[Action] = []
        self._sets[node.db_name] = node
        if node.type == COORDINATES:
            self._picks = {key: found for key, found in self._picks.items() if key[0] != node.db_name}
            if node.db_name in self._pickers:
                actions.append(Forget(node.db_name))
        elif is_followed or node.type == CTF:
            is_first = not self._shown
            if node.db_name in (self._fits if node.type == CTF else self._shown):
                actions.append(Forget(node.db_name))
                self._forget(node.db_name)
            if node.type != CTF:
                self._shown.add(node.db_name)
            if is_first and self._shown:
                actions.append(self._title())
        # What was picked on it had no pixel size so far, and what was fitted to it no microscope.
        for db_name, picker in self._pickers.items():
            if _is_of(node.db_name, picker.info.get("micrographs")):
                actions += self._show_picks(picker, [name for its, name in self._picks if its == db_name])
        for db_name, fit in self._fits.items():
            if _is_of(node.db_name, fit.info.get("micrographs")):
                actions += self._show_fits(fit, [name for its, name in self._ctfs if its == db_name])
        return actions

    def _forget(self, db_name: str) -> None:
        """Another set has this db_name now."""
        self._montages.pop(db_name, None)
        self._names = {key: name for key, name in self._names.items() if key[0] != db_name}
        self._ctfs = {key: ctf for key, ctf in self._ctfs.items() if key[0] != db_name}
        self._rejected = {key for key in self._rejected if key[0] != db_name}

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


def tilts_of(series: Item) -> List[Item]:
    """The tilts of a series as images of their own, by their angles: 'TS_01 -60.0°'."""
    images = list(series.attributes.get("images") or [])
    images.sort(key=lambda image: _angle(image) if _angle(image) is not None else float("inf"))
    found = []
    for place, image in enumerate(images):
        angle = _angle(image)
        told = "%s %s" % (series.name, "%+.1f\u00b0" % angle if angle is not None else "tilt %d" % (place + 1))
        found.append(Item(series.id * TILTS_A_SERIES + place, image.get("path"), image.get("index") or 0, told,
                          dict(image, enabled=image.get("enabled"), creation=series.attributes.get("creation"))))
    return found


def _angle(image: Dict[str, Any]) -> Optional[float]:
    angle: Optional[float] = image.get("_tiltAngle")
    return angle


def _slim(item: Item) -> Item:
    """Without what a montage does not need: of a million particles all would not fit."""
    kept = {name: item.attributes[name] for name in ("_size", "creation") if name in item.attributes}
    return Item(item.id, item.path, item.index, item.name, kept)


def _fitted(item: Item) -> Dict[str, Any]:
    """What a CTF says, in Scipion's units: angstrom and degrees; Scipion writes -999 for what was not found."""
    names = {"defocus_u": "_defocusU", "defocus_v": "_defocusV", "angle": "_defocusAngle", "resolution": "_resolution",
             "fit_quality": "_fitQuality", "phase_shift": "_phaseShift"}
    found = {name: item.attributes.get(attribute) for name, attribute in names.items()}
    return {**{name: value for name, value in found.items() if isinstance(value, (int, float)) and value > NOT_FOUND},
            "enabled": item.attributes.get("enabled")}


def _said_of(ctf: Dict[str, Any], optics: Dict[str, Any]) -> Facts:
    fit = {name: value for name, value in ctf.items() if name != "enabled"}
    note = ""
    if "defocus_u" in fit and "defocus_v" in fit:
        note = "defocus %.2f \u00b5m" % ((fit["defocus_u"] + fit["defocus_v"]) / 2e4)
        note += ", CTF to %.1f \u00c5" % fit["resolution"] if fit.get("resolution") else ""
    return Facts({"ctf": {**optics, **fit}, "note": note, "rejected": ctf.get("enabled") in (0, False)})


def _picture_of_fit(node: NodeContent, item: Item) -> Optional[Item]:
    """What the program that fitted drew, where it is an image file."""
    name = item.attributes.get("_psdFile")
    if not isinstance(name, str) or not name or name == "None":
        return None
    place, at, path = name.rpartition("@")
    index = int(place) if at and place.isdigit() else 0
    folder = node.info.get("project") or ""
    return Item(item.id, os.path.join(folder, path), index, item.name, {"creation": item.attributes.get("creation")})


def _is_of(db_name: str, named: Optional[str]) -> bool:
    """Whether a set is what a pointer names: itself, or its run."""
    return bool(named) and (db_name == named or db_name.startswith("%s:" % named))


def _pointers(form: Dict[str, object]) -> List[str]:
    """The sets and runs that a run's form points at."""
    values = [value for entry in form.values() for value in (entry if isinstance(entry, list) else [entry])]
    return [value for value in values if isinstance(value, str) and DB_NAME.fullmatch(value) and value]
