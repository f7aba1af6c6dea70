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


def iou_of(a, b):
    dims = len(a) // 2
    common, first, second = 1.0, 1.0, 1.0
    for axis in range(dims):
        common *= max(0.0, min(a[axis + dims], b[axis + dims]) - max(a[axis], b[axis]))
        first, second = first * (a[axis + dims] - a[axis]), second * (b[axis + dims] - b[axis])
    return common / (first + second - common), first


def clustered(boxes, scores, classes, expected, weights, threshold, by_volume):
    """Clusters of Jaeger et al. 2020, each class for itself as in nnDetection (Baumgartner et al. 2021)."""
    result = []
    for name in sorted(set(classes)):
        left = sorted((k for k, c in enumerate(classes) if c == name), key=lambda k: -scores[k])
        while left:
            seed, members = left[0], []
            for k in left:
                iou, size = iou_of(boxes[k], boxes[seed])
                if iou > threshold:
                    members.append((k, iou * weights[k] * (size if by_volume else 1)))
            total = sum(w for _, w in members)
            missing = max(0, sum(expected[k] for k, _ in members) / len(members) - len(members))
            score = sum(w * scores[k] for k, w in members) / (total + missing * total / len(members))
            share = sum(w * scores[k] for k, w in members)
            mean = [sum(w * scores[k] * boxes[k][axis] for k, w in members) / share for axis in range(len(boxes[0]))]
            result.append((score, name, mean))
            left = [k for k in left if k not in {member for member, _ in members}]
    return sorted(result, key=lambda found: -found[0])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("threshold", "by_volume"), [(1e-5, True), (0.2, False), (0.4, True)])
def test_equals_the_papers_clusters_formed_one_by_one(dims, threshold, by_volume):
    """300 boxes of three classes, seen in up to six views around 40 objects."""
    draw = torch.Generator().manual_seed(dims)
    centre = torch.rand(40, dims, generator=draw)[torch.randint(40, (300,), generator=draw)] * 60
    centre, size = centre + 0.5 * torch.randn(300, dims, generator=draw), 5 + 3 * torch.rand(300, dims, generator=draw)
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=1)
    scores, weights = torch.rand(300, generator=draw), 0.1 + torch.rand(300, generator=draw)
    classes, views = torch.randint(1, 4, (300,), generator=draw), torch.randint(1, 7, (300,), generator=draw)
    given = boxes, scores, classes, views, weights
    expected = clustered(*(x.tolist() for x in given), threshold, by_volume)
    merged = weighted_box_clustering(*given, threshold, by_volume)
    assert 30 < len(expected) < 280
    assert merged.classes.tolist() == [name for _, name, _ in expected]
    assert_close(merged.scores, torch.tensor([score for score, _, _ in expected]))
    assert_close(merged.boxes, torch.tensor([box for _, _, box in expected]), atol=1e-4, rtol=1e-4)
