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
    if not voltage or not pixel_size or ctf.get("defocus_u") is None or ctf.get("defocus_v") is None:
        return []
    length, nyquist = wavelength(voltage), 0.5 / pixel_size
    bent = 0.5 * math.pi * length ** 3 * (ctf.get("cs") or 0.0) * 1e7
    shift = math.radians(ctf.get("phase_shift") or 0.0) + math.asin(min(max(ctf.get("contrast") or 0.0, 0.0), 1.0))
    found: List[List[Optional[float]]] = []
    for order in range(1, most + 1):
        radii: List[Optional[float]] = []
        for degrees in range(0, 360, STEP_DEGREES):
            defocus = 0.5 * (ctf["defocus_u"] + ctf["defocus_v"]) + 0.5 * (
                ctf["defocus_u"] - ctf["defocus_v"]) * math.cos(2 * math.radians(degrees - (ctf.get("angle") or 0.0)))
            square = _smallest_root(bent, math.pi * length * defocus, order * math.pi - shift)
            share = None if square is None else math.sqrt(square) / nyquist
            radii.append(None if share is None or share > 1 else share)
        if any(radius is not None for radius in radii):
            found.append(radii)
    return found


def _smallest_root(bent: float, straight: float, wanted: float) -> Optional[float]:
    """The smallest positive x with straight * x - bent * x ** 2 = wanted."""
    if straight <= 0 or wanted <= 0:
        return None
    below = straight ** 2 - 4 * bent * wanted
    if below < 0:
        return None
    # Without a difference of large numbers where the square hardly counts.
    return 2 * wanted / (straight + math.sqrt(below))
