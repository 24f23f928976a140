# SPDX-License-Identifier: GPL-3.0-or-later
"""A preview as a picture: the average beside its power spectrum, with a scale bar and rings of resolution."""
from typing import Optional

import numpy as np
from PIL import Image, ImageDraw

from .previews import PREVIEW_PIXELS, Preview, contrast

RINGS = (40.0, 20.0, 10.0, 6.0, 4.0, 3.0, 2.0)     # angstrom
# A scale bar is one of these long, the longest that takes no more than this share of the image.
BARS, BAR_SHARE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000), 0.3
GAP, WHITE, GREY = 8, 255, 170
LABEL_PIXELS = 18       # between the labels of two rings


def picture_of(preview: Preview, pixel_size: Optional[float], side: int = PREVIEW_PIXELS) -> Image.Image:
    """A grey picture; the first row of a preview is its lowest one. ``pixel_size``: angstrom, of the movie; ``side``:
    pixels of the spectrum, and of the longer side of the average."""
    average = _grey(preview.average[::-1], *preview.limits())
    scale = min(side / max(average.size), 1.0)
    average = average.resize((max(1, round(average.width * scale)), max(1, round(average.height * scale))),
                             Image.BOX) if scale < 1 else average
    spectrum = _grey(preview.spectrum[::-1], *contrast(preview.spectrum)).resize((side, side), Image.BOX)
    height = max(average.height, spectrum.height)
    whole = Image.new("L", (average.width + GAP + spectrum.width, height), WHITE)
    whole.paste(average, (0, 0))
    whole.paste(spectrum, (average.width + GAP, 0))
    if pixel_size:
        draw = ImageDraw.Draw(whole)
        _draw_bar(draw, average.width, average.height, pixel_size * preview.binning / scale)
        _draw_rings(draw, average.width + GAP, pixel_size, side / 2)
    return whole


def _grey(image: np.ndarray, black: float, white: float) -> Image.Image:
    scaled = np.clip((np.nan_to_num(image, nan=black) - black) / max(white - black, 1e-12), 0, 1)
    return Image.fromarray((scaled * 255).astype("uint8"))


def _draw_bar(draw: ImageDraw.ImageDraw, width: int, height: int, pixel_size: float) -> None:
    nanometers = max([bar for bar in BARS if bar * 10 / pixel_size <= width * BAR_SHARE], default=0)
    if not nanometers:
        return
    length, bottom = nanometers * 10 / pixel_size, height - 12
    draw.rectangle((9, bottom - 17, 15 + max(length, 44), bottom + 7), fill=0)
    draw.rectangle((12, bottom, 12 + length, bottom + 3), fill=WHITE)
    draw.text((12, bottom - 15), "%d nm" % nanometers, fill=WHITE)


def _draw_rings(draw: ImageDraw.ImageDraw, left: int, pixel_size: float, edge: float) -> None:
    """``edge``: half the spectrum's side, which is at two pixels."""
    labelled = 0.0
    for resolution in RINGS:
        radius = edge * 2 * pixel_size / resolution
        if not 12 < radius <= edge:
            continue
        draw.ellipse((left + edge - radius, edge - radius, left + edge + radius, edge + radius), outline=GREY)
        if radius > labelled + LABEL_PIXELS:
            labelled = radius
            at = left + edge + radius * 0.71, edge - radius * 0.71
            draw.rectangle((at[0] - 1, at[1] - 1, at[0] + 26, at[1] + 11), fill=0)
            draw.text(at, "%g A" % resolution, fill=WHITE)
