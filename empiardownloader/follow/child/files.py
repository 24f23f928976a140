# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces of files, for programs that open images of another machine.

Part of the child process (see __main__.py): standard library only, Python 3.6 or newer.
"""
import json
import os
import sys

# Before each message: what a login prints has none (the record separator of JSON text sequences).
MARK = b"\x1e"


def serve():
    """Answer lines of JSON {"path", "start", "length"} with a line {"size": of the file, "length": of what follows} or
    {"error": a sentence}, and the bytes; until the input ends."""
    # Ends the line of whatever a login printed before.
    sys.stdout.buffer.write(b"\n")
    for line in sys.stdin.buffer:
        request = json.loads(line.decode("ascii"))
        try:
            with open(request["path"], "rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                stream.seek(request["start"])
                data = stream.read(request["length"])
            answer = {"size": size, "length": len(data)}
        except OSError as error:
            data = b""
            answer = {"error": "%s cannot be read (%s)." % (request["path"], (error.strerror or "").lower())}
        sys.stdout.buffer.write(MARK + json.dumps(answer).encode("ascii") + b"\n" + data)
        sys.stdout.buffer.flush()
