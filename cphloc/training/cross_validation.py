"""Train one network per fold and predict every case with the network that has not seen it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from cphloc.config import jsonio
from cphloc.data.fingerprint import fingerprint
from cphloc.data.folds import divide
from cphloc.data.pipeline.pipeline import Pipeline, open_undivided
from cphloc.data.pipeline.seen import SeenData
from cphloc.distributed import processes
from cphloc.errors import InputError
from cphloc.evaluation.comparison import tracked
from cphloc.evaluation.evaluate_folds import evaluate_folds
from cphloc.evaluation.out_of_fold import OutOfFold, check_unchanged, predict_held_out
from cphloc.evaluation.unseen import earlier_data
from cphloc.progress import note
from cphloc.recipe.recipe import Recipe, load
from cphloc.structures.split import OUT_OF_FOLD
from cphloc.tracking.provenance import run_tags
from cphloc.tracking.run import FOLDS_FILE, Place, Run
from cphloc.tracking.tracker import Tracker, run_id
from cphloc.training.facts import recipe_facts
from cphloc.training.settings import Strategy
from cphloc.training.signals import own_signals
from cphloc.training.train import Interrupted, given, train, with_constants


@dataclass(frozen=True)
class Scale:
    """Number of processes of a training, and how they share it; see `cphloc.training.train.train`."""

    devices: int = 1
    nodes: int = 1
    strategy: Strategy = "ddp"


def cross_validate(
    source: str | Path | Mapping[str, Any] | Recipe | None = None,
    folds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    resume: str | Path | Run | None = None,
    place: Place | None = None,
    scale: Scale | None = None,
) -> Run:
    """Train one network per fold of the training and validation cases, and predict every case out of fold.

    Each fold is a run of its own, in ``fold-1``, ``fold-2``, ... of the cross-validation's folder, and in MLflow a
    child of its run. Test cases are not used. An interrupted cross-validation continues where it was, also within a
    fold, and ends with the numbers of one that was not interrupted.

    Args:
        source: a recipe file, the name of a shipped recipe, a mapping, or a `Recipe`; optional with ``resume``.
        folds: number of folds; by default that of the recipe, ``data.folds.of``.
        overrides: values by dotted key.
        resume: an interrupted cross-validation to continue; its recipe, folds and data cannot be changed.
        place: folder and MLflow experiment of the cross-validation.
        scale: number of processes.

    Returns:
        the run of the cross-validation, with ``cases.csv`` and ``evaluation-out_of_fold.json``; its metrics are named
        ``out_of_fold/dice`` and so on.

    Raises:
        RecipeError: the recipe is invalid.
        DataError: cases cannot be used, there are fewer patients than folds, or the data have changed since the start.
        InputError: recipe or number of folds are not those of the cross-validation to resume.
        Interrupted: the training was stopped; it can be resumed.
    """
    place, scale = place or Place(), scale or Scale()
    processes.start(scale.devices, scale.nodes)
    if resume:
        run = _resumed(resume, source, folds, overrides)
    else:
        recipe = _undivided(given(source, overrides), folds)
        run = Run.open(processes.from_first(lambda: _new_run(recipe, place).folder))
    found = OutOfFold(run)
    if processes.is_first():
        print(found.division.describe(), file=sys.stderr)
    for fold in range(1, len(run.fold_folders) + 1):
        _train_fold(found, fold, place, scale)
        processes.from_first(lambda fold=fold: predict_held_out(found, fold))
    processes.from_first(lambda: None if run.finished else _finish(run, place))
    return Run.open(run.folder)


def _undivided(recipe: Recipe, folds: int | None) -> Recipe:
    """Return the recipe with a number of folds, of which none is held out.

    Raises:
        InputError: the number is below 2.
    """
    if folds is not None and folds < 2:
        msg = f"a cross-validation needs at least 2 folds, got {folds}"
        raise InputError(msg)
    wanted = {"of": folds} if folds is not None else {}
    stated = {} if recipe.data.folds is None else recipe.data.folds.model_dump()
    return _with_folds(recipe, {**stated, "fold": None, **wanted})


def _with_folds(recipe: Recipe, folds: Mapping[str, Any]) -> Recipe:
    plain = recipe.to_plain()
    return load({**plain, "data": {**plain["data"], "folds": {"of": 5, **folds}}})


def _new_run(recipe: Recipe, place: Place) -> Run:
    """Create the folder of a cross-validation with recipe, folds and the contents of its cases.

    Constants of the intensity schemes are estimated once, from the training cases of the data set's own splits, so that
    the networks of all folds share one preprocessing.
    """
    dataset = open_undivided(recipe.data, recipe.dims)
    recipe = with_constants(recipe, Pipeline.from_recipe(recipe, dataset))
    assert recipe.data.folds is not None
    division = divide(dataset, recipe.data.folds)
    division.check_disjoint()
    seen = SeenData.of_dataset(dataset, ("train", "val")).inheriting(earlier_data(recipe))
    contents = ((f"{s}/{id}", case.content) for s, cases in seen.cases.items() for id, case in cases.items())
    facts = {
        "data_fingerprint": fingerprint(contents),
        "splits": {split: len(cases) for split, cases in seen.cases.items()},
        **recipe_facts(recipe),
    }

    def record(run: Run) -> None:
        """Write the folds and the origin of the cross-validation to its folder and to its log."""
        facts["recipe_file_sha256"] = run.recipe_digest
        division.write(run.folder / FOLDS_FILE)
        seen.write(run.folder)
        (run.folder / "facts.json").write_text(jsonio.dumps(facts, indent=2) + "\n", encoding="utf-8")
        tracker = _tracker(run, place)
        tracker.params({**recipe.to_plain(), **facts})
        tracker.tags(run_tags(run, facts["git_commit"], place.parent))
        tracker.data(recipe.data.type, facts["data_fingerprint"], "training")
        for name in ("recipe.yaml", "facts.json", FOLDS_FILE):
            tracker.artifact(run.folder / name)

    run = Run.create(recipe, place, record)
    _tracker(run, place).push()
    return run


def _tracker(run: Run, place: Place) -> Tracker:
    return Tracker(run.folder, place.experiment or f"cphloc/{run.recipe.name}", place.name or run.title)


def _resumed(resume: str | Path | Run, source: Any, folds: int | None, overrides: Mapping[str, Any] | None) -> Run:
    """Open the cross-validation to resume, and check that recipe, folds and data are those it began with."""
    run = Run.open(resume)
    if not run.is_cross_validation:
        msg = f"run '{run.id}' is not a cross-validation; resume it without --cross-validate"
        raise InputError(msg)
    check_unchanged(OutOfFold(run))
    asked = source if source is not None else run.recipe if overrides or folds else None
    if asked is not None and _changes(run.recipe, _undivided(given(asked, overrides), folds)):
        msg = f"cross-validation '{run.id}' keeps its recipe and folds, {run.folder / 'recipe.yaml'}; start a new one"
        raise InputError(msg)
    return run


def _changes(before: Recipe, now: Recipe) -> bool:
    """Whether recipes differ in more than the intensity constants that `_new_run` writes."""
    if before.sha256 == now.sha256:
        return False
    pipeline = Pipeline.from_recipe(now, open_undivided(now.data, now.dims))
    return with_constants(now, pipeline).sha256 != before.sha256


def _train_fold(found: OutOfFold, fold: int, place: Place, scale: Scale) -> None:
    """Train the network of a fold, or continue its training; a finished one is left as it is.

    Raises:
        Interrupted: a signal stopped it.
    """
    run, folder = found.run, found.run.fold_folders[fold - 1]
    if (folder / "recipe.yaml").is_file() and Run.open(folder).finished:
        return
    started, keywords = time.monotonic(), {"devices": scale.devices, "nodes": scale.nodes, "strategy": scale.strategy}
    name = f"{place.name or run.title}, fold {fold}"
    at = Place(run.folder, place.experiment, name, run_id(run.folder), pictures=False, folder=folder)
    try:
        with own_signals():
            if (folder / "recipe.yaml").is_file():
                train(resume=folder, place=at, **keywords)
            else:
                processes.from_first(lambda: shutil.rmtree(folder, ignore_errors=True))
                train(_with_folds(run.recipe, {**_folds(run), "fold": fold}), place=at, **keywords)
    except Interrupted as error:
        msg = f"fold {fold}: {str(error).partition(';')[0]}; resume with: cphloc train --resume {run.folder}"
        raise Interrupted(msg) from None
    if processes.is_first():
        _report(run, fold, time.monotonic() - started)


def _folds(run: Run) -> dict[str, Any]:
    assert run.recipe.data.folds is not None
    return run.recipe.data.folds.model_dump()


def _report(run: Run, fold: int, seconds: float) -> None:
    """Print the result of a fold, and about how long the others will take."""
    name, trained = run.recipe.headline, Run.open(run.fold_folders[fold - 1])
    left = len(run.fold_folders) - fold
    rest = f", about {timedelta(seconds=round(seconds * left))} left for {left} more" if left else ""
    note(f"fold {fold}/{fold + left}: {name} {trained.metrics[f'val/{name}']:.4g}{rest}")


def _finish(run: Run, place: Place) -> None:
    """Write the table of all cases and the metrics, and log them to MLflow."""
    facts, rows = evaluate_folds(run)
    values = {f"{OUT_OF_FOLD}/{name}": metric for name, metric in facts["metrics"].items()}
    metrics = {name: metric["value"] for name, metric in values.items() if metric["value"] is not None}
    metrics["size/params_m"] = Run.open(run.fold_folders[0]).metrics["size/params_m"]
    tracker = _tracker(run, place)
    ends = {f"{name}_ci_{end}": m[end] for name, m in values.items() for end in ("low", "high") if m[end] is not None}
    tracker.metrics(metrics | ends | tracked(facts), 0)
    run.with_results(metrics, rows)
    for path in (*run.evaluation_files(OUT_OF_FOLD), run.folder / "metrics.json"):
        tracker.artifact(path)
    tracker.end()
