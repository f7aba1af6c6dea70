"""Objects that would vanish when their case is resampled for training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cphloc.data.case import checked, read_case
from cphloc.data.inspection.examine import Examined
from cphloc.data.inspection.findings import Finding
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.errors import InputError


def vanishing(cases: Sequence[Examined], preprocess: Preprocess, classes: int) -> list[tuple[Examined, Finding]]:
    """Return cases with objects that resampling would lose, or boxes that become thinner than a voxel.

    Only cases with an object that is thinner than two of the new voxels are read again.

    Args:
        cases: all cases.
        preprocess: resampling of the images.
        classes: number of classes K.
    """
    found = []
    for case in cases:
        if case.image is None or case.objects is None or not len(case.objects.extents):
            continue
        if not _may_lose(case, preprocess):
            continue
        lost, size = _lost(case, preprocess, classes)
        if lost:
            what = f"{lost} of {len(case.objects.extents)} objects"
            found.append((case, Finding("vanishes", f"{what} would vanish at {size}; training keeps a voxel of each")))
    return found


def _may_lose(case: Examined, preprocess: Preprocess) -> bool:
    if case.image is None or case.objects is None or (preprocess.spacing_mm and case.image.unit != "mm"):
        return False
    sizes = case.objects.extents * _scale(case, preprocess)
    return bool((sizes.min(axis=1) < 2).any()) and bool((_scale(case, preprocess) < 1).any())


def _scale(case: Examined, preprocess: Preprocess) -> np.ndarray:
    """New voxels per voxel of the case, by axis."""
    if case.image is None:
        return np.ones(preprocess.dims)
    scale = np.ones(preprocess.dims)
    if preprocess.spacing_mm:
        scale = scale * case.image.spacing_mm / np.asarray(preprocess.spacing_mm)
    if preprocess.fit:
        scale = scale * min(f / (n * s) for f, n, s in zip(preprocess.fit, case.image.shape, scale, strict=True))
    return scale


def _lost(case: Examined, preprocess: Preprocess, classes: int) -> tuple[int, str]:
    """Number of objects that vanish, and the new voxel size in words; none of a case that cannot be resampled."""
    try:
        volume, given = read_case(case.case, preprocess.dims)
        whole = checked(case.case, given, volume.geometry.shape, classes)
        grid = preprocess.frame(volume.geometry)
        size = f"{' x '.join(f'{s:.3g}' for s in grid.spacing_mm)} {grid.unit}"
        if given.mask is not None and whole.mask is not None:
            return preprocess.prepare_objects(whole.mask, volume.geometry)[1], size
        boxes = preprocess.prepare_boxes(whole.objects[0], volume.geometry)
    except InputError:
        return 0, ""
    return int((boxes[:, preprocess.dims :] - boxes[:, : preprocess.dims] < 1).any(axis=1).sum()), size
