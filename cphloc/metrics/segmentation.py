"""Overlap and volume of segmentation masks.

Every function compares one class of two masks ``(*S)``, in 2-D or 3-D: the voxels of value ``label``, which is 1 for
bool masks. Voxels where the reference is `cphloc.structures.annotation.IGNORE` (255, not annotated) are left out. The
Dice of a data set is the mean over its cases, not the Dice of their pooled voxels.

**Empty masks.** If only one of the two masks is empty, the score is the worst possible: 0 for overlap, the diagonal of
the image for distances. If both are empty, the score depends on ``empty_policy``: NaN for ``nan`` (default), which
leaves the case out of the mean; the perfect score for ``one``, as in MetricsReloaded; the worst score for ``worst``.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, cast

import numpy as np
from scipy import ndimage

from cphloc.errors import InputError
from cphloc.structures.annotation import IGNORE

EmptyPolicy = Literal["nan", "one", "worst"]
"""Score of a case in which neither prediction nor reference contains the class."""


def connected_components(mask: np.ndarray, diagonal: bool = True) -> tuple[np.ndarray, int]:
    """Label the connected components of a mask.

    Args:
        mask: ``(*S)``, foreground where not 0.
        diagonal: whether voxels that touch only by an edge or corner are connected.

    Returns:
        ``(*S)`` int array with the number 1..n of the component of each voxel, 0 for background; and n.

    >>> connected_components(np.array([[1, 0], [0, 1]]))[1], connected_components(np.eye(2), diagonal=False)[1]
    (1, 2)
    """
    structure = np.ones((3,) * np.ndim(mask), int) if diagonal else None
    return cast("tuple[np.ndarray, int]", ndimage.label(mask, structure=structure))


class Confusion(NamedTuple):
    """Numbers of annotated voxels by predicted and reference class, for one class against the rest."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int


def confusion(prediction: np.ndarray, reference: np.ndarray, label: int = 1) -> Confusion:
    """Count the true and false positives and negatives of one class among the annotated voxels.

    Args:
        prediction: ``(*S)`` predicted class mask or bool mask.
        reference: ``(*S)`` reference class mask or bool mask; 255 is not annotated.
        label: value of the class in the masks.

    Raises:
        InputError: the masks have different shapes.

    >>> confusion(np.array([[1, 1, 0, 1]]), np.array([[1, 0, 0, 255]]))
    Confusion(true_positive=1, false_positive=1, false_negative=0, true_negative=1)
    """
    predicted, annotated = foreground(prediction, reference, label)
    true_positive = _count(predicted & annotated)
    false_positive = _count(predicted) - true_positive
    false_negative = _count(annotated) - true_positive
    voxels = predicted.size - _count(np.asarray(reference) == IGNORE)
    true_negative = voxels - true_positive - false_positive - false_negative
    return Confusion(true_positive, false_positive, false_negative, true_negative)


def dice(prediction: np.ndarray, reference: np.ndarray, label: int = 1, empty_policy: EmptyPolicy = "nan") -> float:
    """Compute the Dice coefficient 2 TP / (2 TP + FP + FN), in [0, 1].

    Args:
        prediction: ``(*S)`` predicted class mask or bool mask.
        reference: ``(*S)`` reference class mask or bool mask; 255 is not annotated.
        label: value of the class in the masks.
        empty_policy: score if neither mask contains the class.

    >>> dice(np.array([[1, 1, 0]]), np.array([[1, 0, 0]]))
    0.6666666666666666
    """
    tp, fp, fn, _ = confusion(prediction, reference, label)
    if tp + fp + fn == 0:
        return when_both_empty(empty_policy, best=1.0, worst=0.0)
    return 2 * tp / (2 * tp + fp + fn)


def iou(prediction: np.ndarray, reference: np.ndarray, label: int = 1, empty_policy: EmptyPolicy = "nan") -> float:
    """Compute the intersection over union TP / (TP + FP + FN), in [0, 1]; it equals Dice / (2 - Dice).

    Args:
        prediction: ``(*S)`` predicted class mask or bool mask.
        reference: ``(*S)`` reference class mask or bool mask; 255 is not annotated.
        label: value of the class in the masks.
        empty_policy: score if neither mask contains the class.

    >>> iou(np.array([[1, 1, 0]]), np.array([[1, 0, 0]]))
    0.5
    """
    tp, fp, fn, _ = confusion(prediction, reference, label)
    if tp + fp + fn == 0:
        return when_both_empty(empty_policy, best=1.0, worst=0.0)
    return tp / (tp + fp + fn)


def volume_ml(mask: np.ndarray, spacing_mm: tuple[float, ...], label: int = 1) -> float:
    """Compute the volume of a class in millilitres: number of voxels times volume of a voxel.

    Args:
        mask: ``(D, H, W)`` class mask or bool mask.
        spacing_mm: voxel size per axis, array order.
        label: value of the class in the mask.

    Raises:
        InputError: the mask or the spacing is not 3-D.

    >>> volume_ml(np.ones((10, 10, 10), bool), (5.0, 1.0, 1.0))
    5.0
    """
    if mask.ndim != 3 or len(spacing_mm) != 3:
        msg = f"a volume needs a 3-D mask and three spacings, got shape {mask.shape} and spacing {tuple(spacing_mm)}"
        raise InputError(msg)
    return _count(mask == label) * math.prod(spacing_mm) / 1000


def volume_error_ml(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...], label: int = 1
) -> float:
    """Compute the predicted minus the reference volume in millilitres, over annotated voxels.

    >>> volume_error_ml(np.ones((10, 10, 10), bool), np.zeros((10, 10, 10), bool), (1.0, 1.0, 1.0))
    1.0
    """
    predicted, annotated = foreground(prediction, reference, label)
    return volume_ml(predicted, spacing_mm) - volume_ml(annotated, spacing_mm)


def volume_error(prediction: np.ndarray, reference: np.ndarray, label: int = 1) -> float:
    """Compute the relative volume error (V_prediction - V_reference) / V_reference; of areas in 2-D.

    NaN if the reference is empty.

    >>> volume_error(np.array([[1, 1, 1]]), np.array([[1, 1, 0]]))
    0.5
    """
    predicted, annotated = foreground(prediction, reference, label)
    reference_volume = _count(annotated)
    return (_count(predicted) - reference_volume) / reference_volume if reference_volume else float("nan")


def foreground(prediction: np.ndarray, reference: np.ndarray, label: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Convert two masks ``(*S)`` to bool masks of the class ``label``, both False on voxels that are not annotated.

    Raises:
        InputError: the masks have different shapes.

    >>> [m.tolist() for m in foreground(np.array([2, 2, 0]), np.array([2, 255, 1]), label=2)]
    [[True, False, False], [True, False, False]]
    """
    prediction, reference = np.asarray(prediction), np.asarray(reference)
    if prediction.shape != reference.shape:
        msg = (
            f"prediction {prediction.shape} and reference {reference.shape} differ in shape; resample one to the grid "
            "of the other"
        )
        raise InputError(msg)
    predicted, annotated = prediction == label, reference == label
    if reference.dtype != bool:
        predicted &= reference != IGNORE
    return predicted, annotated


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Find the smallest window around all True voxels of a bool mask ``(*S)``; empty slices if there are none.

    >>> bounding_box(np.array([[False, False, False], [False, True, True]]))
    (slice(1, 2, None), slice(1, 3, None))
    """
    box = []
    for axis in range(mask.ndim):
        positions = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(positions[0]), int(positions[-1]) + 1) if len(positions) else slice(0, 0))
    return tuple(box)


def when_both_empty(empty_policy: EmptyPolicy, best: float, worst: float) -> float:
    """Choose the score of a case in which neither mask contains the class.

    Args:
        empty_policy: ``nan``, ``one`` or ``worst``.
        best: perfect score of the metric, returned for ``one``.
        worst: worst score of the metric, returned for ``worst``.

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
