# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of a run's summary."""
import functools
import json
import os
import re

from pwem.constants import ALIGN_NONE
from pwem.objects import SetOfMovies

from ..archive import metadata
from ..archive.errors import ArchiveError
from ..archive.kinds import MOVIES, PARTICLES, TILT_SERIES
from ..archive.selection import DARK, GAIN
from ..download.record.facts import Facts
from ..download.series import MDOC_OUTPUT_FOLDER
from ..images.header import is_gatan
from ..units import format_bytes
from .acquisition import ASSUMED, FORM, MDOC_FILES, OF_ACQUISITION, decide, getTotalDose
from .context import Context
from .outputs import hasTomo

EXAMPLES = 2            # files named where many are skipped for one reason
REASONS = 6             # reasons named
OTHERS = 3              # other candidates named
SETS = 8                # output sets described
# As scipion-em-relion says of gain references in Gatan's format.
UPSIDE_DOWN = ". Its rows are in the opposite order to the movies': let motion correction flip it upside down"
# What the sets have of the acquisition, in words.
VALUE_LABELS = {"samplingRate": "%g Å/px", "voltage": "%g kV", "sphericalAberration": "Cs %g mm",
                "amplitudeContrast": "amplitude contrast %g", "magnification": "magnification %g",
                "dosePerFrame": "%.3g e/Å² per frame", "doseInitial": "%g e/Å² before the first frame"}
SAME_VALUE = 1e-3       # as a share: two values so near are the same one, written with fewer digits
SAME_PIXEL_SIZE = 0.01  # as a share, that two pixel sizes may be apart and be called the same


def summarize(protocol):
    """ The lines of the summary. """
    try:
        found = metadata.load(protocol.getMetadataFile())
    except (OSError, ValueError):
        if protocol.isFailed():
            return ["*Failed*: %s" % (_readError(protocol) or "see the tab Output Log."),
                    "The metadata of entry %s have not been read." % protocol.entryId.get()]
        return ["Entry %s: its metadata have not been read yet." % protocol.entryId.get()]
    entry = found.entry
    head = ["*%s*: %s" % (entry.name, entry.title),
               "[[%s][Entry page]], DOI [[https://doi.org/%s][%s]]" % (entry.page, entry.doi, entry.doi),
               "%s; deposited %s, released %s; %s in all" % (
                   entry.organization or "Unknown organisation", entry.deposition_date or "?",
                   entry.release_date or "?", entry.dataset_size or "unknown size")]
    try:
        imageSet = entry.image_set(protocol.imageSet.get())
    except ArchiveError as error:
        return [str(error), *head]
    facts = Facts.read(protocol.getRecordFile())
    head.append("Image set %s" % imageSet.describe())
    allSets = [(name, itsSet) for name, itsSet in protocol.getSets().iterSets(recover=False) if itsSet.getSize()]
    sets = [(name, itsSet) for name, itsSet in allSets if isinstance(itsSet, SetOfMovies)]
    others = [(name, itsSet) for name, itsSet in allSets if not isinstance(itsSet, SetOfMovies)]
    summary = _summarizeState(protocol, imageSet.kind, facts, sum(itsSet.getSize() for _, itsSet in allSets)) + head
    summary += [why for why in (imageSet.why_files_only, protocol.getSets().why) if why]
    if not imageSet.kind.files_only:
        summary += _summarizeAcquisition(protocol, Context(found, facts, imageSet), allSets)
    if imageSet.kind.gain and not (facts.series and not sets and others):
        summary += _summarizeReferences(protocol, facts, sets)
    summary += _summarizeSets(sets, facts)
    summary += _summarizeOthers(protocol, imageSet, others, facts)
    summary += _summarizeDownload(protocol, imageSet.kind, facts)
    summary += _summarizeFrames(facts, sets)
    return summary + _compareWithEntry(protocol, imageSet, sets)


def nameOf(label, default, metadataFile, imageSet):
    """ 'EMPIAR-10200 movies (2)', or the label where it is the user's own.
    :param default: the protocol's name, as the window makes labels of it. """
    # Scipion puts the plugin's name in front, and a number behind.
    made = re.fullmatch(r"(?:\S+ - )?%s( \(\d+\))?" % re.escape(default), label)
    try:
        about = _nameOf(metadataFile, imageSet, os.stat(metadataFile).st_mtime_ns) if made else ""
    except OSError:
        about = ""      # the metadata are not here yet
    return about + (made.group(1) or "") if about else label


@functools.lru_cache(maxsize=1000)
def _nameOf(metadataFile, imageSet, time):
    """ The project window asks at each of its looks, and metadata may be megabytes. """
    try:
        entry = metadata.load(metadataFile).entry
        return "%s %s" % (entry.name, entry.image_set(imageSet).kind.name)
    except (OSError, ValueError, ArchiveError):
        return ""


def groupLeftOut(leftOut):
    """ Skipped files, by reason.
    :param leftOut: dict path -> reason.
    :return: lines like 'Skipped: 12 files (it is empty), for example a.mrc and b.mrc'. """
    paths = {}
    for path, reason in leftOut.items():
        # Reasons of the server name the file they are about.
        paths.setdefault(reason.replace(path, "the file"), []).append(path)
    lines = []
    for reason, its in list(paths.items())[:REASONS]:
        if len(its) == 1:
            lines.append("Skipped: %s (%s)" % (its[0], reason))
        else:
            lines.append("Skipped: %d files (%s), for example %s" % (len(its), reason, " and ".join(its[:EXAMPLES])))
    if len(paths) > REASONS:
        lines.append("... and %d files more skipped for other reasons, see the tab Output Log."
                     % sum(len(its) for its in list(paths.values())[REASONS:]))
    return lines


def _summarizeAcquisition(protocol, context, sets):
    """ What the sets have, each value with its source; as long as there is no
    set, what is known. """
    lines = {}
    if not sets:
        values = decide(protocol, context)
        dose = getTotalDose(context)
        lines[_describeValues(values, {}, "%g e/Å² in all (%s)" % dose if dose.value is not None
                              and values["dosePerFrame"].value is None else "")] = []
    for name, itsSet in sets[:SETS]:
        has = {value: itsSet.getAcquisition().getAttributeValue("_" + value) for value in OF_ACQUISITION}
        has["samplingRate"] = itsSet.getSamplingRate()
        noted = context.facts.values.get(name) or decide(protocol, context)
        perTilt = {"dosePerFrame": "%.3g e/Å² per tilt"} if name.startswith("outputTiltSeries") else {}
        values = {value: (its, _findSource(its, noted.get(value))) for value, its in has.items()}
        lines.setdefault(_describeValues(values, perTilt), []).append(name)
    summary = ["Acquisition%s: %s" % (" of " + ", ".join(names) if len(lines) > 1 else "", text)
               for text, names in lines.items()]
    for name, _ in sets[:SETS]:
        noted = context.facts.values.get(name, {})
        summary += [line for line in _findDisagreements(context, noted) if line not in summary]
    return summary + ["_%s_" % note for note in context.found.acquisition.notes]


def _findDisagreements(context, noted):
    """ Where a file about the images says something else than the archives.
    :param noted: name -> (value, source) of a set. """
    imageSet = context.found.entry.image_set(str(context.facts.begin.image_set)) if context.facts.begin else None
    acquisition = context.found.acquisition
    archived = {"samplingRate": (imageSet.pixel_size if imageSet else None, context.found.entry.name),
                "voltage": (acquisition.voltage, acquisition.source),
                "sphericalAberration": (acquisition.spherical_aberration, acquisition.source)}
    said = {"samplingRate": sorted({series.pixel_size for series in context.facts.series.values()
                                    if series.pixel_size})}
    lines = []
    for name, (value, source) in archived.items():
        has, its = noted.get(name, (None, ""))
        if value is None or has is None or its in (FORM, ASSUMED):
            continue
        label = VALUE_LABELS[name]
        if its != source and abs(value - has) > SAME_PIXEL_SIZE * has:
            lines.append("%s by %s, but %s by %s: the first is used, for it is about these very images." % (
                label % has, its, label % value, source))
            continue
        other = [value for value in said.get(name, ()) if abs(value - has) > SAME_PIXEL_SIZE * has]
        if its == source and other:
            lines.append("%s by %s, but %s by %s: the entry's value is used, for .mdoc files often have the pixel "
                         "size of another magnification." % (" and ".join(label % value for value in other), MDOC_FILES,
                                                     label % has, source))
    return lines


def _findSource(value, noted):
    """ Who says a value that a set has, '' where that was not written down.
    :param noted: (value, source) as it was decided. """
    if noted is None or noted[0] is None or value is None:
        return ""
    return noted[1] if abs(noted[0] - value) <= SAME_VALUE * abs(value) else ""


def _describeValues(values, otherLabels, more=""):
    """ 'Pixel size 1 Å, 300 kV (EMD-1); Cs 2.7 mm (assumed)'
    :param values: name -> (value, source). """
    bySource = {}
    for name, label in {**VALUE_LABELS, **otherLabels}.items():
        value, source = values[name]
        if value is None and name in ("samplingRate", "dosePerFrame"):
            text, source = {"samplingRate": "no pixel size", "dosePerFrame": "" if more else "no dose"}[name], ""
        elif value is None or (name == "doseInitial" and not value):
            continue
        else:
            text = label % value
        if text:
            bySource.setdefault(source, []).append(text)
    parts = [", ".join(texts) + (" (%s)" % source if source else "") for source, texts in bySource.items()]
    return "; ".join(parts + ([more] if more else []))


def _summarizeReferences(protocol, facts, sets):
    """ What the sets have; where there are several sets, each says it in its
    own line. """
    if not protocol.downloadGain.get() or len(sets) > 1:
        return []
    summary = []
    for kind in (GAIN, DARK):
        events = [event for key, event in facts.references.items() if key.kind == kind]
        if sets:
            name = os.path.basename((sets[0][1].getGain() if kind == GAIN else sets[0][1].getDark()) or "")
        else:
            name = next((event.name for event in events if event.name), "")
        others = list(dict.fromkeys(path for event in events for path in event.others))
        if name:
            path = facts.names.get(name, name)
            others = ", ".join([other for other in others if other != path][:OTHERS])
            place = (sets[0][1].getGain() if kind == GAIN else sets[0][1].getDark()) if sets else None
            if place and not os.path.exists(place):
                summary.append("*The %s reference is not at %s any more*: was the project moved? Press Continue "
                               "here first, which corrects the path; then use the movies." % (kind, place))
            turned = any(event.turned and event.name == name for event in events)
            summary.append("%s reference: %s%s%s%s" % (
                kind.capitalize(), path, ", which fits the movies only when turned by 90 degrees" if turned else "",
                UPSIDE_DOWN if is_gatan(name) and not any(map(is_gatan, facts.images)) else "",
                " (other candidates: %s)" % others if others else ""))
        elif kind == GAIN and events:
            others = ", ".join(others[:OTHERS])
            summary.append("No gain reference was found." if not others else
                           "No usable gain reference: %s did not fit or could not be downloaded. Choose one with the "
                           "wand of *Gain file pattern*." % others)
        if sets and not name and any(event.name for event in events):
            summary.append("The %s references that were found belong to some of its movies only, so the set has none: "
                           "choose Restart for sets of their own (it downloads all of them again)." % kind)
    return summary


def _summarizeSets(sets, facts):
    if len(sets) < 2:
        return []
    summary = []
    for name, movieSet in sets[:SETS]:
        gain = os.path.basename(movieSet.getGain() or "")
        path = facts.names.get(gain, gain)
        dose = movieSet.getAcquisition().getDosePerFrame()
        width, height, frames = movieSet.getDim() or (0, 0, 0)
        summary.append("%s: %d movies of %d x %d, %d frames, %s, %s" % (
            name, movieSet.getSize(), width, height, frames, "gain reference " + path if path else "no gain reference",
            "no dose per frame" if dose is None else "%.3g e/Å² per frame" % dose))
    if len(sets) > SETS:
        summary.append("... and %d more sets" % (len(sets) - SETS))
    return summary


def _summarizeOthers(protocol, imageSet, sets, facts):
    """ Sets of anything but movies, and what came beside the images. """
    summary = []
    for name, itsSet in sets[:SETS]:
        dim = itsSet.getDim()
        parts = ["%d items" % itsSet.getSize(), " x ".join(str(size) for size in dim if size) if dim else "",
                 "%g Å/px" % itsSet.getSamplingRate()]
        parts += ["with CTF" if itsSet.hasCTF() else "",
                  "with alignment" if itsSet.getAlignment() not in (None, ALIGN_NONE) else ""]
        summary.append("%s: %s" % (name, ", ".join(part for part in parts if part)))
    if len(sets) > SETS:
        summary.append("... and %d more sets" % (len(sets) - SETS))
    if facts.description and facts.description.paths:
        others = ", ".join(facts.description.others[:OTHERS])
        summary.append("Particles described by %s%s" % (" and ".join(facts.description.paths),
                                                        " (other candidates: %s)" % others if others else ""))
        bare = sum(image.star is None for image in facts.images.values())
        if bare:
            summary.append("%d stacks arrived before that was known, or are not in it: their particles have no CTF, "
                           "coordinates or alignment."
                           % bare)
    elif imageSet.kind == PARTICLES and sets:
        summary.append("No .star file describes the particles: they are images alone, without CTF, coordinates and "
                       "alignment.")
    described = sum(bool(series.mdoc) for series in facts.series.values())
    if facts.series:
        summary.append("%d tilt series%s" % (len(facts.series), ", the .mdoc files of %d of them in %s" % (
            described, protocol._getExtraPath(MDOC_OUTPUT_FOLDER)) if described else ""))
        summary += _summarizeTilts(facts)
        if not any(tilt.dose for series in facts.series.values() for tilt in series.tilts) \
                and protocol.dosePerFrame.get() is None:
            summary.append("No file gives the dose of the tilts: type in the dose per frame, which *compose tilt "
                           "series* needs.")
        if not hasTomo():
            summary.append("For whole tilt series: close Scipion, install scipion-em-tomo, open Scipion, press "
                           "Continue.")
    beside = sum(bool(companion.name) for companion in facts.companions.values())
    if beside:
        summary.append("%s beside the images in %s" % (
            "1 metadata file is" if beside == 1 else "%d metadata files are" % beside, protocol._getExtraPath()))
    if "contrast inverted" in imageSet.category.lower():
        summary.append("The contrast of the images is inverted, as the entry says.")
    return summary


def _summarizeTilts(facts):
    """ Series whose images could not all be had. """
    here = {image.path for image in facts.images.values()}
    summary = []
    for name, series in facts.series.items():
        missing = [tilt.path for tilt in series.tilts if tilt.path in facts.left_out]
        if missing and any(tilt.path in here for tilt in series.tilts):
            summary.append("%s is without %d of its %d tilts, which could not be downloaded: %s" % (
                name, len(missing), len(series.tilts), ", ".join(missing[:EXAMPLES])))
    if len(summary) > SETS:
        summary[SETS:] = ["... and %d more series are without some of their tilts" % (len(summary) - SETS)]
    if any(image.frames == 1 for image in facts.images.values()) and not all(
            series.stack for series in facts.series.values()):
        summary.append("The tilts have a single frame each, so they are micrographs: *compose tilt series* makes "
                       "series of them.")
    return summary


def _summarizeFrames(facts, sets):
    frames = {movie.frames for movie in facts.images.values() if movie.frames}
    if len(sets) != 1 or len(frames) < 2:
        return []
    return ["The movies have %d to %d frames and stay in one set, for they differ by no more than 10 %%. The dose per "
            "frame is that of the first movie." % (min(frames), max(frames))]


def _summarizeState(protocol, kind, facts, items):
    """ How far the run is, and what to do where it went no further: the first
    lines, which are read without scrolling. """
    wanted, have = protocol.getAmount(), facts.count(of_series=kind == TILT_SERIES)
    end, skipped = facts.end, len(facts.left_out)
    if facts.begin is None:
        state = "The download has not begun."
    elif protocol.isActive() and end is None:
        state = _readProgress(protocol) or "Looking for the %s." % kind.many
    else:
        total = sum(image.bytes for image in facts.images.values())
        state = "Downloaded %d%s %s, %s" % (have, "" if wanted is None or have > wanted else " of %d" % wanted,
                                            kind.many, format_bytes(total))
    lines = [state + (", %d file%s skipped" % (skipped, "" if skipped == 1 else "s") if skipped else "")]
    if protocol.isFailed():
        error = _readError(protocol)
        lines.insert(0, "*Failed*: %s%s" % (
            error or "see the tab Output Log.", "" if "Continue" in error else " Solve this, then press *Continue*."))
        if items:
            lines.append("The output was closed with %d items: Continue opens it again and adds the rest." % items)
    elif protocol.isActive() and protocol.isStopping():
        coming = max(len(facts.images) - items, 0) if kind == MOVIES else 0
        lines.insert(0, "*Stopping*: %s" % (
            "%d %s that are here are still being registered." % (coming, kind.many) if coming
            else "what is whole is being registered."))
    elif end and end.stopped and (wanted is None or have < wanted):
        lines.append("*Stopped by the user*: Continue fetches the rest. Where other runs use its output, choose *All* "
                     "when Scipion asks: *Single* deletes what those runs have made.")
    elif protocol.isAborted():
        lines.append("*Aborted*: Continue goes on where it was.")
    return lines


def _readError(protocol):
    """ Why it failed, without what Scipion puts around it: colours of a
    terminal, and that it failed. """
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(protocol.getErrorMessage() or ""))
    return " ".join(re.sub("^\\s*Protocol failed:", "", text).split())


def _summarizeDownload(protocol, kind, facts):
    summary = []
    wanted, have = protocol.getAmount(), facts.count(of_series=kind == TILT_SERIES)
    end = facts.end
    if end and end.exhausted and wanted is not None and have < wanted:
        summary.append("Only %d %s can be downloaded; you asked for %d." % (have, kind.many, wanted))
    if wanted is not None and have > wanted:
        summary.append("%d %s are here although %d are asked for: nothing is taken away." % (have, kind.many, wanted))
    missing = {path: companion.reason for path, companion in facts.companions.items() if not companion.name}
    return summary + groupLeftOut({**facts.left_out, **missing}) + [*facts.remarks, *facts.notes]


def _compareWithEntry(protocol, imageSet, sets):
    """ Where the files say something else than the metadata. """
    summary = []
    for name, movieSet in sets[:SETS]:
        if movieSet.getDim() is None:
            continue
        width, height, frames = movieSet.getDim()
        subject = "The movies" if len(sets) == 1 else "The movies of " + name
        if imageSet.frames and frames and imageSet.frames != frames:
            summary.append("%s have %d frames, the entry says %d: the files are right." % (
                subject, frames, imageSet.frames))
        if imageSet.width and imageSet.height and (width, height) not in (
                (imageSet.width, imageSet.height), (imageSet.height, imageSet.width)):
            text = "%s are %d x %d, the entry says %d x %d: the files are right." % (
                subject, width, height, imageSet.width, imageSet.height)
            if width == 2 * imageSet.width and protocol.samplingRate.get() is None:
                text += " They look super-resolved: where the entry's pixel size is of the binned image, type in half."
            summary.append(text)
    return summary


def _readProgress(protocol):
    try:
        with open(protocol.getProgressFile(), encoding="utf-8") as stream:
            return json.load(stream)["text"]
    except (OSError, ValueError, KeyError):
        return ""
