# SPDX-License-Identifier: GPL-3.0-or-later
"""Which transport to take."""
import logging
import threading
from typing import Callable, List, Tuple

from ..errors import ArchiveError, BrokenFileError, NotFoundError, StoppedError, TransientError, UnreachableError
from ..sessions import NEVER, within
from . import AUTOMATIC, CONNECT_SECONDS, CONNECT_TIMEOUT, FTP, HTTPS, STALL_TIMEOUT, Archive
from .ftp import FtpArchive
from .https import HttpArchive

logger = logging.getLogger(__name__)


def open_archive(entry: str, ftp_url: str, https_url: str, transport: str = AUTOMATIC,
                 timeout: float = STALL_TIMEOUT, stopped: threading.Event = NEVER) -> Archive:
    """The archive over the transport asked for, after it has shown that it lists the entry's folder.

    With ``automatic`` that is FTP, or HTTPS where FTP is refused, silent or reset.
    Raises UnreachableError when neither works, StoppedError; NotFoundError never: an unknown folder is one too.
    """
    offers: List[Tuple[Callable[..., Archive], str]] = []
    if transport in (AUTOMATIC, FTP):
        offers.append((FtpArchive, ftp_url))
    if transport in (AUTOMATIC, HTTPS):
        offers.append((HttpArchive, https_url))
    complaints = []
    for kind, url in offers:
        try:
            archive = kind(url, entry, timeout)
            _prove(archive, stopped)
        except StoppedError:
            raise
        except NotFoundError as error:
            complaints.append("it has no folder for entry %s (%s)" % (entry, error))
        except (TransientError, BrokenFileError) as error:
            complaints.append(str(error))
        except ArchiveError as error:
            if len(offers) == 1:
                raise
            complaints.append(str(error).rstrip("."))
        else:
            if complaints:
                logger.warning("FTP does not work here (%s): the files come over HTTPS.", "; ".join(complaints))
            return archive
    msg = "The files of EMPIAR-%s cannot be reached: %s. Check the network%s, then Continue." % (
        entry, "; ".join(complaints), "" if transport == AUTOMATIC else " or choose another transport")
    raise UnreachableError(msg)


def _prove(archive: Archive, stopped: threading.Event) -> None:
    connection = archive.connect(min(archive.timeout, CONNECT_TIMEOUT), stopped)
    try:
        within(CONNECT_SECONDS, stopped, lambda: connection.list_folder(""), connection.abort)
    finally:
        connection.close()
