# SPDX-License-Identifier: GPL-3.0-or-later
"""How messages reach a viewer: a publishing socket with acknowledgements, or requests and replies (ZeroMQ).

Messages are JSON, with the bytes of images behind where shared memory has no room for them; never pickle, by which any
program that reaches the socket could run code here. The sender's sockets are bound to a folder that nobody else can
enter, or to 127.0.0.1, encrypted (CURVE); the viewer connects. All methods but ``wake`` belong to one thread.
"""
import abc
import contextlib
import json
import os
import secrets
import threading
from typing import Any, Dict, List, Sequence

from .errors import LiveError
from .window.live_messages import CONNECTED_ANEW, HELLO, PING, TYPE

IPC, TCP = "ipc", "tcp"
LOCAL = ("127.0.0.1", "localhost")
LOOK_SECONDS = 5.0      # between two checks whether the viewer lives; usually its end is noticed at once
PING_SECONDS = 0.5      # between two questions to a viewer that can only reply
Message = Dict[str, Any]


class Link(abc.ABC):
    """The sender's end. ``folder``: for the sockets, None for TCP; ``port``: of TCP, 0 for a free one."""

    # The sockets' names, in the order of the ports.
    NAMES: Sequence[str] = ()
    VIEWERS_END = ""        # a key of LINKS in window/live_link.py

    def __init__(self, folder: Any, port: int = 0) -> None:
        """Raises ImportError without pyzmq, zmq.ZMQError or OSError where the port or the folder cannot be used."""
        import zmq
        if folder is None and not zmq.has("curve"):
            msg = "This pyzmq cannot encrypt, so nothing is sent over TCP: leave that out, or install pyzmq from PyPI."
            raise LiveError(msg)
        self._zmq = zmq
        # Of its own, so that its end waits for nobody else's sockets.
        self._context = zmq.Context()
        self._folder, self._port = folder, port
        # Of a port of this machine anybody may listen, so what goes over it is encrypted, and only the viewer, which is
        # told the key on its standard input, gets in; the token tells it which sender it belongs to.
        self.token = secrets.token_hex(16)
        self.public_key, self._secret_key = (b"", b"") if folder is not None else zmq.curve_keypair()
        self._waking = threading.RLock()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._poller = zmq.Poller()
        self._poller.register(self._wake_read, zmq.POLLIN)
        self._sockets: Dict[str, Any] = {}
        self.addresses: Dict[str, str] = {}
        try:
            for number, (name, kind) in enumerate(zip(self.NAMES, self._kinds())):
                self._open(name, kind, port and port + number)
        except zmq.ZMQError:
            self.close()
            raise

    @abc.abstractmethod
    def _kinds(self) -> Sequence[int]:
        """The types of the sockets."""

    def _open(self, name: str, kind: int, port: int) -> None:
        zmq = self._zmq
        socket = self._context.socket(kind)
        self._sockets[name] = socket
        socket.setsockopt(zmq.LINGER, 0)
        if self._secret_key:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._secret_key)
        if kind == zmq.XPUB:
            # A full queue is an error and no silent loss.
            socket.setsockopt(zmq.XPUB_NODROP, 1)
            # A viewer that connects anew is noticed also before its former connection is seen to be gone.
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        socket.bind("tcp://127.0.0.1:%s" % (port or "*") if self._folder is None else
                    "ipc://%s/%s" % (self._folder, name))
        self.addresses[name] = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._poller.register(socket, zmq.POLLIN)

    def watch(self, descriptor: int, on: bool = True) -> None:
        """Let ``wait`` return also when this file descriptor has something to tell."""
        if on:
            self._poller.register(descriptor, self._zmq.POLLIN)
        else:
            self._poller.unregister(descriptor)

    def wake(self) -> None:
        """Let ``wait`` return; from any thread."""
        with self._waking:
            if self._wake_write >= 0:
                with contextlib.suppress(BlockingIOError):      # it is awake
                    os.write(self._wake_write, b".")

    def wait(self, seconds: float) -> List[int]:
        """Wait for an answer, a wake or a watched descriptor -> the watched ones that have something to tell."""
        ready = dict(self._poller.poll(max(0, int(1000 * seconds))))
        if self._wake_read in ready:
            os.read(self._wake_read, 1 << 16)
        return [found for found in ready if isinstance(found, int)]

    @abc.abstractmethod
    def answers(self) -> List[Message]:
        """What the viewer has said since."""

    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Whether there is a viewer that takes a message now."""

    @abc.abstractmethod
    def send(self, message: Message, parts: Sequence[Any]) -> bool:
        """Send a message to a viewer that is ready, with the bytes of images -> whether it was taken."""

    def keep_in_touch(self, now: float) -> float:
        """Ask for what the viewer has to say, where it cannot say it unasked -> seconds until the next time."""
        del now
        return LOOK_SECONDS

    def _encoded(self, message: Message) -> bytes:
        return json.dumps(dict(message, token=self.token)).encode("utf-8")

    def _decoded(self, word: bytes) -> List[Message]:
        """The answers in a message; none in one that is not of our viewer."""
        try:
            message = json.loads(word.decode("utf-8"))
            return message["answers"] if message["token"] == self.token else []
        except (ValueError, KeyError, TypeError):
            return []

    def close(self) -> None:
        for socket in self._sockets.values():
            socket.close(0)
        self._context.term()
        with self._waking:
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_write = -1


class PublishingLink(Link):
    """Publishes to the viewer that has subscribed; acknowledgements come by a socket of their own."""
    NAMES = ("images", "answers")
    VIEWERS_END = "subscribe"

    def __init__(self, folder: Any, port: int = 0) -> None:
        self._subscribed = self._said_hello = self._was_ready = False
        super().__init__(folder, port)

    def _kinds(self) -> Sequence[int]:
        return self._zmq.XPUB, self._zmq.PULL

    def answers(self) -> List[Message]:
        found = []
        for word in _received(self._zmq, self._sockets["images"]):
            self._subscribed = word[0][:1] == b"\x01"
            if self._subscribed and self._was_ready:
                # It has connected anew, and may have missed something in between.
                found.append({TYPE: CONNECTED_ANEW})
        for word in _received(self._zmq, self._sockets["answers"]):
            found += self._decoded(word[0])
        self._said_hello = self._said_hello or any(answer[TYPE] == HELLO for answer in found)
        self._was_ready = self._was_ready or self.is_ready()
        return found

    def is_ready(self) -> bool:
        # Hello comes by another way than the subscription, and may be the first to be there.
        return self._subscribed and self._said_hello

    def send(self, message: Message, parts: Sequence[Any]) -> bool:
        try:
            self._sockets["images"].send_multipart([self._encoded(message), *parts], self._zmq.NOBLOCK)
        except self._zmq.Again:
            return False
        return True


class RequestLink(Link):
    """Sends a request and waits for its reply, which acknowledges the images; what else the viewer has to say comes
    with the replies to questions in between. Only a viewer that is dead or frozen leaves a request without reply."""
    NAMES = ("requests",)
    VIEWERS_END = "reply"

    def __init__(self, folder: Any, port: int = 0) -> None:
        self._waiting = self._said_hello = False
        self._asked = 0.0
        super().__init__(folder, port)

    def _kinds(self) -> Sequence[int]:
        return (self._zmq.REQ,)

    def answers(self) -> List[Message]:
        found: List[Message] = []
        for word in _received(self._zmq, self._sockets["requests"]):
            self._waiting = False
            found += self._decoded(word[0])
        self._said_hello = self._said_hello or any(answer[TYPE] == HELLO for answer in found)
        return found

    def is_ready(self) -> bool:
        return self._said_hello and not self._waiting

    def send(self, message: Message, parts: Sequence[Any]) -> bool:
        try:
            self._sockets["requests"].send_multipart([self._encoded(message), *parts], self._zmq.NOBLOCK)
        except self._zmq.Again:
            return False        # nobody has connected yet
        self._waiting = True
        return True

    def keep_in_touch(self, now: float) -> float:
        if not self._waiting and now - self._asked >= PING_SECONDS:
            self._asked = now
            self.send({TYPE: PING}, ())
        return PING_SECONDS


def _received(zmq: Any, socket: Any) -> List[List[bytes]]:
    found = []
    while True:
        try:
            found.append(socket.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            return found
        except zmq.ZMQError as error:
            if error.errno == zmq.EFSM:
                return found    # a request socket that has asked nothing
            raise
