# SPDX-License-Identifier: GPL-3.0-or-later
"""Which gain and dark references go with which movies, over both transports: chosen, shared, changed, missing."""
import os
import shutil

from empiardownloader.archive import entry as archive_entry
from empiardownloader.archive.errors import EntryError
from empiardownloader.archive.selection import DARK, GAIN
from empiardownloader.archive.stopping import StopToken
from empiardownloader.demo import faults
from empiardownloader.demo import http as demo_http
from empiardownloader.download.complete import nothing_missing
from empiardownloader.download.request import Places, Request
from empiardownloader.tests.base import entry, image_set, read_bytes
from empiardownloader.tests.layout_case import FIELDS, TINY, Layout


class ReferenceRows(Layout):
    """Run for each transport by the classes below."""

    def test_several_candidates_the_fitting_one_is_taken(self):
        self.put("1/data/Movies/a.mrc")
        self.put("1/data/Movies/gain_small.mrc", gain=True, width=10, height=10)
        self.put("1/data/Movies/gain_turned.mrc", gain=True, width=TINY["height"], height=TINY["width"])
        self.put("1/data/Movies/dark.mrc", gain=True)
        facts = self.download("1", image_set(**FIELDS))
        self.check(facts, ["a.mrc"], "data/Movies/gain_turned.mrc")
        self.assertEqual("data/Movies/dark.mrc", facts.chosen(DARK)[0].path)
        self.assertEqual(("data/Movies/gain_small.mrc",), facts.chosen(GAIN)[0].others)
        self.assertIn("does not fit the movies", facts.notes[0])

    def test_a_pattern_for_the_gain(self):
        self.put("1/data/Movies/a.mrc")
        self.put("1/data/Movies/gain.mrc", gain=True)
        self.put("1/data/references/K3.mrc", gain=True)
        for pattern in ("data/references/K3.mrc", "references/*.mrc"):
            self.out = os.path.join(self.folder, pattern.replace("/", "_"))
            os.makedirs(self.out)
            facts = self.download("1", image_set(**FIELDS), gain_pattern=pattern)
            self.check(facts, ["a.mrc"], "data/references/K3.mrc")

    # ---------------------------------------------------------------- one file, one job

    def test_a_gain_chosen_by_pattern_is_never_a_movie(self):
        """A1: whether its name sorts before the movies or after them, whatever else is known."""
        for name in ("K2ref.mrc", "zref.mrc"):
            for number, fields in (("1", FIELDS), ("2", dict(FIELDS, frames_per_image=None))):
                for request in ({}, {"file_pattern": "*.mrc"}):
                    self.setUpOut(name + number + str(len(request)))
                    folder = os.path.join(self.root, number)
                    shutil.rmtree(folder, ignore_errors=True)
                    for n in range(3):
                        self.put("%s/data/Movies/m_%d.mrc" % (number, n))
                    self.put("%s/data/Movies/%s" % (number, name), gain=True)
                    facts = self.download(number, image_set(num_images_or_tilt_series=3, **fields), gain_pattern=name,
                                          **request)
                    self.check(facts, ["m_%d.mrc" % n for n in range(3)], "data/Movies/" + name)

    def test_a_pattern_that_takes_every_file_for_the_gain(self):
        self.put("1/data/Movies/m_1.mrc")
        with self.assertRaisesRegex(EntryError, "beside what the gain file pattern"):
            self.download("1", image_set(**FIELDS), gain_pattern="*.mrc")

    def test_a_name_that_is_gain_and_dark(self):
        self.put("1/data/Movies/a.mrc")
        self.put("1/data/Movies/gain_darkcorrected.mrc", gain=True)
        facts = self.download("1", image_set(**FIELDS))
        self.check(facts, ["a.mrc"], "data/Movies/gain_darkcorrected.mrc")
        self.assertEqual([], facts.chosen(DARK))

    def test_movies_that_are_there_packed_and_unpacked(self):
        """S7: with a download folder both would have one place."""
        self.put("1/data/Movies/m.mrc.bz2")
        self.put("1/data/Movies/m.mrc")
        self.put("1/data/Movies/n.mrc.bz2")
        for shared in ("", os.path.join(self.folder, "shared")):
            self.setUpOut("shared" if shared else "own")
            facts = self.download("1", image_set(num_images_or_tilt_series=2, **FIELDS), shared=shared)
            self.assertEqual({"data/Movies/m.mrc", "data/Movies/n.mrc.bz2"},
                             {movie.path for movie in facts.images.values()})
            self.assertIn("packed and not", facts.notes[0])

    # ---------------------------------------------------------------- sessions and other image sets

    def test_sessions_with_gain_references_of_their_own(self):
        """A2: three sessions, two of which share one."""
        for session in "ABC":
            self.put("1/data/Movies/%s/m_0.mrc" % session)
        self.put("1/data/Movies/gain.mrc", gain=True)
        self.put("1/data/Movies/C/gain.mrc", gain=True)
        facts = self.download("1", image_set(num_images_or_tilt_series=3, **FIELDS))
        self.assertEqual({"data/Movies/A/m_0.mrc": "data/Movies/gain.mrc",
                          "data/Movies/B/m_0.mrc": "data/Movies/gain.mrc",
                          "data/Movies/C/m_0.mrc": "data/Movies/C/gain.mrc"}, self.gains_of(facts))
        names = {event.path: event.name for event in facts.chosen(GAIN)}
        self.assertEqual({"data/Movies/gain.mrc": "gain.mrc", "data/Movies/C/gain.mrc": "C_gain.mrc"}, names)
        for path, name in names.items():
            self.assertEqual(read_bytes(os.path.join(self.root, "1", path)), read_bytes(os.path.join(self.out, name)))

    def test_a_gain_of_the_same_bytes_is_the_same(self):
        for session in "AB":
            self.put("1/data/%s/Movies/m_0.mrc" % session)
            self.put("1/data/%s/gain.mrc" % session, gain=True, seed=7)
        facts = self.download("1", image_set(directory="data", num_images_or_tilt_series=2, **FIELDS))
        self.assertEqual({"data/A/gain.mrc", "data/B/gain.mrc"}, set(self.gains_of(facts).values()))
        self.assertEqual(1, len({event.digest for event in facts.chosen(GAIN)}))

    def test_sizes_choose_among_the_candidates(self):
        """Movies of two sizes in one folder, each with the gain that fits."""
        self.put("1/data/Movies/a.mrc")
        self.put("1/data/Movies/b.mrc", width=48, height=32)
        self.put("1/data/Movies/gain_1.mrc", gain=True)
        self.put("1/data/Movies/gain_2.mrc", gain=True, width=48, height=32)
        facts = self.download("1", image_set(num_images_or_tilt_series=2, **FIELDS))
        self.assertEqual({"data/Movies/a.mrc": "data/Movies/gain_1.mrc", "data/Movies/b.mrc": "data/Movies/gain_2.mrc"},
                         self.gains_of(facts))

    def test_a_movie_is_no_gain_reference(self):
        """A file of several frames whose name says gain."""
        self.put("1/data/Movies/m.mrc")
        self.put("1/data/Movies/gain_test.mrc")
        facts = self.download("1", image_set(num_images_or_tilt_series=1, **FIELDS))
        self.assertEqual([], facts.chosen(GAIN))
        self.assertIn("could not be used as gain reference: it has 3 frames", facts.notes[0])

    def test_folders_of_the_entrys_other_image_sets(self):
        """A3."""
        for n in range(3):
            self.put("1/data/m_%d.mrc" % n)
            self.put("1/data/Particles/stack_%d.mrcs" % n, frames=5, width=8, height=8)
            self.put("1/data/Other/o_%d.mrc" % n)
        others = (image_set(category="picked particles - single frame - processed", directory="/data/Particles/"),
                  image_set(name="Other", directory="Other", **FIELDS))
        facts = self.download("1", image_set(directory="data", num_images_or_tilt_series=3, **FIELDS), *others)
        self.assertEqual({"m_0.mrc", "m_1.mrc", "m_2.mrc"}, set(facts.images))
        self.assertEqual((), facts.notes)
        self.setUpOut("other")
        facts = self.download("1", image_set(directory="data", **FIELDS), *others, choice="Other", left_out=0)
        self.assertEqual({"o_0.mrc", "o_1.mrc", "o_2.mrc"}, set(facts.images))

    # ---------------------------------------------------------------- Continue, and archives that change in between

    def test_another_gain_of_the_same_name(self):
        """A local name belongs to one remote file for good: the old gain's bytes are not taken for the new one's."""
        self.put("1/data/Movies/m.mrc")
        self.put("1/data/gain.mrc", gain=True, seed=1)
        other = self.put("1/data/Refs/gain.mrc", gain=True, seed=2)
        fields = image_set(num_images_or_tilt_series=1, **FIELDS)
        self.download("1", fields)
        facts = self.download("1", fields, gain_pattern="data/Refs/gain.mrc")
        event, = facts.chosen(GAIN)
        self.assertEqual("data/Refs/gain.mrc", event.path)
        self.assertEqual(read_bytes(other), read_bytes(os.path.join(self.out, event.name)))

    def test_another_gain_pattern_and_a_stop_in_between(self):
        """What a pattern found is no answer to another one, whatever came in between."""
        self.put("1/data/Movies/m.mrc")
        for seed, name in enumerate(("one", "two")):
            self.put("1/data/Refs/%s.mrc" % name, gain=True, seed=seed)
        fields = image_set(num_images_or_tilt_series=1, **FIELDS)
        self.download("1", fields, amount=1, gain_pattern="data/Refs/one.mrc")
        stopped = StopToken()
        stopped.set()
        self.download("1", fields, amount=1, gain_pattern="data/Refs/two.mrc", cancelled=stopped)
        found = archive_entry.parse_entry("1", entry(fields))
        request = Request(found, found.image_set(), 1, gain_pattern="data/Refs/two.mrc")
        self.assertFalse(nothing_missing(request, Places(self.out, os.path.join(self.out, "record"))))
        for _ in range(2):
            facts = self.download("1", fields, amount=1, gain_pattern="data/Refs/two.mrc")
            self.assertEqual(["data/Refs/two.mrc"], [event.path for event in facts.chosen(GAIN)])

    def test_the_gain_of_another_image_set_that_brought_no_movie(self):
        for folder in "AB":
            self.put("1/data/%s/Movies/m.mrc" % folder)
        gains = [self.put("1/data/%s/gain.mrc" % folder, gain=True, seed=seed) for seed, folder in enumerate("AB")]
        sets = [image_set(name=name, directory="data/%s/Movies" % name, num_images_or_tilt_series=1, **FIELDS)
                for name in "AB"]
        self.demo.add_fault(faults.GONE, "*A/Movies/m*")
        self.download("1", *sets, choice="A", left_out=1)
        facts = self.download("1", *sets, choice="B")
        event, = facts.chosen(GAIN)
        self.assertEqual(read_bytes(gains[1]), read_bytes(os.path.join(self.out, event.name)))

    def test_a_gain_that_failed_once_is_asked_for_again(self):
        self.put("1/data/Movies/m.mrc")
        self.put("1/data/Movies/gain.mrc", gain=True)
        fields = image_set(num_images_or_tilt_series=1, **FIELDS)
        self.demo.add_fault(faults.FORBIDDEN, "*gain*")
        facts = self.download("1", fields)
        self.assertEqual([], facts.chosen(GAIN))
        found = archive_entry.parse_entry("1", entry(fields))
        request = Request(found, found.image_set(), None)
        places = Places(self.out, os.path.join(self.out, "record"))
        self.assertFalse(nothing_missing(request, places))
        self.demo.clear_faults()
        facts = self.download("1", fields)
        self.assertEqual(1, len(facts.chosen(GAIN)))
        self.assertEqual("gain.mrc", facts.reference(GAIN, facts.images["m.mrc"]).name)
        self.assertTrue(nothing_missing(request, places))

    def test_a_pattern_for_the_gain_that_matches_nothing(self):
        self.put("1/data/Movies/m.mrc")
        self.put("1/data/Movies/gain.mrc", gain=True)
        facts = self.download("1", image_set(num_images_or_tilt_series=1, **FIELDS), gain_pattern="K3*")
        self.assertIn('No file of EMPIAR-1 matches the gain file pattern "K3*": change it, or leave it empty.',
                      facts.notes)

    def test_a_folder_above_the_movies_that_errs(self):
        """It may hold a gain reference, but the movies do not wait for it."""
        self.put("1/data/Movies/m.mrc")
        for gain in (True, False):
            self.setUpOut("above%s" % gain)
            for kind in (faults.ERROR, faults.BUSY):
                self.demo.add_fault(kind, "1/data")
                self.demo.add_fault(kind, "1/data/")
                facts = self.download("1", image_set(num_images_or_tilt_series=1, **FIELDS), amount=1, gain=gain)
                self.assertEqual(["m.mrc"], list(facts.images))
                self.demo.clear_faults()

    def test_movies_that_are_tried_as_references_first(self):
        for n in range(3):
            self.put("1/data/Movies/again_%d.mrc" % n)
        for n in range(3, 8):
            self.put("1/data/Movies/Sub/again_%d.mrc" % n)
        facts = self.download("1", image_set(num_images_or_tilt_series=8, **FIELDS))
        self.assertEqual(8, len(facts.images))
        self.assertEqual([], facts.chosen(GAIN))

    def test_weak_words_in_folders_of_one(self):
        for n in range(2):
            self.put("1/data/Movies/square_%d/normoxia_%d.mrc" % (n, n))
        self.assertEqual(2, len(self.download("1", image_set(num_images_or_tilt_series=2, **FIELDS)).images))


class TestFtpReferences(ReferenceRows):
    transport = "FTP"


class TestHttpsReferences(ReferenceRows):
    transport = "HTTPS"

    def test_a_gain_that_only_the_second_look_shows(self):
        for n in range(2):
            self.put("1/data/Movies/m_%d.mrc" % n)
        self.put("1/data/Movies/gain.mrc", gain=True)
        original, lacking = demo_http._listed, []

        def listed(folder):
            names = [item for item in original(folder) if item[0] != "gain.mrc" or lacking]
            if folder.endswith("Movies"):
                lacking.append(True)
            return names

        demo_http._listed = listed
        self.addCleanup(setattr, demo_http, "_listed", original)
        facts = self.download("1", image_set(num_images_or_tilt_series=5, **FIELDS))
        self.assertEqual({"data/Movies/gain.mrc"}, set(self.gains_of(facts).values()))


# The common cases run for each transport, not by themselves.
del ReferenceRows
