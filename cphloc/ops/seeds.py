"""Pseudo-masks of cases that have a label alone, from the attention or class activation map of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from cphloc.ops.layers import resize
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import IGNORE


class Seeds(nn.Module):
    """Convert an attention map to a mask of what is surely inside, surely outside, and not annotated in between.

    Only cases whose label names exactly one class and excludes all others, and that have neither mask nor boxes of it,
    get a mask. Where the case has a coarse region, nothing outside of it is inside.

    Args:
        source: head whose attention is used.
        above: share of the largest attention of the image from which a voxel is inside.
        below: share up to which it is outside.
        after: share of the training after which seeds count, because the attention has to be learned first.
        weight: weight of the loss of seeded cases, beside that of cases with a mask.

    Reference: Kolesnikov & Lampert 2016, arXiv:1603.06098, who expand such seeds.
    """

    def __init__(self, source: str, above: float, below: float, after: float, weight: float) -> None:
        super().__init__()
        self.source, self.above, self.below, self.after, self.weight = source, above, below, after, weight
        self.progress = 1.0  # from 0 to 1, set during training by training.optim.set_progress

    @property
    def active(self) -> bool:
        """Whether seeds count yet."""
        return self.progress >= self.after

    @staticmethod
    def cases(targets: Targets) -> Tensor:
        """``(N,)`` bool, cases that get a mask."""
        present = targets.labels == 1
        one = (present.sum(1) == 1) & (present | (targets.labels == 0)).all(1)
        return one & ~(present & (targets.mask_known | targets.boxes_known)).any(1)

    def targets(self, targets: Targets, attention: Tensor, padded: Sequence[int]) -> Targets:
        """Return targets whose masks are the seeds, and that have no mask of any other case.

        Args:
            targets: annotations of the batch.
            attention: ``(N, *S')`` attention on the cells of the padded image.
            padded: size of the padded image in voxels; the targets are of its first voxels along each axis.
        """
        rows = self.cases(targets)
        spread = resize(attention.detach()[:, None].float(), padded)[:, 0]
        spread = spread[(slice(None), *(slice(n) for n in targets.size))]
        top = spread.flatten(1).amax(1).clamp(min=1e-12).view(-1, *(1,) * (spread.dim() - 1))
        share = spread / top
        possible = (targets.regions > 0) | ~targets.has_region.view(top.shape)
        number = (targets.labels == 1).long().argmax(1).view(top.shape) + 1
        masks = torch.full_like(targets.masks, IGNORE)
        masks = torch.where((share <= self.below) | ~possible, 0, masks)
        masks = torch.where((share >= self.above) & possible, number, masks)
        return replace(targets, masks=masks, mask_known=rows[:, None].expand_as(targets.mask_known))
