# SPDX-License-Identifier: GPL-3.0-or-later
"""Movies of an EMPIAR entry in a folder, from a script: python download_images.py 10200 FOLDER"""
import sys

from empiardownloader.archive.errors import ArchiveError
from empiardownloader.download.fetch import fetch

entry, folder = sys.argv[1:] if len(sys.argv) == 3 else sys.exit(__doc__)
try:
    facts = fetch(entry, folder, images=2, on_progress=lambda progress: print(progress))
except ArchiveError as error:
    sys.exit(str(error))
for name, movie in facts.images.items():
    print(name, movie.bytes, "bytes from", movie.path)
sys.exit(0 if facts.is_complete(2) else 1)
