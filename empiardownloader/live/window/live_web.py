# SPDX-License-Identifier: GPL-3.0-or-later
"""A page in place of a window: this process serves it, any number of browsers watch."""
import asyncio
import json
import os
import time

import numpy
from live_loop import Screen
from live_page import PageServer
from PIL import Image

from empiardownloader.images.picture import grey

WAIT_SECONDS = 0.05
# After a message more come soon.
SHORT_SECONDS, SHORT_FOR_SECONDS = 0.003, 0.5


class WebScreen(Screen):
    """``request`` names the page's port or socket_file, its page_token, and leave_after (seconds)."""

    def __init__(self, request):
        self._request = request
        self._server = None

    def open(self):
        request = self._request
        self._server = PageServer(self.model, self.want, request["port"], request["socket_file"],
                                  request["page_token"])

    def places(self):
        return self._server.places("Page")

    def run(self, turn, ending):
        asyncio.run(self._serve(turn, ending))

    async def _serve(self, turn, ending):
        self._server.begin()
        leave_after, busy = self._request["leave_after"], 0.0
        while not ending.is_set():
            now = time.monotonic()
            busy = now if turn() else busy
            # Between two turns the watchers have theirs.
            await asyncio.sleep(SHORT_SECONDS if now - busy < SHORT_FOR_SECONDS else WAIT_SECONDS)
            if leave_after is not None and now - self._server.watched_at() > leave_after:
                break
        await self._server.end()

    def draw(self, changed, any_taken):
        if changed or any_taken or self._server.has_lost():
            self._server.tell_changed()

    def looked_at(self):
        """Each watcher looks at something else."""
        return {}

    def offer_frames(self):
        self._server.offers_frames = True

    def entitle(self):
        if self._server is not None:
            self._server.tell_changed()

    def snapshot(self, folder):
        """The newest image of each stack; there is no window, so ``window.png`` is the first of these."""
        os.makedirs(folder, exist_ok=True)
        layers = []
        for number, stack in enumerate(self.model.stacks.values()):
            picture, pixels = stack.pictures[-1], stack.pixels(stack.pictures[-1])
            numpy.save(os.path.join(folder, "%d.npy" % number), pixels)
            if not number:
                grey(pixels, *picture.limits).convert("L").resize(pixels.shape[::-1], Image.BOX).save(
                    os.path.join(folder, "window.png"))
            layers.append({
                "kind": stack.kind, "source": stack.source, "count": len(stack), "index": len(stack) - 1,
                "name": picture.name, "path": picture.path, "limits": [float(limit) for limit in picture.limits],
                "picks": [[x, y] for x, y, _ in self.model.picks_over(picture)], "file": "%d.npy" % number})
        # As a watcher would be told it.
        return json.loads(json.dumps({"title": self.model.caption(), "layers": layers,
                                      "page": self._server.places("Page")}))
