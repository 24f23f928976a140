# SPDX-License-Identifier: GPL-3.0-or-later
"""What the form says of a run before it begins: the plan of the image set's wand, and Execute's warnings."""
import os
import shutil
import threading

import numpy as np

from empiardownloader.archive.entry import parse_entry
from empiardownloader.catalogue.harvest import harvest
from empiardownloader.catalogue.store import Store, default_path
from empiardownloader.constants import addresses
from empiardownloader.demo import movies
from empiardownloader.protocols import planned
from empiardownloader.protocols.protocol_empiar_download import EmpiarDownloader
from empiardownloader.tests.base import ArchiveTestCase, entry, image_set, impatient
from empiardownloader.tests.surroundings import environment

IS_QUICK = True


@impatient
class TestPlanned(ArchiveTestCase):
    FRAMES, WIDTH, HEIGHT = 4, 64, 48

    def setUp(self):
        super().setUp()
        sets = [image_set(name="Movies", directory="data/Movies", num_images_or_tilt_series=6),
                image_set(name="Other", directory="data/Other", num_images_or_tilt_series=6, pixel_width=None,
                          pixel_height=None)]
        self.write_movies("10001", ["m_%d.mrc" % number for number in range(6)], frames=self.FRAMES, width=self.WIDTH,
                          height=self.HEIGHT)
        self.write_movies("10001", ["o_%d.mrc" % number for number in range(6)], "data/Other", frames=self.FRAMES,
                          width=self.WIDTH, height=self.HEIGHT)
        self.demo = self.serve(entries={
            "10001": entry(*sets, dataset_size="3000 PB"),
            "10002": entry(sets[0], dataset_size="600 PB"),
            "10003": entry(sets[0], dataset_size="6 MB"),
            "10004": entry(sets[1], dataset_size="6 MB")})
        variables = environment(XDG_CACHE_HOME=os.path.join(self.folder, "cache"), **self.demo.variables)
        variables.__enter__()
        self.addCleanup(variables.__exit__, None, None, None)
        vars_ = planned.Plugin.getVars()
        before = dict(vars_)
        vars_.update(self.demo.variables)
        self.addCleanup(vars_.update, before)
        planned._plans.clear()
        self.size = 1024 + self.FRAMES * self.WIDTH * self.HEIGHT

    def form(self, **values):
        protocol = EmpiarDownloader(**values)
        protocol.setWorkingDir(os.path.join(self.folder, "run"))
        return protocol

    def warnings(self, **values):
        return planned.findWarnings(self.form(**values))

    def list_entries(self):
        store = Store(default_path(addresses()))
        harvest(store, addresses(), pause=0)
        store.close()

    def plan(self, protocol, image_set="1", own=True):
        return planned.makePlan(protocol, protocol.entryId.get(), image_set, own, False, threading.Event())

    def test_the_plan_of_the_form(self):
        plan = self.plan(self.form(entryId="10001", amountOfImages=3))
        self.assertEqual((3, 3 * self.size, 0), (plan.images, plan.bytes, plan.here))
        # A pattern is about the form's image set alone.
        form = self.form(entryId="10001", allImages=True, filePattern="m_[12]*")
        self.assertEqual([2, 6], [self.plan(form, number, own).images for number, own in (("1", True), ("2", False))])
        # What the download folder has already is not counted.
        shared = os.path.join(self.folder, "shared")
        there = os.path.join(shared, "10001", "data", "Movies")
        os.makedirs(there)
        shutil.copy(os.path.join(self.root, "10001", "data", "Movies", "m_1.mrc"), there)
        plan = self.plan(self.form(entryId="10001", amountOfImages=3, downloadFolder=shared))
        self.assertEqual((2, 1), (plan.images, plan.here))

    def test_nothing_is_known(self):
        """Without a list of entries there is no warning, and nobody waits for an archive."""
        asked = len(self.demo.requests)
        self.assertEqual([], self.warnings(entryId="10001", allImages=True))
        for wrong in ("", "ten", "5a1a"):
            self.assertEqual([], self.warnings(entryId=wrong))
        self.assertEqual(asked, len(self.demo.requests))

    def test_it_does_not_fit(self):
        self.list_entries()
        asked = len(self.demo.requests)
        told, = self.warnings(entryId="10001", allImages=True)
        self.assertRegex(told, "EMPIAR-10001 has 3000000.0 TB .one image set may be smaller: .* and 67.1 MB must stay "
                               "free; only .* are free")
        told, = self.warnings(entryId="10002", amountOfImages=3)
        self.assertIn("3 of 6 images of EMPIAR-10002 are about 300000.0 TB, and 67.1 MB must stay free; only", told)
        # How large some images of several sets are, nobody knows but that they are no larger than the entry.
        told, = self.warnings(entryId="10001", amountOfImages=3)
        self.assertIn("3 of 6 images of EMPIAR-10001 may be up to 1500000.0 TB (the wand of Image set tells)", told)
        self.assertEqual([], self.warnings(entryId="10003", allImages=True))
        self.assertEqual(asked, len(self.demo.requests))

    def test_the_wands_plan_is_better_known(self):
        self.list_entries()
        form = self.form(entryId="10001", allImages=True)
        self.plan(form)
        self.assertEqual([], planned.findWarnings(form))
        self.assertEqual(1, len(self.warnings(entryId="10001", allImages=True, filePattern="m_*")))
        # A packed MRC movie takes as much as its pixels.
        packed = os.path.join(self.root, "10003", "data", "Movies", "m.mrc.bz2")
        os.makedirs(os.path.dirname(packed))
        with open(packed, "wb") as stream:
            stream.write(b"x" * 99)
        self.demo.entries["10003"] = entry(image_set(
            image_width="4000000", image_height="4000000", frames_per_image=900, num_images_or_tilt_series=1))
        form = self.form(entryId="10003", allImages=True)
        self.plan(form)
        told, = planned.findWarnings(form)
        self.assertIn("1 movies of EMPIAR-10003 need 14400.0 TB, and 67.1 MB must stay free; only", told)
        # Another form's plan is not this one's.
        self.assertEqual([], self.warnings(entryId="10003", allImages=True, decompress=False))

    def test_fields_of_a_kind(self):
        """The form hides what the kind of its image set has no use for, where the list of entries says which it is."""
        demo = self.demo
        demo.entries["10005"] = entry(*[image_set(name=category, category=category) for category in (
            "picked particles - single frame - processed", "reconstructed volumes", "micrographs - single frame",
            "picked particles - multiframe - processed", "tilt series")])
        names = ("downloadGain", "gainPattern", "companionFiles", "particlesFile", "samplingRate", "Dose",
                 "Microscope", "amplitudeContrast", "filePattern", "decompress")

        def hidden(**values):
            planned._fields[0] = float("-inf")
            form = self.form(**values)
            lines = {line.label.get(): name for name, line in form.getDefinition()._paramsDict.items()}
            return [name for name in names if not form.evalParamCondition(lines.get(name, name))]

        self.assertEqual([], hidden(entryId="10005"))
        self.list_entries()
        gain = ["downloadGain", "gainPattern"]
        for number, expected in enumerate((
                [*gain, "Dose"], [*gain, "companionFiles", "particlesFile", "Dose"], [*gain, "particlesFile"],
                [*gain, "companionFiles", "particlesFile", "Dose"],
                ["particlesFile"]), 1):
            with self.subTest(number):
                self.assertEqual(expected, hidden(entryId="EMPIAR-10005", imageSet=str(number)))
        self.assertEqual(["particlesFile"], hidden(entryId="10001"))
        for odd in ({"imageSet": "99"}, {"entryId": "5a1a"}, {"entryId": ""}, {"entryId": "19999"}):
            self.assertEqual([], hidden(**dict({"entryId": "10005"}, **odd)), odd)
        # What a wand has read of the entry is newer than the list.
        planned.remember(parse_entry("10005", entry(image_set(name="now movies"))))
        self.addCleanup(planned._entries.clear)
        self.assertEqual(["particlesFile"], hidden(entryId="10005", imageSet="1"))
        planned._entries.clear()
        # Every field of the form is evaluated anew when entry or image set change.
        definition = self.form().getDefinition()
        for name in gain:
            for asked in ("entryId", "imageSet"):
                self.assertIn(name, definition.getParam(asked)._dependants)
        with open(default_path(addresses()), "wb") as stream:
            stream.write(b"no database")
        self.assertEqual([], hidden(entryId="10001"))

    def test_what_is_hidden_is_not_used(self):
        """A pattern or a dose that was left from another image set neither takes images away nor gets into the set."""
        from empiardownloader.archive.remote import Listing
        from empiardownloader.archive.selection import ImageFinder
        record = parse_entry("1", entry(image_set(category="micrographs - single frame", directory="data")))
        finder = ImageFinder(record, record.image_sets[0], lambda folder, expected: Listing(
            () if folder else ("data",), tuple(("x_%d.mrc" % number, 9) for number in range(6)) if folder else ()),
            gain_pattern="x_[0-3]*")
        self.assertEqual(6, len(list(finder.images())))
        self.assertIn("The gain file pattern is not used: micrographs have no gain reference.", finder.notes)

    def test_in_short(self):
        self.assertEqual("", planned.inShort(self.form(entryId="10003")))
        self.list_entries()
        for values, expected in (
                ({"entryId": "10003"}, "1 of 6 movies, about 1.0 MB, "),
                ({"entryId": "10003", "allImages": True}, "all 6 movies, about 6.0 MB, "),
                ({"entryId": "10001", "amountOfImages": 2}, "2 of 6 movies, the whole entry has 3000000.0 TB, ")):
            told = planned.inShort(self.form(**values))
            self.assertTrue(told.startswith(expected) and told.endswith("B free"), told)
        for values in ({"amountOfImages": -5}, {"amountOfImages": None}, {"filePattern": "m_1*"}):
            self.assertEqual("", planned.inShort(self.form(entryId="10003", **values)))
        self.assertIn("6 of 6 movies", planned.inShort(self.form(entryId="10003", amountOfImages=1000)))
        self.demo.entries["10004"] = entry(image_set(category="picked particles - single frame - processed",
                                                     num_images_or_tilt_series=100000), dataset_size="30 TB")
        self.list_entries()
        # Of particles stacks are counted, and nobody knows how large these are.
        told = planned.inShort(self.form(entryId="10004"))
        self.assertTrue(told.startswith("1 particle stack, the whole entry has 30"), told)
        form = self.form(entryId="10001", amountOfImages=2)
        self.plan(form)
        self.assertRegex(planned.inShort(form), r"^2 movies, 26\.6 kB, .* free$")
        form.amountOfImages.set(3)
        self.assertIn("3 of 6 movies, the whole entry", planned.inShort(form))

    def test_the_plan_says_that_the_gain_is_turned(self):
        """Also where no list of entries is here: the wand has looked."""
        movies.write_image(os.path.join(self.root, "10001", "data", "Movies", "gain.mrc"),
                           np.ones((self.WIDTH, self.HEIGHT), "float32"))
        form = self.form(entryId="10001", amountOfImages=2)
        self.assertEqual([], planned.findWarnings(form))
        self.plan(form)
        told, = planned.findWarnings(form)
        self.assertIn("gain.mrc is as large as the movies only when turned by 90 degrees", told)
        form.downloadGain.set(False)
        self.assertEqual([], planned.findWarnings(form))

    def test_nothing_tells_the_pixel_size(self):
        self.list_entries()
        told, = self.warnings(entryId="10004")
        self.assertIn("EMPIAR-10004 does not give the pixel size of image set no. 1", told)
        self.assertEqual([], self.warnings(entryId="10004", samplingRate=1.0))
        self.assertEqual([], self.warnings(entryId="10003"))
        *_, told = self.warnings(entryId="10001", imageSet=" other ")
        self.assertIn("no. 2", told)
        self.assertEqual([], self.warnings(entryId="10001", imageSet="9"))
