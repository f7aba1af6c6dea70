"""Progress of a training: steps, loss, best validation metric, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import lightning.pytorch as L

from cphloc.progress import REDRAW_SECONDS, progress
from cphloc.training.fit import Loop
from cphloc.training.module import TrainingModule
from cphloc.training.settings import Settings


class TrainingProgress(L.Callback):
    """Lightning callback that shows how far a training is, see `cphloc.progress`.

    Args:
        settings: gives the number of steps and the name of the metric.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._open = ExitStack()
        self._reported, self._reported_at = 0, 0.0

    def on_train_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        """Begin, on the first process."""
        if trainer.is_global_zero:
            self._reported = module.step
            minutes = self.settings.minutes
            budget = None if minutes is None else 60 * minutes - self._loop(trainer).outcome.seconds
            total, unit = self.settings.steps, "steps"
            shown = progress("training", total, module.step, unit, always_end=True, budget=budget)
            self._advance = self._open.enter_context(shown)

    def on_train_batch_end(self, trainer: L.Trainer, module: TrainingModule, *args: Any) -> None:
        """Report at most five times a second, because reading the loss synchronizes with the GPU."""
        if trainer.is_global_zero and time.monotonic() - self._reported_at > REDRAW_SECONDS:
            self._report(trainer, module)

    def on_train_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        """Report the end."""
        if trainer.is_global_zero and module.losses:
            self._report(trainer, module)
        self._open.close()

    def on_exception(self, trainer: L.Trainer, module: TrainingModule, exception: BaseException) -> None:
        """Stop before the error is printed."""
        self._open.close()

    def _report(self, trainer: L.Trainer, module: TrainingModule) -> None:
        best = self._loop(trainer).outcome.best
        known = {f"best {self.settings.best}": best[self.settings.best]} if best else {}
        self._advance(module.step - self._reported, loss=float(module.losses["loss"]), **known)
        self._reported, self._reported_at = module.step, time.monotonic()

    @staticmethod
    def _loop(trainer: L.Trainer) -> Loop:
        callbacks: Sequence[L.Callback] = vars(trainer)["callbacks"]
        return next(callback for callback in callbacks if isinstance(callback, Loop))
