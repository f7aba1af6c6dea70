"""Place sliding windows over a large image and blend their predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor


def steps(size: int, patch: int, overlap: float) -> list[int]:
    """Return the first voxel of each window along one axis: evenly spaced, at most ``patch * (1 - overlap)`` apart.

    The last window ends at the image's edge; no window reaches outside.
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
    """Return the weight of each voxel of a window, ``(*patch)`` in (0, 1]: a Gaussian of sigma = patch / 8.

    Zeros are replaced by the smallest positive value, so that every voxel has a weight.
    """
    weight = torch.ones(())
    for axis, n in enumerate(patch):
        along = torch.exp(-0.5 * ((torch.arange(n) - n // 2) / (n / 8)) ** 2)
        weight = weight * along.reshape([-1 if a == axis else 1 for a in range(len(patch))])
    weight = (weight / weight.max()).float()
    return weight.clamp(min=weight[weight > 0].min())


class Layout(NamedTuple):
    """Where windows begin along one axis (see `steps`), and the weight of their voxels (see `gaussian_weight`)."""

    steps: Callable[[int, int, float], list[int]] = steps
    weight: Callable[[tuple[int, ...]], Tensor] = gaussian_weight


EVEN = Layout()
"""Windows as nnU-Net places and weights them."""


def regular_steps(size: int, patch: int, overlap: float) -> list[int]:
    """Return the first voxel of each window along one axis as MONAI places them: equally far apart but for the last.

    >>> regular_steps(110, 64, 0.5)
    [0, 32, 46]
    """
    interval = patch if size <= patch else max(int(patch * (1 - overlap)), 1)
    count = max(-(-(size - patch) // interval), 0) + 1
    return [min(i * interval, max(size - patch, 0)) for i in range(count)]


def regular_layout(weight: Literal["constant", "gaussian"]) -> Layout:
    """Return the windows of MONAI's ``SlidingWindowInferer``, with its weights of that ``mode``."""
    return Layout(regular_steps, torch.ones if weight == "constant" else _centred_weight)


def _centred_weight(patch: tuple[int, ...]) -> Tensor:
    """Gaussian of sigma = patch / 8 around the middle of the window, at least 0.001."""
    weight = torch.ones(())
    for n in patch:
        weight = weight[..., None] * torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (n / 8)) ** 2)
    return weight.clamp(min=max(float(weight.min()), 1e-3))


def corners(
    size: tuple[int, ...], patch: tuple[int, ...], overlap: float, layout: Layout = EVEN
) -> list[tuple[int, ...]]:
    """Return the first voxel of every window over an image of ``size``, the last axis fastest; see `steps`."""
    return list(product(*map(layout.steps, size, patch, [overlap] * len(patch))))


class Blend:
    """Gaussian-weighted mean of overlapping windows, accumulated in place and returned row by row.

    Windows are added in the order of their first row (index of the first axis), as `corners` lists them, so the rows
    before the next window are final. Only ``patch[0]`` rows are in memory, however many the image has: ``(K + 1) *
    patch[0] * prod(size[1:])`` numbers of 4 bytes.

    Args:
        channels: K.
        size: ``(*S)`` of the whole image, at least ``patch`` on every axis.
        patch: window size per axis.
        device: device of the values.
        layout: weights of the voxels of a window.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, ...],
        patch: tuple[int, ...],
        device: torch.device | None = None,
        layout: Layout = EVEN,
    ) -> None:
        self.patch = patch
        self.first = 0
        self.weight = layout.weight(patch).to(device)
        self.total = torch.zeros(channels, patch[0], *size[1:], device=device)
        self.seen = torch.zeros(patch[0], *size[1:], device=device)

    def add(self, corner: tuple[int, ...], values: Tensor) -> None:
        """Add a window's ``(K, *patch)`` values at ``corner``; rows above it must have been taken with `rows`."""
        window = tuple(slice(c, c + p) for c, p in zip(corner[1:], self.patch[1:], strict=True))
        self.total[(slice(None), slice(None), *window)].addcmul_(values.float(), self.weight)
        self.seen[(slice(None), *window)] += self.weight

    def rows(self, stop: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the rows before ``stop``, to which no further window contributes, and free them.

        Yields:
            the first row, the mean ``(K, rows, *size[1:])``, and whether any window covers each voxel, bool
            ``(rows, *size[1:])``; the mean is 0 elsewhere. Both tensors are reused by the next iteration.
        """
        while self.first < stop:
            n = min(stop - self.first, self.patch[0])
            seen = self.seen[:n]
            yield self.first, self.total[:, :n].div_(torch.where(seen > 0, seen, 1.0)), seen > 0
            for row in range(self.patch[0] - n):
                self.total[:, row] = self.total[:, row + n]
                self.seen[row] = self.seen[row + n]
            self.total[:, self.patch[0] - n :] = 0
            self.seen[self.patch[0] - n :] = 0
            self.first += n
