"""Class weights of the losses that ask for ``balanced`` ones, from the training masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from cphloc.data.pipeline.cache import PreparedCase
from cphloc.errors import InputError
from cphloc.modeling.model import Model
from cphloc.ops.class_weights import ClassWeights
from cphloc.structures.annotation import IGNORE, Annotation
from cphloc.structures.merging import MergedClasses, merged_annotation


def balance_losses(model: Model, cases: Iterable[PreparedCase], classes: Mapping[int, str]) -> None:
    """Set the class weights of every loss with ``class_weights: balanced``; without any, no case is read.

    Args:
        model: its losses are changed in place.
        cases: preprocessed training cases.
        classes: classes of the data set, number 1..K -> name.

    Raises:
        InputError: no training case has a mask.
    """
    for name, head in model.heads.items():
        losses = [m for m in head.modules() if isinstance(m, ClassWeights) and m.balanced]
        if not losses:
            continue
        merging = model.mergings.get(name)
        of_head = classes if merging is None else MergedClasses(classes, {"mask": merging})
        number = len(classes if merging is None else merging.classes)
        annotations = [_mask_of(case, of_head, len(classes)) for case in cases]
        masked = [a for a in annotations if a.mask is not None]
        if not masked:
            msg = f"model.heads.{name}: class_weights: balanced needs training cases with a mask; state numbers"
            raise InputError(msg)
        for loss in losses:
            loss.set_frequencies(frequencies(masked, number).tolist())


def frequencies(annotations: Iterable[Annotation], classes: int) -> np.ndarray:
    """Return the fraction of the annotated voxels of background and each class ``(1 + K,)``.

    A class counts in the cases in which it was looked for; the background is what the classes leave.
    """
    voxels, annotated = np.zeros(classes), np.zeros(classes)
    for annotation in annotations:
        mask = np.asarray(annotation.mask)
        known = np.ones(classes, bool) if annotation.mask_known is None else annotation.mask_known
        voxels += known * np.bincount(mask.ravel(), minlength=256)[1 : classes + 1]
        annotated += known * np.count_nonzero(mask != IGNORE)
    shares = voxels / np.maximum(annotated, 1)
    return np.concatenate([[max(1 - shares.sum(), 0)], shares])


def _mask_of(case: PreparedCase, classes: Mapping[int, str], number: int) -> Annotation:
    return merged_annotation(case.annotation.completed(case.image.shape[1:], number), classes)
