# SPDX-License-Identifier: GPL-3.0-or-later
"""The record: what it tells survives whatever happens to the process that writes it."""
import os
import shutil
import tempfile
import unittest

from empiardownloader.archive.errors import ArchiveError
from empiardownloader.download import record

IS_QUICK = True


class TestRecord(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, "record")

    def test_half_a_line_of_a_killed_process(self):
        writer = record.RecordWriter(self.path)
        writer.add(record.IMAGE, name="a", path="x/a", bytes=1)
        writer.close()
        with open(self.path, "a") as stream:
            stream.write('{"what": "movie", "na')
        self.assertEqual(["a"], list(record.Facts.read(self.path).images))
        writer = record.RecordWriter(self.path)
        writer.add(record.IMAGE, name="b", path="x/b", bytes=1)
        writer.close()
        self.assertEqual(["a", "b"], list(record.Facts.read(self.path).images))

    def test_a_reader_goes_on_where_it_was(self):
        writer, reader = record.RecordWriter(self.path), record.RecordReader(self.path)
        self.addCleanup(writer.close)
        for name in "abc":
            writer.add(record.IMAGE, name=name, path=name, bytes=1)
            self.assertEqual([name], [event["name"] for event in reader.new_events()])
        self.assertEqual([], list(reader.new_events()))

    def test_what_is_known_now_stays_so(self):
        """F16: one thread reads on while another one goes through what it was given."""
        facts = record.Facts()
        events = [{"what": record.IMAGE, "name": "m_%d" % number, "path": "m_%d" % number, "bytes": 1}
                  for number in range(3)]
        facts.take(events[0])
        known = facts.snapshot()
        for name in known.images:
            facts.take(events[1])
            facts.take({"what": record.LEFT_OUT, "path": "x", "reason": "y"})
            self.assertEqual("m_0", name)
        self.assertEqual((["m_0"], {}), (list(known.images), known.left_out))
        self.assertEqual(["m_0", "m_1"], list(facts.images))

    def test_one_writer_at_a_time(self):
        writer = record.RecordWriter(self.path)
        self.addCleanup(writer.close)
        with self.assertRaisesRegex(ArchiveError, "Another process still downloads"):
            record.RecordWriter(self.path, wait=0.3)

    def test_a_movie_that_could_not_be_registered_is_left_out(self):
        writer = record.RecordWriter(self.path)
        self.addCleanup(writer.close)
        writer.add(record.IMAGE, name="a.mrc", path="x/a.mrc", bytes=1)
        record.add_event(self.path, record.LEFT_OUT, path="x/a.mrc", name="a.mrc", reason="it cannot be read")
        facts = record.Facts.read(self.path)
        self.assertEqual({}, facts.images)
        self.assertEqual({"x/a.mrc": "it cannot be read"}, facts.left_out)

    def test_another_entry_does_not_inherit_the_gain_reference(self):
        facts = record.Facts()
        for number, known in (("1", False), ("1", True), ("2", False)):
            facts.take({"what": record.BEGIN, "entry": number, "image_set": 1, "time": 0})
            self.assertEqual(known, bool(facts.chosen("gain")))
            facts.take({"what": record.REFERENCE, "kind": "gain", "name": "gain.mrc"})
