# SPDX-License-Identifier: GPL-3.0-or-later
"""Which transport to take."""
import logging
import threading
import time
from typing import Callable, List, Optional, Tuple

from ..errors import (
    ArchiveError,
    BrokenFileError,
    NotFoundError,
    RemoteError,
    StoppedError,
    TransientError,
    UnreachableError,
)
from ..sessions import NEVER, within
from . import AUTOMATIC, CONNECT_SECONDS, CONNECT_TIMEOUT, FTP, HTTPS, STALL_TIMEOUT, Archive, Connection, Listing
from .ftp import FtpArchive
from .https import HttpArchive

logger = logging.getLogger(__name__)

# Between two tries to reach the archive at all, doubled each time.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0
# A first range, of the entry's own description say: long enough to show a throttled line, short enough to be no burden.
PROBE_BYTES, PROBES, PROBE_SECONDS = 256 << 10, 3, 3.0
# Over HTTPS listings are larger and sizes rounded: it has to be clearly quicker than FTP.
QUICKER_SECONDS, QUICKER_SHARE = 0.05, 0.75
# A transport that has not shown that it works so long after the other one, or in so many times what that took, is slow.
GRACE_SECONDS, GRACE_SHARE = 2.0, 2.0


def open_archive(entry: str, ftp_url: str, https_url: str, transport: str = AUTOMATIC,
                 timeout: float = STALL_TIMEOUT, stopped: threading.Event = NEVER, patience: float = 0.0) -> Archive:
    """The archive over the transport asked for, after it has shown that it lists the entry's folder.

    With ``automatic`` that is FTP, or HTTPS where a first range comes clearly sooner over it, or FTP does not work.
    Where none works now that may work later, they are tried again for ``patience`` seconds.
    Raises UnreachableError when none works, StoppedError; NotFoundError never: an unknown folder is one too.
    """
    deadline, waits = time.monotonic() + patience, 0
    while True:
        try:
            return _open_now(entry, ftp_url, https_url, transport, timeout, stopped)
        except _NotNowError as error:
            wait = max(error.retry_after, min(FIRST_WAIT_SECONDS * 2 ** waits, LONGEST_WAIT_SECONDS))
            if time.monotonic() + wait > deadline:
                raise UnreachableError(str(error)) from error
            logger.warning("%s Trying again in %.0f s.", error, wait)
        waits += 1
        if stopped.wait(wait):
            msg = "stopped"
            raise StoppedError(msg)


class _NotNowError(UnreachableError):
    """No transport works now. ``retry_after``: seconds that a busy server asks to wait."""

    def __init__(self, text: str, retry_after: float):
        super().__init__(text)
        self.retry_after = retry_after


def _open_now(entry: str, ftp_url: str, https_url: str, transport: str, timeout: float,
              stopped: threading.Event) -> Archive:
    """Raises _NotNowError where trying again may help."""
    offers: List[Tuple[Callable[..., Archive], str]] = []
    if transport in (AUTOMATIC, FTP):
        offers.append((FtpArchive, ftp_url))
    if transport in (AUTOMATIC, HTTPS):
        offers.append((HttpArchive, https_url))
    complaints, trials = [], []
    for kind, url in offers:
        try:
            trials.append(_Trial(kind(url, entry, timeout), PROBES if len(offers) > 1 else 0))
        except UnreachableError as error:
            if len(offers) == 1:
                raise
            complaints.append(str(error).rstrip("."))
    _wait_for(trials, stopped)
    working = []
    for trial in trials:
        if trial.error is None:
            working.append(trial)
        elif isinstance(trial.error, (NotFoundError, BrokenFileError, TransientError)) or (
                isinstance(trial.error, ArchiveError) and len(offers) > 1):
            complaints.append(trial.complaint)
        else:
            raise trial.error
    if not working:
        errors = [trial.error for trial in trials]
        msg = "The files of EMPIAR-%s cannot be reached: %s. Check the network%s, then Continue." % (
            entry, "; ".join(complaints), "" if transport == AUTOMATIC else " or choose another transport")
        if any(isinstance(error, TransientError) for error in errors):
            raise _NotNowError(msg, max(getattr(error, "retry_after", 0.0) for error in errors))
        raise UnreachableError(msg)
    if complaints:
        other = HTTPS if working[0].archive.transport == FTP else FTP
        logger.warning("%s does not work here (%s): the files come over %s.", other, "; ".join(complaints),
                       working[0].archive.transport)
    chosen = working[0] if len(working) == 1 else _quicker(*working)
    for trial in working:
        if trial is not chosen:
            trial.archive.close()
    return chosen.archive


class _Trial(threading.Thread):
    """Whether a transport works, and how quick it is."""

    def __init__(self, archive: Archive, probes: int):
        """``probes``: how often to measure."""
        super().__init__(daemon=True, name="trial")
        self.archive = archive
        self._probes = probes
        self._begun = time.monotonic()
        self.given_up = threading.Event()
        self.error: Optional[BaseException] = None
        self.works = False
        self.seconds = 0.0              # that a first range took

    def run(self) -> None:
        try:
            self._try()
        except BaseException as error:  # noqa: BLE001 - handed to the calling thread
            self.error = error
        if self.given_up.is_set():
            self.archive.close()

    def _try(self) -> None:
        connection, listing = self.archive.learning(self._listed)
        self.works = True
        if self._probes:
            path = listing.files[0][0] if listing.files else ""
            try:
                self.seconds = within(PROBE_SECONDS, self.given_up, lambda: self._measure(connection, path),
                                      connection.abort)
            except RemoteError as error:
                # It lists, so it works, but nothing is known of its pace.
                logger.info("A first range could not be had (%s).", error)
                self.seconds = PROBE_SECONDS
                connection.close()
                return
        self.archive.keep(connection)

    def _listed(self) -> Tuple[Connection, Listing]:
        """A connection, and the listing of the entry's folder."""
        connection = self.archive.connect(min(self.archive.timeout, CONNECT_TIMEOUT), self.given_up)
        try:
            return connection, within(CONNECT_SECONDS, self.given_up, lambda: connection.list_folder(""),
                                      connection.abort)
        except BaseException:
            connection.close()
            raise

    def _measure(self, connection: Connection, path: str) -> float:
        times = []
        while len(times) < self._probes and sum(times) < PROBE_SECONDS / 2:
            begun = time.monotonic()
            if path:
                _read(connection, path)
            else:
                connection.list_folder("")
            times.append(time.monotonic() - begun)
        return min(times)

    @property
    def complaint(self) -> str:
        if isinstance(self.error, NotFoundError):
            return "it has no folder for entry %s (%s)" % (self.archive.entry, self.error)
        if isinstance(self.error, StoppedError):
            return "%s: no answer within %.0f s, while the other transport works" % (
                self.archive.server, time.monotonic() - self._begun)
        return str(self.error).rstrip(".")


def _read(connection: Connection, path: str) -> None:
    with connection.open(path, 0, PROBE_BYTES) as (state, stream):
        left = min(state.size, PROBE_BYTES)
        while left > 0:
            left -= len(stream.read(left)) or left


def _wait_for(trials: List[_Trial], stopped: threading.Event) -> None:
    """Both at a time; returns once it is clear which ones work. Raises StoppedError."""
    begun, grace = time.monotonic(), float("inf")
    for trial in trials:
        trial.start()
    while any(trial.is_alive() for trial in trials):
        if stopped.is_set() or time.monotonic() > grace:
            for trial in trials:
                if stopped.is_set() or not trial.works:
                    trial.given_up.set()
        for trial in trials:
            trial.join(0.02)
            if trial.works and grace == float("inf"):
                now = time.monotonic()
                grace = now + max(GRACE_SECONDS, GRACE_SHARE * (now - begun))
    if stopped.is_set():
        msg = "stopped"
        raise StoppedError(msg)


def _quicker(ftp: _Trial, https: _Trial) -> _Trial:
    is_https = https.seconds < min(ftp.seconds - QUICKER_SECONDS, QUICKER_SHARE * ftp.seconds)
    logger.info("The files come over %s: a first range took %s over FTP and %s over HTTPS.",
                HTTPS if is_https else FTP, *("more than %.0f s" % PROBE_SECONDS if trial.seconds >= PROBE_SECONDS
                                              else "%.2f s" % trial.seconds for trial in (ftp, https)))
    return https if is_https else ftp
