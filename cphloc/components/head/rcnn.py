"""R-CNN: crop every proposed region, resize it and classify it with a convolutional network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from cphloc.components.loss.smooth_l1 import SmoothL1
from cphloc.components.suppression.nms import NMS
from cphloc.config.argument_types import (
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    UnitInterval,
    Widths,
)
from cphloc.ops.boxes import from_centre_size, to_centre_size
from cphloc.ops.detections import Suppression
from cphloc.ops.layers import ConvBlock, initialize
from cphloc.ops.region_head import RegionHead
from cphloc.ops.roi_align import roi_align
from cphloc.structures.levels import Levels


class RCNN(RegionHead):
    """Classify proposed regions and refine their boxes, processing each region separately.

    Regions are cropped from the finest level; with the ``identity`` backbone that is the image itself, as in the paper.
    Unlike the paper, classes are predicted by a softmax instead of support vector machines, and box regression is
    trained jointly. Proposals are as in ``fast_rcnn``. Slow, because regions share no computation.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built; the finest is used.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        proposal_sizes: sizes of sliding windows in voxels, one number per axis each; default 4 cells per level.
        proposal_overlap: fraction of its length by which a sliding window at least overlaps the next.
        crop: size to which regions are resized, in cells per axis.
        context: margin in voxels that is added around a region before it is cropped.
        widths: channels of the convolutions of the region network, each of which halves the resolution.
        box_loss: box regression loss; default ``smooth_l1``.
        box_weight: weight of the box loss.
        samples: regions sampled per image for the loss.
        positive_fraction: largest fraction of positive regions among them.
        fg_iou: regions whose IoU with an object is at least this value are positive.
        box_iou: positive regions whose IoU with their object is at least this value also train the box regression.
        suppression: resolves duplicate boxes of one object.

    Reference: Girshick et al. 2014, arXiv:1311.2524.

    >>> import torch
    >>> from cphloc.structures.levels import Level
    >>> head = RCNN((Level(1, (1, 1)),), classes=["cell"], proposal_sizes=[[8, 8]], widths=[4])
    >>> len(head.decode(head((torch.zeros(1, 1, 16, 16),))).detections)
    1
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        proposal_sizes: Sequence[Sequence[PositiveFloat]] | None = None,
        proposal_overlap: FractionBelowOne = 0.67,
        crop: PositiveInt = 32,
        context: NonNegativeInt = 4,
        widths: Widths = (16, 32, 64),
        box_loss: nn.Module | None = None,
        box_weight: NonNegativeFloat = 1.0,
        samples: PositiveInt = 32,
        positive_fraction: UnitInterval = 0.25,
        fg_iou: UnitInterval = 0.5,
        box_iou: UnitInterval = 0.6,
        suppression: Suppression = NMS(iou=0.3, pre_nms_topk=None),
    ) -> None:
        super().__init__(
            levels,
            classes,
            widths[-1],
            proposal_sizes,
            proposal_overlap,
            box_loss or SmoothL1(),
            box_weight,
            samples,
            positive_fraction,
            fg_iou,
            box_iou,
            suppression,
        )
        self.crop = (crop,) * levels[0].dims
        self.context = context
        self.network = _network(levels[0].channels, widths, levels[0].dims)

    def describe(self, pyramid: tuple[Tensor, ...], boxes: Sequence[Tensor]) -> Tensor:
        """Crop and resize the regions with their context, and average the features of the region network."""
        centres = [to_centre_size(each) for each in boxes]
        wider = [from_centre_size(centre, size + 2 * self.context) for centre, size in centres]
        crops = roi_align(pyramid[0], wider, self.levels[0].stride, self.crop)
        return self.network(crops).flatten(2).mean(dim=2)


def _network(in_channels: int, widths: Sequence[int], dims: int) -> nn.Module:
    block = partial(ConvBlock, stride=2, norm_name="group", activation_name="relu")
    steps = zip([in_channels, *widths[:-1]], widths, strict=True)
    network = nn.Sequential(*(block(i, o, dims) for i, o in steps))
    initialize(network)
    return network
