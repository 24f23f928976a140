# SPDX-License-Identifier: GPL-3.0-or-later
"""Small entries of every kind, laid out as real ones are."""
import os
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from . import movies

FRAMES, WIDTH, HEIGHT = 6, 128, 96
BOX, PARTICLES_A_STACK, STACKS = 32, 20, 6
ANGLES = (0.0, 3.0, -3.0, 6.0, -6.0, 9.0, -9.0)     # in the order of acquisition
DOSE_PER_TILT = 3.0                                 # e/A^2
SERIES = ("TS_01", "TS_03", "TS_43")
VOXELS = 24
PIXEL_SIZE = 1.5                                    # angstrom
NUMBERS = {"micrographs": "90002", "particles": "90003", "tilt series": "90004", "class averages": "90005",
           "volumes": "90006", "subtomograms": "90007", "tilt stacks": "90008", "files": "90009",
           "tilt images": "90010"}


def write_stack(path: str, seed: int, count: int, width: int = BOX, height: int = BOX) -> None:
    """So many noisy discs as an MRC image stack."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    movies.write_mrc(path, movies.make_frames(seed, count, width, height, "float32"), PIXEL_SIZE)


def write_volume(path: str, seed: int, size: int = VOXELS) -> None:
    """A noisy cube whose MRC header says that it is a volume."""
    write_stack(path, seed, size, size, size)
    with open(path, "r+b") as stream:
        for place, value in ((36, size), (88, 1)):      # sections along z, space group
            stream.seek(place)
            stream.write(int(value).to_bytes(4, "little"))


def write_text(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)


def star_table(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["", "data_" + name, "", "loop_"] + ["_%s #%d" % item for item in zip(columns, range(1, 1000))]
    return "\n".join(lines + ["  ".join(map(str, row)) for row in rows]) + "\n"


def particle_rows(stacks: Sequence[str], count: int = PARTICLES_A_STACK, seed: int = 7) -> List[Tuple[object, ...]]:
    """Rows for the columns of ``PARTICLE_COLUMNS``, ``stacks`` being named as a project of RELION names them."""
    random = np.random.default_rng(seed)
    rows = []
    for stack in stacks:
        micrograph = os.path.splitext(os.path.basename(stack))[0] + ".mrc"
        for index in range(1, count + 1):
            x, y, rot, tilt, psi = random.uniform((0, 0, -180, 0, -180), (WIDTH, HEIGHT, 180, 180, 180))
            rows.append(("%06d@%s" % (index, stack), "MotionCorr/job002/" + micrograph, "%.1f" % x, "%.1f" % y,
                         "%.1f" % (15000 + 10 * index), "%.1f" % (14800 + 10 * index), "45.0", "%.3f" % rot,
                         "%.3f" % tilt, "%.3f" % psi, "1.5", "-3.0", index % 2 + 1, index % 3 + 1))
    return rows


PARTICLE_COLUMNS = ("rlnImageName", "rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnDefocusU",
                    "rlnDefocusV", "rlnDefocusAngle", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst",
                    "rlnOriginYAngst", "rlnRandomSubset", "rlnClassNumber")
OPTICS_COLUMNS = ("rlnOpticsGroup", "rlnOpticsGroupName", "rlnVoltage", "rlnSphericalAberration",
                  "rlnAmplitudeContrast", "rlnImagePixelSize", "rlnImageSize", "rlnImageDimensionality")


def particles_star(stacks: Sequence[str], count: int = PARTICLES_A_STACK, pixel_size: float = PIXEL_SIZE,
                   old: bool = False) -> str:
    """A .star file of RELION 3.1 or later, or an ``old`` one: no optics groups, shifts in pixels."""
    rows = particle_rows(stacks, count)
    if old:
        columns = [column.replace("Angst", "") for column in PARTICLE_COLUMNS] + [
            "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnDetectorPixelSize", "rlnMagnification"]
        return star_table("", columns, [(*row, "300.0", "2.0", "0.08", "14.0", "%.4f" % (14e4 / pixel_size))
                                        for row in rows])
    optics = star_table("optics", OPTICS_COLUMNS, [(1, "opticsGroup1", "300.0", "2.0", "0.08", pixel_size, BOX, 2)])
    return "# version 30001\n" + optics + star_table(
        "particles", (*PARTICLE_COLUMNS, "rlnOpticsGroup"), [(*row, 1) for row in rows])


def mdoc(names: Sequence[str], angles: Sequence[float] = ANGLES, image_file: str = "", axis: float = 85.3,
         places: Optional[Sequence[int]] = None) -> str:
    """The description of a tilt series; ``names``: of the files with its frames, '' for none."""
    lines = ["PixelSpacing = %g" % PIXEL_SIZE, "Voltage = 300", "ImageFile = %s" % image_file,
             "ImageSize = %d %d" % (WIDTH, HEIGHT), "DataMode = 1", "",
             "[T = SerialEM: synthetic]", "",
             "[T =     Tilt axis angle = %g, binning = 1  spot = 8  camera = 0]" % axis, ""]
    for number, (name, angle) in enumerate(zip(names, angles)):
        lines += ["[ZValue = %d]" % (places[number] if places else number), "TiltAngle = %g" % angle,
                  "Magnification = 53000", "ExposureDose = %g" % DOSE_PER_TILT, "PixelSpacing = %g" % PIXEL_SIZE,
                  "DateTime = 01-Jan-26  12:%02d:00" % number]
        if name:
            lines.append("SubFramePath = D:\\DATA\\Session\\frames\\%s" % name)
        lines.append("")
    return "\n".join(lines)


def tilt_names(series: str, angles: Sequence[float] = ANGLES) -> List[str]:
    """'TS_01_000_0.0.mrc' ... in the order of acquisition"""
    return ["%s_%03d_%.1f.mrc" % (series, number, angle) for number, angle in enumerate(angles)]


def build(root: str, kind: str) -> Dict[str, object]:
    """Make the files of the entry of a kind below ``root`` -> its record, as EMPIAR's REST API gives it."""
    data = os.path.join(root, NUMBERS[kind], "data")
    category, fields = BUILDERS[kind](data)
    record = {"name": kind.capitalize(), "directory": "data", "category": category, "header_format": "MRC",
              "data_format": "MRC", "num_images_or_tilt_series": 6, "frames_per_image": 1, "frame_range_min": None,
              "frame_range_max": None, "voxel_type": "32 BIT FLOAT", "pixel_width": PIXEL_SIZE,
              "pixel_height": PIXEL_SIZE, "image_width": str(WIDTH), "image_height": str(HEIGHT), "details": None,
              "micrographs_file_pattern": "", "picked_particles_file_pattern": None,
              "picked_particles_directory": None}
    record.update(fields)
    return record


def _micrographs(data: str) -> Tuple[str, Dict[str, object]]:
    """As 10017: coordinates beside each micrograph."""
    for number in range(6):
        name = "Falcon_2012_06_12-%02d_00_00_0" % number
        write_stack(os.path.join(data, name + ".mrc"), number, 1, WIDTH, HEIGHT)
        write_text(os.path.join(data, name + ".coord"), "10 20\n30 40\n")
    return "micrographs - single frame", {}


def _particles(data: str) -> Tuple[str, Dict[str, object]]:
    """As 10028: what describes the particles lies above their stacks, which are in two folders."""
    paths = []
    for number in range(STACKS):
        folder = "MRC_0601" if number < STACKS // 2 else "MRC_1901"
        name = "%03d_particles.mrcs" % (number + 1)
        write_stack(os.path.join(data, "Particles", folder, name), number, PARTICLES_A_STACK)
        paths.append("Extract/job012/%s/%s" % (folder, name))
    write_text(os.path.join(data, "Particles", "shiny_2sets.star"), particles_star(paths))
    return "picked particles - single frame - processed", {
        "directory": "data/Particles", "data_format": "MRCS", "image_width": str(BOX), "image_height": str(BOX)}


def _tilt_series(data: str) -> Tuple[str, Dict[str, object]]:
    """As 10164: a movie for each tilt, what describes the series in another folder beside."""
    for seed, series in enumerate(SERIES):
        for number, name in enumerate(tilt_names(series)):
            movies.write_movie(os.path.join(data, "frames", name), 100 * seed + number, FRAMES, WIDTH, HEIGHT)
        write_text(os.path.join(data, "mdoc-files", series + ".mrc.mdoc"), mdoc(tilt_names(series)))
    return "tilt series", {"frames_per_image": FRAMES, "num_images_or_tilt_series": len(SERIES)}


def _tilt_images(data: str) -> Tuple[str, Dict[str, object]]:
    """A single image for each tilt, beside what describes the series."""
    for seed, series in enumerate(SERIES):
        for number, name in enumerate(tilt_names(series)):
            write_stack(os.path.join(data, name), 100 * seed + number, 1, WIDTH, HEIGHT)
        write_text(os.path.join(data, series + ".mdoc"), mdoc(tilt_names(series)))
    return "tilt series", {"num_images_or_tilt_series": len(SERIES)}


def _class_averages(data: str) -> Tuple[str, Dict[str, object]]:
    for number in range(5):
        write_stack(os.path.join(data, "classes_%d.mrcs" % number), number, 10)
    return "class averages", {"data_format": "MRCS"}


def _volumes(data: str) -> Tuple[str, Dict[str, object]]:
    for number, name in enumerate(("run_class001.mrc", "run_half1_class001_unfil.mrc", "run_half2_class001_unfil.mrc")):
        write_volume(os.path.join(data, name), number)
    return "reconstructed volumes", {"image_width": str(VOXELS), "image_height": str(VOXELS)}


def _subtomograms(data: str) -> Tuple[str, Dict[str, object]]:
    for number in range(4):
        write_volume(os.path.join(data, "TS_01", "%06d.mrc" % number), number)
    return "subtomograms", {"image_width": str(VOXELS), "image_height": str(VOXELS)}


def _tilt_stacks(data: str) -> Tuple[str, Dict[str, object]]:
    """As 11830: a folder for each series, with its stack and what describes it; the last as 10064, without angles."""
    for seed, series in enumerate(SERIES):
        folder = os.path.join(data, "2026_%s" % series)
        write_stack(os.path.join(folder, series + ".st"), seed, len(ANGLES), WIDTH, HEIGHT)
        if seed == 0:
            write_text(os.path.join(folder, series + ".st.mdoc"), mdoc([""] * len(ANGLES), image_file=series + ".st"))
        elif seed == 1:
            write_text(os.path.join(folder, series + ".rawtlt"), "".join("%g\n" % angle for angle in sorted(ANGLES)))
    return "tilt series", {}


def _files(data: str) -> Tuple[str, Dict[str, object]]:
    for number in range(3):
        write_text(os.path.join(data, "crystal_1", "frame %03d.smv" % number), "{\nHEADER_BYTES=512;\n}\n" * 100)
    return "diffraction images", {"data_format": "SMV"}


BUILDERS = {"micrographs": _micrographs, "particles": _particles, "tilt series": _tilt_series,
            "class averages": _class_averages, "volumes": _volumes, "subtomograms": _subtomograms,
            "tilt stacks": _tilt_stacks, "files": _files,
            "tilt images": _tilt_images}
