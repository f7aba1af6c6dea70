from __future__ import annotations

import numpy as np
import pytest
import torch

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
