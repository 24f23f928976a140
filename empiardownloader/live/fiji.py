# SPDX-License-Identifier: GPL-3.0-or-later
"""ImageJ or Fiji, by its jars, in a Java machine inside a Python process of its own."""
import glob
import os
import sys
from typing import Any, Dict, List, Optional

from ..constants import EMPIAR_FIJI_HOME
from .backend import StreamingBackend
from .errors import LiveError
from .links import RequestLink
from .napari import missing_here
from .viewer_process import check_display, check_screen

DEBIANS_JAR = "/usr/share/java/ij.jar"
# Fiji.app has jars/ij-1.54p.jar, ImageJ's own download ij.jar.
PATTERNS = ("jars/ij-[0-9]*.jar", "jars/ij.jar", "ij.jar", "ij-[0-9]*.jar")


class FijiStreamingBackend(StreamingBackend):
    """Shows images in ImageJ or Fiji, one stack a kind, by requests and replies.

    ``home``: a folder of Fiji or ImageJ; else what EMPIAR_FIJI_HOME names, else Debian's ImageJ.
    """
    VIEWER_TYPE = "fiji"
    SHM_PREFIX = "empiar_fiji_"
    SCREEN = "live_imagej:ImageJScreen"
    LINK = RequestLink

    def __init__(self, *args: Any, home: Optional[str] = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._home = home or os.environ.get(EMPIAR_FIJI_HOME)

    def check(self) -> None:
        check_display()
        missing_here("live", "zmq")
        missing_here("imagej", "jpype")
        self._jars()
        import jpype
        try:
            jpype.getDefaultJVMPath()
        except (jpype.JVMNotFoundException, OSError) as error:
            msg = "There is no Java here, which ImageJ needs: apt install default-jre, or set JAVA_HOME."
            raise LiveError(msg) from error
        check_screen()

    def _jars(self) -> List[str]:
        """ImageJ's jar, then all others of its folder. Raises LiveError."""
        if not self._home:
            if os.path.exists(DEBIANS_JAR):
                return [DEBIANS_JAR]
            msg = "There is no ImageJ here: apt install imagej, or set %s to the folder of Fiji." % EMPIAR_FIJI_HOME
            raise LiveError(msg)
        for pattern in PATTERNS:
            found = sorted(glob.glob(os.path.join(glob.escape(self._home), pattern)))
            if found:
                others = glob.glob(os.path.join(glob.escape(self._home), "jars", "**", "*.jar"), recursive=True)
                return [found[-1], *sorted(set(others) - set(found))]
        msg = "%s=%s is no folder of Fiji or ImageJ: it has no %s." % (EMPIAR_FIJI_HOME, self._home, PATTERNS[0])
        raise LiveError(msg)

    def _python(self) -> str:
        return sys.executable

    def _settings(self) -> Dict[str, Any]:
        return {"jars": self._jars(), "home": self._home or ""}
