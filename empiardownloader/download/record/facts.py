# SPDX-License-Identifier: GPL-3.0-or-later
"""What the events of a record add up to: ``RecordState`` takes them in, ``Facts`` is what it knew at one moment."""
from types import MappingProxyType
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Type

from ...archive.selection import DARK, GAIN
from .events import (
    Began,
    BytesArrived,
    DescriptionChosen,
    Ended,
    Event,
    FileArrived,
    FileSkipped,
    ImageArrived,
    MicrographsNumbered,
    NoteMade,
    ReferenceChosen,
    RemarkMade,
    SeriesKnown,
    SeriesRegistered,
    SidecarArrived,
    Size,
    ValuesDecided,
)
from .log import RecordReader

# For movies that were to have no reference.
NO_REFERENCE = ReferenceChosen(kind="", name="")


class ReferenceKey(NamedTuple):
    """A search for a reference: what for, its key, and the size of the movies' frames; see references.py."""
    kind: str
    key: Optional[str]
    size: Size


class Facts:
    """What a record says. It does not change, so any thread may keep it and go through it."""
    images: Mapping[str, ImageArrived]              # by local name, in the order they became whole
    left_out: Mapping[str, str]                     # path in the archive -> reason
    references: Mapping[ReferenceKey, ReferenceChosen]
    names: Mapping[str, str]                        # local name -> path in the archive, of whatever was fetched
    companions: Mapping[str, SidecarArrived]        # by path in the archive
    description: Optional[DescriptionChosen]
    series: Mapping[str, SeriesKnown]               # by name
    registered: Mapping[str, str]                   # name of a series -> fingerprint of what it was registered as
    values: Mapping[str, Mapping[str, Tuple[Any, str]]]     # output -> name of a value -> (value, its source)
    micrographs: Mapping[str, int]                  # full name of one that particles were picked in -> its number
    notes: Sequence[str]
    remarks: Sequence[str]
    begin: Optional[Began]
    end: Optional[Ended]
    history: Sequence[BytesArrived]
    foreign: Sequence[str]                          # names in the folder that came in another way

    def __init__(self, **values: Any):
        """``values``: all of the attributes; dictionaries and lists are copied."""
        for name in Facts.__annotations__:
            value = values[name]
            if isinstance(value, dict):
                value = MappingProxyType(dict(value))
            elif isinstance(value, list):
                value = tuple(value)
            setattr(self, name, value)

    @staticmethod
    def read(path: str) -> "Facts":
        """What the record at a path says by now."""
        return RecordState.read(path).snapshot()

    def plain(self, images: Mapping[str, ImageArrived]) -> "Facts":
        """With other images, in dictionaries and lists that scripts may pickle, write as JSON and change."""
        copy = RecordState()
        for name in Facts.__annotations__:
            value = getattr(self, name)
            if isinstance(value, MappingProxyType):
                value = dict(value)
            elif isinstance(value, tuple):
                value = list(value)
            setattr(copy, name, value)
        copy.images = dict(images)
        return copy

    def is_complete(self, wanted: Optional[int]) -> bool:
        """Whether as many movies as were asked for (None: all) are there, as far as the archive has them, and their
        gain references."""
        if not self.images or self.end is None or not self.end.complete:
            return False
        if self.left_out and (wanted is None or len(self.images) < wanted):
            return False
        if any(not companion.name for companion in self.companions.values()) \
                or (self.description is not None and self.description.failed):
            return False
        gains = [self.reference(GAIN, movie) or NO_REFERENCE for movie in self.images.values()]
        return not any(gain.failed or (gain.pattern and not gain.name) for gain in gains)

    def count(self, of_series: bool) -> int:
        """How many images there are, or series of which some are there."""
        if not of_series:
            return len(self.images)
        paths = {image.path for image in self.images.values()}
        return sum(any(tilt.path in paths for tilt in series.tilts) for series in self.series.values())

    def reference(self, kind: str, movie: Optional[ImageArrived]) -> Optional[ReferenceChosen]:
        """What the search for a movie's reference found, None while it goes on; ``movie`` None: one that is not known.

        The event's name is '' where there is no fitting one, and also for movies that were to have none.
        """
        if movie is None or kind not in movie.keys:
            # Version 1.0.0 knew one reference of a kind for all movies.
            return self.references.get(ReferenceKey(kind, None, None))
        key = movie.keys[kind]
        return NO_REFERENCE if key is None else self.references.get(ReferenceKey(kind, key, movie.size))

    def is_settled(self, movie: Optional[ImageArrived]) -> bool:
        """Whether it is known which references belong to a movie."""
        kinds = [kind for kind in (GAIN, DARK) if kind == GAIN or (movie is not None and kind in movie.keys)]
        return all(self.reference(kind, movie) is not None for kind in kinds)

    def chosen(self, kind: str) -> List[ReferenceChosen]:
        """The references of a kind that movies have by now."""
        used = [self.reference(kind, movie) for movie in self.images.values()]
        return [event for key, event in self.references.items()
                if key.kind == kind and event.name and (not used or any(event is one for one in used))]

    def path_of(self, name: str) -> str:
        """The path in the archive of an image by its local name; the name itself where it is not known."""
        return self.images[name].path if name in self.images else name


class RecordState(Facts):
    """What a record says while it grows; one thread at a time may use it, others get its ``snapshot``."""
    images: Dict[str, ImageArrived]
    left_out: Dict[str, str]
    references: Dict[ReferenceKey, ReferenceChosen]
    names: Dict[str, str]
    companions: Dict[str, SidecarArrived]
    series: Dict[str, SeriesKnown]
    registered: Dict[str, str]
    values: Dict[str, Mapping[str, Tuple[Any, str]]]
    micrographs: Dict[str, int]
    notes: List[str]
    remarks: List[str]
    history: List[BytesArrived]
    foreign: List[str]

    def __init__(self) -> None:
        self.images, self.left_out, self.references, self.names = {}, {}, {}, {}
        self.companions, self.series, self.registered, self.values, self.micrographs = {}, {}, {}, {}, {}
        self.notes, self.remarks, self.history, self.foreign = [], [], [], []
        self.description, self.begin, self.end = None, None, None
        self._snapshot: Optional[Facts] = None

    @staticmethod
    def read(path: str) -> "RecordState":
        state = RecordState()
        for event in RecordReader(path).new_events():
            state.apply(event)
        return state

    def snapshot(self) -> Facts:
        """What is known now."""
        if self._snapshot is None:
            self._snapshot = Facts(**vars(self))
        return self._snapshot

    def apply(self, event: Event) -> None:
        """Take in what has happened."""
        self._snapshot = None
        self._CHANGES[type(event)](self, event)

    def forget_reference(self, key: ReferenceKey) -> None:
        """It is to be searched for anew."""
        self._snapshot = None
        del self.references[key]

    def _begin(self, event: Began) -> None:
        # Without a movie, a run may go on with another entry; the gain reference of the first is not for it.
        if self.begin and (self.begin.entry, self.begin.image_set) != (event.entry, event.image_set):
            self.references = {}
        # A new start asks anew for what was skipped, and says its own notes.
        self.begin, self.end = event, None
        self.foreign = self.foreign or list(event.foreign)
        self.left_out, self.notes = {}, []

    def _take_image(self, event: ImageArrived) -> None:
        self._name(event.name, event.path)
        self.images[event.name] = event
        self.left_out.pop(event.path, None)

    def _skip(self, event: FileSkipped) -> None:
        self._name(event.name, event.path)
        self.left_out[event.path] = event.reason
        self.images.pop(event.name, None)

    def _take_reference(self, event: ReferenceChosen) -> None:
        self._name(event.name, event.path)
        self.references[ReferenceKey(event.kind, event.key, event.size)] = event

    def _take_file(self, event: FileArrived) -> None:
        self._name(event.name, event.path)

    def _take_sidecar(self, event: SidecarArrived) -> None:
        self._name(event.name, event.path)
        self.companions[event.path] = event

    def _describe(self, event: DescriptionChosen) -> None:
        self.description = event

    def _take_series(self, event: SeriesKnown) -> None:
        self.series[event.name] = event

    def _register_series(self, event: SeriesRegistered) -> None:
        self.registered[event.series] = event.fingerprint

    def _take_values(self, event: ValuesDecided) -> None:
        self.values[event.output] = event.values

    def _number_micrographs(self, event: MicrographsNumbered) -> None:
        for name in event.names:
            self.micrographs.setdefault(name, len(self.micrographs) + 1)

    def _take_note(self, event: NoteMade) -> None:
        if event.text not in self.notes:
            self.notes.append(event.text)

    def _take_remark(self, event: RemarkMade) -> None:
        if event.text not in self.remarks:
            self.remarks.append(event.text)

    def _take_bytes(self, event: BytesArrived) -> None:
        self.history.append(event)

    def _end(self, event: Ended) -> None:
        self.end = event

    def _name(self, name: str, path: str) -> None:
        # For good: a file on the disk is what it was when it came, whatever the form asks for since.
        if name and path:
            self.names[name] = path

    _CHANGES: Dict[Type[Event], Callable[["RecordState", Any], None]] = {
        Began: _begin, ImageArrived: _take_image, FileSkipped: _skip, ReferenceChosen: _take_reference,
        FileArrived: _take_file, SidecarArrived: _take_sidecar, DescriptionChosen: _describe, SeriesKnown: _take_series,
        SeriesRegistered: _register_series, ValuesDecided: _take_values, MicrographsNumbered: _number_micrographs,
        NoteMade: _take_note, RemarkMade: _take_remark, BytesArrived: _take_bytes, Ended: _end}
