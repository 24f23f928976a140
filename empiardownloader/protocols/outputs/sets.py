# SPDX-License-Identifier: GPL-3.0-or-later
"""What the outputs of all kinds share: sets that grow while others read them, survive a kill, and are closed once.

The images of a set are alike. Those that differ go to sets of their own: outputX, outputX2, ... in the order in which
they arrive. A kind says what makes images alike, and how a file becomes items.
"""
import os

from pyworkflow.object import Set

from ..acquisition import asNoted, decide, noteValues, setValues

# A set is written after so many items, so that others see it grow also when thousands wait.
COMMIT_ITEMS = 500


class OutputSets:
    """ What the protocol asks of its outputs, whatever their kind. The caller
    sees to it that one thread at a time works with them. """
    why = ""                # a sentence for the user where files go to no set

    def __init__(self, protocol):
        self._protocol = protocol

    def iterSets(self, recover=True):
        """ (name of the output, set): of this process, of the run's database,
        or, where that was lost with a killed process, of the set's own file;
        the last only with ``recover``, which is for the run itself. """
        raise NotImplementedError

    def getRegisteredNames(self):
        """ Local names of the files that are registered. """
        raise NotImplementedError

    def append(self, context, headers):
        """ Add files to the sets they fit.
        :param headers: dict local name -> header, None for a file that does not show its own.
        :return: how many items each output got, by its name. """
        raise NotImplementedError

    def settle(self, context):
        """ Called when the download has told more, or has ended: what belongs
        to several files can be registered. """

    def close(self, context):
        """ There will be no more images. """
        raise NotImplementedError

    def refresh(self, context):
        """ A form changed since the sets were begun changes what they say, in
        place: no item comes or goes. """
        raise NotImplementedError


class ImageSets(OutputSets):
    """ Sets that grow, of images of one kind. """
    output = ""             # name of the first output
    file = ""               # of its database, without the ending
    setClass = None
    words = "images"

    def __init__(self, protocol):
        super().__init__(protocol)
        self._appendable = set()        # names of the outputs that this process has opened for appending
        self._unpublished = {}          # sets made just now, whose first item is not written yet
        self._loaded = set()            # names of the outputs of earlier processes that have been read whole

    # -------------------------- for the protocol -----------------------

    def iterSets(self, recover=True):
        number = 1
        while True:
            name = self._getName(number)
            itsSet = getattr(self._protocol, name, None)
            path = self._getPath(number)
            if itsSet is None and recover and os.path.exists(path):
                itsSet = self._recover(name, path)
            if itsSet is None:
                return
            if recover and name not in self._loaded and name not in self._appendable and itsSet.getSize():
                # The project's database does not keep all that a set says of itself.
                self._loaded.add(name)
                itsSet.loadAllProperties()
            yield name, itsSet
            number += 1

    def getRegisteredNames(self):
        return {name for _, itsSet in self.iterSets() for name in self.getNames(itsSet)}

    def getNames(self, itsSet):
        """ Local names of the files that are in a set. """
        if not itsSet.getSize():
            return set()
        return {self._getLocalName(path) for path in itsSet.getUniqueValues("_filename")}

    def _getLocalName(self, path):
        return os.path.relpath(path, self._protocol._getExtraPath())

    def append(self, context, headers):
        registered = self.getRegisteredNames()
        added, fitting, touched, waiting = {}, {}, {}, 0
        for name in headers:
            if name in registered:
                continue
            for traits, part in self._getParts(context, name, headers[name]):
                if traits not in fitting:
                    fitting[traits] = self._choose(context, traits)
                output, itsSet = fitting[traits]
                count = self._appendPart(itsSet, context, name, headers[name], part)
                touched[output] = itsSet
                added[output] = added.get(output, 0) + count
                waiting += count
            if waiting >= COMMIT_ITEMS:
                self._publish(touched)
                waiting = 0
        self._publish(touched)
        return added

    def close(self, context):
        for _, itsSet in self.iterSets():
            itsSet.setStreamState(Set.STREAM_CLOSED)
            itsSet.write()
            self._protocol._store(itsSet)
            itsSet.close()
        self._appendable.clear()

    def refresh(self, context):
        for output, itsSet in self.iterSets():
            if not itsSet.getSize() or not self._isKnown(itsSet, context.facts):
                continue
            fresh = self.setClass()
            values = self._setAcquisition(fresh, context, self._getTraitsOf(itsSet, context.facts))
            noted = context.facts.values.get(output, asNoted(values))
            if noted == asNoted(values) and not self._isOther(itsSet, fresh):
                continue
            self._protocol.info("The acquisition in the form has changed: it is changed in %s too." % output)
            itsSet.setAcquisition(fresh.getAcquisition())
            itsSet.setSamplingRate(fresh.getSamplingRate())
            self._beginRefresh(itsSet, context)
            for item in [item.clone() for item in itsSet.iterItems()]:
                item.setSamplingRate(fresh.getSamplingRate())
                self._refreshItem(itsSet, item, context)
                itsSet.update(item)
            itsSet.write()
            self._protocol._store(itsSet)
            noteValues(self._protocol, output, values)

    def describe(self, itsSet):
        """ What the images of a set have in common. """
        dim = itsSet.getDim()
        return "%d x %d pixels" % tuple(dim[:2]) if dim else "a size they do not show"

    # -------------------------- for each kind -----------------------

    def _getParts(self, context, name, header):
        """ What of a file goes to which kind of set: (traits, part). """
        return [(self._getTraits(context, name, header), None)]

    def _getTraits(self, context, name, header):
        """ What has to be the same for two files to share a set; hashable. """
        return None if header is None else (header.width, header.height)

    def _isKnown(self, itsSet, facts):
        """ Whether it can be told what the form changes of a set. """
        return True

    def _getTraitsOf(self, itsSet, facts):
        """ What of a set's traits its acquisition depends on. """

    def _fits(self, itsSet, facts, traits):
        dim = itsSet.getDim()
        return traits is None or dim is None or tuple(dim[:2]) == traits

    def _prepareSet(self, itsSet, context, traits):
        """ Tell a new set what all its items have in common.
        :return: what was decided of its acquisition. """
        values = self._setAcquisition(itsSet, context, traits)
        if traits is not None:
            itsSet.setDim((*traits, 1))
        return values

    def _appendPart(self, itsSet, context, name, header, part):
        """ :return: how many items a file, or a part of it, became. """
        raise NotImplementedError

    def _setAcquisition(self, itsSet, context, traits):
        """ Acquisition and pixel size of a set with some traits.
        :return: what was decided, with the sources. """
        values = decide(self._protocol, context, self._getFrames(traits), self._getTold(traits))
        setValues(itsSet, values, context.imageSet.describe())
        return values

    def _getTold(self, traits):
        """ What a file says of images with some traits: name -> Value. """
        return {}

    @staticmethod
    def _isOther(itsSet, fresh):
        """ Whether a set says something else than it would if it was made now. """
        return fresh.getSamplingRate() != itsSet.getSamplingRate() \
            or not fresh.getAcquisition().equalAttributes(itsSet.getAcquisition())

    def _beginRefresh(self, itsSet, context):
        """ The items of a set are going to be refreshed, in their order. """

    def _refreshItem(self, itsSet, item, context):
        """ What follows from acquisition and pixel size changes with them. """
        item.setAcquisition(itsSet.getAcquisition())

    @staticmethod
    def _getFrames(traits):
        """ How many frames the dose of an image was divided into. """

    # -------------------------- which set -----------------------

    def _choose(self, context, traits):
        """ (name, set) for images of a kind, open for appending; a new one
        where none fits. """
        count = 0
        for output, itsSet in [*self.iterSets(), *self._unpublished.items()]:
            count += 1
            if self._fits(itsSet, context.facts, traits):
                return output, self._openForAppending(output, itsSet)
        return self._create(count + 1, context, traits)

    def _create(self, number, context, traits):
        output = self._getName(number)
        itsSet = self.setClass.create(self._protocol._getPath(), prefix=self.file,
                                      suffix=str(number) if number > 1 else None)
        noteValues(self._protocol, output, self._prepareSet(itsSet, context, traits))
        itsSet.setStreamState(Set.STREAM_OPEN)
        self._unpublished[output] = itsSet
        self._appendable.add(output)
        if number > 1:
            self._protocol.warning("%s with %s go to a set of their own, %s." % (
                self.words.capitalize(), self.describe(itsSet), output))
        return output, itsSet

    def _openForAppending(self, output, itsSet):
        if output not in self._appendable:
            itsSet.enableAppend()
            self._appendable.add(output)
        itsSet.setStreamState(Set.STREAM_OPEN)
        return itsSet

    def _publish(self, touched):
        """ Others see now what was appended. """
        for output, itsSet in touched.items():
            if not itsSet.getSize():
                continue        # not before its first item is in it: others would meet a set without properties
            itsSet.write()
            if not hasattr(self._protocol, output):
                self._protocol._defineOutputs(**{output: itsSet})
                del self._unpublished[output]
            self._protocol._store(itsSet)

    # -------------------------- files -----------------------

    def _getName(self, number):
        return self.output if number == 1 else "%s%d" % (self.output, number)

    def _getPath(self, number):
        return self._protocol._getPath("%s.sqlite" % self.file if number == 1 else "%s_%d.sqlite" % (
            self.file, number))

    def _recover(self, output, path):
        if output in self._unpublished:
            return None
        loaded = self.setClass(filename=path)
        if loaded.getSize():
            loaded.loadAllProperties()
            self._protocol._defineOutputs(**{output: loaded})
            return loaded
        loaded.close()
        return None
