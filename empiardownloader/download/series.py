# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run keeps of tilt series: which images they have, in the record, and what describes them, in a folder."""
import os
import time
from typing import Callable, Dict, Optional

from ..archive.errors import DiskError
from ..archive.mdoc import Mdoc, write_mdoc
from ..archive.selection import RemoteFile
from ..archive.series import Series
from .record.events import Event, SeriesKnown, TiltKnown
from .record.facts import Facts

# All .mdoc files of a run, where "compose tilt series" looks for them.
MDOC_OUTPUT_FOLDER = "mdocs"
FINISHED_SECONDS = 24 * 3600


class Tilts:
    """Writes down each series when its first image is asked for."""

    def __init__(self, folder: str, facts: Facts, note: Callable[[Event], None],
                 name_of: Callable[[RemoteFile], str]):
        """``note`` writes an event, ``name_of`` gives the local name of an image."""
        self._folder, self._facts, self._note, self._name_of = folder, facts, note, name_of
        self._begun: Dict[str, Series] = {}

    def begin(self, series: Optional[Series]) -> None:
        # A second look into the folders may show more of a series.
        if series is None or self._begun.get(series.name) is series:
            return
        self._begun[series.name] = series
        said = series.description or Mdoc()
        tilts = tuple(TiltKnown(tilt.path, tilt.angle, tilt.order, tilt.dose, tilt.before) for tilt in series.tilts)
        known = SeriesKnown(
            series.name, tilts or (TiltKnown(series.images[0].path),), self._write_mdoc(series), said.axis,
            series.is_stack, said.pixel_size, said.voltage, said.magnification, said.dose_from, series.ordered,
            tuple(series.lacking))
        if self._facts.series.get(series.name) != known:
            self._note(known)

    def _write_mdoc(self, series: Series) -> str:
        """The .mdoc with the names that the images have here -> its local name, '' where there is none.

        "Compose tilt series" finds the images of a tilt by that name.
        """
        if series.description is None:
            return ""
        name = os.path.join(MDOC_OUTPUT_FOLDER, series.name + ".mdoc")
        images = {image.path: image for image in series.images}
        text = write_mdoc(series.description, {
            tilt.section: "" if series.is_stack else self._name_of(images[tilt.path]) for tilt in series.tilts})
        target = os.path.join(self._folder, name)
        temporary = os.path.join(self._folder, MDOC_OUTPUT_FOLDER, ".%s.mdoc" % series.name)
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(temporary, "w", encoding="utf-8") as stream:
                stream.write(text)
            # "Compose tilt series" waits minutes for more tilts after the last change; this series has ended long ago.
            os.utime(temporary, (time.time() - FINISHED_SECONDS,) * 2)
            os.replace(temporary, target)
        except OSError as error:
            msg = "%s cannot be written (%s): make room or choose another place, then Continue." % (
                target, (error.strerror or str(error)).lower())
            raise DiskError(msg) from error
        return name
