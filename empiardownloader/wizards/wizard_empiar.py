# SPDX-License-Identifier: GPL-3.0-or-later
"""The magic wands of the form: look an entry up, choose its image set, browse its files."""
import os
import re

from pwem.wizards import EmWizard
from pyworkflow.gui import dialog
from pyworkflow.gui.tree import TreeProvider
from pyworkflow.object import String
from pyworkflow.utils import Icon

from .. import Plugin, constants
from ..archive.api import fetch_entry_json
from ..archive.entry import parse_entry, parse_entry_id
from ..archive.errors import ArchiveError
from ..archive.names import split_compression, split_path
from ..archive.remote import CONNECT_TIMEOUT
from ..archive.remote.choice import open_archive
from ..archive.remote.transports import CHOICES
from ..archive.selection import spellings
from ..archive.workflow import fetch_workflow
from ..catalogue.codes import entry_number, is_code
from ..protocols.protocol_empiar_download import EmpiarDownloader
from ..protocols.workflow import getMissing, makeWorkflow
from .dialogs import RemoteTreeDialog, ask

TITLE = "EMPIAR"
MAKE = "Make this workflow"


class _EntryWizard(EmWizard):
    """ What the wizards share: the entry that the form names. """

    def _askEntry(self, form):
        """ The entry, or None after the user was told why not. """
        text = form.protocol.entryId.get()
        try:
            words = text.strip() if is_code(text) else "entry " + parse_entry_id(text)
        except ArchiveError as error:
            dialog.showError(TITLE, str(error), form.root)
            return None

        def fetch():
            number = entry_number(text, Plugin.getAddresses())
            return parse_entry(number, fetch_entry_json(Plugin.getVar(constants.EMPIAR_API_URL), number))

        return ask(form.root, "Asking EMPIAR for %s ..." % words, fetch)

    @staticmethod
    def _openArchive(form, entry):
        """ Where the files of the entry are, by the form's transport. """
        return open_archive(entry.number, *_EntryWizard._where(form))

    @staticmethod
    def _where(form):
        """ The addresses of the archives, and the form's transport. """
        return Plugin.getAddresses(), CHOICES[form.protocol.transport.get() or 0]


class EmpiarEntryWizard(_EntryWizard):
    """ Shows what an entry is before anything runs. """
    _targets = [(EmpiarDownloader, ["entryId"])]

    def show(self, form, *args):
        entry = self._askEntry(form)
        if entry is None:
            return
        lines = ["*%s*" % entry.name, entry.title, "", "Authors: %s" % (entry.first_authors or "?"),
                 "Organisation: %s" % (entry.organization or "?"), "Size: %s" % (entry.dataset_size or "?"),
                 "Released %s" % (entry.release_date or "?"), "", "Image sets:"]
        lines += [imageSet.describe() for imageSet in entry.image_sets]
        lines += ["", "[[%s][%s]]" % (entry.page, entry.page)]
        form.setVar("entryId", entry.number)
        lines += self._clearOthers(form, entry)
        lines += ["Its workflow: [[%s][%s]]" % (url, url) for url in entry.workflow_urls]
        if not entry.workflow_file:
            dialog.showInfo(TITLE, "\n".join(lines), form.root)
            return
        lines += ["", "The depositors' own workflow: %s" % entry.workflow_file]
        asked = dialog.MessageDialog(form.root, TITLE, "\n".join(lines), Icon.INFO, default="Close", buttons=[
            (MAKE, dialog.RESULT_YES), ("Close", dialog.RESULT_CANCEL)])
        if asked.resultYes():
            self._makeWorkflow(form, entry)

    def _makeWorkflow(self, form, entry):
        """ The entry's own workflow, with downloads in place of its imports. """
        workflow = ask(form.root, "Fetching %s ..." % entry.workflow_file, lambda: fetch_workflow(
            entry, *self._where(form)))
        if workflow is None:
            return
        missing = getMissing(workflow)
        try:
            loose = workflow.loose + makeWorkflow(form.protocol.getProject(), workflow)
        except ArchiveError as error:
            dialog.showError(TITLE, str(error), form.root)
            return
        count = sum(step["object.className"] not in missing for step in workflow.steps)
        lines = ["Made in the project: %d of the workflow's %d protocols. None of them runs; look at each before you "
                 "execute it, for they come from the entry's depositors." % (count, len(workflow.steps)), "",
                 *workflow.replaced]
        for names, words in ((missing, "No plugin here has these protocols, which were skipped: %s."),
                             (workflow.kept, "The entry has no image set that could take the place of %s."),
                             (workflow.elsewhere, "These name files of the depositors' disk: %s."),
                             (list(dict.fromkeys(loose)), "An input is missing, choose it by hand: %s.")):
            if names:
                lines += ["", words % ", ".join(names)]
        dialog.showInfo(TITLE, "\n".join(lines), form.root)

    @staticmethod
    def _clearOthers(form, entry):
        """ What was chosen for another entry is not for this one. """
        protocol = form.protocol
        try:
            entry.image_set(protocol.imageSet.get())
        except ArchiveError:
            names = [name for name in ("imageSet", "filePattern", "gainPattern", "particlesFile")
                     if protocol.getAttributeValue(name)]
            for name in names:
                form.setVar(name, "")
            return ["", "This entry has no such image set as the form named: %s were cleared." % ", ".join(
                protocol.getParam(name).getLabel() for name in names)]
        return []


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
                                   "Becomes: the Scipion set you get. files: downloaded only, in no set.",
                                   selectmode="browse", selectOnDoubleClick=True)
        if chosen.resultYes() and chosen.values:
            form.setVar("imageSet", chosen.values[0].get())


class _PatternWizard(_EntryWizard):
    """ Browses the entry's folders; what is chosen becomes a pattern. """
    _parameter = ""
    _message = ""
    _filesOnly = False

    def show(self, form, *args):
        entry = self._askEntry(form)
        if entry is None:
            return
        archive = ask(form.root, "Connecting to the archive ...", lambda: self._openArchive(form, entry))
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
        if not chosen.chosen:
            return
        if self._filesOnly and chosen.chosen.endswith("/"):
            dialog.showError(TITLE, "%s is a folder: select a file." % chosen.chosen, form.root)
            return
        form.setVar(self._parameter, self._makePattern(chosen.chosen))
        if self._parameter == "filePattern":
            self._chooseImageSet(form, entry, chosen.chosen)

    @staticmethod
    def _chooseImageSet(form, entry, path):
        """ Files of another image set than the form's would not be found. """
        try:
            current = entry.image_set(form.protocol.imageSet.get())
        except ArchiveError:
            current = None
        its = [(len(folder), imageSet) for imageSet in entry.image_sets
               for folder in spellings(split_path(imageSet.directory)) if (path + "/").startswith(folder + "/")]
        if its and max(its, key=lambda item: item[0])[1] != current:
            imageSet = max(its, key=lambda item: item[0])[1]
            form.setVar("imageSet", str(imageSet.number))
            dialog.showInfo(TITLE, "These files belong to another image set, which the form has now: %s."
                            % imageSet.describe(), form.root)

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
    _filesOnly = True
    _message = "Select the gain reference."

    def _makePattern(self, path):
        return path.rstrip("/")
