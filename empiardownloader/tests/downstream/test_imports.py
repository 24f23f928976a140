# SPDX-License-Identifier: GPL-3.0-or-later
"""Our sets beside those that Scipion's own import protocols make of the same files: attribute by attribute, item by
item; where they differ, a reason stands here."""
import os
import re
import shutil
import unittest

from empiardownloader.demo import entries, kinds
from empiardownloader.tests.downstream import programs
from empiardownloader.tests.downstream.case import DownstreamCase

REASON = programs.missing("tomo", "relion")
RELION = 3              # among the places to import particles from
# Where things are, and what a run calls them.
PLACES = ("_mapperPath", "_filename", "_gainFile", "_objValue")
OPTICS = "the same table, written by its own writer; ours also names the group in each particle, as RELION does"
FORM = "what a user types into the import's form, or its default, the entry tells"
NUMBERED = "micrographs are numbered in the order in which they come up; the names are the same"
ROUNDED = "Scipion's coordinates are whole: ours are rounded, the import cuts"
# Not here: tilt series. A run of tomo's imports of them (3.12.4) registers these files and then waits for itself: it
# commits to the set's database while another connection of its own still reads there. What takes our series is in
# test_tilts.py.
DIFFERENCES = {
    "movies": {},
    "micrographs": {},
    "particles": {"_acquisition.opticsGroupInfo": OPTICS, "_rlnOpticsGroup": OPTICS, "_micId": NUMBERED,
                  "_coordinate._micId": NUMBERED, "_coordinate._x": ROUNDED, "_coordinate._y": ROUNDED},
    "class averages": {"_acquisition._magnification": FORM,
                       "_micId": "a number for each stack, so that subsets by micrograph can be made"},
    "volumes": {"_acquisition": "Scipion's import of maps asks for none", "_halfMapFilenames":
                "its form has a field for the halves of one map; ours are found by their names"},
    "subtomograms": {"_acquisition": "Scipion's import asks for angles only, of which an entry says nothing"},
}


def attributes(thing):
    return {name: value for name, value in thing.getObjDict().items() if not name.endswith(PLACES)}


def name_of(item):
    """What an item is called in the archive: local names have folders, prefixes or other endings."""
    index = getattr(item, "getIndex", lambda: 0)() or 0
    name = os.path.splitext(os.path.basename(item.getFileName()))[0]
    return index, re.sub(r"^(?:TS_01_|import_|.*(?=\d{3}_particles))", "", name)


@unittest.skipIf(REASON, REASON)
class TestImports(DownstreamCase):
    PLUGINS = ("tomo", "relion")

    @classmethod
    def fill(cls):
        for kind in ["movies", *(kind for kind in DIFFERENCES if kind != "movies")]:
            records, emdb = entries.build(cls.root, kind)
            cls.demo.entries.update(records)
            cls.demo.emdb.update(emdb)

    def path(self, kind, *parts):
        return os.path.join(self.root, kinds.NUMBERS.get(kind, entries.NUMBER), "data", *parts)

    def both(self, kind, output, protocol, **form):
        """Our output, and that of an import protocol of the same files."""
        ours = self.finish(self.new(entryId=kinds.NUMBERS.get(kind, entries.NUMBER), allImages=True))
        done = self.finish(self.on(protocol, {}, **form))
        return getattr(ours, output), getattr(done, output)

    def compare(self, kind, ours, theirs):
        found = {}

        def look(one, other):
            for name in one.keys() | other.keys():
                # Numbers that were written as text lose their last digits.
                values = [one.get(name, "-"), other.get(name, "-")]
                if values[0] != values[1] and not self.alike(*values):
                    found.setdefault(name, values)

        look(attributes(ours), attributes(theirs))
        pairs = [{name_of(item): attributes(item) for item in its.iterItems()} for its in (ours, theirs)]
        self.assertEqual(pairs[0].keys(), pairs[1].keys())
        for key, values in pairs[0].items():
            look(values, pairs[1][key])
        known = DIFFERENCES[kind]
        unknown = {name: values for name, values in found.items()
                   if not any(name == each or name.startswith(each + ".") for each in known)}
        self.assertEqual({}, unknown, kind)
        self.measured.append("%s: %d items, %d attributes compared, differ: %s" % (
            kind, len(pairs[0]), sum(map(len, pairs[0].values())),
            ", ".join("%s (%s)" % (name, values) for name, values in sorted(found.items()))[:600] or "none"))

    @staticmethod
    def alike(one, other):
        try:
            return abs(float(one) - float(other)) <= 1e-4 * max(1.0, abs(float(one)))
        except (TypeError, ValueError):
            numbers = [re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", str(value)) for value in (one, other)]
            return bool(numbers[0]) and len(numbers[0]) == len(numbers[1]) and re.sub(r"[-\d.e]", "", str(
                one)) == re.sub(r"[-\d.e]", "", str(other)) and all(
                abs(float(a) - float(b)) <= 1e-3 * max(1.0, abs(float(a))) for a, b in zip(*numbers))

    def test_movies(self):
        self.compare("movies", *self.both(
            "movies", "outputMovies", "ProtImportMovies", filesPath=self.path("movies", "Movies"),
            filesPattern="grid1*.mrc", voltage=300, sphericalAberration=2.7, amplitudeContrast=0.1,
            magnification=105000, samplingRate=entries.PIXEL_SIZE, doseInitial=0, dosePerFrame=entries.DOSE_PER_FRAME,
            gainFile=self.path("movies", "Movies", "gain_reference.mrc")))

    def test_micrographs(self):
        self.compare("micrographs", *self.both(
            "micrographs", "outputMicrographs", "ProtImportMicrographs", filesPath=self.path("micrographs"),
            filesPattern="*.mrc", samplingRate=kinds.PIXEL_SIZE, voltage=300, sphericalAberration=2.7,
            magnification=105000))

    def test_particles(self):
        # Its own import wants the folders of the depositor's project.
        job = os.path.join(self.folder, "job")
        for folder in ("MRC_0601", "MRC_1901"):
            shutil.copytree(self.path("particles", "Particles", folder), os.path.join(job, "Extract", "job012", folder))
        shutil.copy(self.path("particles", "Particles", "shiny_2sets.star"), job)
        self.compare("particles", *self.both(
            "particles", "outputParticles", "ProtImportParticles", importFrom=RELION,
            starFile=os.path.join(job, "shiny_2sets.star"), samplingRate=kinds.PIXEL_SIZE, voltage=300,
            sphericalAberration=kinds.CS, amplitudeContrast=kinds.AMPLITUDE_CONTRAST, magnification=105000))

    def test_class_averages(self):
        self.compare("class averages", *self.both(
            "class averages", "outputAverages", "ProtImportAverages", filesPath=self.path("class averages"),
            filesPattern="*.mrcs", samplingRate=kinds.PIXEL_SIZE))

    def test_volumes(self):
        self.compare("volumes", *self.both(
            "volumes", "outputVolumes", "ProtImportVolumes", filesPath=self.path("volumes"), filesPattern="*.mrc",
            samplingRate=kinds.PIXEL_SIZE))

    def test_subtomograms(self):
        self.compare("subtomograms", *self.both(
            "subtomograms", "outputSubTomograms", "ProtImportSubTomograms",
            filesPath=self.path("subtomograms", "TS_01"), filesPattern="*.mrc", samplingRate=kinds.PIXEL_SIZE))


if __name__ == "__main__":
    unittest.main()
