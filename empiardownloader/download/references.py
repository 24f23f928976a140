# SPDX-License-Identifier: GPL-3.0-or-later
"""Which gain (or dark) reference belongs to which movies.

The references of a movie are those nearest to it: in its own folder, else in the folders above. Movies with the same
likeliest candidate share a search; its ``key`` is the path of that candidate. A candidate has to be a single image as
large as a frame of the movies, so a search has a verdict for each size of movies.
"""
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from ..archive.selection import RemoteFile
from ..images.header import Header
from ..transfer.jobs import Outcome

Size = Optional[Tuple[int, int]]        # pixels (width, height) of a frame, None where it cannot be known


@dataclass(frozen=True)
class Verdict:
    """What is known of a search for movies of one size."""
    settled: bool                       # nothing more is to be fetched
    file: Optional[RemoteFile] = None   # the reference, or, while not settled, the candidate to fetch next
    notes: Tuple[str, ...] = ()
    failed: bool = False                # whether a likelier candidate could not be had, and may be the next time


class Search:
    """The search for the references of one kind for movies that share their candidates."""

    def __init__(self, kind: str, candidates: List[RemoteFile]):
        self.kind = kind
        self.candidates = candidates

    @property
    def key(self) -> str:
        return self.candidates[0].path if self.candidates else ""

    def verdict(self, size: Size, outcomes: Dict[str, Outcome]) -> Verdict:
        """Which candidate fits movies of a size, by what became of those fetched so far (path -> outcome)."""
        notes, failed = [], False
        for file in self.candidates:
            outcome = outcomes.get(file.path)
            if outcome is None:
                return Verdict(False, file)
            complaint = outcome.error or _misfit(outcome.header, size)
            if not complaint:
                return Verdict(True, file, tuple(notes), failed)
            failed = failed or bool(outcome.error)
            notes.append("%s could not be used as %s reference: %s." % (file.path, self.kind, complaint))
        return Verdict(True, None, tuple(notes), failed)


def _misfit(header: Optional[Header], size: Size) -> str:
    if header is None:
        return ""
    if header.frames != 1:
        return "it has %d frames" % header.frames
    if size is not None and not header.fits(Header(*size, 1)):
        return "it is %d x %d, which does not fit the movies (%d x %d)" % (header.width, header.height, *size)
    return ""
