# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of each kind of set as arrays to be shown, and what is said of them: the keywords of StreamingBackend.save.

All have the first row of the file at the bottom.
"""
import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..follow import FollowError, Item, NodeContent
from ..follow.images import map_image, plain_path, read_image, read_images
from ..follow.process import split_host
from ..images.header import BadImageError
from ..images.previews import Preview, bin_image, binning, contrast
from ..units import seconds_of
from .overlays import is_rejected
from .shown_run import CLASSES, CTF, MICROGRAPHS, MOVIE_TILTS, MOVIES, SERIES, TILTS

KINDS = {MOVIES: "averages", MICROGRAPHS: "micrographs", TILTS: "tilts", MOVIE_TILTS: "tilts", CTF: "CTF fits",
         "SetOfParticles": "particles", "SetOfAverages": "class averages", "SetOfClasses2D": "class averages",
         "Volume": "volumes", "VolumeMask": "masks", "SetOfVolumes": "volumes",
         "SetOfClasses3D": "volumes of classes", "Tomogram": "tomograms", "AverageSubTomogram": "subtomograms",
         "SetOfTomograms": "tomograms", "SetOfSubTomograms": "subtomograms"}
SPECTRA = "power spectra"
CELL_PIXELS, COLUMNS = 96, 10       # of a montage: at most so many pixels to a side, and so many images in a row
CELL_SIGMAS = 3.0
SECTION_PIXELS, GAP_PIXELS = 384, 4
SECTIONS_SAID = "sections through the middle: xy, zy at its right, xz below"
TWO_SECTIONS_SAID = "sections through the middle: xy, xz below; too large for zy"
# Of a volume that lies on another machine, and of one of which all is read.
MOST_REMOTE_BYTES, MOST_READ_BYTES = 512 << 20, 512 << 20
IDS_A_SECOND = 1000000
CLASSES_3D = "SetOfClasses3D"
Unread = Callable[[Item, Exception], None]


class Shown(NamedTuple):
    array: np.ndarray
    path: str
    words: Dict[str, Any]


def address_of(path: Optional[str], index: int) -> str:
    """What tells an image from all others: of a stack's images each has a place of its own."""
    return "%d@%s" % (index, path) if index else path or ""


def section_of(node: NodeContent) -> str:
    """Of images with frames or a spectrum."""
    return "tilt series" if node.type in SERIES else "images"


def of_image(node: NodeContent, item: Item, preview: Preview) -> List[Shown]:
    """The average of a movie (or a micrograph, a tilt) and its power spectrum."""
    path, pixel_size = address_of(item.path, item.index), node.info.get("sampling_rate")
    common = dict(_common(node, item, item.name, section_of(node)), remark=preview.gain)
    average = Shown(preview.average[::-1], path, dict(
        common, kind=KINDS[node.type], pixel_size=pixel_size, binning=preview.binning, limits=preview.limits(),
        flipped=True, metadata={"source": node.db_name, "id": item.id}))
    spectrum = Shown(preview.spectrum[::-1], path, dict(
        common, kind=SPECTRA, limits=contrast(preview.spectrum), takes_picks=False, movie_pixel_size=pixel_size))
    return [average, spectrum]


def of_fit(node: NodeContent, item: Item, ssh: Any) -> List[Shown]:
    """The picture that a program made of its CTF fit. Raises FollowError, OSError."""
    image = np.asarray(read_image(item.path, item.index, ssh), "float32")
    image = image.reshape((-1, *image.shape[-2:]))[0]
    small = bin_image(image, CELL_PIXELS * 6)[::-1]
    # Each fit has its own, though a program may have written all of them into one file.
    return [Shown(small, "%s#%d" % (address_of(item.path, item.index), item.id), dict(
        _common(node, item, item.name, "images"), kind=KINDS[CTF], limits=contrast(small), takes_picks=False))]


def of_montage(node: NodeContent, first: int, items: Sequence[Item], ssh: Any, unread: Unread) -> List[Shown]:
    """Images of a stack side by side; ``first``: the number of the first one, counted from 1; ``unread`` takes those
    that cannot be read, whose cells stay empty. Each is shown in its own grey values, mean -/+ 3 standard
    deviations."""
    read = _all(items, ssh, unread)
    images = [image for image in read if image is not None]
    if not images:
        return []
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    factor = binning(np.empty((height, width), "u1"), CELL_PIXELS)
    high, wide = max(1, height // factor), max(1, width // factor)
    side = max(high, wide)
    rows = -(-len(read) // COLUMNS)
    canvas = np.full((rows * side, min(len(read), COLUMNS) * side), -CELL_SIGMAS, "float32")
    for place, image in enumerate(read):
        if image is None:
            continue
        small = _in_sigmas(bin_image(image, max(image.shape) // factor or 1)[::-1])[:side, :side]
        top, left = place // COLUMNS * side, place % COLUMNS * side
        canvas[top:top + small.shape[0], left:left + small.shape[1]] = small
    labels = [_label(node, item) for item in items]
    words = _common(node, items[0], "%s from %d" % (node.db_name.replace(":", "."), first),
                    "classes" if node.type in CLASSES else "particles")
    return [Shown(canvas, "%s#%d" % (node.path, first), dict(
        words, item=first, kind=KINDS[node.type], pixel_size=_pixel_size(node, items[0]), binning=factor,
        limits=(-CELL_SIGMAS, CELL_SIGMAS), takes_picks=False,
        remark="%d images, %d x %d pixels each, every one in its own grey values" % (len(images), width, height),
        cells={"side": side, "columns": COLUMNS, "labels": labels}))]


def of_volume(node: NodeContent, item: Item, ssh: Any) -> List[Shown]:
    """Three sections through the middle of a volume; of a very large one the second, for which
    all of the file has to be read, is left out. Raises FollowError, OSError, BadImageError."""
    sections = _sections(item, ssh)
    longest = max(max(section.shape) for section in sections)
    factor = -(-longest // SECTION_PIXELS)
    plane, side, front = [
        bin_image(np.asarray(section, "float32"), -(-max(section.shape) // factor)) for section in sections]
    # The first row at the bottom; of the other two sections z grows to the right, and downwards.
    plane, side = plane[::-1], side[::-1]
    canvas = np.full((plane.shape[0] + GAP_PIXELS + front.shape[0], plane.shape[1] + GAP_PIXELS + side.shape[1]),
                     np.nan, "float32")
    canvas[:plane.shape[0], :plane.shape[1]] = plane
    canvas[:side.shape[0], -side.shape[1]:] = side
    canvas[-front.shape[0]:, :front.shape[1]] = front
    limits = contrast(canvas)
    canvas[np.isnan(canvas)] = limits[0]
    size = item.attributes.get("_size")
    remark = SECTIONS_SAID if side.size > side.shape[0] else TWO_SECTIONS_SAID
    return [Shown(canvas, address_of(item.path, item.index), dict(
        _common(node, item, _name_of_volume(node, item), "volumes"), kind=KINDS[node.type],
        pixel_size=_pixel_size(node, item), binning=factor, limits=limits, takes_picks=False,
        remark=remark if size is None or node.type != CLASSES_3D else "%s particles, %s" % (size, remark)))]


def _name_of_volume(node: NodeContent, item: Item) -> str:
    name = plain_path(item.name)
    if node.type == CLASSES_3D:
        return "class %d: %s" % (item.id, name)
    return "%d@%s" % (item.index, name) if item.index > 1 else name


def _common(node: NodeContent, item: Item, name: str, section: str) -> Dict[str, Any]:
    created = item.attributes.get("creation")
    # The newest is the last one, of whatever set; those of one second by their ids.
    place = seconds_of(created) + item.id % IDS_A_SECOND / IDS_A_SECOND
    return {"source": node.db_name, "place": place, "name": name, "section": section, "item": item.id,
            "created": created}


def _pixel_size(node: NodeContent, item: Item) -> Optional[float]:
    """In angstrom: of a class or a single volume it is its own."""
    found: Optional[float] = node.info.get("sampling_rate") or item.attributes.get("_samplingRate") or \
        item.attributes.get("_representative._samplingRate")
    return found


def _label(node: NodeContent, item: Item) -> str:
    """Of a class how many it has, of an average its number, of a particle nothing: there are too many."""
    size = item.attributes.get("_size")
    words = "%d: %s" % (item.id, size) if size is not None else "no. %d" % item.id if node.type in CLASSES else ""
    return words + " rejected" * is_rejected(item)


def _all(items: Sequence[Item], ssh: Any, unread: Unread) -> List[Optional[np.ndarray]]:
    """(height, width) of each, None of those that cannot be read; a file is opened once."""
    found: Dict[int, np.ndarray] = {}
    places: Dict[str, List[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item.path or "", []).append(place)
    for path, its in places.items():
        try:
            for place, image in zip(its, read_images(path, [items[place].index for place in its], ssh)):
                found[place] = np.asarray(image, "float32").reshape((-1, *image.shape[-2:]))[0]
        except (OSError, FollowError, ValueError) as error:
            for place in its:
                if place not in found:
                    unread(items[place], error)
    return [found.get(place) for place in range(len(items))]


def _in_sigmas(image: np.ndarray) -> np.ndarray:
    low, high = contrast(image)
    scaled = (np.nan_to_num(image, nan=low) - (low + high) / 2) * (2 * CELL_SIGMAS / (high - low))
    clipped: np.ndarray = np.clip(scaled, -CELL_SIGMAS, CELL_SIGMAS)
    return clipped


def _sections(item: Item, ssh: Any) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """xy (y, x), zy (y, z) and xz (z, x)."""
    path = item.path or ""
    volume = read_image(path, 0, ssh, MOST_REMOTE_BYTES) if split_host(path)[0] else map_image(path)
    if volume.ndim == 4 and item.index:
        volume = volume[item.index - 1]
    if volume.ndim == 2:
        volume = volume[None]
    if volume.ndim != 3 or not volume.size:
        msg = "%s holds no volume" % os.path.basename(path)
        raise BadImageError(msg)
    z, y, x = (length // 2 for length in volume.shape)
    # Of zy each number is in another part of the file.
    side = np.array(volume[:, :, x]).T if volume.nbytes <= MOST_READ_BYTES else np.full((volume.shape[1], 1), np.nan)
    return np.array(volume[z]), side, np.array(volume[:, y])
