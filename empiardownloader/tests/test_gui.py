# SPDX-License-Identifier: GPL-3.0-or-later
"""The form, its wizards and the viewer in Scipion's real windows, on a virtual screen."""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import unittest

from empiardownloader.demo import entries
from empiardownloader.demo.archive import DemoArchive
from empiardownloader.protocols.form import FIGURES
from empiardownloader.tests.base import ArchiveTestCase
from empiardownloader.tests.surroundings import environment

FORM = ["entryId", "amountOfImages", "allImages", "imageSet", "filePattern", "companionFiles", "particlesFile",
        "downloadGain", "gainPattern",
        "samplingRate", "voltage", "sphericalAberration", "magnification", "dosePerFrame", "doseInitial",
        "amplitudeContrast", "transport", "connections", "downloadFolder", "decompress", "numberOfThreads"]


def missing():
    """Why there can be no windows here, '' if there can."""
    absent = [program for program in ("Xvfb", "import") if shutil.which(program) is None]
    if absent:
        return "not installed: %s (Debian: xvfb, imagemagick)" % ", ".join(absent)
    try:
        import tkinter  # noqa: F401 - Python may come without it
    except ImportError:
        return "this Python has no tkinter"
    return ""


@contextlib.contextmanager
def screen():
    """A virtual screen; yields its name for DISPLAY."""
    read, write = os.pipe()
    process = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", "1400x1000x24"], pass_fds=[write],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as stream:
            yield ":" + stream.readline().strip()
    finally:
        process.terminate()
        process.wait()


class TestLists(unittest.TestCase):

    @unittest.skipIf(missing(), missing())
    def test_what_is_cut_is_told_whole(self):
        # In a process of its own: Tk ends its own when the screen goes.
        with screen() as display, environment(DISPLAY=display):
            done = subprocess.run([sys.executable, "-m", "empiardownloader.tests.list_play"], stdout=subprocess.PIPE,
                                  check=True, timeout=120)
        told = json.loads(done.stdout)
        self.assertEqual([["n" * 200], [], [], ["1234567 images of a set"], []], told)

    @unittest.skipIf(missing(), missing())
    def test_a_filter_takes_parts_of_names(self):
        from empiardownloader.wizards.dialogs import holds
        for text, expected in (("", True), ("foil", True), ("foil*_07", True), ("07*foil", False), ("*", True),
                               ("[10]", True), ("a*" * 50 + "b", False)):
            self.assertEqual(expected, holds("foil_[10]_07" + "a" * 200, text.split("*")), text)


@unittest.skipIf(missing(), missing())
class TestWindows(ArchiveTestCase):

    def test_form_wizards_execute_and_viewer(self):
        records, emdb = entries.build(self.root)
        # Pictures for the README are kept where this variable says.
        pictures = os.environ.get("EMPIAR_PICTURES") or os.path.join(self.folder, "pictures")
        os.makedirs(pictures, exist_ok=True)
        with DemoArchive(self.root, records, emdb, rate=1000000) as demo, screen() as display, \
                environment(DISPLAY=display, XDG_CACHE_HOME=self.folder, **demo.variables):
            done = subprocess.run([sys.executable, "-m", "empiardownloader.tests.gui_play", pictures], timeout=450,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            self.assertTrue(os.path.exists(os.path.join(pictures, "result.json")), done.stdout[-3000:])
            with open(os.path.join(pictures, "result.json")) as stream:
                result = json.load(stream)
        self.assertEqual([], result["errors"], ", ".join(result["steps"][-5:]))
        self.assertLessEqual(set(FORM), set(result["parameters"]))
        without_help = [name for name in FORM if not result["parameters"][name]]
        self.assertEqual([], without_help)
        self.assertEqual((False, True), (result["amount_shown_for_all"], result["amount_shown_for_some"]))
        self.assertEqual(["entryId", "figures", "filePattern", "gainPattern", "imageSet", "particlesFile"],
                         result["wizards"])
        self.assertEqual(["90001", "1", "", None], result["entry"])
        self.assertIn("Cleared, since it was for another image set: File pattern (old*), Pixel size (Å/px) (1.5)",
                      result["messages"][0])
        self.assertIn("Images:  1 of 12 movies", result["planned"])
        # What the form says of its size is of the values that it has.
        self.assertRegex(result["figures"][0], r"^1 movie, 2\.\d MB, about \d+ s, [\d.]+ .B free$")
        self.assertEqual(FIGURES, result["figures"][1])
        self.assertRegex(result["figures"][2], r"^2 movies, 4\.\d MB, about \d+ s, ")
        # Motion correction has a plugin of its own, which is not here.
        self.assertEqual(["EMPIAR-90001 movies"], result["made"])
        self.assertIn("which were skipped: ProtMotionCorr", result["messages"][1])
        self.assertEqual(("2", "2"), (result["imageset_chosen"], result["imageset_cancelled"]))
        self.assertEqual("data/Movies_tiff/grid*.tif", result["pattern_chosen"])
        self.assertEqual(result["pattern_chosen"], result["pattern_cancelled"])
        self.assertEqual("data/Movies_tiff/grid1_0010.tif | data/Movies_tiff/grid1_0012.tif", result["ticked"])
        self.assertEqual("data/Movies_tiff/gain_reference.mrc", result["gain_chosen"])
        self.assertEqual("data/Movies_tiff/grid*.tif matches 12 files of this folder, 23.6 MB.", result["described"][0])
        self.assertEqual("2 files ticked, 3.9 MB.", result["described"][1])
        self.assertIn("data/Movies_tiff/gain_reference.mrc, 0.8 MB", result["described"][2])
        self.assertEqual(([13, 3, 1], None), (result["listed"][:3], result["star_refused"][1] or None))
        self.assertIn("data/workflow.json is no .star file: select one.", result["star_refused"][0])
        self.assertEqual(["2", result["pattern_chosen"]], result["after_unreachable"])
        for message in result["messages"][2:]:
            self.assertIn("could not be asked", message)
            self.assertNotIn("Traceback", message)
        self.assertEqual(("finished", 6), (result["status"], result["movies"]))
        self.assertEqual(["running", "finished"], result["viewers"])
        self.assertTrue(result["drawn_running"] and result["drawn_finished"])
        self.assertGreaterEqual(result["images_running"], 2)
        self.assertEqual(8, result["images_finished"])
        # The page that was opened in the middle has grown without a hand.
        self.assertEqual(("Movies 1 to 4 of 6", 8), (result["title_grown"], result["images_grown"]))
        self.assertEqual("gain applied", result["remark"])
        self.assertEqual("EMPIAR-90001 movies", result["window"])
        self.assertEqual("Movies 5 to 6 of 6", result["jumped"])
        self.assertEqual(['No name contains "nothing like it".', "Movies 1 to 4 of 6"], result["found"])
        self.assertEqual("Movies 5 to 6 of 6", result["second_page"])
        self.assertEqual("Movies 5 to 6 of 6", result["beyond_last_page"])
        self.assertIn("MDViewer", result["set_viewers"])
