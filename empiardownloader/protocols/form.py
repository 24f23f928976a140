# SPDX-License-Identifier: GPL-3.0-or-later
"""The form: its fields, and what must not stand in them. The names are the contract of workflow files."""
import os

from pyworkflow.protocol import LEVEL_ADVANCED, params

from .. import constants
from ..archive.remote.transports import CHOICES
from ..transfer.pool import MAX_CONNECTIONS

MIN_STREAMING_THREADS = 3
FIGURES = "How much, how long? The wand tells"      # where the form says what a run would bring


def _matter(group, condition="True"):
    """ The condition of fields that some kinds of images have no use for: see planned.getKindFields, which is a
    method of the protocol. pyworkflow evaluates it anew when a field that it names has changed. """
    return "(entryId, imageSet) and '%s' in getKindFields and %s" % (group, condition)


class PositiveOrEmpty(params.Conditional):
    """Like pyworkflow's Positive, which cannot stand a field left empty."""

    def __init__(self):
        super().__init__(error="should be greater than zero")

    def _condition(self, value):
        return value is None or value > 0


def addEntrySection(form):
    """ Which images. """
    form.addSection(label="Entry")
    form.addParam("entryId", params.StringParam, default="10200", important=True,
                  label="EMPIAR entry",
                  help="Number of the entry, like *10200* or *EMPIAR-10200*, or the address of its page; the code of "
                       "an EMDB map or a PDB model (*EMD-2984*, *5a1a*) stands for its entry. The wand finds one "
                       "among all entries of [[https://www.ebi.ac.uk/empiar/][EMPIAR]]: by protein, author, size, "
                       "resolution, method.")
    form.addParam("imageSet", params.StringParam, default="", allowsNull=True,
                  label="Image set",
                  help="Number (1, 2, ...) or name of the entry's image set. Empty: the first one that holds "
                       "movies, else tilt series, else the first. Its content decides which Scipion set you get. The "
                       "wand says of each how much would come, how long it takes, and whether it fits on the disk.")
    form.addParam("allImages", params.BooleanParam, default=False,
                  label="Download all images?",
                  help="*Yes*: every image of the image set. Entries hold up to 10 TB, so look at the size first.")
    form.addParam("amountOfImages", params.IntParam, default=1, condition="not allImages",
                  validators=[PositiveOrEmpty()],
                  label="Number of images",
                  help="How many to download, counted from the first file name: movies, micrographs, stacks of "
                       "particles or volumes; of tilt series, how many series with all their images. You get the same "
                       "ones each time; when the image set has fewer, you get all of them.")
    form.addParam("figures", params.LabelParam, label=FIGURES,
                  help="The wand lists what a run with this form would bring, and measures the rate for a few seconds: "
                       "how much, how long, and what is free on the disk.")
    form.addParam("downloadGain", params.BooleanParam, default=True, condition=_matter("gain"),
                  label="Get the gain reference?",
                  help="Look for the gain reference (and a dark one) beside the movies, in the folders above, and in "
                       "folders called gain or ref, and set it in the output. It is never registered as a movie.")
    form.addParam("companionFiles", params.BooleanParam, default=True, condition=_matter("companions"),
                  label="Get metadata files (.mdoc, .star, coordinates)?",
                  help="Also what lies beside the images and describes them: .mdoc of tilt series, .star of "
                       "particles, coordinates (.coord, .box, .star). Particles get CTF, coordinates and alignment "
                       "from their .star file; the .mdoc files of tilt series are gathered in the run's folder "
                       "extra/mdocs, for *compose tilt series*.")
    form.addParam("particlesFile", params.StringParam, default="", allowsNull=True, expertLevel=LEVEL_ADVANCED,
                  condition=_matter("particles"),
                  label="Particle .star file",
                  help="Name or path of the .star file that describes the particles. * matches any characters, ? "
                       "matches one. Empty: what the entry says, else the one found beside or above the "
                       "stacks.")
    form.addParam("filePattern", params.StringParam, default="", allowsNull=True, expertLevel=LEVEL_ADVANCED,
                  label="File pattern",
                  help="Only files whose name matches, like FoilHole_*_fractions.tiff; with folders, like "
                       "GridSquare_1/Data/*.mrc, the end of the path is compared; a bar (|) between "
                       "several patterns. Empty: the pattern that the entry gives, else all files of the entry's "
                       "format.")
    form.addParam("gainPattern", params.StringParam, default="", allowsNull=True, expertLevel=LEVEL_ADVANCED,
                  condition=_matter("gain", "downloadGain"),
                  label="Gain file pattern",
                  help="Name or path of the gain reference, looked for in the whole entry. * matches any characters, "
                       "? matches one. Empty: found by its name (gain, CountRef, SuperRef, ...).")


def addAcquisitionSection(form):
    """ How the microscope was set. """
    form.addSection(label="Acquisition")
    form.addParam("samplingRate", params.FloatParam, default=None, allowsNull=True,
                  label="Pixel size (Å/px)",
                  help="Empty: what the .star file of particles says, else the entry, else the .mdoc files of tilt "
                       "series. Use a point, not a comma (1.05); text that is not a number is ignored. The summary "
                       "shows the value used.")
    line = form.addLine("Microscope",
                        help="Empty fields are taken from the .star or .mdoc files of the images, else from the EMDB "
                             "record linked to the entry. Where none of them gives a value, %g kV, %g mm and %g are "
                             "assumed; the summary tells what came from where." % (
                                 constants.DEFAULT_VOLTAGE, constants.DEFAULT_SPHERICAL_ABERRATION,
                                 constants.DEFAULT_MAGNIFICATION))
    line.addParam("voltage", params.FloatParam, default=None, allowsNull=True, label="Voltage (kV)",
                  help="Acceleration voltage in kV.")
    line.addParam("sphericalAberration", params.FloatParam, default=None, allowsNull=True, label="Cs (mm)",
                  help="Spherical aberration in mm.")
    line.addParam("magnification", params.FloatParam, default=None, allowsNull=True, label="Magnification",
                  help="Nominal magnification.")
    form.addParam("amplitudeContrast", params.FloatParam, default=None, allowsNull=True, label="Amplitude contrast",
                  help="Fraction between 0 and 1. Empty: what the .star file of particles says, else %g, which is "
                       "usual for samples in ice; neither archive tells it." % constants.DEFAULT_AMPLITUDE_CONTRAST)
    line = form.addLine("Dose", condition=_matter("dose"),
                        help="Electrons per square ångström. Empty dose per frame: the total dose of the linked EMDB "
                             "record, divided by the frames of a movie; of tilt series, what their .mdoc files say.")
    line.addParam("dosePerFrame", params.FloatParam, default=None, allowsNull=True, label="Per frame (e/Å²)",
                  help="Dose of one frame in e/Å².")
    line.addParam("doseInitial", params.FloatParam, default=None, allowsNull=True, label="Initial (e/Å²)",
                  help="Dose before the first frame in e/Å². Empty: 0.")


def addTransferSection(form):
    """ How they come, and where to. """
    form.addSection(label="Transfer")
    form.addParam("transport", params.EnumParam, choices=[CHOICES[0].capitalize(), *CHOICES[1:]],
                  default=constants.TRANSPORT_AUTOMATIC, display=params.EnumParam.DISPLAY_HLIST,
                  label="Transport",
                  help="*Automatic*: FTP, or HTTPS where that is clearly quicker from here or FTP is blocked; the log "
                       "says which and why.")
    form.addParam("connections", params.IntParam, default=4,
                  label="Connections",
                  help="How many connections to the archive at a time, 1 to %d. Each gives about 1.5 MB/s; all of "
                       "them work on the earliest movie first." % MAX_CONNECTIONS)
    form.addParam("downloadFolder", params.FolderParam, default="", allowsNull=True,
                  label="Download folder",
                  help="Empty: files stay in this run and are deleted with it. A folder: kept there, below the entry's "
                       "number and as the archive has them, shared by all projects; the run only links to them, and "
                       "what is there already is not downloaded again.")
    form.addParam("decompress", params.BooleanParam, default=True, expertLevel=LEVEL_ADVANCED,
                  label="Decompress?",
                  help="Decompress .bz2, .gz and .xz movies as they arrive. *No*: .bz2 movies are registered as "
                       "they are, as Scipion's import does; few programs read them.")
    form.addParallelSection(threads=MIN_STREAMING_THREADS, mpi=1)


def findFormErrors(protocol):
    """ Sentences about values that no run could use. """
    errors = []
    if not 1 <= (protocol.connections.get() or 0) <= MAX_CONNECTIONS:
        errors.append("The number of connections should be between 1 and %d, not %s."
                      % (MAX_CONNECTIONS, protocol.connections.get()))
    if protocol.transport.get() not in range(len(CHOICES)):
        errors.append("Transport should be one of: %s." % ", ".join(CHOICES))
    for name in ("samplingRate", "voltage", "magnification"):
        value = protocol.getAttributeValue(name)
        if value is not None and value <= 0:
            errors.append("%s should be greater than zero, not %g; leave it empty for the archive's value."
                          % (protocol.getParam(name).getLabel(), value))
    for name in ("sphericalAberration", "dosePerFrame", "doseInitial"):
        value = protocol.getAttributeValue(name)
        if value is not None and value < 0:
            errors.append("%s must not be negative (it is %g)." % (protocol.getParam(name).getLabel(), value))
    contrast = protocol.amplitudeContrast.get()
    if contrast is not None and not 0 <= contrast <= 1:
        errors.append("Amplitude contrast should be between 0 and 1, not %g." % contrast)
    folder = protocol.getSharedFolder()
    if folder and not os.path.isabs(folder):
        errors.append("The download folder %s must be a full path, for example /data/empiar: a relative one would be "
                      "inside the project, and deleted with it." % folder)
    elif folder and not _isWritable(folder):
        errors.append("The download folder %s cannot be written: choose another, or leave it empty." % folder)
    return errors


def _isWritable(folder):
    folder = os.path.abspath(folder)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK)
