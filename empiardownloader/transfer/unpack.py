# SPDX-License-Identifier: GPL-3.0-or-later
"""Decompression of a file that came as .bz2, .gz or .xz."""
import bz2
import gzip
import lzma
import os
import shutil
import zlib
from typing import Any, Callable, Dict

from ..archive.errors import DiskError, Stopped
from ..images.header import BadImageError, promised_bytes
from .modes import share_file
from .parts import LINKS_ARE_NOT_FOLLOWED, sync_to_disk

OPENERS: Dict[str, Callable[[str], Any]] = {".bz2": bz2.BZ2File, ".gz": gzip.GzipFile, ".xz": lzma.LZMAFile}
CHUNK_BYTES = 1 << 20   # the modules release the interpreter's lock while they work on a chunk
# A file system is never filled to the brim: databases and logs of the run need room as well.
SPARE_BYTES = 64 << 20
# Movies become up to twenty times smaller. A file that grows by more than this is no movie; where its header tells how
# long it is to be, that is the bound, and something may follow.
MOST_GROWTH, LEAST_BOUND_BYTES, TRAILER_BYTES = 250, 256 << 20, 1 << 20


def unpack(packed: str, compression: str, target: str, stopped: Callable[[], bool] = lambda: False) -> None:
    """Write the content of ``packed`` to ``target``, and see to it that it has reached the disk.

    Raises BadImageError when the compressed file is broken or grows beyond all measure, DiskError when there is no
    room, Stopped when told to stop; OSError with an errno is the disk's.
    """
    bound = max(os.path.getsize(packed) * MOST_GROWTH, LEAST_BOUND_BYTES)
    if os.path.lexists(target):
        os.remove(target)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | LINKS_ARE_NOT_FOLLOWED, 0o666)
        share_file(target)
        with OPENERS[compression](packed) as source, open(descriptor, "wb") as sink:
            written = 0
            for chunk in iter(lambda: source.read(CHUNK_BYTES), b""):
                if stopped():
                    raise Stopped
                if not written:
                    promised = promised_bytes(chunk)
                    bound = bound if promised is None else promised + TRAILER_BYTES
                written += len(chunk)
                if written > bound:
                    msg = "it becomes larger than %d bytes when it is decompressed, so it is no movie" % bound
                    raise BadImageError(msg)
                usage = shutil.disk_usage(os.path.dirname(target))
                if usage.total and usage.free < SPARE_BYTES + len(chunk):
                    msg = "There is no room to decompress %s: make room or choose another folder, then Continue; " \
                          "what is whole is kept." % os.path.basename(packed)
                    raise DiskError(msg)
                sink.write(chunk)
            sink.flush()
            sync_to_disk(sink.fileno(), target)
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        msg = "it is no whole %s file" % compression
        raise BadImageError(msg) from error
    except OSError as error:
        # bz2 and gzip report bad data as an OSError that carries no errno.
        if error.errno is not None:
            raise
        msg = "it is no whole %s file" % compression
        raise BadImageError(msg) from error
