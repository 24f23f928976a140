# SPDX-License-Identifier: GPL-3.0-or-later
"""napari, in an interpreter of its own: its requirements would replace half of Scipion's environment."""
import importlib.util
import os
import sys
from typing import Any, List, Optional

from ..constants import EMPIAR_NAPARI_PYTHON
from .backend import StreamingBackend
from .errors import LiveError
from .links import PublishingLink
from .viewer_process import absent_modules, check_display, check_screen

# What the viewer imports; napari itself brings all but pyzmq and one of Qt's bindings.
NEEDS = ["napari", "zmq", "numpy", "qtpy"]
QT = ["PyQt6", "PyQt5", "PySide6", "PySide2"]
PACKAGES = {"live": "pyzmq", "imagej": "JPype1", "web": "tornado",
            "picture": "Pillow"}
CURE = """type in a terminal:
    python3 -m venv napari-env
    napari-env/bin/pip install napari PyQt6 pyzmq
    export %s=$PWD/napari-env/bin/python
Then start Scipion again from this terminal."""


def missing_here(extra: str, *modules: str) -> None:
    """Raises LiveError where this interpreter lacks one of these modules of an extra."""
    if any(importlib.util.find_spec(name) is None for name in modules):
        # By their own names: the extra of this package would bring all of Scipion where that is not installed.
        package = PACKAGES[extra]
        msg = "%s is not installed here: %s -m pip install %s" % (package, sys.executable, package)
        raise LiveError(msg)


class NapariStreamingBackend(StreamingBackend):
    """Shows images in napari, one layer a kind, by a publishing socket.

    ``python``: an interpreter that has napari; else what EMPIAR_NAPARI_PYTHON names, else this one.
    """
    VIEWER_TYPE = "napari"
    SHM_PREFIX = "empiar_napari_"
    SCREEN = "live_napari:NapariScreen"
    LINK = PublishingLink

    def __init__(self, *args: Any, python: Optional[str] = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chosen = python or os.environ.get(EMPIAR_NAPARI_PYTHON)

    def check(self) -> None:
        check_display()
        missing_here("live", "zmq")
        where = "%s=%s" % (EMPIAR_NAPARI_PYTHON, self._chosen) if self._chosen else "This Python (%s)" % sys.executable
        try:
            absent = absent_modules(self._python(), NEEDS + QT)
        except LiveError as error:
            msg = "%s: %s It should be the Python of an environment with napari; for a new one %s" % (
                where, error, CURE % EMPIAR_NAPARI_PYTHON)
            raise LiveError(msg) from error
        lacks = _packages([name for name in absent if name in NEEDS], set(QT) <= set(absent))
        if not lacks:
            check_screen()
            return
        if "napari" in lacks:
            msg = "%s has no napari, which needs an environment of its own: %s" % (where, CURE % EMPIAR_NAPARI_PYTHON)
        else:
            msg = "%s lacks %s: %s -m pip install %s" % (where, " and ".join(lacks), self._python(), " ".join(lacks))
        raise LiveError(msg)

    def _python(self) -> str:
        return self._chosen or sys.executable


def _packages(absent: List[str], no_qt: bool) -> List[str]:
    """Names of modules -> names of the packages that bring them."""
    found = ["pyzmq" if name == "zmq" else name for name in absent]
    return found + (["PyQt6"] if no_qt else [])
