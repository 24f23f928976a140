# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with the archive.

Two families: an ``ArchiveError`` ends the run and its text is the one sentence a user reads; a
``RemoteError`` is the outcome of a single request, for the transfer to decide upon.
"""
import errno
import os
import re
import socket
import ssl
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


class BusyError(TransientError):
    """The server says that there are too many connections."""


class StoppedError(TransientError):
    """Nothing went wrong: the run is to end."""


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


def reason(error: BaseException) -> str:
    """A network error -> a few words: ConnectionRefusedError(111, ...) -> 'connection refused'.

    Built from the kind of the error and never from its text, which may hold the address of a proxy
    with its password.
    """
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "its TLS certificate is not trusted here"
        if isinstance(cause, ssl.SSLError):
            return "TLS error"
        if isinstance(cause, socket.gaierror):
            return "name not found in the DNS"
        if isinstance(cause, socket.timeout) or "Timeout" in type(cause).__name__:
            return "no answer in time"
        if isinstance(cause, ConnectionResetError):
            return "connection reset"
        if "ProxyError" in type(cause).__name__:
            return "the proxy does not let us through"
        if type(cause).__name__ == "TooManyRedirects":
            return "it is redirected in a circle"
        if isinstance(cause, OSError) and cause.errno in errno.errorcode:
            return os.strerror(cause.errno).lower()
        if isinstance(cause, EOFError) or type(cause).__name__ in ("IncompleteRead", "RemoteDisconnected"):
            return "connection closed early"
    return "connection lost"


def without_password(address: str) -> str:
    """'ftp://joe:secret@host/x' -> 'ftp://host/x', 'joe:secret@host' -> 'host'"""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)?.*@", lambda match: match.group(1) or "", address, flags=re.IGNORECASE)
