# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a record: one JSON object a line, only ever added to, in the order things happened.

It is what Continue starts from, and what registration, summary and viewer read while the download writes.
"""
import contextlib
import json
import os
import time
from typing import Iterator, Optional

from ...archive.errors import ArchiveError
from ...transfer.parts import LINKS_ARE_NOT_FOLLOWED, lock
from .events import KINDS, Event


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
        if _ends_in_half_line(path):
            self._stream.write("\n")

    def add(self, event: Event) -> None:
        self._stream.write(_format(event))
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


def add_event(record_path: str, event: Event) -> None:
    """One line beside those of the writer at work; a line appended in one go stays in one piece."""
    # Where no writer came after a process that was killed, its half line is still there.
    start = "\n" if _ends_in_half_line(record_path) else ""
    with open(record_path, "a", encoding="utf-8") as stream:
        stream.write(start + _format(event))


class RecordReader:
    """Reads a record from where it stopped the last time."""

    def __init__(self, path: str):
        self._path = path
        self._offset = 0

    def new_events(self) -> Iterator[Event]:
        with contextlib.suppress(FileNotFoundError), open(self._path, "rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                event = _parse(line)
                if event is not None:
                    yield event


def _format(event: Event) -> str:
    return json.dumps({"time": round(time.time(), 3), **event.to_line()}) + "\n"


def _parse(line: bytes) -> Optional[Event]:
    """None for a line that was damaged, or that another version wrote of what this one does not know."""
    try:
        told = json.loads(line.decode("utf-8"))
        return KINDS[told["what"]].from_line(told)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _ends_in_half_line(path: str) -> bool:
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        return False
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"
