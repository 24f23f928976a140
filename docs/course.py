# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a page with entries that suit a course, from EMPIAR as it is now: make course."""
import sys

from empiardownloader.archive.stopping import NEVER
from empiardownloader.catalogue.command import open_catalogue
from empiardownloader.catalogue.search import COURSE_BYTES, COURSE_RESOLUTION, SIZE, Query, search
from empiardownloader.constants import addresses
from empiardownloader.units import format_bytes

HEAD = """Entries for a course
====================

Movies of up to %d GB whose size, number and pixel size are known, and a map of %g Å or better to compare with; the
smallest first. Made by ``make course`` from the list of all entries.

.. list-table::
   :header-rows: 1

   * - Entry
     - Title
     - Size
     - Resolution
     - Format
"""
ROW = """   * - `%d <https://www.ebi.ac.uk/empiar/EMPIAR-%d/>`_
     - %s
     - %s
     - %.2f Å
     - %s
"""


def page(store):
    """The page as reStructuredText."""
    found = search(store, Query(course=True, sort=SIZE, limit=30))
    rows = [ROW % (entry.number, entry.number, quoted(entry.title), format_bytes(entry.size_bytes), entry.resolution,
                   "/".join(entry.formats)) for entry in found.entries]
    return HEAD % (COURSE_BYTES // 10 ** 9, COURSE_RESOLUTION) + "".join(rows)


def quoted(text):
    """A title, which may hold what reStructuredText takes for markup."""
    return "".join("\\" + letter if letter in "\\*`|_<>[]" else letter for letter in text[:200])


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as stream:
        stream.write(page(open_catalogue(addresses(), NEVER, refresh=True)))
