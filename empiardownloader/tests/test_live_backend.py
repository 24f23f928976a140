# SPDX-License-Identifier: GPL-3.0-or-later
"""The streaming backends against a viewer without windows: every image once and unchanged, whatever dies, and nothing
left behind."""
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import unittest

import numpy as np

from empiardownloader.live import LiveError, Picks, QueueTracker, places
from empiardownloader.live.backend import CLOSED, NEVER_OPENED
from empiardownloader.live.blocks import Blocks
from empiardownloader.live.outbox import FORGOTTEN, REPLACED
from empiardownloader.live.outgoing import metadata_of
from empiardownloader.tests.follow_case import alive
from empiardownloader.tests.live_case import LiveCase, Publishing, Requesting, crc, left_behind

IS_QUICK = True

BOTH = (Publishing, Requesting)
SENDER = """
import sys, time
import numpy as np
from empiardownloader.tests.live_case import {kind}
backend = {kind}()
backend.open()
for number in range(100):
    backend.save(np.full((100, 100), number, "float32"), "m_%d.mrc" % number)
    if number == 5:
        assert backend.wait(20)
        print(backend.pid, flush=True)
    time.sleep(0.02)
time.sleep(60)
"""


class TestImages(LiveCase):

    def test_all_arrive_once_in_order_and_unchanged(self):
        for kind in BOTH:
            for mode in ("ipc", "tcp"):
                with self.subTest(kind=kind.__name__, mode=mode):
                    backend = self.opened(kind, transport_mode=mode)
                    images = self.images(150)
                    for number, image in enumerate(images):
                        self.assertTrue(backend.save(image, "a/m_%03d.mrc" % number, kind="averages"))
                    self.assertTrue(backend.wait(60), backend.tracker.lost())
                    found = backend.snapshot(self.folder)
                    names = ["m_%03d" % number for number in range(150)]
                    self.assertEqual(names, found["order"])
                    stack, = found["stacks"]
                    self.assertEqual([[name, "", crc(image)] for name, image in zip(names, images)],
                                     stack["pictures"])
                    self.assertEqual((150, 150), backend.tracker.progress())
                    pid = backend.pid
                    backend.cleanup()
                    self.assertFalse(alive(pid))
                    self.assertEqual([], left_behind(os.getpid()))

    def test_kinds_of_numbers_and_sizes(self):
        backend = self.opened()
        kinds = {"uint8": "uint8", "uint16": "uint16", "float32": "float32", "float64": "float32", "int16": "float32",
                 "int32": "float32", "bool": "uint8", ">f4": "float32"}
        for kind in kinds:
            backend.save(np.arange(12).reshape(3, 4).astype(kind)[:, ::-1], "m.mrc", kind=kind)
        for shape in ((1, 1), (5, 1), (700, 3)):
            backend.save(np.ones(shape), "%d x %d.mrc" % shape, kind="sizes")
        self.assertTrue(backend.wait(30), backend.tracker.lost())
        stacks = {stack["name"]: stack["pictures"] for stack in backend.snapshot(self.folder)["stacks"]}
        for kind, shown in kinds.items():
            expected = np.arange(12).reshape(3, 4).astype(kind)[:, ::-1].astype(shown)
            self.assertEqual([["m", "", crc(expected)]], stacks[kind], kind)
        self.assertEqual({"sizes 1 x 1 float32", "sizes 1 x 5 float32", "sizes 3 x 700 float32"},
                         {name for name in stacks if name.startswith("sizes")})

    def test_places_and_replacement(self):
        backend = self.opened()
        images = self.images(4)
        for place, image in zip((3, 1, 2), images):
            backend.save(image, "m_%d.mrc" % place, place=place)
        backend.save(images[3], "m_1.mrc", place=1, remark="again")
        self.assertTrue(backend.wait(30))
        stack, = backend.snapshot(self.folder)["stacks"]
        self.assertEqual([["m_1", "again", crc(images[3])], ["m_2", "", crc(images[2])], ["m_3", "", crc(images[0])]],
                         stack["pictures"])

    def test_batches_and_points(self):
        backend = self.opened(Requesting)
        images = self.images(3)
        self.assertEqual(3, backend.save_batch(images, ["m_%d.mrc" % number for number in range(3)], kind="averages"))
        self.assertTrue(backend.save(Picks([(1, 2), (3.5, 4)], 20), "m_1.mrc"))
        self.assertTrue(backend.wait(30))
        found = backend.snapshot(self.folder)
        self.assertEqual({"m_1": {"": [[[1.0, 2.0], [3.5, 4.0]], 20.0, None, None]}}, found["points"])
        self.assertEqual(3, len(found["stacks"][0]["pictures"]))

    def test_the_array_may_be_used_again(self):
        self.script(delay=0.05)
        backend = self.opened()
        image = np.zeros((10, 10), "float32")
        for number in range(5):
            image[:] = number
            backend.save(image, "m_%d.mrc" % number)
        image[:] = -1
        self.assertTrue(backend.wait(30))
        stack, = backend.snapshot(self.folder)["stacks"]
        self.assertEqual([crc(np.full((10, 10), number, "float32")) for number in range(5)],
                         [picture[2] for picture in stack["pictures"]])

    def test_what_is_no_image_is_refused(self):
        backend = self.opened()
        for wrong in (np.zeros((2, 3, 4)), np.zeros((0, 4)), np.zeros((2, 2), complex), "text", [[object()]]):
            with self.assertRaises(ValueError):
                backend.save(wrong, "m.mrc")
        with self.assertRaises(ValueError):
            backend.save_batch(self.images(2), ["only one"])
        self.assertEqual((0, 0), backend.tracker.progress())

    def test_keywords_of_numpy_and_without_sense(self):
        backend = self.opened()
        image = self.images(1)[0]
        for number, keywords in enumerate((
                {"pixel_size": np.float32(1.5), "place": np.int64(3), "limits": np.array([1.0, 2.0])},
                {"pixel_size": float("nan"), "limits": (2, 1), "binning": -1}, {"limits": (float("inf"), 1, 2)},
                {"kind": 5, "remark": 7, "name": "bytes \udcff", "place": "first"},
                {"metadata": {"array": np.arange(3), "number": np.uint8(2)}})):
            self.assertTrue(backend.save(image, "m_%d.mrc" % number, **keywords))
        self.assertTrue(backend.save(Picks([(1, 2), (float("nan"), 3), (np.inf, 4)]), b"bytes.mrc"))
        with self.assertRaisesRegex(ValueError, "object cannot be sent to a viewer"):
            backend.save(image, "m.mrc", metadata={"what": object()})
        self.assertTrue(backend.wait(20), backend.tracker.lost())
        self.assertEqual([[1.0, 2.0]], backend.snapshot(self.folder)["points"]["bytes"][""][0])

    def test_what_is_forgotten(self):
        self.script(delay=0.05)
        backend = self.opened()
        for number, image in enumerate(self.images(12)):
            backend.save(image, "m_%02d.mrc" % number, source="ab"[number % 2])
        backend.forget("a")
        self.assertTrue(self.wait_for(lambda: not backend.tracker.pending()))
        self.assertEqual({"b"}, {stack["source"] for stack in backend.snapshot(self.folder)["stacks"]})
        self.assertLessEqual(set(backend.tracker.lost()), {FORGOTTEN})

    def test_what_a_name_tells(self):
        self.assertEqual({"name": "TS_01_003_-9.0", "folder": "a", "extension": ".mrc", "numbers": [1, 3, -9.0],
                          "source": "file name"}, metadata_of("x/a/TS_01_003_-9.0.mrc"))
        self.assertEqual([20, 5], metadata_of("m20-5.tif")["numbers"])
        self.assertEqual(".hidden", metadata_of(".hidden")["name"])

    def test_tracker(self):
        tracker = QueueTracker()
        for name in "abcd":
            tracker.register(name)
        tracker.shown("a")
        tracker.shown("a")
        tracker.dropped("b", "full")
        tracker.failed("c", "broken")
        self.assertEqual((1, 4), tracker.progress())
        self.assertEqual({"full": 1, "broken": 1}, tracker.lost())
        self.assertEqual((["d"], [], ["d"]), (tracker.pending(), tracker.stuck(60), tracker.stuck(0)))
        self.assertFalse(tracker.wait(0))
        tracker.shown("d")
        self.assertTrue(tracker.wait(0))


class TestTrouble(LiveCase):

    def test_a_closed_viewer(self):
        for kind in BOTH:
            with self.subTest(kind=kind.__name__):
                self.script(die_after=3, code=0)
                backend = self.opened(kind)
                for number, image in enumerate(self.images(20)):
                    backend.save(image, "m_%d.mrc" % number)
                self.assertTrue(backend.wait_closed(20))
                self.assertEqual("", backend.problem())
                self.assertFalse(backend.save(self.images(1)[0], "late.mrc"))
                self.assertFalse(backend.wait(5))
                shown, asked = backend.tracker.progress()
                # What it had shown when it ended need not have been told by then.
                self.assertLessEqual(shown, 3)
                self.assertEqual((21, {CLOSED: 21 - shown}), (asked, backend.tracker.lost()))
                self.assertEqual([], left_behind(os.getpid()))
                self.script()
                backend.open()
                self.assertTrue(backend.save(self.images(1)[0], "again.mrc"))
                self.assertTrue(self.wait_for(lambda opened=backend, before=shown: opened.tracker.progress() == (
                    before + 1, 22), what="the next one"))
                backend.cleanup()

    def test_a_viewer_that_breaks(self):
        self.script(die_after=0, words="out of memory")
        backend = self.opened()
        backend.save(self.images(1)[0], "m.mrc")
        self.assertTrue(backend.wait_closed(20))
        self.assertEqual("The viewer (napari) has ended: out of memory", backend.problem())

    def test_a_killed_viewer(self):
        for kind in BOTH:
            with self.subTest(kind=kind.__name__):
                self.script(delay=0.05)
                backend = self.opened(kind)
                for number, image in enumerate(self.images(20)):
                    backend.save(image, "m_%d.mrc" % number)
                self.wait_for(lambda opened=backend: opened.tracker.progress()[0] > 2)
                os.kill(backend.pid, signal.SIGKILL)
                self.assertTrue(backend.wait_closed(20))
                self.assertRegex(backend.problem(), "return code -9")
                self.assertEqual([], left_behind(os.getpid()))

    def test_a_frozen_viewer_loses_nothing(self):
        for kind in BOTH:
            with self.subTest(kind=kind.__name__):
                backend = self.opened(kind)
                images = self.images(60)
                backend.save(images[0], "m_000.mrc")
                self.assertTrue(backend.wait(20))
                os.kill(backend.pid, signal.SIGSTOP)
                for number, image in enumerate(images[1:], 1):
                    self.assertTrue(backend.save(image, "m_%03d.mrc" % number))
                time.sleep(1)
                self.assertEqual(1, backend.tracker.progress()[0])
                self.assertEqual(59, len(backend.tracker.stuck(0.5)))
                os.kill(backend.pid, signal.SIGCONT)
                self.assertTrue(backend.wait(30))
                stack, = backend.snapshot(self.folder)["stacks"]
                self.assertEqual([crc(image) for image in images], [picture[2] for picture in stack["pictures"]])

    def test_a_frozen_viewer_is_ended(self):
        backend = self.opened()
        backend.save(self.images(1)[0], "m.mrc")
        self.assertTrue(backend.wait(20))
        pid = backend.pid
        os.kill(pid, signal.SIGSTOP)
        backend.save(self.images(1)[0], "n.mrc")
        backend.cleanup()
        self.assertFalse(alive(pid))
        self.assertEqual([], left_behind(os.getpid()))

    def test_too_slow_a_viewer_drops_the_oldest_and_says_so(self):
        backend = self.opened(most_bytes=5 * 30 * 40 * 4, patience=0)
        backend.save(self.images(1)[0], "m_00.mrc")
        self.assertTrue(backend.wait(20))
        os.kill(backend.pid, signal.SIGSTOP)
        for number, image in enumerate(self.images(30), 1):
            self.assertTrue(backend.save(image, "m_%02d.mrc" % number))
        os.kill(backend.pid, signal.SIGCONT)
        self.assertFalse(backend.wait(20))
        shown, asked = backend.tracker.progress()
        self.assertEqual(31, asked)
        self.assertEqual({REPLACED: 31 - shown}, backend.tracker.lost())
        self.assertEqual(["m_26", "m_27", "m_28", "m_29", "m_30"], backend.snapshot(self.folder)["order"][-5:])

    def test_patience_without_end_drops_nothing(self):
        self.script(delay=0.01)
        backend = self.opened(Requesting, most_bytes=2 * 30 * 40 * 4, patience=float("inf"))
        for number, image in enumerate(self.images(60)):
            self.assertTrue(backend.save(image, "m_%02d.mrc" % number))
        self.assertTrue(backend.wait(30))
        self.assertEqual((60, 60), backend.tracker.progress())

    def test_what_got_lost_on_the_way_is_sent_again(self):
        self.script(forget=4)
        backend = self.opened()
        for number, image in enumerate(self.images(20)):
            backend.save(image, "m_%02d.mrc" % number)
        self.assertTrue(backend.wait(30), backend.tracker.pending())
        self.assertEqual(["m_%02d" % number for number in range(20)], backend.snapshot(self.folder)["order"])

    def test_a_viewer_that_takes_long_to_start(self):
        self.script(start=2)
        backend = self.opened()
        for number, image in enumerate(self.images(5)):
            self.assertTrue(backend.save(image, "m_%d.mrc" % number))
        self.assertTrue(backend.wait(30))

    def test_without_any_viewer(self):
        os.environ["EMPIAR_TEST_PYTHON"] = os.path.join(self.folder, "nothing")
        backend = Publishing()
        with self.assertLogs("empiardownloader.live", "WARNING") as logged:
            self.assertFalse(backend.save(self.images(1)[0], "m.mrc"))
            self.assertFalse(backend.save(self.images(1)[0], "n.mrc"))
        self.assertEqual(1, len(logged.output))
        self.assertIn("cannot be started (no such file or directory)", logged.output[0])
        self.assertEqual({NEVER_OPENED: 2}, backend.tracker.lost())
        self.assertEqual([], left_behind(os.getpid()))

    def test_the_first_image_of_several_threads(self):
        self.script(start=0.5)
        backend = Publishing()
        self.addCleanup(backend.cleanup)
        threads = [threading.Thread(target=backend.save, args=(image, "m_%d.mrc" % number))
                   for number, image in enumerate(self.images(8))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertTrue(backend.wait(20), backend.tracker.lost())
        self.assertEqual((8, 8), backend.tracker.progress())

    def test_strangers_on_a_port_hear_nothing(self):
        """F5: neither images nor the token, which would let them speak for the viewer."""
        backend = self.opened(transport_mode="tcp")
        import zmq
        with zmq.Context() as context, context.socket(zmq.SUB) as stranger:
            stranger.setsockopt(zmq.LINGER, 0)
            stranger.setsockopt(zmq.SUBSCRIBE, b"")
            stranger.connect(backend._sender._link.addresses["images"])
            time.sleep(0.5)
            for number, image in enumerate(self.images(5)):
                backend.save(image, "m_%d.mrc" % number)
            self.assertTrue(backend.wait(20))
            self.assertEqual(0, stranger.poll(500))
        self.assertEqual((5, 5), backend.tracker.progress())

    def test_a_copy_of_the_program_is_told_why(self):
        """F17"""
        backend = self.opened()
        pid = os.fork()
        if not pid:
            backend.save(self.images(1)[0], "m_1.mrc")
            os._exit("copy" not in " ".join(backend.tracker.lost()))
        self.assertEqual(0, os.waitpid(pid, 0)[1])

    def test_strangers_on_a_port_are_not_heard(self):
        backend = self.opened(transport_mode="tcp")
        import zmq
        with zmq.Context() as context, context.socket(zmq.PUSH) as stranger:
            stranger.setsockopt(zmq.LINGER, 0)
            stranger.connect(backend._sender._link.addresses["answers"])
            for word in (b"hello", b"[]", b'{"token": "x", "answers": [{"type": "hello"}]}', b"\xff"):
                stranger.send(word)
            for number, image in enumerate(self.images(5)):
                backend.save(image, "m_%d.mrc" % number)
            self.assertTrue(backend.wait(20))
        self.assertTrue(backend.is_open())

    def test_what_was_not_shown_is_told(self):
        self.script(start=30)
        backend = self.opened()
        for number, image in enumerate(self.images(3)):
            backend.save(image, "m_%d.mrc" % number)
        with self.assertLogs("empiardownloader.live", "WARNING") as logged:
            backend.cleanup()
        self.assertIn("3 images were not shown: the viewer is closed.", logged.output[0])

    def test_many_points_are_not_kept_without_end(self):
        self.script(start=30)
        backend = self.opened(most_bytes=1 << 20, patience=0)
        for number in range(100):
            backend.save(Picks([(1, 2)] * 500), "m_%d.mrc" % number)
        self.assertGreater(backend.tracker.lost()[REPLACED], 80)

    def test_other_machines_and_wrong_modes(self):
        with self.assertRaisesRegex(LiveError, "shown on this machine, not on elsewhere: log in there with ssh"):
            Publishing(host="elsewhere")
        with self.assertRaisesRegex(LiveError, "ipc or tcp, not 'udp'"):
            Publishing(transport_mode="udp")

    def test_a_port_that_is_taken(self):
        first = self.opened(transport_mode="tcp")
        port = int(first._sender._link.addresses["images"].rpartition(":")[2])
        self.refused(Publishing(transport_mode="tcp", port=port), "No way to a viewer can be made: Address already")

    def test_no_other_user_can_enter(self):
        backend = self.opened()
        self.assertEqual(0o700, os.stat(backend._sender._folder).st_mode & 0o777)
        backend.save(np.zeros((50, 50)), "m.mrc")
        self.assertTrue(backend.wait(20))
        blocks = [path for path in left_behind(os.getpid()) if path.startswith(places.SHARED_MEMORY)]
        self.assertEqual({0o600}, {os.stat(path).st_mode & 0o777 for path in blocks})


class TestKills(LiveCase):

    def sender(self, kind):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SENDER.format(kind=kind.__name__))],
                                   stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        viewer = int(process.stdout.readline())
        self.assertNotEqual([], left_behind(process.pid))
        return process, viewer

    def test_a_killed_sender_leaves_nothing(self):
        for kind in BOTH:
            for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
                with self.subTest(kind=kind.__name__, signal=number.name):
                    process, viewer = self.sender(kind)
                    process.send_signal(number)
                    process.wait(20)
                    self.wait_for(lambda pid=viewer: not alive(pid), what="the end of the viewer")
                    self.assertEqual([], left_behind(process.pid))

    def test_what_two_killed_processes_left_is_swept(self):
        process, viewer = self.sender(Publishing)
        living, _ = self.sender(Publishing)
        os.kill(viewer, signal.SIGSTOP)
        process.kill()
        process.wait()
        os.kill(viewer, signal.SIGKILL)
        self.assertNotEqual([], left_behind(process.pid))
        before = left_behind(living.pid)
        self.opened()
        self.assertEqual([], left_behind(process.pid))
        self.assertLessEqual(set(before), set(left_behind(living.pid)))

    def test_two_senders_do_not_meet(self):
        first, second = self.opened(), self.opened()
        for number, image in enumerate(self.images(30)):
            (first, second)[number % 2].save(image, "m_%02d.mrc" % number)
        self.assertTrue(first.wait(20) and second.wait(20))
        self.assertEqual(["m_%02d" % number for number in range(0, 30, 2)], first.snapshot(self.folder)["order"])
        self.assertEqual(["m_%02d" % number for number in range(1, 30, 2)], second.snapshot(self.folder)["order"])


class TestSharedMemory(LiveCase):

    def test_blocks_are_used_again(self):
        blocks = Blocks("empiar_napari_")
        self.addCleanup(blocks.close)
        first = blocks.put(np.zeros((100, 100)))
        blocks.release(first)
        self.assertEqual(first, blocks.put(np.ones((50, 50))))
        second = blocks.put(np.zeros((100, 100)))
        self.assertNotEqual(first, second)
        self.assertEqual(2, len(left_behind(os.getpid())))
        blocks.close()
        self.assertEqual([], left_behind(os.getpid()))

    @unittest.skipUnless(os.getuid() == 0 and os.path.exists("/usr/bin/unshare"), "needs root for a mount of its own")
    def test_shared_memory_that_is_too_small(self):
        script = textwrap.dedent("""
            import logging, os, sys
            logging.basicConfig(format="%(message)s")
            import numpy as np
            from empiardownloader.tests.live_case import Publishing, crc, left_behind
            backend = Publishing()
            backend.open()
            images = [np.full((4096, 4096), number, "float32") for number in range(3)] + [np.zeros((100, 100), "f4")]
            for number, image in enumerate(images):
                backend.save(image, "m_%d.mrc" % number, kind=str(image.shape))
            assert backend.wait(60), backend.tracker.lost()
            stacks = backend.snapshot(sys.argv[1])["stacks"]
            shown = [picture[2] for stack in stacks for picture in stack["pictures"]]
            assert shown == [crc(image) for image in images]
            backend.cleanup()
            assert left_behind(os.getpid()) == [], left_behind(os.getpid())
            print("WHOLE")
            """)
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=16M tmpfs /dev/shm && exec \"$0\" -c \"$1\" \"$2\"",
             sys.executable, script, self.folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=120, check=False)
        self.assertIn("WHOLE", done.stdout)
        self.assertEqual(1, done.stdout.count("The shared memory (/dev/shm) has no room for an image of 67.1 MB (no "
                                              "space left on device): images go through the socket."), done.stdout)
