# SPDX-License-Identifier: GPL-3.0-or-later
"""A screen without windows, in place of napari's or ImageJ's: the real process, sockets and loop, and faults by script.

The variable EMPIAR_TEST_WINDOW holds JSON: 'start' (seconds until it is ready), 'delay' (seconds an image takes),
'die_after' (so many images, with 'code' and last 'words'), 'forget' (so many images, then it connects anew).
"""
import json
import os
import sys
import time
import zlib

from live_loop import Screen
from live_messages import TYPE

WAIT_SECONDS = 0.01


class ScriptedScreen(Screen):

    def __init__(self, request):
        self._request = request
        self._script = json.loads(os.environ.get("EMPIAR_TEST_WINDOW", "{}"))
        self._order = []            # names of the images in the order in which they were taken

    def open(self):
        time.sleep(self._script.get("start", 0))
        take = self.model.take

        def slowly(image, array, keep=None):
            time.sleep(self._script.get("delay", 0))
            if len(self._order) == self._script.get("die_after", -1):
                sys.stderr.write(self._script.get("words", ""))
                sys.stderr.flush()
                os._exit(self._script.get("code", 1))
            stack = take(image, array, keep)
            self._order.append(image["display"]["name"])
            return stack

        self.model.take = slowly
        loop = self.want.__self__
        loop._link = Forgetful(loop._link, self._request, self._script.get("forget", 0))

    def run(self, turn, ending):
        while not ending.is_set():
            if not turn():
                time.sleep(WAIT_SECONDS)

    def draw(self, changed, any_taken):
        """Nothing is seen."""

    def looked_at(self):
        return {}

    def snapshot(self, folder):
        return {"order": self._order, "points": self.model.points, "title": self.model.title, "stacks": [
            {"name": self.model.name_of(stack), "kind": stack.kind, "source": stack.source, "pictures": [
                [picture.name, picture.remark, zlib.crc32(stack.pixels(picture).tobytes())]
                for picture in stack.pictures]}
            for stack in self.model.stacks.values()]}


class Forgetful:
    """A link that loses its first images, and connects anew then, as if the connection had been lost with them."""

    def __init__(self, link, request, count):
        self._link, self._request, self._count = link, request, count

    def messages(self, most):
        found = self._link.messages(1 if self._count else most)
        for message, _ in found if self._count else ():
            lost = message.get("images", [])[:self._count]
            message["images"] = message.get("images", [])[len(lost):]
            self._count -= len(lost)
            if lost and not self._count:
                self._link = type(self._link)(*(self._request[name] for name in ("addresses", "token", "key")))
        return [(message, parts) for message, parts in found if message.get("images") or message[TYPE] != "batch"]

    def __getattr__(self, name):
        return getattr(self._link, name)
