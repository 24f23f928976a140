# SPDX-License-Identifier: GPL-3.0-or-later
"""What servers of others answer: pages, listings, greetings; and what must not be said or sent."""
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from empiardownloader.archive import api, names
from empiardownloader.archive import entry as archive_entry
from empiardownloader.archive.errors import (
    EntryError,
    Stopped,
    UnreachableError,
    without_password,
)
from empiardownloader.archive.remote import FileState
from empiardownloader.archive.remote.choice import open_archive
from empiardownloader.archive.remote.ftp import FtpArchive
from empiardownloader.archive.remote.https import HttpArchive
from empiardownloader.archive.remote.listings import PageParser, parse_mlsd_line
from empiardownloader.archive.stopping import StopToken
from empiardownloader.tests import servers
from empiardownloader.tests.base import ArchiveTestCase, entry, image_set, impatient
from empiardownloader.tests.scripted import scripted
from empiardownloader.transfer.jobs import Job, Settings
from empiardownloader.transfer.transfer import Transfer

LIGHTTPD = """<html><body><div class="list"><table summary="Directory Listing">
<thead><tr><th>Name</th></tr></thead><tbody>
<tr class="d"><td class="n"><a href="../">..</a>/</td><td class="m">&nbsp;</td><td class="s">- &nbsp;</td></tr>
<tr><td class="n"><a href="a.mrc">a.mrc</a></td><td class="m">2026-Nov-21 01:18:00</td><td class="s">1.2K</td></tr>
<tr><td class="n"><a href="b.mrc">b.mrc</a></td><td class="m">2026-Nov-21 01:18:00</td><td class="s">5.0M</td></tr>
</tbody></table></div><div class="foot">lighttpd/1.4.69</div></body></html>"""
CADDY = """<html><body><h1><a href="../../">empiar</a>/<a href="../">1</a>/<a href="./">data</a>/</h1><table>
<tr><td><a href="./a.mrc"><span class="name">a.mrc</span></a></td><td class="size" data-size="12582912">
<div class="sizebar-text">12 MiB</div></td><td><time datetime="2026-11-21T01:18Z">11/21/2026 01:18:00 AM +00:00</time>
</td></tr><tr><td><a href="./sub/"><span class="name">sub</span></a></td><td>&mdash;</td></tr></table></body></html>"""
IIS = """<html><body><H1>localhost - /Empiar/1/Data/</H1><hr><pre><A HREF="/Empiar/1/">[To Parent Directory]</A><br><br>
11/21/2026  1:18 AM        &lt;dir&gt; <A HREF="/Empiar/1/Data/sub/">sub</A><br> 11/21/2026  1:18 AM         4096 <A
HREF="/Empiar/1/Data/a.mrc">a.mrc</A><br> 11/21/2026  1:18 AM     12582912 <A HREF="/Empiar/1/Data/b.mrc">b.mrc</A><br>
</pre><hr></body></html>"""
NGINX = """<html><body><h1>Index of /empiar/1/data/</h1><hr><pre><a href="../">../</a>
<a href="sub/">sub/</a>                                               21-Nov-2026 01:18                   -
<a href="a.mrc">a.mrc</a>                                              21-Nov-2026 01:18                4096
</pre><hr></body></html>"""


class TestPages(unittest.TestCase):

    def parse(self, page, folder="/empiar/1/data/", step=0):
        parser = PageParser(folder)
        for start in range(0, len(page), step or len(page)):
            parser.feed(page[start:start + (step or len(page))])
        return parser.folders, parser.files

    def test_pages_of_others(self):
        """SB: sizes and names as they are meant, also where the page arrives in pieces."""
        for page, files, folders in (
                (LIGHTTPD, {"a.mrc": 1228, "b.mrc": 5 << 20}, set()), (CADDY, {"a.mrc": 12 << 20}, {"sub"}),
                (IIS, {"a.mrc": 4096, "b.mrc": 12582912}, {"sub"}), (NGINX, {"a.mrc": 4096}, {"sub"})):
            for step in (0, 7, 1):
                self.assertEqual((folders, files), self.parse(page, step=step))

    def test_pages_that_make_no_sense(self):
        page = '<a href="x.mrc">x</a> %s <a href="..%%2f..%%2fz.mrc">z</a><a href="//other/host">h</a>' % ("9" * 400)
        _, files = self.parse(page)
        self.assertIsNone(files["x.mrc"])
        self.assertFalse(any(names.is_safe(name) for name in files if name != "x.mrc"))

    def test_facts_with_blanks_and_digits_that_are_none(self):
        """SB, S15: pure-ftpd names the target of a link among the facts."""
        line = "type=OS.unix=slink:../../Odd/sub dir #1;size=20;modify=20261121; tofolder"
        self.assertEqual(("link", "tofolder", None), parse_mlsd_line(line))
        self.assertEqual(("file", "a", None), parse_mlsd_line("type=file;size=²; a"))
        self.assertEqual(("file", "a", None), parse_mlsd_line("type=file;size=%s; a" % ("7" * 5000)))


class TestVersions(unittest.TestCase):

    def test_servers_that_share_their_load(self):
        one, other = FileState(5, '"tag-1"', "Mon"), FileState(5, '"tag-2"', "Mon")
        self.assertTrue(one.same_as(other))
        self.assertFalse(one.same_as(FileState(5, '"tag-2"', "Tue")))
        self.assertFalse(one.same_as(FileState(6, '"tag-1"', "Mon")))
        self.assertFalse(FileState(5, "1", "").same_as(FileState(5, "2", "")))

    def test_one_file_over_both_transports(self):
        """Half a file of one is gone on with over the other: both tell when it was changed, each in its own way."""
        web = FileState(5, '"tag-1"', "Thu, 26 Nov 2026 18:05:09 GMT")
        for version, same in (("20261126180509", True), ("20261126180509.123", True), ("20261126180510", False),
                              ("20261126190509", False), ("20261399999999", False), ("", False), ("1", False)):
            with self.subTest(version):
                ftp = FileState(5, version)
                self.assertEqual((same, same), (web.same_as(ftp), ftp.same_as(web)))
        self.assertFalse(FileState(6, "20261126180509").same_as(web))
        self.assertTrue(FileState(5, "Thu, 26 Nov 2026 18:05:09 GMT").same_as(FileState(5, "20261126180509")))


@impatient
class TestApi(unittest.TestCase):

    def answer(self, body, head=b""):
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(body), head) + body

    def test_answers_that_drip_or_are_endless(self):
        """S15: a stop is heard, and no more is read than an entry can be."""
        stopped = StopToken()
        with scripted(b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", forever=b"1", pause=0.3) as port:
            threading.Timer(0.5, stopped.set).start()
            with self.assertRaises(Stopped):
                api.fetch_entry_json("http://127.0.0.1:%d" % port, "1", stopped)

    def test_numbers_and_nesting_beyond_everything(self):
        for body in (b"[" * 200000, b'{"EMPIAR-1": ' + b"[" * 200000, b'{"EMPIAR-1": {"x": ' + b"9" * 6000 + b"}}"):
            with scripted(b"", self.answer(body)) as port:
                try:
                    record = api.fetch_entry_json("http://127.0.0.1:%d" % port, "1")
                except EntryError as error:
                    self.assertEqual(1, len(str(error).splitlines()))
                else:
                    archive_entry.parse_entry("1", record)
        parsed = archive_entry.parse_entry("1", entry(image_set(frames_per_image=10 ** 400, pixel_width=10 ** 400)))
        self.assertEqual((None, 0.66), (parsed.image_sets[0].frames, parsed.image_sets[0].pixel_size))
        frames = {"structure_determination_list": {"structure_determination": [{"microscopy_list": {"microscopy": [{
            "image_recording_list": {"image_recording": [{"digitization_details": {
                "frames_per_image": "1-" + "9" * 5000}}]}}]}}]}}
        self.assertIsNone(archive_entry.parse_acquisition("EMD-1", frames).frames)

    def test_sentences_stay_short_and_clean(self):
        many = archive_entry.parse_entry("1", entry(*[image_set(name="set %d" % n) for n in range(10000)],
                                                    title="a \x1b[31mred\x1b[0m title"))
        self.assertEqual("a [31mred[0m title", many.title)
        with self.assertRaisesRegex(EntryError, "and 9990 more") as caught:
            many.image_set("nothing like it")
        self.assertLess(len(str(caught.exception)), 2000)

    def test_an_address_as_the_entry(self):
        for text in ("https://www.ebi.ac.uk/empiar/EMPIAR-10200/", "https://www.ebi.ac.uk/empiar/entry/10200/",
                     "10.6019/EMPIAR-10200", "https://empiar.pdbj.org/en/entry/10200", " empiar-10200 ",
                     "https://ftp.ebi.ac.uk/empiar/world_availability/10200/data"):
            self.assertEqual("10200", archive_entry.parse_entry_id(text))
        for text in ("https://www.ebi.ac.uk/empiar/", "10200/", "12 34", "EMPIAR-"):
            with self.assertRaises(EntryError):
                archive_entry.parse_entry_id(text)

    def test_passwords_are_never_shown(self):
        """S14."""
        for address, shown in (("http://joe:s3cret@host/x", "http://host/x"), ("joe:s3cret@host/x", "host/x"),
                               ("ftp://joe:s3@cret@host", "ftp://host"), ("https://host/x", "https://host/x")):
            self.assertEqual(shown, without_password(address))
        with scripted(b"", self.answer(b"{}")) as port:
            with self.assertRaises(EntryError) as caught:
                api.fetch_entry_json("http://joe:s3cret@127.0.0.1:%d" % port, "1")
            self.assertNotIn("s3cret", str(caught.exception))
        with self.assertRaises(UnreachableError) as caught:
            HttpArchive("joe:s3cret@host/x", "1")
        self.assertNotIn("s3cret", str(caught.exception))


class TestRealFtpServers(ArchiveTestCase):
    """SB: ProFTPD and pure-ftpd."""

    def setUp(self):
        super().setUp()
        absent = [name for name in ("proftpd", "pure-ftpd") if servers.find(name) is None]
        if absent or os.geteuid() != 0:
            self.skipTest("not here, or no root: " + ", ".join(absent or ["proftpd", "pure-ftpd"]))
        self.data = os.path.join(self.root, "1", "data")
        os.makedirs(os.path.join(self.data, "sub dir #1"))
        self.names = ["a b.mrc", "odd\u2028name.mrc", "é#%1.mrc"]
        for name in self.names:
            with open(os.path.join(self.data, name), "wb") as stream:
                stream.write(os.urandom(70000))
        with open(os.path.join(self.data, "large.mrc"), "wb") as stream:
            stream.truncate((5 << 30) + 3)
            stream.seek((5 << 30) - 2)
            stream.write(b"abcde")
        os.symlink("sub dir #1", os.path.join(self.data, "link to folder"))
        os.symlink("nowhere", os.path.join(self.data, "dead link"))
        for folder in (self.folder, self.root):
            os.chmod(folder, 0o755)

    def each(self):
        return (("proftpd", servers.proftpd(self.root)), ("pure-ftpd", servers.pure_ftpd(self.root, "-M")),
                ("proftpd without MLSD", servers.proftpd(self.root, "FactsAdvertise off")))

    def test_names_links_and_ranges(self):
        for server, running in self.each():
            with self.subTest(server), running as port:
                connection = FtpArchive("ftp://127.0.0.1:%d" % port, "1", 5).connect()
                listing = connection.list_folder("data")
                self.assertEqual(sorted([*self.names, "large.mrc"]), [name for name, _ in listing.files])
                self.assertEqual({"sub dir #1", "link to folder"}, set(listing.folders))
                self.assertEqual((5 << 30) + 3, dict(listing.files)["large.mrc"])
                state = connection.state("data/large.mrc")
                self.assertEqual((5 << 30) + 3, state.size)
                with connection.open("data/large.mrc", (5 << 30) - 2, None) as (seen, stream):
                    self.assertEqual(state, seen)
                    self.assertEqual(b"abcde", bytes(stream.read(5)))
                self.assertTrue(connection.usable)
                connection.close()

    def test_whole_files_with_few_connections_allowed(self):
        for server, running in (("proftpd", servers.proftpd(self.root, "MaxClientsPerHost 2")),
                                ("pure-ftpd", servers.pure_ftpd(self.root, "-C", "2"))):
            with self.subTest(server), running as port, tempfile.TemporaryDirectory() as out:
                jobs = [Job("data/" + name, os.path.join(out, "%d.mrc" % n)) for n, name in enumerate(self.names)]
                outcomes = []
                Transfer(FtpArchive("ftp://127.0.0.1:%d" % port, "1", 5), Settings(connections=6, first_wait=0.05),
                         StopToken()).run(lambda jobs=jobs: jobs.pop(0) if jobs else None, outcomes.append)
                self.assertEqual([""] * 3, [outcome.error for outcome in outcomes])
                for outcome in outcomes:
                    with open(os.path.join(self.data, os.path.basename(outcome.job.path)), "rb") as source, \
                            open(outcome.job.target, "rb") as target:
                        self.assertEqual(source.read(), target.read())

    def test_a_listing_cut_short(self):
        """S11."""
        with servers.pure_ftpd(self.root, "-L", "3:5") as port:
            connection = FtpArchive("ftp://127.0.0.1:%d" % port, "1", 5).connect()
            self.assertTrue(connection.list_folder("data").cut)
            connection.close()


LIGHTTPD_CONF = """server.document-root = "{root}"
server.port = {port}
server.bind = "127.0.0.1"
server.errorlog = "{folder}/error.log"
server.modules = ( "mod_dirlisting" )
dir-listing.activate = "enable"
"""
APACHE_CONF = """ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
DefaultRuntimeDir {folder}
Mutex posixsem
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule autoindex_module /usr/lib/apache2/modules/mod_autoindex.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
DocumentRoot {root}
<Directory {root}>
  Options Indexes FollowSymLinks
  IndexOptions FancyIndexing HTMLTable NameWidth=*
  Require all granted
</Directory>
"""
SERVERS = {
    "lighttpd": (LIGHTTPD_CONF, lambda conf, port, root: ["lighttpd", "-D", "-f", conf]),
    "apache2": (APACHE_CONF, lambda conf, port, root: ["apache2", "-X", "-f", conf]),
    "caddy": ("", lambda conf, port, root: ["caddy", "file-server", "--browse", "--root", root, "--listen",
                                            "127.0.0.1:%d" % port]),
}


class TestRealWebServers(ArchiveTestCase):
    """SB: the same tree behind Debian's other web servers."""

    def test_names_sizes_ranges_and_an_empty_file(self):
        data = os.path.join(self.root, "1", "data")
        os.makedirs(os.path.join(data, "sub dir"))
        sizes = {"a b.mrc": 5000, "é#%1.mrc": 12 << 20, "z_last.mrc": 70000, "empty.mrc": 0}
        for name, size in sizes.items():
            with open(os.path.join(data, name), "wb") as stream:
                stream.write(os.urandom(size))
        os.chmod(self.folder, 0o755)
        tried = []
        for server, (conf, command) in SERVERS.items():
            program = shutil.which(server, path=os.environ.get("PATH", "") + ":/usr/sbin")
            if program is None:
                continue
            tried.append(server)
            with self.subTest(server), tempfile.TemporaryDirectory() as folder:
                with socket.create_server(("127.0.0.1", 0)) as sock:
                    port = sock.getsockname()[1]
                path = os.path.join(folder, "conf")
                with open(path, "w") as stream:
                    stream.write(conf.format(root=self.root, port=port, folder=folder))
                process = subprocess.Popen([program, *command(path, port, self.root)[1:]], stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL, env=dict(os.environ, HOME=folder))
                try:
                    self.look(port, sizes, data)
                finally:
                    process.kill()
                    process.wait()
        if not tried:
            self.skipTest("none of %s is installed" % ", ".join(SERVERS))

    def look(self, port, sizes, data):
        url = "http://127.0.0.1:%d" % port
        deadline = time.monotonic() + 10
        while True:
            try:
                archive = open_archive("1", {"EMPIAR_HTTPS_URL": url}, "HTTPS", timeout=5)
                break
            except UnreachableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        connection = archive.connect()
        self.addCleanup(connection.close)
        listing = connection.list_folder("data")
        self.assertEqual(("sub dir",), listing.folders)
        self.assertEqual(sorted(sizes), [name for name, _ in listing.files])
        for name, size in listing.files:
            self.assertLess(abs((size or 0) - sizes[name]), 0.1 * sizes[name] + 200, name)
        for name, size in sizes.items():
            state = connection.state("data/" + name)
            self.assertEqual(size, state.size, name)
            if size > 2000:
                with connection.open("data/" + name, 1000, 1500) as (seen, stream):
                    self.assertEqual(state, seen)
                    got = bytes(stream.read(500))
                with open(os.path.join(data, name), "rb") as source:
                    source.seek(1000)
                    self.assertEqual(source.read(500)[:len(got)], got)
