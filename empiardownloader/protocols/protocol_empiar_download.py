# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol: form, steps and output set. What it knows of the network is archive/'s business."""
import json
import os
import re
import threading
import time
from dataclasses import asdict
from enum import Enum

import pyworkflow.utils as pwutils
from pwem.emlib.image import ImageHandler
from pwem.objects import Acquisition, Movie, SetOfMovies
from pwem.protocols import EMProtocol
from pyworkflow import NEW
from pyworkflow.object import Set
from pyworkflow.protocol import LEVEL_ADVANCED, MODE_RESUME, STATUS_NEW, STEPS_PARALLEL, params

from .. import Plugin, constants
from ..archive import download, metadata, record
from ..archive.entry import parse_entry_id
from ..archive.errors import ArchiveError, BadImageError
from ..archive.header import Header, read_header
from ..archive.remote import AUTOMATIC, FTP, HTTPS, open_archive
from ..archive.selection import split_compression
from ..archive.transfer import MAX_CONNECTIONS, Settings

TRANSPORTS = (AUTOMATIC, FTP, HTTPS)
MIN_STREAMING_THREADS = 3
# The set is written after so many movies, so that others see it grow also when thousands wait.
COMMIT_MOVIES = 500
LOG_SECONDS = 10        # between two lines of progress in the log


class outputs(Enum):
    outputMovies = SetOfMovies


class PositiveOrEmpty(params.Conditional):
    """Like pyworkflow's Positive, which cannot stand a field left empty."""

    def __init__(self):
        super().__init__(error="should be greater than zero")

    def _condition(self, value):
        return value is None or value > 0


class StopSignal(threading.Event):
    """Set by the protocol itself, or from outside by a file: the GUI that stops a run is another process."""

    def __init__(self, path):
        super().__init__()
        self._path = path

    def is_set(self):
        return super().is_set() or os.path.exists(self._path)

    def wait(self, timeout=None):
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = 0.25 if deadline is None else min(0.25, deadline - time.monotonic())
            if left <= 0:
                break
            super().wait(left)
        return self.is_set()


class EmpiarDownloader(EMProtocol):
    """ Download movies from EMPIAR and register them while the download runs.

    Give the number of an entry of the Electron Microscopy Public Image Archive
    and how many of its movies you want. The movies that have arrived are in the
    output set at once, so that motion correction and CTF estimation can start
    while the rest is still on its way. Pixel size, dose, voltage, Cs and the
    gain reference are taken from the archives. An interrupted run goes on where
    it was when you press Continue.
    """
    _label = "empiar downloader"
    _devStatus = NEW
    _possibleOutputs = outputs
    _stepsCheckSecs = 3

    def __init__(self, **kwargs):
        EMProtocol.__init__(self, **kwargs)
        self.stepsExecutionMode = STEPS_PARALLEL
        self._stop = None           # StopSignal of this run
        self._reader = None         # reads the record as it grows
        self._facts = None          # what it said so far
        self._waiting = []          # names of whole movies that no step registers yet
        self._known = set()         # names of movies in the set or given to a step
        self._appendable = False    # whether this process has opened the set for appending

    # -------------------------- DEFINE param functions -----------------------
    def _defineParams(self, form):
        form.addSection(label="Entry")
        form.addParam("entryId", params.StringParam, default="10200", important=True,
                      label="EMPIAR entry",
                      help="Number of the entry, like *10200* or *EMPIAR-10200*. Search for one at "
                           "[[https://www.ebi.ac.uk/empiar/][EMPIAR]]. The wand looks the entry up.")
        form.addParam("allImages", params.BooleanParam, default=False,
                      label="Download all movies?",
                      help="*Yes*: every movie of the image set. Entries hold up to 10 TB, so look at the size first.")
        form.addParam("amountOfImages", params.IntParam, default=1, condition="not allImages",
                      validators=[PositiveOrEmpty()],
                      label="Number of movies",
                      help="The first so many movies, in the order of their names; the same ones each time. When the "
                           "image set has fewer, you get all of them.")
        form.addParam("imageSet", params.StringParam, default="", allowsNull=True,
                      label="Image set",
                      help="Number (1, 2, ...) or name of the entry's image set. Empty: the first one that holds "
                           "movies. The wand shows what there is.")
        form.addParam("downloadGain", params.BooleanParam, default=True,
                      label="Get the gain reference?",
                      help="Look for the gain reference (and a dark one) beside the movies and in the folders above, "
                           "and set it in the output. It is never registered as a movie.")
        form.addParam("filePattern", params.StringParam, default="", allowsNull=True, expertLevel=LEVEL_ADVANCED,
                      label="File pattern",
                      help="Only files whose name matches, like *FoilHole_\\*_fractions.tiff*; with folders, like "
                           "*GridSquare_1/Data/\\*.mrc*, the end of the path is compared. Empty: the pattern that the "
                           "entry gives, else all files of the entry's format.")
        form.addParam("gainPattern", params.StringParam, default="", allowsNull=True, expertLevel=LEVEL_ADVANCED,
                      condition="downloadGain",
                      label="Gain file pattern",
                      help="Name or path of the gain reference, \\* and ? allowed. Empty: found by its name (*gain*, "
                           "CountRef*, SuperRef*, ...).")

        form.addSection(label="Acquisition")
        form.addParam("samplingRate", params.FloatParam, default=None, allowsNull=True,
                      label="Pixel size (Å/px)",
                      help="Empty: the pixel size that the entry gives.")
        line = form.addLine("Microscope", help="Empty fields are taken from the EMDB record linked to the entry. Where "
                                               "it says nothing, %g kV, %g mm and %g are assumed; the summary tells "
                                               "what came from where." % (constants.DEFAULT_VOLTAGE,
                                                                          constants.DEFAULT_SPHERICAL_ABERRATION,
                                                                          constants.DEFAULT_MAGNIFICATION))
        line.addParam("voltage", params.FloatParam, default=None, allowsNull=True, label="Voltage (kV)",
                      help="Acceleration voltage in kV.")
        line.addParam("sphericalAberration", params.FloatParam, default=None, allowsNull=True, label="Cs (mm)",
                      help="Spherical aberration in mm.")
        line.addParam("magnification", params.FloatParam, default=None, allowsNull=True, label="Magnification",
                      help="Nominal magnification.")
        form.addParam("amplitudeContrast", params.FloatParam, default=constants.DEFAULT_AMPLITUDE_CONTRAST,
                      allowsNull=True, label="Amplitude contrast",
                      help="Fraction between 0 and 1, 0.1 for most samples in ice. Neither archive tells it.")
        line = form.addLine("Dose", help="Electrons per square ångström. Empty dose per frame: the total dose of the "
                                         "linked EMDB record, divided by the frames of a movie.")
        line.addParam("dosePerFrame", params.FloatParam, default=None, allowsNull=True, label="Per frame (e/Å²)",
                      help="Dose of one frame in e/Å².")
        line.addParam("doseInitial", params.FloatParam, default=0.0, allowsNull=True, label="Initial (e/Å²)",
                      help="Dose before the first frame in e/Å².")

        form.addSection(label="Transfer")
        form.addParam("transport", params.EnumParam, choices=["Automatic", "FTP", "HTTPS"],
                      default=constants.TRANSPORT_AUTOMATIC, display=params.EnumParam.DISPLAY_HLIST,
                      label="Transport",
                      help="*Automatic*: FTP, or HTTPS where FTP is blocked.")
        form.addParam("connections", params.IntParam, default=4,
                      label="Connections",
                      help="How many connections to the archive at a time, 1 to %d. Each gives about 1.5 MB/s; all of "
                           "them work on the earliest movie first." % MAX_CONNECTIONS)
        form.addParam("downloadFolder", params.FolderParam, default="", allowsNull=True,
                      label="Download folder",
                      help="Empty: the movies are kept inside this run. Else they are kept there, below the entry's "
                           "number and as the archive has them, for all projects; the run only links to them, and "
                           "what is there already is not downloaded again.")
        form.addParam("decompress", params.BooleanParam, default=True, expertLevel=LEVEL_ADVANCED,
                      label="Decompress?",
                      help="Decompress .bz2, .gz and .xz movies as they arrive. *No*: .bz2 movies are registered as "
                           "they are, as Scipion's import does; few programs read them.")
        form.addParallelSection(threads=MIN_STREAMING_THREADS, mpi=1)

    # -------------------------- INSERT steps functions -----------------------
    def _insertAllSteps(self):
        # A stop asked for in an earlier run is over now.
        pwutils.cleanPath(self._getStopFile())
        self._stop = StopSignal(self._getStopFile())
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
        closing = self._getStep(self._closeId)
        # Asked before the record is read: what arrives in between is found the next time.
        ended = self._getStep(self._downloadId).isFinished()
        names = self._takeNewNames(ended)
        newSteps = []
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
        """ updateSteps() would write every step of the run anew, each time:
        with 10,000 of them 0.4 s for one movie. """
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
        number = parse_entry_id(entryId)
        refusal = self._refuseOtherEntry(number)
        if refusal:
            raise ArchiveError(refusal)
        found = metadata.obtain(self._getMetadataFile(), number, Plugin.getVar(constants.EMPIAR_API_URL),
                                Plugin.getVar(constants.EMDB_API_URL))
        imageSet = found.entry.image_set(self.imageSet.get())
        request = self._getRequest(found)
        facts = record.Facts.read(self._getRecordFile())
        if facts.movies and not request.same_movies_as(facts.begin or {}):
            raise ArchiveError("This run already holds movies of image set %s of EMPIAR-%s, chosen with other "
                               "settings (image set, file pattern or decompression): choose Restart, or copy the "
                               "protocol." % (facts.begin["image_set"], facts.begin["entry"]))
        if self._getPixelSize(imageSet) is None:
            raise ArchiveError("%s does not tell the pixel size of image set %s: type it in under Acquisition."
                               % (found.entry.name, imageSet.describe()))
        self.info("%s: %s" % (found.entry.name, found.entry.title))
        self.info("Image set %s" % imageSet.describe())
        for note in found.acquisition.notes:
            self.warning(note)
        self._refreshOutput(found)

    def downloadImagesStep(self, stamp):
        """ Download what is missing. What arrives is written into the record,
        where _stepsCheck finds it. """
        found = metadata.load(self._getMetadataFile())
        request, places = self._getRequest(found), self._getPlaces()
        if download.nothing_missing(request, places):
            self.info("All the movies asked for are here already.")
            return
        archive = open_archive(found.entry.number, Plugin.getVar(constants.EMPIAR_FTP_URL),
                               Plugin.getVar(constants.EMPIAR_HTTPS_URL), TRANSPORTS[self.transport.get()])
        self.info("Downloading from the %s over up to %d connections." % (archive.server, self.connections.get()))
        self._logged = 0.0
        facts = download.Download(request, archive, places, Settings(connections=self.connections.get()), self._stop,
                                  header_reader=readMovieHeader, on_progress=self._showProgress).run()
        for note in facts.notes:
            self.warning(note)
        if not facts.movies and not self._stop.is_set():
            reasons = "; ".join("%s: %s" % item for item in list(facts.left_out.items())[:3])
            raise ArchiveError("No movie of %s could be had (%s): look at %s, then Continue." % (
                found.entry.name, reasons or "the image set is empty", found.entry.page))

    def registerImageStep(self, *names):
        """ Add movies to the output set.
        :param names: local names of movies in the extra folder. """
        found = metadata.load(self._getMetadataFile())
        headers = {}
        for name in names:
            try:
                headers[name] = self._readHeader(found, name)
            except (BadImageError, OSError) as error:
                self._leaveOut(name, error)
        with self._lock:
            registered = self._getRegisteredNames()
            new = [name for name in names if name in headers and name not in registered]
            for first in range(0, len(new), COMMIT_MOVIES):
                movies = self._openOutput(found, headers[new[first]])
                for name in new[first:first + COMMIT_MOVIES]:
                    self._appendMovie(movies, name, headers[name])
                movies.write()
                self._store(movies)
        self.info("Registered %d movies%s." % (len(new), ": " + ", ".join(new) if len(new) <= 3 else ""))

    def closeSetStep(self, stamp):
        """ Close the output set: there will be no more movies. """
        with self._lock:
            movies = self._getOutput()
            if movies is None:
                self.warning("No movie has arrived, so there is no output.")
                return
            self._setReferences(movies)
            movies.setStreamState(Set.STREAM_CLOSED)
            movies.write()
            self._store(movies)
            movies.close()
            self._appendable = False

    # -------------------------- INFO functions -----------------------
    def _validate(self):
        errors = []
        if Plugin.nameCollision():
            errors.append(Plugin.nameCollision())
        try:
            number = parse_entry_id(self.entryId.get())
        except ArchiveError as error:
            errors.append(str(error))
        else:
            if self.runMode.get() == MODE_RESUME and self._refuseOtherEntry(number):
                errors.append(self._refuseOtherEntry(number))
        if not 1 <= (self.connections.get() or 0) <= MAX_CONNECTIONS:
            errors.append("The number of connections should be between 1 and %d, not %s."
                          % (MAX_CONNECTIONS, self.connections.get()))
        if self.transport.get() not in range(len(TRANSPORTS)):
            errors.append("Transport should be Automatic, FTP or HTTPS.")
        for name in ("samplingRate", "voltage", "magnification"):
            value = self.getAttributeValue(name)
            if value is not None and value <= 0:
                errors.append("%s should be greater than zero, not %g; leave it empty for the archive's value."
                              % (self.getParam(name).getLabel(), value))
        for name in ("sphericalAberration", "dosePerFrame", "doseInitial"):
            value = self.getAttributeValue(name)
            if value is not None and value < 0:
                errors.append("%s should not be negative, as %g is." % (self.getParam(name).getLabel(), value))
        contrast = self.amplitudeContrast.get()
        if contrast is not None and not 0 <= contrast <= 1:
            errors.append("Amplitude contrast should be between 0 and 1, not %g." % contrast)
        folder = self._getSharedFolder()
        if folder and not _isWritable(folder):
            errors.append("The download folder %s cannot be written: choose another, or leave it empty." % folder)
        return errors

    def _warnings(self):
        warnings = []
        if self.numberOfThreads.get() < MIN_STREAMING_THREADS:
            warnings.append("With %d thread(s) there is no streaming: the movies are registered only when the download "
                            "has ended. Choose %d threads or more to process them as they arrive."
                            % (self.numberOfThreads.get(), MIN_STREAMING_THREADS))
        return warnings

    def _summary(self):
        try:
            found = metadata.load(self._getMetadataFile())
        except (OSError, ValueError):
            return ["Entry %s: its metadata has not been read yet." % self.entryId.get()]
        entry = found.entry
        summary = ["*%s*: %s" % (entry.name, entry.title),
                   "[[%s][Entry page]], DOI [[https://doi.org/%s][%s]]" % (entry.page, entry.doi, entry.doi),
                   "%s; deposited %s, released %s; %s in all" % (
                       entry.organization or "Unknown organisation", entry.deposition_date or "?",
                       entry.release_date or "?", entry.dataset_size or "unknown size")]
        try:
            imageSet = entry.image_set(self.imageSet.get())
        except ArchiveError as error:
            return summary + [str(error)]
        facts = record.Facts.read(self._getRecordFile())
        pixelSize = self._getPixelSize(imageSet)
        summary.append("Image set %s, %s" % (imageSet.describe(), "no pixel size" if pixelSize is None
                                             else "%g Å/px" % pixelSize))
        summary += self._summarizeAcquisition(found)
        summary += self._summarizeReferences(facts)
        summary += self._summarizeDownload(facts, imageSet)
        return summary

    def _methods(self):
        movies = self._getOutput()
        if movies is None or movies.getSize() == 0:
            return []
        try:
            entry = metadata.load(self._getMetadataFile()).entry
        except (OSError, ValueError):
            return []
        return ["%d movies of %s (%s, DOI %s) were downloaded from the Electron Microscopy Public Image Archive; pixel "
                "size %g Å." % (movies.getSize(), entry.name, entry.title.rstrip("."), entry.doi,
                                movies.getSamplingRate())]

    def _citations(self):
        return ["Iudin2016", "Iudin2023"]

    def getActions(self):
        """ What the run's box offers in the project window. """
        return [("STOP STREAMING", self.stopDownload)] if self.isRunning() else []

    def stopDownload(self, event=None):
        """ End the run from another process: what is whole gets registered. """
        with open(self._getStopFile(), "w"):
            pass

    # -------------------------- UTILS functions -----------------------
    def _getStopFile(self):
        return self._getExtraPath(constants.STOP_FILE)

    def _getRecordFile(self):
        return self._getExtraPath(constants.RECORD_FILE)

    def _getMetadataFile(self):
        return self._getExtraPath(constants.METADATA_FILE)

    def _getProgressFile(self):
        return self._getExtraPath(constants.PROGRESS_FILE)

    def _getStep(self, stepId):
        return self._steps[stepId - 1]

    def _getSharedFolder(self):
        return os.path.expanduser((self.downloadFolder.get() or "").strip())

    def _getPlaces(self):
        return download.Places(self._getExtraPath(), self._getRecordFile(), self._getSharedFolder())

    def _getRequest(self, found):
        return download.Request(
            entry=found.entry, image_set=found.entry.image_set(self.imageSet.get()), amount=self._getAmount(),
            file_pattern=self.filePattern.get() or "", gain=self.downloadGain.get(),
            gain_pattern=self.gainPattern.get() or "", unpack=self.decompress.get())

    def _getAmount(self):
        """ How many movies are asked for, None for all. """
        return None if self.allImages.get() else self.amountOfImages.get()

    def _getPixelSize(self, imageSet):
        return self.samplingRate.get() or imageSet.pixel_size

    def _refuseOtherEntry(self, number):
        """ A sentence when the run holds movies of another entry. """
        facts = record.Facts.read(self._getRecordFile())
        if not facts.movies or not facts.begin or facts.begin["entry"] == number:
            return ""
        return ("This run already holds movies of EMPIAR-%s: to get EMPIAR-%s choose Restart, or copy the protocol."
                % (facts.begin["entry"], number))

    def _takeNewNames(self, ended):
        """ The movies that became whole since the last time, once it is known
        whether a gain reference belongs to them. """
        if self._reader is None:
            self._reader, self._facts = record.RecordReader(self._getRecordFile()), record.Facts()
            self._known = self._getRegisteredNames()
        for event in self._reader.new_events():
            self._facts.take(event)
            if event["what"] == record.MOVIE:
                self._waiting.append(event["name"])
        if self.downloadGain.get() and download.GAIN not in self._facts.references and not ended:
            return []
        # A file that an earlier run left and somebody removed since comes anew, with an event of its own.
        names = [name for name in dict.fromkeys(self._waiting)
                 if name not in self._known and os.path.exists(self._getExtraPath(name))]
        self._waiting = []
        self._known.update(names)
        return names

    def _getOutput(self):
        """ The output set: of this process, of the run's database, or, where
        that was lost with a killed process, of the set's own file. """
        movies = getattr(self, outputs.outputMovies.name, None)
        path = self._getPath("movies.sqlite")
        if movies is None and os.path.exists(path):
            loaded = SetOfMovies(filename=path)
            if loaded.getSize():
                loaded.loadAllProperties()
                self._defineOutputs(**{outputs.outputMovies.name: loaded})
                movies = loaded
            else:
                loaded.close()
        return movies

    def _openOutput(self, found, header):
        """ The output set, open for appending. """
        movies = self._getOutput()
        if movies is None:
            movies = SetOfMovies.create(self._getPath())
            self._setAcquisition(movies, found, header)
            if header is not None:
                movies.setDim((header.width, header.height, header.frames))
                movies.setFramesRange([1, header.frames, 1])
            self._setReferences(movies)
            movies.setStreamState(Set.STREAM_OPEN)
            movies.write()
            self._defineOutputs(**{outputs.outputMovies.name: movies})
        elif not self._appendable:
            movies.enableAppend()
            self._setReferences(movies)
        movies.setStreamState(Set.STREAM_OPEN)
        self._appendable = True
        return movies

    def _appendMovie(self, movies, name, header):
        movie = Movie(location=self._getExtraPath(name))
        movie.setMicName(name)
        movie.setSamplingRate(movies.getSamplingRate())
        movie.setAcquisition(movies.getAcquisition())
        movie.setFramesRange([1, header.frames if header else 0, 1])
        movies.append(movie)

    def _getRegisteredNames(self):
        movies = self._getOutput()
        if movies is None or not movies.getSize():
            return set()
        return {os.path.basename(path) for path in movies.getUniqueValues("_filename")}

    def _readHeader(self, found, name):
        """ The header of a movie on disk; None for one that stays compressed. """
        path = self._getExtraPath(name)
        if split_compression(name)[1]:
            imageSet = found.entry.image_set(self.imageSet.get())
            if None in (imageSet.width, imageSet.height, imageSet.frames):
                return None
            return Header(imageSet.width, imageSet.height, imageSet.frames)
        return readMovieHeader(path)

    def _leaveOut(self, name, error):
        reason = str(error) if isinstance(error, BadImageError) else "it cannot be read"
        self.warning("%s is left out: %s." % (name, reason))
        path = self._facts.movies.get(name, {}).get("path", name) if self._facts else name
        record.add_event(self._getRecordFile(), record.LEFT_OUT, path=path, name=name, reason=reason)

    def _setReferences(self, movies):
        references = record.Facts.read(self._getRecordFile()).references
        for kind, setter in ((download.GAIN, movies.setGain), (download.DARK, movies.setDark)):
            name = references.get(kind, {}).get("name", "")
            wanted = self.downloadGain.get() and name
            setter(self._getExtraPath(name) if wanted else None)

    def _getAcquisitionValues(self, acquisition, frames):
        """ What the microscope was set to.
        :return: dict name -> (value, source) with the units of the form. """
        dose = None
        if acquisition.dose_per_movie is not None and frames:
            dose = acquisition.dose_per_movie / frames
        asked = (
            ("voltage", acquisition.voltage, constants.DEFAULT_VOLTAGE),
            ("sphericalAberration", acquisition.spherical_aberration, constants.DEFAULT_SPHERICAL_ABERRATION),
            ("magnification", acquisition.magnification, constants.DEFAULT_MAGNIFICATION),
            ("dosePerFrame", dose, None),
            ("doseInitial", None, 0.0),
            ("amplitudeContrast", None, constants.DEFAULT_AMPLITUDE_CONTRAST))
        values = {}
        for name, archived, default in asked:
            typed = self.getAttributeValue(name)
            if typed is not None:
                values[name] = (typed, "the form")
            elif archived is not None:
                values[name] = (archived, acquisition.source)
            else:
                values[name] = (default, "assumed")
        return values

    def _setAcquisition(self, movies, found, header):
        imageSet = found.entry.image_set(self.imageSet.get())
        frames = header.frames if header else (found.acquisition.frames or imageSet.frames)
        values = self._getAcquisitionValues(found.acquisition, frames)
        movies.setAcquisition(Acquisition(**{name: value for name, (value, _) in values.items()}))
        movies.setSamplingRate(self._getPixelSize(imageSet))

    def _refreshOutput(self, found):
        """ A form changed since the set was begun changes what the set says,
        in place: no movie comes or goes. """
        with self._lock:
            movies = self._getOutput()
            if movies is None or not movies.getSize():
                return
            first = movies.getFirstItem()
            frames = first.getFramesRange()[1]
            fresh = SetOfMovies()
            self._setAcquisition(fresh, found, Header(1, 1, frames) if frames else None)
            same = (fresh.getSamplingRate() == movies.getSamplingRate()
                    and fresh.getAcquisition().equalAttributes(movies.getAcquisition()))
            if same:
                return
            self.info("The acquisition in the form has changed: it is changed in the output set too.")
            movies.setAcquisition(fresh.getAcquisition())
            movies.setSamplingRate(fresh.getSamplingRate())
            for movie in [item.clone() for item in movies.iterItems()]:
                movie.setAcquisition(fresh.getAcquisition())
                movie.setSamplingRate(fresh.getSamplingRate())
                movies.update(movie)
            movies.write()
            self._store(movies)

    def _showProgress(self, progress):
        """ Called every second. The summary, which other processes ask
        for, reads the file: the database is left in peace. """
        metadata.write_whole(self._getProgressFile(), dict(asdict(progress), text=str(progress)))
        if time.monotonic() - self._logged >= LOG_SECONDS or progress.movies == progress.movies_wanted:
            self._logged = time.monotonic()
            self.info(str(progress))

    def _summarizeAcquisition(self, found):
        movies = self._getOutputForReading()
        frames = movies.getFramesRange()[1] if movies is not None else found.acquisition.frames
        values = self._getAcquisitionValues(found.acquisition, frames)
        labels = (("voltage", "%g kV"), ("sphericalAberration", "Cs %g mm"), ("magnification", "magnification %g"),
                  ("dosePerFrame", "%.3g e/Å² per frame"))
        bySource = {}
        for name, label in labels:
            value, source = values[name]
            text = "no dose per frame" if value is None else label % value
            bySource.setdefault("" if value is None else source, []).append(text)
        parts = [", ".join(texts) + (" (%s)" % source if source else "") for source, texts in bySource.items()]
        return ["Acquisition: " + "; ".join(parts)] + ["_%s_" % note for note in found.acquisition.notes]

    def _summarizeReferences(self, facts):
        summary = []
        for kind in (download.GAIN, download.DARK):
            reference = facts.references.get(kind)
            if reference is None or not self.downloadGain.get():
                continue
            others = ", ".join(reference["others"][:5])
            if reference["name"]:
                summary.append("%s reference: %s%s" % (kind.capitalize(), reference["path"],
                                                       " (other candidates: %s)" % others if others else ""))
            elif kind == download.GAIN:
                summary.append("No gain reference %s" % ("that fits among " + others if others else "found"))
        return summary

    def _summarizeDownload(self, facts, imageSet):
        summary = []
        wanted, have = self._getAmount(), len(facts.movies)
        if facts.begin is None:
            return ["The download has not begun."]
        if self.isActive() and facts.end is None:
            summary.append(self._readProgress() or "Looking for the movies.")
        else:
            total = sum(movie["bytes"] for movie in facts.movies.values())
            summary.append("Downloaded %d%s movies, %s" % (have, "" if wanted is None else " of %d" % wanted,
                                                           download.format_bytes(total)))
        end = facts.end or {}
        if end.get("exhausted") and wanted is not None and have < wanted:
            summary.append("The image set has no more than %d movies that can be had, fewer than the %d asked for."
                           % (have, wanted))
        if end.get("stopped"):
            summary.append("Stopped by the user: Continue fetches the rest.")
        if wanted is not None and have > wanted:
            summary.append("%d movies are here although %d are asked for: nothing is taken away." % (have, wanted))
        for path, reason in list(facts.left_out.items())[:10]:
            summary.append("Left out: %s (%s)" % (path, reason))
        if len(facts.left_out) > 10:
            summary.append("... and %d more files left out, see the log." % (len(facts.left_out) - 10))
        summary += facts.notes
        summary += self._compareWithEntry(imageSet)
        return summary

    def _compareWithEntry(self, imageSet):
        """ Where the files say something else than the metadata. """
        movies = self._getOutputForReading()
        if movies is None or movies.getDim() is None:
            return []
        width, height, frames = movies.getDim()
        summary = []
        if imageSet.frames and frames and imageSet.frames != frames:
            summary.append("The movies have %d frames, the entry says %d: the files are right." % (
                frames, imageSet.frames))
        if imageSet.width and imageSet.height and (width, height) not in (
                (imageSet.width, imageSet.height), (imageSet.height, imageSet.width)):
            text = "The movies are %d x %d, the entry says %d x %d: the files are right." % (
                width, height, imageSet.width, imageSet.height)
            if width == 2 * imageSet.width and self.samplingRate.get() is None:
                text += " They look super-resolved: where the entry's pixel size is of the binned image, type in half."
            summary.append(text)
        return summary

    def _getOutputForReading(self):
        movies = getattr(self, outputs.outputMovies.name, None)
        return movies if movies is not None and movies.getSize() else None

    def _readProgress(self):
        try:
            with open(self._getProgressFile(), encoding="utf-8") as stream:
                return json.load(stream)["text"]
        except (OSError, ValueError, KeyError):
            return ""


def readMovieHeader(path):
    """ Size and frames of an image on disk, whatever format scipion-em opens.
    Raises BadImageError. """
    if not re.search(r"\.dm[34]$", path.lower()):
        return read_header(path)
    try:
        # scipion-em gives a DM file's array shape as it is, which is (frames, height, width) or (height, width).
        shape = ImageHandler.getDimensions(path)
    except Exception as error:    # whatever the reader stumbles over, the file is not readable
        raise BadImageError("scipion-em cannot read it") from error
    sizes = [size for size in shape if size != 1]
    if len(sizes) == 3:
        return Header(sizes[2], sizes[1], sizes[0])
    if len(sizes) == 2:
        return Header(sizes[1], sizes[0], 1)
    raise BadImageError("scipion-em finds no image in it")


def _isWritable(folder):
    folder = os.path.abspath(folder)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK)
