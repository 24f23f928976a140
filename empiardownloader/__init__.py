# SPDX-License-Identifier: GPL-3.0-or-later
"""Scipion plugin: movies of public EMPIAR entries, registered while they are being downloaded."""
import importlib.util
import logging
import threading
from typing import Any

from .constants import OTHER_PLUGIN, PRIORITY_VARIABLE, VARIABLES, VIEWER_VARIABLES

__version__ = "1.1.0"
_logo = "empiardownloader_logo.png"
_references = ["Iudin2016", "Iudin2023"]

logger = logging.getLogger(__name__)
_making = threading.RLock()     # two threads that ask for the Plugin get the same one


def __getattr__(name: str) -> Any:
    """``Plugin``, which Scipion looks for, is made when it is asked for: the commands and the rooms below protocols/
    need no Scipion, and do not wait for it to be loaded.

    It stands here and not in a module of its own because Scipion takes the plugin's name from the module of the class.
    """
    if name != "Plugin" or importlib.util.find_spec("pwem") is None:
        msg = "module %r has no attribute %r" % (__name__, name)
        raise AttributeError(msg)
    import pwem
    import pyworkflow as pw
    with _making:
        return globals()["Plugin"] if "Plugin" in globals() else _makePlugin(pwem, pw)


def _makePlugin(pwem: Any, pw: Any) -> Any:
    class Plugin(pwem.Plugin):
        _url = "https://github.com/scipion-em/scipion-em-empiardownloader"
        _pathVars = []

        @classmethod
        def _defineVariables(cls):
            for name, (default, description) in {**VARIABLES, **VIEWER_VARIABLES}.items():
                cls._defineVar(name, default, description=description)

        @classmethod
        def getAddresses(cls):
            """Where the archives are: {variable: its value}."""
            return {name: cls.getVar(name) for name in VARIABLES}

        @classmethod
        def getEnviron(cls):
            """No program is run, so no environment is needed."""
            return

        @classmethod
        def nameCollision(cls):
            """A sentence when Scipion may take another plugin's protocol of the same name for ours, else ''.

            Scipion knows protocols by their class names, and of two it keeps the one it happens to load first.
            """
            if importlib.util.find_spec(OTHER_PLUGIN) is None or __name__ in pw.Config.getPriorityPackageList():
                return ""
            return ("The plugin scipion-em-empiar is installed too and has a protocol of the same name "
                    "(EmpiarDownloader): Scipion takes now one, now the other. Either uninstall it (scipion3 "
                    "uninstallp -p scipion-em-empiar), or add this line to the section [PYWORKFLOW] of "
                    "config/scipion.conf and restart Scipion: %s = %s" % (
                        PRIORITY_VARIABLE, " ".join([*pw.Config.getPriorityPackageList(), __name__])))

    globals()["Plugin"] = Plugin
    if Plugin.nameCollision():
        logger.warning(Plugin.nameCollision())
    return Plugin
