"""Terms that teach masks from boxes alone: projections onto the axes, and agreement of similar neighbours.

Tian et al. 2021, BoxInst, arXiv:2012.02310, in any number of dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import torch
from torch import Tensor

from cphloc.ops.boxes import corners

_SMOOTH = 1e-5
"""Constant in the denominator of the Dice of projections."""


def projection_loss(probability: Tensor, inside: Tensor) -> Tensor:
    """Compare the projections of a mask and of its box onto every axis; 0 where all are equal.

    A projection is the maximum over all other axes, so the mask has to touch every side of the box and nothing
    beyond. The terms ``1 - 2 sum(a b) / (sum(a^2) + sum(b^2))`` of all axes are added.

    Args:
        probability: ``(*S)`` of the object.
        inside: ``(*S)`` bool, the voxels of its box.

    >>> inside = torch.zeros(4, 4, dtype=torch.bool)
    >>> inside[1:3, 1:4] = True
    >>> cross = torch.zeros(4, 4)
    >>> cross[1, 1:4] = cross[1:3, 2] = 1
    >>> round(projection_loss(cross, inside).item(), 4), round(projection_loss(cross.T, inside).item(), 4)
    (0.0, 0.4)
    """
    box = inside.to(probability.dtype)
    terms = []
    for axis in range(probability.dim()):
        others = [other for other in range(probability.dim()) if other != axis]
        a, b = (each.amax(others) for each in (probability, box))
        terms.append(1 - 2 * (a * b).sum() / (a.square().sum() + b.square().sum() + _SMOOTH))
    return torch.stack(terms).sum()


def voxels_of(box: Tensor, size: Sequence[int]) -> Tensor:
    """Return the voxels ``(*size)`` bool whose centres lie in a box ``(2 D,)``; at least one per axis inside the image.

    >>> voxels_of(torch.tensor([0.2, 1.6, 0.4, 3.0]), (2, 4)).int().tolist()
    [[0, 0, 1, 0], [0, 0, 0, 0]]
    """
    inside = torch.ones(tuple(size), dtype=torch.bool, device=box.device)
    lo, hi = (corner.tolist() for corner in corners(box))
    for axis, (low, high, n) in enumerate(zip(lo, hi, size, strict=True)):
        first = min(max(round(low), 0), n - 1)
        last = max(min(round(high), n), first + 1)
        along = torch.zeros(n, dtype=torch.bool, device=box.device)
        along[first:last] = True
        inside &= along.view(*(-1 if other == axis else 1 for other in range(len(size))))
    return inside


def pairwise_loss(
    logits: Tensor, image: Tensor, inside: Tensor, scale: float, least: float = 0.3, dilation: int = 2
) -> Tensor:
    """Mean of ``-log P(same label)`` over pairs of near voxels that look alike, at least one of them in a box.

    Neighbours are the voxels one step of ``dilation`` away along any axes. The similarity of two is
    ``exp(-|difference of their intensities| / scale)``, with the Euclidean norm over channels.

    Args:
        logits: ``(*S)``, of the class against all else.
        image: ``(C, *S)`` intensities.
        inside: ``(*S)`` bool, voxels of the boxes.
        scale: difference of intensities at which the similarity is 1/e; BoxInst has 2 in LAB colours of range 100.
        least: similarity from which two voxels are expected to have one label.
        dilation: distance of neighbours in voxels.
    """
    yes, no = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
    total, pairs = logits.sum() * 0, logits.new_zeros(())
    for one, other in _neighbours(logits.shape, dilation):
        difference = (image[(slice(None), *one)] - image[(slice(None), *other)]).square().sum(0).sqrt()
        counted = (torch.exp(-difference / scale) >= least) & (inside[one] | inside[other])
        same = torch.logaddexp(yes[one] + yes[other], no[one] + no[other])
        total = total - (same * counted).sum()
        pairs = pairs + counted.sum()
    return total / pairs.clamp(min=1)


def _neighbours(size: Sequence[int], step: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Slices of an image and of the same image moved by each offset; of opposite offsets only one."""
    for offset in product((0, 1, -1), repeat=len(size)):
        first = next((value for value in offset if value), 0)
        if first <= 0 or any(n <= step for n, value in zip(size, offset, strict=True) if value):
            continue
        pairs = [
            (slice(None, n - step), slice(step, None)) if value > 0 else (slice(step, None), slice(None, n - step))
            for n, value in zip(size, offset, strict=True)
            if value
        ]
        moving = iter(pairs)
        spans = [next(moving) if value else (slice(None), slice(None)) for value in offset]
        yield tuple(one for one, _ in spans), tuple(other for _, other in spans)
