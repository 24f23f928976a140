# SPDX-License-Identifier: GPL-3.0-or-later
from .viewer_empiar import EmpiarDownloadViewer
from .viewer_live import LiveBrowserViewer, LiveImageJViewer, LiveNapariViewer

__all__ = ["EmpiarDownloadViewer", "LiveBrowserViewer", "LiveImageJViewer", "LiveNapariViewer"]
