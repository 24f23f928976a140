# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fault does to the file it met: when it is tried again, when skipped. Whose fault it is, blame.py says."""
import logging
import random

from ..archive.errors import (
    ArchiveError,
    BusyError,
    ChangedFileError,
    RemoteError,
    TransientError,
)
from ..images.header import BadImageError
from .blame import TRIES_BROKEN
from .file import FileTransfer
from .jobs import Settings

logger = logging.getLogger(__name__)

# After so many files in a row that failed like that, without a byte in between, the server is at fault.
HOPELESS_FILES = 20
# How often a file may turn out another version before it is fetched by one request: its servers do not agree.
MOST_CHANGES = 2


class Faults:
    """The faults of a transfer; called with the transfer's lock held, but for ``reject``: a file that is being finished
    belongs to the thread that does it."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self.hopeless = 0       # files refused since the last byte, though it is not clear that it was their fault

    def wait_after(self, failures: int) -> float:
        """Seconds to wait before the next try: growing, bounded, and not the same for all."""
        # Past 2**16 it is bounded anyway, and a float would not hold 2**1100.
        wait: float = min(self._settings.first_wait * 2 ** min(failures - 1, 16), self._settings.longest_wait)
        return wait * random.uniform(0.5, 1.5)

    def count(self, file: FileTransfer, error: RemoteError, asked: float, now: float) -> bool:
        """A request that was sent at ``asked`` failed -> whether this is a new fault, to be judged."""
        if asked < file.trouble.last_fault:
            return False    # made when the fault before was not known yet: the same once more
        file.trouble.failed(now)
        file.not_before = now + self.wait_after(file.trouble.attempts)
        if isinstance(error, BusyError):
            file.trouble.lets_others_go = True
            file.not_before = max(file.not_before, now + min(error.retry_after, self._settings.give_up))
        return True

    def refuse(self, file: FileTransfer, error: RemoteError, server: str) -> None:
        """Leave the file out. Raises ArchiveError where that happens to all of them."""
        if isinstance(error, TransientError):
            self.hopeless += 1
            if self.hopeless > HOPELESS_FILES:
                msg = "%d files in a row could not be downloaded from the %s (last error: %s): wait some hours, " \
                      "then Continue. What was downloaded is kept." % (HOPELESS_FILES, server, error)
                raise ArchiveError(msg)
        file.refuse(str(error))

    @staticmethod
    def changed(file: FileTransfer, error: ChangedFileError) -> None:
        """The file is not the version that its first bytes are of: it is fetched anew, but not for ever."""
        if file.restart:
            return      # said already, by another request
        file.trouble.changes += 1
        file.restart = True
        if file.trouble.changes > MOST_CHANGES and not file.single:
            file.single = True
            logger.warning("%s differs from one of the archive's servers to another: it is fetched by one request.",
                           file.job.path)
        else:
            logger.warning("%s: it is fetched from its beginning.", error)
        if file.trouble.changes > MOST_CHANGES + TRIES_BROKEN:
            file.refuse(str(error))

    @staticmethod
    def reject(file: FileTransfer, error: BadImageError) -> None:
        """The whole file is no good image."""
        # A file that was put together in two runs is fetched once more; one of a single run is broken at the source.
        if file.held_part.resumed:
            logger.warning("%s: %s; it is fetched once more.", file.job.path, error)
            file.restart = True
        else:
            file.refuse(str(error))
