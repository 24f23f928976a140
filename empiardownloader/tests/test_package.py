# SPDX-License-Identifier: GPL-3.0-or-later
"""The plugin as Scipion finds it, and as it is packed."""
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import unittest
import zipfile

import pyworkflow as pw
from pwem.objects import (
    SetOfAverages,
    SetOfClasses2D,
    SetOfClasses3D,
    SetOfMicrographs,
    SetOfMovies,
    SetOfParticles,
    SetOfVolumes,
)
from pyworkflow.gui.project.viewprotocols_extra import ProtocolTreeConfig
from pyworkflow.viewer import DESKTOP_TKINTER
from tomo.objects import SetOfSubTomograms, SetOfTiltSeries, SetOfTiltSeriesM, SetOfTomograms

import empiardownloader
from empiardownloader import Plugin, constants
from empiardownloader.protocols import EmpiarDownloader
from empiardownloader.tests.base import environment

TOP = os.path.dirname(os.path.dirname(os.path.abspath(empiardownloader.__file__)))
SOURCES = os.path.exists(os.path.join(TOP, "setup.py"))


def run(*command, **options):
    return subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=120, check=False, **options)


class TestPlugin(unittest.TestCase):

    def test_protocol_wizards_and_viewer_are_found(self):
        domain = pw.Config.getDomain()
        self.assertEqual("empiardownloader.protocols.protocol_empiar_download",
                         domain.getProtocols()["EmpiarDownloader"].__module__)
        self.assertEqual(6, sum(name.startswith("Empiar") for name in domain.getWizards()))
        self.assertIn("EmpiarDownloadViewer", domain.getViewers())
        sets = [kind(filename=":memory:") for kind in (
            SetOfMovies, SetOfMicrographs, SetOfParticles, SetOfAverages, SetOfClasses2D, SetOfClasses3D, SetOfVolumes,
            SetOfTiltSeries, SetOfTiltSeriesM, SetOfTomograms, SetOfSubTomograms)]
        for target in (EmpiarDownloader(), *sets):
            names = [viewer.getName() for viewer in domain.findViewers(target, DESKTOP_TKINTER)]
            self.assertLessEqual({"Live in napari", "Live in ImageJ", "Live in the browser"}, set(names))
            # The first one opens with a double click, or with Analyze results.
            self.assertFalse(names[0].startswith("Live"), names)

    def test_configuration_variables(self):
        pw.Config.getDomain().getPlugins()
        for name, (default, description) in constants.VARIABLES.items():
            self.assertEqual(os.environ.get(name, default), Plugin.getVar(name))
            self.assertTrue(default.startswith(("https://", "ftp://")))
            self.assertGreater(len(description), 20)
        for name, (default, description) in constants.VIEWER_VARIABLES.items():
            self.assertEqual(os.environ.get(name, default), Plugin.getVar(name))
            self.assertGreater(len(description), 20)

    def test_layers_know_only_what_is_below_them(self):
        """Folders in the order of the house, each with what its modules must not import."""
        package = os.path.dirname(empiardownloader.__file__)
        scipion, network = r"pyworkflow|pwem", r"ftplib|requests|urllib|socket"
        windows = r"\.\.(protocols|wizards|viewers|demo)\b|from \.\. import (?!constants)"
        forbidden = {
            # It serves addresses, and asks none.
            "follow": "|".join((scipion, r"ftplib|requests|urllib\.request", windows,
                                 r"^(import|from) (numpy|mrcfile|tifffile)",
                                r"\.\.(archive|transfer|download|images|live)\b")),
            "images": "|".join((scipion, network, windows, r"\.\.(archive|transfer|download|follow|live)\b")),
            # Gatan's files are read by Scipion, where there is Scipion.
            "live": "|".join((scipion, r"ftplib|requests|urllib", r"\.\.protocols\.(?!headers)",
                              r"\.\.(archive|transfer|download|wizards|viewers|demo)\b")),
            "archive": "|".join((scipion, windows, r"\.\.(transfer|download|images|catalogue)\b")),
            "catalogue": "|".join((scipion, network, windows, r"\.\.(transfer|download|images|follow|live)\b")),
            "transfer": "|".join((scipion, network, windows, r"\.\.download\b")),
            "download": "|".join((scipion, network, windows)),
            "protocols": network + "|demo", "wizards": network + "|demo", "viewers": network + "|demo"}
        for folder, pattern in forbidden.items():
            for current, _, names in os.walk(os.path.join(package, folder)):
                for name in names:
                    if not name.endswith(".py"):
                        continue
                    with open(os.path.join(current, name), encoding="utf-8") as stream:
                        imports = [line for line in stream if re.match(r"\s*(import|from) ", line)]
                    # In a folder of archive/, two dots are archive/ itself.
                    allowed = r"from \.\. import|from \.\.(errors|sessions) " if current != os.path.join(
                        package, folder) else r"$ "
                    self.assertEqual([], [line for line in imports if re.search(pattern, line)
                                          and not re.match(allowed, line)], name)

    def test_templates_are_offered(self):
        """Each makes its boxes with what is typed, without a window."""
        for name, fields, wanted in (
                ("empiar_movies", ("entry=EMPIAR-10934", "movies=7"), {("EMPIAR-10934", "7")}),
                ("empiar_first_steps", ("entry=10021", "movies=5"), {("10021", "5")}),
                ("empiar_several_entries", ("entry1=10021", "movies1=1", "entry2=10025", "movies2=3", "entry3=10061",
                                            "movies3=4"), {("10021", "1"), ("10025", "3"), ("10061", "4")})):
            with self.subTest(name), tempfile.TemporaryDirectory() as folder, environment(
                    SCIPION_HOME=folder, SCIPION_USER_DATA=folder):
                done = run("-m", "scipion", "template", "empiardownloader-" + name, "--nogui", "--noschedule",
                           "project_name=FromTemplate", *fields)
                project = os.path.join(folder, "projects", "FromTemplate", "project.sqlite")
                self.assertTrue(os.path.exists(project), done.stdout[-2000:])
                with contextlib.closing(sqlite3.connect(project)) as database:
                    found = list(database.execute("SELECT parent_id, name, value FROM Objects WHERE name LIKE '%.%'"))
                runs = {}
                for parent, key, value in found:
                    runs.setdefault(parent, {})[key.rpartition(".")[2]] = value
                self.assertEqual(wanted, {(values["entryId"], values["amountOfImages"]) for values in runs.values()
                                          if values.get("entryId")})

    def test_the_trees_have_it(self):
        """W8: where imports are, also of tomography, under a name that fits."""
        domain = pw.Config.getDomain()
        domain.getPlugins()
        trees = ProtocolTreeConfig.load(domain, pw.Config.SCIPION_PROTOCOLS)
        for name in ("Protocols SPA", "Tomography"):
            imports = next(child for child in trees[name] if child.text == "Imports")
            self.assertIn(("import from EMPIAR", "EmpiarDownloader"), [(str(child.text), str(child.value))
                                                                       for child in imports], name)

    def test_the_second_template_is_a_workflow(self):
        path = os.path.join(os.path.dirname(empiardownloader.__file__), "templates",
                            "empiar_to_micrographs.json.template")
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        filled = re.sub(r"~[^|~]*\|([^|~]*)\|[^~]*~", r"\1", text[text.index("\n[") + 1:])
        first, second = json.loads(filled)
        self.assertEqual("%s.outputMovies" % first["object.id"], second["inputMovies"])
        form = dict(EmpiarDownloader().getDefinition().iterParams())
        self.assertLessEqual({name for name in first if not name.startswith("object.")}, set(form))

    def test_the_other_plugin_of_the_same_name(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "empiar"))
            with open(os.path.join(folder, "empiar", "__init__.py"), "w"):
                pass
            script = ("from empiardownloader import Plugin\n"
                      "print('[%s]' % Plugin.nameCollision())\n")
            with environment(PYTHONPATH=folder + os.pathsep + os.environ.get("PYTHONPATH", "")):
                told = run("-c", script).stdout
                with environment(SCIPION_PRIORITY_PACKAGE_LIST="pwem tomo pwchem empiardownloader"):
                    cured = run("-c", script).stdout
        self.assertIn("Scipion takes now one, now the other", told)
        self.assertIn("SCIPION_PRIORITY_PACKAGE_LIST = ", told)
        self.assertIn("[]", cured)


@unittest.skipUnless(SOURCES, "only the installed package is here")
class TestFirstSteps(unittest.TestCase):

    def test_the_first_command_that_opens_a_window(self):
        """W5: ``project NAME`` opens nothing as long as there is no project."""
        with open(os.path.join(TOP, "README.rst"), encoding="utf-8") as stream:
            text = stream.read()
        self.assertNotRegex(text, r"scipion3? project \w")
        self.assertRegex(text, r"``python -m scipion`` opens the list of projects")

    def test_pages_lead_somewhere(self):
        """Pictures and pages that are named by whole addresses, as a package index needs them, or by their names."""
        pages = {os.path.join("docs", name) for name in os.listdir(os.path.join(TOP, "docs")) if name.endswith(".rst")}
        named = set()
        for page in ["README.rst", *sorted(pages)]:
            with open(os.path.join(TOP, page), encoding="utf-8") as stream:
                text = stream.read()
            folder = os.path.join(TOP, os.path.dirname(page))
            links = [os.path.join(TOP, path) for path in re.findall(
                r"scipion-em-empiardownloader/(?:HEAD|blob/HEAD)/([\w./-]+)", text)]
            links += [os.path.join(folder, name) for name in re.findall(r"\.\. image:: (?!http)(\S+)", text)]
            links += [os.path.join(TOP, "docs", name) for name in re.findall(r"``(\w+\.rst)``", text)]
            named.update(os.path.relpath(link, TOP) for link in links)
            self.assertEqual([], [link for link in links if not os.path.exists(link)], page)
        self.assertLessEqual(pages, named)


@unittest.skipUnless(SOURCES, "only the installed package is here")
class TestPacking(unittest.TestCase):

    def test_the_wheel_is_complete(self):
        with tempfile.TemporaryDirectory() as folder:
            done = run("-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, TOP)
            self.assertEqual(0, done.returncode, done.stdout)
            wheel, = os.listdir(folder)
            with zipfile.ZipFile(os.path.join(folder, wheel)) as archive:
                names = archive.namelist()
                points, = [name for name in names if name.endswith("entry_points.txt")]
                entry_points = archive.read(points).decode()
        for name in ("protocols.conf", "empiardownloader_logo.png", "templates/empiar_movies.json.template",
                     "templates/empiar_to_micrographs.json.template", "demo/workflow.json", "tests/test_protocol.py",
                     "follow/child/__main__.py", "follow/child/sets.py", "live/window/__main__.py",
                     "live/window/live_model.py"):
            self.assertIn("empiardownloader/" + name, names)
        self.assertIn("empiardownloader = empiardownloader", entry_points)
        self.assertEqual({"empiardownloader"}, {name.split("/")[0] for name in names if ".dist-info" not in name})

    def test_setup_does_not_import_the_package(self):
        with tempfile.TemporaryDirectory() as folder:
            # A pwem that cannot be imported stands for a machine without Scipion.
            with open(os.path.join(folder, "pwem.py"), "w") as stream:
                stream.write("raise RuntimeError('setup.py imported pwem')\n")
            with environment(PYTHONPATH=folder):
                done = run("setup.py", "--version", cwd=TOP)
        self.assertIn(empiardownloader.__version__, done.stdout)
        self.assertNotIn("RuntimeError", done.stdout)


class TestDemo(unittest.TestCase):

    def test_words_without_markup(self):
        """W10: Scipion's windows know it, a terminal does not."""
        from empiardownloader.demo.__main__ import plain
        for text, wanted in (("*EMPIAR-1*: a_b_c", "EMPIAR-1: a_b_c"), ("_note_ of 2*3*4", "note of 2*3*4"),
                             ("[[https://x.org/a][Entry page]]", "Entry page: https://x.org/a"),
                             ("[[https://x.org/a][https://x.org/a]]", "https://x.org/a")):
            self.assertEqual(wanted, plain(text))
