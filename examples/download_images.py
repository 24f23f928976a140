# SPDX-License-Identifier: GPL-3.0-or-later
"""Movies of an EMPIAR entry in a folder, from a script: python download_images.py 10200 FOLDER"""
import sys

from empiardownloader.archive.errors import ArchiveError
from empiardownloader.download.fetch import fetch

try:
    facts = fetch(sys.argv[1], sys.argv[2], images=2, on_progress=lambda progress: print(progress))
except ArchiveError as error:
    sys.exit(str(error))
for name, movie in facts.movies.items():
    print(name, movie["bytes"], "bytes from", movie["path"])
