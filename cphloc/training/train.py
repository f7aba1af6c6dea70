"""Train a recipe: prepare, fit, and leave a run that can be published."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cphloc.distributed import processes
from cphloc.errors import CphlocError, InputError
from cphloc.recipe.recipe import Recipe, load
from cphloc.tracking.run import Place, Run
from cphloc.tracking.tracker import Tracker
from cphloc.training import checkpoint
from cphloc.training.facts import facts_of
from cphloc.training.fit import Outcome, fit
from cphloc.training.preparation import Preparation, prepare
from cphloc.training.progress import progress_bar
from cphloc.training.results import finish
from cphloc.training.settings import Strategy


class Interrupted(CphlocError):
    """A signal ended the training; everything is saved and it can be resumed."""


def train(
    source: str | Path | Mapping[str, Any] | Recipe | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    resume: str | Path | Run | None = None,
    devices: int = 1,
    nodes: int = 1,
    strategy: Strategy = "ddp",
    place: Place | None = None,
) -> Run:
    """Train the model of a recipe; log to MLflow; keep the best weights.

    Args:
        source: a recipe file, the name of a shipped recipe, a mapping, or a `Recipe`; may be left out with ``resume``.
        overrides: values by dotted key, ``{"train.steps": 100}``.
        resume: a run (or its id or folder) to go on with; its own recipe counts. A finished one stays as it is.
        devices: processes on this machine; with several, this program is started anew in each, by torchrun.
        nodes: machines; the program is to be started on each of them by torchrun.
        strategy: what several processes do: ``ddp`` holds the whole model in each, ``fsdp`` a part of it.
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
    if resume:
        run = _resumed(resume, source, overrides)
        if run.metrics:
            return run
        prepared = prepare(run.recipe, strategy, fresh=False)
    else:
        prepared = prepare(given(source, overrides), strategy)
        checkpoint.check_space(place.runs / prepared.recipe.name, prepared.model)
        run = Run.open(processes.from_first(lambda: _new_run(prepared, place)))
    with _tracked(run) as tracker:
        outcome = _fit(run, prepared, tracker, resume is not None, started)
        processes.from_first(lambda: tracker and finish(run, prepared, outcome, tracker, place.pictures))
    return Run.open(run.folder)


def given(source: str | Path | Mapping[str, Any] | Recipe | None, overrides: Mapping[str, Any] | None) -> Recipe:
    """The recipe to train.

    Raises:
        InputError: there is none.
    """
    if source is None:
        msg = "give a recipe to train, or a run to resume"
        raise InputError(msg)
    return load(source, overrides)


def _resumed(resume: str | Path | Run, source: Any, overrides: Mapping[str, Any] | None) -> Run:
    run = Run.open(resume)
    if overrides or (source is not None and given(source, None).name != run.recipe.name):
        msg = f"run '{run.id}' goes on with its own recipe, {run.folder / 'recipe.yaml'}; start a new run to change it"
        raise InputError(msg)
    return run


def _new_run(prepared: Preparation, place: Place) -> Path:
    """Make the folder of a run and record how it starts."""
    recipe = _with_constants(prepared)
    run, facts = Run.create(recipe, place.runs), facts_of(recipe, prepared.splits)
    (run.folder / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    tracker = Tracker(run.folder, place.experiment or f"cphloc/{recipe.name}", place.name or run.id)
    tracker.params({**recipe.to_plain(), **facts})
    tracker.tags({"mlflow.source.git.commit": facts["git_commit"], "cphloc.run": run.id})
    tracker.tags({"mlflow.parentRunId": place.parent} if place.parent else {})
    tracker.artifact(run.folder / "recipe.yaml")
    tracker.artifact(run.folder / "facts.json")
    tracker.push()
    return run.folder


def _with_constants(prepared: Preparation) -> Recipe:
    """The recipe with the intensity constants that were found in the training cases."""
    pipeline = prepared.pipeline
    if tuple(pipeline.schemes) == pipeline.intensity:
        return prepared.recipe
    plain = prepared.recipe.to_plain()
    plain["data"]["intensity"] = [scheme.to_dict() for scheme in pipeline.intensity]
    return load(plain)


@contextmanager
def _tracked(run: Run) -> Iterator[Tracker | None]:
    """The run's record, on the first process; it says how a training ended that did not finish."""
    tracker = Tracker(run.folder, f"cphloc/{run.recipe.name}", run.id) if processes.is_first() else None
    try:
        yield tracker
    except BaseException as error:
        if tracker:
            tracker.end("KILLED" if isinstance(error, Interrupted | KeyboardInterrupt) else "FAILED")
        raise


def _fit(run: Run, prepared: Preparation, tracker: Tracker | None, resume: bool, started: float) -> Outcome:
    """Train to the end.

    Raises:
        Interrupted: a signal came first.
    """
    outcome = fit(
        prepared.model,
        prepared.batches(),
        prepared.validator,
        prepared.settings,
        run.folder,
        log=tracker.metrics if tracker else lambda metrics, step: None,
        resume=resume,
        seconds=time.monotonic() - started,
        callbacks=progress_bar(prepared.settings),
    )
    if outcome.stopped.startswith("SIG"):
        msg = f"stopped by {outcome.stopped} at step {outcome.step}; go on with: cphloc train --resume {run.folder}"
        raise Interrupted(msg)
    return outcome
