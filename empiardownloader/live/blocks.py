# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared memory for images on their way to a viewer: a few blocks, used again and again.

Blocks are files of /dev/shm, as multiprocessing's are, but without its tracker: that one destroys blocks of living
senders when a receiver ends (Python 3.8 to 3.12).
"""
import itertools
import mmap
import os
from typing import Dict, Optional

import numpy as np

from .places import SHARED_MEMORY, identity, remove

NUMBERS = itertools.count(1)    # of a process's blocks, whichever sender's they are


class Block:

    def __init__(self, name: str, size: int) -> None:
        """Raises OSError where there is no room for it."""
        self.name, self.size, self.in_use = name, size, False
        path = os.path.join(SHARED_MEMORY, name)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # Now, as long as it is an error: writing where there is no room kills the process.
            os.posix_fallocate(handle, 0, size)
            self.memory = mmap.mmap(handle, size)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(handle)

    def remove(self) -> None:
        self.memory.close()
        remove(os.path.join(SHARED_MEMORY, self.name))


class Blocks:
    """The blocks of one sender, for one thread."""

    def __init__(self, prefix: str) -> None:
        self.prefix = "%s%s_" % (prefix, identity())
        self._blocks: Dict[str, Block] = {}

    def put(self, array: np.ndarray) -> str:
        """Copy an array into a block -> the block's name. Raises OSError where there is no room."""
        block = self._free(array.nbytes) or self._new(array.nbytes)
        block.in_use = True
        np.copyto(np.frombuffer(block.memory, array.dtype, array.size).reshape(array.shape), array)
        return block.name

    def release(self, name: Optional[str]) -> None:
        """The block may be used for another image."""
        if name in self._blocks:
            self._blocks[name].in_use = False

    def close(self) -> None:
        """Remove all of them; who has one open keeps what is in it."""
        for block in self._blocks.values():
            block.remove()
        self._blocks.clear()

    def _free(self, size: int) -> Optional[Block]:
        fitting = [block for block in self._blocks.values() if not block.in_use and block.size >= size]
        return min(fitting, key=lambda block: block.size, default=None)

    def _new(self, size: int) -> Block:
        # Those that are too small would never be used again where images have grown.
        for block in [block for block in self._blocks.values() if not block.in_use]:
            del self._blocks[block.name]
            block.remove()
        block = Block(self.prefix + str(next(NUMBERS)), max(1, size))
        self._blocks[block.name] = block
        return block
