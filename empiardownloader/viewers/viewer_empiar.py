# SPDX-License-Identifier: GPL-3.0-or-later
"""Analyze results: the movies or micrographs as pictures, page by page, and the download's history."""
import collections
import contextlib
import logging
import os
import pathlib
import queue
import sqlite3
import textwrap
import threading
import time

import matplotlib.patches
import matplotlib.patheffects
import matplotlib.ticker
import matplotlib.widgets
from pwem import Domain
from pwem.objects import Movie, SetOfMicrographs, SetOfMovies
from pwem.viewers import EmPlotter
from pyworkflow.viewer import DESKTOP_TKINTER, Viewer

from ..constants import RECORD_FILE
from ..download.record.facts import Facts
from ..images.picture import rings, scale_bar
from ..images.previews import PREVIEW_FOLDER, contrast, load_preview
from ..protocols.headers import iterFrames
from ..protocols.outputs.nothing import NoSets
from ..protocols.protocol_empiar_download import EmpiarDownloader
from ..units import format_bytes, shortened, unit_for

logger = logging.getLogger(__name__)

PACKAGE = __name__.partition(".")[0]
DRAWN = (SetOfMovies, SetOfMicrographs)
PAGE_MOVIES = 4
MOST_SETS = 4           # windows opened at once
POLL_MS = 100
TITLE_LETTERS = 42      # in a line above a picture
LOCK_SECONDS = 0.2      # that a look at the set waits for its writer
GROW_SECONDS = 1.0      # between two looks whether there are more


class EmpiarDownloadViewer(Viewer):
    """ Shows the images that have arrived so far, and how they came. """
    _environments = [DESKTOP_TKINTER]
    _targets = [EmpiarDownloader, SetOfMovies]
    _name = "EMPIAR images"

    def _visualize(self, obj, **kwargs):
        if isinstance(obj, EmpiarDownloader):
            self._refresh(obj)
        outputs = [("", obj)] if isinstance(obj, SetOfMovies) else list(obj.iterOutputAttributes())
        filled = [(name, images) for name, images in outputs if images.getSize()]
        drawn = [(name, images) for name, images in filled if isinstance(images, DRAWN)]
        if not filled:
            return [self.infoMessage(self._describe(obj, outputs), "EMPIAR")]
        run = obj if isinstance(obj, EmpiarDownloader) else self.protocol
        title = run.getRunName() if run is not None else ""
        views = [ImagesPage(images.getFileName(), type(images), name if len(drawn) > 1 else "", title)
                 for name, images in drawn[:MOST_SETS]]
        views += self._openOthers([images for _, images in filled if not isinstance(images, DRAWN)])
        if not views:
            return [self.infoMessage(self._describe(obj, outputs), "EMPIAR")]
        facts = Facts.read(os.path.join(os.path.dirname(filled[0][1].getFileName()), "extra", RECORD_FILE))
        if facts.history:
            views.append(HistoryPlot(facts, title))
        return views

    def _refresh(self, run):
        """ Let the window's own object, which is as old as the window's last
        look, know the outputs that have come since. """
        project = self.getProject()
        if project is not None and not any(True for _ in run.iterOutputAttributes()):
            project._updateProtocol(run)        # as the window does when it looks

    def _openOthers(self, sets):
        """ Scipion's own viewers of sets that are not drawn here. """
        views = []
        for images in sets[:MOST_SETS]:
            for viewer in Domain.findViewers(images, DESKTOP_TKINTER):
                if not issubclass(viewer, EmpiarDownloadViewer) and not viewer.__module__.startswith(PACKAGE):
                    views += viewer(project=self.getProject(), protocol=self.protocol,
                                    parent=self.getParent())._visualize(images) or []
                    break
        return views

    @staticmethod
    def _describe(run, outputs):
        """ Words about what is not drawn here. """
        if outputs:
            return "%s: click on an output in the project window to see it." % "; ".join(
                "%s has %d items" % (name, images.getSize()) for name, images in outputs)
        facts = Facts.read(run.getRecordFile())
        if not facts.images:
            return "Nothing has arrived yet."
        folder = os.path.abspath(run._getExtraPath())
        if isinstance(run.getSets(), NoSets):
            return "%d files are here, which Scipion has no set for: see %s." % (len(facts.images), folder)
        return "%d files are here and not registered yet: look again in a few seconds. They are in %s." % (
            len(facts.images), folder)


# Three texts, a path or None, and the pixel size in angstrom.
PageImage = collections.namedtuple("PageImage", "path frames dim gain pixelSize")


class ImagesPage:
    """ A window with a few movies or micrographs: above the average of the
    frames, gain-corrected where the set has a gain, below its power spectrum.
    Only those of the page shown are read. It grows while the set does. """

    def __init__(self, setFile, setClass, name="", title=""):
        """ :param setFile: path of the set's sqlite file, read anew for every page.
        :param setClass: SetOfMovies or SetOfMicrographs.
        :param name: the output's name, where there are several.
        :param title: the run's name, for the window. """
        self._setFile = setFile
        self._setClass = setClass
        self._name = name
        self._cache = os.path.join(os.path.dirname(setFile), "extra", PREVIEW_FOLDER)
        self._drawn = queue.Queue()
        self._found = queue.Queue()     # (what was looked for, its page or None)
        self._shown = []        # paths of the images of this page, in its order
        self._total = 0
        self._looked = 0.0      # when the set was last looked at, and what its file was like
        self._stamp = None
        self.page = 0
        self.plotter = EmPlotter(x=2, y=PAGE_MOVIES, mainTitle="", figsize=(13, 7.5))
        self.figure = self.plotter.getFigure()
        entitleWindow(self.figure, title)
        self._previous = matplotlib.widgets.Button(self.figure.add_axes([0.02, 0.01, 0.1, 0.045]), "< Previous")
        self._next = matplotlib.widgets.Button(self.figure.add_axes([0.88, 0.01, 0.1, 0.045]), "Next >")
        self._jump = matplotlib.widgets.TextBox(self.figure.add_axes([0.45, 0.01, 0.2, 0.045]),
                                                "Go to number, or part of a name  ")
        self._jump.on_submit(self.goTo)
        self._previous.on_clicked(lambda event: self.turn(-1))
        self._next.on_clicked(lambda event: self.turn(1))
        self._timer = self.figure.canvas.new_timer(interval=POLL_MS)
        self._timer.add_callback(self._drawArrived)
        self.figure.canvas.mpl_connect("close_event", lambda event: self._timer.stop())
        width = 0.96 / PAGE_MOVIES
        self._axes = [[self.figure.add_axes([0.02 + column * width, bottom, width - 0.01, 0.38])
                       for column in range(PAGE_MOVIES)] for bottom in (0.5, 0.08)]
        # pyworkflow's plotter would spread the axes over the buttons.
        self.plotter.tightLayout = lambda: None

    def show(self):
        self.turn(0)
        self._timer.start()
        self.plotter.show()

    def turn(self, pages):
        """ Go so many pages on; the pictures come as they are ready. """
        try:
            images, total = self._readPage(self.page + pages)
        except Exception as error:  # noqa: BLE001 - being written, made anew or damaged
            logger.info("%s cannot be read at the moment: %s", self._setFile, error)
            self.figure.suptitle("The set cannot be read at the moment: try again in a few seconds.")
            self.figure.canvas.draw_idle()
            return
        if not images:
            return
        self.page += pages
        self._shown = []
        for axes in self._axes[0] + self._axes[1]:
            axes.clear()
            axes.set_axis_off()
        self._show(images, total)

    def goTo(self, text):
        """ The page of the image with that number, else of the first one after
        this page, in a circle, whose name contains the text. """
        text = text.strip()
        if not text:
            return
        # "0002" is part of a name.
        if text.isdecimal() and not text.startswith("0") and int(text) <= self._total:
            self.turn((int(text) - 1) // PAGE_MOVIES - self.page)
            return

        def look():
            try:
                names = self._readNames()
            except Exception as error:  # noqa: BLE001 - being written, made anew or damaged
                logger.info("%s cannot be read at the moment: %s", self._setFile, error)
                return
            after = (self.page + 1) * PAGE_MOVIES
            found = [number for number, name in enumerate(names) if text.lower() in name.lower()]
            found = [number for number in found if number >= after] or found
            self._found.put((text, found[0] // PAGE_MOVIES if found else None))

        threading.Thread(target=look, daemon=True, name="viewer-search").start()

    def _readNames(self):
        with self._opened() as imageSet:
            return [os.path.basename(item.getFileName()) for item in imageSet.iterItems()]

    @contextlib.contextmanager
    def _opened(self):
        """ The set as it is on the disk by now. Raises sqlite3.Error where it is gone, or somebody keeps it locked:
        pyworkflow would wait for a quarter of an hour, and make one anew that is gone. """
        with contextlib.closing(sqlite3.connect(pathlib.Path(self._setFile).absolute().as_uri() + "?mode=ro", uri=True,
                                                timeout=LOCK_SECONDS)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        imageSet = self._setClass(filename=self._setFile)
        try:
            imageSet.loadAllProperties()
            yield imageSet
        finally:
            imageSet.close()

    def _show(self, images, total):
        """ Write the names of those that are not on the page yet, and begin to read them. """
        first = self.page * PAGE_MOVIES + 1
        self._total = total
        for button, usable in ((self._previous, self.page > 0), (self._next, first + PAGE_MOVIES <= total)):
            button.label.set_color("black" if usable else "silver")
        self.figure.suptitle("%s%s %d to %d of %d" % (
            self._name and self._name + ": ", "Movies" if issubclass(self._setClass, SetOfMovies) else "Micrographs",
            first, first + len(images) - 1, total))
        new = []
        for column, image in list(enumerate(images))[len(self._shown):]:
            self._entitle(column, image)
            self._axes[0][column].text(0.5, 0.5, "reading ...", ha="center")
            self._shown.append(image.path)
            new.append((column, image))
        self.figure.canvas.draw_idle()
        if new:
            threading.Thread(target=self._readPreviews, args=(self.page, new), daemon=True,
                             name="viewer-previews").start()

    def _entitle(self, column, image, remark=""):
        name = shortened(os.path.basename(image.path), 12, 19)
        size = format_bytes(os.path.getsize(image.path)) if os.path.exists(image.path) else "file is gone"
        remark = textwrap.shorten(remark, 2 * TITLE_LETTERS, placeholder=" ...")
        self._axes[0][column].set_title("%s\n%s, %s%s%s" % (
            name, image.dim, image.frames, size, remark and "\n" + textwrap.fill(remark, TITLE_LETTERS)), fontsize=9)

    def _grow(self):
        """ Show what has been registered since the last look. """
        if time.monotonic() - self._looked < GROW_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            found = os.stat(self._setFile)
            stamp = found.st_mtime_ns, found.st_size
            if stamp == self._stamp:
                return
            images, total = self._readPage(self.page)
        except Exception as error:  # noqa: BLE001 - being written, made anew or damaged: the next look will tell
            logger.info("%s cannot be read at the moment: %s", self._setFile, error)
            return
        self._stamp = stamp
        if [image.path for image in images[:len(self._shown)]] != self._shown:
            self.page = 0       # another set in its place
            self.turn(0)
        elif total != self._total:
            self._show(images, total)

    def _readPage(self, page):
        """ The images of a page, and how many there are in all. """
        if page < 0 or not os.path.exists(self._setFile):
            return [], 0        # it is gone; a viewer only reads, and must not make it anew
        with self._opened() as imageSet:
            dim = imageSet.getDim()
            text = "%d x %d" % dim[:2] if dim else "?"
            gain = imageSet.getGain() if isinstance(imageSet, SetOfMovies) else None
            limit = (PAGE_MOVIES, page * PAGE_MOVIES)
            found = [PageImage(item.getFileName(), _describeFrames(item), text, gain, imageSet.getSamplingRate())
                     for item in imageSet.iterItems(limit=limit)]
            return found, imageSet.getSize()

    def _readPreviews(self, page, images):
        for column, image in images:
            if page != self.page:
                return
            try:
                result = load_preview(image.path, self._cache, image.gain, iterFrames)
            except Exception as error:  # noqa: BLE001 - whatever a reader stumbles over is shown in place of the picture
                result = error
            self._drawn.put((page, column, image, result))

    def _drawArrived(self):
        self._grow()
        changed = False
        while not self._found.empty():
            text, page = self._found.get()
            if page is None:
                self.figure.suptitle('No name contains "%s".' % text)
                self.figure.canvas.draw_idle()
            else:
                self.turn(page - self.page)
        while not self._drawn.empty():
            page, column, image, result = self._drawn.get()
            if page != self.page or self._shown[column:column + 1] != [image.path]:
                continue
            changed = True
            average, spectrum = self._axes[0][column], self._axes[1][column]
            for text in list(average.texts):
                text.remove()
            if isinstance(result, Exception):
                average.text(0.5, 0.5, "cannot be drawn:\n%s" % str(result)[:80], ha="center", fontsize=8, wrap=True)
                continue
            if result.gain:
                self._entitle(column, image, result.gain)
            low, high = result.limits()
            average.imshow(result.average, cmap="gray", vmin=low, vmax=high, origin="lower")
            # Rings lie between what the middle and the corners have.
            low, high = contrast(result.spectrum)
            spectrum.imshow(result.spectrum, cmap="gray", vmin=low, vmax=high, origin="lower")
            _drawScales(average, spectrum, result, image.pixelSize)
        if changed:
            self.figure.canvas.draw_idle()
        return True

    def wait(self, seconds=60):
        """ Draw until the page is complete; for pictures made without a main loop. """
        deadline = time.monotonic() + seconds
        wanted = len(self._readPage(self.page)[0])
        while time.monotonic() < deadline:
            self._drawArrived()
            if sum(bool(axes.images) or not axes.texts for axes in self._axes[0]) >= wanted and not any(
                    text.get_text() == "reading ..." for axes in self._axes[0] for text in axes.texts):
                return True
            time.sleep(0.02)
        return False


class HistoryPlot:
    """ Bytes and movies over time. """

    def __init__(self, facts, title=""):
        """ :param facts: what the run's record says.
        :param title: the run's name, for the window. """
        self.plotter = EmPlotter(x=1, y=1, mainTitle="Download", figsize=(8, 5))
        entitleWindow(self.plotter.getFigure(), title and title + ": download")
        unit, factor = unit_for(max(event.bytes for event in facts.history))
        axes = self.plotter.createSubPlot("", "Minutes since the beginning", unit)
        history = facts.history
        began = history[0].time
        minutes = [(event.time - began) / 60 for event in history]
        axes.plot(minutes, [event.bytes / factor for event in history], label="%s on disk" % unit, color="tab:blue",
                  linewidth=3)
        movies = axes.twinx()
        movies.plot(minutes, [event.movies for event in history], label="images", color="tab:orange", linestyle="--")
        movies.set_ylabel("Images")
        movies.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        lines = axes.get_lines() + movies.get_lines()
        axes.legend(lines, [line.get_label() for line in lines], loc="upper left")

    def show(self):
        self.plotter.show()


def entitleWindow(figure, title):
    """ "Figure 1" says nothing in a list of windows. """
    if title and figure.canvas.manager is not None:
        figure.canvas.manager.set_window_title(title)


def _drawScales(average, spectrum, preview, pixelSize):
    """ A scale bar, and rings of resolution. """
    if not pixelSize:
        return
    found = scale_bar(preview.average.shape[1], pixelSize * preview.binning)
    if found:
        nanometers, length = found
        average.plot([8, 8 + length], [10, 10], color="white", linewidth=3, solid_capstyle="butt",
                     path_effects=[matplotlib.patheffects.withStroke(linewidth=6, foreground="black")])
        average.text(8, 16, "%d nm" % nanometers, color="white", fontsize=8, va="bottom",
                     path_effects=[matplotlib.patheffects.withStroke(linewidth=2, foreground="black")])
    edge = preview.spectrum.shape[0] / 2
    for resolution, radius, hasRoom in rings(pixelSize, edge):
        spectrum.add_patch(matplotlib.patches.Circle((edge, edge), radius, fill=False, color="0.7", linewidth=0.6))
        if hasRoom:
            spectrum.text(edge + radius * 0.71, edge + radius * 0.71, "%g Å" % resolution, color="white", fontsize=7,
                          path_effects=[matplotlib.patheffects.withStroke(linewidth=2, foreground="black")])


def _describeFrames(item):
    return "%s frames, " % (item.getFramesRange()[1] or "?") if isinstance(item, Movie) else ""
