"""What every suppression does alike, and greedy suppression itself."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from cphloc.components.suppression.nms import NMS
from cphloc.registry import catalogue

EVERY = [catalogue.resolve("suppression", name) for name in catalogue.cards("suppression")]

both = pytest.mark.parametrize("dims", [2, 3])
every = pytest.mark.parametrize("suppression", EVERY)


def cube(dims: int, low: float, high: float) -> list[float]:
    return [low] * dims + [high] * dims


@both
@every
def test_classes_apart_no_empty_boxes_and_at_most_the_limit(suppression, dims):
    boxes = torch.tensor([cube(dims, 0, 2), cube(dims, 0, 2), cube(dims, 1, 1), cube(dims, 9, 10)])
    scores, classes = torch.tensor([0.8, 0.9, 0.95, 0.3]), torch.tensor([1, 2, 1, 1])
    kept = suppression()(boxes, scores, classes)
    assert kept.classes.tolist() == [2, 1, 1]
    assert kept.scores.tolist() == pytest.approx([0.9, 0.8, 0.3])
    assert suppression(limit=2)(boxes, scores, classes).scores.tolist() == pytest.approx([0.9, 0.8])


@both
@every
def test_an_image_without_candidates_has_no_detections(suppression, dims):
    none = torch.zeros(0)
    kept = suppression()(torch.zeros(0, 2 * dims), none, none.long())
    assert kept.boxes.shape == (0, 2 * dims)
    assert len(kept) == 0


@both
def test_of_boxes_that_overlap_the_best_stays(dims):
    boxes = torch.tensor([cube(dims, 0, 2), [0.0] * dims + [2.0] * (dims - 1) + [1.0]])
    for iou, left in ((0.45, [0.9]), (0.55, [0.9, 0.8])):  # their IoU is 0.5
        kept = NMS(iou)(boxes, torch.tensor([0.8, 0.9]), torch.tensor([1, 1]))
        assert kept.scores.tolist() == pytest.approx(left)


def test_all_types_share_the_four_values_that_heads_and_migration_rely_on():
    for suppression in EVERY:
        assert {"iou", "score", "pre_nms_topk", "limit"} <= {f.name for f in fields(suppression)}
