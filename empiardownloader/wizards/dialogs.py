# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows of the wizards: one that waits for the archive, one that browses its folders."""
import tkinter as tk
from tkinter import ttk

from pyworkflow.gui import dialog

from ..units import format_bytes
from .background import Background
from .pictures import inAWindow


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
    the path of the selected file or folder after Select, else ''. """

    def __init__(self, parent, title, message, lister):
        self.chosen = ""
        self._lister = lister
        self._message = message
        super().__init__(parent, title, buttons=[("Select", dialog.RESULT_YES), ("Cancel", dialog.RESULT_CANCEL)],
                         default="Select")

    def body(self, master):
        tk.Label(master, text=self._message, justify=tk.LEFT).grid(row=0, column=0, columnspan=2, sticky="w", pady=5)
        self.tree = ttk.Treeview(master, columns=("size",), height=18, selectmode="browse")
        self.tree.heading("#0", text="Name")
        self.tree.heading("size", text="Size")
        self.tree.column("#0", width=520)
        self.tree.column("size", width=100, anchor=tk.E)
        self.tree.grid(row=1, column=0, sticky="news")
        scroll = ttk.Scrollbar(master, command=self.tree.yview)
        scroll.grid(row=1, column=1, sticky="ns")
        self.tree.configure(yscrollcommand=scroll.set)
        master.rowconfigure(1, weight=1)
        master.columnconfigure(0, weight=1)
        self.tree.bind("<<TreeviewOpen>>", lambda event: self.open(self.tree.focus()))
        self.tree.insert("", "end", iid="/", text="entry")
        self.after(10, self.open, "/")

    def open(self, item):
        """ List the folder behind a tree item, unless that was done. """
        children = self.tree.get_children(item)
        if children and not children[0].startswith("?"):
            return
        folder = item.strip("/")
        listing = ask(self, "Reading %s ..." % (folder or "the entry's folder"),
                      lambda stopped: self._lister(folder, stopped))
        if listing is None or not self.tree.winfo_exists():
            return
        for child in children:
            self.tree.delete(child)
        for name in listing.folders:
            iid = "%s/%s/" % (item.rstrip("/"), name)
            self.tree.insert(item, "end", iid=iid, text=name + "/")
            self.tree.insert(iid, "end", iid="?" + iid, text="...")
        for name, size in listing.files:
            self.tree.insert(item, "end", iid="%s/%s" % (item.rstrip("/"), name), text=name,
                             values=("" if size is None else format_bytes(size),))
        self.tree.item(item, open=True)

    def apply(self):
        selected = self.tree.selection()
        if selected and not selected[0].startswith("?"):
            self.chosen = selected[0].lstrip("/")
