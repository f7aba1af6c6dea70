"""Measures without training: volumes estimated from boxes, and checkerboard artefacts of up-sampling layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, cast

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from cphloc.config.argument_types import NonNegativeFloat, Plain, PositiveInt
from cphloc.data.case import read_case
from cphloc.registry.contract import construct
from cphloc.structures.split import SPLITS
from cphloc.studies.measured import Trained, Values

Shape = Literal["ball", "ellipsoid", "spiculated"]


class BoxVolume:
    """Volume of random lesions from the box, from the ellipsoid in the box (pi/6 whd), and from the mask.

    Each lesion is measured twice, the second time in another random orientation and with its volume increased or
    decreased by ``change``. ``wrong_sign`` is the fraction of pairs in which the measured change has the wrong sign,
    and with it the doubling time.

    Args:
        shape: ``ball``, ``ellipsoid`` with three different axes, or ``spiculated``: a ball with rays.
        lesions: number of lesions.
        change: relative change of the true volume.
        grid: number of voxels along the mean diameter.
    """

    def __init__(
        self,
        shape: Shape = "ellipsoid",
        lesions: PositiveInt = 100,
        change: NonNegativeFloat = 0.15,
        grid: PositiveInt = 20,
    ) -> None:
        self.shape: Shape = shape
        self.lesions, self.change, self.grid = lesions, change, grid

    def __call__(self, trained: Trained) -> Values:
        """Return ``volume_percent_error`` (mean, signed) and ``wrong_sign`` of each method of measuring."""
        rng = np.random.default_rng(trained.seed)
        bias: dict[str, list[float]] = {}
        wrong: dict[str, list[bool]] = {}
        for _ in range(self.lesions):
            lesion = Lesion.draw(self.shape, rng)
            growth = rng.choice((-1, 1)) * self.change
            before, truth = lesion.measured(self.grid, rng)
            after, _ = lesion.grown((1 + growth) ** (1 / 3)).measured(self.grid, rng)
            for way, volume in before.items():
                name = f"{self.shape}, {way}"
                bias.setdefault(name, []).append(100 * (volume / truth - 1))
                wrong.setdefault(name, []).append((after[way] - volume) * growth <= 0)
        return {
            name: {"volume_percent_error": float(np.mean(bias[name])), "wrong_sign": float(np.mean(wrong[name]))}
            for name in bias
        }


class AnnotatedVolume:
    """Error of volumes from the box and from the ellipsoid in the box (pi/6 whd), relative to an expert's mask.

    The largest object of every class of a case is measured. Each seed uses every ``parts``-th case, so that seeds
    have different patients.

    Args:
        dataset: block of a data set with masks, ``{type: sts_petct, channels: [ct]}``.
        parts: number of disjoint parts into which the cases of all splits are divided.
    """

    def __init__(self, dataset: Mapping[str, Plain], parts: PositiveInt = 5) -> None:
        self.dataset, self.parts = dict(dataset), parts

    def __call__(self, trained: Trained) -> Values:
        """Return ``volume_percent_error`` (mean, signed) of each class and method of measuring."""
        stated = {key: value for key, value in self.dataset.items() if key != "type"}
        dataset = construct("dataset", str(self.dataset["type"]), stated)
        cases = [case for split in SPLITS for case in dataset.cases(split)]
        bias: dict[str, list[float]] = {}
        for case in cases[trained.seed % self.parts :: self.parts]:
            _, annotation = read_case(case, dataset.dims)
            for number, name in dataset.classes.items():
                if (fill := fill_of_box(annotation.mask == number)) is not None:
                    bias.setdefault(f"{name}, box", []).append(100 / fill - 100)
                    bias.setdefault(f"{name}, pi/6 of the box", []).append(100 * math.pi / 6 / fill - 100)
        return {name: {"volume_percent_error": float(np.mean(found))} for name, found in bias.items()}


def fill_of_box(mask: np.ndarray) -> float | None:
    """Compute the fraction of its bounding box that the largest object fills; ``None`` for an empty mask.

    >>> fill_of_box(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], bool))
    0.75
    """
    labels, count = cast("tuple[np.ndarray, int]", ndimage.label(mask, structure=np.ones((3,) * mask.ndim)))
    objects = (labels[box] == number for number, box in enumerate(ndimage.find_objects(labels), 1))
    return max(objects, key=np.count_nonzero).mean().item() if count else None


class Lesion:
    """A star-shaped body, given by its radius in every direction: an ellipsoid, optionally with spikes.

    Args:
        axes: semi-axes ``(3,)``.
        rays: unit directions ``(n, 3)`` of the spikes.
        reach: length of the spikes, relative to the radius.
    """

    def __init__(self, axes: np.ndarray, rays: np.ndarray, reach: float = 0.8) -> None:
        self.axes, self.rays, self.reach = axes, rays, reach

    @classmethod
    def draw(cls, shape: Shape, rng: np.random.Generator) -> Lesion:
        """Draw a random lesion with a mean radius of about 1."""
        axes = rng.uniform(0.7, 1.3, 3) if shape == "ellipsoid" else np.ones(3)
        rays = rng.standard_normal((12 if shape == "spiculated" else 0, 3))
        return cls(axes, rays / np.linalg.norm(rays, axis=1, keepdims=True))

    def grown(self, factor: float) -> Lesion:
        """Return the same shape with every length multiplied by ``factor``."""
        return Lesion(self.axes * factor, self.rays, self.reach)

    def radius(self, directions: np.ndarray) -> np.ndarray:
        """Compute the distance ``(n,)`` from the centre to the surface in unit directions ``(n, 3)``."""
        smooth = 1 / np.linalg.norm(directions / self.axes, axis=1)
        if not len(self.rays):
            return smooth
        near = (directions @ self.rays.T).max(axis=1)
        return smooth * (1 + self.reach * np.exp((near - 1) / 0.01))

    @property
    def volume(self) -> float:
        """Volume, exact for ellipsoids, else integral of r^3 / 3 over a Fibonacci lattice of 20,000 directions."""
        if not len(self.rays):
            return float(4 / 3 * math.pi * self.axes.prod())
        k = np.arange(20_000) + 0.5
        z, turn = 1 - 2 * k / 20_000, math.pi * (1 + 5**0.5) * k
        rim = np.sqrt(1 - z**2)
        directions = np.stack([rim * np.cos(turn), rim * np.sin(turn), z], axis=1)
        return float(4 * math.pi * (self.radius(directions) ** 3).mean() / 3)

    def measured(self, grid: int, rng: np.random.Generator) -> tuple[dict[str, float], float]:
        """Measure the volume on a voxel grid in random position and orientation.

        Args:
            grid: number of voxels along a diameter of 2.
            rng: random generator.

        Returns:
            the volume by method of measuring, and the true volume.
        """
        turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        step, extent = 2 / grid, (1 + self.reach * bool(len(self.rays))) * self.axes.max()
        edge = np.arange(-extent - 2 * step, extent + 2 * step, step) + rng.uniform(0, step)
        points = np.stack(np.meshgrid(edge, edge, edge, indexing="ij"), -1).reshape(-1, 3) @ turn
        away = np.linalg.norm(points, axis=1)
        inside = away <= self.radius(points / np.maximum(away, 1e-9)[:, None])
        mask = inside.reshape((len(edge),) * 3)
        spans = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        box = math.prod((span[-1] - span[0] + 1) * step for span in spans)
        return {"box": box, "pi/6 of the box": math.pi / 6 * box, "mask": float(mask.sum() * step**3)}, self.volume


class Checkerboard:
    """Energy that up-sampling layers add at the highest frequencies of an image without high frequencies.

    A smooth random image is enlarged by layers with random weights; ``checkerboard`` is the fraction of the spectral
    energy, without the mean, at frequencies within 5 % of half a cycle per voxel along either axis.

    Args:
        size: voxels of the image along each axis.
        channels: input channels of the layers.
        draws: number of random layers.
    """

    def __init__(self, size: PositiveInt = 32, channels: PositiveInt = 16, draws: PositiveInt = 20) -> None:
        self.size, self.channels, self.draws = size, channels, draws

    def __call__(self, trained: Trained) -> Values:
        """Return ``checkerboard`` and ``uneven_overlap`` of each layer."""
        torch.manual_seed(trained.seed)
        shares: dict[str, list[float]] = {}
        for _ in range(self.draws):
            smooth = torch.randn(1, self.channels, 4, 4)
            picture = functional.interpolate(smooth, size=(self.size,) * 2, mode="bicubic", align_corners=False)
            for name, layer in up_sampling_layers(self.channels).items():
                with torch.no_grad():
                    shares.setdefault(name, []).append(high_frequency_share(layer(picture)[0, 0]))
        overlaps = {name: uneven_overlap(layer) for name, layer in up_sampling_layers(1).items()}
        return {
            name: {"checkerboard": float(np.mean(found)), "uneven_overlap": overlaps[name]}
            for name, found in shares.items()
        }


def up_sampling_layers(channels: int) -> dict[str, nn.Module]:
    """Build layers that double the size of an image, by name, with random weights."""
    return {
        "transposed, kernel 2": nn.ConvTranspose2d(channels, 1, 2, 2, bias=False),
        "transposed, kernel 3": nn.ConvTranspose2d(channels, 1, 3, 2, 1, output_padding=1, bias=False),
        "transposed, kernel 4": nn.ConvTranspose2d(channels, 1, 4, 2, 1, bias=False),
        "linear, then kernel 3": nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(channels, 1, 3, padding=1, padding_mode="replicate", bias=False),
        ),
    }


def high_frequency_share(picture: Tensor) -> float:
    """Compute the fraction of the energy of an image ``(H, W)`` at frequencies of at least 0.475 cycles per voxel.

    The mean and a border of 4 voxels are left out.

    >>> board = (torch.arange(16)[:, None] + torch.arange(16)) % 2
    >>> round(high_frequency_share(board.float()), 6)
    1.0
    """
    inner = picture[4:-4, 4:-4].double()
    energy = torch.fft.fft2(inner - inner.mean()).abs() ** 2
    cycles = [torch.fft.fftfreq(n, dtype=torch.float64).abs() for n in inner.shape]
    highest = (cycles[0][:, None] >= 0.475) | (cycles[1] >= 0.475)
    return float(energy[highest].sum() / energy.sum())


def uneven_overlap(layer: nn.Module) -> float:
    """Compute the ratio of the largest to the smallest output of a layer with weights of 1 on an image of ones.

    It is 1 where every output voxel is a sum over the same number of inputs.

    >>> [round(uneven_overlap(layer), 3) for layer in up_sampling_layers(1).values()]
    [1.0, 4.0, 1.0, 1.0]
    """
    for parameter in layer.parameters():
        nn.init.ones_(parameter)
    with torch.no_grad():
        summed = layer(torch.ones(1, 1, 8, 8))[0, 0, 4:-4, 4:-4]
    return float(summed.max() / summed.min())
