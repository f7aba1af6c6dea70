"""Synthetic DICOM series for tests: any orientation, spacing, rescale, encoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def oblique(degrees: float = 20.0) -> np.ndarray:
    """Row direction and column direction ``(2, 3)``, tilted about two axes."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, s, 0.0], [-s * c, c * c, s]])


UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def image(pixels: np.ndarray, modality: str = "CT", series: str | None = None, **tags) -> FileDataset:
    """A single image of stored ``pixels`` (H, W); further tags by keyword, ``None`` leaves one out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": series or "1.2.3.4",
        "FrameOfReferenceUID": "1.2.3.5",
        "PatientID": "p1",
        "PatientName": "Test^Case",
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyDate": "",
        "StudyTime": "",
        "StudyID": "1",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "Modality": modality,
        "SeriesDescription": f"synthetic {modality}",
        "SeriesNumber": 1,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(),
    }
    for name, value in (values | tags).items():
        if value is not None:
            setattr(dataset, name, value)
    return dataset


def write_series(
    folder: Path,
    stored: np.ndarray,
    spacing_mm: tuple[float, float, float] = (3.0, 0.7, 1.1),
    origin_mm: tuple[float, float, float] = (-30.0, 20.0, 100.0),
    orientation: np.ndarray = UPRIGHT,
    seed: int = 0,
    **tags,
) -> list[Path]:
    """Write stored values (D, H, W) as a series whose file names and instance numbers say nothing of the order.

    A tag may be a list with one value per slice. SliceThickness is twice the distance, as in overlapping recons.
    """
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(*orientation)
    names = np.random.default_rng(seed).permutation(len(stored))
    paths = []
    for k, plane in enumerate(stored):
        own = {name: value[k] if isinstance(value, list) else value for name, value in tags.items()}
        position = np.asarray(origin_mm) + k * spacing_mm[0] * normal
        defaults = {
            "ImagePositionPatient": [f"{v:.8f}"[:16] for v in position],
            "ImageOrientationPatient": [f"{v:.12f}"[:16] for v in orientation.ravel()],
            "PixelSpacing": [spacing_mm[1], spacing_mm[2]],
            "SliceThickness": 2 * spacing_mm[0],
            "InstanceNumber": int(names[k]),
            "SliceLocation": float(names[k]),
        }
        paths.append(folder / f"{names[k]:04d}.dcm")
        image(plane, **(defaults | own)).save_as(paths[-1], enforce_file_format=True)
    return paths


def group(**tags) -> Dataset:
    """A data set of a sequence."""
    dataset = Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def write_rtstruct(
    path: Path, regions: dict[str, list | None], kind: str = "CLOSED_PLANAR", frame: str = "1.2.3", series: str = ""
) -> Path:
    """Write an RTSTRUCT: name -> contours of LPS points; ``None`` for a region that is listed without contours."""
    without = dict.fromkeys(("Rows", "Columns", "PixelData", "FrameOfReferenceUID"))
    dataset = image(np.zeros((1, 1), np.uint16), "RTSTRUCT", **without)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    if series:
        study = group(RTReferencedSeriesSequence=[group(SeriesInstanceUID=series)])
        dataset.ReferencedFrameOfReferenceSequence = [group(RTReferencedStudySequence=[study])]
    for number, (name, contours) in enumerate(regions.items(), 1):
        roi = group(ROINumber=number, ROIName=name)
        if frame:
            roi.ReferencedFrameOfReferenceUID = frame
        dataset.StructureSetROISequence.append(roi)
        if contours is None:
            continue
        drawn = [
            group(
                ContourGeometricType=kind,
                NumberOfContourPoints=len(points),
                ContourData=[f"{v:.4f}" for v in np.ravel(points)],
            )
            for points in contours
        ]
        own = group(ReferencedROINumber=number, **({"ContourSequence": drawn} if drawn else {}))
        dataset.ROIContourSequence.append(own)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.save_as(path, enforce_file_format=True)
    return path
