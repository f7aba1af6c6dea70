"""Evaluate a cross-validation by the out-of-fold predictions of all cases."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cphloc.distributed.machine import peak_ram_mb
from cphloc.errors import InputError
from cphloc.evaluation.baseline import BASELINES, prior_baseline
from cphloc.evaluation.choose import choose_options, stored_or_chosen
from cphloc.evaluation.comparison import beside, paired_differences
from cphloc.evaluation.files import write_evaluation
from cphloc.evaluation.groups import by_group, groups_of, why_metrics
from cphloc.evaluation.out_of_fold import OutOfFold, check_unchanged, contents_by_id
from cphloc.evaluation.prediction import CasePrediction
from cphloc.evaluation.report import write_report
from cphloc.evaluation.scores import Scores, summary
from cphloc.evaluation.stored_predictions import StoredPrediction
from cphloc.structures.geometry import Geometry
from cphloc.structures.options import ChosenOptions, OptionName
from cphloc.structures.split import OUT_OF_FOLD
from cphloc.tracking.run import Run
from cphloc.zoo.load import localizer_of
from cphloc.zoo.names import BASELINE_FILE


def evaluate_folds(
    run: Run, choose: bool | Sequence[OptionName] = False, by: Sequence[str] = (), report: Path | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Score the out-of-fold predictions and write ``cases.csv`` and ``evaluation-out_of_fold.json``.

    The options of a prediction are chosen on the same cases, each predicted by the network that has not seen it; the
    metrics are those of predictions without them, so that nothing is measured on the cases that it was chosen on.

    Args:
        run: a cross-validation of which every fold is trained and predicted.
        choose: whether to choose the options again, also where they were chosen for these weights and cases; or the
            names of those to try.
        by: columns of the data set's table: metrics of each of their groups as well.
        report: HTML page to write, with the worst cases first.

    Returns:
        metrics with 95 % intervals resampled by patient, baseline and paired difference, like
        `cphloc.evaluation.evaluate.Evaluation.facts`, and one row per case.

    Raises:
        InputError: folds are missing, a recipe was edited after the training, or there is no such column.
        DataError: the data set has changed, or a prediction is damaged.
    """
    found = OutOfFold(run)
    check_unchanged(found)
    cases = [case for _, case in found.cases]
    for column in by:
        groups_of(column, found.dataset, cases)
    members = [_finished(found, fold) for fold in range(1, len(run.fold_folders) + 1)]
    milliseconds, given = [], set[str]()

    def _noted(stored: StoredPrediction, geometry: Geometry) -> CasePrediction:
        """Return a prediction as it is stored, and note its time and its parts."""
        milliseconds.append(stored.milliseconds)
        given.update(part for part in BASELINES if getattr(stored.prediction, part) is not None)
        return stored.prediction

    scores = found.scores(_noted)
    parts = [part for part in BASELINES if part in given]
    beneath, name = found.baseline_scores(parts)
    facts = _facts(found, scores, beneath, name)
    facts["by"] = {column: by_group(scores, groups_of(column, found.dataset, cases, scores)) for column in by}
    facts["options"] = _options(found, members, choose).model_dump()
    facts["folds"] = [_fold_facts(found, fold, member) for fold, member in enumerate(members, start=1)]
    facts["speed"] = {"ms_per_case": statistics.median(milliseconds), "peak_ram_mb": peak_ram_mb()}
    rows = [{**{key: row[key] for key in ("case", "patient", "fold")}, **row} for row in beside(scores, beneath)]
    of_all = prior_baseline(cases, run.recipe.dims, found.classes, parts)
    of_all.save(run.folder / BASELINE_FILE)
    write_evaluation(run.folder, facts, rows)
    if report is not None:
        write_report(report, run.title, run.recipe.headline, scores, facts, found.draw)
    return facts, rows


def _options(found: OutOfFold, members: Sequence[Run], again: bool | Sequence[OptionName]) -> ChosenOptions:
    """Options of the ensemble's predictions, chosen on every case with the network that has not seen it."""

    def _choose(names: Sequence[OptionName] | None) -> ChosenOptions:
        networks = [localizer_of(member) for member in members]
        return choose_options([(networks[fold - 1], case) for fold, case in found.cases], "out-of-fold", names)

    return stored_or_chosen(found.run, contents_by_id(found), _choose, again)


def _facts(found: OutOfFold, scores: Scores, beneath: Scores, baseline: str) -> dict[str, Any]:
    """Content of ``evaluation-out_of_fold.json`` without the folds and the speed."""
    intervals = scores.intervals()
    return {
        "split": OUT_OF_FOLD,
        "patients": len({case.patient for _, case in found.cases}),
        **summary(intervals),
        **why_metrics(scores, intervals, found.run.recipe.nsd_tolerance_mm),
        "sensitivity_at_fp": scores.sensitivity_at_fp(),
        "baseline": {"name": baseline, **summary(beneath.intervals())},
        "paired": summary(paired_differences(scores, beneath)),
        "calibration": None,
        "thresholds": None,
        "cases": [case.id for _, case in found.cases],
        "contents": contents_by_id(found),
    }


def _finished(found: OutOfFold, fold: int) -> Run:
    """Open the run of a fold whose held-out cases are all predicted."""
    folder = found.run.fold_folders[fold - 1]
    run = Run.open(folder) if (folder / "recipe.yaml").is_file() else None
    if run is None or not run.finished or not all(found.path(fold, case).is_file() for case in found.held_out(fold)):
        msg = (
            f"{found.run.folder}: fold {fold} has not finished; continue with: cphloc train --resume {found.run.folder}"
        )
        raise InputError(msg)
    run.check_recipe()
    return run


def _fold_facts(found: OutOfFold, fold: int, member: Run) -> dict[str, Any]:
    cases = found.held_out(fold)
    name = found.run.recipe.headline
    return {
        "fold": fold,
        "run": member.id,
        "weights_sha256": member.weights_sha256,
        "cases": len(cases),
        "patients": len({case.patient for case in cases}),
        "metrics": {name: member.metrics.get(f"val/{name}")},
    }
