# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry's own workflow: what its depositors did in Scipion, made to begin with a download of the entry.

A workflow file is a list of protocols, as Scipion exports it, or as its plugin that deposits entries does, which adds
the outputs with their items. It comes from strangers: nothing of it is run here, and what is no such list is refused
whole. Its imports name files of the depositor's disk; each becomes a download of the image set of that kind.
"""
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from .entry import Entry, ImageSet
from .errors import EntryError
from .kinds import AVERAGES, MICROGRAPHS, MOVIES, PARTICLES, SUBTOMOGRAMS, TILT_SERIES, VOLUMES, Kind
from .remote.choice import open_archive
from .remote.texts import read_text
from .stopping import NEVER, StopToken

MAX_WORKFLOW_BYTES = 32 << 20
LARGEST = 2.0 ** 53
MAX_PROTOCOLS, MAX_VALUES, MAX_TEXT = 500, 500, 100000
CLASS, ID, LABEL, COMMENT = "object.className", "object.id", "object.label", "object.comment"
OURS = "EmpiarDownloader"
# Scipion's imports: the kinds of image set that take their place, the likeliest first, and our output.
IMPORTS: Dict[str, Tuple[Tuple[Kind, ...], str]] = {
    "ProtImportMovies": ((MOVIES, TILT_SERIES), "outputMovies"),
    "ProtImportMicrographs": ((MICROGRAPHS,), "outputMicrographs"),
    "ProtImportParticles": ((PARTICLES,), "outputParticles"),
    "ProtImportAverages": ((AVERAGES,), "outputAverages"),
    "ProtImportVolumes": ((VOLUMES,), "outputVolumes"),
    "ProtImportTsMovies": ((TILT_SERIES, MOVIES), "outputTiltSeriesM"),
    "ProtImportTs": ((TILT_SERIES,), "outputTiltSeries"),
    "ProtImportSubTomograms": ((SUBTOMOGRAMS,), "outputSubTomograms"),
}
# What their outputs are called otherwise.
OTHER_NAMES = {("outputTiltSeriesM", "outputTiltSeries"): "outputTiltSeriesM",
               ("outputVolumes", "outputVolume"): "outputVolumes.1"}
# A second import of these is of another file, a mask perhaps.
ONE_BY_ONE = ("outputVolumes", "outputAverages", "outputSubTomograms")
SCIPION_1 = "__attribute__"     # stands before an output's name in its workflows
# What the depositor typed about the images: told, for the entry's own metadata may say something else.
TYPED = {"samplingRate": "Å/px", "voltage": "kV", "sphericalAberration": "mm (Cs)", "dosePerFrame": "e/Å² per frame"}
# How and where a protocol runs is the user's to say.
NOT_TAKEN = ("_useQueue", "_queueParams", "forceSchedule", "hostName", "_hostName", "downloadFolder")
# It deposits an entry.
NOT_WANTED = ("EmpiarDepositor",)
POINTER = re.compile(r"(\d+)\.(\w+)((?:\.\w+)*)")


class WorkflowError(EntryError):
    """What is no workflow of Scipion."""


@dataclass
class Workflow:
    """Protocols in Scipion's own format, and what was changed of them."""
    steps: List[Dict[str, Any]]
    replaced: List[str] = field(default_factory=list)   # sentences: which import became which download
    kept: List[str] = field(default_factory=list)       # labels of imports that no image set of the entry can replace
    elsewhere: List[str] = field(default_factory=list)  # labels of protocols that name files of the depositor's disk
    loose: List[str] = field(default_factory=list)      # labels of protocols with an input that no download makes

    @property
    def classes(self) -> List[str]:
        """Names of the protocols' classes, each once."""
        return list(dict.fromkeys(step[CLASS] for step in self.steps))


def fetch_workflow(entry: Entry, addresses: Mapping[str, str], transport: str, stop: StopToken = NEVER) -> Workflow:
    """The workflow that an entry names, from the archive; ``addresses`` and ``transport`` as for ``open_archive``.

    Raises ArchiveError, RemoteError and Stopped.
    """
    archive = open_archive(entry.number, addresses, transport, stop=stop)
    try:
        text = read_text(archive, entry.workflow_file, MAX_WORKFLOW_BYTES + 1, stop)
    finally:
        archive.close()
    return read_workflow(text, entry, entry.workflow_file)


def read_workflow(text: str, entry: Entry, path: str) -> Workflow:
    """The text of a workflow file of ``entry`` -> what begins with downloads of it. Raises WorkflowError."""
    workflow = Workflow(_steps(text, "%s of %s" % (path, entry.name)))
    downloads: Dict[str, Tuple[str, str]] = {}      # number of an import -> that of the download, its output
    taken: Dict[int, Dict[str, Any]] = {}           # number of an image set -> its download
    for step in list(workflow.steps):
        kinds, output = IMPORTS.get(step[CLASS], ((), ""))
        if not kinds or _brings_its_own(step):
            continue
        sets = _image_sets(entry, step[CLASS], kinds)
        free = [image_set for image_set in sets if image_set.number not in taken]
        if free:
            # The first import of a kind is the first such image set, and so on.
            downloads[step[ID]] = step[ID], output
            taken[free[0].number] = step
            workflow.replaced.append(_replace(step, entry, free[0], output))
        elif sets and output not in ONE_BY_ONE:
            download = taken[sets[0].number]
            downloads[step[ID]] = download[ID], output
            workflow.steps.remove(step)
            workflow.replaced.append("%s would be the same images once more: what used it uses %s." % (
                step[LABEL], download[LABEL]))
        else:
            workflow.kept.append(step[LABEL])
    for step in workflow.steps:
        if _mend(step, downloads):
            workflow.loose.append(step[LABEL])
        if step[CLASS] != OURS and step[LABEL] not in workflow.kept and _names_files(step):
            workflow.elsewhere.append(step[LABEL])
    return workflow


def _steps(text: str, name: str) -> List[Dict[str, Any]]:
    def refuse(why: str) -> WorkflowError:
        return WorkflowError("%s is no workflow of Scipion (%s): nothing was made of it." % (name, why))

    if len(text) > MAX_WORKFLOW_BYTES:
        msg = "it is larger than %d MB" % (MAX_WORKFLOW_BYTES >> 20)
        raise refuse(msg)
    try:
        steps = json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        msg = "no JSON"
        raise refuse(msg) from error
    if not isinstance(steps, list) or not steps or len(steps) > MAX_PROTOCOLS:
        msg = "no list of 1 to %d protocols" % MAX_PROTOCOLS
        raise refuse(msg)
    kept = []
    for step in steps:
        if not isinstance(step, dict) or not re.fullmatch(r"[A-Za-z_]\w{0,99}", str(step.get(CLASS, ""))) or (
                not re.fullmatch(r"[0-9]{1,9}", str(step.get(ID, "")))):
            msg = "a protocol without a class or a number"
            raise refuse(msg)
        if step[CLASS] in NOT_WANTED:
            continue
        # A parameter is a text, a number, or a list of such; all else tells what the run made.
        clean = {str(key): value for key, value in step.items() if key not in NOT_TAKEN and _is_plain(value)}
        label, comment = step.get(LABEL), step.get(COMMENT)
        clean[ID] = str(step[ID])
        clean[LABEL] = label if isinstance(label, str) and label and _is_plain(label) else str(step[CLASS])
        clean[COMMENT] = comment if isinstance(comment, str) and _is_plain(comment) else ""
        if not isinstance(clean.get("_prerequisites", ""), (str, list)):
            del clean["_prerequisites"]
        kept.append(clean)
    if len({step[ID] for step in kept}) < len(kept):
        msg = "two protocols of one number"
        raise refuse(msg)
    return kept


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= MAX_VALUES and all(not isinstance(item, list) and _is_plain(item) for item in value)
    if isinstance(value, str):
        return len(value) < MAX_TEXT and not any("\ud800" <= character <= "\udfff" for character in value)
    # Beyond these a number is no number of Scipion.
    return value is None or isinstance(value, bool) or (isinstance(value, (int, float)) and abs(value) < LARGEST)


def _brings_its_own(step: Dict[str, Any]) -> bool:
    """Whether it fetches a map from EMDB, which it does on any machine."""
    return step[CLASS] == "ProtImportVolumes" and str(step.get("importFrom") or "0") != "0"


def _image_sets(entry: Entry, name: str, kinds: Tuple[Kind, ...]) -> List[ImageSet]:
    """Those that can take the place of an import, the likeliest first: of tilt series with or without frames."""
    found = [image_set for kind in kinds for image_set in entry.image_sets if image_set.kind == kind]
    wants_frames = name != "ProtImportTs"
    return sorted(found, key=lambda image_set: (
        kinds.index(image_set.kind), image_set.kind == TILT_SERIES and ((image_set.frames or 1) > 1) != wants_frames))


def _replace(step: Dict[str, Any], entry: Entry, image_set: ImageSet, output: str) -> str:
    """An import becomes a download, in its place -> a sentence."""
    typed = ["%s %s" % (step[name], unit) for name, unit in TYPED.items() if _number(step.get(name))]
    label, number = step[LABEL], step[ID]
    step.clear()
    step.update({
        CLASS: OURS, ID: number, LABEL: "%s %s" % (entry.name, image_set.kind.name),
        COMMENT: "in place of: " + label, "entryId": entry.number, "allImages": True,
        "imageSet": str(image_set.number)})
    said = " (there: %s)" % ", ".join(typed) if typed else ""
    more = "; which of its volumes was meant, choose by hand" if output == "outputVolumes" else ""
    return "%s%s is now a download of image set %s%s." % (label, said, image_set.describe(), more)


def _number(value: Any) -> Optional[float]:
    if isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(float(value)) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _names_files(step: Dict[str, Any]) -> bool:
    """Whether a protocol reads what lies on the depositor's disk."""
    texts = [value for name, value in step.items() if isinstance(value, str) and not name.startswith("object.")]
    return ("Import" in step[CLASS] and not _brings_its_own(step)) or any(
        text.startswith(("/", "Runs/", "~/")) for text in texts)


def _mend(step: Dict[str, Any], downloads: Dict[str, Tuple[str, str]]) -> bool:
    """Pointers to an import become pointers to the download in its place. -> whether there were some to outputs that
    it does not make, which are dropped."""
    lost: Set[str] = set()

    def mended(value: Any) -> Any:
        match = POINTER.fullmatch(value) if isinstance(value, str) else None
        if match is None or match.group(1) not in downloads:
            return value
        number, name, more = match.groups()
        name = name[len(SCIPION_1):] if name.startswith(SCIPION_1) else name
        if not name.startswith("output"):
            return value        # no pointer: the name of a file
        download, output = downloads[number]
        name = OTHER_NAMES.get((output, name), name)
        if name.split(".")[0] != output:
            lost.add(value)
            return None
        return "%s.%s%s" % (download, name, more)

    for name, value in step.items():
        if not name.startswith("object."):
            step[name] = [item for item in map(mended, value) if item is not None] if isinstance(
                value, list) else mended(value)
    return bool(lost)
