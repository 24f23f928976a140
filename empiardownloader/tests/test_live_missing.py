# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be missing for a live view, and the sentence that says so, with the line that cures it."""
import os
import shutil
import subprocess
import sys
import unittest

from empiardownloader.live import FijiStreamingBackend, NapariStreamingBackend
from empiardownloader.tests.live_case import LiveCase
from empiardownloader.tests.surroundings import environment

IS_QUICK = True

JAVA = shutil.which("java") is not None


def command(*words, **variables):
    return subprocess.run([sys.executable, "-m", "empiardownloader.live", *words], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60, env=dict(os.environ, **variables),
                          check=False)


class TestMissing(LiveCase):

    def without(self, *modules):
        """Environment variables of a Python that lacks these modules."""
        with open(os.path.join(self.folder, "sitecustomize.py"), "w") as stream:
            stream.write("import importlib.util as u\nfound = u.find_spec\n"
                         "u.find_spec = lambda name, *rest: None if name in %r else found(name, *rest)\n" % (modules,))
        return {"PYTHONPATH": os.pathsep.join([self.folder, os.getcwd()])}

    def test_no_screen(self):
        with environment(DISPLAY=None, WAYLAND_DISPLAY=None):
            for kind in (NapariStreamingBackend, FijiStreamingBackend):
                self.refused(kind(), r"^There is no screen here \(DISPLAY is not set\): .* ssh -X\.$")

    def test_a_wrong_interpreter_for_napari(self):
        for python, words in (("/nowhere/python", "is not there"), ("/bin/true", "is no Python 3 that works"),
                              ("/bin/false", "is no Python 3 that works"), (self.folder, "is no Python 3 that works"),
                              ("/etc/passwd", "is no Python 3 that works")):
            with self.subTest(python=python), environment(EMPIAR_NAPARI_PYTHON=python):
                self.refused(NapariStreamingBackend(), "(?s)^EMPIAR_NAPARI_PYTHON=%s.*(%s).*pip install napari" % (
                    python, words))

    def test_an_interpreter_without_napari(self):
        with environment(EMPIAR_NAPARI_PYTHON=None):
            self.refused(NapariStreamingBackend(), r"^This Python \(.*\) has no napari, which needs an environment of "
                                                   "its own: type in a terminal:\n    python3 -m venv napari-env\n.*\n"
                                                   r"    export EMPIAR_NAPARI_PYTHON=")

    def test_napari_without_the_rest(self):
        script = os.path.join(self.folder, "almost")
        with open(script, "w") as stream:
            stream.write("#!/bin/sh\necho absent zmq PyQt6 PyQt5 PySide6 PySide2\n")
        os.chmod(script, 0o755)
        self.refused(NapariStreamingBackend(python=script),
                     r"almost lacks pyzmq and PyQt6: .*almost -m pip install pyzmq PyQt6$")

    def test_a_package_that_is_not_here(self):
        for viewer, lacks, words in (("napari", "zmq", r"pyzmq is not installed here: .* -m pip install pyzmq"),
                                     ("fiji", "zmq", r"pyzmq is not installed here: .* -m pip install pyzmq"),
                                     ("web", "zmq", r"pyzmq is not installed here: .* -m pip install pyzmq"),
                                     ("web", "tornado", r"tornado is not installed here: .* -m pip install tornado"),
                                     ("web", "PIL", r"Pillow is not installed here: .* -m pip install Pillow"),
                                     ("fiji", "jpype", r"JPype1 is not installed here: .* -m pip install JPype1")):
            with self.subTest(viewer=viewer, lacks=lacks):
                done = command(viewer, self.folder, **self.without(lacks))
                self.assertEqual(1, done.returncode, done.stdout)
                self.assertRegex(done.stdout, "^%s\n$" % words)

    @unittest.skipUnless(JAVA, "there is no Java here (Debian: default-jre)")
    def test_a_folder_that_is_no_fiji(self):
        with environment(EMPIAR_FIJI_HOME=self.folder):
            self.refused(FijiStreamingBackend(), "^EMPIAR_FIJI_HOME=%s is no folder of Fiji or ImageJ" % self.folder)

    def test_no_java(self):
        # JPype looks for Java where JAVA_HOME says, and in the places where systems put it.
        script = ("import jpype\n"
                  "def absent(*names): raise jpype.JVMNotFoundException('no JVM')\n"
                  "jpype.getDefaultJVMPath = absent\n"
                  "import sys\n"
                  "from empiardownloader.live.__main__ import main\n"
                  "sys.exit(main(['fiji', sys.argv[1]]))\n")
        jars = os.path.join(self.folder, "jars")
        os.mkdir(jars)
        with open(os.path.join(jars, "ij-1.54f.jar"), "w"):
            pass
        done = subprocess.run([sys.executable, "-c", script, self.folder], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env=dict(os.environ, EMPIAR_FIJI_HOME=self.folder),
                              check=False)
        self.assertEqual("There is no Java here, which ImageJ needs: apt install default-jre, or set JAVA_HOME.\n",
                         done.stdout)

    def test_jars_of_fiji(self):
        os.makedirs(os.path.join(self.folder, "jars", "bio"))
        for name in ("jars/ij-1.54f.jar", "jars/bio/formats.jar", "jars/ij-plugins.jar"):
            with open(os.path.join(self.folder, name), "w"):
                pass
        jars = FijiStreamingBackend(home=self.folder)._jars()
        self.assertEqual(["ij-1.54f.jar", "formats.jar", "ij-plugins.jar"], [os.path.basename(jar) for jar in jars])

    def test_no_project(self):
        with environment(EMPIAR_NAPARI_PYTHON=os.environ["EMPIAR_TEST_PYTHON"]):
            done = command("napari", self.folder, "not a name")
            self.assertEqual((1, 1), (done.returncode, done.stdout.count("\n")), done.stdout)
            self.assertIn("'not a name' is no name of a run", done.stdout)
