# SPDX-License-Identifier: GPL-3.0-or-later
"""What a transfer is asked for, and what it tells of it."""
import os
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

from ..images.header import BadImageError


@dataclass(frozen=True)
class Settings:
    """How to transfer; all times in seconds."""
    connections: int = 4
    give_up: float = 300        # the run ends after this long without a byte
    first_wait: float = 0.5     # before the first retry, doubled each time
    longest_wait: float = 30
    recover: float = 30         # without a complaint, before one more connection is tried


@dataclass(frozen=True)
class Job:
    """A file to fetch."""
    path: str                   # below the entry's folder
    target: str                 # the final local path
    compression: str = ""       # '.bz2', '.gz' or '.xz' where the target is to be the decompressed file
    check: Callable[[str], Any] = lambda path: None     # gives what it learns of the whole file, or BadImageError
    urgent: bool = False        # before all others
    size: Optional[int] = None  # bytes as listed, which need not be exact
    # Called with the first kilobyte, or less, and the file's size as soon as they are there; BadImageError says that
    # the rest is not wanted.
    look: Callable[[bytes, int], Any] = lambda start, size: None
    doubtful: Callable[[], bool] = lambda: False        # whether ``look`` is to speak before more is asked for

    def is_whole(self, size: int) -> bool:
        """Whether the target is there already, as large as at the source (``size`` bytes), and stands the check."""
        if not os.path.isfile(self.target) or (not self.compression and os.path.getsize(self.target) != size):
            return False
        try:
            self.check(self.target)
        except BadImageError:
            return False
        return True


@dataclass(frozen=True)
class Outcome:
    """What became of a job: whole (``error`` is empty) or skipped."""
    job: Job
    size: int = 0               # bytes at the source
    header: Any = None          # what the job's check gave
    found: bool = False         # it was there already
    error: str = ""


class Pending:
    """What ``next_job`` gives when it does not know yet: ask again soon."""


PENDING = Pending()
NextJob = Callable[[], Union[Job, Pending, None]]
