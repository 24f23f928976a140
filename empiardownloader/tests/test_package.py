# SPDX-License-Identifier: GPL-3.0-or-later
"""The plugin as Scipion finds it, and as it is packed."""
import ast
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
from empiardownloader.tests.surroundings import environment

TOP = os.path.dirname(os.path.dirname(os.path.abspath(empiardownloader.__file__)))
SOURCES = os.path.exists(os.path.join(TOP, "setup.py"))


def run(*command, **options):
    return subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=120, check=False, **options)


# The house from its top to its cellar: what each room imports of the package.
ROOMS = {
    "demo": "live download images archive",
    "__main__": "live download catalogue follow command archive constants",
    "wizards": "protocols Plugin download catalogue images values archive units constants",
    "viewers": "protocols Plugin live download follow images units constants",
    "protocols": "Plugin download catalogue transfer images archive units constants",
    "Plugin": "",
    "live": "follow images command local_server local_access units constants",
    "download": "catalogue transfer images command values archive units constants",
    "catalogue": "command values archive units constants",
    "transfer": "images archive",
    "follow": "local_server local_access units",
    "images": "",
    "command": "archive",
    "values": "archive",
    "archive": "constants",
    "local_server": "local_access",
    "local_access": "constants",
    "units": "",
    "__init__": "constants",
    "constants": "",
}
SCIPION, KNOW_SCIPION = {"pyworkflow", "pwem"}, {"__init__", "protocols", "wizards", "viewers", "demo"}
NETWORK = {"ftplib", "requests", "urllib", "urllib3", "socket", "http"}
# Those that listen on this machine ask nobody.
KNOW_NETWORK = {"archive": NETWORK, "demo": NETWORK, "live": {"socket"}, "local_access": {"socket"},
                "local_server": {"socket", "urllib"}}


def imports_of(package):
    """(path below the package, line, full name of what is imported, whether at the module's top) of all its modules
    but the tests."""
    for folder, _, names in os.walk(package):
        relative = os.path.relpath(folder, package)
        if relative.split(os.sep)[0] == "tests":
            continue
        here = ["empiardownloader"] + [part for part in relative.split(os.sep) if part != "."]
        for name in names:
            if not name.endswith(".py"):
                continue
            with open(os.path.join(folder, name), encoding="utf-8") as stream:
                tree = ast.parse(stream.read())
            for node in ast.walk(tree):
                found = []
                if isinstance(node, ast.Import):
                    found = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    base = here[:len(here) - node.level + 1] if node.level else []
                    base = ".".join(base + [node.module] * bool(node.module))
                    # Of packages modules may be imported by their names.
                    found = ["%s.%s" % (base, alias.name) for alias in node.names]
                for imported in found:
                    yield os.path.normpath(os.path.join(relative, name)), node.lineno, imported, node in tree.body


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

    def test_rooms_know_only_what_is_below_them(self):
        """Also in functions, and whether the import is relative or not."""
        package = os.path.dirname(empiardownloader.__file__)
        found, wrong = {}, []
        for path, line, name, is_first in imports_of(package):
            room, place = path.split(os.sep)[0].replace(".py", ""), "%s:%d" % (path, line)
            own, _, other = name.partition(".")
            if own != "empiardownloader":
                if own in SCIPION and room not in KNOW_SCIPION:
                    wrong.append("%s imports Scipion" % place)
                if own in NETWORK - KNOW_NETWORK.get(room, set()):
                    wrong.append("%s imports %s: it does not speak to networks" % (place, own))
                if room == "follow" and own in ("numpy", "mrcfile", "tifffile") and is_first:
                    wrong.append("%s imports %s before it is needed: it runs where only Python is" % (place, own))
                continue
            # Gatan's files are read by Scipion, where there is Scipion.
            if room == "live" and other.startswith("protocols.headers"):
                continue
            other = other.partition(".")[0]
            if other and other != room:
                found.setdefault(room, set()).add(other)
                if other not in ROOMS.get(room, "").split():
                    wrong.append("%s imports %s: see ROOMS in test_package" % (place, other))
        self.assertEqual([], wrong)
        self.assertEqual({room: set(others.split()) for room, others in ROOMS.items() if others}, found)
        order = list(ROOMS)
        self.assertEqual([], [(room, other) for room in ROOMS for other in ROOMS[room].split()
                              if order.index(other) < order.index(room)], "an arrow up")

    @unittest.skipUnless(SOURCES, "CONTRIBUTING.rst is beside the sources")
    def test_the_page_of_rooms_names_all_modules(self):
        package = os.path.dirname(empiardownloader.__file__)
        with open(os.path.join(TOP, "CONTRIBUTING.rst"), encoding="utf-8") as stream:
            table = stream.read().split("\n=============== =")[2]
        rows = dict(re.findall(r"^(\S+) +((?:.|\n(?= ))*)", table, re.MULTILINE))
        self.assertEqual([room for room in ROOMS if os.path.isdir(os.path.join(package, room))],
                         [row[2:-3] for row in rows if row != "\\"])
        for folder, _, names in os.walk(package):
            room = os.path.relpath(folder, package).split(os.sep)[0]
            if room == "tests":
                continue
            row = rows.get("\\" if room == "." else "``%s/``" % room, "")
            modules = [name[:-3] for name in names if name.endswith((".py", ".js")) and not name.startswith("__")]
            self.assertEqual([], [name for name in modules if "``%s``" % name not in row], room)

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
