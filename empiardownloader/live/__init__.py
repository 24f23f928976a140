# SPDX-License-Identifier: GPL-3.0-or-later
"""Show images in napari or ImageJ while they arrive; the viewer is a process of its own, which may be closed or die.

    from empiardownloader.live import NapariStreamingBackend
    with NapariStreamingBackend() as viewer:
        viewer.save(image, "m_01.mrc", kind="averages", pixel_size=1.1)
        viewer.wait_closed()
"""
from .backend import StreamingBackend
from .entries import Picks
from .errors import LiveError
from .fiji import FijiStreamingBackend
from .napari import NapariStreamingBackend
from .tracker import QueueTracker

__all__ = ["FijiStreamingBackend", "LiveError", "NapariStreamingBackend", "Picks", "QueueTracker", "StreamingBackend"]
