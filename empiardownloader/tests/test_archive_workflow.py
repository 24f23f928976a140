# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry's own workflow: imports become downloads, pointers stay right, and what is none is refused."""
import json
import unittest

from empiardownloader.archive.entry import parse_entry
from empiardownloader.archive.workflow import MAX_WORKFLOW_BYTES, WorkflowError, read_workflow
from empiardownloader.tests.base import entry, image_set

IS_QUICK = True

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
        # How it was run there.
        self.assertNotIn("hostName", aligned)
        self.assertEqual(([], [], []), (workflow.kept, workflow.loose, workflow.elsewhere))
        self.assertRegex(workflow.replaced[0], r"^import movies \(there: 0.66 Å/px, 300.0 kV, 1.2 e/Å² per frame\) is "
                                               r"now a download of image set no. 2")
        self.assertIn("which of its volumes was meant, choose by hand", workflow.replaced[1])

    def test_an_import_of_what_the_entry_does_not_have_stays(self):
        workflow = self.read(steps(), MOVIES)
        self.assertEqual("ProtImportVolumes", workflow.steps[2]["object.className"])
        self.assertEqual(["import map"], workflow.kept)

    def test_a_map_of_emdb_stays_and_what_reads_other_files_is_named(self):
        workflow = self.read([
            {"object.className": "ProtImportVolumes", "object.id": "2", "importFrom": 1, "emdbId": 10439},
            {"object.className": "ProtImportMask", "object.id": "3", "object.label": "mask", "maskPath": "m.mrc"},
            {"object.className": "ProtX", "object.id": "4", "object.label": "x", "model": "/home/stranger/model.h5"},
            {"object.className": "EmpiarDepositor", "object.id": "5"}])
        self.assertEqual(["ProtImportVolumes", "ProtImportMask", "ProtX"], workflow.classes)
        self.assertEqual(([], ["mask", "x"]), (workflow.replaced, workflow.elsewhere))

    def test_what_the_depositing_plugin_adds_is_put_aside(self):
        """It writes each protocol's outputs, with items, beside its parameters."""
        given = steps()
        given[0].update(output=[{"outputName": "outputMovies", "outputItems": [{"a": 1}] * 1000}], label=["import"],
                        plugin="pwem", summary=["a", ["b"]])
        given[1].update(output=[{"x": []}], log={"a": 1})
        workflow = self.read(given)
        self.assertEqual(4, len(workflow.steps))
        self.assertNotIn("output", workflow.steps[1])

    def test_two_imports_of_one_image_set_are_one_download(self):
        workflow = self.read([
            {"object.className": "ProtImportMovies", "object.id": "2", "object.label": "grid 1"},
            {"object.className": "ProtImportMovies", "object.id": "3", "object.label": "grid 2"},
            {"object.className": "ProtUnionSet", "object.id": "4", "inputSets": ["2.outputMovies", "3.outputMovies"]}])
        self.assertEqual(["EmpiarDownloader", "ProtUnionSet"], workflow.classes)
        self.assertEqual(["2.outputMovies"] * 2, workflow.steps[1]["inputSets"])
        self.assertIn("grid 2 would be the same images once more", workflow.replaced[1])

    def test_outputs_that_a_download_does_not_make(self):
        workflow = self.read([
            {"object.className": "ProtImportMovies", "object.id": "2"},
            {"object.className": "ProtX", "object.id": "3", "object.label": "x", "ctf": "2.outputCTF", "file": "2.tif",
             "movies": "2.__attribute__outputMovies"}])
        self.assertEqual((None, "2.tif", "2.outputMovies"), tuple(
            workflow.steps[1][name] for name in ("ctf", "file", "movies")))
        self.assertEqual(["x"], workflow.loose)

    def test_tilt_series_with_and_without_frames(self):
        tilts = [{"category": "tilt series", "directory": "data/s", "frames_per_image": 1},
                 {"category": "tilt series", "directory": "data/f", "frames_per_image": 8}]
        for name, output, wanted in (("ProtImportTsMovies", "outputTiltSeries", "2"),
                                     ("ProtImportTs", "outputTiltSeries", "1"),
                                     ("ProtImportMovies", "outputMovies", "2")):
            with self.subTest(name):
                workflow = self.read([{"object.className": name, "object.id": "2"},
                                      {"object.className": "ProtX", "object.id": "3", "of": "2." + output}], *tilts)
                self.assertEqual(wanted, workflow.steps[0]["imageSet"])
        self.assertEqual("1", self.read([{"object.className": "ProtImportTsMovies", "object.id": "2"}],
                                        MOVIES).steps[0]["imageSet"])

    def test_what_is_no_workflow_is_refused_whole(self):
        deep = "[" * 100000 + "]" * 100000
        for given, why in (("<html>", "no JSON"), (deep, "no JSON|no list"), ({}, "no list"), ([], "no list"),
                           ([1], "without a class"), ([{"object.className": "os.system", "object.id": "2"}], "class"),
                           ([{"object.className": "Prot", "object.id": "../2"}], "number"),
                           ([{"object.className": "P", "object.id": "1"}] * 2, "two protocols of one number"),
                           ([{"object.className": "P", "object.id": str(n)} for n in range(600)], "no list of 1 to"),
                           (" " * (MAX_WORKFLOW_BYTES + 1), "larger than 32 MB")):
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
