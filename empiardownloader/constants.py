# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and defaults of the configuration variables, and names that scripts and other modules rely on."""
import os
from typing import Dict

# Configuration variables: where the archives are. An institute's mirror may have a port and http://.
EMPIAR_API_URL = "EMPIAR_API_URL"
EMPIAR_FTP_URL = "EMPIAR_FTP_URL"
EMPIAR_HTTPS_URL = "EMPIAR_HTTPS_URL"
EMDB_API_URL = "EMDB_API_URL"
EBI_SEARCH_URL = "EBI_SEARCH_URL"
EMPIAR_PICTURE_URL = "EMPIAR_PICTURE_URL"


def cache_folder() -> str:
    """Where an account keeps what can be made again: the list of entries, the secret of its pages."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "empiardownloader")


VARIABLES = {
    EMPIAR_API_URL: (
        "https://www.ebi.ac.uk/empiar/api/entry",
        "Address of EMPIAR's REST API; the entry's number is added to it."),
    EMPIAR_FTP_URL: (
        "ftp://ftp.ebi.ac.uk/empiar/world_availability",
        "FTP address of the folder that holds EMPIAR's entries, or of a mirror."),
    EMPIAR_HTTPS_URL: (
        "https://ftp.ebi.ac.uk/empiar/world_availability",
        "HTTPS (or HTTP) address of the folder that holds EMPIAR's entries, or of a mirror."),
    EMDB_API_URL: (
        "https://www.ebi.ac.uk/emdb/api/entry",
        "Address of EMDB's REST API, which gives voltage, Cs, magnification and dose; the id of the EMDB record is "
        "added to it."),
    EBI_SEARCH_URL: (
        "https://www.ebi.ac.uk/ebisearch/ws/rest/empiar",
        "Address of EBI Search for EMPIAR's entries; it is asked where the list of entries on this machine has none."),
    EMPIAR_PICTURE_URL: (
        "https://www.ebi.ac.uk/pdbe/emdb-empiar/entryIcons",
        "Address of the entries' pictures, which the wand of the form shows; 10200-l.gif, say, is added to it."),
}

# Configuration variables: where the viewers of live/ are.
EMPIAR_NAPARI_PYTHON = "EMPIAR_NAPARI_PYTHON"
EMPIAR_FIJI_HOME = "EMPIAR_FIJI_HOME"

VIEWER_VARIABLES = {
    EMPIAR_NAPARI_PYTHON: (
        "", "Python of an environment that has napari, PyQt6 and pyzmq; empty: Scipion's own, where it has them."),
    EMPIAR_FIJI_HOME: (
        "", "Folder of Fiji (Fiji.app) or ImageJ; empty: Debian's ImageJ, where it is installed."),
}

# Choices of the form's parameter transport, in its order.
TRANSPORT_AUTOMATIC, TRANSPORT_FTP, TRANSPORT_HTTPS = 0, 1, 2

# What EMDB does not tell: the values most microscopes of the archive have.
DEFAULT_VOLTAGE = 300.0                 # kV
DEFAULT_SPHERICAL_ABERRATION = 2.7      # mm
DEFAULT_MAGNIFICATION = 50000.0
DEFAULT_AMPLITUDE_CONTRAST = 0.1

# Files of a run, in its extra/ folder.
RECORD_FILE = "download.jsonl"
METADATA_FILE = "entry.json"
PROGRESS_FILE = "progress.json"
STOP_FILE = "STOP_STREAMING.TXT"        # the name that Scipion's import protocols use

RUN_FILES = frozenset((RECORD_FILE, METADATA_FILE, PROGRESS_FILE, STOP_FILE))

# The package of another plugin whose protocol has the same class name, and what Scipion needs to prefer ours.
OTHER_PLUGIN = "empiar"
PRIORITY_VARIABLE = "SCIPION_PRIORITY_PACKAGE_LIST"


def addresses() -> Dict[str, str]:
    """The configuration variables: the environment's values, else the defaults."""
    return {name: os.environ.get(name) or default for name, (default, _) in VARIABLES.items()}
