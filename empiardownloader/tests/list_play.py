# SPDX-License-Identifier: GPL-3.0-or-later
"""A list of names that are longer than its columns, and a pointer over them; run by test_gui.py. Prints JSON: what is
told at each place."""
import json
import sys
import tkinter as tk
from tkinter import ttk

from empiardownloader.wizards.widgets import scrolled


def main():
    root = tk.Tk()
    frame = tk.Frame(root)
    frame.pack()
    tree = ttk.Treeview(frame, columns=("size",))
    tree.column("#0", width=200)
    tree.column("size", width=80)
    scrolled(frame, tree)
    tree.insert("", "end", iid="long", text="n" * 200, values=("7 kB",))
    tree.insert("", "end", iid="short", text="short", values=("1234567 images of a set",))
    root.update()

    def tips():
        root.update()
        return [window.winfo_children()[0].cget("text") for window in tree.winfo_children()]

    told = []
    for cell in (("long", "#0"), ("long", "size"), ("short", "#0"), ("short", "size")):
        x, y, width, height = tree.bbox(*cell)
        tree.event_generate("<Motion>", x=x + width // 2, y=y + height // 2)
        told.append(tips())
    tree.event_generate("<Leave>")
    json.dump([*told, tips()], sys.stdout)


if __name__ == "__main__":
    main()
