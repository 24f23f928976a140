# SPDX-License-Identifier: GPL-3.0-or-later
"""Packaging. Nothing of the package is imported: building it needs no Scipion."""
import os
import re

from setuptools import find_packages, setup

HERE = os.path.abspath(os.path.dirname(__file__))


def read(*path):
    with open(os.path.join(HERE, *path), encoding="utf-8") as stream:
        return stream.read()


def requirements(name):
    """The lines of a requirements file, without comments."""
    lines = [line.partition("#")[0].strip() for line in read(name).splitlines()]
    return [line for line in lines if line and not line.startswith("-")]


VERSION = re.search(r'^__version__ = "(.+)"$', read("empiardownloader", "__init__.py"), re.MULTILINE).group(1)

setup(
    name="scipion-em-empiardownloader",
    version=VERSION,
    description="Scipion plugin: images of EMPIAR entries, registered while they are being downloaded.",
    long_description=read("README.rst"),
    long_description_content_type="text/x-rst",
    url="https://github.com/scipion-em/scipion-em-empiardownloader",
    project_urls={"Archive": "https://www.ebi.ac.uk/empiar/"},
    license="GPL-3.0-or-later",
    keywords="scipion cryoem empiar imageprocessing scipion-3.0",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Bio-Informatics",
    ],
    python_requires=">=3.8",
    packages=find_packages(include=["empiardownloader", "empiardownloader.*"]),
    install_requires=requirements("requirements.txt"),
    extras_require={extra: requirements("requirements-%s.txt" % extra)
                    for extra in ("demo", "test", "downstream", "view", "live", "imagej", "web")},
    include_package_data=True,
    package_data={"empiardownloader": ["protocols.conf", "*.png", "templates/*.json.template", "demo/*.json",
                                       "follow/child/*.py", "follow/page/*", "live/window/*.py", "live/window/page/*"]},
    entry_points={"pyworkflow.plugin": "empiardownloader = empiardownloader",
                  "console_scripts": ["empiar = empiardownloader.__main__:main"]},
)
