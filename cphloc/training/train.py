"""Train a recipe: build the model, prepare the data, fit, and leave a run that can be published."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from cphloc.data.loader import Batch
from cphloc.data.pipeline import Pipeline
from cphloc.data.prepare import PreparedCases
from cphloc.errors import CphlocError, InputError
from cphloc.metrics.direction import lower_is_better
from cphloc.model import Model
from cphloc.recipe import Recipe, load
from cphloc.training import checkpoint, processes
from cphloc.training.events import curves
from cphloc.training.facts import facts_of
from cphloc.training.finetune import take_over
from cphloc.training.fit import Outcome, fit
from cphloc.training.module import Batches
from cphloc.training.pictures import draw_case, draw_curves
from cphloc.training.progress import progress_bar
from cphloc.training.run import Place, Run
from cphloc.training.settings import Settings
from cphloc.training.tracking import Tracker
from cphloc.training.validate import Validator
from cphloc.wiring import build_model

_log = logging.getLogger(__name__)
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
    place: Place | None = None,
) -> Run:
    """Train the model of a recipe; log to MLflow; keep the best weights.

    Args:
        source: a recipe file, the name of a shipped recipe, a mapping, or a `Recipe`; may be left out with ``resume``.
        overrides: values by dotted key, ``{"train.steps": 100}``.
        resume: a run (or its id or folder) to go on with; its own recipe counts. A finished one stays as it is.
        devices: processes on this machine; with several, this program is started anew in each, by torchrun.
        nodes: machines; the program is to be started on each of them by torchrun.
        place: where the run belongs, where it is a part of something larger.

    Returns:
        the finished run, its weights in ``best.safetensors``.

    Raises:
        RecipeError: the recipe has problems.
        DataError: cases cannot be used.
        Interrupted: SIGTERM or Ctrl-C; the run is saved.
        CphlocError: the training failed; what was best so far is kept.
    """
    started, place = time.monotonic(), place or Place()
    processes.start(devices, nodes)
    if resume and (resumed := _resumed(resume, source, overrides)).metrics:
        return resumed
    recipe = resumed.recipe if resume else _given(source, overrides)
    pipeline = Pipeline.from_recipe(recipe)
    splits = {"train": pipeline.samples.cases, "val": pipeline.cases("val")}
    torch.manual_seed(recipe.train.seed)
    model = build_model(recipe)
    if recipe.from_ and not resume:
        _start_from(model, recipe.from_)
    made = processes.from_first(lambda: resume or _new_run(_with_constants(recipe, pipeline), splits, place))
    run = Run.open(made)
    tracker = Tracker(run.folder, f"cphloc/{run.recipe.name}", run.id) if processes.is_first() else None
    settings = settings_of(run.recipe)
    validator = Validator(splits["val"], pipeline.dataset.classes, pipeline.patch)
    try:
        outcome = fit(
            model,
            _batches(pipeline, run.recipe.train.batch),
            validator,
            settings,
            run.folder,
            log=tracker.metrics if tracker else _nowhere,
            resume=resume is not None,
            seconds=time.monotonic() - started,
            callbacks=progress_bar(settings),
        )
        if outcome.stopped.startswith("SIG"):
            msg = f"stopped by {outcome.stopped} at step {outcome.step}; go on with: cphloc train --resume {run.folder}"
            raise Interrupted(msg)
        processes.from_first(lambda: _finish(run, model, validator, outcome, tracker, settings.best, place))
    except BaseException as error:
        if tracker:
            tracker.end("KILLED" if isinstance(error, Interrupted | KeyboardInterrupt) else "FAILED")
        raise
    return Run.open(run.folder)


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


def _start_from(model: Model, spec: str) -> None:
    """Take over the weights of a zoo entry, and say what was taken."""
    from cphloc.zoo.load import load as load_entry

    _log.info("from %s: %s", spec, take_over(model, load_entry(spec, device="cpu").model.state_dict(), spec))


def _new_run(recipe: Recipe, splits: Mapping[str, PreparedCases], place: Place) -> Path:
    """Make the folder of a run and record how it starts."""
    run, facts = Run.create(recipe, place.runs), facts_of(recipe, splits)
    (run.folder / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    tracker = Tracker(run.folder, place.experiment or f"cphloc/{recipe.name}", place.name or run.id)
    tracker.params({**recipe.to_plain(), **facts})
    tracker.tags({"mlflow.source.git.commit": facts["git_commit"], "cphloc.run": run.id})
    tracker.tags({"mlflow.parentRunId": place.parent} if place.parent else {})
    tracker.artifact(run.folder / "recipe.yaml")
    tracker.artifact(run.folder / "facts.json")
    tracker.push()
    return run.folder


def _finish(
    run: Run,
    model: Model,
    validator: Validator,
    outcome: Outcome,
    tracker: Tracker,
    headline: str,
    place: Place,
) -> None:
    """Write metrics, cases and pictures of the best weights."""
    metrics = {f"val/{name}": value for name, value in outcome.best.items()}
    made = {"train/steps": outcome.step, "train/best_step": outcome.best_step, "train/seconds": outcome.seconds}
    made["size/params_m"] = sum(p.numel() for p in model.parameters()) / 1e6
    model.load_state_dict(checkpoint.load(run.folder / checkpoint.BEST)[0])
    model.eval()
    if place.pictures:
        _draw(run.folder, model, validator, outcome, headline)
    run.with_results(metrics | made, outcome.cases)
    tracker.metrics(made, outcome.step)
    for path in (run.folder / "metrics.json", run.folder / "cases.csv"):
        tracker.artifact(path)
    for path in sorted((run.folder / "pictures").iterdir()):
        tracker.artifact(path, "pictures")
    tracker.end()


def _nowhere(metrics: Mapping[str, float], step: int) -> None:
    """Only the first process keeps a record."""


def _draw(folder: Path, model: Model, validator: Validator, outcome: Outcome, headline: str) -> None:
    """Learning curves, and the worst, median and best case by ``headline``.

    A headline that no single case has, such as average precision, is stood in for by the first score that cases have.
    """
    pictures = folder / "pictures"
    draw_curves(curves(folder), pictures / "curves.png")
    names = [name for name in outcome.cases[0] if name not in ("case", "patient") and not name.startswith("p/")]
    name = headline if headline in names else next(iter(names), headline)
    scored = {row["case"]: row.get(name, float("nan")) for row in outcome.cases}
    known = [case for case, value in scored.items() if value == value]
    ranked = sorted(known, key=scored.get, reverse=lower_is_better(name)) or list(scored)
    by_id = {case.id: case for case in validator.cases}
    for title, position in (("worst", 0), ("median", len(ranked) // 2), ("best", -1)):
        case = by_id[ranked[position]]
        heading = f"{title}: {case.id}, {name} {scored[case.id]:.3f}"
        found = validator.found(model, case)
        draw_case(case, found, validator.classes, heading, pictures / f"{title}.png")
