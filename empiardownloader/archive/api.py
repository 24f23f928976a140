# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the REST APIs of EMPIAR and EMDB."""
import functools
import http.client
import json
import time
from typing import Any, Dict, List, Tuple

import requests
import urllib3

from .entry import Acquisition, Entry, parse_acquisition
from .errors import (
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
    content = _get_json("%s/%s/" % (api_url.rstrip("/"), number), "EMPIAR", "entry %s" % number, stop)
    record = content.get("EMPIAR-" + number) if isinstance(content, dict) else None
    if not isinstance(record, dict) or not record:
        msg = ("EMPIAR's service at %s answered, but not with the metadata of entry %s: check EMPIAR_API_URL or "
               "try again later." % (without_password(api_url), number))
        raise EntryError(msg)
    return record


def fetch_acquisition(emdb_url: str, entry: Entry, stop: StopToken = NEVER) -> Tuple[Acquisition, bool]:
    """Acquisition from the first linked EMDB record that can be read, and whether EMDB answered for good.

    Never raises for what EMDB does (Stopped only): the notes say what was missing, and False tells that
    asking again later may give more.
    """
    notes: List[str] = []
    settled = True
    for emdb_id in entry.emdb_ids:
        try:
            record = _get_json("%s/%s" % (emdb_url.rstrip("/"), emdb_id), "EMDB", emdb_id, stop)
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


def _get_json(url: str, service: str, subject: str, stop: StopToken) -> Any:
    deadline, tries, status, body = time.monotonic() + API_SECONDS, 0, 0, b""
    while True:
        wait, why = 0.0, ""
        # A session for each try: whatever broke the one before is gone with it.
        with Session() as session:
            ask = functools.partial(_ask, session, url)
            try:
                status, body, wait = within(max(deadline - time.monotonic(), 1), stop, ask, session.abort)
            except TransientError as error:
                why = str(error)
            except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError,
                    ValueError) as error:
                why = reason(error)
        tries += 1
        wait = max(wait, FIRST_WAIT_SECONDS * 2 ** tries)
        content = _parsed(body) if not why and status == 200 else None
        again = why or may_succeed_later(status) or (status == 200 and content is None)
        if not again or tries > RETRIES or time.monotonic() + wait > deadline:
            break
        stop.pause(wait)
    if why:
        msg = "%s could not be asked for %s (%s): check the network, then try again." % (service, subject, why)
        raise UnreachableError(msg)
    if status == 404:
        msg = "%s has no %s: check the number." % (service, subject)
        raise EntryError(msg)
    if status != 200:
        msg = "%s's service answered with error %d when asked for %s: try again later." % (service, status, subject)
        raise UnreachableError(msg)
    if content is None:
        msg = "%s's service did not answer with readable metadata (JSON) when asked for %s: try again later." % (
            service, subject)
        raise EntryError(msg)
    return content


def _parsed(body: bytes) -> Any:
    """None for what is no JSON, or cut."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _ask(session: Session, url: str) -> Tuple[int, bytes, float]:
    """Status and body of the answer, and the seconds that it asks to wait; a body that is too long to be an entry is
    cut, and no JSON then. Raises ValueError for one that is shorter than the answer says."""
    with session.get(url, timeout=API_TIMEOUT, headers={"Accept": "application/json"}, stream=True) as response:
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
