from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cphloc.components.head.dense_box import DenseBox
from cphloc.modeling.build import blueprint
from cphloc.ops.anchor_head import AnchorOutput
from cphloc.ops.anchors import grid_anchors
from cphloc.ops.targets import Targets
from cphloc.recipe.recipe import load
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level


def head_of(dims: int, strides: tuple[int, ...] = (4,)) -> DenseBox:
    return DenseBox(tuple(Level(4, (s,) * dims) for s in strides), classes=["a"], channels=4, convolutions=0)


def targets_of(dims: int, boxes: list, size: int = 32) -> Targets:
    boxes = np.array(boxes, np.float32).reshape(-1, 2 * dims)
    annotation = Annotation(boxes=boxes, box_classes=np.ones(len(boxes), np.int64))
    return Targets.collate([annotation], (size,) * dims, classes=1)


def perfect(dims: int, cell: tuple[int, ...], offset: float, log_size: float) -> AnchorOutput:
    scores = torch.full((1, 1, *[8] * dims), -20.0)
    deltas = torch.zeros(1, 2 * dims, *[8] * dims)
    scores[(0, 0, *cell)] = 20.0
    deltas[(0, slice(None), *cell)] = torch.tensor([offset] * dims + [log_size] * dims)
    return AnchorOutput((scores,), (deltas,))


@pytest.mark.parametrize("dims", [2, 3])
def test_offset_in_cells_and_log_size_decode_to_the_box_and_cost_nothing(dims):
    cell = (3, 1, 5)[:dims]
    outputs = perfect(dims, cell, offset=0.25, log_size=float(np.log(3)))
    centre = torch.tensor([(i + 0.75) * 4 for i in cell])
    box = torch.cat([centre - 6, centre + 6])
    found = head_of(dims).decode(outputs).detections[0]
    assert_close(found.boxes, box[None], atol=1e-4, rtol=0)
    losses = head_of(dims).loss(outputs, targets_of(dims, [box.tolist()], size=64))
    assert float(sum(losses.values())) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_an_object_moved_by_a_stride_is_told_by_the_next_cell_in_the_same_words(dims):
    outputs = perfect(dims, (2,) * dims, offset=0.3, log_size=0.5)
    moved = AnchorOutput(*(tuple(x.roll(1, dims=2) for x in maps) for maps in outputs))
    before, after = (head_of(dims).decode(r).detections[0].boxes[0] for r in (outputs, moved))
    shift = torch.zeros(dims)
    shift[0] = 4
    assert_close(after - before, shift.repeat(2))


@pytest.mark.parametrize(("stages", "predictions"), [(3, 819_200), (6, 936_704)])
def test_a_scan_of_the_lecture_has_as_many_predictions_as_computed_there(stages, predictions):
    args = {"model.backbone.widths": [2] * stages, "model.backbone.strides": [1, *[2] * (stages - 1)]}
    args |= {"model.neck": {"type": "fpn", "channels": 2, "finest": 2}, "model.heads.boxes.channels": 2}
    model = blueprint(load("dense-box", args)).eval()
    with torch.no_grad():  # 200 slices are padded to 224 for six stages
        outputs = model.outputs(torch.empty(1, 1, 200, 512, 512, device="meta"))["boxes"]
    assert sum(x[0, 0].numel() for x in outputs.scores) == predictions
    assert [x.shape[2:] for x in outputs.scores] == [x.shape[2:] for x in outputs.deltas]


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_that_lose_their_cell_are_counted(dims):
    head = head_of(dims)
    centre = torch.tensor([10.0] * dims)
    boxes = [torch.cat([centre - r, centre + r]).tolist() for r in (2, 5)]
    head.loss(head((torch.zeros(1, 4, *[8] * dims),)), targets_of(dims, boxes))
    assert head.collisions == 1


@pytest.mark.parametrize("dims", [2, 3])
def test_each_box_is_told_on_the_level_of_its_size(dims):
    head = head_of(dims, strides=(2, 4, 8))
    boxes = torch.tensor([[1.0] * dims + [5.0] * dims, [0.0] * dims + [17.0] * dims, [0.0] * dims + [40.0] * dims])
    cells = [(24,) * dims, (12,) * dims, (6,) * dims]
    anchors = [grid_anchors(n, level.stride, [level.stride]) for n, level in zip(cells, head.levels, strict=True)]
    assigned = head.assign(anchors, boxes, cells)
    start = 0
    for number, cells in enumerate((24, 12, 6)):
        here = assigned[start : start + cells**dims]
        start += cells**dims
        assert here[here >= 0].tolist() == [number]
