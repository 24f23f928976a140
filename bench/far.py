# SPDX-License-Identifier: GPL-3.0-or-later
"""From afar: every byte half a round trip later, in each direction, beside aria2c and lftp in the same run."""
import os
import subprocess
import tempfile

from transfer import CONNECTIONS, MB, Servers, fast_folder, fill, ours, peers, run_peer

from empiardownloader.demo import faults
from empiardownloader.demo.archive import DemoArchive
from empiardownloader.tests import servers
from empiardownloader.tests.far import forwarder

ROUND_TRIPS = (0.001, 0.1, 0.25)


def measure_far():
    reason = servers.missing()
    if reason:
        print("left out: %s" % reason)
        return
    with fast_folder() as root, tempfile.TemporaryDirectory() as folder:
        for count, size, round_trips in ((24, 6000000, ROUND_TRIPS), (8, 60000000, ROUND_TRIPS[-1:])):
            names = fill(root, count, size)
            with Servers(root, folder, servers.RATE) as here:
                for transport, url in here.urls.items():
                    for round_trip in round_trips:
                        measure(here, url, transport, names, size, round_trip)
        names = fill(root, 24, 6000000)
        with Servers(root, folder, servers.RATE) as here:
            for transport, url in here.urls.items():
                hanging(url, transport, names)
        stalling(root, names)


def measure(here, url, transport, names, size, round_trip):
    limit = len(names) * size / (CONNECTIONS * servers.RATE)
    with forwarder(port_of(url), round_trip, transport == "FTP") as far, fast_folder() as out:
        there = far.address(url)
        seconds, times, order = ours(there, names, out, size)
        opened, most = far.counts()
        assert all(os.path.getsize(os.path.join(out, name)) == size for name in names)
        print("%d x %d MB over %s at %.0f ms: %.2f s, %.2f x the limit of %.1f s; first file %.2f s (limit %.1f s), "
              "in order: %s; %d connections, at most %d at a time" % (
                  len(names), size / MB, transport, 1000 * round_trip, seconds, seconds / limit, limit, times[0],
                  limit / len(names), order == names, opened, most), flush=True)
        others = {}
        for name, command in peers(there, names, out, here.authority).items():
            if name != "curl":
                try:
                    others[name] = run_peer(command)[0]
                except subprocess.CalledProcessError as error:
                    print("   %s failed (%s)" % (name, error.returncode))
        for name, other in others.items():
            print("   %s %.2f s, %.2f x" % (name, other, other / limit))
        if others:
            print("   ours / best of them: %.2f" % (seconds / min(others.values())), flush=True)


def hanging(url, transport, names):
    for hang, words in (("", "no connection hangs"), ("half", "one in eight hangs after 3 MB"),
                        ("first", "one in twenty hangs before its first byte")):
        with forwarder(port_of(url), 0.02, transport == "FTP", hang) as far, fast_folder() as out:
            seconds = ours(far.address(url), names, out, 6000000)[0]
            print("%s over %s: %.1f s" % (words, transport, seconds), flush=True)


def stalling(root, names):
    """The servers of the small EMPIAR, for they can let a file hang once."""
    for transport, variable in (("FTP", "EMPIAR_FTP_URL"), ("HTTP", "EMPIAR_HTTPS_URL")):
        for hangs in (False, True):
            with DemoArchive(os.path.join(root, "empiar", "world_availability"), rate=servers.RATE) as demo, \
                    fast_folder() as out:
                for name in names if hangs else ():
                    demo.add_fault(faults.STALL, "*" + name, after=500000, times=1)
                seconds = ours(demo.variables[variable], names, out, 6000000)[0]
                assert all(os.path.getsize(os.path.join(out, name)) == 6000000 for name in names)
                print("each of %d files hangs once in the middle of a range: %s, over %s: %.1f s" % (
                    len(names), hangs, transport, seconds), flush=True)


def port_of(url):
    return int(url.split(":")[2].split("/")[0])
