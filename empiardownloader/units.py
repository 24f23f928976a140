# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes, times and long names in words; times out of words."""
import calendar
import time
from typing import Tuple


def format_bytes(size: float) -> str:
    """16777216 -> '16.8 MB'"""
    unit, factor = unit_for(size)
    return "%.1f %s" % (size / factor, unit)


def format_seconds(seconds: float) -> str:
    """75 -> '1 min 15 s'"""
    seconds = round(seconds)
    if seconds < 60:
        return "%d s" % seconds
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return "%d min %d s" % (minutes, seconds)
    hours, minutes = divmod(minutes, 60)
    return "%d h %d min" % (hours, minutes)


def shortened(name: str, front: int, behind: int) -> str:
    """A name with so many of its first and last letters: what tells names apart is at their end, or at their
    beginning."""
    dots = "..."
    return name if len(name) <= front + len(dots) + behind else name[:front] + dots + name[-behind:]


def unit_for(size: float) -> Tuple[str, float]:
    """A unit that fits a size, and its bytes."""
    # From a tenth of it on, megabytes: sizes of images are compared in them.
    for unit, factor, least in (("TB", 1e12, 1e12), ("GB", 1e9, 1e9), ("MB", 1e6, 1e5)):
        if size >= least:
            return unit, factor
    return "kB", 1e3


def seconds_of(created: object) -> float:
    """When an item was made, as Scipion's sets have it ('2026-11-26 20:15:32', UTC) -> seconds since 1970, 0 where they
    do not say."""
    try:
        return calendar.timegm(time.strptime(str(created)[:19], "%Y-%m-%d %H:%M:%S"))
    except ValueError:
        return 0
