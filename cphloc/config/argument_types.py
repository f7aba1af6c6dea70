"""Types for component signatures that say more than Python's own: ranges, and one number per axis.

A component annotates its constructor with these types. The checks of recipes, ``cphloc show`` and the completion in
editors are derived from the signature. At run time the values are ordinary numbers and lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

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

OpenUnitInterval = Annotated[float, Gt(0), Lt(1)]
"""Strictly between 0 and 1: a probability whose log-odds are finite."""

FractionBelowOne = Annotated[float, Ge(0), Lt(1)]
"""From 0 to below 1: a fraction of which something must remain, such as the overlap of windows."""

Weight = Annotated[float, Ge(0), Le(1e4)]
"""From 0 to 10,000: the weight of a part of a loss or of a class. Larger ones could overflow."""

PositiveWeight = Annotated[float, Gt(0), Le(1e4)]
"""A `Weight` above 0."""

ClassWeighting = Mapping[str, Weight] | Sequence[Weight] | Literal["balanced"] | None
"""Weights by class name, a list with the background first, ``balanced`` by the training data, or none."""

Exponent = Annotated[float, Ge(0), Le(10)]
"""From 0 to 10: the focusing exponent of a loss."""

PerAxis = PositiveInt | Sequence[PositiveInt]
"""One number for every axis, or one per axis in array order."""

Widths = Annotated[Sequence[PositiveInt], MinLen(1)]
"""Channels of each of one or more stages."""

Plain = bool | int | float | str | Sequence[int | float | str] | Mapping[str, str]
"""A plain value that is passed on to another component, which checks it."""
