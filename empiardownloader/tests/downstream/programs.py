# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Scipion's plugins find the programs that they run: Debian's RELION, and stand-ins for what cannot be had.

Imported before any plugin is, for their variables are read then.
"""
import atexit
import importlib.util
import os
import shutil
import stat
import sys
import tempfile

STANDINS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "standins.py")
RELION = "/usr/bin"
# Variable of a plugin -> its folder, from whose name the plugin reads the version, and the programs in it.
HOMES = {"MOTIONCOR_HOME": ("motioncor3-1.2.4", ["bin/MotionCor3"]), "ARETOMO_HOME": ("aretomo2-1.1.3", ["AreTomo2"]),
         "CTFFIND_HOME": ("ctffind-5.0.2", ["bin/ctffind"]), "CISTEM_HOME": ("cistem-1.0.0-beta", ["ctffind"]),
         "IMOD_HOME": ("imod", ["bin/tilt", "bin/newstack", "bin/trimvol", "bin/etomo"])}


def missing(*plugins, relion=False):
    """Why a test cannot be run here, '' if it can."""
    absent = ["scipion-em-" + name for name in plugins if importlib.util.find_spec(name) is None]
    if absent:
        return "not installed: %s (make downstream)" % ", ".join(absent)
    if relion and shutil.which("relion_run_motioncorr", path=RELION) is None:
        return "not installed: Debian's relion (apt install relion)"
    return ""


def _write(path):
    """A stand-in, called like the program."""
    with open(path, "w") as stream:
        stream.write('#!/bin/sh\nexec "%s" "%s" %s "$@"\n' % (sys.executable, STANDINS, os.path.basename(path)))
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)


def install():
    """Make a folder of programs and tell the plugins of it -> the folder, and the file in which calls are noted."""
    folder = tempfile.mkdtemp(prefix="empiar-programs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    relion = os.path.join(folder, "relion-4.0", "bin")
    os.makedirs(relion)
    for name in os.listdir(RELION):
        if name.startswith("relion"):
            os.symlink(os.path.join(RELION, name), os.path.join(relion, name))
    os.environ["RELION_HOME"] = os.path.dirname(relion)
    for variable, (name, programs) in HOMES.items():
        home = os.path.join(folder, name)
        for program in programs:
            os.makedirs(os.path.dirname(os.path.join(home, program)), exist_ok=True)
            _write(os.path.join(home, program))
        os.environ[variable] = home
    # Warp is loaded by a command, and then found by its name.
    warp = os.path.join(folder, "warp")
    os.makedirs(warp)
    _write(os.path.join(warp, "WarpTools"))
    os.environ["WARP_LOADER"] = 'export PATH="%s:$PATH"' % warp
    # They ask for CUDA's folder, which only has to be there.
    for variable in ("MOTIONCOR_CUDA_LIB", "ARETOMO_CUDA_LIB", "CUDA_LIB"):
        os.environ[variable] = folder
    with open(os.path.join(folder, "imod", "IMOD-linux.sh"), "w"):
        pass
    calls = os.path.join(folder, "calls")
    os.environ["EMPIAR_STANDIN_CALLS"] = calls
    return folder, calls


# Where none of the plugins is, all tests are skipped, and no other one is to find these variables.
FOLDER, CALLS = ("", "") if missing("motioncorr") and missing("relion") else install()
