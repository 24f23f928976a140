# SPDX-License-Identifier: GPL-3.0-or-later
"""What the magic wands put into the form, without their windows, and what the form's help says."""
import collections
import unittest
from unittest import mock

from pyworkflow.object import String

from empiardownloader.archive.entry import parse_entry
from empiardownloader.catalogue.facts import from_record
from empiardownloader.protocols.protocol_empiar_download import EmpiarDownloader
from empiardownloader.tests.base import entry, image_set
from empiardownloader.tests.surroundings import environment
from empiardownloader.wizards import wizard_empiar
from empiardownloader.wizards.wizard_empiar import EmpiarEntryWizard, EmpiarFilePatternWizard, EmpiarGainPatternWizard


class Form:
    """As much of Scipion's form as a wizard needs."""
    root = None

    def __init__(self, **values):
        self.protocol = EmpiarDownloader(**values)
        # Labels and variables of Tk, of which nothing is asked here.
        self.widgetDict = collections.defaultdict(mock.MagicMock)

    def setVar(self, name, value):
        attribute = getattr(self.protocol, name)
        # A field of a number that is empty is None.
        attribute.set(value if value != "" or isinstance(attribute, String) else None)

    def value(self, name):
        return self.protocol.getAttributeValue(name)


class TestWizards(unittest.TestCase):

    def setUp(self):
        self.record = entry(image_set(name="A", directory="data/a"), image_set(name="B", directory="data/b"))
        self.entry = parse_entry("1", self.record)
        self.said = []
        patch = mock.patch.multiple(wizard_empiar.dialog, showInfo=lambda title, text, root: self.said.append(text),
                                    showError=lambda title, text, root: self.said.append(text))
        patch.start()
        self.addCleanup(patch.stop)
        before = dict(wizard_empiar.Plugin.getVars())
        wizard_empiar.Plugin._defineVariables()
        self.addCleanup(lambda: (wizard_empiar.Plugin.getVars().clear(), wizard_empiar.Plugin.getVars().update(before)))
        nowhere = environment(XDG_CACHE_HOME="/nowhere")
        nowhere.__enter__()
        self.addCleanup(nowhere.__exit__, None, None, None)

    def use(self, number="1", image_set="1", **values):
        form = Form(**values)
        EmpiarEntryWizard()._use(form, from_record(int(number), self.record), image_set)
        return form

    def test_what_was_chosen_for_another_entry_is_cleared(self):
        """W7"""
        old = {"entryId": "2", "imageSet": "Old", "filePattern": "data/old/*.mrc", "gainPattern": "x.mrc",
               "particlesFile": "p.star", "samplingRate": 1.1, "dosePerFrame": 2.0, "doseInitial": 1.0,
               "voltage": 200.0, "sphericalAberration": 2.0, "magnification": 9000.0, "amplitudeContrast": 0.07}
        form = self.use(**old)
        self.assertEqual(("1", "1"), (form.value("entryId"), form.value("imageSet")))
        for name in set(old) - {"entryId", "imageSet"}:
            self.assertIn(form.value(name), ("", None), name)
        self.assertIn("for another entry: File pattern (data/old/*.mrc)", self.said[0])
        self.assertIn("Voltage (kV) (200.0)", self.said[0])
        # The microscope is the entry's; what else was typed was for another of its image sets.
        form = self.use(**dict(old, entryId=" EMPIAR-1 ", imageSet="B"))
        self.assertEqual(("1", 200.0, 0.07), tuple(form.value(name) for name in (
            "imageSet", "voltage", "amplitudeContrast")))
        self.assertIn(form.value("samplingRate"), ("", None))
        self.assertIn("for another image set", self.said[1])

    def test_what_was_chosen_for_this_entry_stays(self):
        for text, chosen, kept in (("B", "2", "B"), ("2", "2", "2"), ("", "1", "")):
            form = self.use(image_set=chosen, entryId="1", imageSet=text, filePattern="data/b/*.mrc", samplingRate=1.1)
            self.assertEqual((kept, "data/b/*.mrc", 1.1), tuple(form.value(name) for name in (
                "imageSet", "filePattern", "samplingRate")))
        self.assertEqual([], self.said)

    def test_files_of_another_image_set_choose_it(self):
        """W7: the run would find none of them otherwise."""
        form = Form()
        EmpiarFilePatternWizard()._chooseImageSet(form, self.entry, "data/b/x.mrc")
        self.assertEqual("2", form.value("imageSet"))
        self.assertIn("belong to another image set", self.said[0])
        EmpiarFilePatternWizard()._chooseImageSet(form, self.entry, "data/b/y.mrc")
        self.assertEqual(1, len(self.said))

    def test_a_folder_is_no_gain_reference(self):
        """W7"""
        form = Form(entryId="1")
        chosen = mock.Mock(chosen="data/a/", ticked={})
        with mock.patch.multiple(wizard_empiar, ask=lambda root, text, act: self.entry,
                                 RemoteTreeDialog=lambda *arguments: chosen):
            EmpiarGainPatternWizard().show(form)
            self.assertEqual(["data/a/ is a folder: select a file."], self.said)
            self.assertFalse(form.value("gainPattern"))
            chosen.chosen = "data/a/gain.mrc"
            EmpiarGainPatternWizard().show(form)
        self.assertEqual("data/a/gain.mrc", form.value("gainPattern"))


class TestHelp(unittest.TestCase):

    def test_patterns_are_readable(self):
        """W4: Scipion's markup knows no backslash; what stands between two stars becomes bold."""
        protocol = EmpiarDownloader()
        for name in ("filePattern", "gainPattern", "particlesFile"):
            text = protocol.getParam(name).getHelp()
            self.assertNotIn("\\", text)
            self.assertTrue(text)
