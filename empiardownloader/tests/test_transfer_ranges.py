# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bytes next: the plan alone, without sockets, threads or a clock."""
import random
import unittest

from empiardownloader.transfer import ranges
from empiardownloader.transfer.file import FileTransfer, Phase, Piece
from empiardownloader.transfer.jobs import Job
from empiardownloader.transfer.ranges import RangePlan

IS_QUICK = True

MB = 1 << 20


def new(path="job", **options):
    return FileTransfer(Job(path, "", **options))


class TestRangePlan(unittest.TestCase):
    connections = 4

    def claim(self, plan, now):
        return plan.claim(now, self.connections)

    def plan(self, *sizes, connections=4, pace=0.0, whole=False):
        plan, self.connections = RangePlan(), connections
        plan.pace = pace
        for size in sizes:
            file = new()
            plan.files.append(file)
            file.prepared(size, [(0, size)], whole)
        return plan

    def test_a_file_is_prepared_before_the_next_is_turned_to(self):
        plan = RangePlan()
        plan.files = [new("first"), new("second")]
        first = self.claim(plan, 0.0)
        self.assertEqual("first", first.job.path)
        second = self.claim(plan, 0.1)
        self.assertEqual("second", second.job.path)
        second.prepared(8 * MB, [(0, 8 * MB)], False)
        second.busy = False
        # The first file's size will be known in a moment: its ranges go before the second's.
        self.assertIsNone(self.claim(plan, 0.2))
        self.assertIs(second, self.claim(plan, ranges.PREPARE_SECONDS + 1).file)

    def test_nothing_more_of_a_doubted_file_before_its_first_bytes_were_looked_at(self):
        """Its size is told with them, and a moment before they are read."""
        plan = self.plan()
        plan.files = [file] = [new()]
        file.presume(1024, listed=False, awaits_look=True)
        first = self.claim(plan, 0.0)
        file.confirm(8 * MB)
        self.assertEqual((0, 1024), (first.start, first.end))
        self.assertIsNone(self.claim(plan, 10.0))
        # One whose connection is lost before is asked for again.
        file.give_back(first)
        first = self.claim(plan, 10.0)
        self.assertEqual(0, first.start)
        self.assertIsNone(self.claim(plan, 20.0))
        file.awaits_look = False
        self.assertEqual(1024, self.claim(plan, 20.0).start)

    def test_all_connections_work_on_the_earliest_file(self):
        plan = self.plan(8 * MB, 8 * MB)
        pieces = [self.claim(plan, 0.0) for _ in range(6)]
        self.assertEqual([(0, 2 * MB), (2 * MB, 4 * MB), (4 * MB, 6 * MB), (6 * MB, 8 * MB)],
                         [(piece.start, piece.end) for piece in pieces[:4]])
        self.assertEqual([plan.files[1]] * 2, [piece.file for piece in pieces[4:]])

    def test_from_afar_only_the_first_file_is_everybodys(self):
        """Asking takes half a second: ranges after the first file's last sixty times as long."""
        plan = self.plan(8 * MB)
        plan.answered(0.5, False)
        plan.files.append(new())
        plan.files[1].presume(8 * MB, True)
        self.assertEqual(2 * MB, plan.share_of(plan.files[0], 4))
        self.assertEqual(int(ranges.USUAL_PACE * 30), plan.share_of(plan.files[1], 4))
        plan.pace = 1e6
        self.assertEqual(3 * 10 ** 7, plan.share_of(plan.files[1], 4))
        plan.any_whole = True
        self.assertEqual(3 * 10 ** 7, plan.share_of(plan.files[0], 4))
        # Near the archive nothing changes.
        near = self.plan(8 * MB, 8 * MB, pace=3e6)
        near.answered(0.002, False)
        self.assertEqual(3 * 10 ** 6, near.share_of(near.files[1], 4))

    def test_the_gain_reference_does_not_make_the_first_movie_anybodys(self):
        plan = self.plan()
        plan.answered(0.5, False)
        plan.files = [new("gain", urgent=True), new("first"), new("second")]
        for file in plan.files:
            file.presume(8 * MB, True)
        self.assertEqual([2 * MB, 2 * MB, 45 * 10 ** 6], [plan.share_of(file, 4) for file in plan.files])

    def test_the_last_look_goes_along_with_other_bytes(self):
        plan = self.plan(MB, 8 * MB, 8 * MB)
        first = self.claim(plan, 0.0)
        first.position = first.end
        plan.files[0].give_back(first)
        self.assertEqual(Phase.COMPLETE, plan.files[0].phase)
        piece = self.claim(plan, 1.0)
        self.assertEqual((plan.files[0], plan.files[1]), (piece.piggyback, piece.file))
        # Nobody else looks at it meanwhile.
        self.assertIsNone(self.claim(plan, 1.0).piggyback)
        # Nothing was told of it: now it goes by itself.
        plan.files[1].give_back(piece)
        self.assertIs(plan.files[0], self.claim(plan, 1.1))

    def test_the_last_look_goes_alone_where_nothing_else_is_to_be_fetched(self):
        plan = self.plan(MB)
        piece = self.claim(plan, 0.0)
        piece.position = piece.end
        plan.files[0].give_back(piece)
        self.assertIs(plan.files[0], self.claim(plan, 1.0))
        self.assertTrue(plan.files[0].busy)
        self.assertIsNone(self.claim(plan, 1.0))

    def test_the_last_ranges_end_together(self):
        """Five files of 4 MB for eight connections far away: none has to wait for another's last half."""
        plan = RangePlan()
        plan.pace, plan.asking, plan.any_whole, plan.exhausted = float(MB), 0.125, True, True
        for _ in range(5):
            plan.files.append(new(size=4 * MB))
        busy, now, requests, brought = [], 0.0, 0, 0
        while brought < 20 * MB:
            for piece in [piece for piece in busy if piece.position == piece.end]:
                busy.remove(piece)
                piece.file.give_back(piece)
            while len(busy) < 8:
                task = plan.claim(now, 8)
                if task is None:
                    break
                if isinstance(task, FileTransfer):
                    if task.phase == Phase.NEW:
                        task.presume(4 * MB, listed=True)
                        task.confirm(4 * MB)
                        task.busy = False
                    continue
                requests += 1
                busy.append(task)
            for piece in busy:
                if now >= piece.began + plan.asking:
                    step = min(piece.remaining, MB // 8)
                    piece.position += step
                    brought += step
            now += 0.125
        # 20 MB at 8 MB/s, and asking three times; a file for each connection would take 4.125 s.
        self.assertLessEqual(now, 2.5 + 3 * 0.125)
        self.assertLessEqual(requests, 3 * 8)

    def test_a_listed_file_is_asked_for_before_its_size_is_sure(self):
        for size, ends in ((8 * MB, [2, 4, 6, 8]), (9 * MB, [2, 4, 6, 9]), (7 * MB, [2, 4, 6, 7]),
                           (5 * MB, [2, 4, 5, 6]), (MB, [1, 2, 4, 6])):
            plan = RangePlan()
            plan.files = [new(size=8 * MB)]
            file = self.claim(plan, 0.0)
            file.presume(8 * MB, listed=True)
            file.busy = False
            pieces = [self.claim(plan, 0.0) for _ in range(4)]
            self.assertEqual([False, False, False, True], [piece.to_the_end for piece in pieces])
            self.assertIsNone(self.claim(plan, 0.0))
            file.confirm(size)
            self.assertEqual([end * MB for end in ends], [piece.end for piece in pieces])
            self.assertEqual(size, sum(piece.remaining for piece in pieces))
            self.assertIsNone(self.claim(plan, 0.0))

    def test_a_file_of_unknown_size_is_asked_for_its_first_bytes(self):
        plan = RangePlan()
        plan.files = [new(), new(size=MB)]
        file = self.claim(plan, 0.0)
        file.presume(MB, listed=False)
        file.busy = False
        first = self.claim(plan, 0.0)
        self.assertEqual((0, MB, False), (first.start, first.end, first.to_the_end))
        later = self.claim(plan, 0.1)       # prepared in the meantime, but not turned to
        self.assertIs(plan.files[1], later)
        later.presume(MB, listed=True)
        later.busy = False
        self.assertIsNone(self.claim(plan, 0.1))
        file.confirm(3 * MB)
        self.assertEqual([(MB, 2 * MB), (2 * MB, 3 * MB)],
                         [(piece.start, piece.end) for piece in (self.claim(plan, 0.2), self.claim(plan, 0.2))])

    def test_all_comes_to_whoever_asked_for_the_first_bytes(self):
        plan = self.plan(8 * MB)
        pieces = [self.claim(plan, 0.0) for _ in range(3)]
        plan.files[0].comes_whole(pieces[0])
        self.assertEqual([8 * MB, 0, 0], [piece.remaining for piece in pieces])
        for piece in pieces[1:]:
            plan.files[0].give_back(piece)
        self.assertEqual([], plan.files[0].gaps)

    def test_what_lies_on_the_disk_is_not_claimed(self):
        plan, self.connections = RangePlan(), 2
        file = new()
        file.prepared(8 * MB, [(MB, 2 * MB), (6 * MB, 8 * MB)], False)
        plan.files.append(file)
        self.assertEqual(5 * MB, file.bytes_there)
        pieces = [self.claim(plan, 0.0) for _ in range(4)]
        self.assertEqual([(MB, 2 * MB), (6 * MB, 7 * MB + MB // 2), (7 * MB + MB // 2, 8 * MB), None],
                         [piece and (piece.start, piece.end) for piece in pieces])

    def test_a_slow_piece_is_shared_at_the_end(self):
        plan = self.plan(8 * MB, connections=1)
        slow = self.claim(plan, 0.0)
        slow.position = 2 * MB
        self.assertIsNone(self.claim(plan, 1.0))      # it will be done in three seconds
        plan.exhausted = True
        helper = self.claim(plan, 1.0)
        self.assertEqual((5 * MB, 8 * MB), (helper.start, helper.end))
        self.assertEqual(5 * MB, slow.end)

    def test_a_piece_given_back_is_finished_by_another(self):
        plan = self.plan(4 * MB, connections=1)
        piece = self.claim(plan, 0.0)
        piece.position = MB
        plan.files[0].give_back(piece)
        self.assertEqual(Phase.OPEN, plan.files[0].phase)
        rest = self.claim(plan, 1.0)
        self.assertEqual((MB, 4 * MB), (rest.start, rest.end))
        rest.position = 4 * MB
        plan.files[0].give_back(rest)
        self.assertEqual(Phase.COMPLETE, plan.files[0].phase)

    def test_a_file_in_trouble_waits_while_others_go_on(self):
        plan = self.plan(MB, MB, connections=1)
        plan.files[0].trouble.attempts, plan.files[0].not_before = 1, 10.0
        piece = self.claim(plan, 1.0)
        self.assertIs(plan.files[1], piece.file)
        piece.position = piece.end - 1
        self.assertIsNone(self.claim(plan, 2.0))
        self.assertIs(plan.files[0], self.claim(plan, 11.0).file)

    def test_one_request_for_a_file_whose_servers_do_not_agree(self):
        plan = self.plan(8 * MB)
        plan.files[0].single = True
        piece = self.claim(plan, 0.0)
        self.assertEqual((0, 8 * MB), (piece.start, piece.end))
        self.assertIsNone(self.claim(plan, 100.0))

    def test_servers_without_ranges(self):
        plan = self.plan(8 * MB, 8 * MB, whole=True)
        plan.ranges = False
        pieces = [self.claim(plan, 0.0) for _ in range(2)]
        self.assertEqual([(0, 8 * MB), (0, 8 * MB)], [(piece.start, piece.end) for piece in pieces])
        self.assertIsNone(self.claim(plan, 100.0))

    def test_a_hanging_connection_is_found_while_others_are_alive(self):
        plan = self.plan(8 * MB)
        hanging, alive = self.claim(plan, 0.0), self.claim(plan, 0.0)
        alive.last_byte = 20.0
        self.assertEqual([hanging], plan.stalled(20.0, 2))
        self.assertEqual([], plan.stalled(4.0, 2))
        alive.last_byte = 0.0
        self.assertEqual([], plan.stalled(4.0, 2))
        self.assertEqual(1, len(plan.stalled(20.0, 2)))      # the line may be down: one of them finds out
        self.assertEqual([hanging, alive], plan.stalled(20.0, 3))     # a third connection has nothing to do
        alive.last_byte = 20.0
        # From afar the first byte is granted more than the next one.
        plan.answered(1.0, False)
        hanging.last_byte = 15.0
        self.assertEqual([], plan.stalled(20.0, 2))
        plan.arrived(hanging, 1, 15.0)
        self.assertEqual([hanging], plan.stalled(20.0, 2))
        plan.gap = 2.0      # all are slow
        self.assertEqual([], plan.stalled(20.0, 2))
        plan.gap = 0.0
        hanging.last_byte = 0.0
        plan.files[0].trouble.drops = ranges.MOST_DROPS
        self.assertEqual([], plan.stalled(20.0, 2))

    def test_all_that_hang_at_the_same_time(self):
        """One is dropped, to find out whether it is the line; not each of them, and not soon."""
        plan = self.plan(8 * MB, 8 * MB, connections=2)
        plan.answered(0.1, False)
        pieces = [self.claim(plan, 0.0) for _ in range(2)]
        for piece in pieces:
            plan.arrived(piece, 1000, 1.0)
        pieces[1].last_byte = 1.5
        self.assertEqual([], plan.stalled(6.0, 2))
        self.assertEqual([pieces[0]], plan.stalled(1.0 + ranges.ALL_STALLED_SECONDS + 0.1, 2))

    def test_what_was_asked_ahead_does_not_hide_that_all_hang(self):
        plan = self.plan(8 * MB, 8 * MB, connections=2)
        plan.answered(0.1, False)
        pieces = [self.claim(plan, 0.0) for _ in range(2)]
        for piece in pieces:
            piece.connection = object()
            plan.arrived(piece, 1000, 2.0)
        ahead = plan.claim(1.0, 2, ahead=True)
        ahead.is_pipelined = True
        self.assertEqual(1, len(plan.stalled(2.0 + ranges.ALL_STALLED_SECONDS + 0.1, 2)))
        self.assertNotIn(ahead, plan.stalled(2.0 + ranges.ALL_STALLED_SECONDS + 0.1, 2))

    def test_connections_that_hang_are_not_held_against_a_file_that_gets_on(self):
        plan = self.plan(800 * MB, connections=1)
        file = plan.files[0]
        piece = self.claim(plan, 0.0)
        for _ in range(10):
            plan.arrived(piece, 2 * MB, 1.0)
            file.trouble.stalled()
            self.assertEqual(1, file.trouble.drops)
        for drops in range(2, 5):
            plan.arrived(piece, MB // 2, 1.0)
            file.trouble.stalled()
            self.assertEqual(drops, file.trouble.drops)

    def test_a_crawling_connection_is_found(self):
        plan = self.plan(8 * MB)
        crawling, plan.pace = self.claim(plan, 0.0), float(MB)
        plan.files[0].moved(crawling, 1000, 0.5, True)
        plan.files[0].moved(crawling, 19000, 6.0, True)
        self.assertEqual([crawling], plan.stalled(6.0, 2))
        crawling.position = crawling.end - 1000
        self.assertEqual([], plan.stalled(6.0, 2))

    def test_few_files_are_made_known(self):
        plan = RangePlan()
        while plan.wants_more(4):
            plan.files.append(new())
        self.assertEqual(5, len(plan.files))
        for file in plan.files:
            file.trouble.attempts = 1
        self.assertTrue(plan.wants_more(4))     # those in trouble are overtaken
        while plan.wants_more(4):
            plan.files.append(new())
            plan.files[-1].held = True
        self.assertEqual(ranges.MOST_IN_TROUBLE + 1, len(plan.files))
        plan.files = [new() for _ in range(4 + ranges.MOST_FINISHING + 1)]
        for file in plan.files:
            file.phase = Phase.FINISHING
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
            while any(file.phase != Phase.COMPLETE for file in plan.files):
                now += 0.1
                piece = self.claim(plan, now) if len(active) < 8 else None
                if isinstance(piece, Piece):
                    active.append(piece)
                elif isinstance(piece, FileTransfer):
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
        self.assertEqual((Phase.NEW, [], 0, False), (plan.files[0].phase, plan.files[0].gaps, plan.files[0].bytes_there,
                                               plan.files[0].is_abandoned))
