# SPDX-License-Identifier: GPL-3.0-or-later
"""Which volumes are the two halves of a map, by their names: as RELION, cryoSPARC, M and EMDB call them."""
import collections
import os
import re
from typing import DefaultDict, Dict, Iterable, List, Tuple

# 'run_half1_class001_unfil.mrc', 'emd_1234_half_map_2.map', 'J12_volume_map_half_A.mrc', 'half1_x.mrc'
HALF = re.compile(r"(?:^|[ _.-])half[ _.-]?(?:map[ _.-]?)?([12ab])(?=[ _.-]|$)", re.IGNORECASE)
UNFILTERED = re.compile(r"[ _.-]unfil(?:tered)?(?=[ _.-]|$)", re.IGNORECASE)
NO_MAP = re.compile(r"(?:^|[ _.-])(?:mask|fsc|locres)(?=[ _.-]|$)", re.IGNORECASE)


def pair_half_maps(names: Iterable[str]) -> Dict[str, Tuple[str, str]]:
    """File names -> {a map: (its first half, its second half)}; only where the names leave no other choice.

    Of halves with and without a filter those without are taken.
    """
    halves: DefaultDict[str, DefaultDict[Tuple[bool, str], List[str]]] = collections.defaultdict(
        lambda: collections.defaultdict(list))
    maps: DefaultDict[str, List[str]] = collections.defaultdict(list)
    for name in names:
        stem = os.path.splitext(name)[0].lower()
        if NO_MAP.search(stem):
            continue
        found = HALF.search(stem)
        whole = stem[:found.start()] + stem[found.end():] if found else stem
        base = UNFILTERED.sub("", whole).strip(" _.-")
        if found:
            halves[base][UNFILTERED.search(whole) is not None, found.group(1)].append(name)
        else:
            maps[base].append(name)
    pairs = {}
    for base, its in halves.items():
        for unfiltered in (True, False):
            found_pairs = [(its[unfiltered, first], its[unfiltered, second]) for first, second in ("12", "ab")
                           if its[unfiltered, first] or its[unfiltered, second]]
            if len(found_pairs) == 1 and [len(half) for half in found_pairs[0]] == [1, 1] and len(maps[base]) == 1:
                pairs[maps[base][0]] = found_pairs[0][0][0], found_pairs[0][1][0]
                break
    return pairs
