"""Progress bar of a training, shown only on a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cphloc.training.fit import Loop
from cphloc.training.module import TrainingModule
from cphloc.training.settings import Settings


def progress_bar(settings: Settings) -> Sequence[L.Callback]:
    """Return a `ProgressBar` in a list if standard error is a terminal, else an empty list."""
    console = Console(stderr=True)
    return [ProgressBar(settings, console)] if console.is_terminal else []


class ProgressBar(L.Callback):
    """Lightning callback that shows steps, loss, best validation metric, elapsed and remaining time.

    Args:
        settings: gives the number of steps and the name of the metric.
        console: where to draw.
    """

    def __init__(self, settings: Settings, console: Console) -> None:
        self.settings = settings
        text = TextColumn("loss {task.fields[loss]:.4f}  best {task.fields[best]}", markup=False)
        columns = (BarColumn(), MofNCompleteColumn(), text, TimeElapsedColumn(), TimeRemainingColumn())
        self.progress = Progress(TextColumn("{task.description}"), *columns, console=console)

    def on_train_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        """Show the bar, on the first process."""
        if trainer.is_global_zero:
            total, done = self.settings.steps, module.step
            self.task = self.progress.add_task("training", total=total, completed=done, loss=float("nan"), best="-")
            self.progress.start()
            self._shown_at = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, module: TrainingModule, *args: Any) -> None:
        """Update the bar at most five times a second, because reading the loss synchronizes with the GPU."""
        if trainer.is_global_zero and time.monotonic() - self._shown_at > 0.2:
            callbacks: Sequence[L.Callback] = vars(trainer)["callbacks"]
            outcome = next(c for c in callbacks if isinstance(c, Loop)).outcome
            best = f"{self.settings.best} {outcome.best[self.settings.best]:.4f}" if outcome.best else "-"
            self.progress.update(self.task, completed=module.step, loss=float(module.losses["loss"]), best=best)
            self._shown_at = time.monotonic()

    def on_train_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        """Update and stop the bar."""
        self._stop(trainer, module)

    def on_exception(self, trainer: L.Trainer, module: TrainingModule, exception: BaseException) -> None:
        """Stop the bar before the error is printed."""
        self._stop(trainer, module)

    def _stop(self, trainer: L.Trainer, module: TrainingModule) -> None:
        if trainer.is_global_zero and self.progress.tasks:
            self.progress.update(self.task, completed=module.step)
            self.progress.stop()
