# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be shown: an image or points, and what is said of them, in the words and numbers that viewers count on."""
import dataclasses
import json
import os
import re
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from .window.live_messages import FACTS, IMAGE, LARGEST, SHAPES

BYTES_A_POINT = 160         # in a list of lists of numbers
CTF_NUMBERS = ("defocus_u", "defocus_v", "angle", "resolution", "fit_quality", "phase_shift", "voltage", "cs",
               "contrast")
IMAGE_KINDS = "biuf"        # of numpy's numbers: truth values, integers, floating point


@dataclasses.dataclass(frozen=True)
class Picks:
    """Points over an image: ``points`` [(x, y)] in its pixels, counted from 0 at its first row and column, and the
    side of the boxes around them."""
    points: Sequence[Tuple[float, float]]
    box: float = 0.0


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of an image: 'rejected' (true or false), 'note' (words for the title) and 'ctf', a dictionary of
    numbers: CTF_NUMBERS, in angstrom, degrees, kV and mm. What is no number is left out."""
    values: Dict[str, Any]


@dataclasses.dataclass
class Outgoing:
    """An image, shapes or facts on the way to the viewer; ``header`` is what the message says of it."""
    header: Dict[str, Any]
    array: Optional[np.ndarray]
    block: Optional[str] = None

    @property
    def image_id(self) -> str:
        return self.header["image_id"]

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return BYTES_A_POINT * len(self.header.get("points", ())) if self.array is None else self.array.nbytes


def outgoing_of(data: Union[np.ndarray, Picks, Facts], path: str, display: Dict[str, Any]) -> Outgoing:
    """What is to be sent of an image, points or facts, with keywords as of ``save``. Raises ValueError."""
    header: Dict[str, Any] = {"path": path, "timestamp": time.time()}
    header["metadata"] = _plain(dict(metadata_of(path), **display.pop("metadata", None) or {}))
    header["display"] = _checked(dict(display, name=display.get("name") or header["metadata"]["name"]))
    if isinstance(data, Picks):
        points = [(float(x), float(y)) for x, y in data.points if np.isfinite(x) and np.isfinite(y)]
        return Outgoing(dict(header, data_type=SHAPES, points=points, box=max(_number(data.box) or 0.0, 0.0)), None)
    if isinstance(data, Facts):
        return Outgoing(dict(header, data_type=FACTS, facts=_known_of(data.values)), None)
    array = np.asarray(data)
    if array.dtype.kind not in IMAGE_KINDS or array.ndim != 2 or not array.size:
        msg = "An image is an array (height, width) of numbers, not %s of %s." % (array.shape, array.dtype)
        raise ValueError(msg)
    # The caller may go on with its array.
    array = np.array(array, _shown_as(array.dtype), order="C")
    return Outgoing(dict(header, data_type=IMAGE, shape=list(array.shape), dtype=array.dtype.str), array)


def _known_of(values: Any) -> Dict[str, Any]:
    """Raises ValueError."""
    found = _plain(values)
    if not isinstance(found, dict) or not isinstance(found.get("ctf") or {}, dict):
        msg = "Facts are a dictionary, and 'ctf' in them is one, not %.100r." % (values,)
        raise ValueError(msg)
    known = {"rejected": bool(found.get("rejected")), "note": _text(found.get("note") or "")}
    if "ctf" in found:
        ctf = {name: _number(value) for name, value in (found["ctf"] or {}).items()
               if name in CTF_NUMBERS and not isinstance(value, str)}
        known["ctf"] = {name: value for name, value in ctf.items() if value is not None}
    return known


def head_of(pairs: Any) -> List[List[str]]:
    """Pairs of words about a run. Raises ValueError."""
    try:
        return [[_text(term), _text(words)] for term, words in pairs]
    except (TypeError, ValueError) as error:
        msg = "The head is a list of pairs of words, not %.100r." % (pairs,)
        raise ValueError(msg) from error


def _text(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _plain(value: Any) -> Any:
    """What JSON can hold, of numpy's numbers and arrays too. Raises ValueError."""
    def convert(other: Any) -> Any:
        if isinstance(other, (np.generic, np.ndarray)):
            return other.tolist()
        if isinstance(other, os.PathLike):
            return os.fsdecode(other)
        msg = "%s cannot be sent to a viewer" % type(other).__name__
        raise TypeError(msg)

    try:
        # What is no number is not known: JSON has no word for it.
        return json.loads(json.dumps(value, default=convert), parse_constant=lambda word: None)
    except (TypeError, ValueError) as error:
        raise ValueError(str(error)) from error


def _checked(display: Dict[str, Any]) -> Dict[str, Any]:
    """What is said of how to show an image, in the types that a viewer counts on; what makes no sense is left out."""
    found = _plain(display)
    for name in ("kind", "source", "name", "remark", "group", "of", "section", "created", "family"):
        if found.get(name) is not None:
            # Java has no letters for bytes that are none.
            found[name] = _text(found[name])
    for name in ("place", "pixel_size", "binning", "movie_pixel_size", "item"):
        number = _number(found.get(name))
        found[name] = number if name in ("place", "item") or number is None or number > 0 else None
    limits = found.get("limits")
    limits = [_number(limit) for limit in limits] if isinstance(limits, list) and len(limits) == 2 else []
    found["limits"] = limits if limits and None not in limits and limits[1] > limits[0] else None
    return found


def _number(value: Any) -> Optional[float]:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and abs(number) < LARGEST else None


def _shown_as(kind: np.dtype) -> str:
    """The type of numbers that viewers show, ImageJ the fewest: 8 and 16 bits without sign, and floating point."""
    if kind.kind == "b" or kind == np.uint8:
        return "|u1"
    return "<u2" if kind == np.uint16 else "<f4"


def metadata_of(path: str) -> Dict[str, Any]:
    """What a file's name tells: 'a/TS_01_003_-9.0.mrc' -> {'name': 'TS_01_003_-9.0', 'folder': 'a', 'extension':
    '.mrc', 'numbers': [1, 3, -9.0], 'source': 'file name'}"""
    folder, name = os.path.split(path)
    stem, extension = os.path.splitext(name)
    numbers = [float(text) if "." in text else int(text)
               for text in re.findall(r"(?:(?<=_)-)?\d{1,15}(?:\.\d{1,15})?", stem)]
    return {"name": stem or name, "folder": os.path.basename(folder), "extension": extension, "numbers": numbers,
            "source": "file name"}
