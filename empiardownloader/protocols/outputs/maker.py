# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kind of items has of its own: the traits that the images of a set share, and how a file becomes items.

Traits are tuples that do not change, with a class of their own for each kind: files whose traits differ go to
different sets. A kind more is a Maker, and a line in __init__.py.
"""
import os
from typing import NamedTuple, Optional

from ...images.header import Header
from ..acquisition import decide, setValues


class Arrived(NamedTuple):
    """ What is to be registered: a file, or a whole tilt series. """
    name: str                   # local name of the file, or name of the series
    header: Optional[Header]    # None where the file does not show it
    number: int                 # 1 for the first one of the run


class Size(NamedTuple):
    """ The traits of single images; None in their place where a file does not show its size. """
    width: int                  # px
    height: int


class Maker:
    output = ""                 # name of the first output
    file = ""                   # of its database, without the ending
    words = "images"
    # Whether others would be locked out of a set that stays open here.
    closesWhenWritten = False
    # Whether a changed form changes sets in place; sets of tilt series are made anew.
    hasAcquisitionOfTheForm = True

    def __init__(self, protocol):
        self._protocol = protocol

    def getSetClass(self):
        raise NotImplementedError

    # -------------------------- which set -----------------------

    def getParts(self, context, arrived):
        """ What of a file goes to which kind of set: (traits, part). """
        header = arrived.header
        return [(header and Size(header.width, header.height), None)]

    def fits(self, itsSet, facts, traits):
        """ Whether images with some traits belong to a set. """
        dim = itsSet.getDim()
        return traits is None or dim is None or tuple(dim[:2]) == traits

    def describe(self, itsSet):
        """ What the images of a set have in common. """
        dim = itsSet.getDim()
        return "%d x %d pixels" % tuple(dim[:2]) if dim else "a size they do not show"

    def prepareSet(self, itsSet, context, traits):
        """ Tell a new set what all its items have in common.
        :return: what was decided of its acquisition. """
        values = self.setAcquisition(itsSet, context, traits)
        if traits is not None:
            itsSet.setDim((traits.width, traits.height, 1))
        return values

    def setAcquisition(self, itsSet, context, basis):
        """ Acquisition and pixel size of a set.
        :param basis: what of its traits they depend on, see getBasis.
        :return: what was decided, with the sources. """
        return self._decide(itsSet, context)

    def _decide(self, itsSet, context, frames=None, told=None):
        """ :param frames: how many the dose of an image was divided into.
        :param told: what a file says of the images: name -> Value. """
        values = decide(self._protocol, context, frames, told or {})
        setValues(itsSet, values, context.imageSet.describe())
        return values

    # -------------------------- its items -----------------------

    def appendTo(self, itsSet, context, arrived, part):
        """ :return: how many items a file, or a part of it, became. """
        raise NotImplementedError

    def getNames(self, itsSet):
        """ Local names of the files that are in a set. """
        if not itsSet.getSize():
            return set()
        return {self.getLocalName(path) for path in itsSet.getUniqueValues("_filename")}

    def getRegisteredNames(self, sets):
        """ Of all sets: those of which nothing is missing. """
        return {name for itsSet in sets for name in self.getNames(itsSet)}

    def getLocalName(self, path):
        return os.path.relpath(path, self._protocol._getExtraPath())

    # -------------------------- what comes later -----------------------

    def update(self, context, sets, last=False):
        """ The record may tell more of sets that are there, (name, set), before images are added or, ``last``, before
        they are closed. """

    def finish(self, itsSet):
        """ All items of a set are there. """

    def isKnown(self, itsSet, facts):
        """ Whether it can be told what the form changes of a set. """
        return True

    def getBasis(self, itsSet, facts):
        """ What of a set's traits its acquisition depends on. """

    def beginRefresh(self):
        """ The items of a set are going to be refreshed, in their order. """

    def refreshItem(self, itsSet, item, context):
        """ What follows from acquisition and pixel size changes with them. """
        item.setAcquisition(itsSet.getAcquisition())

    def correctPaths(self, itsSet):
        """ The project may have been moved.
        :return: what lies elsewhere now, '' for nothing. """
        return ""
