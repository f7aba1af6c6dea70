"""The table of kinds of components: the keys of their cards, and the contract that their classes must fulfil."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from cphloc.structures.rung import RUNGS

Words = tuple[str, ...]

Task = Literal["segmentation", "detection", "attention", "classification", "localization"]
"""Tasks of models."""

LOSS_INPUTS: Words = ("mask", "scores", "boxes", "attention")
"""Inputs of losses: class scores per voxel, class scores per box, boxes, attention maps."""

MODALITIES: Words = (
    *("any", "microscopy", "CT", "MR", "PT", "NM", "US", "MG", "CR", "DX", "RF", "XA", "OPT", "OP", "ES", "XC"),
    *("SM", "GM"),
)
"""Modalities of data sets: the defined terms of DICOM (0008,0060), microscopy of any sort, or any modality."""

_MODULE = "torch.nn:Module"
_PYRAMID: Words = ("pyramid",)


@dataclass(frozen=True)
class Kind:
    """A kind of component, and the contract that its classes must fulfil.

    Args:
        name: in the singular, as on cards and in messages.
        summary: what a component of this kind does, one line.
        contract: what the constructor receives and what the object must offer, for ``cphloc show KIND``.
        base: the class that it must inherit from, as ``module:Class``; empty where any class will do.
        wired: arguments that the constructor must take, which cphloc passes and no recipe states.
        arguments: further arguments that the constructor must take.
        common: signature of arguments that every block of the kind has and cphloc handles, not the class.
        members: attributes and methods that every class or object of the kind must have.
        table: whether all cards of a folder are in one file, ``<folder>/<kind>.yaml``; else each has its own file,
            ``<folder>/<kind>/<name>.yaml``.
        block: whether recipes hold blocks of this kind.
        needs: keys that every card of it must have.
        words: for card keys with a closed vocabulary, the allowed words; cards of other kinds may not have these keys.
    """

    name: str
    summary: str
    contract: str
    base: str = ""
    wired: Words = ()
    arguments: Words = ()
    common: str = ""
    members: Words = ()
    table: bool = False
    block: bool = True
    needs: Words = ()
    words: Mapping[str, Words] = field(default_factory=dict)


ALL: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "backbone",
            "turns an image into a pyramid of feature maps",
            """
            __init__(in_channels: int, dims: int, ...): channels of the image, and 2 or 3 axes.
            levels: tuple of cphloc.structures.levels.Level(channels, stride), one a feature map, fine to coarse.
            forward(image (N, C, *S)) -> tuple of feature maps (N, channels, *S / stride), one a level.""",
            base=_MODULE,
            wired=("in_channels", "dims"),
            members=("levels", "forward"),
            needs=("import_",),
            words={"takes": ("image",), "gives": _PYRAMID},
        ),
        Kind(
            "neck",
            "turns a pyramid into a pyramid, mixing its levels",
            """
            __init__(levels, ...): the levels of the backbone, Level(channels, stride), fine to coarse.
            levels: those of its outputs, in the same form; they are passed to the heads.
            forward(pyramid: tuple of feature maps) -> tuple of feature maps, one a level.""",
            base=_MODULE,
            wired=("levels",),
            members=("levels", "forward"),
            needs=("import_",),
            words={"takes": _PYRAMID, "gives": _PYRAMID},
        ),
        Kind(
            "head",
            "turns a pyramid into predictions, and computes the training loss",
            """
            __init__(levels, ...): the levels of the neck, or of the backbone where there is no neck. An argument whose
                name ends in 'loss' and whose type is nn.Module receives the loss that the recipe names; 'suppression'
                of type cphloc.ops.detections.Suppression, the suppression.
            classes: mapping of class number, from 1, to name.
            forward(pyramid) -> outputs: tensors, or a dataclass or dict of tensors.
            loss(outputs, targets) -> {name: scalar tensor}; targets are cphloc.ops.targets.Targets. A case that lacks
                the head's rung adds exactly zero.
            decode(outputs) -> predictions, as cphloc.ops.targets describes them.""",
            base=_MODULE,
            wired=("levels",),
            members=("forward", "loss", "decode"),
            needs=("import_", "rung"),
            words={
                "takes": _PYRAMID,
                "gives": ("mask", "boxes", "objects", "attention", "labels"),
                "rung": RUNGS,
                "loss": LOSS_INPUTS,
            },
        ),
        Kind(
            "loss",
            "measures the difference between outputs and targets",
            """
            __init__(...): the recipe's arguments alone.
            forward(outputs, target, ...) -> tensor; the card's 'takes' says what it compares (mask, scores, boxes or
                attention), and 'gives' whether it returns a scalar or one loss per case, element or box.""",
            base=_MODULE,
            members=("forward",),
            needs=("import_", "takes"),
            words={
                "takes": LOSS_INPUTS,
                "rung": RUNGS,
                "gives": ("scalar", "one loss per case", "one loss per element", "one loss per box"),
            },
        ),
        Kind(
            "suppression",
            "merges or drops overlapping boxes of one object",
            """
            __init__(iou, score, pre_nms_topk, limit, ...): by these names, so that every head's defaults apply.
            score, pre_nms_topk, limit: as given; the head drops candidates by score, and keeps the best of each level.
            __call__(boxes (n, 2 D), scores (n,), classes (n,)) -> cphloc.ops.targets.Detections, by falling score.""",
            members=("__call__", "score"),
            needs=("import_",),
        ),
        Kind(
            "dataset",
            "lists cases with images and annotations, in fixed splits",
            """
            __init__(root: str | None, ...): the folder that the recipe or CPHLOC_DATA names; 'dims' where it asks.
            classes: mapping of class number, from 1, to name; channels: names of the image channels; dims: 2 or 3.
            cases(split) -> list of cphloc.data.case.Case for train, val and test, always in the same order.
            A subclass of cphloc.data.dataset.Dataset writes _cases(split) instead.""",
            members=("classes", "channels", "dims", "cases"),
            needs=("import_", "licence", "citation", "url", "modality"),
            words={"gives": RUNGS, "modality": MODALITIES},
        ),
        Kind(
            "optimizer",
            "changes the weights after every step",
            """
            __init__(params, lr, ...): groups of parameters with a weight_decay each, then what the recipe states.
            Otherwise as torch.optim.Optimizer. The recipe's lr_scale, pattern of parameter names -> factor on lr, is
            applied to the groups by cphloc.""",
            base="torch.optim:Optimizer",
            wired=("params",),
            arguments=("lr",),
            common="lr_scale: Mapping[str, PositiveFloat] = {}",
            table=True,
        ),
        Kind(
            "schedule",
            "changes the learning rate over the training",
            """
            __init__(...): the recipe's arguments alone.
            __call__(step: float, steps: int) -> factor on the learning rate at a step in [0, steps), after
                the warm-up.""",
            members=("__call__",),
            table=True,
        ),
        Kind(
            "intensity",
            "scales voxel values before a model sees them",
            """
            __init__(...): the recipe's arguments alone, numbers or lists of numbers. A frozen dataclass that inherits
                from cphloc.data.pipeline.intensity.Intensity, with 'type' as its class variable.
            __call__(values (*S), window) -> float32 array (*S).
            local: False where a voxel's result depends on the rest of its image.""",
            members=("__call__", "local", "to_dict"),
            table=True,
        ),
        Kind(
            "transform",
            "changes a training patch at random",
            """
            __init__(..., p: probability): the recipe's arguments; p stays as an attribute. One of these methods:
            draw(rng, size, spacing_mm) -> Draw, where it moves voxels: image and annotations follow;
            with_annotation(image (C, *S), annotation, rng) -> both, where it changes both on the same grid;
            __call__(image (C, *S), rng) -> image of the same shape, where it changes intensities alone.
            See the protocols in cphloc.data.augment.transform.""",
            members=("p", "draw or with_annotation or __call__"),
            table=True,
        ),
        Kind(
            "metric",
            "scores predictions against annotations",
            """
            __init__(): without arguments.
            __call__(prediction, truth, geometry, classes) -> float, NaN where it is undefined, for one image:
                cphloc.evaluation.scores.CasePrediction, cphloc.structures.annotation.Annotation completed down the
                ladder, cphloc.structures.geometry.Geometry, and {class number: name}.
            Every evaluation and validation computes it; a recipe may choose weights by it, train.best: NAME.""",
            members=("__call__",),
            table=True,
            block=False,
            needs=("direction",),
            words={"direction": ("higher", "lower", "zero", "none"), "headline": get_args(Task)},
        ),
        Kind(
            "measure",
            "computes the numbers that a study compares",
            """
            __init__(...): the study's arguments alone.
            __call__(trained: cphloc.studies.measured.Trained) -> {variant: {metric: value}}.""",
            members=("__call__",),
            table=True,
            block=False,
        ),
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
    """Return the plural of a kind.

    >>> plural("loss"), plural("intensity")
    ('losses', 'intensities')
    """
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}es" if kind.endswith("s") else f"{kind}s"


def singular(word: str) -> str:
    """Return the kind that a word names in the singular or plural; the word itself where it names none.

    >>> singular("losses"), singular("neck"), singular("zoo")
    ('loss', 'neck', 'zoo')
    """
    return next((kind for kind in ALL if word in (kind, plural(kind))), word)


def some(names: Iterable[str], most: int = 12) -> str:
    """Join the first ``most`` names by commas, with ``...`` where there are more."""
    names = list(names)
    shown = ", ".join(names[:most])
    return f"{shown}, ..." if len(names) > most else shown or "none"


def article(word: str) -> str:
    """Return the indefinite article of a word, ``a`` or ``an``."""
    return "an" if word[0] in "aeiou" else "a"
