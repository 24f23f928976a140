# SPDX-License-Identifier: GPL-3.0-or-later
"""What people type: sizes, numbers, ranges, years. What is none is said in a sentence, as argparse shows it."""
import argparse
import math
import re
from typing import Tuple, TypeVar

from .archive.entry import size_in_bytes

Number = TypeVar("Number", int, float)
ANY_PIXEL_SIZE, ANY_YEAR = (0.0, math.inf), (0, 9999)


def size(text: str) -> int:
    """'500GB', '1.5 tb', '16M' -> bytes. Raises ArgumentTypeError, also for a number without a unit."""
    text = text.strip()
    found = None if text.isdecimal() else size_in_bytes(text if re.search("[bB]$", text) else text + "B")
    if not found:
        msg = "a size like 500GB or 16MB, not %s" % text
        raise argparse.ArgumentTypeError(msg)
    return found


def count(text: str) -> int:
    """A number from 1 on. Raises ArgumentTypeError."""
    if not text.strip().isdecimal() or int(text) < 1:
        msg = "a number from 1 on, not %s" % text
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def angstrom(text: str) -> float:
    """'3', '3.5 Å' -> a length above zero. Raises ArgumentTypeError."""
    try:
        number = float(text.strip().rstrip("AÅ"))
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        msg = "a number of angstrom, not %s" % text
        raise argparse.ArgumentTypeError(msg)
    return number


def pixel_sizes(text: str) -> Tuple[float, float]:
    """'0.66' or '0.6-1.1' -> (from, to), angstrom. Raises ArgumentTypeError."""
    low, dash, high = text.partition("-")
    return _in_order(angstrom(low), angstrom(high if dash else low), text)


def years(text: str) -> Tuple[int, int]:
    """'2020' or '2018-2021' -> (from, to). Raises ArgumentTypeError."""
    found = re.fullmatch(r"\s*([0-9]{4})(?:-([0-9]{4}))?\s*", text)
    if found is None:
        msg = "a year like 2020, or two like 2018-2021, not %s" % text
        raise argparse.ArgumentTypeError(msg)
    return _in_order(int(found.group(1)), int(found.group(2) or found.group(1)), text)


def _in_order(low: Number, high: Number, text: str) -> Tuple[Number, Number]:
    if low > high:
        msg = "from the smaller to the larger, not %s" % text
        raise argparse.ArgumentTypeError(msg)
    return low, high
