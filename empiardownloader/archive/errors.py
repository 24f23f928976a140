# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with the archive.

    ArchiveError                ends the run; its text is the one sentence that a user reads
        EntryError                  the entry, its metadata or the image set cannot be had
        UnreachableError            nobody answers, or nobody lets us in
        DiskError                   the local disk takes nothing more
    RemoteError                 the outcome of one request, for the transfer to decide upon
        TransientError              a later try may succeed
            LineError                   no connection could be made
            BusyError                   too many connections, or requests
        BrokenFileError             this file does not come as promised
            LocalNameError              the local disk takes other files, but not this one
        ChangedFileError            it is another version by now
        NotFoundError               there is no such file or folder
        NoRangesError               the server cannot start in the middle of a file

A run that is told to end raises ``Stopped``, which is no error.
"""
import email.utils
import errno
import os
import re
import socket
import ssl
import time
from typing import Iterator


class ArchiveError(Exception):
    """Ends the run. ``str()`` says what happened, to which entry or file, and what to do."""


class EntryError(ArchiveError):
    """The entry, its metadata or the wanted image set cannot be had."""


class UnreachableError(ArchiveError):
    """Nobody answers, or the server refuses to serve us at all."""


class DiskError(ArchiveError):
    """The local disk does not take the data."""


class RemoteError(Exception):
    """One request failed; the sentence names server and reason."""


class TransientError(RemoteError):
    """A fault of the line or the server that a later try may not meet."""


class LineError(TransientError):
    """No connection could be made, which says nothing of the file that was asked for."""


class BusyError(TransientError):
    """The server says that there are too many connections, or requests.

    ``retry_after``: seconds that it asks to wait, 0 where it says nothing.
    """

    def __init__(self, text: str, retry_after: float = 0.0):
        super().__init__(text)
        self.retry_after = retry_after


class Stopped(Exception):  # noqa: N818 - it is none
    """Nothing went wrong: the run is to end. Of neither family of errors, so that nobody tries again."""

    def __init__(self, text: str = "stopped") -> None:
        super().__init__(text)


StoppedError = Stopped      # deprecated: its name up to version 1.1


# What HTTP statuses mean, of files and of the APIs alike; FTP's codes are in remote/ftp.py.
GONE_STATUSES, BUSY_STATUSES = (404, 410), (429, 503)


def may_succeed_later(status: int) -> bool:
    """Whether a request that was answered with a status is worth another try."""
    return status >= 500 or status == 408 or status in BUSY_STATUSES


class BrokenFileError(RemoteError):
    """The server answers, but this file does not come as promised (short, unreadable there)."""


class LocalNameError(BrokenFileError):
    """The local disk takes other files but not this one: its name is too long, or its size."""


class ChangedFileError(RemoteError):
    """The file is not the version any more that the download began with."""


class NotFoundError(RemoteError):
    """The server has no such file or folder."""


class NoRangesError(RemoteError):
    """The server cannot start in the middle of a file."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen = set()
    queue = [error]
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        followers = [current.__cause__, current.__context__, getattr(current, "reason", None)]
        followers.extend(current.args)
        queue.extend(item for item in followers if isinstance(item, BaseException))


# Errors of a connection that is being made. A refused one is the line's also where it is the server's: it says nothing
# of a file.
UNREACHED = (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN,
             errno.EADDRNOTAVAIL)
UNREACHED_NAMES = ("NotConnectedError", "NewConnectionError", "ConnectTimeoutError", "ConnectTimeout",
                   "NameResolutionError", "ProxyError", "ProxyConnectionError", "InvalidSchema")
# OpenSSL's numbers of what is wrong with a certificate.
CERTIFICATE_REASONS = {
    9: "its TLS certificate is not valid yet: check this machine's clock",
    10: "its TLS certificate has expired: check this machine's clock, else tell the server's owner",
    62: "its TLS certificate is for another host: check the address",
    64: "its TLS certificate is for another host: check the address"}
UNTRUSTED = "its TLS certificate is not trusted here"


def is_of_the_line(error: BaseException) -> bool:
    """Whether no connection could be made at all."""
    return any(isinstance(cause, socket.gaierror) or type(cause).__name__ in UNREACHED_NAMES
               or (isinstance(cause, OSError) and cause.errno in UNREACHED) for cause in _causes(error))


def retry_after(header: str) -> float:
    """'120' -> 120.0, 'Wed, 21 Oct 2026 07:28:00 GMT' -> seconds from now, '' and what is neither -> 0.0"""
    if re.fullmatch("[0-9]{1,9}", header.strip()):
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError, IndexError):
        return 0.0


def reason(error: BaseException) -> str:
    """A network error -> a few words: ConnectionRefusedError(111, ...) -> 'connection refused'.

    Built from the kind of the error and never from its text, which may hold the address of a proxy
    with its password.
    """
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CERTIFICATE_REASONS.get(cause.verify_code, UNTRUSTED)
        if isinstance(cause, ssl.SSLError):
            return "TLS error"
        if isinstance(cause, socket.gaierror):
            return "name not found in the DNS"
        if isinstance(cause, socket.timeout) or "Timeout" in type(cause).__name__:
            return "no answer in time"
        # Not connected any more: it was reset before anything was asked of it.
        if isinstance(cause, ConnectionResetError) or getattr(cause, "errno", None) == errno.ENOTCONN:
            return "connection reset"
        if "SOCKS" in str(cause) and "depend" in str(cause):
            return "a SOCKS proxy is set, for which Python needs another package: pip install pysocks"
        if isinstance(cause, OSError) and "CA certificate bundle" in str(cause):
            return "the certificates that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names are not there: correct it"
        if isinstance(cause, OSError) and re.search(r"unnel connection failed: 407|Proxy Authentication", str(cause)):
            return "the proxy wants a login: put it into HTTPS_PROXY, as http://name:password@proxy:port"
    for cause in _causes(error):
        if "ProxyError" in type(cause).__name__:
            return "the proxy does not let us through"
        if type(cause).__name__ == "TooManyRedirects":
            return "it is redirected in a circle"
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno in errno.errorcode:
            return os.strerror(cause.errno).lower()
        if isinstance(cause, EOFError) or type(cause).__name__ in ("IncompleteRead", "RemoteDisconnected"):
            return "connection closed early"
    return "connection lost"


def without_password(address: str) -> str:
    """'ftp://joe:secret@host/x' -> 'ftp://host/x', 'joe:secret@host' -> 'host'"""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)?.*@", lambda match: match.group(1) or "", address, flags=re.IGNORECASE)
