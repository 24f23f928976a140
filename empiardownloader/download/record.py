# SPDX-License-Identifier: GPL-3.0-or-later
"""The run's own record: one JSON object a line, only ever added to, in the order things happened.

It is what Continue starts from, and what registration, summary and viewer read while the download writes.
"""
import contextlib
import json
import os
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ..archive.errors import ArchiveError
from ..archive.selection import DARK, GAIN
from ..transfer.parts import LINKS_ARE_NOT_FOLLOWED, lock

# An image of any kind is called "movie": version 1.0.0 knew no others, and its runs are continued.
IMAGE, LEFT_OUT, REFERENCE, FILE, NOTE, BYTES, BEGIN, END = (
    "movie", "left out", "reference", "file", "note", "bytes", "begin", "end")
COMPANION, DESCRIPTION, SERIES, REGISTERED, REMARK, VALUES, MICROGRAPHS = (
    "companion", "description", "series", "registered", "remark", "values", "micrographs")


# What a line has to tell of it; one that does not was damaged, and is as good as not there.
NEEDED = {IMAGE: ("name", "path", "bytes"), LEFT_OUT: ("path", "reason"), REFERENCE: ("kind", "name", "path"),
          FILE: ("name", "path"), NOTE: ("text",), BYTES: ("bytes",), END: ("complete", "exhausted"),
          COMPANION: ("name", "path", "reason"), DESCRIPTION: ("names", "paths", "failed"), SERIES: ("name", "tilts"),
          REGISTERED: ("series", "as"), REMARK: ("text",), VALUES: ("output", "values"), MICROGRAPHS: ("names",)}
# The search for a reference: its kind, its key, width and height of the movies' frames.
ReferenceKey = Tuple[str, Optional[str], Optional[Tuple[int, ...]]]
# For movies that were to have no reference.
NO_REFERENCE: Dict[str, Any] = {"name": "", "path": "", "others": []}


class RecordWriter:
    """Adds to a record; only one process at a time may."""

    def __init__(self, path: str, wait: float = 30):
        """Waits up to ``wait`` seconds for another process of the same run to end. Raises ArchiveError."""
        # A link that somebody has laid in its place is not followed.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | LINKS_ARE_NOT_FOLLOWED, 0o666)
        self._stream = open(descriptor, "a", encoding="utf-8")      # noqa: SIM115 - open until close()
        deadline = time.monotonic() + wait
        while True:
            try:
                lock(self._stream.fileno(), path)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    self._stream.close()
                    msg = "Another process still downloads into this run: wait until it has ended, then Continue."
                    raise ArchiveError(msg) from error
                time.sleep(0.2)
        # A process that was killed may have left half a line behind.
        if self._stream.tell() and not _ends_with_newline(path):
            self._stream.write("\n")

    def add(self, what: str, **facts: Any) -> None:
        self._stream.write(_line(what, facts))
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


def add_event(record_path: str, what: str, **facts: Any) -> None:
    """One line beside those of the writer at work; a line appended in one go stays in one piece."""
    with open(record_path, "a", encoding="utf-8") as stream:
        stream.write(_line(what, facts))


class RecordReader:
    """Reads a record from where it stopped the last time."""

    def __init__(self, path: str):
        self._path = path
        self._offset = 0

    def new_events(self) -> Iterator[Dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError), open(self._path, "rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                with contextlib.suppress(ValueError):
                    event = json.loads(line.decode("utf-8"))
                    if isinstance(event, dict) and all(name in event for name in NEEDED.get(event.get("what"), ())):
                        yield event


class Facts:
    """What a record says, all its events taken together."""

    def __init__(self) -> None:
        self.images: Dict[str, Dict[str, Any]] = {}         # by local name, in the order they became whole
        self.left_out: Dict[str, str] = {}                  # remote path -> reason
        # (kind, key of the search, size of the movies' frames) -> what the search found; see references.py
        self.references: Dict[ReferenceKey, Dict[str, Any]] = {}
        self.names: Dict[str, str] = {}                     # local name -> remote path, of whatever was fetched
        # Remote path -> what became of a file that tells of images; its name is '' where it could not be had.
        self.companions: Dict[str, Dict[str, Any]] = {}
        self.description: Optional[Dict[str, Any]] = None       # of the particles: the files, none where none fits
        self.series: Dict[str, Dict[str, Any]] = {}             # by name
        self.registered: Dict[str, str] = {}    # name of a series -> what it was registered as
        self.values: Dict[str, Dict[str, Any]] = {}     # output -> name of a value -> [value, its source]
        self.micrographs: Dict[str, int] = {}       # full name of one that particles were picked in -> its number
        self.notes: List[str] = []
        self.remarks: List[str] = []        # what is worth knowing for good, whoever continues
        self.begin: Optional[Dict[str, Any]] = None
        self.end: Optional[Dict[str, Any]] = None
        self.history: List[Dict[str, Any]] = []             # 'bytes' events
        self.foreign: List[str] = []                        # names in the folder that came in another way

    @classmethod
    def read(cls, path: str) -> "Facts":
        facts = cls()
        for event in RecordReader(path).new_events():
            facts.take(event)
        return facts

    def snapshot(self) -> "Facts":
        """What is known now; it stays so while this one learns more, in another thread perhaps. Events never change."""
        copy = Facts()
        for name, value in vars(self).items():
            setattr(copy, name, value.copy() if isinstance(value, (dict, list)) else value)
        return copy

    def take(self, event: Dict[str, Any]) -> None:
        what = event.get("what")
        if event.get("name") and event.get("path"):
            # For good: a file on the disk is what it was when it came, whatever the form asks for since.
            self.names[event["name"]] = event["path"]
        if what == BEGIN:
            # Without a movie, a run may go on with another entry; the gain reference of the first is not for it.
            if self.begin and any(self.begin.get(key) != event.get(key) for key in ("entry", "image_set")):
                self.references = {}
            # A new start asks anew for what was left out, and says its own notes.
            self.begin, self.end = event, None
            self.foreign = self.foreign or event.get("foreign", [])
            self.left_out, self.notes = {}, []
        elif what == IMAGE:
            self.images[event["name"]] = event
            self.left_out.pop(event["path"], None)
        elif what == LEFT_OUT:
            self.left_out[event["path"]] = event["reason"]
            self.images.pop(event.get("name", ""), None)
        elif what == REFERENCE:
            self.references[_key(event["kind"], event.get("key"), event.get("size"))] = event
        elif what == COMPANION:
            self.companions[event["path"]] = event
        elif what == DESCRIPTION:
            self.description = event
        elif what == SERIES:
            self.series[event["name"]] = event
        elif what == REGISTERED:
            self.registered[event["series"]] = event["as"]
        elif what == VALUES:
            self.values[event["output"]] = event["values"]
        elif what == MICROGRAPHS:
            for name in event["names"]:
                self.micrographs.setdefault(name, len(self.micrographs) + 1)
        elif what == REMARK and event["text"] not in self.remarks:
            self.remarks.append(event["text"])
        elif what == NOTE and event["text"] not in self.notes:
            self.notes.append(event["text"])
        elif what == BYTES:
            self.history.append(event)
        elif what == END:
            self.end = event

    def is_complete(self, wanted: Optional[int]) -> bool:
        """Whether as many movies as were asked for (None: all) are there, as far as the archive has them, and their
        gain references."""
        if not self.images or not (self.end or {}).get("complete"):
            return False
        if self.left_out and (wanted is None or len(self.images) < wanted):
            return False
        if any(not companion["name"] for companion in self.companions.values()) \
                or (self.description or {}).get("failed"):
            return False
        gains = [self.reference(GAIN, movie) or NO_REFERENCE for movie in self.images.values()]
        return not any(gain.get("failed") or (gain.get("pattern") and not gain["name"]) for gain in gains)

    def count(self, of_series: bool) -> int:
        """How many images there are, or series of which some are there."""
        if not of_series:
            return len(self.images)
        paths = {image["path"] for image in self.images.values()}
        return sum(any(tilt["path"] in paths for tilt in series["tilts"]) for series in self.series.values())

    def reference(self, kind: str, movie: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        """What the search for a movie's reference found, None while it goes on.

        The event's name is '' where there is no fitting one, and also for movies that were to have none.
        """
        if kind not in movie:
            # Version 1.0.0 knew one reference of a kind for all movies.
            return self.references.get(_key(kind, None, None))
        if movie[kind] is None:
            return NO_REFERENCE
        return self.references.get(_key(kind, movie[kind], movie.get("size")))

    def is_settled(self, movie: Dict[str, Any]) -> bool:
        """Whether it is known which references belong to a movie."""
        return all(self.reference(kind, movie) is not None for kind in (GAIN, DARK) if kind == GAIN or kind in movie)

    def chosen(self, kind: str) -> List[Dict[str, Any]]:
        """The references of a kind that movies have by now."""
        used = [self.reference(kind, movie) for movie in self.images.values()]
        return [event for (its_kind, _, _), event in self.references.items()
                if its_kind == kind and event["name"] and (not used or any(event is one for one in used))]


def _key(kind: str, key: Optional[str], size: Optional[List[int]]) -> ReferenceKey:
    return kind, key, None if size is None else tuple(size)


def _line(what: str, facts: Dict[str, Any]) -> str:
    return json.dumps(dict(facts, what=what, time=round(time.time(), 3))) + "\n"


def _ends_with_newline(path: str) -> bool:
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
