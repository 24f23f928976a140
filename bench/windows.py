# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the window *Find an entry* stands still at most, with 3,000 entries: a quick archive, a slow one, none."""
import io
import json
import os
import subprocess
import sys
import tempfile

from PIL import Image

from empiardownloader.demo import entries
from empiardownloader.demo.archive import DemoArchive
from empiardownloader.tests.catalogue_entries import records
from empiardownloader.tests.surroundings import environment
from empiardownloader.tests.test_gui import missing, screen

# What people take for an answer at once.
STILL_SECONDS = 0.2


def measure_windows():
    if missing():
        print("left out: %s" % missing())
        return
    with tempfile.TemporaryDirectory() as folder:
        listed, rows = records(3000)
        demo_entries, emdb = entries.build(folder)
        with DemoArchive(folder, {**listed, **demo_entries}, emdb) as demo, screen() as display:
            demo.emdb_rows = rows
            picture = io.BytesIO()
            Image.linear_gradient("L").save(picture, "GIF")
            demo.pictures = dict.fromkeys(demo.entries, picture.getvalue())
            for scene, text, delay, addresses in (
                    ("first_use", "first use, 3,000 entries come while one types", 0.0, {}),
                    ("image", "an image is fetched", 0.0, {}),
                    ("slow", "3 s for each answer", 3.0, {}),
                    ("no_line", "no line at all", 0.0, dict.fromkeys(demo.variables, "http://localhost:1/api")),
                    ("choose_set", "image sets planned", 0.0, {})):
                demo.delay = delay
                where = {**demo.variables, **addresses}
                with environment(DISPLAY=display, XDG_CACHE_HOME=os.path.join(folder, "none" if addresses else "cache"),
                                 **where):
                    subprocess.run([sys.executable, "-m", "empiardownloader.tests.find_play", scene, folder],
                                   check=True)
                with open(os.path.join(folder, "result.json")) as stream:
                    result = json.load(stream)
                assert not result["errors"], result["errors"]
                print("%-46s still for %.3f s at most: %.2f of %.1f s" % (
                    text, result["freeze"], result["freeze"] / STILL_SECONDS, STILL_SECONDS))
