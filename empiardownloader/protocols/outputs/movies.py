# SPDX-License-Identifier: GPL-3.0-or-later
"""Movies: a set of them has one gain reference, one size of frames and one dose per frame."""
import os
from typing import NamedTuple, Optional

from pwem.objects import Movie, SetOfMovies

from ...archive.selection import DARK, GAIN
from ...download.record.facts import NO_REFERENCE
from ...images.header import Header
from .maker import Maker

# A camera loses a frame now and then, and EER movies are never equally long: up to this share of frames more or fewer,
# the dose per frame is the same. Beyond it the exposure was divided in another way.
FRAMES_TOLERANCE = 0.1


class Reference(NamedTuple):
    """ A gain or dark reference. Files with the same bytes are one, wherever they lie. """
    name: str                   # local name, '' for none
    identity: str


class MovieTraits(NamedTuple):
    gain: Reference
    dark: Reference
    header: Optional[Header]    # None where the file does not show it


class SetReferences:
    """ The gain and dark references of movies' sets. """

    def __init__(self, protocol):
        self._protocol = protocol
        self._updated = None            # how many references were known when the sets got theirs

    def of(self, facts, name):
        """ (gain, dark) of a movie by its local name. """
        # Unknown at the end of a run that was stopped: none, until Continue.
        events = [self._getWanted(facts, kind, facts.images.get(name)) or NO_REFERENCE for kind in (GAIN, DARK)]
        return tuple(Reference(event.name, _identity(event)) for event in events)

    def areThoseOf(self, itsSet, facts, wanted):
        """ Whether a set has these, (gain, dark). """
        for kind, reference in zip((GAIN, DARK), wanted):
            has = _getName(itsSet, kind)
            if reference.name != has and reference.identity not in _identify(facts, has):
                return False
        return True

    def give(self, itsSet, wanted):
        for kind, reference in zip((GAIN, DARK), wanted):
            self._set(itsSet, kind, reference.name)

    def update(self, facts, sets, getNames, last):
        """ Sets whose movies have got another reference since (the form's gain
        pattern has changed, the file was gone) get it too. """
        if self._updated == len(facts.references) and not last:
            return
        self._updated = len(facts.references)
        for output, itsSet in sets:
            for kind in (GAIN, DARK):
                wanted = [self._getWanted(facts, kind, facts.images[name]) for name in getNames(itsSet)
                          if name in facts.images]
                if not wanted or None in wanted:
                    continue    # not known yet, which is not the same as none
                events = {_identity(event): event for event in wanted}
                has = _getName(itsSet, kind)
                if not events.keys().isdisjoint(_identify(facts, has)) or has in [event.name for event in wanted]:
                    continue
                if len(events) > 1:
                    self._protocol.warning("The movies of %s have %d different %s references by now, so it keeps what "
                                           "it had: choose Restart for sets of their own." % (
                                               output, len(events), kind))
                    continue
                self._set(itsSet, kind, next(iter(events.values())).name)

    def correctPaths(self, itsSet):
        """ :return: which references lie elsewhere now, '' for none. """
        moved = []
        for kind, path in ((GAIN, itsSet.getGain()), (DARK, itsSet.getDark())):
            name = os.path.basename(path or "")
            if name and path != self._getPath(name) and os.path.exists(self._getPath(name)):
                self._set(itsSet, kind, name)
                moved.append(kind)
        return " and ".join(moved) + " reference" if moved else ""

    def _getWanted(self, facts, kind, movie):
        """ What the record says of the reference of a movie. """
        if not self._protocol.downloadGain.get():
            return NO_REFERENCE
        return facts.reference(kind, movie)

    def _set(self, itsSet, kind, name):
        setter = itsSet.setGain if kind == GAIN else itsSet.setDark
        setter(self._getPath(name) if name else None)

    def _getPath(self, name):
        """ Absolute: programs are run in folders of their own, and MotionCor
        takes a gain reference that it does not find for none. """
        return os.path.abspath(self._protocol._getExtraPath(name))


class OfMovies(Maker):
    """ What movies are alike in, whether they are in a set one by one or as the tilts of series. """

    def __init__(self, protocol):
        super().__init__(protocol)
        self._references = SetReferences(protocol)

    def _getTraits(self, facts, name, header):
        """ ``name``: the local one of a movie. """
        return MovieTraits(*self._references.of(facts, name), header)

    def fits(self, itsSet, facts, traits):
        if not self._references.areThoseOf(itsSet, facts, traits[:2]):
            return False
        dim, header = itsSet.getDim(), traits.header
        if header is None or dim is None:
            return True
        frames = itsSet.getFramesRange()[1]
        return tuple(dim[:2]) == (header.width, header.height) and (
            not frames or abs(frames - header.frames) <= FRAMES_TOLERANCE * frames)

    def describe(self, itsSet):
        gain = itsSet.getGain()
        dim = itsSet.getDim()
        size = "%d x %d pixels and %d frames" % tuple(dim) if dim else "a size they do not show"
        return "%s, %s" % (size, "gain reference " + os.path.basename(gain) if gain else "no gain reference")

    def prepareSet(self, itsSet, context, traits):
        header = traits.header
        frames = _fullFrames(context.facts, header) if header else None
        values = self.setAcquisition(itsSet, context, frames)
        if header is not None:
            itsSet.setDim((header.width, header.height, frames))
            itsSet.setFramesRange([1, frames, 1])
        self._references.give(itsSet, traits[:2])
        return values

    def correctPaths(self, itsSet):
        return self._references.correctPaths(itsSet)


class Movies(OfMovies):
    output = "outputMovies"
    file = "movies"
    words = "movies"

    def getSetClass(self):
        return SetOfMovies

    def getParts(self, context, arrived):
        return [(self._getTraits(context.facts, arrived.name, arrived.header), None)]

    def setAcquisition(self, itsSet, context, basis):
        return self._decide(itsSet, context, frames=basis or None)

    def getBasis(self, itsSet, facts):
        """ Their frames, which the dose of a movie is divided by. """
        return itsSet.getFramesRange()[1]

    def appendTo(self, itsSet, context, arrived, part):
        movie = Movie(location=self._protocol._getExtraPath(arrived.name))
        movie.setMicName(arrived.name)
        movie.setSamplingRate(itsSet.getSamplingRate())
        movie.setAcquisition(itsSet.getAcquisition())
        movie.setFramesRange([1, arrived.header.frames if arrived.header else 0, 1])
        itsSet.append(movie)
        return 1

    def update(self, context, sets, last=False):
        self._references.update(context.facts, sets, self.getNames, last)


def _getName(itsSet, kind):
    """ Local name of the reference that a set has, '' for none. """
    return os.path.basename((itsSet.getGain() if kind == GAIN else itsSet.getDark()) or "")


def _identify(facts, name):
    """ What tells a reference on disk from another. """
    return {name} | {_identity(event) for event in facts.references.values() if name and event.name == name}


def _fullFrames(facts, header):
    """ Frames of an undisturbed exposure: the most that a movie like this one
    is known to have, whichever of them came first. """
    alike = [movie.frames for movie in facts.images.values()
             if movie.frames and movie.size == (header.width, header.height)]
    return max([header.frames] + [frames for frames in alike
                                  if abs(frames - header.frames) <= FRAMES_TOLERANCE * header.frames])


def _identity(event):
    return event.digest or event.name
