# SPDX-License-Identifier: GPL-3.0-or-later
"""Micrographs, class averages, volumes and subtomograms."""
import os
from typing import NamedTuple

from pwem.objects import Micrograph, SetOfAverages, SetOfMicrographs, SetOfVolumes, Transform

from ...archive.half_maps import pair_half_maps
from .maker import Maker
from .optional import setTomoAcquisition, tomoObjects


class Micrographs(Maker):
    output = "outputMicrographs"
    file = "micrographs"
    words = "micrographs"

    def getSetClass(self):
        return SetOfMicrographs

    def setAcquisition(self, itsSet, context, basis):
        return self._decide(itsSet, context, frames=1)

    def appendTo(self, itsSet, context, arrived, part):
        micrograph = Micrograph(location=self._protocol._getExtraPath(arrived.name))
        micrograph.setMicName(arrived.name)
        micrograph.setAcquisition(itsSet.getAcquisition())
        itsSet.append(micrograph)
        return 1


def appendStack(itsSet, path, arrived):
    """ The images of a stack, nothing else being known of them.
    :return: how many they are. """
    item = itsSet.ITEM_TYPE()
    item.setAcquisition(itsSet.getAcquisition())
    # As Scipion's import has it: a stack holds what was picked in one micrograph.
    item.setMicId(arrived.number)
    for index in range(1, arrived.header.frames + 1):
        item.setObjId(None)
        item.setLocation(index, path)
        itsSet.append(item)
    return arrived.header.frames


class Averages(Maker):
    output = "outputAverages"
    file = "averages"
    words = "class averages"

    def getSetClass(self):
        return SetOfAverages

    def appendTo(self, itsSet, context, arrived, part):
        return appendStack(itsSet, self._protocol._getExtraPath(arrived.name), arrived)


class Box(NamedTuple):
    """ The traits of volumes. """
    width: int                  # voxels
    height: int
    depth: int


class Volumes(Maker):
    output = "outputVolumes"
    file = "volumes"
    words = "volumes"

    def getSetClass(self):
        return SetOfVolumes

    def getParts(self, context, arrived):
        return [(Box(arrived.header.width, arrived.header.height, arrived.header.frames), None)]

    def fits(self, itsSet, facts, traits):
        return tuple(itsSet.getDim() or traits) == traits

    def describe(self, itsSet):
        return "%d x %d x %d voxels" % tuple(itsSet.getDim())

    def prepareSet(self, itsSet, context, traits):
        values = self.setAcquisition(itsSet, context, traits)
        itsSet.setDim(tuple(traits))
        return values

    def appendTo(self, itsSet, context, arrived, part):
        volume = itsSet.ITEM_TYPE()
        volume.setLocation(self._protocol._getExtraPath(arrived.name))
        volume.setObjComment(os.path.basename(context.facts.path_of(arrived.name)))
        volume.setAcquisition(itsSet.getAcquisition())
        _setOrigin(itsSet, volume)
        itsSet.append(volume)
        return 1

    def finish(self, itsSet):
        """ A map knows its half maps, which stay volumes of the set. """
        pairs = {name: [self._protocol._getExtraPath(half) for half in halves]
                 for name, halves in pair_half_maps(self.getNames(itsSet)).items()}
        for item in [item.clone() for item in itsSet.iterItems()] if pairs else []:
            halves = pairs.get(self.getLocalName(item.getFileName()))
            if halves and list(item.getHalfMaps(asList=True)) != halves:
                item.setHalfMaps(halves)
                itsSet.update(item)

    def refreshItem(self, itsSet, item, context):
        super().refreshItem(itsSet, item, context)
        _setOrigin(itsSet, item)


class SubTomograms(Volumes):
    output = "outputSubTomograms"
    file = "subtomograms"
    words = "subtomograms"

    def getSetClass(self):
        return tomoObjects().SetOfSubTomograms

    def setAcquisition(self, itsSet, context, basis):
        values = super().setAcquisition(itsSet, context, basis)
        setTomoAcquisition(itsSet)
        return values


def _setOrigin(itsSet, volume):
    # Its middle, as Scipion's import has it.
    origin = Transform()
    origin.setShifts(*[-size / 2 * itsSet.getSamplingRate() for size in itsSet.getDim()])
    volume.setOrigin(origin)
