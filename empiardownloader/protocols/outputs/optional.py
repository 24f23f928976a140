# SPDX-License-Identifier: GPL-3.0-or-later
"""Plugins that are used where they are installed."""
import functools
import importlib
import logging

logger = logging.getLogger(__name__)


@functools.lru_cache(maxsize=None)
def tomoObjects():
    """ The module of objects of scipion-em-tomo, None where it is not installed. """
    try:
        return importlib.import_module("tomo.objects")
    except ModuleNotFoundError as error:
        if error.name != "tomo":
            logger.warning("scipion-em-tomo is installed, but cannot be used: %s.", error)
    except ImportError as error:
        logger.warning("scipion-em-tomo is installed, but cannot be used: %s.", error)
    return None


def setTomoAcquisition(itsSet):
    """ Give a set of tomo the kind of acquisition that it has there. """
    acquisition = tomoObjects().TomoAcquisition()
    acquisition.copyInfo(itsSet.getAcquisition())
    itsSet.setAcquisition(acquisition)


def hasTomo():
    """ Whether scipion-em-tomo can be used. """
    return tomoObjects() is not None
