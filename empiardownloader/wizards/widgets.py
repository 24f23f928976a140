# SPDX-License-Identifier: GPL-3.0-or-later
"""What several windows make of widgets."""
import tkinter as tk
import tkinter.font
from tkinter import ttk

GAP, ROW = 14, 26           # pixels between fields, and of a line of them
LEAST_WIDTH = 300
CELL_MARGIN = 8             # pixels that a cell needs beside its text
MARGIN = 40                 # what frames and bars of the desktop take


def scrolled(frame, widget):
    """ A widget with a scroll bar, filling its frame; of a list what is cut is told, see CutCells. """
    if isinstance(widget, ttk.Treeview):
        CutCells(widget)
    bar = ttk.Scrollbar(frame, command=widget.yview)
    widget.configure(yscrollcommand=bar.set)
    widget.grid(row=0, column=0, sticky="news")
    bar.grid(row=0, column=1, sticky="ns")
    frame.rowconfigure(0, weight=1)
    frame.columnconfigure(0, weight=1)


class CutCells:
    """ Tells the whole text of a list's cell that is narrower than it, beside
    the pointer: names of 200 letters, on small screens. """

    def __init__(self, tree):
        self._tree, self._cell, self._tip = tree, None, None
        self._font = tkinter.font.nametofont("TkDefaultFont")
        tree.bind("<Motion>", self._look, add=True)
        for event in ("<Leave>", "<Button>", "<MouseWheel>", "<Key>", "<Destroy>"):
            tree.bind(event, lambda _: self._hide(), add=True)

    def _look(self, event):
        tree = self._tree
        cell = tree.identify_row(event.y), tree.identify_column(event.x)
        if cell == self._cell:
            return
        self._hide()
        self._cell = cell
        text, box = self._text(*cell), tree.bbox(*cell) if all(cell) else ""
        # In the column of the tree the text begins behind the sign that opens a folder: box tells where.
        if text and box and self._font.measure(text) + CELL_MARGIN > box[2]:
            self._tip = tk.Toplevel(tree)
            self._tip.overrideredirect(True)
            tk.Label(self._tip, text=text, background="#ffffe0", foreground="black", relief=tk.SOLID, borderwidth=1,
                     justify=tk.LEFT, wraplength=max(LEAST_WIDTH, tree.winfo_width() - 2 * MARGIN)).pack()
            self._tip.geometry("+%d+%d" % (event.x_root + GAP, event.y_root + GAP))

    def _text(self, item, column):
        if not item or not column:
            return ""
        return str(self._tree.item(item, "text") if column == "#0" else self._tree.set(item, column))

    def _hide(self):
        self._cell = None
        if self._tip is not None:
            self._tip.destroy()
            self._tip = None


def wrapped(frame, cells):
    """ Cells one beside the other, on as many lines as the frame's width asks for. """
    def place(event=None):
        left = line = 0
        for cell in cells:
            width = cell.winfo_reqwidth() + GAP
            if left and left + width > max(frame.winfo_width(), LEAST_WIDTH):
                left, line = 0, line + 1
            cell.place(x=left, y=line * ROW)
            left += width
        frame.config(height=(line + 1) * ROW)

    frame.config(height=2 * ROW)
    frame.bind("<Configure>", place)


def fitToScreen(window, then=lambda: None):
    """ Once it is there: no larger than the screen, and on it; ``then`` is
    called after. What opens another window belongs there: Scipion's dialogs wait
    in their constructor until they are seen, and fail where they are closed before. """
    def fit(event):
        if event.widget is window:
            window.unbind("<Visibility>")
            window.update_idletasks()
            width = min(window.winfo_width(), window.winfo_screenwidth() - MARGIN)
            height = min(window.winfo_height(), window.winfo_screenheight() - MARGIN)
            x = max(0, min(window.winfo_x(), window.winfo_screenwidth() - width - MARGIN // 2))
            y = max(0, min(window.winfo_y(), window.winfo_screenheight() - height - MARGIN // 2))
            window.geometry("%dx%d+%d+%d" % (width, height, x, y))
            then()

    window.bind("<Visibility>", fit)


def boldFont(window):
    font = tkinter.font.Font(window, tkinter.font.nametofont("TkDefaultFont").actual())
    font.config(weight="bold")
    window.boldFont = font      # Tk forgets a font that nobody holds
    return font
