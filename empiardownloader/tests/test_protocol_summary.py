# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of the summary, from records without a run."""
import types
import unittest

from empiardownloader.archive.entry import parse_entry
from empiardownloader.archive.metadata import Metadata
from empiardownloader.download.record.events import Began, SeriesKnown, TiltKnown
from empiardownloader.download.record.facts import RecordState
from empiardownloader.protocols import summary
from empiardownloader.protocols.context import Context
from empiardownloader.tests.base import entry, image_set

IS_QUICK = True


class TestLines(unittest.TestCase):

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
            self.assertIn("2 Å/px by the .mdoc files, 1 Å/px by EMPIAR-1", line)
        same = SeriesKnown("TS", (TiltKnown("a"),), pixel_size=1.001)
        self.assertEqual([], summary._findDisagreements(self.context(same), noted))

    def test_files_left_out_by_reason(self):
        self.assertEqual(["Skipped: a.mrc (it is empty)"], summary.groupLeftOut({"a.mrc": "it is empty"}))
        lines = summary.groupLeftOut({"%d.mrc" % number: "%d.mrc is gone" % number for number in range(5)})
        self.assertEqual(["Skipped: 5 files (the file is gone), for example 0.mrc and 1.mrc"], lines)
        many = summary.groupLeftOut({"%d.mrc" % number: "reason %d" % number for number in range(9)})
        self.assertEqual("... and 3 files more skipped for other reasons, see the log.", many[-1])
