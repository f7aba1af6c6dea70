"""Which metrics to judge a model by, and why, after Metrics Reloaded.

Source: Maier-Hein et al. 2024, Metrics reloaded, Nature Methods 21, 195-212.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

Kind = Literal["one object", "several objects", "boxes", "labels", "attention"]

RECOMMENDED: Mapping[Kind, Mapping[str, str]] = {
    "one object": {
        "dice": "overlap; comparable between structures of like size, harsh for small ones",
        "nsd": "share of the boundary within 1 mm, which is about the difference between two experts",
        "hd95_mm": "how far the boundary is off at worst, which overlap does not show",
        "volume_error": "bias of the measured size, where that is what the model is used for",
    },
    "several objects": {
        "lesion_pq": "panoptic quality: finding and outlining objects in one number, each object counts the same",
        "lesion_f1": "finding alone, whatever the outline",
        "lesion_sensitivity": "share found, beside the false positives per case that it costs",
        "lesion_false_positives": "what a reader has to reject per case",
        "dice": "overlap of all objects together; large ones hide small ones",
    },
    "boxes": {
        "froc": "sensitivity at the false positives per image that a reader accepts",
        "ap50": "precision at every sensitivity, independent of a threshold",
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

_KINDS: Mapping[str, Kind] = {"ap50": "boxes", "auc": "labels", "attention_mass": "attention"}


def recommended(metrics: Collection[str], objects: float) -> dict[str, str]:
    """Return the metrics that fit a model's answers, with the reason.

    Args:
        metrics: names of what was measured.
        objects: mean number of annotated objects of a class, in cases that have any.

    >>> list(recommended({"dice", "nsd", "lesion_pq"}, objects=4.2))
    ['lesion_pq', 'dice']
    """
    kinds: list[Kind] = [kind for name, kind in _KINDS.items() if name in metrics]
    if "dice" in metrics:
        kinds.insert(0, "several objects" if objects > 1.5 else "one object")
    return {name: why for kind in kinds for name, why in RECOMMENDED[kind].items() if name in metrics}
