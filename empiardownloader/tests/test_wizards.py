# SPDX-License-Identifier: GPL-3.0-or-later
"""What the magic wands put into the form, without their windows, and what the form's help says."""
import unittest
from unittest import mock

from empiardownloader.archive.entry import parse_entry
from empiardownloader.protocols.protocol_empiar_download import EmpiarDownloader
from empiardownloader.tests.base import entry, image_set
from empiardownloader.wizards import wizard_empiar
from empiardownloader.wizards.wizard_empiar import EmpiarEntryWizard, EmpiarFilePatternWizard, EmpiarGainPatternWizard


class Form:
    """As much of Scipion's form as a wizard needs."""
    root = None

    def __init__(self, **values):
        self.protocol = EmpiarDownloader(**values)

    def setVar(self, name, value):
        self.protocol.setAttributeValue(name, value)

    def value(self, name):
        return self.protocol.getAttributeValue(name)


class TestWizards(unittest.TestCase):

    def setUp(self):
        self.entry = parse_entry("1", entry(image_set(name="A", directory="data/a"),
                                            image_set(name="B", directory="data/b")))
        self.said = []
        patch = mock.patch.multiple(wizard_empiar.dialog, showInfo=lambda title, text, root: self.said.append(text),
                                    showError=lambda title, text, root: self.said.append(text))
        patch.start()
        self.addCleanup(patch.stop)

    def test_what_was_chosen_for_another_entry_is_cleared(self):
        """W7"""
        form = Form(imageSet="Old", filePattern="data/old/*.mrc", gainPattern="x.mrc")
        lines = EmpiarEntryWizard._clearOthers(form, self.entry)
        self.assertEqual(["", "", ""], [form.value(name) for name in ("imageSet", "filePattern", "gainPattern")])
        self.assertIn("Image set, File pattern, Gain file pattern were cleared", lines[-1])
        form = Form(imageSet="B", filePattern="data/b/*.mrc")
        self.assertEqual([], EmpiarEntryWizard._clearOthers(form, self.entry))
        self.assertEqual("data/b/*.mrc", form.value("filePattern"))

    def test_files_of_another_image_set_choose_it(self):
        """W7: the run would find none of them otherwise."""
        form = Form()
        EmpiarFilePatternWizard._chooseImageSet(form, self.entry, "data/b/x.mrc")
        self.assertEqual("2", form.value("imageSet"))
        self.assertIn("belong to another image set", self.said[0])
        EmpiarFilePatternWizard._chooseImageSet(form, self.entry, "data/b/y.mrc")
        self.assertEqual(1, len(self.said))

    def test_a_folder_is_no_gain_reference(self):
        """W7"""
        form = Form(entryId="1")
        chosen = mock.Mock(chosen="data/a/")
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
