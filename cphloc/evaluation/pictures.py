"""Draw cases with annotation and prediction, and choose the cases to draw."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cphloc.data.io.overlay import Box, overlay
from cphloc.errors import CphlocError
from cphloc.evaluation.prediction import CasePrediction
from cphloc.files import atomic
from cphloc.inference.localization import SHOWN_SCORE
from cphloc.registry.metrics import quality
from cphloc.structures.annotation import Annotation
from cphloc.structures.instances import object_masks, painted
from cphloc.structures.merging import of_part
from cphloc.structures.volume import Volume

NOT_METRICS = ("case", "patient", "reference", "reference_size", "reference_objects")
"""Columns of the rows of an evaluation that are no metrics, besides label probabilities ``p/<class>``."""

_log = logging.getLogger(__name__)


@contextmanager
def drawing(what: str) -> Iterator[None]:
    """Context manager in which figures are drawn: one that cannot be drawn is logged, and ends nothing.

    Args:
        what: what the figures show, for the message.
    """
    try:
        yield
    except CphlocError as error:  # a full disk: the numbers are written and stay
        _log.warning("%s cannot be drawn (%s); all numbers are written", what, error)
    except Exception as error:  # matplotlib, fonts
        _log.warning("%s cannot be drawn (%s: %s); all numbers are written", what, type(error).__name__, error)


def draw_case(
    volume: Volume,
    annotation: Annotation,
    prediction: CasePrediction,
    classes: Mapping[int, str],
    title: str,
    path: Path,
    least_score: float = SHOWN_SCORE,
) -> None:
    """Draw an image with outlines, boxes and attention of its annotation and of the prediction.

    Objects that the model outlines one by one, and those of the annotation then, have a colour each.

    Args:
        volume: the image.
        annotation: annotation of the image, in the classes of the model.
        prediction: prediction on the same grid.
        classes: number 1..K -> name.
        title: text above the picture.
        path: picture to write.
        least_score: least score of the boxes that are drawn.
    """
    by_source = {"expert": annotation.mask, "cphloc": prediction.mask}
    masks = {source: np.asarray(mask) for source, mask in by_source.items() if mask is not None}
    boxes: dict[str, list[Box]] = {}
    if prediction.detections is not None:
        if annotation.boxes is not None:
            pairs = zip(*annotation.objects, strict=True)
            boxes["expert"] = [(edges, int(number), "") for edges, number in pairs]
        edges, scores, box_classes = prediction.detections
        shown = scores >= least_score
        rows = zip(edges[shown], box_classes[shown], scores[shown], strict=True)
        boxes["cphloc"] = [(edges, int(number), f"{score:.2f}") for edges, number, score in rows]
    names = of_part(classes, "mask" if masks else "boxes")
    if prediction.objects and prediction.scores is not None:
        names, masks = {}, _each_object(volume.geometry.shape, annotation, prediction, least_score)
    figure = overlay(volume, names, masks, boxes, prediction.attention, title)
    with atomic(path) as temporary:
        figure.savefig(temporary)


def _each_object(
    shape: tuple[int, ...], annotation: Annotation, prediction: CasePrediction, least_score: float
) -> dict[str, np.ndarray]:
    """Label images of the annotated and of the predicted objects."""
    drawn = {}
    if annotation.mask is not None and annotation.boxes is not None:
        drawn["expert"] = painted(object_masks(annotation), shape)
    scored = zip(prediction.objects or (), np.asarray(prediction.scores), strict=True)
    return drawn | {"cphloc": painted([each if score >= least_score else None for each, score in scored], shape)}


def extremes(rows: Sequence[Mapping[str, Any]], headline: str) -> tuple[str, dict[str, str]]:
    """Choose the worst, median and best case by a metric.

    If the metric is not computed per case (such as average precision), the first metric of the rows is used instead.

    Args:
        rows: one per case, with ``case`` and its scores.
        headline: metric to rank the cases by.

    Returns:
        the metric that was used, and the case ids by rank (``worst``, ``median``, ``best``).

    >>> extremes([{"case": "a", "dice": 0.9}, {"case": "b", "dice": 0.7}, {"case": "c", "dice": 0.8}], "dice")
    ('dice', {'worst': 'b', 'median': 'c', 'best': 'a'})
    """
    name, order = ranked(rows, headline)
    places = {"worst": 0, "median": len(order) // 2, "best": -1}
    return name, {title: order[place] for title, place in places.items()}


def ranked(rows: Sequence[Mapping[str, Any]], headline: str) -> tuple[str, list[str]]:
    """Sort the cases by a metric, worst first; arguments and the choice of the metric as in `extremes`.

    Returns:
        the metric that was used, and the ids of the cases that have a value (all, if none has).
    """
    names = [name for name in rows[0] if name not in NOT_METRICS and not name.startswith("p/")]
    name = headline if headline in names else next(iter(names), headline)
    scored = {row["case"]: row.get(name, float("nan")) for row in rows}
    known = [case for case, value in scored.items() if value == value]
    return name, sorted(known, key=lambda case: quality(name, scored[case])) or list(scored)


def heading(title: str, case: str, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the title of the picture of a case, such as ``worst: case12, dice 0.412``.

    Args:
        title: rank of the case, from `extremes`.
        case: id of the case.
        name: metric to show.
        rows: one per case, with ``case`` and its scores.
    """
    value = next(row for row in rows if row["case"] == case).get(name, float("nan"))
    return f"{title}: {case}, {name} {value:.3f}"
