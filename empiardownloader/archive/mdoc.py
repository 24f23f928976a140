# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilt series as SerialEM, Tomo5, PACE-tomo and others describe them, in .mdoc files.

Sources: the description of the format in https://bio3d.colorado.edu/SerialEM/hlp/html/about_formats.htm, and the files
that entries hold. An .mdoc is text: lines 'Key = value' of the whole, titles '[T = ...]', then a section '[ZValue = n]'
for each tilt. A section '[FrameSet = n]' describes a movie by itself, see ``join_frame_sets``.

What the file does not say, or says twice in different ways, is told in ``remarks`` and not guessed.
"""
import datetime
import math
import ntpath
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from .tilt_names import order_in_name

SECTION = re.compile(r"\[\s*(\w+)\s*=\s*(.*?)\s*\]\s*$")
TITLE_BEGIN = re.compile(r"\[\s*T\s*=", re.IGNORECASE)
PAIR = re.compile(r"([A-Za-z][^=\[\]]*?)\s*=\s*(.*?)\s*$")
# SerialEM's angle is IMOD's; Tomo5's, in one word, is -90 degrees minus that.
SERIALEM_AXIS = re.compile(r"tilt axis (?:rotation )?angle\s*=\s*([-+]?[0-9]+(?:[.,][0-9]*)?)", re.IGNORECASE)
TOMO5_AXIS = re.compile(r"TiltAxisAngle\s*=\s*([-+]?[0-9]+(?:[.,][0-9]*)?)")
TOMO5_TITLE = re.compile(r"\s*Tomography(?![a-z])")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
NAMED_MONTH = re.compile(r"([0-9]{1,4})-([A-Za-z]{3})[a-z]*-([0-9]{2,4})[ T]+([0-9]{1,2}):([0-9]{2}):([0-9]{2})")
ISO = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]+([0-9]{1,2}):([0-9]{2}):([0-9]{2})")
# Years in which such files can have been written; the latest is the next one, for clocks that are ahead.
FIRST_YEAR = 2008
# How tomo and RELION read times.
TIME_FORMAT = "%02d-%s-%04d  %02d:%02d:%02d"
# An .mdoc of the longest series is less than a megabyte.
MAX_MDOC_BYTES = 8 << 20
# Sections within this of each other, in degrees, are at one angle; a stage does not return more exactly.
SAME_ANGLE = 0.05
# All images of a map of the grid are this near to each other, in degrees.
LEAST_SPAN = 1.0
AXIS_TOLERANCE = 1.0        # degrees by which title and RotationAngle may differ

# Readers take each of these for one number; values that are no numbers are skipped.
DOSES = ("ExposureDose", "FrameDosesAndNumber", "DoseRate", "CountsPerElectron")
NUMBERS = ("TiltAngle", "PixelSpacing", "Voltage", "Magnification", "Binning", "RotationAngle", "ExposureDose",
           "PriorRecordDose", "DoseRate")

Section = Dict[str, str]


class BadMdocError(Exception):
    """What describes no tilt series."""


@dataclass(frozen=True)
class Tilt:
    """One tilt as the microscope wrote it down; ``None`` where it did not."""
    section: int                    # place among the file's sections, from 0
    file: str                       # base name of the file with its frames, '' where none is named
    angle: float                    # degrees
    order: int                      # of acquisition, from 1; where it is unknown, the place in the file
    dose: Optional[float]           # e/A^2
    before: Optional[float] = None  # e/A^2 that the sample had received when it was taken


@dataclass
class Mdoc:
    """A whole file; ``tilts`` in the file's order."""
    image_file: str = ""            # base name of the stack, '' where none is named
    pixel_size: Optional[float] = None      # angstrom
    axis: Optional[float] = None            # angle of the tilt axis as IMOD counts it, degrees
    voltage: Optional[float] = None         # kV
    magnification: Optional[float] = None
    dose_from: str = ""                     # what tells the dose, '' for nothing
    order_from: str = ""                    # what tells the order of acquisition, '' for nothing
    is_tomo5: bool = False
    tilts: List[Tilt] = field(default_factory=list)
    remarks: List[str] = field(default_factory=list)
    head: Section = field(default_factory=dict)
    titles: List[str] = field(default_factory=list)
    sections: List[Section] = field(default_factory=list)


def parse_mdoc(text: str) -> Mdoc:
    """Raises BadMdocError for what describes no tilt series."""
    head, titles, sections, _ = _split(text)
    if not sections:
        msg = "it describes no tilt series"
        raise BadMdocError(msg)
    return _read(head, titles, sections)


def parse_frame_sets(text: str) -> List[Section]:
    """The sections '[FrameSet = n]' of a file without others, or the only section of a file about one image, each with
    the values of the file's head; else []."""
    head, titles, sections, frame_sets = _split(text)
    if len(sections) == 1 and not frame_sets:
        frame_sets = sections
    elif sections:
        return []
    common = dict(head, **{"T": "\n".join(titles)} if titles else {})
    return [{**common, **section} for section in frame_sets]


def join_frame_sets(frame_sets: Sequence[Section]) -> Mdoc:
    """Movies that were described one by one, taken for one tilt series. Raises BadMdocError."""
    titles = [title for title in frame_sets[0].get("T", "").split("\n") if title]
    head = {key: value for key, value in frame_sets[0].items() if key in ("PixelSpacing", "Voltage", "Magnification")}
    sections = [{key: value for key, value in section.items() if key != "T"} for section in frame_sets]
    return _read(head, titles, sections)


def _read(head: Section, titles: List[str], sections: List[Section]) -> Mdoc:
    told = [_number(section.get("TiltAngle")) for section in sections]
    angles = [angle for angle in told if angle is not None]
    if len(angles) < len(told):
        msg = "the tilt angle of its section %d is missing" % told.index(None)
        raise BadMdocError(msg)
    _refuse_montage(sections, angles)
    mdoc = Mdoc(_base_name(head.get("ImageFile", "")), head=head, titles=titles, sections=sections)
    mdoc.is_tomo5 = any(TOMO5_TITLE.match(title) for title in titles[:1]) or any(map(TOMO5_AXIS.search, titles))
    first = {**head, **sections[0]}
    mdoc.pixel_size = _positive(head.get("PixelSpacing")) or _positive(sections[0].get("PixelSpacing"))
    mdoc.voltage, mdoc.magnification = _positive(first.get("Voltage")), _positive(first.get("Magnification"))
    mdoc.axis = _axis(mdoc, first)
    doses = [_dose({**head, **section}) for section in sections]
    mdoc.dose_from = next((source for _, source in doses if source), "")
    names = [_base_name(section.get("SubFramePath", "")) for section in sections]
    ranks, mdoc.order_from = _order(mdoc, names)
    orders = {place: order for order, place in enumerate(ranks, start=1)}
    before = _received(mdoc, ranks, [dose for dose, _ in doses])
    mdoc.tilts = [Tilt(place, names[place], angle, orders[place], doses[place][0], before[place])
                  for place, angle in enumerate(angles)]
    return mdoc


def _refuse_montage(sections: List[Section], angles: List[float]) -> None:
    """Raises BadMdocError for the pieces of a map. 'Montage = 1' alone decides nothing: true series carry it, too."""
    pieces = [section.get("PieceCoordinates", "").split()[:2] for section in sections]
    by_angle = sorted(range(len(sections)), key=lambda place: angles[place])
    for one, other in zip(by_angle, by_angle[1:]):
        if pieces[one] and pieces[other] and pieces[one] != pieces[other] \
                and angles[other] - angles[one] <= SAME_ANGLE:
            msg = "it describes the pieces of a montage"
            raise BadMdocError(msg)
    if len(angles) > 1 and max(angles) - min(angles) < LEAST_SPAN:
        msg = "all its images are at one angle (%g degrees), so it describes no tilt series" % angles[0]
        raise BadMdocError(msg)


# -------------------------- the order of acquisition -----------------------

def _order(mdoc: Mdoc, names: List[str]) -> Tuple[List[int], str]:
    """Places of the sections in the order in which they were taken, and what says so; '' where nothing does.

    The dose received before a tilt says it surest: it is in the file whatever was cut out of it or sorted since.
    """
    sections = mdoc.sections
    offers: List[Tuple[str, List[Any]]] = [
        ("PriorRecordDose", [_number(section.get("PriorRecordDose")) for section in sections]),
        ("DateTime", [parse_time(section.get("DateTime", ""), mdoc.is_tomo5) for section in sections]),
        ("TimeStamp", [_number(section.get("TimeStamp")) for section in sections]),
        ("the names of the files", [order_in_name(name) for name in names])]
    told = [(source, sorted(range(len(values)), key=lambda place: values[place]))
            for source, values in offers if None not in values and len(set(values)) == len(values)]
    if not told:
        return list(range(len(sections))), ""
    source, ranks = told[0]
    others = [other for other, its in told[1:] if its != ranks]
    if others:
        mdoc.remarks.append("%s and %s tell different orders of acquisition: %s is used" % (
            source, others[0], source))
    return ranks, source


def _received(mdoc: Mdoc, ranks: List[int], doses: List[Optional[float]]) -> Dict[int, Optional[float]]:
    """Place of a section -> e/A^2 that had been received by then; None where that is not known."""
    prior = [_number(section.get("PriorRecordDose")) for section in mdoc.sections]
    if mdoc.order_from == "PriorRecordDose":
        return dict(enumerate(prior))
    received: Dict[int, Optional[float]] = dict.fromkeys(ranks)
    total: Optional[float] = 0.0 if mdoc.order_from else None
    for place in ranks:
        received[place] = total
        dose = doses[place]
        total = None if total is None or dose is None else total + dose
    return received


def parse_time(text: str, is_tomo5: bool = False) -> Optional[datetime.datetime]:
    """'01-Aug-22  18:58:35', '01-Aug-2022 18:58:35', '2022-08-01T18:58:35', Tomo5's '22-Aug-01  18:58:35'"""
    named, iso = NAMED_MONTH.match(text.strip()), ISO.match(text.strip())
    try:
        if iso:
            year, month, day, hour, minute, second = map(int, iso.groups())
            return datetime.datetime(year, month, day, hour, minute, second)
        if named and named.group(2).lower() in MONTHS:
            first, last = named.group(1), named.group(3)
            its_year, its_day = (first, last) if len(first) == 4 or (is_tomo5 and len(last) == 2) else (last, first)
            if len(first) == len(last) == 2 and not _is_year(its_year) and _is_year(its_day):
                its_year, its_day = its_day, its_year
            hour, minute, second = map(int, named.groups()[3:])
            return datetime.datetime(int(its_year) + (2000 if len(its_year) == 2 else 0),
                                     MONTHS.index(named.group(2).lower()) + 1, int(its_day), hour, minute, second)
    except ValueError:
        return None     # a 31st of February
    return None


def _is_year(text: str) -> bool:
    return FIRST_YEAR <= 2000 + int(text) <= datetime.date.today().year + 1


# -------------------------- the tilt axis and the dose -----------------------

def _axis(mdoc: Mdoc, first: Section) -> Optional[float]:
    """By the title, else by the key, else by the rotation of the image, in degrees; 'first': the first section and what
    is said of the whole."""
    rotation = _number(first.get("RotationAngle"))
    by_rotation = None if rotation is None else _wrap(rotation if mdoc.is_tomo5 else rotation - 90)
    serialem = next((match for match in map(SERIALEM_AXIS.search, mdoc.titles) if match), None)
    tomo5 = _number(next((match.group(1) for match in map(TOMO5_AXIS.search, mdoc.titles) if match),
                         first.get("TiltAxisAngle")))
    if serialem:
        axis = _number(serialem.group(1))
    elif tomo5 is not None:
        axis = _wrap(-tomo5 - 90)
    else:
        return by_rotation
    if axis is not None and by_rotation is not None:
        apart = abs(axis - by_rotation) % 180
        # Tomo5 has written its RotationAngle with either sign.
        if min(apart, 180 - apart) > AXIS_TOLERANCE and not mdoc.is_tomo5:
            mdoc.remarks.append("its title says a tilt axis of %g degrees, its RotationAngle %g: the title is used"
                                % (axis, by_rotation))
    return axis


def _wrap(angle: float) -> float:
    """To (-180, 180], without the tails of a subtraction: 175.3 - 90 -> 85.3"""
    return round(180 - (180 - angle) % 360, 6)


def _dose(section: Section) -> Tuple[Optional[float], str]:
    """Of one tilt in e/A^2, and which keys tell it; ``section``: with what is said of the whole."""
    dose = _positive(section.get("ExposureDose"))
    if dose:
        return dose, "ExposureDose"
    words = section.get("FrameDosesAndNumber", "").split()
    pairs = [number for number in map(_number, words) if number is not None]
    if pairs and len(pairs) == len(words) and len(pairs) % 2 == 0:
        dose = sum(one * count for one, count in zip(pairs[::2], pairs[1::2]))
        if dose > 0:
            return dose, "FrameDosesAndNumber"
    rate, seconds = _positive(section.get("DoseRate")), _positive(section.get("ExposureTime"))
    pixel, binning = _positive(section.get("PixelSpacing")), _positive(section.get("Binning")) or 1.0
    if rate and seconds and pixel:
        # Electrons per unbinned pixel and second; the pixel size is of the binned image.
        return rate * seconds * (binning / pixel) ** 2, "DoseRate, behind the sample"
    return None, ""


# -------------------------- writing -----------------------

def write_mdoc(mdoc: Mdoc, names: Mapping[int, str]) -> str:
    """An .mdoc of the sections in ``names`` only (place -> name of the file that has its frames, '' for none), in the
    order of acquisition.

    As scipion-em-tomo and RELION read it: sections counted 0, 1, 2 ..., one '=' in a line, titles on one line, the tilt
    axis in the first title, a dose in each section where one is known, numbers without their units, times in one form,
    and none where they do not tell the order.
    """
    lines = ["%s = %s" % item for item in _plain(mdoc.head)]
    lines.append("")
    if mdoc.axis is not None:
        binning = mdoc.sections[0].get("Binning", "1")
        lines += ["[T =     Tilt axis angle = %g, binning = %s]" % (mdoc.axis, binning), ""]
    for title in mdoc.titles:
        if not SERIALEM_AXIS.search(title) and not TOMO5_AXIS.search(title):
            lines += ["[T = %s]" % title, ""]
    tilts = sorted((tilt for tilt in mdoc.tilts if tilt.section in names), key=lambda tilt: tilt.order)
    told = [parse_time(mdoc.sections[tilt.section].get("DateTime", ""), mdoc.is_tomo5) for tilt in tilts]
    times = [moment for moment in told if moment is not None]
    timed = bool(mdoc.order_from) and len(times) == len(told) and times == sorted(set(times))
    for number, tilt in enumerate(tilts):
        section = dict(mdoc.sections[tilt.section])
        section.pop("DateTime", None)
        if names[tilt.section]:
            section["SubFramePath"] = names[tilt.section]
        if tilt.dose is not None:
            section["ExposureDose"] = "%g" % tilt.dose
        else:
            for key in DOSES:
                section.pop(key, None)
        lines.append("[ZValue = %d]" % number)
        lines += ["%s = %s" % item for item in _plain(section)]
        if timed:
            moment = times[number]
            lines.append("DateTime = " + TIME_FORMAT % (
                moment.day, MONTHS[moment.month - 1].capitalize(), moment.year, moment.hour, moment.minute,
                moment.second))
        lines.append("")
    return "\n".join(lines)


def _plain(section: Section) -> Iterator[Tuple[str, str]]:
    for key, value in section.items():
        number = _number(value) if key in NUMBERS else None
        if number is not None:
            yield key, "%.8g" % number
        elif key != "T" and key not in NUMBERS:
            yield key, value.replace("=", ":")


# -------------------------- the text -----------------------

def _split(text: str) -> Tuple[Section, List[str], List[Section], List[Section]]:
    """-> what is said of the whole, the titles, the sections of tilts, those of movies"""
    head: Section = {}
    titles: List[str] = []
    sections: List[Section] = []
    frame_sets: List[Section] = []
    numbers: List[Optional[float]] = []
    current = head
    lines = iter(text.lstrip("\ufeff").splitlines())
    for line in lines:
        line = line.strip()
        if TITLE_BEGIN.match(line) and "]" not in line:
            # Some programs break the line before the bracket; a title whose bracket is missing ends with its line.
            following = next(lines, "").strip()
            if following == "]" or (following.endswith("]") and not following.startswith("[")):
                line = line + " " + following
            else:
                titles.append(line.partition("=")[2].strip())
                line = following
        section, pair = SECTION.match(line), PAIR.match(line)
        if section and section.group(1) == "ZValue":
            current = {}
            sections.append(current)
            numbers.append(_number(section.group(2)))
        elif section and section.group(1) == "FrameSet":
            current = {}
            frame_sets.append(current)
        elif section and section.group(1) == "T":
            titles.append(section.group(2))
        elif section:
            current = {}        # of something else
        elif pair and pair.group(1) == "T" and current is head:
            titles.append(pair.group(2))
        elif pair:
            current.setdefault(pair.group(1).strip(), pair.group(2))
    if None not in numbers and len(set(numbers)) == len(numbers):
        # The number is that of the image in the stack, wherever its section stands.
        sections = [section for _, section in sorted(zip(numbers, sections), key=lambda item: item[0] or 0)]
    return head, titles, sections, frame_sets


def _base_name(path: str) -> str:
    """'\\\\server\\\\share\\\\frames\\\\a.tif' -> 'a.tif'; a folder has none"""
    return ntpath.basename(path.strip())


def _number(text: Optional[str]) -> Optional[float]:
    try:
        value = float((text or "").split()[0].replace(",", "."))
    except (IndexError, ValueError):
        return None
    return value if math.isfinite(value) and abs(value) < 1e12 else None


def _positive(text: Optional[str]) -> Optional[float]:
    value = _number(text)
    return value if value is not None and value > 0 else None
