# SPDX-License-Identifier: GPL-3.0-or-later
"""What several windows make of widgets."""
import tkinter.font
from tkinter import ttk


def scrolled(frame, widget):
    """ A widget with a scroll bar, filling its frame. """
    bar = ttk.Scrollbar(frame, command=widget.yview)
    widget.configure(yscrollcommand=bar.set)
    widget.grid(row=0, column=0, sticky="news")
    bar.grid(row=0, column=1, sticky="ns")
    frame.rowconfigure(0, weight=1)
    frame.columnconfigure(0, weight=1)


def boldFont(window):
    font = tkinter.font.Font(window, tkinter.font.nametofont("TkDefaultFont").actual())
    font.config(weight="bold")
    window.boldFont = font      # Tk forgets a font that nobody holds
    return font
