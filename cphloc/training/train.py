"""Train a recipe: build the model, prepare the data, fit, and leave a run that can be published."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from cphloc.build import build_model
from cphloc.data.prepare import PreparedCases
from cphloc.errors import CphlocError, InputError
from cphloc.model import Model
from cphloc.recipe import Recipe, load
from cphloc.training import checkpoint
from cphloc.training.data import Batches, fingerprint, pipeline_of
from cphloc.training.fit import Outcome, fit
from cphloc.training.pictures import draw_curves, draw_overlay
from cphloc.training.run import Run
from cphloc.training.settings import Settings
from cphloc.training.tracking import Tracker, curves
from cphloc.training.validate import Validator

_PACKAGES = ("cphloc", "torch", "lightning", "numpy", "scipy", "timm", "albumentations", "SimpleITK", "mlflow")
_HEADLINES = {
    "segmentation": "dice",
    "detection": "ap50",
    "attention": "attention_mass",
    "classification": "auc",
    "localization": "dice",
}


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
    run = _resumed(resume, source, overrides) if resume else Run.create(load_recipe(source, overrides))
    tracker = Tracker(run.folder, f"cphloc/{run.recipe.name}", run.id)
    try:
        torch.manual_seed(run.recipe.train.seed)
        model = build_model(run.recipe)
        pipeline = pipeline_of(run.recipe)
        cases = {split: pipeline.cases(split) for split in ("train", "val")}
        if not resume:
            _record_start(tracker, run, cases)
        settings = settings_of(run.recipe)
        validator = Validator(cases["val"], pipeline.dataset.classes, run.recipe.data.patch)
        outcome = fit(
            model,
            Batches(pipeline, run.recipe.train.batch),
            validator,
            settings,
            run.folder,
            log=tracker.metrics,
            resume=resume is not None,
            seconds=time.monotonic() - started,
            devices=devices,
            nodes=nodes,
        )
        run = _finish(run, model, validator, outcome, tracker, settings.best)
    except BaseException as error:
        tracker.end("KILLED" if isinstance(error, Interrupted | KeyboardInterrupt) else "FAILED")
        raise
    tracker.end()
    return run


def load_recipe(
    source: str | Path | Mapping[str, Any] | Recipe | None, overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe to train.

    Raises:
        InputError: none was given.
        RecipeError: it has problems.
    """
    if source is None:
        msg = "give a recipe to train, or a run to resume"
        raise InputError(msg)
    return source if isinstance(source, Recipe) and not overrides else load(source, overrides)


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
        best=train.best or _HEADLINES[recipe.task],
        minutes=train.minutes,
        patience=train.patience,
        freeze=recipe.freeze,
    )


def facts_of(run: Run, cases: Mapping[str, PreparedCases]) -> dict[str, Any]:
    """What made the weights of a run: enough to make them again."""
    return {
        "recipe_sha256": run.recipe.sha256,
        "data_fingerprint": fingerprint(**cases),
        "splits": {split: len(prepared) for split, prepared in cases.items()},
        "git_commit": _git_commit(),
        "seed": run.recipe.train.seed,
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
    }


def _resumed(resume: str | Path | Run, source: Any, overrides: Mapping[str, Any] | None) -> Run:
    run = Run.open(resume)
    if overrides or (source is not None and load(source).sha256 != run.recipe.sha256):
        msg = f"run '{run.id}' goes on with its own recipe, {run.folder / 'recipe.yaml'}; start a new run to change it"
        raise InputError(msg)
    return run


def _record_start(tracker: Tracker, run: Run, cases: Mapping[str, PreparedCases]) -> None:
    facts = facts_of(run, cases)
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
    tracker.metrics(metrics, outcome.step)
    for path in (run.folder / "metrics.json", run.folder / "cases.csv"):
        tracker.artifact(path)
    for path in sorted((run.folder / "pictures").iterdir()):
        tracker.artifact(path, "pictures")
    return run


def _draw(folder: Path, model: Model, validator: Validator, outcome: Outcome, name: str) -> None:
    """Learning curves, and the worst, median and best case by the metric ``name``."""
    pictures = folder / "pictures"
    draw_curves(curves(folder), pictures / "curves.png")
    ranked = sorted((row[name], row["case"]) for row in outcome.cases if row.get(name, float("nan")) == row.get(name))
    by_id = {case.id: case for case in validator.cases}
    for title, position in (("worst", 0), ("median", len(ranked) // 2), ("best", -1)) if ranked else ():
        value, case = ranked[position]
        shown = by_id[case]
        predicted, spacing_mm = validator.mask(model, shown), shown.geometry.spacing_mm
        heading = f"{title}: {case}, {name} {value:.3f}"
        draw_overlay(shown.image[0], shown.annotation.mask, predicted, spacing_mm, heading, pictures / f"{title}.png")


def _git_commit() -> str:
    """Commit of the code that trains, ``+changes`` where files differ from it; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        told = [
            subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, timeout=10, check=True).stdout
            for args in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    return told[0].strip() + ("+changes" if told[1].strip() else "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
