"""Metrics of objects that are outlined one by one: mask AP and panoptic quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cphloc.metrics import detection
from cphloc.metrics.matching import InstanceCase
from cphloc.structures.instances import ObjectMask, painted

LEAST_SCORE = 0.3
"""Least score of the objects that count in panoptic quality, which has no ranking by score."""

Statistic = Callable[[np.ndarray], float]


def instance_statistics(cases: Sequence[InstanceCase], classes: Mapping[int, str]) -> dict[str, Statistic]:
    """Prepare the pooled metrics of outlined objects of a data set.

    - ``mask_map``: COCO's mask AP, over the IoU of masks from 0.50 to 0.95.
    - ``mask_ap50``: average precision where the masks have an IoU of at least 0.5.
    - ``pq``: panoptic quality, mean over the classes; see `panoptic_parts`.

    With several classes also of each, ``pq/<class>``.

    Args:
        cases: outlined and annotated objects of each image.
        classes: class names by class number.

    Returns:
        functions of the weights of ``cases``, by name.

    >>> square = np.ones((1, 4, 4), bool)
    >>> case = InstanceCase(square, np.array([0.9]), np.array([1]), square, np.array([1]))
    >>> {name: value(np.ones(1)) for name, value in instance_statistics([case], {1: "cell"}).items()}
    {'mask_map': 1.0, 'mask_ap50': 1.0, 'pq': 1.0}
    """
    matched = {
        "mask_map": [detection.match(cases, label, detection.COCO_IOU_THRESHOLDS) for label in classes],
        "mask_ap50": [detection.match(cases, label, [0.5]) for label in classes],
    }
    flat = [without_overlap(case) for case in cases]
    parts = [np.array([panoptic_parts(case, label) for case in flat]).reshape(-1, 4) for label in classes]

    def _mean_ap(matches: list) -> Statistic:
        return lambda weights: detection.mean_average_precision(matches, weights)

    def _pq(of_classes: list[np.ndarray]) -> Statistic:
        return lambda weights: _mean([panoptic_quality(weights @ part) for part in of_classes])

    statistics: dict[str, Statistic] = {name: _mean_ap(matches) for name, matches in matched.items()}
    statistics["pq"] = _pq(parts)
    for k, name in enumerate(classes.values() if len(classes) > 1 else ()):
        statistics |= {f"{metric}/{name}": _mean_ap([matches[k]]) for metric, matches in matched.items()}
        statistics[f"pq/{name}"] = _pq([parts[k]])
    return statistics


def panoptic_quality(parts: np.ndarray) -> float:
    """Return sum of IoU / (TP + FP / 2 + FN / 2), from the result of `panoptic_parts`; NaN without any object.

    >>> panoptic_quality(np.array([1.6, 2, 1, 1]))  # two pairs of IoU 0.8, one detection too many, one object missed
    0.5333333333333333
    """
    iou, hits, extra, missed = parts
    objects = hits + extra / 2 + missed / 2
    return float(iou / objects) if objects else float("nan")


def panoptic_parts(case: InstanceCase, label: int) -> tuple[float, int, int, int]:
    """Match the objects of a class in one image whose masks have an IoU above 0.5, at which a match is unique.

    What is in a region to ignore counts neither as an object nor in the IoU (Kirillov et al. 2019, arXiv:1801.00868).

    Args:
        case: objects that do not overlap, see `without_overlap`.
        label: class of the objects.

    Returns:
        sum of the IoU of the pairs, their number, and the numbers of unmatched detections and references.

    >>> masks = np.eye(4, dtype=bool).reshape(4, 2, 2)  # four objects of one pixel
    >>> found, true = masks[:3], masks[1:]
    >>> panoptic_parts(InstanceCase(found, np.ones(3), np.ones(3, int), true, np.ones(3, int)), label=1)
    (2.0, 2, 1, 1)
    """
    found = np.flatnonzero(np.asarray(case.classes) == label)
    true = np.flatnonzero((case.reference_classes == label) & ~case.crowd)
    crowd = np.flatnonzero((case.reference_classes == label) & case.crowd)
    sizes = np.array([case.detected[int(k)].size for k in found], float)
    void = case.common(found, crowd).sum(axis=1)
    common = case.common(found, true)
    union = (sizes - void)[:, None] + np.array([case.reference[int(k)].size for k in true], float) - common
    iou = common / np.maximum(union, 1)
    hits = iou > 0.5
    extra = ~hits.any(axis=1) & (void <= 0.5 * sizes)
    return float(iou[hits].sum()), int(hits.sum()), int(extra.sum()), int((~hits.any(axis=0)).sum())


def without_overlap(case: InstanceCase, least_score: float = LEAST_SCORE) -> InstanceCase:
    """Leave out detections of low score, and give each voxel to the detection of highest score there.

    >>> wide, narrow = np.ones((2, 2), bool), np.array([[True, False], [False, False]])
    >>> found, true = np.stack([wide, narrow]), wide[None]
    >>> case = InstanceCase(found, np.array([0.5, 0.9]), np.ones(2, int), true, np.ones(1, int))
    >>> [each.size for each in without_overlap(case).detected]
    [1, 3]
    """
    order = np.argsort(-np.asarray(case.scores), kind="stable")
    order = order[np.asarray(case.scores)[order] >= least_score]
    objects = [case.detected[k] for k in order]
    ends = [tuple(part.stop for part in each.where) for each in objects]
    drawn = painted(objects, tuple(map(max, zip(*ends, strict=True)))) if objects else np.zeros(0)
    own = [ObjectMask(each.first, drawn[each.where] == k) for k, each in enumerate(objects, start=1)]
    numbers = np.where(case.crowd, -case.reference_classes, case.reference_classes)
    detected = {"boxes": own, "scores": np.asarray(case.scores)[order], "classes": np.asarray(case.classes)[order]}
    return replace(case, reference_classes=numbers, **detected)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
