# SPDX-License-Identifier: GPL-3.0-or-later
"""Which items of a set were seen, and by what the set is known again.

Part of the child process (see __main__.py): standard library only, Python 3.6 or newer.
"""
import re

from marks import Ids, add_marks, is_block, latest_of, unpack_digests

# A sum that other ids hardly share, and that a double holds exactly for millions of them.
MODULUS = 997
# What of the items up to the last one seen is compared first: how many, two sums over their ids, one over the seconds
# of the minutes in which they were made, the latest creation.
SUMS = "count(*), total(id), total((id % {0}) * (id % {0})), total(substr(creation, -2)), max(creation)".format(MODULUS)
NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))")
NO_SUMS = (0, 0, 0, 0, None)
UNKNOWN_SUMS = (-1, 0, 0, 0, None)


def mixed(number):
    return (number % MODULUS) ** 2


def second_of(creation):
    """Of its minute, in the usual way to write times; else what SQLite takes for a number at the end of it."""
    text = "" if creation is None else str(creation)[-2:]
    try:
        return int(text)
    except ValueError:
        number = NUMBER.match(text)
        return float(number.group(1)) if number else 0


class SeenItems:
    """Which items of a set were seen, and how they were then. Pure: it is given the set's rows."""

    def __init__(self):
        self._begin()

    def _begin(self):
        self.creations = {}             # id -> creation
        self.last = -1                  # the highest id
        self.witness = None             # (id, creation) of one that was still there at the last look, None: none was
        self.missed = []                # (place in the set, id) of those below the last one that are to be told
        self.digests = {}               # id -> digest of the values as told; None: they are to be told anew
        self._sums = NO_SUMS            # of the items up to the last one that are accounted for, as SUMS has them

    @property
    def count(self):
        """How many items are accounted for."""
        return self._sums[0]

    def see(self, number, creation):
        self.creations[number] = creation
        self.witness = number, creation
        if number > self.last:
            self.last = number
            count, total, squares, seconds, latest = self._sums
            self._sums = (count + 1, total + number, squares + mixed(number), seconds + second_of(creation),
                          latest_of((latest, creation)))

    def drop(self, number):
        """The item is gone."""
        self.digests.pop(number, None)
        self.creations.pop(number, None)
        if not self.creations:
            # Whatever comes now is new, also where its id is none beyond the last one.
            self._begin()
        else:
            self.look_below()

    def look_below(self):
        """Which items below the last one are new is to be found out at the next look."""
        self._sums = UNKNOWN_SUMS

    def has_all(self, sums):
        """Whether all items up to the last one are accounted for; ``sums``: those of the set."""
        return self.witness is not None and sums == self._sums

    def compare(self, rows, replaced):
        """Whether the set is another one than that whose items were seen, as after a Restart; if it is not, which of
        the items below the last one are new. ``rows``: all of the set's (id, creation), in order of ids;
        ``replaced``: its file is another one."""
        present = dict(rows)
        equal = [seen for seen in self.creations.items() if seen[0] in present and present[seen[0]] == seen[1]]
        # A file in place of the other is the same set only where it has all of it; else one item is enough.
        if len(equal) < len(self.creations) if replaced else rows and not equal:
            return True
        self.witness = equal[-1] if equal else None
        self.missed = [(place, number) for place, (number, creation) in enumerate(rows) if number <= self.last
                       and (number not in self.creations or self.creations[number] != creation)]
        below = [row for row in rows if row[0] <= self.last]
        self._sums = (len(below), sum(row[0] for row in below), sum(mixed(row[0]) for row in below),
                      sum(second_of(row[1]) for row in below), latest_of(row[1] for row in below))
        return False

    def state(self):
        """How much was seen, as a position has it."""
        ids = Ids()
        for number in sorted(self.creations):
            ids.add(number)
        return {"seen": ids.ranges, "marks": add_marks({}, self.creations), "digests": "",
                "latest": latest_of(self.creations.values())}

    def take_up(self, state, rows):
        """Go on where an earlier walk was -> whether the set can be the one of which it told."""
        numbers, marks = Ids(state["seen"]), {int(number): when for number, when in state["marks"].items()}
        kept = {number: creation for number, creation in rows if number in numbers}
        known = [number for number in marks if number in kept]
        other = {number for number in known if kept[number] != marks[number]}
        if known and len(other) == len(known):
            return False
        # Of most items it is not kept when they were made, but they were by the latest moment of all that were told.
        latest = state.get("latest")
        if latest is not None:
            other.update(number for number, creation in kept.items() if creation is not None and creation > latest)
        if kept and len(other) == len(kept):
            return False
        self.creations = dict.fromkeys(numbers)
        self.creations.update(kept)
        for number in other:
            del self.creations[number]              # removed, and added again
        if numbers:
            self.last = max(numbers)
            self.look_below()
        return True

    def take_up_digests(self, state, now):
        """``now``: id -> digest of the values that the items have now."""
        for block, told in unpack_digests(state["digests"], list(Ids(state["seen"]))):
            known = [now[number] for number in block if number in now]
            same = len(known) == len(block) and is_block(known, told)
            self.digests.update((number, now[number] if same else None) for number in block)
