# SPDX-License-Identifier: GPL-3.0-or-later
"""The child process that does the reading, here or on another machine, and its end."""
import base64
import contextlib
import fcntl
import json
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
import zlib
from typing import Any, BinaryIO, Dict, List, Optional, Tuple, Type, Union

from .events import FollowError, GoneError, RestartedError

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "child")
# In the order in which they need one another; the last one is run.
MODULES = ("databases", "marks", "cells", "seen", "sets", "project", "micrographs", "teller", "files", "__main__")
# What a machine that has nothing of ours runs: the modules come as the first line of the input.
LOADER = ("import base64,json,sys,types,zlib\n"
          "for name, text in json.loads(zlib.decompress(base64.b64decode(sys.stdin.buffer.readline())).decode()):\n"
          "    module = sys.modules[name] = types.ModuleType(name)\n"
          "    exec(compile(text, name, 'exec'), module.__dict__)\n")
BOOT = 'python3 -I -S -c "import json,sys;exec(json.loads(sys.stdin.buffer.readline().decode()))"'
# Linux's own; elsewhere a pipe has the 64 kB that all but very long positions need.
F_SETPIPE_SZ, PIPE_BYTES = 1031, 1 << 20
# Without questions, since there may be nobody to answer; host keys are checked as the user's settings say.
SSH_OPTIONS = ("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15",
               "-o", "ServerAliveCountMax=4", "-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none")
REMOTE = re.compile(r"((?:[^@/:\s]+@)?(?:[^@/:\s\[-][^@/:\s]*|\[[^\]/]+\])):(.+)", re.DOTALL)
MARK = b"\x1e"             # before each of the child's messages
MESSAGES_AHEAD = 64         # that wait until the iteration takes them
PARTING_SECONDS = 2.0
# By what the child calls them.
ERRORS: Dict[str, Type[FollowError]] = {"gone": GoneError, "restarted": RestartedError}
ENDED = None                # in the queue: nothing more comes


def split_host(place: str) -> Tuple[str, str]:
    """'user@host:/folder' -> ('user@host', '/folder'); ('', place) for what is on this machine. Raises FollowError."""
    if place.startswith("ssh://"):
        msg = "Write user@host:/folder in place of %s; a port goes into ssh='ssh -p 2222'." % place
        raise FollowError(msg)
    found = None if os.path.exists(place) else REMOTE.fullmatch(place)
    # Brackets keep the colons of an address apart; ssh itself takes it without.
    return (re.sub(r"[\[\]]", "", found.group(1)), found.group(2)) if found else ("", place)


def command_line(ssh: Union[str, List[str]]) -> List[str]:
    try:
        words = shlex.split(ssh) if isinstance(ssh, str) else list(ssh)
    except ValueError as error:
        msg = "%r is no command for ssh (%s)." % (ssh, error)
        raise FollowError(msg) from error
    if not words:
        msg = "The command for ssh is empty."
        raise FollowError(msg)
    return words


def start(host: str, ssh: Union[str, List[str]], request: Dict[str, Any]) -> "Tuple[subprocess.Popen, BinaryIO]":
    """The child, started with a request, and where its words go when something is wrong. Raises FollowError."""
    lines: List[Any] = [request]
    if host:
        command = [*command_line(ssh), *SSH_OPTIONS, "--", host, BOOT]
        lines = [LOADER, _packed([[name, _source(name)] for name in MODULES]), request]
    else:
        command = [sys.executable, "-I", "-S", FOLDER]
    words = tempfile.TemporaryFile()     # noqa: SIM115, closed with the child
    try:
        # In a session of its own: Ctrl-C is for the user's program alone.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words,
                                   start_new_session=True)
    except OSError as error:
        words.close()
        msg = "%s cannot be started (%s)." % (command[0], (error.strerror or "").lower())
        raise FollowError(msg) from error
    try:
        assert process.stdin is not None
        # A far end that is silent reads nothing: all of it has to find room in the pipe.
        with contextlib.suppress(OSError):
            fcntl.fcntl(process.stdin, F_SETPIPE_SZ, PIPE_BYTES)
        for line in lines:
            process.stdin.write((json.dumps(line).encode("ascii") if not isinstance(line, bytes) else line) + b"\n")
        process.stdin.flush()
    except OSError:
        pass        # it has ended already; why is in its words
    return process, words


def _packed(modules: List[List[str]]) -> bytes:
    return base64.b64encode(zlib.compress(json.dumps(modules).encode("ascii"), 9))


def _source(name: str) -> str:
    with open(os.path.join(FOLDER, name + ".py"), encoding="utf-8") as stream:
        return stream.read()


def end(process: subprocess.Popen, words: BinaryIO, owner: int) -> None:
    """End the child, whatever it is doing. ``owner``: who started it; a forked copy of the program leaves it alone."""
    if os.getpid() != owner:
        return
    try:
        assert process.stdin is not None
        # Not by closing alone: a forked copy of the program may hold the life line, too.
        process.stdin.write(b"end\n")
        process.stdin.close()
    except OSError:
        pass        # it has ended already
    try:
        process.wait(PARTING_SECONDS)
    except subprocess.TimeoutExpired:
        # With all that it has started: the ssh behind a wrapper script holds our pipes, too.
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PARTING_SECONDS)
    words.close()


def last_words(words: BinaryIO) -> str:
    """The last line of what the child had to say beside its messages."""
    words.seek(0)
    lines = words.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


class Child:
    """The messages of a child process, in their order; ends with this object, with the program, or by ``close``."""

    def __init__(self, host: str, ssh: Union[str, List[str]], request: Dict[str, Any]) -> None:
        process, words = start(host, ssh, request)
        self._process, self._words = process, words
        self._subject = ("%s:" % host if host else "") + request["project"]
        # A simple queue, since ``wake`` may be called by a signal handler in the midst of ``next``.
        self._messages: "queue.SimpleQueue[Optional[bytes]]" = queue.SimpleQueue()
        self._room = threading.Semaphore(MESSAGES_AHEAD)
        self._closed = threading.Event()
        self._pump = threading.Thread(target=_pump, args=(process.stdout, self._messages, self._room, self._closed),
                                      daemon=True, name="walk-pump")
        self._finish = weakref.finalize(self, _finish, process, words, os.getpid(), self._closed, self._pump)
        self._pump.start()

    def next(self, timeout: Optional[float] = None) -> Optional[Dict[str, Any]]:
        """The next message; None after so many seconds, or after ``wake``.

        Raises FollowError with what the child says is wrong, or when it is gone without a word.
        """
        try:
            line = self._messages.get(timeout=timeout)
        except queue.Empty:
            return None
        if line == b"":
            return None
        self._room.release()
        if line is ENDED:
            if self._closed.is_set():
                return None
            try:
                death = self._death()
            except ValueError:
                return None     # closed by another thread this moment
            raise FollowError(death)
        message: Dict[str, Any] = json.loads(line[len(MARK):].decode("ascii"))
        if "error" in message:
            raise ERRORS.get(message.get("kind", ""), FollowError)(message["error"])
        return message

    def wake(self) -> None:
        """Let a ``next`` that waits in another thread return."""
        self._messages.put(b"")

    def ask_to_end(self) -> None:
        """Without waiting for it, so that a signal handler may."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            os.write(self._process.stdin.fileno(), b"end\n")

    def close(self) -> None:
        self._finish()

    def _death(self) -> str:
        try:
            self._process.wait(PARTING_SECONDS)
        except subprocess.TimeoutExpired:
            return "What reads %s does not answer any more." % self._subject
        said = last_words(self._words)
        return "What reads %s has ended (%s)." % (self._subject, said or "return code %d" % self._process.returncode)


def _pump(stream: BinaryIO, messages: "queue.SimpleQueue[Optional[bytes]]", room: threading.Semaphore,
          closed: threading.Event) -> None:
    """Lines of the child into the queue, no faster than they are taken out."""
    line: Optional[bytes] = b""
    while line is not ENDED and not closed.is_set():
        try:
            line = stream.readline() or ENDED
        except (OSError, ValueError):
            line = ENDED
        if line is not ENDED and not line.endswith(b"\n"):
            line = ENDED        # cut in the middle
        if line is not ENDED and not line.startswith(MARK):
            continue            # a sign of life, or what the login of another machine prints
        while not closed.is_set() and not room.acquire(timeout=0.2):
            continue
        messages.put(line)


def _finish(process: subprocess.Popen, words: BinaryIO, owner: int, closed: threading.Event,
            pump: threading.Thread) -> None:
    closed.set()
    end(process, words, owner)
    if os.getpid() != owner:
        return
    if pump.is_alive() and pump is not threading.current_thread():
        pump.join(PARTING_SECONDS)
    # Not under a reader: closing would wait for it.
    if not pump.is_alive() and process.stdout is not None:
        process.stdout.close()
