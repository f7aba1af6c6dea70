"""Overlap and volume of masks.

Every function compares one class: ``label`` of a class mask ``(*S)``, in 2-D or 3-D; a bool mask is its class 1.
Voxels where the reference is `cphloc.structures.annotation.IGNORE` count nowhere. A data set's Dice is the mean over
cases, not the Dice of pooled voxels.

**Empty masks.** Where only one of the two masks is empty the score is the worst there is: overlap 0, distance the
image's diagonal. Where both are empty, ``empty_policy`` decides: ``nan`` (default) leaves the case out of the mean,
which then reports how many were left out; ``one`` gives the perfect score, as MetricsReloaded does; ``worst`` the
worst one.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, cast

import numpy as np
from scipy import ndimage

from cphloc.errors import InputError
from cphloc.structures.annotation import IGNORE

EmptyPolicy = Literal["nan", "one", "worst"]
"""What a case scores in which neither prediction nor reference holds the class."""


def connected_components(mask: np.ndarray, diagonal: bool = True) -> tuple[np.ndarray, int]:
    """Number the connected components of a mask.

    Args:
        mask: ``(*S)``, foreground where it is not 0.
        diagonal: whether voxels that touch by an edge or corner only are connected.

    Returns:
        ``(*S)`` int array of component numbers 1..n, 0 for background; and n.

    >>> connected_components(np.array([[1, 0], [0, 1]]))[1], connected_components(np.eye(2), diagonal=False)[1]
    (1, 2)
    """
    structure = np.ones((3,) * np.ndim(mask), int) if diagonal else None
    return cast("tuple[np.ndarray, int]", ndimage.label(mask, structure=structure))


class Confusion(NamedTuple):
    """Voxel counts of one class."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int


def confusion(prediction: np.ndarray, reference: np.ndarray, label: int = 1) -> Confusion:
    """Count the annotated voxels of ``(*S)`` masks by agreement.

    Raises:
        InputError: the masks have different shapes.

    >>> confusion(np.array([[1, 1, 0, 1]]), np.array([[1, 0, 0, 255]]))
    Confusion(true_positive=1, false_positive=1, false_negative=0, true_negative=1)
    """
    predicted, present = foreground(prediction, reference, label)
    both = _count(predicted & present)
    false_positive = _count(predicted) - both
    false_negative = _count(present) - both
    annotated = predicted.size - _count(np.asarray(reference) == IGNORE)
    return Confusion(both, false_positive, false_negative, annotated - both - false_positive - false_negative)


def dice(prediction: np.ndarray, reference: np.ndarray, label: int = 1, empty_policy: EmptyPolicy = "nan") -> float:
    """Dice coefficient 2 TP / (2 TP + FP + FN) in [0, 1].

    >>> dice(np.array([[1, 1, 0]]), np.array([[1, 0, 0]]))
    0.6666666666666666
    """
    tp, fp, fn, _ = confusion(prediction, reference, label)
    if tp + fp + fn == 0:
        return when_both_empty(empty_policy, best=1.0, worst=0.0)
    return 2 * tp / (2 * tp + fp + fn)


def iou(prediction: np.ndarray, reference: np.ndarray, label: int = 1, empty_policy: EmptyPolicy = "nan") -> float:
    """Intersection over union TP / (TP + FP + FN) in [0, 1]; equals Dice / (2 - Dice).

    >>> iou(np.array([[1, 1, 0]]), np.array([[1, 0, 0]]))
    0.5
    """
    tp, fp, fn, _ = confusion(prediction, reference, label)
    if tp + fp + fn == 0:
        return when_both_empty(empty_policy, best=1.0, worst=0.0)
    return tp / (tp + fp + fn)


def volume_ml(mask: np.ndarray, spacing_mm: tuple[float, ...], label: int = 1) -> float:
    """Volume of a class in millilitres: voxels times voxel volume.

    Args:
        mask: ``(D, H, W)``.
        spacing_mm: voxel size per axis, array order.

    Raises:
        InputError: the mask is not 3-D; an area has no volume.

    >>> volume_ml(np.ones((10, 10, 10), bool), (5.0, 1.0, 1.0))
    5.0
    """
    if mask.ndim != 3 or len(spacing_mm) != 3:
        msg = f"a volume needs a 3-D mask and 3 spacings, got shape {mask.shape} and spacing {tuple(spacing_mm)}"
        raise InputError(msg)
    return _count(mask == label) * math.prod(spacing_mm) / 1000


def volume_error_ml(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...], label: int = 1
) -> float:
    """Predicted minus reference volume in millilitres, over annotated voxels.

    >>> volume_error_ml(np.ones((10, 10, 10), bool), np.zeros((10, 10, 10), bool), (1.0, 1.0, 1.0))
    1.0
    """
    predicted, present = foreground(prediction, reference, label)
    return volume_ml(predicted, spacing_mm) - volume_ml(present, spacing_mm)


def volume_error(prediction: np.ndarray, reference: np.ndarray, label: int = 1) -> float:
    """Relative volume error (V_p - V_g) / V_g, of areas in 2-D; NaN where the reference is empty.

    >>> volume_error(np.array([[1, 1, 1]]), np.array([[1, 1, 0]]))
    0.5
    """
    predicted, present = foreground(prediction, reference, label)
    there = _count(present)
    return (_count(predicted) - there) / there if there else float("nan")


def foreground(prediction: np.ndarray, reference: np.ndarray, label: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Where each mask ``(*S)`` holds ``label``, as two bool masks that are both false on ignored voxels.

    Raises:
        InputError: the masks have different shapes.

    >>> [m.tolist() for m in foreground(np.array([2, 2, 0]), np.array([2, 255, 1]), label=2)]
    [[True, False, False], [True, False, False]]
    """
    prediction, reference = np.asarray(prediction), np.asarray(reference)
    if prediction.shape != reference.shape:
        msg = f"prediction {prediction.shape} and reference {reference.shape} differ in shape; bring both to one grid"
        raise InputError(msg)
    predicted, present = prediction == label, reference == label
    if reference.dtype != bool:
        predicted &= reference != IGNORE
    return predicted, present


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest window that holds every true voxel of a bool mask ``(*S)``; empty where there is none.

    >>> bounding_box(np.array([[False, False, False], [False, True, True]]))
    (slice(1, 2, None), slice(1, 3, None))
    """
    box = []
    for axis in range(mask.ndim):
        held = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(held[0]), int(held[-1]) + 1) if len(held) else slice(0, 0))
    return tuple(box)


def when_both_empty(empty_policy: EmptyPolicy, best: float, worst: float) -> float:
    """Score of a case in which neither mask holds the class.

    Raises:
        InputError: an unknown policy.

    >>> when_both_empty("one", best=0.0, worst=300.0)
    0.0
    """
    scores = {"nan": float("nan"), "one": best, "worst": worst}
    if empty_policy not in scores:
        msg = f"empty_policy must be one of {', '.join(scores)}; got {empty_policy!r}"
        raise InputError(msg)
    return scores[empty_policy]


def _count(voxels: np.ndarray) -> int:
    return int(np.count_nonzero(voxels))
