# SPDX-License-Identifier: GPL-3.0-or-later
"""The transports there are, in the order of preference; what each of them can do stands in its Archive class.

A transport more is a line here, at the end (workflows hold the number of the choice), its module, and the variable with
its address in constants.py.
"""
from typing import NamedTuple, Tuple, Type

from ...constants import EMPIAR_FTP_URL, EMPIAR_HTTPS_URL
from . import AUTOMATIC, Archive
from .ftp import FtpArchive
from .https import HttpArchive


class Transport(NamedTuple):
    name: str                   # in the form, in commands and in sentences
    variable: str               # of the configuration, with the address of the folder that holds the entries
    archive: Type[Archive]


TRANSPORTS = (Transport(FtpArchive.transport, EMPIAR_FTP_URL, FtpArchive),
              Transport(HttpArchive.transport, EMPIAR_HTTPS_URL, HttpArchive))
# In the order of the form.
CHOICES: Tuple[str, ...] = (AUTOMATIC, *(transport.name for transport in TRANSPORTS))
