"""Outlines that claim more than their picture are refused, and take neither time nor memory."""

import pytest

from cphloc.data.io.outlines import coco_outline
from cphloc.errors import DataError

SHAPE = (5, 8)


@pytest.mark.parametrize(
    "segmentation",
    [
        [[0, 0, 1e9, 1e9, 1e9, 0]],
        {"counts": [-1_000_000, 1_000_040], "size": SHAPE},
        {"counts": [41], "size": SHAPE},
        {"counts": "WWWWWW5" * 3, "size": SHAPE},
        {"counts": "ooooooo0" * 1000, "size": SHAPE},
        {"counts": [3_600_000_000], "size": (60_000, 60_000)},
        {"counts": [float("inf")], "size": SHAPE},
    ],
)
def test_claims_beyond_the_picture_are_refused(segmentation):
    with pytest.raises(DataError):
        _drawn(segmentation)


def _drawn(segmentation):
    outline = coco_outline(segmentation)
    assert outline is not None
    return outline.draw(SHAPE)
