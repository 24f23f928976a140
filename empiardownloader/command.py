# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands share: how they are interrupted, what they say where something is wrong, and their exit codes."""
import contextlib
import io
import logging
import os
import signal
import sys
import threading
from typing import Callable, TextIO

EXIT_ERROR, EXIT_STOPPED = 1, 130


def run(work: Callable[[threading.Event], int], again: str = "Stopped; the same command goes on.") -> int:
    """The exit code of a command: 0, 1 with a sentence on stderr, 130 where it was interrupted.

    ``work`` gets an event that Ctrl-C sets, a second one ends the program at once; ``again``: what is said then.
    """
    from .archive.errors import ArchiveError, RemoteError, Stopped
    mend_streams()
    stopped = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_STOPPED) if stopped.is_set() else stopped.set())
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        code = work(stopped)
        # Not at the interpreter's end, where nobody could say what went wrong.
        sys.stdout.flush()
        return code
    except (ArchiveError, RemoteError, Stopped) as error:
        if stopped.is_set():
            say(again)
            return EXIT_STOPPED
        say(for_a_command(str(error)))
        return EXIT_ERROR
    except OSError as error:
        # The reader of the output has gone, or the disk is full: nothing more can be written there.
        _give_up(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            say("The output cannot be written (%s)." % (error.strerror or "").lower())
        return EXIT_ERROR
    finally:
        # Python would make a failure of its own of what cannot be written at its end.
        try:
            sys.stderr.flush()
        except OSError:
            _give_up(sys.stderr)


def _give_up(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def mend_streams() -> None:
    """Outputs that were closed take what is written all the same; letters they do not know are written in others."""
    sys.stdout = sys.stdout or open(os.devnull, "w")     # noqa: SIM115, until the end
    sys.stderr = sys.stderr or open(os.devnull, "w")     # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def lacking(missing: ImportError, packages: str, otherwise: str = "") -> str:
    """A sentence about a module that is not here; ``packages``: what to install, ``otherwise``: another way to it."""
    return "%s is not installed here: %s -m pip install %s%s" % (
        (missing.name or str(missing)).partition(".")[0], sys.executable, packages, otherwise)


def cannot_fetch(missing: ImportError) -> str:
    """The same where the archives' connections lack their library."""
    return lacking(missing, "requests", " (Debian: apt install python3-requests).")


def say(text: str) -> None:
    """A sentence on stderr."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def for_a_command(text: str) -> str:
    """A sentence that was made for a window with a button Continue."""
    return text.replace("then Continue", "then try again").replace("Continue asks again", "the same command asks again")
