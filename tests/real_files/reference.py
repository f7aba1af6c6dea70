"""Read images with pydicom, nibabel and SimpleITK, as voxels and corner positions to compare with cphloc."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset


@dataclass(frozen=True, eq=False)
class Image:
    """What a reference reader finds in a file.

    Args:
        array: ``(C, *S)``.
        corners: ``(2^D, 3)`` LPS positions in mm of the centres of the corner voxels, in the order of
            `corner_indices`; ``None`` where the file states no place.
        spacing_mm: voxel size in array order; ``None`` where the file states none.
        ignored: voxels ``(*S)`` that readers treat differently by convention, such as padding.
    """

    array: np.ndarray
    corners: np.ndarray | None = None
    spacing_mm: tuple[float, ...] | None = None
    ignored: np.ndarray | None = None


def corner_indices(shape: tuple[int, ...]) -> np.ndarray:
    """Array indices ``(2^D, D)`` of the corner voxels."""
    return np.array(list(itertools.product(*((0, n - 1) for n in shape))))


def by_simpleitk(path: Path) -> Image:
    """Read NRRD, MetaImage or a picture."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    channels = image.GetNumberOfComponentsPerPixel()
    array = array[None] if channels == 1 else np.moveaxis(array, -1, 0)
    if path.suffix.lower() in (".png", ".jpg", ".bmp", ".tif"):
        return Image(array[:1] if (array == array[:1]).all() else array)  # grey BMP has a palette
    indices = corner_indices(array.shape[1:])[:, ::-1].tolist()
    return Image(array, np.array([image.TransformIndexToPhysicalPoint(i) for i in indices]))


def by_nibabel(path: Path) -> Image:
    """Read NIfTI; the 4th or the 5th axis become channels."""
    import nibabel

    image = nibabel.load(path)
    if isinstance(image, nibabel.AnalyzeImage) and not isinstance(image, nibabel.Nifti1Pair):
        msg = "ANALYZE 7.5 has no orientation"
        raise ValueError(msg)
    values = np.asanyarray(image.dataobj)
    if values.dtype.names:
        values = np.stack([values[name] for name in values.dtype.names[:3]], axis=-1)[..., None, :].squeeze()
    shape = values.shape[:3]
    array = values.reshape(*shape, -1, order="F").transpose(3, 2, 1, 0)
    corners = corner_indices(array.shape[1:])[:, ::-1]
    scale = {"meter": 1000.0, "micron": 1e-3}.get(image.header.get_xyzt_units()[0], 1.0)
    places = (corners @ image.affine[:3, :3].T + image.affine[:3, 3]) * scale
    return Image(array, places * [-1, -1, 1])


def by_pydicom(path: Path) -> Image:
    """Read one DICOM file: real values or RGB; Hounsfield units from -1024, radiographs bright where dense."""
    from pydicom import dcmread
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

    dataset = dcmread(path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    for name in ("RescaleSlope", "RescaleIntercept"):
        if "PerFrameFunctionalGroupsSequence" in dataset and name not in dataset:
            setattr(dataset, name, _of_groups(dataset, name))
    stored = dataset.pixel_array
    if "PerFrameFunctionalGroupsSequence" in dataset and stored.ndim > 2:
        stored = stored[_frame_order(dataset)]
    padding = dataset.get("PixelPaddingValue")
    ignored = None if padding is None else stored == np.asarray(int(padding)).astype(stored.dtype)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(stored, dataset)[..., :3]
    elif dataset.PhotometricInterpretation == "MONOCHROME1" and dataset.Modality not in ("CT", "PT", "NM"):
        highest = -1 if dataset.PixelRepresentation else (1 << dataset.BitsStored) - 1
        values = apply_modality_lut(highest - stored.astype(np.int64), dataset)
    else:
        values = apply_modality_lut(stored, dataset)
    if dataset.get("Modality") == "CT":
        values = np.maximum(values.astype(np.float64), -1024)
    if int(dataset.get("SamplesPerPixel", 1)) == 3 or dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = np.moveaxis(values, -1, 0)
    else:
        values = values[None]
    spacing = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing")
    spacing = None if not spacing or values.ndim > 3 else tuple(map(float, spacing))
    return Image(values, None, spacing, ignored)


def _of_groups(dataset: Dataset, name: str) -> float:
    """Value of the functional groups, which must be the same for all frames."""
    groups = [*dataset.get("SharedFunctionalGroupsSequence", ()), *dataset.PerFrameFunctionalGroupsSequence]
    found = {float(g.PixelValueTransformationSequence[0][name].value) for g in groups if _RESCALED in g}
    (value,) = found or {1.0 if name == "RescaleSlope" else 0.0}
    return value


def _frame_order(dataset: Dataset) -> np.ndarray:
    """Indices of the frames along the normal of the image plane."""
    groups, shared = dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence[0]
    item = shared if "PlaneOrientationSequence" in shared else groups[0]
    along = np.array(item.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    normal = np.cross(along[:3], along[3:])
    places = [np.array(g.PlanePositionSequence[0].ImagePositionPatient, float) @ normal for g in groups]
    return np.argsort(places)


_RESCALED = "PixelValueTransformationSequence"

READERS: dict[str, tuple[tuple[str, ...], Callable[[Path], Image]]] = {
    "nibabel": ((".nii", ".nii.gz", ".hdr"), by_nibabel),
    "SimpleITK": ((".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".jpg", ".bmp", ".tif"), by_simpleitk),
    "pydicom": (("",), by_pydicom),
}
"""Reference readers: name -> (suffixes, function); the first that fits is used."""


def reader_of(path: Path) -> tuple[str, Callable[[Path], Image]]:
    """Return the name and the function of the reference reader of a file."""
    return next((n, read) for n, (suffixes, read) in READERS.items() if path.name.lower().endswith(suffixes))
