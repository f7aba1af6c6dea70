"""Rows, paired differences and verdicts, from numbers that are known."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import pytest
import scipy.stats

from cphloc.config import jsonio
from cphloc.studies.results import Results, limits_text
from cphloc.studies.study import Cell, Condition, Study, Text

TEXT = {
    "claim": "c",
    "expected": "e",
    "metrics": ["auc"],
    "seeds": 5,
    "compare": [["a", "b"]],
    "arms": {"a": {}, "b": {}},
}


def results(first, second, conditions=(), seeds=5):
    text = Text(**{**TEXT, "seeds": seeds, "verdict": list(conditions)})
    study = Study("s", text, [Cell("a"), Cell("b")], [])
    found = [
        {"arm": arm, "at": None, "seed": seed, "values": {"": {"auc": value}}, "seconds": 1.0, "recipe_sha256": None}
        for arm, values in (("a", first), ("b", second))
        for seed, value in enumerate(values)
    ]
    return Results(study, found)


def test_differences_are_paired_by_seed():
    apart = results([0.1, 0.9, 0.2, 0.8, 0.5], [0.0, 0.8, 0.1, 0.7, 0.4])
    ((pair, at, metric, found),) = apart.differences
    assert (pair, at, metric) == (["a", "b"], None, "auc")
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert apart.rows[0].interval("auc").low < 0.3 < 0.7 < apart.rows[0].interval("auc").high + 0.1


def test_costs_are_shown_and_not_compared():
    costs = ["minutes", "minutes_low", "minutes_high"]
    text = Text(**{**TEXT, "metrics": ["auc", *costs], "against": "minutes"})
    values = {"a": {"auc": 0.9, **dict.fromkeys(costs, 2.0)}, "b": {"auc": 0.7, **dict.fromkeys(costs, 1.0)}}
    found = [
        {"arm": arm, "at": None, "seed": seed, "values": {"": of}, "seconds": 1.0, "recipe_sha256": None}
        for arm, of in values.items()
        for seed in range(5)
    ]
    priced = Results(Study("s", text, [Cell("a"), Cell("b")], []), found)
    assert [metric for _, _, metric, _ in priced.differences] == ["auc"]
    assert priced.rows[0].interval("minutes").value == 2.0


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        ({"compare": ["a", "b"], "above": 0.05}, "holds"),
        ({"compare": ["a", "b"], "above": 0.15}, "fails"),
        ({"compare": ["a", "b"], "below": 0.15}, "holds"),
        ({"compare": ["a", "b"], "below": 0.05}, "fails"),
        ({"row": "a", "above": 0.5}, "undecided"),
        ({"row": "a", "below": 0.95}, "holds"),
        ({"row": "a/other", "below": 0.95}, "undecided"),
    ],
)
def test_a_condition_holds_only_where_the_whole_interval_does(condition, verdict):
    found = results([0.1, 0.9, 0.2, 0.8, 0.5], [0.0, 0.8, 0.1, 0.7, 0.4], [{"metric": "auc", **condition}])
    assert found.verdict == verdict


def test_intervals_over_seeds_are_those_of_the_paired_t_test():
    first, second = [0.81, 0.95, 0.80, 0.82, 0.93], [0.60, 0.71, 0.69, 0.62, 0.70]
    made = results(first, second)
    ((_, _, _, found),) = made.differences
    expected = scipy.stats.ttest_rel(first, second)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)), abs=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    alone = scipy.stats.ttest_1samp(first, 0).confidence_interval(0.95)
    assert made.rows[0].interval("auc")[:3] == pytest.approx((0.862, *alone), abs=1e-9)


def test_undefined_seeds_are_left_out_and_one_seed_has_no_interval():
    made = results([0.8, math.nan, 0.9, math.nan, math.nan], [0.7, 0.7, math.nan, 0.7, 0.7])
    ((_, _, _, found),) = made.differences
    assert (found.value, found.n, found.n_undefined) == (pytest.approx(0.1), 1, 4)
    assert math.isnan(found.low)
    assert made.rows[0].interval("auc").n == 2


def test_few_seeds_or_missing_jobs_decide_nothing():
    condition = {"row": "a", "metric": "auc", "above": 0.0}
    assert results([1.0] * 4, [1.0] * 4, [condition], seeds=4).verdict == "undecided"
    cut = results([1.0] * 5, [1.0] * 3, [condition])
    assert not cut.complete
    assert cut.verdict is None
    assert math.isnan(cut.rows[1].values["auc"][-1])


def test_csv_has_one_line_a_value(tmp_path):
    results([1.0] * 5, [0.5] * 5).write_csv(tmp_path / "r.csv")
    with (tmp_path / "r.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 10
    assert lines[-1] == {"row": "b", "at": "", "seed": "4", "metric": "auc", "value": "0.5"}


def marked(first, second, conditions, **extra):
    """Results as of `results`, with further keys in every job: a function of its arm and value."""
    made = results(first, second, conditions)
    found = [{**f, **{k: make(f["arm"], f["values"][""]["auc"]) for k, make in extra.items()}} for f in made.found]
    return Results(made.study, found)


LIMIT = 240.0


@pytest.mark.parametrize(
    ("first", "second", "condition", "verdict"),
    [
        ([LIMIT] * 5, [LIMIT] * 5, {"compare": ["a", "b"], "below": 0.0}, "undecided"),
        ([LIMIT] * 5, [LIMIT] * 5, {"compare": ["a", "b"], "above": 0.0}, "undecided"),
        ([100, 110, 120, 90, 100], [LIMIT] * 5, {"compare": ["a", "b"], "below": 0.0}, "holds"),
        ([100, 110, 120, 90, 100], [LIMIT] * 5, {"compare": ["a", "b"], "below": -200.0}, "undecided"),
        ([LIMIT] * 5, [100, 110, 120, 90, 100], {"compare": ["a", "b"], "below": 0.0}, "fails"),
        ([100, 110, LIMIT, 90, 100], [120, 130, LIMIT, 110, 120], {"compare": ["a", "b"], "below": 0.0}, "undecided"),
        ([LIMIT] * 5, [LIMIT] * 5, {"row": "a", "below": 300.0}, "undecided"),
        ([LIMIT] * 5, [LIMIT] * 5, {"row": "a", "above": 200.0}, "holds"),
    ],
)
def test_a_censored_value_decides_only_what_its_bound_decides(first, second, condition, verdict):
    censored = {"censored": lambda _, value: {"": ["auc"] if value == LIMIT else []}}
    found = marked(first, second, [{"metric": "auc", **condition}], **censored)
    assert found.verdict == verdict
    (difference,) = found.facts()["differences"]
    assert difference["n_censored"] == sum(LIMIT in pair for pair in zip(first, second, strict=True))
    assert difference["value"] is None
    assert limits_text(difference) != ""


@pytest.mark.parametrize(("prior", "verdict"), [(0.5, "holds"), (0.8, "undecided"), (0.95, "undecided")])
def test_a_condition_on_an_arm_that_did_not_learn_is_undecided(prior, verdict):
    values = [0.81, 0.79, 0.8, 0.82, 0.78], [0.6, 0.61, 0.59, 0.6, 0.6]
    baseline = {"baseline": lambda arm, _: {"": {"auc": prior if arm == "a" else 0.5}}}
    condition = {"compare": ["a", "b"], "metric": "auc", "above": 0.1}
    found = marked(*values, [condition], **baseline)
    assert found.verdict == verdict
    assert found.facts()["not_learned"] == ([] if verdict == "holds" else ["a"])
    text = found.study.text.model_copy(update={"cannot_learn": {"a": "the claim says so"}})
    assert Results(replace(found.study, text=text), found.found).verdict == "holds"


def test_stored_results_are_decided_anew_and_equal_the_first(tmp_path):
    condition = {"compare": ["a", "b"], "metric": "auc", "above": 0.1}
    extra = {
        "censored": lambda arm, value: {"": ["auc"] if arm == "a" and value > 0.9 else []},
        "baseline": lambda arm, _: {"": {"auc": 0.5}},
    }
    found = marked([0.81, 0.95, 0.8, 0.82, math.nan], [0.6, 0.61, 0.59, 0.6, 0.6], [condition], **extra)
    facts = json.loads(jsonio.dumps(found.facts()))
    assert Results.of_facts(found.study, facts).facts() == facts
    stricter = found.study.text.model_copy(update={"verdict": [Condition(metric="auc", row="b", above=0.7)]})
    assert Results.of_facts(replace(found.study, text=stricter), facts).verdict == "fails"
