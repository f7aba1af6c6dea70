"""The first thing to try on a new recipe: can the model learn a single batch by heart?"""

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
"""The loss of the batch must fall to this fraction of its first value."""

STEPS = 300
"""At most so many steps, and no more than the recipe's own."""


@dataclass(frozen=True)
class Overfit:
    """What became of the loss of one batch.

    Args:
        first: loss before the first step.
        last: smallest loss.
        steps: steps that were taken; the check ends when the loss is low enough.
    """

    first: float
    last: float
    steps: int

    @property
    def passed(self) -> bool:
        """Whether the loss fell to `FRACTION` of its first value."""
        return self.last <= FRACTION * self.first

    def __str__(self) -> str:
        """One line for people."""
        fell = f"the loss of one batch went from {self.first:.4g} to {self.last:.4g} in {self.steps} steps"
        if self.passed:
            return f"{fell}: the model can learn it by heart"
        return (
            f"{fell}, not to {FRACTION:.0%} of its first value: a model that cannot learn one batch by heart will not "
            "learn a data set; look at the targets (cphloc data), the loss and train.optimizer.lr (--find-lr)"
        )


def overfit(source: str | Path | Mapping[str, Any] | Recipe, overrides: Mapping[str, Any] | None = None) -> Overfit:
    """Train on the first batch alone, at the recipe's constant learning rate; leave nothing behind.

    Raises:
        RecipeError: the recipe has problems.
        DataError: cases cannot be used.
    """
    prepared = prepare(given(source, overrides))
    steps = min(STEPS, prepared.settings.steps)
    settings = replace(
        prepared.settings,
        **{"steps": steps, "schedule": {"type": "constant"}, "warmup_steps": 0, "ema": None, "minutes": None},
        accumulate=1,
    )
    stream = prepared.batches()

    def one_batch(first: int, rank: int, ranks: int) -> Iterable[Batch]:
        return itertools.repeat(next(iter(stream(0, rank, ranks))))

    watch = _Watch()
    run_steps(TrainingModule(prepared.model, one_batch, settings), [watch])
    return Overfit(watch.losses[0], min(watch.losses), len(watch.losses))


class _Watch(L.Callback):
    """Notes the loss of every step, and stops when it is low enough."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, module: TrainingModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(module.losses["loss"]))
        trainer.should_stop = self.losses[-1] <= FRACTION * self.losses[0]
