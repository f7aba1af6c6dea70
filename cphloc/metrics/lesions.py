"""Lesion-wise scores of masks: how many lesions were detected, and how well they overlap.

A lesion is a connected component of the class; voxels that touch by a face, edge or corner belong together
(26-connected in 3-D, 8-connected in 2-D).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from cphloc.metrics.segmentation import EmptyPolicy, bounding_box, connected_components, foreground, when_both_empty


@dataclass(frozen=True)
class LesionMatch:
    """Result of `match_lesions` for one case.

    Args:
        true_positive: number of reference lesions that were detected.
        false_positive: number of predicted lesions that match no reference lesion.
        false_negative: number of reference lesions that were missed.
        ious: IoU of each matched pair.
        empty_policy: score of a case without any lesion, as in `cphloc.metrics.segmentation`.
    """

    true_positive: int
    false_positive: int
    false_negative: int
    ious: tuple[float, ...]
    empty_policy: EmptyPolicy = "nan"

    @property
    def sensitivity(self) -> float:
        """Fraction of the reference lesions that were detected; NaN if there are none."""
        lesions = self.true_positive + self.false_negative
        return self.true_positive / lesions if lesions else float("nan")

    @property
    def f1(self) -> float:
        """Lesion-wise F1, also called recognition quality: 2 TP / (2 TP + FP + FN)."""
        lesions = 2 * self.true_positive + self.false_positive + self.false_negative
        return 2 * self.true_positive / lesions if lesions else when_both_empty(self.empty_policy, 1.0, 0.0)

    @property
    def segmentation_quality(self) -> float:
        """Mean IoU of the matched pairs; NaN if there are none."""
        return float(np.mean(self.ious)) if self.ious else float("nan")

    @property
    def panoptic_quality(self) -> float:
        """Segmentation quality times recognition quality (Kirillov et al., 2019); without matched pairs, as `f1`."""
        return self.segmentation_quality * self.f1 if self.ious else self.f1


def match_lesions(
    prediction: np.ndarray,
    reference: np.ndarray,
    label: int = 1,
    iou_above: float | None = None,
    empty_policy: EmptyPolicy = "nan",
) -> LesionMatch:
    """Match the lesions of class ``label`` in two masks ``(*S)``.

    Args:
        prediction: predicted class mask or bool mask.
        reference: reference class mask or bool mask; its voxels of value 255 (not annotated) are background in both.
        label: value of the class in the masks.
        iou_above: match lesions one to one, among pairs with a greater IoU than this (0.5 for panoptic quality), such
            that the number of pairs and then the sum of their IoU are largest. With ``None``, a reference lesion is
            detected if any predicted lesion overlaps it; one predicted lesion may detect several, and ``ious`` are
            those of the best prediction for each detected lesion.
        empty_policy: score of a case without any lesion.

    >>> reference = np.array([[1, 1, 0, 0, 1, 0, 0, 1]])
    >>> prediction = np.array([[1, 1, 0, 0, 1, 0, 0, 0]])
    >>> match_lesions(prediction, reference).f1
    0.8
    """
    masks = foreground(prediction, reference, label)
    window = bounding_box(masks[0] | masks[1])
    overlap = _iou_of_lesions(masks[0][window], masks[1][window])
    predicted_count, reference_count = overlap.shape
    if iou_above is None:
        best = overlap.max(axis=0, initial=0.0)
        false_positive = predicted_count - np.count_nonzero(overlap.any(axis=1))
        ious = best[best > 0]
    else:
        allowed = overlap > iou_above
        pairs = linear_sum_assignment(np.where(allowed, 1 + overlap / (1 + min(overlap.shape)), 0.0), maximize=True)
        ious = overlap[pairs][allowed[pairs]]
        false_positive = predicted_count - len(ious)
    false_negative = reference_count - len(ious)
    return LesionMatch(len(ious), int(false_positive), false_negative, tuple(map(float, ious)), empty_policy)


def _iou_of_lesions(predicted: np.ndarray, annotated: np.ndarray) -> np.ndarray:
    """IoU ``(predicted lesions, reference lesions)`` of all connected components."""
    (first, rows), (second, columns) = connected_components(predicted), connected_components(annotated)
    both = predicted & annotated
    pairs = first[both] * (columns + 1) + second[both]
    shared = np.bincount(pairs, minlength=(rows + 1) * (columns + 1)).reshape(rows + 1, columns + 1)[1:, 1:]
    predicted_size = np.bincount(first[predicted], minlength=rows + 1)[1:, None]
    annotated_size = np.bincount(second[annotated], minlength=columns + 1)[1:]
    return shared / (predicted_size + annotated_size - shared)
