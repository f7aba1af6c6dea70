"""Publish checks: every problem of a run is reported, and nothing is written."""

from __future__ import annotations

import dataclasses
import json
import re
import types

import pytest

from cphloc.data.case import Case
from cphloc.data.datasets.phantom import PhantomCases
from cphloc.errors import DataError, InputError
from cphloc.publishing.checks import leak_refusals
from cphloc.registry import catalogue


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda r: (r.folder / "evaluation-test.json").unlink(), "evaluation-test.json is missing"),
        (lambda r: (r.folder / "evaluation-test.csv").unlink(), "evaluation-test.csv is missing"),
        (lambda r: (r.folder / "best.safetensors").unlink(), "training has not finished"),
        (lambda r: r.say({}), "'intended_use' is missing"),
        (lambda r: r.edit("evaluation-test.json", "metrics", "dice", "low"), "metric 'dice' has no interval"),
        (lambda r: r.edit("evaluation-test.json", "metrics", value={}), "has no metric"),
        (lambda r: r.edit("evaluation-test.json", "baseline"), "has no baseline"),
        (lambda r: r.edit("evaluation-test.json", "baseline", "metrics", "dice", "high"), "baseline metric 'dice'"),
        (lambda r: r.edit("evaluation-test.json", "per_class", "mass", "dice", "low"), "mass's metric 'dice'"),
        (lambda r: r.edit("evaluation-test.json", "speed"), "has no ms_per_case"),
        (lambda r: r.edit("evaluation-test.json", "cases", value=[]), "does not name its cases"),
        (lambda r: r.edit("evaluation-test.json", "contents", value={"x": ""}), "3 test cases are new since the evalu"),
        (lambda r: r.edit("facts.json", "data_fingerprint"), "states no data_fingerprint"),
    ],
)
def test_an_incomplete_run_is_refused_and_nothing_is_written(train_run, put, zoo, registered, spoil, says):
    run = train_run()
    spoil(run)
    with pytest.raises(InputError, match=says):
        put(run)
    assert not (zoo / "tiny" / "1.0.0").exists()
    assert registered == []


@pytest.fixture
def made_up_tables(monkeypatch):
    """Let an evaluation state other numbers than its table of cases gives."""
    from cphloc.publishing import freeze

    monkeypatch.setattr(freeze, "disagreements", lambda listing, recipe: [])


def test_facts_that_are_cut_off_are_one_clear_error(train_run, put):
    run = train_run()
    (run.folder / "facts.json").write_text('{"seed": ')
    with pytest.raises(DataError, match=r"facts\.json: not JSON \(.*\); write it again"):
        put(run)


def test_all_reasons_are_told_at_once(train_run, put):
    run = train_run()
    run.edit("evaluation-test.json", "metrics", "dice", "low")
    run.edit("facts.json", "seed")
    run.say({})
    with pytest.raises(InputError) as caught:
        put(run)
    assert str(caught.value).count("\n  - ") == 5


def test_a_data_set_without_licence_is_refused(train_run, put, monkeypatch):

    known = catalogue.card
    unlicensed = lambda kind, name: known(kind, name).model_copy(update={"licence": None})  # noqa: E731
    monkeypatch.setattr("cphloc.publishing.source.catalogue.card", unlicensed)
    with pytest.raises(InputError, match="'phantom' states no licence"):
        put(train_run())


def test_a_version_that_is_significantly_worse_needs_a_reason(made_up_tables, train_run, put, zoo):
    many = tuple(0.8 + 0.01 * (i % 3) for i in range(12))
    good, bad = train_run(name="good"), train_run(name="bad")
    for run, shift in ((good, 0.0), (bad, -0.2)):
        rows = "".join(f"x{i},x{i},{value + shift}\n" for i, value in enumerate(many))
        (run.folder / "evaluation-test.csv").write_text(f"case,patient,dice\n{rows}")
    put(good)
    with pytest.raises(InputError, match=r"dice is significantly worse than that of tiny@1\.0\.0: by 0\.2000"):
        put(bad, "1.1.0")
    entry = put(bad, "1.1.0", because="smaller by half")
    assert entry.because == "smaller by half"
    assert "smaller by half" in (zoo / "tiny" / "1.1.0" / "card.md").read_text()


def test_a_metric_without_cases_is_compared_by_its_interval(train_run, put):
    good, bad = train_run(name="good"), train_run(name="bad")
    for run, value in ((good, 0.8), (bad, 0.5)):
        ap = {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 3}
        run.edit("evaluation-test.json", "metrics", value={"ap50": ap})
        run.edit("evaluation-test.json", "paired", "metrics", value={"ap50": ap | {"p_value": None}})
    put(good)
    with pytest.raises(InputError, match=r"ap50 0\.5000 .* is worse than that of tiny@1\.0\.0"):
        put(bad, "1.1.0")


SPLITS = {"train": ("t1", "t2"), "val": ("v1", "v2"), "test": ("e1", "e2")}


@pytest.fixture
def cases(tmp_path):
    """Two cases per split, each with a patient and an image of its own."""

    def case(name):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
        return Case(id=name, patient=f"patient of {name}", images=(tmp_path / f"{name}.png",))

    return {split: [case(name) for name in names] for split, names in SPLITS.items()}


def problems(cases):
    return leak_refusals(types.SimpleNamespace(cases=cases.__getitem__), [case.id for case in cases["test"]], "test")


def test_splits_that_share_nothing_have_no_problem(cases):
    assert problems(cases) == []


@pytest.mark.parametrize(("later", "earlier"), [("test", "train"), ("test", "val"), ("val", "train")])
@pytest.mark.parametrize("what", ["cases", "patients", "images"])
def test_a_case_that_leaks_into_an_earlier_split_is_a_problem(cases, later, earlier, what):
    leaked, seen = cases[later][0], cases[earlier][1]
    if what == "images":  # the same picture under another name
        leaked.images[0].write_bytes(seen.images[0].read_bytes())
    field = {"cases": "id", "patients": "patient", "images": "images"}[what]
    if what != "images":
        leaked = dataclasses.replace(leaked, **{field: getattr(seen, field)})
    (found,) = problems({**cases, later: [leaked, *cases[later][1:]]})
    assert re.match(rf"1 {later} {what} are also in .*{earlier}.*: ", found)


def test_an_evaluated_case_outside_the_split_is_a_problem(cases):
    dataset = types.SimpleNamespace(cases=cases.__getitem__)
    assert leak_refusals(dataset, ["e1", "t1"], "test") == ["1 evaluated cases are not in the test split: t1"]


def test_a_run_with_a_validation_patient_in_training_is_refused(train_run, put, monkeypatch):
    honest = PhantomCases.cases

    def leaking(self, split):
        cases = honest(self, split)
        if split != "val":
            return cases
        return [dataclasses.replace(cases[0], patient=honest(self, "train")[0].patient), *cases[1:]]

    run = train_run()
    monkeypatch.setattr(PhantomCases, "cases", leaking)
    with pytest.raises(InputError, match="1 val patients are also in train"):
        put(run)


def with_gain(run, low, patients):
    """A run whose Dice is 0.1 above its baseline, with an interval from ``low``, on so many patients."""
    facts = json.loads((run.folder / "evaluation-test.json").read_text())
    facts["paired"]["metrics"]["dice"] |= {"value": 0.1, "low": low, "high": 0.2}
    run.write("evaluation-test.json", facts)
    rows = "".join(f"{case},p{i % patients},0.8\n" for i, case in enumerate([f"x{i}" for i in range(12)]))
    (run.folder / "evaluation-test.csv").write_text(f"case,patient,dice\n{rows}")
    return run


@pytest.mark.parametrize(("low", "patients", "published"), [(0.01, 6, True), (-0.01, 6, False), (-0.01, 5, True)])
def test_a_version_must_be_above_its_baseline(train_run, put, made_up_tables, low, patients, published):
    run = with_gain(train_run(), low, patients)
    if published:
        assert put(run).below_baseline is None
        return
    with pytest.raises(InputError, match=r"dice is not above the baseline \(nothing\): \+0.1000 \[-0.0100, \+0.2000\]"):
        put(run)
    entry = put(run, below_baseline="a negative result")
    assert entry.below_baseline == "a negative result"
    assert entry.summary.startswith("Not above its baseline. ")


def test_few_patients_need_a_mean_above_the_baseline(train_run, put):
    run = train_run()
    run.edit(
        "evaluation-test.json", "paired", "metrics", "dice", value={"value": -0.1, "low": -0.2, "high": 0.0, "n": 8}
    )
    rows = "".join(f"x{i},p{i % 3},0.8\n" for i in range(8))
    (run.folder / "evaluation-test.csv").write_text(f"case,patient,dice\n{rows}")
    with pytest.raises(InputError, match="paired over 8 cases of 3 patients"):
        put(run)


def test_an_evaluation_without_paired_differences_is_refused(train_run, put):
    run = train_run()
    run.edit("evaluation-test.json", "paired")
    with pytest.raises(InputError, match="no paired differences from the baseline: evaluate the run again"):
        put(run)
