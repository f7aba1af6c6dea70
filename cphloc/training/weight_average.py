"""Averages of the weights over a training: exponential moving average, and the equal average of the last steps."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from cphloc.training.checkpoint import like


class WeightAverage(ABC):
    """Average of a model's parameters and buffers, updated after each optimizer step.

    ``average = d * average + (1 - d) * weight``; the subclasses choose ``d``. Integer buffers, such as batch counters,
    are copied.

    Args:
        model: its present state is the first average.
    """

    def __init__(self, model: nn.Module) -> None:
        self.updates = 0
        self.state: dict[str, Tensor] = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def lay_out_like(self, model: nn.Module) -> None:
        """Shard the averages across processes, or change their memory format, to match the weights of ``model``."""
        self.state = {name: like(self.state[name], value) for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, progress: float = 1.0) -> None:
        """Update the averages with the present weights of ``model``.

        Args:
            model: the model.
            progress: share of the training that is done, from 0 to 1.
        """
        decay = self._decay(progress)
        present = model.state_dict()
        averaged = [name for name, value in self.state.items() if value.is_floating_point()]
        old, new = [self.state[name] for name in averaged], [present[name] for name in averaged]
        torch._foreach_lerp_(old, new, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]  # one call, not one each
        for name in self.state.keys() - set(averaged):
            self.state[name].copy_(present[name])

    @abstractmethod
    def _decay(self, progress: float) -> float:
        """Count the update and return ``d``."""


class Ema(WeightAverage):
    """Exponential moving average: ``d = min(decay, (1 + t) / (10 + t))`` at update t = 1, 2, ...

    So early updates weigh more (as in TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``).

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
        super().__init__(model)
        self.decay = decay

    def _decay(self, progress: float) -> float:
        self.updates += 1
        return min(self.decay, (1 + self.updates) / (10 + self.updates))


class Swa(WeightAverage):
    """Stochastic weight averaging: the mean of the weights after each of the last steps; before, the weights.

    Running statistics of batch norms are averaged as well.

    Args:
        model: its present state is the first average.
        share: share of the training, from its end, whose weights are averaged, in (0, 1].

    Reference: Izmailov et al. 2018, arXiv:1803.05407.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> swa = Swa(model, share=0.5)
    >>> for step in range(1, 5):
    ...     _ = nn.init.constant_(model.weight, step)
    ...     swa.update(model, progress=step / 4)
    >>> swa.state["weight"].item()  # of steps 3 and 4
    3.5
    """

    def __init__(self, model: nn.Module, share: float) -> None:
        super().__init__(model)
        self.share = share

    def _decay(self, progress: float) -> float:
        if progress <= 1 - self.share + 1e-9:
            return 0.0
        self.updates += 1
        return (self.updates - 1) / self.updates
