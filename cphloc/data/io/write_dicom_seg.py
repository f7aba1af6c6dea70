"""Write masks as DICOM SEG, which DICOM viewers display over the image series."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cphloc.data.io.dicom_stack import stack_grid
from cphloc.data.io.read_dicom import read_slices
from cphloc.errors import DataError, InputError
from cphloc.paths import atomic
from cphloc.structures.geometry import Geometry

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom import Dataset


def write_dicom_seg(
    path: str | Path,
    mask: np.ndarray,
    geometry: Geometry,
    source: str | Path,
    classes: Mapping[int, str],
    algorithm: str = "cphloc",
    version: str = "0",
    series: str | None = None,
) -> None:
    """Write a class mask as a binary DICOM SEG that references its image series.

    Args:
        path: file to write.
        mask: class mask ``(*S)``, 0 for background; a class without voxels becomes a segment without frames.
        geometry: grid of ``mask``, which must equal that of the series.
        source: folder or file of the image series.
        classes: class number -> name.
        algorithm: name of the model that predicted the mask.
        version: version of the model.
        series: SeriesInstanceUID; required where the folder contains several series.

    Raises:
        InputError: ``classes`` is empty, or the mask contains a class without a name.
        DataError: the mask is on another grid than the series, or the series lacks tags that a SEG must copy.
        CphlocError: the file cannot be written.
    """
    source = Path(source)
    slices = read_slices(source, series)
    if not stack_grid(source, slices).same_grid(geometry):
        msg = f"{source}: its grid differs from that of the mask; resample the mask to it (restore_mask)"
        raise DataError(msg)
    labels = _consecutive(path, mask.reshape(-1, *mask.shape[-2:]), classes)
    headers = [s.header for s in slices]
    if "NumberOfFrames" in headers[0]:  # a multi-frame file: sort the planes by frame number
        headers, labels = headers[:1], labels[np.argsort([s.frame for s in slices])]
    try:
        with warnings.catch_warnings(action="ignore"):
            segmentation = _segmentation(headers, labels, classes, algorithm, version)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        msg = (
            f"{source}: cannot be the source of a DICOM SEG ({' '.join(str(error).split())}); write the mask as .nii.gz"
        )
        raise DataError(msg) from error
    with atomic(path) as temporary:
        segmentation.save_as(temporary)


def _segmentation(
    headers: list[Dataset], labels: np.ndarray, classes: Mapping[int, str], algorithm: str, version: str
) -> Segmentation:
    import highdicom
    from pydicom.uid import generate_uid

    return highdicom.seg.Segmentation(
        source_images=headers,
        pixel_array=labels,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(classes, algorithm, version),
        series_instance_uid=generate_uid(),
        series_number=int(headers[0].get("SeriesNumber") or 0) + 100,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="cphloc",
        manufacturer_model_name=algorithm,
        software_versions=version,
        device_serial_number="0",
    )


def _consecutive(path: str | Path, mask: np.ndarray, classes: Mapping[int, str]) -> np.ndarray:
    """Replace class numbers by segment numbers 1, 2, 3 ... in the order of ``classes``."""
    unnamed = set(np.unique(mask).tolist()) - {0, *classes}
    if unnamed or not classes:
        msg = f"{path}: mask contains the classes {sorted(unnamed)} without a name; add them to classes"
        raise InputError(msg)
    labels = np.zeros(mask.shape, np.uint8)
    for segment, value in enumerate(classes, start=1):
        labels[mask == value] = segment
    return labels


def _descriptions(classes: Mapping[int, str], algorithm: str, version: str) -> list[SegmentDescription]:
    """Segment descriptions, one per class, with a generic category code because classes have no SNOMED code."""
    import highdicom
    from pydicom.sr.codedict import codes

    made_by = highdicom.AlgorithmIdentificationSequence(
        name=algorithm, version=version, family=codes.DCM.ArtificialIntelligence
    )
    return [
        highdicom.seg.SegmentDescription(
            segment_number=segment,
            segment_label=name[:64],
            segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
            segmented_property_type=highdicom.sr.CodedConcept(name[:16], "99CPHLOC", name[:64]),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=made_by,
        )
        for segment, name in enumerate(classes.values(), start=1)
    ]
