"""Train one system with one seed, or with shuffled annotations, and evaluate it; run in a process of its own."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from cphloc.data.case import Case
from cphloc.data.datasets.phantom import PhantomCases
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.evaluation.comparison import find_baseline, paired_differences
from cphloc.evaluation.measure import measure
from cphloc.evaluation.scores import Scores, summary
from cphloc.metrics.evaluation import Statistic
from cphloc.recipe.recipe import load
from cphloc.structures.split import Split
from cphloc.tracking.run import Place, Run
from cphloc.tracking.tracker import Tracker
from cphloc.training.facts import processor
from cphloc.training.train import train
from cphloc.zoo.load import localizer_of

from .systems import CASES, SHUFFLES

FACTS = "facts.json"
"""File whose presence marks a job as complete."""
RECIPES = Path(__file__).parents[2] / "recipes" / "systems"


def run(name: str, arm: str, folder: Path, overrides: dict | None = None) -> None:
    """Do a job and write its facts.

    Args:
        name: name of a recipe.
        arm: ``seed-0`` and so on, or ``shuffled-0`` and so on.
        folder: folder of the job; the run lies in it.
        overrides: values of the recipe by dotted key.
    """
    torch.set_num_threads(1)
    seed = int(arm.rpartition("-")[2])
    recipe = load(RECIPES / f"{name}.yaml", {"train.seed": seed, "data.workers": 0, "options": [], **(overrides or {})})
    recipe = load(recipe, {"train.validate_every": recipe.train.steps // 2})
    counts = {**CASES, **(recipe.data.args.get("cases") or {})}
    recipe = load(recipe, {"data.cases": counts})
    untracked = patch.object(Tracker, "push")  # what MLflow takes is not the system's
    with untracked, shuffled(seed) if arm in SHUFFLES else nullcontext():
        started = time.process_time()
        trained = train(recipe, place=Place(folder=folder / "run", pictures=False))
        seconds = time.process_time() - started
        scored = _scored(trained, recipe.headline)
    kept = {
        "metric": recipe.headline,
        **scored,
        "steps": recipe.train.steps,
        "cpu_seconds": round(seconds, 1),
        "processor": processor(),
    }
    (folder / FACTS).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class _OneMetric(Scores):
    """Scores of which only one metric is computed; intervals of all take as long as some trainings."""

    metric: str

    @cached_property
    def pooled(self) -> dict[str, Statistic]:
        """The metric, if it pools the cases."""
        return {name: statistic for name, statistic in super().pooled.items() if name == self.metric}


def _scored(run: Run, metric: str) -> dict[str, Any]:
    """Return a metric of the test cases, that of the baseline, and the paired difference, each with its interval."""
    localizer = localizer_of(run)
    dataset = open_dataset(run.recipe.data, run.recipe.dims)
    measured = measure(localizer, dataset.cases("test"), find_baseline(localizer, run, dataset, None))
    model, baseline = (_one_metric(scores, metric) for scores in (measured.scores, measured.beneath))
    return {
        "score": summary(model.intervals())["metrics"][metric],
        "baseline": {"name": measured.baseline.name, **summary(baseline.intervals())["metrics"][metric]},
        "difference": summary(paired_differences(model, baseline))["metrics"][metric],
    }


def _one_metric(scores: Scores, metric: str) -> _OneMetric:
    cases = []
    for case in scores.cases:
        kept = {name: value for name, value in case.scores.scores.items() if name == metric}
        cases.append(replace(case, scores=replace(case.scores, scores=kept)))
    return _OneMetric(cases, scores.classes, metric)


@contextmanager
def shuffled(order: int) -> Iterator[None]:
    """Give the training and the validation cases of every phantom each other's annotations; test cases keep theirs."""
    own = PhantomCases.cases

    def cases(self: PhantomCases, split: Split) -> list[Case]:
        """Return the cases of a split with annotations of other cases."""
        found = own(self, split)
        return found if split == "test" else exchanged(found, order)

    with patch.object(PhantomCases, "cases", cases):
        yield


def exchanged(cases: list[Case], seed: int) -> list[Case]:
    """Return cases, each with the annotation of another one; a seed gives the same order every time."""
    order = list(range(len(cases)))
    random.Random(seed).shuffle(order)
    giver = dict(zip(order, order[1:] + order[:1], strict=True))
    return [replace(case, annotation=cases[giver[number]].annotation) for number, case in enumerate(cases)]
