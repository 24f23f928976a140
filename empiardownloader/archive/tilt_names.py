# SPDX-License-Identifier: GPL-3.0-or-later
"""What the name of a tilt image says: its series, its angle, perhaps its place in the order of acquisition.

'TS_01_003_-9.0.mrc', 'Position_1_003[-9.00]_fractions.tiff', 'tomo2_-9.0_Mar07_10.11.12.tif',
'Position_12_001_-10.00_20231020_234209_EER.eer', '2024-04-14_17.57.51_TS_001_-51.0.tif': the first number with a point
is the angle; without such a number it is the last one: 'TS_006_4_-6.tif', 'TS_01_-60.mrc'. Times, dates and a defocus
('-1um') are none.
"""
import re
from typing import List, Match, NamedTuple, Optional, Pattern, Sequence

from .names import stem_of

ORDER, END = r"(?P<name>.+?)[_-](?P<order>[0-9]{1,6})[_-]?[\[_]", r"\]?(?=[_\[-]|\.(?![0-9])|$)"
DECIMAL, WHOLE = r"(?P<angle>[-+]?[0-9]{1,2}\.[0-9]+)", r"(?P<angle>[-+]?[0-9]{1,2})"
ORDERED = (re.compile(ORDER + DECIMAL + END), re.compile(ORDER.replace(".+?", ".+") + WHOLE + r"\]?$"))
UNORDERED = (re.compile(r"(?P<name>.+?)[_-]\[?" + DECIMAL + END), re.compile(r"(?P<name>.+?)[_-]\[?" + WHOLE + r"\]?$"))
# 'Mar07_10.11.12' (SerialEM), '17.57.51', '17.57' behind a date, '2024-04-14', '-1.5um'.
NO_ANGLE = re.compile(r"(?<![A-Za-z0-9])[A-Z][a-z]{2}[0-9]{2}_[0-9]{2}\.[0-9]{2}(?:\.[0-9]{2})?(?![0-9])"
                      r"|(?<![0-9.])[0-9]{2}\.[0-9]{2}\.[0-9]{2}(?![0-9])"
                      r"|[0-9]{4}-[0-9]{2}-[0-9]{2}|-?[0-9.]+um(?![a-z])")
# Seconds of a clock: numbers like these are times where all of a series are.
CLOCK = re.compile(r"(?:[01][0-9]|2[0-3])\.[0-5][0-9]$")
# A name with a number in it makes no series yet: 'TS_01.mrc', 'TS_03.mrc', 'TS_43.mrc' are three stacks.
LEAST_TILTS = 3
# Share of the tilts that may be at the angle of another: one was taken again, the first one twice. More are of another
# series.
MOST_REPEATED = 0.2
# Tilts nearer to each other than this, in degrees, are one taken again: no scheme steps so little.
SAME_ANGLE = 0.3
HIDDEN = "\0"


class TiltName(NamedTuple):
    series: str
    angle: float            # degrees
    order: int              # from 1, 0 where the name does not say
    text: str               # the angle as it is written


def parse_tilt_name(name: str, ordered: bool = True) -> Optional[TiltName]:
    """'TS_01_003_-9.0.mrc' -> ('TS_01', -9.0, 4, '-9.0'); None where no angle is in the name

    ``ordered``: whether a number before the angle is the order of acquisition, from 0.
    """
    stem = NO_ANGLE.sub(lambda found: HIDDEN * len(found.group()), stem_of(name))
    match = _match(stem, [one for pair in zip(ORDERED, UNORDERED) for one in pair] if ordered else UNORDERED)
    if match is None:
        return None
    order = match.groupdict().get("order")
    # Without the times that only this image has.
    series = re.sub("[_-]?%s+[_-]?" % HIDDEN, lambda found: "_" * (found.start() > 0), match.group("name")).strip("_-")
    return TiltName(series, float(match.group("angle")), int(order) + 1 if order else 0, match.group("angle"))


def _match(stem: str, patterns: Sequence[Pattern[str]]) -> Optional[Match[str]]:
    """A number with a decimal point goes before one without, wherever they are."""
    for pattern in patterns:
        match = pattern.match(stem)
        if match and abs(float(match.group("angle"))) <= 90 and match.group("name").strip(HIDDEN + "_-"):
            return match
    return None


def order_in_name(name: str) -> Optional[int]:
    """'TS_01_003_-9.0.mrc' -> 4; None where the name says no order"""
    found = parse_tilt_name(name)
    return found.order or None if found else None


def are_angles(names: Sequence[TiltName]) -> bool:
    """Whether the numbers in the names of what may be one series are angles: different ones, not counted through, and
    not the time of day."""
    repeated = count_repeated([name.angle for name in names])
    if len(names) - repeated < LEAST_TILTS or repeated > len(names) * MOST_REPEATED:
        return False
    if repeated and len({name.order for name in names}) < len(names):
        return False
    if min(name.angle for name in names) < 0:
        return True
    return all("." in name.text for name in names) and not all(CLOCK.match(name.text) for name in names)


def count_repeated(angles: Sequence[float]) -> int:
    """How many of some tilts are at the angle of another one."""
    ordered = sorted(angles)
    return sum(after - before < SAME_ANGLE for before, after in zip(ordered, ordered[1:]))


def common_name(names: Sequence[str]) -> str:
    """'Jan01_12.00.00.mrc', 'Jan01_12.01.10.mrc' -> 'Jan01': what the names of one series begin with"""
    stems: List[str] = [stem_of(name) for name in names]
    first, last = min(stems), max(stems)
    length = next((at for at, (one, other) in enumerate(zip(first, last)) if one != other), min(len(first), len(last)))
    return re.sub(r"[_.\[-]+[0-9.\[-]*$", "", first[:length]).strip("_-.") or first


def series_name(base: str) -> str:
    """'1-ts [2].mrc' -> 'TS_1_ts2': what becomes part of tables' names"""
    name = base.split(".")[0]
    name = re.sub(r"[^A-Za-z0-9_]", "", name.replace("-", "_").replace(" ", ""))
    name = re.sub(r"_+", "_", name).strip("_") or "series"
    return "TS_" + name if name[0].isdigit() else name
