# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may write: what is made in a folder that several users may write in, they may go on with, whatever the umask."""
import contextlib
import os
import stat

GROUP, OTHERS = stat.S_IWGRP, stat.S_IWOTH


def make_folders(path: str) -> None:
    """As os.makedirs; each folder gives the rights that the one above gives. Raises OSError."""
    missing = []
    while path and not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
        mode = os.stat(os.path.dirname(folder) or ".").st_mode
        # The group is handed on, too, where that is asked for.
        _add(folder, (stat.S_IRWXG if mode & GROUP else 0) | (stat.S_IRWXO if mode & OTHERS else 0)
             | mode & stat.S_ISGID)


def share_file(path: str) -> None:
    """Let those write in a file that may write in its folder. Raises OSError where it is gone."""
    mode = os.stat(os.path.dirname(path) or ".").st_mode
    _add(path, (stat.S_IRGRP | GROUP if mode & GROUP else 0) | (stat.S_IROTH | OTHERS if mode & OTHERS else 0))


def _add(path: str, bits: int) -> None:
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if bits & ~mode:
        # Another user's, who has made it this moment, and gives the rights himself.
        with contextlib.suppress(PermissionError):
            os.chmod(path, mode | bits)
