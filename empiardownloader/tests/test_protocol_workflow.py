# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry's own workflow, fetched from the archive by the entry's wand and made in a project."""
import collections
import json
import os
import threading
import unittest
from unittest import mock

from pyworkflow.gui import dialog

from empiardownloader.tests.base import ProtocolTestCase, entry, image_set, write_movies
from empiardownloader.tests.surroundings import environment
from empiardownloader.wizards import wizard_empiar
from empiardownloader.wizards.finding import askRecord

PATH = "data/workflow.json"


def exported(*more):
    return [{"object.className": "ProtImportMovies", "object.id": "7002", "object.label": "import movies",
             "filesPath": "/data/krios", "filesPattern": "*.mrc", "samplingRate": 0.5},
            {"object.className": "ProtSubSet", "object.id": "7005", "object.label": "some of them",
             "inputFullSet": "7002.outputMovies", "chooseAtRandom": True, "nElements": 2}, *more]


class Form:
    root = None

    def __init__(self, protocol):
        self.protocol = protocol
        # Labels and variables of Tk, of which nothing is asked here.
        self.widgetDict = collections.defaultdict(mock.MagicMock)

    def setVar(self, name, value):
        self.protocol.setAttributeValue(name, value)


class TestMade(ProtocolTestCase):

    @classmethod
    def fill(cls):
        write_movies(cls.root, "10200", ["m_%d.mrc" % number for number in range(3)])
        cls.demo.entries["10200"] = entry(image_set(num_images_or_tilt_series=3))

    def make(self, content, answer=dialog.RESULT_NO):
        """Press the entry's wand, and its button -> what was said, and the new protocols."""
        with open(os.path.join(self.root, "10200", PATH), "w") as stream:
            stream.write(content if isinstance(content, str) else json.dumps(content))
        self.demo.entries["10200"] = dict(entry(image_set(num_images_or_tilt_series=3)), workflow_file={"path": PATH})
        before = {run.getObjId() for run in self.proj.getRuns(refresh=True)}
        said, found = [], []

        def find(parent, addresses, words, transport):
            record = askRecord(words, addresses, threading.Event())
            found.append(record.facts)
            return mock.Mock(chosen=record.facts if answer != dialog.RESULT_CANCEL else None, imageSet="1",
                             record=record, resultNo=lambda: answer == dialog.RESULT_NO)

        def now(parent, words, function):
            try:
                return function(threading.Event())
            except Exception as error:  # noqa: BLE001 - as the waiting window does
                said.append(str(error))
                return None

        variables = {name: self.demo.variables[name] for name in self.demo.variables}
        with environment(**variables), mock.patch.multiple(
                wizard_empiar.dialog, showInfo=lambda title, text, root: said.append(text),
                showError=lambda title, text, root: said.append(text)), \
                mock.patch.multiple(wizard_empiar, ask=now, FindDialog=find), \
                mock.patch.object(wizard_empiar.Plugin, "getVar", variables.get):
            wizard_empiar.EmpiarEntryWizard().show(Form(self.new()))
        self.assertTrue(found[0].has_workflow)      # so that the window's button can be pressed
        runs = [run for run in self.proj.getRuns(refresh=True) if run.getObjId() not in before]
        return "\n".join(said), runs

    def test_it_runs_once_its_user_wants_it(self):
        said, runs = self.make(exported())
        self.assertEqual(["EmpiarDownloader", "ProtSubSet"], [run.getClassName() for run in runs])
        self.assertTrue(all(run.isSaved() for run in runs))
        self.assertEqual(["EMPIAR-10200 movies", "some of them"], [run.getObjLabel() for run in runs])
        self.assertIn("Made in the project: 2 of the workflow's 2 protocols. None of them runs", said)
        self.assertIn("import movies (there: 0.5 Å/px) is now a download of image set no. 1", said)
        download, subset = runs
        self.finish(download)
        self.finish(subset)
        made, = [its for _, its in subset.iterOutputAttributes()]
        self.assertEqual((3, 2), (download.outputMovies.getSize(), made.getSize()))

    def test_numbers_that_are_not_in_it_are_nobodys_runs(self):
        other = self.finish(self.new(amountOfImages=1))
        number = str(other.getObjId())
        said, runs = self.make(exported(
            {"object.className": "ProtSubSet", "object.id": "900", "object.label": "of a stranger",
             "inputFullSet": number + ".outputMovies"},
            {"object.className": "ProtSubSet", "object.id": "901", "object.label": "of another",
             "inputFullSet": number, "nElements": number + ".boxSize"},
            {"object.className": "ProtOfNobody", "object.id": "902"},
            {"object.className": "ProtSubSet", "object.id": "903", "object.label": "of a missing one",
             "inputFullSet": "902.outputMovies"}))
        self.assertEqual(5, len(runs))
        for run in runs[2:]:
            self.assertIsNone(run.inputFullSet.get(), run.getObjLabel())
            self.assertFalse(run.nElements.hasPointer())
        self.assertIn("which were skipped: ProtOfNobody", said)
        for label in ("of a stranger", "of another", "of a missing one"):
            self.assertIn(label, said)

    def test_values_that_no_parameter_can_have(self):
        """Of a stranger's file: left out, where pyworkflow would fail in the middle or take them for pointers."""
        for value in (2, 2.5, [1, 2], [], 1e300, 10 ** 30, True, "\ud800", {"a": 1}):
            with self.subTest(value=value):
                said, runs = self.make(json.dumps(exported(
                    {"object.className": "ProtSubSet", "object.id": "7009", "object.label": "odd",
                     "object.comment": value, "inputFullSet": value, "nElements": value, "chooseAtRandom": value,
                     "_prerequisites": value})))
                self.assertEqual(3, len(runs), said)
                self.assertIsNone(runs[2].inputFullSet.get())
                self.assertFalse(runs[2].nElements.hasPointer())

    def test_lists_of_pointers_and_what_is_not_taken(self):
        said, runs = self.make("\ufeff" + json.dumps(exported(
            {"object.className": "ProtUnionSet", "object.id": "7010", "object.label": "all", "object.comment": "why",
             "_useQueue": True, "inputSets": ["7002.outputMovies", "31.outputMovies"]},
            {"object.className": "ProtUnionSet", "object.id": "7011", "object.label": "one",
             "inputSets": "7002.outputMovies"})))
        union, one = runs[2:]
        self.assertEqual([runs[0].getObjId()], [pointer.getObjValue().getObjId() for pointer in union.inputSets])
        self.assertEqual(["outputMovies"], [pointer.getExtended() for pointer in one.inputSets])
        self.assertEqual(("why", False), (union.getObjComment(), union.useQueue()))
        self.assertIn("An input is missing, choose it by hand: all.", said)

    def test_what_fails_in_the_middle_leaves_nothing(self):
        with mock.patch.object(self.proj, "saveProtocol", side_effect=RuntimeError("disk full")):
            said, runs = self.make(exported())
        self.assertEqual([], runs)
        self.assertIn("nothing of it is in the project", said)

    def test_refused_or_not_wanted_nothing_is_made(self):
        said, runs = self.make("<html>maintenance</html>")
        self.assertEqual([], runs)
        self.assertIn("is no workflow of Scipion (no JSON): nothing was made of it", said)
        said, runs = self.make(exported(), dialog.RESULT_CANCEL)
        self.assertEqual(([], ""), (runs, said))


if __name__ == "__main__":
    unittest.main()
