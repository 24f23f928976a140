# SPDX-License-Identifier: GPL-3.0-or-later
"""A download folder that several accounts share: what one has begun another goes on with."""
import os
import stat
import subprocess
import sys
import tempfile
import unittest

from empiardownloader.transfer.modes import make_folders, share_file

IS_QUICK = True
# A part of a file, as an account with that umask leaves it when it is killed, or takes it up.
CODE = """
import os, sys
from empiardownloader.transfer import parts
from empiardownloader.archive.remote import FileState
parts.boot_id()     # what is imported when it is asked for, another account may not read
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2])); os.umask(int(sys.argv[3], 8))
part = parts.Part.acquire(sys.argv[1])
missing = part.begin("data/m.mrc", FileState(4, "v", ""))
print(missing)
for start, end in missing[:1]:
    part.write(start, memoryview(b"abcd")[start:min(end, start + 2)])
os._exit(0)
"""


class TestModes(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="empiar-test-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        former = os.umask(0o077)
        self.addCleanup(os.umask, former)

    def mode(self, path):
        return stat.S_IMODE(os.stat(path).st_mode)

    def test_rights_are_those_of_the_folder_above(self):
        for given, folders, files in ((0o2775, 0o2770, 0o660), (0o777, 0o777, 0o666), (0o755, 0o700, 0o600),
                                      (0o700, 0o700, 0o600)):
            with self.subTest(oct(given)):
                top = os.path.join(self.folder, oct(given))
                os.mkdir(top)
                os.chmod(top, given)
                below = os.path.join(top, "10200", "data")
                make_folders(below)
                make_folders(below)
                path = os.path.join(below, "m.mrc")
                with open(path, "w"):
                    pass
                share_file(path)
                self.assertEqual((folders, folders, files), (
                    self.mode(os.path.dirname(below)), self.mode(below), self.mode(path)))

    def test_one_account_goes_on_with_the_part_of_another(self):
        if os.getuid():
            self.skipTest("only root can be two others")
        shared = os.path.join(self.folder, "shared")
        os.mkdir(shared)
        os.chmod(self.folder, 0o755)
        os.chmod(shared, 0o777)
        said = []
        for account, umask in (("1001", "022"), ("1002", "077")):
            done = subprocess.run([sys.executable, "-c", CODE, os.path.join(shared, "10200", "data", "m.mrc"), account,
                                   umask], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
            self.assertEqual(0, done.returncode, done.stderr)
            said.append(done.stdout.strip())
        self.assertEqual(["[(0, 4)]", "[(2, 4)]"], said)


if __name__ == "__main__":
    unittest.main()
