# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilt series: their images one by one, as movies or micrographs, and the whole series where scipion-em-tomo is there.

A series is registered when all of its images have come, or are known not to come. Values of the form win over the
entry's, and these over what the .mdoc files say, which is often that of another magnification; what only they know is
taken from them.
"""
import os

from pwem.objects import Transform

from ...download import record
from ...images.header import Header
from .images import MicrographSets
from .movies import MovieSets
from .optional import hasTomo, setTomoAcquisition, tomoObjects

LEAST_TILTS = 2


class TiltSeriesSets:
    """ The sets of all that a tilt series becomes; works like ImageSets. """

    def __init__(self, protocol):
        self._protocol = protocol
        self._movies = MovieSets(protocol)
        self._micrographs = MicrographSets(protocol)
        self._seriesOfMovies = self._seriesOfStacks = None
        if hasTomo():
            self._seriesOfMovies = TiltMovieSets(protocol)
            self._seriesOfStacks = TiltStackSets(protocol)
        self._told = set()          # names of series that cannot be registered, and of stacks in no set

    @property
    def _all(self):
        return [sets for sets in (self._movies, self._micrographs, self._seriesOfMovies, self._seriesOfStacks) if sets]

    def iterSets(self, recover=True):
        for sets in self._all:
            yield from sets.iterSets(recover)

    def getRegisteredNames(self):
        names = self._movies.getRegisteredNames() | self._micrographs.getRegisteredNames() | self._told
        return names | (self._seriesOfStacks.getFileNames() if self._seriesOfStacks else set())

    def append(self, found, facts, headers):
        stacks = {event["tilts"][0]["path"]: name for name, event in facts.series.items() if event["stack"]}
        movies, micrographs, added = {}, {}, {}
        for name, header in headers.items():
            series = stacks.get(facts.images.get(name, {}).get("path"))
            if series is not None and header is not None and header.frames > 1:
                added.update(self._appendStack(found, facts, series, name, header))
            elif header is None or header.frames > 1:
                movies[name] = header
            else:
                micrographs[name] = header
        for sets, its in ((self._movies, movies), (self._micrographs, micrographs)):
            if its:
                added.update(sets.append(found, facts, its))
        return added

    def _appendStack(self, found, facts, series, name, header):
        event = facts.series[series]
        angles = [tilt.get("angle") for tilt in event["tilts"]]
        if self._seriesOfStacks is None:
            why = "scipion-em-tomo, which has sets of tilt series, is not installed"
        elif None in angles:
            why = "no file beside it tells its angles (.mdoc, .tlt or .rawtlt)"
        elif len(angles) != header.frames:
            why = "it has %d images, and %d angles are told" % (header.frames, len(angles))
        else:
            return self._seriesOfStacks.append(found, facts, {series: header})
        self._tell(name, "%s is here, but registered in no set: %s." % (name, why))
        return {}

    def settle(self, found, facts, ended=False):
        """ Register the series that are whole. """
        if self._seriesOfMovies is None:
            return
        registered = self._seriesOfMovies.getRegisteredNames()
        names = {image["path"]: name for name, image in facts.images.items()}
        here = self._movies.getRegisteredNames()
        whole = {}
        for series, event in facts.series.items():
            if event["stack"] or series in registered or series in self._told:
                continue
            paths = [tilt["path"] for tilt in event["tilts"]]
            there = [path for path in paths if names.get(path) in here]
            gone = [path for path in paths if path in facts.left_out]
            if len(there) + len(gone) < len(paths) and not (ended and facts.end and not facts.end["stopped"]):
                continue
            if gone and there:
                self._tell(None, "%s is registered without %d of its %d tilts: %s could not be had." % (
                    series, len(paths) - len(there), len(paths), ", ".join(gone[:3])))
            if len(there) < LEAST_TILTS:
                continue
            image = facts.images[names[there[0]]]
            if image.get("size") and image.get("frames"):
                whole[series] = Header(*image["size"], image["frames"])
        for output, count in self._seriesOfMovies.append(found, facts, whole).items():
            self._protocol.info("Registered %d tilt series in %s." % (count, output))

    def close(self, found, facts):
        self.settle(found, facts, ended=True)
        for sets in self._all:
            sets.close(found, facts)

    def refresh(self, found, facts):
        for sets in self._all:
            sets.refresh(found, facts)

    def _tell(self, name, text):
        self._protocol.warning(text)
        record.add_event(self._protocol._getRecordFile(), record.NOTE, text=text)
        self._told.add(name)


class TiltMovieSets(MovieSets):
    """ Series with a movie for each tilt. Names are those of series. """
    output = "outputTiltSeriesM"
    file = "tiltseriesM"
    words = "tilt series"

    def __init__(self, protocol):
        super().__init__(protocol)
        self.setClass = self._getSetClass()

    @staticmethod
    def _getSetClass():
        return tomoObjects().SetOfTiltSeriesM

    def getNames(self, itsSet):
        return set(itsSet.getTSIds()) if itsSet.getSize() else set()

    def _getTraits(self, found, facts, name, header):
        paths = {image["path"]: local for local, image in facts.images.items()}
        first = next(paths[tilt["path"]] for tilt in facts.series[name]["tilts"] if tilt["path"] in paths)
        return super()._getTraits(found, facts, first, header)

    def refresh(self, found, facts):
        for output, itsSet in self.iterSets():
            fresh = self.setClass()
            self._setAcquisition(fresh, found, facts, self._getFrames(itsSet))
            if itsSet.getSize() and fresh.getSamplingRate() != itsSet.getSamplingRate():
                self._protocol.warning("%s keeps the pixel size that it was begun with, %g Å: choose Restart for "
                                       "another." % (output, itsSet.getSamplingRate()))

    def _setAcquisition(self, itsSet, found, facts, frames):
        super()._setAcquisition(itsSet, found, facts, frames)
        setTomoAcquisition(itsSet)

    def _publish(self, touched):
        super()._publish(touched)
        for output, itsSet in touched.items():
            # A second look at the same file, by whoever summarizes the run, would lock the next series out.
            itsSet.close()
            self._appendable.discard(output)

    def _appendFile(self, itsSet, found, facts, name, header):
        event = facts.series[name]
        paths = {image["path"]: local for local, image in facts.images.items()}
        tilts = [tilt for tilt in event["tilts"] if tilt["path"] in paths]
        series = itsSet.ITEM_TYPE(tsId=name)
        sampling = itsSet.getSamplingRate()
        series.setSamplingRate(sampling)
        origin = Transform()
        origin.setShifts(-header.width / 2 * sampling, -header.height / 2 * sampling, 0)
        series.setOrigin(origin)
        acquisition = self._getSeriesAcquisition(itsSet, event, tilts)
        series.setAnglesCount(len(tilts))
        # Its table is made by this; its images come after it.
        itsSet.append(series)
        doses = self._getDoses(tilts, header)
        received = self._protocol.getAttributeValue("doseInitial") or 0.0
        before = {}
        for tilt in sorted(tilts, key=lambda tilt: tilt["order"]):
            before[tilt["order"]] = received
            received += doses[tilt["order"]] or 0.0
        for number, tilt in self._inOrder(tilts):
            image = series.ITEM_TYPE(location=self._getLocation(number, paths[tilt["path"]]),
                                     acquisitionOrder=tilt["order"], tiltAngle=tilt["angle"])
            its = acquisition.clone()
            dose = doses[tilt["order"]]
            if dose is not None:
                its.setDosePerFrame(dose)
                its.setDoseInitial(before[tilt["order"]])
                its.setAccumDose(before[tilt["order"]] + dose)
            image.setAcquisition(its)
            image.setSamplingRate(sampling)
            self._fillImage(image, paths[tilt["path"]], header)
            series.append(image)
        known = [dose for dose in doses.values() if dose is not None]
        acquisition.setDosePerFrame(sum(known) / len(known) if known else None)
        acquisition.setAccumDose(received if known else None)
        series.setAcquisition(acquisition)
        itsSet.update(series)
        itsSet.setAcquisition(acquisition.clone())
        return 1

    def _getSeriesAcquisition(self, itsSet, event, tilts):
        angles = sorted(tilt["angle"] for tilt in tilts)
        steps = [after - before for before, after in zip(angles, angles[1:])]
        acquisition = itsSet.getAcquisition().clone()
        acquisition.setAngleMin(angles[0])
        acquisition.setAngleMax(angles[-1])
        acquisition.setStep(round(sum(steps) / len(steps), 2) if steps else 0.0)
        acquisition.setTiltAxisAngle(event.get("axis"))
        return acquisition

    def _getDoses(self, tilts, header):
        """ e/Å² of each tilt by its order of acquisition: of the form, else of
        the .mdoc, else None. """
        typed = self._protocol.getAttributeValue("dosePerFrame")
        return {tilt["order"]: tilt.get("dose") if typed is None else typed * self._framesOfATilt(header)
                for tilt in tilts}

    # -------------------------- movies or stacks -----------------------

    @staticmethod
    def _framesOfATilt(header):
        return header.frames

    @staticmethod
    def _inOrder(tilts):
        """ (place in its file, tilt) in the order in which they are registered. """
        return [(0, tilt) for tilt in sorted(tilts, key=lambda tilt: tilt["order"])]

    def _getLocation(self, number, name):
        return self._protocol._getExtraPath(name)

    @staticmethod
    def _fillImage(image, name, header):
        image.setMicName(name)
        image.setFramesRange([1, header.frames, 1])


class TiltStackSets(TiltMovieSets):
    """ Series whose images are a stack. """
    output = "outputTiltSeries"
    file = "tiltseries"

    @staticmethod
    def _getSetClass():
        return tomoObjects().SetOfTiltSeries

    def getFileNames(self):
        folder = self._protocol._getExtraPath()
        return {os.path.relpath(series.getFirstItem().getFileName(), folder)
                for _, itsSet in self.iterSets() for series in itsSet.iterItems()}

    def describe(self, itsSet):
        dim = itsSet.getDim()
        return "%d x %d pixels" % tuple(dim[:2]) if dim else "a size they do not show"

    def _getTraits(self, found, facts, name, header):
        return header.width, header.height

    def _fits(self, itsSet, facts, traits):
        dim = itsSet.getDim()
        return dim is None or tuple(dim[:2]) == traits

    def _prepareSet(self, itsSet, found, facts, traits):
        self._setAcquisition(itsSet, found, facts, None)
        itsSet.setDim((*traits, 1))

    def _takeReferences(self, facts):
        """ Its images are corrected already. """

    @staticmethod
    def _getFrames(itsSet):
        return None

    @staticmethod
    def _framesOfATilt(header):
        return 1

    @staticmethod
    def _inOrder(tilts):
        # As Scipion's import has them.
        return sorted(enumerate(tilts, start=1), key=lambda item: item[1]["angle"])

    def _getLocation(self, number, name):
        return number, self._protocol._getExtraPath(name)

    @staticmethod
    def _fillImage(image, name, header):
        pass


