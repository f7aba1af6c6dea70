"""Fast R-CNN: one feature map for all regions, each read from it by RoIAlign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from cphloc.components.loss.smooth_l1 import SmoothL1
from cphloc.components.suppression.nms import NMS
from cphloc.config.argument_types import NonNegativeFloat, PositiveFloat, PositiveInt, UnitInterval
from cphloc.ops.dense_prediction import Towers
from cphloc.ops.detections import Suppression
from cphloc.ops.region_head import RegionHead
from cphloc.ops.roi_align import pyramid_roi_align
from cphloc.structures.levels import Levels


class FastRCNN(RegionHead):
    """Classify regions and correct their boxes, from features pooled out of the pyramid.

    Where proposals come from: whoever calls ``forward(pyramid, proposals)`` may supply them (another detector, blobs, a
    reader's clicks); a model built from a recipe slides boxes of ``proposal_sizes`` over the image. In training the
    true boxes join them.

    Args:
        levels: what the backbone or neck gives (wired); a region is read from the level that suits its size.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        proposal_sizes: sizes of sliding proposals, one number per axis each, in voxels; default 4 cells of each level.
        proposal_overlap: share of its length by which a sliding proposal overlaps the next.
        pool: bins per axis that a region is read on.
        width: of the two fully connected layers.
        channels: feature channels that regions are read from.
        box_loss: takes boxes; default ``smooth_l1``.
        box_weight: weight of the box loss.
        samples: regions per image that a training step looks at.
        positive_fraction: at most this share of them shows an object.
        fg_iou: from this IoU with an object on, a region shows it.
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
        proposal_overlap: UnitInterval = 0.67,
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
        """RoIAlign and two fully connected layers."""
        (features,) = self.entry(pyramid)
        return self.layers(pyramid_roi_align(features, self.levels, boxes, self.size))
