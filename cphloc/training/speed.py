"""Measure how long a training step of a recipe takes on this machine."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterable
from typing import Any

import lightning.pytorch as L

from cphloc.data.pipeline.loader import Batch
from cphloc.data.pipeline.pipeline import Pipeline, open_dataset
from cphloc.modeling.build import build_model
from cphloc.recipe.recipe import Recipe, load
from cphloc.training.module import TrainingModule
from cphloc.training.settings import Settings
from cphloc.training.trainer import run_steps

STEPS = 3
"""Steps that are measured, after a first one that is not."""
PATIENCE_SECONDS = 20.0
"""Seconds after which no further step is measured."""
_CASES = 2
"""Training cases that are read."""


def seconds_per_step(recipe: Recipe) -> float:
    """Train for a few steps on two training cases, exactly as a training does, and return the median time of a step.

    Validation is not counted. Nothing is saved.

    Args:
        recipe: the recipe.

    Raises:
        DataError: the cases cannot be read or used.
        InputError: the model cannot be built.
    """
    recipe = load(recipe, {"data.workers": 0, "train.steps": STEPS + 1, "train.warmup_steps": 0})
    dataset = copy.copy(open_dataset(recipe.data, recipe.dims))
    few = dataset.cases("train")[:_CASES]
    dataset._cases = lambda split: few if split == "train" else []
    pipeline, watch = Pipeline.from_recipe(recipe, dataset), _Watch()

    def batches(first: int, rank: int, ranks: int) -> Iterable[Batch]:
        """Batches from step ``first`` on."""
        return pipeline.batches(recipe.train.batch, first, rank, ranks)

    run_steps(TrainingModule(build_model(recipe), batches, Settings.from_recipe(recipe)), [watch])
    steps = [after - before for before, after in zip(watch.ends, watch.ends[1:], strict=False)]
    return statistics.median(steps) if steps else watch.ends[0] - watch.began


class _Watch(L.Callback):
    """Note when each step ends, and stop when it takes too long."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.ends: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.began = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the end of a step."""
        self.ends.append(time.monotonic())
        trainer.should_stop = self.ends[-1] - self.began > PATIENCE_SECONDS
