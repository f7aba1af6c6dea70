"""The rungs of the supervision ladder: how strong an annotation is."""

from __future__ import annotations

from enum import IntEnum


class Rung(IntEnum):
    """Strength of an annotation; a higher rung contains every lower one.

    Cards and recipes write a rung in small letters; see `RUNGS`.
    """

    LABEL = 1
    REGION = 2
    BOXES = 3
    MASK = 4


RUNGS = tuple(rung.name.lower() for rung in Rung)
"""Names of the rungs as cards write them, weakest first."""
