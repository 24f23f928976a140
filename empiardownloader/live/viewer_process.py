# SPDX-License-Identifier: GPL-3.0-or-later
"""The viewer: a process of its own, under an interpreter of its own, that ends with the program that started it."""
import json
import os
import re
import socket
import subprocess
import tempfile
from typing import Any, Dict, List

from ..follow.process import PARTING_SECONDS, end, last_words
from .errors import LiveError

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "window")
PROBE = ("import importlib.util as u, sys\n"
         "print(' '.join(['absent'] + [name for name in sys.argv[1:] if u.find_spec(name) is None]))")
PROBE_SECONDS = 60
X_PORT, SCREEN_SECONDS = 6000, 10.0
# They are for this interpreter's modules, which another one cannot load.
OTHER_PYTHONS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


def check_display() -> None:
    """Raises LiveError where no screen is named: Qt would abort without a word to catch."""
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        msg = "There is no screen here (DISPLAY is not set): sit at the machine, or log in with ssh -X."
        raise LiveError(msg)


def check_screen() -> None:
    """Raises LiveError where the X server that DISPLAY names does not answer."""
    display = os.environ.get("DISPLAY", "")
    found = re.fullmatch(r"(?:unix)?([^:/]*):([0-9]+)(?:\.[0-9]+)?", display)
    if found is None or os.environ.get("WAYLAND_DISPLAY"):
        return      # of a kind that is not known here: the viewer itself will say
    host, number = found.group(1), int(found.group(2))
    try:
        if host:
            socket.create_connection((host, X_PORT + number), SCREEN_SECONDS).close()
            return
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(SCREEN_SECONDS)
            try:
                server.connect("/tmp/.X11-unix/X%d" % number)
            except OSError:
                # Where containers share the network, and not the folder.
                server.connect("\0/tmp/.X11-unix/X%d" % number)
    except OSError as error:
        msg = "The screen %s (DISPLAY) does not answer: sit at the machine, or log in with ssh -X." % display
        raise LiveError(msg) from error


def absent_modules(python: str, names: List[str]) -> List[str]:
    """Which of these modules an interpreter lacks. Raises LiveError where it is no interpreter."""
    try:
        done = subprocess.run([python, "-c", PROBE, *names], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=environment(), timeout=PROBE_SECONDS, check=True)
    except FileNotFoundError as error:
        msg = "%s is not there." % python
        raise LiveError(msg) from error
    except (OSError, subprocess.SubprocessError) as error:
        msg = "%s is no Python 3 that works." % python
        raise LiveError(msg) from error
    words = done.stdout.decode("utf-8", "replace").split()
    if words[:1] != ["absent"]:
        msg = "%s is no Python 3 that works." % python
        raise LiveError(msg)
    return words[1:]


def environment() -> Dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in OTHER_PYTHONS}


class ViewerProcess:
    """A viewer's process; ends with this one, however that ends, by a life line on its standard input."""

    def __init__(self, python: str, request: Dict[str, Any]) -> None:
        """``request``: what to show where, see window/__main__.py. Raises LiveError."""
        self._owner = os.getpid()
        self._words = tempfile.TemporaryFile()      # noqa: SIM115, closed with the process
        # Closed by its end alone: nothing is written to it.
        self.descriptor, inherited = os.pipe()
        try:
            # In a session of its own: Ctrl-C is for the user's program.
            self._process = subprocess.Popen(
                [python, "-B", FOLDER], stdin=subprocess.PIPE, stdout=self._words, stderr=self._words,
                env=environment(), pass_fds=[inherited], start_new_session=True)
        except OSError as error:
            os.close(self.descriptor)
            self._words.close()
            msg = "%s cannot be started (%s)." % (python, (error.strerror or "").lower())
            raise LiveError(msg) from error
        finally:
            os.close(inherited)
        try:
            self._process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            self._process.stdin.flush()
        except OSError:
            pass        # it has ended already; why is in its words

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def last_words(self) -> str:
        """How it ended: '' when its window was closed, else what it said last."""
        try:
            code = self._process.wait(PARTING_SECONDS)
        except subprocess.TimeoutExpired:
            return "it does not answer any more"
        if code == 0:
            return ""
        return last_words(self._words) or "return code %d" % code

    def close(self) -> None:
        """End it."""
        end(self._process, self._words, self._owner)
        os.close(self.descriptor)
