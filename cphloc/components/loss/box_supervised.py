"""Masks from boxes: Dice and cross-entropy where there is a mask, BoxInst's terms where there are boxes alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cphloc.components.loss.dice_ce import DiceCE
from cphloc.config.argument_types import PositiveFloat, PositiveInt, UnitInterval, Weight
from cphloc.errors import InputError
from cphloc.ops.box_supervision import pairwise_loss, projection_loss, voxels_of
from cphloc.ops.layers import carries_graph
from cphloc.ops.mask_loss import mean
from cphloc.ops.partial_labels import marginalized
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import IGNORE


class BoxSupervised(nn.Module):
    """`DiceCE` of cases with a mask, and projection and pairwise terms of cases that have boxes and no mask.

    A case with boxes alone teaches what they state: nothing lies outside of them, every side of each
    is touched, and neighbouring voxels that look alike have the same class, which holds where objects have an edge.
    A network that has not found the objects yet satisfies the last best with an empty image. So the training begins
    with the boxes as if they were masks, and goes over to these terms linearly during the warm-up. Objects of one class
    are not told apart: for each box, the voxels of other boxes are left out.

    Args:
        dice_weight, ce_weight: of cases with a mask, see `cphloc.components.loss.dice_ce.DiceCE`.
        projection_weight: weight of the projections of each box onto the axes.
        pairwise_weight: weight of the pairs of neighbours.
        similarity: similarity from which two neighbours are expected to have one class.
        scale: difference of intensity at which the similarity is 1/e, in standard deviations of the image inside the
            boxes; those of a whole CT are mostly of air against tissue, and nothing inside a box would be an edge.
        dilation: distance of neighbours in voxels.
        warmup: share of the training during which filled boxes are replaced by the projections and pairs.

    Shapes:
        logits ``(N, K + 1, *S)``, target ``(N, *S)`` int64 with 255 = not annotated, to a scalar in [0, inf).

    Reference: Tian et al. 2021, BoxInst, arXiv:2012.02310; there ``scale`` is 2 in LAB colours of range 100.
    """

    def __init__(
        self,
        dice_weight: Weight = 1.0,
        ce_weight: Weight = 1.0,
        projection_weight: Weight = 1.0,
        pairwise_weight: Weight = 1.0,
        similarity: UnitInterval = 0.3,
        scale: PositiveFloat = 0.5,
        dilation: PositiveInt = 2,
        warmup: UnitInterval = 0.3,
    ) -> None:
        super().__init__()
        self.of_masks = DiceCE(dice_weight, ce_weight)
        self.projection_weight, self.pairwise_weight = projection_weight, pairwise_weight
        self.similarity, self.scale, self.dilation, self.warmup = similarity, scale, dilation, warmup
        self.progress = 1.0  # from 0 to 1, set during training by training.optim.set_progress

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of cases with a mask."""
        return self.of_masks(logits, target)

    def of_boxes(self, logits: Tensor, targets: Targets) -> Tensor:
        """Mean over the classes and cases whose boxes are known and whose mask is not; 0 without any.

        Args:
            logits: ``(N, K + 1, *S)``.
            targets: annotations of the batch, with ``images``.

        Raises:
            InputError: ``targets`` hold no images.
        """
        terms = []
        for row in torch.nonzero(self.box_cases(targets)).flatten().tolist():
            known = targets.boxes_known[row] | targets.mask_known[row]
            scores = marginalized(logits[row : row + 1].float(), known[None])[0]
            for k in torch.nonzero(targets.boxes_known[row] & ~targets.mask_known[row]).flatten().tolist():
                boxes = targets.boxes[row][targets.box_classes[row] == k + 1]
                if len(boxes):
                    terms.append(self._of_class(_against_all(scores, k + 1), boxes, targets, row, k + 1))
        return mean(torch.stack(terms)) if terms else carries_graph(logits)

    @staticmethod
    def box_cases(targets: Targets) -> Tensor:
        """``(N,)`` bool, cases with boxes of a class that is not known in their mask."""
        return (targets.boxes_known & ~targets.mask_known).any(1)

    def _of_class(self, logits: Tensor, boxes: Tensor, targets: Targets, row: int, number: int) -> Tensor:
        """Loss of one class in one case, from logits ``(*S)`` of it against all else."""
        parts = [voxels_of(box, logits.shape) for box in boxes]
        unclear = [voxels_of(box, logits.shape) for box in targets.ignored[row][targets.ignored_classes[row] == number]]
        refined = min(1.0, self.progress / self.warmup) if self.warmup else 1.0
        loss = refined * self.projection_weight * _projections(logits.sigmoid(), parts, unclear)
        if self.pairwise_weight:
            loss = loss + refined * self.pairwise_weight * self._pairs(logits, _any(parts), targets, row)
        if refined == 1:
            return loss
        filled = _any(parts).long().masked_fill(_any([*parts, *unclear]) & ~_any(parts), IGNORE)
        both = torch.stack([torch.zeros_like(logits), logits])
        return loss + (1 - refined) * self.of_masks(both[None], filled[None])

    def _pairs(self, logits: Tensor, inside: Tensor, targets: Targets, row: int) -> Tensor:
        """Loss of neighbours that look alike; ``inside`` ``(*S)`` are the voxels of the boxes."""
        if targets.images is None:
            msg = "box_supervised compares neighbouring voxels of the images; give the targets of a batch its images"
            raise InputError(msg)
        image = targets.images[row].float()
        spread = image[:, inside].std(1, correction=0).clamp(min=1e-6)  # of one voxel: 0
        image = image / spread.view(-1, *(1,) * inside.dim())
        return pairwise_loss(logits, image, inside, self.scale, self.similarity, self.dilation)


def _projections(probability: Tensor, parts: Sequence[Tensor], unclear: Sequence[Tensor]) -> Tensor:
    """Mean of `projection_loss` over the objects, each without the voxels of all other boxes."""
    covered = torch.stack([*parts, *unclear]).sum(0)
    alone = [covered - part.long() == 0 for part in parts]
    seen = [(own, part & own) for own, part in zip(alone, parts, strict=True) if (part & own).any()]
    terms = [projection_loss(probability * own, part) for own, part in seen]
    return mean(torch.stack(terms or [probability.sum() * 0]))


def _any(masks: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(masks)).any(0)


def _against_all(scores: Tensor, number: int) -> Tensor:
    """Logit ``(*S)`` of a class against all others together, of scores ``(K + 1, *S)``."""
    others = torch.cat([scores[:number], scores[number + 1 :]])
    return scores[number] - others.logsumexp(0)
