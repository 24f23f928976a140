# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of all entries: built and refreshed from an archive that fails, and searched."""
import contextlib
import copy
import json
import math
import os
import runpy
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

import empiardownloader
from empiardownloader.archive import api
from empiardownloader.archive.errors import DiskError, EntryError, Stopped, UnreachableError
from empiardownloader.archive.stopping import StopToken
from empiardownloader.catalogue import words
from empiardownloader.catalogue.codes import entry_number, is_code
from empiardownloader.catalogue.command import table
from empiardownloader.catalogue.facts import from_record, joined
from empiardownloader.catalogue.harvest import AT_ONCE, MOST_EMPTY, harvest
from empiardownloader.catalogue.search import SIZE, Query, search
from empiardownloader.catalogue.store import Store, default_path, kept
from empiardownloader.constants import VARIABLES
from empiardownloader.demo import faults
from empiardownloader.tests import catalogue_entries, catalogue_titles
from empiardownloader.tests.base import ArchiveTestCase, image_set, impatient
from empiardownloader.tests.surroundings import environment

IS_QUICK = True
COURSE = os.path.join(os.path.dirname(os.path.dirname(empiardownloader.__file__)), "docs", "course.py")


def numbers(found):
    return [entry.number for entry in found.entries]


class TestWords(unittest.TestCase):

    def test_tokens(self):
        for text, told in (("The β-Galactosidases of E. coli", "the beta galactosidase of e coli"),
                           ("T20S viruses, 70S; gas series", "t20s virus 70s gas series"),
                           ("Kühlbrandt Amyloid-β42 µ-opioid", "kuhlbrandt amyloid beta 42 mu opioid"),
                           ("assemblies complexes proteases glass status", "assembly complex protease glass status")):
            self.assertEqual(told.split(), words.tokens(text))

    def test_terms(self):
        asked = words.terms("structure of the beta-galactosidase")
        self.assertEqual(["beta galactosidase"], [term.names[0] for term in asked])
        self.assertIn("beta galactosidase", words.terms("b-gal")[0].names)
        self.assertIn("trpv 1", words.terms("TRPV1")[0].names)
        self.assertIn("trpv1", words.terms("trpv-1")[0].names)
        self.assertEqual([("70s", "70 s")], [term.names for term in words.terms("70 S")])
        self.assertEqual([("cryo",), ("em",)], [term.names for term in words.terms("cryo-EM")])
        # The last word may still be being typed, but for a name that is known.
        self.assertEqual([False, True], [term.goes_on for term in words.terms("human rib")])
        self.assertEqual([False, False], [term.goes_on for term in words.terms("human flu")])
        self.assertEqual([False, True], [term.goes_on for term in words.terms("human rib", all_go_on=True)])
        # A kind finds what is of it, and not the other way round.
        self.assertIn("rhodopsin", words.terms("GPCR")[0].names)
        self.assertNotIn("gpcr", words.terms("rhodopsin")[0].names)


class TestFacts(unittest.TestCase):

    def test_odd_records(self):
        """What nobody tells is not invented; an entry that is not released is known by its status."""
        bare = from_record(10002, {"title": None, "status": "HPUB", "cross_references": "EMD-1", "imagesets": None,
                                   "related_pdb_entries": [{"name": "5A1A"}, "8ay4", 12, None, "EMD-1234"],
                                   "citation": {"title": 3}, "dataset_size": "big"})
        self.assertEqual(("", None, (), ("5A1A", "8AY4"), False), (
            bare.title, bare.size_bytes, bare.kinds, bare.pdb, bare.is_public))
        told = joined(bare, [{"emdb_id": "emd-2", "resolution": "n/a"}, {"emdb_id": "EMD-3", "resolution": "3.10"}])
        self.assertEqual((3.1, ("EMD-0001", "EMD-3", "EMD-2")), (told.resolution, told.emdb))
        self.assertEqual((None, ("EMD-0001",)), (joined(bare, []).resolution, joined(bare, []).emdb))


    def test_what_is_no_value(self):
        """A size that no file system has, the detector's pixels of diffraction, commas and exponents."""
        facts = from_record(1, {"dataset_size": "99999999 PB", "title": "A &amp;amp; B <i>E. coli</i>",
                                "cross_references": ["emd_339", "EMDB-0340"],
                                "imagesets": [image_set(category="diffraction images", pixel_width="51.0")]})
        self.assertEqual((None, None, "A & B E. coli", ("EMD-0339", "EMD-0340"), ()), (
            facts.size_bytes, facts.image_sets[0].pixel_size, facts.title, facts.emdb, facts.pdb))
        for text, wanted in (("3,1", None), ("1e1", None), (".9", 0.9), ("9" * 400, None), (" 2.20 ", 2.2)):
            told = joined(facts, [{"emdb_id": "EMD-1", "resolution": text, "xref_EMPIAR": "EMPIAR-" + "1" * 5000}])
            self.assertEqual(wanted, told.resolution, text)

    def test_pages_are_codes(self):
        for text in ("https://www.ebi.ac.uk/emdb/EMD-0339", "https://www.ebi.ac.uk/pdbe/entry/pdb/6n4b",
                     "https://www.rcsb.org/structure/6N4B", "pdb_00006n4b", "EMD-339"):
            self.assertTrue(is_code(text), text)
        for text in ("https://www.ebi.ac.uk/empiar/EMPIAR-10200/", "10200", "apoferritin"):
            self.assertFalse(is_code(text), text)


class CatalogueCase(ArchiveTestCase):

    def open(self, name="c.sqlite"):
        store = Store(os.path.join(self.root, "cache", name))
        self.addCleanup(store.close)
        return store

    def harvest(self, store, demo, **options):
        return harvest(store, {**{name: value for name, (value, _) in VARIABLES.items()}, **demo.variables}, pause=0,
                       **options)


class TestSearch(CatalogueCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.full = tempfile.mkdtemp(prefix="empiar-test-")
        store = Store(os.path.join(cls.full, "c.sqlite"))
        catalogue_entries.fill(store, *catalogue_entries.records())
        store.close()

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.full)
        super().tearDownClass()

    def filled(self):
        shutil.copytree(self.full, os.path.join(self.root, "cache"))
        return self.open()

    def test_all_questions(self):
        store = self.filled()
        for question, wanted in catalogue_entries.QUERIES:
            with self.subTest(question):
                first = numbers(search(store, Query(question)))[:3]
                self.assertTrue(set(first) & set(wanted), first)
        self.without_full_text(store)

    def without_full_text(self, store):
        """The same where Python has no full text search."""
        answers = {question: numbers(search(store, Query(question))) for question, _ in catalogue_entries.QUERIES}
        rows = list(store._database.execute("SELECT rowid, title, sample, authors, other FROM words"))
        with store.change():
            store._database.execute("DROP TABLE words")
            store._database.execute("CREATE TABLE words (title, sample, authors, other)")
            store._database.executemany("INSERT INTO words (rowid, title, sample, authors, other) "
                                        "VALUES (?, ?, ?, ?, ?)", rows)
        store.has_full_text = False
        for question, told in answers.items():
            self.assertEqual(told, numbers(search(store, Query(question))), question)

    def test_filters_and_orders(self):
        store = self.filled()
        for query, wanted in (
                (Query(emdb="EMD-5025"), [10025]), (Query(emdb="5025"), [10025]), (Query(pdb="6V21"), [10200]),
                (Query("apoferritin", max_size=2 * 10 ** 12), [10200]),
                (Query("apoferritin", data_format="eer"), [10591]), (Query("apoferritin", resolution=1.5), [10591]),
                (Query("chlamydomonas", kind="tilt-series", max_size=10 ** 12), [10389]),
                (Query("apoferritin", sort="date"), [10591, 10200]), (Query("apoferritin", sort=SIZE), [10200, 10591]),
                (Query("apoferritin", sort=SIZE, reverse=True), [10591, 10200]),
                (Query("apoferritin", sort="date", reverse=True), [10200, 10591]),
                (Query("apoferritin", sort="resolution"), [10591, 10200]),
                (Query("apoferritin", sort="number", reverse=True), [10591, 10200]),
                (Query("apoferritin", sort="title"), [10591, 10200]),
                (Query("beta-galactosidase", kind="micrographs"), [10017]),
                (Query(method="helical", microscope="krios", sort=SIZE), [10021, 10230, 10943]),
                (Query("apoferritin", pixel_size=(1.9, 1.92)), [10591])):
            with self.subTest(query=query):
                self.assertEqual(wanted, numbers(search(store, query)))
        self.assertEqual(5, len(search(store, Query("human", limit=5)).entries))
        course = search(store, Query(course=True, sort=SIZE, limit=999)).entries
        self.assertIn(10784, [entry.number for entry in course[:2]])
        self.assertTrue(all(entry.size_bytes <= 100 * 10 ** 9 and entry.resolution <= 4.5 and "movies" in entry.kinds
                            for entry in course))
        self.assertGreater(search(store, Query("human", limit=5)).total, 100)
        years = {entry.released[:4] for entry in search(store, Query("human", years=(2016, 2017), limit=999)).entries}
        self.assertEqual({"2016", "2017"}, years)
        with self.assertRaisesRegex(EntryError, 'no kind "movys": choose one of movies, tilt series'):
            search(store, Query(kind="movys"))

    def test_why_there_is_none(self):
        store = self.filled()
        for query, why in (
                (Query("apoferitin"), 'No entry has "apoferitin": is it "apoferritin" or "ferritin"?'),
                (Query("apoferritin nagai"), 'No entry has all of these words: without "'),
                (Query("apoferritin", max_size=10), "2 entries have the words, but none of them fits --max-size."),
                (Query("apoferritin", max_size=10, data_format="eer"), "without --max-size there is 1")):
            found = search(store, query)
            self.assertEqual([], found.entries)
            self.assertIn(why, found.why)

    def test_what_is_left_of_a_question(self):
        """A given name, a spelling, a word too much: the rest is answered, and said."""
        store = self.filled()
        for question, first, why in (("Sjors Scheres galactosidase", 10017, 'No entry has "Sjors"'),
                                     ("betagalactosidase", 10204, "Found as beta galactosidase:"),
                                     ("apo ferri tin", 10200, "Found as apo"),
                                     ("proteasome xylophone", 10057, 'No entry has "xylophone"')):
            found = search(store, Query(question))
            self.assertIn(first, numbers(found)[:3], question)
            self.assertIn(why, found.why)
        for question in ("?", "-", "田中"):
            found = search(store, Query(question))
            self.assertEqual([], found.entries, question)
            self.assertTrue(found.why)
        for question, wanted in (("ß-galactosidase", 10204), ("EMDB-5200", 10200), ("mus musculus apoferritin", 10200)):
            self.assertIn(wanted, numbers(search(store, Query(question)))[:3], question)
        # 'I' does not go on to 'in' or 'inhibited'.
        self.assertEqual([10343], numbers(search(store, Query("photosystem I"))))

    def test_words_that_mean_something_to_the_database(self):
        store = self.filled()
        for question in ('"', "a\"b*", "title:x", "NEAR(a b)", "-", "%", "_", "a' OR 1", "\x00", "*", "ß", "(", "AND",
                         "é" * 999):
            found = search(store, Query(question, limit=2))
            self.assertTrue(found.entries or found.why, question)


@impatient
class TestTitlesOfOthers(CatalogueCase):
    """Among entries with real titles, and 3,000 others."""

    @classmethod
    def setUpClass(cls):
        cls.cache = tempfile.mkdtemp(prefix="empiar-test-")
        cls.store = Store(os.path.join(cls.cache, "titles.sqlite"))
        catalogue_entries.fill(cls.store, *catalogue_entries.records(3000))
        with cls.store.change():
            for number, (title, sample, pdb_id, method, experiment, category) in catalogue_titles.TITLES.items():
                bare = from_record(number, {
                    "title": title, "status": "REL", "experiment_type": experiment,
                    "dataset_size": "%d GB" % (number % 97), "imagesets": [image_set(category=category)]})
                rows = [{"emdb_id": "EMD-%d" % number, "title": sample, "resolution": "3", "fitted_pdbs": pdb_id,
                         "structure_determination_method": method, "microscope_name": "TFS KRIOS,JEOL CRYO ARM 300"}]
                cls.store.put(str(number), bare, joined(bare, rows if sample else []))

    @classmethod
    def tearDownClass(cls):
        cls.store.close()
        shutil.rmtree(cls.cache)

    def find(self, words="", **options):
        return [entry.number for entry in search(self.store, Query(words, **options)).entries]

    def test_questions(self):
        missed = [(question, self.find(question, limit=3)) for question, wanted in catalogue_titles.QUESTIONS
                  if not set(wanted) & set(self.find(question, limit=3))]
        self.assertEqual([], missed)

    def test_a_name_is_whole_and_its_own(self):
        """However it is sorted: nothing that only begins like another name of what is asked for."""
        with self.store.change():
            for number, title in enumerate((
                    "Fluc fluoride channel", "Adhesin FimH", "Trichomonas vaginalis", "Fascin bundles",
                    "Death receptor Fas", "Structure of a beta-barrel machine", "Parkinson's protein LRRK2",
                    "Tryptophan synthase (trp operon)", "Ratchet motor", "NPC1 of Niemann-Pick"), 90001):
                bare = from_record(number, {"title": title, "status": "REL", "imagesets": [image_set()]})
                self.store.put(str(number), bare, bare)
        for question in ("influenza", "flu", "alcohol dehydrogenase", "TRiC", "fatty acid synthase", "amyloid beta",
                         "spike", "transient receptor potential", "Rattus norvegicus", "nuclear pore complex"):
            with self.subTest(question):
                self.assertEqual([], [number for number in self.find(question, limit=9999) if number > 90000])
        self.assertIn(90005, self.find("FAS"))
        # What is still being typed goes on.
        self.assertIn(90004, self.find("fasc"))
        self.assertIn(90002, self.find("adhes"))
        self.assertIn(90002, self.find("adhes fim"))

    def test_methods_and_microscopes(self):
        for text, wanted in (("SBF-SEM", 50478), ("sbf sem", 50478), ("FIB-SEM", 51419), ("fibsem", 51419),
                              ("microed", 50318), ("cryo-ET", 50988), ("STA", 50022), ("SPA", 50288)):
            self.assertIn(wanted, self.find(method=text, limit=9999), text)
        tomography = self.find(method="tomography", limit=9999)
        self.assertLessEqual({50019, 50022, 50017, 50988, 10389, 10164}, set(tomography))
        self.assertNotIn(50478, self.find(method="ATUM-SEM", limit=9999))
        for text in ("Titan Krios", "krios", "cryoarm", "cryo arm 300"):
            self.assertIn(50288, self.find(microscope=text, limit=9999), text)
        self.assertEqual("Titan Krios, JEOL Cryo ARM 300", self.store.facts([50288])[0].microscope)

    def test_a_code_is_nothing_but_a_code(self):
        """The digits of an EMDB map are those of another entry."""
        for text in ("EMD-10200", "EMD 10200", "emd_10200", "EMDB-10200"):
            found = search(self.store, Query(text))
            self.assertEqual(([], "No entry here belongs to EMD-10200."), (found.entries, found.why))
        self.assertEqual([50288], self.find("EMD-50288"))
        self.assertEqual({50288, 10288}, set(self.find("6n4b cannabinoid")[:2]))
        self.assertEqual([10200], self.find("EMPIAR-10200"))
        with self.store.change():
            hidden = from_record(90100, {"status": "HPUB", "title": "hidden", "cross_references": ["EMD-339"]})
            self.store.put("hidden", hidden, hidden)
        self.assertEqual([], self.find("EMD-0339"))
        self.assertEqual(("EMD-0339",), hidden.emdb)

    def test_words_and_a_code(self):
        """All of them; a code is surer than a word."""
        self.assertEqual([10061], self.find("galactosidase EMD-%d" % (10061 - 5000)))
        found = search(self.store, Query("apoferritin EMD-5061"))
        self.assertEqual(([10061], "No entry of the code has the other words (apoferritin):"), (
            [entry.number for entry in found.entries], found.why))
        self.assertEqual([50288, 10288], sorted(self.find("pdb_00006n4b"), reverse=True))

    def test_a_method_that_is_none(self):
        found = search(self.store, Query("ribosome", method="tomo"))
        self.assertIn("No entry has the method tomo: there are electron crystallography, helical", found.why)

    def test_one_word_of_two_is_no_answer(self):
        found = search(self.store, Query("odorific receptor"))
        self.assertEqual(([], False), (found.entries, found.is_loose))
        found = search(self.store, Query("odorific channelrhodopsin"))
        self.assertEqual(([50926], True), ([entry.number for entry in found.entries], found.is_loose))
        self.assertEqual([], self.find("x" * 10 ** 6))


@unittest.skipUnless(os.path.isfile(COURSE), "only the installed package is here")
class TestCoursePage(CatalogueCase):

    def test_the_page(self):
        """Of entries with titles of every kind; docutils has nothing to say about it."""
        store = self.open()
        entries, rows = catalogue_entries.records(400)
        for number in ("10784", "10021"):
            entries[number]["title"] = "*Stars* |bars| `ticks_ <b>\\ [1]_ :" + entries[number]["title"]
        catalogue_entries.fill(store, entries, rows)
        text = runpy.run_path(COURSE)["page"](store)
        self.assertEqual(len(search(store, Query(course=True)).entries), text.count("   * - `1"))
        self.assertIn("8.0 GB", text)
        done = subprocess.run([sys.executable, "-m", "docutils", "--report=1", "--halt=2", "-", os.devnull], input=text,
                              text=True, stderr=subprocess.PIPE, check=False)
        self.assertEqual((0, ""), (done.returncode, done.stderr))


@impatient
class TestHarvest(CatalogueCase):
    COUNT = 300

    def archive(self, count=COUNT, **options):
        entries, rows = catalogue_entries.records(count)
        demo = self.serve(entries=entries, **options)
        demo.emdb_rows = rows
        return demo

    def check_complete(self, store, demo):
        self.assertEqual(len(demo.entries), store.count())
        for (_, _, facts), number in zip(store.bare(), sorted(map(int, demo.entries))):
            self.assertEqual(number, facts.number)
        self.assertEqual(2.8, store.facts([10025])[0].resolution)
        # Of a map that names the entry, not the other way round.
        self.assertEqual((("EMD-5311",), 3.2), (store.facts([10311])[0].emdb, store.facts([10311])[0].resolution))

    def test_all_entries_in_a_few_requests(self):
        demo, store = self.archive(3000), self.open()
        self.harvest(store, demo)
        self.check_complete(store, demo)
        last = max(map(int, demo.entries))
        self.assertEqual((last - 10000) // AT_ONCE + 1 + MOST_EMPTY // AT_ONCE, demo.count("POST"))
        self.assertEqual(1, demo.count("GET"))
        self.assertLess(store.age, 60)
        self.assertLess(os.path.getsize(store.path), 20 << 20)

    def test_refreshed(self):
        """Only what has changed is written anew."""
        demo, store = self.archive(), self.open()
        self.assertEqual(self.COUNT, self.harvest(store, demo).changed)
        changed = sorted(demo.entries, key=int)[::25][:12]
        for number in changed:
            demo.entries[number] = dict(demo.entries[number], title="Another title of " + number)
        gone = sorted(demo.entries, key=int)[7]
        del demo.entries[gone]
        other = sorted(demo.entries, key=int)[1]
        untouched = store._database.execute("SELECT * FROM entries WHERE number = ?", (other,)).fetchone()
        before = len(demo.requests)
        done = self.harvest(store, demo)
        self.assertEqual((12, 1, self.COUNT - 1), (done.changed, done.removed, done.entries))
        self.assertEqual(before, 2 * before - len(demo.requests[before:]))
        self.assertEqual([int(number) for number in changed], sorted(numbers(search(store, Query("another title")))))
        self.assertEqual([], search(store, Query(gone)).entries)
        self.assertEqual(untouched, store._database.execute(
            "SELECT * FROM entries WHERE number = ?", (other,)).fetchone())

    def test_faults_that_pass(self):
        for kind in (faults.ERROR, faults.BUSY, faults.SHORT, faults.DROP):
            demo, store = self.archive(), self.open(kind)
            demo.add_fault(kind, "api/10000-*", times=2)
            demo.add_fault(kind, "emdb/*", times=1)
            self.harvest(store, demo)
            self.check_complete(store, demo)

    def test_answers_that_never_come(self):
        demo, store = self.archive(60), self.open()
        demo.add_fault(faults.STALL, "api/10000-*", times=1)
        demo.add_fault(faults.STALL, "emdb/*", times=1)
        with mock.patch.object(api, "MANY_SECONDS", 0.5):
            self.harvest(store, demo)
        self.assertEqual((60, 2.8), (store.count(), store.facts([10025])[0].resolution))

    def test_tables_of_every_shape(self):
        """EMDB's: texts of several lines, quotes, fields that are not there; a page in its place is none."""
        demo, store = self.archive(60), self.open()
        for row in demo.emdb_rows:
            row["sample_info_string"] += ' of "two\nlines", and more'
            del row["fitted_pdbs"]
        demo.emdb_rows.append({"emdb_id": ""})
        self.harvest(store, demo)
        self.assertEqual(2.8, store.facts([10025])[0].resolution)
        self.assertIn('of "two lines", and more', store.facts([10025])[0].sample)

    def test_an_answer_that_is_always_cut(self):
        """It is too long for the service, or something on the way: fewer at a time."""
        demo, store = self.archive(), self.open()
        demo.add_fault(faults.SHORT, "api/10000-10499")
        self.harvest(store, demo)
        self.check_complete(store, demo)

    def test_short_records(self):
        """They are completed one by one, and not asked for again as long as they stay as they are."""
        demo, store = self.archive(60), self.open()
        demo.short_records = True
        self.harvest(store, demo)
        self.assertEqual(60 + 1, demo.count("GET"))
        self.assertEqual(("movies",), store.facts([10025])[0].kinds)
        self.assertEqual(0, self.harvest(store, demo).changed)
        self.assertEqual(60 + 2, demo.count("GET"))

    def test_without_emdb(self):
        demo, store = self.archive(60), self.open()
        demo.add_fault(faults.SHORT, "emdb/*")
        done = self.harvest(store, demo)
        self.assertIn("Resolutions, methods and microscopes are missing", done.notes[0])
        self.assertEqual((60, None), (store.count(), store.facts([10025])[0].resolution))
        demo.clear_faults()
        self.harvest(store, demo)
        self.assertEqual(2.8, store.facts([10025])[0].resolution)
        # And they stay when EMDB is away the next time, also of an entry that has changed.
        demo.add_fault(faults.SHORT, "emdb/*")
        demo.entries["10025"] = dict(demo.entries["10025"], title="Changed")
        self.assertEqual(1, self.harvest(store, demo).changed)
        self.assertEqual(("Changed", 2.8), (store.facts([10025])[0].title, store.facts([10025])[0].resolution))

    def test_stopped_and_gone_on_with(self):
        demo, store = self.archive(900), self.open()
        stop = StopToken()
        with self.assertRaises(Stopped):
            self.harvest(store, demo, stop=stop, on_progress=lambda text: stop.set())
        self.assertEqual((True, None), (0 < store.count() < 900, store.age))
        self.harvest(store, demo)
        self.check_complete(store, demo)
        self.assertEqual(1, sum(request.endswith(" 10000-10499") for request in demo.requests))

    def test_killed_at_any_moment(self):
        demo = self.archive(900)
        path = os.path.join(self.root, "cache", "killed.sqlite")
        program = ("import sys; from empiardownloader.catalogue.harvest import harvest\n"
                   "from empiardownloader.catalogue.store import Store\n"
                   "from empiardownloader.constants import addresses\n"
                   "harvest(Store(sys.argv[1]), addresses(), pause=0.02)")
        for moment in range(10):
            process = subprocess.Popen([sys.executable, "-c", program, path], env={**os.environ, **demo.variables})
            time.sleep(0.25 + 0.12 * moment)
            process.kill()
            process.wait()
        store = self.open("killed.sqlite")
        self.harvest(store, demo)
        self.check_complete(store, demo)
        self.assertEqual("ok", store._database.execute("PRAGMA integrity_check").fetchone()[0])

    def test_two_at_a_time(self):
        """The second waits for the first, and then asks for what has changed only."""
        demo = self.archive()
        stores = [self.open(), self.open()]
        told = []
        first = threading.Thread(target=lambda: told.append(harvest(
            Store(stores[0].path), {name: demo.variables.get(name, "") for name in VARIABLES}, pause=0.1)))
        first.start()
        self.wait_for(lambda: demo.count("POST"), 10, "the first request")
        second = self.harvest(stores[1], demo)
        first.join()
        self.assertEqual((self.COUNT, 0), (told[0].changed, second.changed))

    def test_no_line(self):
        """What is there stays, and is found."""
        demo, store = self.archive(60), self.open()
        self.harvest(store, demo)
        demo.add_fault(faults.ERROR)
        with self.assertRaisesRegex(UnreachableError, "error 500 when asked for entries 10000 to 10499"):
            self.harvest(store, demo)
        self.assertEqual([10025], numbers(search(store, Query("T20S"))))

    def test_answers_that_would_empty_the_list(self):
        """What is known is not taken back by an answer that is short, empty, or of somebody else."""
        demo, store = self.archive(), self.open()
        self.harvest(store, demo)
        everything = dict(demo.entries)
        for left in ({}, dict(list(everything.items())[:self.COUNT // 2])):
            demo.entries.clear()
            demo.entries.update(left)
            if left:
                done = self.harvest(store, demo)
                self.assertIn("150 entries that are known: they stay in the list", done.notes[0])
                self.assertEqual(0, done.removed)
            else:
                with self.assertRaisesRegex(EntryError, "not with a single entry"):
                    self.harvest(store, demo)
            self.assertEqual(self.COUNT, store.count())
        demo.entries.update(everything)
        # A few may be taken back.
        gone = list(everything)[:3]
        for number in gone:
            del demo.entries[number]
        done = self.harvest(store, demo)
        self.assertEqual((3, self.COUNT - 3), (done.removed, store.count()))
        self.assertTrue(str(done).endswith("; 3 are gone."))
        # EMDB's table with its header alone.
        resolution = store.facts([10061])[0].resolution
        demo.emdb_rows = []
        self.assertIn("EMDB told 0 maps", self.harvest(store, demo).notes[0])
        self.assertEqual((2.2, 2.2), (resolution, store.facts([10061])[0].resolution))

    def test_a_page_in_place_of_every_answer(self):
        """As of a network that wants a login."""
        store = self.open()
        demo = self.archive(60)
        demo.add_fault(faults.SHORT, "api/*")
        with mock.patch.object(api, "RETRIES", 1), self.assertRaises(EntryError):
            self.harvest(store, demo)
        self.assertIsNone(store.age)
        self.assertLess(demo.count("POST"), 100)

    def test_one_record_that_cannot_be_read(self):
        """It costs its own request, and those that lead to it."""
        store, demo = self.open(), self.archive(60)
        bad = list(demo.entries)[30]
        demo.entries[bad] = dict(demo.entries[bad], poison=True)
        original = demo.fault_for

        def fault_for(path, *kinds):
            first, _, last = path.replace("api/", "").partition("-")
            if path.startswith("api/") and first.isdecimal() and int(first) <= int(bad) <= int(last or first):
                return faults.Fault(faults.SHORT)
            return original(path, *kinds)

        with mock.patch.object(demo, "fault_for", fault_for), mock.patch.object(api, "RETRIES", 1):
            done = self.harvest(store, demo)
        self.assertEqual(["EMPIAR-%s could not be read." % bad], done.notes)
        self.assertEqual(59, store.count())
        self.assertLess(demo.count("POST"), 60 + 7 * 25)

    def test_killed_while_the_tables_are_made(self):
        """All or none: the next one makes them."""
        path = os.path.join(self.root, "cache", "half.sqlite")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE notes (name, value)")
            database.execute("CREATE VIEW words AS SELECT 1")
            database.commit()
        self.assertEqual(0, self.open("half.sqlite").count())
        # A table is missing, or what is in it is cut: said, or made anew.
        for damage, wrong in (("DROP TABLE words", None), ("DROP TABLE entries", None),
                              ("UPDATE entries SET facts = '{'", DiskError), ("UPDATE notes SET value = 'x'", None)):
            with self.subTest(damage):
                where = {"EMPIAR_API_URL": "http://localhost:1/%d" % len(damage)}
                with environment(XDG_CACHE_HOME=self.root):
                    path = default_path(where)
                    catalogue_entries.fill(Store(path), *catalogue_entries.records(60))
                    with contextlib.closing(sqlite3.connect(path)) as database:
                        database.execute(damage)
                        database.commit()
                    if wrong is None:
                        with kept(where) as store:
                            search(store, Query("T20S"))
                            self.assertIsNone(store.age)
                    else:
                        with self.assertRaisesRegex(wrong, "delete that file"), kept(where) as store:
                            search(store, Query("T20S"))

    def test_a_folder_that_takes_no_lock(self):
        store = self.open()
        os.mkdir(store.path + ".lock")
        with self.assertRaisesRegex(DiskError, "cannot be written"):
            harvest(store, {name: value for name, (value, _) in VARIABLES.items()})

    def test_a_database_that_is_none(self):
        for content in (b"nonsense" * 999, b""):
            path = os.path.join(self.root, "cache", "odd.sqlite")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as stream:
                stream.write(content)
            self.assertEqual(0, self.open("odd.sqlite").count())
        # One that somebody else writes, or whose disk has no locks, is read as it is.
        store = self.open("busy.sqlite")
        catalogue_entries.fill(store, *catalogue_entries.records(60))
        with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with contextlib.closing(Store(store.path, 0)) as reader:
                self.assertEqual([10025], numbers(search(reader, Query("T20S"))))
                with self.assertRaises(DiskError), reader.change():
                    reader.note("checked", "1")
            other.execute("ROLLBACK")
        empty = os.path.join(self.root, "cache", "none.sqlite")
        with contextlib.closing(sqlite3.connect(empty, isolation_level=None)) as other:
            other.execute("CREATE TABLE other (x)")
            other.execute("BEGIN EXCLUSIVE")
            with self.assertRaisesRegex(DiskError, "is locked by another program, or lies on a file system without"):
                Store(empty, 0)
        database = sqlite3.connect(os.path.join(self.root, "cache", "later.sqlite"))
        database.execute("PRAGMA user_version = 77")
        database.execute("CREATE TABLE entries (other)")
        database.close()
        self.assertEqual(0, self.open("later.sqlite").count())

    def test_records_of_every_shape(self):
        """Whatever a record holds costs that record at most."""
        demo, store = self.archive(60), self.open()
        odd = [{"imagesets": "none"}, {"imagesets": [None, 3, {}]}, {"title": ["x"], "imagesets": []},
               {"authors": {"a": 1}, "imagesets": [image_set(pixel_width="n/a")]},
               {"status": None, "imagesets": [image_set(name="\ud800")]},
               {"title": "<b>\x1b[31m" + "long " * 300000, "imagesets": [image_set()]}]
        for number, record in enumerate(odd, start=10900):
            demo.entries[str(number)] = copy.deepcopy(record)
        self.harvest(store, demo)
        self.assertEqual(60 + len(odd), store.count())
        found = store.facts(range(10900, 10900 + len(odd)))
        for entry in found:
            json.dumps(entry.as_data())
            self.assertNotIn("\x1b", "".join(table([entry], 80)))
        self.assertLess(len(found[-1].title), 30000)
        self.assertTrue(math.isfinite(store.age))


class TestCodes(CatalogueCase):

    def test_codes_of_others(self):
        """By the services, and by the catalogue where there is one."""
        entries, rows = catalogue_entries.records(60)
        entries["10999"] = dict(entries["10025"])       # two entries of one map
        demo = self.serve(entries=entries)
        demo.emdb_rows = rows
        where = {**{name: value for name, (value, _) in VARIABLES.items()}, **demo.variables}
        with environment(XDG_CACHE_HOME=os.path.join(self.root, "cache")):
            for catalogue in (False, True):
                if catalogue:
                    store = Store(default_path(where))
                    harvest(store, where, pause=0)
                    store.close()
                for text, number in (("EMD-5200", "10200"), ("emd 5200", "10200"), ("6v21", "10200"),
                                     ("PDB:6V21", "10200"), ("10200", "10200"), ("EMPIAR-10200", "10200")):
                    self.assertEqual(number, entry_number(text, where), (text, catalogue))
                with self.assertRaisesRegex(EntryError, "several entries, EMPIAR-10025 and EMPIAR-10999"):
                    entry_number("EMD-5025", where)
                for text, why in (("EMD-99999", "no entry that is linked to EMD-99999"), ("9zzz", "no map"),
                                  ("nonsense", "is not an EMPIAR entry number")):
                    with self.assertRaisesRegex(EntryError, why):
                        entry_number(text, where)
            asked = len(demo.requests)
            entry_number("6v21", where)
            self.assertEqual(asked, len(demo.requests))


class TestCommand(CatalogueCase):

    def command(self, demo, *words):
        done = subprocess.run([sys.executable, "-m", "empiardownloader", "search", *words], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=60, check=False, env={
                                  **os.environ, **demo.variables, "XDG_CACHE_HOME": os.path.join(self.root, "cache")})
        return done.returncode, done.stdout, done.stderr

    def test_as_a_user_types_it(self):
        entries, rows = catalogue_entries.records(60)
        demo = self.serve(entries=entries)
        demo.emdb_rows = rows
        code, output, errors = self.command(demo, "T20S", "--offline")
        self.assertEqual((1, ""), (code, output))
        self.assertIn("no list of entries on this machine yet: run the command once without --offline", errors)
        code, output, errors = self.command(demo, "T20S")
        self.assertEqual(0, code, errors)
        self.assertIn("60 entries", errors)
        self.assertIn("10025  1.3 TB     2.80  movies TIFF  2014  Thermoplasma acidophilum 20S proteasome", output)
        asked = len(demo.requests)
        code, output, errors = self.command(demo, "apoferritin", "--json", "--sort", "size")
        self.assertEqual((0, ""), (code, errors))
        told = json.loads(output)
        self.assertEqual(["10200", "10591"], [entry["number"] for entry in told])
        self.assertEqual({"number", "title", "size_bytes", "kinds", "released", "emdb", "pdb", "resolution", "method",
                          "microscope"} - set(told[0]), set())
        for asked_for, why in ((["apoferitin"], 'is it "apoferritin" or "ferritin"?'), (["--kind", "movys"], "no kind"),
                           (["x", "--refresh", "--offline"], "choose one"), (["x", "--max-size", "big"], "like 500GB"),
                           (["--year", "20"], "a year like 2020"), (["--pixel-size", "-1"], "number of angstrom")):
            code, output, errors = self.command(demo, *asked_for)
            self.assertIn(why, errors)
            self.assertNotEqual(0, code)
        self.assertEqual(1, len(demo.requests) - asked)     # EBI Search, for the word that no entry has
        code, output, errors = self.command(demo, "oxel")
        self.assertEqual(0, code, errors)
        self.assertIn("These are by EBI Search.", errors)
        demo.add_fault(faults.ERROR)
        self.assertEqual(0, self.command(demo, "10200")[0])
        folder = os.path.join(self.root, "cache", "empiardownloader")
        path = next(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".sqlite"))
        with open(path, "r+b") as stream:
            for page in range(12, os.path.getsize(path) // 4096, 2):
                stream.seek(page * 4096)
                stream.write(b"\xff" * 4096)
        code, output, errors = self.command(demo, "human", "--offline")
        self.assertEqual((1, ""), (code, output))
        self.assertRegex(errors, "cannot be read .*delete that file|was damaged: it is made anew")

    def test_a_table_fits_the_terminal(self):
        bare = from_record(10002, catalogue_entries.record(10002, "A title " * 30, (), "3 TB", (
            {"category": "tilt series", "data_format": "BIG DATA VIEWER HDF5"},)))
        for width in (80, 120):
            self.assertTrue(all(len(line) <= width for line in table([bare], width)), table([bare], width))


if __name__ == "__main__":
    unittest.main()
