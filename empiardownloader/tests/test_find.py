# SPDX-License-Identifier: GPL-3.0-or-later
"""The windows that find an entry and choose an image set, on a virtual screen."""
import io
import json
import os
import subprocess
import sys
import unittest

from PIL import Image

from empiardownloader.demo import entries
from empiardownloader.tests import catalogue_entries
from empiardownloader.tests.base import ArchiveTestCase
from empiardownloader.tests.surroundings import environment
from empiardownloader.tests.test_gui import missing, screen


@unittest.skipIf(missing(), missing())
class TestFind(ArchiveTestCase):
    COUNT = 300

    def setUp(self):
        super().setUp()
        self.records, self.rows = catalogue_entries.records(self.COUNT)
        demo, emdb = entries.build(self.root)
        self.records.update(demo)
        self.demo = self.serve(entries=self.records, emdb=emdb)
        self.demo.emdb_rows = self.rows
        picture = io.BytesIO()
        Image.linear_gradient("L").resize((300, 200)).save(picture, "GIF")
        self.demo.pictures = dict.fromkeys(self.records, picture.getvalue())
        self.pictures = os.environ.get("EMPIAR_PICTURES") or os.path.join(self.folder, "pictures")
        os.makedirs(self.pictures, exist_ok=True)

    def play(self, scene, **variables):
        path = os.path.join(self.pictures, "result.json")
        if os.path.exists(path):
            os.remove(path)
        with screen() as display, environment(DISPLAY=display, XDG_CACHE_HOME=self.folder, **{
                **self.demo.variables, **variables}):
            done = subprocess.run([sys.executable, "-m", "empiardownloader.tests.find_play", scene, self.pictures],
                                  timeout=200, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.assertTrue(os.path.exists(path), done.stdout[-3000:])
        with open(path) as stream:
            result = json.load(stream)
        self.assertEqual([], result["errors"], done.stdout[-3000:])
        self.assertNotIn("Traceback", done.stdout)
        return result

    def test_found_looked_at_and_used(self):
        result = self.play("first_use")
        self.assertIn("Fetching the list of all entries", result["first"])
        self.assertIn("%d entries, %d of them new" % (self.COUNT, self.COUNT), result["harvested"])
        self.assertEqual({"10200", "10591"}, set(result["apoferritin"][:2]))
        self.assertEqual("Picture given by the authors", result["picture"])
        self.assertEqual(["10591"], result["eer"])
        self.assertEqual('Size up to: a size like 500GB or 16MB, not much', result["wrong size"])
        self.assertIn('is it "apoferritin"', result["misspelt"])
        self.assertTrue(result["course"] and max(result["course"]) <= 10 ** 11)
        self.assertEqual(sorted(result["course"]), result["course"])
        self.assertEqual(sorted(result["smallest"]), result["smallest"])
        self.assertEqual(sorted(result["largest"], reverse=True), result["largest"])
        self.assertGreater(result["largest"][0], result["smallest"][-1])
        self.assertTrue(result["not closed"])
        self.assertEqual((["10021"], ["10200"]), (result["tmv"], result["number"]))
        self.assertEqual([10200, "1", False], result["chosen"][:3])
        # Whose list is here already is not asked for again; it answers without a network.
        asked = self.demo.count("POST")
        result = self.play("image")
        self.assertEqual(asked, self.demo.count("POST"))
        self.assertIn("data/Movies/grid1_0001.mrc: 512 x 384 pixels, 10 frames of 10", result["image"])
        self.assertEqual("Picture given by the authors", result["of another"])
        self.assertEqual([90001, "1", True, True], result["chosen"])
        entry = self.demo.entries["10028"]
        self.demo.entries["10028"] = dict(entry, imagesets=entry["imagesets"][::-1])
        self.demo.delay = 1.0
        result = self.play("reordered")
        self.assertEqual(("particles", "particles"), (result["before"], result["after"]))
        self.assertEqual([10028, "1"], result["chosen"][:2])
        self.demo.delay = 3.0
        result = self.play("slow")
        self.assertEqual([False, "Cancelled."], result["cancelled"])
        self.assertIsNone(result["chosen"])

    def test_without_a_line(self):
        nowhere = dict.fromkeys(self.demo.variables, "http://localhost:1/api")
        result = self.play("no_line", **nowhere)
        self.assertIn("check the network, then try again", result["status"])
        self.assertTrue(result["not closed"])
        self.assertIsNone(result["chosen"])

    def test_image_sets(self):
        """What each would bring, the picture of one."""
        self.demo.rate = 500000
        result = self.play("choose_set")
        for row in result["plans"]:
            self.assertTrue(row[7].startswith("3 movies, "), row)
            self.assertTrue(row[8].endswith(" s"), row)
            self.assertEqual("yes", row[9])
        self.assertIn("Images:  3 of 12 movies", result["text"])
        self.assertIn("data/Movies_tiff/grid1_0001.tif: 512 x 384", result["caption"])
        self.assertEqual("2", result["chosen"])


