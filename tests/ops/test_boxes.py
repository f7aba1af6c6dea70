from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch.testing import assert_close

from cphloc.errors import InputError
from cphloc.ops.boxes import (
    clip,
    decode,
    decode_faces,
    encode,
    encode_faces,
    from_centre_size,
    overlap,
    overlap_matrix,
    to_centre_size,
    volume,
)


def random_boxes(n: int, dims: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    lo = torch.rand(n, dims, generator=draw) * 20 - 5
    return torch.cat([lo, lo + torch.rand(n, dims, generator=draw) * 10 + 0.5], dim=1)


INTEGER = torch.tensor([[0, 0, 100, 100], [0, 0, 50, 50], [200, 200, 300, 300], [0, 0, 25, 25]]).float()


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("iou", [[1, 0.25, 0], [0.25, 1, 0], [0, 0, 1], [0.0625, 0.25, 0]]),
        ("giou", [[1, 0.25, -0.7778], [0.25, 1, -0.8611], [-0.7778, -0.8611, 1], [0.0625, 0.25, -0.8819]]),
        ("diou", [[1, 0.1875, -0.4444], [0.1875, 1, -0.5625], [-0.4444, -0.5625, 1], [-0.0781, 0.1875, -0.6267]]),
    ],
)
def test_overlap_matrix_gives_torchvisions_asserted_constants(measure, expected):
    assert_close(overlap_matrix(INTEGER, INTEGER[:3], measure), torch.tensor(expected).float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 0, 2, 2, 2], [1, 1, 1, 3, 3, 3], [0.0666667, -0.3777778, -0.0444444]),
        ([0, 0, 0, 1, 1, 1], [2, 2, 2, 3, 3, 3], [0, -0.9259259, -0.4444444]),
        ([0, 0, 0, 2, 2, 2], [1, 0, 0, 3, 2, 2], [1 / 3, 1 / 3, 0.2745098]),
        ([0, 0, 2, 2], [1, 1, 3, 3], [0.1428571, -0.0793651, 0.0317460]),
    ],
)
def test_overlap_of_two_boxes_gives_the_formulas_value(a, b, expected):
    a, b = torch.tensor(a).float(), torch.tensor(b).float()
    assert_close(torch.stack([overlap(a, b, m) for m in ("iou", "giou", "diou")]), torch.tensor(expected).float())


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    ("lo", "hi", "expected"),
    [
        (0.1, 1.1, [0.818, 0.681, 0.574]),  # shifted by a tenth along every axis
        (0.2, 1.2, [0.667, 0.471, 0.344]),
        (0.1, 0.9, [0.8, 0.64, 0.512]),  # shrunk to four fifths around its centre
    ],
)
def test_the_same_error_costs_more_overlap_with_every_dimension(dims, lo, hi, expected):
    one, other = torch.tensor([0.0] * dims + [1.0] * dims), torch.tensor([lo] * dims + [hi] * dims)
    assert overlap(one, other).item() == pytest.approx(expected[dims - 1], abs=5e-4)


@pytest.mark.parametrize(
    ("measure", "oracle"),
    [
        ("iou", torchvision.ops.box_iou),
        ("giou", torchvision.ops.generalized_box_iou),
        ("diou", torchvision.ops.distance_box_iou),
    ],
)
def test_overlap_matrix_equals_torchvision_in_2d(measure, oracle):
    a, b = random_boxes(30, 2, 1), random_boxes(20, 2, 2)
    assert_close(overlap_matrix(a, b, measure), oracle(a, b), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("measure", ["iou", "giou", "diou"])
def test_overlap_is_symmetric_and_one_for_the_box_itself(dims, measure):
    a, b = random_boxes(20, dims, 1), random_boxes(20, dims, 2)
    assert_close(overlap_matrix(a, b, measure), overlap_matrix(b, a, measure).T)
    assert_close(overlap(a, a, measure), torch.ones(20))


@pytest.mark.parametrize("dims", [2, 3])
def test_iou_counts_shared_voxels(dims):
    a, b = random_boxes(15, dims, 3).round(), random_boxes(15, dims, 4).round()
    centres = torch.cartesian_prod(*[torch.arange(-6, 27) + 0.5] * dims)

    def cover(box):
        return ((centres > box[:dims]) & (centres < box[dims:])).all(dim=1)

    for one, other in zip(a, b, strict=True):
        union = (cover(one) | cover(other)).sum()
        expected = (cover(one) & cover(other)).sum() / union if union else torch.tensor(0.0)
        assert_close(overlap(one, other), expected)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("measure", ["iou", "giou", "diou"])
def test_boxes_without_volume_have_no_overlap_and_a_finite_gradient(dims, measure):
    point = torch.full((1, 2 * dims), 3.0, requires_grad=True)
    value = overlap(point, torch.full((1, 2 * dims), 3.0), measure)
    assert value.item() == 0
    value.sum().backward()
    assert torch.isfinite(point.grad).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_volume_does_not_overflow_in_half_precision(dims):
    box = torch.tensor([0] * dims + [512] * dims, dtype=torch.float16)
    assert volume(box) == 512**dims
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert overlap(box, box).dtype == torch.float32


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("function", [volume, lambda box: overlap(box, box), to_centre_size])
def test_an_inverted_box_is_refused(dims, function):
    box = torch.tensor([[4.0] * dims + [5.0] * dims, [4.0] * dims + [5.0] * (dims - 1) + [3.0]])
    with pytest.raises(InputError, match="upper corner below its lower corner"):
        function(box)


@pytest.mark.parametrize("dims", [2, 3])
def test_decode_undoes_encode(dims):
    boxes, anchors = random_boxes(50, dims, 1), random_boxes(50, dims, 2)
    assert_close(decode(encode(boxes, anchors), anchors), boxes, atol=1e-5, rtol=1e-5)
    points = to_centre_size(anchors)[0]
    assert_close(decode_faces(encode_faces(boxes, points), points), boxes, atol=1e-5, rtol=1e-5)
    assert_close(from_centre_size(*to_centre_size(boxes)), boxes, atol=1e-5, rtol=1e-5)


def test_encode_gives_the_faster_rcnn_deltas():
    anchor, box = torch.tensor([0.0, 0, 10, 20]), torch.tensor([5.0, 0, 15, 40])
    assert_close(encode(box, anchor), torch.tensor([0.5, 0.5, 0.0, 0.6931472]))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_wild_prediction_decodes_to_a_finite_box(dims):
    boxes = decode(torch.full((1, 2 * dims), 100.0), torch.tensor([[0.0] * dims + [8.0] * dims]))
    assert torch.isfinite(boxes).all()
    assert_close(to_centre_size(boxes)[1], torch.full((1, dims), 8 * 62.5))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_box_of_size_zero_cannot_be_encoded(dims):
    flat = torch.tensor([[1.0] * dims + [4.0] * (dims - 1) + [1.0]])
    with pytest.raises(InputError, match="box of size 0"):
        encode(flat, random_boxes(1, dims))


@pytest.mark.parametrize("dims", [2, 3])
def test_clip_cuts_to_the_image(dims):
    size = (8, 9, 10)[:dims]
    boxes = torch.tensor([[-3.0] * dims + [20.0] * dims, [1.0] * dims + [2.0] * dims])
    assert clip(boxes, size).tolist() == [[0.0] * dims + list(map(float, size)), [1.0] * dims + [2.0] * dims]


@pytest.mark.parametrize("dims", [2, 3])
def test_no_boxes_are_fine_everywhere(dims):
    none = torch.zeros(0, 2 * dims)
    assert overlap_matrix(none, random_boxes(3, dims)).shape == (0, 3)
    assert encode(none, none).shape == decode(none, none).shape == clip(none, (4,) * dims).shape == (0, 2 * dims)


@pytest.mark.parametrize("dims", [2, 3])
def test_iou_of_all_pairs_is_that_of_each_pair_in_double_precision(dims):
    draw = torch.Generator().manual_seed(0)
    low = torch.rand(40, dims, generator=draw) * 10
    found = torch.cat([low, low + torch.rand(40, dims, generator=draw) * 10], dim=1)
    for a, row in zip(found.tolist(), overlap_matrix(found, found).tolist(), strict=True):
        for b, value in zip(found.tolist(), row, strict=True):
            sides = [(max(a[i], b[i]), min(a[dims + i], b[dims + i])) for i in range(dims)]
            common = math.prod(max(hi - lo, 0) for lo, hi in sides)
            both = sum(math.prod(box[dims + i] - box[i] for i in range(dims)) for box in (a, b))
            assert value == pytest.approx(common / (both - common), abs=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("measure", ["iou", "giou", "diou"])
@pytest.mark.parametrize("count", [0, 1, 7, 9])
def test_many_pairs_are_compared_in_parts_and_give_the_same(dims, measure, count, monkeypatch):
    low = torch.rand(10, dims, generator=torch.Generator().manual_seed(0)) * 5
    boxes = torch.cat([low, low + 3], dim=1)
    whole = overlap(boxes[:, None], boxes[None, :count], measure)
    monkeypatch.setattr("cphloc.ops.boxes._PAIRS", 16)
    assert torch.equal(overlap_matrix(boxes, boxes[:count], measure), whole)
