# SPDX-License-Identifier: GPL-3.0-or-later
"""How an entry is cited: the data themselves, its papers, its maps, and the archive."""
from typing import Iterable, List

from .entry import Entry

ARCHIVE = ("Iudin A, Korir PK, Somasundharam S, et al. EMPIAR: the Electron Microscopy Public Image Archive. Nucleic "
           "Acids Research (2023). https://doi.org/10.1093/nar/gkac1062")
# As the archive's policies say, https://empiar.org/policies.
LICENCE = "The data are free to use (CC0, https://empiar.org/policies)."


def how_to_cite(entry: Entry, emdb_ids: Iterable[str] = ()) -> List[str]:
    """Lines to copy; ``emdb_ids``: of maps that only others link to the entry."""
    year = entry.release_date[:4] if entry.release_date[:4].isdecimal() else ""
    authors = ", ".join(entry.authors)
    maps = dict.fromkeys([*entry.emdb_ids, *emdb_ids])
    lines = ["%s%s. %s%s. https://doi.org/%s" % (
        authors + ". " if authors else "", entry.title.rstrip(".") or "Untitled", entry.name,
        " (%s)" % year if year else "", entry.doi)]
    lines += entry.papers
    if maps:
        lines.append("Maps: " + ", ".join("%s (https://www.ebi.ac.uk/emdb/%s)" % (each, each) for each in maps))
    return [*lines, ARCHIVE, LICENCE]
