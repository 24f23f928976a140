# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run is told to end, and how long anything may take."""
import os
import threading
import time
from typing import Any, Callable, List, Optional, TypeVar

from .errors import Stopped, TransientError

# How long a request that was told to end may take to do so before it is left to itself; a name server that does not
# answer cannot be hurried.
HANGUP_SECONDS = 1.0
LOOK_SECONDS = 0.1          # between two looks at a file, or at another event
Answer = TypeVar("Answer")


class StopToken:
    """Whether to stop; any thread may set it and ask it.

    ``event``: is stopped too when that is set; ``path``: or when that file is there, which another process makes.
    """

    def __init__(self, event: Optional[threading.Event] = None, path: str = ""):
        self._event, self._path = event or threading.Event(), path

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set() or (bool(self._path) and os.path.exists(self._path))

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until it is set -> whether it is."""
        deadline = time.monotonic() + seconds
        while not self.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._event.wait(min(LOOK_SECONDS, left) if self._path else left)
        return True

    def check(self) -> None:
        """Raises Stopped."""
        if self.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait so long. Raises Stopped."""
        if self.wait(seconds):
            raise Stopped


NEVER = StopToken()         # for requests that nothing stops


def within(seconds: float, stop: StopToken, function: Callable[[], Answer],
           abort: Callable[[], None] = lambda: None) -> Answer:
    """The function's result, unless ``stop`` is set or it takes longer: then ``abort`` is called.

    A timeout of a socket is no bound: a server that sends a byte now and then never meets it.
    Raises Stopped, TransientError and what the function raises.
    """
    outcome: List[Any] = []
    done = threading.Event()

    def run() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            outcome.append((None, error))
        finally:
            done.set()

    # The function runs beside, not its watcher: a look-up of a name cannot be interrupted, only be left behind.
    threading.Thread(target=run, daemon=True, name="request").start()
    deadline = time.monotonic() + seconds
    while not done.wait(LOOK_SECONDS):
        if stop.is_set() or time.monotonic() > deadline:
            abort()
            done.wait(HANGUP_SECONDS)
            stop.check()
            msg = "no whole answer within %d s" % seconds
            raise TransientError(msg)
    answer, error = outcome[0]
    if error is not None:
        raise error
    result: Answer = answer
    return result
