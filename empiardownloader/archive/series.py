# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images are the tilts of which series.

What the microscope wrote down beside them, the .mdoc files, says it: one for a series, or one for each of its movies,
in the folder of the images or in another one beside it. Where there are none the names of the images say it, when they
hold an angle. An image without either is a whole series by itself, a stack; its angles may be in a file of
its name (.tlt, .rawtlt).
"""
import datetime
import math
import posixpath
import re
from dataclasses import dataclass, replace
from typing import Callable, Dict, Generator, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from .errors import RemoteError
from .mdoc import BadMdocError, Mdoc, join_frame_sets, parse_frame_sets, parse_mdoc, parse_time
from .names import ancestors, extension_of, join, split_compression, stem_of
from .selection import ImageFinder, RemoteFile
from .tilt_names import (
    LEAST_TILTS,
    MOST_REPEATED,
    TiltName,
    are_angles,
    common_name,
    count_repeated,
    parse_tilt_name,
    series_name,
)

MDOC = ".mdoc"
ANGLES = (".tlt", ".rawtlt")
# Stacks of a tilt series, whatever else may have several sections.
STACK_ENDINGS = (".st", ".ali")
# A folder of this name beside the images shows that movies are tilts, though their category does not.
MDOC_FOLDER = "mdoc"
# Folders that are looked into for .mdoc files which do not lie with the images.
MOST_FOLDERS = 300
LACKING_TOLD = 3
# What processing appends to the name of a stack; with a number behind it or not.
VERSIONS = re.compile(r"[_.-](?:evn|even|odd|dose[_-]?(?:filt|weight)\w*|dw|filt\w*|ali(?:gned)?|preali|bin[0-9]*|"
                      r"b[0-9]+|rec|full(?:_rec)?|sirt\w*|denoised|orig|fixed|erase|ccderaser|ctfcorr\w*|half[12])[0-9]*"
                      r"(?=[_.-]|$)", re.IGNORECASE)
# Share by which doses that are the same may differ, for they are written with few digits.
SAME_DOSE = 0.02
# Tilts of one series follow one another faster than this.
LONGEST_PAUSE = datetime.timedelta(hours=1)
# An angle of a list and one of an .mdoc are of the same tilt up to this many degrees: a refined one is off by a little.
MATCHING_ANGLE = 1.0

ReadText = Callable[[str], str]     # the text of a file of the entry; raises RemoteError


@dataclass(frozen=True)
class SeriesTilt:
    """One image of a series; ``None`` where nobody says."""
    path: str
    angle: Optional[float]          # degrees
    order: int                      # of acquisition, from 1; where it is unknown, any number of its own
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
    description: Optional[Mdoc] = None  # and what that says
    lacking: Tuple[str, ...] = ()       # files that are named there and not in the archive
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
        # .mdoc files of which fewer than two images have been found so far, and those that describe a series.
        self._unused: List[str] = []
        self._used: Set[str] = set()
        self._stacks: Set[str] = set()          # names without endings of stacks that are described
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
            # Those that lie with other images may be about these.
            mdocs = dict.fromkeys(self._unused + self._mdocs_elsewhere(left))
            rest = yield from self._described(list(mdocs), left)
            if self._declared:
                yield from self._undescribed(rest)
            elif rest:
                yield rest, None
        unused = [path for path in dict.fromkeys(self._unused) if path not in self._used]
        if unused:
            self._finder.note("%d .mdoc files are not used, for fewer than two of the images that they name are in the "
                              "image set (%s)." % (len(unused), ", ".join(unused[:LACKING_TOLD])))

    def _undescribed(self, images: Sequence[RemoteFile]) -> Iterator[Tuple[List[RemoteFile], Optional[Series]]]:
        """Series by their names; then images that tell nothing: stacks, or, where there are more of them than the entry
        has series, tilts of which nobody knows the angle."""
        alone = []
        for series in self._by_names(self._without_versions(images)):
            if series.is_stack and not series.tilts:
                alone.append(series)
            else:
                yield list(series.images), series
        promised = self._finder.image_set.num_images
        stacks = [series for series in alone if extension_of(series.images[0].path) in STACK_ENDINGS]
        tilts = [series for series in alone if series not in stacks]
        if promised is not None and len(alone) > promised and tilts:
            self._finder.note("The angles of %d images are neither in .mdoc files nor in their names (%s): they "
                              "are registered without series." % (len(tilts), tilts[0].images[0].path))
            yield [image for series in tilts for image in series.images], None
            tilts = []
        for series in alone:
            if series in stacks or series in tilts:
                yield list(series.images), series

    def _without_versions(self, images: Sequence[RemoteFile]) -> List[RemoteFile]:
        """Images without those that processing made of a described stack: 'TS_1_EVN.st' beside 'TS_1.st'."""
        versions = [image for image in images if any(
            stem_of(image.path).startswith(stem) and VERSIONS.match(stem_of(image.path)[len(stem):])
            for stem in self._stacks)]
        if versions:
            self._finder.note("%d files are not downloaded, for by their names they are versions of stacks that are "
                              "described (%s): fill in the file pattern to get them." % (
                                  len(versions), ", ".join(image.path for image in versions[:LACKING_TOLD])))
        return [image for image in images if image not in versions]

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
        except RemoteError as error:
            self._finder.unread[path] = str(error)
            return None

    def _described(self, mdocs: Sequence[str], images: Sequence[RemoteFile]) -> Generator[
            Tuple[List[RemoteFile], Series], None, List[RemoteFile]]:
        """What .mdoc files tell of images; gives back those of which they tell nothing."""
        known = _Known(images)
        taken: Set[str] = set()
        frames: Dict[str, str] = {}         # path of a movie -> of the .mdoc that is about it alone
        alike: Set[Tuple[str, str]] = set()     # folders and names of the series of movies that have one each
        for path in sorted(mdocs):
            own = known.find(posixpath.basename(path)[:-len(MDOC)], path)
            if own and (not self._declared or _group_of(own) in alike):
                frames[own.path] = path     # of a single movie; of tilts it is read when its series is asked for
                continue
            text = self._text_of(path)
            if text is None:
                continue
            frame_sets = parse_frame_sets(text)
            if frame_sets:
                named = [known.find(posixpath.basename(section.get("SubFramePath", "").replace("\\", "/")), path)
                         for section in frame_sets]
                for image in [own] if own and len(frame_sets) == 1 else named:
                    if image is not None:
                        frames[image.path] = path
                        alike.add(_group_of(image))
                continue
            series = self._of_mdoc(path, text, known)
            if series is None:
                continue
            twice = [image.path for image in series.images if image.path in taken]
            if twice:
                self._finder.note("%s is not used: %s is a tilt of another series already." % (path, twice[0]))
                continue
            taken.update(image.path for image in series.images)
            yield self._named(series, posixpath.basename(path)[:-len(MDOC)])
        if self._declared and frames:
            left = [image for image in images if image.path in frames and image.path not in taken]
            for series, name in self._of_movies(left, frames):
                taken.update(image.path for image in series.images)
                yield self._named(series, name)
        return [image for image in images if image.path not in taken]

    def _named(self, series: Series, name: str) -> Tuple[List[RemoteFile], Series]:
        """A described series with a name of its own, and its images."""
        self._used.add(series.mdoc)
        if series.is_stack:
            self._stacks.add(stem_of(series.images[0].path))
        mdoc = series.description or Mdoc()
        remarks = list(mdoc.remarks)
        if not mdoc.order_from and series.ordered:
            series = replace(series, ordered=False)
        if not series.ordered:
            remarks.append("nothing says in which order its tilts were taken, so it is registered without dose before "
                           "each tilt, its tilts numbered in the order of their angles" if not mdoc.order_from else
                           "its order of acquisition is not known")
        if mdoc.axis is None:
            remarks.append("nothing says the angle of its tilt axis")
        for remark in remarks:
            self._finder.note("%s: %s." % (series.mdoc, remark))
        return list(series.images), replace(series, name=self._unique(name, posixpath.dirname(series.mdoc)))

    def _of_mdoc(self, path: str, text: str, known: "_Known") -> Optional[Series]:
        try:
            mdoc = parse_mdoc(text)
        except BadMdocError as error:
            # Of a picture of the grid: SerialEM writes them for everything.
            if "[ZValue" in text:
                self._finder.note("%s is not used: %s." % (path, error))
            return None
        series = self._of_frames(path, mdoc, known) or self._of_stack(path, mdoc, known)
        if series is None:
            self._unused.append(path)
        return series

    def _of_frames(self, path: str, mdoc: Mdoc, known: "_Known") -> Optional[Series]:
        tilts, images, lacking = [], [], []
        for tilt in mdoc.tilts:
            image = known.find(tilt.file, path) if tilt.file else None
            if image is None:
                lacking.append(tilt.file or "section %d" % tilt.section)
                continue
            images.append(image)
            tilts.append(SeriesTilt(image.path, tilt.angle, tilt.order, tilt.dose, tilt.section, tilt.before))
        if len(tilts) < 2:
            return None
        if len({image.path for image in images}) < len(images):
            self._finder.note("%s is not used: it names a file twice." % path)
            return None
        if lacking:
            self.lacking = True
            self._finder.note("%s: %d of %d tilts are not in the archive (%s): it is registered without them. "
                              'What "compose tilt series" makes of it lacks their dose.' % (
                                  path, len(lacking), len(mdoc.tilts), ", ".join(lacking[:LACKING_TOLD])))
        return _in_order(Series("", tuple(tilts), tuple(images), path, mdoc, tuple(lacking), bool(mdoc.order_from)))

    def _of_movies(self, images: Sequence[RemoteFile], frames: Dict[str, str]) -> Iterator[Tuple[Series, str]]:
        """Series of movies that have an .mdoc each: (series, its name)."""
        for group, members in self._grouped_by_name(images):
            sections = []
            for image in members:
                text = self._text_of(frames[image.path])
                its = parse_frame_sets(text) if text is not None else []
                name = posixpath.basename(image.path)
                section = its[0] if len(its) == 1 else next((one for one in its if one.get(
                    "SubFramePath", "").replace("\\", "/").endswith("/" + name)), None)
                if section is not None:
                    # Whatever it was called at the microscope.
                    sections.append((image, dict(section, SubFramePath=name)))
            if len(sections) < LEAST_TILTS:
                continue
            its_images = [image for image, _ in sections]
            try:
                mdoc = join_frame_sets([section for _, section in sections])
            except BadMdocError as error:
                self._finder.note("%s and the other .mdoc files of its series are not used: %s." % (
                    frames[its_images[0].path], error))
                continue
            repeated = count_repeated([tilt.angle for tilt in mdoc.tilts])
            times = sorted(filter(None, (parse_time(section.get("DateTime", ""), mdoc.is_tomo5)
                                         for _, section in sections)))
            if any(after - before > LONGEST_PAUSE for before, after in zip(times, times[1:])):
                self._finder.note("%d movies like %s have .mdoc files of their own, and more than an hour lies between "
                                  "two of them: which of them make a series is not known." % (
                                      len(its_images), its_images[0].path))
                continue
            if repeated > len(mdoc.tilts) * MOST_REPEATED or (repeated and not mdoc.order_from):
                self._finder.note("%d movies like %s have .mdoc files of their own, but not all have an angle of their "
                                  "own: which of them make a series is not known." % (
                                      len(its_images), its_images[0].path))
                continue
            tilts = tuple(SeriesTilt(image.path, tilt.angle, tilt.order, tilt.dose, tilt.section, tilt.before)
                          for image, tilt in zip(its_images, mdoc.tilts))
            name = group or common_name([image.path for image in its_images])
            yield _in_order(Series("", tilts, tuple(its_images), frames[its_images[0].path], mdoc, (),
                                   bool(mdoc.order_from))), name

    @staticmethod
    def _grouped_by_name(images: Sequence[RemoteFile]) -> Iterator[Tuple[str, List[RemoteFile]]]:
        """Images that may be a series each: those whose names say the same series, else (with '') those of a folder
        whose names begin alike."""
        groups: Dict[Tuple[str, str, str], List[RemoteFile]] = {}
        for (folder, _), members in _split_by_order(_grouped(images, True)).items():
            for image, said in members:
                begins = "" if said else common_name([image.path, image.path])
                groups.setdefault((folder, said.series if said else "", begins), []).append(image)
        for (_, group, _), members_of_group in groups.items():
            yield group, members_of_group

    def _of_stack(self, path: str, mdoc: Mdoc, known: "_Known") -> Optional[Series]:
        # A stack that was renamed, and its .mdoc with it, is still called as before in there.
        own = known.find(posixpath.splitext(posixpath.basename(path))[0], path)
        named = known.find(mdoc.image_file, path)
        image = own or named
        if image is None:
            return None
        if named is not None and named != image:
            self._finder.note("%s names %s as its stack, and is called like %s: it is taken to be about that." % (
                path, named.path, image.path))
        tilts = [SeriesTilt(image.path, tilt.angle, tilt.order, tilt.dose, tilt.section, tilt.before)
                 for tilt in mdoc.tilts]
        ordered = bool(mdoc.order_from)
        listed, _, name = self._angles_beside(image, reversed(ANGLES))
        if listed:
            tilts, problem = _matched(image.path, [_angle(tilt) for tilt in listed], tilts)
            if problem:
                ordered = False
                self._finder.note("%s has the angles of %s, and %s tells others (%s): which tilt is which is not "
                                  "known, so it has no doses." % (image.path, name, path, problem))
        elif mdoc.is_tomo5 and [tilt.angle for tilt in tilts] != sorted(map(_angle, tilts)):
            tilts.sort(key=_angle)
            self._finder.note("%s is taken to be in the order of its angles, as Tomography writes stacks: no .rawtlt "
                              "file says it." % image.path)
        return Series("", tuple(tilts), (image,), path, mdoc, (), ordered)

    # -------------------------- by names -----------------------

    def _by_names(self, images: Sequence[RemoteFile]) -> Iterator[Series]:
        groups = _split_by_order(_grouped(images, True))
        promised = self._finder.image_set.num_images
        for (folder, name), members in groups.items():
            angles = [said.angle for _, said in members if said]
            if promised is not None and len(groups) < promised < len(images) and count_repeated(angles) and are_angles(
                    [said for _, said in members if said]):
                self._finder.note("%d images like %s would be one tilt series by their names, some of them at one "
                                  "angle; but there would be %d series, and the entry says %d: they are registered "
                                  "without series." % (len(members), members[0][0].path, len(groups), promised))
                for image, _ in members:
                    yield Series(self._unique(stem_of(image.path), folder), (), (image,), ordered=False)
                continue
            named = [(image, said) for image, said in members if said is not None]
            if not are_angles([said for _, said in named]) or len(named) < len(members):
                for image, _ in members:
                    yield self._stack(image)
                continue
            orders = {said.order for _, said in named}
            ordered = 0 not in orders and len(orders) == len(named)
            if not ordered:
                self._finder.note("No file says in which order the tilts of %s were taken: they are registered in the "
                                  "order of their angles, without dose." % name)
            named.sort(key=lambda member: member[1].order if ordered else member[1].angle)
            tilts = tuple(SeriesTilt(image.path, said.angle, order)
                          for order, (image, said) in enumerate(named, start=1))
            yield Series(self._unique(name, folder), tilts, tuple(image for image, _ in named), ordered=ordered)

    def _stack(self, image: RemoteFile) -> Series:
        """An image by itself; its angles from a file of the same name, where there is one."""
        tilts, ordered, name = self._angles_beside(image, ANGLES)
        if tilts and not ordered:
            self._finder.note("%s tells no order of acquisition: its tilts are numbered in the order of its lines, and "
                              "have no dose." % name)
        if tilts:
            self._stacks.add(stem_of(image.path))
        return Series(self._unique(stem_of(image.path), image.folder), tuple(tilts), (image,), ordered=ordered)

    def _angles_beside(self, image: RemoteFile, endings: Iterable[str]) -> Tuple[List[SeriesTilt], bool, str]:
        """The tilts that the first file of angles with the name of a stack lists, whether their order is known, and its
        path."""
        listing = self._finder.listing_or_lost(image.folder)
        names = {name.lower(): name for name, _ in (listing.files if listing else ())}
        for ending in endings:
            name = names.get((stem_of(image.path) + ending).lower())
            if name:
                path = join(image.folder, name)
                tilts, ordered, remark = _tilts_of(self._text_of(path) or "", image.path)
                if remark:
                    self._finder.note("%s: %s." % (path, remark))
                if tilts:
                    return tilts, ordered, path
        return [], False, ""

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
            front, end = ([place[::way], parts[::way]] for way in (1, -1))
            return -len(posixpath.commonprefix(front)), -len(posixpath.commonprefix(end))

        near = sorted(found, key=lambda image: (far(image), image.path))
        if not near or (len(near) > 1 and far(near[0]) == far(near[1])):
            return None
        return near[0]


_Groups = Dict[Tuple[str, str], List[Tuple[RemoteFile, Optional[TiltName]]]]


def _grouped(images: Sequence[RemoteFile], ordered: bool) -> _Groups:
    """(folder, name of the series) -> its images, and what their names say."""
    groups: _Groups = {}
    for image in images:
        said = parse_tilt_name(posixpath.basename(image.path), ordered)
        groups.setdefault((image.folder, said.series if said else stem_of(image.path)), []).append((image, said))
    return groups


def _split_by_order(groups: _Groups) -> _Groups:
    """The same, but for names whose order of acquisition is part of the series' own: 'tomo_7_-9.0.mrc'."""
    split: _Groups = {}
    for group, members in groups.items():
        if len({said.order if said else None for _, said in members}) == len(members):
            split[group] = members
        else:
            split.update(_grouped([image for image, _ in members], False))
    return split


def _group_of(image: RemoteFile) -> Tuple[str, str]:
    """The folder, and what names of one series have in common."""
    name = parse_tilt_name(posixpath.basename(image.path))
    return image.folder, name.series if name else common_name([image.path, image.path])


def _in_order(series: Series) -> Series:
    """Tilts and images in the order of acquisition; where that is not known, of the angles."""
    tilts = list(zip(series.tilts, series.images))
    tilts.sort(key=lambda item: item[0].order if series.ordered else _angle(item[0]))
    if not series.ordered:
        tilts = [(replace(tilt, order=place, before=None), image) for place, (tilt, image) in enumerate(tilts, start=1)]
    return replace(series, tilts=tuple(tilt for tilt, _ in tilts), images=tuple(image for _, image in tilts))


def _angle(tilt: SeriesTilt) -> float:
    """Of a tilt whose angle is told."""
    assert tilt.angle is not None
    return tilt.angle


def _matched(path: str, angles: List[float], tilts: List[SeriesTilt]) -> Tuple[List[SeriesTilt], str]:
    """The sections of a stack, whose angles a list gives in their order, each with order and dose of the tilt of that
    angle -> (tilts, what does not fit, '' for nothing)"""
    left = sorted(tilts, key=_angle)
    found: Dict[int, SeriesTilt] = {}
    for place in sorted(range(len(angles)), key=lambda place: angles[place]):
        near = min(left, key=lambda tilt: abs(_angle(tilt) - angles[place]), default=None)
        if near is None or abs(_angle(near) - angles[place]) > MATCHING_ANGLE:
            found.clear()
            break
        left.remove(near)
        found[place] = near
    if found:
        return [replace(found[place], angle=angle) for place, angle in enumerate(angles)], ""
    problem = "%d angles from %g to %g, and %d from %g to %g" % (
        len(angles), min(angles), max(angles), len(tilts), min(map(_angle, tilts)), max(map(_angle, tilts)))
    return [SeriesTilt(path, angle, place) for place, angle in enumerate(angles, start=1)], problem


def _tilts_of(text: str, path: str) -> Tuple[List[SeriesTilt], bool, str]:
    """A file of angles, one a line -> (tilts, whether their order is known, a remark).

    Behind the angle stand the dose accumulated by then and the order of acquisition, as scipion-em-tomo has them, or
    the order and the dose of the tilt, as AreTomo has them. Numbers that can be neither are not believed.
    """
    rows: List[List[float]] = []
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        try:
            rows.append([float(word) for word in words[:3]])
        except ValueError:
            return [], False, ""
    angles = [row[0] for row in rows]
    if not all(math.isfinite(value) for row in rows for value in row) or any(abs(angle) > 90 for angle in angles):
        return [], False, "it has numbers that are no angles, so it is not used"
    columns = [list(column) for column in zip(*(row[1:] for row in rows))]
    orders = next((order for order in map(_as_order, columns) if order), [])
    doses = next((column for column in columns if not _as_order(column)), [])
    accumulated = bool(doses) and min(doses) >= 0 and len(set(doses)) == len(doses)
    if accumulated and not orders:
        # What had received less was taken earlier.
        orders = [sorted(doses).index(dose) + 1 for dose in doses]
    in_order = sorted(range(len(rows)), key=lambda place: orders[place]) if orders else []
    received: Dict[int, Tuple[Optional[float], Optional[float]]] = {}       # place -> dose of the tilt, and before it
    remark, before = "", 0.0
    if accumulated and [doses[place] for place in in_order] == sorted(doses):
        if min(doses) > 0:
            for place in in_order:
                received[place], before = (doses[place] - before, before), doses[place]
        else:
            # What the first had received before it: each has it so, and the last one's own is told where all are alike.
            steps = [doses[after] - doses[one] for one, after in zip(in_order, in_order[1:])]
            alike = bool(steps) and max(steps) - min(steps) < SAME_DOSE * max(steps)
            received = {place: (steps[0] if alike else None, doses[place]) for place in in_order}
    elif doses and min(doses) > 0 and (orders or len(set(doses)) == 1):
        for place in in_order or range(len(rows)):
            received[place], before = (doses[place], before if orders else None), before + doses[place]
    elif doses:
        remark = "the numbers behind its angles are neither doses nor an order of acquisition, so they are not used"
    tilts = []
    for place, angle in enumerate(angles):
        dose, before_it = received.get(place, (None, None))
        tilts.append(SeriesTilt(path, angle, orders[place] if orders else place + 1, dose, -1, before_it))
    return tilts, bool(orders), remark


def _as_order(column: Sequence[float]) -> List[int]:
    """[2.0, 0.0, 1.0] -> [3, 1, 2]; [] for what is no order"""
    least = min(column, default=0)
    if sorted(column) != [least + place for place in range(len(column))] or least not in (0, 1):
        return []
    return [int(value - least) + 1 for value in column]
