# SPDX-License-Identifier: GPL-3.0-or-later
"""Particles: from the file that describes them, with CTF, coordinates and alignment, else the images of bare stacks.

What a row means is in relion_rows.py; here is which particles share a set, and how they are registered.
"""
import hashlib
import os
from collections import Counter
from typing import NamedTuple, Optional, Tuple

from pwem.constants import ALIGN_2D, ALIGN_PROJ
from pwem.objects import SetOfParticles

from ...download.particles import IMAGE_NAME, MICROGRAPH_NAME, OPTICS_GROUP, ParticleFile
from ...images.header import BadImageError, read_header
from ...images.star import number, row_at, split_image
from ..acquisition import Value, decide, decidePixelSize, makeAcquisition
from .images import appendStack
from .maker import Maker
from .relion_rows import (
    ACQUISITION,
    PIXEL_SIZE_ERROR,
    formatOptics,
    getGroup,
    makeCoordinate,
    makeParticle,
    makeTransform,
    ofParticlePixels,
    remarkOnCoordinates,
    whatIsTold,
)

BARE = (), False, ""        # the last of its Traits where nothing is known of a particle


def _within(rows, frames):
    return [row for row in rows if split_image(row[IMAGE_NAME])[0] <= frames]


class Traits(NamedTuple):
    """ What the particles of a set have in common. Refined Cs and amplitude
    contrast of an optics group are each particle's own. """
    width: int
    height: int
    pixelSize: float                # Å/px
    voltage: Optional[float]        # kV, as the .star file says it
    columns: Tuple[str, ...]        # names of what is known of a particle
    hasViews: bool                  # whether the .star file turns any particle out of the plane
    optics: str                     # which table of optics groups its numbers are of


class Sample(NamedTuple):
    """ The first particle with some traits: its .star file and its row there. """
    star: str
    row: dict


class Particles(Maker):
    """ Particles with the same Traits share a set. """
    output = "outputParticles"
    file = "particles"
    words = "particles"

    def __init__(self, protocol):
        super().__init__(protocol)
        self._described = {}            # local name of a .star file -> (what it was when it was read, ParticleFile)
        self._halves = None             # local names of stacks of which only some particles are there, once known
        self._last = None, {}           # a stack and its rows by image, those that were read last
        self._coming = None, {}         # the stack that is added, and which sets had it before, by their files
        self._samples = {}              # Traits -> Sample
        self._refreshed = Counter()     # (stack, image) -> how many of its particles were refreshed
        self._acquisitions = {}         # (star, what it says of the microscope) -> Acquisition

    def getSetClass(self):
        return SetOfParticles

    def getRegisteredNames(self, sets):
        """ A stack whose particles go to several sets counts when all are in. """
        names = super().getRegisteredNames(sets)
        if self._halves is None:
            self._halves = self._findHalves(sets)
        return names - self._halves

    def _findHalves(self, sets):
        """ Stacks of which an earlier process, killed between two sets, has
        registered some particles only. This one registers all or fails. """
        facts, counts = self._protocol.readFacts(), {}
        for itsSet in sets:
            for row in itsSet.aggregate(["count"], "_filename", ["_filename"]):
                name = self.getLocalName(row["_filename"])
                counts[name] = counts.get(name, 0) + row["count"]
        return {name for name, count in counts.items() if count < self._countRows(facts, name)
                and count < self._countRowsWithin(facts, name)}

    # -------------------------- what is said of a whole set -----------------------

    def getParts(self, context, arrived):
        name, header, _ = arrived
        if self._halves:
            self._halves.discard(name)
        rows = self._getRows(context.facts, name)
        if not rows:
            pixelSize = decidePixelSize(self._protocol, context).value
            return [(Traits(header.width, header.height, pixelSize, None, *BARE), None)]
        within = _within(rows, header.frames)
        if len(within) < len(rows):
            self._protocol.remark("%d particles are skipped: %s has no more than %d images." % (
                len(rows) - len(within), name, header.frames))
        parts = {}
        star = context.facts.images[name].star
        common, decided = self._getCommon(star), {}      # pixel size as a row says it -> as it is decided
        for row in within:
            full = self._getFullRow(star, row)
            told = whatIsTold(star, full)
            said = told["samplingRate"]
            if said not in decided:
                decided[said] = decidePixelSize(self._protocol, context, said).value
            traits = Traits(header.width, header.height, decided[said], told["voltage"].value, *common)
            self._samples.setdefault(traits, Sample(star, full))
            parts.setdefault(traits, []).append(full)
        return [(traits, (star, rows)) for traits, rows in parts.items()]

    def fits(self, itsSet, facts, traits):
        if tuple(itsSet.getDim()[:2]) != traits[:2] or traits.pixelSize is None \
                or abs(itsSet.getSamplingRate() - traits.pixelSize) > PIXEL_SIZE_ERROR * traits.pixelSize:
            return False
        its = self.getBasis(itsSet, facts)
        return its is None or its[3:] == traits[3:]

    def getBasis(self, itsSet, facts):
        """ Those of the first particle of a set; None where there is none, or
        where its .star file is gone. """
        if itsSet.isEmpty():
            return None
        first = itsSet.getFirstItem()
        index, path = first.getLocation()
        name = self.getLocalName(path)
        size = itsSet.getDim()[:2]
        star = facts.images[name].star if name in facts.images else None
        if star is None:
            return Traits(*size, itsSet.getSamplingRate(), None, *BARE)
        rows = self._getRowsOf(facts, name, index, first)
        if not rows:
            return None
        full = self._getFullRow(star, rows[0])
        traits = Traits(*size, itsSet.getSamplingRate(), whatIsTold(star, full)["voltage"].value,
                        *self._getCommon(star))
        self._samples[traits] = Sample(star, full)
        return traits

    def isKnown(self, itsSet, facts):
        # Not where its .star file is gone: the set keeps what that said.
        return self.getBasis(itsSet, facts) is not None

    def prepareSet(self, itsSet, context, traits):
        values = self.setAcquisition(itsSet, context, traits)
        itsSet.setDim((traits.width, traits.height, 1))
        columns = set(traits.columns)
        itsSet.setHasCTF({"rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"} <= columns)
        if traits.hasViews and {"rlnAngleRot", "rlnAngleTilt"} <= columns:
            itsSet.setAlignment(ALIGN_PROJ)
        elif "rlnAnglePsi" in columns and {"rlnOriginX", "rlnOriginXAngst"} & columns:
            itsSet.setAlignment(ALIGN_2D)
        return values

    def _getTold(self, traits):
        sample = self._samples.get(traits)
        if not sample:
            return {}
        told = whatIsTold(*sample)
        for name, label in ACQUISITION:
            values = {group.get(label) for group in self._getFile(sample.star).optics}
            if len(values) > 1 and told[name].value is not None:
                told[name] = Value(told[name].value, "%s, of the first of its optics groups: each particle has its "
                                                     "own group's" % sample.star)
        return told

    def setAcquisition(self, itsSet, context, basis):
        values = self._decide(itsSet, context, told=self._getTold(basis))
        sample = self._samples.get(basis)
        optics = self._getFile(sample.star).optics if sample else None
        if optics:
            # As RELION's protocols hand it from one to the next.
            itsSet.getAcquisition().opticsGroupInfo.set(formatOptics(
                ofParticlePixels(optics, itsSet.getSamplingRate())))
        return values

    def _getItemAcquisition(self, context, star, row):
        """ The acquisition of one particle, as its own optics group says. """
        told = whatIsTold(star, row)
        key = star, tuple(told[name] for name, _ in ACQUISITION)
        if key not in self._acquisitions:
            # Without the table of optics groups: in each of a million rows it would be hundreds of megabytes.
            self._acquisitions[key] = makeAcquisition(decide(self._protocol, context, told=told))
        return self._acquisitions[key]

    # -------------------------- a changed form -----------------------

    def beginRefresh(self):
        self._refreshed.clear()
        self._acquisitions.clear()

    def refreshItem(self, itsSet, item, context):
        """ Acquisition, and shifts in pixels that were angstrom in the .star file. """
        index, path = item.getLocation()
        name = self.getLocalName(path)
        rows = self._getRowsOf(context.facts, name, index, item)
        # Several particles may be of one image (symmetry expansion): they are in the order of the rows.
        key = name, index, getGroup(item)
        place = self._refreshed[key]
        self._refreshed[key] += 1
        if place >= len(rows):
            item.setAcquisition(itsSet.getAcquisition())
            return
        star = context.facts.images[name].star
        full = self._getFullRow(star, rows[place])
        item.setAcquisition(self._getItemAcquisition(context, star, full))
        if item.hasTransform() and "rlnOriginXAngst" in full:
            item.setTransform(makeTransform(full, itsSet.getAlignment(), itsSet.getSamplingRate()))
        if item.hasCoordinate():
            micId = item.getCoordinate().getMicId()
            item.setCoordinate(makeCoordinate(full, itsSet.getSamplingRate()))
            item.getCoordinate().setMicId(micId)

    # -------------------------- rows -----------------------

    def _getFile(self, star):
        """ A .star file by its local name, read anew where it has changed. """
        path = self._protocol._getExtraPath(star)
        state = os.stat(path)
        state = state.st_mtime_ns, state.st_size
        if self._described.get(star, (None,))[0] != state:
            self._described[star] = state, ParticleFile.read(path)
        return self._described[star][1]

    def _getCommon(self, star):
        """ What all particles of a .star file have in common: the last of their Traits. """
        described = self._getFile(star)
        optics = hashlib.sha1(formatOptics(described.optics).encode()).hexdigest() if described.optics else ""
        return tuple(sorted(described.table.columns)), described.has_views, optics

    def _getDescription(self, facts, name):
        """ The file that describes a stack, None where there is none, and
        where its rows are in there. """
        image = facts.images.get(name)
        if image is None or image.star is None or not os.path.exists(self._protocol._getExtraPath(image.star)):
            return None, ()
        described = self._getFile(image.star)
        return described, described.rows.get(image.stack, ())

    def _getRows(self, facts, name):
        """ The rows of a stack, none where nothing describes it. """
        described, offsets = self._getDescription(facts, name)
        if not offsets:
            return []
        with open(described.path, "rb") as stream:
            return [row_at(stream, offset, described.table) for offset in offsets]

    def _getRowsByIndex(self, facts, name):
        """ The same by the number of the image in its stack, which several
        rows may name; those of the last stack are kept. """
        if self._last[0] != name:
            byIndex = {}
            for row in self._getRows(facts, name):
                byIndex.setdefault(split_image(row[IMAGE_NAME])[0], []).append(row)
            self._last = name, byIndex
        return self._last[1]

    def _getRowsOf(self, facts, name, index, item):
        """ The rows that a particle may be of: of its image, and of its optics group. """
        rows = self._getRowsByIndex(facts, name).get(index, ())
        group = getGroup(item)
        return [row for row in rows if group is None or number(row, OPTICS_GROUP) in (None, group)]

    def _countRows(self, facts, name):
        return len(self._getDescription(facts, name)[1])

    def _countRowsWithin(self, facts, name):
        """ Without those that are beyond the images of the stack; none where
        it cannot be read (any more): nothing more can come of it. """
        try:
            frames = read_header(self._protocol._getExtraPath(name)).frames
        except (OSError, BadImageError):
            return 0
        return len(_within(self._getRows(facts, name), frames))

    def _getFullRow(self, star, row):
        """ What a row says, and what the optics group says it belongs to. """
        return {**self._getFile(star).group(row), **row}

    def _hadIt(self, itsSet, arrived):
        """ Whether particles of a stack were in a set before any of this one
        came: several parts of it may go there, of pixel sizes that hardly differ. """
        if self._coming[0] is not arrived:
            self._coming = arrived, {}
        return self._coming[1].setdefault(itsSet.getFileName(), arrived.name in self.getNames(itsSet))

    def appendTo(self, itsSet, context, arrived, part):
        path = self._protocol._getExtraPath(arrived.name)
        if part is None:
            return appendStack(itsSet, path, arrived)
        if self._hadIt(itsSet, arrived):
            return 0        # by a process that was killed between two sets
        star, rows = part
        remark = remarkOnCoordinates(rows[0], star, itsSet.getSamplingRate())
        if remark:
            self._protocol.remark(remark)
        # As Scipion's plugin for RELION has it, a micrograph that particles were picked in has a number. It is written
        # down before it is used, and stays whatever .star files a later run finds.
        micrographs = self._protocol.numberMicrographs(dict.fromkeys(
            row[MICROGRAPH_NAME] for row in rows if MICROGRAPH_NAME in row))
        for row in rows:
            index, _ = split_image(row[IMAGE_NAME])
            particle = makeParticle(itsSet, row, (index, path), self._getItemAcquisition(context, star, row))
            micrograph = micrographs.get(row.get(MICROGRAPH_NAME))
            particle.setMicId(micrograph)
            if particle.hasCoordinate():
                particle.getCoordinate().setMicId(micrograph)
            itsSet.append(particle)
        return len(rows)
