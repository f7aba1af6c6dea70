"""Generate synthetic CT images and mammograms with exact masks, in 2-D and 3-D, reproducible by a seed.

A textured body contains objects (ellipsoids, the targets of the model) and distractors (rods of the same contrast, like
vessels or folds, and faint blobs, like dense tissue). Sizes are in millimetres, so the spacing may be anisotropic. A
voxel belongs to an object if and only if its centre is inside the ellipsoid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NoReturn

import numpy as np
from scipy import ndimage

from cphloc.errors import InputError

Modality = Literal["ct", "mammogram"]
Half = Literal["any", "left", "right"]


@dataclass(frozen=True)
class Scene:
    """Parameters of a synthetic image. Values are sampled uniformly from ranges that include both ends.

    Args:
        size: image size ``(*S)`` in voxels.
        spacing_mm: voxel size, in array axis order.
        modality: ``ct``: a body in Hounsfield units; ``mammogram``: one breast at the left or right edge.
        objects: range of the number of objects in a positive case.
        diameter_mm: range of the diameters of the objects in mm.
        distractors: range of the number of distractors.
        contrast: intensity difference between objects or rods and tissue, in standard deviations of the tissue.
        sides: whether there are two classes, 1 left and 2 right, instead of one.
        half: half of the image, along the last axis, in which objects and distractors are placed.
        cue_mm: distance in mm, along the last axis, of a small mark beside each object. Only objects with a bright mark
            are in the mask, those with a dark mark are not. ``None``: no marks, all objects are in the mask.
    """

    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    modality: Modality = "ct"
    objects: tuple[int, int] = (1, 3)
    diameter_mm: tuple[float, float] = (8.0, 20.0)
    distractors: tuple[int, int] = (0, 3)
    contrast: float = 4.0
    sides: bool = False
    half: Half = "any"
    cue_mm: float | None = None


@dataclass(frozen=True)
class Phantom:
    """A synthetic image with its mask and region.

    Args:
        image: ``(*S)`` int16.
        mask: ``(*S)`` uint8; 0 background, 1 object, or 1 left and 2 right if ``Scene.sides`` is set.
        region: ``(*S)`` uint8; 1 in each half of the image, left or right, that contains an object.
        prior: ``(*S)`` int16, an earlier image without the objects of the mask, if it was asked for.
        instances: ``(*S)`` uint8, number of the object of each voxel of the mask, from 1.
    """

    image: np.ndarray
    mask: np.ndarray
    region: np.ndarray
    prior: np.ndarray | None = None
    instances: np.ndarray | None = None


_TISSUE = {"ct": (40.0, 15.0, -1000.0), "mammogram": (1500.0, 150.0, 0.0)}
"""Modality -> mean and standard deviation of tissue, and intensity of air."""


def draw_phantom(scene: Scene, positive: bool, seed: int, prior: bool = False, touching: bool = False) -> Phantom:
    """Generate one synthetic image.

    Args:
        scene: parameters of the image.
        positive: whether the image has objects; distractors are drawn in either case.
        seed: random seed; equal seeds give equal images.
        prior: also draw an earlier image; about half of the objects are in both images and not in the mask.
        touching: place objects so that most touch another one, like nuclei.

    Raises:
        InputError: the objects do not fit into the image.

    >>> scene = Scene((64, 64), (1.0, 1.0), objects=(2, 2))
    >>> from cphloc.structures.boxes import boxes_of
    >>> len(boxes_of(draw_phantom(scene, positive=True, seed=0).mask)[0])
    2
    """
    rng = np.random.default_rng(seed)
    tissue, deviation, air = _TISSUE[scene.modality]
    grid = _grid(scene)
    body = _body(scene, grid, rng)
    image = tissue + deviation * _texture(scene, rng)
    mask, halves = np.zeros(scene.size, np.uint8), grid[-1] >= 0
    region, new, instances = np.zeros(scene.size, np.uint8), np.zeros(scene.size), np.zeros(scene.size, np.uint8)
    placed: list[tuple[np.ndarray, float]] = []
    for _ in range(int(rng.integers(*scene.objects, endpoint=True)) if positive else 0):
        beside = _place_beside(scene, body, placed, rng) if touching else None
        centre, radius = beside or _free_place(scene, body, placed, rng) or _refuse(scene, len(placed))
        depth = _ellipsoid(grid, centre, radius * rng.uniform(0.8, 1.0, len(scene.size)), rng)
        shown = scene.contrast * deviation * _soft(depth)
        image += shown
        if prior and rng.random() < 0.5:
            continue
        new += shown
        left = centre[-1] >= 0
        if scene.cue_mm is not None and not _add_cue(image, scene, grid, centre, deviation, rng):
            continue
        inside = (depth >= 0) & (mask == 0) if touching else depth >= 0
        mask[inside] = 1 if left or not scene.sides else 2
        instances[inside] = instances.max() + 1
        region[np.broadcast_to(halves == left, scene.size)] = 1
    for _ in range(int(rng.integers(*scene.distractors, endpoint=True))):
        image += deviation * _distractor(scene, grid, body, placed, rng)
    scans = [image, image - new] if prior else [image]
    scans = [np.where(body < 1, scan, air) + deviation / 3 * rng.standard_normal(scene.size) for scan in scans]
    now, *before = (np.rint(scan).astype(np.int16) for scan in scans)
    return Phantom(now, mask, region, before[0] if before else None, instances)


def _grid(scene: Scene) -> list[np.ndarray]:
    """Position in mm of the voxel centres relative to the image centre, one broadcastable array per axis."""
    axes = [(np.arange(n) + 0.5 - n / 2) * s for n, s in zip(scene.size, scene.spacing_mm, strict=True)]
    return list(np.meshgrid(*axes, indexing="ij", sparse=True))


def _body(scene: Scene, grid: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Squared normalized radius ``(*S)`` of the elliptic body in the image plane; below 1 inside the body."""
    height, width = (n * s for n, s in zip(scene.size[-2:], scene.spacing_mm[-2:], strict=True))
    if scene.modality == "ct":
        middle, half_width = 0.0, 0.46 * width
    else:
        middle, half_width = rng.choice((-0.5, 0.5)) * width, 0.85 * width
    radius = (grid[-2] / (0.46 * height)) ** 2 + ((grid[-1] - middle) / half_width) ** 2
    return np.broadcast_to(radius, scene.size)


def _texture(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Smoothed noise with a scale of about 4 mm, mean 0 and standard deviation 1."""
    noise = ndimage.gaussian_filter(rng.standard_normal(scene.size), [2.0 / s for s in scene.spacing_mm], mode="wrap")
    return (noise - noise.mean()) / noise.std()


def _free_place(
    scene: Scene, body: np.ndarray, placed: list[tuple[np.ndarray, float]], rng: np.random.Generator
) -> tuple[np.ndarray, float] | None:
    """Sample centre and radius in mm of a sphere in the body, apart from others; ``None`` after 500 failed trials."""
    size, spacing = np.asarray(scene.size), np.asarray(scene.spacing_mm)
    half = {"any": 0, "left": -1, "right": 1}[scene.half]
    for _ in range(500):
        radius = rng.uniform(*scene.diameter_mm) / 2
        centre = rng.uniform(-0.5, 0.5, len(size)) * (size * spacing)
        inside = (np.abs(centre) + radius <= size * spacing / 2).all() and half * centre[-1] >= abs(half) * radius
        inside &= centre[-1] + (scene.cue_mm or 0) + _MARK_MM <= size[-1] * spacing[-1] / 2 or scene.cue_mm is None
        voxel = tuple(np.clip((centre / spacing + size / 2).astype(int), 0, size - 1))
        gap = radius + 2 * spacing.max()
        if inside and body[voxel] < 0.6 and all(np.linalg.norm(centre - c) > gap + r for c, r in placed):
            placed.append((centre, radius))
            return centre, radius
    return None


def _place_beside(
    scene: Scene, body: np.ndarray, placed: list[tuple[np.ndarray, float]], rng: np.random.Generator
) -> tuple[np.ndarray, float] | None:
    """Sample centre and radius in mm of a sphere that touches another one; ``None`` without one, or without room."""
    size, spacing = np.asarray(scene.size), np.asarray(scene.spacing_mm)
    for _ in range(50 if placed else 0):
        other, reach = placed[rng.integers(len(placed))]
        radius = rng.uniform(*scene.diameter_mm) / 2
        direction = rng.standard_normal(len(size))
        centre = other + direction / np.linalg.norm(direction) * _CONTACT * (radius + reach)
        inside = (np.abs(centre) + radius <= size * spacing / 2).all()
        voxel = tuple(np.clip((centre / spacing + size / 2).astype(int), 0, size - 1))
        apart = all(np.linalg.norm(centre - c) >= 0.999 * _CONTACT * (radius + r) for c, r in placed)
        if inside and body[voxel] < 0.6 and apart:
            placed.append((centre, radius))
            return centre, radius
    return None


_CONTACT = 0.85
"""Distance of the centres of touching objects, of the sum of their radii; semi-axes are 0.8 to 1 radius."""
_MARK_MM = 1.5
"""Radius in mm of the mark beside an object."""


def _add_cue(
    image: np.ndarray,
    scene: Scene,
    grid: list[np.ndarray],
    centre: np.ndarray,
    deviation: float,
    rng: np.random.Generator,
) -> bool:
    """Draw a mark beside an object; return True if it is bright, False if it is dark."""
    bright = bool(rng.random() < 0.5)
    there = centre + np.eye(len(centre))[-1] * scene.cue_mm
    depth = _ellipsoid(grid, there, np.full(len(centre), _MARK_MM), rng)
    image += (2 if bright else -2) * scene.contrast * deviation * _soft(depth)
    return bright


def _refuse(scene: Scene, placed: int) -> NoReturn:
    """Raise the error for an image without room for another object."""
    low, high = scene.diameter_mm
    msg = (
        f"phantom: no room for an object of {low:g} to {high:g} mm among {placed} others in {scene.size} "
        f"voxels of {scene.spacing_mm} mm; make the image larger, or the objects smaller or fewer"
    )
    raise InputError(msg)


def _ellipsoid(
    grid: list[np.ndarray], centre: np.ndarray, semi_axes_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Approximate depth in mm below the surface of a randomly rotated ellipsoid; negative outside."""
    turn, _ = np.linalg.qr(rng.standard_normal((len(grid), len(grid))))
    offset = [g - c for g, c in zip(grid, centre, strict=True)]
    along = (sum(t * o for t, o in zip(row, offset, strict=True)) for row in turn)
    radius = np.sqrt(sum((a / s) ** 2 for a, s in zip(along, semi_axes_mm, strict=True)))
    return (1 - radius) * semi_axes_mm.min()


def _soft(depth_mm: np.ndarray) -> np.ndarray:
    """Sigmoid from 0 outside to 1 inside, about 2 mm wide, which models the blur of a scanner."""
    return 1 / (1 + np.exp(-np.clip(depth_mm * 3, -30, 30)))


def _distractor(
    scene: Scene,
    grid: list[np.ndarray],
    body: np.ndarray,
    placed: list[tuple[np.ndarray, float]],
    rng: np.random.Generator,
) -> np.ndarray:
    """Rod with the contrast of objects, or a faint blurred blob; zeros where no place is free."""
    place = _free_place(scene, body, placed, rng)
    if place is None:
        return np.zeros(scene.size)
    centre, radius = place
    dims = len(scene.size)
    if rng.random() < 0.5:
        semi_axes = np.asarray([radius, *[radius / 6] * (dims - 1)])
        return scene.contrast * _soft(_ellipsoid(grid, centre, semi_axes, rng))
    depth = _ellipsoid(grid, centre, np.full(dims, radius), rng)
    return scene.contrast / 3 * _soft(depth * 3 / radius)
