# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bytes next: the plan alone, without sockets, threads or a clock."""
import random
import unittest

from empiardownloader.transfer import ranges
from empiardownloader.transfer.ranges import COMPLETE, NEW, OPEN, FileOnItsWay, Piece, Plan

MB = 1 << 20


class TestPlan(unittest.TestCase):

    def plan(self, *sizes, connections=4, pace=0.0, whole=False):
        plan = Plan()
        for size in sizes:
            file = FileOnItsWay("job")
            file.prepared(size, [(0, size)], whole, connections, pace)
            plan.files.append(file)
        return plan

    def test_a_file_is_prepared_before_the_next_is_turned_to(self):
        plan = Plan()
        plan.files = [FileOnItsWay("first"), FileOnItsWay("second")]
        first = plan.claim(0.0)
        self.assertEqual("first", first.job)
        second = plan.claim(0.1)
        self.assertEqual("second", second.job)
        second.prepared(8 * MB, [(0, 8 * MB)], False, 4, 0)
        second.busy = False
        # The first file's size will be known in a moment: its ranges go before the second's.
        self.assertIsNone(plan.claim(0.2))
        self.assertIs(second, plan.claim(ranges.PREPARE_SECONDS + 1).file)

    def test_all_connections_work_on_the_earliest_file(self):
        plan = self.plan(8 * MB, 8 * MB)
        pieces = [plan.claim(0.0) for _ in range(6)]
        self.assertEqual([(0, 2 * MB), (2 * MB, 4 * MB), (4 * MB, 6 * MB), (6 * MB, 8 * MB)],
                         [(piece.start, piece.end) for piece in pieces[:4]])
        self.assertEqual([plan.files[1]] * 2, [piece.file for piece in pieces[4:]])

    def test_what_lies_on_the_disk_is_not_claimed(self):
        plan = Plan()
        file = FileOnItsWay("job")
        file.prepared(8 * MB, [(MB, 2 * MB), (6 * MB, 8 * MB)], False, 2, 0)
        plan.files.append(file)
        self.assertEqual(5 * MB, file.bytes_there)
        pieces = [plan.claim(0.0) for _ in range(4)]
        self.assertEqual([(MB, 2 * MB), (6 * MB, 7 * MB + MB // 2), (7 * MB + MB // 2, 8 * MB), None],
                         [piece and (piece.start, piece.end) for piece in pieces])

    def test_a_slow_piece_is_shared_at_the_end(self):
        plan = self.plan(8 * MB, connections=1)
        slow = plan.claim(0.0)
        slow.position = 2 * MB
        self.assertIsNone(plan.claim(1.0))      # it will be done in three seconds
        plan.exhausted = True
        helper = plan.claim(1.0)
        self.assertEqual((5 * MB, 8 * MB), (helper.start, helper.end))
        self.assertEqual(5 * MB, slow.end)

    def test_a_piece_given_back_is_finished_by_another(self):
        plan = self.plan(4 * MB, connections=1)
        piece = plan.claim(0.0)
        piece.position = MB
        plan.files[0].give_back(piece)
        self.assertEqual(OPEN, plan.files[0].phase)
        rest = plan.claim(1.0)
        self.assertEqual((MB, 4 * MB), (rest.start, rest.end))
        rest.position = 4 * MB
        plan.files[0].give_back(rest)
        self.assertEqual(COMPLETE, plan.files[0].phase)

    def test_a_file_in_trouble_waits_while_others_go_on(self):
        plan = self.plan(MB, MB, connections=1)
        plan.files[0].faults, plan.files[0].not_before = 1, 10.0
        piece = plan.claim(1.0)
        self.assertIs(plan.files[1], piece.file)
        piece.position = piece.end - 1
        self.assertIsNone(plan.claim(2.0))
        self.assertIs(plan.files[0], plan.claim(11.0).file)

    def test_one_request_for_a_file_whose_servers_do_not_agree(self):
        plan = self.plan(8 * MB)
        plan.files[0].single = True
        piece = plan.claim(0.0)
        self.assertEqual((0, 8 * MB), (piece.start, piece.end))
        self.assertIsNone(plan.claim(100.0))

    def test_servers_without_ranges(self):
        plan = self.plan(8 * MB, 8 * MB, whole=True)
        plan.ranges = False
        self.assertEqual([(0, 8 * MB), (0, 8 * MB)], [(p.start, p.end) for p in (plan.claim(0.0), plan.claim(0.0))])
        self.assertIsNone(plan.claim(100.0))

    def test_a_hanging_connection_is_found_while_others_are_alive(self):
        plan = self.plan(8 * MB)
        hanging, alive = plan.claim(0.0), plan.claim(0.0)
        alive.last_byte = 20.0
        self.assertEqual([hanging], plan.hung(20.0))
        self.assertEqual([], plan.hung(5.0))
        alive.last_byte = 0.0
        self.assertEqual([], plan.hung(20.0))      # the line is down: that is another matter
        alive.last_byte = 20.0
        plan.files[0].drops = ranges.MOST_DROPS
        self.assertEqual([], plan.hung(20.0))

    def test_a_crawling_connection_is_found(self):
        plan = self.plan(8 * MB)
        crawling, plan.pace = plan.claim(0.0), float(MB)
        crawling.position, crawling.last_byte = 20000, 6.0
        self.assertEqual([crawling], plan.hung(6.0))
        crawling.position = crawling.end - 1000
        self.assertEqual([], plan.hung(6.0))

    def test_few_files_are_made_known(self):
        plan = Plan()
        while plan.wants_more(4):
            plan.files.append(FileOnItsWay("job"))
        self.assertEqual(5, len(plan.files))
        for file in plan.files:
            file.faults = 1
        self.assertTrue(plan.wants_more(4))     # those in trouble are overtaken
        while plan.wants_more(4):
            plan.files.append(FileOnItsWay("job"))
            plan.files[-1].held = True
        self.assertEqual(ranges.MOST_IN_TROUBLE + 1, len(plan.files))
        plan.files = [FileOnItsWay("job") for _ in range(4 + ranges.MOST_ENDING + 1)]
        for file in plan.files:
            file.phase = ranges.ENDING
        self.assertFalse(plan.wants_more(4))

    def test_every_byte_once_whatever_happens(self):
        """Random connections that break, crawl and finish: together they bring each byte exactly once."""
        for seed in range(200):
            chance = random.Random(seed)
            sizes = [chance.randint(1, 9 * MB) for _ in range(3)]
            plan = self.plan(*sizes, connections=chance.randint(1, 8))
            plan.exhausted = chance.random() < 0.5
            covered = [[] for _ in sizes]
            active, now = [], 0.0
            while any(file.phase != COMPLETE for file in plan.files):
                now += 0.1
                piece = plan.claim(now) if len(active) < 8 else None
                if isinstance(piece, Piece):
                    active.append(piece)
                elif isinstance(piece, FileOnItsWay):
                    piece.busy = True
                for piece in list(active):
                    step = min(piece.remaining, chance.randint(0, 2 * MB))
                    covered[plan.files.index(piece.file)].append((piece.position, piece.position + step))
                    piece.position += step
                    if piece.remaining == 0 or chance.random() < 0.1:
                        active.remove(piece)
                        piece.file.give_back(piece)
            for spans, size in zip(covered, sizes):
                position = 0
                for start, end in sorted(span for span in spans if span[0] < span[1]):
                    self.assertEqual(position, start)
                    position = end
                self.assertEqual(size, position)

    def test_begin_again(self):
        plan = self.plan(MB)
        plan.files[0].restart = True
        plan.files[0].begin_again()
        self.assertEqual((NEW, [], 0, False), (plan.files[0].phase, plan.files[0].gaps, plan.files[0].bytes_there,
                                               plan.files[0].ending))
