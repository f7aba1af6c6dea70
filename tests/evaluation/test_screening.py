"""A classifier whose probabilities are known, as a screening test: threshold, rates, groups and effects."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cphloc.cli import main
from cphloc.errors import InputError
from cphloc.evaluation.screening import measured_rates, threshold_for
from cphloc.metrics.screening import OperatingPoint, apply_ai
from cphloc.metrics.screening_effects import StatedRates, effects
from cphloc.metrics.screening_impact import QUANTITIES, programme
from cphloc.training.train import train

SLIDE = programme(1000, 6, 100, 20, 5)
VAL = [(0.1, ""), (0.2, ""), (0.3, ""), (0.4, ""), (0.5, ""), (0.35, "mass"), (0.9, "mass")]
TEST = [(0.1, ""), (0.2, ""), (0.45, ""), (0.6, ""), (0.3, "mass"), (0.41, "mass"), (0.7, "mass"), (0.8, "mass")]
both = pytest.mark.parametrize("dims", [2, 3])
pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def screened(hand_made):
    """A model that gives the value of an image as the probability of a mass in it."""

    def make(dims, val=VAL, test=TEST):
        train = [(0.9, "mass"), (0.1, "")]
        cases = [(split, *of) for split, all_of in (("train", train), ("val", val), ("test", test)) for of in all_of]
        rows = [
            {"case": f"{split}{n}", "patient": f"p{n}", "split": split, "label": label or "none",
             "image": np.full((4,) * dims, value + n * 1e-6, np.float32)}
            for n, (split, value, label) in enumerate(cases)
        ]  # fmt: skip
        return hand_made(rows, ["label_probabilities"])

    return make


@both
def test_the_threshold_is_of_validation_cases_and_the_rates_are_of_test_cases(screened, dims):
    found = measured_rates(screened(dims), classes=["mass"], specificity=0.8)
    assert 0.4 < found.threshold <= 0.5 + 1e-4, "one of five healthy validation cases may be positive"
    assert found.rates(np.ones(len(TEST))) == (0.5, 0.75)
    facts = found.facts()
    assert (facts["cases"], facts["with_finding"], facts["classes"]) == (8, 4, ["mass"])
    assert facts["sensitivity"]["low"] <= 0.5 <= facts["sensitivity"]["high"]


def test_a_threshold_is_chosen_for_a_sensitivity_or_stated(screened):
    model = screened(2)
    sensitive = measured_rates(model, classes=["mass"], sensitivity=1.0)
    assert sensitive.threshold == pytest.approx(0.35, abs=1e-4)
    assert sensitive.rates(np.ones(8)) == (0.75, 0.5)
    stated = measured_rates(model, classes=["mass"], threshold=0.65)
    assert stated.rates(np.ones(8)) == (0.5, 1.0)
    assert "0.65 was stated" in stated.source


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_keeps_the_bound_and_is_better(seed):
    random = np.random.default_rng(seed)
    probabilities, present = random.random(40).round(1), random.random(40) < 0.4

    def rates(threshold):
        positive = probabilities >= threshold
        return positive[present].mean(), (~positive)[~present].mean()

    every = [rates(threshold) for threshold in np.linspace(0, 1.1, 221)]
    by_specificity = rates(threshold_for(probabilities, present, specificity=0.7))
    assert by_specificity[0] == max(sensitivity for sensitivity, specificity in every if specificity >= 0.7 - 1e-9)
    by_sensitivity = rates(threshold_for(probabilities, present, sensitivity=0.7))
    assert by_sensitivity[1] == max(specificity for sensitivity, specificity in every if sensitivity >= 0.7 - 1e-9)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"classes": ["mas"]}, "has no class 'mas'; did you mean 'mass'"),
        ({"specificity": 90}, r"specificity must be in \[0, 1\], got 90"),
        ({"sensitivity": -0.1}, r"sensitivity must be in \[0, 1\], got -0.1"),
        ({"threshold": 50}, r"threshold must be in \[0, 1\], got 50"),
    ],
)
def test_what_cannot_be_asked_is_refused(screened, asked, told):
    with pytest.raises(InputError, match=told):
        measured_rates(screened(2), **{"classes": ["mass"], **asked})


@pytest.mark.parametrize(
    ("val", "test", "told"),
    [
        ([], TEST, "no validation cases to choose a threshold on; state one with --threshold"),
        (VAL[:5], TEST, "no threshold can be chosen on 5 cases"),
        (VAL, TEST[:4], "a screening test needs cases with mass and without"),
    ],
)
def test_cases_of_one_kind_are_no_screening_test(screened, val, test, told):
    with pytest.raises(InputError, match=told):
        measured_rates(screened(2, val, test), classes=["mass"])


def test_a_model_without_labels_is_refused(hand_made):
    mask = np.ones((4, 4), np.uint8)
    row = {"patient": "", "image": mask.astype(np.float32), "mask": mask}
    rows = [{"case": split, "split": split, **row} for split in ("train", "val", "test")]
    with pytest.raises(InputError, match="gives no image labels"):
        measured_rates(hand_made(rows, ["mask_probabilities"]))


def test_effects_follow_from_the_rates_and_their_intervals():
    rates = StatedRates("a model", (0.8, 0.7, 0.9), 0.9)
    today, *others = effects(rates, SLIDE, justified_from=0.05)
    numbers = {name: today.numbers[name][0] for name in QUANTITIES}
    assert [numbers[name] for name in ("recalled", "biopsied", "found", "missed")] == [100, 20, 5, 1]
    assert numbers["net_benefit"] == pytest.approx(5 - 95 * 0.05 / 0.95)
    reader = OperatingPoint(SLIDE.sensitivity, SLIDE.specificity)
    for sensitivity, value in zip((0.8, 0.7, 0.9), others[1].numbers["sensitivity"], strict=True):
        assert value == pytest.approx(
            apply_ai(reader, OperatingPoint(sensitivity, 0.9), "second_reader_or").sensitivity
        )
    guided = others[-1].numbers
    assert guided["found"][0] == pytest.approx(4)
    assert guided["net_benefit"][0] == pytest.approx(4 - 95 * 0.05 / 0.95), "a cancer that is not biopsied is not found"


@both
def test_intervals_of_effects_are_those_of_the_test_cases(screened, dims):
    rates = measured_rates(screened(dims), classes=["mass"], specificity=0.8)
    today, triage, *_ = effects(rates, SLIDE)
    assert len(set(today.numbers["found"])) == 1, "today's programme does not depend on the model"
    value, low, high = triage.numbers["found"]
    assert (value, low, high) == pytest.approx(
        tuple(5 * rates.facts()["sensitivity"][k] for k in ("value", "low", "high"))
    )


@both
def test_of_another_folder_the_threshold_is_of_its_validation_cases_or_of_the_models(screened, dims, tmp_path):
    model = screened(dims)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    lines = ["image,split,label"]
    cases = [("val", 0.6, "none"), ("val", 0.7, "mass"), ("test", 0.65, "none"), ("test", 0.8, "mass")]
    for number, (split, value, label) in enumerate(cases):
        np.save(elsewhere / f"{number}.npy", np.full((4,) * dims, value, np.float32))
        lines.append(f"{number}.npy,{split},{label}")
    (elsewhere / "cases.csv").write_text("\n".join(lines))
    own = measured_rates(model, str(elsewhere), classes=["mass"], specificity=1.0)
    assert own.threshold == pytest.approx(0.7)
    (elsewhere / "cases.csv").write_text("\n".join([lines[0], *lines[3:]]))
    models = measured_rates(model, str(elsewhere), classes=["mass"], specificity=1.0)
    assert models.threshold == pytest.approx(0.9, abs=1e-4), "no validation case of the model without a mass has more"
    assert models.rates(np.ones(2)) == (0.0, 1.0)


def test_the_command_measures_a_run_by_groups_and_writes_a_page(at_work, tmp_path, capsys):
    cases = {"train": 6, "val": 8, "test": 10}
    data = {"size": [16, 16], "patch": [16, 16], "diameter_mm": [4, 5], "distractors": [0, 0], "cases": cases}
    steps = {"train.steps": 2, "train.batch": 4, "train.precision": "32", "data.workers": 0}
    run = train(
        "cnn", {**{f"data.{key}": value for key, value in data.items()}, **steps, "model.backbone.widths": [4, 8]}
    )
    page = tmp_path / "page.html"
    assert main(["screen", str(run.folder), "--by", "size", "--report", str(page), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    groups = facts["by"]["size"]
    assert sum(of["cases"] for of in groups.values()) == facts["cases"] == cases["test"]
    assert sum(of["with_finding"] for of in groups.values()) == facts["with_finding"] == cases["test"] / 2
    text = page.read_text()
    assert "<strong>1,000</strong> screened" in text
    assert "triage: the reader reads only what the model flags" in text
    assert main(["screen", str(run.folder), "--class", "mas"]) == 2
    assert "did you mean 'mass'" in capsys.readouterr().err


def test_a_stated_model_takes_no_options_of_a_measured_one(capsys):
    assert main(["screen", "--sensitivity", "0.8", "--by", "size"]) == 2
    assert "name an entry or run" in capsys.readouterr().err
