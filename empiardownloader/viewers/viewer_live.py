# SPDX-License-Identifier: GPL-3.0-or-later
"""Live in napari, Live in ImageJ: what arrives in a run or a set, in another program's window."""
import contextlib
import os
import subprocess
import sys
import tempfile

from pwem.objects.data import SetOfMicrographsBase
from pyworkflow.protocol import Protocol
from pyworkflow.viewer import DESKTOP_TKINTER, View, Viewer

from .. import Plugin
from ..constants import VIEWER_VARIABLES
from ..follow.process import last_words
from ..live.errors import LiveError
from ..live.viewers import BY_NAME
from ..protocols.protocol_empiar_download import EmpiarDownloader

# Movies and micrographs, by the class that both are of: a viewer of the very class of a set would come before
# Scipion's own, and open with a double click.
TARGETS = [EmpiarDownloader, SetOfMicrographsBase]
START_SECONDS = 1.0     # within which most followers that cannot follow have ended
LOOK_MS = 1000


class LiveViewer(Viewer):
    """ Base of the live viewers: starts a follower of its own process, which
    ends with the viewer's window and goes on without Scipion's. """
    _environments = [DESKTOP_TKINTER]
    _viewer = None          # of the table of viewers

    def _visualize(self, obj, **kwargs):
        project = self.getProject().getPath()
        # As Scipion's configuration has them.
        variables = {name: Plugin.getVar(name) for name in VIEWER_VARIABLES}
        os.environ.update({name: value for name, value in variables.items() if value})
        try:
            self._viewer.backend().check()
        except LiveError as error:
            return [self.errorMessage(str(error), self._name)]
        return [Follower(self, self._viewer.names[0], os.path.abspath(project), self._getAddress(obj))]

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


class Follower(View):
    """ The process that follows a run and feeds a viewer. """

    def __init__(self, viewer, name, project, address):
        self._viewer = viewer
        self.command = [sys.executable, "-m", "empiardownloader.live", name, project, address]
        self.process = None

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
        if self.process.poll() is None and root is not None:
            root.after(LOOK_MS, self._look)
        elif self.process.poll():
            self._viewer.errorMessage(last_words(self._words), self._viewer.getName()).show()
