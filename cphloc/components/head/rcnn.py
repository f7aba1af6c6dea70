"""R-CNN: cut every region out, warp it to one size, and send it through a network of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from cphloc.components.loss.smooth_l1 import SmoothL1
from cphloc.components.suppression.nms import NMS
from cphloc.config.argument_types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, UnitInterval
from cphloc.ops.boxes import from_centre_size, to_centre_size
from cphloc.ops.detections import Suppression
from cphloc.ops.layers import ConvBlock, initialize
from cphloc.ops.region_head import RegionHead
from cphloc.ops.roi_align import roi_align
from cphloc.structures.levels import Levels


class RCNN(RegionHead):
    """Classify regions and correct their boxes, each region seen by itself.

    The regions are cut from the finest level; behind the ``identity`` backbone that is the image itself, as in the
    paper. Scores are a softmax rather than the paper's support vector machines, and the box regressors are trained
    along with it. Proposals come as in ``fast_rcnn``. No feature is shared between regions, so this is slow.

    Args:
        levels: what the backbone or neck gives (wired); the finest is cut.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        proposal_sizes: sizes of sliding proposals, one number per axis each, in voxels; default 4 cells of each level.
        proposal_overlap: share of its length by which a sliding proposal overlaps the next.
        crop: cells per axis that a region is warped to.
        context: voxels around a region that are seen with it.
        widths: channels of the region network; each step halves the resolution.
        box_loss: takes boxes; default ``smooth_l1``.
        box_weight: weight of the box loss.
        samples: regions per image that a training step looks at.
        positive_fraction: at most this share of them shows an object.
        fg_iou: from this IoU with an object on, a region shows it.
        box_iou: from this IoU with an object on, a region's box is corrected towards it.
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
        proposal_overlap: UnitInterval = 0.67,
        crop: PositiveInt = 32,
        context: NonNegativeInt = 4,
        widths: Sequence[PositiveInt] = (16, 32, 64),
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
        """Crop with context, warp, convolve, average."""
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
