"""Write masks as DICOM SEG, which DICOM viewers display over the image series."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cphloc import __version__
from cphloc.data.io.dicom_stack import stack_grid
from cphloc.data.io.overlay import class_color
from cphloc.data.io.read_dicom import read_slices
from cphloc.errors import DataError, InputError, needs
from cphloc.files import atomic
from cphloc.structures.geometry import Geometry
from cphloc.structures.segment_codes import SegmentCode, Triple

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from highdicom.sr import CodedConcept
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
    codes: Mapping[str, SegmentCode] | None = None,
    weights: Sequence[str] = (),
) -> None:
    """Write a class mask as a binary DICOM SEG that references its image series.

    Each segment has the code and the side of its class, the colour that pictures show it in, and the model that
    predicted it. A class without a code gets one of the private scheme ``99CPHLOC``.

    Args:
        path: file to write.
        mask: class mask ``(*S)``, 0 for background; a class without voxels becomes a segment without frames.
        geometry: grid of ``mask``, which must equal that of the series.
        source: folder or file of the image series.
        classes: class number -> name.
        algorithm: name of the model that predicted the mask.
        version: version of the model.
        series: SeriesInstanceUID; required where the folder contains several series.
        codes: class name -> its code.
        weights: SHA-256 of the weights of each model; written as parameters of the algorithm.

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
            described = _descriptions(classes, algorithm, version, codes or {}, weights)
            segmentation = _segmentation(headers, labels, described, algorithm, version)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        msg = (
            f"{source}: cannot be the source of a DICOM SEG ({' '.join(str(error).split())}); write the mask as .nii.gz"
        )
        raise DataError(msg) from error
    with atomic(path) as temporary:
        segmentation.save_as(temporary)


def _segmentation(
    headers: list[Dataset], labels: np.ndarray, described: list[SegmentDescription], algorithm: str, version: str
) -> Segmentation:
    with needs("a DICOM SEG"):
        import highdicom
    from pydicom.uid import generate_uid

    return highdicom.seg.Segmentation(
        source_images=headers,
        pixel_array=labels,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        omit_empty_frames=bool(labels.any()),
        series_instance_uid=generate_uid(),
        series_number=int(headers[0].get("SeriesNumber") or 0) + 100,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="cphloc",
        manufacturer_model_name=algorithm[:64],
        software_versions=version[:64],
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description=f"Predicted by {algorithm} {version}"[:64],
        series_description=f"Segmentation by {algorithm} {version}"[:64],
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


def _descriptions(
    classes: Mapping[int, str],
    algorithm: str,
    version: str,
    codes: Mapping[str, SegmentCode],
    weights: Sequence[str],
) -> list[SegmentDescription]:
    """Segment descriptions, one per class, with code, colour and algorithm."""
    with needs("a DICOM SEG"):
        import highdicom
    from pydicom.sr.codedict import codes as known

    made_by = highdicom.AlgorithmIdentificationSequence(
        name=algorithm[:64],
        version=version[:64],
        family=known.DCM.ArtificialIntelligence,
        parameters={"weights_sha256": " ".join(filter(None, weights)) or "none", "cphloc": __version__},
    )
    described = []
    for segment, (number, name) in enumerate(classes.items(), start=1):
        code = codes.get(name) or SegmentCode(_PRIVATE_CATEGORY, (_PRIVATE, name[:16], name[:64]))
        description = highdicom.seg.SegmentDescription(
            segment_number=segment,
            segment_label=name[:64],
            segmented_property_category=_concept(code.category),
            segmented_property_type=_concept(code.type),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=made_by,
            display_color=highdicom.color.CIELabColor.from_string(class_color(number)),
        )
        if code.modifiers:
            item = description.SegmentedPropertyTypeCodeSequence[0]
            item.SegmentedPropertyTypeModifierCodeSequence = [_concept(modifier) for modifier in code.modifiers]
        described.append(description)
    return described


_PRIVATE = "99CPHLOC"
_PRIVATE_CATEGORY = ("SCT", "309825002", "Spatial and Relational Concept")


def _concept(triple: Triple) -> CodedConcept:
    from highdicom.sr import CodedConcept

    scheme, value, meaning = triple
    return CodedConcept(value, scheme, meaning)
