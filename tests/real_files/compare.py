"""Compare what cphloc reads from a file with what a reference reader finds."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cphloc.data.case import AnnotationSource, Case, read_case
from cphloc.data.io.read import read_volume
from cphloc.errors import CphlocError, DataError
from cphloc.structures.volume import Volume

from .reference import Image, corner_indices, reader_of

Verdict = Literal["equal", "refused", "wrong"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        group: where the file comes from.
        file: its name.
        reader: reference reader.
        verdict: ``equal``, ``refused`` (with the reason) or ``wrong``.
        detail: size of the image, or the reason.
    """

    group: str
    file: str
    reader: str
    verdict: Verdict
    detail: str


def compare_image(group: str, path: Path, name: str) -> Row:
    """Compare one image."""
    reader, read = reader_of(path)
    with warnings.catch_warnings(action="ignore"):
        try:
            volume = read_volume(path)
        except DataError as error:
            return _refusal(group, path, name, reader, error)
        except Exception as error:
            return Row(group, name, reader, "wrong", f"{type(error).__name__}: {error}"[:200])
        try:
            expected = read(path)
        except Exception as error:
            return Row(group, name, reader, "wrong", f"the reference refuses it: {' '.join(str(error).split())[:150]}")
    difference = _difference(volume, expected)
    size = f"{len(volume.array)} x {'x'.join(map(str, volume.geometry.shape))} {volume.array.dtype}"
    return Row(group, name, reader, "wrong" if difference else "equal", difference or size)


def compare_regions(
    group: str, image: Path, regions: Path, name: str, expected: dict[str, np.ndarray], loose: bool
) -> Row:
    """Compare the regions of an RTSTRUCT or a SEG with the masks that they were written from.

    Args:
        group: see `Row`.
        image: the image they belong to.
        regions: the file.
        name: see `Row`.
        expected: name of the region -> mask ``(*S)`` in the slice order of the image.
        loose: whether the file holds contours, so that voxels on the contour may be in or out.
    """
    from scipy.ndimage import binary_dilation, binary_erosion

    for region, mask in expected.items():
        source = AnnotationSource(mask=regions, rois={region: 1})
        try:
            _, annotation = read_case(Case("a", "a", (image,), source), 3)
        except DataError as error:
            return _refusal(group, regions, name, group, error)
        assert annotation.mask is not None
        found = annotation.mask == 1
        if loose:
            flat = np.ones((1, 3, 3), bool)
            wrong = (found & ~binary_dilation(mask, flat)) | (binary_erosion(mask, flat) & ~found)
        else:
            wrong = found != mask
        if wrong.any():
            return Row(group, name, group, "wrong", f"{region}: {int(wrong.sum())} of {int(mask.sum())} voxels differ")
    sizes = ", ".join(f"{region} {int(mask.sum())} voxels" for region, mask in expected.items())
    return Row(group, name, group, "equal", sizes)


def _refusal(group: str, path: Path, name: str, reader: str, error: CphlocError) -> Row:
    """A refusal counts only where its message is one line that names the file and what to do."""
    text = str(error)
    if "\n" in text or not text.startswith(str(path)) or ";" not in text:
        return Row(group, name, reader, "wrong", f"message: {text[:200]}")
    return Row(group, name, reader, "refused", text.removeprefix(f"{path}: ").replace(str(path.parent), "..."))


def _difference(volume: Volume, expected: Image) -> str:
    """What differs; empty if nothing does."""
    found = volume.array
    if found.shape != expected.array.shape:
        return f"shape {found.shape} instead of {expected.array.shape}"
    same = np.isclose(found.astype(float), expected.array.astype(float), rtol=1e-5, atol=1e-6, equal_nan=True)
    if expected.ignored is not None:
        same |= expected.ignored
    if not same.all():
        return f"{int((~same).sum())} of {same.size} values differ"
    grid = volume.geometry
    if expected.spacing_mm is not None and not np.allclose(grid.spacing_mm, expected.spacing_mm, rtol=1e-4):
        return f"spacing {grid.spacing_mm} instead of {expected.spacing_mm}"
    if expected.corners is not None and grid.dims == 3:
        corners = grid.edges_to_world(corner_indices(grid.shape) + 0.5)
        off = float(np.abs(corners - expected.corners).max())
        if off > 0.01 * min(grid.spacing_mm) + 1e-4 * float(np.abs(corners).max()):
            return f"corners are off by {off:.3g} mm"
    return ""
