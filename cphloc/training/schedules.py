"""Learning rate schedules: what `registry/schedule.yaml` names.

A schedule is called with a step in [0, steps) and the number of steps, and gives the factor on the learning rate.
Steps may be fractional where a time budget drives them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cphloc.config.argument_types import PositiveFloat, UnitInterval


@dataclass(frozen=True)
class Constant:
    """Leave the learning rate as it is."""

    def __call__(self, step: float, steps: int) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Poly:
    """``(1 - step / steps) ** power``, as nnU-Net trains.

    Args:
        power: of the curve.

    >>> Poly(power=2.0)(5, 10)
    0.25
    """

    power: PositiveFloat = 0.9

    def __call__(self, step: float, steps: int) -> float:
        """Return the factor at ``step``."""
        return (1 - step / steps) ** self.power


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to ``floor`` (Loshchilov and Hutter, SGDR, 2017).

    Args:
        floor: factor at the end.
    """

    floor: UnitInterval = 0.0

    def __call__(self, step: float, steps: int) -> float:
        """Return the factor at ``step``."""
        return _between(1.0, self.floor, step / steps)


@dataclass(frozen=True)
class OneCycle:
    """Half a cosine up over the first ``rise`` of the steps, and one down to near zero (Smith and Topin, 2018).

    The values equal `torch.optim.lr_scheduler.OneCycleLR`; momentum is not cycled.

    Args:
        rise: fraction of the steps in which the rate rises.
        first_divisor: the first rate is the learning rate divided by this.
        last_divisor: the last rate is the first one divided by this.
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
    """Multiply by ``factor`` at each of the fractions ``at`` of the steps.

    Args:
        at: fractions of the training.
        factor: on the learning rate, each time.
    """

    at: Sequence[UnitInterval] = (0.67, 0.89)
    factor: UnitInterval = 0.1

    def __call__(self, step: float, steps: int) -> float:
        """Return the factor at ``step``."""
        return self.factor ** sum(step >= fraction * steps for fraction in self.at)


def _between(a: float, b: float, fraction: float) -> float:
    """Half a cosine from ``a`` to ``b``."""
    return b + (a - b) * (1 + math.cos(math.pi * fraction)) / 2
