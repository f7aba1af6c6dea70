"""The metrics of each task under their canonical names, per case or pooled over a data set.

Per-case functions return ``{name: value}`` for one image; pooled ones return ``{name: statistic}``, each a function of
the weights of the cases, because AP, FROC and AUC rank the detections or scores of all cases together. Both go to
`cphloc.metrics.summary.summarize`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from cphloc.metrics import attention as attention_metrics
from cphloc.metrics import classification, detection
from cphloc.metrics.detection import DetectionCase
from cphloc.metrics.froc import froc_of_boxes
from cphloc.metrics.lesions import match_lesions
from cphloc.metrics.segmentation import EmptyPolicy, dice, iou, volume_error, volume_error_ml
from cphloc.metrics.surface import surface_distances

NEAR_MM, NEAR_PIXELS = 10.0, 15.0
"""Tolerance of ``pointing_near``; the pixels are those of Zhang et al. (2018)."""

Statistic = Callable[[np.ndarray], float]
"""Takes how often each case counts, ``(cases,)``, and gives one value."""


def segmentation_scores(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: tuple[float, ...],
    classes: Mapping[int, str],
    tolerance_mm: float = 1.0,
    empty_policy: EmptyPolicy = "nan",
) -> dict[str, float]:
    """Scores of a class mask ``(*S)``: ``dice``, ``iou``, ``hd95_mm``, ``asd_mm``, ``nsd``, ``lesion_f1``,
    ``lesion_pq`` (panoptic quality), ``volume_error`` (relative; of areas in 2-D) and, in 3-D, ``volume_error_ml``.

    Volume errors are signed, so that their mean is a bias; the interval and the rows of cases show their spread.

    Each is the mean over the classes that are defined; with several classes ``dice/<class>`` and so on follow. Surfaces
    are those of border voxels (as in MONAI), a lesion is found where any voxel overlaps.

    Args:
        prediction: ``(*S)`` class mask.
        reference: ``(*S)`` class mask; 255 is not annotated.
        spacing_mm: voxel size per axis, array order.
        classes: names by value.
        tolerance_mm: of the normalised surface Dice.
        empty_policy: what a class scores that neither mask holds.

    >>> mask = np.eye(4, dtype=np.uint8)
    >>> segmentation_scores(mask, mask, (1.0, 1.0), {1: "vessel"})["dice"]
    1.0
    """
    by_class = {}
    for label, name in classes.items():
        surfaces = surface_distances(prediction, reference, spacing_mm, label, empty_policy=empty_policy)
        lesions = match_lesions(prediction, reference, label, empty_policy=empty_policy)
        by_class[name] = {
            "dice": dice(prediction, reference, label, empty_policy),
            "iou": iou(prediction, reference, label, empty_policy),
            "hd95_mm": surfaces.hausdorff(95),
            "asd_mm": surfaces.average(),
            "nsd": surfaces.dice(tolerance_mm),
            "lesion_f1": lesions.f1,
            "lesion_pq": lesions.panoptic_quality,
            "volume_error": volume_error(prediction, reference, label),
        }
        if reference.ndim == 3:
            by_class[name]["volume_error_ml"] = volume_error_ml(prediction, reference, spacing_mm, label)
    return _with_means(by_class)


def attention_scores(
    attention: np.ndarray,
    region: np.ndarray,
    spacing_mm: tuple[float, ...] | None = None,
    boxes: np.ndarray | None = None,
) -> dict[str, float]:
    """Scores of an attention map on the region's grid: ``attention_mass`` (also called energy pointing game),
    ``attention_enrichment``, ``pointing``, ``pointing_near`` (within 10 mm, or 15 pixels where no physical size is
    known), ``side_accuracy`` (along the last axis), ``attention_entropy``; ``slice_hit`` (along the first axis) in 3-D
    and ``lesion_recall`` where the lesions are known one by one.

    Args:
        attention: ``(*S)``.
        region: ``(*S)``.
        spacing_mm: voxel size per axis, array order.
        boxes: ``(n, 2 D)`` of the lesions.

    >>> attention_scores(np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[0, 1], [0, 1]]))["pointing"]
    1.0
    """
    near = NEAR_PIXELS if spacing_mm is None else NEAR_MM
    scores = {
        "attention_mass": attention_metrics.mass_in_region(attention, region),
        "attention_enrichment": attention_metrics.enrichment(attention, region),
        "pointing": attention_metrics.pointing(attention, region),
        "pointing_near": attention_metrics.pointing(attention, region, near, spacing_mm),
        "side_accuracy": attention_metrics.side_accuracy(attention, region),
        "attention_entropy": attention_metrics.entropy(attention),
    }
    if np.ndim(attention) == 3:
        scores["slice_hit"] = attention_metrics.slice_hit(attention, region)
    if boxes is not None:
        scores["lesion_recall"] = attention_metrics.lesion_recall(attention, boxes)
    return scores


def detection_scores(case: DetectionCase, classes: Iterable[int]) -> dict[str, float]:
    """Scores of one image alone, to rank the cases by: ``case_ap50`` and ``case_recall50``; NaN without references.

    >>> detection_scores(DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1]), [1])
    {'case_ap50': 1.0, 'case_recall50': 1.0}
    """
    matches = [detection.match([case], label, [0.5]) for label in classes]
    return {"case_ap50": detection.mean_average_precision(matches), "case_recall50": detection.recall(matches)}


def detection_statistics(
    cases: Sequence[DetectionCase], classes: Mapping[int, str], froc_iou: float = 0.1
) -> dict[str, Statistic]:
    """Pooled statistics of boxes: ``map`` (COCO's .50:.95), ``ap50``, ``ap10``, ``recall50``, ``froc`` and
    ``image_auc``.

    With several classes ``map/<class>``, ``ap50/<class>`` and ``ap10/<class>`` follow.

    ``froc`` is the CPM over all classes, where a box hits a target of its class from an IoU of ``froc_iou`` on.
    ``image_auc`` tells images that hold a target from those that do not by their best-scored box; NaN where all do.

    >>> case = DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])
    >>> {name: round(statistic(np.ones(1)), 2) for name, statistic in detection_statistics([case], {1: "a"}).items()}
    {'map': 0.6, 'ap50': 1.0, 'ap10': 1.0, 'recall50': 1.0, 'froc': 1.0, 'image_auc': nan}
    """
    coco, at_50, at_10 = (
        [detection.match(cases, label, thresholds) for label in classes]
        for thresholds in (detection.COCO_IOU_THRESHOLDS, [0.5], [0.1])
    )

    def precision(matches: list) -> Statistic:
        return lambda weights: detection.mean_average_precision(matches, weights)

    by_class = {
        name: {"map": precision([coco[k]]), "ap50": precision([at_50[k]]), "ap10": precision([at_10[k]])}
        for k, name in enumerate(classes.values())
    }
    free_response = froc_of_boxes(cases, froc_iou)
    best_scores = np.array([np.max(case.scores, initial=0.0) for case in cases])
    positive = np.array([float(len(case.reference_boxes) > 0) for case in cases])
    return {
        "map": precision(coco),
        "ap50": precision(at_50),
        "ap10": precision(at_10),
        "recall50": lambda weights: detection.recall(at_50, weights),
        "froc": lambda weights: free_response.score(weights=weights),
        "image_auc": lambda weights: classification.auc(best_scores, positive, weights),
        **(_per_class(by_class) if len(classes) > 1 else {}),
    }


def classification_statistics(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], specificity: float = 0.9
) -> dict[str, Statistic]:
    """Pooled statistics of image labels: ``auc``, ``sensitivity_at_90`` (per cent specificity), ``ece``, ``brier``.

    Each is the mean over the classes that are defined; with several classes ``auc/<class>`` and so on follow.

    Args:
        probabilities: ``(cases, K)``.
        labels: ``(cases, K)``; NaN where unknown.
        classes: K names.
        specificity: of the operating point.

    >>> found = classification_statistics(np.array([[0.9], [0.2]]), np.array([[1], [0]]), ["cancer"])
    >>> found["auc"](np.ones(2))
    1.0
    """
    metrics: dict[str, Callable[..., float]] = {
        "auc": classification.auc,
        f"sensitivity_at_{round(100 * specificity)}": lambda p, y, weights: classification.sensitivity_at_specificity(
            p, y, specificity, weights
        ),
        "ece": lambda p, y, weights: classification.expected_calibration_error(p, y, weights=weights),
        "brier": classification.brier,
    }

    def of_class(metric: Callable[..., float], k: int) -> Statistic:
        return lambda weights: metric(probabilities[:, k], labels[:, k], weights)

    by_class = {
        name: {metric: of_class(function, k) for metric, function in metrics.items()} for k, name in enumerate(classes)
    }
    statistics = {metric: _mean_statistic([by_class[c][metric] for c in by_class]) for metric in metrics}
    return statistics | (_per_class(by_class) if len(by_class) > 1 else {})


def _mean_statistic(statistics: Sequence[Statistic]) -> Statistic:
    return lambda weights: _mean_of_defined([statistic(weights) for statistic in statistics])


def _with_means(by_class: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    metrics = next(iter(by_class.values()))
    means = {metric: _mean_of_defined([scores[metric] for scores in by_class.values()]) for metric in metrics}
    return means | (_per_class(by_class) if len(by_class) > 1 else {})


def _per_class(by_class: Mapping[str, Mapping]) -> dict:
    """``{metric/class: ...}``, with what a tracking server refuses in a key replaced by ``_``."""
    return {
        f"{metric}/{re.sub(r'[^0-9A-Za-z_. -]', '_', name)}": value
        for name, scores in by_class.items()
        for metric, value in scores.items()
    }


def _mean_of_defined(values: Sequence[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
