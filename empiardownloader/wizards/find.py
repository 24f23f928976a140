# SPDX-License-Identifier: GPL-3.0-or-later
"""The window *Find an entry*: a search among all entries of EMPIAR, with what each holds and a look at it."""
import functools
import tkinter as tk
from tkinter import ttk

from pyworkflow.gui import dialog
from pyworkflow.utils import Icon

from ..archive.stopping import StopToken
from ..catalogue.harvest import harvest
from ..catalogue.store import ORDERS, Store, default_path
from . import finding
from .background import Background
from .entry_pane import EntryPane
from .pictures import inAWindow
from .search_fields import SearchFields
from .widgets import fitToScreen, scrolled

USE, WORKFLOW, CLOSE, UPDATE = "Use this entry", "Make its workflow", "Close", "Update list"
# After so long without a key: the list on this machine is asked, then the archive itself.
TYPED_MS, ELSEWHERE_MS = 150, 900
COLUMNS = (("number", "Entry", 60), ("title", "Title", 260), ("size", "Size", 75), ("resolution", "Resolution", 100),
           ("holds", "Contains", 150), ("date", "Released", 90))


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
        master.rowconfigure(1, weight=1)
        self.fields = SearchFields(master, self._words, self._typed, lambda: self.list.focus_set())
        self.fields.grid(row=0, column=0, sticky="ew")
        panes = ttk.PanedWindow(master, orient=tk.HORIZONTAL)
        panes.grid(row=1, column=0, sticky="news")
        panes.add(self._makeList(panes), weight=3)
        self.entry = EntryPane(panes, self.background, self._addresses, self._transport, self._enableButtons)
        panes.add(self.entry, weight=2)
        status = tk.Frame(master)
        status.grid(row=2, column=0, sticky="ew")
        status.columnconfigure(0, weight=1)
        self.status = tk.Label(status, anchor="w", justify=tk.LEFT)
        self.status.grid(row=0, column=0, sticky="ew")
        self.age = tk.Label(status, anchor="e")
        self.age.grid(row=0, column=1, padx=6)
        self.refreshButton = tk.Button(status, text=UPDATE, command=self._toggleHarvest)
        self.refreshButton.grid(row=0, column=2)
        self.status.bind("<Configure>", lambda event: self.status.config(wraplength=max(event.width - 10, 200)))
        self.initial_focus = self.fields.field
        fitToScreen(self)
        self.search()

    def buttonbox(self, btnFrame):
        super().buttonbox(btnFrame)
        self._enableButtons()

    def _createButton(self, frame, text, result):
        self._made[result] = super()._createButton(frame, text, result)
        return self._made[result]

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
        self.list.bind("<<TreeviewSelect>>", lambda event: self._selected())
        self.list.bind("<Double-1>", lambda event: self.list.identify_row(event.y) and self._handleResult(
            dialog.RESULT_YES))
        return frame

    # -------------------------- searching -----------------------

    def _typed(self):
        self._notice = ""
        self.searchSoon()

    def searchSoon(self):
        self.background.later("search", TYPED_MS, self.search)

    def _question(self):
        return self.fields.getWords(), self.fields.getFilters(), self._sort, self._reverse

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
        self._selected()

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
        if self.fields.getWords() and not self._shown:
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

    def _selected(self):
        """ Tk tells of it a while after it was done, and the buttons may be quicker. """
        facts = self._facts()
        if not self.entry.isOf(facts):
            self.entry.show(facts)
            self._enableButtons()

    def _enableButtons(self):
        facts = self.entry.getFacts()
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
        self._selected()
        return int(self._facts() is not None)

    def apply(self):
        self.chosen, self.record = self.entry.getFacts(), self.entry.getRecord()
        self.imageSet = self.entry.getImageSet()

    def destroy(self):
        self.background.close()
        super().destroy()
