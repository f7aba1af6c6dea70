"""Which metrics to judge a model by, and why, after Metrics Reloaded.

Source: Maier-Hein et al. 2024, Metrics reloaded, Nature Methods 21, 195-212.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

NSD_TOLERANCE_MM = 1.0
"""Tolerance of the normalised surface Dice where none is stated."""

Kind = Literal["masks of one object", "masks of several objects", "boxes", "labels", "attention"]

RECOMMENDED: Mapping[Kind, Mapping[str, str]] = {
    "masks of one object": {
        "dice": "overlap; comparable between structures of like size, harsh for small ones",
        "nsd": "share of the boundary within what two experts differ by, here taken as {nsd_tolerance}",
        "hd95_mm": "how far the boundary is off at worst, which overlap does not show",
        "volume_error": "bias of the measured size, where that is what the model is used for",
    },
    "masks of several objects": {
        "lesion_pq": "panoptic quality: finding and outlining objects in one number, each object counts the same",
        "lesion_f1": "finding alone, whatever the outline",
        "lesion_sensitivity": "share found, beside the false positives per case that it costs",
        "lesion_false_positives": "what a reader has to reject per case",
        "dice": "overlap of all objects together; large ones hide small ones",
    },
    "boxes": {
        "froc": "sensitivity at the false positives per image that a reader accepts",
        "ap50": "precision at every sensitivity, independent of a threshold",
        "d_ece": "whether the score of a box is the share of such boxes that are right",
    },
    "labels": {
        "auc": "ranking of cases, independent of a threshold and of how many are positive",
        "brier": "ranking and calibration in one number",
        "ece": "whether stated probabilities match observed frequencies",
    },
    "attention": {
        "attention_mass": "share of the attention inside the region",
        "pointing": "whether the single strongest place is inside the region",
    },
}
"""Kind of the answer -> metric -> why it fits."""

NO_FROC_OF_MASKS = (
    "needs a score for each object, which masks do not have; they have one operating point, "
    "lesion_sensitivity at lesion_false_positives"
)
"""Why a model with masks and without boxes has no sensitivity at given false positives."""

_KINDS: Mapping[str, Kind] = {"ap50": "boxes", "auc": "labels", "attention_mass": "attention"}


def recommended(metrics: Collection[str], objects: float, tolerances_mm: Mapping[str, float]) -> dict[str, str]:
    """Return the metrics that fit a model's answers, with the reason.

    Args:
        metrics: names of what was measured.
        objects: mean number of annotated objects of a class, in cases that have any.
        tolerances_mm: tolerance of ``nsd`` by class name, where it is not `NSD_TOLERANCE_MM`.

    >>> list(recommended({"dice", "nsd", "lesion_pq"}, objects=4.2, tolerances_mm={}))
    ['lesion_pq', 'dice']
    """
    kinds: list[Kind] = [kind for name, kind in _KINDS.items() if name in metrics]
    if "dice" in metrics:
        kinds.insert(0, "masks of several objects" if objects > 1.5 else "masks of one object")
    return {name: why for kind in kinds for name, why in reasons(kind, tolerances_mm).items() if name in metrics}


def kinds_of(gives: Collection[str]) -> list[Kind]:
    """Return the kinds of answer of a model, of masks both: which fits depends on the number of objects.

    Args:
        gives: parts that its heads predict: ``mask``, ``boxes``, ``attention``, ``labels``.

    >>> kinds_of(["mask", "labels"])
    ['masks of one object', 'masks of several objects', 'labels']
    """
    return [kind for kind in RECOMMENDED if any(kind.startswith(part) for part in gives)]


def reasons(kind: Kind, tolerances_mm: Mapping[str, float]) -> dict[str, str]:
    """Return the metrics that fit a kind of answer, with the reason.

    Args:
        kind: key of `RECOMMENDED`.
        tolerances_mm: as for `recommended`.

    >>> reasons("masks of one object", {"liver": 3.0})["nsd"]
    'share of the boundary within what two experts differ by, here taken as 3 mm for liver, else 1 mm'
    """
    stated = ", ".join(f"{mm:g} mm for {name}" for name, mm in tolerances_mm.items())
    tolerance = f"{stated}, else {NSD_TOLERANCE_MM:g} mm" if stated else f"{NSD_TOLERANCE_MM:g} mm"
    return {name: why.format(nsd_tolerance=tolerance) for name, why in RECOMMENDED[kind].items()}
