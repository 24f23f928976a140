# SPDX-License-Identifier: GPL-3.0-or-later
"""The window that chooses an image set: what each would bring, how long it takes, whether there is room; and a look."""
import tkinter as tk
from tkinter import ttk

from pyworkflow.gui import dialog

from ..units import format_bytes, format_seconds
from .background import Background
from .finding import cells
from .pictures import PicturePane, inAWindow
from .widgets import fitToScreen, scrolled

COLUMNS = (("No.", 40), ("Name", 170), ("Category", 180), ("Format", 70), ("Images", 75), ("Å/px", 60),
           ("Scipion set", 110), ("To download", 150),
           ("Time", 90), ("Fits on disk", 95))
# So many image sets are looked at without being selected; each is listed on the server.
LOOKED_AT = 12


class ImageSetDialog(dialog.Dialog):
    """ ``planner(number, measure, job)`` says what a run would bring of an
    image set, ``fetch(number, job)`` gives a picture of its first image.
    ``chosen`` is the number of the image set after *Select*, a text, else ''. """

    def __init__(self, parent, entry, current, planner, fetch):
        self.chosen = ""
        self._entry, self._current, self._planner, self._fetch = entry, current, planner, fetch
        self._plans = {}            # number -> Plan, or the sentence why there is none
        self._measured = False      # whether the rate is known
        self._first = None          # the image set that is planned before the others
        super().__init__(parent, "Image sets of %s" % entry.name, default="Select", buttons=[
            ("Select", dialog.RESULT_YES), ("Cancel", dialog.RESULT_CANCEL)])

    def body(self, master):
        self.background = Background(self)
        master.columnconfigure(0, weight=1)
        master.rowconfigure(0, weight=1)
        top = tk.Frame(master)
        top.grid(row=0, column=0, sticky="news")
        self.tree = ttk.Treeview(top, columns=[name for name, _ in COLUMNS], show="headings", height=9,
                                 selectmode="browse")
        for name, width in COLUMNS:
            self.tree.heading(name, text=name)
            self.tree.column(name, width=width, stretch=name in ("Name", "Category"))
        scrolled(top, self.tree)
        below = tk.Frame(master)
        below.grid(row=1, column=0, sticky="ew", pady=(6, 0))
        below.columnconfigure(0, weight=1)
        self.text = tk.Label(below, anchor="nw", justify=tk.LEFT, wraplength=520)
        self.text.grid(row=0, column=0, sticky="nw")
        self.picture = PicturePane(below, self.background, 440, 220)
        self.picture.grid(row=0, column=1, sticky="ne")
        for imageSet in self._entry.image_sets:
            self.tree.insert("", tk.END, iid=str(imageSet.number), values=self._row(imageSet))
        self.tree.bind("<<TreeviewSelect>>", lambda event: self._select())
        self.tree.bind("<Double-1>", lambda event: self.tree.identify_row(event.y) and self._handleResult(
            dialog.RESULT_YES))
        first = str(self._current or next((each.number for each in self._entry.image_sets), ""))
        if first:
            self.tree.selection_set(first)
            self.tree.focus(first)
            self.tree.see(first)
        self.initial_focus = self.tree
        fitToScreen(self)

    @staticmethod
    def _row(imageSet, *planned):
        texts = (imageSet.number, imageSet.name or imageSet.directory, imageSet.category, imageSet.data_format,
                 imageSet.num_images, imageSet.pixel_size and "%g" % imageSet.pixel_size,
                 "none (files only)" if imageSet.kind.files_only else imageSet.kind.name)
        return cells(texts) + (planned or ("...", "", ""))

    def _number(self):
        selected = self.tree.selection()
        return int(selected[0]) if selected else None

    def _select(self):
        number = self._number()
        if number is None:
            return
        self.picture.clear()
        self.picture.fetch = lambda job: self._fetch(number, job)
        self._tell()
        if number not in self._plans and not (self._first == number and self.background.isBusy("plan")):
            self._plan(number)

    def _plan(self, first):
        """ Of the selected image set, and then of those that are left. """
        others = [each.number for each in self._entry.image_sets if each.number not in self._plans]
        numbers = [first, *[number for number in others[:LOOKED_AT] if number != first]]

        def work(job):
            for number in numbers:
                if job.stopped.is_set():
                    return
                try:
                    found = self._planner(number, not self._measured, job)
                except Exception as error:  # noqa: BLE001 - shown in its row
                    found = inAWindow(error)
                job.tell(self._planned, number, found)

        self._first = first
        self.background.start("plan", work, lambda done: None, lambda error: self.text.config(text=inAWindow(error)))

    def _planned(self, number, plan):
        if not isinstance(plan, str):
            self._measured = True
        self._plans[number] = plan
        imageSet = next(each for each in self._entry.image_sets if each.number == number)
        if isinstance(plan, str):
            values = ("?", "", "")
        else:
            values = ("%d %s, %s" % (plan.images, plan.counts(plan.images), format_bytes(plan.bytes)),
                      "" if plan.seconds is None else format_seconds(plan.seconds), "yes" if plan.fits else "NO")
        self.tree.item(str(number), values=self._row(imageSet, *values))
        if number == self._number():
            self._tell()

    def _tell(self):
        plan = self._plans.get(self._number())
        if plan is None:
            self.text.config(text="Listing what a run with this form would bring, and measuring the rate ...")
        elif isinstance(plan, str):
            self.text.config(text=plan)
        else:
            self.text.config(text="\n".join(["A run with this form would bring:", *plan.as_lines()[1:]]))

    def validate(self):
        return int(self._number() is not None)

    def apply(self):
        self.chosen = str(self._number())

    def destroy(self):
        self.background.close()
        super().destroy()
