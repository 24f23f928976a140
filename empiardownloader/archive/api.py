# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the REST APIs of EMPIAR, EMDB and EBI Search."""
import csv
import functools
import http.client
import io
import json
import re
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple
from urllib.parse import quote

import requests
import urllib3

from .entry import Acquisition, Entry, parse_acquisition
from .errors import (
    GONE_STATUSES,
    EntryError,
    TransientError,
    UnreachableError,
    may_succeed_later,
    reason,
    retry_after,
    without_password,
)
from .sessions import Session
from .stopping import NEVER, StopToken, within

# Connect and read timeouts in seconds: the API answers within 2 s on a good day, the metadata of
# the largest entries within 20 s.
API_TIMEOUT = (6, 30)
# The same for many entries in one answer.
MANY_SECONDS = 120
# For one question with all its repetitions, whatever the service does in between.
API_SECONDS = 120
# The wait doubles each time, to 19 s in all.
RETRIES, FIRST_WAIT_SECONDS = 6, 0.15
# The metadata of an entry with thousands of image sets are a few megabytes.
API_BYTES = 64 << 20


def fetch_entry_json(api_url: str, number: str, stop: StopToken = NEVER) -> Dict[str, Any]:
    """The metadata of entry ``number`` as EMPIAR's REST API gives it, the part under "EMPIAR-number".

    Raises EntryError for an unknown entry and for an answer that is no entry, UnreachableError when
    the service cannot be asked, Stopped.
    """
    content = ask(Question("%s/%s/" % (api_url.rstrip("/"), number), "EMPIAR", "entry %s" % number), stop)
    record = content.get("EMPIAR-" + number) if isinstance(content, dict) else None
    if not isinstance(record, dict) or not record:
        msg = ("EMPIAR's service at %s answered, but not with the metadata of entry %s: check EMPIAR_API_URL or "
               "try again later." % (without_password(api_url), number))
        raise EntryError(msg)
    return record


def fetch_entries_json(api_url: str, first: int, last: int, stop: StopToken = NEVER) -> Dict[int, Dict[str, Any]]:
    """The metadata of all entries whose numbers are first..last, by number; there may be none.

    One request, which EMPIAR's service answers with many entries at a time; a record may be shorter than that of
    ``fetch_entry_json``. Raises EntryError for an answer that holds no entries, UnreachableError, Stopped.
    """
    subject = "entries %d to %d" % (first, last)
    wanted = "%d-%d" % (first, last) if last > first else str(first)
    content = ask(Question(api_url.rstrip("/") + "/", "EMPIAR", subject, body=wanted.encode("ascii"),
                           seconds=MANY_SECONDS, absent={}), stop)
    if not isinstance(content, dict):
        msg = "EMPIAR's service at %s answered, but not with the metadata of %s: check EMPIAR_API_URL or try again " \
              "later." % (without_password(api_url), subject)
        raise EntryError(msg)
    found = {}
    for name, record in content.items():
        number = re.fullmatch(r"EMPIAR-([0-9]{1,9})", name)
        if number and first <= int(number.group(1)) <= last and isinstance(record, dict) and record:
            found[int(number.group(1))] = record
    return found


def fetch_linked_entries(api_url: str, emdb_id: str, stop: StopToken = NEVER) -> Tuple[str, ...]:
    """Numbers of the entries that name an EMDB record. Raises EntryError where there is none, UnreachableError,
    Stopped."""
    address = _service(api_url) + "/emdb_ref/" + emdb_id
    content = ask(Question(address, "EMPIAR", "an entry that is linked to %s" % emdb_id, absent={}), stop)
    numbers = [name[len("EMPIAR-"):] for name in (content if isinstance(content, dict) else {})
               if re.fullmatch("EMPIAR-[0-9]{1,9}", name)]
    if not numbers:
        msg = "EMPIAR has no entry that is linked to %s: its EMDB page tells where its raw data are." % emdb_id
        raise EntryError(msg)
    return tuple(sorted(numbers, key=int))


def search_emdb(emdb_url: str, query: str, fields: Sequence[str], stop: StopToken = NEVER) -> List[Dict[str, str]]:
    """Rows of EMDB's search, each with ``fields`` as text. Raises EntryError, UnreachableError, Stopped."""
    address = "%s/search/%s?rows=1000000&wt=csv&download=false&fl=%s" % (
        _service(emdb_url), quote(query, safe=""), ",".join(fields))
    rows: List[Dict[str, str]] = ask(Question(
        address, "EMDB", "its records", accept="text/csv", parse=functools.partial(_rows, fields[0]), absent=[],
        seconds=MANY_SECONDS), stop)
    return rows


def search_ebi(search_url: str, query: str, most: int, stop: StopToken = NEVER) -> Tuple[int, ...]:
    """Numbers of entries, the best first, by EBI Search. Raises EntryError, UnreachableError, Stopped."""
    address = "%s?query=%s&size=%d&start=0&format=json&fields=title" % (
        search_url.rstrip("/"), quote(query, safe=""), most)
    content = ask(Question(address, "EBI Search", "entries with %s" % query, absent={}), stop)
    listed = content.get("entries") if isinstance(content, dict) else None
    found = [re.fullmatch(r"(?:EMPIAR-)?([0-9]{1,9})", str(each.get("id")))
             for each in (listed if isinstance(listed, list) else []) if isinstance(each, dict)]
    return tuple(int(number.group(1)) for number in found if number)


def fetch_picture(picture_url: str, number: str, stop: StopToken = NEVER) -> bytes:
    """The picture of an entry as a GIF file, b'' where it has none. Raises EntryError, UnreachableError, Stopped."""
    picture: bytes = ask(Question("%s/%s-l.gif" % (picture_url.rstrip("/"), number), "EMPIAR", "the picture of entry %s"
                                  % number, accept="image/gif", parse=lambda body: body or None, absent=b""), stop)
    return picture


def _service(entry_url: str) -> str:
    """The address of a REST API, from that of its entries."""
    return re.sub("/entry$", "", entry_url.rstrip("/"))


def fetch_acquisition(emdb_url: str, entry: Entry, stop: StopToken = NEVER) -> Tuple[Acquisition, bool]:
    """Acquisition from the first linked EMDB record that can be read, and whether EMDB answered for good.

    Never raises for what EMDB does (Stopped only): the notes say what was missing, and False tells that
    asking again later may give more.
    """
    notes: List[str] = []
    settled = True
    for emdb_id in entry.emdb_ids:
        try:
            record = ask(Question("%s/%s" % (emdb_url.rstrip("/"), emdb_id), "EMDB", emdb_id), stop)
        except (EntryError, UnreachableError) as error:
            settled = settled and isinstance(error, EntryError)
            notes.append(str(error))
            continue
        acquisition = parse_acquisition(emdb_id, record)
        if acquisition is not None:
            return acquisition, True
        notes.append("The EMDB record %s does not describe a microscope." % emdb_id)
    if not entry.emdb_ids:
        notes.append("%s is linked to no EMDB record." % entry.name)
    return Acquisition(notes=tuple(notes)), settled


def _parsed(body: bytes) -> Any:
    """None for what is no JSON, or cut."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _rows(first: str, body: bytes) -> Optional[List[Dict[str, str]]]:
    """The rows of a table with a header line that begins with ``first``; None for another answer, and for a cut one,
    which ends within a line."""
    text = body.decode("utf-8", "replace")
    if not text.lstrip("\ufeff").startswith(first) or not text.endswith("\n"):
        return None
    try:
        return [{name: value or "" for name, value in row.items() if name}
                for row in csv.DictReader(io.StringIO(text.lstrip("\ufeff"), newline=""))]
    except csv.Error:
        return None


@dataclass(frozen=True)
class Question:
    """What a service is asked."""
    url: str
    service: str                        # its name, for sentences
    subject: str                        # what it is asked for, for sentences
    body: Optional[bytes] = None        # of a POST
    accept: str = "application/json"
    parse: Callable[[bytes], Any] = _parsed     # None for what cannot be read, or is cut
    seconds: float = API_TIMEOUT[1]     # without a byte
    absent: Any = None                  # the answer where the service says that there is none (404); None: an error


def ask(question: Question, stop: StopToken = NEVER) -> Any:
    """The answer of a service, tried again after faults that may pass.

    Raises EntryError where the service has no such thing, or answers with something else, UnreachableError when it
    cannot be asked, Stopped.
    """
    service, subject = question.service, question.subject
    deadline, tries, status, body = time.monotonic() + max(API_SECONDS, 2 * question.seconds), 0, 0, b""
    while True:
        wait, why = 0.0, ""
        # A session for each try: whatever broke the one before is gone with it.
        with Session() as session:
            try:
                status, body, wait = within(max(deadline - time.monotonic(), 1), stop,
                                            functools.partial(_ask, session, question), session.abort)
            except TransientError as error:
                why = str(error)
            except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError,
                    ValueError) as error:
                why = reason(error)
        tries += 1
        wait = max(wait, FIRST_WAIT_SECONDS * 2 ** tries)
        content = question.parse(body) if not why and status == 200 else None
        again = why or may_succeed_later(status) or (status == 200 and content is None)
        if not again or tries > RETRIES or time.monotonic() + wait > deadline:
            break
        stop.pause(wait)
    if why:
        msg = "%s could not be asked for %s (%s): check the network, then try again." % (service, subject, why)
        raise UnreachableError(msg)
    if status in GONE_STATUSES and question.absent is not None:
        return question.absent
    if status in GONE_STATUSES:
        msg = "%s has no %s: check the number." % (service, subject)
        raise EntryError(msg)
    if status != 200:
        msg = "%s's service answered with error %d when asked for %s: try again later." % (service, status, subject)
        raise (UnreachableError if may_succeed_later(status) or question.absent is None else EntryError)(msg)
    if content is None:
        msg = "%s's service did not answer with readable metadata (%s) when asked for %s: try again later." % (
            service, question.accept.partition("/")[2].upper(), subject)
        raise EntryError(msg)
    return content


def _ask(session: Session, question: Question) -> Tuple[int, bytes, float]:
    """Status and body of the answer, and the seconds that it asks to wait; a body that is too long to be an entry is
    cut, and no JSON then. Raises ValueError for one that is shorter than the answer says."""
    headers = {"Accept": question.accept, "Content-Type": "application/json"}
    with session.request("GET" if question.body is None else "POST", question.url, data=question.body, stream=True,
                         headers=headers, timeout=(API_TIMEOUT[0], question.seconds)) as response:
        body = bytearray()
        for block in response.iter_content(1 << 16):
            body += block
            if len(body) > API_BYTES:
                break
        promised = response.headers.get("Content-Length", "")
        if promised.isdecimal() and "Content-Encoding" not in response.headers and len(body) < int(promised):
            msg = "connection closed early"
            raise TransientError(msg)
        return response.status_code, bytes(body), retry_after(response.headers.get("Retry-After", ""))
