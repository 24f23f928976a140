# SPDX-License-Identifier: GPL-3.0-or-later
"""What several windows make of widgets."""
import tkinter.font
from tkinter import ttk

GAP, ROW = 14, 26           # pixels between fields, and of a line of them
LEAST_WIDTH = 300
MARGIN = 40                 # what frames and bars of the desktop take


def scrolled(frame, widget):
    """ A widget with a scroll bar, filling its frame. """
    bar = ttk.Scrollbar(frame, command=widget.yview)
    widget.configure(yscrollcommand=bar.set)
    widget.grid(row=0, column=0, sticky="news")
    bar.grid(row=0, column=1, sticky="ns")
    frame.rowconfigure(0, weight=1)
    frame.columnconfigure(0, weight=1)


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


def fitToScreen(window):
    """ Once it is there: no larger than the screen, and on it. """
    def fit(event):
        if event.widget is window:
            window.unbind("<Visibility>")
            window.update_idletasks()
            width = min(window.winfo_width(), window.winfo_screenwidth() - MARGIN)
            height = min(window.winfo_height(), window.winfo_screenheight() - MARGIN)
            x = max(0, min(window.winfo_x(), window.winfo_screenwidth() - width - MARGIN // 2))
            y = max(0, min(window.winfo_y(), window.winfo_screenheight() - height - MARGIN // 2))
            window.geometry("%dx%d+%d+%d" % (width, height, x, y))

    window.bind("<Visibility>", fit)


def boldFont(window):
    font = tkinter.font.Font(window, tkinter.font.nametofont("TkDefaultFont").actual())
    font.config(weight="bold")
    window.boldFont = font      # Tk forgets a font that nobody holds
    return font
