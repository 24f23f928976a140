# SPDX-License-Identifier: GPL-3.0-or-later
"""The window *Find an entry*: a search among all entries of EMPIAR, with what each holds and a look at it."""
import functools
import tkinter as tk
from tkinter import ttk

from pyworkflow.gui import dialog
from pyworkflow.utils import Icon

from ..archive.kinds import preferred
from ..archive.stopping import StopToken
from ..catalogue.harvest import harvest
from ..catalogue.store import ORDERS, Store, default_path
from . import finding
from .background import Background
from .pictures import PicturePane, inAWindow
from .widgets import boldFont, fitToScreen, scrolled, wrapped

USE, WORKFLOW, CLOSE, UPDATE = "Use this entry", "Make its workflow", "Close", "Update list"
# After so long without a key: the list on this machine is asked, then the archive itself.
TYPED_MS, ELSEWHERE_MS = 150, 900
# An entry that is looked at for so long is asked for at the archive.
LOOKED_MS = 400
COLUMNS = (("number", "Entry", 60), ("title", "Title", 260), ("size", "Size", 75), ("resolution", "Resolution", 100),
           ("holds", "Contains", 150), ("date", "Released", 90))
SET_COLUMNS = (("No.", 30), ("Name", 120), ("Contains", 82), ("Format", 60), ("Images", 60), ("Frames", 62),
               ("Å/px", 45), ("Pixels", 90))


class FindDialog(dialog.Dialog):
    """ After *Use this entry* ``chosen`` is its facts and ``imageSet`` the
    number of the image set, a text; ``record`` what the archive said of it,
    None where it could not be asked. ``resultNo()``: its workflow is wanted. """

    def __init__(self, parent, addresses, words, transport):
        self.chosen = self.record = None
        self.imageSet = ""
        self._addresses, self._words, self._transport = addresses, words, transport
        self._answer = None         # what the list shows
        self._kept = None           # the question of what was shown before
        self._asked = None          # the words and filters that it answers
        self._shown = {}            # item of the list -> facts
        self._records = {}          # number -> Record
        self._pictured = None       # the image set that the picture may be of
        self._looks = {}            # number -> the entry's picture, None where it has none
        self._sort, self._reverse = "", False
        self._harvestEnded = False  # here, whatever came of it
        self._notice = ""           # what came of it, until the next key
        self._made = {}             # result -> its button
        super().__init__(parent, "Find an entry of EMPIAR", default=USE, buttons=[
            (USE, dialog.RESULT_YES), (WORKFLOW, dialog.RESULT_NO), (CLOSE, dialog.RESULT_CANCEL)], icons={
            dialog.RESULT_YES: Icon.BUTTON_SELECT, dialog.RESULT_CANCEL: Icon.BUTTON_CANCEL})

    # -------------------------- widgets -----------------------

    def body(self, master):
        self.background = Background(self)
        master.columnconfigure(0, weight=1)
        master.rowconfigure(2, weight=1)
        self._makeField(master).grid(row=0, column=0, sticky="ew")
        self._makeFilters(master).grid(row=1, column=0, sticky="ew", pady=(4, 4))
        panes = ttk.PanedWindow(master, orient=tk.HORIZONTAL)
        panes.grid(row=2, column=0, sticky="news")
        panes.add(self._makeList(panes), weight=3)
        panes.add(self._makeDetails(panes), weight=2)
        status = tk.Frame(master)
        status.grid(row=3, column=0, sticky="ew")
        status.columnconfigure(0, weight=1)
        self.status = tk.Label(status, anchor="w", justify=tk.LEFT)
        self.status.grid(row=0, column=0, sticky="ew")
        self.age = tk.Label(status, anchor="e")
        self.age.grid(row=0, column=1, padx=6)
        self.refreshButton = tk.Button(status, text=UPDATE, command=self._toggleHarvest)
        self.refreshButton.grid(row=0, column=2)
        self.status.bind("<Configure>", lambda event: self.status.config(wraplength=max(event.width - 10, 200)))
        self.initial_focus = self.field
        fitToScreen(self)
        self.search()

    def buttonbox(self, btnFrame):
        super().buttonbox(btnFrame)
        self._enableButtons()

    def _createButton(self, frame, text, result):
        self._made[result] = super()._createButton(frame, text, result)
        return self._made[result]

    def _makeField(self, parent):
        frame = tk.Frame(parent)
        frame.columnconfigure(1, weight=1)
        tk.Label(frame, text="Find").grid(row=0, column=0, padx=(0, 6))
        self.words = tk.StringVar(self, self._words)
        self.field = tk.Entry(frame, textvariable=self.words)
        # Tk takes it for the beginning of the line.
        self.field.bind("<Control-a>", lambda event: self.field.selection_range(0, tk.END) or "break")
        self.field.grid(row=0, column=1, sticky="ew")
        self.field.icursor(tk.END)
        self.field.selection_range(0, tk.END)
        self.words.trace_add("write", self._typed)
        self.field.bind("<Down>", lambda event: self.list.focus_set())
        tk.Label(frame, text="a protein, an author, a number; or an EMDB or PDB code", fg="grey30").grid(
            row=0, column=2, padx=6)
        return frame

    def _makeFilters(self, parent):
        frame = tk.Frame(parent)
        self.filters = {}
        choices = {"--kind": finding.KIND_NAMES, "--format": finding.FORMATS, "--method": finding.METHOD_NAMES}
        widths = {"--kind": 13, "--format": 6, "--method": 20, "--max-size": 8, "--resolution": 5, "--pixel-size": 8,
                  "--microscope": 10, "--year": 9}
        hints = {"--max-size": "like 500GB", "--resolution": "Å or better", "--pixel-size": "Å, like 0.6-1.1",
                 "--year": "like 2020-2023"}
        cells = []
        for option, width in widths.items():
            cell = tk.Frame(frame)
            cells.append(cell)
            tk.Label(cell, text=finding.FIELDS[option]).pack(side=tk.LEFT)
            variable = self.filters[option] = tk.StringVar(self)
            if option in choices:
                box = ttk.Combobox(cell, textvariable=variable, width=width, values=("", *choices[option]))
            else:
                box = tk.Entry(cell, textvariable=variable, width=width)
            box.pack(side=tk.LEFT, padx=(4, 2))
            if option in hints:
                tk.Label(cell, text=hints[option], fg="grey30").pack(side=tk.LEFT)
            variable.trace_add("write", self._typed)
        self.course = tk.BooleanVar(self, False)
        check = tk.Checkbutton(frame, text=finding.FIELDS["--course"], variable=self.course, command=self._typed)
        dialog.ToolTip(check, finding.COURSE_HELP, delay=300)
        wrapped(frame, [*cells, check])
        return frame

    def _makeList(self, parent):
        frame = tk.Frame(parent)
        self.list = ttk.Treeview(frame, columns=[name for name, _, _ in COLUMNS], show="headings", height=17,
                                 selectmode="browse")
        for name, text, width in COLUMNS:
            sortable = name != "holds"
            self.list.heading(name, text=text, command=functools.partial(self._sortBy, name) if sortable else "")
            self.list.column(name, width=width, minwidth=width // 2, stretch=name == "title",
                             anchor=tk.E if name in ("size", "resolution") else tk.W)
        scrolled(frame, self.list)
        self.list.bind("<<TreeviewSelect>>", lambda event: self._select())
        self.list.bind("<Double-1>", lambda event: self.list.identify_row(event.y) and self._handleResult(
            dialog.RESULT_YES))
        return frame

    def _makeDetails(self, parent):
        frame = tk.Frame(parent)
        frame.columnconfigure(0, weight=1)
        frame.rowconfigure(0, weight=1)
        top = tk.Frame(frame)
        top.grid(row=0, column=0, sticky="news")
        self.details = tk.Text(top, width=56, height=9, wrap=tk.WORD, relief=tk.FLAT, state=tk.DISABLED, cursor="arrow",
                               font="TkDefaultFont")
        self.details.tag_configure("title", font=boldFont(self))
        self.details.tag_configure("label", foreground="grey30")
        self.details.tag_configure("warning", foreground="#a03000")
        scrolled(top, self.details)
        below = tk.Frame(frame)
        below.grid(row=1, column=0, sticky="ew", pady=(4, 4))
        self.sets = ttk.Treeview(below, columns=[name for name, _ in SET_COLUMNS], show="headings", height=4,
                                 selectmode="browse")
        for name, width in SET_COLUMNS:
            self.sets.heading(name, text=name)
            self.sets.column(name, width=width, stretch=name == "Name")
        scrolled(below, self.sets)
        self.sets.bind("<<TreeviewSelect>>", lambda event: self._selectSet())
        self.picture = PicturePane(frame, self.background, 440, 200)
        self.picture.grid(row=2, column=0, sticky="ew")
        return frame

    # -------------------------- searching -----------------------

    def _typed(self, *_):
        self._notice = ""
        self.searchSoon()

    def searchSoon(self):
        self.background.later("search", TYPED_MS, self.search)

    def _question(self):
        values = {option: variable.get() for option, variable in self.filters.items()}
        values["--course"] = self.course.get()
        return self.words.get().strip(), values, self._sort, self._reverse

    def search(self):
        """ Ask this machine's list; where that has nothing, the archive a moment later. """
        self.background.forget("elsewhere")
        self.background.forget("search")
        self.background.stop("elsewhere")
        question = self._question()
        try:
            query = finding.makeQuery(*question)
        except ValueError as error:
            self.background.stop("search")
            self.status.config(text=str(error))
            return
        self.background.start("search", lambda job: finding.findHere(query, self._addresses),
                              functools.partial(self._found, question, query),
                              lambda error: self._cannotSearch(question, query, error))

    def _found(self, question, query, answer):
        self._asked = question
        self._show(answer)
        self.age.config(text=finding.ageOf(answer))
        if answer.age is None and not self._harvestEnded and not self.background.isBusy("harvest"):
            self.startHarvest()
        if (not answer.found.entries or answer.found.is_loose) and query.words:
            self.background.later("elsewhere", ELSEWHERE_MS, lambda: self._searchElsewhere(question, query, answer))

    def _cannotSearch(self, question, query, error):
        """ The list of entries cannot be read: a number can be asked for all the same. """
        self._asked = question
        answer = finding.Answer(finding.Found([], 0, inAWindow(error)), 0, None)
        self._show(answer)
        if finding.namesOneEntry(query.words):
            self._searchElsewhere(question, query, answer)

    def _searchElsewhere(self, question, query, answer):
        why = finding.inFields(answer.found.why)
        self._say(why, "Asking EMPIAR ...")
        self.background.start(
            "elsewhere",
            lambda job: finding.findElsewhere(query, answer.found, self._addresses, job.stopped),
            lambda found: question == self._asked and self._show(answer._replace(found=found, entries=0)),
            lambda error: question == self._asked and self._say(why, inAWindow(error)))

    def _show(self, answer):
        """ The entries found, the first one selected, or the one that was. """
        before = self._facts()
        self._answer = answer
        self.list.delete(*self.list.get_children())
        self._shown = {str(facts.number): facts for facts in answer.found.entries}
        for item, facts in self._shown.items():
            self.list.insert("", tk.END, iid=item, values=finding.rowOf(facts))
        self._tell()
        # The same question's answer has grown: what is looked at stays. Another question's begins at its first.
        kept = str(before.number) if before is not None and self._kept == self._asked else ""
        self._kept = self._asked
        first = kept if kept in self._shown else next(iter(self._shown), None)
        if first is not None:
            self.list.selection_set(first)
            self.list.focus(first)
            self.list.see(first)
        else:
            self._select()

    def _tell(self):
        """ How many there are, and why none. """
        if self.background.isBusy("harvest"):
            return
        found = self._answer.found
        text = finding.counted(self._answer, len(self._shown)) if found.entries else ""
        self._say(self._notice, finding.inFields(found.why), text)

    def _say(self, *texts):
        self.status.config(text=" ".join(filter(None, texts)))

    def _sortBy(self, name):
        self._reverse = not self._reverse if self._sort == name else False
        self._sort = name
        for column, text, _ in COLUMNS:
            rises = (ORDERS[name][1] if name in ORDERS else False) == self._reverse
            mark = (" ▲" if rises else " ▼") if column == name else ""
            self.list.heading(column, text=text + mark)
        self.search()

    # -------------------------- the list of entries -----------------------

    def _toggleHarvest(self):
        if self.background.isBusy("harvest"):
            self.background.stop("harvest")
            self._harvestOver("Stopped; what has come is kept.")
        else:
            self.startHarvest()

    def startHarvest(self):
        """ Fetch the entries that are new; what comes is found while it comes. """
        path, addresses = default_path(self._addresses), self._addresses

        def work(job):
            store = Store(path)
            try:
                return harvest(store, addresses, StopToken(job.stopped), lambda text: job.tell(self._progress, text))
            finally:
                store.close()

        self.refreshButton.config(text="Stop")
        self.status.config(text="Fetching the list of all entries, which takes about a minute ...")
        self.background.start(
            "harvest", work, lambda done: self._harvestOver(" ".join([*done.notes, str(done)])),
            lambda error: self._harvestOver(inAWindow(error)))

    def _progress(self, text):
        self.status.config(text="Fetching the list of all entries: %s ..." % text)
        if self.words.get().strip() and not self._shown:
            self.searchSoon()

    def _harvestOver(self, text):
        self._harvestEnded, self._notice = True, text
        self.refreshButton.config(text=UPDATE)
        self.status.config(text=text)
        self.search()

    # -------------------------- one entry -----------------------

    def _facts(self):
        """ Of the selected entry, None where there is none. """
        selected = self.list.selection()
        return self._shown.get(selected[0]) if selected else None

    def _select(self):
        facts = self._facts()
        for name in ("record", "look"):
            self.background.stop(name)
            self.background.forget(name)
        self.picture.clear()
        self._describe()
        self._enableButtons()
        if facts is not None:
            self.background.later("look", LOOKED_MS, lambda: self._look(str(facts.number)))

    def _current(self):
        """ What is known of the selected entry by now. """
        facts = self._facts()
        record = None if facts is None else self._records.get(facts.number)
        return facts if record is None else finding.newer(facts, record.facts)

    def _describe(self, warning=""):
        facts = self._current()
        text = self.details
        text.config(state=tk.NORMAL)
        text.delete("1.0", tk.END)
        self.sets.delete(*self.sets.get_children())
        if facts is not None:
            text.insert(tk.END, "EMPIAR-%d  %s\n" % (facts.number, facts.title[:finding.LETTERS]), "title")
            if warning:
                text.insert(tk.END, warning + "\n", "warning")
            for label, line in finding.linesOf(facts):
                text.insert(tk.END, label + "  ", "label")
                text.insert(tk.END, line + "\n")
            for number, imageSet in enumerate(facts.image_sets, 1):
                self.sets.insert("", tk.END, iid=str(number), values=finding.setRowOf(number, imageSet))
            if facts.image_sets:
                number = str(1 + preferred([each.kind for each in facts.image_sets]))
                self.sets.selection_set(number)
                self.sets.see(number)
        text.config(state=tk.DISABLED)

    def _look(self, number):
        """ Ask the archive for the entry as it is now, and for its picture. """
        if int(number) not in self._records:
            self.background.start("record", lambda job: finding.askRecord(number, self._addresses, job.stopped),
                                  self._recordCame, self._recordLost)
        if number in self._looks:
            self._lookCame(number, self._looks[number])
        else:
            self.background.start("look", lambda job: finding.askPicture(number, self._addresses, job.stopped),
                                  functools.partial(self._lookCame, number), lambda error: None)

    def _recordCame(self, record):
        before = self._current()
        selected = self.sets.selection()
        self._records[record.facts.number] = record
        self._describe()
        # The archive may have them in another order by now.
        chosen = before.image_sets[int(selected[0]) - 1] if selected else None
        its = [number for number, each in enumerate(record.facts.image_sets, 1) if chosen is not None and (
            each.name, each.kind, each.data_format) == (chosen.name, chosen.kind, chosen.data_format)]
        if its:
            self.sets.selection_set(str(its[0] if int(selected[0]) not in its else selected[0]))
        self._enableButtons()

    def _recordLost(self, error):
        self._describe("As in the list of entries; EMPIAR itself could not be asked: %s" % inAWindow(error))

    def _lookCame(self, number, picture):
        self._looks[number] = picture
        if picture is not None and self.picture.isEmpty():
            self.picture.show(lambda side: picture, "Picture given by the authors")

    def _selectSet(self):
        facts, selected = self._facts(), self.sets.selection()
        self.picture.fetch = None
        shown = facts and selected and (facts.number, self.sets.set(selected[0], "Name"), selected[0])
        if self._pictured not in (None, shown):
            # An image of another image set.
            self.picture.clear()
            if facts is not None and self._looks.get(str(facts.number)) is not None:
                self._lookCame(str(facts.number), self._looks[str(facts.number)])
        self._pictured = shown or None
        if facts is not None and selected:
            self.picture.fetch = lambda job: finding.askImage(
                str(facts.number), selected[0], "", self._transport, self._addresses, job)
        self.picture.button.config(state=tk.NORMAL if self.picture.fetch else tk.DISABLED)

    def _enableButtons(self):
        facts = self._current() if self._answer is not None else None
        for result, enabled in ((dialog.RESULT_YES, facts is not None),
                                (dialog.RESULT_NO, facts is not None and facts.has_workflow)):
            if result in self._made:
                self._made[result].config(state=tk.NORMAL if enabled else tk.DISABLED)

    # -------------------------- the end -----------------------

    def validate(self):
        """ What is shown has to be the answer to what the field says: whoever presses Use before the
        search is done would get another entry than the one he typed. """
        if self._asked != self._question():
            self.search()
            return 0
        return int(self._facts() is not None)

    def apply(self):
        self.chosen = self._current()
        self.record = self._records.get(self.chosen.number)
        selected = self.sets.selection()
        self.imageSet = selected[0] if selected else ""

    def destroy(self):
        self.background.close()
        super().destroy()
