from __future__ import annotations

import numpy as np
import pytest

from cphloc.errors import InputError
from cphloc.metrics.box_overlap import box_iou


def test_box_iou_reproduces_torchvision_constants() -> None:
    boxes = np.array([[0, 0, 100, 100], [0, 0, 50, 50], [200, 200, 300, 300], [0, 0, 25, 25]])
    expected = [[1, 0.25, 0], [0.25, 1, 0], [0, 0, 1], [0.0625, 0.25, 0]]
    assert box_iou(boxes, boxes[:3]) == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0, 0, 2, 2], [1, 1, 3, 3], 0.1428571),
        ([0, 0, 0, 2, 2, 2], [1, 1, 1, 3, 3, 3], 0.0666667),
        ([0, 0, 0, 1, 1, 1], [2, 2, 2, 3, 3, 3], 0),
        ([0, 0, 0, 2, 2, 2], [0, 0, 1, 2, 2, 3], 1 / 3),
        ([1, 1, 1, 1], [1, 1, 1, 1], 0),
    ],
)
def test_box_iou_reproduces_the_constants(first, second, expected) -> None:
    assert box_iou(first, second)[0, 0] == pytest.approx(expected, abs=1e-7)
    assert box_iou(second, first)[0, 0] == pytest.approx(expected, abs=1e-7)


def test_wrong_boxes_are_named() -> None:
    with pytest.raises(InputError, match="hi < lo"):
        box_iou([[2, 2, 1, 3]], [[0, 0, 1, 1]])
    with pytest.raises(InputError, match="4 and 6 coordinates"):
        box_iou(np.zeros((1, 4)), np.zeros((1, 6)))
