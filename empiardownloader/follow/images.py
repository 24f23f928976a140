# SPDX-License-Identifier: GPL-3.0-or-later
"""The images that a walk gives by reference, read when they are asked for.

numpy and mrcfile (or tifffile, for TIFF) are needed, and imported only then.
"""
import contextlib
import io
import json
import os
import re
import struct
from typing import Any, Iterator, List, Optional, Sequence, Union

from ..units import format_bytes
from .events import FollowError, Item, NodeContent
from .process import MARK, end, last_words, split_host, start
from .walker import RemoteNodeWalker

MRC = (".mrc", ".mrcs", ".map", ".st", ".ali", ".rec", ".preali")
TIFF = (".tif", ".tiff")
FORMAT_BEHIND = re.compile(r":(mrcs?|map|tiff?)$", re.IGNORECASE)
REMOTE_BUFFER = 1 << 20
# IMOD writes this stamp, and behind it flags of which the first says whether bytes are signed.
IMOD_STAMP, IMOD_STAMP_OFFSET_BYTES, IMOD_SIGNED_BYTES = 1146047817, 152, 1


class ImageChannel:
    """The images of a set, by their place in it, counted from 0 in the order of the items' ids: those of an event are
    at its ``first_index`` and after, as long as no item with a lower id comes or goes.

    ``node``: the NodeContent of a set; ``ssh``: as for the walker. Raises FollowError.
    """

    def __init__(self, node: NodeContent, ssh: Union[str, List[str]] = "ssh") -> None:
        if ":" not in node.db_name:
            msg = "%s is a %s: images come from a set, such as SetOfMovies." % (node.name, node.type)
            raise FollowError(msg)
        self.node, self._ssh = node, ssh
        self._items: List[Item] = []
        self._stamp: Any = None         # of the set's file, when the items were read

    def get(self, first: int = 0, last: Optional[int] = None) -> "ImageView":
        """The images from ``first`` up to, but without, ``last``; None: up to the newest, whenever that is asked."""
        if first < 0 or (last is not None and last < 0):
            msg = "places in a set are counted from 0"
            raise IndexError(msg)
        return ImageView(self, first, last)

    def read(self, item: Item) -> Any:
        """The image of an item -> array (frames, height, width), or (height, width) of a single one, as stored."""
        return read_image(item.path, item.index, self._ssh)

    def items(self) -> List[Item]:
        """The items that there are by now, in the order of their ids."""
        stamp = self._stamp_now()
        if stamp is None or stamp != self._stamp:
            walker = RemoteNodeWalker(self.node.info["project"], self.node.db_name, ssh=self._ssh)
            found: List[Item] = []
            with walker.walk_events(include_filter=self.node.type, wait=False) as events:
                for event in events:
                    if event.data is None:
                        found = []      # the set, or another one in its place
                    else:
                        found[event.data.first_index:event.data.first_index] = event.data.data
            self._items, self._stamp = found, stamp
        return self._items

    def _stamp_now(self) -> Any:
        """Changes with the set; None where that cannot be seen without asking another machine."""
        stamps: List[Any] = []
        for name in ("", "-wal"):
            try:
                found = os.stat((self.node.path or "") + name)
            except OSError:
                stamps.append(None)
            else:
                stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
        return stamps if stamps[0] else None


class ImageView:
    """Some images of a channel; they are opened by ``get_image``, not before."""

    def __init__(self, channel: ImageChannel, first: int, last: Optional[int]) -> None:
        self._channel, self.first_index, self._last = channel, first, last

    @property
    def last_index(self) -> int:
        """The place after the last image that is there by now, and belongs to this view."""
        there = len(self._channel.items())
        return there if self._last is None else min(there, self._last)

    def __len__(self) -> int:
        return max(0, self.last_index - self.first_index)

    def get_image(self, place: int) -> Any:
        """The image at a place of the set -> array (frames, height, width), or (height, width) of a single one."""
        items = self._channel.items()
        if not 0 <= self.first_index <= place < len(items) or (self._last is not None and place >= self._last):
            msg = "there is no image %d: from %d to %d" % (place, self.first_index, self.last_index - 1)
            raise IndexError(msg)
        return self._channel.read(items[place])

    def __iter__(self) -> Iterator[Any]:
        return (self.get_image(place) for place in range(self.first_index, self.last_index))


def read_image(path: Optional[str], index: int = 0, ssh: Union[str, List[str]] = "ssh",
               most_bytes: Optional[int] = None) -> Any:
    """An image file, or with ``index`` (from 1) one image of a stack -> array, as stored.

    Of an MRC file the first row is the lowest in the picture, of a TIFF file the highest: rows are given as they are in
    the file. ``path`` may lie on another machine: 'user@host:/folder/name'. Raises FollowError, also where the image
    has more than ``most_bytes``.
    """
    return next(read_images(path, [index], ssh, most_bytes))


def read_images(path: Optional[str], indices: Sequence[int], ssh: Union[str, List[str]] = "ssh",
                most_bytes: Optional[int] = None) -> Iterator[Any]:
    """Several images of a stack, which is opened once; as ``read_image``."""
    if not path:
        msg = "This item has no file of its own."
        raise FollowError(msg)
    if min(indices) < 0:
        msg = "%s: images of a stack are counted from 1, 0 stands for all." % path
        raise FollowError(msg)
    path, ending = plain_path(path), _ending(path)
    if ending not in MRC + TIFF:
        msg = "%s: only MRC and TIFF files are read here." % path
        raise FollowError(msg)
    with contextlib.closing(_opened(path, ssh)) as stream:
        for index in indices:
            stream.seek(0)
            yield _read(path, ending, stream, index, most_bytes)


def plain_path(path: str) -> str:
    """Without what Scipion and Xmipp write behind some names to say how the file is to be read: 'map.mrc:mrc'."""
    return FORMAT_BEHIND.sub("", path)


def _ending(path: str) -> str:
    """By which a file is read: 'fit.ctf:mrc' is an MRC file."""
    told = FORMAT_BEHIND.search(path)
    return "." + told.group(1).lower() if told else os.path.splitext(path)[1].lower()


def map_image(path: str) -> Any:
    """An MRC file of this machine as an array of which only what is asked for is read. Raises FollowError."""
    plain, ending = plain_path(path), _ending(path)
    if not plain or ending not in MRC:
        msg = "%s: only MRC files are read here." % (plain or "An item without a file")
        raise FollowError(msg)
    with contextlib.closing(_opened(plain, "")) as stream:
        return _read(plain, ending, stream, 0, None, is_mapped=True)


def _read(path: str, ending: str, stream: Any, index: int, most_bytes: Optional[int], is_mapped: bool = False) -> Any:
    try:
        return _read_mrc(stream, index, most_bytes, is_mapped) if ending in MRC else _read_tiff(stream, index)
    except ImportError as error:
        msg = "To read %s, install %s: pip install numpy mrcfile tifffile" % (path, error.name)
        raise FollowError(msg) from error
    except FollowError:
        raise
    except Exception as error:  # whatever a damaged file makes the readers raise
        msg = "%s cannot be read (%s)." % (path, " ".join(str(error).split()) or type(error).__name__)
        raise FollowError(msg) from error


def _opened(path: str, ssh: Union[str, List[str]]) -> Any:
    host, name = split_host(path)
    if host:
        return io.BufferedReader(SshFile(host, name, ssh), REMOTE_BUFFER)
    try:
        return open(path, "rb")
    except OSError as error:
        msg = "%s cannot be read (%s)." % (path, (error.strerror or "").lower())
        raise FollowError(msg) from error


def _read_mrc(stream: Any, index: int, most_bytes: Optional[int], is_mapped: bool) -> Any:
    import mrcfile.utils
    import numpy
    from mrcfile.mrcinterpreter import MrcInterpreter
    header = MrcInterpreter(iostream=stream, permissive=True, header_only=True).header
    if header is None:
        msg = "no MRC header"
        raise ValueError(msg)
    if min(int(header.nx), int(header.ny), int(header.nz)) < 1:
        msg = "its header tells no size"
        raise ValueError(msg)
    shape, kind = mrcfile.utils.data_shape_from_header(header), mrcfile.utils.data_dtype_from_header(header)
    if _has_unsigned_bytes(header):
        kind = numpy.dtype("uint8")
    start = header.nbytes + int(header.nsymbt)
    if index:
        if len(shape) < 3 and index == 1:
            shape = (1, *shape)
        if index > shape[0]:
            msg = "it has %d images, not %d" % (shape[0], index)
            raise IndexError(msg)
        shape = shape[1:]
        start += (index - 1) * _size(shape) * kind.itemsize
    if stream.seek(0, io.SEEK_END) < start + _size(shape) * kind.itemsize:
        msg = "it is shorter than its header promises"
        raise ValueError(msg)
    if most_bytes is not None and _size(shape) * kind.itemsize > most_bytes:
        msg = "it has more than %s" % format_bytes(most_bytes)
        raise ValueError(msg)
    if is_mapped:
        return numpy.memmap(stream, kind, "r", start, tuple(shape))
    stream.seek(start)
    data = stream.read(_size(shape) * kind.itemsize)
    return numpy.frombuffer(data, kind).reshape(shape)


def _has_unsigned_bytes(header: Any) -> bool:
    """Whether IMOD has written mode 0 as bytes without sign: its stamp is there, and the flag of signed ones is not."""
    order = ">" if header.mode.dtype.byteorder == ">" else "<"
    stamp, flags = struct.unpack_from(order + "2i", header.tobytes(), IMOD_STAMP_OFFSET_BYTES)
    return int(header.mode) == 0 and stamp == IMOD_STAMP and not flags & IMOD_SIGNED_BYTES


def _size(shape: Any) -> int:
    size = 1
    for length in shape:
        size *= int(length)
    return size


def _read_tiff(stream: Any, index: int) -> Any:
    import tifffile
    with tifffile.TiffFile(stream) as file:
        if _names_another_page(stream, file):
            msg = "it breaks off after %d pages" % len(file.pages)
            raise ValueError(msg)
        if len(file.series) != 1:
            msg = "its pages are not of one size" if file.series else "it has no page"
            raise ValueError(msg)
        data = file.asarray()
    if not index:
        return data
    stack = data if data.ndim > 2 else data[None]
    if index > len(stack):
        msg = "it has %d images, not %d" % (len(stack), index)
        raise IndexError(msg)
    return stack[index - 1]


def _names_another_page(stream: Any, file: Any) -> bool:
    """Whether the last page that could be read says that there is one more: tifffile passes over that."""
    form, last = file.tiff, file.pages[len(file.pages) - 1].offset
    stream.seek(last)
    tags, = struct.unpack(form.tagnoformat, stream.read(form.tagnosize))
    stream.seek(last + form.tagnosize + tags * form.tagsize)
    return bool(struct.unpack(form.offsetformat, stream.read(form.offsetsize))[0])


class SshFile(io.RawIOBase):
    """A file of another machine, read over ssh in pieces."""

    def __init__(self, host: str, name: str, ssh: Union[str, List[str]]) -> None:
        super().__init__()
        self._host, self._name, self._position = host, name, 0
        self._process, self._words = start(host, ssh, {})
        assert self._process.stdin is not None and self._process.stdout is not None
        self._asked, self._answered = self._process.stdin, self._process.stdout
        try:
            self._size = self._ask(0, 0)["size"]
        except BaseException:
            self.close()
            raise

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        answer = self._ask(self._position, len(buffer))
        data = self._answered.read(answer["length"])
        if len(data) < answer["length"]:
            raise FollowError(self._lost())
        buffer[:len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            end(self._process, self._words, os.getpid())
            self._answered.close()
        super().close()

    def _ask(self, start_: int, length: int) -> Any:
        request = {"path": self._name, "start": start_, "length": length}
        try:
            self._asked.write(json.dumps(request).encode("ascii") + b"\n")
            self._asked.flush()
        except OSError as error:
            raise FollowError(self._lost()) from error
        line = self._answered.readline()
        while line and not line.startswith(MARK):
            line = self._answered.readline()      # what the login prints
        if not line:
            raise FollowError(self._lost())
        answer = json.loads(line[len(MARK):].decode("ascii"))
        if "error" in answer:
            raise FollowError("%s: %s" % (self._host, answer["error"]))
        return answer

    def _lost(self) -> str:
        return "%s:%s cannot be read any more (%s)." % (self._host, self._name, last_words(self._words) or
                                                        "the connection has ended")
