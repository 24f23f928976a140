# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows of the wizards: one that waits for the archive, one that browses its folders."""
import tkinter as tk
from tkinter import ttk

from pyworkflow.gui import dialog

from ..units import format_bytes
from .background import Background
from .pictures import PicturePane, inAWindow
from .widgets import fitToScreen, scrolled

FILTER_MS, FILTER_NEXT_MS = 200, 5
# Files of a folder that are shown; the filter brings others.
MOST_FILES = 1000
MOST_TICKED = 500       # the pattern names them all
BOX = {False: "[   ]", True: "[ x ]"}


def holds(name, parts):
    """ Whether a name has these parts, one behind the other. """
    place = 0
    for part in parts:
        place = name.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


class WaitDialog(dialog.Dialog):
    """ Runs ``function(stopped)`` beside the window and tells what it is doing;
    Cancel sets ``stopped``, an event, and leaves the function to itself. After
    the dialog has closed, ``outcome`` is ('value', what it returned), ('error',
    the exception), or None. """

    def __init__(self, parent, message, function):
        self.outcome = None
        self._message, self._function = message, function
        super().__init__(parent, "EMPIAR", buttons=[("Cancel", dialog.RESULT_CANCEL)], default="Cancel")

    def body(self, master):
        self.background = Background(self)
        tk.Label(master, text=self._message, wraplength=600).grid(row=0, column=0, padx=20, pady=10)
        bar = ttk.Progressbar(master, mode="indeterminate", length=300)
        bar.grid(row=1, column=0, padx=20, pady=(0, 10))
        bar.start(20)
        # tkinter waits until a new dialog can be seen, and raises where it is destroyed before that.
        self.bind("<Visibility>", self._begin)

    def _begin(self, event):
        if event.widget is self:
            self.unbind("<Visibility>")
            self.background.start("wait", lambda job: self._function(job.stopped), lambda value: self._end(
                "value", value), lambda error: self._end("error", error))

    def _end(self, kind, value):
        self.outcome = kind, value
        self.cancel()

    def destroy(self):
        self.background.close()
        super().destroy()


def ask(parent, message, function):
    """ The result of ``function(stopped)``, got without freezing the window; None when the
    user cancelled or the archive could not be asked, which is shown. """
    waited = WaitDialog(parent, message, function)
    if waited.outcome is None:
        return None
    kind, value = waited.outcome
    if kind == "error":
        dialog.showError("EMPIAR", inAWindow(value), parent)
        return None
    return value


class RemoteTreeDialog(dialog.Dialog):
    """ The folders of an entry, each listed when it is opened. ``chosen`` is
    the path of the selected file or folder after Select, else ''; ``ticked``
    those of the ticked files, where ``ticks`` says that there are boxes.

    ``describe(path, listing)`` says what choosing a path means, by the listing of
    its folder; ``look(path, job)`` gives a picture of a file, see PicturePane;
    ``tickable(path)`` says which files the title of the column ticks;
    ``starts``: folders of which the first that is there is opened; ``ticked``:
    what is ticked then. """

    def __init__(self, parent, title, message, lister, describe=None, look=None, tickable=None, starts=(), ticked=()):
        self.chosen, self.ticked, self._tickable, self._starts = "", dict.fromkeys(ticked), tickable, starts
        self._ticks = tickable is not None
        self._sizes = {}            # of the files of a folder, by its item
        self._lister, self._message, self._describe, self._look = lister, message, describe, look
        self._listings = {}         # item of a folder -> its listing
        self._toFilter = []         # items of folders, after the filter has changed
        super().__init__(parent, title, buttons=[("Select", dialog.RESULT_YES), ("Cancel", dialog.RESULT_CANCEL)],
                         default="Select")

    def body(self, master):
        self.background = Background(self)
        master.columnconfigure(0, weight=1)
        master.rowconfigure(2, weight=1)
        tk.Label(master, text=self._message, justify=tk.LEFT).grid(row=0, column=0, sticky="w", pady=5)
        line = tk.Frame(master)
        line.grid(row=1, column=0, sticky="ew")
        line.columnconfigure(1, weight=1)
        tk.Label(line, text="Show only names with").grid(row=0, column=0)
        self.filter = tk.StringVar(self)
        tk.Entry(line, textvariable=self.filter).grid(row=0, column=1, sticky="ew", padx=6)
        tk.Label(line, text="* matches any characters", fg="grey30").grid(row=0, column=2)
        self.filter.trace_add("write", lambda *_: self.background.later("filter", FILTER_MS, self.showFiltered))
        below = tk.Frame(master)
        below.grid(row=2, column=0, sticky="news", pady=(4, 0))
        self.tree = ttk.Treeview(below, columns=("size", "tick") if self._ticks else ("size",),
                                 height=18 if self._look is None else 9, selectmode="browse")
        self.tree.heading("#0", text="Name")
        self.tree.heading("size", text="Size")
        self.tree.column("#0", width=520)
        self.tree.column("size", width=100, anchor=tk.E)
        if self._ticks:
            self.tree.heading("tick", text="Take", command=self._tickAll)
            self.tree.column("tick", width=60, stretch=False, anchor=tk.CENTER)
            self.tree.bind("<Button-1>", self._click)
            self.tree.bind("<space>", lambda event: self._tick([self.tree.focus()]))
        scrolled(below, self.tree)
        self.status = tk.Label(master, anchor="w", justify=tk.LEFT, wraplength=620)
        self.status.grid(row=3, column=0, sticky="ew")
        if self._look is not None:
            self.picture = PicturePane(master, self.background, 440, 200)
            self.picture.grid(row=4, column=0, sticky="ew")
        self.tree.bind("<<TreeviewOpen>>", lambda event: self.open(self.tree.focus()))
        self.tree.bind("<<TreeviewSelect>>", lambda event: self._select())
        self.tree.bind("<Double-1>", self._choose)
        self.tree.insert("", "end", iid="/", text="entry")
        fitToScreen(self, lambda: self.background.later("open", 10, self._openFirst))

    def _openFirst(self):
        """ The folders down to the one that is looked for, as far as they are there. """
        self.open("/")
        for start in self._starts:
            item = "/"
            for part in start.split("/"):
                item += part + "/"
                if not self.tree.winfo_exists() or not self.tree.exists(item):
                    break
                self.open(item)
            else:
                self.tree.see(item)
                return

    def open(self, item):
        """ List the folder behind a tree item, unless that was done. """
        if item in self._listings or not item.endswith("/"):
            return
        folder = item.strip("/")
        listing = ask(self, "Reading %s ..." % (folder or "the entry's folder"),
                      lambda stopped: self._lister(folder, stopped))
        if listing is None or not self.tree.winfo_exists():
            return
        self._listings[item], self._sizes[item] = listing, dict(listing.files)
        self._show(item)
        self.tree.item(item, open=True)

    def showFiltered(self):
        """ The files of all open folders that the filter lets through; folder
        by folder, for each may hold 30,000 and the window stays quick. """
        self._toFilter = [item for item in self._listings if self.tree.exists(item)]
        self._filterNext()

    def _filterNext(self):
        if self._toFilter:
            item = self._toFilter.pop(0)
            if self.tree.exists(item):
                self._show(item)
            self.background.later("filter next", FILTER_NEXT_MS, self._filterNext)

    def _show(self, item):
        listing, text = self._listings[item], self.filter.get().strip().lower()
        folders = ["%s/%s/" % (item.rstrip("/"), name) for name in listing.folders]
        for child in self.tree.get_children(item):
            # What is open in a folder stays open.
            if child not in folders:
                self.tree.delete(child)
        for name, iid in zip(listing.folders, folders):
            if not self.tree.exists(iid):
                self.tree.insert(item, "end", iid=iid, text=name + "/")
                self.tree.insert(iid, "end", iid="?" + iid, text="...")
        parts = text.split("*")
        fitting = [(name, size) for name, size in listing.files if holds(name.lower(), parts)]
        for name, size in fitting[:MOST_FILES]:
            iid = "%s/%s" % (item.rstrip("/"), name)
            self.tree.insert(item, "end", iid=iid, text=name, values=(
                "" if size is None else format_bytes(size), BOX[iid.lstrip("/") in self.ticked]))
        if len(fitting) > MOST_FILES:
            self.tree.insert(item, "end", iid="?more" + item, text="... and %d more: type part of the name above"
                             % (len(fitting) - MOST_FILES))

    def _selected(self):
        selected = self.tree.selection()
        return selected[0] if selected and not selected[0].startswith("?") else ""

    def _select(self):
        item = self._selected()
        folder = item if item.endswith("/") else item.rpartition("/")[0] + "/"
        listing = self._listings.get(folder)
        if self.ticked:
            self._sayTicked()
        elif self._describe and item and listing:
            # Beside the window: a folder may hold 30,000 files.
            self.background.start("describe", lambda job: self._describe(item.lstrip("/"), listing),
                                  lambda text: self.status.config(text=text),
                                  lambda error: self.status.config(text=inAWindow(error)))
        else:
            self.status.config(text="")
        if self._look is not None:
            self.picture.clear()
            path = item.lstrip("/")
            self.picture.fetch = None if not path or path.endswith("/") else lambda job: self._look(path, job)

    def _click(self, event):
        if self.tree.identify_column(event.x) == "#2" and self.tree.identify_region(event.x, event.y) == "cell":
            self._tick([self.tree.identify_row(event.y)])
            return "break"
        return None

    def _tickAll(self):
        """ All images that are shown; when they are ticked already, none of them. """
        items = [item for folder in self._listings if self.tree.exists(folder)
                 for item in self.tree.get_children(folder)
                 if self._isFile(item) and self._tickable(item.lstrip("/"))]
        missing = [item for item in items if item.lstrip("/") not in self.ticked]
        self._tick(missing or items)

    def _tick(self, items):
        items = list(filter(self._isFile, items))
        new = [item for item in items if item.lstrip("/") not in self.ticked]
        if len(self.ticked) + len(new) > MOST_TICKED:
            dialog.showError("EMPIAR", "At most %d files can be ticked: select one of them instead, and all that are "
                             "named like it are taken." % MOST_TICKED, self)
            return
        for item in items:
            path = item.lstrip("/")
            if item in new:
                self.ticked[path] = None
            else:
                del self.ticked[path]
            self.tree.set(item, "tick", BOX[item in new])
        self._sayTicked()

    def _sayTicked(self):
        sizes = [self._sizes.get("/" + folder + "/" if folder else "/", {}).get(name) or 0
                 for folder, _, name in (path.rpartition("/") for path in self.ticked)]
        self.status.config(text="%d file%s ticked, %s." % (len(sizes), "s"[len(sizes) == 1:], format_bytes(sum(sizes)))
                           if sizes else "")

    @staticmethod
    def _isFile(item):
        return bool(item) and not item.startswith("?") and not item.endswith("/")

    def _choose(self, event):
        item = self.tree.identify_row(event.y)
        if self._isFile(item) and item == self._selected():
            self._handleResult(dialog.RESULT_YES)

    def apply(self):
        self.chosen = self._selected().lstrip("/")

    def destroy(self):
        self.background.close()
        super().destroy()
