from __future__ import annotations

import pytest

from cphloc.structures.padding import prediction_fill, training_fill


@pytest.mark.parametrize(
    ("pad", "training", "prediction"),
    [("zero", "zero", "zero"), ("edge", "edge", "edge"), ("zero_then_edge", "zero", "edge")],
)
def test_only_recipes_of_format_1_pad_training_and_prediction_differently(pad, training, prediction):
    assert (training_fill(pad), prediction_fill(pad)) == (training, prediction)
