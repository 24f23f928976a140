# SPDX-License-Identifier: GPL-3.0-or-later
"""Which volumes are the two halves of a map, by their names: as RELION, cryoSPARC and EMDB call them."""
import collections
import os
import re
from typing import DefaultDict, Dict, Iterable, List, Tuple

# 'run_half1_class001_unfil.mrc', 'emd_1234_half_map_2.map', 'J12_volume_map_half_A.mrc'
HALF = re.compile(r"[_.-]half[_.-]?(?:map[_.-]?)?([12ab])(?=[_.-]|$)", re.IGNORECASE)
UNFILTERED = re.compile(r"[_.-]unfil(?:tered)?(?=[_.-]|$)", re.IGNORECASE)


def pair_half_maps(names: Iterable[str]) -> Dict[str, Tuple[str, str]]:
    """File names -> {a map: (its first half, its second half)}; only where the names leave no other choice."""
    halves: DefaultDict[str, DefaultDict[int, List[str]]] = collections.defaultdict(
        lambda: collections.defaultdict(list))
    maps: DefaultDict[str, List[str]] = collections.defaultdict(list)
    for name in names:
        stem = os.path.splitext(name)[0].lower()
        found = HALF.search(stem)
        if found:
            stem = UNFILTERED.sub("", stem[:found.start()] + stem[found.end():])
            halves[stem][1 if found.group(1) in "1a" else 2].append(name)
        else:
            maps[stem].append(name)
    return {maps[stem][0]: (its[1][0], its[2][0]) for stem, its in halves.items()
            if len(maps[stem]) == len(its[1]) == len(its[2]) == 1}
