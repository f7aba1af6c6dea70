"""COCO's official summary of 2-D boxes, computed by faster-coco-eval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cphloc.errors import InputError, needs
from cphloc.metrics.detection import DetectionCase

SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's names: s, m, l are small, medium and large objects; 1, 10, 100 the detections allowed per image."""


def coco_summary(cases: Sequence[DetectionCase]) -> dict[str, float]:
    """Compute AP and AR of 2-D boxes by COCO's rules, in all and by object size (below 32², below 96², or larger).

    `cphloc.metrics.detection.mean_average_precision` gives the same AP in any number of dimensions.

    Args:
        cases: detections and references of each image.

    Returns:
        the twelve values of `SUMMARY` by name; NaN without reference boxes.

    Raises:
        InputError: the boxes are not 2-D.

    >>> case = DetectionCase([[0, 0, 40, 40]], [0.9], [1], [[0, 0, 40, 30]], [1])
    >>> round(coco_summary([case])["AP50"], 9)
    1.0
    """
    with needs("COCO's summary"):
        from faster_coco_eval import COCO, COCOeval_faster

    labels = sorted({int(c) for case in cases for c in (*case.classes, *case.reference_classes)})
    reference = COCO(
        {
            "info": {},
            "images": [{"id": number} for number in range(len(cases))],
            "categories": [{"id": label, "name": str(label)} for label in labels],
            "annotations": _annotations(cases),
        }
    )
    evaluation = COCOeval_faster(reference, reference.loadRes(_results(cases)), iouType="bbox")
    evaluation.run()
    values = evaluation.stats[: len(SUMMARY)]
    return {name: float(v) if v >= 0 else float("nan") for name, v in zip(SUMMARY, values, strict=True)}


def _annotations(cases: Sequence[DetectionCase]) -> list[dict]:
    listed = []
    for number, case in enumerate(cases):
        for box, label, ignored in zip(case.reference_boxes, case.reference_classes, case.ignored, strict=True):
            annotation = _object(number, box, label)
            area = annotation["bbox"][2] * annotation["bbox"][3]
            listed.append(annotation | {"id": len(listed) + 1, "area": area, "iscrowd": int(ignored)})
    return listed


def _results(cases: Sequence[DetectionCase]) -> list[dict]:
    return [
        _object(number, box, label) | {"score": float(score)}
        for number, case in enumerate(cases)
        for box, label, score in zip(case.boxes, case.classes, case.scores, strict=True)
    ]


def _object(image: int, box: np.ndarray, label: int) -> dict:
    if len(box) != 4:
        msg = f"COCO's summary is defined for 2-D boxes of 4 coordinates, got {len(box)}; use mean_average_precision"
        raise InputError(msg)
    top, left, bottom, right = map(float, box)
    return {"image_id": image, "category_id": int(label), "bbox": [left, top, right - left, bottom - top]}
