"""Measure where the time of a training step goes: waiting for data, forward, backward, optimizer, logging."""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch

from cphloc.config import jsonio
from cphloc.data.augment.augmentation import Augmentation
from cphloc.data.pipeline.loader import PatchSamples
from cphloc.files import atomic

FILE = "step_profile.json"
"""Where the folder of a run has its profile."""
PARTS = {
    "loading": "waiting for the next batch, and moving it to the device",
    "forward": "outputs and losses",
    "backward": "gradients",
    "optimizer": "clipping, optimizer and averages of the weights",
    "logging": "losses, checkpoints and progress; no validation",
}
_SAMPLES, _PATIENCE_SECONDS = 8, 10.0
"""Most patches that are made again to measure how long that takes, and the time after which no more are."""


@dataclasses.dataclass(frozen=True)
class StepProfile:
    """Average times of a training step.

    Args:
        steps: steps that were measured: all but the first, which also starts the worker processes.
        seconds: seconds per step by part, see `PARTS`.
        batch_seconds: seconds in which one process makes the patches of a step: all of it, and the share of it that
            augmentation takes. Worker processes do that beside the steps.
        workers: worker processes.
    """

    steps: int
    seconds: dict[str, float]
    batch_seconds: dict[str, float]
    workers: int

    @property
    def loading_share(self) -> float:
        """Share of a step, in [0, 1], in which the training waits for its data."""
        return self.seconds["loading"] / max(sum(self.seconds.values()), 1e-9)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return the lines of a table: part, milliseconds per step, share of the step, and what it is."""
        whole = sum(self.seconds.values())
        parts = [(part, self.seconds[part], what) for part, what in PARTS.items()]
        return [
            (part, f"{1e3 * seconds:.1f} ms", f"{seconds / max(whole, 1e-9):.1%}", what)
            for part, seconds, what in [*parts, ("step", whole, f"mean of {self.steps} steps")]
        ]

    def note(self) -> str:
        """Return a sentence on the work of the processes that load the data."""
        made, augmented = (1e3 * self.batch_seconds[key] for key in ("all", "augmentation"))
        who = "the main process" if self.workers == 0 else f"worker processes ({self.workers}) beside it"
        return (
            f"the patches of a step take one process {made:.1f} ms, {augmented:.1f} of them augmentation; done by {who}"
        )

    def write(self, folder: Path) -> Path:
        """Write the profile to the folder of a run."""
        with atomic(folder / FILE) as temporary:
            temporary.write_text(jsonio.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")
        return folder / FILE

    @classmethod
    def read(cls, folder: Path) -> StepProfile:
        """Read what `write` has written."""
        return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))


class StepClock:
    """Adds up the times of the parts of every step of a training after the first.

    `first` and `last` are Lightning callbacks, to put before and after all others; `timed` wraps the validation, which
    is no part of a step.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.steps = 0
        self.first: L.Callback = _First(self)
        self.last: L.Callback = _Last(self)
        self._since: float | None = None
        self._first_step = 0
        self._on_gpu = torch.cuda.is_available()  # asks the driver, which takes milliseconds

    def begin(self, step: int) -> None:
        """Start the clock of a training that has done ``step`` steps."""
        self._first_step, self._since = step + 1, time.perf_counter()

    def mark(self, part: str) -> None:
        """Count the time since the last mark as that of a part."""
        if self._on_gpu:
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._since is not None:
            self.seconds[part] += now - self._since
        self._since = now

    def end_batch(self, step: int) -> None:
        """Count the complete steps, ``step`` in all, without the first, in which worker processes start."""
        self.steps = max(step - self._first_step, 0)
        if self.steps == 0:
            self.seconds = dict.fromkeys(PARTS, 0.0)

    def timed(self, validate: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a validation that does the same, and whose time is not counted."""

        def _validated(model: Any) -> Any:
            started = time.perf_counter()
            found = validate(model)
            if self._since is not None:
                self._since += time.perf_counter() - started
            return found

        return _validated

    def profile(self, samples: PatchSamples, batch: int, dims: int, workers: int) -> StepProfile:
        """Return the averages, and the work of the processes that load data, see `batch_seconds`."""
        seconds = {part: taken / max(self.steps, 1) for part, taken in self.seconds.items()}
        return StepProfile(self.steps, seconds, batch_seconds(samples, batch, dims), workers)


class _First(L.Callback):
    """Marks what happens before other callbacks act."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self.clock.begin(pl_module.step)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is there."""
        self.clock.mark("loading")

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: torch.Tensor) -> None:
        """The losses are computed."""
        self.clock.mark("forward")

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The gradients are computed."""
        self.clock.mark("backward")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The weights are updated."""
        self.clock.mark("optimizer")


class _Last(L.Callback):
    """Marks what other callbacks have done."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The other callbacks have run."""
        self.clock.mark("logging")
        self.clock.end_batch(pl_module.step)


def batch_seconds(samples: PatchSamples, batch: int, dims: int) -> dict[str, float]:
    """Measure how long one process needs for the patches of a batch.

    Args:
        samples: the patches of the training.
        batch: patches per step.
        dims: number of spatial axes.

    Returns:
        seconds: of ``all``, and of ``augmentation``, as the difference to the same patches without it.
    """
    bare = copy.copy(samples)
    bare.augmentation = Augmentation([], dims)
    began, taken = time.perf_counter(), {"all": 0.0, "bare": 0.0}
    count = 0
    for index in range(min(_SAMPLES, batch)):
        for name, source in (("bare", bare), ("all", samples)):
            _ = source[index]  # the first time the case is read from the disk
            started = time.perf_counter()
            source.collate([source[index]])
            taken[name] += time.perf_counter() - started
        count += 1
        if time.perf_counter() - began > _PATIENCE_SECONDS:
            break
    per = batch / count
    return {"all": per * taken["all"], "augmentation": per * max(taken["all"] - taken["bare"], 0.0)}
