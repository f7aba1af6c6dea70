"""The rungs of the supervision ladder: how strong an annotation is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from cphloc.errors import InputError


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


def rung_fractions(annotated: Mapping[str, float], data: str) -> dict[Rung, float]:
    """Check fractions of cases by the name of a rung, and return them by rung, the weakest first.

    Args:
        annotated: rung -> fraction of the cases that have an annotation of at least this rung.
        data: name of the data set, for messages.

    Raises:
        InputError: there is no such rung, or fractions are outside 0..1 or increase with the rung.

    >>> rung_fractions({"mask": 0.1, "boxes": 0.5}, "busi")
    {<Rung.BOXES: 3>: 0.5, <Rung.MASK: 4>: 0.1}
    """
    names = dict(zip(RUNGS, Rung, strict=True))
    unknown = [name for name in annotated if name not in names]
    if unknown:
        msg = f"{data}: annotated accepts the rungs {', '.join(names)}, not '{unknown[0]}'"
        raise InputError(msg)
    rungs = dict(sorted((names[name], float(fraction)) for name, fraction in annotated.items()))
    fractions = list(rungs.values())
    if any(not 0 <= f <= 1 for f in fractions) or fractions != sorted(fractions, reverse=True):
        msg = f"{data}: annotated must be fractions in 0..1 that do not rise from label to mask, got {dict(annotated)}"
        raise InputError(msg)
    return rungs
