# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry's own workflow: what its depositors did in Scipion, made to begin with a download of the entry.

A workflow file is a list of protocols, as Scipion exports it. It comes from strangers: nothing of it is run here, and
what is no such list is refused whole. Its imports name files of the depositor's disk; each becomes a download of the
image set of that kind.
"""
import json
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from .entry import Entry, ImageSet
from .errors import EntryError
from .kinds import AVERAGES, MICROGRAPHS, MOVIES, PARTICLES, SUBTOMOGRAMS, TILT_SERIES, VOLUMES, Kind

MAX_WORKFLOW_BYTES = 4 << 20
MAX_PROTOCOLS, MAX_VALUES, MAX_TEXT = 500, 500, 100000
CLASS, ID, LABEL = "object.className", "object.id", "object.label"
OURS = "EmpiarDownloader"
# Scipion's imports: the kind of image set that takes their place, and the names of their outputs -> ours.
IMPORTS: Dict[str, Tuple[Kind, Dict[str, str]]] = {
    "ProtImportMovies": (MOVIES, {}),
    "ProtImportMicrographs": (MICROGRAPHS, {}),
    "ProtImportParticles": (PARTICLES, {}),
    "ProtImportAverages": (AVERAGES, {}),
    "ProtImportVolumes": (VOLUMES, {"outputVolume": "outputVolumes.1"}),
    "ProtImportTsMovies": (TILT_SERIES, {"outputTiltSeries": "outputTiltSeriesM"}),
    "ProtImportTs": (TILT_SERIES, {}),
    "ProtImportSubTomograms": (SUBTOMOGRAMS, {}),
}
# What the depositor typed about the images: told, for the entry's own metadata may say something else.
TYPED = {"samplingRate": "Å/px", "voltage": "kV", "sphericalAberration": "mm (Cs)", "dosePerFrame": "e/Å² per frame"}
# How and where a protocol runs is the user's to say.
NOT_TAKEN = ("_useQueue", "_queueParams", "forceSchedule", "hostName", "_hostName")
POINTER = re.compile(r"(\d+)((?:\.\w+)*)")


class WorkflowError(EntryError):
    """What is no workflow of Scipion."""


@dataclass
class Workflow:
    """Protocols in Scipion's own format, and what was changed of them."""
    steps: List[Dict[str, Any]]
    replaced: List[str] = field(default_factory=list)   # sentences: which import became which download
    kept: List[str] = field(default_factory=list)       # labels of imports that no image set of the entry can replace
    loose: List[str] = field(default_factory=list)      # labels of protocols with an input that is not in the file

    @property
    def classes(self) -> List[str]:
        """Names of the protocols' classes, each once."""
        return list(dict.fromkeys(step[CLASS] for step in self.steps))

    def as_json(self) -> str:
        return json.dumps(self.steps, indent=4)


def read_workflow(text: str, entry: Entry, path: str) -> Workflow:
    """The text of a workflow file of ``entry`` -> what begins with downloads of it. Raises WorkflowError."""
    workflow = Workflow(_steps(text, "%s of %s" % (path, entry.name)))
    found = {step[ID]: step for step in workflow.steps}
    renamed: Dict[str, Dict[str, str]] = {}
    taken: Dict[str, int] = {}
    for step in workflow.steps:
        kind, outputs = IMPORTS.get(step[CLASS], (None, {}))
        if kind is None:
            continue
        sets = [image_set for image_set in entry.image_sets if image_set.kind == kind]
        if not sets:
            workflow.kept.append(step[LABEL])
            continue
        # The first import of a kind is the first such image set, and so on.
        image_set = sets[min(taken.get(kind.name, 0), len(sets) - 1)]
        taken[kind.name] = taken.get(kind.name, 0) + 1
        renamed[step[ID]] = outputs
        workflow.replaced.append(_replace(step, entry, image_set))
    for step in workflow.steps:
        if _mend(step, found, renamed):
            workflow.loose.append(step[LABEL])
    return workflow


def _steps(text: str, name: str) -> List[Dict[str, Any]]:
    def refuse(why: str) -> WorkflowError:
        return WorkflowError("%s is no workflow of Scipion (%s): nothing was made of it." % (name, why))

    if len(text) > MAX_WORKFLOW_BYTES:
        msg = "it is larger than %d MB" % (MAX_WORKFLOW_BYTES >> 20)
        raise refuse(msg)
    try:
        steps = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = "no JSON"
        raise refuse(msg) from error
    if not isinstance(steps, list) or not steps or len(steps) > MAX_PROTOCOLS:
        msg = "no list of 1 to %d protocols" % MAX_PROTOCOLS
        raise refuse(msg)
    kept = []
    for step in steps:
        if not isinstance(step, dict) or len(step) > MAX_VALUES or not re.fullmatch(
                r"[A-Za-z_]\w{0,99}", str(step.get(CLASS, ""))) or not re.fullmatch(r"\d{1,9}", str(step.get(ID, ""))):
            msg = "a protocol without a class or a number"
            raise refuse(msg)
        if not all(map(_is_plain, step.values())):
            msg = "a value that is neither text nor number"
            raise refuse(msg)
        clean = {str(key): value for key, value in step.items() if key not in NOT_TAKEN}
        clean[ID] = str(step[ID])
        clean[LABEL] = str(step.get(LABEL) or step[CLASS])
        kept.append(clean)
    if len({step[ID] for step in kept}) < len(kept):
        msg = "two protocols of one number"
        raise refuse(msg)
    return kept


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= MAX_VALUES and all(not isinstance(item, list) and _is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float)) or (
        isinstance(value, str) and len(value) < MAX_TEXT)


def _replace(step: Dict[str, Any], entry: Entry, image_set: ImageSet) -> str:
    """An import becomes a download, in its place -> a sentence."""
    typed = ["%s %s" % (step[name], unit) for name, unit in TYPED.items() if _number(step.get(name))]
    label, number = step[LABEL], step[ID]
    step.clear()
    step.update({
        CLASS: OURS, ID: number, LABEL: "%s %s" % (entry.name, image_set.kind.name),
        "object.comment": "in place of: " + label, "entryId": entry.number, "allImages": True,
        "imageSet": str(image_set.number)})
    said = " (there: %s)" % ", ".join(typed) if typed else ""
    return "%s%s is now a download of image set %s." % (label, said, image_set.describe())


def _number(value: Any) -> Optional[float]:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _mend(step: Dict[str, Any], found: Dict[str, Dict[str, Any]], renamed: Dict[str, Dict[str, str]]) -> bool:
    """Pointers to what was replaced get the names of our outputs; those to what is not in the file are dropped, for
    they would find whatever has that number in the user's project. -> whether there were such."""
    loose = False

    def mended(value: Any) -> Any:
        nonlocal loose
        match = POINTER.fullmatch(value) if isinstance(value, str) else None
        if match is None or not match.group(2):
            return value        # a number is no pointer to an output
        number, parts = match.group(1), match.group(2)[1:].split(".")
        if number not in found:
            # "2.5" may be a number.
            if not parts[0][0].isalpha():
                return value
            loose = True
            return None
        parts[0] = renamed.get(number, {}).get(parts[0], parts[0])
        return ".".join([number, *parts])

    for name, value in step.items():
        if name in (CLASS, ID, LABEL, "object.comment"):
            continue
        step[name] = [mended(item) for item in value] if isinstance(value, list) else mended(value)
        if isinstance(step[name], list):
            step[name] = [item for item in step[name] if item is not None]
    return loose
