import pytest

from cphloc.metrics.direction import lower_is_better


@pytest.mark.parametrize(
    "metric", ["hd95_mm", "asd_mm", "volume_error_ml", "brier", "ece", "loss", "asd_mm/dice", "mega_multiply_adds"]
)
def test_less_of_an_error_is_better(metric):
    assert lower_is_better(metric)


@pytest.mark.parametrize("metric", ["dice", "nsd", "auc", "map", "froc", "pointing", "dice/loss"])
def test_more_of_an_agreement_is_better(metric):
    assert not lower_is_better(metric)
