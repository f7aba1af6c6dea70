"""Types for component signatures that say more than Python's own: ranges, and one number per axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Gt, Le

PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
UnitInterval = Annotated[float, Ge(0), Le(1)]
PerAxis = PositiveInt | Sequence[PositiveInt]
"""One number for every axis, or one per axis in array order."""
