# SPDX-License-Identifier: GPL-3.0-or-later
"""The viewers there are: the one table, for the command, Scipion's menus and the demo.

A viewer more is a line here, a module like napari.py, and a Screen in window/.
"""
import importlib
from typing import NamedTuple, Tuple, Type

from .backend import StreamingBackend


class Viewer(NamedTuple):
    names: Tuple[str, ...]      # of the command; the first is its own
    label: str                  # in Scipion's menus
    module: str                 # of this folder
    class_name: str             # of its backend
    is_page: bool = False       # it has an address and no window

    @property
    def backend(self) -> Type[StreamingBackend]:
        module = importlib.import_module("." + self.module, __package__)
        found: Type[StreamingBackend] = getattr(module, self.class_name)
        return found


VIEWERS = (Viewer(("napari",), "Live in napari", "napari", "NapariStreamingBackend"),
           Viewer(("fiji", "imagej"), "Live in ImageJ", "fiji", "FijiStreamingBackend"),
           Viewer(("web", "browser"), "Live in the browser", "web", "WebStreamingBackend", is_page=True))
BY_NAME = {name: viewer for viewer in VIEWERS for name in viewer.names}
