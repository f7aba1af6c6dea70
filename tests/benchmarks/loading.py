"""``python -m tests.benchmarks.loading``: the share of a training step that waits for data, of every shipped recipe.

A few steps of each recipe whose data are there, as ``cphloc train --profile`` measures them; a quarter of an hour for
all. Words of the command line choose the recipes whose names contain them. The rows are added to ``RESULTS.md``.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.__main__ import add_facts, kept

STEPS = 7
"""The first is not counted: worker processes start in it."""
MOST = 0.1
"""Largest share of a step that waiting for data may take."""


def row(name: str, path: Path) -> dict[str, Any]:
    """Train the recipe for a few steps, and return a row of the table."""
    from cphloc.errors import CphlocError

    try:
        return {"recipe": name, **_measured(path)}
    except CphlocError as error:
        why = str(error).splitlines()[0].partition(";")[0]
        return {"recipe": name, **dict.fromkeys(("step, ms", "patches, ms", "workers", "waiting"), ""), "verdict": why}


def _measured(path: Path) -> dict[str, Any]:
    from cphloc.training.fit import Validation, fit
    from cphloc.training.preparation import prepare
    from cphloc.training.step_profile import StepClock
    from cphloc.zoo.starting import load_recipe

    fewer = {"train.steps": STEPS, "train.minutes": None, "train.warmup_steps": 0, "train.validate_every": STEPS}
    recipe = load_recipe(path, fewer)
    if recipe.data.type == "phantom":
        recipe = load_recipe(path, {**fewer, "data.cases": {"train": 4, "val": 1, "test": 1}})
    prepared, clock = prepare(recipe), StepClock()
    settings = dataclasses.replace(prepared.settings, keep_last=True)
    with tempfile.TemporaryDirectory() as folder:
        found = Validation({settings.best: 0.0})
        fit(prepared.model, prepared.batches(), lambda model: found, settings, Path(folder), clock=clock)
    pipeline = prepared.pipeline
    batch = recipe.train.batch * settings.accumulate
    profile = clock.profile(pipeline.samples, batch, recipe.dims, pipeline.workers)
    step = sum(profile.seconds.values())
    return {
        "step, ms": f"{1e3 * step:.0f}",
        "patches, ms": f"{1e3 * profile.batch_seconds['all']:.0f}",
        "workers": profile.workers,
        "waiting": f"{profile.loading_share:.1%}",
        "verdict": _verdict(profile.loading_share, profile.batch_seconds["all"], profile.workers, step),
    }


def _verdict(share: float, made: float, workers: int, step: float) -> str:
    """Whether the goal is reached, also once the batches made ahead are used up; else whether workers are too slow."""
    busy = made / (max(workers, 1) * step)
    if share < MOST and busy < 1:
        return "reached"
    if busy >= 1:
        return f"**missed**: {workers} worker processes need {busy:.1f} steps for the patches of one"
    return f"**missed**: worker processes are busy for only {busy:.0%} of the time: something else is waited for"


def main() -> None:
    """Measure the recipes, and add them to the page."""
    from cphloc.config import yamlio
    from cphloc.recipe.merge import shipped_recipes

    rows = {one["recipe"]: one for one in kept("loading")}
    for name, path in shipped_recipes().items():
        if yamlio.load(Path(path)).plain.get("stages"):
            continue  # a pipeline is not trained
        if not sys.argv[1:] or any(word in name for word in sys.argv[1:]):
            rows[name] = row(name, Path(path))
            print(rows[name], flush=True)
    add_facts("loading", [rows[name] for name in sorted(rows)])


if __name__ == "__main__":
    main()
