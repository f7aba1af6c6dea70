"""Baseline predictions that ignore the image: averages of the training annotations."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cphloc.data.case import Case, read_case
from cphloc.data.io.resample import resample
from cphloc.errors import DataError
from cphloc.evaluation.packed import Packed
from cphloc.evaluation.prediction import CasePrediction
from cphloc.files import atomic
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry
from cphloc.structures.merging import merged_annotation, of_part
from cphloc.structures.volume import reoriented, reoriented_back

BASELINES = {
    "mask": "mean shape of the training masks",
    "boxes": "mean box of each class in training",
    "attention": "uniform attention",
    "probabilities": "frequency in training",
}
"""Name of the baseline of each part of a `CasePrediction`."""

LEVELS = 240
"""Levels of `MeanShape.shares`, which stores fractions in one byte; 240 is a multiple of most small numbers."""

MOST_BYTES = 200_000_000
"""Largest size in bytes of the averages of a stored baseline."""

_THRESHOLDS = (*np.arange(0.2, 0.61, 0.05), *np.arange(0.02, 0.2, 0.02))
"""Thresholds of a mean shape that are tried; small objects that lie anywhere are nowhere in a fifth of the masks."""


@dataclass(frozen=True, eq=False)
class MeanShape:
    """Average of the training masks, stretched to one box.

    Args:
        shares: ``(K, *S)`` uint8: fraction of the training masks that have the class there, times `LEVELS`.
        threshold: a voxel is foreground if the sum over classes exceeds this fraction.
    """

    shares: np.ndarray
    threshold: float

    def __call__(self, geometry: Geometry) -> np.ndarray:
        """Return the thresholded average ``(*S)`` uint8 on the grid of an image."""
        order, flip = geometry.canonical()
        shape = tuple(geometry.shape[a] for a in order)
        mean = self.shares.astype(np.float32) / LEVELS
        shares = resample(mean, _unit_box(mean.shape[1:]), _unit_box(shape))
        mask = np.where(shares.sum(axis=0) > self.threshold, 1 + shares.argmax(axis=0), 0).astype(np.uint8)
        return reoriented_back(mask, order, flip)


class MeanBoxes(NamedTuple):
    """Average training box of each class that has boxes.

    Args:
        edges: ``(n, 2 D)`` as fractions of the image size, canonical axes.
        scores: ``(n,)`` fraction of the images that contain the class, of those in which it was looked for.
        classes: ``(n,)``.
    """

    edges: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True, eq=False)
class Baseline:
    """Predictor that ignores the image and returns the average training annotation, resampled to its grid.

    A model is only useful if it beats this. Parts that the training cases do not have are ``None``.

    Args:
        shape: average mask.
        boxes: average boxes.
        prevalence: ``(K,)`` frequency of each class in the training images.
        attention: whether to predict uniform attention.
    """

    shape: MeanShape | None = None
    boxes: MeanBoxes | None = None
    prevalence: np.ndarray | None = None
    attention: bool = False

    @property
    def name(self) -> str:
        """Description of the parts, such as ``mean shape of the training masks``."""
        given = {"mask": self.shape, "boxes": self.boxes, "attention": self.attention, "probabilities": self.prevalence}
        return ", ".join(BASELINES[part] for part, value in given.items() if value is not None and value is not False)

    def __call__(self, geometry: Geometry) -> CasePrediction:
        """Return the average training annotation on the grid of an image."""
        mask = None if self.shape is None else self.shape(geometry)
        prediction = CasePrediction(mask=mask, probabilities=self.prevalence)
        if self.attention:
            uniform = np.full(geometry.shape, 1 / np.prod(geometry.shape), np.float32)
            prediction = replace(prediction, attention=uniform)
        if self.boxes is not None:
            shape_of = geometry.reoriented(*geometry.canonical()).shape
            edges = geometry.boxes_from_canonical(self.boxes.edges * np.tile(shape_of, 2))
            prediction = replace(prediction, boxes=edges, scores=self.boxes.scores, box_classes=self.boxes.classes)
        return prediction

    def save(self, path: Path) -> None:
        """Write the averages as a compressed ``.npz`` file; no image of a patient is contained."""
        parts: dict[str, Any] = {"attention": self.attention}
        if self.shape is not None:
            parts |= {"shape": self.shape.shares, "threshold": self.shape.threshold}
        if self.boxes is not None:
            parts |= {"edges": self.boxes.edges, "scores": self.boxes.scores, "classes": self.boxes.classes}
        if self.prevalence is not None:
            parts["prevalence"] = self.prevalence
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **parts)

    @classmethod
    def load(cls, path: Path, dims: int, classes: int | Mapping[int, str]) -> Baseline:
        """Read what `save` wrote.

        Args:
            path: the file.
            dims: 2 or 3.
            classes: number of foreground classes K, or number 1..K -> name.

        Raises:
            DataError: the file cannot be read, is too large, or is of another model.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                size = sum(info.file_size for info in archive.infolist())
            if size > MOST_BYTES:
                msg = f"holds {size / 1e6:.0f} MB"
                raise ValueError(msg)
            with np.load(path, allow_pickle=False) as file:
                parts = {name: file[name] for name in file.files}
            found = cls(
                MeanShape(parts["shape"], float(parts["threshold"])) if "shape" in parts else None,
                MeanBoxes(parts["edges"], parts["scores"], parts["classes"]) if "edges" in parts else None,
                parts.get("prevalence"),
                bool(parts["attention"]),
            )
            found._check(dims, classes)
        except Exception as error:  # numpy, zipfile and zlib raise errors of many types for damaged files
            msg = f"{path}: is not the baseline of this model ({error}); download or publish the entry again"
            raise DataError(msg) from error
        return found

    def _check(self, dims: int, classes: int | Mapping[int, str]) -> None:
        """Raise ValueError where the averages are of another number of axes or classes."""
        names = dict.fromkeys(range(1, classes + 1), "") if isinstance(classes, int) else classes
        in_mask, in_boxes, in_labels = (len(of_part(names, part)) for part in ("mask", "boxes", "labels"))
        shares, boxes, prevalence = self.shape, self.boxes, self.prevalence
        right = [
            shares is None or (shares.shares.ndim == 1 + dims and len(shares.shares) == in_mask),
            boxes is None
            or (boxes.edges.shape == (len(boxes.classes), 2 * dims) and len(boxes.scores) == len(boxes.classes)),
            boxes is None or set(boxes.classes.tolist()) <= set(range(1, in_boxes + 1)),
            prevalence is None or prevalence.shape == (in_labels,),
            *(
                np.isfinite(part).all()
                for part in (shares and shares.shares, boxes and boxes.edges, prevalence)
                if part is not None
            ),
        ]
        if not all(right):
            msg = f"it is not of {in_mask} classes in {dims}-D, or not finite"
            raise ValueError(msg)


def prior_baseline(cases: Sequence[Case], dims: int, classes: Mapping[int, str], parts: Collection[str]) -> Baseline:
    """Average the annotations of the training cases.

    Args:
        cases: training cases; each contributes the annotations it has.
        dims: 2 or 3.
        classes: number 1..K -> name.
        parts: parts to predict, keys of `BASELINES`; those of which no training case has an annotation are left out.
    """
    needs_annotations = "boxes" in parts or "probabilities" in parts
    annotations = [_completed(case, dims, classes) for case in cases] if needs_annotations else []
    labels = [annotation.label for _, annotation in annotations if annotation.label is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a class that is unknown in every case has no frequency
        prevalence = np.nanmean(labels, axis=0) if "probabilities" in parts and labels else None
    return Baseline(
        mean_shape(cases, dims, classes) if "mask" in parts else None,
        _mean_boxes(annotations, of_part(classes, "boxes")) if "boxes" in parts else None,
        prevalence,
        "attention" in parts,
    )


def mean_shape(cases: Sequence[Case], dims: int, classes: int | Mapping[int, str]) -> MeanShape | None:
    """Average the training masks; ``None`` if there are none.

    The masks are reoriented to the canonical orientation, resampled to one common grid and averaged; a voxel is
    foreground if the average exceeds the threshold with the best mean Dice on the training masks. The result shows how
    well the position in the image alone predicts the mask, for example because the images were cropped around the
    object.

    Args:
        cases: training cases; those without a mask are ignored. A class is averaged over the cases in which it was
            looked for.
        dims: 2 or 3.
        classes: number of foreground classes K, or number 1..K -> name.
    """
    names = dict.fromkeys(range(1, classes + 1), "") if isinstance(classes, int) else classes
    classes = len(of_part(names, "mask"))
    upright, known = [], []
    for volume, annotation in (read_case(case, dims) for case in cases):
        own = merged_annotation(annotation, names)
        if own.mask is not None:
            upright.append(Packed.of(reoriented(own.mask, *volume.geometry.canonical())))
            known.append(np.ones(classes, bool) if own.mask_known is None else own.mask_known)
    if not upright:
        return None
    box = _unit_box(tuple(int(n) for n in np.median([mask.shape for mask in upright], axis=0)))
    total, outlines = np.zeros((classes, *box.shape), np.float32), []
    for mask, of_case in zip(upright, known, strict=True):
        each = np.stack([mask.array == n for n in range(1, classes + 1)]).astype(np.float32)
        share = resample(each, _unit_box(mask.shape), box)
        total += share * of_case.reshape(-1, *(1,) * dims)
        outlines.append(Packed.of(share[of_case].sum(axis=0) > 0.5))
    counts = np.maximum(np.sum(known, axis=0), 1).reshape(-1, *(1,) * dims)
    shares = np.rint(total / counts * LEVELS).astype(np.uint8)
    threshold = max(_THRESHOLDS, key=lambda t: _mean_dice(shares / LEVELS, t, outlines, known))
    return MeanShape(shares, float(threshold))


def _completed(case: Case, dims: int, classes: Mapping[int, str]) -> tuple[tuple[int, ...], Annotation]:
    """Read the shape of a case's image and its boxes and labels, completed from the mask; boxes and shape canonical."""
    volume, annotation = read_case(case, dims)
    own, grid = volume.geometry, volume.geometry.reoriented(*volume.geometry.canonical())
    done = merged_annotation(annotation.completed(own.shape, len(classes)), classes)
    boxes = None if done.boxes is None else own.canonical_boxes(done.boxes)
    return grid.shape, replace(done, boxes=boxes, mask=None, region=None)


def _mean_boxes(
    annotations: Sequence[tuple[tuple[int, ...], Annotation]], classes: Mapping[int, str]
) -> MeanBoxes | None:
    """Average the boxes of every class that has boxes; ``None`` if none has."""
    boxed = [
        (shape, a.boxes, a.box_classes, a.boxes_known)
        for shape, a in annotations
        if a.boxes is not None and a.box_classes is not None and a.boxes_known is not None
    ]
    relative = {c: [b / np.tile(shape, 2) for shape, boxes, n, _ in boxed for b in boxes[n == c]] for c in classes}
    present = [c for c, boxes in relative.items() if boxes]
    if not present:
        return None
    frequency = [np.mean([(n == c).any() for _, _, n, known in boxed if known[c - 1]]) for c in present]
    return MeanBoxes(np.array([np.mean(relative[c], axis=0) for c in present]), np.array(frequency), np.array(present))


def _mean_dice(mean: np.ndarray, threshold: float, outlines: Sequence[Packed], known: Sequence[np.ndarray]) -> float:
    """Mean Dice of the thresholded ``mean`` ``(K, *S)`` with each training mask; all its known classes as one."""
    pairs = ((mean[k].sum(axis=0) > threshold, outline.array) for outline, k in zip(outlines, known, strict=True))
    return float(np.mean([2 * (a & b).sum() / max(a.sum() + b.sum(), 1) for a, b in pairs]))


def _unit_box(shape: tuple[int, ...]) -> Geometry:
    """Grid of ``shape`` voxels that fills the unit cube, so that images of different sizes coincide."""
    spacing = tuple(1 / n for n in shape)
    return Geometry(shape, spacing, tuple(s / 2 for s in reversed(spacing)), np.eye(len(shape))[::-1])
