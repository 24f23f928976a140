# SPDX-License-Identifier: GPL-3.0-or-later
"""napari's window: a layer for each stack, side by side, under one slider. For napari 0.4.19 and later.

All is done in the thread of the windows, by a timer.
"""
import inspect
import os

import napari
import numpy
from live_loop import Screen
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QPushButton

TICK_MS = 50
GAP = 1.04              # between two layers, in their widths
PICKS_COLOUR = "#33ff66"


class Planes:
    """A stack as an array (positions, height, width) of which only the image looked at is read; where it has none there
    are zeros.

    ``is_frames``: it is the frames of a movie: (frames, 1, height, width). ``dims``: napari's, of the window.
    """

    def __init__(self, stack, positions, dims, is_frames=False):
        self.stack, self._positions, self._dims, self._is_frames = stack, positions, dims, is_frames
        self.dtype = stack.dtype

    @property
    def shape(self):
        middle = (1,) if self._is_frames else ()
        length = len(self.stack) if self._is_frames else len(self._positions.keys)
        return (max(1, length), *middle, *self.stack.shape)

    @property
    def ndim(self):
        return 4 if self._is_frames else 3

    @property
    def size(self):
        return int(numpy.prod(self.shape))

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        first, rest = key[0], key[1:]
        if not isinstance(first, slice):
            return self._read(int(first))[rest]
        wanted = range(*first.indices(len(self)))
        if wanted and self._dims.ndisplay != 2:
            # napari asks for the whole volume before anybody can set it back to two dimensions.
            return numpy.broadcast_to(self._read(wanted[0]), (len(wanted), *self.shape[1:]))[(slice(None), *rest)]
        found = [self._read(index) for index in wanted]
        shape = (0, *self.shape[1:])
        return (numpy.stack(found) if found else numpy.zeros(shape, self.dtype))[(slice(None), *rest)]

    def __array__(self, dtype=None, copy=None):
        del copy        # there is nothing but copies
        return numpy.asarray(self[:], dtype)

    def _read(self, index):
        pictures, keys = self.stack.pictures, self._positions.keys
        if self._is_frames:
            picture = pictures[index] if index < len(pictures) else None
        else:
            picture = self.stack.by_key.get(keys[index]) if index < len(keys) else None
        if picture is None:
            return numpy.zeros(self.shape[1:], self.dtype)
        return self.stack.pixels(picture).reshape(self.shape[1:])


class NapariScreen(Screen):
    """napari's window."""

    def __init__(self, request):
        del request
        self.viewer = None
        self._layers = {}           # stack -> image layer
        self._limits = {}           # stack -> the grey values that were set here last
        self._picks = {}            # stack -> points layer
        self._hidden = set()        # stacks that have nothing here
        self._shown = None          # the key of what is looked at
        self._led = None            # where the slider was led to last
        self._button = None
        self._moving = self._was_following = False
        self._view = None           # where the camera was put last

    def open(self):
        self.viewer = napari.Viewer(title=self.model.title or "napari")
        self.viewer.text_overlay.visible = True
        self.viewer.text_overlay.position = "top_left"
        self.viewer.dims.events.current_step.connect(self._moved)
        self.viewer.dims.events.ndisplay.connect(self._keep_flat)
        self.entitle()

    def run(self, turn, ending):
        timer = QTimer()
        timer.timeout.connect(lambda: self.viewer.close() if ending.is_set() else turn())
        timer.start(TICK_MS)
        napari.run()

    def prepare(self):
        self._was_following = self._follows()

    def _keep_flat(self, event=None):
        """In three dimensions napari would hold all images at once."""
        del event
        if self.viewer.dims.ndisplay != 2:
            self.viewer.dims.ndisplay = 2
            self.viewer.status = "Images are shown one by one: there is no view in three dimensions."

    def _show_all(self):
        """All layers in view, unless the user has moved it."""
        camera = self.viewer.camera
        if self._view is None or numpy.allclose(self._view, (camera.zoom, *camera.center)):
            self.viewer.reset_view()
            self._view = (camera.zoom, *camera.center)

    def looked_at(self):
        return {stack: stack.by_key.get(self._shown) for stack in self._layers}

    def offer_frames(self):
        if self._button is None:
            self._button = QPushButton("Frames of this movie")
            self._button.clicked.connect(self._ask_for_frames)
            self.viewer.window.add_dock_widget(self._button, name="Movie", area="left")

    # Layers.

    def draw(self, changed, any_taken):
        if not any_taken and not changed and all(stack in self.model.stacks.values() for stack in self._layers):
            return
        follows = self._was_following
        self._moving = True
        try:
            self._remove_layers()
            for stack, layer in self._layers.items():
                if stack in changed or stack is not self.model.frames:
                    # The same one, so that its length is asked for again.
                    layer.data = layer.data
            for stack in changed:
                if stack not in self._layers:
                    self._add(stack)
            newest = [stack.pictures[-1].key for stack in changed if stack is not self.model.frames]
            if follows and newest:
                self._led = max(newest, key=self._place_of)
            # Whatever has changed: a layer that is added may move the slider, too.
            self._go_to(self._place_of(self._led if follows else self._shown))
        finally:
            self._moving = False
        self._moved()

    def _remove_layers(self):
        """Those of stacks that are gone, and those that the user has removed, which come again with the next image."""
        for stack, layer in list(self._layers.items()):
            if stack in self.model.stacks.values() and layer in self.viewer.layers:
                continue
            self._hidden.discard(stack)
            for gone in (self._layers.pop(stack), self._picks.pop(stack, None)):
                if gone is not None and gone in self.viewer.layers:
                    self.viewer.layers.remove(gone)

    def _add(self, stack):
        picture = stack.pictures[-1]
        is_frames = stack is self.model.frames
        unit, top, left = self._place(stack, picture)
        middle = (1,) if is_frames else ()
        self._limits[stack] = _range(picture.limits)
        layer = self.viewer.add_image(
            Planes(stack, self.model.positions, self.viewer.dims, is_frames), name=self.model.name_of(stack),
            colormap="gray", contrast_limits=self._limits[stack], multiscale=False, scale=(1, *middle, unit, unit),
            translate=(0, *middle, top, left), **self._units(3 + len(middle), stack))
        self._layers[stack] = layer
        labels = ("frame", "no.", "y", "x")
        self.viewer.dims.axis_labels = labels[4 - self.viewer.dims.ndim:]
        for other, known in self._layers.items():
            known.name = self.model.name_of(other)
        self._show_all()
        self.viewer.scale_bar.visible = True

    def _units(self, axes, stack):
        """Of a layer of so many axes: all of them have the same, since all lie in one plane. (From napari 0.5.1 on.)"""
        first = next(iter(self._layers), stack)
        if not first.pictures[0].pixel_size or "units" not in inspect.signature(self.viewer.add_image).parameters:
            return {}
        return {"units": (*("pixel" for _ in range(axes - 2)), "angstrom", "angstrom")}

    def _place(self, stack, picture):
        """-> the size of its pixels, and where its upper left corner lies: a row for each source, in it one beside
        the other; frames below. Of another section nothing is seen at the same time."""
        unit = picture.pixel_size * picture.binning if picture.pixel_size else 1.0
        beside = {other: layer for other, layer in self._layers.items()
                  if not len(other) or other.pictures[0].section == picture.section}
        row = [other for other in beside if other.source == stack.source and other is not self.model.frames]
        if row and not picture.pixel_size:
            # As high as the image that it belongs to.
            unit = row[0].shape[0] * float(self._layers[row[0]].scale[-1]) / stack.shape[0]
        corners = [(layer.translate[-2] + other.shape[0] * layer.scale[-2],
                    layer.translate[-1] + other.shape[1] * layer.scale[-1]) for other, layer in beside.items()
                   if other in row]
        if corners and stack is not self.model.frames:
            return unit, float(self._layers[row[0]].translate[-2]), max(right for _, right in corners) * GAP
        lowest = max((layer.translate[-2] + other.shape[0] * layer.scale[-2] for other, layer in beside.items()),
                     default=0.0)
        return unit, lowest * GAP, 0.0

    # The slider. Frames, where there are, have one of their own before it.

    def _axis(self):
        return max(0, self.viewer.dims.ndim - 3)

    def _index(self):
        return max(0, min(int(self.viewer.dims.current_step[self._axis()]), len(self.model.positions.keys) - 1))

    def _place_of(self, key):
        """The position of a key, of one that is gone the last."""
        keys = self.model.positions.keys
        return keys.index(key) if key in keys else len(keys) - 1

    def _follows(self):
        """Whether the slider stands where it was led to, or at the end."""
        return self._shown is None or self._shown == self._led or self._shown not in self.model.positions.keys or (
            self._shown == self.model.positions.keys[-1])

    def _go_to(self, index):
        if index >= 0 and self._layers and self._index() != index:
            self.viewer.dims.set_current_step(self._axis(), index)

    def _moved(self, event=None):
        """The slider is elsewhere, or what is there has changed."""
        del event
        if self._moving or not self.model.positions.keys or not any(
                layer in self.viewer.layers for layer in self._layers.values()):
            return
        self._shown = self.model.positions.keys[self._index()]
        if self.model.frames in self._layers:
            self._place_frames(self._layers[self.model.frames])
        for stack, layer in self._layers.items():
            picture = self._picture(stack)
            self._hide(stack, layer, picture is None)
            if picture is not None:
                self._set_limits(stack, layer, picture.limits)
            if stack.takes_picks:
                self._draw_picks(stack, layer, picture)
        self.entitle()

    def _hide(self, stack, layer, nothing):
        """A layer that has no image here is not seen, unless its user decides otherwise: zeros would be grey."""
        if nothing != (stack in self._hidden):
            if nothing:
                self._hidden.add(stack)
            else:
                self._hidden.discard(stack)
            layer.visible = not nothing

    def _place_frames(self, layer):
        """Where the slider is at their movie: others may have come before it since."""
        movie = self.model.frames.pictures[0].of
        key = next((picture.key for stack in self._layers for picture in stack.pictures if picture.path == movie), None)
        at = self._place_of(key)
        if key is not None and layer.translate[-3] != at:
            layer.translate = (*layer.translate[:-3], at, *layer.translate[-2:])

    def _picture(self, stack):
        """What is looked at of a stack; None where it has nothing there."""
        if stack is self.model.frames:
            return stack.pictures[min(int(self.viewer.dims.current_step[0]), len(stack) - 1)]
        return stack.by_key.get(self._shown)

    def _set_limits(self, stack, layer, limits):
        """Grey values of the image shown, unless the user has chosen others."""
        if limits and numpy.allclose(layer.contrast_limits, self._limits[stack]):
            self._limits[stack] = _range(limits)
            layer.contrast_limits_range = self._limits[stack]
            layer.contrast_limits = self._limits[stack]

    def _draw_picks(self, stack, layer, picture):
        found = self.model.picks_over(picture) if picture is not None else []
        points = numpy.array([(y, x) for x, y, _ in found], "float64").reshape(-1, 2)
        drawn = self._picks.get(stack)
        if drawn is None and not len(points):
            return
        if drawn is None:
            names = inspect.signature(self.viewer.add_points).parameters
            border = "border" if "border_color" in names else "edge"     # before napari 0.5
            drawn = self._picks[stack] = self.viewer.add_points(
                points, ndim=2, name="picks", face_color="transparent", scale=layer.scale[-2:],
                translate=layer.translate[-2:], **{border + "_color": PICKS_COLOUR}, **self._units(2, stack))
        if drawn not in self.viewer.layers:
            return      # the user does not want to see them
        drawn.data = points
        if len(points):
            drawn.size = numpy.array([side for _, _, side in found])

    # What is told.

    def entitle(self):
        words = self.model.describe_at(self._index())
        self.viewer.title = " - ".join(word for word in (words, self.model.caption()) if word)
        self.viewer.text_overlay.text = words

    def _ask_for_frames(self):
        for stack in self._layers:
            picture = stack.by_key.get(self._shown)
            if stack.takes_picks and stack is not self.model.frames and picture is not None:
                self.want(stack, picture)
                return

    def snapshot(self, folder):
        os.makedirs(folder, exist_ok=True)
        layers = []
        for number, (stack, layer) in enumerate(self._layers.items()):
            picture = self._picture(stack)
            index = stack.place_of(picture) if stack is self.model.frames else self._index()
            numpy.save(os.path.join(folder, "%d.npy" % number), numpy.asarray(layer.data[index]).reshape(stack.shape))
            picks = self._picks.get(stack)
            layers.append({
                "kind": stack.kind, "source": stack.source, "count": len(stack), "index": index,
                "name": picture.name if picture else "", "path": picture.path if picture else "",
                "limits": [float(limit) for limit in layer.contrast_limits],
                "pixel": [float(size) for size in layer.scale[-2:]],
                "picks": [] if picks is None else [[float(x), float(y)] for y, x in picks.data],
                "file": "%d.npy" % number})
        self.viewer.screenshot(os.path.join(folder, "window.png"), canvas_only=False, flash=False)
        return {"title": self.viewer.title, "layers": layers}


def _range(limits):
    """Grey values of black and of white, which have to differ."""
    low, high = limits
    return (float(low), float(high)) if high > low else (float(low) - 1, float(low) + 1)
