import pytest

from cphloc.config import yamlio
from cphloc.paths import shipped
from cphloc.registry.kinds import ALL
from cphloc.registry.metrics import has_direction, headline, lower_is_better, metric_card


@pytest.mark.parametrize("metric", ["hd95_mm", "asd_mm", "brier", "ece", "loss", "asd_mm/dice", "mega_multiply_adds"])
def test_less_of_an_error_is_better(metric):
    assert lower_is_better(metric)


@pytest.mark.parametrize("metric", ["dice", "nsd", "auc", "map", "froc", "pointing", "dice/loss", "unheard_of"])
def test_more_of_an_agreement_is_better(metric):
    assert not lower_is_better(metric)


def test_a_signed_error_has_no_direction():
    assert [has_direction(m) for m in ("volume_error_ml", "volume_error_ml/liver", "dice")] == [False, False, True]


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
