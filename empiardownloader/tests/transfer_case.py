# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the transfer share: files at a source, and their way here."""
import os
import random
import subprocess
import sys
import threading

from empiardownloader.archive.remote.ftp import FtpArchive
from empiardownloader.archive.remote.https import HttpArchive
from empiardownloader.archive.stopping import StopToken
from empiardownloader.tests.base import ArchiveTestCase, read_bytes
from empiardownloader.transfer.jobs import Job, Settings
from empiardownloader.transfer.transfer import Transfer

QUICK = {"first_wait": 0.05, "longest_wait": 0.3, "recover": 2}
SIZE = 3 << 20


class TransferCase(ArchiveTestCase):
    archive_class = None
    variable = ""

    def setUp(self):
        super().setUp()
        self.data = os.path.join(self.root, "1", "data")
        os.makedirs(self.data)
        self.out = os.path.join(self.folder, "out")
        self.demo = self.serve()
        self.url = self.demo.variables[self.variable]

    def archive(self, timeout=2.0):
        return self.archive_class(self.url, "1", timeout)

    def fill(self, count=4, size=SIZE):
        names = ["m_%d.mrc" % number for number in range(count)]
        for seed, name in enumerate(names):
            with open(os.path.join(self.data, name), "wb") as stream:
                stream.write(random.Random(seed).getrandbits(8 * size).to_bytes(size, "little"))
        return names

    def job(self, name, **options):
        return Job("data/" + name, os.path.join(self.out, name), **options)

    def fetch(self, names, cancelled=None, tick=lambda: None, archive=None, jobs=None, witness=lambda path: "",
              **settings):
        """Fetch the files -> {name: outcome}; ``self.transfer`` is the transfer."""
        left = list(jobs or [self.job(name) for name in names])
        outcomes = {}

        def done(outcome):
            outcomes[os.path.basename(outcome.job.path)] = outcome

        self.transfer = Transfer(archive or self.archive(), Settings(**dict(QUICK, **settings)),
                                 cancelled or StopToken(), witness)
        before = set(threading.enumerate())
        try:
            self.transfer.run(lambda: left.pop(0) if left else None, done, tick)
        finally:
            # The demo's servers start threads too; ours are all gone.
            names_left = [t.name for t in set(threading.enumerate()) - before
                          if t.name.startswith("transfer")]
            self.assertEqual([], names_left)
        return outcomes

    def child(self, names, *more, **settings):
        """A process of its own that fetches into ``self.out``."""
        settings = dict({"connections": 4, "first_wait": 0.05}, **settings)
        script = ("import sys\n"
                  "from empiardownloader.archive.stopping import StopToken\n"
                  "from empiardownloader.archive.remote.ftp import FtpArchive\n"
                  "from empiardownloader.archive.remote.https import HttpArchive\n"
                  "from empiardownloader.transfer.jobs import Job, Settings\n"
                  "from empiardownloader.transfer.transfer import Transfer\n"
                  "kind, url, out = sys.argv[1:4]\n"
                  "jobs = [Job('data/' + name, out + '/' + name) for name in sys.argv[4:]]\n"
                  "transfer = Transfer(globals()[kind](url, '1', 5), Settings(**%r), StopToken())\n"
                  "errors = []\n"
                  "transfer.run(lambda: jobs.pop(0) if jobs else None, lambda o: errors.append(o.error))\n"
                  "print(transfer.received, *filter(None, errors))\n"
                  "sys.exit(any(errors))\n") % settings
        if more:
            script = more[0] + script
        return subprocess.Popen(
            [sys.executable, "-c", script, self.archive_class.__name__, self.url, self.out,
             *names], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def bytes_in_journals(self):
        """How many bytes the journals of the parts tell of."""
        total = 0
        for name in os.listdir(self.out):
            if name.endswith(".journal"):
                with open(os.path.join(self.out, name)) as stream:
                    spans = [line.split() for line in stream.read().split("\n")[1:-1] if line[:1].isdigit()]
                total += sum(int(length) for _, length in spans)
        return total

    def bytes_of_whole(self, names):
        """How many bytes of files are there under their final names."""
        paths = [os.path.join(self.out, name) for name in names]
        return sum(os.path.getsize(path) for path in paths if os.path.exists(path))

    def check_whole(self, outcomes, names):
        for name in names:
            self.assertEqual("", outcomes[name].error, name)
            self.assertEqual(read_bytes(os.path.join(self.data, name)), read_bytes(os.path.join(self.out, name)), name)

    def check_clean(self, names):
        """Nothing but the files themselves."""
        self.assertEqual(sorted(names), sorted(os.listdir(self.out)))


class FtpCase(TransferCase):
    archive_class = FtpArchive
    variable = "EMPIAR_FTP_URL"


class HttpCase(TransferCase):
    archive_class = HttpArchive
    variable = "EMPIAR_HTTPS_URL"
