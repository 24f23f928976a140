# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of a project was told, as plain data: what a position is made of.

Of the child process (see __main__.py) and of the program that walks: standard library only, Python 3.6 or newer.
"""
import base64
import bisect
import json
import struct
import zlib
from typing import Any, Dict, Iterable, Iterator, List, Sequence, Tuple

# Of a set with more items the digests of several are kept as one, so that a position stays short.
MOST_DIGESTS = 1000
BEYOND = 1 << 62        # no item has such a number
UNKNOWN = 0             # a digest that no values have: the item is to be told as changed
# Items of which a position keeps when they were made: by these a set is known again.
MOST_MARKS = 32


def wants_changes(changes: Any, kind: str) -> bool:
    """Whether changes of items are looked for in sets of a class: ``changes`` is true or false, or names classes."""
    return kind in changes if isinstance(changes, list) else bool(changes)


def digest_of(values: Any) -> int:
    """A number that changes with the values of an item, as a message has them; never UNKNOWN."""
    return zlib.crc32(json.dumps(values).encode("ascii")) or 1


def key_of(db_name: str, kind: str) -> str:
    """What a position calls an output: another class under the same name is another one."""
    return "%s %s" % (db_name, kind)


class Ids:
    """Numbers of items, kept as ranges: most follow one another."""

    def __init__(self, ranges: Iterable[Sequence[int]] = ()) -> None:
        self.ranges = [list(each) for each in ranges]

    def add(self, number: int) -> None:
        place = bisect.bisect(self.ranges, [number, BEYOND])
        before = self.ranges[place - 1] if place else None
        if before is not None and number <= before[1]:
            return
        behind = self.ranges[place] if place < len(self.ranges) else None
        joins = before is not None and before[1] == number - 1
        if behind is not None and behind[0] == number + 1:
            behind[0] = before[0] if joins else number
            if joins:
                del self.ranges[place - 1]
        elif joins:
            before[1] = number
        else:
            self.ranges.insert(place, [number, number])

    def remove(self, number: int) -> None:
        place = bisect.bisect(self.ranges, [number, BEYOND]) - 1
        if place < 0 or number > self.ranges[place][1]:
            return
        first, last = self.ranges[place]
        self.ranges[place:place + 1] = [each for each in ([first, number - 1], [number + 1, last])
                                        if each[0] <= each[1]]

    def __contains__(self, number: int) -> bool:
        place = bisect.bisect(self.ranges, [number, BEYOND]) - 1
        return place >= 0 and number <= self.ranges[place][1]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)


def add_marks(marks: Dict[str, Any], created: Dict[int, Any]) -> Dict[str, Any]:
    """Ids, as text, and when these items were made, with some of the new ones: the first and the last among them."""
    found = {int(number): when for number, when in marks.items()}
    found.update(created)
    numbers = sorted(found)
    while len(numbers) > MOST_MARKS:
        tail = MOST_MARKS // 2
        numbers = numbers[:4] + numbers[4:-tail:2] + numbers[-tail:]
    return {str(number): found[number] for number in numbers}


def latest_of(moments: Iterable[Any]) -> Any:
    """The latest of moments as Scipion writes them; None where none is known."""
    return max((moment for moment in moments if moment is not None), default=None)


def pack_digests(digests: Dict[int, int]) -> str:
    """{id: digest} -> text; of many items each of the numbers stands for several, in the order of their ids."""
    numbers = sorted(digests)
    several = max(1, -(-len(numbers) // MOST_DIGESTS))
    blocks = [_joined([digests[number] for number in numbers[start:start + several]])
              for start in range(0, len(numbers), several)]
    return base64.b64encode(struct.pack("<%dI" % len(blocks), *blocks)).decode("ascii")


def unpack_digests(text: str, numbers: Sequence[int]) -> List[Tuple[Sequence[int], int]]:
    """-> [(ids of a block, its number)]; ``numbers``: the ids of all, in their order."""
    data = base64.b64decode(text.encode("ascii"))
    blocks = struct.unpack("<%dI" % (len(data) // 4), data)
    several = max(1, -(-len(numbers) // MOST_DIGESTS))
    return [(numbers[place * several:(place + 1) * several], block) for place, block in enumerate(blocks)]


def is_block(digests: Sequence[int], block: int) -> bool:
    """Whether items with these digests made that number."""
    return _joined(digests) == block


def _joined(digests: Sequence[int]) -> int:
    return digests[0] if len(digests) == 1 else zlib.crc32(struct.pack("<%dI" % len(digests), *digests))
