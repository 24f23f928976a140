# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets that grow while others read them, survive a kill, and are closed once.

The images of a set are alike. Those that differ go to sets of their own: outputX, outputX2, ... in the order in which
they arrive. The maker of a kind (maker.py) says what makes images alike, and how a file becomes items.
"""
import os

import pyworkflow.utils as pwutils
from pyworkflow.object import Set

from ..acquisition import asNoted, noteValues
from .maker import Arrived

# A set is written after so many items, so that others see it grow also when thousands wait.
COMMIT_ITEMS = 500


class OutputSets:
    """ What the protocol asks of its outputs, whatever their kind. The caller
    sees to it that one thread at a time works with them. """
    why = ""                # a sentence for the user where files go to no set

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


class GrowingSets(OutputSets):
    """ The sets of a run for one kind of items. """

    def __init__(self, protocol, maker):
        self._protocol, self._maker = protocol, maker
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
        return self._maker.getRegisteredNames([itsSet for _, itsSet in self.iterSets()])

    def append(self, context, headers):
        self._maker.update(context, list(self.iterSets()))
        registered = self.getRegisteredNames()
        added, fitting, touched, waiting = {}, {}, {}, 0
        new = [name for name in headers if name not in registered]
        for number, name in enumerate(new, start=len(registered) + 1):
            arrived = Arrived(name, headers[name], number)
            for traits, part in self._maker.getParts(context, arrived):
                if traits not in fitting:
                    fitting[traits] = self._choose(context, traits)
                output, itsSet = fitting[traits]
                count = self._maker.appendTo(itsSet, context, arrived, part)
                touched[output] = itsSet
                added[output] = added.get(output, 0) + count
                waiting += count
            if waiting >= COMMIT_ITEMS:
                self._publish(touched)
                waiting = 0
        self._publish(touched)
        return added

    def close(self, context):
        self._maker.update(context, list(self.iterSets()), last=True)
        for output, itsSet in self.iterSets():
            self._maker.finish(itsSet)
            itsSet.setStreamState(Set.STREAM_CLOSED)
            self._store(output, itsSet)
            itsSet.close()
        self._appendable.clear()

    def refresh(self, context):
        for output, itsSet in self.iterSets():
            self._refreshAcquisition(output, itsSet, context)
            moved = self._maker.correctPaths(itsSet)
            if moved:
                self._protocol.info("The path of the %s of %s is this project's now." % (moved, output))
                self._store(output, itsSet)

    def _refreshAcquisition(self, output, itsSet, context):
        maker = self._maker
        if not maker.hasAcquisitionOfTheForm or not itsSet.getSize() or not maker.isKnown(itsSet, context.facts):
            return
        fresh = maker.getSetClass()()
        values = maker.setAcquisition(fresh, context, maker.getBasis(itsSet, context.facts))
        noted = context.facts.values.get(output, asNoted(values))
        if noted == asNoted(values) and not _isOther(itsSet, fresh):
            return
        self._protocol.info("The acquisition in the form has changed: it is changed in %s too." % output)
        itsSet.setAcquisition(fresh.getAcquisition())
        itsSet.setSamplingRate(fresh.getSamplingRate())
        maker.beginRefresh()
        for item in [item.clone() for item in itsSet.iterItems()]:
            item.setSamplingRate(fresh.getSamplingRate())
            maker.refreshItem(itsSet, item, context)
            itsSet.update(item)
        self._store(output, itsSet)
        noteValues(self._protocol, output, values)

    def remove(self):
        """ Delete the sets, to make them anew. """
        for _, itsSet in list(self.iterSets()):
            itsSet.close()
            self._protocol.deleteOutput(itsSet)
            pwutils.cleanPath(itsSet.getFileName())
        self._appendable.clear()
        self._unpublished.clear()
        self._loaded.clear()

    # -------------------------- which set -----------------------

    def _choose(self, context, traits):
        """ (name, set) for images of a kind, open for appending; a new one
        where none fits. """
        count = 0
        for output, itsSet in [*self.iterSets(), *self._unpublished.items()]:
            count += 1
            if self._maker.fits(itsSet, context.facts, traits):
                return output, self._openForAppending(output, itsSet)
        return self._create(count + 1, context, traits)

    def _create(self, number, context, traits):
        maker, output = self._maker, self._getName(number)
        itsSet = maker.getSetClass().create(self._protocol._getPath(), prefix=maker.file,
                                            suffix=str(number) if number > 1 else None)
        noteValues(self._protocol, output, maker.prepareSet(itsSet, context, traits))
        itsSet.setStreamState(Set.STREAM_OPEN)
        self._unpublished[output] = itsSet
        self._appendable.add(output)
        if number > 1:
            self._protocol.warning("%s with %s go to a set of their own, %s." % (
                maker.words.capitalize(), maker.describe(itsSet), output))
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
            if not hasattr(self._protocol, output):
                itsSet.write()
                self._protocol._defineOutputs(**{output: itsSet})
                del self._unpublished[output]
            self._store(output, itsSet)

    def _store(self, output, itsSet):
        itsSet.write()
        self._protocol._store(itsSet)
        if self._maker.closesWhenWritten:
            itsSet.close()
            self._appendable.discard(output)

    # -------------------------- files -----------------------

    def _getName(self, number):
        return self._maker.output if number == 1 else "%s%d" % (self._maker.output, number)

    def _getPath(self, number):
        return self._protocol._getPath("%s.sqlite" % self._maker.file if number == 1 else "%s_%d.sqlite" % (
            self._maker.file, number))

    def _recover(self, output, path):
        if output in self._unpublished:
            return None
        loaded = self._maker.getSetClass()(filename=path)
        if loaded.getSize():
            loaded.loadAllProperties()
            self._protocol._defineOutputs(**{output: loaded})
            return loaded
        loaded.close()
        return None


def _isOther(itsSet, fresh):
    """ Whether a set says something else than it would if it was made now. """
    return fresh.getSamplingRate() != itsSet.getSamplingRate() \
        or not fresh.getAcquisition().equalAttributes(itsSet.getAcquisition())
