"""Baseline predictions that ignore the image: averages of the training annotations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cphloc.data.case import Case, read_case
from cphloc.data.io.resample import resample
from cphloc.errors import DataError
from cphloc.evaluation.scores import CasePrediction
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import reoriented, reoriented_back

BASELINES = {
    "mask": "mean shape of the training masks",
    "boxes": "mean box of each class in training",
    "attention": "uniform attention",
    "probabilities": "frequency in training",
}
"""Name of the baseline of each part of a `CasePrediction`."""

_THRESHOLDS = np.arange(0.2, 0.61, 0.05)


def prior_baseline(
    cases: Sequence[Case], dims: int, classes: Mapping[int, str], parts: Collection[str]
) -> Callable[[Geometry], CasePrediction]:
    """Build a predictor that ignores the image and returns the average training annotation, resampled to its grid.

    A model is only useful if it beats this. The mean mask is that of `mean_shape`; the mean box of a class has as its
    score the fraction of training images that contain the class; label probabilities are the frequencies of the
    classes; attention is uniform.

    Args:
        cases: training cases; each contributes the annotations it has.
        dims: 2 or 3.
        classes: number 1..K -> name.
        parts: parts to predict, keys of `BASELINES`.

    Returns:
        a function from the grid of an image to the prediction for that image.

    Raises:
        DataError: masks or boxes are requested, but no training case has any.
    """
    shape = mean_shape(cases, dims, len(classes)) if "mask" in parts else None
    needs_annotations = "boxes" in parts or "probabilities" in parts
    annotations = [_completed(case, dims, len(classes)) for case in cases] if needs_annotations else []
    boxes = _mean_boxes(annotations, classes) if "boxes" in parts else None
    labels = [annotation.label for _, annotation in annotations if annotation.label is not None]
    prevalence = np.nanmean(labels, axis=0) if "probabilities" in parts and labels else None

    def _predict(geometry: Geometry) -> CasePrediction:
        """Return the average training annotation on the grid of an image."""
        prediction = CasePrediction(mask=None if shape is None else shape(geometry), probabilities=prevalence)
        if "attention" in parts:
            uniform = np.full(geometry.shape, 1 / np.prod(geometry.shape), np.float32)
            prediction = replace(prediction, attention=uniform)
        if boxes is not None:
            shape_of = geometry.reoriented(*geometry.canonical()).shape
            edges = geometry.boxes_from_canonical(boxes[0] * np.tile(shape_of, 2))
            prediction = replace(prediction, boxes=edges, scores=boxes[1], box_classes=boxes[2])
        return prediction

    return _predict


def mean_shape(cases: Sequence[Case], dims: int, classes: int) -> Callable[[Geometry], np.ndarray]:
    """Build a predictor of the average training mask.

    The masks are reoriented to the canonical orientation, resampled to one common grid and averaged; a voxel is
    foreground if the average exceeds the threshold with the best mean Dice on the training masks. The result shows how
    well the position in the image alone predicts the mask, for example because the images were cropped around the
    object.

    Args:
        cases: training cases; those without a mask are ignored. A class is averaged over the cases in which it was
            looked for.
        dims: 2 or 3.
        classes: number of foreground classes K.

    Returns:
        a function from the grid of an image to the average mask on that grid, ``(*S)`` uint8.

    Raises:
        DataError: no case has a mask.
    """
    read = ((volume.geometry, annotation) for volume, annotation in (read_case(c, dims) for c in cases))
    masked = [(geometry, a.mask, a.mask_known) for geometry, a in read if a.mask is not None]
    upright = [reoriented(mask, *geometry.canonical()) for geometry, mask, _ in masked]
    if not upright:
        msg = "the mean-shape baseline needs training cases with masks, but there are none"
        raise DataError(msg)
    box = _unit_box(tuple(int(n) for n in np.median([mask.shape for mask in upright], axis=0)))
    stretched = [
        resample(np.stack([mask == n for n in range(1, classes + 1)]).astype(np.float32), _unit_box(mask.shape), box)
        for mask in upright
    ]
    known = np.array([np.ones(classes, bool) if k is None else k for _, _, k in masked])
    counts = np.maximum(known.sum(axis=0), 1).reshape(-1, *(1,) * dims)
    mean = sum(share * k.reshape(counts.shape) for share, k in zip(stretched, known, strict=True)) / counts
    threshold = max(_THRESHOLDS, key=lambda t: _mean_dice(mean, t, stretched, known))

    def _predict(geometry: Geometry) -> np.ndarray:
        """Return the thresholded mean shape ``(*S)`` on the grid of an image."""
        order, flip = geometry.canonical()
        shape = tuple(geometry.shape[a] for a in order)
        shares = resample(mean, box, _unit_box(shape))
        mask = np.where(shares.sum(axis=0) > threshold, 1 + shares.argmax(axis=0), 0).astype(np.uint8)
        return reoriented_back(mask, order, flip)

    return _predict


def _completed(case: Case, dims: int, classes: int) -> tuple[tuple[int, ...], Annotation]:
    """Read the shape of a case's image and its annotation, completed down the ladder; boxes and shape canonical."""
    volume, annotation = read_case(case, dims)
    own, grid = volume.geometry, volume.geometry.reoriented(*volume.geometry.canonical())
    done = annotation.completed(own.shape, classes)
    boxes = None if done.boxes is None else own.canonical_boxes(done.boxes)
    return grid.shape, replace(done, boxes=boxes)


def _mean_boxes(
    annotations: Sequence[tuple[tuple[int, ...], Annotation]], classes: Mapping[int, str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average the boxes of every class.

    Returns:
        mean boxes ``(n, 2 D)`` as fractions of the image size, the fraction of images that contain each class, of those
        in which it was looked for, ``(n,)``, and the classes ``(n,)``; classes without boxes are left out.
    """
    boxed = [
        (shape, a.boxes, a.box_classes, a.boxes_known)
        for shape, a in annotations
        if a.boxes is not None and a.box_classes is not None and a.boxes_known is not None
    ]
    relative = {c: [b / np.tile(shape, 2) for shape, boxes, n, _ in boxed for b in boxes[n == c]] for c in classes}
    present = [c for c, boxes in relative.items() if boxes]
    if not present:
        msg = "the mean-box baseline needs training cases with boxes, but there are none"
        raise DataError(msg)
    frequency = [np.mean([(n == c).any() for _, _, n, known in boxed if known[c - 1]]) for c in present]
    return np.array([np.mean(relative[c], axis=0) for c in present]), np.array(frequency), np.array(present)


def _mean_dice(mean: np.ndarray, threshold: float, shares: Sequence[np.ndarray], known: np.ndarray) -> float:
    """Mean Dice of the thresholded ``mean`` ``(K, *S)`` with each training mask; all its known classes as one."""
    pairs = [(mean[k].sum(axis=0) > threshold, s[k].sum(axis=0) > 0.5) for s, k in zip(shares, known, strict=True)]
    return float(np.mean([2 * (a & b).sum() / max(a.sum() + b.sum(), 1) for a, b in pairs]))


def _unit_box(shape: tuple[int, ...]) -> Geometry:
    """Grid of ``shape`` voxels that fills the unit cube, so that images of different sizes coincide."""
    spacing = tuple(1 / n for n in shape)
    return Geometry(shape, spacing, tuple(s / 2 for s in reversed(spacing)), np.eye(len(shape))[::-1])
