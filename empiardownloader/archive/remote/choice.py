# SPDX-License-Identifier: GPL-3.0-or-later
"""Which transport to take."""
import logging
import threading
import time
from typing import List, Mapping, Optional, Sequence, Tuple

from ..errors import (
    ArchiveError,
    BrokenFileError,
    NotFoundError,
    RemoteError,
    Stopped,
    TransientError,
    UnreachableError,
)
from ..names import page_of
from ..stopping import NEVER, StopToken, within
from . import AUTOMATIC, CONNECT_SECONDS, CONNECT_TIMEOUT, STALL_TIMEOUT, Archive, Connection, Listing
from .transports import TRANSPORTS

logger = logging.getLogger(__name__)

# Between two tries to reach the archive at all, doubled each time.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0
# A first range, of the entry's own description say: long enough to show a throttled line, short enough to be no burden.
PROBE_BYTES, PROBES, PROBE_SECONDS = 256 << 10, 3, 3.0
# Over a later transport (HTTPS) listings are larger and sizes rounded: it has to be clearly quicker.
QUICKER_SECONDS, QUICKER_SHARE = 0.05, 0.75
# A transport is slow if it needs this much longer than the first one to show that it works, in seconds or as a factor.
GRACE_SECONDS, GRACE_SHARE = 2.0, 2.0


def open_archive(entry: str, addresses: Mapping[str, str], transport: str = AUTOMATIC,
                 timeout: float = STALL_TIMEOUT, stop: StopToken = NEVER, patience: float = 0.0) -> Archive:
    """The archive over the transport asked for, after it has shown that it lists the entry's folder.

    ``addresses``: values of the configuration variables. With ``automatic`` it is the first transport that works, or
    another one over which a first range comes clearly sooner.
    Where none works now that may work later, they are tried again for ``patience`` seconds.
    Raises UnreachableError when none works, Stopped; NotFoundError never: an unknown folder is one too.
    """
    names = [AUTOMATIC, *(offer.name for offer in TRANSPORTS)]
    if transport not in names:
        msg = "There is no transport %s: choose one of %s." % (transport, ", ".join(names))
        raise UnreachableError(msg)
    deadline, waits = time.monotonic() + patience, 0
    while True:
        try:
            return _open_now(entry, addresses, transport, timeout, stop)
        except _NotNowError as error:
            wait = max(error.retry_after, min(FIRST_WAIT_SECONDS * 2 ** waits, LONGEST_WAIT_SECONDS))
            if time.monotonic() + wait > deadline:
                raise UnreachableError(str(error)) from error
            logger.warning("%s Trying again in %.0f s.", error, wait)
        waits += 1
        stop.pause(wait)


class _NotNowError(UnreachableError):
    """No transport works now. ``retry_after``: seconds that a busy server asks to wait."""

    def __init__(self, text: str, retry_after: float):
        super().__init__(text)
        self.retry_after = retry_after


def _open_now(entry: str, addresses: Mapping[str, str], transport: str, timeout: float, stop: StopToken) -> Archive:
    """Raises _NotNowError where trying again may help."""
    offers = [offer for offer in TRANSPORTS if transport in (AUTOMATIC, offer.name)]
    complaints: List[str] = []
    trials: List[_Trial] = []
    for offer in offers:
        try:
            archive = offer.archive(addresses[offer.variable], entry, timeout)
            trials.append(_Trial(archive, PROBES if len(offers) > 1 else 0))
        except UnreachableError as error:
            if len(offers) == 1:
                raise
            complaints.append(str(error).rstrip("."))
    _wait_for(trials, stop)
    working = []
    for trial in trials:
        if trial.error is None:
            working.append(trial)
        elif isinstance(trial.error, (NotFoundError, BrokenFileError, TransientError, Stopped)) or (
                isinstance(trial.error, ArchiveError) and len(offers) > 1):
            complaints.append(trial.complaint)
        else:
            raise trial.error
    if not working:
        errors = [trial.error for trial in trials]
        remedy = "Check the network" if transport == AUTOMATIC else "Check the network or choose another transport"
        if errors and all(isinstance(error, NotFoundError) for error in errors):
            # The servers are there, and the entry is not.
            remedy = "Look at %s whether its files are public" % page_of(entry)
        msg = "The files of EMPIAR-%s cannot be reached: %s. %s, then Continue." % (
            entry, "; ".join(complaints), remedy)
        if any(isinstance(error, (TransientError, Stopped)) for error in errors):
            raise _NotNowError(msg, max(getattr(error, "retry_after", 0.0) for error in errors))
        raise UnreachableError(msg)
    if complaints:
        others = [offer.name for offer in offers if offer.name not in [trial.archive.transport for trial in working]]
        logger.warning("%s %s not work here (%s): the files come over %s.", " and ".join(others),
                       "does" if len(others) == 1 else "do", "; ".join(complaints), working[0].archive.transport)
    chosen = working[0] if len(working) == 1 else _quickest(working)
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
        self.given_up = StopToken()
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
        connection, listing = self.archive.probing(self._listed)
        self.works = True
        if self._probes:
            path = listing.files[0][0] if listing.files else ""
            try:
                self.seconds = within(PROBE_SECONDS, self.given_up, lambda: self._measure(connection, path),
                                      connection.abort)
            except (RemoteError, Stopped) as error:
                # It lists, so it works, but nothing is known of its pace.
                logger.info("The short test failed (%s).", error)
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
        times: List[float] = []
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
        if isinstance(self.error, Stopped):
            return "%s: no answer within %.0f s, while the other transport works" % (
                self.archive.server, time.monotonic() - self._begun)
        return str(self.error).rstrip(".")


def _read(connection: Connection, path: str) -> None:
    with connection.open(path, 0, PROBE_BYTES) as (state, stream):
        left = min(state.size, PROBE_BYTES)
        while left > 0:
            left -= len(stream.read(left)) or left


def _wait_for(trials: List[_Trial], stop: StopToken) -> None:
    """Both at a time; returns once it is clear which ones work. Raises Stopped."""
    begun, grace = time.monotonic(), float("inf")
    for trial in trials:
        trial.start()
    while any(trial.is_alive() for trial in trials):
        if stop.is_set() or time.monotonic() > grace:
            for trial in trials:
                if stop.is_set() or not trial.works:
                    trial.given_up.set()
        for trial in trials:
            trial.join(0.02)
            if trial.works and grace == float("inf"):
                now = time.monotonic()
                grace = now + max(GRACE_SECONDS, GRACE_SHARE * (now - begun))
    stop.check()


def _quickest(trials: Sequence[_Trial]) -> _Trial:
    """The first, unless another one is clearly quicker."""
    chosen = trials[0]
    for trial in trials[1:]:
        if trial.seconds < min(chosen.seconds - QUICKER_SECONDS, QUICKER_SHARE * chosen.seconds):
            chosen = trial
    logger.info("The files come over %s: a short test took %s.", chosen.archive.transport, " and ".join(
        "%s over %s" % ("more than %.0f s" % PROBE_SECONDS if trial.seconds >= PROBE_SECONDS
                        else "%.2f s" % trial.seconds, trial.archive.transport) for trial in trials))
    return chosen
