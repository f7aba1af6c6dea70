"""Rows, paired differences and verdicts, from numbers that are known."""

from __future__ import annotations

import csv
import math

import pytest

from cphloc.studies.results import Results
from cphloc.studies.study import Cell, Study, Text

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
