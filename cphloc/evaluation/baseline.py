"""What a model must beat: what the training annotations say of an image that nobody looked at."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cphloc.data.case import Case, read_case
from cphloc.data.io.resample import resample
from cphloc.errors import DataError
from cphloc.evaluation.scores import CasePrediction
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import reoriented, reoriented_back

NAMES = {
    "mask": "mean shape of the training masks",
    "boxes": "mean box of each class in training",
    "attention": "uniform attention",
    "probabilities": "frequency in training",
}
"""What stands in for each part of a prediction."""


def prior_baseline(
    cases: Sequence[Case], dims: int, classes: Mapping[int, str], parts: Container[str]
) -> Callable[[Geometry], CasePrediction]:
    """What the training annotations alone predict of an image, given only its grid.

    Args:
        cases: training cases; each counts for the rungs it has.
        dims: 2 or 3.
        classes: number 1..K -> name.
        parts: what to predict, among the keys of `NAMES`.

    Returns:
        a function from the grid of an image to what is `CasePrediction` in it.

    Raises:
        DataError: a part is asked for that no training case is annotated for.
    """
    shape = mean_shape(cases, dims, len(classes)) if "mask" in parts else None
    known = [_completed(case, dims, len(classes)) for case in cases] if {"boxes", "probabilities"} & set(parts) else []
    boxes = _mean_boxes(known, classes) if "boxes" in parts else None
    labels = [annotation.label for _, annotation in known if annotation.label is not None]
    prevalence = np.nanmean(labels, axis=0) if "probabilities" in parts and labels else None

    def predict(geometry: Geometry) -> CasePrediction:
        found = CasePrediction(mask=None if shape is None else shape(geometry), probabilities=prevalence)
        if "attention" in parts:
            found = replace(found, attention=np.full(geometry.shape, 1 / np.prod(geometry.shape), np.float32))
        if boxes is not None:
            edges = boxes[0] * np.tile(geometry.shape, 2)
            found = replace(found, boxes=edges, scores=boxes[1], box_classes=boxes[2])
        return found

    return predict


def mean_shape(cases: Sequence[Case], dims: int, classes: int) -> Callable[[Geometry], np.ndarray]:
    """Average the masks of ``cases``, each stretched onto one box in canonical orientation.

    Images that were cropped around the object give its place away; this says by how much. Foreground is where the mean
    shape exceeds the threshold that gives the best mean Dice on the training masks themselves.

    Args:
        cases: training cases; those without a mask do not count.
        dims: 2 or 3.
        classes: number of foreground classes K.

    Returns:
        a function from the grid of an image to the mask ``(*S)`` uint8 that its shape alone predicts.

    Raises:
        DataError: no case has a mask.
    """
    masks = [(volume.geometry, known.mask) for volume, known in (read_case(c, dims) for c in cases)]
    masks = [(geometry, mask) for geometry, mask in masks if mask is not None]
    if not masks:
        msg = "the mean-shape baseline needs training cases with masks, and there is none"
        raise DataError(msg)
    upright = [reoriented(mask, *geometry.canonical()) for geometry, mask in masks]
    box = _unit_box(tuple(int(n) for n in np.median([mask.shape for mask in upright], axis=0)))
    stretched = [
        resample(np.stack([mask == n for n in range(1, classes + 1)]).astype(np.float32), _unit_box(mask.shape), box)
        for mask in upright
    ]
    mean = np.mean(stretched, axis=0)
    threshold = max(np.arange(0.2, 0.61, 0.05), key=lambda t: _mean_dice(mean.sum(axis=0) > t, stretched))

    def predict(geometry: Geometry) -> np.ndarray:
        order, flip = geometry.canonical()
        shape = tuple(geometry.shape[a] for a in order)
        shares = resample(mean, box, _unit_box(shape))
        found = np.where(shares.sum(axis=0) > threshold, 1 + shares.argmax(axis=0), 0).astype(np.uint8)
        return reoriented_back(found, order, flip)

    return predict


def _completed(case: Case, dims: int, classes: int) -> tuple[tuple[int, ...], Annotation]:
    volume, known = read_case(case, dims)
    return volume.geometry.shape, known.completed(volume.geometry.shape, classes)


def _mean_boxes(
    known: Sequence[tuple[tuple[int, ...], Annotation]], classes: Mapping[int, str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean box of every class as shares of the image, how often an image has the class, and the class."""
    boxed = [(shape, a.boxes, a.box_classes) for shape, a in known if a.boxes is not None]
    shares = {c: [b / np.tile(shape, 2) for shape, boxes, n in boxed for b in boxes[n == c]] for c in classes}
    found = [c for c, of_class in shares.items() if of_class]
    if not found:
        msg = "the mean-box baseline needs training cases with boxes, and there is none"
        raise DataError(msg)
    often = [np.mean([(n == c).any() for _, _, n in boxed]) for c in found]
    return np.array([np.mean(shares[c], axis=0) for c in found]), np.array(often), np.array(found)


def _mean_dice(found: np.ndarray, shares: Sequence[np.ndarray]) -> float:
    whole = [share.sum(axis=0) > 0.5 for share in shares]
    return float(np.mean([2 * (found & w).sum() / max(found.sum() + w.sum(), 1) for w in whole]))


def _unit_box(shape: tuple[int, ...]) -> Geometry:
    """Grid of ``shape`` voxels that fills the unit cube, so that images of any size lie on each other."""
    spacing = tuple(1 / n for n in shape)
    return Geometry(shape, spacing, tuple(s / 2 for s in reversed(spacing)), np.eye(len(shape))[::-1])
