# SPDX-License-Identifier: GPL-3.0-or-later
"""Names: which may come near the disk, what their endings and patterns say, what a file is called locally."""
import fnmatch
import functools
import hashlib
import os
import re
from typing import Callable, Dict, FrozenSet, Iterable, List, Optional, Sequence, Tuple

COMPRESSED = (".bz2", ".gz", ".xz")
# Files that hold other files: nothing that a run could register, but worth naming where images are missing.
BUNDLES = (".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".zip", ".7z", ".rar", ".tar.gz", ".tar.bz2", ".tar.xz")
# What scipion-em's readers open as an image or a stack of them.
IMAGE_EXTENSIONS = (".mrc", ".mrcs", ".tif", ".tiff", ".eer", ".dm4", ".dm3")
REFERENCE_EXTENSIONS = (".mrc", ".mrcs", ".tif", ".tiff", ".dm4", ".dm3", ".gain")
# Patterns of names that are also parts of everyday words ('normoxia', 'deflate'), and the words that are meant.
WORDS = {"*norm*": "norm", "*flat*": "flat", "*dark*": "dark"}
WORD_ENDINGS = ("field", "ref", "reference", "frame", "image")
# What makes a pattern of a name, and what stands between several of a user's patterns.
WILD, BAR = re.compile(r"[*?\[]"), "|"
# In brackets these stand for themselves: '[|]'. So do blanks at the ends of a name.
LITERAL, SPECIAL, BARS = re.compile(r"\[[*?\[| ]\]"), re.compile(r"[*?\[|]|^ | $"), re.compile(r"(?<!\[)\||\|(?!\])")
# Bytes of a local name: most file systems allow 255, and parts and journals put something in front and behind.
MAX_NAME_BYTES = 200


def page_of(number: object) -> str:
    """The address of an entry's page."""
    return "https://www.ebi.ac.uk/empiar/EMPIAR-%s/" % number


def emdb_name(digits: str) -> str:
    """'339' -> 'EMD-0339'"""
    return "EMD-" + digits.zfill(4)


def is_safe(name: str) -> bool:
    """Whether a name from the server or the metadata may become part of a local or a remote path."""
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        return False
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:      # bytes that are no UTF-8 arrive as surrogates
        return False
    return all(character.isprintable() for character in name)


def is_hidden(name: str) -> bool:
    """Whether a name is none of the depositor's data: '.part.a.mrc', '.DS_Store'.

    A folder that another run fills has parts of full size, with valid headers and holes in them.
    """
    return name.startswith(".")


def split_path(path: str) -> List[str]:
    """'/data//a/./b/' -> ['data', 'a', 'b']"""
    return [part for part in path.split("/") if part not in ("", ".")]


def join(folder: str, name: str) -> str:
    """('', 'data') -> 'data', ('data', 'a') -> 'data/a'"""
    return "%s/%s" % (folder, name) if folder and name else folder or name


def ancestors(folder: str) -> List[str]:
    """'data/Movies' -> ['data/Movies', 'data', '']"""
    parts = folder.split("/") if folder else []
    return ["/".join(parts[:n]) for n in range(len(parts), -1, -1)]


def split_compression(name: str) -> Tuple[str, str]:
    """'a.tiff.bz2' -> ('a.tiff', '.bz2'), 'a.mrc' -> ('a.mrc', '')"""
    for extension in COMPRESSED:
        if name.lower().endswith(extension) and len(name) > len(extension):
            return name[:-len(extension)], name[-len(extension):].lower()
    return name, ""


def stem_of(path: str) -> str:
    """'a/b.mrc.bz2' -> 'b'"""
    return os.path.splitext(split_compression(path.rpartition("/")[2])[0])[0]


def extension_of(name: str) -> str:
    """'a.TIFF.bz2' -> '.tiff'"""
    return os.path.splitext(split_compression(name)[0])[1].lower()


def matches_name(name: str, pattern: str) -> bool:
    """Like fnmatch.fnmatchcase, in a time that does not explode with the number of stars.

    Python 3.8's fnmatch takes minutes for '*a*a*a*a*b' and a hundred letters a.
    """
    atoms = _atoms(pattern)
    at = wanted = 0
    star, after_star = -1, 0
    while at < len(name):
        atom = atoms[wanted] if wanted < len(atoms) else ()
        if atom is None:
            star, after_star = wanted, at
            wanted += 1
        elif atom and atom(name[at]):
            at, wanted = at + 1, wanted + 1
        elif star >= 0:
            after_star += 1
            at, wanted = after_star, star + 1
        else:
            return False
    return all(atom is None for atom in atoms[wanted:])


@functools.lru_cache(maxsize=1024)
def _atoms(pattern: str) -> List[Optional[Callable[[str], object]]]:
    """'a*[bc]' -> three tests of one character each, None standing for the star."""
    atoms: List[Optional[Callable[[str], object]]] = []
    at = 0
    while at < len(pattern):
        end = pattern.find("]", at + (3 if pattern[at + 1:at + 2] == "!" else 2)) if pattern[at] == "[" else -1
        piece = pattern[at:end + 1] if end > 0 else pattern[at]
        at += len(piece)
        if piece == "*":
            atoms.append(None)
        elif piece == "?" or len(piece) > 1:
            # fnmatch knows how to write a set of characters as a regular expression.
            atoms.append(re.compile(fnmatch.translate(piece)).match)
        else:
            atoms.append(piece.__eq__)
    return atoms


def matches(path: str, pattern: str) -> bool:
    """Whether ``path`` ends as ``pattern`` says, part by part: 'data/a/x_1.mrc' matches 'x_*.mrc' and 'a/*.mrc'.

    Depositors write their patterns from the entry's root, from the image set's folder, or for the name alone.
    """
    wanted = split_path(pattern.strip())
    parts = path.split("/")
    if not wanted or len(wanted) > len(parts):
        return False
    return all(matches_name(part, glob) for part, glob in zip(parts[-len(wanted):], wanted))


def is_chosen(path: str, text: str) -> bool:
    """Whether a path matches one of a user's patterns, between which bars stand: 'Grid_1/*.mrc | Grid_7/x_2.mrc'."""
    exact, lengths, globs = _alternatives(text)
    parts = tuple(path.split("/"))
    return any(parts[-length:] in exact for length in lengths) or any(matches(path, glob) for glob in globs)


@functools.lru_cache(maxsize=8)
def _alternatives(text: str) -> Tuple[FrozenSet[Tuple[str, ...]], FrozenSet[int], Tuple[str, ...]]:
    """Those that spell a name, of which there may be hundreds, as their parts; how many parts they have; the others."""
    spelt = [(each, _spelt(each)) for each in _split_patterns(text)]
    exact = frozenset(tuple(split_path(name)) for _, name in spelt if name is not None) - {()}
    return exact, frozenset(map(len, exact)), tuple(each for each, name in spelt if name is None)


def _split_patterns(text: str) -> List[str]:
    return [each.strip() for each in BARS.split(text) if each.strip()]


def _spelt(pattern: str) -> Optional[str]:
    """The one name that a pattern matches: 'a[[]1].mrc' -> 'a[1].mrc'; None for one that matches several."""
    bare = LITERAL.sub("", pattern)
    return None if WILD.search(bare) else LITERAL.sub(lambda found: found.group()[1], pattern)


def spelt_names(text: str) -> List[str]:
    """The names that a user's patterns spell; none where any of them matches several."""
    names = [_spelt(each) for each in _split_patterns(text)]
    return [] if None in names else [name for name in names if name is not None]


def literally(name: str) -> str:
    """The pattern that a name alone matches: 'a[1].mrc' -> 'a[[]1].mrc'"""
    return SPECIAL.sub(r"[\g<0>]", name)


def is_named(name: str, patterns: Sequence[str]) -> bool:
    """Whether the name of an image, in lower case and without compression, is like one of the patterns, of which those
    in WORDS are words: 'deflate.tif' is not like '*flat*'."""
    base = split_compression(name)[0]
    return extension_of(name) in REFERENCE_EXTENSIONS and any(
        has_word(base, WORDS[p]) if p in WORDS else matches_name(base.lower(), p) for p in patterns)


def has_word(name: str, word: str) -> bool:
    """'dark_1.mrc', 'CameraDark.mrc', 'DarkRef.mrc' -> True for 'dark'; 'darkness.mrc', 'deflated.mrc' -> False for
    'dark' and 'flat'"""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return any(found.lower() in (word, *(word + behind for behind in WORD_ENDINGS)) for found in words)


def local_name(path_below: str, most_bytes: int = MAX_NAME_BYTES) -> str:
    """'Grid 1/a (b).mrc' -> 'Grid_1_a__b_.mrc'; one that is longer than ``most_bytes`` begins with a digest instead

    Scipion reads ':' and '@' as separators between index, file and format, and its plugins hand names to a shell,
    which acts on blanks, brackets, '$', quotes and more: what is no plain character becomes '_'.
    """
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", "_".join(path_below.split("/")))
    # A program would take a leading '-' for an option.
    name = re.sub(r"^[-.]", "_", name)
    if len(name) <= most_bytes:
        return name
    digest = hashlib.sha1(path_below.encode("utf-8")).hexdigest()[:10]
    return "%s_%s" % (digest, name[-(most_bytes - 11):])


class LocalNames:
    """Gives every remote path a local name of its own, the same ones in the same order."""

    def __init__(self, reserved: Iterable[str] = (), most_bytes: int = MAX_NAME_BYTES):
        """``reserved``: names that no path gets; ``most_bytes``: how long the disk lets a name be."""
        self._most_bytes = min(most_bytes, MAX_NAME_BYTES)
        self._paths: Dict[str, str] = {name.lower(): "" for name in reserved}
        self._names: Dict[str, str] = {}

    def name(self, path: str, path_below: str, as_it_is: bool = False) -> str:
        """The local name of ``path``, ``path_below`` being the part below the image set's folder.

        ``as_it_is``: the folders stay, and every letter.
        """
        if path in self._names:
            return self._names[path]
        wanted = path_below if as_it_is else local_name(path_below, self._most_bytes)
        stem, extension = os.path.splitext(wanted)
        number = 1
        # Lower case: two names that differ by case alone are one file on a Mac's disk.
        while wanted.lower() in self._paths:
            number += 1
            wanted = "%s_%d%s" % (stem, number, extension)
        self.keep(path, wanted)
        return wanted

    def keep(self, path: str, name: str) -> None:
        """Hold on to the name that an earlier run gave to a path."""
        self._paths[name.lower()] = path
        self._names[path] = name
