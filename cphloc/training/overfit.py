"""Sanity check of a recipe: overfit a single batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as L

from cphloc.data.pipeline.loader import Batch
from cphloc.recipe.recipe import Recipe
from cphloc.training.module import TrainingModule
from cphloc.training.preparation import prepare
from cphloc.training.train import given
from cphloc.training.trainer import run_steps

FRACTION = 0.25
"""The check passes if the loss falls to this fraction of its initial value."""

STEPS = 300
"""Maximum number of optimizer steps; a recipe with fewer steps takes its own number."""


@dataclass(frozen=True)
class Overfit:
    """Result of overfitting one batch.

    Args:
        first: loss before the first optimizer step.
        last: smallest loss of any step.
        steps: number of steps taken; training stops as soon as the loss is low enough.
    """

    first: float
    last: float
    steps: int

    @property
    def passed(self) -> bool:
        """Whether the loss fell to `FRACTION` of its initial value."""
        return self.last <= FRACTION * self.first

    def __str__(self) -> str:
        """Summary in one sentence, with advice if the check failed."""
        fell = f"the loss of one batch went from {self.first:.4g} to {self.last:.4g} in {self.steps} steps"
        if self.passed:
            return f"{fell}: the model can overfit it"
        return (
            f"{fell}, not to {FRACTION:.0%} of its first value: a model that cannot overfit one batch will not "
            "learn a data set; check the targets (cphloc data), the loss and train.optimizer.lr (--find-lr)"
        )


def overfit(source: str | Path | Mapping[str, Any] | Recipe, overrides: Mapping[str, Any] | None = None) -> Overfit:
    """Train on the first batch alone, at the constant learning rate of the recipe; nothing is saved.

    Args:
        source: a recipe file, the name of a shipped recipe, a mapping, or a `Recipe`.
        overrides: values by dotted key, such as ``{"train.batch": 4}``.

    Raises:
        RecipeError: the recipe is invalid.
        DataError: cases cannot be read or used.
    """
    prepared = prepare(given(source, overrides))
    steps = min(STEPS, prepared.settings.steps)
    settings = replace(
        prepared.settings,
        **{"steps": steps, "schedule": {"type": "constant"}, "warmup_steps": 0, "ema": None, "minutes": None},
        accumulate=1,
    )
    stream = prepared.batches()

    def _one_batch(first: int, rank: int, ranks: int) -> Iterable[Batch]:
        return itertools.repeat(next(iter(stream(0, rank, ranks))))

    watch = _Watch()
    run_steps(TrainingModule(prepared.model, _one_batch, settings), [watch])
    return Overfit(watch.losses[0], min(watch.losses), len(watch.losses))


class _Watch(L.Callback):
    """Callback that records the loss of every step, and stops when it is low enough."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, module: TrainingModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the loss of the step."""
        self.losses.append(float(module.losses["loss"]))
        trainer.should_stop = self.losses[-1] <= FRACTION * self.losses[0]
