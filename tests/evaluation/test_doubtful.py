"""Doubtful annotations count as unknown, and a second column counts them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cphloc.cli.evaluate import answer
from cphloc.data.case import AnnotationSource, Case
from cphloc.data.datasets.openkbp import ORGANS, OpenKbp
from cphloc.evaluation.doubtful import with_doubtful
from cphloc.evaluation.evaluate import Evaluation
from cphloc.evaluation.prediction import CasePrediction
from cphloc.evaluation.scores import ScoredCase, Scores, score_case, summary
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry

TWO = {1: "brainstem", 2: "larynx"}
MASK = np.array([[[1, 1, 2, 2], [0, 0, 2, 2]]], np.uint8)


def scored(case: Case) -> ScoredCase:
    """The same prediction of every case: all of the brainstem, half of the larynx."""
    found = MASK * np.array([[[1, 1, 1, 1], [1, 1, 0, 0]]], np.uint8)
    known = case.annotation.known
    annotation = Annotation(mask=MASK, mask_known=None if known is None else np.array(known))
    return score_case(
        case.id,
        case.patient,
        CasePrediction(mask=found),
        annotation,
        Geometry.regular(MASK.shape, (1.0, 1.0, 1.0)),
        TWO,
    )


class Listed:
    """Two cases; the larynx of the second is doubtful."""

    def __init__(self, doubtful: bool = False) -> None:
        self.doubtful = doubtful

    def with_doubtful(self):
        return None if self.doubtful else Listed(doubtful=True)

    def cases(self, split):
        known = {"a": (True, True), "b": (True, self.doubtful)}
        return [Case(id, id, (), AnnotationSource(known=of)) for id, of in known.items()]


def measured():
    data, asked = Listed(), []

    def score(cases):
        asked.extend(case.id for case in cases)
        return Scores([scored(case) for case in cases], TWO)

    scores = score(data.cases("test"))
    asked.clear()
    return scores, with_doubtful(data, "test", scores, score), asked


def test_only_the_cases_with_a_doubtful_contour_are_measured_again():
    scores, found, asked = measured()
    assert asked == found["cases"] == ["b"]
    without = summary(scores.intervals())["per_class"]["larynx"]["dice"]
    assert (without["value"], without["n"]) == (pytest.approx(2 / 3), 1)
    larynx = found["per_class"]["larynx"]["dice"]
    assert (larynx["value"], larynx["n"]) == (pytest.approx(2 / 3), 2)
    assert summary(scores.intervals())["metrics"]["dice"]["value"] == pytest.approx((5 / 6 + 1) / 2)
    assert found["metrics"]["dice"]["value"] == pytest.approx(5 / 6)


def test_a_data_set_without_doubtful_contours_has_no_second_column():
    data = Listed(doubtful=True)
    scores = Scores([scored(case) for case in data.cases("test")], TWO)
    assert with_doubtful(data, "test", scores, pytest.fail) is None


def test_the_column_stands_beside_the_metrics():
    scores, found, _ = measured()
    facts = {
        "split": "test",
        "patients": 2,
        **summary(scores.intervals()),
        "speed": {"ms_per_case": 1.0},
        "recommended": {},
        "sensitivity_at_fp": {},
        "by": {},
        "baseline": None,
        "paired": None,
    }
    plain = answer(Evaluation("x", "test", facts, [], None)).text
    assert "doubtful" not in plain
    text = answer(Evaluation("x", "test", {**facts, "doubtful": found}, [], None)).text
    assert "with doubtful contours" in text.splitlines()[0]
    row = next(line for line in text.splitlines() if line.startswith("dice/larynx"))
    assert row.count("0.667") >= 2


def test_openkbp_opens_its_doubtful_contours(tmp_path):
    (tmp_path / "cases.csv").write_text("case,split,contoured,doubtful\npt_066,train,brainstem larynx,larynx\n")
    data = OpenKbp(str(tmp_path), {1: "larynx", 2: "brainstem"})
    whole = data.with_doubtful()
    assert data.cases("train")[0].annotation.known == (False, True)
    assert whole.cases("train")[0].annotation.known == (True, True)
    assert whole.classes == data.classes
    assert whole.with_doubtful() is None
    assert len(ORGANS) == 7
    assert replace(data.cases("train")[0], id="x").id == "x"
