# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry as the catalogue knows it: EMPIAR's record, joined with EMDB's rows of the maps that it is linked to."""
import re
from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from ..archive.entry import RELEASED, Entry, parse_entry

# Of EMDB's search, in the order in which they are asked for; its own names.
EMDB_FIELDS = ("emdb_id", "title", "resolution", "structure_determination_method", "microscope_name",
               "sample_info_string", "fitted_pdbs", "xref_EMPIAR")
# EMDB's words for methods, as its search gives them, and those that people use.
METHODS = {"singleparticle": "single particle", "subtomogramaveraging": "subtomogram averaging",
           "tomography": "tomography", "helical": "helical", "electroncrystallography": "electron crystallography"}
# Of texts in which they stand: an EMDB map, a PDB model.
EMDB_ID = r"EMDB?[-_ ]?([0-9]{3,6})"
PDB_ID = r"(?<![A-Za-z0-9])([0-9][A-Za-z0-9]{3})(?![A-Za-z0-9])"


@dataclass(frozen=True)
class ImageSetFacts:
    name: str
    kind: str                       # as archive/kinds.py names them
    data_format: str
    images: Optional[int]           # images, or tilt series
    frames: Optional[int]
    pixel_size: Optional[float]     # angstrom
    width: Optional[int]            # pixels
    height: Optional[int]


@dataclass(frozen=True)
class EntryFacts:
    """None and '' where nobody tells. Dates are as the archive writes them, 2018-06-13."""
    number: int
    title: str
    authors: Tuple[str, ...]
    status: str
    released: str
    updated: str
    size_bytes: Optional[int]
    experiment: str                 # EMPIAR's experiment type: EMDB (cryo-EM), SBF-SEM ...
    doi: str
    emdb: Tuple[str, ...]
    pdb: Tuple[str, ...]
    has_workflow: bool
    image_sets: Tuple[ImageSetFacts, ...]
    other: str                      # what else may be searched: image sets' details, organization, papers
    sample: str = ""                # from EMDB, as the next three
    resolution: Optional[float] = None      # angstrom; the best one of its maps
    method: str = ""
    microscope: str = ""

    @property
    def kinds(self) -> Tuple[str, ...]:
        return tuple(dict.fromkeys(each.kind for each in self.image_sets))

    @property
    def formats(self) -> Tuple[str, ...]:
        return tuple(dict.fromkeys(each.data_format for each in self.image_sets if each.data_format))

    @property
    def is_public(self) -> bool:
        return self.status in ("", RELEASED)

    def as_data(self) -> Dict[str, Any]:
        """Plain data for programs; None is what nobody tells."""
        return {"number": str(self.number), "title": self.title, "authors": list(self.authors),
                "size_bytes": self.size_bytes, "kinds": list(self.kinds), "formats": list(self.formats),
                "released": self.released or None, "emdb": list(self.emdb), "pdb": list(self.pdb),
                "resolution": self.resolution, "method": self.method or None, "microscope": self.microscope or None,
                "sample": self.sample or None, "experiment": self.experiment or None, "doi": self.doi,
                "workflow": self.has_workflow, "image_sets": [asdict(each) for each in self.image_sets]}


# Of one text of a record; the longest titles and details of the archive have some thousand letters.
MOST_LETTERS = 20000


def from_record(number: int, record: Dict[str, Any]) -> EntryFacts:
    """EMPIAR's record of an entry, released or not."""
    status = str(record.get("status") or "").strip().upper()
    # What is not released is known by its status alone.
    entry = parse_entry(str(number), dict(record, status=RELEASED))
    return EntryFacts(
        number=number, title=entry.title[:MOST_LETTERS], authors=entry.authors, status=status,
        released=entry.release_date, updated=_text(record.get("update_date")), size_bytes=entry.size_bytes,
        experiment=_text(record.get("experiment_type")), doi=entry.doi, emdb=entry.emdb_ids,
        pdb=_pdb_ids([record.get("related_pdb_entries"), record.get("cross_references")]),
        has_workflow=bool(entry.workflow_file or entry.workflow_urls), image_sets=tuple(_image_sets(entry)),
        other=" ".join(_other_words(entry, record)))


def joined(facts: EntryFacts, rows: Iterable[Mapping[str, str]]) -> EntryFacts:
    """With what EMDB says of its maps; a map that names the entry counts as one that the entry names."""
    rows = sorted(rows, key=lambda row: _number(row.get("resolution", "")) or 1e9)
    methods = [row.get("structure_determination_method", "") for row in rows]
    return replace(
        facts,
        emdb=tuple(dict.fromkeys([*facts.emdb, *(row["emdb_id"].upper() for row in rows)])),
        pdb=tuple(dict.fromkeys([*facts.pdb, *_pdb_ids([row.get("fitted_pdbs", "") for row in rows])])),
        sample="; ".join(_distinct([text for row in rows for text in (
            row.get("sample_info_string", ""), row.get("title", ""))])),
        resolution=_number(rows[0].get("resolution", "")) if rows else None,
        method=", ".join(_distinct(METHODS.get(method.lower(), method) for method in methods)),
        microscope=", ".join(_distinct(_microscope(name) for row in rows
                                       for name in row.get("microscope_name", "").split(","))))


def _image_sets(entry: Entry) -> Iterable[ImageSetFacts]:
    for each in entry.image_sets:
        # That of a diffraction image is the detector's, in micrometres.
        pixel_size = None if each.category.lower().startswith("diffraction") else each.pixel_size
        yield ImageSetFacts(each.name, each.kind.name, each.data_format.upper(), each.num_images, each.frames,
                            pixel_size, each.width, each.height)


def _other_words(entry: Entry, record: Mapping[str, Any]) -> List[str]:
    told = [entry.organization, entry.doi, " ".join(entry.kinds), _text(record.get("experiment_type"))]
    for each in entry.image_sets:
        told += [each.name, each.details, each.category, each.data_format]
    citations = record.get("citation")
    for citation in citations if isinstance(citations, list) else []:
        if isinstance(citation, dict):
            told += [_text(citation.get(name)) for name in ("title", "doi", "pubmedid")]
    return _distinct(told)


def _pdb_ids(values: Iterable[Any]) -> Tuple[str, ...]:
    """[['5a1a', {'name': '8AY4'}], '6cvm,6drv'] -> ('5A1A', '8AY4', '6CVM', '6DRV'); EMDB's ids are none"""
    found: List[str] = []
    for value in values:
        for item in value if isinstance(value, list) else [value]:
            text = _text(item.get("name") if isinstance(item, dict) else item)
            if not re.search(EMDB_ID, text, re.IGNORECASE):
                found += [match.upper() for match in re.findall(PDB_ID, text)]
    return tuple(dict.fromkeys(found))


def _microscope(text: str) -> str:
    """'FEI TITAN KRIOS', 'TFS KRIOS' -> 'Titan Krios', 'JEOL CRYO ARM 300' -> 'JEOL Cryo ARM 300'"""
    words = [word for word in text.split() if word.upper() not in ("FEI", "TFS", "THERMO", "FISHER", "FEI/PHILIPS")]
    kept = {"JEOL": "JEOL", "ARM": "ARM", "HITACHI": "Hitachi"}
    name = " ".join(kept.get(word.upper(), word.capitalize() if word.isalpha() else word) for word in words)
    # Its maker has called it both.
    return "Titan " + name if name.startswith("Krios") else name


def _distinct(texts: Iterable[str]) -> List[str]:
    return list(dict.fromkeys(text for text in map(_text, texts) if text))


def _text(value: Any) -> str:
    if value is None or isinstance(value, (dict, list)):
        return ""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)[:MOST_LETTERS]).split())


def _number(text: str) -> Optional[float]:
    """'2.20' -> 2.2; what is no size of this world -> None"""
    found = re.fullmatch(r"\s*([0-9]{1,4}(?:\.[0-9]{1,6})?|\.[0-9]{1,6})\s*", text)
    return float(found.group(1)) or None if found else None
