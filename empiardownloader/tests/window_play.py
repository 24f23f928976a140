# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user does at napari's and ImageJ's windows, done in the viewer's own process; run by test_live_windows.py.

Usage: PYTHON window_play.py napari|fiji FOLDER JAR, FOLDER being live/window. Prints JSON.
"""
import json
import os
import sys
import time

import numpy


class Sender:
    """Messages in place of those of the sockets."""

    def __init__(self):
        self._queue, self._count = [], 0
        self.failed = []

    def send(self, array, path, kind, limits):
        self._count += 1
        self._queue.append(({"type": "images", "images": [{
            "image_id": "play_%d" % self._count, "data_type": "image", "dtype": array.dtype.str,
            "shape": list(array.shape), "path": path, "array": array,
            "display": {"name": path, "kind": kind, "limits": limits}}]}, []))

    def messages(self, most):
        found, self._queue = self._queue[:most], self._queue[most:]
        return found

    def is_new(self, image):
        return True

    def array(self, image, parts):
        return image["array"]

    def answer(self, **words):
        if words.get("status") == "failed":
            self.failed.append(words["error"])

    def answered(self):
        pass


def play_napari():
    import live_loop
    import live_napari
    from qtpy.QtWidgets import QApplication

    def settle():
        loop.turn()
        for _ in range(10):
            QApplication.processEvents()
            time.sleep(0.02)

    def greys():
        """{grey level: pixels} on the canvas."""
        picture = numpy.asarray(window.viewer.screenshot(canvas_only=True, flash=False))[..., :3]
        plain = picture[(picture == picture[..., :1]).all(axis=-1)][:, 0]
        return numpy.bincount(plain, minlength=256)

    sender = Sender()
    window = live_napari.NapariScreen({})
    loop = live_loop.ViewerLoop(sender, window, "play")
    window.open()
    levels = {"averages": 250, "spectra": 190, "masks": 130, "sums": 70}
    for kind, level in levels.items():
        sender.send(numpy.full((60, 80), level, "uint8"), "m_0", kind, [0, 255])
        settle()
    found = greys()
    shown = {kind: int(found[level - 2:level + 3].sum()) for kind, level in levels.items()}
    # The next movie has an average only, whose black is grey to those that have nothing here.
    sender.send(numpy.full((60, 80), 250, "uint8"), "m_1", "averages", [0, 255])
    sender.send(numpy.full((60, 80), 30, "float32"), "m_0", "others", [-100, 100])
    settle()
    window.viewer.dims.set_current_step(0, 1)
    settle()
    found = greys()
    nothing = int(found[120:136].sum())
    # 3D, and what is read then.
    reads, read = [], live_napari.Planes._read
    live_napari.Planes._read = lambda planes, index: reads.append(index) or read(planes, index)
    for number in range(2, 40):
        sender.send(numpy.full((60, 80), 250, "uint8"), "m_%d" % number, "averages", [0, 255])
    for _ in range(6):
        settle()
    reads.clear()
    window.viewer.dims.ndisplay = 3
    settle()
    return {"shown": shown, "nothing": nothing, "ndisplay": window.viewer.dims.ndisplay, "read": len(set(reads)),
            "failed": sender.failed}


def play_imagej(jar):
    import live_imagej
    import live_loop
    # Time enough for a machine with other work.
    live_imagej.SETTLE_SECONDS = 4
    sender, found = Sender(), {}

    def look(seconds=0.0):
        until = time.monotonic() + seconds
        loop.turn()
        while time.monotonic() < until:
            loop.turn()
            time.sleep(0.05)

    windows = live_imagej.ImageJScreen({"jars": [jar], "home": ""})
    loop = live_loop.ViewerLoop(sender, windows, "play")
    windows.open()
    sender.send(numpy.arange(4800, dtype="float32").reshape(60, 80), "m_0", "averages", [1000, 2000])
    look(1)
    view, = windows._views.values()
    # What ImageJ's own thread does some time after an image was shown.
    view._image.setDisplayRange(0, 4799)
    look(0.5)
    found["after its own look"] = list(view._range())
    sender.send(numpy.arange(4800, dtype="float32").reshape(60, 80), "m_1", "averages", [1100, 2100])
    look(live_imagej.SETTLE_SECONDS + 2)
    found["the next"] = list(view._range())
    view._image.setDisplayRange(5, 10)
    look(0.5)
    sender.send(numpy.arange(4800, dtype="float32").reshape(60, 80), "m_2", "averages", [1200, 2200])
    look(1)
    found["the user's"] = list(view._range())
    return dict(found, failed=sender.failed)


if __name__ == "__main__":
    viewer, folder, jar = sys.argv[1:]
    sys.path.insert(0, folder)
    result = play_napari() if viewer == "napari" else play_imagej(jar)
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    # Qt's and Java's ways to end may hang when windows were open.
    os._exit(0)
