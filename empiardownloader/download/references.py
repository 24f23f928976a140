# SPDX-License-Identifier: GPL-3.0-or-later
"""Which gain (or dark) reference belongs to which movies.

The references of a movie are those nearest to it: in its own folder, else in the folders above. Movies with the same
likeliest candidate share a search; its ``key`` is the path of that candidate. A candidate has to be a single image as
large as a frame of the movies, so a search has a verdict for each size of movies.
"""
import functools
import logging
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from ..archive.selection import DARK, GAIN, RemoteFile
from ..images.header import Header
from ..transfer.jobs import Job, Outcome
from .files import Collector, Files
from .looks import Looks
from .record.events import Began, Event, FileArrived, Keys, NoteMade, ReferenceChosen, Size
from .record.facts import Facts, ReferenceKey
from .request import Request

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What is known of a search for movies of one size."""
    settled: bool                       # nothing more is to be fetched
    file: Optional[RemoteFile] = None   # the reference, or, while not settled, the candidate to fetch next
    notes: Tuple[str, ...] = ()
    failed: bool = False                # whether a likelier candidate could not be had, and may be the next time
    turned: bool = False                # whether it is as large as the movies only when turned by 90 degrees


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
        notes: List[str] = []
        failed, turned = False, None
        for file in self.candidates:
            outcome = outcomes.get(file.path)
            if outcome is None:
                return Verdict(False, file)
            complaint = outcome.error or _misfit(outcome.header, size)
            if not complaint and size is not None and outcome.header is not None \
                    and outcome.header.fits_turned_only(Header(*size, 1)):
                turned = turned or file     # the last resort: another one may fit as it is
                continue
            if not complaint:
                return Verdict(True, file, tuple(notes), failed)
            failed = failed or bool(outcome.error)
            notes.append("%s could not be used as %s reference: %s." % (file.path, self.kind, complaint))
        if turned is not None:
            notes.append("%s is as large as the movies only when turned by 90 degrees, so it may have to be rotated or "
                         "flipped: set that in motion correction, and check its averages." % turned.path)
        return Verdict(True, turned, tuple(notes), failed, turned is not None)


class References(Collector):
    """The searches of one run; what they find goes to the record."""

    def __init__(self, request: Request, facts: Facts, note: Callable[[Event], None], files: Files, looks: Looks):
        """``note`` writes an event."""
        self._request, self._facts, self._note, self._files, self._looks = request, facts, note, files, looks
        self._searches: Dict[Tuple[str, Optional[str]], Search] = {}    # (kind, key) -> search
        self._open: Dict[ReferenceKey, Search] = {}      # those without a verdict for a size of movies
        self._fetched: Dict[str, Outcome] = {}                  # candidates, by remote path
        self._keys_of_folder: Dict[str, Keys] = {}

    def begin(self, candidates: Dict[str, List[RemoteFile]], images: Sequence[RemoteFile]) -> Keys:
        """The keys of the searches for the references of images with these candidates, the likeliest first."""
        keys = self._begin(candidates)
        self._keys_of_folder.update((image.folder, keys) for image in images)
        return keys

    def keys_near(self, folder: str) -> Optional[Keys]:
        """The keys of the images in a folder, else of some images; None where there are none."""
        return self._keys_of_folder.get(folder) or next(iter(self._keys_of_folder.values()), None)

    def _begin(self, candidates: Dict[str, List[RemoteFile]]) -> Keys:
        if not self._request.wants_gain:
            return {GAIN: None, DARK: None}
        keys: Keys = {}
        for kind, files in candidates.items():
            search = Search(kind, files)
            self._searches.setdefault((kind, search.key), search)
            keys[kind] = search.key
        # The likeliest candidate is fetched before the first movie tells a size.
        for kind, key in keys.items():
            known = any(k == kind and its_key == key for k, its_key, _ in [*self._open, *self._facts.references])
            if not known:
                self._open[ReferenceKey(kind, key, None)] = self._searches[(kind, key)]
        return keys

    def next_job(self) -> Optional[Job]:
        """The next candidate to fetch, None where none is to be fetched now."""
        for (_, _, size), search in self._open.items():
            verdict = search.verdict(size, self._fetched)
            if verdict.settled or verdict.file is None or self._files.is_under_way(verdict.file):
                continue
            file = verdict.file
            job = self._files.job(self, file, self._files.other_name(file), self._request.unpacks, urgent=True,
                                  check=functools.partial(self._looks.reference, file.path))
            if job is not None:
                return job
            self._fetched[file.path] = Outcome(Job(file.path, ""), error="another file has its place on the disk")
        return None

    def take(self, file: RemoteFile, name: str, outcome: Outcome) -> None:
        self._fetched[file.path] = outcome
        if not outcome.error:
            self._note(FileArrived(name, file.path))

    def want(self, keys: Keys, size: Size) -> None:
        """There are movies of a size now, which want a verdict."""
        for kind, key in keys.items():
            if key is None:
                continue
            self._open.pop(ReferenceKey(kind, key, None), None)
            wanted = ReferenceKey(kind, key, size)
            if wanted not in self._facts.references:
                self._open[wanted] = self._searches[(kind, key)]

    def settle(self, last: bool = False) -> None:
        """Write down what has been found by now."""
        for (kind, key, size), search in list(self._open.items()):
            verdict = search.verdict(size, self._fetched)
            # Without a size there is no movie yet, unless the movies do not show theirs.
            if not verdict.settled or (size is None and not (last or self._shows_no_size(kind, key))):
                continue
            del self._open[ReferenceKey(kind, key, size)]
            for text in verdict.notes:
                self._note(NoteMade(text))
            if kind == GAIN and not search.candidates and self._request.gain_pattern:
                self._note(NoteMade('No file of %s matches the gain file pattern "%s": change it, or leave it empty.'
                                    % (self._request.entry.name, self._request.gain_pattern)))
            file = verdict.file
            self._note(ReferenceChosen(
                kind, self._files.other_name(file) if file else "", file.path if file else "", key, size,
                others=tuple(candidate.path for candidate in search.candidates if candidate != file),
                failed=verdict.failed, turned=verdict.turned, pattern=self._request.gain_pattern,
                digest=self._looks.digests.get(file.path, "") if file else ""))
            if file:
                logger.info("%s reference used for the movies nearest to %s: %s.", kind.capitalize(), key, file.path)

    def _shows_no_size(self, kind: str, key: Optional[str]) -> bool:
        return any(movie.keys.get(kind) == key and movie.size is None for movie in self._facts.images.values())


def pattern_of(reference: ReferenceChosen, begin: Optional[Began]) -> str:
    """The gain pattern that a reference was searched with; version 1.0.0 wrote it down for the whole run only."""
    if reference.pattern is not None:
        return reference.pattern
    return begin.gain_pattern if begin else ""


def _misfit(header: Optional[Header], size: Size) -> str:
    if header is None:
        return ""
    if header.frames != 1:
        return "it has %d frames" % header.frames
    if size is not None and not header.fits(Header(*size, 1)):
        return "it is %d x %d, which does not fit the movies (%d x %d)" % (header.width, header.height, *size)
    return ""
