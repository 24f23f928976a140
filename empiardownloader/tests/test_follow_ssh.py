# SPDX-License-Identifier: GPL-3.0-or-later
"""Projects of another machine: a real sshd on loopback, its own host key and a key to log in with."""
import getpass
import os
import shlex
import shutil
import signal
import subprocess
import sys
import unittest

import mrcfile
import numpy as np

from empiardownloader.demo import movies
from empiardownloader.follow import EventType, FollowError, ImageChannel, RemoteNodeWalker
from empiardownloader.tests import servers
from empiardownloader.tests.follow_case import BARE, FollowCase, alive

SSHD_CONF = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile {folder}/pid
AuthorizedKeysFile {folder}/authorized
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
SetEnv PATH={path}
"""
SSH_CONF = """\
IdentityFile {folder}/key
IdentitiesOnly yes
UserKnownHostsFile {folder}/known
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
"""


def missing():
    absent = [name for name in ("sshd", "ssh", "ssh-keygen") if servers.find(name) is None]
    return "not installed: " + ", ".join(absent) if absent else ""


@unittest.skipIf(missing(), missing())
class TestOverSsh(FollowCase):

    def setUp(self):
        super().setUp()
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        for name in ("host", "key", "other"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(self.folder, name)],
                           check=True)
        port = servers.free_port()
        shutil.copy(self.place("key.pub"), self.place("authorized"))
        with open(self.place("host.pub")) as stream:
            key = " ".join(stream.read().split()[:2])
        self.write("known", "[127.0.0.1]:%d %s\n" % (port, key))
        self.write("ssh.conf", SSH_CONF.format(folder=self.folder))
        self.write("sshd.conf", SSHD_CONF.format(port=port, folder=self.folder, path=os.pathsep.join(
            [os.path.dirname(sys.executable), "/usr/bin", "/bin"])))
        server = servers.running([servers.find("sshd"), "-D", "-e", "-f", self.place("sshd.conf")], port)
        server.__enter__()
        self.addCleanup(server.__exit__, None, None, None)
        self.ssh = "ssh -F %s -p %d" % (shlex.quote(self.place("ssh.conf")), port)
        self.host = "%s@127.0.0.1" % getpass.getuser()

    def place(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.place(name), "w") as stream:
            stream.write(text)

    def remote(self, db_name="", folder=None, **options):
        options = dict({"interval": 0.05, "ssh": self.ssh}, **options)
        walker = RemoteNodeWalker("%s:%s" % (self.host, folder or self.project.folder), db_name, **options)
        self.addCleanup(walker.__exit__)
        return walker

    def test_the_same_walk(self):
        run = self.finished_run(movies=1200)
        here = list(self.walker().walk_events(wait=False))
        there = list(self.remote().walk_events(wait=False))
        self.assertEqual(self.told(here), self.told(there))
        self.assertEqual(list(range(1, 1201)), self.ids(there))
        node = there[-2].node
        self.assertEqual("%s:%s/outputMovies.sqlite" % (self.host, run.path), node.path)
        self.assertTrue(there[-2].data.data[0].path.startswith(self.host + ":/"))
        self.assertTrue(node.info["gain"].startswith(self.host + ":/"))
        events = self.remote(run.name).walk_on_new_events()
        run.launch()
        run.put(status="failed", _error="The disk is full.")
        self.assertEqual("The disk is full.", next(event for event in events if event.type is EventType.END_SCAN)
                         .data.description)

    def test_a_host_that_begins_with_a_command_of_its_own(self):
        """F14: as administrators set it for shared machines; ssh refuses a second command beside it."""
        self.finished_run(movies=2)
        self.write("ssh.conf", SSH_CONF.format(folder=self.folder) + "RemoteCommand /bin/false\n")
        self.assertEqual([1, 2], self.ids(list(self.remote().walk_events(wait=False))))

    def test_an_image(self):
        run = self.finished_run(movies=2)
        for number in (1, 2):
            movies.write_movie(os.path.join(run.path, "extra", "m_%05d.mrc" % number), number)
        node, = self.remote().walk("SetOfMovies", wait=False)
        view = ImageChannel(node, ssh=self.ssh).get(0)
        self.assertEqual(2, len(view))
        with mrcfile.open(os.path.join(run.path, "extra", "m_00002.mrc")) as file:
            np.testing.assert_array_equal(file.data, view.get_image(1))
        os.remove(os.path.join(run.path, "extra", "m_00001.mrc"))
        with self.assertRaisesRegex(FollowError, "m_00001.mrc cannot be read .no such file"):
            view.get_image(0)

    def test_the_end_of_the_child(self):
        self.finished_run()
        with self.remote().walk_events() as events:
            next(events)
            child, = self.booted()
        self.wait_for(lambda: not alive(child), 10, "the end of the child")
        script = ("import sys, time\n"
                  "from empiardownloader.follow import RemoteNodeWalker\n"
                  "events = RemoteNodeWalker(sys.argv[1], ssh=sys.argv[2]).walk_events()\n"
                  "next(events)\n"
                  "print('now', flush=True)\n"
                  "time.sleep(60)\n")
        reader = subprocess.Popen([sys.executable, "-S", "-c", script, "%s:%s" % (self.host, self.project.folder),
                                   self.ssh], env=dict(BARE, HOME=os.path.expanduser("~")), stdout=subprocess.PIPE)
        self.assertEqual(b"now\n", reader.stdout.readline())
        child, = self.booted()
        reader.send_signal(signal.SIGKILL)
        reader.communicate()
        self.wait_for(lambda: not alive(child), 10, "the end of the child")

    def booted(self):
        """The readers that came through this test's server."""
        with open(self.place("pid")) as stream:
            server = int(stream.read())
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open("/proc/%s/cmdline" % name, "rb") as stream:
                        words = stream.read().split(b"\0")
                    if words[0].endswith(b"python3") and b"exec(json.loads" in b"".join(words) \
                            and server in self.ancestors(int(name)):
                        found.append(int(name))
                except OSError:
                    continue
        return found

    @staticmethod
    def ancestors(pid):
        while pid > 1:
            with open("/proc/%d/stat" % pid) as stream:
                pid = int(stream.read().rpartition(")")[2].split()[1])
            yield pid

    def test_a_login_that_talks(self):
        self.finished_run()
        self.write("talking", "#!/bin/sh\nprintf 'Welcome {to} this machine'\nexec %s \"$@\"\n" % self.ssh)
        self.assertEqual([1, 2, 3], self.ids(self.remote(ssh="sh " + self.place("talking")).walk_events(wait=False)))

    def test_what_cannot_be_reached(self):
        self.finished_run()
        port = servers.free_port()
        other_key = self.ssh + " -i " + self.place("other")
        self.write("unknown.conf", SSH_CONF.format(folder=self.folder).replace("/known", "/nobody"))
        for ssh, words in (("ssh -F %s -p %d" % (self.place("ssh.conf"), port), "Connection refused"),
                           (other_key.replace(self.place("ssh.conf"), "/dev/null") +
                            " -o UserKnownHostsFile=%s" % self.place("known"), "Permission denied"),
                           (self.ssh.replace("ssh.conf", "unknown.conf"), "Host key verification failed"),
                           ("no-such-command", "no-such-command cannot be started")):
            with self.assertRaisesRegex(FollowError, words):
                list(self.remote(ssh=ssh).walk_events())
        with self.assertRaisesRegex(FollowError, "There is no folder /nowhere here"):
            list(self.remote(folder="/nowhere").walk_events())
