# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that say what they are told to, on loopback."""
import contextlib
import re
import socket
import threading
import time


@contextlib.contextmanager
def scripted(*answers, forever=b"", pause=0.0):
    """The port of a server that sends its answers, one for each line it reads, and then the same for ever."""
    server = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines, contextlib.suppress(OSError):
                for number, answer in enumerate(answers):
                    if number:
                        lines.readline()
                    connection.sendall(answer)
                while forever and not stop.is_set():
                    connection.sendall(forever)
                    time.sleep(pause)
                stop.wait(0.2)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        stop.set()
        with contextlib.suppress(OSError):
            socket.create_connection(server.getsockname(), 1).close()
        server.close()
        thread.join()


HANGS_UP, DEAF, NO_PASV, TRIES_ACTIVE, CLOSES = "hangs up", "deaf", "no PASV", "tries active mode", "closes the port"


@contextlib.contextmanager
def small_ftp(content, manner, since="USER"):
    """The port of an FTP server with the files a.mrc and b.mrc and its manner.

    hangs up: where a command comes before the one before it is answered, ``since`` being one of them; deaf: overhears
    such a command; no PASV: knows EPSV only; tries active mode: as well, and begins a transfer all the same; closes the
    port: where it refuses a transfer, before it says so.
    """
    answers = {b"USER": b"331 who", b"PASS": b"230 in", b"TYPE": b"200 binary", b"SIZE": b"213 %d" % len(content),
               b"MDTM": b"213 20200101000000", b"REST": b"350 from there", b"CWD": b"550 no such folder"}

    def converse(connection):
        start, data = 0, None
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"220 hello\r\n")
            while True:
                lines = connection.recv(4096).split(b"\r\n")[:-1]
                minded = len(lines) > 1 and any(line.startswith(since.encode()) for line in lines)
                if not lines or (minded and manner == HANGS_UP):
                    return
                for line in lines[:1] if minded and manner == DEAF else lines:
                    command, _, argument = line.partition(b" ")
                    missing = not argument.endswith((b"a.mrc", b"b.mrc"))
                    if command in (b"SIZE", b"MDTM", b"RETR") and missing:
                        if data is not None and manner == CLOSES:
                            data.close()
                            time.sleep(0.1)
                        connection.sendall(b"550 no such file\r\n")
                    elif command in (b"PASV", b"EPSV"):
                        if command == b"PASV" and manner in (NO_PASV, TRIES_ACTIVE):
                            connection.sendall(b"500 what?\r\n")
                            continue
                        data = socket.create_server(("127.0.0.1", 0))
                        port = data.getsockname()[1]
                        connection.sendall(b"229 Entering (|||%d|)\r\n" % port if command == b"EPSV" else
                                           b"227 Entering (127,0,0,1,%d,%d)\r\n" % divmod(port, 256))
                    elif command == b"RETR" and data is None:
                        connection.sendall(b"150 coming\r\n425 cannot connect\r\n" if manner == TRIES_ACTIVE
                                           else b"425 no data connection\r\n")
                    elif command == b"RETR":
                        connection.sendall(b"150 coming\r\n")
                        with data.accept()[0] as stream:
                            stream.sendall(content[start:])
                        data.close()
                        start, data = 0, None
                        connection.sendall(b"226 done\r\n")
                    else:
                        start = int(argument) if command == b"REST" else start
                        connection.sendall(answers[command] + b"\r\n")

    with conversing(converse) as port:
        yield port


ONE_EACH, NEW_COOKIES, MINDS_AHEAD, HEAD_LIES = "one each", "new cookies", "minds being asked ahead", "HEAD lies"
FORBIDS_HEAD, SLICE_BYTES = "forbids HEAD", 64 << 10


@contextlib.contextmanager
def small_http(content, manner=""):
    """The port of an HTTP server that has the same file under every name but "gone", and a list of its packets.

    A packet is the list of the (method, path) of the requests that came in it. hangs up: where a request comes before
    the one before it is answered; deaf: overhears such a request; one each: a connection serves one request, and
    the answer says so; new cookies: with every answer; minds being asked ahead: overhears what comes while it sends
    bytes; HEAD lies: tells another size than all other answers; forbids HEAD: though a file may be fetched.
    """
    packets = []

    def send_body(connection, body):
        if manner != MINDS_AHEAD:
            connection.sendall(body)
            return
        for start in range(0, len(body), SLICE_BYTES):
            connection.sendall(body[start:start + SLICE_BYTES])
            time.sleep(0.02)
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            connection.recv(65536)
        connection.setblocking(True)

    def converse(connection):
        with connection, contextlib.suppress(OSError):
            while True:
                heads = connection.recv(65536).split(b"\r\n\r\n")[:-1]
                if not heads or (len(heads) > 1 and manner == HANGS_UP):
                    return
                packets.append([tuple(head.split(b" ", 2)[:2]) for head in heads])
                for head in heads[:1] if manner == DEAF else heads:
                    method, path, _ = head.split(b" ", 2)
                    wanted = re.search(rb"\r\nRange: bytes=([0-9]+)-([0-9]*)", head)
                    start = int(wanted.group(1)) if wanted else 0
                    end = int(wanted.group(2)) + 1 if wanted and wanted.group(2) else len(content)
                    missing = path.endswith(b"gone")
                    body = b"" if missing or method == b"HEAD" else content[start:end]
                    status = b"404 Not Found" if missing else b"206 Partial" if wanted else b"200 OK"
                    length = 0 if missing else len(content) if method == b"HEAD" else len(body)
                    if method == b"HEAD" and manner == HEAD_LIES:
                        length = 5
                    if method == b"HEAD" and manner == FORBIDS_HEAD:
                        status = b"403 Forbidden"
                    more = {ONE_EACH: b"Connection: close\r\n", NEW_COOKIES: b"Set-Cookie: s=%d; path=/\r\n" % (
                        len(packets))}.get(manner, b"")
                    connection.sendall(b"HTTP/1.1 %s\r\nETag: x\r\nContent-Length: %d\r\n"
                                       b"Content-Range: bytes %d-%d/%d\r\n%s\r\n" % (
                                           status, length, start, end - 1, len(content), more))
                    send_body(connection, body)
                    if manner == ONE_EACH:
                        return

    with conversing(converse) as port:
        yield port, packets


@contextlib.contextmanager
def conversing(converse):
    """The port of a server that has a conversation with each who comes."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=converse, args=(server.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        socket.socket.shutdown(server, socket.SHUT_RDWR)
        server.close()
        thread.join()
