# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files that are read into memory: descriptions of tilt series, workflows."""
from typing import Callable

from ..errors import TransientError
from ..stopping import NEVER, StopToken, within
from . import CONNECT_TIMEOUT, Archive, Connection

TEXT_SECONDS = 300      # for the largest of them over a slow line


def read_from(connection: Connection, path: str, server: str, most: int,
              check: Callable[[int], None] = lambda size: None) -> str:
    """The first ``most`` bytes of a file as text; ``check`` is told its size before, and may raise.

    Raises NotFoundError, BrokenFileError, TransientError.
    """
    with connection.open(path, 0, None) as (state, stream):
        check(state.size)
        content = stream.read_up_to(most)
        if len(content) < min(state.size, most):
            msg = "the %s sent %d of the %d bytes of %s" % (server, len(content), state.size, path)
            raise TransientError(msg)
        return content.decode("utf-8", "replace")


def read_text(archive: Archive, path: str, most: int, stop: StopToken = NEVER) -> str:
    """The same over a connection of its own. Raises UnreachableError and Stopped too."""
    connection = archive.connect(CONNECT_TIMEOUT, stop)
    try:
        return within(TEXT_SECONDS, stop, lambda: read_from(connection, path, archive.server, most), connection.abort)
    finally:
        connection.close()
