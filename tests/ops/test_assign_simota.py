from __future__ import annotations

import math

import pytest
import torch

from cphloc.ops.anchors import cell_centres
from cphloc.ops.assign_simota import assign_simota
from cphloc.ops.boxes import from_centre_size, overlap


def written_out(points, strides, predicted, probabilities, boxes, classes, radius):
    """The published rule, pair by pair."""
    dims, n, m = points.shape[1], len(points), len(boxes)
    centre = (boxes[:, :dims] + boxes[:, dims:]) / 2
    near = [[bool(((points[i] - centre[j]).abs() < radius * strides[i]).all()) for j in range(m)] for i in range(n)]
    candidates = [i for i in range(n) if any(near[i])]
    cost, iou = {}, {}
    for i in candidates:
        for j in range(m):
            iou[i, j] = float(overlap(predicted[i], boxes[j]))
            entropy = 0.0
            for k, p in enumerate(probabilities[i].sqrt().tolist()):
                entropy -= math.log(p) if k == classes[j] else math.log(1 - p)
            cost[i, j] = entropy - 3 * math.log(iou[i, j] + 1e-8) + 1e6 * (not near[i][j])
    claims = {}
    for j in range(m):
        number = max(1, int(sum(sorted((iou[i, j] for i in candidates), reverse=True)[:10])))
        for i in sorted(candidates, key=lambda i: cost[i, j])[:number]:
            claims.setdefault(i, []).append((cost[i, j], j))
    return [min(claims[i])[1] if i in claims else -1 for i in range(n)]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_rule_written_out_pair_by_pair(dims, seed):
    draw = torch.Generator().manual_seed(seed)
    points = cell_centres((5,) * dims, (4,) * dims)
    strides = torch.full_like(points, 4.0)
    boxes = from_centre_size(torch.rand(3, dims, generator=draw) * 16 + 2, torch.rand(3, dims, generator=draw) * 6 + 5)
    predicted = from_centre_size(
        points + torch.randn(points.shape, generator=draw), torch.rand(points.shape, generator=draw) * 6 + 5
    )
    probabilities = torch.rand(len(points), 2, generator=draw) * 0.9 + 0.05
    classes = torch.tensor([0, 1, 1])
    assigned, iou = assign_simota(points, strides, predicted, probabilities, boxes, classes)
    expected = written_out(points, strides, predicted, probabilities, boxes, classes.tolist(), 1.5)
    changed = [a for a, e in zip(assigned.tolist(), expected, strict=True) if a != e]
    assert sorted(changed) == sorted({0, 1, 2} - set(expected))  # a box that lost every point gets one
    found = assigned >= 0
    torch.testing.assert_close(iou[found], overlap(predicted[found], boxes[assigned[found]]))


@pytest.mark.parametrize("dims", [2, 3])
def test_without_boxes_all_is_background(dims):
    points = cell_centres((2,) * dims, (4,) * dims)
    none, labels = torch.zeros(0, 2 * dims), torch.zeros(0, dtype=torch.int64)
    predicted = from_centre_size(points, points)
    assigned, _ = assign_simota(points, points, predicted, torch.rand(len(points), 2), none, labels)
    assert (assigned == -1).all()
