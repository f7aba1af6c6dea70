"""The Lightning module: the training step, optimizer, weight averaging, and the state to resume from."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
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
from cphloc.training.distillation import OWN_BEGINS, SOFT, Teacher
from cphloc.training.micro_batches import Grouped, MicroBatch, cases_of, number_for
from cphloc.training.optim import build_optimizer, build_schedule, set_lr, set_progress, train_mode
from cphloc.training.settings import Batches, Compute, Settings
from cphloc.training.weight_average import Ema, Swa, WeightAverage


class TrainingModule(L.LightningModule):
    """Lightning module that trains a `cphloc.modeling.model.Model`.

    The random generators are seeded for every micro-batch from ``(seed, number of the micro-batch, rank)``. So no
    random state has to be saved, and neither validation nor resuming changes the steps that follow.

    Args:
        model: a module with ``outputs(image)`` and ``loss(outputs, targets)``.
        batches: training batches of a rank, see `cphloc.training.settings.Batches`.
        settings: how to train.
        teacher: model whose probabilities are learned beside the annotations; ``None`` for none.
    """

    def __init__(self, model: nn.Module, batches: Batches, settings: Settings, teacher: Teacher | None = None) -> None:
        super().__init__()
        self._teacher = teacher
        self.model = cast(Model, model)
        self.batches = batches
        self.settings = settings
        self.step = 0
        self.compute: Compute | None = None
        self.progress = 0.0
        self.losses: dict[str, Tensor] = {}
        self.cases: dict[str, float] = {}
        self.average = _average(model, settings)
        self.schedule = build_schedule(steps=settings.steps, warmup_steps=settings.warmup_steps, **settings.schedule)
        self._to_validate = [model]
        self._scale: dict[str, Any] | None = None
        self._restored: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def train_dataloader(self) -> Iterable[Any]:
        """Return this rank's batches, starting at the current step."""
        batches = self._batches(self.trainer.global_rank)
        return Grouped(batches, self.settings.accumulate, partial(cases_of, self.model, self.settings.rungs))

    def first_batch(self) -> Any:
        """Return the first process's next batch, with which the training begins all the same.

        The worker processes that made it end here: kept, they would outlive the training, which then never exits.
        """
        return next(iter(self._batches(rank=0)))

    def _batches(self, rank: int) -> Iterable[Any]:
        return self.batches(self.step * self.settings.accumulate, rank, processes.count())

    def configure_model(self) -> None:
        """Shard the parameters across the processes if the strategy is FSDP.

        A sharded model gathers its parameters from all processes at every forward pass, so all have to make the same
        number of passes. In validation they do not: each process predicts other cases, in other numbers of windows.
        So a copy of the model is sharded and trained, and the original stays unsharded for validation.
        """
        if self.settings.strategy == "fsdp" and self._to_validate[0] is self.model:
            self.model = deepcopy(self.model)
            assert self.device_mesh is not None  # Lightning's strategy has made it
            shard(self.model, self.device_mesh["data_parallel"])
            if self.average is not None:
                self.average.lay_out_like(self.model)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the optimizer, and restore its state if the training resumes."""
        optimizer = build_optimizer(self.model, **self.settings.optimizer)
        if self._restored is not None:
            restore_optimizer(self.model, optimizer, *self._restored)
            self._restored = None
        return optimizer

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The torch optimizer, unwrapped from Lightning's `LightningOptimizer`."""
        wrapped = self.optimizers()
        assert isinstance(wrapped, LightningOptimizer)
        return wrapped.optimizer

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Copy the image and targets of a micro-batch to ``device``."""
        image, targets = (part.to(device, non_blocking=True) for part in (batch.image, batch.targets))
        return replace(batch, image=image, targets=targets)

    def on_train_start(self) -> None:
        """Set the training mode of each submodule, and restore the loss scale of float16 training when resuming."""
        train_mode(self.model)
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and self._scale:
            scaler.load_state_dict(self._scale)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the random generators; set the learning rate and the training progress of scheduled components."""
        number = self.step * self.settings.accumulate + batch_idx % self.settings.accumulate
        _seed(self.settings.seed, number, self.trainer.global_rank)
        step = max(self.step, self.progress * self.settings.steps)
        set_lr(self.optimizer, self.schedule(step))
        set_progress(self.model, step / self.settings.steps)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss to minimize, and store it and its terms, detached, in ``losses``."""
        outputs = self.model.outputs(batch.image)
        losses = self.model.loss(outputs, replace(batch.targets, images=batch.image))
        shares: dict[str, Tensor] = {}
        if self._teacher is not None and self._teaches():
            view = self._teacher.views(batch.image)
            seen = outputs if view is batch.image else self.model.outputs(view)
            soft, shares = self._teacher.losses(self.model, seen, batch.image, batch.targets)
            losses = {**losses, **soft, "loss": losses["loss"] + self._teacher.weight * sum(soft.values())}
        self.losses = {name: value.detach() for name, value in {**losses, **shares}.items()}
        self.cases = {name: number for name in losses if (number := number_for(name, batch.cases)) is not None}
        parts = self.settings.accumulate * self.trainer.world_size
        return losses["loss"] if parts == 1 else self._balanced_loss(losses, batch, parts)

    def _teaches(self) -> bool:
        """Whether the teacher counts yet; the network's own average is brought up to date."""
        assert self._teacher is not None
        if not self._teacher.own:
            return True
        assert self.average is not None  # preparation has checked it
        if max(self.step / self.settings.steps, self.progress) < OWN_BEGINS:
            return False
        self._teacher.follow(self.model, self.average.state)
        return True

    def _balanced_loss(self, losses: Mapping[str, Tensor], batch: MicroBatch, parts: int) -> Tensor:
        """Return the loss whose mean over the parts of a batch equals the loss of the whole batch.

        Each loss of a part (a micro-batch of one process) is weighted by the part's share of the cases that the loss is
        a mean of, see `cphloc.training.micro_batches`.
        """
        in_all = dict(batch.in_step)
        if self.trainer.world_size > 1:
            numbers = torch.tensor(list(in_all.values()), device=batch.image.device)
            in_all = dict(zip(in_all, processes.total(numbers).tolist(), strict=True))
        loss = losses["loss"]
        for name, value in losses.items():
            here, whole = number_for(name, batch.cases), number_for(name, in_all)
            if here is not None and whole is not None:
                share = (here or 1.0) * parts / (whole or 1.0)
                loss = loss + (share - 1) * self.weights_of_heads[name.partition("/")[0]] * value
        return loss

    @property
    def weights_of_heads(self) -> dict[str, float]:
        """Weight of each head, and of the teacher, in the loss; empty for a model whose loss is no sum over heads."""
        soft = {} if self._teacher is None else {SOFT: self._teacher.weight}
        return {**getattr(self.model, "weights", {}), **soft}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step the optimizer, count the step and update the average of the weights."""
        super().optimizer_step(*args, **kwargs)
        self.step += 1
        if self.average is not None:
            self.average.update(self.model, max(self.step / self.settings.steps, self.progress))

    def weights(self) -> dict[str, Tensor]:
        """Return the state dict to validate and publish: their average if there is one, else the weights."""
        return self.average.state if self.average is not None else self.model.state_dict()

    @contextmanager
    def evaluated(self) -> Iterator[nn.Module]:
        """Context manager that yields the model with the weights to publish, in evaluation mode.

        The training weights and modes are restored on exit.
        """
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
        """Return the complete training state, as tensors by name and a JSON-serializable dict, for `restore`."""
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        moments, numbers = optimizer_state(self.model, self.optimizer)
        tensors |= {f"optimizer/{name}": value for name, value in moments.items()}
        if self.average is not None:
            tensors |= {f"ema/{name}": value for name, value in self.average.state.items()}
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        facts = {"step": self.step, "optimizer": numbers, "ema_updates": self.average.updates if self.average else 0}
        facts["compute"] = asdict(self.compute) if self.compute else None
        return tensors, facts | {"scaler": scaler.state_dict() if scaler else None}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Restore the training state returned by `state`.

        Must be called before training starts; `configure_optimizers` then restores the state of the optimizer.
        """
        self.model.load_state_dict(_under("model/", tensors))
        self.step, self._scale = facts["step"], facts["scaler"]
        self.compute = Compute(**facts["compute"]) if facts.get("compute") else None
        self._restored = _under("optimizer/", tensors), facts["optimizer"]
        if self.average is not None:
            self.average.updates = facts["ema_updates"]
            for name, value in _under("ema/", tensors).items():
                self.average.state[name].copy_(value)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Check in the first step that at least one parameter has a gradient.

        Raises:
            CphlocError: none has one, because the losses do not depend on the parameters.
        """
        if self.step == 0 and all(p.grad is None for p in self.model.parameters()):
            msg = "no parameter received a gradient in the first step; the losses do not depend on the model"
            raise CphlocError(msg)


def _average(model: nn.Module, settings: Settings) -> WeightAverage | None:
    if settings.ema:
        return Ema(model, settings.ema)
    return Swa(model, settings.swa) if settings.swa else None


def _seed(seed: int, number: int, rank: int) -> None:
    mixed = int(np.random.SeedSequence((seed, number, rank)).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    # Not torch.manual_seed: without a GPU it queues a CUDA seeding call, with its stack trace, at every call.
    torch.default_generator.manual_seed(mixed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(mixed)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
