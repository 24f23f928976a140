# SPDX-License-Identifier: GPL-3.0-or-later
"""From an entry's folders: which files are the images asked for, which may be their gain and dark references, and which
tell of them.

How real entries are laid out, and so what is looked for here, is told in docs/images.rst.
"""
import itertools
import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from .entry import Entry, ImageSet
from .errors import BrokenFileError, EntryError, NotFoundError, RemoteError
from .kinds import MICROGRAPHS, PARTICLES
from .names import (
    BUNDLES,
    IMAGE_EXTENSIONS,
    REFERENCE_EXTENSIONS,
    WILD,
    WORDS,
    ancestors,
    extension_of,
    is_chosen,
    is_hidden,
    is_named,
    is_safe,
    join,
    matches,
    split_compression,
    split_path,
    stem_of,
)
from .remote import Listing

GAIN, DARK = "gain", "dark"
DESCRIPTION = ".star"
MRC_FORMAT = (".mrc", ".mrcs", ".map", ".rec", ".st", ".ali")
FORMAT_EXTENSIONS = {
    "MRC": MRC_FORMAT, "MRCS": MRC_FORMAT, "TIFF": (".tif", ".tiff"), "EER": (".eer",),
    "DM3": (".dm3",), "DM4": (".dm4",)}
# Names seen in the archive, the surer ones first.
GAIN_NAMES = ("*gain*", "countref*", "superref*", "*.gain", "*norm*", "*flat*")
DARK_NAMES = ("*dark*",)
# Less sure than the others: movies may be called so, too ("dark_1_0001.tif").
WEAK_NAMES = tuple(WORDS)
# Names of folders that hold gain references, without digits and separators: 'gain', 'GainRefs', 'gain_ref', 'refs'; not
# 'gain_corrected', which is one of movies.
REFERENCE_FOLDER = re.compile(r"(?:k|falcon|camera)?(?:gains?|(?:gain)?(?:super|count)?ref(?:erence)?s?)"
                              r"(?:images?|files?|maps?|mrc|tiff?|dm)?")
# What lies beside gain references and is none.
NO_GAIN = re.compile(r"defect|mask|map|average|class|template|dark|bad|hot|beam", re.IGNORECASE)
# What programs that process movies leave beside a micrograph 'm.mrc', by the end of its name; of those with one
# beginning the first in this order is the micrograph.
PRODUCTS = ("_doseweighted", "_patch_aligned_doseweighted", "_dw", "_aligned", "_patch_aligned", "_rigid_aligned",
            "_dws", "_nodw", "_avg", "_alisum", "_sum", "_evn", "_odd", "_even", "_half1", "_half2", "_denoised",
            "_background", "_ps", "_ctf", "_pow", "_fft", "_spectrum", "_mask", "_thumb")
# Those that can be the micrograph themselves, and those that are none at all.
MICROGRAPH_PRODUCTS = PRODUCTS[:PRODUCTS.index("_dws")]
NO_MICROGRAPHS = PRODUCTS[PRODUCTS.index("_background"):]
# A file so many times as large as what is called after it is its movie.
MOVIE_TO_PRODUCT = 2.5
EXAMPLES = 3            # files named in a sentence
# References are few. A name shared by more image files than this, and by more than this share of them, is part of
# the movies' own names and tells nothing apart.
FEW_REFERENCES = 3
REFERENCE_SHARE, WEAK_REFERENCE_SHARE = 0.5, 0.05
# No entry is deeper or has more folders; a tree of links in circles would be.
MAX_DEPTH, MAX_FOLDERS = 32, 100000
# Folders that are looked into for a file that is named by a pattern.
MOST_LOOKED_THROUGH = 300


@dataclass(frozen=True)
class RemoteFile:
    """A file of the entry."""
    path: str                       # below the entry's folder, parts joined by '/'
    size: Optional[int] = None      # bytes as the listing says; over HTTPS rounded

    @property
    def folder(self) -> str:
        return posixpath.dirname(self.path)


# Gives the listing of a folder. The flag tells that the folder is known to exist, because its parent shows it; what is
# wrong with it then is worth a second try. Raises NotFoundError, BrokenFileError, TransientError.
ListFolder = Callable[[str, bool], Listing]


class ImageFinder:
    """Finds the images and references of an image set, listing no folder before it is needed and none twice."""

    def __init__(self, entry: Entry, image_set: ImageSet, list_folder: ListFolder, file_pattern: str = "",
                 gain_pattern: str = ""):
        self._entry = entry
        self.image_set = image_set
        self._kind = image_set.kind
        self._list_folder = list_folder
        self._user_pattern = file_pattern.strip()
        # Where no gain reference is wanted a pattern that was left in the form must not take images away.
        self._gain_pattern = gain_pattern.strip() if image_set.kind.gain else ""
        self._listings: Dict[str, Optional[Listing]] = {}
        self._names_of_references: Dict[str, Set[str]] = {}
        self._claimed = False                   # whether a folder was passed over as another image set's
        self._bundles: List[str] = []
        self._other_formats: List[RemoteFile] = []      # images of other formats than the entry says, in one walk
        self.folder: Optional[str] = None       # known with the first image
        self.known: List[RemoteFile] = []       # the images listed so far; for an estimate of the space needed
        self.refused: List[str] = []            # names that must not become local ones
        self.lost: Dict[str, str] = {}          # folders that could not be entered -> reason
        self.unread: Dict[str, str] = {}        # files that tell of images and could not be read -> reason
        self.notes: List[str] = []
        if gain_pattern.strip() and not image_set.kind.gain:
            self.note("The gain file pattern is not used: %s have no gain reference." % image_set.kind.many)

    @property
    def folders_listed(self) -> int:
        return len(self._listings)

    def images(self) -> Iterator[RemoteFile]:
        """All images, one by one; see ``batches``."""
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[List[RemoteFile]]:
        """The images, a list for each folder: the files of a folder in the order of names, then its subfolders.

        Between two lists at most as many folders are listed as it takes to find the next image.
        Raises EntryError when there is none, and what the lister raises for the folder it all begins with.
        """
        looked_in: List[str] = []
        for claims in (True, False):
            if not claims and not self._claimed:
                break
            for accepts, note in self._rules():
                for folder in self._folders():
                    looked_in.append(folder or "the entry's folder")
                    found = False
                    self._other_formats.clear()
                    for batch in self._walk(folder, accepts, claims):
                        if not found:
                            found, self.folder = True, folder
                            self.note(note)
                            self.note("" if claims else "All %s lie in folders that the entry gives to its other "
                                                         "image sets too." % self._kind.many)
                        self.known.extend(batch)
                        yield batch
                    if found:
                        yield from self._of_other_formats()
                        return
        raise EntryError(self._none_found(list(dict.fromkeys(looked_in))))

    def _of_other_formats(self) -> Iterator[List[RemoteFile]]:
        """Images that are not of the format which the entry says: they are taken where fewer than it promises are of
        it, else named."""
        others = self._other_formats
        if not others or self._user_pattern:
            return
        promised = self.image_set.num_images
        words = "%d files of another format than %s, like %s, are there too" % (
            len(others), self.image_set.data_format, others[0].path)
        if promised is None or len(self.known) + len(others) > promised:
            self.note("%s: they are not downloaded; fill in the file pattern to get them." % words)
            return
        self.note("%s: they are taken, for there are fewer %s of that format than the %d that the entry says." % (
            words, self._kind.files, promised))
        for _, its in itertools.groupby(others, key=lambda file: file.folder):
            batch = list(its)
            self.known.extend(batch)
            yield batch

    def references(self, folder: str) -> Dict[str, List[RemoteFile]]:
        """'gain' and 'dark' -> files that may be the reference of the movies in ``folder``.

        The likeliest first: the nearest to the movies, then the surest name. No file is offered for both.
        """
        gain = self._candidates(folder, GAIN_NAMES, self._gain_pattern)
        dark = self._candidates(folder, DARK_NAMES, "")
        return {GAIN: gain, DARK: [file for file in dark if file not in gain and not self._is_chosen_gain(file.path)]}

    def listing(self, folder: str, expected: bool = False) -> Optional[Listing]:
        """The safe names of a folder, None where there is no such folder; asked from the server once.

        A folder that is refused though the one above shows it is asked for as one that is known to exist.
        """
        if folder not in self._listings or (expected and self._listings[folder] is None):
            try:
                listing = self._list_folder(folder, expected)
            except (NotFoundError, BrokenFileError):
                if expected:
                    raise
                if self._is_shown(folder):
                    return self.listing(folder, expected=True)
                self._listings[folder] = None
            else:
                if listing.cut:
                    self.note("The server cuts its list of %s short: files beyond it are missing." % (
                        folder or "the entry's folder"))
                self._listings[folder] = self._without_unsafe(folder, listing)
        return self._listings[folder]

    def _is_shown(self, folder: str) -> bool:
        above = self.listing(posixpath.dirname(folder)) if folder else None
        return above is not None and posixpath.basename(folder) in above.folders

    def forget(self) -> None:
        """Ask the server again for every folder."""
        self._listings.clear()
        self._names_of_references.clear()
        self.known.clear()
        self.unread.clear()

    # -------------------------- where and how to look -----------------------

    def _rules(self) -> Iterator[Tuple[Callable[[str], bool], str]]:
        """How an image is told by its path, the strictest way first; a looser one only where that finds nothing.

        What is no file of the kind at all has been put aside before, see ``_images``.
        """
        if self._user_pattern:
            yield (lambda path: is_chosen(path, self._user_pattern)), ""
            return
        wanted = self._kind.extensions
        given = self.image_set.file_pattern if self._kind.patterned else ""
        note = ""
        if given:
            yield (lambda path: matches(path, given)), ""
            note = 'The file pattern that the entry gives, "%s", matches nothing: %s were taken by their ' \
                   'extension.' % (given[:200], self._kind.many)
        of_format = [ending for ending in FORMAT_EXTENSIONS.get(self.image_set.data_format.upper(), ())
                     if ending in wanted]
        if of_format:
            yield (lambda path: extension_of(path) in of_format), note
            note = "The entry says %s, the %s found are of another format." % (
                self.image_set.data_format, self._kind.many)
        yield (lambda path: True), note

    def _folders(self) -> Iterator[str]:
        """Where the image set's folder may be, given the ways depositors write it; only folders that exist."""
        parts = split_path(self.image_set.directory)
        if not all(is_safe(part) for part in parts):
            self.note("The folder that the entry gives, %s, is not safe as a path: the %s were looked for in its "
                       "data folder." % (ascii(self.image_set.directory[:200]), self._kind.many))
            parts = []
        guesses = spellings(parts) if parts else ["data", ""]
        tried = set()
        for guess in guesses:
            if guess not in tried and self.listing(guess) is not None:
                yield guess
            tried.add(guess)
        # One folder deeper than the metadata says.
        below = "/".join(parts[1:] if parts[:1] == ["data"] else parts)
        data = self.listing("data")
        for name in (data.folders if data and below else ()):
            guess = "data/%s/%s" % (name, below)
            if guess not in tried and self.listing(guess) is not None:
                yield guess

    def _walk(self, root: str, accepts: Callable[[str], bool], claims: bool) -> Iterator[List[RemoteFile]]:
        """The images below a folder, list by list; ``claims``: leave other image sets' folders to them."""
        others = self._claimed_folders(root) if claims else set()
        doubted: List[RemoteFile] = []          # would be images, but for their names
        shapes: "Counter[str]" = Counter()
        believed: Set[str] = set()              # shapes of names that are images'
        self.lost = lost = {}
        again: List[str] = []
        # A stack, not recursion: the depth of a folder tree is the server's to choose.
        stack = [root]
        while stack or again:
            if not stack:
                stack, again = again[::-1], []
            current = stack.pop()
            try:
                listing = self.listing(current, expected=True)
            except RemoteError as error:
                if current not in lost:
                    again.append(current)       # after all the others, once more
                lost[current] = str(error)
                continue
            lost.pop(current, None)
            assert listing is not None      # of a folder that is expected
            if self._runs_in_a_circle(current, listing):
                self.note("Folders that are links in a circle, like %s, are not entered." % current)
                continue
            images = []
            references = self._reference_names(current) if self._kind.references else set()
            candidates = list(self._images(current, listing))
            products = self._products([file for file in candidates if accepts(file.path)
                                       and posixpath.basename(file.path) not in references])
            for file in candidates:
                if file in products:
                    continue
                if not accepts(file.path):
                    if posixpath.basename(file.path) not in references and self._is_of_other_format(file):
                        self._other_formats.append(file)
                    continue
                shapes[_shape(file.path)] += 1
                if posixpath.basename(file.path) not in references:
                    images.append(file)
                    believed.add(_shape(file.path))
                elif not self._is_chosen_gain(file.path):
                    doubted.append(file)
            if images:
                yield images
            below = [join(current, name) for name in listing.folders]
            self._claimed = self._claimed or not others.isdisjoint(below)
            if current.count("/") >= MAX_DEPTH or len(self._listings) > MAX_FOLDERS:
                self.note("The entry has more folders than %d, or deeper ones than %d: the rest is not looked at."
                           % (MAX_FOLDERS, MAX_DEPTH))
                continue
            stack.extend(folder for folder in reversed(below) if folder not in others)
        # A few images in a folder of their own look like references until the others are known.
        total = sum(shapes.values())
        many = {shape for shape, count in shapes.items() if count > max(FEW_REFERENCES, total * REFERENCE_SHARE)}
        named_alike = [file for file in doubted if _shape(file.path) in believed | many]
        if named_alike:
            self.note("%d files are taken for %s although their names are like those of gain references (%s): "
                       "many are named so." % (len(named_alike), self._kind.many, named_alike[0].path))
            yield named_alike

    def _is_of_other_format(self, file: RemoteFile) -> bool:
        """Whether it was not accepted for its format alone."""
        given = self.image_set.file_pattern if self._kind.patterned else ""
        return not self._user_pattern and (not given or matches(file.path, given))

    def _products(self, files: List[RemoteFile]) -> Set[RemoteFile]:
        """Of the images of a folder those that a program left beside a micrograph: its power spectrum, its halves,
        itself without dose weighting. They are told by the beginning of the name that they share with it.

        Not where a pattern chooses, nor where the entry promises as many images as there are.
        """
        promised = self.image_set.num_images
        if self._kind != MICROGRAPHS or self._user_pattern or self.image_set.file_pattern or (
                promised is not None and len(files) <= promised):
            return set()
        groups: Dict[str, Dict[str, RemoteFile]] = {}
        for file in files:
            stem = stem_of(file.path)
            ending = max((ending for ending in PRODUCTS if stem.lower().endswith(ending)), key=len, default="")
            groups.setdefault(stem[:len(stem) - len(ending)], {})[ending] = file
        products: Set[RemoteFile] = set()
        for its in groups.values():
            main = next((ending for ending in ("", *MICROGRAPH_PRODUCTS) if ending in its), None)
            for ending, file in its.items():
                is_movies = main == "" and main in its and ending not in NO_MICROGRAPHS and (
                    its[main].size or 0) > MOVIE_TO_PRODUCT * (file.size or 1 << 62)
                if main is not None and ending != main and not is_movies:
                    products.add(file)
        if products:
            examples = sorted(file.path for file in products)[:EXAMPLES]
            self.note("%d files in %s are not downloaded, for by their names they are products of processing beside "
                      "the micrographs, like %s: fill in the file pattern to get them." % (
                          len(products), files[0].folder, ", ".join(examples)))
        return products

    def _claimed_folders(self, root: str) -> Set[str]:
        """The folders below ``root`` that the entry gives to its other image sets."""
        claimed = set()
        for image_set in self._entry.image_sets:
            parts = split_path(image_set.directory)
            if image_set.number != self.image_set.number and parts:
                claimed.update(spellings(parts))
        above = root + "/" if root else ""
        return {folder for folder in claimed if folder.startswith(above)} - {root}

    def _runs_in_a_circle(self, folder: str, listing: Listing) -> bool:
        """Whether a folder shows the same files and folders as one of those above it: then it is a link to it."""
        return bool(listing.folders) and any(self._listings.get(above) == listing for above in ancestors(folder)[1:])

    def _images(self, folder: str, listing: Listing) -> Iterator[RemoteFile]:
        """The files with an ending of the kind; of one that is there packed and unpacked, the unpacked."""
        names = {name for name, _ in listing.files}
        taken = set()
        for name, size in listing.files:
            if any(name.lower().endswith(ending) for ending in BUNDLES):
                self._bundles.append(join(folder, name))
            plain, compression = split_compression(name)
            if not self._kind.extensions:
                yield RemoteFile(join(folder, name), size)
                continue
            if extension_of(name) not in self._kind.extensions:
                continue
            if compression and (plain in names or plain in taken):
                self.note("%s that are there twice, packed and not, like %s, are taken once." % (
                    self._kind.many.capitalize(), join(folder, name)))
                continue
            taken.add(plain)
            yield RemoteFile(join(folder, name), size)

    # -------------------------- what tells of the images -----------------------

    def companions(self, images: Sequence[RemoteFile], all_of_folder: bool) -> Dict[str, List[RemoteFile]]:
        """Path of an image -> the files beside it that tell of it, by their names: 'a.mrc', 'a.coord', 'a_pick.box'.

        ``all_of_folder``: these are all images of their folder; then files that are called like none of them are about
        the folder, and given to its first image.
        """
        listing = self.listing(images[0].folder) if images else None
        if listing is None or not self._kind.companions:
            return {}
        stems = {stem_of(image.path): image.path for image in images}
        found: Dict[str, List[RemoteFile]] = {}
        for name, size in listing.files:
            if posixpath.splitext(name)[1].lower() not in self._kind.companions:
                continue
            stem = next((name[:end] for end in range(len(name) - 1, 0, -1)
                         if name[end] in "._-" and name[:end] in stems), "")
            if not stem and (not all_of_folder or self._kind == PARTICLES):
                continue        # what describes all particles is looked for in another way
            found.setdefault(stems[stem] if stem else images[0].path, []).append(
                RemoteFile(join(images[0].folder, name), size))
        return found

    def describing(self, stacks: Sequence[RemoteFile], pattern: str) -> List[RemoteFile]:
        """The .star files that may describe particles: in the folders of their stacks and above, the likeliest first.

        ``pattern``: name or path of the one that the user wants; '' for what the entry says, else the nearest and of
        those in a folder the largest. One that is called like a stack is about that stack alone, and comes last.
        """
        given = pattern or self.image_set.particles_pattern
        folders = list(dict.fromkeys(stack.folder for stack in stacks))
        of_one = {stem_of(stack.path) for stack in stacks} if len(stacks) > 1 else set()
        places = self._around(folders, given)
        if given and not any(matches(join(folder, name), given) for folder in places
                             for name, _ in (self.listing_or_lost(folder) or Listing((), ())).files):
            places = self._everywhere(places)
        # Names shared by many, '012_autopick.star', are of one micrograph each.
        shapes = Counter(_shape(name) for folder in places
                         for name, _ in (self.listing_or_lost(folder) or Listing((), ())).files)
        ranked: Dict[str, Tuple[Tuple[bool, bool, bool, int, int, str], RemoteFile]] = {}
        for distance, folder in enumerate(places):
            listing = self.listing_or_lost(folder)
            for name, size in (listing.files if listing else ()):
                path = join(folder, name)
                is_given = bool(given) and matches(path, given)
                if is_given or (not pattern and extension_of(name) == DESCRIPTION):
                    rank = (not is_given, stem_of(name) in of_one, shapes[_shape(name)] > FEW_REFERENCES, distance,
                            -(size or 0), name)
                    ranked.setdefault(path, (rank, RemoteFile(path, size)))
        return [file for _, file in sorted(ranked.values(), key=lambda item: item[0])]

    def _everywhere(self, places: Sequence[str]) -> List[str]:
        """These folders, and those below the highest of them."""
        found, stack = list(places), ["data" if "data" in places else ""]
        while stack and len(found) < MOST_LOOKED_THROUGH:
            folder = stack.pop()
            listing = self.listing_or_lost(folder)
            stack += [join(folder, name) for name in reversed(listing.folders if listing else ())]
            if folder not in found:
                found.append(folder)
        return found

    def _around(self, folders: Sequence[str], pattern: str) -> List[str]:
        """Where to look for what belongs to the images in some folders: there, above, and where a pattern says."""
        above = list(dict.fromkeys(place for folder in folders for place in ancestors(folder)))
        above.sort(key=lambda place: -place.count("/") - bool(place))
        explicit = split_path(posixpath.dirname(pattern))
        if explicit and all(is_safe(part) and not WILD.search(part) for part in explicit):
            # From the entry's root, or from any folder above the images.
            told = "/".join(explicit)
            return list(dict.fromkeys([told, join("data", told)] + [join(place, told) for place in above] + above))
        return above

    def listing_or_lost(self, folder: str) -> Optional[Listing]:
        """Like ``listing``, for what the images do not wait for: a folder that cannot be listed is told as lost."""
        try:
            return self.listing(folder)
        except RemoteError as error:
            self.lost[folder] = str(error)
            return None

    # -------------------------- references -----------------------

    def listed(self, path: str) -> RemoteFile:
        """A file as its folder's listing has it; without a size where it is in none."""
        listing = self.listing_or_lost(posixpath.dirname(path))
        return RemoteFile(path, dict(listing.files).get(posixpath.basename(path)) if listing else None)

    def _is_chosen_gain(self, path: str) -> bool:
        return bool(self._gain_pattern) and matches(path, self._gain_pattern) \
            and extension_of(path) in REFERENCE_EXTENSIONS

    def _reference_names(self, folder: str) -> Set[str]:
        """The gain and dark references among a folder's files."""
        if folder not in self._names_of_references:
            listing = self.listing(folder)
            self._names_of_references[folder] = self._find_reference_names(folder, listing) if listing else set()
        return self._names_of_references[folder]

    def _find_reference_names(self, folder: str, listing: Listing) -> Set[str]:
        images = [name for name, _ in listing.files if extension_of(name) in REFERENCE_EXTENSIONS + IMAGE_EXTENSIONS]
        if len(images) <= FEW_REFERENCES and folder != self.folder and _is_for_references(folder) and split_path(
                self.image_set.directory)[-1:] != [posixpath.basename(folder)]:
            return set(images)
        found = {name for name in images if self._is_chosen_gain(join(folder, name))}
        for pattern in GAIN_NAMES + DARK_NAMES:
            # A word that the user's own pattern spells tells nothing apart.
            spelt = bool(self._user_pattern) and pattern.strip("*") in self._user_pattern.lower()
            named = [name for name in images if is_named(name, (pattern,))
                     and not (spelt and is_chosen(join(folder, name), self._user_pattern))]
            weak = pattern in WEAK_NAMES
            few = len(named) <= FEW_REFERENCES and not (weak and len(named) == len(images))
            if few or len(named) <= len(images) * (WEAK_REFERENCE_SHARE if weak else REFERENCE_SHARE):
                found.update(named)
        return found

    def _candidates(self, folder: str, names: Sequence[str], pattern: str) -> List[RemoteFile]:
        found: Dict[str, RemoteFile] = {}
        places = self._around([folder], pattern)
        places += [place for place in self._reference_folders(places) if place not in places]
        if pattern and not any(self._is_chosen_gain(join(place, name)) for place in places
                               for name, _ in (self.listing_or_lost(place) or Listing((), ())).files):
            places = self._everywhere(places)
        # Those that are called like references go before those that only lie in a folder called so.
        ranked: List[Tuple[bool, int, int, str, RemoteFile]] = []
        for distance, place in enumerate(places):
            listing = self.listing_or_lost(place)
            is_for_gain = names is GAIN_NAMES and _is_for_references(place) and place != folder
            for name, size in (listing.files if listing else ()):
                file = RemoteFile(join(place, name), size)
                if pattern:
                    if self._is_chosen_gain(file.path):
                        ranked.append((False, distance, 0, name, file))
                elif is_named(name, names) and (name in self._reference_names(place) or is_for_gain):
                    rank = next(n for n, p in enumerate(names) if is_named(name, (p,)))
                    ranked.append((False, distance, rank, name, file))
                elif is_for_gain and extension_of(name) in REFERENCE_EXTENSIONS and not is_named(name, DARK_NAMES) \
                        and not NO_GAIN.search(name):
                    ranked.append((True, distance, 0, name, file))
        for *_, file in sorted(ranked, key=lambda item: item[:4]):
            found.setdefault(file.path, file)
        return list(found.values())

    def _reference_folders(self, places: Sequence[str]) -> List[str]:
        """Folders called after gain references: below the images' folder and below those above it."""
        return [join(place, name) for place in places
                for name in (self.listing_or_lost(place) or Listing((), ())).folders if _is_for_references(name)]

    # -------------------------- words -----------------------

    def note(self, text: str) -> None:
        """Something that the user should know of the entry."""
        if text and text not in self.notes:
            self.notes.append(text)

    def _none_found(self, looked_in: List[str]) -> str:
        places = ", ".join(looked_in) or self.image_set.directory[:200] or "its data folder"
        if self._user_pattern:
            msg = 'No file of %s in %s matches the pattern "%s": change it, or leave it empty.' % (
                self._entry.name, places, self._user_pattern[:200])
        elif self._gain_pattern and any(self._is_chosen_gain(join(folder, name))
                                        for folder, listing in self._listings.items() if listing
                                        for name, _ in listing.files):
            msg = 'No %s of %s found in %s beside what the gain file pattern "%s" matches: make that narrower.' % (
                self._kind.one, self._entry.name, places, self._gain_pattern)
        else:
            msg = "No %s of %s found in %s: look at %s and fill in the file pattern." % (
                self._kind.one, self._entry.name, places, self._entry.page)
        if self._bundles:
            msg += " There are files that hold other files (%s): they have to be fetched and unpacked by hand." \
                   % ", ".join(self._bundles[:3])
        if self.lost:
            msg += " %d folders could not be entered (%s: %s)." % ((len(self.lost), *next(iter(self.lost.items()))))
        return msg

    def _without_unsafe(self, folder: str, listing: Listing) -> Listing:
        names = [name for name in listing.folders + tuple(name for name, _ in listing.files)
                 if not is_hidden(name) or not is_safe(name)]
        self.refused.extend(ascii(join(folder, name)) for name in names if not is_safe(name))
        good = {name for name in names if is_safe(name)}
        return Listing(tuple(name for name in listing.folders if name in good),
                       tuple(item for item in listing.files if item[0] in good))


def _is_for_references(folder: str) -> bool:
    """'data/GainRefs 2' -> True, 'data/gain_corrected' -> False"""
    return REFERENCE_FOLDER.fullmatch(re.sub("[^a-z]", "", posixpath.basename(folder).lower())) is not None


def spellings(parts: List[str]) -> List[str]:
    """Paths that depositors may mean by a folder: as it is, with data/ in front, without the second data/."""
    given = "/".join(parts)
    spellings = [given, join("data", given), join("data/data", given)]
    if parts[:2] == ["data", "data"]:
        spellings.append("/".join(parts[1:]))
    return spellings


def _shape(path: str) -> str:
    """'a/Foil_012_gain_3.tif' -> 'Foil_#_gain_#.tif'"""
    return re.sub(r"[0-9]+", "#", posixpath.basename(path))
