# SPDX-License-Identifier: GPL-3.0-or-later
"""empiar clean over a shared download folder, and empiar cite."""
import contextlib
import fcntl
import io
import json
import os
import platform
import pty
import select
import shutil
import subprocess
import sys
import termios
import threading
import unittest
from unittest import mock

from empiardownloader.archive.citing import how_to_cite
from empiardownloader.archive.entry import parse_entry
from empiardownloader.archive.errors import Stopped
from empiardownloader.download import clean, survey
from empiardownloader.download.fetch import fetch
from empiardownloader.download.plan import plan
from empiardownloader.download.users import NOTES, note_use, noted_uses
from empiardownloader.tests.base import ArchiveTestCase, entry, image_set
from empiardownloader.tests.surroundings import environment

IS_QUICK = True


class TestClean(ArchiveTestCase):

    def setUp(self):
        super().setUp()
        self.shared = os.path.join(self.folder, "shared")
        self.projects = os.path.join(self.folder, "projects")
        self.data = ""          # Scipion's own folder
        for number in ("10001", "10002", "90003"):
            self.put("%s/data/Movies/m_1.mrc" % number)
            self.put("%s/data/Movies/m_2.mrc" % number)
        self.put("10002/data/Movies/.part.m_3.mrc")
        self.put("notes.txt")
        self.put("10004/other.txt")     # a number, but no entry as it is downloaded
        self.extra = os.path.join(self.projects, "First", "Runs", "000002_EmpiarDownloader", "extra")
        os.makedirs(self.extra)
        with open(os.path.join(self.projects, "First", "project.sqlite"), "w"):
            pass
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
                              env=dict(os.environ, HOME=self.folder, SCIPION_USER_DATA=self.data))
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stdout, done.stderr

    def there(self):
        return sorted(os.listdir(self.shared))

    def note(self, number, name="000009_EmpiarDownloader", project="First"):
        """A run that has said that it uses an entry, and has no link yet -> its folder."""
        run = os.path.join(self.projects, project, "Runs", name)
        os.makedirs(os.path.join(run, "extra"), exist_ok=True)
        note_use(self.shared, number, os.path.join(run, "extra"))
        return run

    def list(self, *arguments):
        code, told, errors = self.clean(self.shared, *arguments, "--json")
        self.assertEqual(0, code, errors)
        self.told = json.loads(told)
        return {each["number"]: each for each in self.told["entries"]}

    def delete(self, *arguments, name="10002"):
        """-> what is still there, and the sentences."""
        code, _, errors = self.clean(self.shared, *arguments, "--delete", name, "--yes")
        self.assertEqual("EMPIAR-%s is deleted" % name in errors, code == 0, errors)
        return [number for number in ("10001", "10002", "90003")
                if os.path.exists(os.path.join(self.shared, number, "data"))], errors

    def test_what_is_here_and_who_uses_it(self):
        found = self.list("--projects", self.projects)
        self.assertEqual(["10001", "10002", "90003"], sorted(found))
        run = os.path.dirname(self.extra)
        self.assertEqual([[run], [], [run]], [found[number]["runs"] for number in ("10001", "10002", "90003")])
        self.assertEqual((3, 1), (found["10002"]["files"], found["10002"]["unfinished"]))
        _, told, _ = self.clean(self.shared, "--projects", os.path.join(self.projects, "First"))
        self.assertIn("1 run, like " + run, told)
        self.assertIn("no run that was looked at, 1 unfinished", told)
        self.assertIn("Looked at 1 run of 1 project in", told)
        self.assertEqual(5, len(self.there()))

    def age(self):
        """The part of a file is of a download that ended long ago."""
        os.utime(os.path.join(self.shared, "10002/data/Movies/.part.m_3.mrc"), (1, 1))

    def test_what_goes(self):
        """What is named, and used by nobody that is known; of that what was downloaded."""
        before = self.there()
        self.age()
        for arguments, why in (((), None), (("--delete", "10002"), "give --projects FOLDER"),
                               (("--projects", self.projects, "--delete", "10001"), "is used by"),
                               (("--projects", self.projects, "--delete", "10009"), "has nothing of entry 10009"),
                               (("--projects", self.projects, "--delete", "unused"), "has nothing of entry unused"),
                               (("--projects", self.projects, "--delete", "10002"), "Give --yes")):
            code, _, errors = self.clean(self.shared, *arguments)
            self.assertEqual(why is None, code == 0, errors)
            self.assertIn(why or "", errors)
            self.assertEqual(before, self.there())
        self.put("10002/my_results/r.star")
        left, errors = self.delete("--projects", self.projects)
        self.assertEqual(["10001", "90003"], left)
        self.assertIn("EMPIAR-10002 is deleted; what else is in ", errors)
        # Version 1.1 left no notes, nor does a mirror.
        self.assertIn("its files may not come from a download", errors)
        # What did not come from the archive is not ours.
        self.assertEqual(["my_results"], os.listdir(os.path.join(self.shared, "10002")))

    def test_several_by_one_command(self):
        """Each is looked at anew before it goes, and those that went before it are no fault."""
        self.age()
        self.put("10003/data/m_1.mrc")
        code, _, errors = self.clean(self.shared, "--projects", self.projects, "--delete", "10002", "EMPIAR-10003",
                                     "10002", "--yes")
        self.assertEqual((0, ["EMPIAR-10002 is deleted.", "EMPIAR-10003 is deleted."]), (
            code, [line for line in errors.splitlines() if "is deleted" in line]), errors)
        self.assertEqual(["10001", "10004", "90003", "notes.txt"], self.there())

    def link(self, target, *place):
        path = os.path.join(*(place or (self.extra, "link")))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)

    def users(self, number="10002"):
        found = self.list("--projects", self.projects)[number]
        return [os.path.relpath(run, self.projects) for run in found["runs"]], found["perhaps_used_by"]

    def test_links_to_all_of_it(self):
        run = "First/Runs/000002_EmpiarDownloader"
        for target in (self.shared, self.folder, os.path.join(self.folder, "by"), "/"):
            with self.subTest(target):
                self.link(target)
                self.assertEqual(([run], []), self.users())
                os.remove(os.path.join(self.extra, "link"))
        self.assertEqual(([], []), self.users())

    def test_links_by_way_of_folders_within(self):
        """A run's files on a scratch folder that lies there, too; a link within one entry to another one."""
        scratch = os.path.join(self.shared, "scratch", "run2")
        self.link(os.path.join(self.shared, "10002/data/Movies/m_1.mrc"), scratch, "m_1.mrc")
        self.link(scratch)
        self.assertEqual((["First/Runs/000002_EmpiarDownloader"], []), self.users())
        os.remove(os.path.join(self.extra, "link"))
        self.assertEqual(([], []), self.users())
        self.link(os.path.join(self.shared, "10002/data/Movies"), self.shared, "10001/my_results/more")
        self.assertEqual(([], ["links in %s" % os.path.join(self.shared, "10001")]), self.users())

    def test_links_that_nobody_can_follow(self):
        """A run's files on a disk that is away; folders that this account may not enter."""
        away = os.path.join(self.projects, "First/Runs/000003_X/extra")
        self.link("/mnt/away/x", away)
        self.assertEqual(1, len(self.users()[1]))
        self.assertEqual(1, len(self.list("--projects", self.projects)["10001"]["perhaps_used_by"]))
        os.remove(away)
        self.link(os.path.join(self.shared, "10002/data/Movies/m_1.mrc"))
        stat = os.stat

        def denied(path, **options):
            if str(path).endswith("extra/link"):
                raise PermissionError(13, "denied", path)
            return stat(path, **options)

        with mock.patch("os.stat", denied):
            found = clean.survey(self.shared, [self.projects], threading.Event())
        self.assertEqual([os.path.join(self.extra, "link")], found.blind)

    def test_a_link_by_a_second_view(self):
        """The same folder, mounted elsewhere in a way that cannot be seen here."""
        shutil.copytree(os.path.join(self.shared, "10002"), os.path.join(self.folder, "view", "10002"))
        self.link(os.path.join(self.folder, "view/10002/data/Movies/m_1.mrc"))
        self.assertEqual(1, len(self.users()[1]))

    def test_links_in_linked_folders(self):
        self.link(os.path.join(self.shared, "10002/data/Movies/m_1.mrc"), self.folder, "scratch/m_1.mrc")
        self.link(os.path.join(self.folder, "scratch"), self.shared, "10001/res")
        self.assertEqual(1, len(self.users()[1]))

    def test_a_mount_within(self):
        self.age()
        lines = "1 2 0:1 / %s/10002/data/b rw - ext4 x rw\n" % os.path.realpath(self.shared)
        with mock.patch("builtins.open", mock.mock_open(read_data=lines)):
            mounts = survey._mounts_in(os.path.realpath(os.path.join(self.shared, "10002")))
        self.assertEqual(1, len(mounts))

    def test_links_beside_the_runs(self):
        for place in ("First/Uploads/l", "First/Runs/l", "First/.hidden/l", ".hid/First/Runs/1/l"):
            with self.subTest(place):
                self.link(os.path.join(self.shared, "10002/data"), self.projects, place)
                self.assertEqual(1, len(self.users()[0]))
                os.remove(os.path.join(self.projects, place))
        self.link("/old/10002", self.projects, "First/Runs/1/l")
        self.assertEqual(1, len(self.users()[1]))

    def test_a_run_is_deleted_where_its_runs_are_the_same_ones(self):
        """A project that was moved, a disk that is away, a folder that nobody may enter: nobody knows."""
        self.age()
        run = self.note("10002")
        shutil.rmtree(run)
        self.assertTrue(self.list("--projects", self.projects)["10002"]["known_runs_deleted"])
        runs = os.path.dirname(run)
        os.rename(runs, runs + "_away")
        os.mkdir(runs)
        self.assertEqual(1, len(self.users()[1]))
        os.rename(os.path.join(self.projects, "First"), os.path.join(self.projects, "Moved"))
        os.makedirs(runs)
        with open(os.path.join(self.projects, "First", "project.sqlite"), "w"):
            pass
        self.assertEqual(1, len(self.users()[1]))
        with mock.patch("os.lstat", side_effect=PermissionError(13, "denied")):
            use, = noted_uses(os.path.join(self.shared, "10002"))
        self.assertEqual("unknown", use.state)

    def test_a_run_that_begins_at_this_moment(self):
        """After the second look, too: its files are there again, and so is its note."""
        self.age()
        rename = os.rename

        def renamed(source, target):
            if target.endswith(clean.ASIDE):
                self.note("10002", "000077_EmpiarDownloader")
            rename(source, target)

        entry = clean.survey(self.shared, [self.projects], threading.Event()).entries["10002"]
        with mock.patch("os.rename", renamed), contextlib.redirect_stderr(io.StringIO()) as told:
            self.assertEqual(1, clean._remove(entry))
        self.assertIn("is kept: another run uses it by now", told.getvalue())
        self.assertEqual(4, sum(len(names) for _, _, names in os.walk(os.path.join(self.shared, "10002"))))
        # One that begins while it goes keeps its note, and what it has fetched since.
        entry = clean.survey(self.shared, [], threading.Event()).entries["10001"]
        rmtree = shutil.rmtree

        def removed(path):
            self.note("10001", "000078_EmpiarDownloader")
            self.put("10001/data/Movies/new.mrc")
            rmtree(path)

        with mock.patch("shutil.rmtree", removed), contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(0, clean._remove(entry))
        self.assertEqual(["new.mrc"], os.listdir(os.path.join(self.shared, "10001/data/Movies")))
        self.assertEqual(1, len(noted_uses(os.path.join(self.shared, "10001"))))

    def test_a_deletion_that_was_interrupted(self):
        self.age()
        os.rename(os.path.join(self.shared, "10002/data"), os.path.join(self.shared, "10002", clean.ASIDE))
        self.assertTrue(self.list("--projects", self.projects)["10002"]["half_deleted"])
        self.assertIn("a deletion was interrupted: delete it again",
                      self.clean(self.shared, "--projects", self.projects)[1])
        # A run has begun to use it since: it is put back.
        self.note("10002")
        _, errors = self.delete("--projects", self.projects)
        self.assertIn("is in its place again", errors)
        self.assertIn("is used by", errors)
        self.assertTrue(os.path.exists(os.path.join(self.shared, "10002/data/Movies/m_1.mrc")))
        shutil.rmtree(os.path.join(self.projects, "First", "Runs", "000009_EmpiarDownloader"))
        os.rename(os.path.join(self.shared, "10002/data"), os.path.join(self.shared, "10002", clean.GOING))
        left, _ = self.delete("--projects", self.projects)
        self.assertEqual(["10001", "90003"], left)

    def test_a_run_that_says_so_once_more(self):
        """Its note has the name that it had before: it was renewed while the entry was put aside."""
        self.age()
        run = self.note("10002")
        shutil.rmtree(run)
        entry = clean.survey(self.shared, [self.projects], threading.Event()).entries["10002"]
        self.assertTrue(entry.has_no_known_use)
        rename = os.rename

        def renamed(source, target):
            if target.endswith(clean.ASIDE):
                self.note("10002")
            rename(source, target)

        with mock.patch("os.rename", renamed), contextlib.redirect_stderr(io.StringIO()) as told:
            self.assertEqual(1, clean._remove(entry))
        self.assertIn("is kept: another run uses it by now", told.getvalue())
        self.assertTrue(os.path.isdir(os.path.join(self.shared, "10002/data")))

    def test_a_run_that_fetches_anew_already(self):
        self.age()
        entry = clean.survey(self.shared, [], threading.Event()).entries["10002"]
        rename = os.rename

        def renamed(source, target):
            rename(source, target)
            if target.endswith(clean.ASIDE):
                self.note("10002")
                self.put("10002/data/Movies/.part.m_1.mrc")

        with mock.patch("os.rename", renamed), contextlib.redirect_stderr(io.StringIO()) as told:
            self.assertEqual(1, clean._remove(entry))
        self.assertIn("fetches its files anew already", told.getvalue())
        self.assertTrue(os.path.isdir(os.path.join(self.shared, "10002", clean.ASIDE, "Movies")))
        shutil.rmtree(os.path.join(self.projects, "First", "Runs", "000009_EmpiarDownloader"))
        os.utime(os.path.join(self.shared, "10002/data/Movies/.part.m_1.mrc"), (1, 1))
        left, _ = self.delete("--projects", self.projects)
        self.assertEqual(["10001", "90003"], left)

    def test_a_project_that_takes_the_place_of_another(self):
        """With the same name, and as file systems do, the same inode."""
        self.age()
        run = self.note("10002")
        os.rename(os.path.join(self.projects, "First"), os.path.join(self.folder, "archive"))
        os.makedirs(os.path.dirname(run))
        with open(os.path.join(self.projects, "First", "project.sqlite"), "w"):
            pass
        with mock.patch("os.stat", side_effect=lambda path, **options: os.lstat(self.shared)):
            use, = noted_uses(os.path.join(self.shared, "10002"))
        self.assertEqual("unknown", use.state)

    def test_a_folder_that_is_linked_from_the_root(self):
        os.symlink("/", os.path.join(self.shared, "10002/data/all"))
        began = threading.Event()
        began.set()
        with self.assertRaises(Stopped):
            clean.survey(self.shared, [], began)

    def test_folders_that_are_links(self):
        """Their files are elsewhere, and have other names there."""
        self.age()
        os.rename(os.path.join(self.shared, "10002/data"), os.path.join(self.folder, "disk"))
        os.symlink(os.path.join(self.folder, "disk"), os.path.join(self.shared, "10002/data"))
        left, errors = self.delete("--projects", self.projects)
        self.assertEqual(3, len(left))
        self.assertIn("is a link to files elsewhere", errors)
        self.link(os.path.join(self.folder, "disk/Movies/m_1.mrc"))
        self.assertEqual(["First/Runs/000002_EmpiarDownloader"], self.users()[0])

    def test_parts_that_are_worked_on(self):
        """However old they are: the one who works on them has their lock; and those that are being unpacked."""
        self.age()
        self.assertFalse(self.list("--projects", self.projects)["10002"]["being_filled"])
        with open(os.path.join(self.shared, "10002/data/Movies/.part.m_3.mrc"), "r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            self.assertTrue(self.list("--projects", self.projects)["10002"]["being_filled"])
        self.put("10002/data/Movies/.unpacked.m_4.mrc")
        self.assertTrue(self.list("--projects", self.projects)["10002"]["being_filled"])

    def test_json_says_what_could_not_be_seen(self):
        os.symlink("/gone", os.path.join(self.projects, "Old"))
        self.list("--projects", self.projects)
        self.assertEqual([os.path.join(self.projects, "Old")], self.told["could_not_be_read"])
        self.assertEqual(1, self.told["projects"])

    def test_where_there_is_no_project_any_more(self):
        """The course is over: its projects are deleted, or whole homes."""
        self.age()
        run = self.note("10002")
        shutil.rmtree(run)
        self.assertTrue(self.list("--projects", self.projects)["10002"]["known_runs_deleted"])
        shutil.rmtree(os.path.join(self.projects, "First"))
        left, errors = self.delete("--projects", self.projects)
        self.assertEqual(3, len(left))
        self.assertIn("--no-projects where there is none any more", errors)
        left, errors = self.delete("--projects", self.projects, "--no-projects")
        self.assertEqual(["10001", "90003"], left)
        # The doubt is told, also to whoever says yes before.
        self.assertIn("Perhaps still used by %s on " % run, errors)

    def test_odd_notes(self):
        """Others may write there: nothing hangs, ends in a traceback, or passes for a run that is deleted."""
        notes = os.path.join(self.shared, "10002", NOTES)
        os.makedirs(os.path.join(notes, "folder.json"))
        os.mkfifo(os.path.join(notes, "fifo.json"))
        for name, text in (("deep.json", "[" * 100000), ("begun.json.123", '{"run": "'), ("none.json", "null"),
                           ("nul.json", json.dumps({"run": "a\0b", "host": platform.node()}))):
            with open(os.path.join(notes, name), "w") as stream:
                stream.write(text)
        its = self.list("--projects", self.projects)["10002"]
        self.assertEqual((6, False, []), (len(its["perhaps_used_by"]), its["known_runs_deleted"], its["runs"]))

    def test_a_note_goes_through_no_link(self):
        """That somebody has laid under the name that a note has while it is written."""
        run = self.note("10002")
        notes = os.path.join(self.shared, "10002", NOTES)
        name, = os.listdir(notes)
        victim = os.path.join(self.folder, "victim")
        with open(victim, "w") as stream:
            stream.write("precious")
        os.remove(os.path.join(notes, name))
        for ending in (".new", ".%d" % os.getpid()):
            os.symlink(victim, os.path.join(notes, name + ending))
        self.note("10002")
        with open(victim) as stream:
            self.assertEqual("precious", stream.read())
        self.assertIn(os.path.join(run, "extra"), [use.run for use in noted_uses(os.path.dirname(notes))])
        self.assertFalse(os.path.islink(os.path.join(notes, name)))

    def test_runs_that_are_not_whole(self):
        """Only the folder extra is missing; it is a link to a disk that is away, or to one that is there; so is all of
        the project."""
        self.age()
        run = self.note("10002")
        scratch = os.path.join(self.folder, "scratch")
        os.rmdir(os.path.join(run, "extra"))
        self.assertEqual([run], self.list("--projects", self.projects)["10002"]["runs"])
        os.symlink(scratch, os.path.join(run, "extra"))
        self.assertEqual([run], self.list("--projects", self.projects)["10002"]["runs"])
        shutil.rmtree(os.path.join(self.shared, "10002", NOTES))
        os.makedirs(scratch)
        os.symlink(os.path.join(self.shared, "10002/data/Movies/m_1.mrc"), os.path.join(scratch, "m_1.mrc"))
        self.assertEqual([run], self.list("--projects", self.projects)["10002"]["runs"])
        os.symlink("/nowhere/at/all", os.path.join(self.projects, "Away"))
        left, errors = self.delete("--projects", self.projects)
        self.assertEqual(3, len(left))
        self.assertIn("Away cannot be read", errors)
        os.remove(os.path.join(self.projects, "Away"))
        # A folder beside the projects that is called like those of runs hides none.
        os.makedirs(os.path.join(self.projects, "Runs"))
        self.assertEqual([run], self.list("--projects", self.projects)["10002"]["runs"])

    def test_folders_in_which_there_is_no_project(self):
        """Also one level above the projects, or one below, is looked at; where nothing is found nothing is deleted."""
        self.note("10002")
        shutil.rmtree(os.path.join(self.projects, "First", "Runs", "000009_EmpiarDownloader"))
        os.utime(os.path.join(self.shared, "10002/data/Movies/.part.m_3.mrc"), (1, 1))
        home = os.path.join(self.folder, "homes", "alice", "ScipionUserData")
        os.makedirs(home)
        os.rename(self.projects, os.path.join(home, "projects"))
        run = os.path.join(home, "projects", "First", "Runs", "000002_EmpiarDownloader")
        for place in (os.path.join(self.folder, "homes"), home, os.path.join(home, "projects"),
                      os.path.join(home, "projects", "First", "Runs"), run):
            with self.subTest(place):
                self.assertEqual([run], self.list("--projects", place)["10001"]["runs"])
        empty = os.path.join(self.folder, "empty")
        os.makedirs(empty)
        self.assertEqual(3, len(self.delete("--projects", home, name="10001")[0]))
        left, errors = self.delete("--projects", empty, home)
        self.assertEqual(3, len(left))
        self.assertIn("there is no Scipion project in %s" % empty, errors)
        self.data = home
        self.assertEqual([run], self.list()["10001"]["runs"])

    def test_runs_that_cannot_be_seen(self):
        """A run that has only begun, one of another machine, one whose disk is away, one of another user."""
        os.utime(os.path.join(self.shared, "10002/data/Movies/.part.m_3.mrc"), (1, 1))
        run = self.note("10002")
        self.assertEqual([run], self.list("--projects", self.projects)["10002"]["runs"])
        self.assertIn("is used by " + run, self.delete("--projects", self.projects, name="10002")[1])
        away = self.note("10002", project="Second")
        shutil.rmtree(run)
        os.rename(os.path.join(self.projects, "Second"), os.path.join(self.folder, "away"))
        its = self.list("--projects", self.projects)["10002"]
        self.assertEqual(([], False), (its["runs"], its["known_runs_deleted"]))
        self.assertIn(away, its["perhaps_used_by"][0])
        with mock.patch("platform.node", return_value="elsewhere"):
            gone = self.note("90003", "000011_EmpiarDownloader")
        shutil.rmtree(gone)
        self.assertIn("on elsewhere", self.list("--projects", self.projects)["90003"]["perhaps_used_by"][0])
        # By its name it goes all the same: who gives that knows.
        self.assertEqual(["10001", "90003"], self.delete("--projects", self.projects, name="10002")[0])

    def test_another_users_projects(self):
        """Root may read all, so the command is given to another account."""
        if os.getuid():
            self.skipTest("only root can be another user")
        os.chmod(self.folder, 0o777)
        for closed in (os.path.join(self.projects, "First"), os.path.dirname(self.extra), self.extra):
            os.chmod(closed, 0o700)
            code = ("import os, sys; from empiardownloader.download.clean import main; os.setgroups([]); "
                    "os.setgid(65534); os.setuid(65534); sys.exit(main(sys.argv[1:]))")
            done = subprocess.run([sys.executable, "-c", code, self.shared, "--projects", self.projects, "--delete",
                                   "10002", "--yes"], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
            os.chmod(closed, 0o755)
            self.assertEqual(1, done.returncode)
            self.assertIn("cannot be read, and its runs may use the files", done.stderr, closed)

    def test_files_by_other_ways(self):
        """Links on the way, a folder of another name, a folder that was renamed, links elsewhere in a run."""
        os.utime(os.path.join(self.shared, "10002/data/Movies/.part.m_3.mrc"), (1, 1))
        run = os.path.join(self.projects, "First", "Runs", "000003_ProtOther")
        os.makedirs(os.path.join(run, "tmp"))
        link = os.path.join(run, "tmp", "m.mrc")
        os.symlink(os.path.join(self.shared, "10002/data/Movies/m_1.mrc"), link)
        self.assertEqual([run], self.list("--projects", self.projects)["10002"]["runs"])
        # The entry's data lie on another disk.
        os.rename(os.path.join(self.shared, "10002/data"), os.path.join(self.folder, "disk"))
        os.symlink(os.path.join(self.folder, "disk"), os.path.join(self.shared, "10002/data"))
        self.assertEqual([run], self.list("--projects", self.projects)["10002"]["runs"])
        os.remove(os.path.join(self.shared, "10002/data"))
        os.rename(os.path.join(self.folder, "disk"), os.path.join(self.shared, "10002/data"))
        # The same file under another path, as of a folder that is mounted twice.
        os.makedirs(os.path.join(self.folder, "mount"))
        os.link(os.path.join(self.shared, "10002/data/Movies/m_1.mrc"), os.path.join(self.folder, "mount", "m_1.mrc"))
        os.remove(link)
        os.symlink(os.path.join(self.folder, "mount", "m_1.mrc"), link)
        self.assertEqual([run], self.list("--projects", self.projects)["10002"]["runs"])
        # The folder had another name when the run was.
        os.remove(link)
        os.symlink("/was/here/10002/data/Movies/m_1.mrc", link)
        self.assertIn(run, self.list("--projects", self.projects)["10002"]["perhaps_used_by"][0])

    def test_while_it_is_being_filled(self):
        self.assertTrue(self.list("--projects", self.projects)["10002"]["being_filled"])
        left, errors = self.delete("--projects", self.projects, name="10002")
        self.assertEqual(3, len(left))
        self.assertIn("is being downloaded at the moment", errors)

    def test_the_question(self):
        """In a terminal: y, after which it is looked again; Ctrl-C and Ctrl-D are a no."""
        os.utime(os.path.join(self.shared, "10002/data/Movies/.part.m_3.mrc"), (1, 1))
        for answer, goes in ((b"n\n", False), (b"\x03", False), (b"\x04", False), (None, False), (b"y\n", True)):
            with self.subTest(answer=answer):
                parent, child = pty.openpty()
                process = subprocess.Popen(
                    [sys.executable, "-m", "empiardownloader", "clean", self.shared, "--projects", self.projects,
                     "--delete", "10002"], stdin=child, stdout=child, stderr=child, start_new_session=True,
                    preexec_fn=lambda child=child: fcntl.ioctl(child, termios.TIOCSCTTY, 0))
                os.close(child)
                said = b""
                while b"[y/N]" not in said:
                    said += os.read(parent, 1000)
                if answer is None:
                    run = self.note("10002")        # while the question stands there
                with contextlib.suppress(OSError):
                    os.write(parent, answer or b"y\n")
                    while True:
                        if select.select([parent], [], [], 1.0)[0]:
                            said += os.read(parent, 1000)
                        else:
                            # A Ctrl-C between the prompt and the read is lost; who presses it does so again.
                            os.write(parent, answer or b"")
                process.wait(30)
                os.close(parent)
                self.assertNotIn(b"Traceback", said)
                self.assertEqual(goes, not os.path.exists(os.path.join(self.shared, "10002", "data")), said)
                if answer is None:
                    shutil.rmtree(run)

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
            demo.entries["10200"].update(status="OBS", release_date="not a date")
            obsolete = subprocess.run([sys.executable, "-m", "empiardownloader", "cite", "10200"], timeout=60,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True)
        self.assertIn("Mouse apoferritin. EMPIAR-10200", done.stdout)
        self.assertIn("Mouse apoferritin. EMPIAR-10200. https", obsolete.stdout)
        self.assertIn("(status OBS)", obsolete.stderr)


class TestSharedFolder(ArchiveTestCase):

    def test_what_a_command_brings_for_all_runs(self):
        """fetch --shared fills the download folder of the form, and leaves a note, too."""
        paths = self.write_movies("10001", ["m_%d.mrc" % number for number in range(3)])
        demo = self.serve(entries={"10001": entry(image_set(num_images_or_tilt_series=3))})
        shared, own = os.path.join(self.folder, "shared"), os.path.join(self.folder, "own")
        os.makedirs(shared)
        with environment(**demo.variables):
            facts = fetch("10001", own, 2, shared=shared)
            self.assertEqual(2, len(facts.images))
            self.assertEqual((1, 2), (lambda told: (told.images, told.here))(
                plan("10001", None, folder=self.folder, measure=False, shared=shared)))
        there = os.path.join(shared, "10001", "data", "Movies")
        self.assertEqual([os.path.basename(path) for path in paths[:2]], sorted(os.listdir(there)))
        self.assertEqual(os.path.join(there, "m_0.mrc"), os.path.realpath(os.path.join(own, "m_0.mrc")))
        use, = noted_uses(os.path.join(shared, "10001"))
        self.assertEqual((own, use.USED), (use.run, use.state))
        shutil.rmtree(own)
        self.assertEqual(["unknown"], [use.state for use in noted_uses(os.path.join(shared, "10001"))])

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
