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
ACQUISITION = (("voltage", "rlnVoltage", "setVoltage"),
               ("sphericalAberration", "rlnSphericalAberration", "setSphericalAberration"),
               ("amplitudeContrast", "rlnAmplitudeContrast", "setAmplitudeContrast"))


class ParticleSets(StackSets):
    output = "outputParticles"
    file = "particles"
    setClass = SetOfParticles
    words = "particles"

    def __init__(self, protocol):
        super().__init__(protocol)
        self._described = None          # ParticleFile, None for bare stacks

    def append(self, found, facts, headers):
        self._load(facts)
        return super().append(found, facts, headers)

    def refresh(self, found, facts):
        if any(True for _ in self.iterSets()):
            self._load(facts)
        super().refresh(found, facts)

    def _load(self, facts):
        name = (facts.description or {}).get("name")
        path = self._protocol._getExtraPath(name) if name else ""
        if path and (self._described is None or self._described.path != path) and os.path.exists(path):
            self._described = ParticleFile.read(path)

    # -------------------------- what is said of a whole set -----------------------

    def _getTraits(self, found, facts, name, header):
        first = self._getRows(facts, name)[:1]
        return header.width, header.height, self._getPixelSize(found, self._getOptics(first[0]) if first else {})

    def _fits(self, itsSet, facts, traits):
        width, height, pixelSize = traits
        return tuple(itsSet.getDim()[:2]) == (width, height) \
            and abs(itsSet.getSamplingRate() - pixelSize) <= PIXEL_SIZE_ERROR * pixelSize

    def _prepareSet(self, itsSet, found, facts, traits):
        width, height, pixelSize = traits
        self._setAcquisition(itsSet, found, facts, None)
        itsSet.setSamplingRate(pixelSize)
        itsSet.setDim((width, height, 1))
        columns = set(self._described.table.columns) if self._described else set()
        itsSet.setHasCTF({"rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"} <= columns)
        if {"rlnAngleRot", "rlnAngleTilt"} <= columns:
            itsSet.setAlignment(ALIGN_PROJ)
        elif "rlnAnglePsi" in columns and columns & {"rlnOriginX", "rlnOriginXAngst"}:
            itsSet.setAlignment(ALIGN_2D)

    def _setAcquisition(self, itsSet, found, facts, frames):
        super()._setAcquisition(itsSet, found, facts, frames)
        row = self._getOptics(self._readFirst()) if self._described else {}
        itsSet.setSamplingRate(self._getPixelSize(found, row))
        acquisition = itsSet.getAcquisition()
        # What the form leaves open the .star file says.
        for name, label, setter in ACQUISITION:
            value = number(row, label)
            if value is not None and self._protocol.getAttributeValue(name) is None:
                getattr(acquisition, setter)(value)
        if self._described and self._described.optics:
            # As RELION's protocols hand it from one to the next.
            acquisition.opticsGroupInfo.set(_formatOptics(self._described.optics))

    @staticmethod
    def _getItemAcquisition(itsSet):
        # A table in each of a million rows would be hundreds of megabytes.
        acquisition = itsSet.getAcquisition().clone()
        acquisition.opticsGroupInfo.set(None)
        return acquisition

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

    def _getRows(self, facts, name):
        """ The rows of a stack. """
        if self._described is None:
            return []
        offsets = self._described.rows.get(facts.images.get(name, {}).get("stack"), ())
        with open(self._described.path, "rb") as stream:
            return [row_at(stream, offset, self._described.table) for offset in offsets]

    def _readFirst(self):
        with open(self._described.path, "rb") as stream:
            return row_at(stream, next(iter(self._described.rows.values()))[0], self._described.table)

    def _getOptics(self, row):
        """ What a row says, and what the optics group says it belongs to. """
        group = row.get(OPTICS_GROUP)
        optics = next((one for one in self._described.optics if one.get(OPTICS_GROUP) == group), {})
        return {**optics, **row}

    def _appendFile(self, itsSet, found, facts, name, header):
        if self._described is None:
            return super()._appendFile(itsSet, found, facts, name, header)
        appended, beyond = 0, 0
        path = self._protocol._getExtraPath(name)
        acquisition = self._getItemAcquisition(itsSet)
        for row in self._getRows(facts, name):
            index, _ = split_image(row[IMAGE_NAME])
            if not 1 <= index <= header.frames:
                beyond += 1
                continue
            itsSet.append(self._makeParticle(itsSet, row, (index, path), acquisition))
            appended += 1
        if beyond:
            self._protocol.warning("%d particles are left out: %s has no more than %d images." % (
                beyond, name, header.frames))
        return appended

    @staticmethod
    def _makeParticle(itsSet, row, location, acquisition):
        particle = Particle()
        particle.setLocation(*location)
        particle.setAcquisition(acquisition)
        if itsSet.hasCTF():
            particle.setCTF(_makeCtf(row))
        if itsSet.getAlignment() != ALIGN_NONE:
            particle.setTransform(_makeTransform(row, itsSet.getAlignment(), itsSet.getSamplingRate()))
        coordinate = _makeCoordinate(row)
        if coordinate is not None:
            particle.setCoordinate(coordinate)
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
    x, y = number(row, "rlnCoordinateX"), number(row, "rlnCoordinateY")
    if x is None or y is None:
        return None
    coordinate = Coordinate()
    coordinate.setPosition(x, y)
    if "rlnMicrographName" in row:
        coordinate.setMicName(os.path.basename(row["rlnMicrographName"]))
    return coordinate


def _formatOptics(optics):
    """ The table of optics groups as a .star file. """
    columns = list(optics[0])
    lines = ["data_optics", "", "loop_"] + ["_%s #%d" % item for item in zip(columns, range(1, len(columns) + 1))]
    lines += ["  ".join(row.get(column) or "None" for column in columns) for row in optics]
    return "\n".join(lines) + "\n\n"
