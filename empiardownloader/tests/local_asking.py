# SPDX-License-Identifier: GPL-3.0-or-later
"""Those who ask a local server, with a right to it and without."""
import contextlib
import hashlib
import http.client
import json


class Reader:
    """As much of a browser's EventSource as is needed."""

    def __init__(self, port, token, path="/events", **headers):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.connection.request("GET", path, headers=dict({"Authorization": "Bearer " + token}, **{
            name.replace("_", "-"): value for name, value in headers.items()}))
        self.response = self.connection.getresponse()

    def next(self):
        """-> (id, event, data), or None at the end."""
        told = {}
        while True:
            line = self.response.readline().decode()
            if not line.endswith("\n"):
                return None
            line = line.rstrip("\n")
            if not line and "event" in told:
                return told.get("id"), told["event"], json.loads(told["data"])
            name, _, value = line.partition(": ")
            if name in ("id", "event", "data"):
                told[name] = value

    def close(self):
        self.connection.close()


def ask(port, path="/events", method="GET", most=200, **headers):
    """-> status, headers, the first bytes of the content"""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read(most)


def check_refusals(case, port, token, path, secret):
    """Whoever has no right to ask gets nothing -> the headers of somebody who has."""
    good = {"Authorization": "Bearer " + token}
    cookie = "empiar_token_%s=" % hashlib.sha256(token.encode()).hexdigest()[:12]
    for expected, place, method, headers in (
            (401, path, "GET", {}), (401, "/", "GET", {}), (401, path + "?token=x", "GET", {}),
            (401, path, "GET", {"Authorization": "Bearer " + token[:-1]}),
            (401, path, "GET", {"Authorization": "Bearer "}), (401, path + "?token=", "GET", {}),
            (401, path, "GET", {"Cookie": cookie + "x"}),
            (401, path, "GET", {"Cookie": "empiar_token_1=" + token}),
            (403, path, "GET", dict(good, Host="evil.example")),
            (403, path, "GET", dict(good, Host="evil.example:%d" % port)),
            (403, path, "GET", dict(good, Host="127.0.0.1.evil.example")),
            (403, path, "GET", dict(good, Host="")),
            (403, path, "GET", dict(good, Origin="http://evil.example")),
            (403, path, "GET", dict(good, Origin="null")),
            (403, path, "GET", dict(good, Origin="http://127.0.0.1:1")),
            (403, path, "GET", dict(good, Sec_Fetch_Site="cross-site")),
            (403, path, "GET", dict(good, Sec_Fetch_Site="same-site")),
            (405, path, "PUT", good), (405, "/", "POST", good), (405, "/", "DELETE", good),
            (405, path, "OPTIONS", good),
            (404, "/../../etc/passwd", "GET", good), (404, path + "/%2e%2e/x", "GET", good),
            (404, "/static/x", "GET", good), (404, "//evil.example" + path, "GET", good)):
        with case.subTest(path=place, method=method, headers=headers):
            status, answered, content = ask(port, place, method, **headers)
            case.assertEqual(expected, status, content)
            case.assertNotIn(secret, content)
            case.assertNotIn(b"Traceback", content)
            case.assertNotIn(token, str(answered) + content.decode())
            case.assertEqual("nosniff", answered.get("X-Content-Type-Options"), answered)
    return good
