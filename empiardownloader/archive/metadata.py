# SPDX-License-Identifier: GPL-3.0-or-later
"""The metadata of a run's entry, kept on disk: asked for once, there again after any interruption."""
import contextlib
import dataclasses
import json
import logging
import os
import time
from typing import Any, Callable, Dict, Mapping

from ..constants import EMDB_API_URL, EMPIAR_API_URL
from .api import fetch_acquisition, fetch_entry_json
from .entry import Acquisition, Entry, parse_entry
from .errors import EntryError, UnreachableError
from .stopping import NEVER, StopToken

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Metadata:
    """An entry and its acquisition."""
    entry: Entry
    acquisition: Acquisition


def load(path: str) -> Metadata:
    """What ``save`` wrote. Raises OSError and ValueError when there is nothing (readable)."""
    return _parse(_read(path))


def obtain(path: str, number: str, addresses: Mapping[str, str], stop: StopToken = NEVER,
           most_seconds: float = float("inf")) -> Metadata:
    """The metadata of entry ``number``: from the file at ``path`` where it holds them, else from the archives.

    ``addresses``: values of the configuration variables. An empty path keeps nothing. EMDB is asked again as long as
    it did not answer, EMPIAR where the file is older than ``most_seconds``; where it cannot be asked then, the file has
    to do.
    Raises EntryError, UnreachableError and Stopped.
    """
    record = _kept(path, number)
    if record and time.time() - os.path.getmtime(path) > most_seconds:
        try:
            record = {"number": number, "entry": fetch_entry_json(addresses[EMPIAR_API_URL], number, stop)}
        except UnreachableError as error:
            logger.warning("%s Going on with the metadata of an earlier call.", error)
    if not record:
        record = {"number": number, "entry": fetch_entry_json(addresses[EMPIAR_API_URL], number, stop)}
    entry = parse_entry(number, record["entry"])
    if not record.get("settled"):
        acquisition, record["settled"] = fetch_acquisition(addresses[EMDB_API_URL], entry, stop)
        record["acquisition"] = dataclasses.asdict(acquisition)
        if path:
            write_whole(path, record)
    return _parse(record)


def write_whole(path: str, content: Any, prepare: Callable[[str], None] = lambda temporary: None) -> None:
    """JSON that readers find whole at any moment; ``prepare`` is called with the file before it gets its name."""
    temporary = path + ".new"
    # Neither a link that somebody has laid under that name nor what an earlier process left is written to.
    with contextlib.suppress(FileNotFoundError):
        os.remove(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with open(descriptor, "w", encoding="utf-8") as stream:
        json.dump(content, stream)
    prepare(temporary)
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
