# SPDX-License-Identifier: GPL-3.0-or-later
"""The magic wands of the form: look an entry up, choose its image set, browse its files."""
import os
import re

from pwem.wizards import EmWizard
from pyworkflow.gui import dialog

from .. import Plugin
from ..archive.entry import parse_entry_id
from ..archive.errors import ArchiveError
from ..archive.names import (
    BAR,
    IMAGE_EXTENSIONS,
    extension_of,
    is_named,
    literally,
    matches_name,
    spelt_names,
    split_compression,
    split_path,
)
from ..archive.remote import CONNECT_TIMEOUT
from ..archive.remote.choice import open_archive
from ..archive.remote.transports import CHOICES
from ..archive.selection import DARK_NAMES, GAIN_NAMES, spellings
from ..archive.stopping import StopToken
from ..archive.workflow import fetch_workflow
from ..catalogue.codes import entry_number, is_code
from ..protocols.form import FIGURES
from ..protocols.planned import inShort, makePlan, numberOf, remember
from ..protocols.protocol_empiar_download import EmpiarDownloader
from ..protocols.workflow import getMissing, makeWorkflow
from ..units import format_bytes
from .dialogs import RemoteTreeDialog, ask
from .find import FindDialog
from .finding import askFile, askImage, askRecord
from .image_sets import ImageSetDialog

TITLE = "EMPIAR"
# What a plan depends on.
PLANNED_BY = ("entryId", "imageSet", "allImages", "amountOfImages", "downloadGain", "companionFiles", "particlesFile",
              "filePattern", "gainPattern", "connections", "downloadFolder", "decompress")
# What belongs to one image set, and what to one entry: its microscope, too.
OF_IMAGE_SET = ("filePattern", "gainPattern", "particlesFile", "samplingRate", "dosePerFrame", "doseInitial")
OF_ENTRY = (*OF_IMAGE_SET, "imageSet", "voltage", "sphericalAberration", "magnification", "amplitudeContrast")


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

        def fetch(stopped):
            number = entry_number(text, Plugin.getAddresses(), StopToken(stopped))
            entry = askRecord(number, Plugin.getAddresses(), stopped).entry
            remember(entry)
            return entry

        return ask(form.root, "Asking EMPIAR for %s ..." % words, fetch)

    @staticmethod
    def _transport(form):
        return CHOICES[form.protocol.transport.get() or 0]

    @staticmethod
    def _clear(form, names):
        """ Empty these fields -> 'Label (its value)' of those that were not. """
        protocol, cleared = form.protocol, []
        for name in names:
            value = protocol.getAttributeValue(name)
            if value not in (None, ""):
                cleared.append("%s (%s)" % (protocol.getParam(name).getLabel(), value))
                form.setVar(name, "")
        return cleared

    @staticmethod
    def _sayCleared(form, cleared, what):
        if cleared:
            dialog.showInfo(TITLE, "Cleared, since it was for another %s: %s." % (what, ", ".join(cleared)), form.root)


class EmpiarEntryWizard(_EntryWizard):
    """ Finds an entry among all of them, and shows what it is before anything runs. """
    _targets = [(EmpiarDownloader, ["entryId"])]

    def show(self, form, *args):
        found = FindDialog(form.root, Plugin.getAddresses(), form.protocol.entryId.get() or "", self._transport(form))
        if found.chosen is None:
            return
        self._use(form, found.chosen, found.imageSet)
        if found.resultNo():
            entry = found.record.entry if found.record else self._askEntry(form)
            if entry is not None:
                self._makeWorkflow(form, entry)

    def _use(self, form, facts, imageSet):
        """ Fill the form; what was chosen or typed for another entry or image set is not for this one. """
        protocol = form.protocol
        number, kept = str(facts.number), str(numberOf(facts, protocol.imageSet.get()) or "")
        what = "entry" if self._entryOf(protocol) != number else "image set" if kept != imageSet else ""
        form.setVar("entryId", number)
        cleared = self._clear(form, {"entry": OF_ENTRY, "image set": OF_IMAGE_SET, "": ()}[what])
        # An empty field means the first image set of movies, which it goes on meaning.
        if what or kept != imageSet:
            form.setVar("imageSet", imageSet)
        showFigures(form)
        self._sayCleared(form, cleared, what)

    @staticmethod
    def _entryOf(protocol):
        """ The number that the form has, '' for what is none: a code may be of any entry. """
        try:
            return "" if is_code(protocol.entryId.get()) else parse_entry_id(protocol.entryId.get())
        except ArchiveError:
            return ""

    def _makeWorkflow(self, form, entry):
        """ The entry's own workflow, with downloads in place of its imports. """
        workflow = ask(form.root, "Fetching %s ..." % entry.workflow_file, lambda stopped: fetch_workflow(
            entry, Plugin.getAddresses(), self._transport(form), StopToken(stopped)))
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


class EmpiarImageSetWizard(_EntryWizard):
    """ Chooses from the image sets of the entry, by what each would bring. """
    _targets = [(EmpiarDownloader, ["imageSet"])]

    def show(self, form, *args):
        entry = self._askEntry(form)
        if entry is None:
            return
        protocol, addresses, transport = form.protocol, Plugin.getAddresses(), self._transport(form)
        try:
            current = entry.image_set(protocol.imageSet.get()).number
        except ArchiveError:
            current = None

        def plan(number, measure, job):
            return makePlan(protocol, entry.number, str(number), number == current, measure, job.stopped)

        def look(number, job):
            pattern = (protocol.filePattern.get() or "") if number == current else ""
            return askImage(entry.number, str(number), pattern, transport, addresses, job)

        asked = ImageSetDialog(form.root, entry, current, plan, look)
        if not asked.chosen:
            return
        if asked.chosen != str(current or ""):
            form.setVar("imageSet", asked.chosen)
            self._sayCleared(form, self._clear(form, OF_IMAGE_SET), "image set")
        showFigures(form)


class EmpiarFiguresWizard(_EntryWizard):
    """ Says in the form what a run would bring. """
    _targets = [(EmpiarDownloader, ["figures"])]

    def show(self, form, *args):
        entry = self._askEntry(form)
        if entry is None:
            return
        try:
            number = entry.image_set(form.protocol.imageSet.get()).number
        except ArchiveError as error:
            dialog.showError(TITLE, str(error), form.root)
            return
        plan = ask(form.root, "Listing what would come, and measuring the rate ...", lambda stopped: makePlan(
            form.protocol, entry.number, str(number), True, True, stopped))
        if plan is not None:
            showFigures(form)


def showFigures(form):
    """ Say in the form what a run would bring, by what is known of the values that it has, from now on. """
    label = form.widgetDict["figures"].label

    def show():
        if label.winfo_exists():
            label.config(text=inShort(form.protocol) or FIGURES)

    show()
    if not hasattr(form, "figuresWatched"):
        form.figuresWatched = True
        for name in PLANNED_BY:
            # The form tells the protocol of a new value after this was called.
            form.widgetDict[name].var.trace("w", lambda *_: label.after_idle(show))


class _PatternWizard(_EntryWizard):
    """ Browses the entry's folders; what is chosen becomes a pattern. """
    _parameter = ""
    _message = ""
    _looksAtFiles = _ticksFiles = False

    def show(self, form, *args):
        entry = self._askEntry(form)
        if entry is None:
            return
        archive = ask(form.root, "Connecting to the archive ...", lambda stopped: open_archive(
            entry.number, Plugin.getAddresses(), self._transport(form), stop=StopToken(stopped)))
        if archive is None:
            return

        def lister(folder, stopped):
            # A connection each time: while a user reads, the server would close it anyway.
            connection = archive.connect(CONNECT_TIMEOUT, StopToken(stopped))
            try:
                return connection.list_folder(folder)
            finally:
                connection.close()

        addresses, transport = Plugin.getAddresses(), self._transport(form)

        def look(path, job):
            return askFile(entry.number, path, transport, addresses, job)

        chosen = RemoteTreeDialog(form.root, "Files of %s" % entry.name, self._message, lister, self._describe,
                                  look if self._looksAtFiles else None, self._tickable if self._ticksFiles else None,
                                  self._startsOf(form, entry), self._tickedBefore(form))
        path = next(iter(chosen.ticked), "") or chosen.chosen
        if not path or not chosen.resultYes():
            return
        refusal = self._refuse(path)
        if refusal:
            dialog.showError(TITLE, refusal, form.root)
            return
        if len({self._imageSetOf(entry, each) for each in chosen.ticked}) > 1:
            dialog.showError(TITLE, "These files belong to several image sets, and a run takes one: tick files of one.",
                             form.root)
            return
        form.setVar(self._parameter, self._ofFiles(chosen.ticked) if chosen.ticked else self._makePattern(path))
        if self._parameter == "filePattern":
            self._chooseImageSet(form, entry, path)
        if chosen.ticked:
            form.setVar("amountOfImages", len(chosen.ticked))
            form.setVar("allImages", False)
        showFigures(form)

    @staticmethod
    def _imageSetOf(entry, path):
        """ The image set whose folder a path is in, None where it is in none. """
        its = [(len(folder), imageSet) for imageSet in entry.image_sets
               for folder in spellings(split_path(imageSet.directory)) if (path + "/").startswith(folder + "/")]
        return max(its, key=lambda item: item[0])[1] if its else None

    def _chooseImageSet(self, form, entry, path):
        """ Files of another image set than the form's would not be found. """
        try:
            current = entry.image_set(form.protocol.imageSet.get())
        except ArchiveError:
            current = None
        imageSet = self._imageSetOf(entry, path)
        if imageSet is None or imageSet == current:
            return
        form.setVar("imageSet", str(imageSet.number))
        cleared = self._clear(form, [name for name in OF_IMAGE_SET if name != self._parameter])
        dialog.showInfo(TITLE, "These files belong to another image set, which the form has now: %s.%s" % (
            imageSet.describe(), " Cleared, since it was for another: %s." % ", ".join(cleared) if cleared else ""),
                        form.root)

    @staticmethod
    def _tickable(path):
        """ Images, without those that are called like gain references. """
        return extension_of(path) in IMAGE_EXTENSIONS and not is_named(os.path.basename(path), GAIN_NAMES + DARK_NAMES)

    @staticmethod
    def _startsOf(form, entry):
        """ Where the folder of the form's image set may be. """
        try:
            return spellings(split_path(entry.image_set(form.protocol.imageSet.get()).directory))
        except ArchiveError:
            return ()

    def _tickedBefore(self, form):
        """ The files that the form's pattern spells. """
        return spelt_names(form.protocol.filePattern.get() or "") if self._ticksFiles else ()

    def _describe(self, path, listing):
        """ What choosing a path means, in words; the listing is its folder's. """
        size = dict(listing.files).get(os.path.basename(path))
        return "" if path.endswith("/") or size is None else "%s, %s" % (path, format_bytes(size))

    def _refuse(self, path):
        """ A sentence where a path cannot be what is looked for. """
        return "%s is a folder: select a file." % path if path.endswith("/") else ""

    def _makePattern(self, path):
        return literally(path.rstrip("/"))

    @staticmethod
    def _ofFiles(paths):
        return (" %s " % BAR).join(map(literally, paths))


class EmpiarFilePatternWizard(_PatternWizard):
    _targets = [(EmpiarDownloader, ["filePattern"])]
    _parameter = "filePattern"
    _ticksFiles = True
    _message = ("Select an image: the pattern then takes all files named like it. Select a folder: all files in it.\n"
                "Or tick the files that you want (a click on the title Take ticks all that are shown).")

    def _refuse(self, path):
        return ""

    def _describe(self, path, listing):
        pattern = os.path.basename(self._makePattern(path))
        sizes = [size or 0 for name, size in listing.files if matches_name(name, pattern)]
        return "%s matches %d files of this folder, %s." % (
            self._makePattern(path), len(sizes), format_bytes(sum(sizes)))

    def _makePattern(self, path):
        """ 'data/Grid_1/Foil_0012_frames.tif' -> 'data/Grid_1/Foil_*_frames.tif', 'data/Grid_1/' -> 'data/Grid_1/*' """
        folder, name = os.path.split(path)
        if not name:
            return literally(path) + "*"
        stem, compression = split_compression(name)
        stem, extension = os.path.splitext(stem)
        return os.path.join(literally(folder), re.sub(r"\d[\d_.-]*\d|\d", "*", literally(stem)) + extension
                            + compression)


class EmpiarGainPatternWizard(_PatternWizard):
    _targets = [(EmpiarDownloader, ["gainPattern"])]
    _parameter = "gainPattern"
    _looksAtFiles = True
    _message = "Select the gain reference."


class EmpiarParticlesFileWizard(_PatternWizard):
    _targets = [(EmpiarDownloader, ["particlesFile"])]
    _parameter = "particlesFile"
    _message = "Select the .star file that describes the particles."

    def _refuse(self, path):
        return "" if path.lower().endswith((".star", ".star.gz")) else "%s is no .star file: select one." % path
