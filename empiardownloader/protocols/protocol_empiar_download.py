# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol: its steps. What it knows of the network is the archive's and the transfer's business."""
import os
import threading
import time
from dataclasses import asdict

import pyworkflow.utils as pwutils
from pwem.protocols import EMProtocol
from pyworkflow import NEW
from pyworkflow.protocol import MODE_RESUME, STATUS_NEW, STEPS_PARALLEL

from .. import Plugin, constants
from ..archive import metadata
from ..archive.citing import how_to_cite
from ..archive.entry import parse_entry_id
from ..archive.errors import ArchiveError, Stopped
from ..archive.kinds import MOVIES, PARTICLES, TILT_SERIES
from ..archive.names import split_compression
from ..archive.remote.choice import open_archive
from ..archive.remote.transports import CHOICES
from ..archive.stopping import StopToken
from ..catalogue.codes import entry_number, is_code
from ..download.complete import nothing_missing
from ..download.download import Download
from ..download.record.events import (
    Ended,
    FileSkipped,
    ImageArrived,
    MicrographsNumbered,
    RemarkMade,
    SeriesRegistered,
    ValuesDecided,
)
from ..download.record.facts import Facts, RecordState
from ..download.record.log import RecordReader, add_event
from ..download.request import Places, Request
from ..images.header import BadImageError, Header
from ..transfer.jobs import Settings
from .acquisition import decidePixelSize
from .context import Context
from .form import addAcquisitionSection, addEntrySection, addTransferSection, findFormErrors
from .headers import readMovieHeader
from .outputs import makeSets, outputs
from .planned import findWarnings, getKindFields
from .summary import nameOf, summarize

LOG_SECONDS = 10        # between two lines of progress in the log


class EmpiarDownloader(EMProtocol):
    """ Download images from EMPIAR and register them while the download runs.

    Give the number of an entry of the Electron Microscopy Public Image Archive
    and how many of its images you want: movies, micrographs, particles, tilt
    series, class averages or volumes. Those that have arrived are in the output
    set at once, so that motion correction and CTF estimation can start while
    the rest is still on its way. Pixel size, dose, voltage, Cs and the gain
    reference are taken from the archives. An interrupted run goes on where it
    was when you press Continue.
    """
    _label = "empiar downloader"
    _devStatus = NEW
    _possibleOutputs = outputs
    _stepsCheckSecs = 3
    getKindFields = getKindFields       # asked by the form's conditions

    def __init__(self, **kwargs):
        EMProtocol.__init__(self, **kwargs)
        self.stepsExecutionMode = STEPS_PARALLEL
        self._stop = None           # StopToken of this run
        self._sets = None           # the output sets of this run
        self._reader = None         # reads the record as it grows
        self._state = RecordState()     # what it said so far
        self._arrived = []          # names of whole images that it told of and _stepsCheck has not taken yet
        self._factsLock = threading.RLock()     # guards these three; the sets ask, too, when asked what is in them
        self._waiting = []          # names that no step registers yet; of the engine's thread alone, as the next
        self._known = None          # names of images in the sets or given to a step; None before the first step

    # -------------------------- DEFINE param functions -----------------------
    def _defineParams(self, form):
        addEntrySection(form)
        addAcquisitionSection(form)
        addTransferSection(form)

    # -------------------------- INSERT steps functions -----------------------
    def _insertAllSteps(self):
        # A stop asked for in an earlier run is over now.
        pwutils.cleanPath(self._getStopFile())
        self._stop = StopToken(path=self._getStopFile())
        # On Continue the engine skips finished steps whose arguments are the same. The time makes all three run
        # again: they find out by themselves what is left to do, and that costs nothing where there is nothing.
        now = str(time.time())
        self._readId = self._insertFunctionStep(self.readXmlFileStep, self.entryId.get(), now)
        self._downloadId = self._insertFunctionStep(self.downloadImagesStep, now, prerequisites=[self._readId])
        self._closeId = self._insertFunctionStep(self.closeSetStep, now, prerequisites=[self._downloadId], wait=True)

    def _stepsCheck(self):
        """Called by the engine every few seconds, and once more after a failure."""
        if self.isFailed():
            # Nobody else tells the download, and the process ends only after it.
            self._stop.set()
            return
        if not self._getStep(self._readId).isFinished():
            return      # of which entry the run is now is known after that; before Continue it may have been another
        closing = self._getStep(self._closeId)
        # Asked before the record is read: what arrives in between is found the next time.
        ended = self._getStep(self._downloadId).isFinished()
        names, newSteps = self._takeNewNames(ended), []
        if names:
            stepId = self._insertFunctionStep(self.registerImageStep, *names, prerequisites=[self._readId])
            closing.addPrerequisites(stepId)
            newSteps.append(self._getStep(stepId))
        released = ended and not names and closing.isWaiting()
        if released:
            closing.setStatus(STATUS_NEW)
        if newSteps or released:
            self._storeNewSteps(newSteps, closing)

    def _storeNewSteps(self, newSteps, changedStep):
        """ updateSteps() would write every step of the run anew: with 10,000 of them 0.4 s for one movie. """
        for step in newSteps:
            step.cleanObjId()
            self._stepsSet.append(step)
        self._stepsSet.update(changedStep)
        self._stepsSet.write()
        self._numberOfSteps.set(len(self._steps))
        self._store(self._numberOfSteps)
        self._newSteps = False

    # -------------------------- STEPS functions -----------------------
    def readXmlFileStep(self, entryId, stamp):
        """ Get the metadata, from the archives or from the run's own folder. """
        try:
            number = entry_number(entryId, Plugin.getAddresses(), self._stop)
        except Stopped as error:
            raise ArchiveError("Stopped before the entry of %s was known: Continue asks for it again."
                               % entryId) from error
        if is_code(entryId):
            self.info("%s belongs to EMPIAR-%s." % (entryId, number))
        refusal = self._refuseOtherEntry(number)
        if refusal:
            raise ArchiveError(refusal)
        try:
            found = metadata.obtain(self.getMetadataFile(), number, Plugin.getAddresses(), self._stop)
        except Stopped as error:
            raise ArchiveError("Stopped before the metadata of entry %s had come: Continue asks for them again."
                               % number) from error
        imageSet = found.entry.image_set(self.imageSet.get())
        request = self.getRequest(found.entry, imageSet)
        facts = Facts.read(self.getRecordFile())
        if facts.images and not request.same_images_as(facts.begin):
            raise ArchiveError("This run already holds images of image set %s of EMPIAR-%s, chosen with other "
                               "settings (image set, patterns or decompression): choose Restart, or copy the "
                               "protocol." % (facts.begin.image_set, facts.begin.entry))
        # A file that describes particles or tilts tells it, too.
        described = (imageSet.kind == PARTICLES and (request.companions or request.particles_file)) \
            or imageSet.kind == TILT_SERIES
        context = Context(found, facts, imageSet)
        if decidePixelSize(self, context).value is None and not imageSet.kind.files_only and not described:
            raise ArchiveError("%s does not give the pixel size of image set %s: type it in under Acquisition."
                               % (found.entry.name, imageSet.describe()))
        self.info("%s: %s" % (found.entry.name, found.entry.title))
        self.info("Image set %s" % imageSet.describe())
        with self._lock:
            sets = self.getSets()
            sets.refresh(context)
        for why in (imageSet.why_files_only, sets.why, *found.acquisition.notes):
            if why:
                self.warning(why)

    def downloadImagesStep(self, stamp):
        """ Download what is missing; _stepsCheck finds in the record what arrives. """
        found = metadata.load(self.getMetadataFile())
        imageSet = found.entry.image_set(self.imageSet.get())
        request, places = self.getRequest(found.entry, imageSet), self.getPlaces()
        places.note_use(request)
        if nothing_missing(request, places):
            self.info("All the %s asked for are here already." % request.kind.many)
            self._endStop()
            return
        try:
            archive = open_archive(found.entry.number, Plugin.getAddresses(), CHOICES[self.transport.get()],
                                   stop=self._stop, patience=Settings.give_up)
        except Stopped:
            self.info("Stopped before the archive was reached.")
            return
        self.info("Downloading from the %s over up to %d connections." % (archive.server, self.connections.get()))
        self._logged = 0.0
        facts = Download(request, archive, places, Settings(connections=self.connections.get()), self._stop,
                         header_reader=readMovieHeader, on_progress=self._showProgress).run()
        for note in facts.notes:
            self.warning(note)
        if not facts.images and not self._stop.is_set():
            reasons = "; ".join("%s: %s" % item for item in list(facts.left_out.items())[:3])
            raise ArchiveError("No %s of %s could be downloaded (%s): look at %s, then Continue." % (
                request.kind.one, found.entry.name, reasons or "the image set is empty", found.entry.page))

    def _endStop(self):
        """ A stop of an earlier run is over, now that all is here. """
        end = Facts.read(self.getRecordFile()).end
        if end and end.stopped:
            self._write(Ended(complete=True, exhausted=end.exhausted, stopped=False))

    def registerImageStep(self, *names):
        """ Add images to the output sets.
        :param names: local names of images in the extra folder. """
        found = metadata.load(self.getMetadataFile())
        headers = {}
        for name in names:
            try:
                headers[name] = self._readHeader(found, name)
            except (BadImageError, OSError) as error:
                self._leaveOut(name, error)
        context = self._getContext()
        with self._lock:
            added = self.getSets().append(context, headers)
            self.getSets().settle(context)
        for output, count in added.items():
            self.info("Registered %d items in %s%s." % (count, output, ": " + ", ".join(headers) if len(headers) <= 3
                                                        else ""))

    def closeSetStep(self, stamp):
        """ Close the output sets: there will be no more images. """
        context = self._getContext()
        with self._lock:
            self.getSets().close(context)
            if not any(True for _ in self.getSets().iterSets()):
                self.warning("%d files are here, in no set." % len(context.facts.images) if context.facts.images
                             else "Nothing has arrived, so there is no output.")

    # -------------------------- INFO functions -----------------------
    def _validate(self):
        errors = []
        if Plugin.nameCollision():
            errors.append(Plugin.nameCollision())
        try:
            # Which entry a code belongs to is asked for when the run begins.
            number = "" if is_code(self.entryId.get()) else parse_entry_id(self.entryId.get())
        except ArchiveError as error:
            errors.append(str(error))
        else:
            if number and self.runMode.get() == MODE_RESUME and self._refuseOtherEntry(number):
                errors.append(self._refuseOtherEntry(number))
        return errors + findFormErrors(self)

    def _warnings(self):
        return findWarnings(self)

    def _summary(self):
        return summarize(self)

    def _methods(self):
        sets = [itsSet for _, itsSet in self.getSets().iterSets(recover=False) if itsSet.getSize()]
        facts = self.readFacts()
        try:
            entry = metadata.load(self.getMetadataFile()).entry
        except (OSError, ValueError):
            return []
        if not facts.images:
            return []
        kind = entry.image_set(self.imageSet.get()).kind
        return ["%d %s of %s (%s, DOI %s) were downloaded from the Electron Microscopy Public Image Archive%s." % (
            len(facts.images), kind.files, entry.name, entry.title.rstrip("."), entry.doi,
            "; pixel size %g Å" % sets[0].getSamplingRate() if sets else ""), "", *how_to_cite(entry)]

    def _citations(self):
        return ["Iudin2016", "Iudin2023"]

    def getActions(self):
        """ What the run's box offers. """
        return [("STOP STREAMING", self.stopDownload)] if self.isRunning() and not self.isStopping() else []

    def isStopping(self):
        """ Whether STOP STREAMING was chosen, and what is whole is still being registered. """
        return os.path.exists(self._getStopFile())

    def getRunName(self):
        """ 'EMPIAR-10200 movies', unless the user gave the run a name: a project
        has many downloads, and only the window may change a label. """
        return nameOf(EMProtocol.getRunName(self), self._label, self.getMetadataFile(), self.imageSet.get())

    def stopDownload(self, event=None):
        """ End the run from another process: what is whole gets registered. """
        with open(self._getStopFile(), "w"):
            pass

    # -------------------------- UTILS functions -----------------------
    def getSets(self):
        """ The output sets of the run, as OutputSets. """
        if self._sets is None:
            try:
                kind = metadata.load(self.getMetadataFile()).entry.image_set(self.imageSet.get()).kind
            except (OSError, ValueError, ArchiveError):
                return makeSets(self, MOVIES)   # not known yet
            self._sets = makeSets(self, kind)
        return self._sets

    def getSharedFolder(self):
        return os.path.expanduser((self.downloadFolder.get() or "").strip())

    def getAmount(self):
        """ How many are asked for, None for all. """
        return None if self.allImages.get() else self.amountOfImages.get()

    def _getStopFile(self):
        return self._getExtraPath(constants.STOP_FILE)

    def getRecordFile(self):
        return self._getExtraPath(constants.RECORD_FILE)

    def getMetadataFile(self):
        return self._getExtraPath(constants.METADATA_FILE)

    def getProgressFile(self):
        return self._getExtraPath(constants.PROGRESS_FILE)

    def _getStep(self, stepId):
        return self._steps[stepId - 1]

    def getPlaces(self):
        return Places(self._getExtraPath(), self.getRecordFile(), self.getSharedFolder(),
                      reserved=constants.RUN_FILES)

    def getRequest(self, entry, imageSet):
        """ What the form asks for of an image set, as Request. """
        return Request(
            entry=entry, image_set=imageSet, amount=self.getAmount(), file_pattern=self.filePattern.get() or "",
            gain=self.downloadGain.get(), gain_pattern=self.gainPattern.get() or "", unpack=self.decompress.get(),
            companions=self.companionFiles.get(), particles_file=self.particlesFile.get() or "")

    def _refuseOtherEntry(self, number):
        """ A sentence when the run holds images of another entry. """
        facts = Facts.read(self.getRecordFile())
        if not facts.images or not facts.begin or facts.begin.entry == number:
            return ""
        return ("This run already holds images of EMPIAR-%s: to get EMPIAR-%s choose Restart, or copy the protocol."
                % (facts.begin.entry, number))

    def _getContext(self):
        found = metadata.load(self.getMetadataFile())
        return Context(found, self.readFacts(), found.entry.image_set(self.imageSet.get()))

    def readFacts(self):
        """ What the record says by now: a picture of it, for steps and _stepsCheck read it in threads of their own. """
        with self._factsLock:
            if self._reader is None:
                self._reader = RecordReader(self.getRecordFile())
            for event in self._reader.new_events():
                self._state.apply(event)
                if isinstance(event, ImageArrived):
                    self._arrived.append(event.name)
            return self._state.snapshot()

    def _takeNewNames(self, ended):
        """ The images that became whole since the last time, each once it is known which references belong to it. """
        with self._factsLock:
            facts = self.readFacts()
            arrived, self._arrived = self._arrived, []
        if self._known is None:
            # Only here, in the run: a project window that opened the sets to read them would lock the run out.
            with self._lock:
                self._known = self.getSets().getRegisteredNames()
        # A file that an earlier run left and somebody removed since comes anew, with an event of its own.
        waiting = [name for name in dict.fromkeys(self._waiting + arrived) if name not in self._known]
        ready = [name for name in waiting if ended or self._isSettled(facts, name)]
        self._waiting = [name for name in waiting if name not in set(ready)]
        names = [name for name in ready if os.path.exists(self._getExtraPath(name))]
        self._known.update(names)
        return names

    def _isSettled(self, facts, name):
        return not self.downloadGain.get() or facts.is_settled(facts.images.get(name))

    def _readHeader(self, found, name):
        """ The header of an image on disk; None where it stays compressed, or is none that Scipion reads. """
        path = self._getExtraPath(name)
        imageSet = found.entry.image_set(self.imageSet.get())
        if imageSet.kind.files_only:
            return None
        if split_compression(name)[1]:
            if None in (imageSet.width, imageSet.height, imageSet.frames):
                return None
            return Header(imageSet.width, imageSet.height, imageSet.frames)
        return readMovieHeader(path)

    def remark(self, text):
        """ Tell the user once, in the log and for good in the summary. """
        if text in self.readFacts().remarks:
            return
        self.warning(text)
        self._write(RemarkMade(text))

    def noteSeries(self, name, fingerprint):
        """ Write down as what a tilt series is registered. """
        self._write(SeriesRegistered(name, fingerprint))

    def noteValues(self, output, values):
        """ Write down the acquisition of an output set, each value with its source. """
        self._write(ValuesDecided(output, values))

    def numberMicrographs(self, names):
        """ The numbers of micrographs that particles were picked in, by name; new ones are written down first. """
        known = self.readFacts().micrographs
        new = [name for name in names if name not in known]
        if new:
            self._write(MicrographsNumbered(tuple(new)))
        numbers = self.readFacts().micrographs
        return {name: numbers[name] for name in names}

    def _write(self, event):
        add_event(self.getRecordFile(), event)

    def _leaveOut(self, name, error):
        reason = str(error) if isinstance(error, BadImageError) else "it cannot be read"
        self.warning("%s is skipped: %s." % (name, reason))
        self._write(FileSkipped(self.readFacts().path_of(name), reason, name))

    def _showProgress(self, progress):
        """ Called every second. Other processes read the file: the database is left in peace. """
        more = {"text": str(progress), "skipped": len(self.readFacts().left_out)}
        metadata.write_whole(self.getProgressFile(), {**asdict(progress), **more})
        if time.monotonic() - self._logged >= LOG_SECONDS or progress.images == progress.images_wanted:
            self._logged = time.monotonic()
            self.info(str(progress))
