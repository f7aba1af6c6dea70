"""Evaluate a run or a zoo entry on one split of its data set, on the grid of every image, and compare to a baseline."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cphloc.config import jsonio
from cphloc.data.case import Case, strongest_rung
from cphloc.data.dataset import Dataset
from cphloc.data.fingerprint import content_hash
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.distributed.machine import peak_ram_mb
from cphloc.errors import InputError, NotFoundError
from cphloc.evaluation.baseline import BASELINES, Baseline
from cphloc.evaluation.choose import choose_options, stored_or_chosen
from cphloc.evaluation.comparison import beside, find_baseline, own_dataset, paired_differences, tracked
from cphloc.evaluation.doubtful import with_doubtful
from cphloc.evaluation.evaluation_display import evaluation_display
from cphloc.evaluation.external import open_external
from cphloc.evaluation.files import all_boxes, draw_evaluation, read_completed, write_evaluation
from cphloc.evaluation.groups import by_group, groups_of, reference_facts, why_metrics
from cphloc.evaluation.out_of_fold import evaluate_folds
from cphloc.evaluation.prediction import CasePrediction, case_prediction
from cphloc.evaluation.report import write_report
from cphloc.evaluation.scores import ScoredCase, Scores, score_case, summary
from cphloc.evaluation.unseen import check_unseen
from cphloc.inference.localizer import Localizer
from cphloc.metrics.bootstrap import Interval
from cphloc.metrics.summary import tracking_metrics
from cphloc.progress import track
from cphloc.structures.annotation import Annotation
from cphloc.structures.display import Display, Displayed
from cphloc.structures.geometry import Geometry
from cphloc.structures.options import ChosenOptions
from cphloc.structures.split import OUT_OF_FOLD, Split
from cphloc.tracking.chosen import read_options
from cphloc.tracking.run import Run, evaluation_files
from cphloc.zoo.entries import Listing
from cphloc.zoo.load import localizer_of, open_listing
from cphloc.zoo.names import BASELINE_FILE
from cphloc.zoo.resolve import resolve_run_or_entry


@dataclass(frozen=True, repr=False)
class Evaluation(Displayed):
    """Result of `evaluate`.

    Args:
        source: folder of the run, or name of the entry.
        split: the split that was evaluated.
        facts: content of ``evaluation-<split>.json``: ``metrics``, ``per_class``, ``baseline``, ``paired`` (model minus
            baseline), ``calibration``, ``speed`` and ``cases``. ``baseline`` and ``paired`` are ``None`` where there is
            no baseline.
        rows: content of ``evaluation-<split>.csv``: the scores of one case per row, beside those of the baseline.
        folder: folder that both files were written to; ``None`` if none were written.
    """

    source: str
    split: str
    facts: dict[str, Any]
    rows: list[dict[str, Any]]
    folder: Path | None

    @property
    def table(self) -> Path | None:
        """Path of the table with one row per case; ``None`` if none was written."""
        if self.folder is None:
            return None
        return self.folder / evaluation_files(self.split)[1]

    def _display(self) -> Display:
        return evaluation_display(self.source, self.split, self.facts, self.folder)


def evaluate(
    source: str | Path | Run | Localizer,
    split: Split | None = None,
    root: str | None = None,
    out: str | Path | None = None,
    choose: bool = False,
    by: Sequence[str] = (),
    report: str | Path | None = None,
) -> Evaluation:
    """Predict every case of a split and score the predictions against the annotations.

    For a run, or when ``out`` is given, this also writes ``evaluation-<split>.json``, ``evaluation-<split>.csv`` and
    ``pictures/<split>-*``: the curves with their points, and pictures of the worst, median and best case. Those of a
    run are logged to MLflow as well, metrics as ``<split>/<metric>``.

    Args:
        source: a run (object, folder or id), an entry (``name``, ``name@1.2.0`` or folder), or a loaded model.
        split: ``train``, ``val`` or ``test``; by default ``test``, and of a cross-validation the out-of-fold
            predictions that it has stored.
        root: folder of the data set; by default that of the recipe. See `cphloc.evaluation.external.open_external`.
        out: folder to write the files to, for an entry or model; a run writes to its own folder.
        choose: whether to choose the options of a run's predictions again, on its validation cases, or of a
            cross-validation out of fold; the first evaluation of its weights always does.
        by: columns of the data set's table, such as ``site``, or ``size``: metrics of each of their groups as well.
        report: HTML page to write, with the worst cases first.

    Returns:
        metrics with 95 % confidence intervals, resampled by patient. Annotations that the data set lists as doubtful
        count as unknown; ``facts["doubtful"]`` holds the metrics with them, where there are any.

    Raises:
        NotFoundError: no such run, entry, data set or split.
        DataError: a case cannot be read, or the weights of the run depend on cases of the split.
        InputError: ``out`` is given for a run, its recipe was edited after the training, or there is no such column.
    """
    if split is None and (folds := _cross_validation(source)) is not None:
        return Evaluation(str(folds.folder), OUT_OF_FOLD, *evaluate_folds(folds, choose), folds.folder)
    split = split or "test"
    localizer, run = open_localizer(source)
    if run is not None and out is not None:
        msg = f"a run keeps its evaluation in its own folder, {run.folder}; omit --out"
        raise InputError(msg)
    data = localizer.recipe.data
    dataset = open_dataset(data, localizer.recipe.dims) if root is None else open_external(localizer, root)
    cases = dataset.cases(split)
    if not cases:
        msg = f"data set '{data.type}' has no cases in its {split} split; choose another split"
        raise NotFoundError(msg)
    for column in by:
        groups_of(column, dataset, cases)
    chosen = None if localizer.entry is None else localizer.entry.options
    check_unseen(run or localizer.listing, dataset, split, root is None)
    if run is not None and run.is_cross_validation:  # they were chosen out of fold
        chosen = read_options(run)
    elif run is not None:
        chosen = _options(localizer, run, own_dataset(localizer.recipe, dataset, root), choose)
    make_baseline = find_baseline(localizer, run, dataset, root)
    scores, parts, milliseconds = _score_cases(localizer, cases)
    baseline = None if make_baseline is None else make_baseline(parts)
    beneath = None if baseline is None else _score_baseline(baseline, localizer, cases)
    intervals = scores.intervals()
    speed = {"ms_per_case": statistics.median(milliseconds), "peak_ram_mb": peak_ram_mb()}
    facts = _facts(localizer, split, cases, scores, intervals) | {"speed": speed}
    facts["options"] = None if chosen is None else chosen.model_dump()
    facts["by"] = {column: by_group(scores, groups_of(column, dataset, cases, scores)) for column in by}
    if doubtful := with_doubtful(dataset, split, scores, lambda these: _score_cases(localizer, these)[0]):
        facts["doubtful"] = doubtful
    if baseline is not None and beneath is not None:
        facts["baseline"] = {"name": baseline.name, **summary(beneath.intervals())}
        facts["paired"] = summary(paired_differences(scores, beneath))
    if run is not None:
        facts["weights_sha256"] = run.weights_sha256
        facts["contents"] = {case.id: content_hash(case) for case in cases}
    folder = run.folder if run is not None else None if out is None else Path(out)
    if folder is not None:
        if run is not None and baseline is not None:
            baseline.save(run.folder / BASELINE_FILE)
        files = write_evaluation(folder, facts, beside(scores, beneath))
        files += draw_evaluation(folder / "pictures", localizer, cases, scores, split)
        if run is not None:
            _track(run, files, intervals, facts)
    if report is not None:
        write_report(Path(report), localizer, cases, scores, facts)
    return Evaluation(str(source if run is None else run.folder), split, facts, beside(scores, beneath), folder)


def _facts(
    localizer: Localizer, split: Split, cases: Sequence[Case], scores: Scores, intervals: Mapping[str, Interval]
) -> dict[str, Any]:
    """Content of ``evaluation-<split>.json`` that depends on the model alone, without speed and baseline."""
    return {
        "split": split,
        "patients": len({case.patient for case in cases}),
        **summary(intervals),
        **why_metrics(scores, intervals, localizer.recipe.nsd_tolerance_mm),
        "sensitivity_at_fp": scores.sensitivity_at_fp(),
        "baseline": None,
        "paired": None,
        "calibration": _calibration(localizer.temperature, scores, intervals),
        "cases": [case.id for case in cases],
    }


def _cross_validation(source: str | Path | Run | Localizer) -> Run | None:
    """Return the run that ``source`` names if it is a cross-validation."""
    found = None if isinstance(source, Localizer) else resolve_run_or_entry(source)
    return found if isinstance(found, Run) and found.is_cross_validation else None


def open_localizer(source: str | Path | Run | Localizer) -> tuple[Localizer, Run | None]:
    """Load the best weights of a run, or else a zoo entry.

    Args:
        source: a run (object, folder or id), an entry (``name``, ``name@1.2.0`` or folder), or a loaded model.

    Returns:
        the model, and its run (``None`` for an entry or a loaded model).

    Raises:
        NotFoundError: there is neither a run nor an entry of that name.
    """
    if isinstance(source, Localizer):
        return source, None
    if isinstance(source, Run):
        return localizer_of(source), source
    run = resolve_run_or_entry(source)
    if isinstance(run, Listing):
        return open_listing(run), None
    return localizer_of(run), run


def _score_cases(localizer: Localizer, cases: Sequence[Case]) -> tuple[Scores, list[str], list[float]]:
    """Predict and score every case; also returns the parts that the model predicts and milliseconds per case."""
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
        known = replace(one.scores, facts={**one.scores.facts, **stated})
        scored.append(replace(one, scores=known))
        parts = [part for part in BASELINES if getattr(prediction, part) is not None]
    return Scores(scored, localizer.classes), parts, milliseconds


def _scored(
    localizer: Localizer, case: Case, prediction: CasePrediction, annotation: Annotation, geometry: Geometry
) -> ScoredCase:
    tolerances = localizer.recipe.nsd_tolerance_mm
    return score_case(case.id, case.patient, prediction, annotation, geometry, localizer.classes, tolerances)


def _options(localizer: Localizer, run: Run, dataset: Dataset | None, choose: bool = False) -> ChosenOptions:
    """Return the options that were chosen for a run, or choose them on its validation cases and store them.

    Args:
        localizer: its model, which is given the options.
        run: the run.
        dataset: its own data set; ``None`` where that is not at hand.
        choose: whether to choose them again in any case.
    """
    cases = [] if dataset is None else dataset.cases("val")
    contents = {case.id: content_hash(case) for case in cases}
    chosen = stored_or_chosen(run, contents, lambda: choose_options([(localizer, case) for case in cases]), choose)
    localizer.options, localizer.sizes = chosen.options, chosen.sizes
    return chosen


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


def _track(run: Run, files: Sequence[Path], intervals: Mapping[str, Interval], facts: Mapping[str, Any]) -> None:
    """Log the metrics and files of an evaluation to the MLflow run of the training."""
    from cphloc.tracking.tracker import Tracker

    tracker = Tracker(run.folder, f"cphloc/{run.recipe.name}", run.title)
    speed = {"speed/ms_per_case": facts["speed"]["ms_per_case"], "size/peak_ram_mb": facts["speed"]["peak_ram_mb"]}
    measured = {name: value for name, value in speed.items() if value is not None}
    compared = tracked(facts)
    tracker.metrics(tracking_metrics(intervals, facts["split"]) | compared | measured, 0)
    for file in files:
        tracker.artifact(file, "pictures" if file.parent != run.folder else "")
    if run.finished:
        tracker.end()
    else:
        tracker.push()
