# SPDX-License-Identifier: GPL-3.0-or-later
"""ImageJ's windows: one stack each, whose images ImageJ reads when they are looked at, out of the stack's file."""
import os
import re
import time

import jpype
import numpy
from live_loop import Screen

WAIT_SECONDS = 0.05
HEAP = "-Xmx2g"         # one image at a time is in Java's memory
GAP_PIXELS = 24
SETTLE_SECONDS = 0.5


class ImageJScreen(Screen):
    """ImageJ's windows; ``request`` names its jars and its home."""

    def __init__(self, request):
        self._request = request
        self._views = {}            # stack -> View
        self._menu = None

    def open(self):
        home = self._request["home"]
        folders = ["-Dplugins.dir=%s" % home, "-Dij.dir=%s" % home] if home else []
        jpype.startJVM(HEAP, *folders, classpath=self._request["jars"])
        ij = jpype.JPackage("ij")
        self._ij, self._info = ij, jpype.JClass("ij.io.FileInfo")
        self._stack_class = jpype.JClass("ij.plugin.FileInfoVirtualStack")
        self._application = ij.ImageJ(ij.ImageJ.EMBEDDED)
        self._application.setVisible(True)
        self._application.exitWhenQuitting(False)

    def run(self, turn, ending):
        while not ending.is_set() and self._ij.IJ.getInstance() is not None:
            if not turn():
                time.sleep(WAIT_SECONDS)
        for view in self._views.values():
            # Without it ImageJ asks whether to save what nobody changed.
            view.close()

    def draw(self, changed, any_taken):
        for stack in [stack for stack in self._views if stack not in self.model.stacks.values()]:
            self._views.pop(stack).close()
        for stack in changed:
            self._view(stack).update()
        for view in self._views.values():
            view.look()

    def looked_at(self):
        return {stack: view.shown for stack, view in self._views.items()}

    def _view(self, stack):
        if stack not in self._views:
            self._views[stack] = View(self, stack, self._ij, self._info, self._stack_class)
        return self._views[stack]

    def next_corner(self, width):
        """Where on the screen the next window goes: to the right of the others, or to their left; None where ImageJ
        is to decide."""
        bounds = [view.bounds() for view in self._views.values()]
        bounds = [found for found in bounds if found is not None]
        if not bounds:
            return None
        right = int(max(found.x + found.width for found in bounds)) + GAP_PIXELS
        left = int(min(found.x for found in bounds)) - GAP_PIXELS - width
        screen = jpype.JPackage("java").awt.Toolkit.getDefaultToolkit().getScreenSize()
        if right + width <= int(screen.width):
            return right, int(bounds[0].y)
        if left >= 0:
            return left, int(bounds[0].y)
        # None fits beside them: below the lowest, or as far as the screen goes, so that each can be got hold of.
        lowest = int(max(found.y + found.height for found in bounds)) + GAP_PIXELS
        step = GAP_PIXELS * len(bounds)
        return int(bounds[0].x) + step, min(lowest, max(0, int(screen.height) - 2 * GAP_PIXELS - step))

    def offer_frames(self):
        if self._menu is not None:
            return
        awt = jpype.JPackage("java").awt
        item = awt.MenuItem("Frames of this movie")
        item.addActionListener(jpype.JProxy("java.awt.event.ActionListener",
                                            dict={"actionPerformed": lambda event: self._ask_for_frames()}))
        self._menu = awt.Menu("EMPIAR")
        self._menu.add(item)
        self._ij.Menus.getMenuBar().add(self._menu)

    def _ask_for_frames(self):
        active = self._ij.WindowManager.getCurrentImage()
        for stack, view in self._views.items():
            if view.is_of(active) and view.shown is not None and stack is not self.model.frames:
                self.want(stack, view.shown)

    def snapshot(self, folder):
        os.makedirs(folder, exist_ok=True)
        layers = [view.describe(number, folder) for number, view in enumerate(self._views.values()) if view.is_open()]
        self._ij.IJ.wait(200)
        robot = jpype.JClass("java.awt.Robot")()
        area = self._application.getBounds()
        for view in self._views.values():
            area = area.union(view.bounds() or area)
        jpype.JClass("javax.imageio.ImageIO").write(
            robot.createScreenCapture(area), "png", jpype.JClass("java.io.File")(os.path.join(folder, "window.png")))
        return {"title": next((layer["title"] for layer in layers), ""), "layers": layers}

    @staticmethod
    def words_of(error):
        """Without the names of Java's classes."""
        return re.sub(r"(\w+\.)+(\w+)(: )?", r"\2\3", " ".join(str(error).split()))[:200] or type(error).__name__


class View:
    """The window of one stack; one that its user has closed comes again with the next image."""

    def __init__(self, windows, stack, ij, info, stack_class):
        self._windows, self.stack = windows, stack
        self._ij, self._info, self._stack_class = ij, info, stack_class
        self.shown = None           # the picture that is looked at
        self._image = self._virtual = None
        self._known = []            # pictures in the order in which ImageJ knows them
        self._settling = None       # the picture that is to be seen after a change, and until when that is seen to
        self._limits = None         # the grey values that were set here last
        # When it was shown or grew last, and until when other grey values are not the user's.
        self._changed = self._settled = 0.0
        self._chosen = None         # those that the user has chosen
        self._drawn = None          # the points that are drawn, and over which picture

    def is_of(self, image):
        return self._image is not None and image is not None and bool(self._image.equals(image))

    def is_open(self):
        """Whether its user has not closed it."""
        image = self._image
        return image is not None and image.getWindow() is not None and image.getProcessor() is not None

    def bounds(self):
        return self._image.getWindow().getBounds() if self.is_open() else None

    def update(self):
        """Tell ImageJ of images that have come."""
        before = -1
        if self.is_open():
            self._notice_choice()
            before = int(self._image.getCurrentSlice()) - 1
        follows = self.shown is None or not self._known or self.shown is self._known[-1]
        pictures = list(self.stack.pictures)
        if not self.is_open():
            follows = follows or self._image is not None
            self._virtual = self._new_stack(pictures)
            self._show()
        elif pictures[:len(self._known)] == self._known:
            for picture in pictures[len(self._known):]:
                self._virtual.addImage(self._file_info(picture))
        else:
            self._virtual = self._new_stack(pictures)
        self._known = pictures
        self._settling = (pictures[-1] if follows else self.shown, before, time.monotonic() + SETTLE_SECONDS)
        self._changed = time.monotonic()
        self._image.setStack(self._virtual)
        self._image.setSlice(self.stack.place_of(self._settling[0]) + 1)
        self._image.updateAndDraw()
        self.shown = None

    def look(self):
        """Follow the slider: title, grey values and points of the image that is looked at."""
        if not self.is_open():
            return
        index = min(int(self._image.getCurrentSlice()), len(self._known)) - 1
        if self._settling is not None:
            index = self._settle(index)
        picture = self._known[index]
        model = self._windows.model
        title = "%s: %s" % (model.name_of(self.stack), " - ".join(
            word for word in (model.describe(self.stack, index), model.caption()) if word))
        if str(self._image.getTitle()) != title:
            self._image.setTitle(title)
        if picture is not self.shown:
            self.shown = picture
            self._set_limits(picture.limits)
        elif self._range() != self._limits and time.monotonic() < self._settled:
            # ImageJ looks for grey values of its own, by a thread of its own, some time after an image was shown.
            self._set_limits(picture.limits)
        self._notice_choice()
        if self.stack.takes_picks:
            self._draw_picks(picture, model.picks_over(picture))

    def _settle(self, index):
        """ImageJ may move the slider back after the stack has grown, in a thread of its own; all other moves are the
        user's. -> the place that is shown."""
        picture, before, until = self._settling
        wanted = self.stack.place_of(picture)
        if time.monotonic() > until or index not in (wanted, before):
            self._settling = None
            return index
        if index != wanted:
            self._image.setSlice(wanted + 1)
        return wanted

    def describe(self, number, folder):
        index = int(self._image.getCurrentSlice()) - 1
        pixels = numpy.array(self._image.getProcessor().getPixels()).astype(
            {"u": "u%d" % self.stack.dtype.itemsize, "f": "f4"}[self.stack.dtype.kind])
        numpy.save(os.path.join(folder, "%d.npy" % number), pixels.reshape(self.stack.shape))
        overlay, calibration = self._image.getOverlay(), self._image.getCalibration()
        rois = [] if overlay is None else [overlay.get(k).getFloatBounds() for k in range(overlay.size())]
        return {"kind": self.stack.kind, "source": self.stack.source, "count": int(self._image.getStackSize()),
                "index": index, "name": self._known[index].name, "path": self._known[index].path,
                "limits": [float(self._image.getDisplayRangeMin()), float(self._image.getDisplayRangeMax())],
                "pixel": [float(calibration.pixelHeight), float(calibration.pixelWidth)],
                "picks": [[float(roi.getCenterX()) - 0.5, float(roi.getCenterY()) - 0.5] for roi in rois],
                "title": str(self._image.getTitle()), "file": "%d.npy" % number}

    def close(self):
        if self.is_open():
            self._image.changes = False
            self._image.close()

    def _new_stack(self, pictures):
        found = self._stack_class()
        for picture in pictures:
            found.addImage(self._file_info(picture))
        return found

    def _file_info(self, picture):
        info = self._info()
        # The file has no name: it is open here, and Java runs in this process.
        info.directory, info.fileName = "/proc/self/fd/", str(self.stack.descriptor)
        info.height, info.width = self.stack.shape
        info.fileFormat, info.nImages = self._info.RAW, 1
        info.fileType = {"u1": self._info.GRAY8, "u2": self._info.GRAY16_UNSIGNED,
                         "f4": self._info.GRAY32_FLOAT}[self.stack.dtype.str[1:]]
        info.intelByteOrder = True
        info.longOffset = picture.slot * self.stack.bytes
        return info

    def _show(self):
        corner = self._windows.next_corner(self.stack.shape[1])
        self._image = self._ij.ImagePlus(self.stack.kind, self._virtual)
        picture = self.stack.pictures[-1]
        if picture.pixel_size:
            calibration = self._image.getCalibration()
            calibration.pixelWidth = calibration.pixelHeight = picture.pixel_size * picture.binning
            calibration.setUnit("\u00c5")
        if corner is not None:
            self._ij.gui.ImageWindow.setNextLocation(*corner)
        self._limits = self._drawn = None
        self._image.show()

    def _set_limits(self, limits):
        """Grey values of the image shown, unless the user has chosen others; ImageJ has its own for each image."""
        self._settled = max(self._settled, self._changed + SETTLE_SECONDS)
        self._image.setDisplayRange(*(self._chosen or limits))
        self._limits = self._range()
        self._image.updateAndDraw()

    def _notice_choice(self):
        """Whether the user has changed the grey values of the image that is looked at."""
        if self.shown is not None and self._limits is not None and self._range() != self._limits \
                and time.monotonic() >= self._settled:
            self._limits = self._chosen = self._range()

    def _range(self):
        return float(self._image.getDisplayRangeMin()), float(self._image.getDisplayRangeMax())

    def _draw_picks(self, picture, points):
        if (picture, points) == self._drawn:
            return
        self._drawn = picture, points
        overlay = self._ij.gui.Overlay()
        for x, y, side in points:
            # A pixel's middle is at a half in ImageJ.
            circle = self._ij.gui.OvalRoi(x + 0.5 - side / 2, y + 0.5 - side / 2, side, side)
            circle.setStrokeColor(jpype.JPackage("java").awt.Color.GREEN)
            overlay.add(circle)
        self._image.setOverlay(overlay)
