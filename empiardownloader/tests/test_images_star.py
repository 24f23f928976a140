# SPDX-License-Identifier: GPL-3.0-or-later
"""STAR files as RELION, cryoSPARC's converters, editors and people write them: what is believed, and what is said."""
import os
import tempfile
import unittest

from empiardownloader.archive.selection import RemoteFile
from empiardownloader.demo import kinds
from empiardownloader.download.particles import FROM_ZERO, MOST_IN_VAIN, ParticleFile, ParticleSearch, match_stacks
from empiardownloader.images.header import BadImageError
from empiardownloader.images.star import read_rows, row_at, split_image, split_line
from empiardownloader.transfer.jobs import Job, Outcome


class StarCase(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "p.star")

    def write(self, text):
        with open(self.path, "wb") as stream:
            stream.write(text if isinstance(text, bytes) else text.encode())

    def read(self, text):
        self.write(text)
        return ParticleFile.read(self.path)

    def rows(self, text):
        """Every row as it is read by its offset, and what is passed over as (line, values)."""
        bad = []
        self.write(text)
        found = list(read_rows(self.path, lambda row: bad.append((row.line, row.values))))
        with open(self.path, "rb") as stream:
            rows = [row_at(stream, offset, table) for table, offset, _ in found]
        self.assertEqual(rows, [table.row(words) for table, _, words in found])
        return rows, bad


class TestRows(StarCase):
    HEAD = "data_particles\n\nloop_\n_rlnImageName #1\n_rlnDefocusU #2\n_rlnMicrographName #3\n"

    def test_rows_with_too_many_or_too_few_words_are_passed_over(self):
        """An unquoted blank in a name would shift all columns; a stray 9 is in the file of a published entry."""
        rows, bad = self.rows(self.HEAD + "1@a.mrcs 10000 m.mrc\n2@a.mrcs 12000 my mic.mrc\nx 3@a.mrcs 1 m.mrc\n9\n"
                                          "4@a.mrcs 14000 'my mic.mrc'\n")
        self.assertEqual([("1@a.mrcs", "10000", "m.mrc"), ("4@a.mrcs", "14000", "my mic.mrc")],
                         [tuple(row.values()) for row in rows])
        self.assertEqual([(8, 4), (9, 4), (10, 1)], bad)

    def test_pairs_are_one_row(self):
        rows, bad = self.rows("data_p\n\n_rlnImageName 1@a.mrcs\n# between\n\n_rlnDefocusU  12000 # comment\n")
        self.assertEqual(([{"rlnImageName": "1@a.mrcs", "rlnDefocusU": "12000"}], []), (rows, bad))

    def test_pairs_before_a_loop_are_a_table_of_their_own(self):
        rows, _ = self.rows("data_p\n_rlnVoltage 300\nloop_\n_rlnImageName\n1@a.mrcs\n")
        self.assertEqual([{"rlnVoltage": "300"}, {"rlnImageName": "1@a.mrcs"}], rows)

    def test_a_mark_at_the_beginning_comments_and_glued_numbers(self):
        rows, bad = self.rows("\ufeff# version 30001\r\ndata_\r\nloop_\r\n_rlnImageName#1\r\n_rlnDefocusU #2\r\n"
                              "1@a.mrcs 5 # by hand\r\n")
        self.assertEqual(([{"rlnImageName": "1@a.mrcs", "rlnDefocusU": "5"}], []), (rows, bad))

    def test_of_a_label_that_stands_twice_the_first_counts(self):
        rows, _ = self.rows("data_\nloop_\n_rlnOpticsGroup\n_rlnImageName\n_rlnOpticsGroup\n1 1@a.mrcs 7\n")
        self.assertEqual("1", rows[0]["rlnOpticsGroup"])

    def test_words(self):
        self.assertEqual(["a b", "#1", "2"], split_line(b"'a b' \"#1\" 2 #c d"))
        self.assertEqual([(None, "\u00b2@a"), (0, "a"), (12, "b@c")],
                         [split_image("\u00b2@a"), split_image("000@a"), split_image("12@b@c")])


class TestParticleFile(StarCase):
    OPTICS = "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnImagePixelSize\n%s\n"
    PARTICLES = "data_particles\n\nloop_\n_rlnImageName\n_rlnOpticsGroup\n%s\n"

    def group(self, optics, group):
        read = self.read(self.OPTICS % optics + self.PARTICLES % ("1@a.mrcs " + group))
        return read.group({"rlnOpticsGroup": group}).get("rlnVoltage"), read.ungrouped

    def test_groups_are_compared_as_numbers(self):
        for optics, group in (("1.000000 200 1.5", "1"), ("1 200 1.5", "1.000000"), ("2 300 1\n1 200 2", "1"),
                              ("opt_a 200 1", "opt_a")):
            with self.subTest(optics):
                self.assertEqual(("200", 0), self.group(optics, group))

    def test_a_group_that_is_not_there_is_told(self):
        self.assertEqual((None, 1), self.group("1 200 1.5", "3"))
        self.assertIn("belong to an optics group that its table of optics groups does not have",
                      self.read(self.OPTICS % "1 200 1" + self.PARTICLES % "1@a.mrcs 3").complaints("x.star")[0])

    def test_without_a_column_the_only_group_counts(self):
        particles = "data_particles\n\nloop_\n_rlnImageName\n1@a.mrcs\n"
        self.assertEqual("200", self.read(self.OPTICS % "1 200 1.5" + particles).group({})["rlnVoltage"])
        two = self.read(self.OPTICS % "1 200 1.5\n2 300 1" + particles)
        self.assertEqual(({}, 1), (two.group({}), two.ungrouped))

    def test_the_groups_may_come_after_the_particles(self):
        read = self.read(self.PARTICLES % "1@a.mrcs 1" + "\n" + self.OPTICS % "1 200 1.5")
        self.assertEqual(("200", 0), (read.group({"rlnOpticsGroup": "1"})["rlnVoltage"], read.ungrouped))

    def test_a_particle_that_is_not_believed_does_not_cost_the_file(self):
        text = kinds.star_table("", ("rlnImageName", "rlnDefocusU"), [
            ("1@a.mrcs", 1.0), ("2@a.mrcs", "nan"), ("000@b.mrcs", 3.0), ("4@a.mrcs", "-inf"), ("5@a.mrcs", 5.0),
            ("1@b.mrcs", 5.0)])
        read = self.read(text)
        # Which image of b.mrcs is the first is not sure.
        self.assertEqual((2, {"their rlnDefocusU is no number": (2, 0), FROM_ZERO: (2, 0)}),
                         (read.particles, read.unbelieved))
        self.assertIn("2 particles of x.star are skipped: their rlnDefocusU is no number.", read.complaints("x.star"))

    def test_rows_of_a_wrong_length(self):
        read = self.read(kinds.star_table("", ("rlnImageName", "rlnDefocusU"), [("1@a.mrcs", 1.0), ("9", "")]))
        self.assertEqual(1, read.particles)
        self.assertEqual(["1 particles of x.star are skipped: they have not one value for each of the 2 columns, "
                          "first in line 8."], read.complaints("x.star"))
        with self.assertRaisesRegex(BadImageError, "none of its rows can be believed: they have not one value"):
            self.read(kinds.star_table("", ("rlnImageName", "rlnDefocusU"), [("1@a.mrcs", "1 2")]))

    def test_pairs(self):
        read = self.read("data_particles\n_rlnImageName 3@a.mrcs\n_rlnOpticsGroup 1\n")
        self.assertEqual({"a.mrcs": 1}, {stack: len(rows) for stack, rows in read.rows.items()})


class TestSearch(unittest.TestCase):

    def search(self, stacks, stars):
        """``stars``: {path: stacks that it names}; -> the search, after all that it wants was looked at."""
        notes = []
        search = ParticleSearch([RemoteFile(path) for path in stars], [RemoteFile(path) for path in stacks],
                                notes.append)
        while not search.settled:
            file = search.next()
            named = ParticleFile("", None, [], {stack: [0] for stack in stars[file.path]})
            search.took(file, Outcome(Job(file.path, ""), header=named), True)
        return search, "\n".join(notes)

    def test_as_many_files_as_the_stacks_need(self):
        """Seven conformations with a file each."""
        names = ["altconf%d" % number for number in range(7)]
        search, _ = self.search(["d/%s.mrcs" % name for name in names],
                                {"d/%s_particles.star" % name: [name + ".mrcs"] for name in names})
        self.assertEqual(7, len(search.stacks))

    def test_not_without_end(self):
        stars = {"d/%02d.star" % number: ["x%d.mrcs" % number] for number in range(20)}
        search, notes = self.search(["d/a.mrcs"], stars)
        self.assertEqual(20 - MOST_IN_VAIN, len(search._left))
        self.assertIn("the other 15, like d/05.star, were not looked at", notes)

    def test_the_stack_beside_its_file(self):
        stacks = ["d/A/particles.mrcs", "d/B/particles.mrcs"]
        search, _ = self.search(stacks, {"d/A/A.star": ["job1/particles.mrcs"], "d/B/B.star": ["job1/particles.mrcs"]})
        self.assertEqual({"d/A/particles.mrcs": ("d/A/A.star", "job1/particles.mrcs"),
                          "d/B/particles.mrcs": ("d/B/B.star", "job1/particles.mrcs")}, search.stacks)
        matches = match_stacks(["job1/particles.mrcs"], stacks, "d/all.star")
        self.assertEqual(({}, ("job1/particles.mrcs",)), (matches.names, matches.ambiguous))
