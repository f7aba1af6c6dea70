"""Spatial transforms. Each draws a `Warp`, which is applied while the patch is cut; see `cphloc.data.augment.warp`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.interpolate import BSpline

from cphloc.config.argument_types import PositiveFloat, UnitInterval
from cphloc.data.augment.transform import Draw
from cphloc.data.augment.warp import Warp
from cphloc.errors import InputError

THICK_SLICES = 3.0
"""Largest ratio of spacings at which an image is rotated in a plane (nnU-Net, Isensee 2021)."""


class Affine:
    """Rotate, scale and shift a patch, in millimetres, so that anisotropic voxels are not sheared.

    Args:
        rotate: range of angles in degrees, drawn for each plane of rotation. Planes that leave the slices are skipped
            where voxels are more than 3 times as thick as wide.
        scale: range of factors, the same for all axes, drawn log-uniformly; objects grow above 1.
        translate: range of shifts as a fraction of the patch size, drawn for each axis.
        p: probability that it is applied to a patch.

    Raises:
        InputError: a range whose end is below its start, or a scale that is not positive.
    """

    def __init__(
        self,
        rotate: tuple[float, float] = (-15.0, 15.0),
        scale: tuple[float, float] = (0.85, 1.2),
        translate: tuple[float, float] = (0.0, 0.0),
        p: UnitInterval = 0.5,
    ) -> None:
        self.rotate = checked_range("Affine", "rotate", rotate)
        self.scale = checked_range("Affine", "scale", scale, above=0.0)
        self.translate = checked_range("Affine", "translate", translate)
        self.p = p

    def draw(self, rng: np.random.Generator, size: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Draw:
        """Draw a warp for one patch.

        Args:
            rng: source of randomness.
            size: voxels of the patch.
            spacing_mm: voxel size, array order.
        """
        dims, spacing = len(size), np.asarray(spacing_mm, float)
        rotation = np.eye(dims)
        for a, b in itertools.combinations(range(dims), 2):
            angle = np.deg2rad(rng.uniform(*self.rotate))
            if max(spacing[a], spacing[b]) > THICK_SLICES * min(spacing[a], spacing[b]):
                continue
            turn = np.eye(dims)
            turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
            rotation = rotation @ turn
        scale = np.exp(rng.uniform(*np.log(self.scale)))
        shift = rng.uniform(*self.translate, size=dims) * size
        return Draw(Warp(rotation * spacing / spacing[:, None] / scale, tuple(shift)))


class Elastic:
    """Deform a patch smoothly: cubic B-splines on a coarse grid of control points (Rueckert 1999).

    Args:
        spacing: voxels between control points, at least 2.
        sigma: range of the standard deviation of a control point's displacement, in voxels.
        p: probability that it is applied to a patch.

    Raises:
        InputError: ``spacing`` below 2, or a range that is negative or whose end is below its start.
    """

    def __init__(
        self, spacing: PositiveFloat = 16.0, sigma: tuple[float, float] = (0.0, 3.0), p: UnitInterval = 0.5
    ) -> None:
        if spacing < 2:
            msg = f"Elastic: spacing must be at least 2 voxels, got {spacing}"
            raise InputError(msg)
        self.spacing = spacing
        self.sigma = checked_range("Elastic", "sigma", sigma, above=-1e-9)
        self.p = p

    def draw(self, rng: np.random.Generator, size: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Draw:
        """Draw a warp for one patch; displacements have the same size in mm along all axes.

        Args:
            rng: source of randomness.
            size: voxels of the patch.
            spacing_mm: voxel size, array order.
        """
        dims = len(size)
        bases = [_spline_basis(n, self.spacing) for n in size]
        strength = rng.uniform(*self.sigma) * min(spacing_mm) / np.asarray(spacing_mm)
        field = rng.standard_normal((dims, *(b.shape[1] for b in bases)), dtype=np.float32)
        field *= strength.astype(np.float32).reshape(-1, *(1,) * dims)
        for axis, basis in enumerate(bases, start=1):
            field = np.moveaxis(np.tensordot(basis, field, axes=(1, axis)), 0, axis)
        return Draw(Warp(np.eye(dims), (0.0,) * dims, np.ascontiguousarray(field)))


class Flip:
    """Mirror a patch along axes, each with probability ``p``.

    The last axis is left-right. Where classes name a side of the body, mirroring it would turn a left finding into a
    right one; this is an error unless ``swap`` says which classes are exchanged.

    Args:
        axes: array axes from 0; negative numbers count from the last; ``None`` means all.
        swap: class numbers that are exchanged when left and right are, such as ``{1: 2}``.
        p: probability for each axis.

    Raises:
        InputError: an axis or a class is named twice.
    """

    def __init__(
        self, axes: Sequence[int] | None = None, swap: Mapping[int, int] | None = None, p: UnitInterval = 0.5
    ) -> None:
        self.axes = None if axes is None else tuple(axes)
        if self.axes is not None and len(set(self.axes)) != len(self.axes):
            msg = f"Flip: axes must be distinct, got {list(self.axes)}"
            raise InputError(msg)
        pairs = dict(swap or {})
        if set(pairs) & set(pairs.values()) or len(set(pairs.values())) != len(pairs):
            msg = f"Flip: swap must name each class once, as in {{1: 2}}, got {pairs}"
            raise InputError(msg)
        self.swap = {**pairs, **{b: a for a, b in pairs.items()}}
        self.p = p

    def axes_of(self, dims: int) -> tuple[int, ...]:
        """The axes ``0..dims - 1`` that may be mirrored.

        Raises:
            InputError: an axis that an image of ``dims`` axes does not have.
        """
        axes = range(dims) if self.axes is None else self.axes
        for axis in axes:
            if not -dims <= axis < dims:
                msg = f"Flip: axis {axis} does not exist in {dims}-D; choose from 0 to {dims - 1}"
                raise InputError(msg)
        return tuple(a % dims for a in axes)

    def draw(self, rng: np.random.Generator, size: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Draw:
        """Draw which axes are mirrored, and the exchange of classes where the last axis is.

        Args:
            rng: source of randomness.
            size: voxels of the patch.
            spacing_mm: voxel size; not used.
        """
        dims = len(size)
        signs = np.ones(dims)
        for axis in self.axes_of(dims):
            signs[axis] = -1.0 if rng.random() < self.p else 1.0
        return Draw(Warp(np.diag(signs), (0.0,) * dims), self.swap if self.swap and signs[-1] < 0 else None)


def checked_range(transform: str, argument: str, value: Sequence[float], above: float = -np.inf) -> tuple[float, float]:
    """Check that ``value`` is a pair ``(low, high)`` with ``above < low <= high``.

    Args:
        transform: name of the transform, for the message.
        argument: name of the argument, for the message.
        value: what was given.
        above: bound that both must exceed.

    Raises:
        InputError: it is not such a pair.
    """
    if len(value) != 2 or not above < value[0] <= value[1] < np.inf:
        limit = f" above {above:g}" if above > -1e-6 else ""
        msg = f"{transform}: {argument} must be [low, high]{limit}, got {list(value)}"
        raise InputError(msg)
    return float(value[0]), float(value[1])


def _spline_basis(voxels: int, spacing: float) -> np.ndarray:
    """``(voxels, control points)`` float32: cubic B-splines at voxel centres, summing to 1."""
    points = int(np.ceil(voxels / spacing)) + 3
    knots = np.arange(-3, points + 1, dtype=float)
    basis = BSpline.design_matrix((np.arange(voxels) + 0.5) / spacing, knots, 3).toarray()
    return basis.astype(np.float32)
