"""Predict and score the cases of a split, and those of a baseline beside them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from cphloc.config import jsonio
from cphloc.data.case import Case, strongest_rung
from cphloc.distributed.machine import peak_ram_mb
from cphloc.evaluation.baseline import BASELINES, Baseline
from cphloc.evaluation.comparison import beside, paired_differences
from cphloc.evaluation.files import all_boxes, read_completed
from cphloc.evaluation.groups import reference_facts, why_metrics
from cphloc.evaluation.prediction import CasePrediction, case_prediction
from cphloc.evaluation.scores import ScoredCase, Scores, score_case, summary
from cphloc.evaluation.stages import StageErrors
from cphloc.inference.localizer import Localizer
from cphloc.metrics.bootstrap import Interval
from cphloc.progress import track
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry


@dataclass(frozen=True)
class Measured:
    """A model and a baseline, scored on the same cases.

    Args:
        localizer: the model.
        cases: the cases.
        scores: of the model.
        milliseconds: time of each prediction.
        baseline: what it is compared with; ``None`` where there is nothing to average.
        beneath: scores of the baseline; ``None`` without one.
    """

    localizer: Localizer
    cases: Sequence[Case]
    scores: Scores
    milliseconds: Sequence[float]
    baseline: Baseline | None
    beneath: Scores | None

    @cached_property
    def intervals(self) -> Mapping[str, Interval]:
        """Metrics of the model with their 95 % intervals."""
        return self.scores.intervals()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row per case, with the scores of both."""
        return beside(self.scores, self.beneath)

    def facts(self, split: str) -> dict[str, Any]:
        """Return the content of ``evaluation-<split>.json`` that depends on model, baseline and cases alone."""
        speed = {"ms_per_case": statistics.median(self.milliseconds), "peak_ram_mb": peak_ram_mb()}
        facts = {
            "split": split,
            "patients": len({case.patient for case in self.cases}),
            **summary(self.intervals),
            **why_metrics(self.scores, self.intervals, self.localizer.recipe.nsd_tolerance_mm),
            "sensitivity_at_fp": self.scores.sensitivity_at_fp(),
            "baseline": None,
            "paired": None,
            "calibration": _calibration(self.localizer.temperature, self.scores, self.intervals),
            "cases": [case.id for case in self.cases],
            "speed": speed,
        }
        if self.baseline is not None and self.beneath is not None:
            facts["baseline"] = {"name": self.baseline.name, **summary(self.beneath.intervals())}
            facts["paired"] = summary(paired_differences(self.scores, self.beneath))
        return facts


def measure(
    localizer: Localizer,
    cases: Sequence[Case],
    make_baseline: Callable[[Collection[str]], Baseline] | None,
    errors: StageErrors | None = None,
) -> Measured:
    """Predict and score every case, and compare with a baseline.

    Args:
        localizer: the model.
        cases: the cases.
        make_baseline: makes the baseline of the parts that the model predicts, see
            `cphloc.evaluation.comparison.find_baseline`.
        errors: collects the errors of the stages of a pipeline.
    """
    scores, parts, milliseconds = score_cases(localizer, cases, errors)
    baseline = None if make_baseline is None else make_baseline(parts)
    beneath = None if baseline is None else _score_baseline(baseline, localizer, cases)
    return Measured(localizer, cases, scores, milliseconds, baseline, beneath)


def score_cases(
    localizer: Localizer, cases: Sequence[Case], errors: StageErrors | None = None
) -> tuple[Scores, list[str], list[float]]:
    """Predict and score every case; also returns the parts that the model predicts and milliseconds per case.

    Args:
        localizer: the model.
        cases: the cases.
        errors: collects the errors of the stages of a pipeline.
    """
    scored, milliseconds = [], []
    parts: list[str] = []
    strongest = strongest_rung(cases)
    for case in track(cases, "evaluating"):
        volume, annotation = read_completed(case, localizer, strongest)
        started = time.perf_counter()
        result = localizer.predict(volume, threshold=all_boxes(localizer))
        milliseconds.append(1000 * (time.perf_counter() - started))
        prediction = case_prediction(result, localizer.classes)
        one = _scored(localizer, case, prediction, annotation, volume.geometry)
        stated = {"reference": annotation.digest, **reference_facts(annotation, volume.geometry, localizer.classes)}
        stated |= {} if errors is None else errors.add(case, result, one, volume, annotation)
        known = replace(one.scores, facts={**one.scores.facts, **stated})
        scored.append(replace(one, scores=known))
        parts = [part for part in BASELINES if getattr(prediction, part) is not None]
    return Scores(scored, localizer.classes), parts, milliseconds


def _scored(
    localizer: Localizer, case: Case, prediction: CasePrediction, annotation: Annotation, geometry: Geometry
) -> ScoredCase:
    tolerances = localizer.recipe.nsd_tolerance_mm
    return score_case(case.id, case.patient, prediction, annotation, geometry, localizer.classes, tolerances)


def _calibration(temperature: float, scores: Scores, intervals: Mapping[str, Interval]) -> dict[str, Any] | None:
    """Calibration error before and after temperature scaling; ``None`` if the temperature is 1 or no label is known."""
    if temperature == 1 or "ece" not in intervals:
        return None
    before = scores.calibration_error(1 / temperature)
    errors = jsonio.plain({"ece_before": before._asdict(), "ece_after": intervals["ece"]._asdict()})
    return {"temperature": temperature, "split": "val", **errors}


def _score_baseline(baseline: Baseline, localizer: Localizer, cases: Sequence[Case]) -> Scores:
    """Score the baseline on the evaluated ``cases``."""
    scored, strongest = [], strongest_rung(cases)
    for case in cases:
        volume, annotation = read_completed(case, localizer, strongest)
        scored.append(_scored(localizer, case, baseline(volume.geometry), annotation, volume.geometry))
    return Scores(scored, localizer.classes)
