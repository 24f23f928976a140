# SPDX-License-Identifier: GPL-3.0-or-later
"""Metadata: an entry and its acquisition, from answers good and bad."""
from empiardownloader.archive import api, kinds, metadata
from empiardownloader.archive import entry as archive_entry
from empiardownloader.archive.errors import ArchiveError, EntryError, UnreachableError
from empiardownloader.tests.base import ArchiveTestCase, emdb, entry, image_set, impatient
from empiardownloader.tests.surroundings import environment

IS_QUICK = True


@impatient
class TestEntry(ArchiveTestCase):

    def fetch(self, demo, number="10200"):
        record = api.fetch_entry_json(demo.variables["EMPIAR_API_URL"], number)
        return archive_entry.parse_entry(number, record)

    def test_numbers_that_users_type(self):
        for text in ("10200", " 10200 ", "EMPIAR-10200", "empiar-10200", "EMPIAR 10200", "EMPIAR10200"):
            self.assertEqual("10200", archive_entry.parse_entry_id(text), text)
        for text in ("", None, "abc", "EMD-0144", "10200; rm", "-5", "10200.5"):
            with self.assertRaises(EntryError, msg=text):
                archive_entry.parse_entry_id(text)

    def test_fields(self):
        demo = self.serve(entries={"10200": entry(image_set(image_width="3838", pixel_width="0.5"))})
        found = self.fetch(demo)
        self.assertEqual("EMPIAR-10200", found.name)
        self.assertEqual("10.6019/EMPIAR-10200", found.doi)
        self.assertEqual("An institute", found.organization)
        self.assertEqual(("EMD-0001",), found.emdb_ids)
        chosen = found.image_set()
        self.assertEqual((3838, 96, 0.5, 8), (chosen.width, chosen.height, chosen.pixel_size, chosen.frames))

    def test_fields_that_are_null_or_odd(self):
        nothing = dict.fromkeys(image_set(), None)
        nothing["category"] = "micrographs - multiframe"
        demo = self.serve(entries={"10200": entry(
            nothing, corresponding_author=None, authors=None, entry_doi=None, dataset_size=None,
            cross_references=["EMD-0001", {"name": None}, 5], title=None)})
        found = self.fetch(demo)
        chosen = found.image_set()
        self.assertEqual((None, None, None, ""), (chosen.width, chosen.frames, chosen.pixel_size, chosen.directory))
        self.assertEqual(("EMD-0001",), found.emdb_ids)

    def test_choice_of_the_image_set(self):
        particles = image_set(category="picked particles - single frame - processed", name="Particles")
        found = archive_entry.parse_entry("1", entry(particles, image_set(name="First"), image_set(name="Second")))
        self.assertEqual("First", found.image_set("").name)
        self.assertEqual("Second", found.image_set("3").name)
        self.assertEqual("Second", found.image_set(" second ").name)
        self.assertEqual("Particles", found.image_set("1").name)
        self.assertEqual("Particles", found.image_set("particles").name)
        for choice in ("4", "nothing like it"):
            with self.assertRaisesRegex(EntryError, "First.*Second", msg=choice):
                found.image_set(choice)

    def test_the_kind_follows_from_the_image_set(self):
        """Its category by its beginning, for depositors write words of their own; and its format."""
        for category, data_format, kind in (
                ("micrographs - multiframe", "MRC", kinds.MOVIES), ("Micrographs - Multiframe ", "EER", kinds.MOVIES),
                ("micrographs - single frame", "MRC", kinds.MICROGRAPHS),
                ("micrographs - single frame - non-dose-weighted", "TIFF", kinds.MICROGRAPHS),
                ("micrographs - focal pairs - contrast inverted", "MRC", kinds.MICROGRAPHS),
                ("micrographs - tilt series", "MRC", kinds.TILT_SERIES), ("tilt series", "MRC", kinds.TILT_SERIES),
                ("picked particles - single frame - processed", "MRCS", kinds.PARTICLES),
                ("picked particles - multiframe - unprocessed", "MRCS", kinds.FILES),
                ("class averages", "MRCS", kinds.AVERAGES), ("reconstructed volumes", "MRC", kinds.VOLUMES),
                ("subtomograms", "MRC", kinds.SUBTOMOGRAMS), ("stitched maps", "MRC", kinds.FILES),
                ("diffraction images", "SMV", kinds.FILES), ("something never seen", "MRC", kinds.FILES),
                ("", "MRC", kinds.FILES), ("micrographs - multiframe", "BIG DATA VIEWER HDF5", kinds.FILES),
                ("picked particles - single frame - processed", "IMAGIC", kinds.FILES)):
            found = archive_entry.parse_entry("1", entry(image_set(category=category, data_format=data_format)))
            self.assertEqual(kind, found.image_set().kind, category)
            self.assertEqual(kind == kinds.FILES, bool(found.image_set().why_files_only), category)

    def test_without_a_choice_movies_go_before_tilt_series_before_the_rest(self):
        averages, tilts, movies = (image_set(name=name, category=name) for name in (
            "class averages", "tilt series", "micrographs - multiframe"))
        for sets, wanted in (((averages, tilts, movies), 3), ((averages, tilts), 2), ((averages,), 1)):
            self.assertEqual(wanted, archive_entry.parse_entry("1", entry(*sets)).image_set().number)

    def test_entries_that_cannot_be_had(self):
        cases = {
            "unknown": (None, "no entry"), "withdrawn": (entry(image_set(), status="WDRN"), "withdrawn"),
            "held": (entry(image_set(), status="HPUB"), "not public yet"),
            "no sets": (entry(), "no image set"),
            "html": (b"<html>maintenance</html>", "readable metadata"), "half": (b'{"EMPIAR-10200": {"tit', "readable"),
            "{}": (b"{}", "not with the metadata"), "[]": (b"[]", "not with the metadata"),
            "null": (b'{"EMPIAR-10200": null}', "not with the metadata"), "500": (500, "error 500")}
        demo = self.serve()
        for name, (answer, words) in cases.items():
            demo.entries = {} if answer is None else {"10200": answer}
            with self.assertRaisesRegex(ArchiveError, words, msg=name) as caught:
                self.fetch(demo).image_set()
            self.assertIn("10200", str(caught.exception), name)
            self.assertEqual(1, len(str(caught.exception).splitlines()), name)

    def test_nobody_there(self):
        with self.assertRaisesRegex(UnreachableError, "connection refused"):
            api.fetch_entry_json("http://localhost:1/api", "10200")

    def test_a_server_that_is_briefly_unwell(self):
        demo = self.serve(entries={"10200": 503})
        answers = [503, 502]

        class Flaky(dict):
            def get(self, key, default=None):
                return answers.pop() if answers else entry(image_set())

        demo.entries = Flaky()
        self.assertEqual("A synthetic data set", self.fetch(demo).title)

    def test_passwords_of_proxies_stay_secret(self):
        secret = "http://user:opensesame@localhost:1"
        with environment(http_proxy=secret, https_proxy=secret, no_proxy=None, NO_PROXY=None), \
                self.assertRaises(UnreachableError) as caught:
            api.fetch_entry_json("http://archive.invalid/api", "10200")
        self.assertNotIn("opensesame", str(caught.exception))


@impatient
class TestAcquisition(ArchiveTestCase):

    def fetch(self, record):
        demo = self.serve(entries={"1": entry(image_set())}, emdb={"EMD-0001": record} if record else {})
        found = archive_entry.parse_entry("1", demo.entries["1"])
        return api.fetch_acquisition(demo.variables["EMDB_API_URL"], found)

    def test_full_record(self):
        acquisition, settled = self.fetch(emdb(frames="1-40"))
        self.assertTrue(settled)
        self.assertEqual(("EMD-0001", 200.0, 2.0, 105000.0, 40.0, 40), (
            acquisition.source, acquisition.voltage, acquisition.spherical_aberration, acquisition.magnification,
            acquisition.dose_per_movie, acquisition.frames))

    def test_missing_numbers(self):
        acquisition, _ = self.fetch(emdb(voltage=None, dose="n/a", magnification=None))
        self.assertEqual((None, 2.0, None, None), (acquisition.voltage, acquisition.spherical_aberration,
                                                   acquisition.magnification, acquisition.dose_per_movie))

    def test_no_record_and_bad_answers(self):
        for record, settled in ((None, True), (500, False), (b"<html>", True), (b"[]", True), ({"x": [1]}, True)):
            acquisition, found_settled = self.fetch(record)
            self.assertIsNone(acquisition.voltage)
            self.assertEqual(settled, found_settled, record)
            self.assertTrue(acquisition.notes, record)

    def test_metadata_are_asked_for_once(self):
        demo = self.serve(entries={"1": entry(image_set())}, emdb={"EMD-0001": emdb()})
        path = self.folder + "/entry.json"
        for _ in range(3):
            self.assertEqual(200, metadata.obtain(path, "1", demo.variables).acquisition.voltage)
        self.assertEqual(2, len(demo.requests))

    def test_emdb_is_asked_again_after_an_outage(self):
        demo = self.serve(entries={"1": entry(image_set())}, emdb={"EMD-0001": 500})
        path = self.folder + "/entry.json"
        self.assertIsNone(metadata.obtain(path, "1", demo.variables).acquisition.voltage)
        demo.emdb["EMD-0001"] = emdb()
        self.assertEqual(200, metadata.obtain(path, "1", demo.variables).acquisition.voltage)
