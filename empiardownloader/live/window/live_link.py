# SPDX-License-Identifier: GPL-3.0-or-later
"""The viewer's end of the sockets, and the images in shared memory. Needs pyzmq and numpy; sockets stay in the thread
that made them."""
import collections
import contextlib
import json
import mmap
import os
import shutil

import numpy
import zmq
from live_messages import IMAGE, SHARED_MEMORY

# Ids that are remembered: more than can be under way at a time, so that what comes twice is shown once.
RECENT = 1000


class ImageError(Exception):
    """An image that cannot be had, in words for the user."""


class Link:
    """Messages in, answers out."""

    def __init__(self, token, key):
        """``key``: of the sender, '' where its sockets are in a folder that nobody else can enter."""
        self._context = zmq.Context()
        self._token, self._key = token, key.encode("ascii")
        self._recent = collections.OrderedDict()

    def _socket(self, kind, address):
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        if self._key:
            public, secret = zmq.curve_keypair()
            for option, value in ((zmq.CURVE_SERVERKEY, self._key), (zmq.CURVE_PUBLICKEY, public),
                                  (zmq.CURVE_SECRETKEY, secret)):
                socket.setsockopt(option, value)
        if kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(address)
        return socket

    def is_new(self, image):
        """Whether an image has not come before."""
        if image["image_id"] in self._recent:
            return False
        self._recent[image["image_id"]] = None
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        return True

    def _decoded(self, frames):
        """[(message, parts)], none of a message that is not of our sender."""
        try:
            message = json.loads(frames[0].decode("utf-8"))
            return [(message, frames[1:])] if message["token"] == self._token else []
        except (ValueError, KeyError, TypeError):
            return []

    def _encoded(self, answers):
        return json.dumps({"token": self._token, "answers": answers}).encode("utf-8")

    @staticmethod
    def array(image, parts):
        """The pixels of an image, a copy (height, width); None of shapes. Raises ImageError."""
        if image["data_type"] != IMAGE:
            return None
        kind, shape = numpy.dtype(image["dtype"]), tuple(image["shape"])
        count = int(numpy.prod(shape))
        if "part" in image:
            return numpy.frombuffer(parts[image["part"]], kind, count).reshape(shape)
        try:
            with open(os.path.join(SHARED_MEMORY, os.path.basename(image["shm_name"])), "rb") as stream, \
                    mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as memory:
                view = numpy.frombuffer(memory, kind, count)
                copy = view.reshape(shape).copy()
                # As long as there is a view the memory cannot be closed.
                del view
                return copy
        except (OSError, ValueError) as error:
            raise ImageError("its shared memory cannot be read (%s)" % error) from error


class SubscribingLink(Link):
    """Images are published, answers have a socket of their own."""

    def __init__(self, addresses, token, key):
        super().__init__(token, key)
        self._images = self._socket(zmq.SUB, addresses["images"])
        self._answers = self._socket(zmq.PUSH, addresses["answers"])

    def answer(self, **words):
        self._answers.send(self._encoded([words]))

    def messages(self, most):
        """At most so many messages that are there -> [(message, parts)]"""
        found = []
        while len(found) < most:
            try:
                frames = self._images.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            found += self._decoded(frames)
        return found

    def answered(self):
        """All that was asked by the messages so far has its answers."""


class ReplyingLink(Link):
    """Each request has one reply, with all answers that there are."""

    def __init__(self, addresses, token, key):
        super().__init__(token, key)
        self._requests = self._socket(zmq.REP, addresses["requests"])
        self._waiting = []
        self._owes = False

    def answer(self, **words):
        self._waiting.append(words)

    def messages(self, most):
        try:
            frames = self._requests.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return []
        self._owes = True
        return self._decoded(frames)

    def answered(self):
        if self._owes:
            self._requests.send(self._encoded(self._waiting))
            self._waiting, self._owes = [], False


LINKS = {"subscribe": SubscribingLink, "reply": ReplyingLink}


def remove_all(prefix, folders):
    """What a sender that is gone has left."""
    try:
        names = os.listdir(SHARED_MEMORY)
    except OSError:
        names = []
    for name in names:
        if name.startswith(prefix):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(SHARED_MEMORY, name))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
