"""What may be wrong with a case: the kinds of findings, with their weights, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WEIGHTS: Mapping[str, float] = {
    "unreadable": 100,
    "patient in two splits": 60,
    "duplicate across splits": 50,
    "case twice": 50,
    "label and mask disagree": 40,
    "impossible values": 40,
    "constant image": 40,
    "inverted": 35,
    "duplicate": 30,
    "implausible values": 30,
    "spacing": 30,
    "empty": 25,
    "intensity": 20,
    "box": 20,
    "extent": 15,
    "class missing": 15,
    "touching": 15,
    "pieces": 12,
    "vanishes": 12,
    "class size": 10,
    "orientation": 4,
}
"""Kind of finding -> how much it speaks for a fault; cases are listed by the sum over the kinds of their findings."""


@dataclass(frozen=True)
class Finding:
    """A reason why a case is suspicious.

    Args:
        kind: a key of `WEIGHTS`.
        text: the reason in words.
        others: ids of the cases that it is about besides, such as the duplicates.
    """

    kind: str
    text: str
    others: tuple[str, ...] = ()

    @property
    def weight(self) -> float:
        """How much the finding speaks for a fault."""
        return WEIGHTS[self.kind]
