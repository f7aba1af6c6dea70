from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cphloc.components.head.yolox import YOLOX, YOLOXOutput
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level


@pytest.mark.parametrize("dims", [2, 3])
def test_perfect_predictions_cost_nothing_and_decode_to_the_object(dims):
    head = YOLOX((Level(4, (4,) * dims),), classes=["a", "b"], channels=4, convolutions=0)
    box = np.array([[4.0] * dims + [12.0] * dims], np.float32)
    targets = Targets.collate([Annotation(boxes=box, box_classes=np.array([2]))], (16,) * dims, classes=2)
    index = torch.stack(torch.meshgrid(*[torch.arange(4.0)] * dims, indexing="ij"))
    deltas = torch.cat([8 / 4 - 0.5 - index, torch.full((dims, *[4] * dims), float(np.log(2)))])[None]
    near = ((index - 1.5).abs() < 1).all(dim=0)
    objectness = torch.where(near, 20.0, -20.0)[None, None]
    scores = torch.stack([torch.full_like(objectness[0, 0], -20.0), torch.full_like(objectness[0, 0], 20.0)])[None]
    outputs = YOLOXOutput((scores,), (deltas,), (objectness,))
    losses = head.loss(outputs, targets)
    assert losses["box"].item() == pytest.approx(0, abs=1e-4)
    found = head.decode(outputs).detections[0]
    assert_close(found.boxes, targets.boxes[0], atol=1e-4, rtol=0)
    assert found.classes.tolist() == [2]


@pytest.mark.parametrize("dims", [2, 3])
def test_the_class_target_is_the_overlap_of_the_prediction(dims):
    head = YOLOX((Level(4, (8,) * dims),), classes=["a"], channels=4, convolutions=0)
    box = np.array([[0.0] * dims + [8.0] * dims], np.float32)
    targets = Targets.collate([Annotation(boxes=box, box_classes=np.array([1]))], (8,) * dims, classes=1)
    deltas = torch.tensor([0.0] * dims + [float(np.log(0.8))] * dims).view(1, -1, *[1] * dims)
    iou = 0.8**dims
    cell = torch.zeros(1, 1, *[1] * dims)
    best = YOLOXOutput((cell + torch.tensor(iou).logit(),), (deltas,), (cell,))
    entropy = -(iou * np.log(iou) + (1 - iou) * np.log(1 - iou))
    losses = head.loss(best, targets)
    assert losses["score"].item() == pytest.approx(entropy, abs=1e-4)
    assert losses["box"].item() == pytest.approx(5 * (1 - iou), abs=1e-4)
