# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes between two calls, and odd disks: nothing is mixed, written through links, or lost."""
import errno
import os
import subprocess
import sys
from unittest import mock

from empiardownloader.archive import api, metadata
from empiardownloader.archive.errors import BrokenFileError, EntryError, TransientError, UnreachableError
from empiardownloader.archive.names import LocalNames
from empiardownloader.archive.remote import HTTPS
from empiardownloader.archive.remote.choice import open_archive
from empiardownloader.archive.remote.https import HttpArchive
from empiardownloader.archive.remote.listings import PageParser
from empiardownloader.archive.selection import ImageFinder
from empiardownloader.demo import faults
from empiardownloader.demo import http as demo_http
from empiardownloader.download.record.log import RecordWriter
from empiardownloader.download.request import Places
from empiardownloader.download.space import check_space
from empiardownloader.tests.base import ArchiveTestCase, entry, image_set, impatient, read_bytes
from empiardownloader.tests.layout_case import FIELDS, Layout
from empiardownloader.tests.scripted import conversing
from empiardownloader.tests.transfer_case import FtpCase
from empiardownloader.transfer import parts


class TestChangedEntries(Layout):
    transport = "FTP"

    def test_a_file_that_has_changed(self):
        """T5: told, and never mixed."""
        for number in range(4):
            self.put("1/data/m_%d.mrc" % number)
        self.download("1", image_set(directory="data", **FIELDS), amount=2)
        before = read_bytes(os.path.join(self.out, "m_1.mrc"))
        self.put("1/data/m_1.mrc", frames=5)
        with self.assertRaisesRegex(EntryError, r"data/m_1.mrc has changed in the archive since it was downloaded "
                                                r"\(\d+ bytes then, \d+ now\).* choose Restart"):
            self.download("1", image_set(directory="data", **FIELDS), amount=4)
        self.assertEqual(before, read_bytes(os.path.join(self.out, "m_1.mrc")))

    def test_an_image_that_is_another_of_the_same_size_by_now(self):
        """T5: sizes alone do not tell; one of those that are here is compared."""
        for number in range(4):
            self.put("1/data/m_%d.mrc" % number)
        self.download("1", image_set(directory="data", **FIELDS), amount=2)
        before = read_bytes(os.path.join(self.out, "m_0.mrc"))
        self.download("1", image_set(directory="data", **FIELDS), amount=3)
        source = os.path.join(self.root, "1", "data", "m_0.mrc")
        with open(source, "rb+") as stream:
            stream.seek(len(before) - 1)
            stream.write(bytes([before[-1] ^ 1]))
        with self.assertRaisesRegex(EntryError, r"m_0.mrc has changed in the archive since it was downloaded "
                                                r"\(as many bytes, but others\)"):
            self.download("1", image_set(directory="data", **FIELDS), amount=4)
        self.assertEqual(before, read_bytes(os.path.join(self.out, "m_0.mrc")))

    def test_files_that_have_other_names_now(self):
        for number in range(3):
            self.put("1/data/m_%d.mrc" % number)
        self.download("1", image_set(directory="data", **FIELDS))
        os.rename(os.path.join(self.root, "1/data/m_0.mrc"), os.path.join(self.root, "1/data/x_0.mrc"))
        facts = self.download("1", image_set(directory="data", **FIELDS), amount=9)
        self.assertIn("1 images that are here are not in the archive any more (data/m_0.mrc)", "\n".join(facts.notes))


class TestListingsThatLackNames(Layout):
    """A server that does not show every file of what the entry promises, and says that the folder is gone when it is
    asked a second time."""
    transport = "HTTPS"

    def hidden(self, times):
        """After the first listing it is not hidden any more, and the folder is gone for so many questions, or for
        good."""
        for name in ("m_0", "m_1", "m_2"):
            self.put("1/data/%s.mrc" % name)
        place = os.path.join(self.root, "1", "data", "m_1.mrc")
        os.rename(place, place + "_kept")
        original = demo_http._listed

        def listed(folder):
            shown = list(original(folder))
            if os.path.realpath(folder) == os.path.dirname(os.path.realpath(place)) and os.path.exists(place + "_kept"):
                os.rename(place + "_kept", place)
                for pattern in ("1/data", "1/data/"):
                    self.demo.add_fault(faults.GONE, pattern, times=times)
            return shown

        patched = mock.patch.object(demo_http, "_listed", listed)
        patched.start()
        self.addCleanup(patched.stop)

    def test_what_it_shows_later_comes(self):
        # A look believes it at the fourth answer; so one look fails and the next does not.
        self.hidden(times=6)
        with mock.patch.object(ImageFinder, "forget", autospec=True, side_effect=ImageFinder.forget) as looked_again:
            facts = self.download("1", image_set(directory="data", num_images_or_tilt_series=3, **FIELDS))
        self.assertEqual(["m_0.mrc", "m_1.mrc", "m_2.mrc"], sorted(facts.images))
        self.assertEqual((), facts.notes)
        self.assertEqual(2, looked_again.call_count)

    def test_what_it_never_shows_again_is_said(self):
        self.hidden(times=None)
        facts = self.download("1", image_set(directory="data", num_images_or_tilt_series=3, **FIELDS))
        self.assertEqual(["m_0.mrc", "m_2.mrc"], sorted(facts.images))
        told = "\n".join(facts.notes)
        self.assertIn("The folders could not be listed a second time", told)
        self.assertIn("2 movies were found, fewer than the 3 that the entry says.", told)


@impatient
class TestMetadata(ArchiveTestCase):

    def test_asked_for_again_after_a_day(self):
        """T5: an entry may have another folder by now; where nobody answers, what is kept has to do."""
        demo = self.serve(entries={"1": entry(image_set(directory="data/old"))})
        path = os.path.join(self.folder, "entry.json")

        def directory(seconds):
            return metadata.obtain(path, "1", demo.variables, most_seconds=seconds).entry.image_sets[0].directory

        self.assertEqual("data/old", directory(3600))
        demo.entries["1"] = entry(image_set(directory="data/new"))
        self.assertEqual("data/old", directory(3600))
        self.assertEqual("data/new", directory(-1))
        demo.entries["1"] = 500
        with mock.patch.object(api, "RETRIES", 0), self.assertLogs("empiardownloader", "WARNING"):
            self.assertEqual("data/new", directory(-1))

    def answers(self, *answers):
        """What the API's service says, one answer a connection -> what is made of it."""
        left = list(answers)

        def converse(connection):
            with connection:
                connection.recv(4096)
                connection.sendall(left.pop(0) if len(left) > 1 else left[0])

        with conversing(converse) as port:
            return api.fetch_entry_json("http://127.0.0.1:%d/api" % port, "1")

    def test_an_entry_that_is_gone(self):
        for status in (b"404 Not Found", b"410 Gone"):
            with self.subTest(status), self.assertRaisesRegex(EntryError, "EMPIAR has no entry 1: check the number"):
                self.answers(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)

    def test_a_service_that_hangs_up_or_cuts_its_answer(self):
        """T7: asked again, whatever broke."""
        body = b'{"EMPIAR-1": {"title": "x"}}'
        good = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        for broken in (b"", good[:12], good[:40], good[:-5], b"HTTP/1.1 503 busy\r\nRetry-After: 0\r\n\r\n",
                       b"HTTP/1.1 502 no\r\n\r\n", b"HTTP/1.1 520 no\r\n\r\n",
                       b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"E"):
            with self.subTest(broken):
                self.assertEqual({"title": "x"}, self.answers(broken, broken, good))
        with self.assertRaisesRegex(UnreachableError, "EMPIAR could not be asked for entry 1"):
            self.answers(b"")


class TestFirstListing(ArchiveTestCase):

    def test_a_fault_at_the_very_first_listing(self):
        """T8: tried again, as long as there is patience."""
        os.makedirs(os.path.join(self.root, "1", "data"))
        demo = self.serve()
        for transport in ("FTP", HTTPS):
            for kind in (faults.BUSY, faults.ERROR) if transport == HTTPS else (faults.BUSY,):
                demo.add_fault(kind, "*", times=1)
                with self.subTest(transport, kind=kind), self.assertLogs("empiardownloader", "WARNING"):
                    open_archive("1", demo.variables, transport, patience=30).close()
                demo.clear_faults()
        demo.add_fault(faults.ERROR, "*")
        with self.assertRaisesRegex(UnreachableError, "cannot be reached"):
            open_archive("1", demo.variables, HTTPS, patience=1.5)

    def listed(self, answer):
        def converse(connection):
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + answer)

        with conversing(converse) as port:
            connection = HttpArchive("http://127.0.0.1:%d/x" % port, "1", 2).connect()
            try:
                return [name for name, _ in connection.list_folder("data").files]
            finally:
                connection.close()

    def test_a_listing_that_is_cut(self):
        """Its length tells, else its end: half a listing is none."""
        page = b"<html><body><h1>Index of /x/1/data</h1><a href='a.mrc'>a</a><a href='b.mrc'>b</a></body></html>"
        length = b"Content-Length: %d\r\n" % len(page)
        for head in (length, b"Connection: close\r\n"):
            self.assertEqual(["a.mrc", "b.mrc"], self.listed(head + b"\r\n" + page))
            with self.subTest(head), self.assertRaises(TransientError):
                self.listed(head + b"\r\n" + page[:60])
        # Some servers send a list of links and nothing around it.
        self.assertEqual(["a.mrc"], self.listed(b"Connection: close\r\n\r\n<pre><a href='a.mrc'>a</a></pre>"))

    def test_a_page_that_links_to_nobodys_files(self):
        for page in (b"<html>Back soon. <a href='mailto:help@x.org'>Write us</a></html>",
                     b"<html>Back soon. <a href='javascript:go()'>Again</a> <a href='contact'>Contact</a></html>"):
            with self.subTest(page), self.assertRaisesRegex(TransientError, "no listing"):
                self.listed(b"Connection: close\r\n\r\n" + page)

    def test_what_servers_say_in_place_of_a_file(self):
        """A sentence in JSON, with status 200; a login that only one file wants."""
        answers = [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n" + b" " * 20,
                   b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\ngood",
                   b"HTTP/1.1 401 no\r\nContent-Length: 0\r\n\r\n"]

        def converse(connection):
            with connection:
                for answer in answers:
                    # A client that does not believe an answer hangs up.
                    if connection.recv(4096):
                        connection.sendall(answer)

        def read(connection):
            with connection.open("data/a.star", 0, None) as (_, stream):
                return bytes(stream.read(100))

        with conversing(converse) as port:
            connection = HttpArchive("http://127.0.0.1:%d/x" % port, "1", 2).connect()
            self.addCleanup(connection.close)
            with self.assertRaisesRegex(TransientError, "application/json"):
                read(connection)
            answers.pop(0)
            self.assertEqual(b"good", read(connection))
            with self.assertRaises(BrokenFileError):
                read(connection)

    def test_pages_that_are_no_listings(self):
        """T2: a folder is not empty because a page says nothing of it."""
        for page, wanted in (
                ("<html><title>Maintenance</title><a href='/status.html'>x</a></html>", False),
                ("<html><body>Login <a href='login.php'>here</a><a href='style.css'></a></body></html>", False),
                ("", False), ("<html><title>Index of /a/b</title></html>", True),
                ("<pre><a href='../'>../</a></pre>", True), ("<a href='/a/'>up</a>", True),
                ("<html><h1>Directory listing for /a/b/</h1></html>", True), ("<a href='m.mrc'>m.mrc</a>", True)):
            parser = PageParser("/a/b/")
            parser.feed(page)
            self.assertEqual(wanted, parser.is_listing, page)


class TestDisks(FtpCase):

    def test_short_names_are_the_disks(self):
        """T12: eCryptfs takes 143 bytes."""
        names = self.fill(1, 3000)
        long = "x" * 135 + ".mrc"
        os.rename(os.path.join(self.data, names[0]), os.path.join(self.data, long))
        with mock.patch.object(parts, "most_name_bytes", return_value=143):
            hidden = os.path.basename(parts.part_path(os.path.join(self.out, long)))
            self.assertLessEqual(len(hidden + parts.JOURNAL), 143)
            self.check_whole(self.fetch([long]), [long])
        self.assertLessEqual(len(LocalNames((), 123).name("a/" + "y" * 150 + ".mrc", "y" * 150 + ".mrc")), 123)

    def test_a_disk_that_cannot_sync(self):
        """T14: it is said once, and costs no file."""
        names = self.fill(3, 300000)
        with mock.patch("os.fdatasync", side_effect=OSError(errno.EINVAL, "no")), \
                self.assertLogs("empiardownloader.transfer.parts", "WARNING") as logged:
            self.check_whole(self.fetch(names), names)
        self.assertEqual(1, len(logged.output))

    def test_links_that_somebody_has_laid(self):
        """T13: what they point to is not written to."""
        victim = os.path.join(self.folder, "victim")
        with open(victim, "w") as stream:
            stream.write("precious")
        os.makedirs(self.out)
        for name in (".empiar-lock", "x.json.new", "r.jsonl"):
            os.symlink(victim, os.path.join(self.out, name))
        metadata.write_whole(os.path.join(self.out, "x.json"), {"a": 1})
        with self.assertRaises(OSError):
            RecordWriter(os.path.join(self.out, "r.jsonl"))
        script = ("from empiardownloader.download.fetch import _alone_in\n"
                  "from empiardownloader.archive.stopping import StopToken\nimport sys\n"
                  "with _alone_in(sys.argv[1], StopToken()):\n    pass\n")
        done = subprocess.run([sys.executable, "-c", script, self.out], stderr=subprocess.DEVNULL, check=False)
        self.assertNotEqual(0, done.returncode)
        with open(victim) as stream:
            self.assertEqual("precious", stream.read())

    def test_a_disk_that_does_not_know_its_size(self):
        """T16: 0 of 0 bytes are free."""
        with mock.patch("shutil.disk_usage", return_value=type("Usage", (), {"total": 0, "used": 0, "free": 0})):
            check_space("12 movies", 10 ** 12, self.folder)

    def test_a_file_of_another_user(self):
        """T15"""
        error = parts.disk_error(PermissionError(errno.EACCES, "no"), "/x/a.mrc")
        self.assertIn("belongs to another user", str(error))

    def test_upper_and_lower_case_on_a_disk_that_does_not_tell_them_apart(self):
        """T3: by a file system in memory that is mounted so, where that may be done."""
        folder = os.path.join(self.folder, "fat")
        os.makedirs(folder)
        image = os.path.join(self.folder, "fat.img")
        try:
            with open(image, "wb") as stream:
                stream.truncate(8 << 20)
            subprocess.run(["mkfs.vfat", image], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            subprocess.run(["mount", "-o", "loop", image, folder], check=True, stderr=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            self.skipTest("no disk that takes upper and lower case for the same can be mounted here")
        self.addCleanup(subprocess.run, ["umount", folder], check=False)
        entry_like = type("Entry", (), {"number": "1", "name": "EMPIAR-1"})
        places = Places(self.out, "", folder)
        first = places.stored(entry_like, "data/Mov_A.mrc", "Mov_A.mrc", False)
        os.makedirs(os.path.dirname(first))
        with open(first, "w") as stream:
            stream.write("A")
        second = places.stored(entry_like, "data/mov_a.mrc", "mov_a_2.mrc", False)
        with open(second, "w") as stream:
            stream.write("a")
        self.assertEqual("A", open(first).read())       # noqa: SIM115
        self.assertEqual((first, second), tuple(places.stored(entry_like, "data/" + name, name, False)
                                                for name in ("Mov_A.mrc", "mov_a.mrc")))


