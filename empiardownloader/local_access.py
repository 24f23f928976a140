# SPDX-License-Identifier: GPL-3.0-or-later
"""The access token of local servers (local_server.py), and who owns a socket file; standard library only."""
import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import socket
import stat

from .constants import cache_folder

logger = logging.getLogger(__name__)


def kept_token(port: int) -> str:
    """What a watcher has to have. Of a port that was chosen the same each time, so that a page that is open comes back
    when the viewer was started again; it is kept by a secret of this account."""
    secret = _secret() if port else b""
    if port and not secret:
        logger.warning("No secret can be kept in %s: what was open will not come back by itself when this is "
                       "started again.", cache_folder())
    if not secret:
        return secrets.token_urlsafe(24)
    return hmac.new(secret, b"port %d" % port, hashlib.sha256).hexdigest()


def is_taken(path: str) -> bool:
    """Whether another server listens at a socket file, or there is a file of another kind. Raises OSError."""
    if not os.path.lexists(path):
        return False
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as other:
        return not (os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode)) or other.connect_ex(path) == 0


def _secret() -> bytes:
    """'' where none can be kept: pages then do not come back by themselves."""
    path = os.path.join(cache_folder(), "page_secret")
    with contextlib.suppress(OSError):
        os.makedirs(cache_folder(), mode=0o700, exist_ok=True)
        temporary = "%s.%d" % (path, os.getpid())
        try:
            # Written whole before it has its name: several may be the first.
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
                stream.write(secrets.token_bytes(32))
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        found = os.stat(path)
        if found.st_uid == os.getuid() and not found.st_mode & 0o077:
            with open(path, "rb") as stream:
                return stream.read()
    return b""
