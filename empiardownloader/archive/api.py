# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the REST APIs of EMPIAR and EMDB."""
import json
import threading
from typing import Any, Dict, List, Tuple

import requests
from urllib3.util.retry import Retry

from .entry import Acquisition, Entry, parse_acquisition
from .errors import EntryError, StoppedError, TransientError, UnreachableError, reason, without_password
from .sessions import NEVER, Session, within

# Connect and read timeouts in seconds: the API answers within 2 s on a good day, the metadata of
# the largest entries within 20 s.
API_TIMEOUT = (6, 30)
# For one question with all its repetitions, whatever the service does in between.
API_SECONDS = 120
RETRIES = 4
# The metadata of an entry with thousands of image sets are a few megabytes.
API_BYTES = 64 << 20


def fetch_entry_json(api_url: str, number: str, stopped: threading.Event = NEVER) -> Dict[str, Any]:
    """The metadata of entry ``number`` as EMPIAR's REST API gives it, the part under "EMPIAR-number".

    Raises EntryError for an unknown entry and for an answer that is no entry, UnreachableError when
    the service cannot be asked, StoppedError.
    """
    content = _get_json("%s/%s/" % (api_url.rstrip("/"), number), "EMPIAR", "entry %s" % number, stopped)
    record = content.get("EMPIAR-" + number) if isinstance(content, dict) else None
    if not isinstance(record, dict) or not record:
        msg = ("EMPIAR's service at %s answered, but not with the metadata of entry %s: check EMPIAR_API_URL or "
               "try again later." % (without_password(api_url), number))
        raise EntryError(msg)
    return record


def fetch_acquisition(emdb_url: str, entry: Entry, stopped: threading.Event = NEVER) -> Tuple[Acquisition, bool]:
    """Acquisition from the first linked EMDB record that can be read, and whether EMDB answered for good.

    Never raises for what EMDB does (StoppedError only): the notes say what was missing, and False tells that
    asking again later may give more.
    """
    notes: List[str] = []
    settled = True
    for emdb_id in entry.emdb_ids:
        try:
            record = _get_json("%s/%s" % (emdb_url.rstrip("/"), emdb_id), "EMDB", emdb_id, stopped)
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


def _get_json(url: str, service: str, subject: str, stopped: threading.Event) -> Any:
    retry = Retry(total=RETRIES, connect=2, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504),
                  respect_retry_after_header=False, raise_on_status=False)
    with Session(retry) as session:
        try:
            status, body = within(API_SECONDS, stopped, lambda: _ask(session, url), session.abort)
        except StoppedError:
            raise
        except (requests.RequestException, TransientError) as error:
            why = str(error) if isinstance(error, TransientError) else reason(error)
            msg = "%s could not be asked for %s (%s): check the network, then try again." % (service, subject, why)
            raise UnreachableError(msg) from error
    if status == 404:
        msg = "%s has no %s: check the number." % (service, subject)
        raise EntryError(msg)
    if status != 200:
        msg = "%s's service answered with error %d when asked for %s: try again later." % (service, status, subject)
        raise UnreachableError(msg)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        msg = "%s's service did not answer with readable metadata (JSON) when asked for %s: try again later." % (
            service, subject)
        raise EntryError(msg) from error


def _ask(session: Session, url: str) -> Tuple[int, bytes]:
    """Status and body of the answer; a body that is too long to be an entry is cut, and no JSON then."""
    with session.get(url, timeout=API_TIMEOUT, headers={"Accept": "application/json"}, stream=True) as response:
        body = bytearray()
        for block in response.iter_content(1 << 16):
            body += block
            if len(body) > API_BYTES:
                break
        return response.status_code, bytes(body)
