"""Base class of the parts of a recipe: unknown keys and values of another type are errors."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A part of a recipe, in which unknown keys, converted types, and infinite numbers are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True, allow_inf_nan=False, defer_build=True)
