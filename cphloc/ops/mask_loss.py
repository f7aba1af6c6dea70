"""Parts that mask losses share: overlap, mean, restriction to the cases with a mask, and deep supervision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cphloc.ops.layers import carries_graph
from cphloc.ops.partial_labels import marginalized
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import IGNORE
from cphloc.structures.levels import Levels

LEAST_SMOOTH = 1e-7
"""Lower bound of the smoothing constant of overlap losses: below it the gradient of an absent class can overflow."""


def overlap_loss(overlap: Tensor, total: Tensor, smooth: float) -> Tensor:
    """``1 - (overlap + smooth) / (total + smooth)``, which is 0 where both are 0.

    Args:
        overlap: any shape, from 0 to ``total``.
        total: of the same shape.
        smooth: smoothing constant; at least `LEAST_SMOOTH` is used.

    >>> import torch
    >>> overlap_loss(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 4.0]), smooth=0)
    tensor([0.0000, 0.7500])
    """
    smooth = max(smooth, LEAST_SMOOTH)
    return 1 - (overlap + smooth) / (total + smooth)


def mean(losses: Tensor) -> Tensor:
    """Average any number of losses; the mean of none is a 0 with zero gradients."""
    return losses.sum() / max(1, losses.numel())


def mask_loss(
    criterion: nn.Module,
    outputs: Tensor | Sequence[Tensor],
    targets: Targets,
    weights: Sequence[float] = (1.0,),
    levels: Levels = (),
) -> Tensor:
    """Compute the loss of logits over the cases with a mask; without any, 0.

    Classes that were not looked for in a case are merged with the background, see `cphloc.ops.partial_labels`.

    Args:
        criterion: a loss that takes masks.
        outputs: logits ``(N, K + 1, *S)``; with deep supervision first these, then one tensor per coarser output.
        targets: annotations of the batch.
        weights: weight of each output, see `deep_supervision_weights`.
        levels: level of each output after the first, whose grid the masks are resampled to.
    """
    maps = (outputs,) if isinstance(outputs, Tensor) else outputs
    rows = targets.has_mask
    if not rows.any():
        return carries_graph(*maps)
    masks, known = targets.masks[rows], targets.mask_known[rows]
    strides = ((1,) * (masks.dim() - 1), *(level.stride for level in levels))
    losses = [
        weight * criterion(marginalized(logits[rows], known), _at_stride(masks, stride, logits.shape[2:]))
        for weight, logits, stride in zip(weights, maps, strides, strict=False)
    ]
    return torch.stack(losses).sum()


def deep_supervision_weights(count: int) -> tuple[float, ...]:
    """Return weights 1, 1/2, 1/4, ... that sum to 1, as nnU-Net; the coarsest of several outputs has none.

    >>> [round(15 * w) for w in deep_supervision_weights(5)]
    [8, 4, 2, 1]
    """
    weights = [0.5**i for i in range(max(count - 1, 1))]
    return tuple(w / sum(weights) for w in weights)


def _at_stride(masks: Tensor, stride: tuple[int, ...], size: Sequence[int]) -> Tensor:
    """Resample class masks ``(N, *S)`` to a grid of ``size`` cells of ``stride``, nearest neighbour."""
    missing = [n * s - m for m, s, n in zip(masks.shape[1:], stride, size, strict=True)]
    masks = functional.pad(masks, [p for m in reversed(missing) for p in (0, m)], value=IGNORE)
    return masks[(slice(None), *(slice(s // 2, None, s) for s in stride))]
