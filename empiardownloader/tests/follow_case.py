# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of follow/ share: a written project, walkers over it, and a look at the children they leave."""
import contextlib
import os
import shutil
import tempfile
import unittest

import empiardownloader
from empiardownloader.follow import EventType, RemoteNodeWalker
from empiardownloader.tests.scipion_files import ProjectFiles
from empiardownloader.tests.waiting import Waiting

NEW_NODE, NEW_DATA, PREPARED, END = (
    EventType.NEW_NODE, EventType.NEW_DATA, EventType.PREPARED_SCAN, EventType.END_SCAN)
TOP = os.path.dirname(os.path.dirname(os.path.abspath(empiardownloader.__file__)))
# As on a machine where nothing is installed: the package alone, and no site-packages.
BARE = {"PYTHONPATH": TOP, "PATH": os.environ["PATH"]}


def children(pid=None, words=b"follow/child"):
    """The readers (or who else has these words in its command) that a process has begun and that still live."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                with open("/proc/%s/stat" % name) as stream:
                    state, parent = stream.read().rpartition(")")[2].split()[:2]
                with open("/proc/%s/cmdline" % name, "rb") as stream:
                    if words in stream.read() and int(parent) == (pid or os.getpid()) and state != "Z":
                        found.append(int(name))
    return found


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class FollowCase(Waiting, unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="empiar-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.project = ProjectFiles(os.path.join(self.folder, "Project"))

    def walker(self, db_name="", **options):
        options.setdefault("interval", 0.05)
        walker = RemoteNodeWalker(self.project.folder, db_name, **options)
        self.addCleanup(walker.__exit__)
        return walker

    def finished_run(self, movies=3, **options):
        run = self.project.add_run(**options)
        run.launch()
        movie_set = run.add_output(movies=movies)
        movie_set.close()
        run.put(status="finished")
        return run

    def told(self, events):
        return [(event.type, event.node.db_name) for event in events]

    def ids(self, events):
        return [item.id for event in events if event.type is NEW_DATA for item in event.data.data]
