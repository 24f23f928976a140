# SPDX-License-Identifier: GPL-3.0-or-later
"""Movies: a set of them has one gain reference, one size of frames and one dose per frame."""
import os

from pwem.objects import Movie, SetOfMovies

from ...archive.selection import DARK, GAIN
from ...download.record.facts import NO_REFERENCE
from .sets import ImageSets

# A camera loses a frame now and then, and EER movies are never equally long: up to this share of frames more or fewer,
# the dose per frame is the same. Beyond it the exposure was divided in another way.
FRAMES_TOLERANCE = 0.1


class MovieSets(ImageSets):
    output = "outputMovies"
    file = "movies"
    setClass = SetOfMovies
    words = "movies"

    def __init__(self, protocol):
        super().__init__(protocol)
        self._references = None         # how many references were known when the sets got theirs

    def append(self, context, headers):
        self._takeReferences(context.facts)
        return super().append(context, headers)

    def close(self, context):
        self._references = None
        self._takeReferences(context.facts)
        super().close(context)

    def refresh(self, context):
        super().refresh(context)
        for output, itsSet in self.iterSets():
            moved = []
            for kind, path in ((GAIN, itsSet.getGain()), (DARK, itsSet.getDark())):
                name = os.path.basename(path or "")
                if name and path != self._getReferencePath(name) and os.path.exists(self._getReferencePath(name)):
                    self._setReference(itsSet, kind, name)
                    moved.append(kind)
            if moved:
                self._protocol.info("The path of the %s reference of %s is this project's now." % (
                    " and ".join(moved), output))
                itsSet.write()
                self._protocol._store(itsSet)

    def describe(self, itsSet):
        gain = itsSet.getGain()
        dim = itsSet.getDim()
        size = "%d x %d pixels and %d frames" % tuple(dim) if dim else "a size they do not show"
        return "%s, %s" % (size, "gain reference " + os.path.basename(gain) if gain else "no gain reference")

    def _getTraits(self, context, name, header):
        # Unknown at the end of a run that was stopped: none, until Continue.
        facts = context.facts
        events = [self._getWanted(facts, kind, facts.images.get(name)) or NO_REFERENCE for kind in (GAIN, DARK)]
        return tuple((event.name, _identity(event)) for event in events), header

    def _fits(self, itsSet, facts, traits):
        references, header = traits
        for kind, (name, identity) in zip((GAIN, DARK), references):
            has = self._getReference(itsSet, kind)
            if name != has and identity not in self._identify(facts, has):
                return False
        dim = itsSet.getDim()
        if header is None or dim is None:
            return True
        frames = itsSet.getFramesRange()[1]
        return tuple(dim[:2]) == (header.width, header.height) and (
            not frames or abs(frames - header.frames) <= FRAMES_TOLERANCE * frames)

    def _prepareSet(self, itsSet, context, traits):
        references, header = traits
        frames = _fullFrames(context.facts, header) if header else None
        values = self._setAcquisition(itsSet, context, frames)
        if header is not None:
            itsSet.setDim((header.width, header.height, frames))
            itsSet.setFramesRange([1, frames, 1])
        for kind, (name, _) in zip((GAIN, DARK), references):
            self._setReference(itsSet, kind, name)
        return values

    def _getTraitsOf(self, itsSet, facts):
        return itsSet.getFramesRange()[1]

    def _appendPart(self, itsSet, context, name, header, part):
        movie = Movie(location=self._protocol._getExtraPath(name))
        movie.setMicName(name)
        movie.setSamplingRate(itsSet.getSamplingRate())
        movie.setAcquisition(itsSet.getAcquisition())
        movie.setFramesRange([1, header.frames if header else 0, 1])
        itsSet.append(movie)
        return 1

    @staticmethod
    def _getFrames(traits):
        return traits or None

    # -------------------------- references -----------------------

    def _getWanted(self, facts, kind, movie):
        """ What the record says of the reference of a movie. """
        if not self._protocol.downloadGain.get():
            return NO_REFERENCE
        return facts.reference(kind, movie)

    def _takeReferences(self, facts):
        """ Sets whose movies have got another reference since (the form's gain
        pattern has changed, the file was gone) get it too. """
        if self._references == len(facts.references):
            return
        self._references = len(facts.references)
        for output, itsSet in self.iterSets():
            for kind in (GAIN, DARK):
                wanted = [self._getWanted(facts, kind, facts.images[name]) for name in self.getNames(itsSet)
                          if name in facts.images]
                if not wanted or None in wanted:
                    continue    # not known yet, which is not the same as none
                events = {_identity(event): event for event in wanted}
                has = self._getReference(itsSet, kind)
                if not events.keys().isdisjoint(self._identify(facts, has)) or has in [event.name for event in wanted]:
                    continue
                if len(events) > 1:
                    self._protocol.warning("The movies of %s have %d different %s references by now, so it keeps what "
                                           "it had: choose Restart for sets of their own." % (
                                               output, len(events), kind))
                    continue
                self._setReference(itsSet, kind, next(iter(events.values())).name)

    def _getReference(self, itsSet, kind):
        """ Local name of the reference that a set has, '' for none. """
        return os.path.basename((itsSet.getGain() if kind == GAIN else itsSet.getDark()) or "")

    def _setReference(self, itsSet, kind, name):
        setter = itsSet.setGain if kind == GAIN else itsSet.setDark
        setter(self._getReferencePath(name) if name else None)

    def _getReferencePath(self, name):
        """ Absolute: programs are run in folders of their own, and MotionCor
        takes a gain reference that it does not find for none. """
        return os.path.abspath(self._protocol._getExtraPath(name))

    @staticmethod
    def _identify(facts, name):
        """ What tells a reference on disk from another: files with the same
        bytes are one reference, wherever they lie. """
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
