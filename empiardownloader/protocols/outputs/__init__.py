# SPDX-License-Identifier: GPL-3.0-or-later
"""The outputs: files that have been downloaded become items of the set that their kind has."""
from enum import Enum

from pwem.objects import SetOfAverages, SetOfMicrographs, SetOfMovies, SetOfParticles, SetOfVolumes

from ...archive.kinds import AVERAGES, MICROGRAPHS, MOVIES, PARTICLES, SUBTOMOGRAMS, TILT_SERIES, VOLUMES
from .images import Averages, Micrographs, SubTomograms, Volumes
from .nothing import NoSets
from .optional import hasTomo, tomoObjects
from .particles import Particles
from .sets import GrowingSets
from .tilt_series import TiltSeriesSets

MAKERS = {MICROGRAPHS.name: Micrographs, PARTICLES.name: Particles, AVERAGES.name: Averages, VOLUMES.name: Volumes}


def makeSets(protocol, kind):
    """ The output sets of a run for a kind of images, as OutputSets. """
    # Also for movies: those of an entry that is not declared so may be tilts, see archive/series.py.
    if kind in (MOVIES, TILT_SERIES):
        return TiltSeriesSets(protocol)
    if kind == SUBTOMOGRAMS:
        return GrowingSets(protocol, SubTomograms(protocol)) if hasTomo() else NoSets(
            "The files are downloaded, and registered in no set. For a set of subtomograms: close Scipion, install "
            "scipion-em-tomo, open Scipion, press Continue.")
    return GrowingSets(protocol, MAKERS[kind.name](protocol)) if kind.name in MAKERS else NoSets()


def _possible():
    possible = {"outputMovies": SetOfMovies, "outputMicrographs": SetOfMicrographs, "outputParticles": SetOfParticles,
                "outputAverages": SetOfAverages, "outputVolumes": SetOfVolumes}
    if hasTomo():
        tomo = tomoObjects()
        possible.update(outputTiltSeriesM=tomo.SetOfTiltSeriesM, outputTiltSeries=tomo.SetOfTiltSeries,
                        outputSubTomograms=tomo.SetOfSubTomograms)
    return possible


outputs = Enum("outputs", _possible())
