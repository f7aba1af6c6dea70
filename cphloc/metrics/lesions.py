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
        """Share of the reference lesions that were found; NaN where there are none."""
        lesions = self.true_positive + self.false_negative
        return self.true_positive / lesions if lesions else float("nan")

    @property
    def f1(self) -> float:
        """Lesion-wise F1, also called recognition quality: 2 TP / (2 TP + FP + FN)."""
        all_of_them = 2 * self.true_positive + self.false_positive + self.false_negative
        return 2 * self.true_positive / all_of_them if all_of_them else when_both_empty(self.empty_policy, 1.0, 0.0)

    @property
    def segmentation_quality(self) -> float:
        """Mean IoU of the matched pairs; NaN without any."""
        return float(np.mean(self.ious)) if self.ious else float("nan")

    @property
    def panoptic_quality(self) -> float:
        """Segmentation quality times recognition quality (Kirillov et al., 2019); 0 where nothing was matched."""
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
        prediction: class mask or bool mask.
        reference: the same; voxels of value 255 count as empty in both.
        label: class to compare.
        iou_above: a number matches lesions one to one, those pairs whose IoU is greater (0.5 for panoptic quality),
            such that as many match as possible and then the sum of IoU is largest. ``None`` asks for any overlap: every
            reference lesion that is touched is found once, however many predictions share it, and a prediction that
            touches several finds them all; its ``ious`` are those of each found lesion's best prediction.
        empty_policy: score where neither holds a lesion.

    >>> reference = np.array([[1, 1, 0, 0, 1, 0, 0, 1]])
    >>> prediction = np.array([[1, 1, 0, 0, 1, 0, 0, 0]])
    >>> match_lesions(prediction, reference).f1
    0.8
    """
    masks = foreground(prediction, reference, label)
    window = bounding_box(masks[0] | masks[1])
    overlap = _iou_of_lesions(masks[0][window], masks[1][window])
    predicted, present = overlap.shape
    if iou_above is None:
        best = overlap.max(axis=0, initial=0.0)
        found = best > 0
        invented = predicted - np.count_nonzero(overlap.any(axis=1))
        ious = best[found]
    else:
        allowed = overlap > iou_above
        pairs = linear_sum_assignment(np.where(allowed, 1 + overlap / (1 + min(overlap.shape)), 0.0), maximize=True)
        ious = overlap[pairs][allowed[pairs]]
        invented = predicted - len(ious)
    return LesionMatch(len(ious), int(invented), present - len(ious), tuple(map(float, ious)), empty_policy)


def _iou_of_lesions(predicted: np.ndarray, present: np.ndarray) -> np.ndarray:
    """IoU ``(predicted lesions, reference lesions)`` of all connected components."""
    (first, rows), (second, columns) = connected_components(predicted), connected_components(present)
    both = predicted & present
    pairs = first[both] * (columns + 1) + second[both]
    shared = np.bincount(pairs, minlength=(rows + 1) * (columns + 1)).reshape(rows + 1, columns + 1)[1:, 1:]
    predicted_size = np.bincount(first[predicted], minlength=rows + 1)[1:, None]
    present_size = np.bincount(second[present], minlength=columns + 1)[1:]
    return shared / (predicted_size + present_size - shared)
