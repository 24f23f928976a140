# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo archive's own entry, made on first use from seeded random numbers, with the truth beside it."""
import json
import os

import numpy as np

from . import kinds, movies, specimen

NUMBER = "90001"
FRAMES, WIDTH, HEIGHT = 10, 512, 384
MOVIES = 12
PIXEL_SIZE = 0.85           # angstrom
DOSE_PER_FRAME = 4.0        # e/A^2
# What its depositors did, as Scipion exports it.
WORKFLOW = [
    {"object.className": "ProtImportMovies", "object.id": "2", "object.label": "import movies", "object.comment": "",
     "filesPath": "/data/session", "filesPattern": "grid1_*.mrc", "samplingRate": PIXEL_SIZE, "voltage": 300.0,
     "dosePerFrame": DOSE_PER_FRAME},
    {"object.className": "ProtMotionCorr", "object.id": "70", "object.label": "motion correction", "object.comment": "",
     "inputMovies": "2.outputMovies", "patchX": 5, "patchY": 5}]


def build(root, kind="movies"):
    """Make an entry's files below ``root`` unless they are there -> (entries, EMDB records) for DemoArchive."""
    if kind != "movies":
        record = dict(_entry(), title="Small %s" % kind, entry_doi="10.6019/EMPIAR-%s" % kinds.NUMBERS[kind],
                      imagesets=[kinds.build(root, kind)])
        return {kinds.NUMBERS[kind]: record}, {"EMD-90001": _emdb()}
    folder = os.path.join(root, NUMBER)
    if not os.path.exists(os.path.join(folder, kinds.TRUTH)):
        _write(folder)
    return {NUMBER: _entry()}, {"EMD-90001": _emdb()}


def _write(folder):
    """The same movies in two formats, the gain reference in each folder, and at last the truth."""
    camera = specimen.Camera(WIDTH, HEIGHT)
    for name in ("Movies", "Movies_tiff"):
        movies.write_image(os.path.join(folder, "data", name, "gain_reference.mrc"), camera.gain)
    with open(os.path.join(folder, "data", "workflow.json"), "w", encoding="utf-8") as stream:
        json.dump(WORKFLOW, stream, indent=4)
    told = {}
    for number in range(1, MOVIES + 1):
        name = "grid1_%04d" % number
        frames, told[name] = make_movie(number, camera)
        movies.write_mrc(os.path.join(folder, "data", "Movies", name + ".mrc"), frames, PIXEL_SIZE)
        # The first row of a TIFF file is the uppermost one.
        movies.write_tiff(os.path.join(folder, "data", "Movies_tiff", name + ".tif"), frames[:, ::-1].astype("uint8"))
    kinds.write_truth(folder, {
        "pixel_size": PIXEL_SIZE, "dose_per_frame": DOSE_PER_FRAME, "voltage": specimen.VOLTAGE, "cs": specimen.CS,
        "amplitude_contrast": specimen.AMPLITUDE_CONTRAST, "dead_columns": camera.dead_columns, "hot_pixels": [
            [column, row] for row, column in camera.hot], "movies": told})


def make_movie(number, camera, frames=FRAMES, width=WIDTH, height=HEIGHT, pixel_size=PIXEL_SIZE, dose=DOSE_PER_FRAME):
    """-> int8 (frames, height, width), and the truth about it: drift in pixels against the first frame, defocus in
    angstrom and degrees, particles as x, y (pixels in the first frame), rot, tilt, psi."""
    random = np.random.default_rng(number)
    optics = specimen.Optics(*_defocus(random))
    seen = specimen.field(random, width, height, pixel_size, optics)
    path = specimen.drift(frames, random)
    counts = specimen.exposures(seen, path, dose * pixel_size ** 2, camera, random)
    return counts, {"drift": path.round(3).tolist(), "defocus_u": optics.defocus_u, "defocus_v": optics.defocus_v,
                    "defocus_angle": optics.angle, "particles": [[round(value, 2) for value in particle]
                                                                 for particle in seen.particles]}


def _defocus(random):
    """Between 0.9 and 1.6 micrometres, a little astigmatic."""
    middle, half = random.uniform(9000, 16000), random.uniform(100, 400)
    return round(middle + half, 1), round(middle - half, 1), round(random.uniform(-90, 90), 1)


def _entry():
    image_set = {
        "name": "Movies in MRC format", "directory": "data/Movies", "category": "micrographs - multiframe",
        "header_format": "MRC", "data_format": "MRC", "num_images_or_tilt_series": MOVIES, "frames_per_image": FRAMES,
        "frame_range_min": 1, "frame_range_max": FRAMES, "voxel_type": "BYTE", "pixel_width": PIXEL_SIZE,
        "pixel_height": PIXEL_SIZE, "image_width": str(WIDTH), "image_height": str(HEIGHT),
        "details": "Made by the demo; truth.json beside the data says all that is known of them",
        "micrographs_file_pattern": "*.mrc"}
    tiff = dict(image_set, name="The same in TIFF format", directory="data/Movies_tiff", header_format="TIFF",
                data_format="TIFF", micrographs_file_pattern="*.tif")
    return {
        "title": "A phantom that drifts in synthetic ice", "status": "REL", "deposition_date": "2026-01-02",
        "release_date": "2026-02-03", "obsolete_date": None, "update_date": "2026-02-03", "dataset_size": "48 MB",
        "experiment_type": "EMDB", "scale": "molecule", "entry_doi": "10.6019/EMPIAR-%s" % NUMBER,
        "cross_references": [{"name": "EMD-90001"}], "authors": [{"author": {"name": "Demo D", "order_id": 0}}],
        "corresponding_author": {"author": {"first_name": "D", "last_name": "Demo", "organization": "Demo archive",
                                            "country": "Loopback"}},
        "principal_investigator": [], "imagesets": [image_set, tiff], "citation": [], "workflows": [],
        "workflow_file": {"path": "data/workflow.json"},
        "grant_references": []}


def _emdb():
    return {"structure_determination_list": {"structure_determination": [{"microscopy_list": {"microscopy": [{
        "acceleration_voltage": {"units": "kV", "valueOf_": "300"}, "nominal_cs": {"units": "mm", "valueOf_": "2.7"},
        "nominal_magnification": "105000",
        "image_recording_list": {"image_recording": [{
            "average_electron_dose_per_image": {"units": "e/A^2", "valueOf_": str(DOSE_PER_FRAME * FRAMES)},
            "digitization_details": {"frames_per_image": str(FRAMES)}}]}}]}}]}}
