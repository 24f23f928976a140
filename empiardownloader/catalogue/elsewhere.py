# SPDX-License-Identifier: GPL-3.0-or-later
"""What EBI Search knows of words that no entry has here: it reads more of an entry than this machine's list."""
from typing import Mapping

from ..archive.api import search_ebi
from ..archive.stopping import NEVER, StopToken
from ..constants import EBI_SEARCH_URL
from .search import Found, Query, fitting
from .store import Store


def by_ebi_search(store: Store, query: Query, found: Found, addresses: Mapping[str, str],
                  stop: StopToken = NEVER) -> Found:
    """``found``, which is nothing, where EBI Search has nothing either that the query's options allow.

    Raises ArchiveError, Stopped.
    """
    numbers = search_ebi(addresses[EBI_SEARCH_URL], query.words, query.limit, stop)
    allowed = fitting(store, query)
    entries = store.facts(number for number in numbers if number in allowed)
    if not entries:
        return found
    return Found(entries, len(entries), "%s These are by EBI Search." % found.why)
