# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP(S) server of the small EMPIAR: REST APIs and files."""
import contextlib
import csv
import email.utils
import html
import http.server
import io
import json
import os
import posixpath
import socket
import ssl
import threading
import time
from typing import Any, Dict, Iterator, Optional, Tuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

from .faults import (
    API_PATH,
    BUSY,
    CIRCLE,
    DROP,
    EBI_SEARCH_PATH,
    EMDB_PATH,
    EMDB_REF_PATH,
    EMDB_SEARCH_PATH,
    ERROR,
    FILES_PATH,
    FORBIDDEN,
    GONE,
    OTHER_RANGE,
    OTHER_VERSION,
    PAGE,
    PICTURES_PATH,
    PROHIBITED,
    SHORT,
    SHORT_FILE,
    STALL,
    Fault,
    Play,
    reset,
)

CHUNK_BYTES = 16 << 10
MAINTENANCE = b"<html><title>Maintenance</title><body>Back soon: <a href='/status.html'>status</a></body></html>"


def start_http(play: Play, certificate: str, stack: contextlib.ExitStack) -> int:
    """Serve until the stack is closed, over TLS where a PEM file with key and certificate is given -> the port."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass    # clients that hang up are part of the play

    class Handler(_HttpHandler):
        demo = play

    server = Server(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    stack.callback(_hang_up, play)
    stack.callback(thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return server.server_address[1]


def _hang_up(play: Play) -> None:
    for connection in list(play.connections):
        # Closing it would only mark it: the handler's own thread still holds it.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Pace:
    """Sleeps so that a connection stays below the archive's rate, also after a moment in which it could not send."""

    MADE_UP_SECONDS = 0.1       # of such a moment

    def __init__(self, rate: int):
        self._rate, self._due = rate, time.monotonic()

    def sent(self, count: int) -> None:
        if self._rate:
            now = time.monotonic()
            self._due = max(self._due, now - self.MADE_UP_SECONDS) + count / self._rate
            if self._due > now:
                time.sleep(self._due - now)


class _HttpHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 0
    demo: Play

    def log_message(self, *args: Any) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.demo.connections.add(self.connection)

    def finish(self) -> None:
        self.demo.connections.discard(self.connection)
        super().finish()

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        """Many entries in one answer: the body is '10000-10499', or '10050,10054,10060-10072'."""
        wanted = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode("ascii", "replace").strip()
        path = unquote(urlsplit(self.path).path)
        self.demo.note("POST %s %s" % (path, wanted))
        time.sleep(self.demo.delay)
        if path.rstrip("/") != API_PATH:
            return self._send(405, b"no", "text/plain")
        found = {}
        for part in wanted.split(","):
            first, _, last = part.strip().partition("-")
            for number in map(str, range(int(first), int(last or first) + 1)):
                record = self.demo.entries.get(number)
                if isinstance(record, dict):
                    found["EMPIAR-" + number] = {name: value for name, value in record.items()
                                                 if name != "imagesets"} if self.demo.short_records else record
        return self._send_service("api/" + wanted, json.dumps(found).encode(), "application/json")

    def _send_service(self, name: str, body: bytes, kind: str) -> None:
        """An answer of a service, spoilt as a fault for ``name`` says."""
        fault = self.demo.fault_for(name)
        if fault is None:
            return self._send(200, body, kind)
        if fault.kind in (ERROR, BUSY):
            return self._send(500 if fault.kind == ERROR else 503, b"<html>the service is unwell</html>", "text/html")
        if fault.kind == SHORT:
            return self._send(200, body[:len(body) // 2], kind)
        return self._break_off(fault)

    def _break_off(self, fault: Fault) -> None:
        """Say no more, or hang up."""
        if fault.kind == STALL:
            self.connection.settimeout(600)
            with contextlib.suppress(OSError):
                self.connection.recv(1)     # until the client hangs up
        else:
            reset(self.connection)
        self.close_connection = True

    def _answer_search(self, path: str) -> None:
        """EMDB's search as a table, EBI Search, and EMPIAR's entries by EMDB record."""
        asked = parse_qs(urlsplit(self.path).query)
        if path.startswith(EMDB_SEARCH_PATH):
            fields = asked.get("fl", ["emdb_id"])[0].split(",")
            table = io.StringIO()
            writer = csv.DictWriter(table, fields, extrasaction="ignore", restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.demo.emdb_rows)
            return self._send_service("emdb/search", table.getvalue().encode(), "text/csv")
        entries = {number: record for number, record in self.demo.entries.items() if isinstance(record, dict)}
        if path.startswith(EMDB_REF_PATH):
            wanted = path.rpartition("/")[2]
            found = {"EMPIAR-" + number: record for number, record in entries.items()
                     if wanted in json.dumps(record.get("cross_references"))}
            return self._send_service("api/emdb_ref", json.dumps(found).encode(), "application/json")
        words = asked.get("query", [""])[0].lower()
        listed = [{"id": "EMPIAR-" + number, "source": "empiar", "fields": {"title": [record.get("title", "")]}}
                  for number, record in entries.items() if words in json.dumps(record).lower()]
        return self._send_service("ebisearch", json.dumps({"hitCount": len(listed), "entries": listed}).encode(),
                                  "application/json")

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.demo.note("%s %s" % (self.command, path))
        time.sleep(self.demo.delay)
        if path.startswith(PICTURES_PATH + "/"):
            picture = self.demo.pictures.get(path[len(PICTURES_PATH) + 1:].partition("-l.gif")[0])
            return self._send(404, b"none", "text/plain") if picture is None else self._send_service(
                path.strip("/"), picture, "image/gif")
        if path.startswith((EMDB_SEARCH_PATH, EMDB_REF_PATH, EBI_SEARCH_PATH)):
            return self._answer_search(path)
        for prefix, records in ((API_PATH, self.demo.entries), (EMDB_PATH, self.demo.emdb)):
            if path.startswith(prefix + "/"):
                return self._answer_api(path[len(prefix):].strip("/"), prefix, records)
        if path.rstrip("/") == FILES_PATH or path.startswith(FILES_PATH + "/"):
            return self._answer_file(path[len(FILES_PATH):])
        return self._send(404, b"not here", "text/plain")

    def _answer_api(self, name: str, prefix: str, records: Dict[str, Any]) -> None:
        number = name.replace("EMPIAR-", "") if prefix == API_PATH else name
        record = records.get(number)
        if record is None:
            return self._send(404, b'{"detail": "Not found."}', "application/json")
        if isinstance(record, int):
            return self._send(record, b"<html>the server is unwell</html>", "text/html")
        if isinstance(record, bytes):
            return self._send(200, record, "text/html")
        body = {"EMPIAR-" + number: record} if prefix == API_PATH else record
        return self._send(200, json.dumps(body).encode(), "application/json")

    def _answer_file(self, path: str) -> None:
        local = os.path.join(self.demo.root, *[part for part in path.split("/") if part not in ("", "..")])
        fault = self.demo.fault_for(path)
        refusals = {GONE: 404, BUSY: 503, ERROR: 500, FORBIDDEN: 403, PROHIBITED: 405, CIRCLE: 302}
        if fault is not None and fault.kind in refusals:
            status = refusals[fault.kind]
            if fault.kind == CIRCLE:
                return self._send(status, b"", "text/html", {"Location": self.path})
            return self._send(status, b"<html>no</html>", "text/html")
        if fault is not None and fault.kind == PAGE:
            return self._send(200, MAINTENANCE, "text/html")
        if os.path.isdir(local):
            if not self.path.split("?")[0].endswith("/"):
                return self._send(301, b"", "text/html", {"Location": self.path + "/"})
            return self._send(200, _apache_listing(path, local).encode("utf-8", "surrogateescape"), "text/html")
        try:
            stream = open(local, "rb")  # noqa: SIM115 - closed below
        except OSError:
            return self._send(404, b"<html>not found</html>", "text/html")
        with stream:
            return self._send_file(stream, fault)

    def _send(self, status: int, body: bytes, kind: str, headers: Optional[Dict[str, str]] = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_file(self, stream: Any, fault: Optional[Fault]) -> None:
        stat = os.fstat(stream.fileno())
        tag = '"%x-%x"' % (stat.st_size, stat.st_mtime_ns)
        modified = stat.st_mtime
        if fault is not None and fault.kind == OTHER_VERSION:
            self.demo.answers += 1
            tag, modified = '"server-%d"' % self.demo.answers, self.demo.answers
        size = stat.st_size
        if fault is not None and fault.kind == SHORT_FILE:
            size = min(fault.after, size)
        start, end, status = 0, size, 200
        wanted = self.headers.get("Range", "")
        if self.demo.ranges and wanted.startswith("bytes=") and self.headers.get("If-Range", tag) == tag:
            first, _, last = wanted[6:].partition("-")
            start, end, status = int(first), min(int(last or size) + 1, size), 206
        if fault is not None and fault.kind == OTHER_RANGE:
            start, end = 0, end - start
        promised = end - start
        if fault is not None and fault.kind == SHORT:
            promised = min(promised, max(fault.after - start, 0))
        self.send_response(status)
        self.send_header("Content-Length", str(promised if self.command == "GET" else size))
        if self.demo.versions:
            self.send_header("ETag", tag)
            self.send_header("Last-Modified", email.utils.formatdate(modified, usegmt=True))
        if self.demo.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", "bytes %d-%d/%d" % (start, end - 1, size))
        self.end_headers()
        if self.command != "GET":
            return
        pace, position = _Pace(self.demo.rate), start
        stream.seek(start)
        while position < start + promised:
            if fault is not None and fault.kind in (DROP, STALL) and position >= fault.after:
                self._break_off(fault)
                return
            limit = start + promised
            if fault is not None and fault.kind in (DROP, STALL):
                limit = min(limit, max(fault.after, position + 1))
            block = stream.read(min(CHUNK_BYTES, limit - position))
            self.wfile.write(block)
            self.demo.add_sent(len(block))
            position += len(block)
            pace.sent(len(block))


def _apache_listing(path: str, folder: str) -> str:
    rows = ['<tr><td><a href="?C=N;O=D">Name</a></td></tr>',
            '<tr><td><a href="%s/">Parent Directory</a></td></tr>' % posixpath.dirname(path.rstrip("/"))]
    for name, is_folder, size in _listed(folder):
        shown = name + "/" if is_folder else name
        rows.append('<tr><td><a href="%s">%s</a></td><td align="right">2026-11-21 01:18</td>'
                    '<td align="right">%s</td></tr>' % (quote(shown.encode("utf-8", "surrogateescape")), html.escape(
                        shown), "-" if is_folder else _rounded(size)))
    return "<html><body><h1>Index of %s</h1><table>%s</table></body></html>" % (html.escape(path), "\n".join(rows))


def _listed(folder: str) -> Iterator[Tuple[str, bool, int]]:
    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        if entry.name != ".ftp":
            yield entry.name, entry.is_dir(), entry.stat().st_size


def _rounded(size: int) -> str:
    """16777216 -> '16M', as Apache writes it"""
    for unit in ("", "K", "M", "G"):
        if size < 1000 or unit == "G":
            return "%.1f%s" % (size, unit) if unit and size < 10 else "%d%s" % (size, unit)
        size = size / 1024
    return ""
