# SPDX-License-Identifier: GPL-3.0-or-later
"""What the outputs of a run are made from."""
from typing import NamedTuple

from ..archive.entry import ImageSet
from ..archive.metadata import Metadata
from ..download.record.facts import Facts


class Context(NamedTuple):
    """It does not change: a step works with what was known when it began."""
    found: Metadata             # what the archives say
    facts: Facts                # what the record says
    imageSet: ImageSet          # the one that the form names
