# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilt series as SerialEM and Tomo5 describe them, in .mdoc files.

Source: the description of the format in https://bio3d.colorado.edu/SerialEM/hlp/html/about_formats.htm, and the files
that entries hold. An .mdoc is text: lines 'Key = value' of the whole, titles '[T = ...]', then a section '[ZValue = n]'
for each tilt. A section '[FrameSet = n]' describes a movie by itself, which is no tilt series.
"""
import datetime
import ntpath
import re
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Tuple

SECTION = re.compile(r"\[\s*(\w+)\s*=\s*(.*?)\s*\]\s*$")
PAIR = re.compile(r"([A-Za-z]\w*)\s*=\s*(.*?)\s*$")
AXIS = re.compile(r"tilt axis angle\s*=\s*(-?[0-9.]+)", re.IGNORECASE)
TIMES = ("%d-%b-%y  %H:%M:%S", "%d-%b-%Y  %H:%M:%S", "%d-%b-%y %H:%M:%S", "%d-%b-%Y %H:%M:%S",
         "%Y-%m-%d %H:%M:%S", "%Y-%b-%d %H:%M:%S")
# An .mdoc of the longest series is less than a megabyte.
MAX_MDOC_BYTES = 8 << 20


class BadMdocError(Exception):
    """What describes no tilt series."""


@dataclass(frozen=True)
class Tilt:
    """One tilt as the microscope wrote it down; ``None`` where it did not."""
    section: int                    # place among the file's sections, from 0
    file: str                       # base name of the file with its frames, '' where none is named
    angle: float                    # degrees
    order: int                      # of acquisition, from 1
    dose: Optional[float]           # e/A^2


@dataclass
class Mdoc:
    """A whole file; ``tilts`` in the file's order."""
    image_file: str = ""            # base name of the stack, '' where none is named
    pixel_size: Optional[float] = None      # angstrom
    axis: Optional[float] = None            # angle of the tilt axis, degrees
    tilts: List[Tilt] = field(default_factory=list)


def parse_mdoc(text: str) -> Mdoc:
    """Raises BadMdocError for what describes no tilt series."""
    head, titles, sections = _split(text)
    if not sections:
        msg = "it describes no tilt series"
        raise BadMdocError(msg)
    angles = [_number(section.get("TiltAngle")) for section in sections]
    if None in angles:
        msg = "the tilt angle of its section %d is missing" % angles.index(None)
        raise BadMdocError(msg)
    times = [_time(section.get("DateTime", "")) for section in sections]
    ranks = list(range(len(sections)))
    if None not in times:
        ranks.sort(key=lambda place: times[place])
    orders = {place: order for order, place in enumerate(ranks, start=1)}
    mdoc = Mdoc(ntpath.basename(head.get("ImageFile", "")))
    mdoc.pixel_size = _number(head.get("PixelSpacing")) or _number(sections[0].get("PixelSpacing"))
    axis = next((match for match in map(AXIS.search, titles) if match), None)
    mdoc.axis = _number(axis.group(1)) if axis else None
    mdoc.tilts = [Tilt(place, ntpath.basename(section.get("SubFramePath", "")), angle, orders[place],
                       _dose(section, mdoc.pixel_size))
                  for place, (section, angle) in enumerate(zip(sections, angles))]
    return mdoc


def rewrite_mdoc(text: str, names: Mapping[int, str]) -> str:
    """The same with the sections in ``names`` only (place -> name of the file that has its frames), counted anew.

    Programs look for the tilts by that name, and take sections that are not counted 0, 1, 2 for a damaged file.
    """
    lines: List[str] = []
    place, number, kept = -1, -1, True
    for line in text.splitlines():
        section = SECTION.match(line.strip())
        if section and section.group(1) == "ZValue":
            place += 1
            kept = place in names
            number += kept
            line = "[ZValue = %d]" % number
        elif section:
            kept = True
        pair = PAIR.match(line.strip())
        if pair and pair.group(1) == "SubFramePath" and place in names:
            line = "SubFramePath = %s" % names[place]
        if kept:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _split(text: str) -> Tuple[Dict[str, str], List[str], List[Dict[str, str]]]:
    """-> what is said of the whole, the titles, the sections of the tilts"""
    head: Dict[str, str] = {}
    titles: List[str] = []
    sections: List[Dict[str, str]] = []
    current = head
    for line in text.splitlines():
        section = SECTION.match(line.strip())
        pair = PAIR.match(line.strip())
        if section and section.group(1) == "ZValue":
            current = {}
            sections.append(current)
        elif section and section.group(1) == "T":
            titles.append(section.group(2))
        elif section:
            current = {}        # of something else
        elif pair:
            current.setdefault(pair.group(1), pair.group(2))
    return head, titles, sections


def _dose(section: Mapping[str, str], pixel_size: Optional[float]) -> Optional[float]:
    """Of one tilt in e/A^2, from whatever of the section tells it."""
    dose = _number(section.get("ExposureDose"))
    if dose:
        return dose
    pairs = [_number(word) for word in section.get("FrameDosesAndNumber", "").split()]
    if pairs and None not in pairs and len(pairs) % 2 == 0:
        return sum(one * count for one, count in zip(pairs[::2], pairs[1::2])) or None
    rate, seconds = _number(section.get("DoseRate")), _number(section.get("ExposureTime"))
    if rate and seconds and pixel_size:
        return rate * seconds / pixel_size ** 2
    return None


def _number(text: Optional[str]) -> Optional[float]:
    try:
        value = float((text or "").split()[0])
    except (IndexError, ValueError):
        return None
    return value if abs(value) < 1e9 else None


def _time(text: str) -> Optional[datetime.datetime]:
    for form in TIMES:
        try:
            return datetime.datetime.strptime(text.strip(), form)
        except ValueError:
            continue
    return None
