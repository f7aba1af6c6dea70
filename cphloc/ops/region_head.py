"""Second stage of the R-CNN family: classify proposed regions of the image and refine their boxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cphloc.ops.anchors import CELLS_ACROSS
from cphloc.ops.assign import assign_max_iou
from cphloc.ops.boxes import decode, encode, overlap, overlap_matrix, to_centre_size
from cphloc.ops.detections import Suppression, best, joined
from cphloc.ops.partial_labels import marginalized
from cphloc.ops.proposals import sliding_proposals
from cphloc.ops.sampling import balanced
from cphloc.ops.targets import Detections, Prediction, Targets
from cphloc.structures.annotation import class_names
from cphloc.structures.levels import Levels

CHUNK = 1000
"""Regions processed per batch in `RegionHead.decode`, to limit memory."""

DELTA_WEIGHT = (10.0, 5.0)
"""Factors on the regression targets for centre and log size, which give them about unit variance (Girshick 2015)."""


class RegionOutput(NamedTuple):
    """Feature pyramid, and the proposals ``(n, 2 D)`` of each image in image voxels.

    Proposals are classified in `RegionHead.loss` and `RegionHead.decode`, not in ``forward``, because training adds the
    ground-truth boxes to them.
    """

    pyramid: tuple[Tensor, ...]
    proposals: list[Tensor]


class Sample(NamedTuple):
    """Regions of one image for the loss of the second stage, each with what is assigned to it.

    Args:
        regions: ``(n, 2 D)``.
        classes: ``(n,)``, 0: background.
        boxes: ``(n, 2 D)``, ground-truth box; of the background any.
        objects: ``(n,)``, index of the ground-truth box; of the background -1.
    """

    regions: Tensor
    classes: Tensor
    boxes: Tensor
    objects: Tensor


class RegionHead(nn.Module, ABC):
    """Base class of `rcnn` and `fast_rcnn`, which is also the second stage of `faster_rcnn`.

    A subclass implements `describe`, which computes the feature vector of a region. Proposals are passed to `forward`;
    without them, `forward` uses sliding windows of ``proposal_sizes``.

    Args:
        levels: pyramid levels.
        classes: foreground classes.
        features: length of a region's feature vector.
        proposal_sizes: sizes of the sliding windows in voxels, one number per axis each; default 4 cells per level.
        proposal_overlap: fraction of its length by which a sliding window at least overlaps the next, in [0, 1).
        box_loss: box regression loss.
        box_weight: weight of the box loss.
        samples: regions sampled per image for the loss.
        positive_fraction: largest fraction of positive regions among them.
        fg_iou: regions whose IoU with an object is at least this value are positive.
        box_iou: positive regions whose IoU with their object is at least this value also train the box regression.
        suppression: resolves duplicate boxes of one object.
    """

    class_major = ("delta",)
    """Layers whose outputs are ordered class by class; in the others the classes alternate."""

    delta_weight: Tensor

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        features: int,
        proposal_sizes: Sequence[Sequence[float]] | None,
        proposal_overlap: float,
        box_loss: nn.Module,
        box_weight: float,
        samples: int,
        positive_fraction: float,
        fg_iou: float,
        box_iou: float,
        suppression: Suppression,
    ) -> None:
        super().__init__()
        self.classes = class_names(classes)
        self.levels = levels
        self.proposal_sizes = proposal_sizes or [[CELLS_ACROSS * s for s in level.stride] for level in levels]
        self.proposal_overlap = proposal_overlap
        self.box_criterion = box_loss
        self.box_weight = box_weight
        self.samples = samples
        self.positive_fraction = positive_fraction
        self.fg_iou, self.box_iou = fg_iou, box_iou
        self.suppression = suppression
        dims = levels[0].dims
        self.score = nn.Linear(features, len(self.classes) + 1)
        self.delta = nn.Linear(features, len(self.classes) * 2 * dims)
        for layer, spread in ((self.score, 0.01), (self.delta, 0.001)):
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)
        weight = torch.tensor(DELTA_WEIGHT).repeat_interleave(dims)
        self.register_buffer("delta_weight", weight, persistent=False)

    @abstractmethod
    def describe(self, pyramid: tuple[Tensor, ...], boxes: Sequence[Tensor]) -> Tensor:
        """Compute features ``(sum of n, F)`` of the regions, given as boxes ``(n, 2 D)`` per image."""

    def forward(self, pyramid: tuple[Tensor, ...], proposals: Sequence[Tensor] | None = None) -> RegionOutput:
        """Pair the pyramid with proposals ``(n, 2 D)`` per image; sliding windows if ``proposals`` is ``None``."""
        if proposals is None:
            finest = pyramid[0]
            extent = [n * s for n, s in zip(finest.shape[2:], self.levels[0].stride, strict=True)]
            boxes = sliding_proposals(extent, self.proposal_sizes, self.proposal_overlap, finest.device)
            proposals = [boxes] * len(finest)
        return RegionOutput(pyramid, [boxes.detach() for boxes in proposals])

    def loss(self, outputs: RegionOutput, targets: Targets) -> dict[str, Tensor]:
        """Return ``{"class": scalar, "box": scalar}`` over the images with box annotations.

        The ground-truth boxes are added to the proposals.
        """
        regions, classes, boxes = [], [], []
        for row, proposals in enumerate(outputs.proposals):
            chosen = self.sample(proposals, targets, row)
            for column, value in zip((regions, classes, boxes), chosen[:3], strict=True):
                column.append(value)
        features = self.describe(outputs.pyramid, regions)
        none = outputs.pyramid[0].new_zeros((0, 2 * self.levels[0].dims))  # so that an empty batch gives empty tensors
        region, true_box = torch.cat([none, *regions]), torch.cat([none, *boxes])
        true_class = torch.cat([none[:, 0].long(), *classes])
        count = max(1, len(region))
        known = [targets.known_at([row], to_centre_size(r)[0])[0].expand(len(r), -1) for row, r in enumerate(regions)]
        present = functional.one_hot(true_class, len(self.classes) + 1)[:, 1:].bool()
        logits = marginalized(self.score(features).float(), torch.cat([targets.boxes_known[:0], *known]) | present)
        near = (true_class > 0) & (overlap(region, true_box) >= self.box_iou)
        deltas = self.delta(features).unflatten(1, (len(self.classes), -1))[near, true_class[near] - 1]
        return {
            "class": functional.cross_entropy(logits, true_class, reduction="sum") / count,
            "box": self.box_weight * self._box_loss(deltas, region[near], true_box[near]).sum() / count,
        }

    def decode(self, outputs: RegionOutput) -> Prediction:
        """Return the detections of every image; boxes are not clipped to the image."""
        return Prediction(detections=[self._detect(outputs, image) for image in range(len(outputs.proposals))])

    def second_stage(self, outputs: RegionOutput) -> None:
        """Run the layers that `decode` runs, to count their operations; works on the meta device."""
        for image in range(len(outputs.proposals)):
            for _ in self._classified(outputs, image):
                pass

    def _classified(self, outputs: RegionOutput, image: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the proposals of an image, `CHUNK` at a time, with class logits ``(n, K + 1)`` and box deltas."""
        pyramid = tuple(x[image : image + 1] for x in outputs.pyramid)
        for regions in outputs.proposals[image].split(CHUNK):
            features = self.describe(pyramid, [regions])
            yield regions, self.score(features), self.delta(features)

    def sample(self, proposals: Tensor, targets: Targets, row: int) -> Sample:
        """Sample regions of one image for the loss, and assign an object or the background to each."""
        boxes, classes = targets.boxes[row], targets.box_classes[row]
        if not targets.has_boxes[row]:
            return Sample(proposals[:0], classes[:0], proposals[:0], classes[:0])
        regions = torch.cat([proposals, boxes])
        assigned = assign_max_iou(overlap_matrix(regions, boxes), self.fg_iou, self.fg_iou, rescue=False)
        label = torch.where(assigned >= 0, torch.cat([classes, classes.new_zeros(1)])[assigned], 0)
        chosen = balanced(label, self.samples, self.positive_fraction)
        true = torch.cat([boxes, boxes.new_zeros(1, boxes.shape[1])])[assigned[chosen]]
        return Sample(regions[chosen], label[chosen], true, assigned[chosen])

    def _box_loss(self, deltas: Tensor, regions: Tensor, boxes: Tensor) -> Tensor:
        if self.box_criterion.compares == "boxes":
            return self.box_criterion(decode(deltas / self.delta_weight, regions), boxes)
        return self.box_criterion(deltas, encode(boxes, regions) * self.delta_weight)

    def _detect(self, outputs: RegionOutput, image: int) -> Detections:
        candidates = []
        for regions, logits, corrections in self._classified(outputs, image):
            scores = logits.float().softmax(dim=1)[:, 1:]
            at, classes, value = best(scores, self.suppression.score)
            deltas = corrections.unflatten(1, (len(self.classes), -1))[at, classes - 1]
            candidates.append((decode(deltas / self.delta_weight, regions[at]), value, classes))
        boxes, scores, classes = joined(candidates)
        if self.suppression.pre_nms_topk is not None:
            top = scores.argsort(descending=True, stable=True)[: self.suppression.pre_nms_topk]
            boxes, scores, classes = boxes[top], scores[top], classes[top]
        return self.suppression(boxes, scores, classes)
