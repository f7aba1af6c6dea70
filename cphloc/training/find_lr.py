"""Learning rate range test (Smith, "Cyclical learning rates for training neural networks", 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np

from cphloc.config.tables import write_table
from cphloc.evaluation.plots import draw_lr_range
from cphloc.files import atomic
from cphloc.recipe.recipe import Recipe
from cphloc.tracking.run_folders import RUNS
from cphloc.training.module import TrainingModule
from cphloc.training.preparation import prepare
from cphloc.training.train import given
from cphloc.training.trainer import run_steps

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 100
"""First and last learning rate of the test, and its number of steps."""

_SMOOTHING = 0.9
"""Decay of the moving average of the loss."""

_DIVERGED = 4.0
"""The test stops where the smoothed loss exceeds its minimum by this factor."""


@dataclass(frozen=True)
class LrRange:
    """Result of a learning rate range test.

    Args:
        rates: ``(n,)`` learning rates, increasing.
        losses: ``(n,)`` training loss at each learning rate.
        suggestion: learning rate at which the smoothed loss falls fastest; ``None`` if it never falls.
        picture: PNG plot of the curve; a CSV file of the same name has its points.
    """

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float | None
    picture: Path | None = None


def find_lr(source: str | Path | Mapping[str, Any] | Recipe, overrides: Mapping[str, Any] | None = None) -> LrRange:
    """Run a learning rate range test: train while the learning rate grows exponentially from 1e-7 to 10 in 100 steps.

    Stops early where the smoothed loss exceeds four times its minimum. Writes the plot ``runs/<recipe>/lr-range.png``
    and its points as CSV; the recipe is not changed and no weights are saved.

    Args:
        source: a recipe file, the name of a shipped recipe, a mapping, or a `Recipe`.
        overrides: values by dotted key, such as ``{"train.batch": 4}``.

    Raises:
        RecipeError: the recipe is invalid.
        DataError: cases cannot be read or used.
    """
    prepared = prepare(given(source, overrides))
    optimizer = {**prepared.settings.optimizer, "lr": 1.0}
    settings = replace(prepared.settings, steps=STEPS, optimizer=optimizer, warmup_steps=0, ema=None, minutes=None)
    module = TrainingModule(prepared.model, prepared.batches(), settings)
    module.schedule = rate_at
    test = _RangeTest()
    run_steps(module, [test])
    rates, losses = np.array(test.rates), np.array(test.losses)
    smooth, best = smoothed(losses), suggestion(rates, losses)
    picture = RUNS / prepared.recipe.name / "lr-range.png"
    draw_lr_range(rates.tolist(), losses.tolist(), smooth.tolist(), best, picture)
    _write_points(picture.with_suffix(".csv"), rates, losses, smooth)
    return LrRange(rates, losses, best, picture)


def rate_at(step: float) -> float:
    """Learning rate at a step, growing exponentially from `LOWEST` to `HIGHEST` over `STEPS` steps.

    >>> rate_at(0), rate_at(STEPS - 1)
    (1e-07, 10.0)
    """
    return LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))


def smoothed(losses: np.ndarray) -> np.ndarray:
    """Exponential moving average of ``(n,)`` losses, with Adam's bias correction.

    >>> smoothed(np.array([2.0, 2.0])).tolist()
    [2.0, 2.0]
    """
    average, averages = 0.0, []
    for count, loss in enumerate(losses, start=1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        averages.append(average / (1 - _SMOOTHING**count))
    return np.round(averages, 12)


def suggestion(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """Learning rate at the steepest descent of the smoothed loss over log learning rate, before its minimum.

    Args:
        rates: ``(n,)`` learning rates, increasing.
        losses: ``(n,)`` training loss at each learning rate.

    Returns:
        the learning rate, or ``None`` if the loss never falls.

    >>> rates = np.geomspace(1e-6, 1, 61)
    >>> suggestion(rates, np.ones(61)) is None
    True
    """
    smooth = smoothed(losses)
    lowest = int(np.argmin(smooth))
    if lowest < 2:
        return None
    slopes = np.gradient(smooth[: lowest + 1], np.log(rates[: lowest + 1]))
    steepest = int(np.argmin(slopes))
    return float(rates[steepest]) if slopes[steepest] < 0 else None


class _RangeTest(L.Callback):
    """Callback that records learning rate and loss of every step, and stops where the loss diverges."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._sum, self._count = 0.0, 0

    def on_train_batch_end(
        self, trainer: L.Trainer, module: TrainingModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the loss after the last micro-batch of a step."""
        self._sum, self._count = self._sum + float(module.losses["loss"]), self._count + 1
        if self._count < module.settings.accumulate:
            return
        loss, self._sum, self._count = self._sum / self._count, 0.0, 0
        if math.isfinite(loss):
            self.rates.append(rate_at(module.step - 1))
            self.losses.append(loss)
        smooth = smoothed(np.array(self.losses))
        trainer.should_stop = not math.isfinite(loss) or smooth[-1] > _DIVERGED * abs(smooth.min()) > 0


def _write_points(path: Path, *columns: np.ndarray) -> None:
    rows = ([f"{value:.6g}" for value in row] for row in zip(*columns, strict=True))
    with atomic(path) as temporary:
        write_table(temporary, ("lr", "loss", "smoothed"), rows, newline="\n")
