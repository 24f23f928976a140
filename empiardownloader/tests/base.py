# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests share: a demo archive with synthetic entries, and real Scipion projects whose runs use it."""
import contextlib
import importlib.util
import os
import shutil
import sqlite3
import tempfile
import unittest
from unittest import mock

import pyworkflow as pw
import pyworkflow.tests as pwtests
import pyworkflow.utils as pwutils
from pyworkflow.object import Set
from pyworkflow.protocol import MODE_RESTART, MODE_RESUME, getProtocolFromDb

from empiardownloader.archive import api
from empiardownloader.demo import movies
from empiardownloader.demo.archive import DemoArchive
from empiardownloader.protocols import EmpiarDownloader
from empiardownloader.tests.forked import forking
from empiardownloader.tests.surroundings import environment
from empiardownloader.tests.waiting import Waiting

MOVIES_CATEGORY = "micrographs - multiframe"


def image_set(**changes):
    """An image set as EMPIAR's REST API gives it."""
    record = {
        "name": "Movies", "directory": "data/Movies", "category": MOVIES_CATEGORY, "header_format": "MRC",
        "data_format": "MRC", "num_images_or_tilt_series": 12, "frames_per_image": 8, "frame_range_min": 1,
        "frame_range_max": 8, "voxel_type": "BYTE", "pixel_width": 0.66, "pixel_height": 0.66, "details": None,
        "image_width": "128", "image_height": "96", "micrographs_file_pattern": "",
        "picked_particles_file_pattern": None, "picked_particles_directory": None}
    record.update(changes)
    return record


def entry(*image_sets, **changes):
    """An entry as EMPIAR's REST API gives it."""
    record = {
        "title": "A synthetic data set", "status": "REL", "deposition_date": "2026-01-02",
        "release_date": "2026-02-03", "obsolete_date": None, "update_date": "2026-02-03", "dataset_size": "1.2 MB",
        "experiment_type": "EMDB", "scale": "molecule", "entry_doi": None, "cross_references": [{"name": "EMD-0001"}],
        "corresponding_author": {"author": {"first_name": "A", "last_name": "B", "organization": "An institute",
                                            "country": "X"}},
        "authors": [{"author": {"name": "B A", "order_id": 0}}], "imagesets": list(image_sets), "citation": []}
    record.update(changes)
    return record


def emdb(**changes):
    """An EMDB record's part about the microscope; a value of None is left out, as it is in the archive."""
    values = {"voltage": "200", "cs": "2.0", "magnification": "105000", "dose": "40.0", "frames": "8"}
    values.update(changes)
    microscopy, recording = {}, {}
    for name, key, place in (("acceleration_voltage", "voltage", microscopy), ("nominal_cs", "cs", microscopy),
                             ("average_electron_dose_per_image", "dose", recording)):
        if values[key] is not None:
            place[name] = {"units": "", "valueOf_": values[key]}
    if values["magnification"] is not None:
        microscopy["nominal_magnification"] = values["magnification"]
    if values["frames"] is not None:
        recording["digitization_details"] = {"frames_per_image": values["frames"]}
    microscopy["image_recording_list"] = {"image_recording": [recording]}
    return {"structure_determination_list": {
        "structure_determination": [{"microscopy_list": {"microscopy": [microscopy]}}]}}


def read_bytes(path):
    with open(path, "rb") as stream:
        return stream.read()


def quick(test):
    """Marks a test that ``make quick`` runs; a whole module says IS_QUICK = True. Without pytest, for Scipion's runner
    needs none."""
    test.IS_QUICK = True
    return test


def impatient(test):
    """Of a class: services are asked again at once, as often as ever; how long is waited is not what it tests."""
    return mock.patch.object(api, "FIRST_WAIT_SECONDS", 0.01)(test)


def needs_demo():
    """Skip where the demo archive cannot run."""
    if importlib.util.find_spec("pyftpdlib") is None:
        msg = "pyftpdlib is not installed: pip install 'scipion-em-empiardownloader[test]'"
        raise unittest.SkipTest(msg)


class ArchiveTestCase(Waiting, unittest.TestCase):
    """A demo archive for each test, its tree in ``self.root``."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="empiar-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.root = os.path.join(self.folder, "archive")
        os.makedirs(self.root)

    def serve(self, **options):
        needs_demo()
        demo = DemoArchive(self.root, **options)
        demo.__enter__()
        self.addCleanup(demo.__exit__)
        return demo

    def write_movies(self, number, names, folder="data/Movies", **options):
        return write_movies(self.root, number, names, folder, **options)


def write_movies(root, number, names, folder="data/Movies", **options):
    """Movies with names of an entry -> their paths."""
    paths = []
    for seed, name in enumerate(names):
        path = os.path.join(root, number, folder, name)
        movies.write_movie(path, seed, **options)
        paths.append(path)
    return paths


def its_own_word(run):
    """The run as the project has it, or, where the project may be wrong, as its own database has it.

    Scipion asks for the status first and for the process next. A run that ends well in between, or that is handed from
    the process that scheduled it to its own, is taken for one that died, and stays so.
    """
    if not run.isFailed() or "not found running" not in str(run.getErrorMessage()):
        return run
    def read():
        own = getProtocolFromDb(run.getProject().path, run.getDbPath(), run.getObjId())
        own.setProject(run.getProject())
        return own

    own = read()
    if own.isRunning() and not pwutils.isProcessAlive(own.getPid()):
        # It may have written its end, and ended, since.
        own = read()
        return run if own.isRunning() else own
    return own


class ProtocolTestCase(Waiting, pwtests.BaseTest):
    """A Scipion project and a demo archive for the class; runs are launched as Scipion launches them."""
    RATE = 0
    FORKED = True           # whether runs are forked from a process that has loaded Scipion, see forked.py

    @classmethod
    def setUpClass(cls):
        needs_demo()
        pwtests.setupTestProject(cls)
        cls.folder = tempfile.mkdtemp(prefix="empiar-test-")
        cls.root = os.path.join(cls.folder, "archive")
        os.makedirs(cls.root)
        cls.demo = DemoArchive(cls.root, rate=cls.RATE)
        cls.demo.__enter__()
        cls.fill()
        cls.variables = contextlib.ExitStack()
        cls.variables.enter_context(environment(**cls.demo.variables))

    @classmethod
    def tearDownClass(cls):
        cls.variables.close()
        cls.demo.__exit__()
        shutil.rmtree(cls.folder, ignore_errors=True)
        super().tearDownClass()

    @classmethod
    def fill(cls):
        """The archive's entries: 10200 as the real one is, movies and the gain reference in one folder."""
        write_movies(cls.root, "10200", ["m_%02d.mrc" % n for n in range(12)])
        movies.write_gain(os.path.join(cls.root, "10200", "data", "Movies", "CountRef_m.mrc"), 99)
        cls.demo.entries["10200"] = entry(image_set())
        cls.demo.emdb["EMD-0001"] = emdb()

    def setUp(self):
        self.demo.clear_faults()
        self.demo.rate = self.RATE

    def new(self, **form):
        form.setdefault("entryId", "10200")
        return self.newProtocol(EmpiarDownloader, **form)

    def on(self, protocolClass, pointers, **form):
        """A protocol, or that of a name, whose pointers are {parameter: (run, name of its output)}."""
        if isinstance(protocolClass, str):
            # Plugins do not import before Scipion has read their variables.
            protocolClass = pw.Config.getDomain().getProtocols()[protocolClass]
        protocol = self.newProtocol(protocolClass, **form)
        for name, (run, output) in pointers.items():
            getattr(protocol, name).set(run)
            getattr(protocol, name).setExtended(output)
        return protocol

    def launch(self, protocol, wait=True):
        with forking() if self.FORKED else contextlib.nullcontext():
            return self.proj.launchProtocol(protocol, wait=wait)

    def finish(self, protocol):
        """Launch, wait, and demand that the run finished."""
        self.launch(protocol)
        self.assertTrue(protocol.isFinished(), "status %s: %s" % (protocol.getStatus(), protocol.getErrorMessage()))
        return protocol

    def fresh(self, protocol):
        """The protocol as the run's own database has it by now."""
        for run in self.proj.getRuns(refresh=True):
            if run.getObjId() == protocol.getObjId():
                return its_own_word(run)
        return None

    def again(self, protocol, **changes):
        """Continue, perhaps with a changed form: the protocol as the project window would give it."""
        run = self.fresh(protocol)
        run.runMode.set(MODE_RESUME)
        for name, value in changes.items():
            getattr(run, name).set(value)
        return run

    def restart(self, protocol):
        run = self.fresh(protocol)
        run.runMode.set(MODE_RESTART)
        return run

    def ended(self, protocol, seconds=120):
        """Wait until the run is over, well or not -> the protocol as the project has it then."""
        def over():
            run = self.fresh(protocol)
            return None if run.isActive() else run

        return self.wait_for(over, seconds, "the end of the run", look=0.1)

    def with_output(self, protocol, movies=1, seconds=60):
        """Wait until so many movies are registered -> the protocol as the project has it then."""
        def enough():
            run = self.fresh(protocol)
            return run if hasattr(run, "outputMovies") and run.outputMovies.getSize() >= movies else None

        return self.wait_for(enough, seconds, "%d registered movies" % movies)

    def is_downloading(self, run):
        return any(str(step.funcName) == "downloadImagesStep" and step.isRunning() for step in run.loadSteps())

    def extra(self, protocol, *names):
        return os.path.join(self.proj.getPath(), protocol._getExtraPath(*names))

    def rows(self, protocol):
        """[(id, path below the project, micName)] of the set, straight from its file."""
        path = os.path.join(self.proj.getPath(), protocol._getPath("movies.sqlite"))
        with contextlib.closing(sqlite3.connect(path)) as database:
            columns = dict(database.execute("SELECT label_property, column_name FROM Classes"))
            return list(database.execute("SELECT id, %s, %s FROM Objects ORDER BY id" % (
                columns["_filename"], columns["_micName"])))

    def check_set(self, protocol, count, sources=None, state=Set.STREAM_CLOSED):
        """The run's promises about its output: ``count`` movies, none twice, closed, every byte as at the source."""
        movie_set = protocol.outputMovies
        rows = self.rows(protocol)
        self.assertEqual(count, len(rows))
        self.assertEqual(count, movie_set.getSize())
        self.assertEqual(state, movie_set.getStreamState())
        self.assertEqual(list(range(1, count + 1)), [row[0] for row in rows])
        self.assertEqual(count, len({row[1] for row in rows}), "a file is registered twice")
        self.assertEqual(count, len({row[2] for row in rows}), "a micName is there twice")
        for _, path, name in rows:
            local = os.path.join(self.proj.getPath(), path)
            self.assertTrue(os.path.exists(local), path)
            source = (sources or {}).get(name, os.path.join(self.root, "10200", "data", "Movies", name))
            self.assertEqual(read_bytes(source), read_bytes(local), "%s is not what the archive has" % name)
        return movie_set
