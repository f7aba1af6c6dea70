"""Standard metrics of each task by name, per case or pooled over a data set.

Functions of one image return ``{name: value}``. AP, FROC and AUC rank the detections or scores of all cases together,
so they are pooled: ``{name: statistic}``, each a function of the weights of the cases.
`cphloc.metrics.summary.summarize` computes means and intervals of both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from cphloc.metrics import attention as attention_metrics
from cphloc.metrics import classification, detection
from cphloc.metrics.box_calibration import detection_calibration_error
from cphloc.metrics.box_overlap import box_iou
from cphloc.metrics.detection import DetectionCase
from cphloc.metrics.froc import froc_of_boxes
from cphloc.metrics.lesions import match_lesions
from cphloc.metrics.recommended import NSD_TOLERANCE_MM
from cphloc.metrics.segmentation import EmptyPolicy, dice, iou, volume_error, volume_error_ml
from cphloc.metrics.surface import surface_distances

NEAR_MM, NEAR_PIXELS = 10.0, 15.0
"""Tolerance of ``pointing_near`` in mm, and in pixels for images without a spacing (Zhang et al., 2018)."""

Statistic = Callable[[np.ndarray], float]
"""Function from the number of times that each case counts, ``(cases,)``, to the value of a metric."""


def segmentation_scores(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: tuple[float, ...],
    classes: Mapping[int, str],
    tolerances_mm: Mapping[str, float] = MappingProxyType({}),
    empty_policy: EmptyPolicy = "nan",
    known: Collection[int] | None = None,
) -> dict[str, float]:
    """Compute the segmentation metrics of one image.

    The metrics are ``dice``, ``iou``, ``hd95_mm`` (95th percentile Hausdorff distance), ``asd_mm`` (average symmetric
    surface distance), ``nsd`` (normalised surface Dice), ``lesion_f1``, ``lesion_pq`` (panoptic quality),
    ``lesion_sensitivity``, ``lesion_false_positives`` (number of them),
    ``volume_error`` (relative; of areas in 2-D) and, in 3-D, ``volume_error_ml``. Volume errors are signed, so their
    mean is a bias. Surfaces consist of border voxels (as in MONAI); a lesion counts as detected if any voxel overlaps.

    Args:
        prediction: ``(*S)`` predicted class mask.
        reference: ``(*S)`` reference class mask; 255 is not annotated.
        spacing_mm: voxel size per axis, array order.
        classes: class names by value in the masks.
        tolerances_mm: tolerance of the normalised surface Dice by class name; `NSD_TOLERANCE_MM` for others.
        empty_policy: score of a class that neither mask contains, as in `cphloc.metrics.segmentation`.
        known: classes that were looked for in the reference; the others are left out. ``None`` for all.

    Returns:
        ``{metric: mean over the classes for which it is defined}``; with several classes also ``metric/class``.

    >>> mask = np.eye(4, dtype=np.uint8)
    >>> segmentation_scores(mask, mask, (1.0, 1.0), {1: "vessel"})["dice"]
    1.0
    """
    by_class = {}
    counted = classes if known is None else {label: name for label, name in classes.items() if label in known}
    for label, name in counted.items():
        surfaces = surface_distances(prediction, reference, spacing_mm, label, empty_policy=empty_policy)
        lesions = match_lesions(prediction, reference, label, empty_policy=empty_policy)
        by_class[name] = {
            "dice": dice(prediction, reference, label, empty_policy),
            "iou": iou(prediction, reference, label, empty_policy),
            "hd95_mm": surfaces.hausdorff(95),
            "asd_mm": surfaces.average(),
            "nsd": surfaces.dice(tolerances_mm.get(name, NSD_TOLERANCE_MM)),
            "lesion_f1": lesions.f1,
            "lesion_pq": lesions.panoptic_quality,
            "lesion_sensitivity": lesions.sensitivity,
            "lesion_false_positives": float(lesions.false_positive),
            "volume_error": volume_error(prediction, reference, label),
        }
        if reference.ndim == 3:
            by_class[name]["volume_error_ml"] = volume_error_ml(prediction, reference, spacing_mm, label)
    return _with_means(by_class, len(classes) > 1)


def attention_scores(
    attention: np.ndarray,
    region: np.ndarray,
    spacing_mm: tuple[float, ...] | None = None,
    boxes: np.ndarray | None = None,
) -> dict[str, float]:
    """Compute the localization metrics of an attention map, see `cphloc.metrics.attention`.

    The metrics are ``attention_mass``, ``attention_enrichment``, ``pointing``, ``pointing_near`` (within 10 mm, or 15
    pixels without a spacing), ``side_accuracy`` (along the last axis), ``attention_entropy``; in 3-D also ``slice_hit``
    (along the first axis), and with ``boxes`` also ``lesion_recall``.

    Args:
        attention: ``(*S)`` map on the grid of the region.
        region: ``(*S)`` bool mask or covered fraction of each cell.
        spacing_mm: voxel size per axis, array order; ``None`` if unknown.
        boxes: ``(n, 2 D)`` edge coordinates of each lesion; ``None`` if lesions are not annotated individually.

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
    """Compute the metrics of the boxes of one image.

    - ``case_ap50``, ``case_recall50``: AP and recall at IoU 0.5, to rank images by quality; NaN if the image has no
      reference boxes.
    - ``box_iou``: IoU of the only object of a class and the most certain box of that class, 0 without one; mean over
      the classes of which the image has exactly one object, such as organs. Absent where there is no such class.

    >>> detection_scores(DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1]), [1])
    {'case_ap50': 1.0, 'case_recall50': 1.0, 'box_iou': 0.75}
    """
    numbers = list(classes)
    matches = [detection.match([case], label, [0.5]) for label in numbers]
    scores = {"case_ap50": detection.mean_average_precision(matches), "case_recall50": detection.recall(matches)}
    overlaps = [overlap for label in numbers if (overlap := _only_box_iou(case, label)) is not None]
    return {**scores, "box_iou": float(np.mean(overlaps))} if overlaps else scores


def _only_box_iou(case: DetectionCase, label: int) -> float | None:
    """IoU of the only object of a class and the most certain box of it; ``None`` unless there is exactly one object."""
    (of_class,) = np.nonzero(case.reference_classes == label)
    if len(of_class) != 1 or case.ignored[of_class[0]]:
        return None
    (found,) = np.nonzero(np.asarray(case.classes) == label)
    if not len(found):
        return 0.0
    best = found[np.argmax(np.asarray(case.scores)[found])]
    return float(box_iou(np.asarray(case.boxes)[[best]], np.asarray(case.reference_boxes)[of_class])[0, 0])


def detection_statistics(
    cases: Sequence[DetectionCase], classes: Mapping[int, str], froc_iou: float = 0.1
) -> dict[str, Statistic]:
    """Prepare the pooled detection metrics of a data set.

    - ``map``: mean average precision over IoU thresholds 0.50 to 0.95 (COCO).
    - ``ap50``, ``ap10``: average precision at IoU 0.5 and 0.1.
    - ``recall50``: recall at IoU 0.5.
    - ``d_ece``: calibration error of the scores at IoU 0.5, see `cphloc.metrics.box_calibration`; mean over classes.
    - ``froc``: mean sensitivity over all classes at 1/8 to 8 false positives per image (CPM of LUNA16).
    - ``image_auc``: AUC of the highest score in an image as predictor of whether it has reference boxes; NaN if all or
      none have.

    With several classes also ``map``, ``ap50``, ``ap10`` and ``d_ece`` of each, ``map/<class>``.

    Args:
        cases: detections and references of each image.
        classes: class names by class number.
        froc_iou: smallest IoU of a true positive in ``froc``.

    Returns:
        functions of the weights of ``cases``, by name.

    >>> case = DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])
    >>> {name: round(statistic(np.ones(1)), 2) for name, statistic in detection_statistics([case], {1: "a"}).items()}
    {'map': 0.6, 'ap50': 1.0, 'ap10': 1.0, 'recall50': 1.0, 'd_ece': 0.1, 'froc': 1.0, 'image_auc': nan}
    """
    coco, at_50, at_10 = (
        [detection.match(cases, label, thresholds) for label in classes]
        for thresholds in (detection.COCO_IOU_THRESHOLDS, [0.5], [0.1])
    )

    def _mean_ap(matches: list) -> Statistic:
        return lambda weights: detection.mean_average_precision(matches, weights)

    def _d_ece(matches: detection.Matches) -> Statistic:
        return lambda weights: detection_calibration_error(matches, weights=weights)

    ap = {"map": coco, "ap50": at_50, "ap10": at_10}
    by_class = {
        name: {metric: _mean_ap([matches[k]]) for metric, matches in ap.items()} | {"d_ece": _d_ece(at_50[k])}
        for k, name in enumerate(classes.values())
    }
    free_response = froc_of_boxes(cases, froc_iou)
    best_scores = np.array([np.max(case.scores, initial=0.0) for case in cases])
    positive = np.array([_has_objects(case) for case in cases])
    return {
        **{metric: _mean_ap(matches) for metric, matches in ap.items()},
        "recall50": lambda weights: detection.recall(at_50, weights),
        "d_ece": _mean_statistic([of["d_ece"] for of in by_class.values()]),
        "froc": lambda weights: free_response.score(weights=weights),
        "image_auc": lambda weights: classification.auc(best_scores, positive, weights),
        **(_per_class(by_class) if len(classes) > 1 else {}),
    }


def _has_objects(case: DetectionCase) -> float:
    """1 for an image with objects, 0 for one without, NaN where all reference boxes are ignored."""
    return float("nan") if len(case.ignored) and case.ignored.all() else float(len(case.reference_boxes) > 0)


def classification_statistics(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], specificity: float = 0.9
) -> dict[str, Statistic]:
    """Prepare the pooled classification metrics of a data set.

    The metrics are ``auc``, ``sensitivity_at_90`` (sensitivity at 90 % specificity; the number follows
    ``specificity``), ``f1`` (the mean over the classes is macro-F1; `cphloc.metrics.classification.decisions` says
    which classes count as found), ``ece`` (expected calibration error) and ``brier`` (Brier score).

    Args:
        probabilities: ``(cases, K)`` predicted probabilities in [0, 1].
        labels: ``(cases, K)``, 0 or 1; NaN where unknown.
        classes: K class names.
        specificity: specificity of the operating point, in [0, 1].

    Returns:
        functions of the weights of the cases by name, each the mean over the classes for which it is defined; with
        several classes also ``metric/class``.

    >>> statistics = classification_statistics(np.array([[0.9], [0.2]]), np.array([[1], [0]]), ["cancer"])
    >>> statistics["auc"](np.ones(2))
    1.0
    """
    metrics: dict[str, Callable[..., float]] = {
        "auc": classification.auc,
        f"sensitivity_at_{round(100 * specificity)}": lambda p, y, weights: classification.sensitivity_at_specificity(
            p, y, specificity, weights
        ),
        "f1": classification.f1,
        "ece": lambda p, y, weights: classification.expected_calibration_error(p, y, weights=weights),
        "brier": classification.brier,
    }
    decided = classification.decisions(probabilities, labels)

    def _of_class(metric: Callable[..., float], k: int) -> Statistic:
        values = decided if metric is classification.f1 else probabilities
        return lambda weights: metric(values[:, k], labels[:, k], weights)

    by_class = {
        name: {metric: _of_class(function, k) for metric, function in metrics.items()} for k, name in enumerate(classes)
    }
    statistics = {metric: _mean_statistic([by_class[c][metric] for c in by_class]) for metric in metrics}
    return statistics | (_per_class(by_class) if len(by_class) > 1 else {})


def _mean_statistic(statistics: Sequence[Statistic]) -> Statistic:
    return lambda weights: _mean_of_defined([statistic(weights) for statistic in statistics])


def _with_means(by_class: Mapping[str, Mapping[str, float]], several: bool) -> dict[str, float]:
    metrics = next(iter(by_class.values()), {})
    means = {metric: _mean_of_defined([scores[metric] for scores in by_class.values()]) for metric in metrics}
    return means | (_per_class(by_class) if several else {})


def _per_class(by_class: Mapping[str, Mapping]) -> dict:
    """Flatten to ``{metric/class: ...}``, with the names of the classes as they are, in any script."""
    return {f"{metric}/{name}": value for name, scores in by_class.items() for metric, value in scores.items()}


def _mean_of_defined(values: Sequence[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
