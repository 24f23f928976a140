# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images are the tilts of which series.

What the microscope wrote down beside them, the .mdoc files, says it; they may lie in the folder of the images or in
another one beside it. Where there are none the names of the images say it, when they hold an angle. An image without
either is a whole series by itself, a stack.
"""
import posixpath
import re
from dataclasses import dataclass, replace
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from .errors import RemoteError, StoppedError
from .mdoc import BadMdocError, Mdoc, parse_mdoc
from .names import ancestors, join, split_compression, stem_of
from .selection import ImageFinder, RemoteFile

MDOC = ".mdoc"
ANGLES = (".tlt", ".rawtlt")
# 'TS_01_003_-9.0.mrc', 'Position_1_003[-9.00]_fractions.tiff', 'tomo2_-9.0_Mar07.tif': the name of the series, perhaps
# the order of acquisition, the angle. The first number with a decimal point is the angle, for dates and times come
# behind it; without such a number it is the last one: 'TS_006_4_-6.tif', 'TS_01_-60.mrc'.
ORDER, END = r"(?P<name>.+?)[_-](?P<order>[0-9]{1,4})[_-]?[\[_]", r"\]?(?=[_.\[-]|$)"
DECIMAL, WHOLE = r"(?P<angle>[-+]?[0-9]{1,2}\.[0-9]+)", r"(?P<angle>[-+]?[0-9]{1,2})"
ORDERED = (re.compile(ORDER + DECIMAL + END), re.compile(ORDER.replace(".+?", ".+") + WHOLE + r"\]?$"))
UNORDERED = (re.compile(r"(?P<name>.+?)[_-]\[?" + DECIMAL + END), re.compile(r"(?P<name>.+?)[_-]\[?" + WHOLE + r"\]?$"))
# A name with a number in it makes no series yet: 'TS_01.mrc', 'TS_03.mrc', 'TS_43.mrc' are three stacks.
LEAST_TILTS = 3
HAS_DECIMAL = re.compile(r"[0-9]\.[0-9]")
# A folder of this name beside the images shows that movies are tilts, though their category does not.
MDOC_FOLDER = "mdoc"
# Folders that are looked into for .mdoc files which do not lie with the images.
MOST_FOLDERS = 300
LACKING_TOLD = 3

ReadText = Callable[[str], str]     # the text of a file of the entry; raises RemoteError


@dataclass(frozen=True)
class SeriesTilt:
    """One image of a series; ``None`` where nobody says."""
    path: str
    angle: Optional[float]          # degrees
    order: int                      # of acquisition, from 1
    dose: Optional[float] = None    # e/A^2
    section: int = -1               # of the .mdoc
    before: Optional[float] = None  # e/A^2 received when it was taken, also of tilts that are not in the archive


@dataclass(frozen=True)
class Series:
    """A tilt series as the archive has it."""
    name: str                           # "TS_01"
    tilts: Tuple[SeriesTilt, ...]       # in order of acquisition; of a stack in the order of its images
    images: Tuple[RemoteFile, ...]
    mdoc: str = ""                      # path of what describes it
    text: str = ""                      # and its text
    lacking: Tuple[str, ...] = ()       # files that are named there and not in the archive
    axis: Optional[float] = None        # angle of the tilt axis, degrees
    pixel_size: Optional[float] = None  # angstrom
    ordered: bool = True                # whether the order of acquisition is known

    @property
    def is_stack(self) -> bool:
        return len(self.images) == 1


class SeriesFinder:
    """Orders what an ImageFinder finds series by series.

    Where the category does not say that it is about tilts (``declared``), images that nothing describes are no series.
    """

    def __init__(self, finder: ImageFinder, read_text: ReadText, declared: bool, amount: Optional[int] = None):
        """``amount``: how many series are wanted, None for all."""
        self._finder = finder
        self._read_text = read_text
        self._declared = declared
        self._amount = amount
        self._names: Set[str] = set()
        self._unused: List[str] = []    # .mdoc files of which fewer than two images are here
        self.limited = False            # whether there may be more series than were given
        self.lacking = False            # whether a series lacks an image that is named

    def batches(self) -> Iterator[Tuple[List[RemoteFile], Optional[Series]]]:
        """(images, their series), series by series; None for images of no series. Raises what the finder raises."""
        for given, found in enumerate(self._all()):
            if self._amount is not None and given >= self._amount:
                self.limited = True
                return
            yield found

    def _all(self) -> Iterator[Tuple[List[RemoteFile], Optional[Series]]]:
        left: List[RemoteFile] = []
        for images in self._finder.batches():
            # Where the .mdoc files lie with the images, a folder tells all; else not before all folders are known.
            rest = yield from self._described(self._mdocs_in(images[0].folder), images)
            if self._declared or self._has_mdoc_folder(images[0].folder):
                left += rest
            elif rest:
                yield rest, None
        if left:
            rest = yield from self._described(self._mdocs_elsewhere(left), left)
            if self._declared:
                yield from self._undescribed(rest)
            elif rest:
                yield rest, None
        if self._unused:
            self._finder.note("%d .mdoc files are not used, for fewer than two of the images that they name are in the "
                              "image set (%s)." % (len(self._unused), ", ".join(self._unused[:LACKING_TOLD])))

    def _undescribed(self, images: Sequence[RemoteFile]) -> Iterator[Tuple[List[RemoteFile], Optional[Series]]]:
        """Series by their names; then images that tell nothing: stacks, or, where there are more of them than the entry
        has series, tilts of which nobody knows the angle."""
        alone = []
        for series in self._by_names(images):
            if series.is_stack and not series.tilts:
                alone.append(series)
            else:
                yield list(series.images), series
        promised = self._finder.image_set.num_images
        if promised is not None and len(alone) > promised:
            self._finder.note("Nothing tells the angles of %d images, neither .mdoc files nor their names (%s): they "
                              "come without series." % (len(alone), alone[0].images[0].path))
            yield [image for series in alone for image in series.images], None
            return
        for series in alone:
            yield list(series.images), series

    def _has_mdoc_folder(self, folder: str) -> bool:
        above = self._finder.listing_or_lost(posixpath.dirname(folder)) if folder else None
        return above is not None and any(MDOC_FOLDER in name.lower() for name in above.folders)

    # -------------------------- by what describes them -----------------------

    def _mdocs_in(self, folder: str) -> List[str]:
        listing = self._finder.listing_or_lost(folder)
        return [join(folder, name) for name, _ in (listing.files if listing else ())
                if posixpath.splitext(name)[1].lower() == MDOC]

    def _mdocs_elsewhere(self, images: Sequence[RemoteFile]) -> List[str]:
        """The .mdoc files in the folders around the images, the nearest first."""
        own = list(dict.fromkeys(image.folder for image in images))
        looked: Set[str] = set(own)
        found: List[str] = []
        for folder in own:
            for top in ancestors(folder)[:-1]:
                # What was found for another folder may be about this one, too.
                if any(path.startswith(top + "/") for path in found):
                    break
                stack = [top]
                while stack and len(looked) < MOST_FOLDERS + len(own):
                    current = stack.pop()
                    listing = self._finder.listing_or_lost(current)
                    if listing is None:
                        continue
                    if current not in looked:
                        found += self._mdocs_in(current)
                    looked.add(current)
                    stack += [join(current, name) for name in reversed(listing.folders)
                              if join(current, name) not in looked]
        return found

    def _text_of(self, path: str) -> Optional[str]:
        """None where a file that tells of tilts cannot be read."""
        try:
            return self._read_text(path)
        except StoppedError:
            raise
        except RemoteError as error:
            self._finder.unread[path] = str(error)
            return None

    def _described(self, mdocs: Sequence[str], images: Sequence[RemoteFile]) -> Iterator[
            Tuple[List[RemoteFile], Series]]:
        """What .mdoc files tell of images; gives back those of which they tell nothing."""
        known = _Known(images)
        taken: Set[str] = set()
        for path in sorted(mdocs):
            if not self._declared and known.find(posixpath.basename(path)[:-len(MDOC)], path):
                continue        # of a single movie
            text = self._text_of(path)
            if text is None:
                continue
            try:
                mdoc = parse_mdoc(text)
            except BadMdocError as error:
                # Of a movie by itself, or of a picture of the grid: SerialEM writes them for everything.
                if "[ZValue" in text:
                    self._finder.note("%s is not used: %s." % (path, error))
                continue
            series = self._of_frames(path, text, mdoc, known) or self._of_stack(path, text, mdoc, known)
            if series is None:
                self._unused.append(path)
                continue
            twice = [image.path for image in series.images if image.path in taken]
            if twice:
                self._finder.note("%s is not used: %s is a tilt of another series already." % (path, twice[0]))
                continue
            taken.update(image.path for image in series.images)
            yield list(series.images), replace(series, name=self._unique(posixpath.basename(path)[:-len(MDOC)],
                                                                         posixpath.dirname(path)))
        return [image for image in images if image.path not in taken]

    def _of_frames(self, path: str, text: str, mdoc: Mdoc, known: "_Known") -> Optional[Series]:
        tilts, images, lacking = [], [], []
        before = _received(mdoc)
        for tilt in mdoc.tilts:
            image = known.find(tilt.file, path) if tilt.file else None
            if image is None:
                lacking.append(tilt.file or "section %d" % tilt.section)
                continue
            images.append(image)
            tilts.append(SeriesTilt(image.path, tilt.angle, tilt.order, tilt.dose, tilt.section, before[tilt.order]))
        if len(tilts) < 2:
            return None
        if len({image.path for image in images}) < len(images):
            self._finder.note("%s is not used: it names a file twice." % path)
            return None
        if lacking:
            self.lacking = True
            self._finder.note("%s: %d of %d tilts are not in the archive (%s): it is registered without them." % (
                path, len(lacking), len(mdoc.tilts), ", ".join(lacking[:LACKING_TOLD])))
        by_order = sorted(range(len(tilts)), key=lambda place: tilts[place].order)
        return Series("", tuple(tilts[place] for place in by_order), tuple(images[place] for place in by_order),
                      path, text, tuple(lacking), mdoc.axis, mdoc.pixel_size)

    def _of_stack(self, path: str, text: str, mdoc: Mdoc, known: "_Known") -> Optional[Series]:
        base = posixpath.splitext(posixpath.basename(path))[0]
        image = known.find(mdoc.image_file, path) or known.find(base, path)
        if image is None:
            return None
        before = _received(mdoc)
        tilts = tuple(SeriesTilt(image.path, tilt.angle, tilt.order, tilt.dose, tilt.section, before[tilt.order])
                      for tilt in mdoc.tilts)
        return Series("", tilts, (image,), path, text, (), mdoc.axis, mdoc.pixel_size)

    # -------------------------- by names -----------------------

    def _by_names(self, images: Sequence[RemoteFile]) -> Iterator[Series]:
        groups: _Groups = {}
        for group, members in _grouped(images, True).items():
            if len({tilt.order for tilt, _ in members}) == len(members):
                groups[group] = members
            else:
                # What looked like the order is part of the name: 'tomo_7_-9.0.mrc'.
                groups.update(_grouped([image for _, image in members], False))
        for (folder, name), members in groups.items():
            angles = {tilt.angle for tilt, _ in members}
            if len(members) < LEAST_TILTS or None in angles or len(angles) < len(members) or (
                    min(angles) >= 0 and not all(HAS_DECIMAL.search(image.path) for _, image in members)):
                for _, image in members:
                    yield self._stack(image)
                continue
            ordered = all(tilt.order for tilt, _ in members) and len({t.order for t, _ in members}) == len(members)
            if not ordered:
                self._finder.note("No file says in which order the tilts of %s were taken: they are registered in the "
                                  "order of their angles, without dose." % name)
            members.sort(key=lambda item: item[0].order if ordered else item[0].angle)
            tilts = tuple(replace(tilt, order=order) for order, (tilt, _) in enumerate(members, start=1))
            yield Series(self._unique(name, folder), tilts, tuple(image for _, image in members), ordered=ordered)

    def _stack(self, image: RemoteFile) -> Series:
        """An image by itself; its angles from a file of the same name, where there is one."""
        stem = stem_of(image.path)
        listing = self._finder.listing_or_lost(image.folder)
        names = {name.lower(): name for name, _ in (listing.files if listing else ())}
        tilts: List[SeriesTilt] = []
        ordered = False
        for ending in ANGLES:
            name = names.get((stem + ending).lower())
            if name and not tilts:
                tilts, ordered = _tilts_of(self._text_of(join(image.folder, name)) or "", image.path)
                if tilts and not ordered:
                    self._finder.note("%s tells no order of acquisition: that of its lines is taken." % join(
                        image.folder, name))
        return Series(self._unique(stem, image.folder), tuple(tilts), (image,), ordered=ordered)

    # -------------------------- names of series -----------------------

    def _unique(self, name: str, folder: str) -> str:
        """A name of its own also where the same one is in two folders."""
        name = series_name(name)
        if name in self._names:
            name = series_name("%s_%s" % (posixpath.basename(folder), name))
        stem, number = name, 1
        while name in self._names:
            number += 1
            name = "%s_%d" % (stem, number)
        self._names.add(name)
        return name


class _Known:
    """Images by their names, which those who wrote them down know without folders."""

    def __init__(self, images: Sequence[RemoteFile]):
        self._by_name: Dict[str, List[RemoteFile]] = {}
        for image in images:
            plain = split_compression(posixpath.basename(image.path))[0]
            for name in {plain.lower(), stem_of(image.path).lower()}:
                self._by_name.setdefault(name, []).append(image)

    def find(self, name: str, beside: str) -> Optional[RemoteFile]:
        """The image of that name that lies nearest to a file; without its ending where that has changed. None where
        there is none, or several are as near."""
        plain = split_compression(name)[0].lower()
        found = self._by_name.get(plain) or self._by_name.get(posixpath.splitext(plain)[0]) or []
        place = posixpath.dirname(beside).split("/")

        def far(image: RemoteFile) -> Tuple[int, int]:
            parts = image.folder.split("/")
            # In mirrored folders, 'frames/s1' and 'mdocs/s1', the ends agree.
            return tuple(-len(posixpath.commonprefix([place[::way], parts[::way]])) for way in (1, -1))

        near = sorted(found, key=lambda image: (far(image), image.path))
        if not near or (len(near) > 1 and far(near[0]) == far(near[1])):
            return None
        return near[0]


_Groups = Dict[Tuple[str, str], List[Tuple[SeriesTilt, RemoteFile]]]


def _grouped(images: Sequence[RemoteFile], ordered: bool) -> _Groups:
    """(folder, name of the series) -> its images, by what their names say."""
    groups: _Groups = {}
    for image in images:
        parsed = parse_tilt_name(posixpath.basename(image.path), ordered)
        name, tilt = parsed or (stem_of(image.path), SeriesTilt("", None, 0))
        groups.setdefault((image.folder, name), []).append((replace(tilt, path=image.path), image))
    return groups


def parse_tilt_name(name: str, ordered: bool = True) -> Optional[Tuple[str, SeriesTilt]]:
    """'TS_01_003_-9.0.mrc' -> ('TS_01', tilt of -9 degrees, the fourth); None where no angle is in the name

    ``ordered``: whether a number before the angle is the order of acquisition, from 0.
    """
    stem = stem_of(name)
    ordered_ones, others = (ORDERED, UNORDERED) if ordered else ((), UNORDERED)
    # A number with a decimal point goes before one without, wherever they stand.
    for pattern in [one for pair in zip(ordered_ones or others, others) for one in pair]:
        match = pattern.match(stem)
        if match and abs(float(match.group("angle"))) <= 90:
            order = match.groupdict().get("order")
            return match.group("name"), SeriesTilt("", float(match.group("angle")), int(order) + 1 if order else 0)
    return None


def _tilts_of(text: str, path: str) -> Tuple[List[SeriesTilt], bool]:
    """A .tlt file: an angle a line, perhaps the dose accumulated by then and the order of acquisition behind it, as
    scipion-em-tomo reads it -> (tilts, whether their order is known)"""
    rows: List[List[float]] = []
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        try:
            rows.append([float(word) for word in words[:3]])
        except ValueError:
            return [], False
    columns = min((len(row) for row in rows), default=0)
    orders = list(range(1, len(rows) + 1))
    if columns > 1:
        # What had received less was taken earlier.
        by_dose = sorted(range(len(rows)), key=lambda place: rows[place][1])
        orders = [by_dose.index(place) + 1 for place in range(len(rows))]
    if columns > 2:
        orders = [int(row[2]) for row in rows]
    doses: Dict[int, float] = {}
    if columns > 1:
        accumulated = 0.0
        for place in sorted(range(len(rows)), key=lambda place: orders[place]):
            doses[place], accumulated = rows[place][1] - accumulated, rows[place][1]
    return [SeriesTilt(path, row[0], orders[place], doses.get(place), -1,
                       row[1] - doses[place] if place in doses else None)
            for place, row in enumerate(rows)], columns > 1


def _received(mdoc: Mdoc) -> Dict[int, Optional[float]]:
    """Order of acquisition -> e/A^2 that had been received by then; None where a dose is not known."""
    received: Dict[int, Optional[float]] = {}
    total: Optional[float] = 0.0
    for tilt in sorted(mdoc.tilts, key=lambda tilt: tilt.order):
        received[tilt.order] = total
        total = None if total is None or tilt.dose is None else total + tilt.dose
    return received


def series_name(base: str) -> str:
    """'1-ts [2].mrc' -> 'TS_1_ts2': what becomes part of tables' names"""
    name = base.split(".")[0]
    name = re.sub(r"[^A-Za-z0-9_]", "", name.replace("-", "_").replace(" ", ""))
    name = re.sub(r"_+", "_", name).strip("_") or "series"
    return "TS_" + name if name[0].isdigit() else name
