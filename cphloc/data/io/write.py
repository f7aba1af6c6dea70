"""Write predictions: masks and maps as images, boxes as tables. Files are written atomically."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cphloc.config import jsonio
from cphloc.config.tables import write_table
from cphloc.data.io.formats import WRITTEN_IMAGE_SUFFIXES
from cphloc.data.io.itk import encodable, quiet_stderr, to_itk
from cphloc.errors import DataError, InputError
from cphloc.files import atomic
from cphloc.structures.geometry import Geometry
from cphloc.structures.instances import ObjectMask


@dataclass(frozen=True, eq=False)
class CaseBoxes:
    """Predicted boxes of one image.

    Args:
        case: id of the case; `write_coco` stores it as ``file_name``.
        geometry: grid of the image.
        boxes: ``(n, 2 D)`` voxel edge coordinates ``[lo..., hi...]`` in array axis order.
        classes: class numbers ``(n,)``.
        scores: confidence scores ``(n,)`` in [0, 1].
        masks: voxels of each object, ``None`` for those that are not outlined.
    """

    case: str
    geometry: Geometry
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    masks: Sequence[ObjectMask | None] = ()


def write_mask(path: str | Path, mask: np.ndarray, geometry: Geometry) -> None:
    """Write a label mask in the format given by the suffix; see `cphloc.data.io.formats`.

    Args:
        path: file to write.
        mask: label mask ``(*S)`` of integers.
        geometry: grid of the mask.

    Raises:
        InputError: the suffix is not supported, the mask does not contain integers, or its shape differs from the grid.
        CphlocError: the file cannot be written.
    """
    if mask.dtype.kind not in "bui":
        msg = f"{path}: a mask must contain integers, got {mask.dtype}; take the argmax over classes, or use write_map"
        raise InputError(msg)
    smallest = np.uint8 if mask.size == 0 or (mask.min() >= 0 and mask.max() <= 255) else np.int32
    write_image(Path(path), mask.astype(smallest), geometry)


def write_map(path: str | Path, values: np.ndarray, geometry: Geometry) -> None:
    """Write a map of real numbers, such as attention or probabilities, as a float32 image; PNG is not supported.

    Args:
        path: file to write.
        values: map ``(*S)``.
        geometry: grid of the map.

    Raises:
        InputError: the suffix is not supported, or the shape differs from the grid.
        CphlocError: the file cannot be written.
    """
    if Path(path).suffix.lower() == ".png":
        msg = f"{path}: PNG cannot store real numbers; write .nii.gz, .nrrd or .mha"
        raise InputError(msg)
    write_image(Path(path), np.asarray(values, np.float32), geometry)


def write_volume(path: str | Path, values: np.ndarray, geometry: Geometry) -> None:
    """Write one channel of an image in its own type of numbers, with its geometry and no other facts.

    Args:
        path: file to write, ``.nii.gz``, ``.nrrd`` or ``.mha``.
        values: voxels ``(*S)``; types that ITK lacks are widened.
        geometry: grid of the image.

    Raises:
        InputError: the suffix is not supported, or the shape differs from the grid.
        CphlocError: the file cannot be written.
    """
    wider = {"b": np.uint8, "e": np.float32, "d": np.float32}
    write_image(Path(path), values.astype(wider.get(values.dtype.char.replace("?", "b"), values.dtype)), geometry)


def write_boxes_csv(path: str | Path, cases: Sequence[CaseBoxes], classes: Mapping[int, str]) -> None:
    """Write boxes as a CSV table, one row per box: case, class name and number, score, corners in mm and in voxels.

    ``x_lo_mm`` to ``z_hi_mm`` are the axis-aligned bounding box in LPS coordinates (larger than the box on an oblique
    grid), empty where the image has no physical size. ``slice_lo`` to ``column_hi`` are edge coordinates: a box around
    only the first voxel extends from 0 to 1.

    Args:
        path: file to write.
        cases: boxes of each image, all 2-D or all 3-D.
        classes: class number -> name.

    Raises:
        InputError: the cases contain both 2-D and 3-D images.
        CphlocError: the file cannot be written.
    """
    dims = {c.geometry.dims for c in cases}
    if len(dims) > 1:
        msg = f"{path}: 2-D and 3-D boxes cannot be written to one table; write two"
        raise InputError(msg)
    axes = ("slice", "row", "column")[-dims.pop() :] if dims else ("slice", "row", "column")
    world = ("x", "y", "z")[: len(axes)]
    columns = [f"{a}_{end}_mm" for end in ("lo", "hi") for a in world]
    columns += [f"{a}_{end}" for end in ("lo", "hi") for a in axes]
    columns = ["case", "class", "class_number", "score", *columns]
    with atomic(path) as temporary:
        write_table(temporary, columns, (row for case in cases for row in _rows(case, classes)))


def write_coco(path: str | Path, cases: Sequence[CaseBoxes], classes: Mapping[int, str]) -> None:
    """Write 2-D boxes as COCO JSON, each with ``bbox`` ``[x, y, width, height]`` in pixels and ``score``.

    Outlined objects also have a ``segmentation`` in run lengths.

    Args:
        path: file to write.
        cases: boxes of each image.
        classes: class number -> name; the numbers become category ids.

    Raises:
        InputError: an image is 3-D, which COCO does not support.
        CphlocError: the file cannot be written.
    """
    images, annotations = [], []
    for number, case in enumerate(cases, start=1):
        if case.geometry.dims != 2:
            msg = f"{path}: COCO supports only 2-D images and '{case.case}' is 3-D; write its boxes as CSV"
            raise InputError(msg)
        rows, columns = case.geometry.shape
        images.append({"id": number, "file_name": case.case, "width": columns, "height": rows})
        masks = case.masks or [None] * len(case.boxes)
        for box, value, score, mask in zip(case.boxes, case.classes, case.scores, masks, strict=True):
            top, left, bottom, right = map(float, box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(value),
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": 0,
                    "score": float(score),
                    **({} if mask is None else {"segmentation": run_lengths(mask, (rows, columns)), "area": mask.size}),
                }
            )
    categories = [{"id": number, "name": name} for number, name in classes.items()]
    with atomic(path) as temporary:
        content = {"images": images, "categories": categories, "annotations": annotations}
        temporary.write_text(jsonio.dumps(content, indent=1), encoding="utf-8")


def run_lengths(mask: ObjectMask, shape: tuple[int, int]) -> dict[str, Any]:
    """Encode an object as COCO does: lengths of runs in column order, beginning with background.

    >>> run_lengths(ObjectMask((1, 0), np.ones((1, 2), bool)), (3, 2))
    {'size': [3, 2], 'counts': [1, 1, 2, 1, 1]}
    """
    whole = np.zeros(shape, bool)
    whole[mask.where] = mask.inside
    flat = whole.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return {"size": list(shape), "counts": counts.tolist()}


def _rows(case: CaseBoxes, classes: Mapping[int, str]) -> Iterator[list[Any]]:
    dims = case.geometry.dims
    enclosed = case.geometry.boxes_to_world(case.boxes)
    for box, millimetres, value, score in zip(case.boxes, enclosed, case.classes, case.scores, strict=True):
        corners = [f"{v:.3f}" for v in millimetres] if case.geometry.unit == "mm" else [""] * (2 * dims)
        about = [case.case, classes[int(value)], int(value), f"{float(score):.6g}"]
        yield [*about, *corners, *(f"{float(v):.3f}" for v in box)]


def write_image(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    """Write an image of one channel with its own type of numbers, in the format given by the suffix.

    Args:
        path: file to write.
        array: voxels ``(*S)``.
        geometry: grid of the image.

    Raises:
        InputError: the suffix is not supported, or the shape differs from the grid.
        CphlocError: the file cannot be written.
    """
    if array.shape != geometry.shape:
        msg = f"{path}: array of shape {array.shape} does not match its grid of shape {geometry.shape}"
        raise InputError(msg)
    if not path.name.endswith(WRITTEN_IMAGE_SUFFIXES) or (path.suffix.lower() == ".png" and geometry.dims != 2):
        msg = f"{path}: {geometry.dims}-D images are written as {', '.join(WRITTEN_IMAGE_SUFFIXES)} (PNG in 2-D only)"
        raise InputError(msg)
    with atomic(path) as temporary:
        if path.suffix.lower() == ".png":
            _write_png(temporary, array)
        else:
            _write_itk(temporary, array, geometry)


def _write_png(path: Path, labels: np.ndarray) -> None:
    from PIL import Image

    if labels.dtype != np.uint8 and not 0 <= labels.min() <= labels.max() < 2**16:
        msg = f"{path}: PNG masks can store labels from 0 to 65535, got {labels.max()}; write .nii.gz"
        raise InputError(msg)
    Image.fromarray(labels if labels.dtype == np.uint8 else labels.astype(np.uint16)).save(path)


def _write_itk(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    """Write an image and read it back to verify it; ITK does not report every failed write, such as a full disk."""
    import SimpleITK as sitk

    from cphloc.data.io.read import read_volume

    try:
        with quiet_stderr(), encodable(path, write=True) as name:
            sitk.WriteImage(to_itk(array, geometry), name, useCompression=True)
        whole = np.array_equal(read_volume(path).array[0], array, equal_nan=array.dtype.kind == "f")
    except (RuntimeError, DataError):
        whole = False
    if not whole:
        msg = "the file was written incompletely"
        raise OSError(msg)
