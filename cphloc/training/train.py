"""Train a recipe: build the model, prepare the data, fit, and leave a run that can be published."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from cphloc.build import build_model
from cphloc.data.loader import Batch
from cphloc.data.pipeline import Pipeline
from cphloc.errors import CphlocError, InputError
from cphloc.model import Model
from cphloc.recipe import Recipe, load
from cphloc.training import checkpoint
from cphloc.training.events import curves
from cphloc.training.facts import facts_of
from cphloc.training.fit import Outcome, fit
from cphloc.training.module import Batches
from cphloc.training.pictures import draw_case, draw_curves
from cphloc.training.progress import progress_bar
from cphloc.training.run import Run
from cphloc.training.settings import Settings
from cphloc.training.tracking import Tracker
from cphloc.training.validate import Validator

_HEADLINES = {"detection": "ap50", "attention": "attention_mass", "classification": "auc"}
"""Metric that chooses the weights, by task; ``dice`` for every other."""


class Interrupted(CphlocError):
    """A signal ended the training; everything is saved and it can be resumed."""


def train(
    source: str | Path | Mapping[str, Any] | Recipe | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    resume: str | Path | Run | None = None,
    devices: int = 1,
    nodes: int = 1,
) -> Run:
    """Train the model of a recipe; log to MLflow; keep the best weights.

    Args:
        source: a recipe file, the name of a shipped recipe, a mapping, or a `Recipe`; may be left out with ``resume``.
        overrides: values by dotted key, ``{"train.steps": 100}``.
        resume: a run (or its id or folder) to go on with; its own recipe counts.
        devices: processes on this machine.
        nodes: machines.

    Returns:
        the finished run, its weights in ``best.safetensors``.

    Raises:
        RecipeError: the recipe has problems.
        DataError: cases cannot be used.
        Interrupted: SIGTERM or Ctrl-C; the run is saved.
        CphlocError: the training failed; what was best so far is kept.
    """
    started = time.monotonic()
    recipe = _resumed(resume, source, overrides).recipe if resume else _given(source, overrides)
    pipeline = Pipeline.from_recipe(recipe)
    splits = {"train": pipeline.samples.cases, "val": pipeline.cases("val")}
    run = Run.open(resume) if resume else Run.create(_with_constants(recipe, pipeline))
    tracker = Tracker(run.folder, f"cphloc/{run.recipe.name}", run.id)
    if not resume:
        _record_start(tracker, run, facts_of(run.recipe, splits))
    settings = settings_of(run.recipe)
    validator = Validator(splits["val"], pipeline.dataset.classes, pipeline.patch)
    try:
        torch.manual_seed(settings.seed)
        model = build_model(run.recipe)
        outcome = fit(
            model,
            _batches(pipeline, run.recipe.train.batch),
            validator,
            settings,
            run.folder,
            log=tracker.metrics,
            resume=resume is not None,
            seconds=time.monotonic() - started,
            devices=devices,
            nodes=nodes,
            callbacks=progress_bar(settings),
        )
        run = _finish(run, model, validator, outcome, tracker, settings.best)
    except BaseException as error:
        tracker.end("KILLED" if isinstance(error, Interrupted | KeyboardInterrupt) else "FAILED")
        raise
    tracker.end()
    return run


def settings_of(recipe: Recipe) -> Settings:
    """The ``train`` fields of a recipe, and what it freezes."""
    train = recipe.train
    return Settings(
        steps=train.steps,
        optimizer=train.optimizer.model_dump(),
        schedule=train.schedule.model_dump(),
        warmup_steps=train.warmup_steps,
        precision=train.precision,
        accumulate=train.accumulate,
        clip_norm=train.clip_norm,
        ema=train.ema,
        seed=train.seed,
        validate_every=train.validate_every or -(-train.steps // 10),
        best=train.best or _HEADLINES.get(recipe.task, "dice"),
        minutes=train.minutes,
        patience=train.patience,
        freeze=recipe.freeze,
    )


def _given(source: str | Path | Mapping[str, Any] | Recipe | None, overrides: Mapping[str, Any] | None) -> Recipe:
    if source is None:
        msg = "give a recipe to train, or a run to resume"
        raise InputError(msg)
    return source if isinstance(source, Recipe) and not overrides else load(source, overrides)


def _resumed(resume: str | Path | Run, source: Any, overrides: Mapping[str, Any] | None) -> Run:
    run = Run.open(resume)
    if overrides or (source is not None and _given(source, None).name != run.recipe.name):
        msg = f"run '{run.id}' goes on with its own recipe, {run.folder / 'recipe.yaml'}; start a new run to change it"
        raise InputError(msg)
    return run


def _with_constants(recipe: Recipe, pipeline: Pipeline) -> Recipe:
    """The recipe with the intensity constants that were found in the training cases."""
    if tuple(pipeline.schemes) == pipeline.intensity:
        return recipe
    plain = recipe.to_plain()
    plain["data"]["intensity"] = [scheme.to_dict() for scheme in pipeline.intensity]
    return load(plain)


def _batches(pipeline: Pipeline, batch: int) -> Batches:
    """The processes of a distributed training share every batch."""

    def batches(first: int, rank: int, ranks: int) -> Iterable[Batch]:
        if batch % ranks:
            msg = f"train.batch: {batch} cannot be shared by {ranks} processes; choose a multiple of {ranks}"
            raise InputError(msg)
        return pipeline.batches(batch // ranks, first, rank, ranks)

    return batches


def _record_start(tracker: Tracker, run: Run, facts: Mapping[str, Any]) -> None:
    (run.folder / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    tracker.params({**run.recipe.to_plain(), **facts})
    tracker.tags({"mlflow.source.git.commit": facts["git_commit"], "cphloc.run": run.id})
    tracker.artifact(run.folder / "recipe.yaml")
    tracker.artifact(run.folder / "facts.json")
    tracker.push()


def _finish(run: Run, model: Model, validator: Validator, outcome: Outcome, tracker: Tracker, headline: str) -> Run:
    if outcome.stopped.startswith("SIG"):
        msg = f"stopped by {outcome.stopped} at step {outcome.step}; go on with: cphloc train --resume {run.folder}"
        raise Interrupted(msg)
    metrics = {f"val/{name}": value for name, value in outcome.best.items()}
    metrics |= {"train/steps": outcome.step, "train/best_step": outcome.best_step, "train/seconds": outcome.seconds}
    metrics["size/params_m"] = sum(p.numel() for p in model.parameters()) / 1e6
    run = run.with_results(metrics, outcome.cases)
    model.load_state_dict(checkpoint.load(run.folder / checkpoint.BEST)[0])
    model.eval()
    _draw(run.folder, model, validator, outcome, headline)
    tracker.metrics({name: metrics[name] for name in metrics if not name.startswith("val/")}, outcome.step)
    for path in (run.folder / "metrics.json", run.folder / "cases.csv"):
        tracker.artifact(path)
    for path in sorted((run.folder / "pictures").iterdir()):
        tracker.artifact(path, "pictures")
    return run


def _draw(folder: Path, model: Model, validator: Validator, outcome: Outcome, name: str) -> None:
    """Learning curves, and the worst, median and best case by the metric ``name``."""
    pictures = folder / "pictures"
    draw_curves(curves(folder), pictures / "curves.png")
    scored = {row["case"]: row.get(name, float("nan")) for row in outcome.cases}
    ranked = sorted((case for case, value in scored.items() if value == value), key=scored.get) or list(scored)
    by_id = {case.id: case for case in validator.cases}
    for title, position in (("worst", 0), ("median", len(ranked) // 2), ("best", -1)):
        case = by_id[ranked[position]]
        heading = f"{title}: {case.id}, {name} {scored[case.id]:.3f}"
        found = validator.found(model, case)
        draw_case(case, found, validator.classes, heading, pictures / f"{title}.png")
