# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the list of entries, in a window: words and filters."""
import tkinter as tk
from tkinter import ttk

from pyworkflow.gui import dialog

from . import finding
from .widgets import wrapped

CHOICES = {"--kind": finding.KIND_NAMES, "--format": finding.FORMATS, "--method": finding.METHOD_NAMES}
WIDTHS = {"--kind": 13, "--format": 6, "--method": 20, "--max-size": 8, "--resolution": 5, "--pixel-size": 8,
          "--microscope": 10, "--year": 9}
HINTS = {"--max-size": "like 500GB", "--resolution": "Å or better", "--pixel-size": "Å, like 0.6-1.1",
         "--year": "like 2020-2023"}


class SearchFields(tk.Frame):
    """ ``onChange``: called at each key and choice; ``onDown``: to go to what was found. """

    def __init__(self, parent, words, onChange, onDown):
        super().__init__(parent)
        self.words = tk.StringVar(self, words)
        self.filters = {option: tk.StringVar(self) for option in WIDTHS}
        self.course = tk.BooleanVar(self, False)
        self.columnconfigure(0, weight=1)
        self._makeField(onDown).grid(row=0, column=0, sticky="ew")
        self._makeFilters().grid(row=1, column=0, sticky="ew", pady=(4, 4))
        for variable in (self.words, self.course, *self.filters.values()):
            variable.trace_add("write", lambda *_: onChange())

    def _makeField(self, onDown):
        frame = tk.Frame(self)
        frame.columnconfigure(1, weight=1)
        tk.Label(frame, text="Find").grid(row=0, column=0, padx=(0, 6))
        self.field = tk.Entry(frame, textvariable=self.words)
        # Tk takes it for the beginning of the line.
        self.field.bind("<Control-a>", lambda event: self.field.selection_range(0, tk.END) or "break")
        self.field.grid(row=0, column=1, sticky="ew")
        self.field.icursor(tk.END)
        self.field.selection_range(0, tk.END)
        self.field.bind("<Down>", lambda event: onDown())
        tk.Label(frame, text="a protein, an author, a number; or an EMDB or PDB code", fg="grey30").grid(
            row=0, column=2, padx=6)
        return frame

    def _makeFilters(self):
        frame = tk.Frame(self)
        cells = []
        for option, variable in self.filters.items():
            cell = tk.Frame(frame)
            cells.append(cell)
            tk.Label(cell, text=finding.FIELDS[option]).pack(side=tk.LEFT)
            if option in CHOICES:
                box = ttk.Combobox(cell, textvariable=variable, width=WIDTHS[option], values=("", *CHOICES[option]))
            else:
                box = tk.Entry(cell, textvariable=variable, width=WIDTHS[option])
            box.pack(side=tk.LEFT, padx=(4, 2))
            if option in HINTS:
                tk.Label(cell, text=HINTS[option], fg="grey30").pack(side=tk.LEFT)
        check = tk.Checkbutton(frame, text=finding.FIELDS["--course"], variable=self.course)
        dialog.ToolTip(check, finding.COURSE_HELP, delay=300)
        wrapped(frame, [*cells, check])
        return frame

    def getWords(self):
        return self.words.get().strip()

    def getFilters(self):
        """ {option of *empiar search*: what was typed or chosen} """
        return {**{option: variable.get() for option, variable in self.filters.items()}, "--course": self.course.get()}
