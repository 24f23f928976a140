# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo archive's own entry, made on first use from seeded random numbers."""
import os

from . import kinds, movies

NUMBER = "90001"
FRAMES, WIDTH, HEIGHT = 10, 512, 384
MOVIES = 12


def build(root, kind="movies"):
    """Make an entry's files below ``root`` unless they are there -> (entries, EMDB records) for DemoArchive."""
    if kind != "movies":
        record = dict(_entry(), title="Small %s" % kind, entry_doi="10.6019/EMPIAR-%s" % kinds.NUMBERS[kind],
                      imagesets=[kinds.build(root, kind)])
        return {kinds.NUMBERS[kind]: record}, {"EMD-90001": _emdb()}
    folder = os.path.join(root, NUMBER, "data")
    for extension, name in (("mrc", "Movies"), ("tif", "Movies_tiff")):
        for number in range(1, MOVIES + 1):
            path = os.path.join(folder, name, "grid1_%04d.%s" % (number, extension))
            if not os.path.exists(path):
                movies.write_movie(path + ".new." + extension, number, FRAMES, WIDTH, HEIGHT)
                os.replace(path + ".new." + extension, path)
        movies.write_gain(os.path.join(folder, name, "gain_reference.mrc"), 1000, WIDTH, HEIGHT)
    return {NUMBER: _entry()}, {"EMD-90001": _emdb()}


def _entry():
    image_set = {
        "name": "Movies in MRC format", "directory": "data/Movies", "category": "micrographs - multiframe",
        "header_format": "MRC", "data_format": "MRC", "num_images_or_tilt_series": MOVIES, "frames_per_image": FRAMES,
        "frame_range_min": 1, "frame_range_max": FRAMES, "voxel_type": "BYTE", "pixel_width": 0.85,
        "pixel_height": 0.85, "image_width": str(WIDTH), "image_height": str(HEIGHT), "details": "Made by the demo",
        "micrographs_file_pattern": "*.mrc"}
    tiff = dict(image_set, name="The same in TIFF format", directory="data/Movies_tiff", header_format="TIFF",
                data_format="TIFF", micrographs_file_pattern="*.tif")
    return {
        "title": "Drifting discs in synthetic ice", "status": "REL", "deposition_date": "2026-01-02",
        "release_date": "2026-02-03", "obsolete_date": None, "update_date": "2026-02-03", "dataset_size": "48 MB",
        "experiment_type": "EMDB", "scale": "molecule", "entry_doi": "10.6019/EMPIAR-%s" % NUMBER,
        "cross_references": [{"name": "EMD-90001"}], "authors": [{"author": {"name": "Demo D", "order_id": 0}}],
        "corresponding_author": {"author": {"first_name": "D", "last_name": "Demo", "organization": "Demo archive",
                                            "country": "Loopback"}},
        "principal_investigator": [], "imagesets": [image_set, tiff], "citation": [], "workflows": [],
        "grant_references": []}


def _emdb():
    return {"structure_determination_list": {"structure_determination": [{"microscopy_list": {"microscopy": [{
        "acceleration_voltage": {"units": "kV", "valueOf_": "300"}, "nominal_cs": {"units": "mm", "valueOf_": "2.7"},
        "nominal_magnification": "105000",
        "image_recording_list": {"image_recording": [{
            "average_electron_dose_per_image": {"units": "e/A^2", "valueOf_": "40.0"},
            "digitization_details": {"frames_per_image": str(FRAMES)}}]}}]}}]}}
