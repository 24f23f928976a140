# SPDX-License-Identifier: GPL-3.0-or-later
"""What a walk gives: nodes and events, all of it plain data that can be pickled, copied and written as JSON."""
import dataclasses
import enum
from typing import Any, Dict, List, Optional, Union


class FollowError(Exception):
    """What keeps a project from being followed, in one sentence for the user."""


class NotThereYetError(FollowError):
    """What was asked for is not there, and may come."""


class GoneError(FollowError):
    """What was asked for was there, and is not any more."""


class RestartedError(GoneError):
    """A position tells of a set that another one has the place of, after a Restart of its run."""


class NeverError(FollowError):
    """What was asked for will not come: the run that would bring it has ended."""


class EventType(enum.Enum):
    """What an event tells; the numbers are those of the walkers that this one is modelled on."""
    NEW_NODE = 1        # a run, or an output of one; data is None
    NEW_DATA = 2        # items of an output: data.data
    END_SCAN = 3        # the run is over; data.data is its status, data.description None or the error
    PREPARED_SCAN = 4   # the first output of a run is known, its items follow
    # Only of walks that ask for them:
    CHANGED_DATA = 5    # items that were told have other values now: data.data, whole
    REMOVED = 6         # items that were told are gone: data.data, of which nothing but the id is known
    CLOSED = 7          # no more items come to a set, unless its run is continued
    INFO = 8            # the info of a run or an output is another one now; data is None


@dataclasses.dataclass(frozen=True)
class NodeContent:
    """A project, a run or an output as it was when this was made.

    ``type``: 'project', 'run' or the class of the output, as in Scipion ('SetOfMovies'); ``db_name``: its address,
    for another walker; ``path``: its folder, or the file of a set, absolute, with ``user@host:`` before it where it is
    another machine's. ``info``: of a run status, label, class, form, error, steps, outputs and, of a download,
    progress (bytes, rate in bytes a second); of a set size, stream_state ('open', 'closed'), sampling_rate in angstrom
    a pixel, dimensions in pixels, acquisition, gain; of coordinates micrographs, the db_name of those they lie on.
    """
    type: str
    name: str
    db_name: str
    info: Dict[str, Any]
    path: Optional[str]

    def as_dict(self) -> Dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Item:
    """A movie, micrograph, particle ... of a set.

    ``path``: its file, as in NodeContent, None where items have none (coordinates); ``index``: its place in a stack,
    counted from 1, 0 for all of the file; ``attributes``: all else that the set has of it, by Scipion's names. A tilt
    series comes when all its images are there; they are in ``attributes['images']``, each with path, index, _tiltAngle.
    """
    id: int
    path: Optional[str]
    index: int
    name: str
    attributes: Dict[str, Any]


@dataclasses.dataclass(frozen=True)
class EventData:
    """``first_index``: the place of the first item in the set when it was told, counted from 0 in the order of the ids;
    the others follow it; ``data``: the items, ``block_size`` of them.

    Of END_SCAN and PREPARED_SCAN ``data`` is the status of the run ('finished', 'failed', 'aborted', 'killed', ...).
    """
    first_index: int = -1
    data: Union[str, List[Item], None] = None
    description: Any = None
    block_size: int = 0


@dataclasses.dataclass(frozen=True)
class Event:
    type: EventType
    node: NodeContent
    data: Optional[EventData] = None

    def as_dict(self) -> Dict[str, Any]:
        """With the name of the type, for JSON."""
        return {"type": self.type.name, "node": self.node.as_dict(),
                "data": None if self.data is None else dataclasses.asdict(self.data)}
