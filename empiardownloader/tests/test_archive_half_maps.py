# SPDX-License-Identifier: GPL-3.0-or-later
"""R9: halves and their maps, as programs and depositors call them."""
import unittest

from empiardownloader.archive.half_maps import pair_half_maps

IS_QUICK = True


class TestPairs(unittest.TestCase):

    def test_names_of_programs(self):
        for whole, first, second in (
                ("run_class001.mrc", "run_half1_class001_unfil.mrc", "run_half2_class001_unfil.mrc"),
                ("relion.mrc", "relion_half1_unfil.mrc", "relion_half2_unfil.mrc"),
                ("emd_1234.map", "emd_1234_half_map_1.map", "emd_1234_half_map_2.map"),
                ("J12_volume_map.mrc", "J12_volume_map_half_A.mrc", "J12_volume_map_half_B.mrc"),
                ("a_b.mrc", "a_b-half1.mrc", "a_b-half2.mrc"), ("x.mrc", "half1_x.mrc", "half2_x.mrc"),
                ("x_unfil.mrc", "x_half1_unfil.mrc", "x_half2_unfil.mrc"), ("x.mrc", "x half1.mrc", "x half2.mrc")):
            with self.subTest(whole=whole):
                self.assertEqual({whole: (first, second)}, pair_half_maps([second, whole, first, "other.mrc"]))

    def test_of_halves_with_and_without_a_filter(self):
        self.assertEqual({"run_class001.mrc": ("run_half1_class001_unfil.mrc", "run_half2_class001_unfil.mrc")},
                         pair_half_maps(["run_class001.mrc", "run_half1_class001.mrc", "run_half2_class001.mrc",
                                         "run_half1_class001_unfil.mrc", "run_half2_class001_unfil.mrc"]))

    def test_where_names_leave_a_choice_nothing_is_paired(self):
        for names in (["half1.mrc", "half2.mrc", "map.mrc"],                    # of which map?
                      ["a.mrc", "a_half1.mrc"],                                 # one is missing
                      ["a.mrc", "a.map", "a_half1.mrc", "a_half2.mrc"],         # two maps
                      ["a.mrc", "a_half1.mrc", "a_half_1.mrc", "a_half2.mrc"],  # two first halves
                      ["a.mrc", "a_half1.mrc", "b_half2.mrc"],
                      ["a_mask.mrc", "a_half1_mask.mrc", "a_half2_mask.mrc"],
                      ["a.mrc", "a_half1.mrc", "a_halfB.mrc"],
                      ["behalf1.mrc", "be.mrc", "behalf2.mrc"]):
            with self.subTest(names=names):
                self.assertEqual({}, pair_half_maps(names))


if __name__ == "__main__":
    unittest.main()
