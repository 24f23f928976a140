# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry in words for a terminal, and as plain data for programs."""
from typing import Any, Dict, List, Optional

from .entry import Entry
from .metadata import Metadata
from .workflow import LABEL, Workflow


def as_data(found: Metadata, workflow: Optional[Workflow], catalogued: Dict[str, Any]) -> Dict[str, Any]:
    """Plain data; None is what neither EMPIAR nor the EMDB record that it is linked to tells.

    ``catalogued``: what the catalogue knows of its maps, nothing where there is none.
    """
    entry, acquisition = found.entry, found.acquisition
    return {
        "number": entry.number, "title": entry.title, "authors": list(entry.authors),
        "size_bytes": entry.size_bytes, "kinds": list(entry.kinds),
        "released": entry.release_date or None,
        "doi": entry.doi or None, "page": entry.page,
        "emdb": catalogued.get("emdb") or list(entry.emdb_ids),
        **{name: catalogued.get(name) for name in ("pdb", "resolution", "method", "microscope", "sample")},
        "image_sets": [{
            "number": each.number, "name": each.name, "category": each.category, "kind": each.kind.name,
            "format": each.data_format or None, "images": each.num_images, "frames": each.frames,
            "pixel_size": each.pixel_size, "width": each.width, "height": each.height} for each in entry.image_sets],
        "acquisition": {
            "source": acquisition.source or None, "voltage": acquisition.voltage,
            "spherical_aberration": acquisition.spherical_aberration, "magnification": acquisition.magnification,
            "dose_per_movie": acquisition.dose_per_movie},
        "workflow": {"file": entry.workflow_file or None, "urls": list(entry.workflow_urls),
                     "protocols": None if workflow is None else [str(step.get(LABEL, "")) for step in workflow.steps]}}


def as_lines(found: Metadata, workflow: Optional[Workflow], problem: str, catalogued: Dict[str, Any]) -> List[str]:
    """``problem``: why the entry's workflow file is none."""
    entry, acquisition = found.entry, found.acquisition
    lines = ["%s: %s" % (entry.name, entry.title), entry.first_authors or "Authors not known",
             "Released %s, %s in all, DOI %s" % (entry.release_date or "at a date not known",
                                                 entry.dataset_size or "size not known", entry.doi or "not known"),
             entry.page, "", "Image sets:"]
    for each in entry.image_sets:
        size = "%g Å/px" % each.pixel_size if each.pixel_size else "pixel size not known"
        lines.append("  %s, %s" % (each.describe(), size))
        if each.why_files_only:
            lines.append("    " + each.why_files_only)
    told = [text % value for text, value in (
        ("%g kV", acquisition.voltage), ("Cs %g mm", acquisition.spherical_aberration),
        ("magnification %g", acquisition.magnification), ("%g e/Å² per movie", acquisition.dose_per_movie))
        if value is not None]
    lines += ["", "EMDB: %s" % (", ".join(entry.emdb_ids) or "no record is linked")]
    of_maps = [text % catalogued[name] for name, text in (
        ("method", "%s"), ("resolution", "%g Å"), ("microscope", "%s")) if catalogued.get(name)]
    if of_maps:
        lines.append("Best map: %s" % ", ".join(of_maps))
    if told:
        lines.append("Microscope, by %s: %s" % (acquisition.source, ", ".join(told)))
    lines += acquisition.notes
    return lines + ["", *_workflow_lines(entry, workflow, problem)]


def _workflow_lines(entry: Entry, workflow: Optional[Workflow], problem: str) -> List[str]:
    lines = ["The depositors' workflow: " + url for url in entry.workflow_urls]
    if not entry.workflow_file:
        return lines or ["No workflow was deposited."]
    lines.append("The depositors' workflow: %s" % entry.workflow_file)
    if workflow is None:
        return [*lines, "  " + problem]
    lines += ["  %d. %s" % (number, step.get(LABEL) or step.get("object.className"))
              for number, step in enumerate(workflow.steps, start=1)]
    lines += ["  " + text for text in workflow.replaced]
    return [*lines, "  In Scipion: press the wand of EMPIAR entry, then Make its workflow."]
