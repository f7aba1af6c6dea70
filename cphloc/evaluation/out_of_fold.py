"""Out-of-fold predictions of a cross-validation: every case by the network of the fold that held it out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cphloc.data.case import Case, read_case, strongest_rung
from cphloc.data.dataset import Dataset
from cphloc.data.folds import Division, stated
from cphloc.data.pipeline.pipeline import open_undivided
from cphloc.data.pipeline.seen import SeenData, contents_of
from cphloc.data.pipeline.tiles import tiles_of
from cphloc.distributed.machine import peak_ram_mb
from cphloc.errors import DataError, InputError
from cphloc.evaluation.baseline import BASELINES, Baseline, prior_baseline
from cphloc.evaluation.choose import choose_options, stored_or_chosen
from cphloc.evaluation.comparison import beside, paired_differences
from cphloc.evaluation.files import write_evaluation
from cphloc.evaluation.groups import reference_facts, why_metrics
from cphloc.evaluation.prediction import CasePrediction
from cphloc.evaluation.scores import ScoredCase, Scores, score_case, summary
from cphloc.evaluation.stored_predictions import StoredPrediction, file_name, predict_case
from cphloc.modeling.classes import model_classes
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry
from cphloc.structures.merging import merged_annotation
from cphloc.structures.options import ChosenOptions, Options
from cphloc.structures.split import OUT_OF_FOLD
from cphloc.tracking.run import FOLDS_FILE, Run
from cphloc.zoo.load import localizer_of
from cphloc.zoo.names import BASELINE_FILE

PREDICTIONS = "predictions"
"""Folder with the predictions of the held-out cases, in the folder of a fold's run."""

Change = Callable[[StoredPrediction, Geometry], CasePrediction]
"""Derives a prediction from a stored one on the grid of the image, for example with another threshold."""


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The out-of-fold predictions of a cross-validation, and the annotations they are compared with.

    Options such as a threshold or a minimum size can be compared with `scores`, without predicting anything again.

    Args:
        run: the cross-validation.
    """

    run: Run

    @cached_property
    def dataset(self) -> Dataset:
        """The data set, undivided."""
        return open_undivided(self.run.recipe.data, self.run.recipe.dims)

    @cached_property
    def division(self) -> Division:
        """The folds, as they were when the cross-validation began."""
        cases = [case for split in ("train", "val") for case in self.dataset.cases(split)]
        return stated(cases, [], self.run.folder / FOLDS_FILE, len(self.run.fold_folders))

    @cached_property
    def classes(self) -> Mapping[int, str]:
        """Foreground classes, number 1..K -> name, with those that heads merge."""
        return model_classes(self.run.recipe, self.dataset.classes)

    @cached_property
    def cases(self) -> list[tuple[int, Case]]:
        """Every case that is held out, with the number of its fold, from 1."""
        return [(fold, case) for fold in range(1, len(self.division.held_out) + 1) for case in self.held_out(fold)]

    def held_out(self, fold: int) -> list[Case]:
        """Return the cases that are held out in a fold, which is counted from 1."""
        tiles, cases = self.run.recipe.data.tiles, self.division.split(fold)[1]
        return cases if tiles is None else [tile for case in cases for tile in tiles_of(case, tiles)]

    def path(self, fold: int, case: Case) -> Path:
        """Path of the stored prediction of a case that is held out in a fold."""
        return self.run.fold_folders[fold - 1] / PREDICTIONS / file_name(case.id)

    def annotated(self) -> Iterator[tuple[int, Case, Geometry, Annotation]]:
        """Read the annotation of every case, completed along the supervision ladder; yields fold, case and grid."""
        strongest = strongest_rung(case for _, case in self.cases)
        for fold, case in self.cases:
            volume, annotation = read_case(case, self.run.recipe.dims)
            done = annotation.completed(volume.geometry.shape, len(self.classes), strongest)
            yield fold, case, volume.geometry, merged_annotation(done, self.classes)

    def scores(self, change: Change = lambda stored, geometry: stored.prediction) -> Scores:
        """Score the out-of-fold predictions.

        Args:
            change: applied to each prediction; by default they are scored as they were stored.

        Raises:
            DataError: a prediction is missing or damaged, or a case cannot be read.
        """
        scored = []
        for fold, case, geometry, annotation in self.annotated():
            prediction = change(StoredPrediction.load(self.path(fold, case)), geometry)
            one = self._scored(case, prediction, annotation, geometry)
            facts = {**one.scores.facts, "fold": fold, "reference": annotation.digest}
            facts |= reference_facts(annotation, geometry, self.classes)
            scored.append(replace(one, scores=replace(one.scores, facts=facts)))
        return Scores(scored, self.classes)

    def baseline_scores(self, parts: Sequence[str]) -> tuple[Scores, str]:
        """Score the baseline of each fold, averaged from its own training cases, on the cases that it holds out.

        Args:
            parts: parts to predict, keys of `cphloc.evaluation.baseline.BASELINES`.

        Returns:
            the scores, and the name of the baseline.
        """
        baselines = {fold: self._baseline(fold, parts) for fold in range(1, len(self.run.fold_folders) + 1)}
        scored: list[ScoredCase] = []
        for fold, case, geometry, annotation in self.annotated():
            scored.append(self._scored(case, baselines[fold](geometry), annotation, geometry))
        return Scores(scored, self.classes), baselines[1].name

    def _scored(self, case: Case, prediction: CasePrediction, annotation: Annotation, geometry: Geometry) -> ScoredCase:
        tolerances = self.run.recipe.nsd_tolerance_mm
        return score_case(case.id, case.patient, prediction, annotation, geometry, self.classes, tolerances)

    def _baseline(self, fold: int, parts: Sequence[str]) -> Baseline:
        training = self.division.split(fold)[0]
        baseline = prior_baseline(training, self.run.recipe.dims, self.classes, parts)
        baseline.save(self.run.fold_folders[fold - 1] / BASELINE_FILE)
        return baseline


def predict_held_out(found: OutOfFold, fold: int) -> None:
    """Predict the held-out cases of a fold with its best weights and store the predictions; stored ones are kept.

    Args:
        found: the cross-validation.
        fold: number of the fold, from 1; its training has finished.

    Raises:
        DataError: the network has seen a held-out case or its patient, or an image cannot be read.
    """
    run, cases = Run.open(found.run.fold_folders[fold - 1]), found.held_out(fold)
    seen = SeenData.read(run.folder)
    if seen is None or (leaks := seen.leaks(cases, "val")):
        why = "; ".join(leaks) if seen is not None else "it does not state the cases it was trained on"
        msg = f"{run.folder}: cannot predict the cases that fold {fold} holds out: {why}; start a new cross-validation"
        raise DataError(msg)
    waiting = [case for case in cases if not found.path(fold, case).is_file()]
    localizer = localizer_of(run) if waiting else None
    for case in waiting:
        assert localizer is not None
        localizer.options = Options()  # options are chosen on what is stored here
        predict_case(localizer, case).save(found.path(fold, case))


def evaluate_folds(run: Run, choose: bool = False) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Score the out-of-fold predictions and write ``cases.csv`` and ``evaluation-out_of_fold.json``.

    The options of a prediction are chosen on the same cases, each predicted by the network that has not seen it; the
    metrics are those of predictions without them, so that nothing is measured on the cases that it was chosen on.

    Args:
        run: a cross-validation of which every fold is trained and predicted.
        choose: whether to choose the options again, also where they were chosen for these weights and cases.

    Returns:
        metrics with 95 % intervals resampled by patient, baseline and paired difference, like
        `cphloc.evaluation.evaluate.Evaluation.facts`, and one row per case.

    Raises:
        InputError: folds are missing, or a recipe was edited after the training.
        DataError: the data set has changed, or a prediction is damaged.
    """
    found = OutOfFold(run)
    check_unchanged(found)
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
    facts["options"] = _options(found, members, choose).model_dump()
    facts["folds"] = [_fold_facts(found, fold, member) for fold, member in enumerate(members, start=1)]
    facts["speed"] = {"ms_per_case": statistics.median(milliseconds), "peak_ram_mb": peak_ram_mb()}
    rows = [{**{key: row[key] for key in ("case", "patient", "fold")}, **row} for row in beside(scores, beneath)]
    of_all = prior_baseline([case for _, case in found.cases], run.recipe.dims, found.classes, parts)
    of_all.save(run.folder / BASELINE_FILE)
    write_evaluation(run.folder, facts, rows)
    return facts, rows


def _options(found: OutOfFold, members: Sequence[Run], again: bool) -> ChosenOptions:
    """Options of the ensemble's predictions, chosen on every case with the network that has not seen it."""

    def _choose() -> ChosenOptions:
        networks = [localizer_of(member) for member in members]
        return choose_options([(networks[fold - 1], case) for fold, case in found.cases], "out-of-fold")

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
        "by": {},
        "baseline": {"name": baseline, **summary(beneath.intervals())},
        "paired": summary(paired_differences(scores, beneath)),
        "calibration": None,
        "thresholds": None,
        "cases": [case.id for _, case in found.cases],
        "contents": contents_by_id(found),
    }


def check_unchanged(found: OutOfFold) -> None:
    """Check that recipe and data set of a cross-validation are those that it began with.

    Raises:
        InputError: the recipe was edited.
        DataError: cases have changed, are gone or are new.
    """
    run = found.run
    run.check_recipe()
    seen = SeenData.read(run.folder)
    if seen is not None and (changes := seen.changes(contents_of(found.dataset, ("train", "val")))):
        msg = f"cross-validation '{run.id}': the data set is not the one it began with; restore it, or start a new one"
        raise DataError("\n".join([msg, *(f"  - {change}" for change in changes)]))


def contents_by_id(found: OutOfFold) -> dict[str, str]:
    """Return the content hash of every training and validation case by id."""
    contents = contents_of(found.dataset, ("train", "val"))
    return {id: content for cases in contents.values() for id, content in cases.items()}


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
