# SPDX-License-Identifier: GPL-3.0-or-later
"""What a viewer shows, whatever draws it: stacks of images on disk, in their order, and points over them.

Pixels go into a temporary file without a name, which is gone with the process however that ends, so that memory does
not grow with the number of images. Needs numpy.
"""
import bisect
import errno
import os
import tempfile

import numpy
from live_link import ImageError


class Picture:
    """One image of a stack: where its pixels lie in the stack's file, and what is known of it."""

    def __init__(self, image, order, slot):
        self.order, self.slot = order, slot
        self.update(image)

    def update(self, image):
        display = image["display"]
        self.path, self.name, self.remark = image["path"], display["name"], display.get("remark") or ""
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
        self._file = tempfile.TemporaryFile()       # noqa: SIM115, as long as the stack
        self._slots = 0
        self._free = []
        self.dropped = 0
        self.takes_picks = False
        self.bytes = int(numpy.prod(self.shape)) * self.dtype.itemsize

    def __len__(self):
        return len(self.pictures)

    @property
    def descriptor(self):
        return self._file.fileno()

    def put(self, image, array, keep=None):
        """Add an image, or put it in the place of the one of the same path -> whether it is another one.

        Where the disk is full, the first one but ``keep`` gives way. Raises ImageError.
        """
        if not image["display"].get("limits"):
            image["display"]["limits"] = _contrast(array)
        self.takes_picks = image["display"].get("takes_picks", True)
        known = self._places.get(image["path"])
        if known is not None:
            self._write(array, known.slot)
            known.update(image)
            return False
        slot = self._free.pop() if self._free else self._slots
        try:
            self._write(array, slot)
        except OSError as error:
            victim = next((picture for picture in self.pictures if picture is not keep), None)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or victim is None:
                self._free += [slot] if slot < self._slots else []
                raise ImageError("the folder for temporary files (%s) takes no more: %s" % (
                    tempfile.gettempdir(), (error.strerror or "").lower())) from error
            self.pictures.remove(victim)
            del self._places[victim.path]
            self.dropped += 1
            # A slot that was begun at the file's end is left out; one that was used has its room.
            slot = victim.slot
            self._write(array, slot)
        self._slots = max(self._slots, slot + 1)
        place = image["display"].get("place")
        picture = Picture(image, (float("inf") if place is None else place, int(image["image_id"].rpartition("_")[2])),
                          slot)
        self.pictures.insert(bisect.bisect([other.order for other in self.pictures], picture.order), picture)
        self._places[picture.path] = picture
        return True

    def _write(self, array, slot):
        data, done = memoryview(array.tobytes()), 0
        while done < len(data):
            done += os.pwrite(self._file.fileno(), data[done:], slot * self.bytes + done)

    def read(self, index):
        """The pixels of the image at a place, (height, width)."""
        data = os.pread(self._file.fileno(), self.bytes, self.pictures[index].slot * self.bytes)
        return numpy.frombuffer(data, self.dtype).reshape(self.shape)

    def place_of(self, picture):
        """The index of a picture; of one that is gone the last one."""
        return self.pictures.index(picture) if picture in self.pictures else len(self.pictures) - 1


class Model:
    """All stacks and points; ``frames`` is the stack of the frames that were asked for last, if any."""

    def __init__(self, title):
        self.title, self.state = title, ""
        self.stacks = {}            # (kind, source, shape, dtype) -> Stack
        self.points = {}            # name of the image -> (points, box, pixel size or None)
        self.frames = None

    def take(self, image, array, keep=None):
        """Take an image or points in -> the stack that has changed and whether it has grown; (None, False) for points.

        ``keep``: picture that is being looked at, by stack. Raises ImageError.
        """
        display = image["display"]
        if image["data_type"] == "shapes":
            self.points[display["name"]] = (image["points"], image["box"], display.get("pixel_size"))
            return None, False
        key = (display.get("kind") or "images", display.get("source") or "", tuple(image["shape"]), image["dtype"])
        if display.get("group"):
            self._begin_frames(key)
        stack = self.stacks.get(key)
        if stack is None:
            stack = self.stacks[key] = Stack(*key)
            if display.get("group"):
                self.frames = stack
        return stack, stack.put(image, array, (keep or {}).get(stack))

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
        words = ["%s, %d of %d" % (picture.name, index + 1, len(stack)), picture.remark]
        if stack.dropped:
            words.append("%d older ones gave way, the disk for temporary files is full" % stack.dropped)
        return ", ".join(word for word in words if word)

    def head(self):
        return " - ".join(word for word in (self.title, self.state) if word)

    def picks_over(self, stack, index):
        """The points over an image, [(x, y)] in its own pixels with the first row on top, and the side of their
        boxes."""
        picture = stack.pictures[index] if index < len(stack) else None
        points, box, pixel_size = self.points.get(picture.name if picture else None, ((), 0, None))
        if not points:
            return [], 0.0
        factor = 1.0 / picture.binning
        if pixel_size and picture.pixel_size:
            factor *= pixel_size / picture.pixel_size
        # The middle of the first pixel is 0, of whatever size the pixels are.
        found = [((x + 0.5) * factor - 0.5, (y + 0.5) * factor - 0.5) for x, y in points]
        if picture.flipped:
            found = [(x, picture.height - 1 - y) for x, y in found]
        return found, box * factor



def _contrast(array):
    """Mean -/+ 3 sigma, where the sender says nothing else."""
    known = array[numpy.isfinite(array)]
    if not known.size:
        return [0.0, 1.0]
    mean, sigma = float(known.mean(dtype="float64")), float(known.std(dtype="float64"))
    return [mean - 3 * sigma, mean + 3 * sigma]
