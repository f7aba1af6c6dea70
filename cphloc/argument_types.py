"""Types for the arguments of components, with their ranges.

A component annotates its constructor with these, and that is all: reading the signature gives a recipe's checks, the
page of ``cphloc show`` and the completion of editors. At run time they are ordinary ``int``, ``float`` and ``list``.

>>> class Encoder:
...     def __init__(self, widths: Sequence[PositiveInt], dropout: UnitInterval = 0.0): ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

from annotated_types import Ge, Gt, Le

T = TypeVar("T")

PositiveInt = Annotated[int, Gt(0)]
"""1, 2, 3, ..."""

NonNegativeInt = Annotated[int, Ge(0)]
"""0, 1, 2, ..."""

PositiveFloat = Annotated[float, Gt(0)]
"""Greater than 0."""

NonNegativeFloat = Annotated[float, Ge(0)]
"""0 or greater."""

UnitInterval = Annotated[float, Ge(0), Le(1)]
"""From 0 to 1: a probability, a fraction, a weight."""

PerAxis = T | Sequence[T]
"""One value for all axes, or a list with one a axis in array order: ``PerAxis[PositiveInt]``."""
