# SPDX-License-Identifier: GPL-3.0-or-later
"""What is drawn over images, or said of them: picks and CTFs, as a walker tells them, by set and id. Pure."""
import math
import os
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from ..follow import Item, NodeContent
from .outgoing import Facts

NOT_FOUND = -999        # what Scipion writes for a CTF that could not be fitted
FITTED = {"defocus_u": "_defocusU", "defocus_v": "_defocusV", "angle": "_defocusAngle", "resolution": "_resolution",
          "fit_quality": "_fitQuality", "phase_shift": "_phaseShift"}


def is_rejected(item: Item) -> bool:
    return item.attributes.get("enabled") in (0, False)


class PickSets:
    """The coordinates of all pickers."""

    def __init__(self) -> None:
        self.nodes: Dict[str, NodeContent] = {}                             # by db_name, as last told
        # By set and micrograph: id -> x, y.
        self._points: Dict[Tuple[str, str], Dict[int, Tuple[float, float]]] = {}

    def forget(self, db_name: str) -> None:
        self._points = {key: found for key, found in self._points.items() if key[0] != db_name}

    def names(self, db_name: str) -> List[str]:
        return [name for its, name in self._points if its == db_name]

    def points(self, db_name: str, name: str) -> List[Tuple[float, float]]:
        """A copy, for more may come while another thread shows these."""
        return list(self._points.get((db_name, name), {}).values())

    def take(self, node: NodeContent, items: Sequence[Item], is_new: bool) -> List[str]:
        """Picks that are new or have changed -> the names of the micrographs they are, or were, on. What was rejected
        is none."""
        self.nodes[node.db_name] = node
        changed = set() if is_new else self.drop(node.db_name, [item.id for item in items])
        for item in items:
            name = item.attributes.get("_micName")
            x, y = item.attributes.get("_x"), item.attributes.get("_y")
            if name and x is not None and y is not None and not is_rejected(item):
                self._points.setdefault((node.db_name, name), {})[item.id] = (float(x), float(y))
                changed.add(name)
        return sorted(changed)

    def drop(self, db_name: str, ids: Iterable[int]) -> "set[str]":
        """-> the names of the micrographs that these picks were on."""
        gone, changed = set(ids), set()
        for (its, name), points in self._points.items():
            for number in gone.intersection(points) if its == db_name else ():
                del points[number]
                changed.add(name)
        return changed


class FitSets:
    """The CTFs of all programs."""

    def __init__(self) -> None:
        self.nodes: Dict[str, NodeContent] = {}
        self._fits: Dict[Tuple[str, int], Tuple[str, Dict[str, Any], bool]] = {}  # name, what was fitted, rejected

    def forget(self, db_name: str) -> None:
        self._fits = {key: found for key, found in self._fits.items() if key[0] != db_name}

    def take(self, node: NodeContent, items: Sequence[Item]) -> List[str]:
        """-> the names of the micrographs."""
        self.nodes[node.db_name] = node
        for item in items:
            self._fits[node.db_name, item.id] = (item.name, fitted(item), is_rejected(item))
        return [item.name for item in items]

    def drop(self, db_name: str, ids: Iterable[int]) -> List[str]:
        gone = [self._fits.pop((db_name, number), None) for number in ids]
        return [found[0] for found in gone if found is not None]

    def facts(self, db_name: str, names: Iterable[str], optics: Dict[str, Any]) -> Dict[str, Facts]:
        """What is said of the micrographs of these names: of all of a set in one go."""
        wanted = dict.fromkeys(names)
        found = {name: Facts({}) for name in wanted}
        for (its, _), (name, fit, rejected) in self._fits.items():
            if its == db_name and name in wanted:
                found[name] = said_of(fit, rejected, optics)
        return found

    def names(self, db_name: str) -> List[str]:
        return [name for (its, _), (name, _, _) in self._fits.items() if its == db_name]


def fitted(item: Item) -> Dict[str, Any]:
    """What a CTF says, in Scipion's units: angstrom and degrees; what was not found is left out."""
    values = {name: item.attributes.get(attribute) for name, attribute in FITTED.items()}
    found = {name: value for name, value in values.items()
             if isinstance(value, (int, float)) and math.isfinite(value) and value > NOT_FOUND}
    if "defocus_u" not in found or "defocus_v" not in found:
        return {}
    return {name: value for name, value in found.items() if name != "resolution" or value > 0}


def said_of(fit: Dict[str, Any], rejected: bool, optics: Dict[str, Any]) -> Facts:
    if not fit:
        return Facts({"ctf": {}, "note": "no CTF was found", "rejected": rejected})
    note = "defocus %.2f \u00b5m" % ((fit["defocus_u"] + fit["defocus_v"]) / 2e4)
    note += ", CTF to %.1f \u00c5" % fit["resolution"] if fit.get("resolution") else ""
    return Facts({"ctf": {**optics, **fit}, "note": note, "rejected": rejected})


def picture_of_fit(node: NodeContent, item: Item) -> Optional[Item]:
    """What the program that fitted drew, where it names a file."""
    name = item.attributes.get("_psdFile")
    if not isinstance(name, str) or not name or name == "None":
        return None
    place, at, path = name.rpartition("@")
    index = int(place) if at and place.isdigit() else 0
    folder = node.info.get("project") or ""
    return Item(item.id, os.path.join(folder, path), index, item.name, {"creation": item.attributes.get("creation")})
