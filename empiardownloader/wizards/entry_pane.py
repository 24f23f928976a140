# SPDX-License-Identifier: GPL-3.0-or-later
"""What one entry holds, in a window: its facts, its image sets, a picture."""
import functools
import tkinter as tk
from tkinter import ttk

from ..archive.kinds import preferred
from . import finding
from .pictures import PicturePane, inAWindow
from .widgets import boldFont, scrolled

# An entry that is looked at for so long is asked for at the archive.
LOOKED_MS = 400
SET_COLUMNS = (("No.", 30), ("Name", 120), ("Contains", 82), ("Format", 60), ("Images", 60), ("Frames", 62),
               ("Å/px", 45), ("Pixels", 90))


class EntryPane(tk.Frame):
    """ ``background``: of the window; ``onMore``: called once the archive has
    said what the entry is now. """

    def __init__(self, parent, background, addresses, transport, onMore):
        super().__init__(parent)
        self._background, self._addresses, self._transport, self._onMore = background, addresses, transport, onMore
        self._facts = None          # as in the list of entries
        self._records = {}          # number -> Record
        self._looks = {}            # number -> the entry's picture, None where it has none
        self._pictured = None       # the image set that the picture may be of
        self.columnconfigure(0, weight=1)
        self.rowconfigure(0, weight=1)
        self._makeText().grid(row=0, column=0, sticky="news")
        self._makeSets().grid(row=1, column=0, sticky="ew", pady=(4, 4))
        self.picture = PicturePane(self, background, 440, 200)
        self.picture.grid(row=2, column=0, sticky="ew")

    def _makeText(self):
        frame = tk.Frame(self)
        self.text = tk.Text(frame, width=56, height=9, wrap=tk.WORD, relief=tk.FLAT, state=tk.DISABLED, cursor="arrow",
                            font="TkDefaultFont")
        self.text.tag_configure("title", font=boldFont(self))
        self.text.tag_configure("label", foreground="grey30")
        self.text.tag_configure("warning", foreground="#a03000")
        scrolled(frame, self.text)
        return frame

    def _makeSets(self):
        frame = tk.Frame(self)
        self.sets = ttk.Treeview(frame, columns=[name for name, _ in SET_COLUMNS], show="headings", height=4,
                                 selectmode="browse")
        for name, width in SET_COLUMNS:
            self.sets.heading(name, text=name)
            self.sets.column(name, width=width, stretch=name == "Name")
        scrolled(frame, self.sets)
        self.sets.bind("<<TreeviewSelect>>", lambda event: self._selectSet())
        return frame

    # -------------------------- for the window -----------------------

    def show(self, facts):
        """ An entry; None: nothing. """
        self._facts = facts
        for name in ("record", "look"):
            self._background.stop(name)
            self._background.forget(name)
        self.picture.clear()
        self._describe()
        if facts is not None:
            self._background.later("look", LOOKED_MS, self._look)

    def isOf(self, facts):
        return facts is self._facts

    def getRecord(self):
        """ What the archive said of the entry, None where it could not be asked, or has not answered yet. """
        return None if self._facts is None else self._records.get(self._facts.number)

    def getFacts(self):
        """ What is known of the entry by now, None where there is none. """
        record = self.getRecord()
        return self._facts if record is None else finding.newer(self._facts, record.facts)

    def getImageSet(self):
        """ The number of the one that is selected, a text. """
        selected = self.sets.selection()
        return selected[0] if selected else ""

    # -------------------------- its parts -----------------------

    def _describe(self, warning=""):
        facts = self.getFacts()
        self.text.config(state=tk.NORMAL)
        self.text.delete("1.0", tk.END)
        self.sets.delete(*self.sets.get_children())
        if facts is not None:
            self.text.insert(tk.END, "EMPIAR-%d  %s\n" % (facts.number, facts.title[:finding.LETTERS]), "title")
            if warning:
                self.text.insert(tk.END, warning + "\n", "warning")
            for label, line in finding.linesOf(facts):
                self.text.insert(tk.END, label + "  ", "label")
                self.text.insert(tk.END, line + "\n")
            for number, imageSet in enumerate(facts.image_sets, 1):
                self.sets.insert("", tk.END, iid=str(number), values=finding.setRowOf(number, imageSet))
            if facts.image_sets:
                number = str(1 + preferred([each.kind for each in facts.image_sets]))
                self.sets.selection_set(number)
                self.sets.see(number)
        self.text.config(state=tk.DISABLED)

    def _look(self):
        """ Ask the archive for the entry as it is now, and for its picture. """
        number = str(self._facts.number)
        if self.getRecord() is None:
            self._background.start("record", lambda job: finding.askRecord(number, self._addresses, job.stopped),
                                   self._recordCame, self._recordLost)
        if number in self._looks:
            self._lookCame(number, self._looks[number])
        else:
            self._background.start("look", lambda job: finding.askPicture(number, self._addresses, job.stopped),
                                   functools.partial(self._lookCame, number), lambda error: None)

    def _recordCame(self, record):
        before, selected = self.getFacts(), self.getImageSet()
        self._records[record.facts.number] = record
        self._describe()
        # The archive may have them in another order by now.
        chosen = before.image_sets[int(selected) - 1] if selected else None
        its = [number for number, each in enumerate(record.facts.image_sets, 1) if chosen is not None and (
            each.name, each.kind, each.data_format) == (chosen.name, chosen.kind, chosen.data_format)]
        if its:
            self.sets.selection_set(str(its[0] if int(selected) not in its else selected))
        self._onMore()

    def _recordLost(self, error):
        self._describe("As in the list of entries; EMPIAR itself could not be asked: %s" % inAWindow(error))

    def _lookCame(self, number, picture):
        self._looks[number] = picture
        if picture is not None and self.picture.isEmpty():
            self.picture.show(lambda side: picture, "Picture given by the authors")

    def _selectSet(self):
        facts, selected = self._facts, self.getImageSet()
        shown = (facts.number, self.sets.set(selected, "Name"), selected) if facts is not None and selected else None
        if self._pictured not in (None, shown):
            # An image of another image set.
            self.picture.clear()
            if facts is not None and self._looks.get(str(facts.number)) is not None:
                self._lookCame(str(facts.number), self._looks[str(facts.number)])
        self._pictured = shown
        self.picture.fetch = None if shown is None else lambda job: finding.askImage(
            str(facts.number), selected, "", self._transport, self._addresses, job)
        self.picture.button.config(state=tk.NORMAL if self.picture.fetch else tk.DISABLED)
