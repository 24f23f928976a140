# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image set may hold: everything that follows from its kind, Scipion apart.

To add a kind, add it here and, where Scipion has a set for it, in protocols/outputs. The categories are those
of the EMPIAR schema, told by their beginning: depositors write words of their own behind it, and old entries have
strings that the schema has no more.
"""
from dataclasses import dataclass, field
from typing import Dict, Optional, Sequence, Tuple

from .names import IMAGE_EXTENSIONS

# Formats of the EMPIAR schema that scipion-em's readers do not open.
UNREADABLE_FORMATS = ("IMAGIC", "SPIDER", "XML", "PNG", "JPEG", "SMV", "EM", "TPX3", "HDF5")
VOLUME_EXTENSIONS = (".mrc", ".mrcs", ".map", ".rec")
AS_VOLUME = {".mrcs": ".mrc"}
COMPANIONS = (".star", ".coord", ".box", ".mdoc")


@dataclass(frozen=True)
class Kind:
    """A kind of image set. ``one`` and ``many``: what the user counts."""
    name: str
    one: str
    many: str
    categories: Tuple[str, ...]
    # Endings of the files that may belong to it, () for all.
    extensions: Tuple[str, ...] = IMAGE_EXTENSIONS
    # Sections of one file: several belong to it (True), a single one (False), any number (None).
    stacks: Optional[bool] = None
    each: str = ""                      # what several files are, where the user counts something else
    gain: bool = False                  # whether its images want a gain reference
    references: bool = False            # whether gain and dark references may lie among its images
    companions: Tuple[str, ...] = ()    # endings of the files that tell of its images
    # scipion-em tells a stack from a volume by the name's ending alone: which ending the run gives to which.
    registered_as: Dict[str, str] = field(default_factory=dict)
    # Whether the entry's micrographs pattern is about its images; of particles it tells where they were picked.
    patterned: bool = False
    files_only: bool = False            # nothing that Scipion has a set for

    @property
    def files(self) -> str:
        """What several of its files are called."""
        return self.each or self.many


MOVIES = Kind("movies", "movie", "movies", ("micrographs - multiframe",), stacks=True, gain=True,
              references=True, companions=COMPANIONS, patterned=True)
MICROGRAPHS = Kind("micrographs", "micrograph", "micrographs", ("micrographs",), stacks=False, references=True,
                   companions=COMPANIONS, patterned=True)
TILT_SERIES = Kind("tilt series", "tilt series", "tilt series", ("tilt series", "micrographs - tilt series"),
                   IMAGE_EXTENSIONS + (".st", ".ali"), each="tilt images", gain=True, references=True,
                   companions=(".mdoc", ".tlt", ".rawtlt", ".xf"), registered_as={".st": ".mrcs", ".ali": ".mrcs"},
                   patterned=True)
PARTICLES = Kind("particles", "particle stack", "particle stacks", ("picked particles",), companions=(".star",),
                 registered_as={".mrc": ".mrcs"})
AVERAGES = Kind("class averages", "file of class averages", "files of class averages", ("class averages",),
                registered_as={".mrc": ".mrcs"})
VOLUMES = Kind("volumes", "volume", "volumes", ("reconstructed volumes",), VOLUME_EXTENSIONS, stacks=True,
               registered_as=AS_VOLUME)
SUBTOMOGRAMS = Kind("subtomograms", "subtomogram", "subtomograms", ("subtomograms",), VOLUME_EXTENSIONS, stacks=True,
                    registered_as=AS_VOLUME)
FILES = Kind("files", "file", "files", ("picked particles - multiframe",), (), files_only=True)

KINDS = (MOVIES, TILT_SERIES, MICROGRAPHS, PARTICLES, AVERAGES, VOLUMES, SUBTOMOGRAMS, FILES)


def declared_kind(category: str) -> Kind:
    """The kind that a category says, whatever the format."""
    words = " ".join(category.lower().split())
    fitting = [(len(beginning), kind) for kind in KINDS for beginning in kind.categories if words.startswith(beginning)]
    return max(fitting, key=lambda item: item[0])[1] if fitting else FILES


def preferred(names: Sequence[str]) -> int:
    """Which of several image sets is taken where the user names none, by the names of their kinds: the first one of
    movies, else of tilt series, else the first."""
    for kind in (MOVIES, TILT_SERIES):
        if kind.name in names:
            return list(names).index(kind.name)
    return 0


def is_unreadable(data_format: str) -> bool:
    """Whether Scipion opens no file of a format."""
    words = data_format.upper().replace("-", " ").split()
    return any(word in UNREADABLE_FORMATS for word in words)


def kind_of(category: str, data_format: str) -> Kind:
    """The kind of what a run makes of an image set."""
    return FILES if is_unreadable(data_format) else declared_kind(category)


def why_files_only(category: str, data_format: str) -> str:
    """A sentence where there is no set for what an image set holds, else ''."""
    if is_unreadable(data_format):
        return "Scipion does not read %s files: they are downloaded, and registered in no set." % data_format
    if declared_kind(category).files_only:
        return 'Scipion has no set for "%s": the files are downloaded, and registered in no set.' % (
            category or "no category")
    return ""
