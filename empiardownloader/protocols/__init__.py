# SPDX-License-Identifier: GPL-3.0-or-later
from .protocol_empiar_download import EmpiarDownloader

__all__ = ["EmpiarDownloader"]
