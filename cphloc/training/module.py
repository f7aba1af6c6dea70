"""The Lightning module: one training step, and the whole state a training needs to go on."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from cphloc.distributed import processes
from cphloc.distributed.sharding import shard
from cphloc.errors import CphlocError
from cphloc.modeling.model import Model
from cphloc.training.checkpoint import optimizer_state, restore_optimizer, whole
from cphloc.training.ema import Ema
from cphloc.training.optim import build_optimizer, build_schedule, set_lr, set_progress, train_mode
from cphloc.training.settings import Batches, Settings


class TrainingModule(L.LightningModule):
    """Trains ``model`` by ``settings`` on ``batches``; counts its own optimizer steps, so that a resume just goes on.

    All randomness of a micro-batch follows from ``(seed, its number, rank)``. So no random state has to be saved, and
    neither a validation nor a restart changes what comes after it.
    """

    def __init__(self, model: nn.Module, batches: Batches, settings: Settings) -> None:
        super().__init__()
        self.model = cast(Model, model)
        self.batches = batches
        self.settings = settings
        self.step = 0
        self.progress = 0.0
        self.losses: dict[str, Tensor] = {}
        self.ema = Ema(model, settings.ema) if settings.ema else None
        self.schedule = build_schedule(steps=settings.steps, warmup_steps=settings.warmup_steps, **settings.schedule)
        self._to_validate = [model]
        self._scale: dict[str, Any] | None = None
        self._restored: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def train_dataloader(self) -> Iterable[Any]:
        """This rank's batches from where the training stands."""
        first = self.step * self.settings.accumulate
        return self.batches(first, self.trainer.global_rank, self.trainer.world_size)

    def configure_model(self) -> None:
        """Share the parameters out between the processes, where the strategy is FSDP.

        The processes validate different cases, in different numbers of windows, which a sharded model cannot do: it
        gathers its parameters from all of them at every call. So the model that was given stays whole, for that, and
        a copy is sharded and trained.
        """
        if self.settings.strategy == "fsdp" and self._to_validate[0] is self.model:
            self.model = deepcopy(self.model)
            assert self.device_mesh is not None  # Lightning's strategy has made it
            shard(self.model, self.device_mesh["data_parallel"])
            if self.ema is not None:
                self.ema.lay_out_like(self.model)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer, with its state when the training resumes."""
        optimizer = build_optimizer(self.model, **self.settings.optimizer)
        if self._restored is not None:
            restore_optimizer(self.model, optimizer, *self._restored)
            self._restored = None
        return optimizer

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer itself, behind Lightning's wrapper."""
        wrapped = self.optimizers()
        assert isinstance(wrapped, LightningOptimizer)
        return wrapped.optimizer

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The batch on ``device``."""
        image = batch.image.to(device, non_blocking=True)
        return replace(batch, image=image, targets=batch.targets.to(device, non_blocking=True))

    def on_train_start(self) -> None:
        """Frozen parts stay in evaluation mode; half precision goes on with the loss scale that it had found."""
        train_mode(self.model)
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and self._scale:
            scaler.load_state_dict(self._scale)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the micro-batch; set the learning rate, and what losses know of the progress, for its step."""
        number = self.step * self.settings.accumulate + batch_idx % self.settings.accumulate
        _seed(self.settings.seed, number, self.trainer.global_rank)
        step = max(self.step, self.progress * self.settings.steps)
        set_lr(self.optimizer, self.schedule(step))
        set_progress(self.model, step / self.settings.steps)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss to minimise; it and its terms stay in ``losses``."""
        losses = self.model.loss(self.model.outputs(batch.image), batch.targets)
        self.losses = {name: value.detach() for name, value in losses.items()}
        return losses["loss"] if self.trainer.world_size == 1 else self._of_whole_batch(losses, batch.targets)

    def _of_whole_batch(self, losses: Mapping[str, Tensor], targets: Any) -> Tensor:
        """The loss whose mean over the processes is that of their batches together.

        A head's loss is a mean over the cases that have its rung. So the loss of a process in which these are few, or
        none, weighs less, in proportion.
        """
        loss = losses["loss"]
        for head, rung in self.settings.rungs.items():
            here = getattr(targets, f"has_{rung}").sum().float()
            share = here * self.trainer.world_size / processes.total(here).clamp(min=1)
            own = sum(value for name, value in losses.items() if name.startswith(f"{head}/"))
            loss = loss + (share - 1) * self.model.weights[head] * own
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One step, counted, then averaged."""
        super().optimizer_step(*args, **kwargs)
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model)

    def weights(self) -> dict[str, Tensor]:
        """The weights to validate and publish: the average where there is one."""
        return self.ema.state if self.ema is not None else self.model.state_dict()

    @contextmanager
    def evaluated(self) -> Iterator[nn.Module]:
        """The model with the weights to publish, in evaluation mode; afterwards all is as before."""
        model = self._to_validate[0].to(self.device)
        present = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(whole(self.weights()))
        processes.share_buffers(model)
        model.eval()
        try:
            yield model
        finally:
            model.load_state_dict(present)
            train_mode(self.model)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON-ready facts from which `restore` goes on exactly."""
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        moments, numbers = optimizer_state(self.model, self.optimizer)
        tensors |= {f"optimizer/{name}": value for name, value in moments.items()}
        if self.ema is not None:
            tensors |= {f"ema/{name}": value for name, value in self.ema.state.items()}
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        facts = {"step": self.step, "optimizer": numbers, "ema_updates": self.ema.updates if self.ema else 0}
        return tensors, facts | {"scaler": scaler.state_dict() if scaler else None}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take up the state of a checkpoint; called before the optimizer exists, which picks its part up later."""
        self.model.load_state_dict(_under("model/", tensors))
        self.step, self._scale = facts["step"], facts["scaler"]
        self._restored = _under("optimizer/", tensors), facts["optimizer"]
        if self.ema is not None:
            self.ema.updates = facts["ema_updates"]
            for name, value in _under("ema/", tensors).items():
                self.ema.state[name].copy_(value)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """A gradient on no parameter means that the model and its losses are not connected."""
        if self.step == 0 and all(p.grad is None for p in self.model.parameters()):
            msg = "no parameter received a gradient in the first step; the losses do not depend on the model"
            raise CphlocError(msg)


def _seed(seed: int, number: int, rank: int) -> None:
    mixed = int(np.random.SeedSequence((seed, number, rank)).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    # Not torch.manual_seed, which without a GPU keeps a stack trace of every call for the day there is one.
    torch.default_generator.manual_seed(mixed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(mixed)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
