from __future__ import annotations

import itertools

import pytest
import torch

from cphloc.ops.assign_hungarian import assign_hungarian
from cphloc.ops.boxes import overlap_matrix


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("predictions", "objects"), [(5, 3), (2, 3), (4, 0)])
def test_the_total_cost_is_the_least_of_all_one_to_one_assignments(dims, predictions, objects):
    """By trying every assignment."""
    torch.manual_seed(dims)
    low = [torch.rand(n, dims) for n in (predictions, objects)]
    boxes, true = (torch.cat([x, x + 0.1 + torch.rand_like(x)], 1) for x in low)
    scores, classes = torch.randn(predictions, 2), torch.randint(0, 2, (objects,))
    distance = torch.rand(predictions, objects)
    query, target = assign_hungarian(scores, boxes, distance, true, classes)
    p = scores.sigmoid()
    focal = 0.25 * (1 - p) ** 2 * -p.log() - 0.75 * p**2 * -(1 - p).log()
    cost = 2 * focal[:, classes] + 5 * distance - 2 * overlap_matrix(boxes, true, "giou")
    fewer = min(predictions, objects)
    pairs = itertools.product(
        itertools.permutations(range(predictions), fewer), itertools.combinations(range(objects), fewer)
    )
    least = min(sum(cost[q, t].item() for q, t in zip(*each, strict=True)) for each in pairs)
    assert len(set(query.tolist())) == len(set(target.tolist())) == fewer
    assert cost[query, target].sum().item() == pytest.approx(least, abs=1e-5)
