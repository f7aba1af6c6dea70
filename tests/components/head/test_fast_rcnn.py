from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.fast_rcnn import FastRCNN
from cphloc.components.suppression.nms import NMS
from cphloc.modeling.model import Model
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level


def head_of(dims: int, **args: object) -> FastRCNN:
    return FastRCNN((Level(4, (4,) * dims),), classes=["a", "b"], width=4, pool=2, channels=4, **args)


@pytest.mark.parametrize("dims", [2, 3])
def test_given_the_true_boxes_a_perfect_classifier_finds_exactly_them(dims, monkeypatch):
    head = head_of(dims)
    boxes = torch.tensor([[0.0] * dims + [8.0] * dims, [8.0] * dims + [14.0] * dims])
    monkeypatch.setattr(head, "describe", lambda pyramid, regions: torch.eye(4)[[2, 1]])
    with torch.no_grad():
        head.score.weight.copy_(20 * torch.eye(4)[:3])
        head.delta.weight.zero_()
    outputs = head((torch.zeros(1, 4, *[4] * dims),), proposals=[boxes])
    found = head.decode(outputs).detections[0]
    assert_close(found.boxes[found.classes.argsort()], boxes[[1, 0]])
    assert sorted(found.classes.tolist()) == [1, 2]


@pytest.mark.parametrize("dims", [2, 3])
def test_however_many_regions_the_image_goes_through_the_backbone_once(dims):
    backbone = ConvEncoder(1, dims, widths=[4])
    head = FastRCNN(backbone.levels, ["a"], [[4.0] * dims], width=4, pool=2, channels=4, suppression=NMS(score=0.0))
    model, calls = Model(backbone, None, {"boxes": head}).eval(), []
    backbone.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        outputs = model.outputs(torch.zeros(1, 1, *[16] * dims))
        found = model.decode(outputs, (16,) * dims)["boxes"].detections[0]
    assert len(outputs["boxes"].proposals[0]) > 9**dims
    assert len(found) > 1
    assert len(calls) == 1


@pytest.mark.parametrize("dims", [2, 3])
def test_the_true_boxes_join_the_proposals_in_training(dims, monkeypatch):
    head, seen = head_of(dims), []
    box = np.array([[2.0] * dims + [9.0] * dims], np.float32)
    targets = Targets.collate([Annotation(boxes=box, box_classes=np.array([1]))], (16,) * dims, classes=2)
    describe = head.describe
    monkeypatch.setattr(head, "describe", lambda pyramid, regions: seen.extend(regions) or describe(pyramid, regions))
    far = torch.tensor([[12.0] * dims + [16.0] * dims])
    head.loss(head((torch.zeros(1, 4, *[4] * dims),), proposals=[far]), targets)
    assert sorted(seen[0].tolist()) == sorted([box[0].tolist(), far[0].tolist()])


@pytest.mark.parametrize("dims", [2, 3])
def test_corrections_are_in_units_of_the_regions_size_over_ten_and_five(dims):
    head = head_of(dims)
    with torch.no_grad():
        head.delta.weight.zero_()
        head.delta.bias.copy_(torch.tensor([1.0] * dims + [5 * float(np.log(2))] * dims).repeat(2))
        head.score.bias.copy_(torch.tensor([-9.0, 9, -9]))
    region = torch.tensor([[4.0] * dims + [14.0] * dims])
    found = head.decode(head((torch.zeros(1, 4, *[4] * dims),), proposals=[region])).detections[0]
    assert_close(found.boxes, torch.tensor([[0.0] * dims + [20.0] * dims]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_no_proposals_at_all_give_no_detections(dims):
    head = head_of(dims)
    outputs = head((torch.zeros(1, 4, *[4] * dims),), proposals=[torch.zeros(0, 2 * dims)])
    assert len(head.decode(outputs).detections[0]) == 0
