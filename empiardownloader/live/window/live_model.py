# SPDX-License-Identifier: GPL-3.0-or-later
"""What a viewer shows, whatever draws it: stacks of images on disk, in their order, and points over them.

Pixels go into a temporary file without a name, which is gone with the process however that ends, so that memory does
not grow with the number of images. Needs numpy.
"""
import bisect
import errno
import itertools
import os
import tempfile

import numpy
from live_link import ImageError
from live_messages import FACTS, LARGEST, SECTIONS, SHAPES

GAVE_WAY = "%d older ones gave way, the disk for temporary files is full"
LEAST_CIRCLE = 4.0      # pixels, of a point


class Picture:
    """One image of a stack: where its pixels lie in the stack's file, and what is known of it."""

    _numbers = itertools.count(1)

    def __init__(self, image, order, slot, key):
        self.number, self.version = next(self._numbers), 0      # what it is called outside, and how often it came
        self.order, self.slot, self.key = order, slot, key
        self.update(image)

    def update(self, image):
        self.version += 1
        display = image["display"]
        self.section, self.item = section_of(display), display.get("item")
        self.created, self.saved = display.get("created") or "", image.get("timestamp") or 0.0
        self.movie_pixel_size, self.cells = display.get("movie_pixel_size"), display.get("cells")
        self.path, self.name, self.remark = image["path"], display["name"], display.get("remark") or ""
        self.source = display.get("source") or ""
        self.of = display.get("of")         # of a frame: the path of its movie
        self.limits = display["limits"]
        self.binning, self.pixel_size = display.get("binning") or 1, display.get("pixel_size")
        self.flipped = bool(display.get("flipped"))
        self.height = image["shape"][0]


class Stack:
    """The images of one kind, source, size and type of number."""

    def __init__(self, kind, source, shape, dtype):
        self.kind, self.source, self.shape, self.dtype = kind, source, tuple(shape), numpy.dtype(dtype)
        self.pictures = []          # by their order
        self._places = {}           # path -> picture
        self.by_key = {}            # what tells images apart, also in other stacks -> picture
        try:
            self._file = tempfile.TemporaryFile()       # noqa: SIM115, as long as the stack
        except OSError as error:
            raise _no_room(error) from error
        self._slots = 0
        self.dropped = 0
        self.takes_picks = False
        self.bytes = int(numpy.prod(self.shape)) * self.dtype.itemsize

    def __len__(self):
        return len(self.pictures)

    @property
    def descriptor(self):
        return self._file.fileno()

    def put(self, image, array, keep=None):
        """Add an image -> its picture; or put it in the place of the one of the same path -> None.

        Where the disk is full, the first one but ``keep`` gives way. Raises ImageError.
        """
        if not image["display"].get("limits"):
            image["display"]["limits"] = _contrast(array)
        self.takes_picks = image["display"].get("takes_picks", True)
        known = self._places.get(image["path"])
        if known is not None:
            try:
                self._write(array, known.slot)
            except OSError as error:
                raise _no_room(error) from error
            known.update(image)
            return None
        slot = self._slots
        try:
            self._write(array, slot)
        except OSError as error:
            victim = next((picture for picture in self.pictures if picture is not keep), None)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or victim is None:
                raise _no_room(error) from error
            self.pictures.remove(victim)
            del self._places[victim.path], self.by_key[victim.key]
            self.dropped += 1
            # The one begun at the file's end is left out; one that was used has its room.
            slot = victim.slot
            self._write(array, slot)
        self._slots = max(self._slots, slot + 1)
        place = image["display"].get("place")
        order = (SECTIONS.index(section_of(image["display"])), float("inf") if place is None else place,
                 int(image["image_id"].rpartition("_")[2]))
        picture = Picture(image, order, slot, self._new_key(image["display"]["name"], image["display"].get("family")))
        self.by_key[picture.key] = picture
        self.pictures.insert(bisect.bisect([other.order for other in self.pictures], picture.order), picture)
        self._places[picture.path] = picture
        return picture

    def remove(self, path):
        """Take away the image of a path -> whether there was one."""
        picture = self._places.pop(path, None)
        if picture is None:
            return False
        self.pictures.remove(picture)
        del self.by_key[picture.key]
        return True

    def _new_key(self, name, family):
        """Images of one name and family belong together: a movie's average, its spectrum, the micrograph that became of
        it. A second one of the same name in a stack is another one."""
        number = 0
        while (name, number, family) in self.by_key:
            number += 1
        return name, number, family

    def _write(self, array, slot):
        data, done = memoryview(array.tobytes()), 0
        while done < len(data):
            done += os.pwrite(self._file.fileno(), data[done:], slot * self.bytes + done)

    def pixels(self, picture):
        """(height, width)"""
        data = os.pread(self._file.fileno(), self.bytes, picture.slot * self.bytes)
        return numpy.frombuffer(data, self.dtype).reshape(self.shape)

    def place_of(self, picture):
        """The index of a picture; of one that is gone the last one."""
        return self.pictures.index(picture) if picture in self.pictures else len(self.pictures) - 1


class Positions:
    """The keys of all images, in their order: those of one key are looked at together."""

    def __init__(self):
        self.keys, self._orders = [], []

    def add(self, key, order):
        if key not in self.keys:
            place = bisect.bisect(self._orders, order)
            self._orders.insert(place, order)
            self.keys.insert(place, key)

    def of_section(self, section):
        """The keys of the section of this number, which lie together: orders begin with it."""
        return self.keys[bisect.bisect_left(self._orders, (section,)):
                         bisect.bisect_left(self._orders, (section + 1,))]

    def keep(self, keys):
        """Only these are there any more."""
        kept = [(key, order) for key, order in zip(self.keys, self._orders) if key in keys]
        self.keys, self._orders = [key for key, _ in kept], [order for _, order in kept]


class Model:
    """All stacks and points; ``frames`` is the stack of the frames that were asked for last, if any; ``positions`` are
    those of all other images."""

    def __init__(self, title):
        self.title, self.state, self.head, self.said = title, "", [], ""
        self.refusals = {}          # what was wanted of an image -> how often it was not to be had
        self.stacks = {}            # (kind, source, shape, dtype) -> Stack
        self.points = {}            # name of the image -> {source: (points, box, pixel size or None, over)}
        self.shrunk = []            # stacks that have lost pictures since anybody has drawn them
        self.facts = {}             # name of the image -> {(source, id of the image or None): (facts, over)}
        self.frames, self.group = None, ""      # and whether they are frames or all pixels
        self.positions = Positions()

    def take(self, image, array, keep=None):
        """Take an image, points or facts in -> the stack that has changed, None where none has.

        ``keep``: picture that is being looked at, by stack. Raises ImageError.
        """
        display = image["display"]
        if image["data_type"] == SHAPES:
            self.points.setdefault(display["name"], {})[display.get("source") or ""] = (
                image["points"], image["box"], display.get("pixel_size"), display.get("over"))
            return None
        if image["data_type"] == FACTS:
            self.facts.setdefault(display["name"], {})[display.get("source") or "", display.get("item")] = (
                image["facts"], display.get("over"))
            return None
        key = (display.get("kind") or "images", display.get("source") or "", tuple(image["shape"]), image["dtype"])
        if display.get("group"):
            self._begin_frames(key)
        stack = self.stacks.get(key)
        if stack is None:
            stack = Stack(*key)
        dropped = stack.dropped
        picture = stack.put(image, array, (keep or {}).get(stack))
        # Not before it has an image; and the former one stays where this one finds no room.
        self.stacks[key] = stack
        is_replaced = self._replace(image["path"], key)
        if display.get("group"):
            self.frames, self.group = stack, display["group"]
        elif picture is not None:
            self.positions.add(picture.key, picture.order)
        if is_replaced or stack.dropped > dropped:
            self._prune()
        return stack

    def _replace(self, path, key):
        """What was saved under a path before, of this kind and source but of another size or type, is replaced ->
        whether there was any."""
        found = [other for other in self.stacks if other[:2] == key[:2] and other != key
                 and self.stacks[other].remove(path)]
        for other in found:
            self.shrunk.append(self.stacks[other])
            if not len(self.stacks[other]):
                del self.stacks[other]
        return bool(found)

    def forget(self, source):
        """Take away all that is of a source."""
        self.stacks = {key: stack for key, stack in self.stacks.items() if stack.source != source}
        if self.frames is not None and self.frames not in self.stacks.values():
            self.frames = None
        for by_source in self.points.values():
            by_source.pop(source, None)
        for by_source in self.facts.values():
            for key in [key for key in by_source if key[0] == source]:
                del by_source[key]
        self._prune()

    def remove(self, source, item):
        """Take away the image of this id of a source."""
        for key, stack in list(self.stacks.items()):
            for path in [picture.path for picture in stack.pictures if stack.source == source and picture.item == item]:
                stack.remove(path)
                self.shrunk.append(stack)
            if not len(stack):
                del self.stacks[key]
        for by_source in self.facts.values():
            by_source.pop((source, item), None)
        self._prune()

    def _prune(self):
        self.positions.keep({key for stack in self.stacks.values() if stack is not self.frames for key in stack.by_key})

    def _begin_frames(self, key):
        """Of one movie at a time: frames of others would fill the disk."""
        if self.frames is not None and key[0] != self.frames.kind:
            self.stacks = {key: stack for key, stack in self.stacks.items() if stack is not self.frames}
            self.frames = None

    def name_of(self, stack):
        """'averages', with what tells it from another one of its kind."""
        like = [other for other in self.stacks.values() if other.kind == stack.kind]
        words = [stack.kind]
        if len({other.source for other in like}) > 1:
            words.append(stack.source)
        if len([other for other in like if other.source == stack.source]) > 1:
            words.append("%d x %d %s" % (*stack.shape[::-1], stack.dtype.name))
        return " ".join(words)

    def describe(self, stack, index):
        """'m_07.mrc, 7 of 12, gain applied' for the title."""
        if not len(stack):
            return ""
        picture = stack.pictures[index]
        words = ["%s, %d of %d" % (picture.name, index + 1, len(stack)), picture.remark, *self.notes_on(picture)]
        if stack.dropped:
            words.append(GAVE_WAY % stack.dropped)
        return ", ".join(word for word in words if word)

    def describe_at(self, index):
        """The same for all images of a position."""
        keys = self.positions.keys
        if not keys:
            return "nothing has come yet"
        found = [stack.by_key.get(keys[index]) for stack in self.stacks.values() if stack is not self.frames]
        dropped = max((stack.dropped for stack in self.stacks.values()), default=0)
        there = [picture for picture in found if picture is not None]
        remarks = dict.fromkeys([picture.remark for picture in there]
                                + [note for picture in there for note in self.notes_on(picture)])
        words = ["%s, %d of %d" % (keys[index][0], index + 1, len(keys)), *remarks]
        return ", ".join(word for word in (*words, GAVE_WAY % dropped if dropped else "") if word)

    def caption(self):
        return " - ".join(word for word in (self.title, self.state) if word)

    def facts_of(self, picture):
        """{source: facts} of an image."""
        return {source: facts for (source, item), (facts, over) in self.facts.get(picture.name, {}).items()
                if _is_over(picture, over) and (item is None or item == picture.item)}

    def is_rejected(self, picture):
        return any(facts.get("rejected") for facts in self.facts_of(picture).values())

    def notes_on(self, picture):
        """Words on an image for the title."""
        found = [facts.get("note") or "" for facts in self.facts_of(picture).values()]
        return [word for word in (*found, "rejected" if self.is_rejected(picture) else "") if word]

    def picks_over(self, picture):
        """The points over an image, of all pickers, as in ``picks_by_source``."""
        return [point for points in self.picks_by_source(picture).values() for point in points]

    def picks_by_source(self, picture):
        """The points over an image: {source: [(x, y, side of the box)]} in its own pixels with the first row on
        top."""
        found = {}
        for source, (points, box, pixel_size, over) in self.points.get(picture.name, {}).items():
            if not _is_over(picture, over):
                continue
            factor = 1.0 / picture.binning
            if pixel_size and picture.pixel_size:
                factor *= pixel_size / picture.pixel_size
            for x, y in points:
                # The middle of the first pixel is 0, of whatever size the pixels are.
                x, y = (x + 0.5) * factor - 0.5, (y + 0.5) * factor - 0.5
                found.setdefault(source, []).append(
                    (x, picture.height - 1 - y if picture.flipped else y, max(box * factor, LEAST_CIRCLE)))
        return found


def section_of(display):
    section = display.get("section")
    return section if section in SECTIONS else SECTIONS[0]


def _is_over(picture, over):
    """Whether points or facts are of this image, and not of another one of its name."""
    return not over or any(picture.source == its or picture.source.startswith(its + ":") for its in over)


def _contrast(array):
    """Mean -/+ 3 sigma, where the sender says nothing else; the two differ."""
    known = array[numpy.isfinite(array)].clip(-LARGEST, LARGEST)
    if not known.size:
        return [0.0, 1.0]
    mean, sigma = float(known.mean(dtype="float64")), float(known.std(dtype="float64"))
    sigma = sigma or abs(mean) / 10 or 1.0
    return [mean - 3 * sigma, mean + 3 * sigma]


def _no_room(error):
    return ImageError("the folder for temporary files takes no more: %s" % (error.strerror or str(error)).lower())
