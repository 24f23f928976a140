# SPDX-License-Identifier: GPL-3.0-or-later
"""Small entries of every kind, laid out as real ones are, with the truth about them in a file beside their data."""
import json
import os
import re
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from . import movies, specimen

FRAMES, WIDTH, HEIGHT = 6, 128, 96
BOX, PARTICLES_A_STACK, STACKS = 32, 20, 6
ANGLES = (0.0, 3.0, -3.0, 6.0, -6.0, 9.0, -9.0)     # in the order of acquisition
DOSE_PER_TILT = 3.0                                 # e/A^2
SERIES = ("TS_01", "TS_03", "TS_43")
AXIS = 85.3                                         # degrees, of the tilt axis
VOXELS = 24
PIXEL_SIZE = 1.5                                    # angstrom
CS, AMPLITUDE_CONTRAST = 2.0, 0.08                  # of the particles, as their .star file says
NOISE = 0.35                                        # sigma, where a particle's signal has about 0.5
TRUTH = "truth.json"
NUMBERS = {"micrographs": "90002", "particles": "90003", "tilt series": "90004", "class averages": "90005",
           "volumes": "90006", "subtomograms": "90007", "tilt stacks": "90008", "files": "90009",
           "tilt images": "90010"}


def write_stack(path: str, seed: int, count: int, width: int = BOX, height: int = BOX) -> None:
    """So many noisy discs as an MRC image stack."""
    movies.write_mrc(path, movies.make_frames(seed, count, width, height, "float32"), PIXEL_SIZE)


ABOUT = {
    "rows": "x runs along a row, y along the rows of an MRC file, from 0; the first row is the lowest one. TIFF copies "
            "are written upside down, as cameras do: there the row is height - 1 - y",
    "phantom": "balls of density: x, y, z, sigma in angstrom, weight; their weighted centre is the origin",
    "particles": "x, y in pixels of the first frame, then rot, tilt, psi in degrees, RELION's convention",
    "drift": "of each frame against the first: x, y in pixels; to correct it, shift by the negative",
    "defocus": "angstrom, underfocus is positive; the angle in degrees from x to the larger one",
    "units": "pixel_size in angstrom, dose in electrons per square angstrom, voltage in kV, cs in mm",
    "series": "angles in degrees in the order of acquisition, axis in degrees from y, counterclockwise with the first "
              "row at the bottom (SerialEM, IMOD); the tilts have no contrast transfer",
    "beads": "gold, x, y, z in angstrom from the middle of the untilted image; at an angle a bead is where the tilt "
             "about the axis takes it: with the axis upright at x cos(angle) + z sin(angle)",
    "poses": "columns of the .star file, RELION's convention",
}


def write_truth(folder: str, truth: Dict[str, object]) -> None:
    """What is known of an entry's files, and the phantom that they show, with words for it. Beside ``data``, where no
    download looks."""
    balls = specimen.phantom()
    phantom = [[round(float(value), 4) for value in (*centre, sigma, weight)] for centre, sigma, weight in zip(
        balls.centres, balls.sigmas, balls.weights)]
    text = json.dumps(dict(about=ABOUT, **truth, phantom=phantom), indent=1)
    # Rows of numbers on one line each.
    text = re.sub(r"\[\s*(-?[\d.e+-]+(?:,\s*-?[\d.e+-]+)*)\s*\]", lambda found: "[%s]" % " ".join(
        found.group(1).split()), text)
    write_text(os.path.join(folder, TRUTH), text + "\n")


def write_volume(path: str, seed: int, size: int = VOXELS) -> None:
    """A noisy cube whose MRC header says that it is a volume."""
    write_stack(path, seed, size, size, size)
    _call_volume(path, size)


def _call_volume(path: str, size: int) -> None:
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


def mdoc(names: Sequence[str], angles: Sequence[float] = ANGLES, image_file: str = "", axis: float = AXIS,
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
    """As 10017: coordinates beside each micrograph, of its particles."""
    told = {}
    for number in range(6):
        name = "Falcon_2012_06_12-%02d_00_00_0" % number
        random = np.random.default_rng(200 + number)
        optics = specimen.Optics(15000 + 500 * number, 14800 + 500 * number, 45)
        seen = specimen.field(random, WIDTH, HEIGHT, PIXEL_SIZE, optics)
        image = random.poisson(np.clip(seen.intensity, 0, None) * 20 * PIXEL_SIZE ** 2).astype("float32")
        movies.write_mrc(os.path.join(data, name + ".mrc"), image[None], PIXEL_SIZE)
        write_text(os.path.join(data, name + ".coord"), "".join("%d %d\n" % place[:2] for place in seen.particles))
        told[name] = {"defocus_u": optics.defocus_u, "defocus_v": optics.defocus_v, "defocus_angle": optics.angle,
                      "particles": [[round(value, 2) for value in particle] for particle in seen.particles]}
    write_truth(os.path.dirname(data), {"pixel_size": PIXEL_SIZE, "micrographs": told})
    return "micrographs - single frame", {}


def write_particles(path: str, rows: Sequence[Sequence[object]], seed: int, noise: float = NOISE) -> None:
    """A stack of the phantom as rows of ``PARTICLE_COLUMNS`` say: their defocus, angles and shifts."""
    random = np.random.default_rng(seed)
    images = []
    for row in rows:
        u, v, angle, rot, tilt, psi, x, y = map(float, row[4:12])
        optics = specimen.Optics(u, v, angle, cs=CS, amplitude_contrast=AMPLITUDE_CONTRAST)
        images.append(specimen.particle((rot, tilt, psi), optics, BOX, PIXEL_SIZE, BOX // 2 - x / PIXEL_SIZE,
                                        BOX // 2 - y / PIXEL_SIZE, random, noise))
    movies.write_mrc(path, np.stack(images), PIXEL_SIZE)


def _particles(data: str) -> Tuple[str, Dict[str, object]]:
    """As 10028: what describes the particles lies above their stacks, which are in two folders."""
    names = ["%s/%03d_particles.mrcs" % ("MRC_0601" if number < STACKS // 2 else "MRC_1901", number + 1)
             for number in range(STACKS)]
    paths = ["Extract/job012/" + name for name in names]
    rows = particle_rows(paths)
    for number, name in enumerate(names):
        write_particles(os.path.join(data, "Particles", name),
                        rows[number * PARTICLES_A_STACK:(number + 1) * PARTICLES_A_STACK], number)
    write_text(os.path.join(data, "Particles", "shiny_2sets.star"), particles_star(paths))
    write_truth(os.path.dirname(data), {"pixel_size": PIXEL_SIZE, "poses": "as the .star file says"})
    return "picked particles - single frame - processed", {
        "directory": "data/Particles", "data_format": "MRCS", "image_width": str(BOX), "image_height": str(BOX)}


def write_tilts(path: Callable[[int], str], series: int, angles: Sequence[float] = ANGLES, frames: int = FRAMES,
                width: int = WIDTH, height: int = HEIGHT, axis: float = AXIS) -> Dict[str, object]:
    """The tilts of a series, in the order of acquisition, each a movie of so many frames (1: an image); ``path(n)``
    names the file of the n-th -> the truth: beads as x, y, z in angstrom from the middle of the untilted image."""
    random = np.random.default_rng(300 + series)
    layer = specimen.slab(random, width, height, PIXEL_SIZE)
    electrons = DOSE_PER_TILT * PIXEL_SIZE ** 2 / frames
    drifts = []
    for number, angle in enumerate(angles):
        intensity = specimen.tilted(layer, angle, axis, width, height, PIXEL_SIZE)
        track = specimen.drift(frames, random, 2.0) if frames > 1 else np.zeros((1, 2))
        counts = np.stack([random.poisson(electrons * np.clip(specimen.moved(intensity, x, y), 0, None))
                           for x, y in track])
        movies.write_mrc(path(number), counts.astype("int8" if frames > 1 else "float32"), PIXEL_SIZE)
        drifts.append(track.round(3).tolist())
    return {"angles": list(angles), "order": list(range(1, len(angles) + 1)), "axis": axis, "drift": drifts,
            "beads": layer.beads.round(2).tolist()}


def write_tilt_series(data: str, frames: int = FRAMES, folder: str = "frames", mdocs: str = "mdoc-files/%s.mrc.mdoc",
                      angles: Sequence[float] = ANGLES, series: Sequence[str] = SERIES,
                      axis: float = AXIS) -> Tuple[str, Dict[str, object]]:
    """A movie for each tilt, in the order of ``angles``, what describes the series in another folder beside, and the
    truth -> category, fields of the image set."""
    told = {}
    for seed, name in enumerate(series):
        names = tilt_names(name, angles)
        told[name] = write_tilts(lambda number, names=names: os.path.join(data, folder, names[number]), seed, angles,
                                 frames, axis=axis)
        write_text(os.path.join(data, mdocs % name), mdoc(names, angles, axis=axis))
    write_truth(os.path.dirname(data), {"pixel_size": PIXEL_SIZE, "dose_per_tilt": DOSE_PER_TILT, "series": told})
    return "tilt series", {"frames_per_image": frames, "num_images_or_tilt_series": len(series)}


def _tilt_series(data: str) -> Tuple[str, Dict[str, object]]:
    """As 10164."""
    return write_tilt_series(data)


def _tilt_images(data: str) -> Tuple[str, Dict[str, object]]:
    """A single image for each tilt, beside what describes the series."""
    return write_tilt_series(data, 1, "", "%s.mdoc")


def write_tilt_stack(path: str, series: int, angles: Sequence[float], axis: float = AXIS) -> Dict[str, object]:
    """The tilts of a series as sections of one stack, in the order of ``angles`` -> the truth."""
    random = np.random.default_rng(300 + series)
    layer = specimen.slab(random, WIDTH, HEIGHT, PIXEL_SIZE)
    images = [random.poisson(DOSE_PER_TILT * PIXEL_SIZE ** 2 * specimen.tilted(
        layer, angle, axis, WIDTH, HEIGHT, PIXEL_SIZE)) for angle in angles]
    movies.write_mrc(path, np.stack(images).astype("float32"), PIXEL_SIZE)
    return {"angles": list(angles), "axis": axis, "beads": layer.beads.round(2).tolist()}


def _class_averages(data: str) -> Tuple[str, Dict[str, object]]:
    random = np.random.default_rng(400)
    told = []
    for number in range(5):
        views = specimen.turns(random, 10)
        images = [specimen.project(specimen.phantom(), specimen.matrix(*view), (BOX, BOX), PIXEL_SIZE, BOX // 2,
                                   BOX // 2) + random.normal(0, 0.05, (BOX, BOX)) for view in views]
        movies.write_mrc(os.path.join(data, "classes_%d.mrcs" % number), np.stack(images).astype("float32"), PIXEL_SIZE)
        told.append(views.round(2).tolist())
    write_truth(os.path.dirname(data), {"pixel_size": PIXEL_SIZE, "views": told})
    return "class averages", {"data_format": "MRCS"}


def write_map(path: str, seed: int, size: int = VOXELS, noise: float = 0.1) -> None:
    """The phantom's density with some noise, in a cube whose MRC header says that it is a volume."""
    density = specimen.volume(specimen.phantom(), size, PIXEL_SIZE)
    density += np.random.default_rng(seed).normal(0, noise, density.shape).astype("float32")
    movies.write_mrc(path, density, PIXEL_SIZE)
    _call_volume(path, size)


def _volumes(data: str) -> Tuple[str, Dict[str, object]]:
    for number, name in enumerate(("run_class001.mrc", "run_half1_class001_unfil.mrc", "run_half2_class001_unfil.mrc")):
        write_map(os.path.join(data, name), number, noise=0.1 if number else 0.07)
    write_truth(os.path.dirname(data), {"pixel_size": PIXEL_SIZE})
    return "reconstructed volumes", {"num_images_or_tilt_series": 3, "image_width": str(VOXELS),
                                     "image_height": str(VOXELS)}


def _subtomograms(data: str) -> Tuple[str, Dict[str, object]]:
    for number in range(4):
        write_map(os.path.join(data, "TS_01", "%06d.mrc" % number), number, noise=0.3)
    write_truth(os.path.dirname(data), {"pixel_size": PIXEL_SIZE})
    return "subtomograms", {"num_images_or_tilt_series": 4, "image_width": str(VOXELS), "image_height": str(VOXELS)}


def _tilt_stacks(data: str) -> Tuple[str, Dict[str, object]]:
    """As 11830: a folder for each series, with its stack by angle and what describes it; the last as 10064, without
    angles."""
    told = {}
    sections = sorted(ANGLES)
    for seed, series in enumerate(SERIES):
        folder = os.path.join(data, "2026_%s" % series)
        path = os.path.join(folder, series + ".st")
        told[series] = write_tilt_stack(path, seed, sections)
        if seed == 0:
            write_text(path + ".mdoc", mdoc([""] * len(ANGLES), image_file=series + ".st",
                                            places=[sections.index(angle) for angle in ANGLES]))
        elif seed == 1:
            write_text(os.path.join(folder, series + ".rawtlt"), "".join("%g\n" % angle for angle in sections))
    write_truth(os.path.dirname(data), {"pixel_size": PIXEL_SIZE, "dose_per_tilt": DOSE_PER_TILT, "series": told})
    return "tilt series", {}


def _files(data: str) -> Tuple[str, Dict[str, object]]:
    for number in range(3):
        write_text(os.path.join(data, "crystal_1", "frame %03d.smv" % number), "{\nHEADER_BYTES=512;\n}\n" * 100)
    return "diffraction images", {"data_format": "SMV"}


BUILDERS = {"micrographs": _micrographs, "particles": _particles, "tilt series": _tilt_series,
            "class averages": _class_averages, "volumes": _volumes, "subtomograms": _subtomograms,
            "tilt stacks": _tilt_stacks, "files": _files,
            "tilt images": _tilt_images}
