# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/architecture.rst says of the code is so."""
import ast
import json
import os
import re
import unittest

import empiardownloader
from empiardownloader import constants
from empiardownloader.follow.events import EventType
from empiardownloader.live.kinds import KINDS, SPECTRA
from empiardownloader.live.window import live_messages

IS_QUICK = True

PACKAGE = os.path.dirname(os.path.abspath(empiardownloader.__file__))
DOCS = os.path.join(os.path.dirname(PACKAGE), "docs")
# Modules that are longer, and why.
MOST_LINES = 425
LONG = {
    "archive/selection.py": "one search with one set of notes; what tells images from references is two thirds of it",
    "archive/series.py": "the four ways in which entries tell of tilt series, which fall back on one another",
    "archive/remote/ftp.py": "one protocol, with the workarounds that five servers need"}

# Classes that have more, and why. A record is read by many and changed by none, or in one place.
MOST_ATTRIBUTES = 16
WIDE = {
    ("archive/selection.py", "ImageFinder"): "what was asked for, and what its one search has found so far",
    ("catalogue/facts.py", "EntryFacts"): "a record: what is told of an entry",
    ("demo/faults.py", "Play"): "a record: how the servers behave, as a test or the demo wants it",
    ("download/download.py", "Download"): "the parts of a download, which it makes and joins",
    ("download/record/facts.py", "RecordState"): "a record: what each kind of event adds up to",
    ("follow/child/project.py", "Run"): "what a run was at the last look: its row, its outputs, its signs of life",
    ("follow/child/sets.py", "SetFile"): "where a set is, what it says of itself, and when it is to be looked at again",
    ("follow/child/teller.py", "Teller"): "what was asked for, which is half of it, and what was told by now",
    ("follow/walk.py", "Walk"): "what was asked for, and the three ways in which a walk ends, from any thread",
    ("live/feed.py", "Feed"): "two locks, the threads' queues, and what was asked for; what is decided is in ShownRun",
    ("live/sender.py", "Sender"): "a thread's own: the viewer's process, its link, and what it has said",
    ("live/shown_run.py", "ShownRun"): "one state, told by events; an image is shown by most of it at once",
    ("live/window/live_model.py", "Picture"): "a record: what is known of an image",
    ("live/window/live_page.py", "PageServer"): "a server's: pictures that are being made, pages that wait",
    ("transfer/file.py", "FileTransfer"): "a machine of states under one lock; Trouble and Piece are parts of it",
    ("viewers/viewer_empiar.py", "ImagesPage"): "a window: its widgets and what they show",
    ("wizards/dialogs.py", "RemoteTreeDialog"): "a window: its widgets and what they show",
    ("wizards/find.py", "FindDialog"): "a window: its widgets and what they show; its panes are classes of their own"}


def modules():
    """(path below the package, its syntax tree), but for tests."""
    for folder, folders, names in os.walk(PACKAGE):
        folders[:] = [name for name in folders if name not in ("tests", "__pycache__")]
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as stream:
                    yield os.path.relpath(path, PACKAGE), ast.parse(stream.read())


def scripts():
    """{path below the package: text} of the pages' scripts."""
    found = {}
    for folder in (os.path.join("live", "window", "page"), os.path.join("follow", "page")):
        for name in sorted(os.listdir(os.path.join(PACKAGE, folder))):
            if name.endswith(".js"):
                with open(os.path.join(PACKAGE, folder, name), encoding="utf-8") as stream:
                    found[os.path.join(folder, name)] = stream.read()
    return found


def attributes(node):
    """Names of what the objects of a class hold."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "self" \
                and isinstance(part.ctx, ast.Store):
            yield part.attr
    # Of dataclasses and named tuples.
    for part in node.body:
        if isinstance(part, ast.AnnAssign):
            yield part.target.id


def members(node):
    """Names of methods and attributes of a class."""
    yield from attributes(node)
    for part in ast.walk(node):
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield part.name


@unittest.skipUnless(os.path.isdir(DOCS), "the package was installed without its documentation")
class TestArchitecture(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        with open(os.path.join(DOCS, "architecture.rst"), encoding="utf-8") as stream:
            cls.text = stream.read()
        cls.trees = dict(modules())
        cls.classes, cls.functions = {}, set()
        for tree in cls.trees.values():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    cls.classes.setdefault(node.name, (set(), []))[0].update(members(node))
                    cls.classes[node.name][1].extend(base.id for base in node.bases if isinstance(base, ast.Name))
                elif isinstance(node, ast.FunctionDef):
                    cls.functions.add(node.name)
            cls.functions.update(target.id for node in tree.body if isinstance(node, ast.Assign)
                                 for target in node.targets if isinstance(target, ast.Name))

    def has(self, name, member):
        found, bases = self.classes.get(name, (set(), []))
        return member in found or any(self.has(base, member) for base in bases)

    def test_all_names_are_there(self):
        for name in sorted(set(re.findall(r"``([^`]+)``", self.text))):
            with self.subTest(name):
                if "/" in name or name.endswith((".py", ".rst")):
                    places = [os.path.join(top, name) for top in (PACKAGE, os.path.join(PACKAGE, "follow"), DOCS)]
                    places += [os.path.join(PACKAGE, folder, name) for folder in ("tests", "transfer")]
                    self.assertTrue(any(map(os.path.exists, places)))
                elif re.fullmatch(r"_?[A-Z]\w+\.\w+", name):
                    # Scipion's own, of protocols.
                    self.assertTrue(self.has(*name.split(".")) or name == "EmpiarDownloader._lock")
                elif re.fullmatch(r"[A-Z]\w+", name):
                    self.assertIn(name, self.classes)
                elif re.fullmatch(r"\w+", name) and name not in ("flock", "_locked"):
                    self.assertTrue(name in self.functions, name)

    def test_the_child_has_the_files_name(self):
        """It stands alone, on machines where the rest of the package is not."""
        told = [node.value for node in self.trees[os.path.join("follow", "child", "project.py")].body
                if isinstance(node, ast.Assign) and node.targets[0].id == "PROGRESS"]
        self.assertEqual([("extra", constants.PROGRESS_FILE)], list(map(ast.literal_eval, told)))

    def test_all_threads_are_there(self):
        """Each has a name, by which the page tells of it."""
        named = {"walk-ending"}         # a Timer, which takes no name
        for path, tree in self.trees.items():
            for node in ast.walk(tree) if not path.startswith("demo") else ():
                called = getattr(node.func, "attr", "") if isinstance(node, ast.Call) else ""
                if called == "ThreadPoolExecutor":
                    named.add(node.args[1].value)
                elif called == "__init__":
                    # Of a class of threads.
                    named |= {keyword.value.value for keyword in node.keywords if keyword.arg == "name"
                              and any(other.arg == "daemon" for other in node.keywords)}
                elif called == "Thread":
                    names = [keyword.value for keyword in node.keywords if keyword.arg == "name"]
                    self.assertEqual(1, len(names), "%s:%d: a thread without a name" % (path, node.lineno))
                    # "transfer-%d" % number, "window-" + what it does
                    named.add(getattr(names[0], "left", names[0]).value.replace("%d", "0"))
        table = self.text.partition("\nThreads\n=======\n")[2].partition("\nLocks\n")[0]
        told = re.findall(r"^([a-z][\w-]*)(?:\.\.\.)?(?: \.\.\.)?  ", table, re.MULTILINE)
        self.assertEqual(sorted(named), sorted(told))

    def test_all_locks_are_there(self):
        kinds, found = ("Lock", "RLock", "Condition"), set()
        for path, tree in self.trees.items():
            owners = {part: node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
                      for part in ast.walk(node)}
            for node in ast.walk(tree) if not path.startswith("demo") else ():
                if not isinstance(node, ast.Assign):
                    continue
                pairs = zip(node.targets[0].elts, node.value.elts) if isinstance(node.value, ast.Tuple) and isinstance(
                    node.targets[0], ast.Tuple) else [(node.targets[0], node.value)]
                for target, value in pairs:
                    # A Condition of a lock that has a name is that lock.
                    if isinstance(value, ast.Call) and getattr(value.func, "attr", "") in kinds and not any(
                            isinstance(argument, ast.Attribute) for argument in value.args):
                        name = getattr(target, "attr", getattr(target, "id", ""))
                        found.add("%s.%s" % (owners[node], name) if node in owners else name)
        table = self.text.partition("\nLocks\n=====\n")[2]
        told = set(re.findall(r"^``(\S+)``", table.partition("\nWhere two")[0], re.MULTILINE))
        # Scipion makes it.
        self.assertEqual(found, told - {"EmpiarDownloader._lock"})

    def test_what_wants_the_boards_lock_says_so(self):
        """In the board, whatever changes a file or the plan either takes the lock or is called '..._locked'."""
        board = next(node for node in ast.walk(self.trees[os.path.join("transfer", "board.py")])
                     if isinstance(node, ast.ClassDef) and node.name == "Board")
        for method in board.body:
            if not isinstance(method, ast.FunctionDef) or method.name in ("__init__", "release_parts"):
                continue
            takes = any(isinstance(node, ast.With) and ast.unparse(node.items[0].context_expr) == "self.changed"
                        for node in ast.walk(method)) if hasattr(ast, "unparse") else None
            calls = {node.func.attr for node in ast.walk(method)
                     if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
            if any(name.endswith("_locked") for name in calls) and takes is not None:
                with self.subTest(method.name):
                    self.assertTrue(takes or method.name.endswith("_locked"))

    def test_no_module_grows_without_a_reason(self):
        for path in [*self.trees, *scripts()]:
            with open(os.path.join(PACKAGE, path), encoding="utf-8") as stream:
                lines = sum(1 for _ in stream)
            with self.subTest(path):
                self.assertTrue(lines <= MOST_LINES or path in LONG, "%d lines, more than %d: divide it, or say in "
                                "LONG (above) why it stays whole" % (lines, MOST_LINES))
        for path in LONG:
            self.assertIn(path, self.trees)

    def test_no_class_grows_without_a_reason(self):
        wide = set()
        for path, tree in self.trees.items():
            for node in ast.walk(tree):
                count = len(set(attributes(node))) if isinstance(node, ast.ClassDef) else 0
                if count > MOST_ATTRIBUTES:
                    wide.add((path, node.name))
                    with self.subTest(path=path, name=node.name):
                        self.assertTrue((path, node.name) in WIDE, "%d attributes, more than %d: divide it, or say in "
                                        "WIDE (above) why it stays whole" % (count, MOST_ATTRIBUTES))
        self.assertEqual(set(), set(WIDE) - wide)


class TestPages(unittest.TestCase):
    """What the scripts of a page share with its server and with its markup, which no import holds together."""

    def constant(self, name, *path):
        text = scripts()[os.path.join(*path or ("live", "window", "page", "words.js"))]
        return json.loads(re.search(r'\b%s = (\{.*?\}|\[.*?\]|".*?")' % name, text, re.DOTALL).group(1))

    def test_words_are_the_servers(self):
        self.assertEqual(list(live_messages.SECTIONS), list(self.constant("SECTION_WORDS")))
        self.assertEqual(set(), set(self.constant("CAPTIONS")) - {SPECTRA, *KINDS.values()})
        self.assertEqual(set(), set(self.constant("WITH_FRAMES")) - set(live_messages.SECTIONS))
        self.assertEqual([live_messages.FRAMES, live_messages.FULL_SIZE],
                         [self.constant("FRAMES"), self.constant("FULL_SIZE")])
        self.assertCountEqual([kind.name for kind in EventType], self.constant("KINDS", "follow", "page", "events.js"))

    def test_elements_are_there(self):
        for path, text in scripts().items():
            folder = os.path.join(PACKAGE, os.path.dirname(path))
            page = next(name for name in os.listdir(folder) if name.endswith(".html"))
            with open(os.path.join(folder, page), encoding="utf-8") as stream:
                there = set(re.findall(r'\bid="(\w+)"', stream.read()))
            with self.subTest(path):
                asked = set(re.findall(r'(?:\$|getElementById)\("(\w+)"\)', text))
                self.assertEqual(set(), asked - there)
