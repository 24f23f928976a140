# SPDX-License-Identifier: GPL-3.0-or-later
"""empiar clean over a shared download folder, and empiar cite."""
import json
import os
import subprocess
import sys
import unittest

from empiardownloader.archive.citing import how_to_cite
from empiardownloader.archive.entry import parse_entry
from empiardownloader.download.fetch import fetch
from empiardownloader.tests.base import ArchiveTestCase, entry, environment, image_set

IS_QUICK = True


class TestClean(ArchiveTestCase):

    def setUp(self):
        super().setUp()
        self.shared = os.path.join(self.folder, "shared")
        self.projects = os.path.join(self.folder, "projects")
        for number in ("10001", "10002", "90003"):
            self.put("%s/data/Movies/m_1.mrc" % number)
            self.put("%s/data/Movies/m_2.mrc" % number)
        self.put("10002/data/Movies/.part.m_3.mrc")
        self.put("notes.txt")
        self.put("10004/other.txt")     # a number, but no entry as it is downloaded
        self.extra = os.path.join(self.projects, "First", "Runs", "000002_EmpiarDownloader", "extra")
        os.makedirs(self.extra)
        os.symlink(os.path.join(self.shared, "10001/data/Movies/m_1.mrc"), os.path.join(self.extra, "m_1.mrc"))
        # A folder that is linked whole, by way of another link.
        os.symlink(self.shared, os.path.join(self.folder, "by"))
        os.symlink(os.path.join(self.folder, "by", "90003", "data"), os.path.join(self.extra, "all"))

    def put(self, path):
        path = os.path.join(self.shared, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(b"x" * 5000)

    def clean(self, *arguments):
        done = subprocess.run([sys.executable, "-m", "empiardownloader", "clean", *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=60, check=False,
                              env=dict(os.environ, HOME=self.folder))
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stdout, done.stderr

    def there(self):
        return sorted(os.listdir(self.shared))

    def test_what_is_here_and_who_uses_it(self):
        code, told, _ = self.clean(self.shared, "--projects", self.projects, "--json")
        found = {each["number"]: each for each in json.loads(told)}
        self.assertEqual((0, ["10001", "10002", "90003"]), (code, sorted(found)))
        run = os.path.dirname(self.extra)
        self.assertEqual([[run], [], [run]], [found[number]["runs"] for number in ("10001", "10002", "90003")])
        self.assertEqual((3, 1), (found["10002"]["files"], found["10002"]["unfinished"]))
        code, told, _ = self.clean(self.shared, "--projects", os.path.join(self.projects, "First"))
        self.assertIn("1 run, like " + run, told)
        self.assertIn("no run that was looked at, 1 unfinished", told)
        self.assertEqual(5, len(self.there()))

    def test_what_goes(self):
        before = self.there()
        for arguments, why in (((), None), (("--delete", "unused"), "give --projects FOLDER"),
                               (("--projects", self.projects, "--delete", "10001"), "is used by"),
                               (("--projects", self.projects, "--delete", "10009"), "has nothing of entry 10009"),
                               (("--projects", self.projects, "--delete", "unused"), "Give --yes")):
            code, _, errors = self.clean(self.shared, *arguments)
            self.assertEqual(why is None, code == 0, errors)
            self.assertIn(why or "", errors)
            self.assertEqual(before, self.there())
        code, _, errors = self.clean(self.shared, "--projects", self.projects, "--delete", "unused", "--yes")
        self.assertEqual((0, "EMPIAR-10002 is deleted.\n"), (code, errors))
        self.assertEqual(["10001", "10004", "90003", "notes.txt"], self.there())
        code, _, errors = self.clean(self.shared, "--projects", self.projects, "--delete", "unused", "--yes")
        self.assertEqual((0, "Every entry here is used by a run: there is nothing to delete.\n"), (code, errors))

    def test_a_folder_that_is_none(self):
        for folder, why in ((self.projects, "holds no entries"), ("/nowhere", "is no folder")):
            code, _, errors = self.clean(folder)
            self.assertEqual(1, code)
            self.assertIn(why, errors)


class TestCite(ArchiveTestCase):

    def test_lines(self):
        record = entry(image_set(), title="Mouse <i>apoferritin</i>.",
                       authors=[{"author": {"name": "Wu M"}}, "Lander GC"],
                       release_date="2019-02-13", entry_doi="10.6019/EMPIAR-10200", cross_references=["EMD-9599"],
                       citation=[{"authors": ["Wu M"], "title": "How low.", "journal": "J Struct Biol", "year": 2019,
                                  "doi": "https://doi.org/10.1016/x"}, {"title": None}, "odd",
                                 {"title": "Only this", "authors": None}])
        lines = how_to_cite(parse_entry("10200", record), ["EMD-0001"])
        self.assertEqual([
            "Wu M, Lander GC. Mouse apoferritin. EMPIAR-10200 (2019). https://doi.org/10.6019/EMPIAR-10200",
            "Wu M. How low. J Struct Biol (2019). https://doi.org/10.1016/x", "Only this.",
            "Maps: EMD-9599 (https://www.ebi.ac.uk/emdb/EMD-9599), EMD-0001 (https://www.ebi.ac.uk/emdb/EMD-0001)"],
            lines[:-2])
        self.assertIn("10.1093/nar/gkac1062", lines[-2])
        self.assertIn("CC0", lines[-1])
        bare = how_to_cite(parse_entry("1", {"imagesets": []}))
        self.assertEqual("Untitled. EMPIAR-1. https://doi.org/10.6019/EMPIAR-1", bare[0])

    def test_command(self):
        demo = self.serve(entries={"10200": entry(image_set(), title="Mouse apoferritin")})
        with environment(XDG_CACHE_HOME=self.folder, **demo.variables):
            done = subprocess.run([sys.executable, "-m", "empiardownloader", "cite", "10200"], stdout=subprocess.PIPE,
                                  text=True, timeout=60, check=True)
        self.assertIn("Mouse apoferritin. EMPIAR-10200", done.stdout)


class TestSharedFolder(ArchiveTestCase):

    def test_that_fetch_is_not_a_shared_folder(self):
        """What ``empiar fetch`` filled has another layout, and is refused."""
        self.write_movies("10001", ["m_1.mrc"])
        demo = self.serve(entries={"10001": entry(image_set())})
        with environment(**demo.variables):
            fetch("10001", os.path.join(self.folder, "own"))
        done = subprocess.run([sys.executable, "-m", "empiardownloader", "clean", os.path.join(self.folder, "own")],
                              stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        self.assertEqual(1, done.returncode)
        self.assertIn("holds no entries", done.stderr)


if __name__ == "__main__":
    unittest.main()
