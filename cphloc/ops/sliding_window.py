"""Predict a large image window by window, and blend the windows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from cphloc.ops.layers import fit


def steps(size: int, patch: int, overlap: float) -> list[int]:
    """First voxels of the windows along one axis: evenly spread, at most ``patch * (1 - overlap)`` apart.

    The last window ends at the image's edge, so no window reaches outside.
    Reference: Isensee et al. 2021, nnU-Net, doi 10.1038/s41592-020-01008-z.

    >>> steps(110, 64, 0.5), steps(512, 192, 0.5)
    ([0, 23, 46], [0, 80, 160, 240, 320])
    """
    if size <= patch:
        return [0]
    stride = max(patch * (1 - overlap), 1)
    count = int(-(-(size - patch) // stride)) + 1
    return [round(i * (size - patch) / (count - 1)) for i in range(count)]


def gaussian_weight(patch: tuple[int, ...]) -> Tensor:
    """Trust in each voxel of a window, ``(*patch)`` in (0, 1]: a Gaussian of sigma = patch / 8 around its centre.

    Zeros are raised to the smallest positive value, so that every voxel counts somewhere.
    """
    weight = torch.ones(())
    for axis, n in enumerate(patch):
        along = torch.exp(-0.5 * ((torch.arange(n) - n // 2) / (n / 8)) ** 2)
        weight = weight * along.reshape([-1 if a == axis else 1 for a in range(len(patch))])
    weight = (weight / weight.max()).float()
    return weight.clamp(min=weight[weight > 0].min())


def corners(size: tuple[int, ...], patch: tuple[int, ...], overlap: float) -> list[tuple[int, ...]]:
    """First voxel of every window over an image of ``size``; see `steps`."""
    return list(product(*map(steps, size, patch, [overlap] * len(patch))))


class Blend:
    """Gaussian-weighted mean of overlapping windows, accumulated in place.

    Args:
        size: ``(*S)`` of the whole image, at least ``patch`` on every axis.
        patch: window size per axis.
    """

    def __init__(self, size: tuple[int, ...], patch: tuple[int, ...]) -> None:
        self.size = size
        self.patch = patch
        self.weight = gaussian_weight(patch)
        self.total: Tensor | None = None
        self.seen = torch.zeros(size)

    def add(self, corner: tuple[int, ...], values: Tensor) -> None:
        """Add a window's ``(K, *patch)`` values at ``corner``."""
        if self.total is None:
            self.weight = self.weight.to(values.device)
            self.seen = self.seen.to(values.device)
            self.total = torch.zeros(values.shape[0], *self.size, device=values.device)
        window = tuple(slice(c, c + p) for c, p in zip(corner, self.patch, strict=True))
        self.total[(slice(None), *window)] += values.float() * self.weight
        self.seen[window] += self.weight

    def mean(self) -> Tensor:
        """``(K, *size)`` float32; every voxel must have been covered."""
        return self.total.div_(self.seen)


@torch.inference_mode()
def sliding_window(
    predict: Callable[[Tensor], Tensor], image: Tensor, patch: tuple[int, ...], overlap: float = 0.5
) -> Tensor:
    """Gaussian-weighted mean of ``predict`` over overlapping windows.

    Args:
        predict: ``(1, C, *patch)`` to ``(1, K, *patch)``.
        image: ``(1, C, *S)``; an axis shorter than the patch is edge-padded, and cropped again afterwards.
        patch: window size per axis.
        overlap: share of a window that its neighbour covers too, in [0, 1).

    Returns:
        ``(1, K, *S)`` float32 on the device of ``image``.

    >>> x = torch.rand(1, 1, 20, 30)
    >>> torch.allclose(sliding_window(lambda w: w, x, (8, 8)), x, atol=1e-5)
    True
    """
    size = tuple(image.shape[2:])
    image = fit(image, [max(n, p) for n, p in zip(size, patch, strict=True)])
    blend = Blend(tuple(image.shape[2:]), tuple(patch))
    for corner in corners(blend.size, blend.patch, overlap):
        window = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
        blend.add(corner, predict(image[(..., *window)])[0])
    return fit(blend.mean()[None], size)
