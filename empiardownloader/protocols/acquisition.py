# SPDX-License-Identifier: GPL-3.0-or-later
"""How the microscope was set: from the form, else from the archives, else what is usual; and who said so."""
from pwem.objects import Acquisition

from .. import constants
from ..archive.kinds import MOVIES


def getAcquisitionValues(protocol, found, facts, frames):
    """ :param found: what the archives say.
    :param facts: what the record of the download says.
    :param frames: frames of a movie, the dose of the whole movie is divided by; None where unknown.
    :return: dict name -> (value, source) with the units of the form. """
    acquisition = found.acquisition
    dose, source = None, acquisition.source
    if facts.series:
        # EMDB's dose may be that of a tilt or of a series, who knows; the microscope's own words are of a tilt.
        whole, source = _getTiltDose(facts), "the .mdoc files"
    else:
        kind = found.entry.image_set(protocol.imageSet.get()).kind
        whole = acquisition.dose_per_movie if kind == MOVIES else None
    if whole is not None and frames:
        dose = whole / frames
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
            values[name] = (archived, source if name == "dosePerFrame" else acquisition.source)
        else:
            values[name] = (default, "assumed")
    return values


def _getTiltDose(facts):
    """ e/Å² of a tilt, on average over the first series that tells it. """
    for series in facts.series.values():
        doses = [tilt["dose"] for tilt in series["tilts"] if tilt.get("dose")]
        if doses:
            return sum(doses) / len(doses)
    return None


def getPixelSize(protocol, imageSet):
    """ Å/px, None where neither the form nor the entry tells. """
    return protocol.samplingRate.get() or imageSet.pixel_size


def setAcquisition(protocol, itsSet, found, facts, frames):
    """ Acquisition and pixel size of a set whose images have so many frames. """
    imageSet = found.entry.image_set(protocol.imageSet.get())
    values = getAcquisitionValues(protocol, found, facts, frames or found.acquisition.frames or imageSet.frames)
    itsSet.setAcquisition(Acquisition(**{name: value for name, (value, _) in values.items()}))
    itsSet.setSamplingRate(getPixelSize(protocol, imageSet))
