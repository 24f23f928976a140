# SPDX-License-Identifier: GPL-3.0-or-later
"""A specimen of which all is known: a phantom, its projections, and what a microscope and a camera make of them.

The phantom is no structure of anybody's: balls of density along a bent rod with two unlike arms, so that it differs
from its mirror image and shows which way it lies. A ball's projection is known exactly, so nothing is interpolated.

Conventions, those of RELION: angles rot, tilt and psi in degrees about Z, Y and Z; x along a row and y along the rows
as they lie in the file, the middle of an image of n pixels being n // 2; defocus in angstrom, positive is underfocus,
the larger one at its angle from x. A phantom's density is positive; it is bright in particles, dark in movies.
"""
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np

from ..images.ctf import wavelength

VOLTAGE, CS, AMPLITUDE_CONTRAST = 300.0, 2.7, 0.1       # kV, mm
ENVELOPE = 40.0         # A^2, of the contrast transfer: exp(-B k^2 / 4)
ICE = 0.20              # how much amorphous ice changes the intensity, as a share of it
PARTICLE = 0.14         # how much a particle does at its densest
GAIN_TILT, GAIN_STEP, GAIN_GRAIN = 0.25, 0.06, 0.03     # a camera more sensitive to one side, of two halves, grainy
HOT_TIMES = 15
BEAD_RADIUS, BEAD_WEIGHT = 5.0, 0.5                     # angstrom; gold in tilt series


@dataclass(frozen=True)
class Balls:
    """Gaussian balls: ``centres`` (n, 3) as x, y, z and ``sigmas`` (n,) in angstrom, ``weights`` (n,) at the centre."""
    centres: np.ndarray
    sigmas: np.ndarray
    weights: np.ndarray


def phantom() -> Balls:
    """About 32 A long; the same each time."""
    t = np.linspace(-1, 1, 9)
    rod = np.stack([4 * t ** 2 - 2, 3 * t ** 3, 14 * t], axis=1)
    arm = np.array([(3, 2, 9), (6, 5, 9.5), (8, 9, 9.5)], "float64")
    other = np.array([(2, -5, -6), (1, -9, -8), (-4, -11, -8), (-8, -10, -6)], "float64")
    centres = np.concatenate([rod, arm, other])
    sigmas = np.concatenate([np.full(len(rod), 2.6), np.full(len(arm), 2.2), np.full(len(other), 2.9)])
    weights = np.concatenate([np.linspace(0.7, 1.0, len(rod)), np.full(len(arm), 1.0), np.full(len(other), 0.8)])
    middle = np.average(centres, axis=0, weights=weights * sigmas ** 3)
    return Balls(centres - middle, sigmas, weights)


def matrix(rot: float, tilt: float, psi: float) -> np.ndarray:
    """(3, 3): takes a point of the phantom to the image's x, y and depth; degrees."""
    (ca, sa), (cb, sb), (cg, sg) = [(np.cos(angle), np.sin(angle)) for angle in np.radians([rot, tilt, psi])]
    return np.array([[cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
                     [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
                     [sb * ca, sb * sa, cb]])


def tilt_matrix(angle: float, axis: float) -> np.ndarray:
    """(3, 3) of a stage tilted by ``angle`` about an axis in the plane of the image, ``axis`` degrees from its y axis
    as SerialEM and IMOD count: counterclockwise where the first row is at the bottom."""
    c, s = np.cos(np.radians(axis)), np.sin(np.radians(axis))
    to_axis = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    ct, st = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    about_y = np.array([[ct, 0, st], [0, 1, 0], [-st, 0, ct]])
    return to_axis.T @ about_y @ to_axis


def project(balls: Balls, turn: np.ndarray, shape: Tuple[int, int], pixel: float, x: float, y: float,
            image: Optional[np.ndarray] = None) -> np.ndarray:
    """Add a projection, the phantom's origin at (x, y) in pixels, to an image (height, width) of ``pixel`` angstrom;
    an image of 1 has as much density on a line as a ball of weight 1 and sigma 2.5 A through its middle."""
    image = np.zeros(shape) if image is None else image
    height, width = shape
    for (dx, dy, _), sigma, weight in zip(balls.centres @ turn.T, balls.sigmas, balls.weights):
        cx, cy, s = x + dx / pixel, y + dy / pixel, sigma / pixel
        reach = int(np.ceil(5 * s)) + 1
        left, right = max(0, int(cx) - reach), min(width, int(cx) + reach + 1)
        top, bottom = max(0, int(cy) - reach), min(height, int(cy) + reach + 1)
        if left >= right or top >= bottom:
            continue
        across = np.exp(-(np.arange(left, right) - cx) ** 2 / (2 * s * s))
        down = np.exp(-(np.arange(top, bottom) - cy) ** 2 / (2 * s * s))
        image[top:bottom, left:right] += weight * sigma / 2.5 * down[:, None] * across
    return image


def volume(balls: Balls, size: int, pixel: float) -> np.ndarray:
    """(z, y, x), float32: the density in a cube of ``size`` voxels of ``pixel`` angstrom."""
    places = (np.arange(size) - size // 2) * pixel
    found = np.zeros((size, size, size))
    for (x, y, z), sigma, weight in zip(balls.centres, balls.sigmas, balls.weights):
        along = [np.exp(-(places - place) ** 2 / (2 * sigma ** 2)) for place in (z, y, x)]
        found += weight * along[0][:, None, None] * along[1][None, :, None] * along[2][None, None, :]
    return found.astype("float32")


@dataclass(frozen=True)
class Optics:
    """What blurs an image: defocus in angstrom and degrees; voltage in kV, Cs in mm."""
    defocus_u: float
    defocus_v: float
    angle: float = 0.0
    voltage: float = VOLTAGE
    cs: float = CS
    amplitude_contrast: float = AMPLITUDE_CONTRAST

    def transfer(self, shape: Tuple[int, int], pixel: float) -> np.ndarray:
        """The contrast transfer function at the frequencies of numpy's rfft2, positive at low ones."""
        length = wavelength(self.voltage)
        ky, kx = np.fft.fftfreq(shape[0], pixel)[:, None], np.fft.rfftfreq(shape[1], pixel)[None, :]
        k2 = kx ** 2 + ky ** 2
        defocus = 0.5 * (self.defocus_u + self.defocus_v) + 0.5 * (self.defocus_u - self.defocus_v) * np.cos(
            2 * (np.arctan2(ky, kx) - np.radians(self.angle)))
        phase = np.pi * length * k2 * (defocus - 0.5 * length ** 2 * k2 * self.cs * 1e7)
        return np.sin(phase + np.arcsin(self.amplitude_contrast)) * np.exp(-0.25 * ENVELOPE * k2)

    def blur(self, image: np.ndarray, pixel: float) -> np.ndarray:
        return np.fft.irfft2(np.fft.rfft2(image) * self.transfer(image.shape, pixel), image.shape)


def moved(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """The image shifted by a part of a pixel, too; what leaves at one side comes in at the other."""
    ky, kx = np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1])[None, :]
    return np.fft.irfft2(np.fft.rfft2(image) * np.exp(-2j * np.pi * (kx * x + ky * y)), image.shape)


def drift(frames: int, random: np.random.Generator, pixels: float = 4.0) -> np.ndarray:
    """(frames, 2): where each frame lies against the first, x and y in pixels: quick at first, slower later, as stages
    and beams do it."""
    direction = random.uniform(0, 2 * np.pi)
    way = pixels * (1 - np.exp(-np.arange(frames) * 3.0 / frames)) / (1 - np.exp(-3.0))
    path = np.stack([way * np.cos(direction), way * np.sin(direction)], axis=1)
    path[1:] += random.normal(0, 0.05, (frames - 1, 2))
    return path


class Camera:
    """A camera whose pixels count unlike: a side more than the other, a column not at all, some pixels far too much."""

    def __init__(self, width: int, height: int, seed: int = 1000):
        random = np.random.default_rng(seed)
        x, y = np.linspace(-1, 1, width)[None, :], np.linspace(-1, 1, height)[:, None]
        sensitivity = 1 + GAIN_TILT * (0.8 * x - 0.5 * y) + GAIN_STEP * (y > 0) + random.normal(
            0, GAIN_GRAIN, (height, width))
        self.sensitivity = sensitivity / sensitivity.mean()
        self.dead_columns = [int(width * 0.3), int(width * 0.3) + 1]
        self.sensitivity[:, self.dead_columns] = 0.0
        self.hot = list(zip(random.integers(0, height, 6).tolist(), random.integers(0, width, 6).tolist()))

    @property
    def gain(self) -> np.ndarray:
        """(height, width), float32: what its counts are multiplied by; 0 where it is dead."""
        found = np.zeros_like(self.sensitivity)
        np.divide(1.0, self.sensitivity, out=found, where=self.sensitivity > 0)
        return found.astype("float32")

    def expose(self, intensity: np.ndarray, electrons: float, random: np.random.Generator) -> np.ndarray:
        """Counts (height, width) of an exposure of so many electrons a pixel where nothing is in their way."""
        expected = electrons * np.clip(intensity, 0, None) * self.sensitivity
        for row, column in self.hot:
            expected[row, column] = electrons * HOT_TIMES
        return random.poisson(expected)


def grid(random: np.random.Generator, width: int, height: int, step: int, margin: int) -> List[Tuple[float, float]]:
    """Places in pixels, none nearer to another than about half a step."""
    return [(x + random.uniform(-step / 4, step / 4), y + random.uniform(-step / 4, step / 4))
            for y in range(margin, height - margin + 1, step) for x in range(margin, width - margin + 1, step)]


def turns(random: np.random.Generator, count: int) -> np.ndarray:
    """(count, 3): rot, tilt, psi in degrees, every direction as likely as any other."""
    return np.stack([random.uniform(-180, 180, count), np.degrees(np.arccos(random.uniform(-1, 1, count))),
                     random.uniform(-180, 180, count)], axis=1)


@dataclass(frozen=True)
class Field:
    """What an exposure shows: ``intensity`` (height, width) around 1, and the truth about it."""
    intensity: np.ndarray
    optics: Optics
    particles: List[Tuple[float, float, float, float, float]]     # x, y in pixels, rot, tilt, psi in degrees


def field(random: np.random.Generator, width: int, height: int, pixel: float, optics: Optics) -> Field:
    """Particles in ice, all of them turned in a way of their own."""
    places = grid(random, width, height, max(24, int(60 / pixel)), max(16, int(26 / pixel)))
    angles, balls = turns(random, len(places)), phantom()
    density = np.zeros((height, width))
    for (x, y), turn in zip(places, angles):
        project(balls, matrix(*turn), density.shape, pixel, x, y, density)
    ice = random.normal(0, 1, density.shape)
    blurred = optics.blur(PARTICLE * density + ICE * ice, pixel)
    return Field(1 - 2 * blurred, optics, [(*place, *map(float, turn)) for place, turn in zip(places, angles)])


def exposures(seen: Field, path: Sequence[Tuple[float, float]], electrons: float, camera: Camera,
              random: np.random.Generator, dtype: str = "int8") -> np.ndarray:
    """(frames, height, width): a movie of a field that moves along a path, so many electrons a pixel and frame."""
    most = np.iinfo(dtype).max
    return np.stack([camera.expose(moved(seen.intensity, x, y), electrons, random).clip(0, most) for x, y in path]
                    ).astype(dtype)


def particle(turn: Tuple[float, float, float], optics: Optics, box: int, pixel: float, x: float, y: float,
             random: np.random.Generator, noise: float) -> np.ndarray:
    """(box, box), float32: a particle, bright, its origin at (x, y) in pixels; ``noise``: its sigma, 0 for none."""
    # A larger field, so that what the optics spread out of the box is lost and does not come in at the other side.
    large = 4 * box
    offset = large // 2 - box // 2
    image = optics.blur(project(phantom(), matrix(*turn), (large, large), pixel, x + offset, y + offset), pixel)
    image = image[offset:offset + box, offset:offset + box]
    return (image + (random.normal(0, noise, image.shape) if noise else 0)).astype("float32")


@dataclass(frozen=True)
class Slab:
    """Particles and gold beads in a layer of ice: what a tilt series shows."""
    particles: List[Tuple[np.ndarray, np.ndarray]]      # centre in angstrom from the middle, matrix
    beads: np.ndarray                                   # (n, 3), angstrom


def slab(random: np.random.Generator, width: int, height: int, pixel: float, thickness: float = 60.0) -> Slab:
    """A layer as large as an untilted image."""
    def places(count: int) -> np.ndarray:
        return np.stack([random.uniform(-0.4, 0.4, count) * width * pixel,
                         random.uniform(-0.4, 0.4, count) * height * pixel,
                         random.uniform(-0.5, 0.5, count) * thickness], axis=1)

    return Slab([(place, matrix(*turn)) for place, turn in zip(places(6), turns(random, 6))], places(7))


def tilted(layer: Slab, angle: float, axis: float, width: int, height: int, pixel: float) -> np.ndarray:
    """(height, width): the intensity around 1 at an angle; ``axis``: see ``tilt_matrix``."""
    stage, balls = tilt_matrix(angle, axis), phantom()
    bead = Balls(np.zeros((1, 3)), np.array([BEAD_RADIUS]), np.array([1.0]))
    density, gold = np.zeros((height, width)), np.zeros((height, width))
    for place, turn in layer.particles:
        x, y, _ = stage @ place / pixel
        project(balls, stage @ turn, density.shape, pixel, width // 2 + x, height // 2 + y, density)
    for place in layer.beads:
        x, y, _ = stage @ place / pixel
        project(bead, np.eye(3), gold.shape, pixel, width // 2 + x, height // 2 + y, gold)
    return np.clip(1 - PARTICLE * density - BEAD_WEIGHT * gold, 0.05, None)
