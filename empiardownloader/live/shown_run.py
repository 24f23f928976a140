# SPDX-License-Identifier: GPL-3.0-or-later
"""What a walker's events mean for a viewer: pure, without threads and sockets.

Events go in, one after the other; what is to be shown, forgotten or written into the title comes out.
"""
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from ..follow import Event, EventType, Item, NodeContent
from .lineage import Lineage, is_of, run_of
from .outgoing import Facts, Picks
from .overlays import FitSets, PickSets, is_rejected, picture_of_fit
from .run_head import LONGEST_ERROR, head_of

MOVIES, MICROGRAPHS, COORDINATES, CTF = "SetOfMovies", "SetOfMicrographs", "SetOfCoordinates", "SetOfCTF"
IMAGES = (MOVIES, MICROGRAPHS)
TILTS, MOVIE_TILTS = "SetOfTiltSeries", "SetOfTiltSeriesM"
SERIES = (TILTS, MOVIE_TILTS)
PARTICLES, CLASSES = "SetOfParticles", ("SetOfAverages", "SetOfClasses2D")
STACKS = (PARTICLES, *CLASSES)
VOLUMES = ("Volume", "VolumeMask", "SetOfVolumes", "SetOfClasses3D", "Tomogram", "SetOfTomograms", "SetOfSubTomograms",
           "AverageSubTomogram")
# Of these it is looked for what has changed; particles may be too many for that.
WATCHED = (*IMAGES, *SERIES, CTF, COORDINATES, *CLASSES, *VOLUMES)
PROJECT, RUN, ACTIVE = "project", "run", ("launched", "running", "scheduled")
NOTHING_SHOWN = "no images here that are shown live"
SHOWN = "movies, micrographs, tilt series, particles, averages, classes and volumes"
MONTAGE = 100           # images of a stack that are shown side by side
TILTS_A_SERIES = 1000   # more than any has: the id of a tilt is made of that of its series and its own place


class ShowImages(NamedTuple):
    """Images of a set, the oldest first."""
    node: NodeContent
    items: Sequence[Item]


class ShowMontage(NamedTuple):
    """Images of a stack that are seen side by side, instead of those that had this first number."""
    node: NodeContent
    first: int              # counted from 1, in the order in which they were told
    items: Sequence[Item]


class ShowPicks(NamedTuple):
    """Points over the images of one name; they take the place of this picker's former ones."""
    name: str
    picks: Picks
    source: str                     # db_name of the picker's set
    pixel_size: Optional[float]     # of the pixels that the points are in, Å; None where it is not known
    over: Sequence[str]             # db_names of the sets and runs whose images they lie on


class ShowFacts(NamedTuple):
    """What is known of the images of a name, instead of what this source said of them before."""
    name: str
    facts: Facts
    source: str
    over: Sequence[str]             # as of ShowPicks
    item: Optional[int] = None      # only the image of this id


class Forget(NamedTuple):
    """Another set has this db_name now: what was shown of the former one is to go."""
    source: str


class Remove(NamedTuple):
    """An image of a set is gone."""
    source: str
    item: int


class Retitle(NamedTuple):
    state: str
    head: Sequence[Tuple[str, str]] = ()


Action = Union[ShowImages, ShowMontage, ShowPicks, ShowFacts, Forget, Remove, Retitle]


class ShownRun:
    """What is known of the runs and sets that are shown. One thread at a time may use it."""

    def __init__(self, output: str = "") -> None:
        """``output``: the name of the only one that is followed."""
        self._output = output
        self._sets: Dict[str, NodeContent] = {}             # by db_name, as last told
        self._states: Dict[str, str] = {}                   # of runs that are followed
        self._ended: Set[str] = set()                       # of these
        self._runs: Dict[str, NodeContent] = {}             # of these, as last told
        self._mine: Set[str] = set()                        # runs and sets that are followed
        self._shown: Set[str] = set()                       # sets of images, of these
        self._lineage = Lineage()
        self._picks, self._fits = PickSets(), FitSets()
        self._held: Dict[str, Tuple[NodeContent, List[Item]]] = {}      # pictures of fits to what is not followed yet
        # Of images that are shown, by set and id.
        self._known: Dict[Tuple[str, int], Tuple[Optional[str], int, str]] = {}
        self._rejected: Set[Tuple[str, int]] = set()
        self._tilts: Dict[Tuple[str, int], List[int]] = {}              # ids of the tilts, by set and id of the series
        self._members: Dict[str, Dict[int, Item]] = {}                  # of averages and classes, all of them
        # What each of theirs shows, by its first number.
        self._montages: Dict[str, Dict[int, List[Tuple[Any, ...]]]] = {}
        self._last: Dict[str, Tuple[int, List[Item]]] = {}              # of particles the last montage

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
        gain: Optional[str] = node.info.get("gain") if node is not None and node.type in (MOVIES, MOVIE_TILTS) else None
        return gain

    def family_of(self, node: NodeContent) -> str:
        """Images of one name are looked at together where they come from the same runs."""
        return self._lineage.family(node.info.get("micrographs") if node.type == CTF else node.db_name)

    @property
    def state(self) -> str:
        """For the title."""
        state = next(iter(self._states.values())) if len(self._states) == 1 else ""
        if not self._shown and self._unshown():
            # Known by the names only, so it may be wrong for a moment: what is shown takes it back.
            state = ", ".join(word for word in (state, NOTHING_SHOWN) if word)
        return state

    @property
    def head(self) -> List[Tuple[str, str]]:
        """What is known of the run that is looked at: of several the one that downloads, the newest of these."""
        runs = sorted(self._runs.values(), key=lambda node: ("progress" in node.info, node.name))
        found: List[Tuple[str, str]] = []
        if runs and (len(runs) == 1 or "progress" in runs[-1].info):
            found = head_of(runs[-1], with_state=len(runs) > 1)
        if not found and len(runs) > 1:
            states = [state for state in self._states.values() if state]
            found = [("Runs", ", ".join("%d %s" % (states.count(state), state) for state in dict.fromkeys(states)))]
        # Whichever run it is: who watches wants to know.
        found += [("Failed", "%s: %s" % (run.info.get("label") or run.name, _error_of(run))) for run in runs
                  if run.info.get("status") == "failed" and len(runs) > 1]
        unshown = self._unshown()
        return found + [("Not shown live", ", ".join(unshown))] if unshown else found

    def _unshown(self) -> List[str]:
        """Outputs of runs that are followed, of classes of which nothing is shown."""
        return [output for run in self._runs.values() for output in run.info.get("outputs") or []
                if self._output in ("", output) and "%s:%s" % (run.name, output) not in self._sets]

    def apply(self, event: Event, is_followed: bool) -> List[Action]:
        """``is_followed``: the event is of what its user wants to see; of others only the picks, the CTFs and what they
        lie on count."""
        node = event.node
        if node.type == RUN:
            return self._apply_run(event, is_followed)
        if node.type == PROJECT:
            return []
        if not is_followed and node.db_name in self._mine:
            return []       # told already, by the walker that follows it
        if event.type is EventType.NEW_NODE:
            return self._apply_set(node, is_followed)
        if event.data is None or not isinstance(event.data.data, list):
            return []
        self._sets[node.db_name] = node
        items = event.data.data
        if event.type is EventType.REMOVED:
            return self._take_away(node, [item.id for item in items])
        is_new = event.type is EventType.NEW_DATA
        if node.type == COORDINATES:
            return self._show_picks(node, self._picks.take(node, items, is_new))
        if node.type == CTF:
            return self._apply_fits(node, items)
        if node.type == PARTICLES:
            return self._apply_particles(node, items) if is_new else []
        return self._apply_classes(node, items) if node.type in CLASSES else self._apply_images(node, items)

    # Runs and sets.

    def _apply_run(self, event: Event, is_followed: bool) -> List[Action]:
        node, ended = event.node, event.type is EventType.END_SCAN
        self._lineage.take(node.name, node.info.get("form") or {})
        if not is_followed:
            return self._let_go()
        self._mine.add(node.name)
        self._runs[node.name] = node
        self._states[node.name] = str(event.data.data if event.data else "") if ended else node.info.get("status") or ""
        if ended:
            self._ended.add(node.name)
        elif event.type is not EventType.INFO or self._states[node.name] in ACTIVE:
            # What is told of a run after its end does not begin it again.
            self._ended.discard(node.name)
        return [*self._let_go(), self._title()]

    def _title(self) -> Retitle:
        return Retitle(self.state, self.head)

    def _apply_set(self, node: NodeContent, is_followed: bool) -> List[Action]:
        """A set that is new, or another one in its place, after a Restart."""
        actions: List[Action] = []
        is_again = node.db_name in self._mine if is_followed else node.type in (COORDINATES, CTF) and (
            node.db_name in self._sets)
        self._sets[node.db_name] = node
        if is_again:
            actions.append(Forget(node.db_name))
            self._forget(node.db_name)
        if is_followed:
            self._mine.add(node.db_name)
            if node.type not in (COORDINATES, CTF):
                self._shown.add(node.db_name)
            actions.append(self._title())
        actions += self._let_go()
        # What was picked on it had no pixel size so far, and what was fitted to it no microscope.
        for db_name, picker in self._picks.nodes.items():
            if is_of(node.db_name, picker.info.get("micrographs")):
                actions += self._show_picks(picker, self._picks.names(db_name))
        for db_name, fit in self._fits.nodes.items():
            if is_of(node.db_name, fit.info.get("micrographs")):
                actions += self._show_fits(fit, self._fits.names(db_name))
        return actions

    def _forget(self, db_name: str) -> None:
        """Another set has this db_name now."""
        self._picks.forget(db_name)
        self._fits.forget(db_name)
        for by_set in (self._held, self._members, self._montages, self._last):
            by_set.pop(db_name, None)       # type: ignore[attr-defined]
        self._known = {key: known for key, known in self._known.items() if key[0] != db_name}
        self._rejected = {key for key in self._rejected if key[0] != db_name}

    # Images.

    def _apply_images(self, node: NodeContent, items: Sequence[Item]) -> List[Action]:
        """Images that are new, or have changed: those whose file is another one now are shown anew."""
        shown: List[Item] = []
        gone: List[Action] = []
        actions: List[Action] = []
        for item in items:
            images = tilts_of(item) if node.type in SERIES else [item]
            if node.type in SERIES:
                former = self._tilts.get((node.db_name, item.id), [])
                self._tilts[node.db_name, item.id] = [image.id for image in images]
                gone += self._gone(node.db_name, set(former) - {image.id for image in images})
            for image in images:
                gone += self._is_shown(node, image, shown)
                key, rejected = (node.db_name, image.id), is_rejected(image)
                if rejected != (key in self._rejected):
                    self._rejected ^= {key}
                    actions.append(ShowFacts(image.name, Facts({"rejected": rejected}), node.db_name, [node.db_name],
                                             image.id))
        # What goes first: it goes by the id, which the new one has as well.
        return [*gone, *([ShowImages(node, shown)] if shown else []), *actions]

    def _is_shown(self, node: NodeContent, image: Item, shown: List[Item]) -> List[Action]:
        """Have an image shown, unless it is."""
        key, what = (node.db_name, image.id), (image.path, image.index, image.name)
        former = self._known.get(key)
        if former == what:
            return []
        self._known[key] = what
        shown.append(image)
        # By another path it would be another image.
        return [] if former is None or former[:2] == what[:2] else [Remove(node.db_name, image.id)]

    def _gone(self, db_name: str, ids: "Set[int]") -> List[Action]:
        self._rejected -= {(db_name, number) for number in ids}
        return [Remove(db_name, number) for number in sorted(ids) if self._known.pop((db_name, number), None)]

    def _take_away(self, node: NodeContent, ids: List[int]) -> List[Action]:
        name = node.db_name
        if node.type == COORDINATES:
            return self._show_picks(node, sorted(self._picks.drop(name, ids)))
        if node.type in CLASSES:
            for number in ids:
                self._members.get(name, {}).pop(number, None)
            return self._montages_of(node)
        if node.type in SERIES:
            ids = [tilt for number in ids for tilt in self._tilts.pop((name, number), [])]
        actions = self._gone(name, set(ids))
        return actions + self._show_fits(node, self._fits.drop(name, ids)) if node.type == CTF else actions

    # Stacks.

    def _apply_particles(self, node: NodeContent, items: Sequence[Item]) -> List[Action]:
        """A hundred at a time; of former hundreds nothing is kept here."""
        actions: List[Action] = []
        first, last = self._last.get(node.db_name, (1, []))
        for item in items:
            if len(last) == MONTAGE:
                actions.append(ShowMontage(node, first, last))
                first, last = first + MONTAGE, []
            last = [*last, _slim(item)]
        self._last[node.db_name] = first, last
        return [*actions, ShowMontage(node, first, last)] if last else actions

    def _apply_classes(self, node: NodeContent, items: Sequence[Item]) -> List[Action]:
        members = self._members.setdefault(node.db_name, {})
        members.update((item.id, _slim(item)) for item in items)
        return self._montages_of(node)

    def _montages_of(self, node: NodeContent) -> List[Action]:
        """Those that have changed."""
        members = list(self._members.get(node.db_name, {}).values())
        former, now = self._montages.get(node.db_name, {}), {}
        actions: List[Action] = []
        for place in range(0, len(members), MONTAGE):
            its = members[place:place + MONTAGE]
            now[place + 1] = [(item.id, item.path, item.index, *item.attributes.values()) for item in its]
            if former.get(place + 1) != now[place + 1]:
                actions.append(ShowMontage(node, place + 1, its))
        self._montages[node.db_name] = now
        return [*actions, *(Remove(node.db_name, first) for first in former if first not in now)]

    # Picks and CTFs.

    def _apply_fits(self, node: NodeContent, items: Sequence[Item]) -> List[Action]:
        """What was fitted is said of the micrograph, and the picture of the fit is shown where that is."""
        names = self._fits.take(node, items)
        pictures = [picture for picture in (picture_of_fit(node, item) for item in items) if picture is not None]
        actions: List[Action] = []
        if pictures:
            self._held.setdefault(node.db_name, (node, []))[1].extend(pictures)
            actions = self._let_go()
        return actions + self._show_fits(node, names)

    def _let_go(self) -> List[Action]:
        """The pictures of fits that belong to what is followed, as far as is known by now."""
        actions: List[Action] = []
        for db_name, (node, pictures) in list(self._held.items()):
            origins = self._lineage.origins(node.info.get("micrographs"))
            if self._mine.intersection([db_name, *origins, *map(run_of, origins)]):
                del self._held[db_name]
                if db_name in self._mine:
                    self._shown.add(db_name)
                shown: List[Item] = []
                for picture in pictures:
                    actions += self._is_shown(node, picture, shown)
                # Those of the same file, too: it may show another fit now.
                actions.append(ShowImages(node, pictures))
        return actions

    def _show_fits(self, node: NodeContent, names: Sequence[str]) -> List[Action]:
        micrographs = node.info.get("micrographs")
        over = [*self._lineage.origins(micrographs), node.db_name]
        return [ShowFacts(name, facts, node.db_name, over) for name, facts in self._fits.facts(
            node.db_name, names, self._optics(micrographs)).items()]

    def _optics(self, micrographs: Optional[str]) -> Dict[str, Any]:
        """Of the microscope, as the set of micrographs has it; what is not known is left out."""
        for db_name, node in self._sets.items():
            if node.type in IMAGES and is_of(db_name, micrographs):
                found = node.info.get("acquisition") or {}
                return {"voltage": found.get("voltage"), "cs": found.get("spherical_aberration"),
                        "contrast": found.get("amplitude_contrast")}
        return {}

    def _show_picks(self, picker: NodeContent, names: Sequence[str]) -> List[Action]:
        try:
            box = float(picker.info.get("properties", {}).get("_boxSize") or 0)
        except ValueError:
            box = 0.0
        micrographs = picker.info.get("micrographs")
        return [ShowPicks(name, Picks(self._picks.points(picker.db_name, name), box), picker.db_name,
                          self._pixel_size(micrographs), self._lineage.origins(micrographs)) for name in names]

    def _pixel_size(self, micrographs: Optional[str]) -> Optional[float]:
        """Of the micrographs that were picked, where they are known."""
        found = [node for db_name, node in self._sets.items() if node.type in IMAGES and is_of(db_name, micrographs)]
        size: Optional[float] = found[0].info.get("sampling_rate") if found else None
        return size


def _error_of(run: NodeContent) -> str:
    return str(run.info.get("error") or "")[:LONGEST_ERROR]


def tilts_of(series: Item) -> List[Item]:
    """The tilts of a series as images of their own, by their angles: 'TS_01 -60.0°'."""
    images = list(series.attributes.get("images") or [])
    places = sorted(range(len(images)), key=lambda place: (_angle(images[place]) is None, _angle(images[place]) or 0.0))
    found = []
    for order, place in enumerate(places):
        image, angle = images[place], _angle(images[place])
        told = "%s %s" % (series.name, "%+.1f\u00b0" % angle if angle is not None else "tilt %d" % (place + 1))
        found.append(Item(series.id * TILTS_A_SERIES + order, image.get("path"), image.get("index") or 0, told,
                          dict(image, creation=series.attributes.get("creation"))))
    return found


def _angle(image: Dict[str, Any]) -> Optional[float]:
    angle: Optional[float] = image.get("_tiltAngle")
    return angle


def _slim(item: Item) -> Item:
    """Without what a montage does not need: of a million particles all would not fit."""
    kept = {name: item.attributes.get(name) for name in ("_size", "creation", "enabled",
                                                         "_representative._samplingRate")}
    return Item(item.id, item.path, item.index, item.name, kept)
