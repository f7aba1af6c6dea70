"""Train the model of a recipe and save the result as a run, which can be published."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from cphloc.config import jsonio
from cphloc.data.folds import parse_fold
from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.data.pipeline.seen import SeenData
from cphloc.distributed import processes
from cphloc.errors import CphlocError, DataError, InputError
from cphloc.evaluation.unseen import earlier_data
from cphloc.recipe.recipe import Recipe, load
from cphloc.tracking.provenance import run_tags
from cphloc.tracking.run import Place, Run
from cphloc.tracking.system import system_metrics
from cphloc.tracking.tracker import Tracker
from cphloc.training import checkpoint
from cphloc.training.facts import facts_of
from cphloc.training.fit import Outcome, StopEarly, fit
from cphloc.training.pipeline_run import pipeline_run
from cphloc.training.preparation import Preparation, prepare
from cphloc.training.progress import TrainingProgress
from cphloc.training.results import finish
from cphloc.training.settings import Strategy
from cphloc.training.step_profile import StepClock, StepProfile
from cphloc.zoo.starting import load_recipe


class Interrupted(CphlocError):
    """The training was stopped by SIGTERM or Ctrl-C; its state is saved and it can be resumed."""


def train(
    source: str | Path | Mapping[str, Any] | Recipe | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    fold: str | None = None,
    resume: str | Path | Run | None = None,
    devices: int = 1,
    nodes: int = 1,
    strategy: Strategy = "ddp",
    place: Place | None = None,
    stop_early: StopEarly | None = None,
    profile: bool = False,
) -> Run:
    """Train the model of a recipe, log to MLflow and save the weights of the best validation.

    Of a pipeline, whose stages were trained before, the run holds their recipes and weights.

    Args:
        source: a recipe file, the name of a shipped recipe, a mapping, or a `Recipe`; optional with ``resume``.
        overrides: values by dotted key, such as ``{"train.steps": 100}``.
        fold: ``k/n`` trains on all but the k-th of n folds of the training and validation cases, validates on the
            k-th, and keeps the last weights; see `cphloc.data.folds`.
        resume: an interrupted run to continue, or its id or folder; its recipe cannot be changed. A finished run is
            returned unchanged; one without a checkpoint begins again in its folder.
        devices: number of processes on this machine; if there are several, torchrun starts this program in each.
        nodes: number of machines; start the program on each of them with torchrun.
        strategy: ``ddp`` keeps the whole model in each process, ``fsdp`` shards it across processes.
        place: folder and MLflow experiment of the run, if it is part of a larger study.
        stop_early: called after each validation with its step and metrics; where it returns True, the training ends.
        profile: whether to measure where the time of a step goes, in ``step_profile.json`` of the run, see
            `cphloc.training.step_profile`.

    Returns:
        the finished run; its weights are in ``best.safetensors``.

    Raises:
        RecipeError: the recipe is invalid.
        DataError: cases cannot be read or used.
        Interrupted: the training was stopped by SIGTERM or Ctrl-C; it can be resumed.
        CphlocError: the training failed; the checkpoints written so far are kept.
    """
    started, place = time.monotonic(), place or Place()
    if fold is not None:
        overrides = {**(overrides or {}), **fold_overrides(fold)}
    processes.start(devices, nodes)
    if resume:
        run = _resumed(resume, source, overrides)
        if run.finished:
            return run
        prepared = prepare(run.recipe, strategy, fresh=not _has_checkpoint(run))
        _check_same_data(run, prepared)
    else:
        recipe = given(source, overrides)
        if recipe.stages:
            return Run.open(processes.from_first(lambda: pipeline_run(recipe, place).folder))
        prepared = prepare(recipe, strategy)
        checkpoint.check_space(
            place.folder.parent if place.folder else place.runs / prepared.recipe.name, prepared.model
        )
        run = Run.open(processes.from_first(lambda: _new_run(prepared, place)))
    spent = time.monotonic() - started  # a slow MLflow server takes nothing off the training's budget of minutes
    if not resume:
        processes.from_first(lambda: _tracker_of(run, place).push())
    with _tracked(run) as tracker:
        with nullcontext() if tracker is None else system_metrics(tracker):
            resumes = resume is not None and _has_checkpoint(run)
            outcome = _fit(run, prepared, tracker, resumes, spent, stop_early, profile)
        processes.from_first(lambda: tracker and finish(run, prepared, outcome, tracker, place.pictures))
    return Run.open(run.folder)


def fold_overrides(fold: str) -> dict[str, Any]:
    """Convert ``k/n`` to values of a recipe by dotted key.

    Raises:
        InputError: it is not of that form, or out of range.
    """
    number, of = parse_fold(fold)
    return {"data.folds.fold": number, "data.folds.of": of}


def given(source: str | Path | Mapping[str, Any] | Recipe | None, overrides: Mapping[str, Any] | None) -> Recipe:
    """Load the recipe to train.

    Raises:
        InputError: ``source`` is ``None``.
    """
    if source is None:
        msg = "give a recipe to train, or a run to resume"
        raise InputError(msg)
    return load_recipe(source, overrides)


def _resumed(resume: str | Path | Run, source: Any, overrides: Mapping[str, Any] | None) -> Run:
    run = Run.open(resume)
    if run.is_cross_validation:
        msg = f"run '{run.id}' is a cross-validation; resume it with cphloc.cross_validate(resume=...)"
        raise InputError(msg)
    if overrides or (source is not None and given(source, None).name != run.recipe.name):
        msg = f"run '{run.id}' keeps its own recipe, {run.folder / 'recipe.yaml'}; start a new run to change it"
        raise InputError(msg)
    run.check_recipe()
    return run


def _has_checkpoint(run: Run) -> bool:
    """Whether there is a checkpoint to resume from; a training that was killed before it saved one begins again."""
    return (run.folder / checkpoint.LAST).is_file()


def _check_same_data(run: Run, prepared: Preparation) -> None:
    """Check that the cases are those that the first part of the training used.

    Raises:
        DataError: cases have changed, are gone or are new.
    """
    seen = SeenData.read(run.folder)
    now = {split: {case.id: case.content for case in cases} for split, cases in prepared.splits.items()}
    if seen is not None and (changes := seen.changes(now)):
        msg = f"run '{run.id}': the data set is not the one its training began with; restore it, or start a new run"
        raise DataError("\n".join([msg, *(f"  - {change}" for change in changes)]))


def _new_run(prepared: Preparation, place: Place) -> Path:
    """Create the folder of a run, and record recipe and provenance in it and in its log."""
    recipe = with_constants(prepared.recipe, prepared.pipeline)
    facts = facts_of(recipe, prepared.splits)
    seen = SeenData.of(prepared.splits, prepared.pipeline.dataset).inheriting(earlier_data(recipe))

    def record(run: Run) -> None:
        """Write the origin of the run to its folder and to its log."""
        facts["recipe_file_sha256"] = run.recipe_digest
        seen.write(run.folder)
        (run.folder / "facts.json").write_text(jsonio.dumps(facts, indent=2) + "\n", encoding="utf-8")
        tracker = _tracker_of(run, place)
        tracker.params({**recipe.to_plain(), **facts})
        tracker.tags(run_tags(run, facts["git_commit"], place.parent))
        tracker.data(recipe.data.type, facts["data_fingerprint"], "training")
        tracker.artifact(run.folder / "recipe.yaml")
        tracker.artifact(run.folder / "facts.json")

    return Run.create(recipe, place, record).folder


def _tracker_of(run: Run, place: Place) -> Tracker:
    """Tracker of a new run, which also sends what the server lacks of earlier ones."""
    return Tracker(run.folder, place.experiment or f"cphloc/{run.recipe.name}", place.name or run.title, place.runs)


def with_constants(recipe: Recipe, pipeline: Pipeline) -> Recipe:
    """Return the recipe with the intensity constants that were estimated from the training cases."""
    if tuple(pipeline.schemes) == pipeline.intensity:
        return recipe
    plain = recipe.to_plain()
    plain["data"]["intensity"] = [scheme.to_dict() for scheme in pipeline.intensity]
    return load(plain)


@contextmanager
def _tracked(run: Run) -> Iterator[Tracker | None]:
    """Yield the MLflow tracker of a run (``None`` but on the first process); on an error, set its final status."""
    tracker = Tracker(run.folder, f"cphloc/{run.recipe.name}", run.title) if processes.is_first() else None
    try:
        yield tracker
    except BaseException as error:
        if tracker:
            with suppress(CphlocError):  # the disk is full: the error itself says so
                tracker.end("KILLED" if isinstance(error, Interrupted | KeyboardInterrupt) else "FAILED")
        if isinstance(error, CphlocError) and isinstance(error.__cause__, OSError):
            msg = f"{error}; the training so far is kept, resume it with: cphloc train --resume {run.folder}"
            raise CphlocError(msg) from error.__cause__
        raise


def _fit(
    run: Run,
    prepared: Preparation,
    tracker: Tracker | None,
    resume: bool,
    spent: float,
    stop_early: StopEarly | None,
    profile: bool,
) -> Outcome:
    """Run the training loop.

    Args:
        run: the run.
        prepared: what to train.
        tracker: its tracker; ``None`` but on the first process.
        resume: whether to continue from the last checkpoint.
        spent: seconds that the preparation took.
        stop_early: see `train`.
        profile: see `train`.

    Raises:
        Interrupted: a signal stopped the training.
    """
    if resume and tracker:
        tracker.rewind(checkpoint.read_facts(run.folder / checkpoint.LAST)["outcome"]["step"])
    clock = StepClock() if profile else None
    outcome = fit(
        prepared.model,
        prepared.batches(),
        prepared.validator,
        prepared.settings,
        run.folder,
        log=tracker.metrics if tracker else lambda metrics, step: None,
        resume=resume,
        seconds=spent,
        callbacks=[TrainingProgress(prepared.settings)],
        teacher=prepared.teacher,
        stop_early=stop_early,
        clock=clock,
    )
    if outcome.stopped.startswith("SIG"):
        msg = f"stopped by {outcome.stopped} at step {outcome.step}; resume with: cphloc train --resume {run.folder}"
        raise Interrupted(msg)
    if clock is not None and tracker:
        tracker.artifact(_profile(clock, prepared).write(run.folder))
    return outcome


def _profile(clock: StepClock, prepared: Preparation) -> StepProfile:
    """Return where the time of the steps went."""
    batch, pipeline = prepared.recipe.train.batch // processes.count(), prepared.pipeline
    return clock.profile(pipeline.samples, batch * prepared.settings.accumulate, prepared.recipe.dims, pipeline.workers)
