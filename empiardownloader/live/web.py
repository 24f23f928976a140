# SPDX-License-Identifier: GPL-3.0-or-later
"""A page for browsers, of this machine or by ``ssh -L`` of any other, in place of a window."""
import contextlib
import os
import socket
import sys
from typing import Any, Dict

from ..local_access import is_taken, kept_token
from .backend import StreamingBackend
from .errors import LiveError
from .links import PublishingLink
from .napari import missing_here

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
        if self._socket_file and is_taken(self._socket_file):
            msg = "No page can be served at %s (it is in use): choose another file." % self._socket_file
            raise LiveError(msg)
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
        # Where the viewer was killed; another one may be at the same file by now.
        if self._socket_file and self._was_opened:
            with contextlib.suppress(OSError):
                if not is_taken(self._socket_file):
                    os.unlink(self._socket_file)

    def _python(self) -> str:
        return sys.executable

    def _settings(self) -> Dict[str, Any]:
        return {"import_from": [PACKAGE_PARENT], "port": self._page_port, "socket_file": self._socket_file,
                "leave_after": self._leave_after, "page_token": kept_token(self._page_port)}
