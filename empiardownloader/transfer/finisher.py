# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to whole files beside the download: they are unpacked, looked at and given their names.

So workers, which hold connections, wait neither for the processor nor for the disk.
"""
import concurrent.futures
import contextlib
import os
from typing import Callable, Optional

from ..archive.errors import DiskError, LocalNameError, Stopped
from ..images.header import BadImageError
from .faults import Faults
from .file import FileTransfer
from .jobs import Outcome
from .parts import UNPACKED_PREFIX, Part, disk_error, hidden_path
from .unpack import unpack

UNPACKERS = 2


class Finisher:
    """Threads for whole files; see the module's docstring."""

    def __init__(self, is_over: Callable[[], bool], faults: Faults,
                 ended: Callable[[FileTransfer, Optional[Outcome]], None], failed: Callable[[BaseException], None]):
        """``ended`` is called for each file, without an outcome where it is to be skipped or fetched anew; ``failed``
        with what ends the run. Both from threads of the finisher's own."""
        self._is_over = is_over
        self._faults = faults
        self._ended = ended
        self._failed = failed
        self._unpackers = concurrent.futures.ThreadPoolExecutor(UNPACKERS, "transfer-unpack")
        self._closers = concurrent.futures.ThreadPoolExecutor(1, "transfer-close")     # one, to keep the order

    def submit(self, file: FileTransfer) -> None:
        (self._unpackers if file.job.compression else self._closers).submit(self._finish, file)

    def sync(self, part: Part) -> None:
        """Have what was written so far reach the disk."""
        self._closers.submit(self._sync, part)

    def close(self) -> None:
        """Wait for what is under way."""
        self._unpackers.shutdown(wait=True)
        self._closers.shutdown(wait=True)

    def _sync(self, part: Part) -> None:
        try:
            part.sync()
        except DiskError as error:
            self._failed(error)

    def _finish(self, file: FileTransfer) -> None:
        path, unpacked = file.held_part.path, hidden_path(file.job.target, UNPACKED_PREFIX)
        outcome = None
        try:
            if file.job.compression:
                file.held_part.close_journal()
                unpack(path, file.job.compression, unpacked, self._is_over)
                path = unpacked
            outcome = self._name(file, path)
        except Stopped:
            pass    # the whole compressed file stays for the next run
        except BadImageError as error:
            self._faults.reject(file, error)
        except Exception as error:  # noqa: BLE001 - handed to the calling thread, which raises it
            error = disk_error(error, file.job.target) if isinstance(error, OSError) else error
            if isinstance(error, LocalNameError):
                file.refuse(str(error))
            else:
                self._failed(error)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(unpacked)
            self._ended(file, outcome)

    @staticmethod
    def _name(file: FileTransfer, path: str) -> Outcome:
        """The last look at a whole file, and its final name. Raises BadImageError."""
        header = file.job.check(path)
        if path == file.held_part.path:
            file.held_part.finish()
        else:
            os.replace(path, file.job.target)
            file.held_part.discard()
        return Outcome(file.job, file.size or 0, header)
