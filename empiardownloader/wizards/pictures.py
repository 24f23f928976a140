# SPDX-License-Identifier: GPL-3.0-or-later
"""A place for a picture in a window: one that comes by itself, or an image that is fetched on demand."""
import tkinter as tk

from PIL import Image, ImageTk

from ..archive.errors import ArchiveError, RemoteError, Stopped

SHOW, CANCEL = "Show an image (up to 16 MB)", "Cancel"
CAPTION_LINES = 3
FULL = 512              # pixels of an image that was clicked at


class PicturePane(tk.Frame):
    """ ``fetch(job)`` gives the image of an image set as (draw, caption), where
    ``draw(side)`` makes it a PIL image whose sides are as long at most; it may
    be changed. What it raises is shown in place of the picture. """

    def __init__(self, parent, background, width, height):
        super().__init__(parent)
        self._background, self._size = background, (width, height)
        self._draw = self._shown = None     # Tk keeps no reference to what it shows
        self.fetch = None
        self._image = tk.Label(self, cursor="")
        self._image.grid(row=0, column=0, columnspan=2, sticky="news")
        self._image.bind("<Button-1>", self._enlarge)
        self.button = tk.Button(self, text=SHOW, command=self._toggle)
        self.button.grid(row=1, column=1, sticky="e")
        self._caption = tk.Label(self, justify=tk.LEFT, anchor="nw", wraplength=width - 4, height=CAPTION_LINES)
        self._caption.grid(row=2, column=0, columnspan=2, sticky="ew")
        self.columnconfigure(0, weight=1)
        self.rowconfigure(0, weight=1, minsize=height)

    def clear(self, caption=""):
        """ Nothing is shown, nothing is being fetched. """
        self._background.stop("image")
        self.button.config(text=SHOW)
        self._draw = self._shown = None
        self._image.config(image="", cursor="")
        self._caption.config(text=caption)

    def show(self, draw, caption):
        """ Drawn as large as there is room; a click shows it in full size. """
        width, height = self._size
        self._draw = draw
        self._shown = ImageTk.PhotoImage(_within(draw(height), width, height), master=self)
        self._image.config(image=self._shown, cursor="hand2")
        self._caption.config(text=caption)

    def isEmpty(self):
        return self._draw is None and not self._background.isBusy("image")

    def _toggle(self):
        if self._background.isBusy("image"):
            self.clear("Cancelled.")
        elif self.fetch is not None:
            self.clear("Fetching some frames of the first image ...")
            self.button.config(text=CANCEL)
            self._background.start("image", self.fetch, self._done, self._failed)

    def _done(self, result):
        self.button.config(text=SHOW)
        self.show(*result)

    def _failed(self, error):
        self.clear(inAWindow(error))

    def _enlarge(self, event):
        if self._draw is None:
            return
        window = tk.Toplevel(self)
        window.title(self._caption.cget("text").partition(":")[0])
        picture = _within(self._draw(FULL), window.winfo_screenwidth() - 80, window.winfo_screenheight() - 160)
        window.picture = ImageTk.PhotoImage(picture, master=window)
        tk.Label(window, image=window.picture).pack()
        tk.Label(window, text=self._caption.cget("text"), justify=tk.LEFT, wraplength=picture.width).pack()
        window.transient(self.winfo_toplevel())
        window.bind("<Escape>", lambda event: window.destroy())


def _within(picture, width, height):
    share = min(width / picture.width, height / picture.height, 1.0)
    return picture if share == 1 else picture.resize(
        (max(1, int(picture.width * share)), max(1, int(picture.height * share))), Image.BILINEAR)


def inAWindow(error):
    """ An error in words for a window, in which there is no button Continue. """
    if isinstance(error, Stopped):
        return "Stopped."
    text = str(error) or type(error).__name__
    # What is no sentence of ours says at least what it is.
    text = text if isinstance(error, (ArchiveError, RemoteError)) else "%s: %s" % (type(error).__name__, text)
    return text.replace("then Continue", "then try again")
