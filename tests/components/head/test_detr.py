from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.detr import DETR, DETROutput
from cphloc.errors import InputError
from cphloc.modeling.model import Model
from cphloc.ops.boxes import overlap
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level

SIZES = {2: (32, 32), 3: (8, 32, 32)}


def annotation(dims):
    """Two objects of two classes."""
    near, far = [1.0] * (dims - 2), [5.0] * (dims - 2)
    first, second = [*near, 4.0, 4.0, *far, 14.0, 12.0], [*near, 18.0, 16.0, *far, 28.0, 30.0]
    return Annotation(boxes=np.array([first, second]), box_classes=np.array([1, 2]))


@pytest.mark.parametrize("dims", [2, 3])
def test_learns_one_query_per_object_without_suppression(dims):
    torch.manual_seed(1)
    backbone = ConvEncoder(1, dims, widths=[16, 16], strides=[2, 2])
    settings = {"queries": 10, "channels": 16, "layers": 1, "attention_heads": 4, "points": 2, "score": 0.4}
    head = DETR(backbone.levels, ["a", "b"], **settings)
    model = Model(backbone, None, {"boxes": head})
    image = torch.zeros(1, 1, *SIZES[dims])
    case = annotation(dims)
    for box, value in zip(case.boxes.astype(int), (1.0, -1.0), strict=True):
        image[(0, 0, *(slice(a, b) for a, b in zip(box[:dims], box[dims:], strict=True)))] = value
    targets = Targets.collate([case], SIZES[dims], classes=2)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(250):
        optimizer.zero_grad()
        model.loss(model.outputs(image), targets)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        (found,) = model.eval().decode(model.outputs(image), SIZES[dims])["boxes"].detections
    order = found.classes.argsort()
    assert found.classes[order].tolist() == [1, 2]
    assert overlap(found.boxes[order], torch.from_numpy(case.boxes).float()).min() > 0.8


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_that_are_right_cost_nothing_and_unknown_classes_no_score(dims):
    case = annotation(dims)
    targets = Targets.collate([case, Annotation()], SIZES[dims], classes=2)
    head = DETR((Level(4, (4,) * dims),), ["a", "b"], queries=3, channels=8, layers=1)
    boxes = torch.cat([torch.from_numpy(case.boxes).float(), torch.zeros(1, 2 * dims)])
    scores = torch.tensor([[20.0, -20.0], [-20.0, 20.0], [-20.0, -20.0]])
    outputs = DETROutput((torch.stack([scores, torch.randn(3, 2)]),), (torch.stack([boxes, torch.rand(3, 2 * dims)]),))
    for value in head.loss(outputs, targets).values():
        assert_close(value, torch.zeros(()), atol=1e-5, rtol=0)


def test_channels_that_the_heads_cannot_share_are_refused():
    with pytest.raises(InputError, match="multiple of attention_heads"):
        DETR((Level(4, (4, 4)),), ["a"], channels=6, attention_heads=4)
