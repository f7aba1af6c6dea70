"""Fast R-CNN: classify proposed regions from shared features, pooled by RoIAlign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from cphloc.components.loss.smooth_l1 import SmoothL1
from cphloc.components.suppression.nms import NMS
from cphloc.config.argument_types import FractionBelowOne, NonNegativeFloat, PositiveFloat, PositiveInt, UnitInterval
from cphloc.ops.dense_prediction import Towers
from cphloc.ops.detections import Suppression
from cphloc.ops.region_head import RegionHead
from cphloc.ops.roi_align import pyramid_roi_align
from cphloc.structures.levels import Levels


class FastRCNN(RegionHead):
    """Classify proposed regions and refine their boxes, from features pooled from the pyramid.

    Proposals can be passed to ``forward(pyramid, proposals)``, for example from another detector. A model built from a
    recipe uses sliding windows of ``proposal_sizes``. In training the ground-truth boxes are added to them.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built; the level of a region
            depends on its size.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        proposal_sizes: sizes of sliding windows in voxels, one number per axis each; default 4 cells per level.
        proposal_overlap: fraction of its length by which a sliding window at least overlaps the next.
        pool: size of the pooled features of a region, in bins per axis.
        width: features of the two fully connected layers.
        channels: channels of the pooled features.
        box_loss: box regression loss; default ``smooth_l1``.
        box_weight: weight of the box loss.
        samples: regions sampled per image for the loss.
        positive_fraction: largest fraction of positive regions among them.
        fg_iou: regions whose IoU with an object is at least this value are positive.
        suppression: resolves duplicate boxes of one object.

    Reference: Girshick 2015, arXiv:1504.08083; RoIAlign He et al. 2017, arXiv:1703.06870.

    >>> import torch
    >>> from cphloc.structures.levels import Level
    >>> head = FastRCNN((Level(8, (4, 4)),), classes=["cell"], width=8, channels=8)
    >>> head((torch.zeros(1, 8, 8, 8),)).proposals[0].shape[1]
    4
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        proposal_sizes: Sequence[Sequence[PositiveFloat]] | None = None,
        proposal_overlap: FractionBelowOne = 0.67,
        pool: PositiveInt = 7,
        width: PositiveInt = 256,
        channels: PositiveInt = 64,
        box_loss: nn.Module | None = None,
        box_weight: NonNegativeFloat = 1.0,
        samples: PositiveInt = 64,
        positive_fraction: UnitInterval = 0.25,
        fg_iou: UnitInterval = 0.5,
        suppression: Suppression = NMS(pre_nms_topk=None),
    ) -> None:
        super().__init__(
            levels,
            classes,
            width,
            proposal_sizes,
            proposal_overlap,
            box_loss or SmoothL1(),
            box_weight,
            samples,
            positive_fraction,
            fg_iou,
            fg_iou,
            suppression,
        )
        self.size = (pool,) * levels[0].dims
        self.entry = Towers(levels, channels, convolutions=0, branches=1)
        bins = channels * pool ** levels[0].dims
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(bins, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())

    def describe(self, pyramid: tuple[Tensor, ...], boxes: Sequence[Tensor]) -> Tensor:
        """Compute features of the regions by RoIAlign and two fully connected layers."""
        (features,) = self.entry(pyramid)
        return self.layers(pyramid_roi_align(features, self.levels, boxes, self.size))
