# SPDX-License-Identifier: GPL-3.0-or-later
"""A Scipion environment in a folder of its own, for the demo, the tests and the bench.

``python -m empiardownloader.demo.environment FOLDER -- COMMAND ...`` runs a command in it.
"""
import importlib.util
import os
import sys


def scipion_environment(folder):
    """The environment variables of a Scipion whose home, projects and settings lie in ``folder``."""
    home = os.path.join(os.path.abspath(folder), "home")
    os.makedirs(home, exist_ok=True)
    hosts = os.path.join(os.path.dirname(importlib.util.find_spec("scipion").origin), "templates", "hosts.template")
    # Runs are started as python3: this interpreter's folder comes first. The path is not resolved, a virtual
    # environment's python is a link.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    # Runs import the plugin that they were launched from, also where another copy of it is installed.
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    modules = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    return dict(os.environ, PYTHONPATH=modules, SCIPION_HOME=home,
                SCIPION_USER_DATA=os.path.join(os.path.abspath(folder), "data"), SCIPION_HOSTS=hosts,
                SCIPION_DOMAIN="pwem", SCIPION_NOTIFY="False", PATH=path)


if __name__ == "__main__":
    separator = sys.argv.index("--")
    command = sys.argv[separator + 1:]
    os.execvpe(command[0], command, scipion_environment(sys.argv[1]))
