# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilt series: their images one by one, as movies or micrographs, and the whole series where scipion-em-tomo is there.

A series is registered when all of its images have come, or are known not to come. Its acquisition is
its own: dose, angles and tilt axis by what describes it, the rest as acquisition.py decides.
"""
import hashlib
import json

from pwem.objects import Transform

from ...images.header import Header
from ..acquisition import FORM, Value, getTotalDose
from .images import Micrographs
from .maker import Maker
from .movies import Movies, OfMovies, SetReferences
from .optional import hasTomo, setTomoAcquisition, tomoObjects
from .sets import GrowingSets, OutputSets

LEAST_TILTS = 2
# Share by which values of two .mdoc files differ that are not the same.
LEAST_DIFFERENCE = 0.01
# Values of the form that a registered series depends on.
FORM_VALUES = ("samplingRate", "voltage", "sphericalAberration", "magnification", "amplitudeContrast", "dosePerFrame",
               "doseInitial", "downloadGain", "gainPattern")


class TiltSeriesSets(OutputSets):
    """ The sets of all that a tilt series becomes. """

    def __init__(self, protocol):
        self._protocol = protocol
        self._movies = GrowingSets(protocol, Movies(protocol))
        self._micrographs = GrowingSets(protocol, Micrographs(protocol))
        self._seriesOfMovies = self._seriesOfStacks = None
        if hasTomo():
            self._seriesOfMovies = SeriesSets(protocol, TiltMovies(protocol))
            self._seriesOfStacks = SeriesSets(protocol, TiltStacks(protocol))
        self._told = set()          # names of stacks in no set

    @property
    def _all(self):
        return [sets for sets in (self._movies, self._micrographs, self._seriesOfMovies, self._seriesOfStacks) if sets]

    def iterSets(self, recover=True):
        for sets in self._all:
            yield from sets.iterSets(recover)

    def getRegisteredNames(self):
        names = self._movies.getRegisteredNames() | self._micrographs.getRegisteredNames() | self._told
        return names | (self._seriesOfStacks.getFileNames() if self._seriesOfStacks else set())

    def append(self, context, headers):
        stacks = {event.tilts[0].path: name for name, event in context.facts.series.items() if event.stack}
        movies, micrographs, added = {}, {}, {}
        for name, header in headers.items():
            series = stacks.get(context.facts.path_of(name))
            if series is not None and header is not None and header.frames > 1:
                self._checkStack(context.facts, series, name, header)
            elif header is None or header.frames > 1:
                movies[name] = header
            else:
                micrographs[name] = header
        for sets, its in ((self._movies, movies), (self._micrographs, micrographs)):
            if its:
                added.update(sets.append(context, its))
        return added

    def _checkStack(self, facts, series, name, header):
        """ Tell of a stack that no set can hold. """
        event = facts.series[series]
        angles = [tilt.angle for tilt in event.tilts]
        if self._seriesOfStacks is None:
            why = "for that close Scipion, install scipion-em-tomo, open Scipion, press Continue"
        elif None in angles:
            why = "there is no .mdoc, .tlt or .rawtlt file with its angles"
        elif len(angles) != header.frames:
            why = "it has %d images, but there are %d angles" % (header.frames, len(angles))
        else:
            return
        self._told.add(name)
        self._protocol.remark("%s is here, but registered in no set: %s." % (name, why))

    def settle(self, context):
        """ Register the series that are whole, and anew those of which more
        is known than when they were. """
        if self._seriesOfMovies is None:
            return
        here = self._movies.getRegisteredNames()
        names = {image.path: name for name, image in context.facts.images.items()}
        movies, stacks = {}, {}
        for series, event in context.facts.series.items():
            paths = [tilt.path for tilt in event.tilts]
            if event.stack:
                image = context.facts.images.get(names.get(paths[0]))
                if image and image.frames == len(paths) > 1 and None not in [tilt.angle for tilt in event.tilts]:
                    stacks[series] = Header(*image.size, image.frames)
                continue
            there = [path for path in paths if names.get(path) in here]
            gone = [path for path in paths if path in context.facts.left_out]
            # Where only some of its images were asked for, a series waits for the rest.
            if len(there) + len(gone) < len(paths) or len(there) < LEAST_TILTS:
                continue
            image = context.facts.images[names[there[0]]]
            if image.size and image.frames:
                movies[series] = Header(*image.size, image.frames)
        for sets, whole in ((self._seriesOfMovies, movies), (self._seriesOfStacks, stacks)):
            for output, count in sets.append(context, whole).items():
                self._protocol.info("Registered %d tilt series in %s." % (count, output))

    def close(self, context):
        self.settle(context)
        self._tellOfDifferences(context.facts)
        for sets in self._all:
            sets.close(context)

    def _tellOfDifferences(self, facts):
        """ A set has one value each, and the series may have several. """
        for key, what, then in (("pixel_size", "pixel sizes (%s Å/px)", "look whether they are of one magnification"),
                                ("voltage", "voltages (%s kV)", "each series has its own"),
                                ("magnification", "magnifications (%s)", "each series has its own")):
            told = sorted({getattr(event, key) for event in facts.series.values()} - {None, 0})
            if told and told[-1] > told[0] * (1 + LEAST_DIFFERENCE):
                self._protocol.remark("The .mdoc files give different %s: %s." % (
                    what % ", ".join(map("{:g}".format, told)), then))
        without = [name for name, event in facts.series.items() if not any(tilt.dose for tilt in event.tilts)]
        if 0 < len(without) < len(facts.series) and self._protocol.getAttributeValue("dosePerFrame") is None:
            self._protocol.remark("%d of %d tilt series, like %s, have no dose: type it in under Acquisition." % (
                len(without), len(facts.series), without[0]))

    def refresh(self, context):
        for sets in self._all:
            sets.refresh(context)
        self.settle(context)


def _imagesByPath(facts):
    """ {path in the archive: (local name, what the record says of it)} """
    return {image.path: (local, image) for local, image in facts.images.items()}


class SeriesSets(OutputSets):
    """ Sets of whole series: made anew, which takes moments, where more, or something else, is known of one that is
    in them. Names are those of series. """

    def __init__(self, protocol, maker):
        self._protocol, self._maker = protocol, maker
        self._sets = GrowingSets(protocol, maker)

    def iterSets(self, recover=True):
        return self._sets.iterSets(recover)

    def getRegisteredNames(self):
        return self._sets.getRegisteredNames()

    def append(self, context, headers):
        """ :param headers: dict name of a series -> header of its first image. """
        prints = {name: self._maker.getPrint(context, name) for name in headers}
        registered = self.getRegisteredNames()
        if any(context.facts.registered.get(name) not in (None, prints[name]) for name in headers
               if name in registered):
            self._protocol.info("More is known of tilt series by now: %s is made anew." % self._maker.output)
            self._sets.remove()
            registered = set()
        new = {name: header for name, header in headers.items() if name not in registered}
        # Written down first: a process that is killed in between makes the sets anew, and loses nothing.
        for name in new:
            self._protocol.noteSeries(name, prints[name])
        return self._sets.append(context, new) if new else {}

    def getFileNames(self):
        """ Local names of the stacks of the series. """
        names = set()
        for _, itsSet in self.iterSets():
            names.update(self._maker.getLocalName(series.getFirstItem().getFileName())
                         for series in itsSet.iterItems())
            # Half-read queries keep a lock on its file.
            itsSet.close()
        return names

    def close(self, context):
        self._sets.close(context)

    def refresh(self, context):
        self._sets.refresh(context)


class _Series(Maker):
    """ What series of movies and of stacks have in common. """
    words = "tilt series"
    # While this set is open here, a summary that opens the same file would lock the next series out.
    closesWhenWritten = True
    hasAcquisitionOfTheForm = False

    def getNames(self, itsSet):
        return set(itsSet.getTSIds()) if itsSet.getSize() else set()

    def getPrint(self, context, name):
        """ All that the registered series depends on, as a text. """
        event = context.facts.series[name]
        images = _imagesByPath(context.facts)
        here = [images[tilt.path] for tilt in event.tilts if tilt.path in images]
        references = [reference.name for local, image in here[:1] if image.path == event.tilts[0].path
                      for reference in SetReferences(self._protocol).of(context.facts, local)]
        form = [self._protocol.getAttributeValue(name) for name in FORM_VALUES]
        told = json.dumps([event.to_line(), [(image.path, image.frames) for _, image in here], form,
                           references, str(context.found.acquisition), context.imageSet.pixel_size],
                          sort_keys=True)
        return hashlib.sha1(told.encode("utf-8")).hexdigest()

    def setAcquisition(self, itsSet, context, basis):
        values = self._decide(itsSet, context, frames=basis or None)
        typed = self._protocol.getAttributeValue("dosePerFrame")
        # Of a tilt, in the sets of tomo.
        values["dosePerFrame"] = getTotalDose(context) if typed is None else Value(
            typed * (basis or 1), FORM)
        setTomoAcquisition(itsSet)
        itsSet.getAcquisition().setDosePerFrame(values["dosePerFrame"].value)
        return values

    def appendTo(self, itsSet, context, arrived, part):
        name, header, _ = arrived
        event = context.facts.series[name]
        images = _imagesByPath(context.facts)
        tilts = [tilt for tilt in event.tilts if tilt.path in images]
        series = itsSet.ITEM_TYPE(tsId=name)
        sampling = itsSet.getSamplingRate()
        series.setSamplingRate(sampling)
        origin = Transform()
        origin.setShifts(-header.width / 2 * sampling, -header.height / 2 * sampling, 0)
        series.setOrigin(origin)
        acquisition = self._getSeriesAcquisition(itsSet, event, tilts)
        series.setAnglesCount(len(tilts))
        isFirst = not itsSet.getSize()
        if isFirst:
            # A set that does not know yet how many tilts its series have would call itself heterogeneous.
            itsSet.setAnglesCount(len(tilts))
        # Its table is made by this; its images come after it.
        itsSet.append(series)
        known = []
        for number, tilt in self._inOrder(tilts):
            local, its = images[tilt.path]
            frames = its.frames or header.frames
            path = self._protocol._getExtraPath(local)
            image = series.ITEM_TYPE(location=(number, path) if number else path,
                                     acquisitionOrder=tilt.order, tiltAngle=tilt.angle)
            # Nothing of one tilt goes over to the next, nor of one series.
            its = acquisition.clone()
            dose, before = self._getDose(tilt, frames, event.ordered)
            if dose is not None:
                its.setDosePerFrame(dose)
            if dose is not None and before is not None:
                its.setDoseInitial(before)
                its.setAccumDose(before + dose)
                known.append((dose, before + dose))
            image.setAcquisition(its)
            image.setSamplingRate(sampling)
            self._fillImage(image, local, frames)
            series.append(image)
        acquisition.setDosePerFrame(sum(dose for dose, _ in known) / len(known) if known else None)
        acquisition.setAccumDose(max(after for _, after in known) if known else None)
        series.setAcquisition(acquisition)
        itsSet.update(series)
        if isFirst:
            # As Scipion's import has it.
            itsSet.getAcquisition().copy(acquisition, copyId=False)
        return 1

    def _getSeriesAcquisition(self, itsSet, event, tilts):
        angles = sorted(tilt.angle for tilt in tilts)
        steps = [after - before for before, after in zip(angles, angles[1:])]
        acquisition = itsSet.getAcquisition().clone()
        for name, put in (("voltage", acquisition.setVoltage), ("magnification", acquisition.setMagnification)):
            if self._protocol.getAttributeValue(name) is None and getattr(event, name):
                put(getattr(event, name))
        # The set's own are those of its first series.
        acquisition.setDosePerFrame(None)
        acquisition.setAccumDose(None)
        acquisition.setDoseInitial(self._protocol.getAttributeValue("doseInitial") or 0.0)
        acquisition.setAngleMin(angles[0])
        acquisition.setAngleMax(angles[-1])
        acquisition.setStep(round(sum(steps) / len(steps), 2) if steps else 0.0)
        acquisition.setTiltAxisAngle(event.axis)
        return acquisition

    def _getDose(self, tilt, frames, ordered):
        """ (e/Å² of a tilt, what the sample had received before it): by the
        form, else by what describes the series; None where nobody tells, and
        where the order of acquisition is not known.
        Tilts that are not here have been taken all the same. """
        initial = self._protocol.getAttributeValue("doseInitial") or 0.0
        typed = self._protocol.getAttributeValue("dosePerFrame")
        if typed is not None:
            dose = typed * self._getFrames(frames)
            return dose, initial + dose * (tilt.order - 1) if ordered else None
        return tilt.dose, None if tilt.before is None else initial + tilt.before

    # -------------------------- movies or stacks -----------------------

    @staticmethod
    def _getFrames(frames):
        """ How many frames a tilt has, by those of its file. """
        raise NotImplementedError

    @staticmethod
    def _inOrder(tilts):
        """ (place in its stack, tilt) in the order in which they are registered; the place is 0 of a file's own. """
        raise NotImplementedError

    def _fillImage(self, image, name, frames):
        """ What images of this kind have besides. """


class TiltMovies(_Series, OfMovies):
    """ Series with a movie for each tilt. """
    output = "outputTiltSeriesM"
    file = "tiltseriesM"

    def getSetClass(self):
        return tomoObjects().SetOfTiltSeriesM

    def getParts(self, context, arrived):
        images = _imagesByPath(context.facts)
        first, _ = next(images[tilt.path] for tilt in context.facts.series[arrived.name].tilts if tilt.path in images)
        return [(self._getTraits(context.facts, first, arrived.header), None)]

    @staticmethod
    def _getFrames(frames):
        return frames

    @staticmethod
    def _inOrder(tilts):
        return [(0, tilt) for tilt in sorted(tilts, key=lambda tilt: tilt.order)]

    def _fillImage(self, image, name, frames):
        image.setMicName(name)
        image.setFramesRange([1, frames, 1])


class TiltStacks(_Series):
    """ Series whose images are a stack; they are corrected already. """
    output = "outputTiltSeries"
    file = "tiltseries"

    def getSetClass(self):
        return tomoObjects().SetOfTiltSeries

    def prepareSet(self, itsSet, context, traits):
        values = self.setAcquisition(itsSet, context, None)
        itsSet.setDim((*traits, 1))
        return values

    @staticmethod
    def _getFrames(frames):
        return 1

    @staticmethod
    def _inOrder(tilts):
        # As Scipion's import has them.
        return sorted(enumerate(tilts, start=1), key=lambda item: item[1].angle)
