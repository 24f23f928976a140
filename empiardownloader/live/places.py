# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that tell whose a block of shared memory or a folder is, so that what a killed process left can be told and
removed by the next one."""
import contextlib
import os
import re
import shutil
import tempfile
from typing import Iterator, List, Optional

from .window.live_messages import SHARED_MEMORY

LONGEST_SOCKET = 100            # bytes of a socket's path that every system takes (Linux: 107)


def identity() -> str:
    """This process for as long as the machine runs: its namespace of pids, its pid, and when it was started.

    A container may share /dev/shm, and not the pids, with others.
    """
    namespace = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    return "%s_%d_%s" % (namespace, os.getpid(), _started(os.getpid()))


def private_folder(prefix: str) -> str:
    """A new folder that nobody else can look into, for sockets. Raises OSError."""
    name = "%s%s_" % (prefix, identity())
    problem: Optional[OSError] = None
    for parent in _parents():
        if len(os.fsencode(os.path.join(parent, name))) + 20 > LONGEST_SOCKET:
            continue
        try:
            return tempfile.mkdtemp(prefix=name, dir=parent)
        except OSError as error:
            problem = error
    raise problem or OSError("no folder has a name short enough for a socket")


def sweep(prefix: str) -> None:
    """Remove what processes of this user that are gone left behind: blocks and folders of names with this prefix."""
    for parent in [*_parents(), SHARED_MEMORY]:
        for path in _left_behind(parent, prefix):
            remove(path)


def _parents() -> List[str]:
    """Folders for folders of sockets."""
    found = [os.environ.get("XDG_RUNTIME_DIR") or ""]
    with contextlib.suppress(OSError):
        # It tries to write there, and fails where the disk is full.
        found.append(tempfile.gettempdir())
    return [parent for parent in dict.fromkeys([*found, "/tmp"]) if parent]


def remove(path: str) -> None:
    """A block or a folder, which another process may remove at the same time."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


def _left_behind(parent: str, prefix: str) -> Iterator[str]:
    here = identity().partition("_")[0]
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            found = re.match(re.escape(prefix) + r"(\d+)_(\d+)_(\d+)_", entry.name)
            # Of other namespaces nobody here can tell whether they live.
            if found and found.group(1) == here and entry.stat(follow_symlinks=False).st_uid == os.getuid() and (
                    _started(int(found.group(2))) != found.group(3)):
                yield entry.path


def _started(pid: int) -> str:
    """When a process was started, in ticks since the machine was; '' where there is none."""
    try:
        with open("/proc/%d/stat" % pid) as stream:
            return stream.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""
