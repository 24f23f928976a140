# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for programs that cannot be had here: MotionCor3, WarpTools, AreTomo2, ctffind, IMOD's tilt, newstack and
trimvol.

Each takes the command line that the program's Scipion plugin makes, in the folder that it is run in, opens every file
that it is given, and fails where one is missing or not what the command line says, also where the real program would
only warn. What they compute is simple and true: shifts by correlation, defocus by a fit, volumes by back-projection.
Needs numpy and tifffile; nothing of Scipion or of this package, whose conventions it would share.

Usage: python standins.py PROGRAM ARGUMENTS. Each call is noted, a line of JSON, in the file that EMPIAR_STANDIN_CALLS
names.
"""
import glob
import json
import os
import struct
import sys

import numpy as np

MODES = {0: "i1", 1: "<i2", 2: "<f4", 6: "<u2"}


class ComplaintError(Exception):
    pass


# -------------------------- files -----------------------

def need(path):
    if not os.path.isfile(path):
        raise ComplaintError("%s is missing in %s" % (path, os.getcwd()))
    return path


def read_mrc(path):
    """(sections, rows, columns), and the pixel size that the header says."""
    with open(need(path), "rb") as stream:
        header = stream.read(1024)
        columns, rows, sections, mode = struct.unpack_from("<4i", header)
        extra, = struct.unpack_from("<i", header, 92)
        intervals, = struct.unpack_from("<i", header, 28)
        cell, = struct.unpack_from("<f", header, 40)
        stream.seek(1024 + extra)
        data = np.frombuffer(stream.read(), MODES[mode])
    if data.size != columns * rows * sections:
        raise ComplaintError("%s has %d numbers, not %d x %d x %d" % (path, data.size, columns, rows, sections))
    return data.reshape(sections, rows, columns), cell / intervals if intervals else 0.0


def write_mrc(path, data, pixel):
    data = np.ascontiguousarray(data, "<f4")
    sections, rows, columns = data.shape
    header = bytearray(1024)
    struct.pack_into("<4i", header, 0, columns, rows, sections, 2)
    struct.pack_into("<3i", header, 28, columns, rows, sections)
    struct.pack_into("<6f", header, 40, columns * pixel, rows * pixel, sections * pixel, 90, 90, 90)
    struct.pack_into("<3i", header, 64, 1, 2, 3)
    struct.pack_into("<3f", header, 76, data.min(), data.max(), data.mean())
    header[208:216] = b"MAP \x44\x44\x00\x00"
    with open(path, "wb") as stream:
        stream.write(header + data.tobytes())


def read_image(path, wanted=""):
    """Frames of an MRC or TIFF file, the first row the lowest; ``wanted``: what the command line calls it."""
    with open(need(path), "rb") as stream:
        is_tiff = stream.read(2) in (b"II", b"MM")
    if wanted and is_tiff != (wanted != "-InMrc"):
        raise ComplaintError("%s is no file for %s" % (path, wanted))
    if not is_tiff:
        return read_mrc(path)[0]
    import tifffile
    data = np.atleast_3d(tifffile.imread(path))
    data = data if data.ndim == 3 and data.shape[2] > 1 else data[..., 0][None]
    return data if path.lower().endswith((".eer", ".gain")) else data[:, ::-1]


def arguments(words):
    """{'-InMrc': ['a.mrc'], ...}; numbers may be negative."""
    found, name = {}, ""
    for word in words:
        if word.startswith("-") and not word[1:2].isdigit() and word[1:2] != ".":
            name = word
            found[name] = []
        elif name:
            found[name].append(word)
    return found


# -------------------------- motion correction -----------------------

def aligned(frames):
    """Frames -> where each lies against the first: (frames, 2), x and y in pixels, by correlation with all others."""
    spectra = np.fft.rfft2(frames - frames.mean(axis=(1, 2), keepdims=True))
    ky, kx = np.fft.fftfreq(frames.shape[1])[:, None], np.fft.rfftfreq(frames.shape[2])[None, :]
    filtered = spectra * np.exp(-60 * (kx ** 2 + ky ** 2))
    shifts = np.zeros((len(frames), 2))
    for _ in range(8):
        back = np.exp(2j * np.pi * (kx * shifts[:, 0, None, None] + ky * shifts[:, 1, None, None]))
        total = (filtered * back).sum(axis=0)
        step = np.zeros_like(shifts)
        for number in range(len(frames)):
            own = filtered[number] * back[number]
            step[number] = peak(np.fft.irfft2(own * np.conj(total - own), frames.shape[1:]))
        shifts += step
        if np.abs(step).max() < 0.02:
            break
    return shifts - shifts[0], spectra, (kx, ky)


def peak(image):
    """(x, y) of the largest value, by parabolas, the origin in the corner."""
    row, column = np.unravel_index(np.argmax(image), image.shape)

    def finer(before, here, after):
        bend = before - 2 * here + after
        return 0.0 if bend == 0 else 0.5 * (before - after) / bend

    height, width = image.shape
    x = column + finer(image[row, column - 1], image[row, column], image[row, (column + 1) % width])
    y = row + finer(image[row - 1, column], image[row, column], image[(row + 1) % height, column])
    return (x - width if x > width / 2 else x), (y - height if y > height / 2 else y)


def motioncor(given):
    kind, = [name for name in ("-InMrc", "-InTiff", "-InEer") if name in given]
    source = given[kind][0]
    if given.get("-Serial") == ["1"]:
        endings = {"-InMrc": ("mrc", "mrcs"), "-InTiff": ("tif", "tiff"), "-InEer": ("eer",)}[kind]
        movies = sorted(path for ending in endings for path in glob.glob(os.path.join(source, "*." + ending)))
        if not movies:
            raise ComplaintError("no movie in %s of %s" % (source, os.getcwd()))
        for movie in movies:
            stem = os.path.splitext(os.path.basename(movie))[0]
            correct(movie, os.path.join(given["-OutMrc"][0], stem + ".mrc"), given, kind)
    else:
        correct(source, given["-OutMrc"][0], given, kind)


def one_image(path, shape):
    """A reference or a map of defects: one image as large as a frame."""
    images = read_image(path)
    if len(images) != 1 or sorted(images.shape[1:]) != sorted(shape):
        raise ComplaintError("%s has %s pixels, the frames %s" % (path, images.shape, shape))
    return images[0]


def numbers_of(path, columns):
    with open(need(path)) as stream:
        rows = [line.split() for line in stream if line.strip()]
    try:
        found = [[float(word) for word in row] for row in rows]
    except ValueError as error:
        raise ComplaintError("%s holds no numbers" % path) from error
    if not found or {len(row) for row in found} != {columns}:
        raise ComplaintError("%s has not %d numbers a line" % (path, columns))
    return found


def correct(movie, output, given, kind="-InMrc"):
    frames = read_image(movie, kind).astype("float32")
    if "-FmIntFile" in given:
        numbers_of(given["-FmIntFile"][0], 3)
    if float(given.get("-FtBin", ["1"])[0]) != 1:
        raise ComplaintError("this stand-in does not bin")
    if "-FmDose" in given and not float(given["-FmDose"][0]) > 0:
        raise ComplaintError("a dose of %s" % given["-FmDose"])
    pixel, voltage = float(given["-PixSize"][0]), float(given["-kV"][0])
    if pixel <= 0 or voltage < 10:
        raise ComplaintError("a pixel of %g A at %g kV" % (pixel, voltage))
    if "-Dark" in given:
        # What the camera gives without electrons is no electrons: it goes before the rest is multiplied.
        frames = frames - one_image(given["-Dark"][0], frames.shape[1:])
    if "-Gain" in given:
        gain = one_image(given["-Gain"][0], frames.shape[1:])
        turns = int(given.get("-RotGain", ["0"])[0])
        gain = np.rot90(gain, turns)
        flip = int(given.get("-FlipGain", ["0"])[0])
        gain = {0: gain, 1: gain[::-1], 2: gain[:, ::-1]}[flip]
        if gain.shape != frames.shape[1:]:
            raise ComplaintError("a gain of %s for frames of %s" % (gain.shape, frames.shape[1:]))
        frames = frames * gain
        bad = gain == 0
    else:
        bad = np.zeros(frames.shape[1:], bool)
    if "-DefectMap" in given:
        one_image(given["-DefectMap"][0], frames.shape[1:])
    if "-DefectFile" in given:
        numbers_of(given["-DefectFile"][0], 4)
    mean = frames.mean(axis=0)
    bad |= np.abs(mean - np.median(mean)) > 8 * np.median(np.abs(mean - np.median(mean))) + 1e-6
    frames[:, bad] = np.median(frames[:, ~bad], axis=1)[:, None]
    shifts, spectra, (kx, ky) = aligned(frames)
    back = np.exp(2j * np.pi * (kx * shifts[:, 0, None, None] + ky * shifts[:, 1, None, None]))
    total = np.fft.irfft2((spectra * back).sum(axis=0), frames.shape[1:]) + frames.mean(axis=(1, 2)).sum()
    write_mrc(output, total[None], pixel)
    if "-FmDose" in given or ("-InEer" in given and "-InitDose" in given):
        write_mrc(os.path.splitext(output)[0] + "_DW.mrc", total[None], pixel)
    stem = os.path.splitext(os.path.basename(movie))[0]
    patches = "" if given["-Patch"][:2] == ["0", "0"] else "-Patch"
    with open(os.path.join(given.get("-LogDir", ["."])[0].strip('"'), "%s%s-Full.log" % (stem, patches)), "w") as log:
        log.write("# frame x y\n")
        for number, (x, y) in enumerate(shifts, 1):
            log.write("%4d %9.3f %9.3f\n" % (number, -x, -y))


def warptools(words):
    """Settings first, then movies, by whole paths; the exposure of a frame is said as a negative number."""
    algorithm, given = words[0], arguments(words[1:])
    if algorithm == "create_settings":
        movies = glob.glob(os.path.join(given["--folder_data"][0], given["--extension"][0]))
        if not movies or not float(given["--angpix"][0]) > 0 or not float(given["--exposure"][0]) < 0:
            raise ComplaintError("no movies, pixel size or exposure in %s" % given)
        with open(given["--output"][0], "w") as stream:
            json.dump(given, stream)
        return
    if algorithm != "fs_motion":
        raise ComplaintError("this stand-in knows no %s" % algorithm)
    with open(need(given["--settings"][0])) as stream:
        settings = json.load(stream)
    averages = os.path.join(settings["--folder_processing"][0], "average")
    os.makedirs(averages, exist_ok=True)
    for movie in given["--input_data"]:
        stem, ending = os.path.splitext(os.path.basename(movie))
        words = {"-PixSize": settings["--angpix"], "-kV": ["300"], "-Patch": ["0", "0"], "-LogDir": [averages]}
        if "--gain_path" in settings:
            words["-Gain"] = settings["--gain_path"]
        correct(movie, os.path.join(averages, stem + ".mrc"), words, {
            ".mrc": "-InMrc", ".eer": "-InEer"}.get(ending, "-InTiff"))


# -------------------------- tilt series -----------------------

def angles_of(path, sections):
    with open(need(path)) as stream:
        angles = [float(line.split()[0]) for line in stream if line.strip()]
    if len(angles) != sections:
        raise ComplaintError("%d angles in %s for %d sections" % (len(angles), path, sections))
    return np.array(angles)


def back_projected(stack, angles, axis, thickness, binning=1):
    """Images (n, rows, columns) -> (z, y, x). ``axis``: of the tilt, degrees counterclockwise from y, rows upwards."""
    binning = max(1, int(binning))
    rows, columns = (size // binning for size in stack.shape[1:])
    images = stack[:, :rows * binning, :columns * binning].reshape(
        len(stack), rows, binning, columns, binning).mean(axis=(2, 4))
    depth = max(1, thickness // binning)
    z, y, x = np.meshgrid(np.arange(depth) - depth // 2, np.arange(rows) - rows // 2, np.arange(columns) - columns // 2,
                          indexing="ij")
    c, s = np.cos(np.radians(axis)), np.sin(np.radians(axis))
    across, along = c * x + s * y, -s * x + c * y
    volume = np.zeros(z.shape)
    for image, angle in zip(images, angles):
        image = (image - image.mean()) / (image.std() or 1)
        # Ramp across the axis, so that what is smeared along the beam weighs less.
        ky, kx = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None, :]
        image = np.fft.irfft2(np.fft.rfft2(image) * np.minimum(np.abs(c * kx + s * ky) + 0.01, 0.25), image.shape)
        moved = across * np.cos(np.radians(angle)) + z * np.sin(np.radians(angle))
        column = np.rint(c * moved - s * along).astype(int) + columns // 2
        row = np.rint(s * moved + c * along).astype(int) + rows // 2
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        volume[inside] += image[row[inside], column[inside]]
    return volume


def aretomo(given):
    stack, _ = read_mrc(given["-InMrc"][0])
    pixel = float(given["-PixSize"][0])
    axis = float(given["-TiltAxis"][0])
    if float(given["-Kv"][0]) < 10 or pixel <= 0:
        raise ComplaintError("no voltage or pixel size")
    if given["-Align"] != ["1"]:
        raise ComplaintError("this stand-in aligns")
    angles = angles_of(given["-AngFile"][0], len(stack))
    if "-ImgDose" in given and not float(given["-ImgDose"][0]) > 0:
        raise ComplaintError("a dose of %s" % given["-ImgDose"])
    binning, thickness = float(given["-OutBin"][0]), int(given["-VolZ"][0])
    output = given["-OutMrc"][0]
    if thickness:
        write_mrc(output, back_projected(stack, angles, axis, thickness, binning), pixel * binning)
    with open(os.path.splitext(output)[0] + ".aln", "w") as aln:
        aln.write("# AreTomo Alignment / Priims bprmMn\n# RawSize = %d %d %d\n# NumPatches = 0\n" % (
            *stack.shape[:0:-1], len(stack)))
        aln.write("# SEC ROT GMAG TX TY SMEAN SFIT SCALE BASE TILT\n")
        for section, angle in enumerate(angles):
            aln.write("%5d %9.4f 1.0 0.0 0.0 1.0 1.0 1.0 0.0 %8.2f\n" % (section, axis, angle))
    if "-Cs" in given:
        # Where Cs is said AreTomo2 estimates CTF; here that of the least tilted section stands for all.
        flattest = min(range(len(angles)), key=lambda section: abs(angles[section]))
        u, v, turn, score = fit_defocus(stack[flattest], pixel, float(given["-Kv"][0]), float(given["-Cs"][0]),
                                        float(given["-AmpContrast"][0]))
        with open(os.path.splitext(output)[0] + "_ctf.txt", "w") as ctf:
            ctf.write("# Columns: #1 micrograph number; #2 - defocus 1 [A]; #3 - defocus 2; #4 - azimuth; "
                      "#5 - phase shift [radian]; #6 - cross correlation; #7 - fits up to (in Angstroms)\n")
            for section in range(1, len(angles) + 1):
                ctf.write("%4d %.2f %.2f %.2f 0.0 %.4f 5.0\n" % (section, u, v, turn, score))


def tilt(given):
    """IMOD's: the tilt axis is y; sections of the output are along y."""
    stack, pixel = read_mrc(given["-InputProjections"][0])
    angles = angles_of(given["-TILTFILE"][0], len(stack))
    volume = back_projected(stack, angles, 0.0, int(given["-THICKNESS"][0]))
    write_mrc(given["-OutputFile"][0], volume.transpose(1, 0, 2), pixel)


def trimvol(words):
    volume, pixel = read_mrc(words[-2])
    if "-rx" in words:
        volume = volume.transpose(1, 0, 2)
    write_mrc(words[-1], volume, pixel)


def newstack(given):
    """Copies, or turns each section by a matrix."""
    stack, pixel = read_mrc(given["-input"][0])
    if "-xform" in given:
        with open(need(given["-xform"][0])) as stream:
            rows = [list(map(float, line.split())) for line in stream if line.strip()]
        if len(rows) != len(stack):
            raise ComplaintError("%d matrices for %d sections" % (len(rows), len(stack)))
        stack = np.stack([turned(image, row) for image, row in zip(stack, rows)])
    write_mrc(given["-output"][0], stack, pixel)


def turned(image, row):
    """Nearest neighbours; the matrix takes a point of the image to the output, from the middle."""
    rows, columns = image.shape
    y, x = np.meshgrid(np.arange(rows) - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2, indexing="ij")
    inverse = np.linalg.inv(np.array([row[:2], row[2:4]]))
    sx = inverse[0, 0] * (x - row[4]) + inverse[0, 1] * (y - row[5])
    sy = inverse[1, 0] * (x - row[4]) + inverse[1, 1] * (y - row[5])
    column, line = np.rint(sx + (columns - 1) / 2).astype(int), np.rint(sy + (rows - 1) / 2).astype(int)
    inside = (column >= 0) & (column < columns) & (line >= 0) & (line < rows)
    found = np.full(image.shape, image.mean())
    found[inside] = image[line[inside], column[inside]]
    return found


# -------------------------- contrast transfer -----------------------

def fit_defocus(image, pixel, voltage, cs, amplitude, low=5000.0, high=50000.0, resolution=(30.0, 5.0)):
    """(larger, smaller defocus in angstrom, angle in degrees, correlation): of the power spectrum with CTF^2."""
    side = min(512, *image.shape)
    window = np.hanning(side)[:, None] * np.hanning(side)[None, :]
    power, count = np.zeros((side, side // 2 + 1)), 0
    for top in range(0, image.shape[0] - side + 1, side // 2):
        for left in range(0, image.shape[1] - side + 1, max(1, min(side // 2, image.shape[1] - side))):
            tile = image[top:top + side, left:left + side]
            power += np.abs(np.fft.rfft2((tile - tile.mean()) * window)) ** 2
            count += 1
    ky, kx = np.fft.fftfreq(side, pixel)[:, None], np.fft.rfftfreq(side, pixel)[None, :]
    k = np.sqrt(kx ** 2 + ky ** 2)
    use = (k > 1 / resolution[0]) & (k < 1 / resolution[1])
    angle, k2 = np.arctan2(ky, kx + 0 * ky)[use], (k ** 2)[use]
    # What changes slowly with the radius is no ring.
    radius = np.rint(k[use] * pixel * side).astype(int)
    log = np.log(power[use] + 1e-9)
    mean = np.bincount(radius, log) / np.maximum(np.bincount(radius), 1)
    known = np.flatnonzero(np.bincount(radius))
    smooth = np.polyval(np.polyfit(known, mean[known], 4), radius)
    data = log - smooth
    volts = voltage * 1000
    wavelength = 12.2642596 / np.sqrt(volts * (1 + 0.978475598e-6 * volts))

    def score(u, v, turn):
        local = 0.5 * (u + v) + 0.5 * (u - v) * np.cos(2 * (angle - np.radians(turn)))
        phase = np.pi * wavelength * k2 * (local - 0.5 * wavelength ** 2 * k2 * cs * 1e7) + np.arcsin(amplitude)
        model = np.sin(phase) ** 2
        return np.corrcoef(data, model)[0, 1]

    best = max((score(middle, middle, 0.0), middle) for middle in np.arange(low, high, 50.0))[1]
    found = (score(best, best, 0.0), best, best, 0.0)
    # Astigmatism by a coarse search, then all three ever finer.
    for half in np.arange(0, 601, 200):
        for turn in np.arange(-90, 90, 15):
            found = max(found, (score(best + half, best - half, turn), best + half, best - half, turn))
    for step in (100.0, 50.0, 20.0, 10.0):
        middle, half, turn = (found[1] + found[2]) / 2, (found[1] - found[2]) / 2, found[3]
        for a in (-1, 0, 1):
            for b in (-2, -1, 0, 1, 2):
                for c in (-2, -1, 0, 1, 2):
                    u, v = middle + a * step + max(0, half + b * step), middle + a * step - max(0, half + b * step)
                    found = max(found, (score(u, v, turn + c * step / 5), u, v, turn + c * step / 5))
    return found[1], found[2], (found[3] + 90) % 180 - 90, found[0]


def ctffind(words):
    lines = [line.strip() for line in sys.stdin.read().splitlines()]
    image, _ = read_mrc(lines[0])
    spectrum, numbers = lines[1], [float(line) for line in lines[2:12]]
    pixel, voltage, cs, amplitude, _, low, high, smallest, largest, _ = numbers
    u, v, angle, score = fit_defocus(image.mean(axis=0), pixel, voltage, cs, amplitude, smallest, largest, (low, high))
    power = np.log(np.abs(np.fft.fftshift(np.fft.fft2(image.mean(axis=0)))) + 1)
    write_mrc(spectrum, power[None], pixel)
    with open(os.path.splitext(spectrum)[0] + ".txt", "w") as stream:
        stream.write("# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; #3 - defocus 2; #4 - azimuth; "
                     "#5 - phase shift; #6 - cross correlation; #7 - fits up to (in Angstroms)\n")
        stream.write("1.000000 %.2f %.2f %.4f 0.000000 %.6f 5.0\n" % (u, v, angle, score))
    radii = np.linspace(0.01, 0.5, 50)
    with open(os.path.splitext(spectrum)[0] + "_avrot.txt", "w") as stream:
        for row in (radii, np.ones(50), np.ones(50), np.ones(50), np.ones(50), np.ones(50)):
            stream.write(" ".join("%.5f" % value for value in row) + "\n")


PROGRAMS = {"MotionCor3": motioncor, "AreTomo2": aretomo, "tilt": tilt, "newstack": newstack}
RAW = {"trimvol": trimvol, "ctffind": ctffind, "WarpTools": warptools}


def main(program, words):
    if os.environ.get("EMPIAR_STANDIN_CALLS"):
        with open(os.environ["EMPIAR_STANDIN_CALLS"], "a") as stream:
            stream.write(json.dumps({"program": program, "words": words, "folder": os.getcwd()}) + "\n")
    try:
        if program in RAW:
            RAW[program](words)
        else:
            PROGRAMS[program](arguments(words))
    except ComplaintError as complaint:
        sys.stderr.write("%s: %s\n" % (program, complaint))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
