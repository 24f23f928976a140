# SPDX-License-Identifier: GPL-3.0-or-later
"""An EMDB or PDB code in place of an entry's number: which entry it belongs to."""
import logging
import re
from typing import List, Mapping

from ..archive.entry import parse_entry_id
from ..archive.errors import DiskError, EntryError
from ..archive.names import emdb_name
from ..archive.stopping import NEVER, StopToken
from ..constants import EMDB_API_URL, EMPIAR_API_URL
from .facts import EMDB_ID
from .store import kept

logger = logging.getLogger(__name__)

# A digit first, and a letter in it: other texts of four letters are no PDB ids, and numbers are EMPIAR's. Ids of twelve
# letters are what the PDB goes over to.
PDB_CODE = r"(?:PDB[-_: ]?(?:0000)?)?([0-9](?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{3})"
# Pages of an EMDB map or a PDB model, at their archives.
PAGE = r"https?://\S*(?:/emdb/(?:entry/)?|/structure/|/pdb/|/pdbe/entry/(?:pdb|emdb)/)([\w-]+)/?\S*"


def is_code(text: str) -> bool:
    """Whether it is an EMDB or PDB code, or the address of its page."""
    return bool(_code(text))


def _code(text: str) -> str:
    """'emd_339' -> 'EMD-0339', 'pdb_00005a1a' or its page -> '5A1A'; '' for what is no code"""
    text = (text or "").strip()
    page = re.fullmatch(PAGE, text, re.IGNORECASE)
    text = page.group(1) if page else text
    emdb_id, pdb_id = (re.fullmatch(pattern, text, re.IGNORECASE) for pattern in (EMDB_ID, PDB_CODE))
    if emdb_id:
        return emdb_name(emdb_id.group(1))
    return pdb_id.group(1).upper() if pdb_id else ""


def entry_number(text: str, addresses: Mapping[str, str], stop: StopToken = NEVER) -> str:
    """'EMPIAR-10061', '10061', the address of its page, 'EMD-2984' or '5a1a' -> '10061'

    The list of entries on this machine is asked first, where there is one, then EMPIAR and EMDB. Raises EntryError for
    what is no code, belongs to no entry, or to several, UnreachableError, Stopped.
    """
    code = _code(text)
    if not code:
        return parse_entry_id(text)
    numbers = _known(code, addresses) or _asked(code, addresses, stop)
    if len(numbers) > 1:
        msg = "%s belongs to several entries, EMPIAR-%s: choose one of them." % (
            code, " and EMPIAR-".join(numbers[:5]))
        raise EntryError(msg)
    return numbers[0]


def _known(code: str, addresses: Mapping[str, str]) -> List[str]:
    try:
        with kept(addresses) as store:
            return [str(number) for number in sorted(store.with_code(code))] if store else []
    except DiskError as error:
        logger.info("%s", error)
        return []       # the archives know it


def _asked(code: str, addresses: Mapping[str, str], stop: StopToken) -> List[str]:
    # Here, so that a number can be told without the library that connections need.
    from ..archive.api import fetch_linked_entries, search_emdb
    emdb_ids = [code]
    if not code.startswith("EMD-"):
        rows = search_emdb(addresses[EMDB_API_URL], "fitted_pdbs:" + code.lower(), ("emdb_id", "fitted_pdbs"), stop)
        emdb_ids = [row["emdb_id"] for row in rows if code in row.get("fitted_pdbs", "").upper()]
        if not emdb_ids:
            msg = "EMDB has no map that the PDB model %s belongs to: search by its name (empiar search)." % code
            raise EntryError(msg)
    numbers: List[str] = []
    problem = None
    for emdb_id in emdb_ids:
        try:
            numbers += fetch_linked_entries(addresses[EMPIAR_API_URL], emdb_id, stop)
        except EntryError as error:
            problem = error
    if not numbers and problem is not None:
        raise problem
    return list(dict.fromkeys(numbers))
