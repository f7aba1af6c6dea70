"""Learning rate schedules, listed in ``registry/schedule.yaml``.

A schedule is called with a step in [0, steps] and the number of steps, and returns a factor on the learning rate. The
step may be fractional under a time budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cphloc.config.argument_types import PositiveFloat, UnitInterval


@dataclass(frozen=True)
class Constant:
    """Constant learning rate."""

    def __call__(self, step: float, steps: int) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Poly:
    """Polynomial decay, ``(1 - step / steps) ** power``, as in nnU-Net.

    Args:
        power: exponent; 1 is linear decay.

    >>> Poly(power=2.0)(5, 10)
    0.25
    """

    power: PositiveFloat = 0.9

    def __call__(self, step: float, steps: int) -> float:
        """Return the factor at ``step``."""
        return (1 - step / steps) ** self.power


@dataclass(frozen=True)
class Cosine:
    """Cosine annealing from 1 to ``floor``, without restarts (Loshchilov and Hutter, "SGDR", 2017).

    Args:
        floor: factor on the learning rate at the end of the training.
    """

    floor: UnitInterval = 0.0

    def __call__(self, step: float, steps: int) -> float:
        """Return the factor at ``step``."""
        return _between(1.0, self.floor, step / steps)


@dataclass(frozen=True)
class OneCycle:
    """One-cycle schedule: cosine increase to the learning rate, then cosine decrease (Smith and Topin, 2018).

    Equal to `torch.optim.lr_scheduler.OneCycleLR` without cycling the momentum.

    Args:
        rise: fraction of the steps in which the learning rate increases (``pct_start``).
        first_divisor: the initial rate is the learning rate divided by this (``div_factor``).
        last_divisor: the final rate is the initial rate divided by this (``final_div_factor``).
    """

    rise: UnitInterval = 0.3
    first_divisor: PositiveFloat = 25.0
    last_divisor: PositiveFloat = 1e4

    def __call__(self, step: float, steps: int) -> float:
        """Return the factor at ``step``."""
        first = 1 / self.first_divisor
        top, last = self.rise * steps - 1, steps - 1
        if step < top:
            return _between(first, 1.0, step / top)
        return _between(1.0, first / self.last_divisor, min((step - top) / (last - top), 1.0))


@dataclass(frozen=True)
class Step:
    """Step decay: multiply the learning rate by ``factor`` at each fraction ``at`` of the training.

    Args:
        at: fractions of the training steps at which the learning rate changes.
        factor: factor on the learning rate at each of them.
    """

    at: Sequence[UnitInterval] = (0.67, 0.89)
    factor: UnitInterval = 0.1

    def __call__(self, step: float, steps: int) -> float:
        """Return the factor at ``step``."""
        return self.factor ** sum(step >= fraction * steps for fraction in self.at)


def _between(a: float, b: float, fraction: float) -> float:
    """Cosine interpolation from ``a`` at fraction 0 to ``b`` at fraction 1."""
    return b + (a - b) * (1 + math.cos(math.pi * fraction)) / 2
