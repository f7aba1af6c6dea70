"""Boundary loss of masks: predicted voxels weighted by their signed distance from the annotated surface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Gt, Le
from scipy import ndimage
from torch import Tensor, nn

from cphloc.components.loss.dice import Dice
from cphloc.config.argument_types import Weight
from cphloc.ops.layers import one_hot
from cphloc.structures.annotation import IGNORE


class Boundary(nn.Module):
    """dice_weight x soft Dice + boundary_weight x mean of ``phi p``, phi the signed distance, negative inside.

    Alone the boundary term gives little gradient while prediction and truth are far apart, so it is added to Dice.

    Args:
        boundary_weight, dice_weight: weights of the two parts.
        schedule: ``constant``; ``increase``, by which the boundary's weight rises linearly over the training from
            ``boundary_weight`` to 1; or ``rebalance``, by which Dice's falls to 0 meanwhile.
        spacing_mm: voxel size per axis in array order, so that distances are millimetres; default 1, voxels.

    Shapes:
        logits ``(N, K + 1, *S)``, target ``(N, *S)`` int64 with 255 = not annotated, to a scalar, which falls below 0.

    Reference: Kervadec et al. 2019, arXiv:1812.07032.

    >>> logits, target = torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.long)
    >>> round(Boundary()(logits, target).item(), 3)  # nothing annotated: Dice alone
    1.0
    """

    def __init__(
        self,
        boundary_weight: Weight = 0.01,
        dice_weight: Weight = 1.0,
        schedule: Literal["constant", "increase", "rebalance"] = "constant",
        spacing_mm: Sequence[Annotated[float, Gt(0), Le(1e4)]] | None = None,
    ) -> None:
        super().__init__()
        self.boundary_weight = boundary_weight
        self.dice_weight = dice_weight
        self.schedule = schedule
        self.progress = 0.0  # from 0 to 1, set during training by training.optim.set_progress
        self.dice = Dice()
        self.spacing_mm = None if spacing_mm is None else tuple(spacing_mm)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss."""
        truth = one_hot(target, logits.shape[1])[:, 1:]
        annotated = (target != IGNORE).unsqueeze(1)
        distance = signed_distance(truth, self.spacing_mm) * annotated
        voxels = (annotated.sum() * truth.shape[1]).clamp_min(1)
        boundary = (logits.float().softmax(dim=1)[:, 1:] * distance).sum() / voxels
        dice_weight, boundary_weight = self.weights()
        return dice_weight * self.dice(logits, target) + boundary_weight * boundary

    def weights(self) -> tuple[float, float]:
        """Current weights of Dice and of the boundary term, at ``progress``.

        >>> loss = Boundary(boundary_weight=0.0, schedule="rebalance")
        >>> loss.progress = 0.25
        >>> loss.weights()
        (0.75, 0.25)
        """
        if self.schedule == "constant":
            return self.dice_weight, self.boundary_weight
        boundary_weight = self.boundary_weight + (1 - self.boundary_weight) * self.progress
        falls = 1 - self.progress if self.schedule == "rebalance" else 1
        return self.dice_weight * falls, boundary_weight


@torch.no_grad()
def signed_distance(truth: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
    """Distance of each voxel to the nearest voxel on the other side of the surface, negative inside.

    Args:
        truth: ``(N, K, *S)`` of 0 and 1.
        spacing: voxel size per axis, default 1.

    Returns:
        ``(N, K, *S)`` float32; 0 everywhere for a class that is absent, or fills the image, and has no surface.

    >>> signed_distance(torch.tensor([[[0.0, 1.0, 1.0, 0.0, 0.0]]]))
    tensor([[[ 1., -1., -1.,  1.,  2.]]])
    """
    distance = np.zeros(truth.shape, np.float32)
    for index in np.ndindex(*truth.shape[:2]):
        inside = truth[index].cpu().numpy() > 0
        if inside.any() and not inside.all():
            outer, inner = (ndimage.distance_transform_edt(part, sampling=spacing) for part in (~inside, inside))
            distance[index] = np.asarray(outer) - np.asarray(inner)
    return torch.from_numpy(distance).to(truth.device)
