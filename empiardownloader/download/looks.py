# SPDX-License-Identifier: GPL-3.0-or-later
"""What a file's header shows: of an image as soon as its first bytes have come, of every file once it is whole.

Beside images lie some that do not belong to them: averages, references, previews beside movies, movies beside
micrographs. Of a file that its name, its size or the others make suspicious, the header is fetched before the pixels.
"""
import hashlib
import os
import re
from bisect import bisect_right
from collections import deque
from typing import Callable, Deque, Dict, List, Optional, Set, Tuple

from ..archive.kinds import MOVIES
from ..archive.names import extension_of, split_compression
from ..archive.selection import RemoteFile
from ..images.header import BadImageError, Header, peek_header
from .request import Request

HASH_BYTES = 1 << 20
# An MRC movie has half a byte a pixel at least.
LEAST_BITS = 4
# What tells a movie from its average: 'x_fractions.mrc' lies beside 'x.mrc'.
LONGER_NAME = re.compile(r"[_.-][^0-9]*[a-z]", re.IGNORECASE)


class Looks:
    """The header checks of one run; ``listed`` is for the calling thread, the rest for the transfer's threads."""

    def __init__(self, request: Request, read_header: Callable[[str], Optional[Header]]):
        self._image_set = request.image_set
        self._kind = request.kind
        # Where a pattern is given, the user has chosen.
        self._single_may_be = bool(request.file_pattern) or request.image_set.frames == 1
        self._read_header = read_header
        self.digests: Dict[str, str] = {}       # of references, by path in the archive
        # Images that have begun to come: remote path, header where it comes first, bytes.
        self.begun: Deque[Tuple[str, Optional[Header], int]] = deque()
        self._odd: Set[str] = set()             # remote paths whose names or sizes are those of no movie
        self._passed: Dict[str, Set[str]] = {}  # names with their digits left out -> remote paths
        self._refused: Dict[str, Set[str]] = {}

    def listed(self, images: List[RemoteFile]) -> None:
        """Files of a folder that are to be fetched."""
        if self._kind != MOVIES or self._single_may_be:
            return
        stems = [os.path.splitext(file.path)[0] for file in images]
        in_order = sorted(stems)
        least = 0
        if self._image_set.width and self._image_set.height and self._image_set.frames:
            least = self._image_set.width * self._image_set.height * self._image_set.frames * LEAST_BITS // 8
        for file, stem in zip(images, stems):
            place = bisect_right(in_order, stem)
            following = in_order[place] if place < len(in_order) else ""
            is_short = file.size is not None and file.size < least and extension_of(file.path) in (".mrc", ".mrcs")
            if is_short or (following.startswith(stem) and LONGER_NAME.match(following[len(stem):])):
                self._odd.add(file.path)

    def is_doubtful(self, path: str) -> bool:
        """Whether a file may well turn out to be none of those wanted."""
        passed, refused = (len(known.get(_shape(path), ())) for known in (self._passed, self._refused))
        return refused > passed or (not passed and path in self._odd)

    def begin(self, path: str, start: bytes, size: int) -> None:
        """The first bytes of a file of so many bytes. Raises BadImageError where the rest is not worth fetching."""
        header = None
        if not self._kind.files_only:
            try:
                header = peek_header(start, size)
                if header is not None:
                    self._refuse_other_kinds(header)
            except BadImageError:
                self._refused.setdefault(_shape(path), set()).add(path)
                raise
        self._passed.setdefault(_shape(path), set()).add(path)
        self.begun.append((path, header, size))

    def image(self, path: str) -> Optional[Header]:
        """A whole image, by its local path. Raises BadImageError."""
        if self._kind.files_only:
            return None
        header = self.header(path)
        if header is not None:
            self._refuse_other_kinds(header)
        return header

    def reference(self, path: str, local: str) -> Optional[Header]:
        """A whole reference, by its path in the archive and here. Raises BadImageError."""
        header = self.header(local)
        digest = hashlib.sha1()
        with open(local, "rb") as stream:
            for block in iter(lambda: stream.read(HASH_BYTES), b""):
                digest.update(block)
        self.digests[path] = digest.hexdigest()
        return header

    def header(self, path: str) -> Optional[Header]:
        """A whole file's; a compressed one that stays so shows its header to nobody."""
        if split_compression(path)[1]:
            return None
        return self._read_header(path)

    def _refuse_other_kinds(self, header: Header) -> None:
        kind, msg = self._kind, ""
        if kind == MOVIES and header.frames == 1 and not self._single_may_be:
            expected = self._image_set.frames
            msg = "it has a single frame%s, so it looks like a reference or an average and not like a movie" % (
                " where the entry says %d" % expected if expected else "")
        elif kind.stacks is False and header.frames > 1:
            msg = "it has %d frames, so it looks like a movie and not like a %s" % (header.frames, kind.one)
        elif kind.stacks and kind != MOVIES and header.frames == 1:
            msg = "it has a single section, so it is an image and no %s" % kind.one
        elif kind.stacks and kind != MOVIES and header.is_image_stack and not header.is_cube:
            # Older programs write the header of a stack for a map: a cube in a set of volumes is one.
            msg = "its header says that it is a stack of %d images and no %s" % (header.frames, kind.one)
        if msg:
            raise BadImageError(msg)


def _shape(path: str) -> str:
    """'data/x_12_fractions.mrc' -> 'data/x_#_fractions.mrc'"""
    return re.sub(r"[0-9]+", "#", path)
