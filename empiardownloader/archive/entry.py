# SPDX-License-Identifier: GPL-3.0-or-later
"""An EMPIAR entry and its acquisition, from what the REST APIs of EMPIAR and EMDB answer.

The archive's own field names (EMPIAR schema) end here: they are converted to typed Python values, once.
"""
import html
import logging
import math
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .errors import EntryError
from .kinds import TILT_SERIES, Kind, kind_of, preferred, why_files_only
from .names import emdb_name, is_safe, page_of, split_path

logger = logging.getLogger(__name__)

RELEASED = "REL"
GONE = {"OBS": "has been made obsolete", "WDRN": "has been withdrawn", "UNARCH": "is no longer archived"}
NOT_YET = ("HPUB", "HOLD", "PROC", "WAIT", "EMDBPUB", "HPRE")
AUTHORS_NAMED = 5
UNITS = {"B": 1, "KB": 10 ** 3, "MB": 10 ** 6, "GB": 10 ** 9, "TB": 10 ** 12, "PB": 10 ** 15}
LISTED_IMAGE_SETS = 10      # in the sentence of an error


@dataclass(frozen=True)
class ImageSet:
    """One image set of an entry; ``None`` where the depositors gave nothing."""
    number: int                     # 1..n, the order of the entry
    name: str
    directory: str
    category: str
    data_format: str
    num_images: Optional[int]
    frames: Optional[int]           # frames of one movie
    pixel_size: Optional[float]     # angstrom
    width: Optional[int]            # pixels
    height: Optional[int]           # pixels
    file_pattern: str
    details: str = ""
    particles_pattern: str = ""     # of the files that describe picked particles

    @property
    def kind(self) -> Kind:
        return kind_of(self.category, self.data_format)

    @property
    def why_files_only(self) -> str:
        """A sentence where Scipion has no set for what it holds, else ''."""
        return why_files_only(self.category, self.data_format)

    def describe(self) -> str:
        """-> 'no. 2 "Movies" (micrographs - multiframe, MRC, 1250 images)'"""
        counted = "series" if self.kind == TILT_SERIES else "images"
        images = "" if self.num_images is None else ", %d %s" % (self.num_images, counted)
        return 'no. %d "%s" (%s, %s%s)' % (self.number, self.name or self.directory, self.category or "no category",
                                           self.data_format or "unknown format", images)


@dataclass(frozen=True)
class Entry:
    """A released entry of EMPIAR."""
    number: str                     # "10200"
    title: str
    status: str
    organization: str
    authors: Tuple[str, ...]
    deposition_date: str            # as the archive writes it, "2018-06-13"
    release_date: str
    dataset_size: str               # as the archive writes it, "1.9 TB"
    doi: str
    emdb_ids: Tuple[str, ...]
    image_sets: Tuple[ImageSet, ...]
    workflow_file: str = ""         # path below the entry's folder of what its depositors did, mostly in Scipion
    workflow_urls: Tuple[str, ...] = ()
    papers: Tuple[str, ...] = ()    # as they are cited

    @property
    def name(self) -> str:
        return "EMPIAR-" + self.number

    @property
    def page(self) -> str:
        return page_of(self.number)

    @property
    def first_authors(self) -> str:
        """The first few, for people; '' where none is told."""
        return ", ".join(self.authors[:AUTHORS_NAMED]) + (" and others" if len(self.authors) > AUTHORS_NAMED else "")

    @property
    def size_bytes(self) -> Optional[int]:
        """None where the archive tells no size."""
        return size_in_bytes(self.dataset_size)

    @property
    def kinds(self) -> Tuple[str, ...]:
        """('movies', 'particles'), in the order of the image sets"""
        return tuple(dict.fromkeys(each.kind.name for each in self.image_sets))

    def image_set(self, choice: str = "") -> ImageSet:
        """The image set that ``choice`` says: its number 1..n, its name, or '' for the first one of movies, else of
        tilt series, else the first.

        Raises EntryError, with what there is, when there is no such image set.
        """
        wanted = (choice or "").strip()
        if not self.image_sets:
            msg = "%s has no image set at all: see %s." % (self.name, self.page)
            raise EntryError(msg)
        if not wanted:
            return self.image_sets[preferred([each.kind.name for each in self.image_sets])]
        found = [s for s in self.image_sets if str(s.number) == wanted]
        found = found or [s for s in self.image_sets if s.name.strip().lower() == wanted.lower()]
        if not found:
            msg = '%s has no image set "%s": it has %s.' % (self.name, wanted, self._list_image_sets())
            raise EntryError(msg)
        return found[0]

    def _list_image_sets(self) -> str:
        listed = "; ".join(image_set.describe() for image_set in self.image_sets[:LISTED_IMAGE_SETS])
        if len(self.image_sets) > LISTED_IMAGE_SETS:
            listed += "; and %d more" % (len(self.image_sets) - LISTED_IMAGE_SETS)
        return listed


@dataclass(frozen=True)
class Acquisition:
    """How the microscope was set, from the EMDB record; ``None`` where it does not say."""
    source: str = ""                                # "EMD-0144"
    voltage: Optional[float] = None                 # kV
    spherical_aberration: Optional[float] = None    # mm
    magnification: Optional[float] = None
    dose_per_movie: Optional[float] = None          # e/A^2
    frames: Optional[int] = None
    notes: Tuple[str, ...] = field(default=())


def parse_entry_id(text: Optional[str]) -> str:
    """' EMPIAR-10200 ' -> '10200', 'https://www.ebi.ac.uk/empiar/EMPIAR-10200/' -> '10200'

    Raises EntryError for what is no entry number, and no address or DOI with one in it.
    """
    text = (text or "").strip()
    match = re.fullmatch(r"(?:EMPIAR[-_ ]?)?([0-9]{1,9})", text, re.IGNORECASE)
    if match is None and "/" in text:
        match = re.search(r"(?:/entry/|/world_availability/|EMPIAR[-_])([0-9]{1,9})(?![0-9])", text, re.IGNORECASE)
    emdb = re.fullmatch(r"EMD-?[0-9]{4,5}", text, re.IGNORECASE)
    if emdb is not None:
        msg = "%s is an EMDB number. Its EMDB page names the EMPIAR entry (for example 10200)." % text.upper()
        raise EntryError(msg)
    if match is None:
        msg = '"%s" is not an EMPIAR entry number: type digits, for example 10200, or find an entry with the wand of ' \
              "the form or with empiar search." % text[:80]
        raise EntryError(msg)
    return match.group(1)


def parse_entry(number: str, record: Dict[str, Any]) -> Entry:
    """The REST API's record -> Entry. Raises EntryError for an entry that is not released."""
    status = _text(record.get("status")).upper()
    name = "EMPIAR-" + number
    if status in GONE:
        msg = "%s %s (status %s), so its images cannot be downloaded: see %s." % (
            name, GONE[status], status, page_of(number))
        raise EntryError(msg)
    if status in NOT_YET:
        msg = "%s is not public yet (%s): you can download it after its release." % (name, status)
        raise EntryError(msg)
    if status and status != RELEASED:
        logger.warning("%s has the unknown status %s; going on as if it were released.", name, status)
    author = record.get("corresponding_author")
    author = author.get("author", author) if isinstance(author, dict) else {}
    return Entry(
        number=number,
        title=_prose(record.get("title")),
        status=status,
        organization=_prose(author.get("organization")) if isinstance(author, dict) else "",
        authors=tuple(_authors(record.get("authors"))),
        deposition_date=_text(record.get("deposition_date")),
        release_date=_text(record.get("release_date")),
        dataset_size=_text(record.get("dataset_size")),
        doi=_text(record.get("entry_doi")) or "10.6019/" + name,
        emdb_ids=tuple(_emdb_ids(record.get("cross_references"))),
        image_sets=tuple(_image_sets(record.get("imagesets"))),
        workflow_file=_workflow_file(record),
        workflow_urls=tuple(_workflow_urls(record.get("workflows"))),
        papers=tuple(_papers(record.get("citation"))))


def size_in_bytes(text: str) -> Optional[int]:
    """'1.9 TB' -> 1900000000000, as the archive writes sizes of entries, '1.9TB' too; None for what is no size"""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGTP]?B)", text.strip(), re.IGNORECASE)
    size = round(float(found.group(1)) * UNITS[found.group(2).upper()]) if found else 0
    # As much as a file system counts to; more is a slip.
    return size if found and size < 2 ** 63 else None


def parse_acquisition(emdb_id: str, record: Any) -> Optional[Acquisition]:
    """An EMDB record (JSON) -> Acquisition, or None where it has no microscopy part."""
    for determination in _listed(record, "structure_determination_list", "structure_determination"):
        for microscopy in _listed(determination, "microscopy_list", "microscopy"):
            recording = next(_listed(microscopy, "image_recording_list", "image_recording"), {})
            digitization = recording.get("digitization_details")
            frames = digitization.get("frames_per_image") if isinstance(digitization, dict) else None
            return Acquisition(
                source=emdb_id,
                voltage=_number(microscopy.get("acceleration_voltage")),
                spherical_aberration=_number(microscopy.get("nominal_cs"), zero=True),
                magnification=(_number(microscopy.get("nominal_magnification"))
                               or _number(microscopy.get("calibrated_magnification"))),
                dose_per_movie=_number(recording.get("average_electron_dose_per_image")),
                frames=_frames(frames))
    return None


def _text(value: Any) -> str:
    """None -> '', 12 -> '12', ' a\\nb ' -> 'a b'; what a terminal would act on is left out"""
    if value is None or isinstance(value, (dict, list)):
        return ""
    return "".join(character for character in " ".join(str(value).split()) if character.isprintable())


def _prose(value: Any) -> str:
    """'Cell &amp;amp; <i>E. coli</i>' -> 'Cell & E. coli': depositors paste from pages, and some records are escaped
    twice."""
    return _text(re.sub("</?(?:i|b|em|sub|sup)>", "", html.unescape(html.unescape(_text(value))), flags=re.IGNORECASE))


def _number(value: Any, zero: bool = False) -> Optional[float]:
    """{'valueOf_': '300'} -> 300.0, '1.05' -> 1.05; '', None, 'n/a', -1 (and 0 unless ``zero``) -> None"""
    if isinstance(value, dict):
        value = value.get("valueOf_")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    allowed = number >= 0 if zero else number > 0
    return number if allowed and math.isfinite(number) else None


def _count(value: Any) -> Optional[int]:
    """'3838' -> 3838; what is no positive number -> None"""
    number = _number(value)
    return None if number is None or not 1 <= number < 2 ** 63 else int(number)


def _frames(value: Any) -> Optional[int]:
    """'40' -> 40, '1-40' -> 40, '3-40' -> 38"""
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*-\s*([0-9]{1,9})\s*", str(value))
    if match:
        first, last = int(match.group(1)), int(match.group(2))
        return last - first + 1 if last >= first else None
    return _count(value)


def _authors(value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list) else []:
        author = item.get("author", item) if isinstance(item, dict) else {"name": item}
        name = _text(author.get("name")) if isinstance(author, dict) else _text(author)
        if name:
            yield name


def _emdb_ids(value: Any) -> Iterator[str]:
    """['EMD-1234', {'name': 'EMD-339'}], 'emd_1234, EMDB-0339' -> 'EMD-1234', 'EMD-0339' ..."""
    found: List[str] = []
    for item in value if isinstance(value, list) else [value]:
        text = _text(item.get("name") if isinstance(item, dict) else item)
        numbers = re.findall(r"\bEMDB?[-_ ]?([0-9]{1,6})\b", text, re.IGNORECASE)
        found += map(emdb_name, numbers)
    yield from dict.fromkeys(found)


def _papers(value: Any) -> Iterator[str]:
    """'Scheres S, Chen S. Title. Nature Methods (2012). https://doi.org/10.1038/nmeth.2115' of each, what is not told
    left out."""
    for record in value if isinstance(value, list) else []:
        if not isinstance(record, dict) or not _prose(record.get("title")):
            continue
        authors = ", ".join(_authors(record.get("authors")))
        year = _text(record.get("year"))
        journal = _prose(record.get("journal")) or _prose(record.get("journal_abbreviation"))
        doi = re.sub("^(?:https?://(?:dx\\.)?doi\\.org/|doi:)", "", _text(record.get("doi")), flags=re.IGNORECASE)
        parts = [authors, _prose(record.get("title")).rstrip("."),
                 journal + (" (%s)" % year if year else "") if journal else year]
        yield ". ".join(part for part in parts if part) + "." + (" https://doi.org/" + doi if doi else "")


def _workflow_file(record: Dict[str, Any]) -> str:
    """{'path': 'data/w.json'}, 'data/w.json' or 'path=data/w.json' of the entry, in older records of an image set."""
    sets = record.get("imagesets")
    for value in [record.get("workflow_file"), *[each.get("scipion_workflow") for each in (
            sets if isinstance(sets, list) else []) if isinstance(each, dict)]]:
        text = _text(value.get("path") if isinstance(value, dict) else value)
        parts = split_path(text[len("path="):] if text.startswith("path=") else text)
        if parts and all(map(is_safe, parts)):
            return "/".join(parts)
    return ""


def _workflow_urls(value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list) else []:
        url = _text(item.get("url") if isinstance(item, dict) else item)
        if re.fullmatch(r"https?://[^\s\[\]]{1,300}", url):
            yield url


def _image_sets(value: Any) -> Iterator[ImageSet]:
    records = [record for record in value if isinstance(record, dict)] if isinstance(value, list) else []
    for number, record in enumerate(records, start=1):
        yield ImageSet(
            number=number,
            name=_text(record.get("name")),
            # Blanks inside a folder's name are part of it.
            directory=str(record.get("directory") or "").strip(),
            category=_text(record.get("category")),
            data_format=_text(record.get("data_format")),
            num_images=_count(record.get("num_images_or_tilt_series")),
            frames=_count(record.get("frames_per_image")),
            pixel_size=_number(record.get("pixel_width")) or _number(record.get("pixel_height")),
            width=_count(record.get("image_width")),
            height=_count(record.get("image_height")),
            file_pattern=str(record.get("micrographs_file_pattern") or "").strip(),
            details=_prose(record.get("details")),
            particles_pattern=str(record.get("picked_particles_file_pattern") or "").strip())


def _listed(record: Any, outer: str, inner: str) -> Iterator[Dict[str, Any]]:
    """The dicts under record[outer][inner], which may be one dict, a list, or missing."""
    holder = record.get(outer) if isinstance(record, dict) else None
    items = holder.get(inner) if isinstance(holder, dict) else None
    items = items if isinstance(items, list) else [items]
    return (item for item in items if isinstance(item, dict))
