# SPDX-License-Identifier: GPL-3.0-or-later
"""A preview as a picture: the average beside its power spectrum, with a scale bar and rings of resolution."""
from typing import Iterator, Optional, Tuple

import numpy as np
from PIL import Image, ImageDraw

from .previews import PREVIEW_PIXELS, Preview, contrast

RINGS = (40.0, 20.0, 10.0, 6.0, 4.0, 3.0, 2.0)     # angstrom
# A scale bar is one of these long, the longest that takes no more than this share of the image.
BARS, BAR_SHARE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000), 0.3
GAP, WHITE = 8, 255
LABEL_PIXELS = 18       # between the labels of two rings
LEAST_RADIUS = 12       # of a ring


def picture_of(preview: Preview, pixel_size: Optional[float], side: int = PREVIEW_PIXELS) -> Image.Image:
    """A grey picture; the first row of a preview is its lowest one. ``pixel_size``: angstrom, of the movie; ``side``:
    pixels of the spectrum, and of the longer side of the average."""
    average = grey(preview.average[::-1], *preview.limits())
    scale = min(side / max(average.size), 1.0)
    average = average.resize((max(1, round(average.width * scale)), max(1, round(average.height * scale))),
                             Image.BOX) if scale < 1 else average
    spectrum = grey(preview.spectrum[::-1], *contrast(preview.spectrum)).resize((side, side), Image.BOX)
    height = max(average.height, spectrum.height)
    whole = Image.new("L", (average.width + GAP + spectrum.width, height), WHITE)
    whole.paste(average, (0, 0))
    whole.paste(spectrum, (average.width + GAP, 0))
    if pixel_size:
        draw = ImageDraw.Draw(whole)
        _draw_bar(draw, average.width, average.height, pixel_size * preview.binning / scale)
        _draw_rings(draw, average.width + GAP, pixel_size, side / 2)
    return whole


def grey(image: np.ndarray, black: float, white: float) -> Image.Image:
    """An image (height, width) as a grey picture; what is no number is black."""
    scaled = np.clip((np.nan_to_num(image, nan=black) - black) / ((white - black) if white > black else 1.0), 0, 1)
    return Image.fromarray((scaled * 255).astype("uint8"))


def scale_bar(width: int, pixel_size: float) -> Optional[Tuple[int, float]]:
    """(nanometers, pixels) of the bar that fits an image of so many pixels, None where none does; ``pixel_size``:
    angstrom, of the image that is shown."""
    fitting = [bar for bar in BARS if bar * 10 / pixel_size <= width * BAR_SHARE]
    return (fitting[-1], fitting[-1] * 10 / pixel_size) if fitting else None


def rings(pixel_size: float, edge: float) -> Iterator[Tuple[float, float, bool]]:
    """(angstrom, radius in pixels, whether there is room for its label) of the rings of a power spectrum.

    ``pixel_size``: angstrom, of the movie; ``edge``: half the spectrum's side, which is at two of these.
    """
    labelled = 0.0
    for resolution in RINGS:
        radius = edge * 2 * pixel_size / resolution
        if LEAST_RADIUS < radius <= edge:
            has_room = radius > labelled + LABEL_PIXELS
            labelled = radius if has_room else labelled
            yield resolution, radius, has_room


def _draw_bar(draw: ImageDraw.ImageDraw, width: int, height: int, pixel_size: float) -> None:
    found = scale_bar(width, pixel_size)
    if found is None:
        return
    (nanometers, length), bottom = found, height - 12
    draw.rectangle((9, bottom - 17, 15 + max(length, 44), bottom + 7), fill=0)
    draw.rectangle((12, bottom, 12 + length, bottom + 3), fill=WHITE)
    draw.text((12, bottom - 15), "%d nm" % nanometers, fill=WHITE)


def _draw_rings(draw: ImageDraw.ImageDraw, left: int, pixel_size: float, edge: float) -> None:
    for resolution, radius, has_room in rings(pixel_size, edge):
        draw.ellipse((left + edge - radius, edge - radius, left + edge + radius, edge + radius), outline=WHITE,
                     width=max(1, round(edge / 128)))
        if has_room:
            # Just outside of its ring.
            at = left + edge + radius * 0.71 + 2, edge - radius * 0.71 - 12
            text = "%g A" % resolution      # Pillow's own font has no Å
            draw.rectangle(draw.textbbox(at, text), fill=0)
            draw.text(at, text, fill=WHITE)
