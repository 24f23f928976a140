# SPDX-License-Identifier: GPL-3.0-or-later
"""The small EMPIAR, all on loopback and on free ports: REST APIs, files over HTTP(S), files over FTP.

Every answer can be spoilt by a ``Fault``; every request is written down in ``requests``.
"""
import contextlib
from typing import Any, Dict, Optional

from .faults import API_PATH, EBI_SEARCH_PATH, EMDB_PATH, FILES_PATH, PICTURES_PATH, Play
from .http import start_http


class DemoArchive(Play):
    """Serves ``root``/<entry>/... and the metadata in ``entries``; use as a context manager."""

    def __init__(self, root: str, entries: Optional[Dict[str, Any]] = None, emdb: Optional[Dict[str, Any]] = None,
                 certificate: str = "", rate: int = 0):
        """``certificate``: a PEM file with key and certificate, to serve HTTPS; the others: see Play."""
        super().__init__(root, entries, emdb, rate)
        self._certificate = certificate
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "DemoArchive":
        # Only here: everything else of the demo, and the tests, can be imported without pyftpdlib.
        from .ftp import start_ftp
        with contextlib.ExitStack() as stack:
            self.http_port = start_http(self, self._certificate, stack)
            self.ftp_port = start_ftp(self, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def variables(self) -> Dict[str, str]:
        """The plugin's configuration variables that point to these servers."""
        scheme = "https" if self._certificate else "http"
        web = "%s://localhost:%d" % (scheme, self.http_port)
        return {"EMPIAR_API_URL": web + API_PATH, "EMDB_API_URL": web + EMDB_PATH, "EMPIAR_HTTPS_URL": web + FILES_PATH,
                "EBI_SEARCH_URL": web + EBI_SEARCH_PATH, "EMPIAR_PICTURE_URL": web + PICTURES_PATH,
                "EMPIAR_FTP_URL": "ftp://localhost:%d%s" % (self.ftp_port, FILES_PATH)}
