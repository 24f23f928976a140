# SPDX-License-Identifier: GPL-3.0-or-later
"""Cells of Scipion's tables as plain values.

Part of the child process (see __main__.py): standard library only, Python 3.6 or newer.
"""
import re


def plain_cell(cell):
    return cell.hex() if isinstance(cell, bytes) else cell


def first_of(known, names):
    """The first of some values that there is."""
    return next((known[name] for name in names if known.get(name) not in (None, "", "None")), None)


def number_of(text, kind):
    try:
        return kind(text)
    except (TypeError, ValueError):
        return None


def numbers_of(text):
    """'512,384,10' -> [512, 384, 10]"""
    try:
        return [int(float(part)) for part in text.split(",")]
    except (AttributeError, ValueError):
        return None


def snake_case(name):
    """'sphericalAberration' -> 'spherical_aberration'"""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda found: "_" + found.group(1).lower(), name)
