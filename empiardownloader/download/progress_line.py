# SPDX-License-Identifier: GPL-3.0-or-later
"""One line that shows how far something is; where nobody watches a terminal, a line now and then."""
import io
import shutil
import sys
import time
from typing import Optional, TextIO

PLAIN_SECONDS = 10      # between two lines where the output is no terminal
BAR_CHARACTERS = 24


class ProgressLine:
    """Use as a context manager; ``show`` as often as wanted."""

    def __init__(self, stream: Optional[TextIO] = None):
        # There may be none at all, under a scheduler say.
        self._stream: TextIO = stream or sys.stderr or io.StringIO()
        self._terminal = self._stream.isatty()
        self._shown = ""
        self._last_plain = float("-inf")

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(self, *error: object) -> None:
        if self._terminal and self._shown:
            self._write("\n")

    def show(self, share: Optional[float], text: str, important: bool = False) -> None:
        """``share``: how much of all is done, 0 to 1, None where unknown; ``important``: a new stage has begun."""
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            done = round(BAR_CHARACTERS * min(max(share or 0, 0), 1))
            bar = "[%s%s] " % ("#" * done, "." * (BAR_CHARACTERS - done))
            line = (bar + text)[:width]
            self._write("\r" + line.ljust(min(len(self._shown), width)))
            self._shown = line
        elif important or time.monotonic() - self._last_plain >= PLAIN_SECONDS:
            if text == self._shown:
                return
            self._last_plain, self._shown = time.monotonic(), text
            self._write(text + "\n")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # Nobody sees it any more; what it tells of goes on.
            self._stream = io.StringIO()
