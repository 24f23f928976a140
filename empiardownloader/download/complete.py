# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a request the record and the disk have already."""
import os
from typing import List, Optional, Set

from ..archive.kinds import TILT_SERIES
from ..archive.names import split_compression
from ..archive.selection import GAIN
from .record.events import ImageArrived
from .record.facts import Facts
from .references import pattern_of
from .request import Places, Request


def nothing_missing(request: Request, places: Places) -> bool:
    """Whether the record says that all that is asked for is there, so that no connection is needed."""
    facts = Facts.read(places.record)
    if facts.begin is None or not request.same_images_as(facts.begin):
        return False
    if request.companions and (not facts.begin.companions or missing_companions(facts, places)):
        return False
    described = facts.description
    if described and (described.failed or not all(is_there(places, name) for name in described.names)):
        return False
    if any(series.lacking for series in facts.series.values()):
        return False    # the next listing may show it
    if request.wants_gain and any(movie.keys.get(GAIN, "") is None or not _is_answered(facts, movie, request)
                            for movie in facts.images.values()):
        return False
    names = [reference.name for reference in facts.references.values() if reference.name]
    if not all(is_there(places, name) for name in names):
        return False
    if not all(is_there(places, name, movie) for name, movie in facts.images.items()):
        return False
    if request.kind == TILT_SERIES:
        if facts.end is None or not facts.end.complete or facts.left_out:
            return False
        if request.amount is not None and facts.count(of_series=True) >= request.amount:
            return True
    elif request.amount is not None and len(facts.images) >= request.amount:
        return True
    return bool(facts.end and facts.end.exhausted and facts.end.complete and not facts.left_out)


def missing_companions(facts: Facts, places: Places) -> List[str]:
    """Paths in the archive of companions that could not be had, or are not where they were put."""
    return [path for path, companion in facts.companions.items()
            if not companion.name or not is_there(places, companion.name)]


def arrived_paths(folder: str, record: str) -> Set[str]:
    """Remote paths of the images of a record whose files are still in a folder. Raises OSError."""
    return {image.path for name, image in Facts.read(record).images.items()
            if os.path.exists(os.path.join(folder, name))}


def is_there(places: Places, name: str, movie: Optional[ImageArrived] = None) -> bool:
    """Whether a file of the record still lies where it was put; a movie has to be as long as it was then."""
    try:
        size = os.path.getsize(os.path.join(places.folder, name))
    except OSError:
        return False
    if movie is None:
        return True
    # What a packed file has become only its own header knows.
    unpacked = split_compression(movie.path)[1] and not split_compression(name)[1]
    return bool(unpacked) or size == movie.bytes


def _is_answered(facts: Facts, movie: ImageArrived, request: Request) -> bool:
    """Whether it is known which gain reference, of those asked for now, belongs to a movie."""
    found = facts.reference(GAIN, movie)
    return found is not None and not found.failed \
        and pattern_of(found, facts.begin) == request.gain_pattern
