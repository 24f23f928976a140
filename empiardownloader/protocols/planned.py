# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run would bring, for the form's wands and for Execute: its warnings come from what is known by then, for the
window must not wait for an archive."""
import contextlib
import os
import shutil
import time
from dataclasses import replace

from .. import Plugin
from ..archive import metadata
from ..archive.entry import parse_entry_id
from ..archive.errors import ArchiveError
from ..archive.kinds import AVERAGES, FILES, KINDS, PARTICLES, TILT_SERIES, preferred
from ..archive.remote.transports import CHOICES
from ..archive.stopping import StopToken
from ..catalogue.codes import is_code
from ..catalogue.store import kept
from ..download.complete import arrived_paths
from ..download.fetch import listing
from ..download.plan import plan_request
from ..download.space import existing
from ..transfer.unpack import SPARE_BYTES
from ..units import format_bytes
from .acquisition import EXPOSED
from .form import MIN_STREAMING_THREADS

# What was planned so long ago is planned anew.
KEPT_SECONDS = 600
PATTERNS = ("filePattern", "gainPattern", "particlesFile")
# Groups of the form's fields that some kinds of images have no use for.
FIELDS = ("gain", "companions", "particles", "dose")
IN_STACKS = (PARTICLES, AVERAGES)       # what is counted is stacks, and the archive tells the images in them
FIELDS_SECONDS = 2          # one change of the form asks for each field
_fields = [float("-inf"), None, FIELDS]     # when, for which entry and image set, what was found
_entries = {}               # number -> Entry, as a wand has read it
_rates = {}                 # number of an entry -> bytes a second, as measured last
_plans = {}                 # what was asked for -> (time, Plan); windows of one process


def makePlan(protocol, entryId, imageSet, own, measure, stopped):
    """ What a run with the form's values would bring of an image set -> Plan.

    ``imageSet``: its number; ``own``: whether it is the form's, so that the form's
    patterns are about it. Raises ArchiveError, Stopped.
    """
    stop = StopToken(stopped)
    pattern, gainPattern = (protocol.getAttributeValue(name) or "" if own else "" for name in PATTERNS[:2])
    with listing(entryId, imageSet, pattern, CHOICES[protocol.transport.get() or 0], stop, Plugin.getAddresses(),
                 gainPattern) as (finder, found, archive):
        request = protocol.getRequest(found.entry, finder.image_set)
        if not own:
            request = replace(request, file_pattern="", gain_pattern="", particles_file="")
        places = protocol.getPlaces()
        arrived = arrived_paths(places.folder, places.record)

        def isHere(image):
            return image.path in arrived or places.has_shared(request, image.path)

        plan = plan_request(finder, request, archive, isHere, placeOf(protocol), protocol.connections.get(), stop,
                            measure)
    remember(found.entry)
    # What one wand measured holds for the next.
    _rates[found.entry.number] = rate = plan.rate or _rates.get(found.entry.number)
    plan = replace(plan, rate=rate)
    for text in {str(finder.image_set.number), protocol.imageSet.get() if own else None} - {None}:
        _plans[_asked(protocol, found.entry.number, text, own)] = time.monotonic(), plan
    return plan


def placeOf(protocol):
    """ The folder whose disk the files go to. """
    project = protocol.getProject()
    return protocol.getSharedFolder() or (project.getPath() if project else os.curdir)


def _known(protocol):
    """ What the list of entries says of the form's entry and image set.
    :return: number of the entry, EntryFacts, number of the image set; None each where that is not known. """
    text = protocol.entryId.get()
    if is_code(text):
        return None, None, None
    try:
        number = parse_entry_id(text)
        with kept(Plugin.getAddresses(), patience=0) as store:
            facts = next(iter(store.facts([int(number)])), None) if store else None
    except ArchiveError:
        return None, None, None
    return number, facts, numberOf(facts, protocol.imageSet.get()) if facts is not None else None


def getKindFields(protocol):
    """ Groups of fields that matter for the kind of the form's image set: all of them where it is not known. """
    began, asked, fields = _fields
    form = protocol.entryId.get(), protocol.imageSet.get()
    if asked != form or time.monotonic() - began > FIELDS_SECONDS:
        kind = _kindOf(protocol)
        fields = FIELDS if kind is None else [
            name for name, matters in zip(FIELDS, (
                kind.gain, kind.companions, kind == PARTICLES, kind in EXPOSED)) if matters]
        _fields[:] = time.monotonic(), form, fields
    return fields


def remember(entry):
    """ What a wand has read of an entry: newer than the list of entries. """
    _entries[entry.number] = entry


def _kindOf(protocol):
    """ The kind of the form's image set, None where it is not known: by the run's own metadata, else by the record
    that a wand has read, else by the list of entries. """
    number, facts, chosen = _known(protocol)
    entry = _entries.get(number)
    with contextlib.suppress(OSError, ValueError, TypeError, ArchiveError):
        own = metadata.load(protocol.getMetadataFile()).entry
        entry = own if own.number == number else entry
    if entry is not None:
        try:
            return entry.image_set(protocol.imageSet.get()).kind
        except ArchiveError:
            return None
    return None if chosen is None else next(
        (kind for kind in KINDS if kind.name == facts.image_sets[chosen - 1].kind), None)


def inShort(protocol):
    """ What a run would bring, by what a wand found out, else by the list of entries; '' where neither knows. """
    number, facts, chosen = _known(protocol)
    plan = _planOf(protocol, number) if number is not None else None
    usage = shutil.disk_usage(existing(placeOf(protocol)))
    free = usage.free if usage.total else None
    if plan is not None:
        return replace(plan, free_bytes=free).in_short()
    its, amount = facts.image_sets[chosen - 1] if chosen is not None else None, protocol.getAmount()
    if its is None or protocol.filePattern.get() or not (protocol.allImages.get() or (amount or 0) > 0):
        return ""
    kind = next((kind for kind in KINDS if kind.name == its.kind), FILES)
    if kind in IN_STACKS or its.images is None:
        told = ["all " + kind.many if amount is None else "%d %s" % (amount, kind.one if amount == 1 else kind.many)]
    else:
        told = ["%s %d %s" % ("all" if amount is None else "%d of" % min(amount, its.images), its.images, kind.many)]
    needed = _expected(facts, its, amount)
    if needed is not None:
        told.append("about " + format_bytes(needed))
    elif facts.size_bytes is not None:
        told.append("the whole entry has " + format_bytes(facts.size_bytes))
    return ", ".join(told + ([] if free is None else [format_bytes(free) + " free"]))


def findWarnings(protocol):
    """ Sentences about what will probably go wrong, by what this machine knows. """
    warnings = _sayThreads(protocol)
    number, facts, chosen = _known(protocol)
    if number is None:
        return warnings
    plan = _planOf(protocol, number)
    warnings += _sayRoom(protocol, number, facts, chosen, plan)
    warnings += plan.gain_notes if plan is not None else ()
    if chosen is not None:
        imageSet = facts.image_sets[chosen - 1]
        described = imageSet.kind in (TILT_SERIES.name, FILES.name) or (imageSet.kind == PARTICLES.name and (
            protocol.companionFiles.get() or bool(protocol.particlesFile.get())))
        if imageSet.pixel_size is None and protocol.samplingRate.get() is None and not described:
            warnings.append("EMPIAR-%s does not give the pixel size of image set no. %d: the run will end with an "
                            "error unless you type it in (with a point: 1.05) under Acquisition." % (number, chosen))
    return warnings


def _sayThreads(protocol):
    threads = protocol.numberOfThreads.get()
    if threads >= MIN_STREAMING_THREADS:
        return []
    return ["With %d thread(s) there is no streaming: the images are registered only when the download has ended. "
            "Choose %d threads or more to process them as they arrive." % (threads, MIN_STREAMING_THREADS)]


def _planOf(protocol, number):
    """ What a wand found out about the form's values, None where it did not or long ago. """
    began, plan = _plans.get(_asked(protocol, number, protocol.imageSet.get(), True), (0, None))
    return plan if plan is not None and time.monotonic() - began < KEPT_SECONDS else None


def _sayRoom(protocol, number, facts, chosen, plan):
    place = placeOf(protocol)
    usage = shutil.disk_usage(existing(place))
    room = usage.free - SPARE_BYTES
    if not usage.total:
        return []       # a network file system that does not tell
    words = "%s must stay free; only %s are free in %s: choose another download folder or fewer images, or make " \
            "room." % (format_bytes(SPARE_BYTES), format_bytes(usage.free), place)
    if plan is not None:
        return [] if plan.disk_bytes < room else ["%d %s of EMPIAR-%s need %s, and %s" % (
            plan.images, plan.counted, number, format_bytes(plan.disk_bytes), words)]
    if facts is None or chosen is None or facts.size_bytes is None:
        return []
    # Nobody has listed the files: the entry's size is all that is known, and it holds for all of its image sets.
    its, amount = facts.image_sets[chosen - 1], protocol.getAmount()
    needed = _expected(facts, its, amount)
    if needed is not None and amount is not None:
        return [] if needed < room else ["%d of %d images of EMPIAR-%s are about %s, and %s" % (
            min(amount, its.images), its.images, number, format_bytes(needed), words)]
    most = _expected(replace(facts, image_sets=(its,)), its, amount)
    if amount is not None and most is not None and most >= room:
        return ["%d of %d images of EMPIAR-%s may be up to %s (the wand of Image set tells), and %s" % (
            min(amount, its.images), its.images, number, format_bytes(most), words)]
    if amount is None and facts.size_bytes >= room:
        its = "" if len(facts.image_sets) == 1 else " (one image set may be smaller: the wand of Image set tells)"
        return ["EMPIAR-%s has %s%s, and %s" % (number, format_bytes(facts.size_bytes), its, words)]
    return []


def _expected(facts, imageSet, amount):
    """ Bytes of so many images (None: all), by the size of the entry; None where that does not tell. """
    if facts.size_bytes is None or len(facts.image_sets) > 1:
        return None
    if amount is None:
        return facts.size_bytes
    if imageSet.kind in [kind.name for kind in IN_STACKS]:
        return None         # of stacks nobody knows how many there are
    return facts.size_bytes * min(amount / imageSet.images, 1) if imageSet.images else None


def numberOf(facts, text):
    """ The number of the image set that the form means, None where there is no such. """
    text = (text or "").strip()
    if not text:
        return 1 + preferred([each.kind for each in facts.image_sets]) if facts.image_sets else None
    if text in map(str, range(1, len(facts.image_sets) + 1)):
        return int(text)
    names = [each.name.strip().lower() for each in facts.image_sets]
    return names.index(text.lower()) + 1 if text.lower() in names else None


def _asked(protocol, number, imageSet, own):
    """ What tells one plan from another.
    :param imageSet: as the form has it. """
    return (protocol.getObjId(), number, (imageSet or "").strip().lower(), protocol.getAmount(),
            protocol.getSharedFolder(), protocol.decompress.get(), protocol.downloadGain.get(),
            protocol.companionFiles.get(),
            *[(protocol.getAttributeValue(name) or "") if own else "" for name in PATTERNS])
