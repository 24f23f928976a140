# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the contrast transfer function that was fitted to an image is zero, to be drawn over its power spectrum."""
import math
from typing import Any, List, Mapping, Optional

MOST_ZEROS, STEP_DEGREES = 6, 5


def wavelength(kilovolts: float) -> float:
    """Of electrons, in angstrom, with relativity."""
    volts = 1000 * kilovolts
    return 12.2642596 / math.sqrt(volts * (1 + 0.978475598e-6 * volts))


def zeros(ctf: Mapping[str, Any], pixel_size: float, most: int = MOST_ZEROS) -> List[List[Optional[float]]]:
    """The first zeros of a fit -> for each its radius at 0, 5, ... 355 degrees counterclockwise from the x axis, as a
    share of Nyquist's frequency; None where it is beyond that, or not there.

    ``ctf``: defocus_u, defocus_v (angstrom, underfocus is positive), angle (degrees, of defocus_u), voltage (kV), and
    cs (mm), contrast (amplitude contrast), phase_shift (degrees), 0 where they are left out; ``pixel_size``: angstrom,
    of the image. [] where the microscope's voltage is not known. Formula: Rohou & Grigorieff 2015, doi
    10.1016/j.jsb.2015.08.008, equations 2 to 4.
    """
    voltage = ctf.get("voltage")
    if not voltage or voltage <= 0 or not pixel_size or ctf.get("defocus_u") is None or ctf.get("defocus_v") is None:
        return []
    length, nyquist = wavelength(voltage), 0.5 / pixel_size
    bent = 0.5 * math.pi * length ** 3 * (ctf.get("cs") or 0.0) * 1e7
    shift = math.radians(ctf.get("phase_shift") or 0.0) + math.asin(min(max(ctf.get("contrast") or 0.0, 0.0), 1.0))
    rings: List[List[Optional[float]]] = []
    for degrees in range(0, 360, STEP_DEGREES):
        defocus = 0.5 * (ctf["defocus_u"] + ctf["defocus_v"]) + 0.5 * (
            ctf["defocus_u"] - ctf["defocus_v"]) * math.cos(2 * math.radians(degrees - (ctf.get("angle") or 0.0)))
        squares = _roots(bent, math.pi * length * defocus, shift, nyquist ** 2, most)
        found: List[Optional[float]] = [math.sqrt(square) / nyquist for square in squares]
        rings.append(found + [None] * (most - len(found)))
    return [list(ring) for ring in zip(*rings) if any(radius is not None for radius in ring)]


def _roots(bent: float, straight: float, shift: float, largest: float, most: int) -> List[float]:
    """The smallest x > 0, up to the largest, at which straight * x - bent * x ** 2 + shift is a multiple of pi."""
    def phase(x: float) -> float:
        return straight * x - bent * x ** 2 + shift

    # Between these the phase only grows or only falls.
    turns = [0.0, straight / (2 * bent)] if bent > 0 and 0 < straight / (2 * bent) < largest else [0.0]
    found: List[float] = []
    for begin, end in zip(turns, [*turns[1:], largest]):
        low, high = sorted((phase(begin) / math.pi, phase(end) / math.pi))
        orders: List[int] = list(range(math.ceil(low), math.floor(high) + 1))
        # One more: the first may be at 0 itself.
        for order in (orders if phase(end) > phase(begin) else orders[::-1])[:most + 1]:
            found += [x for x in _solutions(bent, straight, shift - order * math.pi) if begin < x <= end]
    return sorted(found)[:most]


def _solutions(bent: float, straight: float, rest: float) -> List[float]:
    """The x at which straight * x - bent * x ** 2 + rest is 0, without a difference of large numbers."""
    below = straight ** 2 + 4 * bent * rest
    if below < 0:
        return []
    half = straight + math.copysign(math.sqrt(below), straight)
    first = [-2 * rest / half] if half else []
    return first + ([half / (2 * bent)] if bent > 0 else [])
