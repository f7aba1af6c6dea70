"""The one table of kinds: what a recipe can name, how its cards are written, and what a class of each kind must do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cphloc.structures.rung import RUNGS

Words = tuple[str, ...]

LOSS_INPUTS: Words = ("mask", "scores", "boxes", "attention")
"""What losses compare with their targets: class scores per voxel, class scores per box, boxes, attention maps."""

MODALITIES: Words = (
    *("any", "microscopy", "CT", "MR", "PT", "NM", "US", "MG", "CR", "DX", "RF", "XA", "OPT", "OP", "ES", "XC"),
    *("SM", "GM"),
)
"""Modalities of data sets: the defined terms of DICOM (0008,0060), microscopy of any sort, or any modality."""


@dataclass(frozen=True)
class Kind:
    """A kind of thing that a recipe can name.

    Args:
        name: in the singular, as it stands on cards and in messages.
        summary: what a member of it does, one line.
        table: whether all cards of a folder stand in one file, ``<folder>/<name>.yaml``; else each has its own file,
            ``<folder>/<name>/<member>.yaml``.
        needs: keys that every card of it must have.
        words: for card keys with a closed vocabulary, the words that may stand there; no other card may have them.
    """

    name: str
    summary: str
    table: bool = False
    needs: Words = ()
    words: Mapping[str, Words] = field(default_factory=dict)


_PYRAMID: Words = ("pyramid",)

ALL: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "backbone",
            "turns an image into a pyramid of feature maps",
            needs=("import_",),
            words={"takes": ("image",), "gives": _PYRAMID},
        ),
        Kind(
            "neck",
            "turns a pyramid into a pyramid, mixing its levels",
            needs=("import_",),
            words={"takes": _PYRAMID, "gives": _PYRAMID},
        ),
        Kind(
            "head",
            "turns a pyramid into predictions, and knows its loss",
            needs=("import_", "rung"),
            words={
                "takes": _PYRAMID,
                "gives": ("mask", "boxes", "attention", "labels"),
                "rung": RUNGS,
                "loss": LOSS_INPUTS,
            },
        ),
        Kind(
            "loss",
            "measures how far outputs are from targets",
            needs=("import_", "takes"),
            words={
                "takes": LOSS_INPUTS,
                "gives": ("scalar", "one loss per case", "one loss per element", "one loss per box"),
            },
        ),
        Kind(
            "dataset",
            "lists cases with images and annotations, in fixed splits",
            needs=("import_", "licence", "citation", "url", "modality"),
            words={"gives": RUNGS, "modality": MODALITIES},
        ),
        Kind("optimizer", "changes the weights after every step", table=True),
        Kind("schedule", "changes the learning rate over the training", table=True),
        Kind("intensity", "scales voxel values before a model sees them", table=True),
        Kind("transform", "changes a training patch at random", table=True),
        Kind("measure", "says what a study measures", table=True),
    )
}
"""Every kind by name, in the order in which lists show them."""

KINDS = tuple(kind.name for kind in ALL.values() if not kind.table)
"""Kinds whose cards have a file each."""

TABLES = tuple(kind.name for kind in ALL.values() if kind.table)
"""Kinds whose cards share one file."""

CLOSED_KEYS = frozenset(key for kind in ALL.values() for key in kind.words)
"""Card keys that only some kinds have, each with a closed vocabulary."""


def plural(kind: str) -> str:
    """Several of a kind.

    >>> plural("loss"), plural("intensity")
    ('losses', 'intensities')
    """
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}es" if kind.endswith("s") else f"{kind}s"


def some(names: Iterable[str], most: int = 12) -> str:
    """The first names, separated by commas."""
    names = list(names)
    shown = ", ".join(names[:most])
    return f"{shown}, ..." if len(names) > most else shown or "none"


def article(word: str) -> str:
    """``a`` or ``an``."""
    return "an" if word[0] in "aeiou" else "a"
