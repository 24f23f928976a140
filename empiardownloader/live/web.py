# SPDX-License-Identifier: GPL-3.0-or-later
"""A page for browsers, of this machine or by ``ssh -L`` of any other, in place of a window."""
import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import socket
import stat
import sys
from typing import Any, Dict

from .backend import StreamingBackend
from .errors import LiveError
from .links import PublishingLink
from .napari import missing_here

logger = logging.getLogger(__name__)
PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class WebStreamingBackend(StreamingBackend):
    """Serves a page that shows images: ``places`` tells where. Several may watch; none of them can hold the program up.

    ``port``: of the page, on 127.0.0.1, a free one by default; ``socket_file``: in place of a port; ``leave_after``:
    seconds without a watcher after which the page is closed, None: never.
    """
    VIEWER_TYPE = "web"
    SHM_PREFIX = "empiar_web_"
    SCREEN = "live_web:WebScreen"
    LINK = PublishingLink

    def __init__(self, *args: Any, port: int = 0, socket_file: str = "", leave_after: Any = None,
                 **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._page_port, self._socket_file, self._leave_after = port, socket_file, leave_after

    def check(self) -> None:
        missing_here("live", "zmq")
        missing_here("web", "tornado")
        missing_here("picture", "PIL")
        if self._page_port:
            try:
                with contextlib.closing(socket.socket()) as trial:
                    trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    trial.bind(("127.0.0.1", self._page_port))
            except (OSError, OverflowError) as error:
                msg = "No page can be served at port %d (%s): choose another one." % (
                    self._page_port, (getattr(error, "strerror", None) or str(error)).lower())
                raise LiveError(msg) from error

    def cleanup(self) -> None:
        super().cleanup()
        if self._socket_file:
            # Where the viewer was killed.
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.stat(self._socket_file).st_mode):
                    os.unlink(self._socket_file)

    def _python(self) -> str:
        return sys.executable

    def _settings(self) -> Dict[str, Any]:
        return {"import_from": [PACKAGE_PARENT], "port": self._page_port, "socket_file": self._socket_file,
                "leave_after": self._leave_after, "page_token": page_token(self._page_port)}


def page_token(port: int) -> str:
    """What a watcher has to have. Of a port that was chosen the same each time, so that a page that is open comes back
    when the viewer was started again; it is kept by a secret of this account."""
    secret = _secret() if port else b""
    if port and not secret:
        logger.warning("No secret can be kept in %s: a page that is open will not come back by itself when the viewer "
                       "is started again.", os.path.dirname(_secret_path()))
    if not secret:
        return secrets.token_urlsafe(24)
    return hmac.new(secret, b"port %d" % port, hashlib.sha256).hexdigest()


def _secret_path() -> str:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "empiardownloader", "page_secret")


def _secret() -> bytes:
    """'' where none can be kept: pages then do not come back by themselves."""
    path = _secret_path()
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
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
