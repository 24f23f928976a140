# SPDX-License-Identifier: GPL-3.0-or-later
"""What browsers ask for, and get: the page, what is told to it, and pictures of the size that is shown.

All is done in one thread, that of the event loop, but for the making of pictures. Nothing is asked for by a path.
"""
import asyncio
import collections
import concurrent.futures
import io
import json
import math
import os
import platform
import secrets
import time

from live_messages import FRAMES, FULL_SIZE, SECTIONS
from PIL import Image, features

from empiardownloader.images.ctf import zeros
from empiardownloader.images.picture import grey, rings, scale_bar
from empiardownloader.local_server import EventStream, Handler, LocalServer
from empiardownloader.units import seconds_of

LEAST_SECONDS = 0.2             # between two words to a watcher
MOST_LISTED, MOST_SIDE = 200, 16384
CACHE_BYTES = 32 << 20          # of pictures as they were sent last: twenty watchers mostly ask for the same
GRAPH_POINTS = 200
ASK_AGAIN_SECONDS = 10.0        # after which frames may be asked for once more
WEBP_QUALITY = 80               # of the small ones, which are many
ALL, KEPT, REJECTED = "all", "kept", "rejected"


class PageServer(LocalServer):
    """``want``: as of Screen."""

    most_readers, most_connections = 64, 256
    folder, front = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page"), "page.html"

    def __init__(self, model, want, port, path, token):
        super().__init__("", [("/changes", _Changes), ("/list", _List), ("/about", _About), ("/graph", _Graph),
                              ("/want", _Want), (r"/image/(\w+)/(\d+)-(\d+)\.(png|webp)", _Image)],
                         port, path, token)
        self.model, self.want = model, want
        self.offers_frames = False
        self.run = secrets.token_hex(4)     # pictures are numbered anew by each process
        self.version = 0
        self.executor = concurrent.futures.ThreadPoolExecutor(2, "picture")
        self._making = {}                   # what is asked for -> Making
        self._made = collections.OrderedDict()
        self._made_bytes = 0
        self._changed = set()               # futures of those that wait for a change
        self._views, self._numbers, self._stacks, self._state = {}, {}, (), ""
        self._known = None                  # the version that the former are of
        self._watched = time.monotonic()    # when a page asked for something last
        self._wanted = {}                   # what was asked of the program behind the page -> when

    def places(self, what):
        if not self._path:
            return super().places(what)
        return ["%s: http://127.0.0.1:8050/?token=%s" % (what, self.token),
                "From another machine first: ssh -N -L 8050:%s %s" % (self._path, platform.node())]

    def note_asker(self):
        self._watched = time.monotonic()

    def watched_at(self):
        """When anybody watched last."""
        return time.monotonic() if self.readers else self._watched

    def ask_for(self, stack, picture, what):
        """Once, however often the key was pressed; and again after a refusal."""
        key = picture.number, picture.version, what, self.model.refusals.get(what)
        if time.monotonic() - self._wanted.get(key, -ASK_AGAIN_SECONDS) >= ASK_AGAIN_SECONDS:
            self._wanted[key] = time.monotonic()
            self.want(stack, picture, what)

    # What has changed.

    def tell_changed(self):
        self.version += 1
        self._stacks = tuple(self.model.stacks.values())
        for future in self._changed:
            if not future.done():
                future.set_result(None)
        self._changed.clear()

    def has_lost(self):
        """Whether a stack is gone that was there when anybody was told."""
        return tuple(self.model.stacks.values()) != self._stacks

    def next_change(self, version):
        """A future, done once there is another version."""
        future = asyncio.get_event_loop().create_future()
        if version != self.version:
            future.set_result(None)
        else:
            self._changed.add(future)
        return future

    def state(self):
        """What each watcher is told at each change, as JSON: few words, however many images there are. It is made once
        for all of them."""
        self._look()
        self._state = self._state or json.dumps(self._new_state())
        return self._state

    def _new_state(self):
        model = self.model
        return {"run": self.run, "version": self.version, "title": model.title, "state": model.state,
                "head": model.head, "said": model.said, "refusals": model.refusals, "frames": self.offers_frames,
                "sections": [{"name": section, "count": len(self.view(section, ALL)), "items": self.items(section),
                              "rejected": len(self.view(section, REJECTED))}
                             for section in SECTIONS if self.view(section, ALL)]}

    # What there is, by version.

    def _look(self):
        if self._known == self.version:
            return
        self._known, self._views, self._state = self.version, {}, ""
        self._numbers = {picture.number: (stack, picture) for stack in self.model.stacks.values()
                         for picture in stack.pictures}

    def numbered(self, number):
        """(stack, picture), or None."""
        self._look()
        return self._numbers.get(number)

    def pictures_at(self, key):
        """[(stack, picture)] of a position; spectra come last."""
        found = [(stack, stack.by_key[key]) for stack in self.model.stacks.values()
                 if stack is not self.model.frames and key in stack.by_key]
        return sorted(found, key=lambda pair: bool(pair[1].movie_pixel_size or not pair[0].takes_picks))

    def view(self, section, which):
        """The keys of a section in their order: all, or those that were rejected, or were not."""
        self._look()
        if (section, which) not in self._views:
            keys = self.model.positions.of_section(SECTIONS.index(section))
            if which != ALL:
                keys = [key for key in keys if self.is_rejected(key) == (which == REJECTED)]
            self._views[section, which] = keys
        return self._views[section, which]

    def items(self, section):
        """How many images are seen in a section: of a montage there are many in one picture."""
        return sum(len((picture.cells or {}).get("labels") or ()) or 1 for picture in (
            self.pictures_at(key)[0][1] for key in self.view(section, ALL)))

    def is_rejected(self, key):
        return key[0] in self.model.facts and any(
            self.model.is_rejected(picture) for _, picture in self.pictures_at(key))

    # What is told of an image.

    def about(self, section, which, index, number, name):
        """``number``: of a picture of the position; where that is gone or 0, the one of this ``name``, else the one at
        ``index``; -1: the newest."""
        keys = self.view(section, which)
        known = self.numbered(number)
        if known is not None and known[1].key in keys:
            index = keys.index(known[1].key)
        elif name:
            index = next((place for place, key in enumerate(keys) if key[0] == name), index)
        if not keys:
            return {"index": -1, "total": 0, "pictures": []}
        index = len(keys) - 1 if index < 0 else min(index, len(keys) - 1)
        there = self.pictures_at(keys[index])
        shown = [self._about_picture(stack, picture) for stack, picture in there]
        frames = self.model.frames
        if frames is not None and any(frames.pictures[0].of == picture.path for _, picture in there):
            shown += [self._about_picture(frames, picture) for picture in frames.pictures]
        notes = [note for _, picture in there for note in (picture.remark, *self.model.notes_on(picture))]
        dropped = sum(stack.dropped for stack, _ in there)
        return {"index": index, "total": len(keys), "name": keys[index][0], "pictures": shown,
                "notes": [note for note in dict.fromkeys(notes) if note], "dropped": dropped,
                "rejected": self.is_rejected(keys[index]),
                "facts": {source: facts for _, picture in there
                          for source, facts in self.model.facts_of(picture).items()}}

    def _about_picture(self, stack, picture):
        height, width = stack.shape
        spectrum = picture.movie_pixel_size
        shown = {"number": picture.number, "version": picture.version, "kind": stack.kind, "source": stack.source,
                 "name": picture.name, "width": width, "height": height, "limits": picture.limits,
                 "binning": picture.binning, "pixel_size": picture.pixel_size, "cells": picture.cells,
                 "group": self.model.group if stack is self.model.frames else "",
                 "rejected": self.model.is_rejected(picture)}
        if picture.pixel_size:
            shown["bar"] = scale_bar(width, picture.pixel_size * picture.binning)
        if stack.takes_picks:
            shown["picks"] = {source: [[round(x, 1), round(y, 1), round(side, 1)] for x, y, side in points]
                              for source, points in self.model.picks_by_source(picture).items()}
        if spectrum:
            edge = min(width, height) / 2
            shown["rings"] = list(rings(spectrum, edge))
            shown["zeros"] = [
                [None if share is None else round(share * edge, 2) for share in radii]
                for radii in self._zeros(picture)]
        return shown

    def _zeros(self, picture):
        """Of the CTF that was fitted to this very image; of several the one that came last."""
        found = [zeros(facts["ctf"], picture.movie_pixel_size) for facts in self.model.facts_of(picture).values()
                 if facts.get("ctf")]
        return next((rings for rings in found[::-1] if rings), [])

    def graph(self, section):
        """How many images there were when: at most so many points, [(when, how many)]; when they were registered, as
        Scipion's sets have it (UTC), or when they came here (seconds since 1970)."""
        moments = []
        for key in self.view(section, ALL):
            picture = self.pictures_at(key)[0][1]
            moments.append(seconds_of(picture.created) or picture.saved)
        moments.sort()
        step = max(1, math.ceil(len(moments) / GRAPH_POINTS))
        return [[moments[min(place + step, len(moments)) - 1], min(place + step, len(moments))]
                for place in range(0, len(moments), step)]

    # Pictures.

    async def picture(self, stack, picture, form, side, limits, asker):
        """The bytes of a picture, made once for all that ask for it; None where nobody waits for it any more.

        ``asker``: a handler, which knows when whoever asked is gone.
        """
        key = picture.number, picture.version, form, side, limits
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        making = self._making.get(key)
        if making is None or making.is_given_up:
            making = self._making[key] = Making(self.executor.submit(_encoded, stack, picture, form, side, limits))
        making.askers.add(asker)
        asker.on_leaving = lambda: making.leave(asker)
        try:
            found = await making.coming
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            return None
        finally:
            if self._making.get(key) is making:
                del self._making[key]
        if key not in self._made:
            self._made[key] = found
            self._made_bytes += len(found)
        while self._made_bytes > CACHE_BYTES and len(self._made) > 1:
            self._made_bytes -= len(self._made.popitem(last=False)[1])
        return found


class Making:
    """A picture that is being made, or waits for its turn; ``askers``: those who wait for it."""

    def __init__(self, future):
        self._future, self.askers, self.is_given_up = future, set(), False
        self.coming = asyncio.ensure_future(asyncio.wrap_future(future))

    def leave(self, asker):
        """What nobody waits for is not made: others have their turn."""
        self.askers.discard(asker)
        if not self.askers:
            self.is_given_up = self._future.cancel()


def _encoded(stack, picture, form, side, limits):
    image = grey(stack.pixels(picture), *limits)
    if side < max(image.size):
        scale = side / max(image.size)
        image = image.resize([max(1, round(length * scale)) for length in image.size], Image.BOX)
    written = io.BytesIO()
    if form == "webp":
        image.save(written, "WEBP", quality=WEBP_QUALITY, method=2)
    else:
        image.save(written, "PNG", compress_level=3)
    return written.getvalue()


class _Asked(Handler):
    on_leaving = None           # called when whoever asked is gone

    def on_connection_close(self):
        if self.on_leaving is not None:
            self.on_leaving()

    def number(self, name, default, kind=int):
        """Of a query."""
        text = self.get_query_argument(name, "")
        if not text:
            return default
        try:
            found = kind(text)
        except (ValueError, OverflowError):
            found = None
        if found is None or (isinstance(found, float) and not math.isfinite(found)) or abs(found) > 1e30:
            self.refuse(400, "%s is a number." % name)
        return found

    def chosen(self):
        """(section, which of it)"""
        section, which = self.get_query_argument("section", SECTIONS[0]), self.get_query_argument("which", ALL)
        if section not in SECTIONS or which not in (ALL, KEPT, REJECTED):
            self.refuse(400, "There is no such list.")
        return section, which

    def tell(self, found):
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(found))


class _Changes(EventStream):
    """The state at each change. A watcher that is slow, or comes back, hears of the newest alone: all else is asked
    for."""

    alive = "event: alive\ndata: {}\n\n"      # one that a page hears of

    async def tell(self):
        server, version, told = self.server, None, 0.0
        while not server.is_over:
            if version is not None:
                coming = server.next_change(version)
                while not await self.wait_for(coming):
                    continue
                await asyncio.sleep(max(0.0, told + LEAST_SECONDS - time.monotonic()))
            version, told = server.version, time.monotonic()
            await self.say("state", server.state(), str(version))


class _List(_Asked):
    def get(self):
        section, which = self.chosen()
        keys = self.server.view(section, which)
        first = max(0, self.number("first", 0))
        items = []
        count = max(0, min(self.number("count", 20), MOST_LISTED))
        for index, key in enumerate(keys[first:first + count], first):
            stack, picture = self.server.pictures_at(key)[0]
            items.append({"index": index, "name": key[0], "number": picture.number, "version": picture.version,
                          "rejected": self.server.is_rejected(key), "width": stack.shape[1], "height": stack.shape[0]})
        self.tell({"version": self.server.version, "total": len(keys), "items": items})


class _About(_Asked):
    def get(self):
        section, which = self.chosen()
        found = self.server.about(section, which, self.number("index", -1), self.number("number", 0),
                                  self.get_query_argument("name", ""))
        self.tell(dict(found, version=self.server.version))


class _Graph(_Asked):
    def get(self):
        self.tell({"points": self.server.graph(self.chosen()[0])})


class _Image(_Asked):
    async def get(self, run, number, version, form):
        known = self.server.numbered(int(number)) if run == self.server.run else None
        if known is None or (form == "webp" and not features.check("webp")):
            self.refuse(404, "This image is not here any more.")
        stack, picture = known
        low, high = self.number("low", picture.limits[0], float), self.number("high", picture.limits[1], float)
        side = min(max(self.number("side", max(stack.shape)), 1), MOST_SIDE)
        found = await self.server.picture(stack, picture, form, side, (low, high), self)
        if found is None:
            self.refuse(503, "Nobody waits for this image any more.")
        self.set_header("Content-Type", "image/" + form)
        if int(version) == picture.version:
            self.set_header("Cache-Control", "private, max-age=86400, immutable")
        self.finish(found)


class _Want(_Asked):
    """Frames of a movie, or all its pixels: the one thing that is asked of the program behind the page."""
    SUPPORTED_METHODS = ("POST",)

    def post(self):
        # A browser says with each POST which page it comes from.
        what, known = self.get_query_argument("what", ""), self.server.numbered(self.number("number", 0))
        if what not in (FRAMES, FULL_SIZE) or known is None or not self.server.offers_frames:
            self.refuse(404, "This is not to be had here.")
        stack, picture = known
        self.server.ask_for(stack, picture, what)
        self.set_status(204)
        self.finish()
