# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of the summary, from records without a run."""
import os
import shutil
import tempfile
import types
import unittest
from unittest import mock

from empiardownloader.archive import metadata
from empiardownloader.archive.entry import parse_entry
from empiardownloader.archive.kinds import MOVIES
from empiardownloader.archive.metadata import Metadata
from empiardownloader.download.record.events import Began, Ended, FileSkipped, ImageArrived, SeriesKnown, TiltKnown
from empiardownloader.download.record.facts import RecordState
from empiardownloader.protocols import summary
from empiardownloader.protocols.context import Context
from empiardownloader.protocols.protocol_empiar_download import EmpiarDownloader
from empiardownloader.tests.base import entry, image_set

IS_QUICK = True


class TestLines(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="empiar-test-")
        self.addCleanup(shutil.rmtree, self.folder)

    def context(self, *events):
        state = RecordState()
        for event in (Began(entry="1", image_set=1), *events):
            state.apply(event)
        found = parse_entry("1", entry(image_set(pixel_width=1.0, pixel_height=1.0)))
        none = types.SimpleNamespace(voltage=None, spherical_aberration=None, source="", dose_per_movie=None)
        return Context(Metadata(found, none), state.snapshot(), found.image_set())

    def test_one_of_several_series_has_another_pixel_size(self):
        """Whichever of them came last."""
        noted = {"samplingRate": (1.0, "EMPIAR-1")}
        for sizes in ((1.0, 2.0), (2.0, 1.0)):
            series = [SeriesKnown("TS_%d" % number, (TiltKnown("a"),), pixel_size=size)
                      for number, size in enumerate(sizes)]
            line, = summary._findDisagreements(self.context(*series), noted)
            self.assertIn("2 Å/px by the .mdoc files, but 1 Å/px by EMPIAR-1", line)
        same = SeriesKnown("TS", (TiltKnown("a"),), pixel_size=1.001)
        self.assertEqual([], summary._findDisagreements(self.context(same), noted))

    def test_files_left_out_by_reason(self):
        self.assertEqual(["Skipped: a.mrc (it is empty)"], summary.groupLeftOut({"a.mrc": "it is empty"}))
        lines = summary.groupLeftOut({"%d.mrc" % number: "%d.mrc is gone" % number for number in range(5)})
        self.assertEqual(["Skipped: 5 files (the file is gone), for example 0.mrc and 1.mrc"], lines)
        many = summary.groupLeftOut({"%d.mrc" % number: "reason %d" % number for number in range(9)})
        self.assertEqual("... and 3 files more skipped for other reasons, see the tab Output Log.", many[-1])

    def state(self, items=0, wanted=40, images=12, end=None, left_out=0, error="", **flags):
        protocol = mock.Mock(spec=EmpiarDownloader)
        protocol.getProgressFile.return_value = os.path.join(self.folder, "progress.json")
        protocol.getAmount.return_value = wanted
        protocol.getErrorMessage.return_value = error
        for name in ("isFailed", "isActive", "isStopping", "isAborted"):
            getattr(protocol, name).return_value = flags.get(name, False)
        events = [ImageArrived("m_%d.mrc" % number, "data/m_%d.mrc" % number, 10 ** 6) for number in range(images)]
        events += [FileSkipped("data/n_%d.mrc" % number, "it is empty") for number in range(left_out)]
        facts = self.context(*events, *([end] if end else [])).facts
        return summary._summarizeState(protocol, MOVIES, facts, items)

    def test_how_far_it_is_comes_first(self):
        with open(os.path.join(self.folder, "progress.json"), "w") as stream:
            stream.write('{"text": "Downloaded 12 of 40 movies, about 3 s left"}')
        self.assertEqual(["Downloaded 12 of 40 movies, about 3 s left, 2 files skipped"], self.state(
            isActive=True, left_out=2))
        self.assertEqual("*Stopping*: 5 movies that are here are still being registered.", self.state(
            7, isActive=True, isStopping=True)[0])
        self.assertEqual("*Stopping*: what is whole is being registered.", self.state(
            12, isActive=True, isStopping=True)[0])
        self.assertEqual(["Downloaded 12 of 40 movies, 12.0 MB", mock.ANY], self.state(
            12, end=Ended(False, False, True)))
        self.assertIn("Continue fetches the rest", self.state(12, end=Ended(False, False, True))[1])
        self.assertEqual(["Downloaded 12 of 12 movies, 12.0 MB"], self.state(
            12, 12, end=Ended(True, False, True)))
        self.assertEqual("*Aborted*: Continue goes on where it was.", self.state(12, isAborted=True)[1])

    def test_a_failure_begins_with_the_remedy(self):
        # As Scipion has it.
        error = "\x1b[31mProtocol failed: The line broke: check the network,\nthen Continue.\x1b[0m"
        lines = self.state(12, isFailed=True, error=error)
        self.assertEqual(["*Failed*: The line broke: check the network, then Continue.",
                          "Downloaded 12 of 40 movies, 12.0 MB",
                          "The output was closed with 12 items: Continue opens it again and adds the rest."], lines)
        self.assertEqual("*Failed*: make room. Solve this, then press *Continue*.", self.state(
            isFailed=True, error="make room.")[0])

    def test_a_run_is_called_after_its_entry(self):
        """Unless it has a name of its own; the window's own names have numbers."""
        protocol = EmpiarDownloader(workingDir=self.folder)
        os.makedirs(os.path.join(self.folder, "extra"))
        for label, name in (("empiar downloader", "EMPIAR-10200 movies"),
                            ("empiardownloader - empiar downloader (3)", "EMPIAR-10200 movies (3)"), ("Mine", "Mine")):
            protocol.setObjLabel(label)
            self.assertEqual(label, protocol.getRunName())
            metadata.write_whole(protocol.getMetadataFile(), {
                "number": "10200", "entry": entry(image_set()), "acquisition": {"notes": []}})
            self.assertEqual(name, protocol.getRunName())
            os.remove(protocol.getMetadataFile())
