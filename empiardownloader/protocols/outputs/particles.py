# SPDX-License-Identifier: GPL-3.0-or-later
"""Particles: from the file that describes them, with CTF, coordinates and alignment, else the images of bare stacks.

What RELION's labels mean: https://relion.readthedocs.io/en/latest/Reference/Conventions.html. Files of RELION 3.1 and
later have optics groups and shifts in angstrom; older ones have neither, their shifts are in pixels, their pixel size
follows from detector and magnification. The matrices are those that Scipion's plugin for RELION makes of them.
"""
import os

import numpy as np
import pwem.convert.transformations as transformations
from pwem.constants import ALIGN_2D, ALIGN_NONE, ALIGN_PROJ
from pwem.objects import Coordinate, CTFModel, Particle, SetOfParticles, Transform
from pyworkflow.object import Float, Integer, String

from ...archive.errors import EntryError
from ...download.particles import IMAGE_NAME, ParticleFile
from ...images.star import number, row_at, split_image
from .images import StackSets

OPTICS_GROUP = "rlnOpticsGroup"
# Columns that other protocols look for under their RELION name, and what they hold.
KEPT = {"rlnRandomSubset": Integer, OPTICS_GROUP: Integer, "rlnGroupNumber": Integer, "rlnGroupName": String,
        "rlnCtfBfactor": Float, "rlnCtfScalefactor": Float}
PIXEL_SIZE_ERROR = 1e-4
BARE = ()       # what a particle has of which nothing is known
ACQUISITION = (("voltage", "rlnVoltage", "setVoltage"),
               ("sphericalAberration", "rlnSphericalAberration", "setSphericalAberration"),
               ("amplitudeContrast", "rlnAmplitudeContrast", "setAmplitudeContrast"))


class ParticleSets(StackSets):
    """ The particles of a set have the same box, the same optics, and the same
    is known of them: traits are (width, height, what the optics group says,
    names of what a particle has). """
    output = "outputParticles"
    file = "particles"
    setClass = SetOfParticles
    words = "particles"

    def __init__(self, protocol):
        super().__init__(protocol)
        self._described = {}            # local name of a .star file -> (what it was when it was read, ParticleFile)
        self._beyond = {}               # local name of a stack -> rows that are beyond its images
        self._last = None, {}           # a stack and its rows, those that were read last

    def getRegisteredNames(self):
        """ A stack whose particles go to several sets counts when all are in. """
        names = super().getRegisteredNames()
        if sum(1 for _ in self.iterSets()) < 2:
            return names
        facts, counts = self._protocol._readFacts(), {}
        for _, itsSet in self.iterSets():
            for row in itsSet.aggregate(["count"], "_filename", ["_filename"]):
                name = self._getLocalName(row["_filename"])
                counts[name] = counts.get(name, 0) + row["count"]
        return {name for name in names
                if counts.get(name, 0) >= self._countRows(facts, name) - self._beyond.get(name, 0)}

    # -------------------------- what is said of a whole set -----------------------

    def _getParts(self, found, facts, name, header):
        rows = self._getRows(facts, name)
        if not rows:
            return [((header.width, header.height, self._getPixelSize(found, {}), (), BARE), None)]
        within = [row for row in rows if 1 <= (split_image(row[IMAGE_NAME])[0] or 0) <= header.frames]
        if len(within) < len(rows):
            self._beyond[name] = len(rows) - len(within)
            self._protocol.remark("%d particles are left out: %s has no more than %d images." % (
                self._beyond[name], name, header.frames))
        parts = {}
        star = facts.images[name]["star"]
        columns = self._getColumns(star)
        for row in within:
            optics = self._getOptics(star, row)
            key = (header.width, header.height, self._getPixelSize(found, optics),
                   tuple(number(optics, label) for _, label, _ in ACQUISITION), columns)
            parts.setdefault(key, []).append(row)
        return [(key, (star, rows)) for key, rows in parts.items()]

    def _fits(self, itsSet, facts, traits):
        width, height, pixelSize = traits[:3]
        if tuple(itsSet.getDim()[:2]) != (width, height) \
                or abs(itsSet.getSamplingRate() - pixelSize) > PIXEL_SIZE_ERROR * pixelSize:
            return False
        its = self._getTraitsOf(itsSet, facts)
        return its is None or its[3:] == traits[3:]

    def _getTraitsOf(self, itsSet, facts):
        """ Those of the first particle of a set; None where there is none. """
        if itsSet.isEmpty():
            return None
        first = itsSet.getFirstItem()
        index, path = first.getLocation()
        name = self._getLocalName(path)
        # Bare particles know their stack, described ones their micrograph.
        if first.getMicId() is not None:
            return (*itsSet.getDim()[:2], {}, (), BARE)
        row = self._getRowsByIndex(facts, name).get(index)
        if row is None:
            return None
        star = facts.images[name]["star"]
        optics = self._getOptics(star, row)
        return (*itsSet.getDim()[:2], optics, tuple(number(optics, label) for _, label, _ in ACQUISITION),
                self._getColumns(star))

    def _isKnown(self, itsSet, facts):
        # Not where its .star file is gone: the set keeps what that said.
        return self._getTraitsOf(itsSet, facts) is not None

    def _prepareSet(self, itsSet, found, facts, traits):
        width, height, pixelSize, optics, columns = traits
        told = {label: str(value) for (_, label, _), value in zip(ACQUISITION, optics) if value is not None}
        self._setAcquisition(itsSet, found, facts, (width, height, dict(told, rlnImagePixelSize=str(pixelSize)), optics,
                                                    columns))
        itsSet.setSamplingRate(pixelSize)
        itsSet.setDim((width, height, 1))
        itsSet.setHasCTF({"rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"} <= set(columns))
        if {"rlnAngleRot", "rlnAngleTilt"} <= set(columns):
            itsSet.setAlignment(ALIGN_PROJ)
        elif "rlnAnglePsi" in columns and {"rlnOriginX", "rlnOriginXAngst"} & set(columns):
            itsSet.setAlignment(ALIGN_2D)

    def _setAcquisition(self, itsSet, found, facts, traits):
        super()._setAcquisition(itsSet, found, facts, traits)
        row = traits[2] if traits else {}
        itsSet.setSamplingRate(self._getPixelSize(found, row))
        acquisition = itsSet.getAcquisition()
        # What the form leaves open the .star file says.
        for name, label, setter in ACQUISITION:
            value = number(row, label)
            if value is not None and self._protocol.getAttributeValue(name) is None:
                getattr(acquisition, setter)(value)
        optics = next((its for _, (_, particles) in self._described.items() for its in [particles.optics] if its), None)
        if optics and traits and traits[4] != BARE:
            # As RELION's protocols hand it from one to the next.
            acquisition.opticsGroupInfo.set(_formatOptics(optics))

    @staticmethod
    def _getItemAcquisition(itsSet):
        # A table in each of a million rows would be hundreds of megabytes.
        acquisition = itsSet.getAcquisition().clone()
        acquisition.opticsGroupInfo.set(None)
        return acquisition

    def _refreshItem(self, itsSet, item, facts):
        """ Shifts in pixels that were angstrom in the .star file. """
        if not item.hasTransform():
            return
        index, path = item.getLocation()
        row = self._getRowsByIndex(facts, self._getLocalName(path)).get(index, {})
        if "rlnOriginXAngst" in row:
            item.setTransform(_makeTransform(row, itsSet.getAlignment(), itsSet.getSamplingRate()))

    def _getPixelSize(self, found, row):
        """ Å/px: of the form, else of the .star file, which is about these
        very images, else of the entry. """
        told = number(row, "rlnImagePixelSize", "rlnPixelSize")
        if told is None:
            detector, magnification = number(row, "rlnDetectorPixelSize"), number(row, "rlnMagnification")
            told = detector * 1e4 / magnification if detector and magnification else None
        imageSet = found.entry.image_set(self._protocol.imageSet.get())
        pixelSize = self._protocol.samplingRate.get() or told or imageSet.pixel_size
        if not pixelSize:
            raise EntryError("Neither %s nor a .star file tells the pixel size of image set %s: type it in under "
                             "Acquisition, then Continue." % (found.entry.name, imageSet.describe()))
        return pixelSize

    # -------------------------- rows -----------------------

    def _getFile(self, star):
        """ A .star file by its local name, read anew where it has changed. """
        path = self._protocol._getExtraPath(star)
        state = os.stat(path)
        state = state.st_mtime_ns, state.st_size
        if self._described.get(star, (None,))[0] != state:
            self._described[star] = state, ParticleFile.read(path)
        return self._described[star][1]

    def _getColumns(self, star):
        return tuple(sorted(self._getFile(star).table.columns))

    def _getDescription(self, facts, name):
        """ The file that describes a stack, None where there is none, and
        where its rows are in there. """
        image = facts.images.get(name, {})
        star = image.get("star")
        if star is None or not os.path.exists(self._protocol._getExtraPath(star)):
            return None, ()
        described = self._getFile(star)
        return described, described.rows.get(image["stack"], ())

    def _getRows(self, facts, name):
        """ The rows of a stack, none where nothing describes it. """
        described, offsets = self._getDescription(facts, name)
        if not offsets:
            return []
        with open(described.path, "rb") as stream:
            return [row_at(stream, offset, described.table) for offset in offsets]

    def _getRowsByIndex(self, facts, name):
        """ The same by the number of the image in its stack; those of the
        last stack are kept. """
        if self._last[0] != name:
            self._last = name, {split_image(row[IMAGE_NAME])[0]: row for row in self._getRows(facts, name)}
        return self._last[1]

    def _countRows(self, facts, name):
        return len(self._getDescription(facts, name)[1])

    def _getOptics(self, star, row):
        """ What a row says, and what the optics group says it belongs to. """
        group = row.get(OPTICS_GROUP)
        optics = next((one for one in self._getFile(star).optics if one.get(OPTICS_GROUP) == group), {})
        return {**optics, **row}

    def _appendPart(self, itsSet, found, facts, name, header, part):
        if part is None:
            return super()._appendPart(itsSet, found, facts, name, header, part)
        if name in self.getNames(itsSet):
            return 0        # by a process that was killed between two sets
        star, rows = part
        columns = self._getColumns(star)
        path = self._protocol._getExtraPath(name)
        acquisition = self._getItemAcquisition(itsSet)
        for row in rows:
            index, _ = split_image(row[IMAGE_NAME])
            itsSet.append(self._makeParticle(itsSet, row, columns, (index, path), acquisition))
        return len(rows)

    @staticmethod
    def _makeParticle(itsSet, row, columns, location, acquisition):
        particle = Particle()
        particle.setLocation(*location)
        particle.setAcquisition(acquisition)
        if itsSet.hasCTF():
            particle.setCTF(_makeCtf(row))
        if itsSet.getAlignment() != ALIGN_NONE:
            particle.setTransform(_makeTransform(row, itsSet.getAlignment(), itsSet.getSamplingRate()))
        if {"rlnCoordinateX", "rlnCoordinateY"} <= set(columns):
            particle.setCoordinate(_makeCoordinate(row))
        if "rlnClassNumber" in row:
            particle.setClassId(int(number(row, "rlnClassNumber") or 0))
        for label, kind in KEPT.items():
            if label in row:
                setattr(particle, "_" + label, String(row[label]) if kind is String else kind(number(row, label)))
        return particle


def _makeCtf(row):
    ctf = CTFModel()
    ctf.setDefocusU(number(row, "rlnDefocusU") or 0.0)
    ctf.setDefocusV(number(row, "rlnDefocusV") or 0.0)
    ctf.setDefocusAngle(number(row, "rlnDefocusAngle") or 0.0)
    ctf.setResolution(number(row, "rlnCtfMaxResolution") or 0.0)
    ctf.setFitQuality(number(row, "rlnCtfFigureOfMerit") or 0.0)
    if "rlnPhaseShift" in row:
        ctf.setPhaseShift(number(row, "rlnPhaseShift") or 0.0)
    ctf.standardize()
    return ctf


def _makeTransform(row, alignment, pixelSize):
    shifts = np.zeros(3)
    for place, axis in enumerate("XYZ"):
        inAngstrom = number(row, "rlnOrigin%sAngst" % axis)
        shifts[place] = inAngstrom / pixelSize if inAngstrom is not None else number(row, "rlnOrigin%s" % axis) or 0.0
    rot, tilt, psi = (np.deg2rad(number(row, "rlnAngle" + name) or 0.0) for name in ("Rot", "Tilt", "Psi"))
    if alignment == ALIGN_PROJ:
        matrix = transformations.euler_matrix(-rot, -tilt, -psi, "szyz")
        matrix[:3, 3] = -shifts
        matrix = np.linalg.inv(matrix)
    else:
        matrix = transformations.euler_matrix(0, 0, psi, "szyz")
        matrix[:2, 3] = shifts[:2]
    transform = Transform()
    transform.setMatrix(matrix)
    return transform


def _makeCoordinate(row):
    # One that is no number stays open: all particles of a set have a coordinate, or none.
    coordinate = Coordinate(x=number(row, "rlnCoordinateX"), y=number(row, "rlnCoordinateY"))
    if "rlnMicrographName" in row:
        coordinate.setMicName(os.path.basename(row["rlnMicrographName"]))
    return coordinate


def _formatOptics(optics):
    """ The table of optics groups as a .star file. """
    columns = list(optics[0])
    lines = ["data_optics", "", "loop_"] + ["_%s #%d" % item for item in zip(columns, range(1, len(columns) + 1))]
    lines += ["  ".join("_".join((row.get(column) or "None").split()) for column in columns) for row in optics]
    return "\n".join(lines) + "\n\n"
