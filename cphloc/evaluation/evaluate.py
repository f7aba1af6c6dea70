"""Evaluate a run or a zoo entry on one split of its data set, on the grid of every image, and compare to a baseline."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cphloc.config import jsonio
from cphloc.data.case import Case, read_case, strongest_rung
from cphloc.data.dataset import Dataset
from cphloc.data.fingerprint import content_hash
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.data.pipeline.seen import SeenData, contents_of
from cphloc.distributed.machine import peak_ram_mb
from cphloc.errors import DataError, InputError, NotFoundError
from cphloc.evaluation.baseline import BASELINES, Baseline
from cphloc.evaluation.comparison import beside, find_baseline, paired_differences, tracked
from cphloc.evaluation.operating_point import OperatingPoint
from cphloc.evaluation.pictures import draw_case, drawing, extremes, heading
from cphloc.evaluation.plots import draw_scores
from cphloc.evaluation.scores import CasePrediction, Scores, detection_case, score_case, summary
from cphloc.files import atomic
from cphloc.inference.localization import SHOWN_SCORE, Localization
from cphloc.inference.localizer import Localizer
from cphloc.metrics.bootstrap import Interval
from cphloc.metrics.summary import tracking_metrics
from cphloc.structures.annotation import Annotation
from cphloc.structures.rung import Rung
from cphloc.structures.split import Split
from cphloc.structures.volume import Volume
from cphloc.tracking.run import Run, write_cases
from cphloc.zoo.entries import Listing
from cphloc.zoo.load import localizer_of, open_listing
from cphloc.zoo.names import BASELINE_FILE, sha256_of
from cphloc.zoo.resolve import resolve_run_or_entry

ROWS_SHA256 = "rows_sha256"
"""Key of an evaluation: SHA-256 of its CSV file, so that rows of another evaluation beside it are found."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
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


def evaluate(
    source: str | Path | Run | Localizer, split: Split = "test", root: str | None = None, out: str | Path | None = None
) -> Evaluation:
    """Predict every case of a split and score the predictions against the annotations.

    For a run, or when ``out`` is given, this also writes ``evaluation-<split>.json``, ``evaluation-<split>.csv`` and
    ``pictures/<split>-*``: the curves with their points, and pictures of the worst, median and best case. Those of a
    run are logged to MLflow as well, metrics as ``<split>/<metric>``.

    Args:
        source: a run (object, folder or id), an entry (``name``, ``name@1.2.0`` or folder), or a loaded model.
        split: ``train``, ``val`` or ``test``.
        root: folder of the data set; by default that of the recipe.
        out: folder to write the files to, for an entry or model; a run writes to its own folder.

    Returns:
        metrics with 95 % confidence intervals, resampled by patient.

    Raises:
        NotFoundError: no such run, entry, data set or split.
        DataError: a case cannot be read, or the weights of the run depend on cases of the split.
        InputError: ``out`` is given for a run, or its recipe was edited after the training.
    """
    localizer, run = open_localizer(source)
    if run is not None and out is not None:
        msg = f"a run keeps its evaluation in its own folder, {run.folder}; omit --out"
        raise InputError(msg)
    data = localizer.recipe.data
    dataset = open_dataset(data if root is None else data.model_copy(update={"root": root}), localizer.recipe.dims)
    cases = dataset.cases(split)
    if not cases:
        msg = f"data set '{data.type}' has no cases in its {split} split; choose another split"
        raise NotFoundError(msg)
    if run is not None:
        _check_unseen(run, dataset, split, root is None)
        _fit_operating_point(localizer, dataset.cases("val"))
    make_baseline = find_baseline(localizer, run, dataset, root)
    scores, parts, milliseconds = _score_cases(localizer, cases)
    baseline = None if make_baseline is None else make_baseline(parts)
    beneath = None if baseline is None else _score_baseline(baseline, localizer, cases)
    intervals = scores.intervals()
    speed = {"ms_per_case": statistics.median(milliseconds), "peak_ram_mb": peak_ram_mb()}
    facts = _facts(localizer, split, cases, scores, intervals) | {"speed": speed}
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
        files = _write(folder, facts, beside(scores, beneath))
        files += _draw(folder / "pictures", localizer, cases, scores, split)
        if run is not None:
            _track(run, files, intervals, facts)
    return Evaluation(str(source if run is None else run.folder), split, facts, beside(scores, beneath), folder)


def _facts(
    localizer: Localizer, split: Split, cases: Sequence[Case], scores: Scores, intervals: Mapping[str, Interval]
) -> dict[str, Any]:
    """Content of ``evaluation-<split>.json`` that depends on the model alone, without speed and baseline."""
    return {
        "split": split,
        "patients": len({case.patient for case in cases}),
        **summary(intervals),
        "baseline": None,
        "paired": None,
        "calibration": _calibration(localizer.temperature, scores, intervals),
        "thresholds": {**localizer.thresholds, "split": "val"} if localizer.thresholds else None,
        "cases": [case.id for case in cases],
    }


def case_prediction(result: Localization, classes: Mapping[int, str]) -> CasePrediction:
    """Convert a result of `Localizer.predict` to arrays on the grid of the image.

    Args:
        result: result of the prediction.
        classes: number 1..K -> name.
    """
    numbers = {name: number for number, name in classes.items()}
    boxes = result.boxes
    return CasePrediction(
        mask=result.masks,
        boxes=None if boxes is None else np.array([b.voxels for b in boxes]).reshape(-1, 2 * result.image.dims),
        scores=None if boxes is None else np.array([b.score for b in boxes]),
        box_classes=None if boxes is None else np.array([numbers[b.name] for b in boxes], int),
        attention=result.attention,
        probabilities=None if result.probabilities is None else np.array(list(result.probabilities.values())),
    )


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
    from rich.console import Console
    from rich.progress import track

    scored, milliseconds = [], []
    parts: list[str] = []
    strongest = strongest_rung(cases)
    for case in track(cases, "evaluating", console=Console(stderr=True), transient=True):
        volume, annotation = _read(case, localizer, strongest)
        started = time.perf_counter()
        result = localizer.predict(volume, threshold=_all_boxes(localizer))
        milliseconds.append(1000 * (time.perf_counter() - started))
        prediction = case_prediction(result, localizer.classes)
        one = score_case(case.id, case.patient, prediction, annotation, volume.geometry, localizer.classes)
        known = replace(one.scores, facts={**one.scores.facts, "reference": annotation.digest})
        scored.append(replace(one, scores=known))
        parts = [part for part in BASELINES if getattr(prediction, part) is not None]
    return Scores(scored, localizer.classes), parts, milliseconds


def _all_boxes(localizer: Localizer) -> dict[str, float]:
    """Thresholds for scoring: metrics such as AP and FROC need all boxes, masks are scored as they are returned."""
    return {**localizer.thresholds, "boxes": 0.0}


def _read(case: Case, localizer: Localizer, strongest: Rung | None = None) -> tuple[Volume, Annotation]:
    """Read the image of a case and its annotation, completed along the ladder as far as the rung ``strongest``."""
    volume, annotation = read_case(case, localizer.recipe.dims)
    return volume, annotation.completed(volume.geometry.shape, len(localizer.classes), strongest)


def _check_unseen(run: Run, dataset: Dataset, split: Split, own: bool) -> None:
    """Check that the weights do not depend on the cases to evaluate, and warn where the training data have changed.

    Args:
        run: the run.
        dataset: its cases as they are now.
        split: the split to evaluate.
        own: whether it is the data set of the recipe, and not another one.

    Raises:
        DataError: cases of the split were trained on, or selected the weights.
    """
    seen = SeenData.read(run.folder)
    if seen is None:
        return
    if leaks := seen.leaks(dataset.cases(split), split, own):
        msg = f"{'; '.join(leaks)}; evaluate with the splits of the training, or train again"
        raise DataError(msg)
    if own and (changes := seen.changes(contents_of(dataset, ("train", "val")))):
        _log.warning("the data set has changed since the training: %s", "; ".join(changes))


def _fit_operating_point(localizer: Localizer, cases: Sequence[Case]) -> None:
    """Set the temperature and the thresholds of a model to those that suit validation cases best."""
    point, strongest = OperatingPoint(localizer.classes, localizer.recipe.dims), strongest_rung(cases)
    for case in cases:
        volume, annotation = _read(case, localizer, strongest)
        result, maps = localizer.predict_maps(volume)
        if result.probabilities is not None and annotation.label is not None:
            point.add_labels(list(result.probabilities.values()), annotation.label)
        if maps is not None and annotation.mask is not None:
            point.add_mask(maps, annotation.mask, annotation.mask_known)
        boxes = detection_case(case_prediction(result, localizer.classes), annotation)
        if boxes is not None:
            point.boxes.append(boxes)
    localizer.temperature, localizer.thresholds = point.temperature, point.thresholds
    for shortage in point.shortages:
        _log.warning("validation split: %s", shortage)


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
        volume, annotation = _read(case, localizer, strongest)
        prediction = baseline(volume.geometry)
        scored.append(score_case(case.id, case.patient, prediction, annotation, volume.geometry, localizer.classes))
    return Scores(scored, localizer.classes)


def _write(folder: Path, facts: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write the CSV file of the cases, then the JSON file of the metrics, which pins the first; returns both."""
    folder.mkdir(parents=True, exist_ok=True)
    table, per_case = (folder / f"evaluation-{facts['split']}.{suffix}" for suffix in ("json", "csv"))
    with atomic(per_case) as temporary:
        write_cases(temporary, rows)
    facts[ROWS_SHA256] = sha256_of(per_case.read_bytes())
    with atomic(table) as temporary:
        temporary.write_text(jsonio.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return [table, per_case]


def _draw(folder: Path, localizer: Localizer, cases: Sequence[Case], scores: Scores, split: str) -> list[Path]:
    """Draw the curves, and the worst, median and best case (which are predicted again); returns the files."""
    files: list[Path] = []
    with drawing("the curves"):
        files += draw_scores(scores.curves(), folder, f"{split}-")
    with drawing("the cases"):
        files += _draw_cases(folder, localizer, cases, scores, split)
    return files


def _draw_cases(folder: Path, localizer: Localizer, cases: Sequence[Case], scores: Scores, split: str) -> list[Path]:
    """Draw the worst, median and best case."""
    files: list[Path] = []
    name, chosen = extremes(scores.rows, localizer.recipe.headline)
    for place, id in chosen.items():
        volume, annotation = _read(next(case for case in cases if case.id == id), localizer)
        result = localizer.predict(volume, threshold=_all_boxes(localizer))
        prediction = case_prediction(result, localizer.classes)
        title = heading(place, id, name, scores.rows)
        files.append(folder / f"{split}-{place}.png")
        draw_case(
            volume,
            annotation,
            prediction,
            localizer.classes,
            title,
            files[-1],
            localizer.thresholds.get("boxes", SHOWN_SCORE),
        )
    return files


def _track(run: Run, files: Sequence[Path], intervals: Mapping[str, Interval], facts: Mapping[str, Any]) -> None:
    """Log the metrics and files of an evaluation to the MLflow run of the training."""
    from cphloc.tracking.tracker import Tracker

    tracker = Tracker(run.folder, f"cphloc/{run.recipe.name}", run.id)
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
