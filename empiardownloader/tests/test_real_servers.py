# SPDX-License-Identifier: GPL-3.0-or-later
"""vsftpd and nginx from Debian in place of EMPIAR's servers, under EMPIAR's own names and with no setting changed.

A network and a hosts file of its own (unshare) keep the play away from the machine's.
"""
import json
import os
import shutil
import subprocess
import sys
import unittest

from pyworkflow.object import Set

from empiardownloader.demo import movies
from empiardownloader.tests import servers
from empiardownloader.tests.base import ProtocolTestCase, emdb, entry, image_set, write_movies
from empiardownloader.tests.surroundings import environment

NAMES = ("www.ebi.ac.uk", "ftp.ebi.ac.uk")
IN_NAMESPACE = "EMPIAR_TEST_NAMESPACE"


def missing():
    if servers.missing():
        return servers.missing()
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-n", "-m", "true"], stderr=subprocess.DEVNULL,
                                                         check=False).returncode:
        return "no network namespace of its own can be made here"
    return ""


@unittest.skipIf(missing(), missing())
class TestRealNames(unittest.TestCase):

    def test_under_the_real_names(self):
        """Starts the case below inside the namespace."""
        script = ("ip link set lo up 2>/dev/null || ifconfig lo up\n"
                  "hosts=$(mktemp)\n"
                  "cat /etc/hosts > $hosts\n"
                  "echo '127.0.0.1 %s' >> $hosts\n"
                  "mount --bind $hosts /etc/hosts\n"
                  "exec \"$@\"\n" % " ".join(NAMES))
        with environment(**{IN_NAMESPACE: "yes"}):
            done = subprocess.run(
                ["unshare", "-n", "-m", "sh", "-c", script, "sh", sys.executable, "-m", "unittest",
                 "empiardownloader.tests.test_real_servers.InsideTheNamespace"], stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=240, check=False)
        self.assertEqual(0, done.returncode, done.stdout[-4000:])


class InsideTheNamespace(ProtocolTestCase):
    RATE = servers.RATE

    @classmethod
    def setUpClass(cls):
        if not os.environ.get(IN_NAMESPACE):
            raise unittest.SkipTest("runs inside the namespace that TestRealNames makes")
        super().setUpClass()
        tree = os.path.join(cls.folder, "tree")
        folder = os.path.join(tree, "empiar", "world_availability")
        write_movies(folder, "10200", ["m_%02d.mrc" % n for n in range(5)], frames=40, width=512, height=384)
        movies.write_gain(os.path.join(folder, "10200/data/Movies/CountRef_26_000_Oct04_16.13.54.mrc"), 9, 512, 384)
        cls.sources = os.path.join(folder, "10200", "data", "Movies")
        for name, record in (("empiar/api/entry/10200/index.json", {"EMPIAR-10200": entry(
                image_set(num_images_or_tilt_series=5, frames_per_image=40, image_width="512", image_height="384"))}),
                ("emdb/api/entry/EMD-0001", emdb(frames="40"))):
            path = os.path.join(tree, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as stream:
                json.dump(record, stream)
        certificate, authority = servers.certificates(cls.folder, *NAMES)
        cls.variables.close()       # no configuration: the plugin's defaults
        cls.variables.enter_context(environment(REQUESTS_CA_BUNDLE=authority))
        cls.variables.enter_context(servers.nginx(tree, cls.RATE, 443, certificate=certificate))
        cls.variables.enter_context(servers.vsftpd(tree, cls.RATE, 21))

    def test_streaming_over_each_transport(self):
        for transport, words in ((1, "FTP server ftp.ebi.ac.uk"), (2, "HTTPS server ftp.ebi.ac.uk")):
            protocol = self.new(amountOfImages=5, connections=2, transport=transport)
            self.launch(protocol, wait=False)
            streaming = self.with_output(protocol)
            self.assertTrue(self.is_downloading(streaming))
            self.assertEqual(Set.STREAM_OPEN, streaming.outputMovies.getStreamState())
            run = self.ended(protocol)
            self.assertTrue(run.isFinished(), run.getErrorMessage())
            movie_set = self.check_set(run, 5, {"m_%02d.mrc" % n: os.path.join(self.sources, "m_%02d.mrc" % n)
                                                for n in range(5)})
            self.assertTrue(movie_set.getGain().endswith("CountRef_26_000_Oct04_16.13.54.mrc"))
            steps = run.loadSteps()
            registers = [step.getObjId() for step in steps[3:]]
            self.assertEqual({"registerImageStep"}, {str(step.funcName) for step in steps[3:]})
            self.assertEqual([2, *registers], [int(i) for i in steps[2]._prerequisites])
            with open(os.path.join(self.proj.getPath(), run.getStdoutLog())) as stream:
                self.assertIn(words, stream.read())
