# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry's own workflow: imports become downloads, pointers stay right, and what is none is refused."""
import json
import unittest

from empiardownloader.archive.entry import parse_entry
from empiardownloader.archive.workflow import MAX_WORKFLOW_BYTES, WorkflowError, read_workflow
from empiardownloader.tests.base import entry, image_set

MOVIES = {"name": "Movies", "category": "micrographs - multiframe", "directory": "data/m"}
VOLUMES = {"name": "Maps", "category": "reconstructed volumes", "directory": "data/v"}


def steps():
    """As Scipion exports them: two imports, what takes their outputs, and one whose input is not in the file."""
    return [
        {"object.className": "ProtImportMovies", "object.id": "2", "object.label": "import movies",
         "object.comment": "", "_useQueue": True, "_queueParams": '["x", {}]', "_prerequisites": "",
         "filesPath": "/data/krios/", "filesPattern": "*.tif", "samplingRate": 0.66, "voltage": 300.0,
         "dosePerFrame": 1.2},
        {"object.className": "ProtMotionCorr", "object.id": "70", "object.label": "motioncorr",
         "inputMovies": "2.outputMovies", "binFactor": "2.0", "hostName": "cluster"},
        {"object.className": "ProtImportVolumes", "object.id": "80", "object.label": "import map",
         "filesPath": "/data/ref.mrc"},
        {"object.className": "ProtSomething", "object.id": "90", "object.label": "something", "several": [
            "70.outputMicrographs", "80.outputVolume"], "volume": "80.outputVolume", "old": "44.outputParticles",
         "factor": "44.5"}]


class TestWorkflow(unittest.TestCase):

    def read(self, given, *sets):
        its = parse_entry("10200", entry(*[image_set(**each) for each in sets or (VOLUMES, MOVIES)]))
        return read_workflow(given if isinstance(given, str) else json.dumps(given), its, "data/w.json")

    def test_imports_become_downloads(self):
        workflow = self.read(steps())
        first, aligned, volume, last = workflow.steps
        self.assertEqual({"object.className": "EmpiarDownloader", "object.id": "2", "entryId": "10200",
                          "allImages": True, "imageSet": "2", "object.label": "EMPIAR-10200 movies",
                          "object.comment": "in place of: import movies"}, first)
        self.assertEqual("1", volume["imageSet"])
        self.assertEqual(("2.outputMovies", "2.0"), (aligned["inputMovies"], aligned["binFactor"]))
        self.assertEqual((["70.outputMicrographs", "80.outputVolumes.1"], "80.outputVolumes.1", "44.5"),
                         (last["several"], last["volume"], last["factor"]))
        # How it was run there, and a number that somebody else's project may have.
        self.assertNotIn("hostName", aligned)
        self.assertIsNone(last["old"])
        self.assertEqual(["something"], workflow.loose)
        self.assertEqual([], workflow.kept)
        self.assertRegex(workflow.replaced[0], r"^import movies \(there: 0.66 Å/px, 300.0 kV, 1.2 e/Å² per frame\) is "
                                               r"now a download of image set no. 2")

    def test_an_import_of_what_the_entry_does_not_have_stays(self):
        workflow = self.read(steps(), MOVIES)
        self.assertEqual("ProtImportVolumes", workflow.steps[2]["object.className"])
        self.assertEqual(["import map"], workflow.kept)

    def test_what_is_no_workflow_is_refused_whole(self):
        deep = "[" * 100000 + "]" * 100000
        for given, why in (("<html>", "no JSON"), (deep, "no JSON|no list"), ({}, "no list"), ([], "no list"),
                           ([1], "without a class"), ([{"object.className": "os.system", "object.id": "2"}], "class"),
                           ([{"object.className": "Prot", "object.id": "../2"}], "number"),
                           ([{"object.className": "P", "object.id": "1", "x": {"a": 1}}], "neither text nor number"),
                           ([{"object.className": "P", "object.id": "1", "x": [[1]]}], "neither text nor number"),
                           ([{"object.className": "P", "object.id": "1"}] * 2, "two protocols of one number"),
                           ([{"object.className": "P", "object.id": str(n)} for n in range(600)], "no list of 1 to"),
                           (" " * (MAX_WORKFLOW_BYTES + 1), "larger than 4 MB"),
                           ([{"object.className": "P", "object.id": "1", "x": "y" * 200000}], "neither text")):
            with self.subTest(why=why), self.assertRaisesRegex(WorkflowError, "data/w.json of EMPIAR-10200 is no "
                                                               "workflow of Scipion .*(%s)" % why):
                self.read(given)

    def test_where_an_entry_names_it(self):
        for value, wanted in (({"path": "data/w.json"}, "data/w.json"), ("/data//w.json", "data/w.json"),
                              ("path=data/w.json", "data/w.json"), ("../../etc/passwd", ""), (None, ""), ({}, ""),
                              ({"path": None}, ""), (["x"], ""), ("data/..", "")):
            with self.subTest(value=value):
                self.assertEqual(wanted, parse_entry("1", dict(entry(image_set()), workflow_file=value)).workflow_file)
        older = entry(dict(image_set(), scipion_workflow="data/old.json"))
        self.assertEqual("data/old.json", parse_entry("1", older).workflow_file)
        urls = parse_entry("1", dict(entry(image_set()), workflows=[
            {"url": "https://doi.org/10.48546/workflowhub.workflow.201.1", "type": 1}, {"url": "javascript:x"}, 3]))
        self.assertEqual(("https://doi.org/10.48546/workflowhub.workflow.201.1",), urls.workflow_urls)


if __name__ == "__main__":
    unittest.main()
