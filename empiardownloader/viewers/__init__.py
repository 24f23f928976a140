# SPDX-License-Identifier: GPL-3.0-or-later
from .viewer_empiar import EmpiarDownloadViewer

__all__ = ["EmpiarDownloadViewer"]
