"""Out-of-fold predictions of a cross-validation: every case by the network of the fold that held it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cphloc.data.case import Case, read_case, strongest_rung
from cphloc.data.dataset import Dataset
from cphloc.data.folds import Division, stated
from cphloc.data.pipeline.pipeline import open_undivided
from cphloc.data.pipeline.seen import SeenData, contents_of
from cphloc.data.pipeline.tiles import tiles_of
from cphloc.errors import DataError
from cphloc.evaluation.baseline import Baseline, prior_baseline
from cphloc.evaluation.groups import reference_facts
from cphloc.evaluation.pictures import draw_case
from cphloc.evaluation.prediction import CasePrediction
from cphloc.evaluation.scores import ScoredCase, Scores, score_case
from cphloc.evaluation.stored_predictions import StoredPrediction, file_name, predict_case
from cphloc.inference.localization import SHOWN_SCORE
from cphloc.modeling.classes import model_classes
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry
from cphloc.structures.merging import merged_annotation
from cphloc.structures.options import Options
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

    def draw(self, id: str, title: str, path: Path) -> None:
        """Draw a case with its annotation and its stored prediction."""
        fold, case = next(pair for pair in self.cases if pair[1].id == id)
        volume, annotation = read_case(case, self.run.recipe.dims)
        done = merged_annotation(annotation.completed(volume.geometry.shape, len(self.classes)), self.classes)
        prediction = StoredPrediction.load(self.path(fold, case)).prediction
        draw_case(volume, done, prediction, self.classes, title, path, SHOWN_SCORE)

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
