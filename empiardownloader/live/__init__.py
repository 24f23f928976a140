# SPDX-License-Identifier: GPL-3.0-or-later
"""Show images in napari, ImageJ or a browser while they arrive; the viewer is a process of its own, which may be closed
or die.

    from empiardownloader.live import NapariStreamingBackend
    with NapariStreamingBackend() as viewer:
        viewer.save(image, "m_01.mrc", kind="averages", pixel_size=1.1)
        viewer.wait_closed()
"""
import importlib
from typing import Any

# Imported when they are asked for: so __main__.py can say in a sentence that numpy, say, is not here.
_MODULES = {"FijiStreamingBackend": "fiji", "LiveError": "errors", "NapariStreamingBackend": "napari",
            "Facts": "outgoing", "Picks": "outgoing", "QueueTracker": "tracker", "StreamingBackend": "backend",
            "WebStreamingBackend": "web"}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = "module %r has no attribute %r" % (__name__, name)
        raise AttributeError(msg)
    return getattr(importlib.import_module("." + _MODULES[name], __name__), name)
