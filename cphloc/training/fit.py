"""The training loop: optimizer steps, validation, checkpoints and early stopping, independent of recipes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from cphloc.distributed import processes
from cphloc.distributed.machine import peak_ram_mb
from cphloc.errors import NotFoundError, did_you_mean
from cphloc.evaluation.validate import Validation
from cphloc.training import checkpoint
from cphloc.training.distillation import Teacher
from cphloc.training.divergence import Divergence
from cphloc.training.loss_means import LossMeans
from cphloc.training.module import TrainingModule
from cphloc.training.optim import freeze
from cphloc.training.settings import Batches, Settings
from cphloc.training.step_profile import StepClock
from cphloc.training.trainer import run_steps

Validate = Callable[[Any], Validation]
"""Validate a model; called on every rank, and must return the same result on each."""

StopEarly = Callable[[int, Mapping[str, float]], bool]
"""Decide after a validation, from the step and the metrics, whether to stop a training that is not worth going on."""

Log = Callable[[Mapping[str, float], int], None]
"""Log metrics, name -> value, at an optimizer step."""

_LOG_EVERY = 10


@dataclass
class Outcome:
    """Progress and result of a training.

    Args:
        step: optimizer steps done.
        seconds: elapsed time, including validation and earlier parts of a resumed training.
        best_step: step of the best validation; its weights are in ``best.safetensors``.
        best: metrics of the best validation.
        cases: metrics of each case at the best validation.
        stale: number of validations since the best one.
        stopped: why the training ended: ``steps``, ``minutes``, ``patience``, ``pruned`` (by ``stop_early``), or the
            name of a signal; empty while it runs.
        scores: `cphloc.evaluation.scores.Scores` of the best validation; not saved in checkpoints, so ``None`` if that
            validation was before a resume.
    """

    step: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best: dict[str, float] = field(default_factory=dict)
    cases: list[dict[str, Any]] = field(default_factory=list)
    stale: int = 0
    stopped: str = ""
    scores: Any = None

    def to_plain(self) -> dict[str, Any]:
        """Return all fields but ``scores`` as a JSON-serializable dict."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "scores"}


def fit(
    model: nn.Module,
    batches: Batches,
    validate: Validate,
    settings: Settings,
    folder: Path,
    *,
    log: Log = lambda metrics, step: None,
    resume: bool = False,
    seconds: float = 0.0,
    callbacks: Sequence[L.Callback] = (),
    teacher: Teacher | None = None,
    stop_early: StopEarly | None = None,
    clock: StepClock | None = None,
) -> Outcome:
    """Train ``model`` in place and write ``best.safetensors`` and ``last.safetensors`` to ``folder``.

    Processes started by torchrun train together, by ``settings.strategy``. On SIGTERM or Ctrl-C the training saves a
    checkpoint and returns; if the process is killed, the steps since the last checkpoint are lost. In both cases
    ``resume`` continues from ``last.safetensors``; on a CPU the final weights are identical to those of an
    uninterrupted training.

    Args:
        model: a module with ``outputs(image)`` and ``loss(outputs, targets)``, a dict whose ``loss`` is minimized.
        batches: training batches of a rank, see `cphloc.training.settings.Batches`.
        validate: computes the validation metrics, among them ``settings.best``.
        settings: how to train.
        folder: folder for the checkpoints.
        log: called with ``train/...`` and ``val/...`` metrics, on the first rank only.
        resume: continue from the last checkpoint in ``folder``.
        seconds: time already spent, which counts against ``settings.minutes``; not if the training is resumed, which
            goes on as if it had not been stopped.
        callbacks: additional Lightning callbacks, such as a progress bar.
        teacher: model whose probabilities are learned beside the annotations; ``None`` for none.
        stop_early: called after each validation on every rank; where it returns True, the training ends.
        clock: measures the parts of the steps; ``None`` for none.

    Raises:
        DivergedError: losses or weights are not finite, or the loss has exploded.
        CphlocError: a checkpoint cannot be written.
        NotFoundError: a pattern of ``settings.freeze`` matches no parameter, or validation does not compute
            ``settings.best``.
    """
    checkpoint.check_space(folder, model)
    freeze(model, settings.freeze)
    module = TrainingModule(model, batches, settings, teacher)
    loop = Loop(clock.timed(validate) if clock else validate, settings, folder, log, seconds, stop_early)
    if resume:
        loop.restore(module)
    if loop.outcome.stopped not in ("steps", "minutes", "patience", "pruned"):
        run_steps(module, [clock.first, loop, *callbacks, clock.last] if clock else [loop, *callbacks])
    return loop.outcome


class Loop(L.Callback):
    """Lightning callback that logs, validates, saves checkpoints and stops the training."""

    def __init__(
        self,
        validate: Validate,
        settings: Settings,
        folder: Path,
        log: Log,
        seconds: float,
        stop_early: StopEarly | None = None,
    ) -> None:
        self.validate = validate
        self.settings = settings
        self.folder = folder
        self.record = log
        self.stop_early = stop_early
        self._pruned = False
        self.outcome = Outcome(seconds=seconds)
        self._validation_seconds: float | None = None
        self._signal = ""
        self._divergence = Divergence()
        self._means = LossMeans()

    def restore(self, module: TrainingModule) -> None:
        """Restore the training state from the last checkpoint in the folder."""
        tensors, facts = checkpoint.load(self.folder / checkpoint.LAST)
        module.restore(tensors, facts["module"])
        self.outcome = Outcome(**facts["outcome"])
        module.progress = self._progress()
        self._means = LossMeans.restored(facts.get("losses"), processes.is_first())
        self._validation_seconds = facts.get("validation_seconds")
        if self.outcome.stopped.startswith("SIG"):
            self.outcome.stopped = ""

    def on_train_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        """Start the timer and install signal handlers, after Lightning has installed its own."""
        self._started = time.monotonic() - self.outcome.seconds
        self._begun_at, self._begun_with, self._batches = self.outcome.seconds, module.step, 0
        self._logged_at, self._cpu_at, self._waited = time.monotonic(), time.process_time(), 0.0
        self._waits_since = self._logged_at
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)

    def on_train_batch_start(self, trainer: L.Trainer, module: TrainingModule, batch: Any, batch_idx: int) -> None:
        """Count the time since the last step, in which the training waited for its next batch."""
        self._waited += time.monotonic() - self._waits_since

    def on_train_batch_end(
        self, trainer: L.Trainer, module: TrainingModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After each complete optimizer step: log, validate and save if due, and stop if a limit is reached."""
        self._after_batch(trainer, module, batch_idx)
        self._waits_since = time.monotonic()

    def _after_batch(self, trainer: L.Trainer, module: TrainingModule, batch_idx: int) -> None:
        self._means.add(module.losses, module.cases)
        self._batches += 1
        if (batch_idx + 1) % self.settings.accumulate:
            return
        self.outcome.step = module.step
        self.outcome.seconds = trainer.strategy.broadcast(time.monotonic() - self._started)
        module.progress = self._progress()
        if module.step % _LOG_EVERY == 0:
            self._log_losses(trainer, module)
        reason = self._reason(trainer)
        if reason in ("", "steps", "minutes") and (reason or self._due()):
            self._run_validation(trainer, module)
            reason = reason or ("patience" if self._exhausted() else "pruned" if self._pruned else "")
        if reason:
            self.outcome.stopped = reason
            trainer.should_stop = True
        if reason or self._due():
            self._save(trainer, module)

    def _progress(self) -> float:
        """Share of the time budget that is used; 0 without a budget."""
        return self.outcome.seconds / (60 * self.settings.minutes) if self.settings.minutes else 0.0

    def _reason(self, trainer: L.Trainer) -> str:
        if trainer.strategy.reduce_boolean_decision(bool(self._signal), all=False):
            return self._signal or "SIGTERM"
        if self.outcome.step >= self.settings.steps:
            return "steps"
        return "minutes" if self.settings.minutes and self._left() <= 0 else ""

    def _left(self) -> float:
        """Seconds of the time budget left for training steps, with time reserved for the last validation."""
        step_seconds = (self.outcome.seconds - self._begun_at) / (self.outcome.step - self._begun_with)
        budget = 60 * (self.settings.minutes or float("inf"))
        return budget - self.outcome.seconds - 1.1 * (self._validation_seconds or 0) - step_seconds

    def _due(self) -> bool:
        """Whether to validate: every ``validate_every`` steps.

        Under a time budget also once after a quarter of it, to measure how long a validation takes.
        """
        if self.outcome.step % self.settings.validate_every == 0:
            return True
        budget = 60 * (self.settings.minutes or float("inf"))
        return self._validation_seconds is None and self.outcome.seconds >= budget / 4

    def _exhausted(self) -> bool:
        return self.settings.patience is not None and self.outcome.stale >= self.settings.patience

    def _run_validation(self, trainer: L.Trainer, module: TrainingModule) -> None:
        started = time.monotonic()
        means = self._means.values(torch.clone, module.weights_of_heads)
        self._divergence.check_losses(
            {f"train/{name}": value for name, value in means.items()}, module.step, _lr(module)
        )
        with module.evaluated() as model:
            self._divergence.check_weights(model.state_dict(), module.step, _lr(module))
            found = self.validate(model)
        self._pruned = self.stop_early is not None and self.stop_early(module.step, found.metrics)
        name = self.settings.best
        if name not in found.metrics:
            msg = f"train.best: no metric '{name}'; {did_you_mean(name, found.metrics)} one of {sorted(found.metrics)}"
            raise NotFoundError(msg)
        better = self.settings.better(found.metrics[name], self.outcome.best.get(name))
        improved = better or self.settings.keep_last
        self.outcome.stale = 0 if improved else self.outcome.stale + 1
        if improved:
            self.outcome.best_step, self.outcome.best = module.step, found.metrics
            self.outcome.cases, self.outcome.scores = found.cases, found.scores
            facts = {"step": module.step, "metrics": found.metrics, "cases": found.cases}
            self._keep(trainer, checkpoint.BEST, module.weights(), facts)
            best = f"{name} {found.metrics[name]:.4g}"
            self._divergence.kept = (
                f". The weights of step {module.step} ({best}) are in {self.folder / checkpoint.BEST}"
            )
        if trainer.is_global_zero:
            self.record({f"val/{metric}": value for metric, value in found.metrics.items()}, module.step)
        self._validation_seconds = time.monotonic() - started

    def _save(self, trainer: L.Trainer, module: TrainingModule) -> None:
        tensors, facts = module.state()
        facts = {"module": facts, "outcome": self.outcome.to_plain(), "validation_seconds": self._validation_seconds}
        facts["losses"] = self._means.to_plain(partial(trainer.strategy.reduce, reduce_op="sum"))
        self._keep(trainer, checkpoint.LAST, tensors, facts)

    def _keep(self, trainer: L.Trainer, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint on the first process; the others contribute their shards and wait."""
        whole = checkpoint.whole(tensors)
        if trainer.is_global_zero:
            checkpoint.save(self.folder / name, whole, facts)
        trainer.strategy.barrier()

    def _log_losses(self, trainer: L.Trainer, module: TrainingModule) -> None:
        found = self._means.values(partial(trainer.strategy.reduce, reduce_op="sum"), module.weights_of_heads)
        means = {f"train/{name}": value for name, value in found.items()}
        self._divergence.check_losses(means, module.step, _lr(module))
        now, cpu = time.monotonic(), time.process_time()
        means["system/cpu_cores"] = (cpu - self._cpu_at) / (now - self._logged_at)
        means["system/loading_share"] = self._waited / (now - self._logged_at)
        if (peak := peak_ram_mb()) is not None:
            means["system/peak_ram_mb"] = peak
        if torch.cuda.is_available():
            means["system/peak_gpu_mb"] = torch.cuda.max_memory_allocated() / 1e6
        means["train/lr"] = _lr(module)
        means["train/steps_per_second"] = self._batches / self.settings.accumulate / (now - self._logged_at)
        self._means, self._batches, self._logged_at, self._cpu_at, self._waited = LossMeans(), 0, now, cpu, 0.0
        if trainer.is_global_zero:
            self.record(means, module.step)

    def _on_signal(self, number: int, _: Any) -> None:
        """Stop after the current step; a second signal has its default effect at once."""
        self._signal = signal.Signals(number).name
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _lr(module: TrainingModule) -> float:
    """Largest learning rate of the parameter groups."""
    return max(group["lr"] for group in module.optimizer.param_groups)
