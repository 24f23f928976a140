# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image is made a picture next: the newest first, then those that were there before, the newer ones first."""
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from ..follow import Item, NodeContent
from .shown_run import Remove

MOST_MONTAGES = 1000        # of a stack that wait; then the oldest are not shown
LATE_SECONDS, MOST_TRIES = 5.0, 3       # between two tries of what cannot be read


class Job(NamedTuple):
    """An image of a set that is to be shown, or some of a stack that are shown side by side."""
    node: NodeContent
    items: Sequence[Item]
    first: int = 0          # of a stack, the number of the first of them
    tries: int = 1          # the number of this attempt

    @property
    def key(self) -> Tuple[str, int]:
        return self.node.db_name, self.first or self.items[0].id

    def is_of(self, gone: Remove) -> bool:
        return self.key == gone


class Waiting:
    """One thread at a time may use it. Moments are seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._jobs: List[Job] = []
        self._late: List[Tuple[float, Job]] = []        # those that are tried again, and when
        self._taken: Optional[Job] = None               # the one that is being made a picture
        self.skipped = 0                                # particles that are not shown

    def __len__(self) -> int:
        return len(self._jobs) + len(self._late)

    def add(self, job: Job) -> None:
        # What was to be tried again is this one by now.
        self._late = [(when, other) for when, other in self._late if other.key != job.key]
        if job.first:
            # The same images and some more; and of a stack of millions not all can wait.
            its = [other for other in self._jobs if other.node.db_name == job.node.db_name]
            gone = [other for other in its if other.first == job.first]
            if not gone and len(its) >= MOST_MONTAGES:
                gone = its[:1]
                self.skipped += len(gone[0].items)
            self._jobs = [other for other in self._jobs if other not in gone]
        self._jobs.append(job)

    def add_again(self, job: Job, now: float) -> None:
        """One whose file cannot be read: it may not be whole yet. Not where a newer one of its image waits."""
        waiting = [*self._jobs, *(other for _, other in self._late)]
        if job.tries < MOST_TRIES and not any(other.key == job.key for other in waiting):
            self._late.append((now + LATE_SECONDS, job._replace(tries=job.tries + 1)))

    def keep(self, is_kept: Callable[[Job], bool]) -> None:
        """Forget the others, the one that was taken among them."""
        self._jobs = [job for job in self._jobs if is_kept(job)]
        self._late = [(when, job) for when, job in self._late if is_kept(job)]
        if self._taken is not None and not is_kept(self._taken):
            self._taken = None

    def take(self, now: float) -> Optional[Job]:
        """The next one, None where there is none."""
        if self._late and self._late[0][0] <= now:
            self._jobs.append(self._late.pop(0)[1])
        self._taken = self._jobs.pop() if self._jobs else None
        return self._taken

    def is_taken(self, job: Job) -> bool:
        """Whether it is the one that was taken last, and was not forgotten since."""
        return self._taken is job
