# SPDX-License-Identifier: GPL-3.0-or-later
"""The outputs: files that have been downloaded become items of the set that their kind has."""
from enum import Enum

from pwem.objects import SetOfAverages, SetOfMicrographs, SetOfMovies, SetOfParticles, SetOfVolumes

from ...archive.kinds import AVERAGES, MICROGRAPHS, MOVIES, PARTICLES, SUBTOMOGRAMS, TILT_SERIES, VOLUMES
from .images import AverageSets, MicrographSets, SubTomogramSets, VolumeSets
from .nothing import NoSets
from .optional import hasTomo, tomoObjects
from .particles import ParticleSets
from .tilt_series import TiltSeriesSets

# TiltSeriesSets also for movies: the movies of an entry that is not declared so may be tilts, see archive/series.py.
SETS = {MOVIES.name: TiltSeriesSets, TILT_SERIES.name: TiltSeriesSets, MICROGRAPHS.name: MicrographSets,
        PARTICLES.name: ParticleSets, AVERAGES.name: AverageSets, VOLUMES.name: VolumeSets}


def makeSets(protocol, kind):
    """ The output sets of a run for a kind of images, as ImageSets. """
    if kind == SUBTOMOGRAMS:
        return SubTomogramSets(protocol) if hasTomo() else NoSets(
            protocol, "scipion-em-tomo, which has sets of subtomograms, is not installed: the files are downloaded, "
                      "and registered in no set.")
    return SETS[kind.name](protocol) if kind.name in SETS else NoSets(protocol)


def _possible():
    possible = {"outputMovies": SetOfMovies, "outputMicrographs": SetOfMicrographs, "outputParticles": SetOfParticles,
                "outputAverages": SetOfAverages, "outputVolumes": SetOfVolumes}
    if hasTomo():
        tomo = tomoObjects()
        possible.update(outputTiltSeriesM=tomo.SetOfTiltSeriesM, outputTiltSeries=tomo.SetOfTiltSeries,
                        outputSubTomograms=tomo.SetOfSubTomograms)
    return possible


outputs = Enum("outputs", _possible())
