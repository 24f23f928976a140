# SPDX-License-Identifier: GPL-3.0-or-later
"""The metadata of a run's entry, kept on disk: asked for once, there again after any interruption."""
import dataclasses
import json
import os
import threading
from typing import Any, Dict

from .api import fetch_acquisition, fetch_entry_json
from .entry import Acquisition, Entry, parse_entry
from .errors import EntryError
from .sessions import NEVER


@dataclasses.dataclass(frozen=True)
class Metadata:
    """An entry and its acquisition."""
    entry: Entry
    acquisition: Acquisition


def load(path: str) -> Metadata:
    """What ``save`` wrote. Raises OSError and ValueError when there is nothing (readable)."""
    return _parse(_read(path))


def obtain(path: str, number: str, api_url: str, emdb_url: str, stopped: threading.Event = NEVER) -> Metadata:
    """The metadata of entry ``number``: from the file at ``path`` where it holds them, else from the archives.

    An empty path keeps nothing. EMDB is asked again as long as it did not answer.
    Raises EntryError, UnreachableError and StoppedError.
    """
    record = _kept(path, number) or {"number": number, "entry": fetch_entry_json(api_url, number, stopped)}
    entry = parse_entry(number, record["entry"])
    if not record.get("settled"):
        acquisition, record["settled"] = fetch_acquisition(emdb_url, entry, stopped)
        record["acquisition"] = dataclasses.asdict(acquisition)
        if path:
            write_whole(path, record)
    return _parse(record)


def write_whole(path: str, content: Any) -> None:
    """JSON that readers find whole at any moment."""
    temporary = path + ".new"
    with open(temporary, "w", encoding="utf-8") as stream:
        json.dump(content, stream)
    os.replace(temporary, path)


def _read(path: str) -> Dict[str, Any]:
    if not path:
        return {}
    with open(path, encoding="utf-8") as stream:
        record = json.load(stream)
    return record if isinstance(record, dict) else {}


def _kept(path: str, number: str) -> Dict[str, Any]:
    """What the file holds of the entry; nothing where it cannot be used."""
    try:
        record = _read(path)
        if record.get("number") != number:
            return {}
        parse_entry(number, record["entry"])
        if record.get("settled"):
            _parse(record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EntryError):
        return {}
    return record


def _parse(record: Dict[str, Any]) -> Metadata:
    try:
        acquisition = dict(record["acquisition"])
        acquisition["notes"] = tuple(acquisition["notes"])
        return Metadata(parse_entry(record["number"], record["entry"]), Acquisition(**acquisition))
    except (KeyError, TypeError, EntryError) as error:
        msg = "no metadata"
        raise ValueError(msg) from error
