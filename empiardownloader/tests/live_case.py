# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of live/ share: backends whose viewer has no windows, and a look at what is left behind."""
import contextlib
import glob
import json
import os
import shutil
import stat
import sys
import tempfile
import unittest
import zlib

import numpy as np

from empiardownloader.live import FijiStreamingBackend, LiveError, NapariStreamingBackend, WebStreamingBackend
from empiardownloader.live.places import SHARED_MEMORY
from empiardownloader.tests.surroundings import environment
from empiardownloader.tests.waiting import Waiting

SCREENS = os.path.dirname(os.path.abspath(__file__))        # where live_window.py is
PREFIXES = (NapariStreamingBackend.SHM_PREFIX, FijiStreamingBackend.SHM_PREFIX, WebStreamingBackend.SHM_PREFIX)


class Without:
    """A backend with a viewer that has no windows: all else is the real one's."""
    SCREEN = "live_window:ScriptedScreen"

    def check(self):
        """Nothing is needed."""

    def _python(self):
        return os.environ["EMPIAR_TEST_PYTHON"]

    def _settings(self):
        return {}


class Publishing(Without, NapariStreamingBackend):
    pass


class Requesting(Without, FijiStreamingBackend):
    pass


def left_behind(*pids):
    """Blocks, folders and living viewers of these senders; of all where none is named."""
    found = []
    for parent in (SHARED_MEMORY, tempfile.gettempdir()):
        for prefix in PREFIXES:
            found += glob.glob(os.path.join(parent, prefix + "*"))
    if pids:
        found = [path for path in found if any("_%d_" % pid in path for pid in pids)]
    return found


def crc(array):
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


class LiveCase(Waiting, unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="empiar-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        # An interpreter that finds the screen of the tests.
        python = os.path.join(self.folder, "python")
        with open(python, "w") as stream:
            stream.write("#!/bin/sh\nPYTHONPATH=%s exec %s \"$@\"\n" % (SCREENS, sys.executable))
        os.chmod(python, os.stat(python).st_mode | stat.S_IXUSR)
        variables = contextlib.ExitStack()
        self.addCleanup(variables.close)
        variables.enter_context(environment(DISPLAY=os.environ.get("DISPLAY") or ":0", EMPIAR_TEST_PYTHON=python,
                                            EMPIAR_TEST_WINDOW="{}"))

    def script(self, **faults):
        os.environ["EMPIAR_TEST_WINDOW"] = json.dumps(faults)

    def opened(self, kind=Publishing, **options):
        backend = kind(**options)
        self.addCleanup(backend.cleanup)
        backend.open()
        return backend

    def images(self, count, shape=(30, 40), dtype="float32", seed=1):
        random = np.random.default_rng(seed)
        return [random.normal(100, 5, shape).astype(dtype) for _ in range(count)]

    def refused(self, backend, pattern):
        with self.assertRaisesRegex(LiveError, pattern):
            backend.open()
