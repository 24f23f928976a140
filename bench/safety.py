# SPDX-License-Identifier: GPL-3.0-or-later
"""What it costs that data reach the disk before anything says so."""
import contextlib
import os
import statistics
import tempfile
from unittest import mock

from transfer import MB, Servers, fast_folder, fill, ours

from empiardownloader.tests import servers
from empiardownloader.transfer.parts import Part


def measure_safety():
    reason = servers.missing()
    if reason:
        print("left out: %s" % reason)
        return
    for rate, count, size in ((servers.RATE, 12, 16000000), (0, 8, 128000000)):
        with fast_folder() as root, tempfile.TemporaryDirectory() as folder:
            names = fill(root, count, size)
            with Servers(root, folder, rate) as here:
                seconds = {True: [], False: []}
                for _ in range(3):
                    for safe in (True, False):
                        seconds[safe].append(_run(here.urls["FTP"], names, safe))
        with_it, without = (statistics.median(seconds[safe]) for safe in (True, False))
        print("%d x %d MB over FTP, %s, onto a disk: %.2f s, without the safety %.2f s: %.3f x" % (
            count, size / MB, "1.5 MB/s a connection" if rate else "no limit", with_it, without, with_it / without))


def _run(url, names, safe):
    # On a disk: in memory there would be nothing to wait for.
    with tempfile.TemporaryDirectory(dir=os.path.expanduser("~")) as out, contextlib.ExitStack() as stack:
        if not safe:
            stack.enter_context(mock.patch.object(Part, "sync", lambda part: None))
        os.sync()
        return ours(url, names, out)[0]
