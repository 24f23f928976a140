# SPDX-License-Identifier: GPL-3.0-or-later
"""What can happen in a run, and how a line of its record says it.

An event never changes, so threads may share it. A field without a default is one that each line has: a line that lacks
it was damaged. A default stands for what the version that wrote the line did not know yet.
"""
import time
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, ClassVar, Dict, Iterator, Mapping, Optional, Tuple, Type, TypeVar

from ...archive.selection import DARK, GAIN

Size = Optional[Tuple[int, int]]        # pixels (width, height) of a frame, None where it cannot be known
Keys = Dict[str, Optional[str]]         # gain or dark -> key of the search, None where none is wanted
AnyEvent = TypeVar("AnyEvent", bound="Event")


@dataclass(frozen=True)
class Event:
    """The base of all events. Paths are those in the archive; names are local, below the run's folder."""
    what: ClassVar[str]

    def to_line(self) -> Dict[str, Any]:
        """The event as the JSON object of its line."""
        return {"what": self.what, **{one.name: getattr(self, one.name) for one in fields(self)}}

    @classmethod
    def from_line(cls: Type[AnyEvent], line: Dict[str, Any]) -> AnyEvent:
        """Raises KeyError or TypeError for a line that was damaged."""
        values: Dict[str, Any] = {}
        for one in fields(cls):
            value = line.get(one.name)
            # Required fields are texts; null means not known.
            if one.name in line and (value is not None or one.default is MISSING):
                values[one.name] = tuple(value) if isinstance(value, list) else value
                texts = values[one.name] if one.type == Tuple[str, ...] else [value] if one.type is str else ()
                if not all(isinstance(text, str) for text in texts):
                    raise TypeError
        return cls(**values)

    # Deprecated: events were dictionaries up to version 1.1, and scripts ask them like this.

    def __getitem__(self, name: str) -> Any:
        return self.to_line()[name]

    def __contains__(self, name: object) -> bool:
        return name in self.to_line()

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_line())

    def get(self, name: str, default: Any = None) -> Any:
        return self.to_line().get(name, default)


@dataclass(frozen=True)
class Began(Event):
    """A download began, with what its form asked for; None where the version that wrote it did not know the field."""
    what: ClassVar[str] = "begin"
    transport: str = ""
    server: str = ""
    entry: Optional[str] = None
    image_set: Optional[int] = None
    pattern: Optional[str] = None
    unpack: Optional[bool] = None
    particles_file: str = ""
    amount: Optional[int] = None
    gain: Optional[bool] = None
    gain_pattern: str = ""
    companions: bool = False
    foreign: Tuple[str, ...] = ()           # names in the folder that came in another way


@dataclass(frozen=True)
class ImageArrived(Event):
    """An image is whole."""
    # Version 1.0.0 knew movies only, and its runs are continued.
    what: ClassVar[str] = "movie"
    name: str
    path: str
    bytes: int                              # at the source, where it may be compressed
    found: bool = False                     # it was there already
    size: Size = None
    frames: Optional[int] = None
    star: Optional[str] = None              # local name of the .star file that describes its particles
    stack: str = ""                         # its name in there
    # Version 1.0.0 knew one reference of a kind for all movies, and wrote down no key.
    keys: Mapping[str, Optional[str]] = field(default_factory=dict)

    def to_line(self) -> Dict[str, Any]:
        line = super().to_line()
        described = {"star": line.pop("star"), "stack": line.pop("stack")} if self.star is not None else {}
        keys = line.pop("keys")
        return {**line, **described, **keys}

    @classmethod
    def from_line(cls, line: Dict[str, Any]) -> "ImageArrived":
        return replace(super().from_line(line), keys={kind: line[kind] for kind in (GAIN, DARK) if kind in line})


@dataclass(frozen=True)
class FileSkipped(Event):
    """An image that could not be had, or not be registered; ``name`` where it is here all the same."""
    what: ClassVar[str] = "left out"
    path: str
    reason: str
    name: str = ""


@dataclass(frozen=True)
class ReferenceChosen(Event):
    """The verdict of a search for a reference; name and path are '' where there is none that fits."""
    what: ClassVar[str] = "reference"
    kind: str
    name: str
    path: str = ""
    key: Optional[str] = None
    size: Size = None                       # of the frames of the movies that it is for
    others: Tuple[str, ...] = ()            # paths of the other candidates
    failed: bool = False                    # a likelier one could not be had, and may be the next time
    turned: bool = False                    # it fits only when turned by 90 degrees
    pattern: Optional[str] = None           # by which it was searched; None: as the run's beginning says
    digest: str = ""                        # SHA-1 of the file


@dataclass(frozen=True)
class FileArrived(Event):
    """A file that is no image is whole."""
    what: ClassVar[str] = "file"
    name: str
    path: str


@dataclass(frozen=True)
class SidecarArrived(Event):
    """A file that tells of the images; its name is '' where it could not be had."""
    what: ClassVar[str] = "companion"
    name: str
    path: str
    reason: str


@dataclass(frozen=True)
class DescriptionChosen(Event):
    """The .star files that describe the particles; none where none fits."""
    what: ClassVar[str] = "description"
    names: Tuple[str, ...]
    paths: Tuple[str, ...]
    failed: bool
    others: Tuple[str, ...] = ()


@dataclass(frozen=True)
class TiltKnown:
    """A tilt of a series; None is what nothing tells."""
    path: str
    angle: Optional[float] = None           # degrees
    order: Optional[int] = None             # in which it was taken, from 1
    dose: Optional[float] = None            # e/Å²
    before: Optional[float] = None          # e/Å² that the sample had received before it


@dataclass(frozen=True)
class SeriesKnown(Event):
    """A tilt series, and what describes it; None is what nothing tells."""
    what: ClassVar[str] = "series"
    name: str
    tilts: Tuple[TiltKnown, ...]
    mdoc: str = ""                          # local name of the .mdoc written for it, '' for none
    axis: Optional[float] = None            # degrees
    stack: bool = False                     # its images are one file
    pixel_size: Optional[float] = None      # Å/px
    voltage: Optional[float] = None         # kV
    magnification: Optional[float] = None
    dose_from: str = ""                     # the .mdoc key that its doses follow from
    ordered: bool = True                    # whether the order of the tilts is known
    lacking: Tuple[str, ...] = ()           # names of tilts that the archive does not list

    def to_line(self) -> Dict[str, Any]:
        return {**super().to_line(), "tilts": [vars(tilt) for tilt in self.tilts]}

    @classmethod
    def from_line(cls, line: Dict[str, Any]) -> "SeriesKnown":
        known = [one.name for one in fields(TiltKnown)]
        tilts = tuple(TiltKnown(**{name: tilt[name] for name in known if name in tilt}) for tilt in line["tilts"])
        return replace(super().from_line(line), tilts=tilts)


@dataclass(frozen=True)
class SeriesRegistered(Event):
    """A tilt series was registered, as what its fingerprint says."""
    what: ClassVar[str] = "registered"
    series: str
    fingerprint: str

    def to_line(self) -> Dict[str, Any]:
        return {"what": self.what, "series": self.series, "as": self.fingerprint}

    @classmethod
    def from_line(cls, line: Dict[str, Any]) -> "SeriesRegistered":
        return cls(line["series"], line["as"])


@dataclass(frozen=True)
class ValuesDecided(Event):
    """The acquisition that an output set got: name -> (value, its source)."""
    what: ClassVar[str] = "values"
    output: str
    values: Mapping[str, Tuple[Any, str]]

    @classmethod
    def from_line(cls, line: Dict[str, Any]) -> "ValuesDecided":
        return cls(line["output"], {name: (value, source) for name, (value, source) in line["values"].items()})


@dataclass(frozen=True)
class MicrographsNumbered(Event):
    """Full names of micrographs that particles were picked in; their numbers follow from their order in the record."""
    what: ClassVar[str] = "micrographs"
    names: Tuple[str, ...]


@dataclass(frozen=True)
class NoteMade(Event):
    """A sentence for the user, about this start of the download."""
    what: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True)
class RemarkMade(Event):
    """A sentence for the user that stays, whatever is started later."""
    what: ClassVar[str] = "remark"
    text: str


@dataclass(frozen=True)
class BytesArrived(Event):
    """A point of the download's history: what was on the disk at a moment (seconds since 1970)."""
    what: ClassVar[str] = "bytes"
    bytes: int
    movies: int = 0
    time: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Ended(Event):
    """A download ended by itself or by a stop; nothing says so where the process was killed."""
    what: ClassVar[str] = "end"
    complete: bool
    exhausted: bool                         # the entry has no more
    stopped: bool = False


KINDS: Dict[str, Type[Event]] = {kind.what: kind for kind in (
    Began, ImageArrived, FileSkipped, ReferenceChosen, FileArrived, SidecarArrived, DescriptionChosen, SeriesKnown,
    SeriesRegistered, ValuesDecided, MicrographsNumbered, NoteMade, RemarkMade, BytesArrived, Ended)}
