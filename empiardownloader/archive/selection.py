# SPDX-License-Identifier: GPL-3.0-or-later
"""From an entry's folders: which files are movies, which the gain reference, what each is called locally.

How real entries are laid out, and so what is looked for here, is told in the README's section on finding movies.
"""
import fnmatch
import hashlib
import os
import posixpath
import re
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from .entry import Entry, ImageSet
from .errors import EntryError, NotFoundError
from .remote import Listing

COMPRESSED = (".bz2", ".gz", ".xz")
# Scipion's Movie knows a compressed file by this ending only.
REGISTERED_COMPRESSED = (".bz2",)
FORMAT_EXTENSIONS = {
    "MRC": (".mrc", ".mrcs"), "MRCS": (".mrcs", ".mrc"), "TIFF": (".tif", ".tiff"), "EER": (".eer",),
    "DM3": (".dm3",), "DM4": (".dm4",)}
# What scipion-em's readers open as a stack of frames.
MOVIE_EXTENSIONS = (".mrc", ".mrcs", ".tif", ".tiff", ".eer", ".dm4", ".dm3")
REFERENCE_EXTENSIONS = (".mrc", ".mrcs", ".tif", ".tiff", ".dm4", ".dm3", ".gain")
# Names seen in the archive, the surer ones first.
GAIN_NAMES = ("*gain*", "countref*", "superref*", "*.gain", "*norm*", "*flat*")
DARK_NAMES = ("*dark*",)
# These are also words of everyday names ("normoxia_0001.tif").
WEAK_NAMES = ("*norm*", "*flat*", "*dark*")
# References are few. A name shared by more image files than this, and by more than this share of them, is part of
# the movies' own names and tells nothing apart.
FEW_REFERENCES = 3
REFERENCE_SHARE, WEAK_REFERENCE_SHARE = 0.5, 0.05
# Bytes of a file name: most file systems allow 255, and parts and journals put something in front and behind.
MAX_NAME_BYTES = 200

Lister = Callable[[str], Listing]


@dataclass(frozen=True)
class RemoteFile:
    """A file of the entry."""
    path: str                       # below the entry's folder, parts joined by '/'
    size: Optional[int] = None      # bytes as the listing says; over HTTPS rounded


def is_safe(name: str) -> bool:
    """Whether a name from the server may become part of a local path."""
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        return False
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:      # bytes that are no UTF-8 arrive as surrogates
        return False
    return all(character.isprintable() for character in name)


def split_compression(name: str) -> Tuple[str, str]:
    """'a.tiff.bz2' -> ('a.tiff', '.bz2'), 'a.mrc' -> ('a.mrc', '')"""
    for extension in COMPRESSED:
        if name.lower().endswith(extension) and len(name) > len(extension):
            return name[:-len(extension)], name[-len(extension):].lower()
    return name, ""


def extension_of(name: str) -> str:
    """'a.TIFF.bz2' -> '.tiff'"""
    return os.path.splitext(split_compression(name)[0])[1].lower()


def is_reference(name: str, patterns: Sequence[str]) -> bool:
    base = split_compression(name)[0].lower()
    return extension_of(name) in REFERENCE_EXTENSIONS and any(fnmatch.fnmatchcase(base, p) for p in patterns)


def matches(path: str, pattern: str) -> bool:
    """Whether ``path`` ends as ``pattern`` says, part by part: 'data/a/x_1.mrc' matches 'x_*.mrc' and 'a/*.mrc'.

    Depositors write their patterns from the entry's root, from the image set's folder, or for the name alone.
    """
    wanted = [part for part in pattern.strip().split("/") if part not in ("", ".")]
    parts = path.split("/")
    if not wanted or len(wanted) > len(parts):
        return False
    return all(fnmatch.fnmatchcase(part, glob) for part, glob in zip(parts[-len(wanted):], wanted))


def local_name(path_below: str) -> str:
    """'Grid 1/a b.mrc' -> 'Grid_1_a_b.mrc'

    ':' and '@' are replaced too: Scipion reads them as separators between index, file and format.
    """
    name = re.sub(r"[\s:@]", "_", "_".join(path_below.split("/")))
    if len(name.encode("utf-8")) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha1(path_below.encode("utf-8")).hexdigest()[:10]
    tail = name.encode("utf-8")[-(MAX_NAME_BYTES - 11):].decode("utf-8", "ignore")
    return "%s_%s" % (digest, tail)


def join(folder: str, name: str) -> str:
    """('', 'data') -> 'data', ('data', 'a') -> 'data/a'"""
    return "%s/%s" % (folder, name) if folder else name


def ancestors(folder: str) -> List[str]:
    """'data/Movies' -> ['data/Movies', 'data', '']"""
    parts = folder.split("/") if folder else []
    return ["/".join(parts[:n]) for n in range(len(parts), -1, -1)]


class LocalNames:
    """Gives every remote path a local name of its own, the same ones in the same order."""

    def __init__(self) -> None:
        self._paths: Dict[str, str] = {}

    def name(self, path: str, path_below: str) -> str:
        """The local name of ``path``, ``path_below`` being the part below the image set's folder."""
        wanted = local_name(path_below)
        stem, extension = os.path.splitext(wanted)
        number = 1
        # Lower case: two names that differ by case alone are one file on a Mac's disk.
        while self._paths.setdefault(wanted.lower(), path) != path:
            number += 1
            wanted = "%s_%d%s" % (stem, number, extension)
        return wanted


class MovieFinder:
    """Finds the movies and references of an image set, listing no folder before it is needed and none twice."""

    def __init__(self, entry: Entry, image_set: ImageSet, lister: Lister, file_pattern: str = ""):
        """``lister`` gives the listing of a folder of the entry or raises NotFoundError."""
        self._entry = entry
        self._image_set = image_set
        self._lister = lister
        self._user_pattern = file_pattern.strip()
        self._listings: Dict[str, Optional[Listing]] = {}
        self.folder: Optional[str] = None       # known with the first movie
        self.refused: List[str] = []            # names that must not become local ones
        self.notes: List[str] = []

    def movies(self) -> Iterator[RemoteFile]:
        """The movies: folder by folder, the files of a folder before its subfolders, each in the order of names.

        Raises EntryError when there is none.
        """
        looked_in: List[str] = []
        for accepts, note in self._rules():
            for folder in self._folders():
                looked_in.append(folder or "the entry's folder")
                for movie in self._walk(folder, accepts):
                    if self.folder is None:
                        self.folder = folder
                        if note:
                            self.notes.append(note)
                    yield movie
                if self.folder is not None:
                    return
        places = ", ".join(dict.fromkeys(looked_in)) or self._image_set.directory or "its data folder"
        if self._user_pattern:
            msg = 'No file of %s in %s matches the pattern "%s": change it, or leave it empty.' % (
                self._entry.name, places, self._user_pattern)
        else:
            msg = "No movie of %s found in %s: look at %s and say a file pattern." % (
                self._entry.name, places, self._entry.page)
        raise EntryError(msg)

    def listing(self, folder: str) -> Optional[Listing]:
        """The safe names of a folder, None where there is no such folder; asked from the server once."""
        if folder not in self._listings:
            try:
                listing = self._lister(folder)
            except NotFoundError:
                self._listings[folder] = None
            else:
                self._listings[folder] = self._without_unsafe(folder, listing)
        return self._listings[folder]

    def known_movies(self) -> List[RemoteFile]:
        """The files listed so far that look like movies and tell their size; for an estimate of the space needed."""
        if self.folder is None:
            return []
        below = join(self.folder, "")
        return [RemoteFile(join(folder, name), size)
                for folder, listing in self._listings.items() if listing and (folder + "/").startswith(below)
                for name, size in listing.files if size and extension_of(name) in MOVIE_EXTENSIONS]

    def forget(self) -> None:
        """Ask the server again for every folder."""
        self._listings.clear()

    def gain_candidates(self, first_movie: str, pattern: str = "") -> List[RemoteFile]:
        """Files that may be the gain reference, the likeliest first: nearest to the movies, surest name."""
        return self._references(first_movie, GAIN_NAMES, pattern)

    def dark_candidates(self, first_movie: str) -> List[RemoteFile]:
        return self._references(first_movie, DARK_NAMES, "")

    def _rules(self) -> Iterator[Tuple[Callable[[str], bool], str]]:
        """How a movie is told by its path, the strictest way first; a looser one only where that finds nothing."""
        if self._user_pattern:
            yield (lambda path: matches(path, self._user_pattern) and extension_of(path) in MOVIE_EXTENSIONS), ""
            return
        of_format = FORMAT_EXTENSIONS.get(self._image_set.data_format.upper(), MOVIE_EXTENSIONS)
        given = self._image_set.file_pattern
        note = ""
        if given:
            yield (lambda path: matches(path, given) and extension_of(path) in MOVIE_EXTENSIONS), ""
            note = 'The file pattern that the entry gives, "%s", matches nothing: movies were taken by their ' \
                   'extension.' % given
        yield (lambda path: extension_of(path) in of_format), note
        if of_format != MOVIE_EXTENSIONS:
            yield (lambda path: extension_of(path) in MOVIE_EXTENSIONS), \
                "The entry says %s, the movies found are of another format." % self._image_set.data_format

    def _folders(self) -> Iterator[str]:
        """Where the image set's folder may be, given the ways depositors write it; only folders that exist."""
        parts = [part for part in self._image_set.directory.split("/") if part not in ("", ".")]
        given = "/".join(parts)
        guesses = [given, join("data", given), join("data/data", given)]
        if parts[:2] == ["data", "data"]:
            guesses.append("/".join(parts[1:]))
        if not given:
            guesses = ["data", ""]
        tried = set()
        for guess in guesses:
            if guess not in tried and self.listing(guess) is not None:
                yield guess
            tried.add(guess)
        # One folder deeper than the metadata says.
        below = "/".join(parts[1:]) if parts[:1] == ["data"] else given
        data = self.listing("data")
        for name in (data.folders if data and below else ()):
            guess = "data/%s/%s" % (name, below)
            if guess not in tried and self.listing(guess) is not None:
                yield guess

    def _walk(self, folder: str, accepts: Callable[[str], bool]) -> Iterator[RemoteFile]:
        # A stack, not recursion: the depth of a folder tree is the server's to choose.
        stack = [folder]
        while stack:
            current = stack.pop()
            listing = self.listing(current)
            if listing is None:
                continue
            references = self._reference_names(listing)
            for name, size in listing.files:
                path = join(current, name)
                if name not in references and accepts(path):
                    yield RemoteFile(path, size)
            stack.extend(join(current, name) for name in reversed(listing.folders))

    def _reference_names(self, listing: Listing) -> "set[str]":
        """The gain and dark references among a folder's files."""
        images = [name for name, _ in listing.files if extension_of(name) in REFERENCE_EXTENSIONS + MOVIE_EXTENSIONS]
        found = set()
        for pattern in GAIN_NAMES + DARK_NAMES:
            named = [name for name in images if is_reference(name, (pattern,))]
            weak = pattern in WEAK_NAMES
            few = len(named) <= FEW_REFERENCES and not (weak and 1 < len(named) == len(images))
            if few or len(named) <= len(images) * (WEAK_REFERENCE_SHARE if weak else REFERENCE_SHARE):
                found.update(named)
        return found

    def _references(self, first_movie: str, names: Sequence[str], pattern: str) -> List[RemoteFile]:
        folders = ancestors(posixpath.dirname(first_movie))
        explicit = posixpath.dirname(pattern.strip().strip("/"))
        if explicit and not any(character in explicit for character in "*?["):
            folders = [explicit, join("data", explicit)] + folders
        found: Dict[str, RemoteFile] = {}
        for folder in folders:
            listing = self.listing(folder)
            if listing is None:
                continue
            common = self._reference_names(listing)
            ranked: List[Tuple[int, str, Optional[int]]] = []
            for name, size in listing.files:
                if pattern:
                    if matches(join(folder, name), pattern) and extension_of(name) in REFERENCE_EXTENSIONS:
                        ranked.append((0, name, size))
                elif name in common and is_reference(name, names):
                    ranked.append((next(n for n, p in enumerate(names) if is_reference(name, (p,))), name, size))
            for _, name, size in sorted(ranked, key=lambda item: item[:2]):
                path = join(folder, name)
                found.setdefault(path, RemoteFile(path, size))
        return list(found.values())

    def _without_unsafe(self, folder: str, listing: Listing) -> Listing:
        names = list(listing.folders) + [name for name, _ in listing.files]
        self.refused.extend(ascii(join(folder, name)) for name in names if not is_safe(name))
        return Listing(tuple(name for name in listing.folders if is_safe(name)),
                       tuple(item for item in listing.files if is_safe(item[0])))
