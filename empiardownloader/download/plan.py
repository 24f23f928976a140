# SPDX-License-Identifier: GPL-3.0-or-later
"""What a download would bring, how long it would take, and whether there is room: nothing but listings is fetched, and
a few seconds of images to measure the rate."""
import concurrent.futures
import contextlib
import logging
import os
import shutil
import threading
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from ..archive.errors import ArchiveError, EntryError, RemoteError, UnreachableError
from ..archive.kinds import TILT_SERIES
from ..archive.mdoc import MAX_MDOC_BYTES
from ..archive.remote import AUTOMATIC, Archive, Connection
from ..archive.remote.texts import read_text
from ..archive.selection import GAIN, ImageFinder, RemoteFile
from ..archive.stopping import StopToken, within
from ..transfer.jobs import Job, Outcome
from ..transfer.unpack import SPARE_BYTES
from ..units import format_bytes, format_seconds
from .complete import arrived_paths
from .fetch import listing, record_path
from .lister import Lister
from .references import Search
from .remote_stream import size_of
from .request import Places, Request
from .space import existing, expected_bytes

logger = logging.getLogger(__name__)
# The rate is measured for so long at most, with so many bytes.
MEASURE_SECONDS, MEASURE_BYTES = 3.0, 64 << 20
# The gain reference is not checked where there are more candidates than this, nor for longer.
GAIN_CANDIDATES, GAIN_SECONDS = 8, 10.0


@dataclass(frozen=True)
class Plan:
    """Sizes in bytes, times in seconds; None where it is not known."""
    entry: str                  # 'EMPIAR-10200'
    image_set: str              # as ImageSet.describe has it
    counted: str                # what is counted: 'movies'
    one: str                    # one of these: 'movie'
    images: int                 # that would be fetched, of tilt series the series
    of: Optional[int]           # how many the image set has, by the entry or by what was listed
    files: int                  # all of them, with references and sidecar files
    bytes: int                  # of those whose size is listed
    without_size: int           # files whose size is not
    exact: bool                 # whether sizes are listed to the byte, as they are over FTP
    here: int                   # images that are in the folder already; they are not among the files
    skipped: Tuple[str, ...]    # what does not come, and why, a sentence each
    rate: Optional[float]       # bytes a second, of all connections
    free_bytes: Optional[int]   # on the disk of the folder
    disk_bytes: int             # what the files take there, unpacked
    gain_notes: Tuple[str, ...] = ()    # what is odd about the gain reference, a sentence each

    @property
    def seconds(self) -> Optional[float]:
        return 0.0 if not self.files else self.bytes / self.rate if self.rate else None

    @property
    def fits(self) -> bool:
        return self.free_bytes is None or not self.disk_bytes or self.disk_bytes + SPARE_BYTES <= self.free_bytes

    def as_data(self) -> Dict[str, Any]:
        return {"entry": self.entry, "image_set": self.image_set, "counted": self.counted, "images": self.images,
                "of": self.of, "files": self.files, "bytes": self.bytes, "files_without_size": self.without_size,
                "exact": self.exact, "here": self.here, "skipped": list(self.skipped),
                "bytes_per_second": self.rate and round(self.rate),
                "seconds": None if self.seconds is None else round(self.seconds, 1),
                "free_bytes": self.free_bytes, "disk_bytes": self.disk_bytes, "fits": self.fits,
                "gain_notes": list(self.gain_notes)}

    def counts(self, number: int) -> str:
        """'movie' or 'movies'"""
        return self.one if number == 1 else self.counted

    def in_short(self) -> str:
        """-> '12 movies, 7.4 GB, about 20 min 33 s, 310.0 GB free'"""
        told = ["%d %s" % (self.images, self.counts(self.images)), format_bytes(self.bytes)]
        told += ["%d are here already" % self.here] if self.here else []
        told += [] if self.seconds is None else ["about " + format_seconds(self.seconds)]
        if self.free_bytes is not None:
            told.append(format_bytes(self.free_bytes) + (" free" if self.fits else " free: IT DOES NOT FIT, "
                                                             "%s must stay free" % format_bytes(SPARE_BYTES)))
        return ", ".join(told)

    def as_lines(self) -> List[str]:
        """For people; the first line says of what it is."""
        about = "" if self.exact else "about "
        lines = ["%s, image set %s" % (self.entry, self.image_set),
                 "Images:  %d%s %s%s" % (self.images, "" if self.of is None else " of %d" % self.of,
                                         self.counts(self.of or self.images),
                                         ", %d more are here already" % self.here if self.here else ""),
                 "Files:   %d, %s%s%s" % (self.files, about, format_bytes(self.bytes),
                                          ", and %d whose size the server does not list" % self.without_size
                                          if self.without_size else "")]
        if not self.files:
            lines.append("Time:    none, nothing is to come")
        elif self.seconds is None:
            lines.append("Time:    not known: the rate could not be measured")
        else:
            lines.append("Time:    about %s, at the %.1f MB/s measured now" % (format_seconds(self.seconds),
                                                                              (self.rate or 0) / 1e6))
        if self.free_bytes is not None:
            lines.append("Disk:    %s free%s" % (format_bytes(self.free_bytes), ": it fits" if self.fits else
                                                 ": it does not fit, %s are needed, and %s must stay free" % (
                                                     format_bytes(self.disk_bytes), format_bytes(SPARE_BYTES))))
        return lines + ["Gain:    " + text for text in self.gain_notes] + ["Skipped: " + text for text in self.skipped]


def plan(entry: str, images: Optional[int] = 1, image_set: str = "", file_pattern: str = "", folder: str = ".",
         transport: str = AUTOMATIC, connections: int = 4, stopped: Optional[threading.Event] = None,
         measure: bool = True, shared: str = "") -> Plan:
    """What ``fetch`` with the same arguments would do. ``measure``: whether to find out the rate, for a few seconds.

    Raises ArchiveError and Stopped.
    """
    stop = StopToken(stopped)
    with listing(entry, image_set, file_pattern, transport, stop) as (finder, found, archive):
        chosen = finder.image_set
        request = Request(found.entry, chosen, images, file_pattern, registered=False)
        here = set()
        with contextlib.suppress(OSError):
            here = arrived_paths(folder, record_path(folder, found.entry, chosen))
        places = Places(folder, "", os.path.abspath(shared) if shared else "")
        return plan_request(
            finder, request, archive, lambda image: image.path in here or places.has_shared(request, image.path),
            shared or folder, connections, stop, measure)


def plan_request(finder: ImageFinder, request: Request, archive: Archive, is_here: Callable[[RemoteFile], bool],
                 folder: str, connections: int, stop: StopToken, measure: bool) -> Plan:
    """``is_here``: whether an image need not be fetched; ``folder``: whose disk it would go to.

    Raises ArchiveError and Stopped.
    """
    name, chosen = request.entry.name, request.image_set
    try:
        found = _listed(finder, request, archive, stop, is_here)
        notes = _gain_notes(archive, found, stop)
        rate = _measure(archive, found.images or found.others, connections, stop) if measure else None
    except RemoteError as error:
        msg = "The folders of %s cannot be listed (%s): check the network, then try again." % (name, error)
        raise EntryError(msg) from error
    usage = shutil.disk_usage(existing(folder))
    counted = {file.path: file for file in [*found.images, *found.others]}.values()
    return Plan(
        entry=name, image_set=chosen.describe(), counted=request.kind.many, one=request.kind.one,
        images=found.series if request.kind == TILT_SERIES else len(found.images),
        of=found.listed if found.exhausted else chosen.num_images,
        files=len(counted), bytes=sum(file.size or 0 for file in counted),
        without_size=sum(file.size is None for file in counted), exact=archive.tells_exact_sizes,
        here=found.here, skipped=tuple(_skipped(finder)), rate=rate,
        free_bytes=usage.free if usage.total else None,
        disk_bytes=sum(expected_bytes(file, chosen, request.unpacks) for file in counted), gain_notes=notes)


class _Listed(NamedTuple):
    images: List[RemoteFile]        # to be fetched
    others: List[RemoteFile]        # what belongs to them
    exhausted: bool                 # whether all of the image set was listed
    listed: int                     # images, or tilt series, that were listed
    series: int                     # how many tilt series are not whole yet, where it is of such
    here: int                       # images, or tilt series, that need not be fetched
    with_gain: Optional[RemoteFile]     # the first image that has a gain reference,
    gains: List[RemoteFile]         # and what may be it, the likeliest first


def _listed(finder: ImageFinder, request: Request, archive: Archive, stop: StopToken,
            is_here: Callable[[RemoteFile], bool]) -> _Listed:
    lister = Lister(finder, request, lambda path: read_text(archive, path, MAX_MDOC_BYTES, stop), lambda: False,
                    lambda: None, lambda images: None)
    images: List[RemoteFile] = []
    others: Dict[str, RemoteFile] = {}
    series: Dict[str, bool] = {}    # name -> whether something of it is to be fetched
    gains: List[RemoteFile] = []
    with_gain: Optional[RemoteFile] = None
    count, declared = 0, request.kind == TILT_SERIES

    def done(exhausted: bool) -> _Listed:
        if not declared:
            return _Listed(images, list(others.values()), exhausted, len(finder.known), 0, count - len(images),
                           with_gain, gains)
        wanted = sum(series.values())
        return _Listed(images, list(others.values()), exhausted, len(series), wanted, len(series) - wanted,
                       with_gain, gains)

    try:
        for batch in lister.batches():
            stop.check()
            more = request.amount is None or (len(series) if declared else count) < request.amount
            if not more and not (declared and batch.series is not None and batch.series.name in series):
                return done(False)
            its = batch.images
            if not declared and request.amount is not None:
                its = its[:request.amount - count]
            count += len(its)
            new = [image for image in its if not is_here(image)]
            images += new
            if batch.series is not None:
                series[batch.series.name] = series.get(batch.series.name, False) or bool(new)
            for image in new:
                others.update((file.path, file) for file in batch.companions.get(image.path, ()))
            if new:
                if with_gain is None and batch.references.get(GAIN):
                    with_gain, gains = new[0], batch.references[GAIN]
                # The likeliest candidates; others come only where those do not fit.
                likeliest = [files[0] for files in batch.references.values() if files] + list(batch.descriptions[:1])
                others.update((file.path, file) for file in likeliest)
            if new and batch.series is not None and batch.series.mdoc:
                others.setdefault(batch.series.mdoc, finder.listed(batch.series.mdoc))
            if len(its) < len(batch.images):
                return done(False)
        return done(not lister.limited)
    finally:
        lister.close()


def _gain_notes(archive: Archive, found: _Listed, stop: StopToken) -> Tuple[str, ...]:
    """What the run would say of the gain reference of the first image that has one, as far as a few bytes of the files
    tell; nothing where they cannot be had, or not soon."""
    if found.with_gain is None or len(found.gains) > GAIN_CANDIDATES:
        return ()
    movie, gains = found.with_gain, found.gains

    def look(connection: Connection) -> Tuple[str, ...]:
        size = size_of(connection, movie.path)
        if size is None or size.frames == 1:
            return ()       # no movie: the run skips it
        search = Search(GAIN, gains)
        outcomes: Dict[str, Outcome] = {}
        verdict = search.verdict((size.width, size.height), outcomes)
        while not verdict.settled and verdict.file is not None:
            path = verdict.file.path
            header = size_of(connection, path)
            outcomes[path] = Outcome(Job(path, ""), header=header and replace(header, frames=header.frames or 1))
            verdict = search.verdict((size.width, size.height), outcomes)
        return verdict.notes

    try:
        with contextlib.closing(archive.connect(stop=stop)) as connection:
            return within(GAIN_SECONDS, stop, lambda: look(connection), connection.abort)
    except (RemoteError, UnreachableError) as error:
        logger.info("The gain reference was not looked at (%s).", error)
        return ()


def _skipped(finder: ImageFinder) -> List[str]:
    told = list(finder.notes)
    told += ["%s could not be entered (%s): what is in it is missing." % lost for lost in finder.lost.items()]
    if finder.refused:
        told.append("%d names are not safe as names of local files, like %s." % (
            len(finder.refused), ascii(finder.refused[0])))
    return told


def _measure(archive: Archive, files: List[RemoteFile], connections: int, stop: StopToken) -> Optional[float]:
    """Bytes a second over so many connections; None where nothing came."""
    received = [0] * connections        # of each thread
    began = last_byte = time.monotonic()
    deadline = began + MEASURE_SECONDS

    def read(thread: int, its: List[RemoteFile]) -> None:
        nonlocal last_byte
        with contextlib.suppress(ArchiveError, RemoteError):
            connection = archive.connect(stop=stop)
            try:
                for file in its:
                    with connection.open(file.path, 0, None) as (_, stream):
                        while True:
                            data = stream.read(256 << 10)
                            last_byte = time.monotonic()
                            received[thread] += len(data)
                            if not data or last_byte > deadline or stop.is_set():
                                break
                            if sum(received) > MEASURE_BYTES:
                                return
                    if time.monotonic() > deadline or stop.is_set():
                        return
            finally:
                connection.close()

    with concurrent.futures.ThreadPoolExecutor(connections, "measure") as executor:
        for number in range(connections):
            its = files[number::connections][:8]
            if its:
                executor.submit(read, number, its)
    stop.check()
    return sum(received) / max(last_byte - began, 1e-3) or None
