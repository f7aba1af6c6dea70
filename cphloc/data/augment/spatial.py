"""Spatial transforms, which sample a `Warp` to apply while the patch is cropped; see `cphloc.data.augment.warp`."""

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
"""Maximum ratio of the two spacings of a plane for rotations in it (nnU-Net, Isensee 2021)."""


class Affine:
    """Randomly rotate, scale and translate a patch in millimetres, which avoids shearing with anisotropic voxels.

    Args:
        rotate: range of angles in degrees, sampled for each pair of axes. Pairs whose spacings differ by more than a
            factor of 3 are not rotated.
        scale: range of the scaling factor, equal for all axes, sampled log-uniformly; above 1 enlarges objects.
        translate: range of the translation as a fraction of the patch size, sampled for each axis.
        p: probability of applying the transform to a patch.

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
        """Sample a warp for one patch.

        Args:
            rng: random number generator.
            size: size of the patch ``(*S)`` in voxels.
            spacing_mm: voxel size, in array axis order.
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
    """Randomly deform a patch by cubic B-splines on a coarse grid of control points (Rueckert 1999).

    Args:
        spacing: distance between control points in voxels, at least 2.
        sigma: range of the standard deviation of the displacement of control points, in voxels.
        p: probability of applying the transform to a patch.

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
        """Sample a warp for one patch; displacements have the same standard deviation in mm along all axes.

        Args:
            rng: random number generator.
            size: size of the patch ``(*S)`` in voxels.
            spacing_mm: voxel size, in array axis order.
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
    """Flip a patch along each of ``axes`` with probability ``p``.

    The last axis is left-right. In data sets whose classes are specific to a body side, flipping it requires ``swap``.

    Args:
        axes: array axes from 0; negative numbers count from the last; ``None`` means all.
        swap: pairs of class numbers to exchange when the last axis is flipped, such as ``{1: 2}``.
        p: probability of flipping each axis.

    Raises:
        InputError: an axis or a class occurs twice.
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
        """Return the axes to flip as indices ``0..dims - 1``.

        Raises:
            InputError: an axis is out of range for ``dims`` axes.
        """
        return checked_axes("Flip", self.axes, dims)

    def draw(self, rng: np.random.Generator, size: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Draw:
        """Sample the axes to flip; classes are swapped if the last axis is among them.

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


def checked_axes(transform: str, axes: Sequence[int] | None, dims: int) -> tuple[int, ...]:
    """Return ``axes`` as indices ``0..dims - 1``; ``None`` means all.

    Raises:
        InputError: an axis is out of range for ``dims`` axes.
    """
    axes = range(dims) if axes is None else axes
    for axis in axes:
        if not -dims <= axis < dims:
            msg = f"{transform}: axis {axis} does not exist in {dims}-D; choose from 0 to {dims - 1}"
            raise InputError(msg)
    return tuple(a % dims for a in axes)


def _spline_basis(voxels: int, spacing: float) -> np.ndarray:
    """``(voxels, control points)`` float32: cubic B-splines at voxel centres, summing to 1."""
    points = int(np.ceil(voxels / spacing)) + 3
    knots = np.arange(-3, points + 1, dtype=float)
    basis = BSpline.design_matrix((np.arange(voxels) + 0.5) / spacing, knots, 3).toarray()
    return basis.astype(np.float32)
