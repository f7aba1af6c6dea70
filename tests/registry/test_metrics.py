import pytest

from cphloc.config import yamlio
from cphloc.metrics.bootstrap import Interval
from cphloc.paths import shipped
from cphloc.registry.kinds import ALL
from cphloc.registry.metrics import has_direction, headline, lower_is_better, metric_card, quality, quality_range


@pytest.mark.parametrize("metric", ["hd95_mm", "asd_mm", "brier", "ece", "loss", "asd_mm/dice", "mega_multiply_adds"])
def test_less_of_an_error_is_better(metric):
    assert lower_is_better(metric)


@pytest.mark.parametrize("metric", ["dice", "nsd", "auc", "map", "froc", "pointing", "dice/loss", "unheard_of"])
def test_more_of_an_agreement_is_better(metric):
    assert not lower_is_better(metric)


def test_a_spread_has_no_direction():
    assert [has_direction(m) for m in ("attention_entropy", "volume_error_ml", "dice")] == [False, True, True]


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [("dice", 0.9, 0.8), ("hd95_mm", 2.0, 3.0), ("volume_error/liver", -0.1, 0.2), ("volume_error_ml", 0.1, -0.3)],
)
def test_quality_is_greater_for_the_better_value(metric, better, worse):
    assert quality(metric, better) > quality(metric, worse)


def test_an_interval_around_0_holds_the_best_signed_error():
    assert quality_range("volume_error", Interval(0.1, -0.2, 0.4, 9)) == (-0.4, 0.0)
    assert quality_range("volume_error", Interval(-0.3, -0.4, -0.2, 9)) == (-0.4, -0.2)
    assert quality_range("hd95_mm", Interval(3.0, 2.0, 4.0, 9)) == (-4.0, -2.0)


def test_every_task_has_one_headline():
    assert {task: headline(task) for task in ALL["metric"].words["headline"]} == {
        "segmentation": "dice",
        "localization": "dice",
        "detection": "ap50",
        "attention": "attention_mass",
        "classification": "auc",
    }


def test_every_metric_that_a_study_judges_by_has_a_card():
    def named(value):
        if isinstance(value, dict):
            yield from ([value["metric"]] if isinstance(value.get("metric"), str) else [])
            yield from value["metrics"] if isinstance(value.get("metrics"), list) else []
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from named(inner)

    for study in (shipped("recipes") / "lecture").glob("*.yaml"):
        assert [name for name in named(yamlio.load(study).plain) if metric_card(name) is None] == [], study
