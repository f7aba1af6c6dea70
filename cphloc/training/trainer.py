"""Run a training module with Lightning's `Trainer`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import lightning.pytorch as L
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy

from cphloc.distributed import processes
from cphloc.distributed.machine import reuse_freed_memory
from cphloc.training.compute import choose, lay_out
from cphloc.training.module import TrainingModule
from cphloc.training.settings import Settings


def run_steps(module: TrainingModule, callbacks: Sequence[L.Callback]) -> None:
    """Train ``module`` for its remaining steps, or until a callback stops it.

    Processes started by torchrun train together, by ``settings.strategy``.
    """
    settings = module.settings
    reuse_freed_memory()
    module.compute = choose(module, module.compute)
    if module.compute.channels_last:
        lay_out(module.model, channels_last=True)
    with _quiet_lightning():
        trainer = L.Trainer(
            max_steps=settings.steps - module.step,
            max_epochs=-1,
            devices=processes.on_this_machine(),
            num_nodes=processes.count() // processes.on_this_machine(),
            strategy=_strategy(settings),
            precision=module.compute.precision,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip_norm,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            use_distributed_sampler=False,
        )
        trainer.fit(module)


def _strategy(settings: Settings) -> Strategy | str:
    if processes.count() == 1:
        return "auto"
    if settings.strategy == "fsdp":
        return ModelParallelStrategy(data_parallel_size=processes.count(), tensor_parallel_size=1)
    return "ddp"


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's log messages and warnings."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning.*")
        try:
            yield
        finally:
            logger.setLevel(level)
