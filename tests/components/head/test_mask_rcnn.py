from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch.testing import assert_close
from torchvision.models.detection import roi_heads
from torchvision.ops.poolers import LevelMapper

from cphloc.components.head import mask_rcnn
from cphloc.components.head.faster_rcnn import FasterRCNNOutput
from cphloc.components.head.mask_rcnn import MaskRCNN
from cphloc.modeling.model import Model
from cphloc.ops.targets import Detections, Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level

SIZES = {2: (24, 22), 3: (8, 16, 14)}


def head_of(dims):
    torch.manual_seed(0)
    small = {"channels": 4, "width": 8, "pool": 2, "samples": 16, "proposals": 8}
    small |= {"mask_pool": 4, "mask_channels": 8, "mask_convolutions": 1, "anchors": [[[8.0] * dims]]}
    return MaskRCNN((Level(2, (2,) * dims),), ["a", "b"], **small)


class Halved(torch.nn.Module):
    """Backbone that shows brightness at stride 2."""

    def __init__(self, dims):
        super().__init__()
        self.levels = (Level(2, (2,) * dims),)

    def forward(self, x):
        pool = {4: torch.nn.functional.avg_pool2d, 5: torch.nn.functional.avg_pool3d}[x.dim()]
        return (pool(torch.cat([x, x.square()], 1), 2),)


def ellipsoids(dims):
    """An object of each class, apart from each other."""
    grid = np.meshgrid(*[np.arange(n) + 0.5 for n in SIZES[dims]], indexing="ij")
    mask = np.zeros(SIZES[dims], np.uint8)
    for number, centre in ((1, 0.28), (2, 0.72)):
        depth = [4.0] * (dims - 2)
        at = [*depth, *(centre * n for n in SIZES[dims][-2:])]
        mask[sum((g - c) ** 2 for g, c in zip(grid, at, strict=True)) < (16 if dims == 2 else 10)] = number
    return mask


@pytest.mark.parametrize("dims", [2, 3])
def test_learns_to_outline_objects_and_pastes_them_where_they_are(dims, monkeypatch):
    """The mask branch alone: its regions in training and its boxes at the end are those of the objects."""
    size, mask = SIZES[dims], ellipsoids(dims)
    targets = Targets.collate([Annotation(mask=mask)], size, classes=2)
    head, image = head_of(dims), torch.from_numpy((mask == 1) - 1.0 * (mask == 2)).float()[None, None]
    model = Model(Halved(dims), None, {"cells": head})
    optimizer = torch.optim.Adam([*head.outline.parameters(), *head.detector.entry.parameters()], 3e-2)
    regions = head.detector(model.backbone(image), [targets.boxes[0]])
    for _ in range(60):
        optimizer.zero_grad()
        head.outline_loss(regions, targets).backward()
        optimizer.step()
    found = Detections(targets.boxes[0], torch.ones(2), targets.box_classes[0])
    monkeypatch.setattr("cphloc.ops.region_head.RegionHead._detect", lambda *_: found)
    with torch.no_grad():
        done = model.eval().decode(model.outputs(image), size)["cells"]
    assert done.mask_probabilities.shape == (1, 3, *size)
    assert done.detections[0].masks.shape == (2, *(8,) * dims)
    guess = done.mask_probabilities.argmax(1)[0].numpy()
    for number in (1, 2):
        one, two = guess == number, mask == number
        assert 2 * (one & two).sum() / (one.sum() + two.sum()) > 0.85


@pytest.mark.parametrize("dims", [2, 3])
def test_outlines_are_learned_only_where_the_mask_is_known(dims):
    """A case with boxes alone gives the mask branch a gradient of exactly zero, and the detector one that is not."""
    size, head = SIZES[dims], head_of(dims)
    model = Model(Halved(dims), None, {"cells": head})
    boxes = Annotation(boxes=np.array([[1.0] * dims + [7.0] * dims]), box_classes=np.array([1]))
    losses = model.loss(model.outputs(torch.randn(1, 1, *size)), Targets.collate([boxes], size, classes=2))
    assert losses["cells/mask"] == 0
    losses["loss"].backward()
    assert not any(p.grad.any() for p in head.outline.parameters())
    assert head.detector.score.weight.grad.any()


def planar(boxes):
    """Last two axes of boxes as torchvision states them, x before y."""
    low, high = boxes.chunk(2, dim=1)
    return torch.cat([low[:, -2:].flip(1), high[:, -2:].flip(1)], dim=1)


def test_masks_are_computed_from_the_features_that_torchvision_reads(monkeypatch):
    """Its rule for the level of a box, and its RoIAlign with two samples per bin and axis."""
    torch.manual_seed(0)
    settings = {"channels": 4, "width": 8, "mask_channels": 8, "mask_pool": 5, "mask_convolutions": 1}
    head = MaskRCNN((Level(3, (4, 4)), Level(3, (8, 8))), ["a", "b"], **settings)
    pyramid, low = (torch.randn(1, 3, 60, 70), torch.randn(1, 3, 30, 35)), torch.rand(40, 2) * 150 - 10
    boxes = torch.cat([low, low + torch.rand(40, 2) * 180 + 20], dim=1)
    given = Detections(boxes, torch.ones(40), torch.randint(1, 3, (40,)))
    monkeypatch.setattr("cphloc.ops.region_head.RegionHead._detect", lambda *_: given)
    with torch.no_grad():
        (found,) = head.decode(FasterRCNNOutput(None, head.detector(pyramid, [boxes]))).detections
        corners, (maps,) = planar(boxes), head.detector.entry(pyramid)
        level = LevelMapper(2, 3)([corners])
        assert level.unique().tolist() == [0, 1]
        read = [
            torchvision.ops.roi_align(x, [corners], 5, 1 / step, 2, aligned=True)
            for x, step in zip(maps, (4, 8), strict=True)
        ]
        logits = head.outline(torch.where((level == 0).view(-1, 1, 1, 1), *read))
    assert_close(found.masks, logits[torch.arange(40), given.classes - 1].sigmoid())


def touching_objects(dims, on_voxels):
    """Two speckled objects of one class whose boxes overlap and a third of another class; the same in every slice."""
    size, draw = (*[14] * (dims - 2), 40, 44), np.random.default_rng(0)
    mask, instances = np.zeros(size, np.uint8), np.zeros(size, np.int32)
    corners = [(3, 4, 17, 18), (9, 12, 23, 26), (22, 25, 36, 39)]
    for number, name, (top, left, bottom, right) in zip((5, 9, 2), (1, 1, 2), corners, strict=True):
        part = (..., slice(top, bottom), slice(left, right))
        at = draw.random((bottom - top, right - left)) < 0.7
        mask[part], instances[part] = np.where(at, name, mask[part]), np.where(at, number, instances[part])
    front, back = [0] * (dims - 2), [14] * (dims - 2)
    boxes = np.array([[*front, *box[:2], *back, *box[2:]] for box in corners], np.float32)
    if not on_voxels:  # no cell is halfway between voxels, where rounding errors would decide
        boxes[:, dims - 2 : dims] += 0.137
        boxes[:, -2:] -= (1.211, 0.531)
    numbers = {"instances": instances, "box_instances": np.array([5, 9, 2])}
    return Annotation(mask=mask, boxes=boxes, box_classes=np.array([1, 1, 2]), **numbers), size


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("regions", ["on the voxels", "anywhere"])
def test_the_mask_loss_is_that_of_torchvision_for_targets_rounded_to_0_or_1(dims, regions, monkeypatch):
    """One sample per cell, as torchvision takes in a region of up to 14 voxels, which counts from voxel centres.

    Torchvision keeps the interpolated target, which here is rounded as in detectron2; on the voxels both are the same.
    """
    torch.manual_seed(0)
    exact = regions == "on the voxels"
    case, size = touching_objects(dims, on_voxels=exact)
    targets = Targets.collate([case, case], size, classes=2)
    head = MaskRCNN((Level(2, (2,) * dims),), ["a", "b"], channels=4, width=8, mask_pool=7, mask_channels=8)
    head.detector.samples, head.detector.positive_fraction = 100, 1.0
    shift = torch.randint(-2, 3, (2, 12, dims)).float() if exact else torch.rand(2, 12, dims) * 2 - 1
    shift[..., : dims - 2] = 0
    proposals = [boxes.repeat(4, 1) + move.repeat(1, 2) for boxes, move in zip(targets.boxes, shift, strict=True)]
    pyramid, read, found = (torch.randn(2, 2, *(n // 2 for n in size)),), mask_rcnn.pyramid_roi_align, []

    def reading(maps, levels, boxes, bins):
        found[:] = boxes, read(maps, levels, boxes, bins)
        return found[1]

    monkeypatch.setattr(mask_rcnn, "pyramid_roi_align", reading)
    outlines = head.detector(pyramid, proposals)
    loss = head.outline_loss(outlines, targets)
    slices = 14 if dims == 3 else 1
    boxes = [planar(x) - 0.5 for x in found[0]]
    assert sum(map(len, boxes)) == 2 * (12 + 3)
    best = [
        torchvision.ops.box_iou(x, planar(true) - 0.5).argmax(1) for x, true in zip(boxes, targets.boxes, strict=True)
    ]
    boxes, best = ([x.repeat_interleave(slices, 0) for x in each] for each in (boxes, best))
    logits = head.outline(found[1]).view(sum(map(len, found[0])), 2, slices, 14, 14).transpose(1, 2).flatten(0, 1)
    plane = torch.from_numpy(case.instances).view(-1, 40, 44)[0]
    masks, classes = [torch.stack([plane == number for number in (5, 9, 2)])] * 2, [torch.tensor([0, 0, 1])] * 2
    expected = roi_heads.maskrcnn_loss(logits, boxes, masks, classes, best)
    soft = torch.cat(
        [roi_heads.project_masks_on_boxes(m, x, i, 14) for m, x, i in zip(masks, boxes, best, strict=True)]
    )
    own = logits[torch.arange(len(logits)), torch.cat([c[i] for c, i in zip(classes, best, strict=True)])]
    rounding = ((soft - (soft >= 0.5).float()) * own).mean()
    assert (rounding == 0) == exact
    assert_close(loss, expected + rounding)
