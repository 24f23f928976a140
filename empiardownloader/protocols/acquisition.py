# SPDX-License-Identifier: GPL-3.0-or-later
"""How the microscope was set, each value with its source: the one place that decides.

The form comes first, where its user typed something in. Then comes what a file says of these very images (.star,
.mdoc), then the archives (EMPIAR's entry, the EMDB record that it is linked to), then what is usual in the field,
called "assumed". One exception: the pixel size that an .mdoc file says is often that of another magnification, so the
entry's goes before it. What an output set has is written into the run's record with its source, see noteValues: the
summary reads it there.
"""
from typing import Any, NamedTuple

from pwem.objects import Acquisition

from .. import constants
from ..archive.errors import EntryError
from ..archive.kinds import MICROGRAPHS, MOVIES, TILT_SERIES

FORM, ASSUMED, MDOC_FILES = "the form", "assumed", "the .mdoc files"
# Attributes of pwem's Acquisition; samplingRate is the set's own.
OF_ACQUISITION = ("voltage", "sphericalAberration", "magnification", "amplitudeContrast", "dosePerFrame", "doseInitial")
DOSE = ("dosePerFrame", "doseInitial")
EXPOSED = (MOVIES, MICROGRAPHS, TILT_SERIES)        # kinds that have a dose


class Value(NamedTuple):
    """A value in the unit of the form, and who says it; None and '' where nobody does."""
    value: Any
    source: str


UNKNOWN = Value(None, "")


def decide(protocol, context, frames=None, told=None):
    """ :param context: what the archives and the record say.
    :param frames: frames of an image, its dose is divided by; None where unknown.
    :param told: dict name -> Value of what a file says of these very images.
    :return: dict name -> Value; samplingRate may be UNKNOWN, and so may dosePerFrame. """
    archived = context.found.acquisition
    dose = getTotalDose(context)
    entry = {
        "samplingRate": (context.imageSet.pixel_size, context.found.entry.name),
        "voltage": (archived.voltage, archived.source),
        "sphericalAberration": (archived.spherical_aberration, archived.source),
        "magnification": (archived.magnification, archived.source),
        "dosePerFrame": (dose.value / frames if frames and dose.value is not None else None, dose.source)}
    usual = {
        "voltage": constants.DEFAULT_VOLTAGE, "sphericalAberration": constants.DEFAULT_SPHERICAL_ABERRATION,
        "magnification": constants.DEFAULT_MAGNIFICATION, "amplitudeContrast": constants.DEFAULT_AMPLITUDE_CONTRAST,
        "doseInitial": 0.0}
    microscope = askMdocs(context.facts)
    told = {**{name: value for name, value in microscope.items() if name != "samplingRate"}, **(told or {})}
    values = {}
    for name in ("samplingRate", *OF_ACQUISITION):
        # The form does not show what such images have no use for.
        typed = None if name in DOSE and context.imageSet.kind not in EXPOSED else protocol.getAttributeValue(name)
        offers = [Value(typed, FORM), told.get(name, UNKNOWN),
                  Value(*entry.get(name, UNKNOWN)), microscope.get(name, UNKNOWN), Value(usual.get(name), ASSUMED)]
        values[name] = next((offer for offer in offers if offer.value is not None), UNKNOWN)
    return values


def decidePixelSize(protocol, context, told=UNKNOWN):
    """ :param told: what a file says of these very images.
    :return: Å/px as a Value. """
    return decide(protocol, context, told={"samplingRate": told})["samplingRate"]


def getTotalDose(context):
    """ :return: e/Å² of a whole image (movie or tilt) as a Value, the form apart. """
    if context.facts.series:
        # EMDB's dose may be that of a tilt or of a series, who knows; the microscope's own words are of a tilt.
        for series in context.facts.series.values():
            doses = [tilt.dose for tilt in series.tilts if tilt.dose]
            if doses:
                # A rate is measured at the camera.
                is_rate = "DoseRate" in series.dose_from
                return Value(sum(doses) / len(doses), MDOC_FILES + ", dose rate behind the sample" * is_rate)
        return UNKNOWN
    dose = context.found.acquisition.dose_per_movie if context.imageSet.kind == MOVIES else None
    return UNKNOWN if dose is None else Value(dose, context.found.acquisition.source)


def askMdocs(facts):
    """ What the .mdoc files say of the microscope: the first that says it. """
    values = {}
    for series in facts.series.values():
        for name, key in (("voltage", "voltage"), ("magnification", "magnification"), ("samplingRate", "pixel_size")):
            if getattr(series, key) and name not in values:
                values[name] = Value(getattr(series, key), MDOC_FILES)
    return values


def setValues(itsSet, values, subject):
    """ Give a set (or an item that has both) what was decided.
    :param subject: what it is of, for the error's sentence. """
    if values["samplingRate"].value is None:
        raise EntryError("No file gives the pixel size of %s: type it in under Acquisition, then Continue." % subject)
    itsSet.setAcquisition(makeAcquisition(values))
    itsSet.setSamplingRate(values["samplingRate"].value)


def makeAcquisition(values):
    return Acquisition(**{name: values[name].value for name in OF_ACQUISITION})


def asNoted(values):
    """ What was decided as the record keeps it: name -> (value, source). """
    return {name: tuple(value) for name, value in values.items() if value.value is not None}


def noteValues(protocol, output, values):
    """ Write down what an output set got, and from where. """
    protocol.noteValues(output, asNoted(values))
