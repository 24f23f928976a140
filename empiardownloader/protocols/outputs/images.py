# SPDX-License-Identifier: GPL-3.0-or-later
"""Micrographs, class averages, volumes and subtomograms."""
import os

from pwem.objects import Micrograph, SetOfAverages, SetOfMicrographs, SetOfVolumes, Transform

from ...archive.half_maps import pair_half_maps
from .optional import setTomoAcquisition, tomoObjects
from .sets import ImageSets


class MicrographSets(ImageSets):
    output = "outputMicrographs"
    file = "micrographs"
    setClass = SetOfMicrographs
    words = "micrographs"

    @staticmethod
    def _getFrames(traits):
        return 1

    def _appendPart(self, itsSet, context, name, header, part):
        micrograph = Micrograph(location=self._protocol._getExtraPath(name))
        micrograph.setMicName(name)
        micrograph.setAcquisition(itsSet.getAcquisition())
        itsSet.append(micrograph)
        return 1


class StackSets(ImageSets):
    """ Sets whose items are the images of stacks, nothing else being known of
    them than their stack. """

    def __init__(self, protocol):
        super().__init__(protocol)
        self._stacks = None             # how many stacks are registered

    def _appendPart(self, itsSet, context, name, header, part):
        if self._stacks is None:
            self._stacks = len(self.getRegisteredNames())
        self._stacks += 1
        item = itsSet.ITEM_TYPE()
        item.setAcquisition(itsSet.getAcquisition())
        # As Scipion's import has it: a stack holds what was picked in one micrograph.
        item.setMicId(self._stacks)
        for index in range(1, header.frames + 1):
            item.setObjId(None)
            item.setLocation(index, self._protocol._getExtraPath(name))
            itsSet.append(item)
        return header.frames


class AverageSets(StackSets):
    output = "outputAverages"
    file = "averages"
    setClass = SetOfAverages
    words = "class averages"


class VolumeSets(ImageSets):
    output = "outputVolumes"
    file = "volumes"
    setClass = SetOfVolumes
    words = "volumes"

    def describe(self, itsSet):
        return "%d x %d x %d voxels" % tuple(itsSet.getDim())

    def _getTraits(self, context, name, header):
        return header.width, header.height, header.frames

    def _fits(self, itsSet, facts, traits):
        return tuple(itsSet.getDim() or traits) == traits

    def _prepareSet(self, itsSet, context, traits):
        values = self._setAcquisition(itsSet, context, traits)
        itsSet.setDim(traits)
        return values

    def _appendPart(self, itsSet, context, name, header, part):
        volume = itsSet.ITEM_TYPE()
        volume.setLocation(self._protocol._getExtraPath(name))
        volume.setObjComment(os.path.basename(context.facts.path_of(name)))
        volume.setAcquisition(itsSet.getAcquisition())
        self._setOrigin(itsSet, volume)
        itsSet.append(volume)
        return 1

    def close(self, context):
        for _, itsSet in self.iterSets():
            self._pairHalves(itsSet)
        super().close(context)

    def _pairHalves(self, itsSet):
        """ A map knows its half maps, which stay volumes of the set. """
        pairs = {name: [self._protocol._getExtraPath(half) for half in halves]
                 for name, halves in pair_half_maps(self.getNames(itsSet)).items()}
        for item in [item.clone() for item in itsSet.iterItems()] if pairs else []:
            halves = pairs.get(self._getLocalName(item.getFileName()))
            if halves and list(item.getHalfMaps(asList=True)) != halves:
                item.setHalfMaps(halves)
                itsSet.update(item)

    def _refreshItem(self, itsSet, item, context):
        super()._refreshItem(itsSet, item, context)
        self._setOrigin(itsSet, item)

    @staticmethod
    def _setOrigin(itsSet, volume):
        # Its middle, as Scipion's import has it.
        origin = Transform()
        origin.setShifts(*[-size / 2 * itsSet.getSamplingRate() for size in itsSet.getDim()])
        volume.setOrigin(origin)


class SubTomogramSets(VolumeSets):
    output = "outputSubTomograms"
    file = "subtomograms"
    words = "subtomograms"

    def __init__(self, protocol):
        super().__init__(protocol)
        self.setClass = tomoObjects().SetOfSubTomograms

    def _setAcquisition(self, itsSet, context, traits):
        values = super()._setAcquisition(itsSet, context, traits)
        setTomoAcquisition(itsSet)
        return values
