# SPDX-License-Identifier: GPL-3.0-or-later
"""What it costs that data reach the disk before anything says so, and what a kill costs."""
import contextlib
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import unittest
from unittest import mock

from transfer import MB, Servers, fast_folder, fill, ours

from empiardownloader.tests import servers
from empiardownloader.tests.far import forwarder
from empiardownloader.tests.transfer_case import HttpCase
from empiardownloader.transfer.parts import Part

ROUND_TRIP, KILLS = 0.2, 10


def measure_safety():
    measure_cost()
    for round_trip in (0, ROUND_TRIP):
        result = unittest.TestResult()
        Kills(round_trip).run(result)
        for _, text in result.errors + result.failures:
            sys.exit(text)


class Kills(HttpCase):
    """The share of the bytes that a server sends twice where the download is killed again and again: what was on the
    line, or was read and not written yet."""

    def __init__(self, round_trip):
        super().__init__()
        self._round_trip = round_trip

    def runTest(self):
        size, moments = 8 << 20, random.Random(5)
        names = self.fill(8, size)
        self.demo.rate = 1 << 20
        os.makedirs(self.out)
        with contextlib.ExitStack() as stack:
            if self._round_trip:
                self.url = stack.enter_context(forwarder(self.demo.http_port, self._round_trip)).address(self.url)
            for _ in range(KILLS):
                process, sent = self.child(names), self.demo.sent_bytes
                self.wait_for(lambda before=sent: self.demo.sent_bytes > before)
                time.sleep(moments.uniform(0.2, 0.8))
                process.send_signal(signal.SIGKILL)
                process.communicate()
            time.sleep(2 * self._round_trip)        # until the server has heard of it
            twice = self.demo.sent_bytes - self.bytes_of_whole(names) - self.bytes_in_journals()
        print("8 x %d MB, %d kills, %.1f s there and back: %.3f x of the bytes sent twice" % (
            size / MB, KILLS, self._round_trip, twice / (8 * size)))


def measure_cost():
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
