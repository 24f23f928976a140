# SPDX-License-Identifier: GPL-3.0-or-later
"""Live in napari, in ImageJ, in the browser: what arrives in a run or a set, in another program's window."""
import contextlib
import os
import subprocess
import sys
import tempfile

from pwem.objects.data import SetOfClasses, SetOfImages
from pyworkflow.protocol import Protocol
from pyworkflow.viewer import DESKTOP_TKINTER, View, Viewer

from .. import Plugin
from ..constants import VIEWER_VARIABLES
from ..follow.process import last_words
from ..live.errors import LiveError
from ..live.viewers import BY_NAME
from ..protocols.protocol_empiar_download import EmpiarDownloader

# Sets of images and of classes, by what all of them are of: a viewer of the very class of a set would come before
# Scipion's own, and open with a double click.
TARGETS = [EmpiarDownloader, SetOfImages, SetOfClasses]
START_SECONDS = 1.0     # within which most followers that cannot follow have ended
LOOK_MS = 1000
PLACES = ("Page: ", "From another machine")     # how the follower begins the lines that say where a page is
UNWATCHED_SECONDS = 3600    # after which a page that nobody watches is closed: it has no window that its user closes


class LiveViewer(Viewer):
    """ Base of the live viewers: starts a follower of its own process, which
    ends with the viewer's window and goes on without Scipion's. """
    _environments = [DESKTOP_TKINTER]
    _viewer = None          # of the table of viewers
    _options = ()           # of the command

    def _visualize(self, obj, **kwargs):
        project = self.getProject().getPath()
        # As Scipion's configuration has them.
        variables = {name: Plugin.getVar(name) for name in VIEWER_VARIABLES}
        os.environ.update({name: value for name, value in variables.items() if value})
        try:
            self._viewer.backend().check()
        except LiveError as error:
            return [self.errorMessage(str(error), self._name)]
        return [Follower(self, self._viewer.names[0], os.path.abspath(project), self._getAddress(obj),
                         *self._options)]

    def _getAddress(self, obj):
        """ What a walker follows: '000002_EmpiarDownloader', or
        '000002_EmpiarDownloader:outputMovies'. """
        if isinstance(obj, Protocol):
            return os.path.basename(obj.getWorkingDir())
        run = self._getRun(obj)
        if run is None:
            return ""
        names = [name for name, output in run.iterOutputAttributes() if output.getObjId() == obj.getObjId()]
        return ":".join([os.path.basename(run.getWorkingDir()), *names[:1]])

    def _getRun(self, obj):
        """ The run that has a set, for it may be shown from another run's box. """
        parent = obj.getObjParentId()
        if parent is None:
            return self.protocol
        return self.getProject().getProtocol(parent, fromRuns=True) or self.protocol


class LiveNapariViewer(LiveViewer):
    """ Shows images in napari as they arrive: frame averages, power spectra,
    coordinates picked on them. """
    _viewer = BY_NAME["napari"]
    _name = _viewer.label
    _targets = TARGETS


class LiveImageJViewer(LiveViewer):
    """ Shows images in ImageJ or Fiji as they arrive: frame averages, power
    spectra, coordinates picked on them. """
    _viewer = BY_NAME["fiji"]
    _name = _viewer.label
    _targets = TARGETS


class LiveBrowserViewer(LiveViewer):
    """ Shows images on a page, in the browser of this machine or of another
    one. """
    _viewer = BY_NAME["web"]
    _name = _viewer.label
    _targets = TARGETS
    _options = ("--browser", "--leave-after", str(UNWATCHED_SECONDS))


class Follower(View):
    """ The process that follows a run and feeds a viewer. """

    def __init__(self, viewer, name, project, address, *options):
        self._viewer = viewer
        self.command = [sys.executable, "-m", "empiardownloader.live", name, project, address, *options]
        self.process = None
        self._toldPlaces = False

    def show(self):
        self._words = tempfile.TemporaryFile()      # noqa: SIM115, as long as the process
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self._words, stderr=self._words,
                                        start_new_session=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(START_SECONDS)
        self._look()

    def _look(self):
        """ Tell how it has ended, once it has: a window takes its time to come,
        or not to come. """
        root = self._viewer.getTkRoot()
        self._tellPlaces()
        if self.process.poll() is None and root is not None:
            root.after(LOOK_MS, self._look)
        elif self.process.poll():
            self._viewer.errorMessage(last_words(self._words), self._viewer.getName()).show()

    def getPlaces(self):
        """ Where a page is, as the follower said it: lines. """
        self._words.seek(0)
        said = self._words.read().decode("utf-8", "replace")
        return [line for line in said.splitlines() if line.startswith(PLACES)]

    def _tellPlaces(self):
        """ Once: whoever sits at another machine needs it. """
        places = [] if self._toldPlaces else self.getPlaces()
        if places:
            self._toldPlaces = True
            self._viewer.infoMessage("\n\n".join(places), self._viewer.getName()).show()
