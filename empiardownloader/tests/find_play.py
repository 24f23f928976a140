# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives the windows that find an entry and choose an image set, on a virtual screen. Run by test_find.py.

Usage: python -m empiardownloader.tests.find_play SCENE FOLDER, with the demo archive's addresses in the environment.
Leaves pictures and ``result.json`` in FOLDER, with the longest time for which the window stood still.
"""
import json
import os
import subprocess
import sys
import time
import tkinter as tk
import traceback
import types

from pyworkflow.gui import dialog, gui

from empiardownloader.archive import api
from empiardownloader.constants import addresses
from empiardownloader.download.plan import plan
from empiardownloader.wizards.find import FindDialog
from empiardownloader.wizards.finding import askImage, askRecord
from empiardownloader.wizards.image_sets import ImageSetDialog

BEAT_MS = 10
SECONDS = 100


class Play:
    """A scene is a generator: it yields what it waits for, a function, and goes on once that is true."""

    def __init__(self, folder):
        self.folder = folder
        self.result = {"errors": [], "freeze": 0.0}
        self.root = tk.Tk()
        gui.setCommonFonts(types.SimpleNamespace(root=self.root))
        self.root.geometry("200x100+0+0")
        self.root.report_callback_exception = lambda *error: self.fail("".join(traceback.format_exception(*error)))
        self.root.update()
        self.window = None
        self._beaten = time.monotonic()
        self._deadline = time.monotonic() + SECONDS
        self._beat()

    def _beat(self):
        now = time.monotonic()
        if self.window is not None:
            self.result["freeze"] = max(self.result["freeze"], now - self._beaten - BEAT_MS / 1000)
        self._beaten = now
        self.root.after(BEAT_MS, self._beat)

    def fail(self, message):
        self.result["errors"].append(message)
        self.end()

    def end(self):
        with open(os.path.join(self.folder, "result.json"), "w") as stream:
            json.dump(self.result, stream)
        os._exit(0)

    def open(self, scene, kind, *arguments):
        """A dialog, which blocks, played by a scene -> the dialog, closed."""
        its = scene(self)
        self.window, made = None, []

        class Played(kind):
            def body(self, master):
                made.append(self)
                return kind.body(self, master)

        def step(waiting=lambda: bool(made) and made[0].winfo_viewable()):
            try:
                if time.monotonic() > self._deadline:
                    self.fail("the scene waited too long, in %s" % its.gi_frame)
                if waiting():
                    if self.window is None:
                        self.window = made[0]
                        self._beaten = time.monotonic()
                    waiting = next(its)
            except StopIteration:
                return
            except BaseException:  # noqa: BLE001 - told to the test
                self.fail(traceback.format_exc())
            self.root.after(BEAT_MS, step, waiting)

        self.root.after(BEAT_MS, step)
        closed = Played(self.root, *arguments)
        self.window = None
        return closed

    def picture(self, name):
        window, self.window = self.window, None     # taking it freezes the window
        window.update()
        subprocess.run(["import", "-window", str(window.winfo_id()), os.path.join(self.folder, name + ".png")],
                       check=False)
        self._beaten = time.monotonic()
        self.window = window

    def type(self, text):
        window = self.window
        window.fields.words.set("")
        for end in range(1, len(text) + 1):
            window.fields.words.set(text[:end])

    def answered(self):
        """Whether the list shows what is asked."""
        window = self.window
        return window._asked == window._question() and not window.background.isBusy("search")

    def rows(self):
        return list(self.window.list.get_children())


def first_use(play):
    """No list of entries yet: it is fetched while one types; then everything that the window can do."""
    window, result = play.window, play.result
    yield lambda: window.background.isBusy("harvest")
    result["first"] = window.status.cget("text")
    play.type("apoferritin")
    yield lambda: not window.background.isBusy("harvest") and play.answered() and len(play.rows()) > 1
    result["harvested"] = window.status.cget("text")
    yield lambda: window.background.isBusy("record") or window.entry.getRecord()
    yield lambda: window.entry.getRecord() and window.entry.picture._draw is not None
    result["apoferritin"] = play.rows()
    result["picture"] = window.entry.picture._caption.cget("text")
    play.picture("find_apoferritin")
    window.fields.filters["--format"].set("EER")
    yield play.answered
    result["eer"] = play.rows()
    window.fields.filters["--format"].set("")
    window.fields.filters["--max-size"].set("much")
    yield lambda: "Size up to" in window.status.cget("text")
    result["wrong size"] = window.status.cget("text")
    window.fields.filters["--max-size"].set("")
    play.type("apoferitin")
    yield lambda: play.answered() and window.status.cget("text") not in ("", result["wrong size"])
    result["misspelt"] = window.status.cget("text")
    play.type("")
    window.fields.course.set(True)
    yield play.answered
    result["course"] = [window._shown[row].size_bytes for row in play.rows()]
    play.picture("find_course")
    window.fields.course.set(False)
    window._sortBy("size")
    yield play.answered
    result["smallest"] = [window._shown[row].size_bytes for row in play.rows()[:20]]
    window._sortBy("size")
    yield play.answered
    result["largest"] = [window._shown[row].size_bytes for row in play.rows()[:20]]
    window._sort = ""
    # Quicker than the search: Return uses nothing that was not asked for.
    play.type("tobacco mosaic virus")
    window._handleResult(dialog.RESULT_YES)
    result["not closed"] = bool(window.winfo_exists())
    yield lambda: play.answered() and play.rows()
    result["tmv"] = play.rows()[:1]
    play.type("10200")
    yield lambda: play.answered() and play.rows()
    result["number"] = play.rows()
    window.entry.sets.selection_set("1")
    window._handleResult(dialog.RESULT_YES)


def slow(play):
    """Each answer takes three seconds: cancelled and closed at once."""
    window, result = play.window, play.result
    yield lambda: play.answered() and play.rows()
    yield lambda: window.background.isBusy("record")
    window.entry.picture._toggle()
    yield lambda: window.background.isBusy("image")
    began = time.monotonic()
    yield lambda: time.monotonic() > began + 1
    play.picture("find_slow")
    window.entry.picture._toggle()
    result["cancelled"] = [window.background.isBusy("image"), window.entry.picture._caption.cget("text")]
    window.startHarvest()
    yield lambda: window.background.isBusy("harvest")
    window._toggleHarvest()
    result["stopped"] = window.status.cget("text")
    yield lambda: window.entry.getRecord()
    # What came late belongs to the entry that was selected then.
    window._handleResult(dialog.RESULT_CANCEL)


def image(play):
    """An image of the selected image set."""
    window, result = play.window, play.result
    yield lambda: play.answered() and play.rows() and window.entry.getRecord()
    window.entry.picture._toggle()
    yield lambda: window.entry.picture._draw is not None and not window.background.isBusy("image")
    result["image"] = window.entry.picture._caption.cget("text")
    play.picture("find_image")
    window.entry.picture._enlarge(None)
    yield lambda: True
    # What is seen is an image of what is selected, or nothing.
    window.entry.sets.selection_set("2")
    yield lambda: window.entry.picture._caption.cget("text") != result["image"]
    result["of another"] = window.entry.picture._caption.cget("text")
    window.entry.picture._toggle()
    yield lambda: window.background.isBusy("image")
    window.entry.sets.selection_set("1")
    yield lambda: not window.background.isBusy("image")
    window._handleResult(dialog.RESULT_NO)


def reordered(play):
    """The archive has the image sets in another order than the list of entries."""
    window, result = play.window, play.result
    yield lambda: play.answered() and play.rows() and not window.entry.getRecord()
    window.entry.sets.selection_set("2")
    yield lambda: window.entry.sets.selection() == ("2",)
    result["before"] = window.entry.sets.item("2", "values")[2]
    yield lambda: window.entry.getRecord()
    result["after"] = window.entry.sets.item(window.entry.sets.selection()[0], "values")[2]
    window._handleResult(dialog.RESULT_YES)


def no_line(play):
    window, result = play.window, play.result
    yield lambda: not window.background.isBusy("harvest") and not window.background.isBusy("search") \
        and not window.background.isBusy("elsewhere") and "EMPIAR could not be asked" in window.status.cget("text")
    result["status"] = window.status.cget("text")
    play.picture("find_no_line")
    window._handleResult(dialog.RESULT_YES)
    result["not closed"] = bool(window.winfo_exists())
    window._handleResult(dialog.RESULT_CANCEL)


def choose_set(play):
    window, result = play.window, play.result
    yield lambda: len(window._plans) == len(window._entry.image_sets)
    result["plans"] = [window.tree.item(item, "values") for item in window.tree.get_children()]
    result["text"] = window.text.cget("text")
    window.tree.selection_set("2")
    yield lambda: window.picture.fetch is not None
    window.picture._toggle()
    yield lambda: window.picture._draw is not None
    result["caption"] = window.picture._caption.cget("text")
    play.picture("image_sets")
    window._handleResult(dialog.RESULT_YES)


def main(scene, folder):
    play, where = Play(folder), addresses()
    if scene == "no_line":
        api.FIRST_WAIT_SECONDS = 0.02       # how long is waited between tries is not what it shows
    if scene == "choose_set":
        number = "90001"
        record = askRecord(number, where, None)

        def planned(image_set, measure, job):
            return plan(number, 3, str(image_set), folder=folder, stopped=job.stopped, measure=measure)

        closed = play.open(choose_set, ImageSetDialog, record.entry, 1, planned, lambda image_set, job: askImage(
            number, str(image_set), "", "automatic", where, job))
        play.result["chosen"] = closed.chosen
    else:
        words = {"first_use": "", "slow": "10200", "image": "90001", "no_line": "10200", "reordered": "10028"}[scene]
        closed = play.open(globals()[scene], FindDialog, where, words, "automatic")
        play.result["chosen"] = closed.chosen and [closed.chosen.number, closed.imageSet, closed.resultNo(),
                                                   closed.record is not None]
    play.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
