# SPDX-License-Identifier: GPL-3.0-or-later
"""How the microscope was set: from the form, else from the archives, else what is usual; and who said so."""
from pwem.objects import Acquisition

from .. import constants


def getAcquisitionValues(protocol, acquisition, frames):
    """ :param acquisition: what EMDB says.
    :param frames: frames of a movie, the dose of the whole movie is divided by; None where unknown.
    :return: dict name -> (value, source) with the units of the form. """
    dose = None
    if acquisition.dose_per_movie is not None and frames:
        dose = acquisition.dose_per_movie / frames
    asked = (
        ("voltage", acquisition.voltage, constants.DEFAULT_VOLTAGE),
        ("sphericalAberration", acquisition.spherical_aberration, constants.DEFAULT_SPHERICAL_ABERRATION),
        ("magnification", acquisition.magnification, constants.DEFAULT_MAGNIFICATION),
        ("dosePerFrame", dose, None),
        ("doseInitial", None, 0.0),
        ("amplitudeContrast", None, constants.DEFAULT_AMPLITUDE_CONTRAST))
    values = {}
    for name, archived, default in asked:
        typed = protocol.getAttributeValue(name)
        if typed is not None:
            values[name] = (typed, "the form")
        elif archived is not None:
            values[name] = (archived, acquisition.source)
        else:
            values[name] = (default, "assumed")
    return values


def getPixelSize(protocol, imageSet):
    """ Å/px, None where neither the form nor the entry tells. """
    return protocol.samplingRate.get() or imageSet.pixel_size


def setAcquisition(protocol, movieSet, found, frames):
    """ Acquisition and pixel size of a set whose movies have so many frames. """
    imageSet = found.entry.image_set(protocol.imageSet.get())
    values = getAcquisitionValues(protocol, found.acquisition, frames or found.acquisition.frames or imageSet.frames)
    movieSet.setAcquisition(Acquisition(**{name: value for name, (value, _) in values.items()}))
    movieSet.setSamplingRate(getPixelSize(protocol, imageSet))
