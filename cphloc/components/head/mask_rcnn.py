"""Mask R-CNN: Faster R-CNN and a mask of every detected object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from cphloc.components.head.faster_rcnn import FasterRCNN, FasterRCNNOutput
from cphloc.components.suppression.nms import NMS
from cphloc.config.argument_types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, UnitInterval
from cphloc.ops.detections import Suppression
from cphloc.ops.instance_masks import class_probabilities, mask_targets
from cphloc.ops.layers import ConvBlock, conv_transpose_type, conv_type, initialize
from cphloc.ops.region_head import RegionOutput
from cphloc.ops.roi_align import pyramid_roi_align
from cphloc.ops.targets import Prediction, Targets
from cphloc.structures.levels import Levels


class MaskRCNN(FasterRCNN):
    """Faster R-CNN whose regions also pass a small fully convolutional network, which outlines the object.

    Objects are learned from cases with boxes, their outlines from those that also have a mask: an object is what has
    its class in the mask inside its box, or its instance where the data tell touching objects apart.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        anchors: anchor sizes in voxels, one list per level of equally many sizes; default RetinaNet's nine.
        proposals: largest number of proposals per image that are passed to the second stage.
        proposal_iou: proposals whose IoU with a higher-scored one exceeds this value are dropped.
        channels: channels of the convolutions of both stages.
        pool: size of the pooled features of a region, in bins per axis.
        width: features of the fully connected layers of the second stage.
        loss: classification loss of the RPN, object or background; default ``bce``.
        box_loss: box regression loss of both stages; default ``smooth_l1``.
        box_weight: weight of both box losses.
        samples: regions sampled per image for the losses of the second stage.
        positive_fraction: largest fraction of positive regions among them.
        suppression: resolves duplicate boxes of one object.
        mask_pool: size of the pooled features for the mask, in bins per axis; the mask has twice as many.
        mask_channels: channels of the convolutions of the mask.
        mask_convolutions: convolutions before the mask is up-sampled.
        mask_weight: weight of the mask loss.

    Reference: He et al. 2017, arXiv:1703.06870.

    >>> from cphloc.structures.levels import Level
    >>> head = MaskRCNN((Level(8, (4, 4)),), classes=["cell"], channels=8, width=8, proposals=4, mask_channels=8).eval()
    >>> found = head.decode(head((torch.zeros(1, 8, 8, 8),)))
    >>> found.detections[0].masks.shape[1:], found.mask_probabilities.shape
    (torch.Size([28, 28]), torch.Size([1, 2, 32, 32]))
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        anchors: Sequence[Sequence[Sequence[PositiveFloat]]] | None = None,
        proposals: PositiveInt = 1000,
        proposal_iou: UnitInterval = 0.7,
        channels: PositiveInt = 256,
        pool: PositiveInt = 7,
        width: PositiveInt = 1024,
        loss: nn.Module | None = None,
        box_loss: nn.Module | None = None,
        box_weight: NonNegativeFloat = 1.0,
        samples: PositiveInt = 512,
        positive_fraction: UnitInterval = 0.25,
        suppression: Suppression = NMS(pre_nms_topk=None),
        mask_pool: PositiveInt = 14,
        mask_channels: PositiveInt = 256,
        mask_convolutions: NonNegativeInt = 4,
        mask_weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(
            levels,
            classes,
            anchors,
            proposals,
            proposal_iou,
            channels,
            pool,
            width,
            loss,
            box_loss,
            box_weight,
            samples,
            positive_fraction,
            suppression,
        )
        dims = levels[0].dims
        self.levels, self.mask_weight, self.mask_pool = levels, mask_weight, (mask_pool,) * dims
        widths = [channels, *[mask_channels] * mask_convolutions]
        self.outline = nn.Sequential(
            *(ConvBlock(a, mask_channels, dims, norm_name="none", activation_name="relu") for a in widths[:-1]),
            conv_transpose_type(dims)(widths[-1], mask_channels, 2, 2),
            nn.ReLU(),
            conv_type(dims)(mask_channels, len(self.classes), 1),
        )
        initialize(self.outline)

    def loss(self, outputs: FasterRCNNOutput, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of Faster R-CNN, and ``mask`` over the positive regions of images with a mask."""
        return {
            **super().loss(outputs, targets),
            "mask": self.mask_weight * self.outline_loss(outputs.regions, targets),
        }

    def outline_loss(self, outputs: RegionOutput, targets: Targets) -> Tensor:
        """Mean cross-entropy of the masks of sampled positive regions; 0 without any."""
        regions: list[Tensor] = []
        numbers, wanted, annotated = [], [], []
        size = [2 * n for n in self.mask_pool]
        for row, proposals in enumerate(outputs.proposals):
            region, number, box, assigned = self.detector.sample(proposals, targets, row)
            kept = (number > 0) & targets.mask_known[row][(number - 1).clamp(min=0)]
            regions.append(region[kept])
            numbers.append(number[kept])
            objects = region[kept], box[kept], number[kept], size
            if targets.instances is None:
                truth, known = mask_targets(targets.masks[row], *objects)
            else:
                of_boxes = targets.box_instances[row][assigned[kept]]
                truth, known = mask_targets(targets.masks[row], *objects, targets.instances[row], of_boxes)
            wanted.append(truth)
            annotated.append(known)
        logits = self._outlines(outputs, regions)
        if not regions:
            return logits.float().sum()
        number, truth, known = torch.cat(numbers), torch.cat(wanted), torch.cat(annotated)
        own = logits[torch.arange(len(logits), device=logits.device), number - 1].float()
        losses = functional.binary_cross_entropy_with_logits(own, truth, known.float(), reduction="sum")
        return losses / known.sum().clamp(min=1)

    def decode(self, outputs: FasterRCNNOutput) -> Prediction:
        """Return the detections of every image with their masks, and the class probabilities of all voxels."""
        found = super().decode(outputs).detections or []
        logits = self._outlines(outputs.regions, [each.boxes for each in found]).float().sigmoid()
        extent = [n * s for n, s in zip(outputs.regions.pyramid[0].shape[2:], self.levels[0].stride, strict=True)]
        detections, probabilities = [], [logits.new_zeros((0, len(self.classes) + 1, *extent))]
        for each, masks in zip(found, logits.split([len(each) for each in found]), strict=True):
            own = masks[torch.arange(len(each), device=masks.device), each.classes - 1]
            detections.append(replace(each, masks=own))
            probabilities.append(class_probabilities(own, each.boxes, each.classes, extent, len(self.classes))[None])
        return Prediction(mask_probabilities=torch.cat(probabilities), detections=detections)

    def second_stage(self, outputs: FasterRCNNOutput) -> None:
        """Run the layers that `decode` runs, to count their operations; works on the meta device."""
        super().second_stage(outputs)
        limit = self.detector.suppression.limit
        self._outlines(outputs.regions, [boxes[:limit] for boxes in outputs.regions.proposals])

    def _outlines(self, outputs: RegionOutput, boxes: Sequence[Tensor]) -> Tensor:
        """Mask logits ``(sum of n, K, *M)`` of boxes ``(n, 2 D)`` per image."""
        (features,) = self.detector.entry(outputs.pyramid)
        return self.outline(pyramid_roi_align(features, self.levels, boxes, self.mask_pool))
