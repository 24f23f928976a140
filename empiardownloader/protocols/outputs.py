# SPDX-License-Identifier: GPL-3.0-or-later
"""The output: movies that have been downloaded become items of sets.

A set of movies has one gain reference, one size of frames and one dose per frame. Movies that differ go to sets of
their own: outputMovies, outputMovies2, ... in the order in which they arrive.
"""
import os
from enum import Enum

from pwem.objects import Movie, SetOfMovies
from pyworkflow.object import Set

from ..archive.selection import DARK, GAIN
from ..download.record import NO_REFERENCE
from .acquisition import setAcquisition

OUTPUT_NAME = "outputMovies"
# The set is written after so many movies, so that others see it grow also when thousands wait.
COMMIT_MOVIES = 500
# A camera loses a frame now and then, and EER movies are never equally long: up to this share of frames more or fewer,
# the dose per frame is the same. Beyond it the exposure was divided in another way.
FRAMES_TOLERANCE = 0.1


class outputs(Enum):
    outputMovies = SetOfMovies


class MovieSets:
    """ The output sets of a run. The caller sees to it that one thread at a
    time works with them. """

    def __init__(self, protocol):
        self._protocol = protocol
        self._appendable = set()        # names of the outputs that this process has opened for appending
        self._unpublished = {}          # sets made just now, whose first movie is not written yet
        self._references = None         # how many references were known when the sets got theirs

    def iterSets(self, recover=True):
        """ (name of the output, set): of this process, of the run's database,
        or, where that was lost with a killed process, of the set's own file;
        the last only with ``recover``, which is for the run itself. """
        number = 1
        while True:
            name = self._getName(number)
            movieSet = getattr(self._protocol, name, None)
            path = self._getPath(number)
            if movieSet is None and recover and os.path.exists(path):
                movieSet = self._recover(name, path)
            if movieSet is None:
                return
            yield name, movieSet
            number += 1

    def getRegisteredNames(self):
        return {name for _, movieSet in self.iterSets() for name in self._getNames(movieSet)}

    def append(self, found, facts, headers):
        """ Add movies to the sets they fit.
        :param facts: what the record says.
        :param headers: dict local name -> header, None for a movie that does not show its own.
        :return: how many of them each output got, by its name. """
        self._takeReferences(facts)
        registered = self.getRegisteredNames()
        new = [name for name in headers if name not in registered]
        added, fitting = {}, {}
        for first in range(0, len(new), COMMIT_MOVIES):
            chosen = {}
            for name in new[first:first + COMMIT_MOVIES]:
                # Unknown at the end of a run that was stopped: none, until Continue.
                references = {kind: self._getWanted(facts, kind, facts.movies.get(name, {})) or NO_REFERENCE
                              for kind in (GAIN, DARK)}
                traits = (references[GAIN]["name"], references[DARK]["name"], headers[name])
                if traits not in fitting:
                    fitting[traits] = self._choose(found, facts, references, headers[name])
                output, movieSet = fitting[traits]
                self._appendMovie(movieSet, name, headers[name])
                chosen[output] = movieSet
                added[output] = added.get(output, 0) + 1
            for output, movieSet in chosen.items():
                movieSet.write()
                if not hasattr(self._protocol, output):
                    # Not before its first movie is in it: others would meet a set without properties.
                    self._protocol._defineOutputs(**{output: movieSet})
                    del self._unpublished[output]
                self._protocol._store(movieSet)
        return added

    def close(self, facts):
        """ There will be no more movies. """
        self._references = None
        self._takeReferences(facts)
        for _, movieSet in self.iterSets():
            movieSet.setStreamState(Set.STREAM_CLOSED)
            movieSet.write()
            self._protocol._store(movieSet)
            movieSet.close()
        self._appendable.clear()

    def refresh(self, found):
        """ A form changed since the sets were begun changes what they say, in
        place: no movie comes or goes. """
        for output, movieSet in self.iterSets():
            if not movieSet.getSize():
                continue
            fresh = SetOfMovies()
            setAcquisition(self._protocol, fresh, found, movieSet.getFramesRange()[1])
            if (fresh.getSamplingRate() == movieSet.getSamplingRate()
                    and fresh.getAcquisition().equalAttributes(movieSet.getAcquisition())):
                continue
            self._protocol.info("The acquisition in the form has changed: it is changed in %s too." % output)
            movieSet.setAcquisition(fresh.getAcquisition())
            movieSet.setSamplingRate(fresh.getSamplingRate())
            for movie in [item.clone() for item in movieSet.iterItems()]:
                movie.setAcquisition(fresh.getAcquisition())
                movie.setSamplingRate(fresh.getSamplingRate())
                movieSet.update(movie)
            movieSet.write()
            self._protocol._store(movieSet)

    # -------------------------- which set -----------------------

    def _choose(self, found, facts, references, header):
        """ (name, set) for movies of a kind, open for appending; a new one
        where none fits. """
        count = 0
        for output, movieSet in [*self.iterSets(), *self._unpublished.items()]:
            count += 1
            if self._fits(movieSet, references, facts, header):
                return output, self._openForAppending(output, movieSet)
        return self._create(count + 1, found, facts, references, header)

    def _fits(self, movieSet, references, facts, header):
        for kind, event in references.items():
            name = self._getReference(movieSet, kind)
            if event["name"] != name and _identity(event) not in self._identify(facts, name):
                return False
        dim = movieSet.getDim()
        if header is None or dim is None:
            return True
        frames = movieSet.getFramesRange()[1]
        return tuple(dim[:2]) == (header.width, header.height) and (
            not frames or abs(frames - header.frames) <= FRAMES_TOLERANCE * frames)

    def _create(self, number, found, facts, references, header):
        output = self._getName(number)
        movieSet = SetOfMovies.create(self._protocol._getPath(), suffix=str(number) if number > 1 else None)
        frames = _fullFrames(facts, header) if header else None
        setAcquisition(self._protocol, movieSet, found, frames)
        if header is not None:
            movieSet.setDim((header.width, header.height, frames))
            movieSet.setFramesRange([1, frames, 1])
        for kind, event in references.items():
            self._setReference(movieSet, kind, event["name"])
        movieSet.setStreamState(Set.STREAM_OPEN)
        self._unpublished[output] = movieSet
        self._appendable.add(output)
        if number > 1:
            self._protocol.warning("Movies with %s go to a set of their own, %s." % (
                self.describe(movieSet), output))
        return output, movieSet

    @staticmethod
    def describe(movieSet):
        """ What the movies of a set have in common. """
        gain = movieSet.getGain()
        dim = movieSet.getDim()
        size = "%d x %d pixels and %d frames" % tuple(dim) if dim else "a size they do not show"
        return "%s, %s" % (size, "gain reference " + os.path.basename(gain) if gain else "no gain reference")

    def _openForAppending(self, output, movieSet):
        if output not in self._appendable:
            movieSet.enableAppend()
            self._appendable.add(output)
        movieSet.setStreamState(Set.STREAM_OPEN)
        return movieSet

    def _appendMovie(self, movieSet, name, header):
        movie = Movie(location=self._protocol._getExtraPath(name))
        movie.setMicName(name)
        movie.setSamplingRate(movieSet.getSamplingRate())
        movie.setAcquisition(movieSet.getAcquisition())
        movie.setFramesRange([1, header.frames if header else 0, 1])
        movieSet.append(movie)

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
        for output, movieSet in self.iterSets():
            for kind in (GAIN, DARK):
                wanted = [self._getWanted(facts, kind, facts.movies[name]) for name in self._getNames(movieSet)
                          if name in facts.movies]
                if not wanted or None in wanted:
                    continue    # not known yet, which is not the same as none
                events = {_identity(event): event for event in wanted}
                has = self._getReference(movieSet, kind)
                if not events.keys().isdisjoint(self._identify(facts, has)) or has in [e["name"] for e in wanted]:
                    continue
                if len(events) > 1:
                    self._protocol.warning("The movies of %s have %d different %s references by now, so it keeps what "
                                           "it had: choose Restart for sets of their own." % (
                                               output, len(events), kind))
                    continue
                self._setReference(movieSet, kind, next(iter(events.values()))["name"])

    def _getReference(self, movieSet, kind):
        """ Local name of the reference that a set has, '' for none. """
        return os.path.basename((movieSet.getGain() if kind == GAIN else movieSet.getDark()) or "")

    def _setReference(self, movieSet, kind, name):
        setter = movieSet.setGain if kind == GAIN else movieSet.setDark
        setter(self._protocol._getExtraPath(name) if name else None)

    @staticmethod
    def _identify(facts, name):
        """ What tells a reference on disk from another: files with the same
        bytes are one reference, wherever they lie. """
        return {name} | {_identity(event) for event in facts.references.values() if name and event["name"] == name}

    # -------------------------- files -----------------------

    @staticmethod
    def _getName(number):
        return OUTPUT_NAME if number == 1 else "%s%d" % (OUTPUT_NAME, number)

    def _getPath(self, number):
        return self._protocol._getPath("movies.sqlite" if number == 1 else "movies_%d.sqlite" % number)

    def _getNames(self, movieSet):
        if not movieSet.getSize():
            return set()
        return {os.path.basename(path) for path in movieSet.getUniqueValues("_filename")}

    def _recover(self, output, path):
        if output in self._unpublished:
            return None
        loaded = SetOfMovies(filename=path)
        if loaded.getSize():
            loaded.loadAllProperties()
            self._protocol._defineOutputs(**{output: loaded})
            return loaded
        loaded.close()
        return None


def _fullFrames(facts, header):
    """ Frames of an undisturbed exposure: the most that a movie like this one
    is known to have, whichever of them came first. """
    alike = [movie["frames"] for movie in facts.movies.values() if movie.get("frames") and movie.get("size")
             and tuple(movie["size"]) == (header.width, header.height)]
    return max([header.frames] + [frames for frames in alike
                                  if abs(frames - header.frames) <= FRAMES_TOLERANCE * header.frames])


def _identity(event):
    return event.get("digest") or event["name"]
