"""Recognize a training that diverges: losses or weights that are not finite, or losses that explode."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cphloc.errors import CphlocError

EXPLODED = 100.0
"""A loss of this many times its first mean, or of this value where the first mean was below 1, has exploded."""


class DivergedError(CphlocError):
    """Training whose losses or weights are not finite, or whose loss has exploded; the message gives the reason."""


@dataclass
class Divergence:
    """Compares the loss of a training with its beginning.

    Args:
        kept: sentence about the best weights so far, for the message.
        first: mean loss of the first interval, and its last step; ``None`` before it is over.
    """

    kept: str = ""
    first: tuple[float, int] | None = None

    def check_losses(self, means: Mapping[str, float], step: int, lr: float) -> None:
        """Check the mean losses of an interval.

        Args:
            means: mean by name; ``train/loss`` is their weighted sum.
            step: last optimizer step of the interval.
            lr: learning rate, for the message.

        Raises:
            DivergedError: one is not finite, or the sum has exploded.
        """
        bad = {name: value for name, value in means.items() if not math.isfinite(value)}
        loss = means.get("train/loss", 0.0)
        if bad:
            raise DivergedError(self._message(", ".join(f"{name} is {value}" for name, value in bad.items()), step, lr))
        if self.first is None:
            self.first = loss, step
        elif loss > EXPLODED * max(1.0, abs(self.first[0])):
            raise DivergedError(self._message(f"the loss has grown to {loss:.3g}", step, lr))

    def check_weights(self, weights: Mapping[str, Tensor], step: int, lr: float) -> None:
        """Check that all weights are finite, before they are validated.

        Raises:
            DivergedError: a weight is NaN or infinite.
        """
        for name, value in weights.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise DivergedError(self._message(f"the weight {name} is not finite", step, lr))

    def _message(self, what: str, step: int, lr: float) -> str:
        began = f" (it began at {self.first[0]:.3g})" if self.first is not None else ""
        advice = f"lower train.optimizer.lr (the rate is {lr:.1e} now) or train.clip_norm, or add train.warmup_steps"
        return f"the training diverged at step {step}: {what}{began}{self.kept}; {advice}"
