# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose fault it is when something cannot be had: the rules, without sockets, threads and clocks.

====================================================  ==============  ================================================
what happens                                          whose it is     what follows
====================================================  ==============  ================================================
refused, unreachable, no such name, proxy             the line's      all wait; after minutes without a byte the run
                                                                      ends with an error
BUSY_STATUSES; FTP 421 and 530 of too many logins     the server's    all wait as long as it asks for, with fewer
                                                                      connections, and the file lets others go first;
                                                                      never held against a file
reset, silence, 5xx, less than promised, 404, 403,    not known       held against the file where the server, asked at
a page in place of the file, another size                             once, gives bytes of another one; else it is the
                                                                      server's or the line's, and waited for
a name or size that the local disk does not take,     the file's      skipped at once
an empty file, pixels that cannot be
====================================================  ==============  ================================================

A file is skipped after so many faults that are held against it, without a byte gained in between. So is a folder; for
it the server is asked for the folder that was listed last.

Bytes of older requests do not count: a server that refuses new requests may still finish old ones.
"""
from ..archive.errors import BusyError, LineError, LocalNameError, NotFoundError, RemoteError, TransientError

# How many faults are held against a file before it counts as gone or broken at the source; a file that one of EMPIAR's
# load-balanced servers does not show may be there on the next.
TRIES_GONE, TRIES_BROKEN, TRIES_UNCLEAR = 3, 5, 6


def is_of_the_file(error: RemoteError) -> bool:
    """Whether it is the file's fault whatever else happens."""
    return isinstance(error, LocalNameError)


def is_held_against(error: RemoteError, gives_another: bool) -> bool:
    """Whether a fault counts against the file (or folder) it met; ``gives_another``: whether the server, asked right
    after it, gave something else."""
    if isinstance(error, (LineError, BusyError)):
        return False
    return gives_another or is_of_the_file(error)


def may_be_of_the_file(error: RemoteError) -> bool:
    """Whether it pays to ask the server for something else, to find out whose fault it is."""
    return not isinstance(error, (LineError, BusyError)) and not is_of_the_file(error)


def tries_for(error: RemoteError) -> int:
    """How many faults of a kind a file is granted."""
    if is_of_the_file(error):
        return 1
    if isinstance(error, NotFoundError):
        return TRIES_GONE
    return TRIES_UNCLEAR if isinstance(error, TransientError) else TRIES_BROKEN
