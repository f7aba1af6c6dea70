"""Run one job of a study: train one arm with one seed, unless that was done before, and compute its measures."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cphloc.config import jsonio
from cphloc.files import atomic, is_temporary
from cphloc.recipe.recipe import Recipe, load
from cphloc.registry.metrics import quality
from cphloc.studies.study import Cell, Study


@dataclass(frozen=True)
class Job:
    """One arm at one value of the grid and one seed.

    Args:
        study: the study.
        cell: arm and value of the grid.
        seed: random seed.
        folder: output folder of the study; the job writes its runs and its result there.
        parent: id of the study's MLflow run.
    """

    study: Study
    cell: Cell
    seed: int
    folder: Path
    parent: str = ""

    @property
    def name(self) -> str:
        """Arm, value of the grid and seed, for display."""
        at = "" if self.cell.at is None else f" @ {self.cell.at}"
        return f"{self.cell.arm or self.study.name}{at}, seed {self.seed}"

    @property
    def result(self) -> Path:
        """Path of the JSON file with the result of the job."""
        slug = hashlib.sha256(repr((self.cell.arm, self.cell.at)).encode()).hexdigest()[:8]
        return self.folder / "results" / f"{slug}-{self.seed}.json"


def jobs_of(study: Study, folder: Path, parent: str = "") -> list[Job]:
    """List every job, seed by seed, so that an interrupted study has complete seeds."""
    return [Job(study, cell, seed, folder, parent) for seed in study.seeds for cell in study.cells]


def done(job: Job) -> dict[str, Any] | None:
    """Read the result of an earlier run of the same job, with the same recipes and measures; ``None`` without one."""
    try:
        found = json.loads(job.result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if "baseline" not in found:  # of a version that had none; a finished training is used again
        return None
    return found if found["fingerprint"] == job_fingerprint(job) else None


def grouped_by_recipe(jobs: list[Job]) -> list[list[Job]]:
    """Group jobs that share a recipe, so that no two workers of a cluster train it at the same time."""
    groups: dict[Any, list[Job]] = {}
    for number, job in enumerate(jobs):
        recipes = tuple(recipe.sha256 for recipe in _recipes(_root(job)))
        groups.setdefault(recipes or number, []).append(job)
    return list(groups.values())


def run_all(jobs: list[Job]) -> list[dict[str, Any]]:
    """Run jobs in sequence and return their results."""
    return [run(job) for job in jobs]


def run(job: Job) -> dict[str, Any]:
    """Train, compute the measures and write the result; the result of a finished job is read instead.

    Returns:
        ``arm``, ``at``, ``seed``, ``values`` (metrics by variant), ``censored`` (names of the metrics that are lower
        bounds, by variant), ``baseline`` (as ``values``, of predictions that ignore the image), ``seconds``, ``run``
        and ``recipe_sha256``.
    """
    if (found := done(job)) is not None:
        return found
    started = time.process_time()
    from cphloc.studies.measured import Censored, Trained, make_measures
    from cphloc.training.signals import own_signals

    with own_signals():
        trained = Trained(job.seed, _chosen(job))
    measures = job.study.measures_of(job.cell.arm)
    values: dict[str, dict[str, float]] = {}
    for measure in make_measures(measures):
        for variant, metrics in measure(trained).items():
            values.setdefault(variant, {}).update(metrics)
    found = {
        **{"arm": job.cell.arm, "at": job.cell.at, "seed": job.seed, "values": _plain(values)},
        "censored": {variant: [m for m, v in of.items() if isinstance(v, Censored)] for variant, of in values.items()},
        "baseline": _plain(baseline_of(job)),
        "seconds": round(time.process_time() - started, 2),
        "run": str(trained.run.folder.relative_to(job.folder)) if trained.run else None,
        "recipe_sha256": trained.run.recipe.sha256 if trained.run else None,
        "fingerprint": job_fingerprint(job),
    }
    with atomic(job.result) as draft:
        draft.write_text(jsonio.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def baseline_of(job: Job) -> Mapping[str, Mapping[str, float]]:
    """Compute the measures of a job for predictions that ignore the image; empty where no model is trained."""
    from cphloc.studies.prior import prior_values

    recipes = _recipes(job)
    return prior_values(recipes[0], job.study.measures_of(job.cell.arm), job.seed) if recipes else {}


def _chosen(job: Job) -> Any:
    """Train the recipes of a job; of several, return the run with the best validation metric."""
    runs = [_trained(job, recipe) for recipe in _recipes(job)]
    if len(runs) < 2:
        return next(iter(runs), None)
    if job.cell.tune is None:
        msg = "several recipes without a value to tune"
        raise AssertionError(msg)
    by = job.cell.tune.by

    def preference(run: Any) -> float:
        """Return the quality of the validation metric; NaN counts as worst."""
        value = quality(by, run.metrics[f"val/{by}"])
        return -math.inf if math.isnan(value) else value

    return max(runs, key=preference)


def _trained(job: Job, recipe: Recipe) -> Any:
    """Return a finished run of a recipe: an earlier, a resumed or a new one; arms with equal recipes share it."""
    from cphloc.tracking.run import Place, Run
    from cphloc.training.train import train

    before = _before(job)
    home = job.folder / "runs" / _hash([recipe.sha256, job_fingerprint(before)] if before else recipe.sha256)[:16]
    begun = (path.parent for path in home.glob("*/*/recipe.yaml"))
    for folder in sorted(folder for folder in begun if not is_temporary(folder)):
        if (earlier := Run.open(folder)).finished:
            return earlier
        if (folder / "last.safetensors").is_file():
            return train(resume=earlier)
    shutil.rmtree(home, ignore_errors=True)
    if before:
        key = "from" if job.cell.after else "train.teacher"
        recipe = load(recipe.to_plain(), {key: str(_chosen(before).folder)})
    experiment = f"cphloc/study/{job.study.name}"
    return train(recipe, place=Place(home, experiment, job.name, job.parent, pictures=False))


def _recipes(job: Job) -> list[Recipe]:
    return job.cell.recipes(job.study.name, job.seed, job.study.text.vary)


def _before(job: Job) -> Job | None:
    """Return the job whose network this one starts from, or learns from as from a teacher."""
    earlier = job.cell.after or job.cell.teacher
    cells = (cell for cell in job.study.cells if (cell.arm, cell.at) == (earlier, job.cell.at))
    return next((replace(job, cell=cell) for cell in cells), None)


def _root(job: Job) -> Job:
    """Return the first of a chain of jobs that start or learn from each other."""
    before = _before(job)
    return _root(before) if before else job


def job_fingerprint(job: Job) -> str:
    """SHA-256 of everything that affects a job's result: recipes, measures, tuning, seed, and the job before it."""
    before = _before(job)
    asked: Mapping[str, Any] = {
        "recipes": [recipe.sha256 for recipe in _recipes(job)],
        "measures": job.study.measures_of(job.cell.arm),
        "by": job.cell.tune.by if job.cell.tune else None,
        "seed": job.seed,
        "teacher" if job.cell.teacher else "after": job_fingerprint(before) if before else None,
    }
    return _hash(asked)


def _hash(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _plain(values: Mapping[str, Mapping[str, float]]) -> Any:
    """Return values as JSON has them: ``None`` for NaN and infinity."""
    return jsonio.plain({variant: {name: float(v) for name, v in of.items()} for variant, of in values.items()})
