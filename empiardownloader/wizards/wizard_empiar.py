# SPDX-License-Identifier: GPL-3.0-or-later
"""The magic wands of the form: look an entry up, choose its image set, browse its files."""
import os
import re

from pwem.wizards import EmWizard
from pyworkflow.gui import dialog
from pyworkflow.gui.tree import TreeProvider
from pyworkflow.object import String

from .. import Plugin, constants
from ..archive.api import fetch_entry_json
from ..archive.entry import parse_entry, parse_entry_id
from ..archive.errors import ArchiveError
from ..archive.names import split_compression
from ..archive.remote import CONNECT_TIMEOUT
from ..archive.remote.choice import open_archive
from ..protocols.form import TRANSPORTS
from ..protocols.protocol_empiar_download import EmpiarDownloader
from .dialogs import RemoteTreeDialog, ask

TITLE = "EMPIAR"


class _EntryWizard(EmWizard):
    """ What the wizards share: the entry that the form names. """

    def _askEntry(self, form):
        """ The entry, or None after the user was told why not. """
        try:
            number = parse_entry_id(form.protocol.entryId.get())
        except ArchiveError as error:
            dialog.showError(TITLE, str(error), form.root)
            return None
        return ask(form.root, "Asking EMPIAR for entry %s ..." % number, lambda: parse_entry(
            number, fetch_entry_json(Plugin.getVar(constants.EMPIAR_API_URL), number)))


class EmpiarEntryWizard(_EntryWizard):
    """ Shows what an entry is before anything runs. """
    _targets = [(EmpiarDownloader, ["entryId"])]

    def show(self, form, *args):
        entry = self._askEntry(form)
        if entry is None:
            return
        authors = ", ".join(entry.authors[:5]) + (" and others" if len(entry.authors) > 5 else "")
        lines = ["*%s*" % entry.name, entry.title, "", "Authors: %s" % (authors or "?"),
                 "Organisation: %s" % (entry.organization or "?"), "Size: %s" % (entry.dataset_size or "?"),
                 "Status: %s, released %s" % (entry.status, entry.release_date or "?"), "", "Image sets:"]
        lines += [imageSet.describe() for imageSet in entry.image_sets]
        lines += ["", "[[%s][%s]]" % (entry.page, entry.page)]
        form.setVar("entryId", entry.number)
        dialog.showInfo(TITLE, "\n".join(lines), form.root)


class ImageSetProvider(TreeProvider):
    """ The rows of the list of image sets. """

    def __init__(self, entry):
        TreeProvider.__init__(self)
        self._entry = entry

    def getColumns(self):
        return [("No.", 50), ("Name", 230), ("Category", 240), ("Format", 80), ("Images", 80), ("Pixel size (Å)", 110),
                ("Becomes", 150)]

    def getObjects(self):
        objects = []
        for imageSet in self._entry.image_sets:
            item = String(str(imageSet.number))
            item.imageSet = imageSet
            objects.append(item)
        return objects

    def getObjectInfo(self, item):
        imageSet = item.imageSet
        texts = (imageSet.name or imageSet.directory, imageSet.category, imageSet.data_format, imageSet.num_images,
                 imageSet.pixel_size, imageSet.kind.name)
        return {"key": item.get(), "text": item.get(), "values": tuple("" if t is None else str(t) for t in texts)}


class EmpiarImageSetWizard(_EntryWizard):
    """ Chooses from the image sets of the entry. """
    _targets = [(EmpiarDownloader, ["imageSet"])]

    def show(self, form, *args):
        entry = self._askEntry(form)
        if entry is None:
            return
        chosen = dialog.ListDialog(form.root, "Image sets of %s" % entry.name, ImageSetProvider(entry),
                                   "The output follows from the image set: what the last column says, or files alone.",
                                   selectmode="browse", selectOnDoubleClick=True)
        if chosen.resultYes() and chosen.values:
            form.setVar("imageSet", chosen.values[0].get())


class _PatternWizard(_EntryWizard):
    """ Browses the entry's folders; what is chosen becomes a pattern. """
    _parameter = ""
    _message = ""

    def show(self, form, *args):
        entry = self._askEntry(form)
        if entry is None:
            return
        transport = TRANSPORTS[form.protocol.transport.get() or 0]
        urls = Plugin.getVar(constants.EMPIAR_FTP_URL), Plugin.getVar(constants.EMPIAR_HTTPS_URL)
        archive = ask(form.root, "Connecting to the archive ...",
                      lambda: open_archive(entry.number, *urls, transport))
        if archive is None:
            return

        def lister(folder):
            # A connection each time: while a user reads, the server would close it anyway.
            connection = archive.connect(CONNECT_TIMEOUT)
            try:
                return connection.list_folder(folder)
            finally:
                connection.close()

        chosen = RemoteTreeDialog(form.root, "Files of %s" % entry.name, self._message, lister)
        if chosen.chosen:
            form.setVar(self._parameter, self._makePattern(chosen.chosen))

    def _makePattern(self, path):
        raise NotImplementedError


class EmpiarFilePatternWizard(_PatternWizard):
    _targets = [(EmpiarDownloader, ["filePattern"])]
    _parameter = "filePattern"
    _message = "Select an image: the pattern then takes all files named like it.\nSelect a folder: all files in it."

    def _makePattern(self, path):
        """ 'data/Grid_1/Foil_0012_frames.tif' -> 'data/Grid_1/Foil_*_frames.tif', 'data/Grid_1/' -> 'data/Grid_1/*' """
        folder, name = os.path.split(path)
        if not name:
            return path + "*"
        stem, compression = split_compression(name)
        stem, extension = os.path.splitext(stem)
        return os.path.join(folder, re.sub(r"\d[\d_.-]*\d|\d", "*", stem) + extension + compression)


class EmpiarGainPatternWizard(_PatternWizard):
    _targets = [(EmpiarDownloader, ["gainPattern"])]
    _parameter = "gainPattern"
    _message = "Select the gain reference."

    def _makePattern(self, path):
        return path.rstrip("/")
