# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of each kind of set as arrays to be shown, and what is said of them: the keywords of StreamingBackend.save.

All have the first row of the file at the bottom.
"""
import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..follow import Item, NodeContent
from ..follow.images import map_image, plain_path, read_image, read_images
from ..follow.process import split_host
from ..images.header import BadImageError
from ..images.previews import Preview, bin_image, binning, contrast
from .shown_run import CLASSES, CTF, MICROGRAPHS, MOVIE_TILTS, MOVIES, SERIES, TILTS

KINDS = {MOVIES: "averages", MICROGRAPHS: "micrographs", TILTS: "tilts", MOVIE_TILTS: "tilts", CTF: "CTF fits",
         "SetOfParticles": "particles", "SetOfAverages": "class averages", "SetOfClasses2D": "class averages",
         "Volume": "volumes", "VolumeMask": "masks", "SetOfVolumes": "volumes", "SetOfClasses3D": "volumes of classes",
         "SetOfTomograms": "tomograms", "SetOfSubTomograms": "subtomograms"}
SPECTRA = "power spectra"
CELL_PIXELS, COLUMNS = 96, 10       # of a montage: at most so many pixels to a side, and so many images in a row
CELL_SIGMAS = 3.0
SECTION_PIXELS, GAP_PIXELS = 384, 4
SECTIONS_SAID = "sections through the middle: xy, zy at its right, xz below"
# Of a volume that lies on another machine; here only the sections are read.
MOST_REMOTE_BYTES = 512 << 20


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
    common = _common(node, item.id, item.name, section_of(node))
    common.update(remark=preview.gain, created=item.attributes.get("creation"))
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
    words = _common(node, item.id, item.name, "images")
    return [Shown(small, address_of(item.path, item.index), dict(
        words, kind=KINDS[CTF], limits=contrast(small), takes_picks=False))]


def of_montage(node: NodeContent, first: int, items: Sequence[Item], ssh: Any) -> List[Shown]:
    """Images of a stack side by side; ``first``: the number of the first one, counted from 1. Each is shown in its own
    grey values, mean -/+ 3 standard deviations. Raises FollowError, OSError, BadImageError."""
    images = _all(items, ssh)
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    factor = binning(np.empty((height, width), "u1"), CELL_PIXELS)
    high, wide = max(1, height // factor), max(1, width // factor)
    side = max(high, wide)
    rows = -(-len(images) // COLUMNS)
    canvas = np.full((rows * side, min(len(images), COLUMNS) * side), -CELL_SIGMAS, "float32")
    for place, image in enumerate(images):
        small = _in_sigmas(bin_image(image, max(image.shape) // factor or 1)[::-1])[:side, :side]
        top, left = place // COLUMNS * side, place % COLUMNS * side
        canvas[top:top + small.shape[0], left:left + small.shape[1]] = small
    labels = [_label(node, item) for item in items]
    words = _common(node, first, "%s from %d" % (node.db_name.replace(":", "."), first),
                    "classes" if node.type in CLASSES else "particles")
    return [Shown(canvas, "%s#%d" % (node.path, first), dict(
        words, kind=KINDS[node.type], pixel_size=node.info.get("sampling_rate"), binning=factor,
        limits=(-CELL_SIGMAS, CELL_SIGMAS), takes_picks=False, created=items[-1].attributes.get("creation"),
        remark="%d of %d x %d pixels, each in its own grey values" % (len(images), width, height),
        cells={"side": side, "columns": COLUMNS, "labels": labels}))]


def of_volume(node: NodeContent, item: Item, ssh: Any) -> List[Shown]:
    """Three sections through the middle of a volume. Raises FollowError, OSError, BadImageError."""
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
    words = _common(node, item.id, item.name, "volumes")
    return [Shown(canvas, address_of(item.path, item.index), dict(
        words, kind=KINDS[node.type], pixel_size=node.info.get("sampling_rate") or item.attributes.get("_samplingRate"),
        binning=factor, limits=limits, takes_picks=False, remark=SECTIONS_SAID,
        created=item.attributes.get("creation")))]


def _common(node: NodeContent, place: int, name: str, section: str) -> Dict[str, Any]:
    return {"source": node.db_name, "place": place, "name": name, "section": section}


def _label(node: NodeContent, item: Item) -> str:
    """Of a class how many it has, of an average its number, of a particle nothing: there are too many."""
    size = item.attributes.get("_size")
    if size is not None:
        return "%d: %s" % (item.id, size)
    return "%d" % item.id if node.type in CLASSES else ""


def _all(items: Sequence[Item], ssh: Any) -> List[np.ndarray]:
    """(height, width) of each; a file is opened once."""
    found: Dict[int, np.ndarray] = {}
    places: Dict[str, List[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item.path or "", []).append(place)
    for path, its in places.items():
        for place, image in zip(its, read_images(path, [items[place].index for place in its], ssh)):
            found[place] = np.asarray(image, "float32").reshape((-1, *image.shape[-2:]))[0]
    return [found[place] for place in range(len(items))]


def _in_sigmas(image: np.ndarray) -> np.ndarray:
    low, high = contrast(image)
    scaled = (np.nan_to_num(image, nan=low) - (low + high) / 2) * (2 * CELL_SIGMAS / (high - low))
    clipped: np.ndarray = np.clip(scaled, -CELL_SIGMAS, CELL_SIGMAS)
    return clipped


def _sections(item: Item, ssh: Any) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """xy (y, x), zy (y, z) and xz (z, x)."""
    path = plain_path(item.path or "")
    volume = read_image(path, 0, ssh, MOST_REMOTE_BYTES) if split_host(path)[0] else map_image(path)
    if volume.ndim == 4 and item.index:
        volume = volume[item.index - 1]
    if volume.ndim == 2:
        volume = volume[None]
    if volume.ndim != 3 or not volume.size:
        msg = "%s holds no volume" % os.path.basename(path)
        raise BadImageError(msg)
    z, y, x = (length // 2 for length in volume.shape)
    return np.array(volume[z]), np.array(volume[:, :, x]).T, np.array(volume[:, y])
