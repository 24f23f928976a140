# SPDX-License-Identifier: GPL-3.0-or-later
"""A row of one of RELION's .star files as Scipion's objects: pure functions of the row.

A row is a dict label -> text, with what its optics group says. What RELION's labels mean:
https://relion.readthedocs.io/en/latest/Reference/Conventions.html. Files of RELION 3.1 and later have optics groups and
shifts in angstrom; older ones have neither, their shifts are in pixels, their pixel size follows from detector and
magnification. The matrices are those that Scipion's plugin for RELION makes of them.
"""
import os

import numpy as np
import pwem.convert.transformations as transformations
from pwem.constants import ALIGN_NONE, ALIGN_PROJ
from pwem.objects import Coordinate, CTFModel, Particle, Transform
from pyworkflow.object import Float, Integer, String

from ...download.particles import MICROGRAPH_NAME, OPTICS_GROUP
from ...images.star import number
from ..acquisition import Value

# Columns that other protocols look for under their RELION name, and what they hold.
KEPT = {"rlnRandomSubset": Integer, OPTICS_GROUP: Integer, "rlnGroupNumber": Integer, "rlnGroupName": String,
        "rlnCtfBfactor": Float, "rlnCtfScalefactor": Float}
MICROGRAPH_PIXELS = ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize")
PIXEL_SIZE_ERROR = 1e-4
ACQUISITION = (("voltage", "rlnVoltage"), ("sphericalAberration", "rlnSphericalAberration"),
               ("amplitudeContrast", "rlnAmplitudeContrast"))
POSSIBLE = {"samplingRate": lambda value: value > 0, "voltage": lambda value: value > 0,
            "sphericalAberration": lambda value: value >= 0, "amplitudeContrast": lambda value: 0 <= value <= 1}


def makeParticle(itsSet, row, location, acquisition):
    particle = Particle()
    particle.setLocation(*location)
    particle.setAcquisition(acquisition)
    if itsSet.hasCTF():
        particle.setCTF(makeCtf(row))
    if itsSet.getAlignment() != ALIGN_NONE:
        particle.setTransform(makeTransform(row, itsSet.getAlignment(), itsSet.getSamplingRate()))
    if {"rlnCoordinateX", "rlnCoordinateY"} <= row.keys():
        particle.setCoordinate(makeCoordinate(row, itsSet.getSamplingRate()))
    if "rlnClassNumber" in row:
        particle.setClassId(int(number(row, "rlnClassNumber") or 0))
    for label, kind in KEPT.items():
        if label in row:
            setattr(particle, "_" + label, String(row[label]) if kind is String else kind(number(row, label)))
    return particle


def makeCtf(row):
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


def makeTransform(row, alignment, pixelSize):
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


def makeCoordinate(row, pixelSize):
    """ Scipion's coordinates of particles are whole pixels of the particles, RELION's are in pixels of the micrograph.
    Both pixel sizes as the .star file says them: a better one in the form is of both.
    :param pixelSize: of the particles where the row does not say it, Å/px. """
    its = getImagePixelSize(row) or pixelSize
    scale = (getMicrographPixelSize(row) or its) / its
    # One that is no number stays open: all particles of a set have a coordinate, or none.
    x, y = (None if value is None else round(value * scale)
            for value in (number(row, "rlnCoordinateX"), number(row, "rlnCoordinateY")))
    coordinate = Coordinate(x=x, y=y)
    if MICROGRAPH_NAME in row:
        coordinate.setMicName(os.path.basename(row[MICROGRAPH_NAME]))
    return coordinate


def getImagePixelSize(row):
    """ Å/px of the particles, None where a row does not tell it. """
    pixelSize = number(row, "rlnImagePixelSize", "rlnPixelSize")
    if pixelSize is None:
        detector, magnification = number(row, "rlnDetectorPixelSize"), number(row, "rlnMagnification")
        pixelSize = detector * 1e4 / magnification if detector and magnification else None
    # A pixel of no size is none.
    return pixelSize if pixelSize and pixelSize > 0 else None


def getGroup(item):
    """ The number of a particle's optics group, None where it has none. """
    group = getattr(item, "_" + OPTICS_GROUP, None)
    return None if group is None else group.get()


def getMicrographPixelSize(row):
    """ Å/px of the micrographs that the coordinates are in, None where a row
    does not tell it. The pixel size "original" is that of the movies, which
    is the same unless motion correction binned them. """
    return next((size for size in (number(row, label) for label in MICROGRAPH_PIXELS) if size), None)


def remarkOnCoordinates(row, star, pixelSize):
    """ What is uncertain of the coordinates in a .star file, '' for nothing. """
    told = getMicrographPixelSize(row)
    if "rlnCoordinateX" not in row or number(row, "rlnMicrographPixelSize"):
        return ""
    if told is None:
        return "%s does not give the pixel size of the micrographs: its coordinates are taken for pixels of the " \
               "particles (%g Å)." % (star, pixelSize)
    if abs(told - pixelSize) < PIXEL_SIZE_ERROR * pixelSize:
        return ""
    return "The coordinates of %s are taken for pixels of %g Å (rlnMicrographOriginalPixelSize): if motion " \
           "correction binned the movies, they are too small by that factor." % (star, told)


def ofParticlePixels(optics, pixelSize):
    """ The table with coordinates being in pixels of the particles, as ours are. """
    told = any(row.get(name) for row in optics for name in MICROGRAPH_PIXELS)
    return [dict(row, rlnMicrographPixelSize="%g" % pixelSize) for row in optics] if told else optics


def formatOptics(optics):
    """ The table of optics groups as a .star file. """
    columns = list(optics[0])
    lines = ["data_optics", "", "loop_"] + ["_%s #%d" % item for item in zip(columns, range(1, len(columns) + 1))]
    lines += ["  ".join("_".join((row.get(column) or "None").split()) for column in columns) for row in optics]
    return "\n".join(lines) + "\n\n"


def whatIsTold(star, row):
    """ What a row and its optics group say of the microscope: name -> Value. """
    pixelSize = getImagePixelSize(row)
    told = {name: Value(number(row, label), star) for name, label in ACQUISITION}
    told["samplingRate"] = Value(pixelSize, star)
    # What cannot be was not filled in.
    return {name: value if value.value is not None and POSSIBLE[name](value.value) else Value(None, star)
            for name, value in told.items()}
