"""Write the results of a finished training to its folder and to MLflow: metrics, metrics per case, and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cphloc.config import jsonio
from cphloc.evaluation.pictures import draw_case, drawing, extremes, heading
from cphloc.evaluation.plots import draw_learning, draw_scores
from cphloc.files import is_temporary
from cphloc.structures.merging import merged_annotation
from cphloc.structures.volume import Volume
from cphloc.tracking.record import curves
from cphloc.tracking.run import Run
from cphloc.tracking.tracker import Tracker
from cphloc.training import checkpoint
from cphloc.training.fit import Outcome
from cphloc.training.preparation import Preparation


def finish(run: Run, prepared: Preparation, outcome: Outcome, tracker: Tracker, draw: bool = True) -> None:
    """Write the metrics of the best validation and, optionally, pictures; close the MLflow run.

    Args:
        run: the run; ``metrics.json``, ``cases.csv`` and ``pictures/`` are written to its folder.
        prepared: what was trained; ``prepared.model`` is given the best weights, in evaluation mode.
        outcome: result of the training.
        tracker: MLflow run to log to.
        draw: whether to draw learning curves, score curves and example cases.
    """
    weights, facts = checkpoint.load(run.folder / checkpoint.BEST)
    outcome = _of_weights(outcome, facts)
    metrics = {f"val/{name}": value for name, value in outcome.best.items()}
    made = {"train/steps": outcome.step, "train/best_step": outcome.best_step, "train/seconds": outcome.seconds}
    made["size/params_m"] = sum(p.numel() for p in prepared.model.parameters()) / 1e6
    prepared.model.load_state_dict(weights)
    prepared.model.eval()
    pictures = run.folder / "pictures"
    run.with_results(metrics | made, outcome.cases)
    if draw:
        with drawing("the curves"):
            _draw_curves(run.folder, prepared, outcome, pictures)
        with drawing("the cases"):
            _draw_cases(prepared, outcome, pictures)
    tracker.metrics(made, outcome.step)
    for path in (run.folder / "metrics.json", run.folder / "cases.csv"):
        tracker.artifact(path)
    for path in sorted(path for path in pictures.iterdir() if not is_temporary(path)):
        tracker.artifact(path, "pictures")
    tracker.end()


def _of_weights(outcome: Outcome, facts: Mapping[str, Any]) -> Outcome:
    """Return the outcome with the metrics of the weights that are kept.

    They are of a later step than the last checkpoint where a training was killed between the two; a machine on which
    a training does not repeat to the same bits may then have found nothing better.
    """
    if facts.get("step") in (None, outcome.best_step):
        return outcome
    best = {name: jsonio.number(value) for name, value in facts["metrics"].items()}
    return replace(outcome, best_step=facts["step"], best=best, cases=facts["cases"], scores=None)


def _draw_curves(folder: Path, prepared: Preparation, outcome: Outcome, pictures: Path) -> None:
    draw_learning(curves(folder), pictures / "curves.png")
    scores = outcome.scores or prepared.validator(prepared.model).scores
    if scores is not None:
        draw_scores(scores.curves(), pictures)


def _draw_cases(prepared: Preparation, outcome: Outcome, pictures: Path) -> None:
    validator = prepared.validator
    name, chosen = extremes(outcome.cases, prepared.settings.best)
    by_id = {case.id: case for case in validator.cases}
    for place, id in chosen.items():
        case, title = by_id[id], heading(place, id, name, outcome.cases)
        volume, prediction = Volume(np.asarray(case.image), case.geometry), validator.predict(prepared.model, case)
        annotation = case.annotation.completed(case.geometry.shape, len(validator.classes))
        annotation = merged_annotation(annotation, validator.classes)
        draw_case(volume, annotation, prediction, validator.classes, title, pictures / f"{place}.png")
