# SPDX-License-Identifier: GPL-3.0-or-later
"""Speed, order, processor time and memory of the transfer, beside aria2c, lftp and curl, from vsftpd and nginx."""
import bz2
import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

from empiardownloader.archive.remote import HTTPS
from empiardownloader.archive.remote.ftp import FtpArchive
from empiardownloader.archive.remote.https import HttpArchive
from empiardownloader.archive.stopping import StopToken
from empiardownloader.demo import movies
from empiardownloader.tests import servers
from empiardownloader.transfer.jobs import Job, Settings
from empiardownloader.transfer.transfer import Transfer
from empiardownloader.transfer.unpack import unpack

CONNECTIONS = 8
FOLDER = "empiar/world_availability/1/data"
MB = 1e6


@contextlib.contextmanager
def fast_folder():
    """Where files cost no disk time, and where servers may read as their own users."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        os.chmod(folder, 0o755)
        yield folder


def peak_memory():
    """The most memory this process has had, MB. (getrusage counts what its parent had when it was forked, too.)"""
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) / 1000 for line in stream if line.startswith("VmHWM"))


def fill(root, count, size):
    folder = os.path.join(root, FOLDER)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    block = os.urandom(1 << 20)
    names = ["m_%02d.mrc" % number for number in range(count)]
    for name in names:
        with open(os.path.join(folder, name), "wb") as stream:
            for _ in range(size // len(block) + 1):
                stream.write(block)
            stream.truncate(size)
    return names


class Servers:
    """vsftpd and nginx with TLS over one tree, each connection limited to ``rate`` bytes a second."""

    def __init__(self, root, folder, rate):
        self._root, self._folder, self._rate = root, folder, rate

    def __enter__(self):
        certificate, self.authority = servers.certificates(self._folder, "localhost", "127.0.0.1")
        os.environ["REQUESTS_CA_BUNDLE"] = self.authority
        self._ftp = servers.vsftpd(self._root, self._rate)
        self._https = servers.nginx(self._root, self._rate, certificate=certificate)
        self.urls = {"FTP": "ftp://127.0.0.1:%d/empiar/world_availability" % self._ftp.__enter__(),
                     "HTTPS": "https://127.0.0.1:%d/empiar/world_availability" % self._https.__enter__()}
        return self

    def __exit__(self, *error):
        self._ftp.__exit__(*error)
        self._https.__exit__(*error)


def ours(url, names, out, size=None):
    """-> (seconds, [seconds of each file], order of names); ``size``: bytes of each as a listing tells them"""
    archive = (FtpArchive if url.startswith("ftp") else HttpArchive)(url, "1")
    if size and archive.transport == HTTPS:
        size = int(float("%.2g" % size))    # pages round
    jobs = [Job("data/" + name, os.path.join(out, name), size=size) for name in names]
    times, order = [], []
    began = time.monotonic()

    def done(outcome):
        assert not outcome.error, outcome.error
        times.append(time.monotonic() - began)
        order.append(os.path.basename(outcome.job.path))

    Transfer(archive, Settings(connections=CONNECTIONS), StopToken()).run(
        lambda: jobs.pop(0) if jobs else None, done)
    return time.monotonic() - began, times, order


def peers(url, names, out, authority):
    """Command lines of the other programs that are installed."""
    links = ["%s/1/data/%s" % (url, name) for name in names]
    listed = os.path.join(out, "links")
    with open(listed, "w") as stream:
        stream.write("\n".join(links))
    commands = {
        "aria2c": ["aria2c", "-q", "-j%d" % CONNECTIONS, "-i", listed, "-d", out, "--file-allocation=none",
                   "--ca-certificate=" + authority],
        "lftp": ["lftp", "-c", "set ssl:ca-file %s; set cmd:fail-exit yes; mirror -P%d %s/1/data/ %s/data" % (
            authority, CONNECTIONS, url, out)],
        "curl": ["curl", "-s", "-S", "--cacert", authority, "--parallel", "--parallel-max", str(CONNECTIONS),
                 *[part for number, link in enumerate(links) for part in ("-o", "%s/c%d" % (out, number), link)]]}
    return {name: command for name, command in commands.items() if shutil.which(name)}


def run_peer(command):
    """-> (seconds, processor seconds)"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_transfer():
    reason = servers.missing()
    if reason:
        print("left out: %s" % reason)
        return
    with fast_folder() as root, tempfile.TemporaryDirectory() as folder:
        limited(root, folder)
        unlimited(root, folder)


def limited(root, folder):
    for count, size in ((12, 16000000), (1, 64000000)):
        names = fill(root, count, size)
        limit = count * size / (CONNECTIONS * servers.RATE)
        with Servers(root, folder, servers.RATE) as here:
            for transport, url in here.urls.items():
                with fast_folder() as out:
                    seconds, times, order = ours(url, names, out, size)
                    print("%d x %d MB over %s, 1.5 MB/s a connection: %.2f s, %.2f x the byte limit of %.2f s" % (
                        count, size / MB, transport, seconds, seconds / limit, limit))
                    if count == 1:
                        continue
                    print("   first movie after %.2f s, %.2f x its byte limit; in listing order: %s" % (
                        times[0], times[0] / (limit / count), order == names))
                    others = {name: run_peer(command)[0] for name, command in peers(
                        url, names, out, here.authority).items() if name != "curl"}
                    for name, other in others.items():
                        print("   %s %.2f s" % (name, other))
                    if others:
                        print("   ours / best of them: %.2f" % (seconds / min(others.values())))


def unlimited(root, folder):
    count, size = 8, 256000000
    names = fill(root, count, size)
    gigabytes = count * size / 1e9
    script = ("import resource, sys, tempfile\n"
              "sys.path.insert(0, %r)\n"
              "import transfer\n"
              "with transfer.fast_folder() as out:\n"
              "    before, memory = resource.getrusage(resource.RUSAGE_SELF), transfer.peak_memory()\n"
              "    seconds, _, _ = transfer.ours(sys.argv[1], sys.argv[2:], out)\n"
              "after = resource.getrusage(resource.RUSAGE_SELF)\n"
              "print(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,\n"
              "      transfer.peak_memory() - memory)\n" % os.path.dirname(os.path.abspath(__file__)))

    def measured(url, files):
        done = subprocess.run([sys.executable, "-c", script, url, *files], check=True, text=True,
                              stdout=subprocess.PIPE)
        return [float(word) for word in done.stdout.split()]

    with Servers(root, folder, 0) as here:
        for transport, url in here.urls.items():
            measured(url, names)    # the machine warms up: pages of the memory disk, the processor's clock
            seconds, processor, _ = measured(url, names)
            print("%d x %d MB over %s, no limit: %.0f MB/s, %.2f processor s/GB" % (
                count, size / MB, transport, gigabytes * 1000 / seconds, processor / gigabytes))
            for name in ("aria2c", "curl"):
                with fast_folder() as out:
                    command = peers(url, names, out, here.authority).get(name)
                    if command is None:
                        continue
                    other, other_processor = run_peer(command)
                print("   %s: %.0f MB/s, %.2f processor s/GB; ours / its: speed %.2f, processor %.2f" % (
                    name, gigabytes * 1000 / other, other_processor / gigabytes, other / seconds,
                    processor / other_processor))
    names = fill(root, 2, 2000000000)
    with Servers(root, folder, 0) as here:
        for transport, url in here.urls.items():
            print("2 x 2 GB over %s: memory grows by %.0f MB" % (transport, measured(url, names)[2]))


def measure_unpacking():
    """Twelve compressed movies: with two cores the decompression hides behind the download."""
    with fast_folder() as root, fast_folder() as out:
        folder = os.path.join(root, FOLDER)
        names = []
        for number in range(12):
            path = os.path.join(folder, "m_%02d.tif" % number)
            movies.write_movie(path, number, frames=40, width=512, height=512)
            with open(path, "rb") as stream, open(path + ".bz2", "wb") as packed:
                packed.write(bz2.compress(stream.read()))
            os.remove(path)
            names.append("m_%02d.tif" % number)
        began = time.monotonic()
        for name in names:
            unpack(os.path.join(folder, name + ".bz2"), ".bz2", os.path.join(out, name))
        alone = time.monotonic() - began
        reason = servers.missing()
        if reason:
            print("left out: %s" % reason)
            return
        with servers.vsftpd(root, servers.RATE) as port:
            archive = FtpArchive("ftp://127.0.0.1:%d/empiar/world_availability" % port, "1")
            times = []
            for compression in ("", ".bz2"):
                jobs = [Job("data/%s.bz2" % name, os.path.join(out, "%s%s" % (name, compression and ".new")),
                            compression) for name in names]
                jobs = [Job(job.path, job.target + ("" if compression else ".bz2"), job.compression) for job in jobs]
                began = time.monotonic()
                Transfer(archive, Settings(connections=4), StopToken()).run(
                    lambda jobs=jobs: jobs.pop(0) if jobs else None, lambda outcome: None)
                times.append(time.monotonic() - began)
        print("12 bz2 movies: %.1f s to fetch, %.1f s to fetch and decompress; decompressing alone takes %.1f s: "
              "%.2f of it is added" % (times[0], times[1], alone, (times[1] - times[0]) / alone))
