# SPDX-License-Identifier: GPL-3.0-or-later
"""The core as a program: python -m empiardownloader.download, and the script that uses it."""
import json
import os
import pty
import signal
import subprocess
import sys
import time

import empiardownloader
from empiardownloader.demo import faults, movies
from empiardownloader.tests.base import ArchiveTestCase, entry, image_set, read_bytes

IS_QUICK = True

TOP = os.path.dirname(os.path.dirname(os.path.abspath(empiardownloader.__file__)))


def _lines(path):
    with open(path, errors="replace") as stream:
        return len(stream.readlines())


class TestCommand(ArchiveTestCase):

    def setUp(self):
        super().setUp()
        self.sources = self.write_movies("10200", ["m_%d.mrc" % n for n in range(4)])
        movies.write_gain(os.path.join(self.root, "10200/data/Movies/gain.mrc"), 9)
        self.demo = self.serve(entries={"10200": entry(image_set(num_images_or_tilt_series=4))})
        self.out = os.path.join(self.folder, "out")

    def start(self, *arguments, **options):
        # What only Scipion brings is hidden from the command: it has to do without.
        hidden = os.path.join(self.folder, "hidden")
        os.makedirs(hidden, exist_ok=True)
        for name in ("pyworkflow", "pwem", "numpy", "mrcfile", "tifffile"):
            with open(os.path.join(hidden, name + ".py"), "w") as stream:
                stream.write("raise ImportError('%s is hidden by the test')\n" % name)
        script = ("import importlib.util, runpy, sys\n"
                  "found = importlib.util.find_spec\n"
                  "importlib.util.find_spec = lambda name, *more: None if name == 'pwem' else found(name, *more)\n"
                  "sys.argv = ['download'] + sys.argv[1:]\n"
                  "runpy.run_module('empiardownloader.download', run_name='__main__')\n")
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([hidden, TOP]), **self.demo.variables)
        options = dict({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}, **options)
        return subprocess.Popen([sys.executable, "-c", script, *arguments], env=environment, **options)

    def run_command(self, *arguments):
        """-> (return code, standard output, standard error)"""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def test_images_into_a_folder_and_no_more_than_once(self):
        code, output, errors = self.run_command("10200", "--images", "3", "--to", self.out)
        self.assertEqual(0, code, errors)
        self.assertIn("3 images", output)
        self.assertIn("Gain reference: " + os.path.join(self.out, "gain.mrc"), output)
        for source in self.sources[:3]:
            self.assertEqual(read_bytes(source), read_bytes(os.path.join(self.out, os.path.basename(source))))
        sent = self.demo.sent_bytes
        code, output, _ = self.run_command("EMPIAR-10200", "--all", "--to", self.out, "--json")
        found = json.loads(output)
        self.assertEqual((0, 4), (code, len(found["images"])))
        self.assertEqual([os.path.join(self.out, "gain.mrc")], found["gain"])
        # The fourth one, and both ends of one that was there, which is compared.
        size = os.path.getsize(self.sources[3])
        self.assertTrue(size <= self.demo.sent_bytes - sent < 3 * size, self.demo.sent_bytes - sent)
        # No terminal: a plain line now and then, no bar.
        self.assertNotIn("\r", errors)

    def test_what_is_not_installed_is_said(self):
        """In one line with its cure, as the first thing that a newcomer does."""
        for module, package in (("download", "requests"), ("live", "numpy")):
            # A Python without Scipion.
            script = ("import runpy, sys\nsys.modules.update(dict.fromkeys(('pwem', 'pyworkflow', %r)))\n"
                      "runpy.run_module(%r, run_name='__main__')") % (package, "empiardownloader." + module)
            done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
            self.assertEqual((1, 1), (done.returncode, len(done.stderr.splitlines())), done.stderr)
            self.assertIn("%s is not installed here: " % package, done.stderr)

    def test_list(self):
        code, output, errors = self.run_command("10200", "--list", "--pattern", "m_[12].mrc", "--json")
        self.assertEqual((0, ""), (code, errors))
        self.assertEqual(["data/Movies/m_1.mrc", "data/Movies/m_2.mrc"],
                         [json.loads(line)["path"] for line in output.splitlines()])
        self.assertEqual(3, len(self.run_command("10200", "--list", "--pattern", "m_[123].mrc")[1].splitlines()))

    def test_stopped_killed_and_repeated(self):
        self.demo.rate = 60000
        for number in (signal.SIGINT, signal.SIGKILL):
            process = self.start("10200", "--all", "--to", self.out)
            sent = self.demo.sent_bytes
            while self.demo.sent_bytes < sent + 40000 and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(number)
            _, errors = process.communicate(timeout=20)
            self.assertEqual(130 if number == signal.SIGINT else -signal.SIGKILL, process.returncode, errors)
            self.assertNotIn("Traceback", errors)
            if number == signal.SIGINT:
                self.assertIn("the same command goes on", errors)
        self.demo.rate = 0
        self.assertEqual(0, self.run_command("10200", "--all", "--to", self.out)[0])
        for source in self.sources:
            self.assertEqual(read_bytes(source), read_bytes(os.path.join(self.out, os.path.basename(source))))

    def test_one_sentence_for_what_cannot_be_had(self):
        self.demo.add_fault(faults.GONE, "*m_0*")
        for arguments, words in ((("20000",), "EMPIAR has no entry 20000"), (("abc",), "not an EMPIAR entry number"),
                                 (("10200", "--image-set", "7"), "has no image set"),
                                 (("10200", "--pattern", "x*"), "matches the pattern"),
                                 (("10200", "--to", __file__), "cannot be made")):
            code, output, errors = self.run_command(*arguments, *([] if "--to" in arguments else ["--to", self.out]))
            self.assertEqual((1, "", 1), (code, output, len(errors.splitlines())), errors)
            self.assertIn(words, errors)
        code, output, _ = self.run_command("10200", "--all", "--to", self.out)
        self.assertIn("Skipped: data/Movies/m_0.mrc", output)
        self.assertEqual(2, self.run_command("10200", "--images", "0")[0])

    def test_a_folder_holds_one_image_set(self):
        self.write_movies("10201", ["m_%d.mrc" % n for n in range(2)])
        self.write_movies("10201", ["m_%d.mrc" % n for n in range(2)], folder="data/Other")
        self.demo.entries["10201"] = entry(image_set(num_images_or_tilt_series=2),
                                           image_set(name="Other", directory="data/Other"))
        self.assertEqual(0, self.run_command("10200", "--to", self.out)[0])
        first = read_bytes(os.path.join(self.out, "m_0.mrc"))
        code, output, errors = self.run_command("10201", "--to", self.out)
        self.assertEqual((1, "", 1), (code, output, errors.count("\n")))
        self.assertIn("holds images of EMPIAR-10200 already (image set no. 1)", errors)
        self.assertEqual(first, read_bytes(os.path.join(self.out, "m_0.mrc")))
        # Two at once: one fills the folder, the other waits and is refused then.
        self.demo.rate = 30000
        both = os.path.join(self.folder, "both")
        processes = [self.start("10201", "--image-set", number, "--all", "--to", both) for number in "12"]
        told = [process.communicate(timeout=120)[1] for process in processes]
        self.assertEqual([0, 1], sorted(process.returncode for process in processes), told)
        self.assertIn("Another command is filling", "".join(told))

    def test_files_that_came_in_another_way(self):
        os.makedirs(self.out)
        for name, content in (("m_1.mrc", b"precious"), ("notes.txt", b"mine")):
            with open(os.path.join(self.out, name), "wb") as stream:
                stream.write(content)
        for _ in range(2):
            code, _, errors = self.run_command("10200", "--all", "--to", self.out)
            self.assertEqual(1, code)
            self.assertIn("m_1.mrc was in %s before and did not come from the entry" % self.out, errors)
        self.assertEqual(b"precious", read_bytes(os.path.join(self.out, "m_1.mrc")))
        os.remove(os.path.join(self.out, "m_1.mrc"))
        self.assertEqual(0, self.run_command("10200", "--all", "--to", self.out)[0])
        self.assertEqual(read_bytes(self.sources[1]), read_bytes(os.path.join(self.out, "m_1.mrc")))

    def test_what_is_missing_is_no_success(self):
        for number, pattern, arguments in ((0, "*m_2*", ["--all"]), (1, "*gain*", ["--all"]),
                                           (2, "nothing", ["--gain-pattern", "nothing*"])):
            self.demo.clear_faults()
            self.demo.add_fault(faults.GONE, pattern)
            code = self.run_command("10200", "--to", "%s%d" % (self.out, number), *arguments)[0]
            self.assertEqual(1, code, pattern)
        self.demo.clear_faults()
        code, output, errors = self.run_command("10200", "--images", "50", "--to", self.out)
        self.assertEqual(0, code, errors)
        self.assertIn("4 images", output)
        self.assertIn("no more than these, fewer than the 50", errors)

    def test_a_folder_that_cannot_be_listed(self):
        self.write_movies("10200", ["a.mrc"], folder="data/Movies/below")
        self.demo.add_fault(faults.FORBIDDEN, "*below*")
        code, output, errors = self.run_command("10200", "--list")
        self.assertEqual((1, 4), (code, len(output.splitlines())))
        self.assertIn("data/Movies/below could not be entered", errors)

    def test_files_that_were_taken_away_or_cut(self):
        self.assertEqual(0, self.run_command("10200", "--all", "--to", self.out)[0])
        os.remove(os.path.join(self.out, "m_0.mrc"))
        os.truncate(os.path.join(self.out, "m_1.mrc"), 1000)
        found = json.loads(self.run_command("10200", "--images", "1", "--to", self.out, "--json")[1])
        self.assertEqual({"m_2.mrc", "m_3.mrc"}, {os.path.basename(movie["file"]) for movie in found["images"]})
        self.assertEqual(0, self.run_command("10200", "--all", "--to", self.out)[0])
        for source in self.sources:
            self.assertEqual(read_bytes(source), read_bytes(os.path.join(self.out, os.path.basename(source))))

    def test_bookkeeping_that_was_damaged(self):
        os.makedirs(self.out)
        for content in ('{"number": "10200"}', '{"number": "10200", "entry": 5}',
                        '{"number": "10200", "entry": {"status": "REL"}, "settled": true}'):
            for name in os.listdir(self.out):
                os.remove(os.path.join(self.out, name))
            with open(os.path.join(self.out, ".empiar-10200.json"), "w") as stream:
                stream.write(content)
            with open(os.path.join(self.out, ".empiar-10200-1.jsonl"), "w") as stream:
                stream.writelines('{"what": "%s"}\n' % what for what in ("movie", "note", "reference", "end", "bytes"))
            code, _, errors = self.run_command("10200", "--to", self.out)
            self.assertEqual(0, code, errors)

    def test_half_a_file_over_the_other_transport(self):
        """It was begun over HTTPS and killed; FTP goes on where that was."""
        self.demo.add_fault(faults.STALL, "*m_0*", after=60000)
        process = self.start("10200", "--to", self.out, "--no-gain", "--transport", "HTTPS")
        self.wait_for(lambda: any(name.endswith(".journal") and _lines(os.path.join(self.out, name)) > 1
                                  for name in (os.listdir(self.out) if os.path.isdir(self.out) else ())),
                      what="half a movie")
        process.kill()
        process.wait()
        self.demo.clear_faults()
        self.demo.requests.clear()
        code, _, errors = self.run_command("10200", "--to", self.out, "--no-gain", "--transport", "FTP")
        self.assertEqual(0, code, errors)
        run = [request for request in self.demo.requests if request.startswith("REST")]
        self.assertTrue(run and all(int(request.split()[1]) for request in run), self.demo.requests)

    def test_stopped_while_it_lists(self):
        self.demo.add_fault(faults.BUSY, "*Movies*")
        process = self.start("10200", "--list")
        self.wait_for(lambda: any("Movies" in request for request in list(self.demo.requests)), what="a listing")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        self.assertEqual((130, "Stopped; the same command goes on.\n"), (process.returncode, errors))

    def test_outputs_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            process = self.start("10200", "--to", self.out, stdout=full)
            _, errors = process.communicate(timeout=60)
            self.assertNotIn("Traceback", errors)
            self.assertIn("The output cannot be written", errors)
            # Progress that nobody sees is no reason to end.
            process = self.start("10200", "--all", "--to", self.out, "--json", stderr=full)
            self.assertEqual(4, len(json.loads(process.communicate(timeout=60)[0])["images"]))
            self.assertEqual(0, process.returncode)
        for closing in (1, 2):
            process = self.start("10200", "--to", self.out, preexec_fn=lambda closing=closing: os.close(closing))
            output, errors = process.communicate(timeout=60)
            self.assertEqual((0, ""), (process.returncode, errors), output)
        code, _, errors = self.run_command("10200", "--to", "/proc/1")
        self.assertEqual((1, 1), (code, len(errors.splitlines())), errors)

    def test_a_bar_in_a_terminal(self):
        self.demo.rate = 60000
        master, slave = pty.openpty()
        process = self.start("10200", "--to", self.out, stderr=slave)
        os.close(slave)
        process.communicate(timeout=60)
        written = os.read(master, 100000).decode()
        os.close(master)
        self.assertIn("\r[", written)
        self.assertIn("of 1 movies", written)

    def test_the_script(self):
        environment = dict(os.environ, PYTHONPATH=TOP, **self.demo.variables)
        done = subprocess.run([sys.executable, os.path.join(TOP, "examples", "download_images.py"), "10200", self.out],
                              env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                              check=False)
        self.assertEqual(0, done.returncode, done.stdout)
        self.assertIn("bytes from data/Movies/m_1.mrc", done.stdout)
