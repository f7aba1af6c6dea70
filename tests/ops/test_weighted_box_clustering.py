from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from cphloc.ops.weighted_box_clustering import weighted_box_clustering


def twice(dims: int) -> torch.Tensor:
    return torch.tensor([[1.0] * dims + [3.0] * dims]).repeat(2, 1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("views", "score"), [(2, 0.8), (4, 0.4), (1, 0.8)])
def test_score_is_the_mean_over_the_views_that_should_have_seen_the_object(dims, views, score):
    merged = weighted_box_clustering(
        twice(dims), torch.tensor([0.7, 0.9]), torch.ones(2, dtype=torch.int64), torch.full((2,), views)
    )
    assert_close(merged.scores, torch.tensor([score]))
    assert_close(merged.boxes, twice(dims)[:1])


@pytest.mark.parametrize("dims", [2, 3])
def test_the_merged_box_is_the_mean_by_overlap_and_score(dims):
    boxes = torch.tensor([[0.0] * dims + [2.0] * dims, [0.0] * dims + [2.0] * (dims - 1) + [1.0]])
    one = torch.ones(2)
    merged = weighted_box_clustering(boxes, torch.tensor([0.8, 0.4]), one.long(), 2 * one)
    w = torch.tensor([1.0, 0.5]) * torch.tensor([0.8, 0.4])
    assert_close(merged.boxes[0], (w[:, None] * boxes).sum(0) / w.sum())
    assert_close(merged.scores, w.sum()[None] / 1.5)


@pytest.mark.parametrize("dims", [2, 3])
def test_weights_and_volume_shift_the_mean_towards_trusted_boxes(dims):
    boxes = torch.tensor([[0.0] * dims + [2.0] * dims, [0.0] * dims + [2.0] * (dims - 1) + [1.0]])
    one, scores = torch.ones(2), torch.tensor([0.8, 0.8])
    plain = weighted_box_clustering(boxes, scores, one.long(), 2 * one).boxes[0, -1]
    trusted = weighted_box_clustering(boxes, scores, one.long(), 2 * one, weights=torch.tensor([1.0, 4.0])).boxes[0, -1]
    by_volume = weighted_box_clustering(boxes, scores, one.long(), 2 * one, by_volume=True).boxes[0, -1]
    assert trusted < plain < by_volume


@pytest.mark.parametrize("dims", [2, 3])
def test_classes_and_distant_boxes_stay_apart_and_are_sorted(dims):
    far = twice(dims) + torch.tensor([[0.0], [50.0]])
    boxes, one = torch.cat([far, twice(dims)]), torch.ones(4)
    merged = weighted_box_clustering(boxes, torch.tensor([0.1, 0.9, 0.4, 0.5]), torch.tensor([1, 1, 2, 1]), one)
    assert merged.classes.tolist() == [1, 2, 1]
    assert merged.scores.tolist() == pytest.approx([0.9, 0.4, 0.3])


@pytest.mark.parametrize("dims", [2, 3])
def test_nothing_gives_nothing(dims):
    none = torch.zeros(0)
    assert len(weighted_box_clustering(torch.zeros(0, 2 * dims), none, none.long(), none)) == 0
