"""Exponential moving average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cphloc.training.checkpoint import like


class Ema:
    """Exponential moving average of a model's parameters and buffers, updated after each optimizer step.

    ``average = d * average + (1 - d) * weight`` with ``d = min(decay, (1 + t) / (10 + t))`` at update t = 1, 2, ...,
    so that early updates weigh more (as in TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``).
    Integer buffers, such as batch counters, are copied.

    Args:
        model: its present state is the first average.
        decay: upper limit of ``d``, in [0, 1).

    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> ema = Ema(model, decay=0.999)
    >>> _ = nn.init.ones_(model.weight)
    >>> ema.update(model)
    >>> round(ema.state["weight"].item(), 4)
    0.8182
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state: dict[str, Tensor] = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def lay_out_like(self, model: nn.Module) -> None:
        """Shard the averages across processes, or change their memory format, to match the weights of ``model``."""
        self.state = {name: like(self.state[name], value) for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the averages with the present weights of ``model``."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        present = model.state_dict()
        averaged = [name for name, value in self.state.items() if value.is_floating_point()]
        old, new = [self.state[name] for name in averaged], [present[name] for name in averaged]
        torch._foreach_lerp_(old, new, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]  # one call, not one each
        for name in self.state.keys() - set(averaged):
            self.state[name].copy_(present[name])
