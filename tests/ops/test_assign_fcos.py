from __future__ import annotations

import pytest
import torch

from cphloc.ops.anchors import cell_centres
from cphloc.ops.assign_fcos import assign_fcos, level_ranges
from cphloc.structures.levels import Level


def test_ranges_are_those_of_the_reference_implementation():
    levels = tuple(Level(1, (s, s)) for s in (8, 16, 32, 64, 128))
    assert level_ranges(levels) == [(-1, 64), (64, 128), (128, 256), (256, 512), (512, float("inf"))]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("radius", [0.0, 1.5])
def test_equals_the_rule_written_out_point_by_point(dims, radius):
    levels = tuple(Level(1, (s,) * dims) for s in (2, 4))
    points = [cell_centres((n,) * dims, level.stride) for n, level in zip((16, 8), levels, strict=True)]
    boxes = torch.tensor([[1.0] * dims + [9.0] * dims, [4.0] * dims + [10.0] * dims, [0.0] * dims + [30.0] * dims])
    expected = []
    for at, level, (least, most) in zip(points, levels, ((-1, 16), (16, float("inf"))), strict=True):
        for point in at:
            fitting = []
            for number, box in enumerate(boxes):
                faces = torch.cat([point - box[:dims], box[dims:] - point])
                near = not radius or ((point - (box[:dims] + box[dims:]) / 2).abs() < radius * level.stride[0]).all()
                if faces.min() > 0 and least < faces.max() <= most and near:
                    fitting.append(((box[dims:] - box[:dims]).prod().item(), number))
            expected.append(min(fitting)[1] if fitting else -1)
    assert assign_fcos(points, levels, boxes, radius).tolist() == expected
    assert {0, 1, 2} <= set(expected)


def test_without_boxes_all_is_background():
    points = [cell_centres((2, 2), (4, 4))]
    assert assign_fcos(points, (Level(1, (4, 4)),), torch.zeros(0, 4)).tolist() == [-1] * 4
