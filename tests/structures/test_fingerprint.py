from __future__ import annotations

import numpy as np
import pytest

from cphloc.structures.fingerprint import Fingerprint, Spread, percentiles_of

CT = [[(-1000.0, -50.0, 250.0)], [(-1000.0, 0.0, 300.0)], [(-900.0, 20.0, 400.0)]]
EXTENTS = [[100.0, 300.0, 400.0], [120.0, 320.0, 400.0], [140.0, 340.0, 400.0]]


@pytest.fixture
def known() -> Fingerprint:
    return Fingerprint.of(["ct"], CT, EXTENTS, "mm")


def test_a_fingerprint_holds_least_median_and_largest(known):
    assert known.channels["ct"].low == Spread(least=-1000.0, median=-1000.0, largest=-900.0)
    assert known.channels["ct"].high == Spread(least=250.0, median=300.0, largest=400.0)
    assert known.extent[0] == Spread(least=100.0, median=120.0, largest=140.0)
    assert Fingerprint.model_validate(known.model_dump()) == known


@pytest.mark.parametrize("percentiles", [of for (of,) in CT])
def test_the_training_images_are_not_unusual(known, percentiles):
    assert known.unusual_values("ct", percentiles) is None


@pytest.mark.parametrize(
    "percentiles", [(0, 0.9, 1), (0, 220, 255), (24, 1004, 1324), (-2024, -1000, -700), (-1000, 0, 9000)]
)
def test_other_values_are_unusual(known, percentiles):
    said = known.unusual_values("ct", percentiles)
    assert said is not None
    assert "mostly from -1000 to 300" in said


def test_an_image_of_half_to_twice_the_extent_is_usual(known):
    for size in (50, 280):
        assert known.unusual_extent([size, 300, 400], "mm") is None
    for size in (49, 281):
        said = known.unusual_extent([size, 300, 400], "mm")
        assert said is not None
        assert f"{size} mm over the slices" in said
    assert known.unusual_extent([1, 1, 1], "px") is None, "pixels cannot be compared with mm"


def test_percentiles_of_a_large_image_are_those_of_evenly_spaced_voxels():
    values = np.arange(1_000_000, dtype=np.float32).reshape(100, 100, 100)
    assert percentiles_of(values) == pytest.approx((5000, 500_000, 995_000), rel=1e-3)
