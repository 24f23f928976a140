# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``empiar``, as a user types it."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

from empiardownloader.archive.entry import size_in_bytes
from empiardownloader.demo import entries
from empiardownloader.demo.archive import DemoArchive
from empiardownloader.tests.base import ArchiveTestCase, emdb, entry, image_set

IS_QUICK = True

WORDS = ("search", "show", "plan", "preview", "fetch", "follow", "live", "completion")


class TestCommand(ArchiveTestCase):

    def run_command(self, demo, *words):
        """-> (exit code, output, errors)"""
        done = subprocess.run([sys.executable, "-m", "empiardownloader", *words], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=120, check=False,
                              env={**os.environ, **(demo.variables if demo else {})})
        return done.returncode, done.stdout, done.stderr

    def test_help_names_every_word(self):
        code, output, _ = self.run_command(None)
        self.assertEqual(0, code)
        for word in WORDS:
            self.assertIn("\n  %s " % word, output)
            code, told, _ = self.run_command(None, word, "--help")
            self.assertEqual((0, True), (code, told.startswith("usage: empiar %s " % word)), told)
        for wrong in ("shwo", "--"):
            code, _, errors = self.run_command(None, wrong, "10200")
            self.assertEqual(2, code)
            self.assertIn("there is no %r: choose one of search, show" % wrong, errors)

    def test_the_tab_key(self):
        _, script, _ = self.run_command(None, "completion")
        play = script + """
empiar() { "$PYTHON" -m empiardownloader "$@"; }
for line in "pre" "plan --im"; do
  COMP_WORDS=(empiar $line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _empiar; echo "${COMPREPLY[@]}"
done"""
        done = subprocess.run(["bash", "-c", play], stdout=subprocess.PIPE, text=True, timeout=60, check=True,
                              env=dict(os.environ, PYTHON=sys.executable))
        self.assertEqual(["preview", "--image-set --images"], done.stdout.splitlines())

    def test_an_entry_and_its_workflow(self):
        records, emdb_records = entries.build(self.root)
        with DemoArchive(self.root, records, emdb_records) as demo:
            code, output, errors = self.run_command(demo, "show", entries.NUMBER)
            self.assertEqual((0, ""), (code, errors))
            self.assertIn("EMPIAR-%s: " % entries.NUMBER, output)
            self.assertIn("%g Å/px" % entries.PIXEL_SIZE, output)
            self.assertIn("The depositors' workflow: data/workflow.json\n  1. ", output)
            self.assertIn("2. motion correction", output)
            self.assertIn("Make its workflow", output)
            code, output, errors = self.run_command(demo, "show", "EMPIAR-" + entries.NUMBER, "--json")
            told = json.loads(output)
            self.assertEqual((entries.NUMBER, ["movies"], entries.PIXEL_SIZE), (
                told["number"], told["kinds"], told["image_sets"][0]["pixel_size"]))
            self.assertEqual((300.0, "EMD-90001"), (told["acquisition"]["voltage"], told["acquisition"]["source"]))
            self.assertEqual("motion correction", told["workflow"]["protocols"][1])

    def test_what_is_not_known_is_said(self):
        demo = self.serve(entries={"1": entry(image_set(pixel_width=None, pixel_height=None))}, emdb={"EMD-0001": 404})
        code, output, errors = self.run_command(demo, "show", "1")
        self.assertEqual((0, ""), (code, errors))
        self.assertIn("pixel size not known", output)
        self.assertIn("No workflow was deposited.", output)
        told = json.loads(self.run_command(demo, "show", "1", "--json")[1])
        self.assertEqual((None, None, None), (told["image_sets"][0]["pixel_size"], told["acquisition"]["voltage"],
                                              told["workflow"]["file"]))

    def test_a_workflow_file_that_is_none(self):
        os.makedirs(os.path.join(self.root, "1", "data"))
        with open(os.path.join(self.root, "1", "data", "w.json"), "w") as stream:
            stream.write("[1, 2")
        for name, words in (("w.json", "is no workflow of Scipion"), ("gone.json", "gone.json")):
            with self.subTest(name):
                demo = self.serve(entries={"1": entry(image_set(), workflow_file={"path": "data/" + name})},
                                  emdb={"EMD-0001": emdb()})
                code, output, errors = self.run_command(demo, "show", "1")
                self.assertEqual((0, ""), (code, errors))
                self.assertIn(words, output)

    def test_one_sentence_for_what_cannot_be_had(self):
        demo = self.serve(entries={})
        for words in (("show", "99"), ("show", "EMD-1234"), ("fetch", "99", "--to", self.folder)):
            code, output, errors = self.run_command(demo, *words)
            self.assertEqual((1, "", 1), (code, output, len(errors.splitlines())), errors)

    def test_it_fetches(self):
        self.write_movies("10200", ["m_1.mrc", "m_2.mrc"])
        demo = self.serve(entries={"10200": entry(image_set())}, emdb={"EMD-0001": emdb()})
        with tempfile.TemporaryDirectory() as folder:
            code, _, errors = self.run_command(demo, "fetch", "10200", "--no-gain", "--to", folder)
            self.assertEqual(0, code, errors)
            self.assertIn("m_1.mrc", os.listdir(folder))

    def test_without_requests(self):
        script = "import sys; sys.modules['requests'] = None; import empiardownloader.__main__ as command; " \
                 "sys.exit(command.main(['show', '10200']))"
        done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual((1, 1), (done.returncode, len(done.stderr.splitlines())), done.stderr)
        self.assertIn("requests is not installed here", done.stderr)

    def test_it_waits_for_no_scipion(self):
        """What starts in a moment must not load it."""
        script = "import sys, empiardownloader.__main__ as command; command.main(['show', '--help'])"
        done = subprocess.run([sys.executable, "-X", "importtime", "-c", script], stderr=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, text=True, check=False)
        self.assertNotRegex(done.stderr, r"\| +(pwem|pyworkflow|numpy|requests)\n")


class TestSizes(unittest.TestCase):

    def test_sizes_as_the_archive_writes_them(self):
        for text, size in (("1.9 TB", 1900000000000), ("12 GB", 12000000000), ("703.5MB", 703500000), ("5 B", 5),
                           ("", None), ("unknown", None), ("12", None)):
            self.assertEqual(size, size_in_bytes(text), text)
