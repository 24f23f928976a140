# SPDX-License-Identifier: GPL-3.0-or-later
"""Decompression of a file that came as .bz2, .gz or .xz."""
import bz2
import gzip
import lzma
import os
import threading
import zlib

from .errors import BadImageError, TransientError

OPENERS = {".bz2": bz2.open, ".gz": gzip.open, ".xz": lzma.open}
CHUNK_BYTES = 1 << 20   # the modules release the interpreter's lock while they work on a chunk


def unpack(packed: str, compression: str, target: str, cancelled: threading.Event) -> None:
    """Write the content of ``packed`` to ``target``.

    Raises BadImageError when the compressed file is broken, TransientError when told to stop; OSError with
    an errno is the disk's.
    """
    try:
        with OPENERS[compression](packed, "rb") as source, open(target, "wb") as sink:
            for chunk in iter(lambda: source.read(CHUNK_BYTES), b""):
                if cancelled.is_set():
                    msg = "stopped while decompressing %s" % os.path.basename(packed)
                    raise TransientError(msg)
                sink.write(chunk)
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        msg = "it is no whole %s file" % compression
        raise BadImageError(msg) from error
    except OSError as error:
        # bz2 and gzip report bad data as an OSError that carries no errno.
        if error.errno is not None:
            raise
        msg = "it is no whole %s file" % compression
        raise BadImageError(msg) from error
