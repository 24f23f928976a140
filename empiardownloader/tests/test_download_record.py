# SPDX-License-Identifier: GPL-3.0-or-later
"""The record: what it tells survives whatever happens to the process that writes it, and the version that wrote it."""
import dataclasses
import json
import os
import pickle
import shutil
import tempfile
import unittest

from empiardownloader.archive.errors import ArchiveError
from empiardownloader.archive.selection import DARK, GAIN
from empiardownloader.download.record import events
from empiardownloader.download.record.events import Began, FileSkipped, ImageArrived, ReferenceChosen, SeriesKnown
from empiardownloader.download.record.facts import Facts, RecordState
from empiardownloader.download.record.log import RecordReader, RecordWriter, add_event

IS_QUICK = True

# What the versions before wrote, one line of each kind, as they stand in their records.
LINES = {
    "1.0.0": [
        '{"transport": "FTP", "server": "x", "amount": 2, "gain": true, "gain_pattern": "", "entry": "10200", '
        '"image_set": 1, "pattern": "", "unpack": true, "what": "begin", "time": 1.0}',
        '{"kind": "gain", "key": "d/gain.mrc", "size": [8, 6], "name": "gain.mrc", "path": "d/gain.mrc", '
        '"others": ["d/g2.mrc"], "failed": false, "what": "reference", "time": 2.0}',
        '{"path": "d/m_1.mrc", "name": "m_1.mrc", "bytes": 9, "found": false, "size": [8, 6], "frames": 3, '
        '"gain": "d/gain.mrc", "dark": "", "what": "movie", "time": 3.0}',
        '{"path": "d/m_2.mrc", "reason": "it is empty", "what": "left out", "time": 3.5}',
        '{"text": "a note", "what": "note", "time": 4.0}',
        '{"bytes": 9, "movies": 1, "what": "bytes", "time": 5.0}',
        '{"complete": true, "exhausted": false, "stopped": false, "what": "end", "time": 6.0}'],
    "1.1.0": [
        '{"path": "d/m.mdoc", "name": "m.mdoc", "reason": "", "what": "companion", "time": 1.0}',
        '{"name": "TS_01", "mdoc": "mdocs/TS_01.mdoc", "axis": 85.3, "stack": false, "pixel_size": 2.5, "ordered": '
        'true, "lacking": [], "tilts": [{"path": "d/m_1.mrc", "angle": -3.0, "order": 1, "dose": 2.0, "before": 0.0}], '
        '"what": "series", "time": 2.0}',
        '{"series": "TS_01", "as": "abc", "what": "registered", "time": 2.5}',
        '{"names": ["a.star"], "paths": ["d/a.star"], "others": [], "failed": false, "what": "description", '
        '"time": 3.0}',
        '{"path": "d/p.mrcs", "name": "p.mrcs", "bytes": 5, "found": true, "size": [4, 4], "frames": 7, '
        '"star": "a.star", "stack": "J1/p.mrcs", "gain": null, "dark": null, "what": "movie", "time": 4.0}',
        '{"text": "a remark", "what": "remark", "time": 5.0}']}


class TestRecord(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, "record")

    def put(self, lines):
        with open(self.path, "w", encoding="utf-8") as stream:
            stream.writelines(line + "\n" for line in lines)

    def test_what_earlier_versions_wrote(self):
        self.put(LINES["1.0.0"] + LINES["1.1.0"])
        facts = Facts.read(self.path)
        movie, stack = facts.images["m_1.mrc"], facts.images["p.mrcs"]
        self.assertEqual(("d/m_1.mrc", 9, (8, 6), 3), (movie.path, movie.bytes, movie.size, movie.frames))
        self.assertEqual("gain.mrc", facts.reference(GAIN, movie).name)
        self.assertIsNone(facts.reference(DARK, movie))     # the search for it has no verdict
        self.assertEqual(("a.star", "J1/p.mrcs", True), (stack.star, stack.stack, stack.found))
        self.assertEqual("", facts.reference(GAIN, stack).name)
        self.assertEqual(("10200", 1, "", False), (facts.begin.entry, facts.begin.image_set,
                                                   facts.begin.particles_file, facts.begin.companions))
        self.assertEqual((True, False, False), (facts.end.complete, facts.end.exhausted, facts.end.stopped))
        self.assertEqual(({"d/m_2.mrc": "it is empty"}, ("a note",), ("a remark",)),
                         (dict(facts.left_out), facts.notes, facts.remarks))
        self.assertEqual([(9, 1, 5.0)], [(point.bytes, point.movies, point.time) for point in facts.history])
        series = facts.series["TS_01"]
        self.assertEqual((85.3, 2.5, -3.0, 1), (series.axis, series.pixel_size, series.tilts[0].angle,
                                                series.tilts[0].order))
        self.assertEqual("abc", facts.registered["TS_01"])
        self.assertEqual(("a.star",), facts.description.names)

    def test_what_is_written_is_what_earlier_versions_read(self):
        """The same keys and values, so that a run may also go back to an older version."""
        for version, lines in LINES.items():
            for line in lines:
                with self.subTest(version=version, line=line):
                    told = json.loads(line)
                    event = events.KINDS[told["what"]].from_line(told)
                    written = json.loads(json.dumps({**event.to_line(), "time": told["time"]}))
                    if isinstance(event, SeriesKnown):
                        self.assertEqual(told["tilts"], written["tilts"])
                    self.assertEqual(told, {key: written[key] for key in told})

    def test_all_events_come_back_as_they_were_written(self):
        texts = {"keys": {GAIN: "d/g.mrc", DARK: None}, "values": {"voltage": (300.0, "EMD-1")}, "size": (8, 6),
                 "tilts": (events.TiltKnown("d/t.mrc", -3.0, 1, None, 0.0),), "bytes": 5, "time": 7.5, "frames": 2}
        for kind in events.KINDS.values():
            event = kind(**{one.name: texts.get(one.name, ("x",) if "Tuple" in str(one.type) else "x")
                            for one in dataclasses.fields(kind)})
            with self.subTest(kind=kind.__name__):
                add_event(self.path, event)
                self.assertEqual(event, list(RecordReader(self.path).new_events())[-1])

    def test_lines_that_were_damaged_are_skipped(self):
        good = '{"what": "movie", "name": "a", "path": "x/a", "bytes": 1}'
        self.put(['{"what": "movie", "name": "b"}', '{"what": "movie", "name": {}, "path": "x", "bytes": 1}',
                  '{"what": "micrographs", "names": null}', "[1, 2]", "null", "no JSON",
                  '{"what": "of a later version"}',
                  '{"what": ["movie"]}', '{"what": "series", "name": "x", "tilts": 3}', '{"name": "x"}', good])
        self.assertEqual(["a"], list(Facts.read(self.path).images))

    def test_half_a_line_of_a_killed_process(self):
        writer = RecordWriter(self.path)
        writer.add(ImageArrived("a", "x/a", 1))
        writer.close()
        with open(self.path, "a") as stream:
            stream.write('{"what": "movie", "na')
        self.assertEqual(["a"], list(Facts.read(self.path).images))
        writer = RecordWriter(self.path)
        writer.add(ImageArrived("b", "x/b", 1))
        writer.close()
        self.assertEqual(["a", "b"], list(Facts.read(self.path).images))

    def test_a_line_behind_half_a_line(self):
        """Where nothing is missing, no writer comes that would mend it."""
        with open(self.path, "w") as stream:
            stream.write('{"what": "movie", "na')
        add_event(self.path, events.MicrographsNumbered(("m1.mrc",)))
        self.assertEqual({"m1.mrc": 1}, dict(Facts.read(self.path).micrographs))

    def test_nulls_and_what_later_versions_add(self):
        self.put(['{"what": "begin", "entry": "1", "image_set": 1, "foreign": null, "later": 3}',
                  '{"what": "series", "name": "TS", "tilts": [{"path": "a", "later": 1}], "lacking": null}'])
        facts = Facts.read(self.path)
        self.assertEqual((("1",), ()), ((facts.begin.entry,), facts.begin.foreign))
        self.assertEqual(("a",), tuple(tilt.path for tilt in facts.series["TS"].tilts))

    def test_keys_are_written_once(self):
        line = ImageArrived("a", "x/a", 1, keys={GAIN: "x/g"}).to_line()
        self.assertEqual(("x/g", False), (line[GAIN], "keys" in line))

    def test_what_scripts_get_is_plain_data(self):
        state = RecordState()
        state.apply(ImageArrived("a", "x/a", 1))
        state.apply(FileSkipped("x/b", "it is empty"))
        plain = state.snapshot().plain(state.images)
        self.assertEqual({"x/b": "it is empty"}, json.loads(json.dumps(plain.left_out)))
        self.assertEqual(["a"], list(pickle.loads(pickle.dumps(plain)).images))
        self.assertEqual((["a note"], "x/a", None), (plain.notes + ["a note"], plain.images["a"].get("path"),
                                                     plain.images["a"].get("star")))

    def test_a_reader_goes_on_where_it_was(self):
        writer, reader = RecordWriter(self.path), RecordReader(self.path)
        self.addCleanup(writer.close)
        for name in "abc":
            writer.add(ImageArrived(name, name, 1))
            self.assertEqual([name], [event.name for event in reader.new_events()])
        self.assertEqual([], list(reader.new_events()))

    def test_what_is_known_now_stays_so(self):
        """F16: one thread reads on while another one goes through what it was given."""
        state = RecordState()
        state.apply(ImageArrived("m_0", "m_0", 1))
        known = state.snapshot()
        for name in known.images:
            state.apply(ImageArrived("m_1", "m_1", 1))
            state.apply(FileSkipped("x", "y"))
            self.assertEqual("m_0", name)
        self.assertEqual((["m_0"], {}), (list(known.images), dict(known.left_out)))
        self.assertEqual(["m_0", "m_1"], list(state.snapshot().images))
        with self.assertRaises(TypeError):
            known.images["m_2"] = None

    def test_one_writer_at_a_time(self):
        writer = RecordWriter(self.path)
        self.addCleanup(writer.close)
        with self.assertRaisesRegex(ArchiveError, "Another process still downloads"):
            RecordWriter(self.path, wait=0.3)

    def test_a_movie_that_could_not_be_registered_is_left_out(self):
        writer = RecordWriter(self.path)
        self.addCleanup(writer.close)
        writer.add(ImageArrived("a.mrc", "x/a.mrc", 1))
        add_event(self.path, FileSkipped("x/a.mrc", "it cannot be read", "a.mrc"))
        facts = Facts.read(self.path)
        self.assertEqual({}, dict(facts.images))
        self.assertEqual({"x/a.mrc": "it cannot be read"}, dict(facts.left_out))

    def test_another_entry_does_not_inherit_the_gain_reference(self):
        state = RecordState()
        for number, known in (("1", False), ("1", True), ("2", False)):
            state.apply(Began(entry=number, image_set=1))
            self.assertEqual(known, bool(state.chosen("gain")))
            state.apply(ReferenceChosen("gain", "gain.mrc"))

    def test_scripts_of_version_1_1_ask_events_like_dictionaries(self):
        event = ImageArrived("a.mrc", "x/a.mrc", 1, keys={GAIN: "x/gain.mrc"})
        self.assertEqual(("a.mrc", 1, "x/gain.mrc"), (event["name"], event["bytes"], event[GAIN]))
