"""Check that an annotation in DICOM belongs to the image that it is used with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cphloc.data.io.dicom_file import read_dicom_file
from cphloc.data.io.dicom_slices import parsing
from cphloc.data.io.formats import is_dicom, split_series
from cphloc.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

_TAGS = ("FrameOfReferenceUID", "SeriesInstanceUID", "Rows", "Modality")


class Origin(NamedTuple):
    """Frame of reference and series of a DICOM image; empty text where the tag is missing."""

    frame: str
    series: str


def check_origin(path: Path, annotation: Dataset, images: Sequence[str]) -> None:
    """Check that an RTSTRUCT or SEG was drawn on one of ``images``: in its frame of reference, else on its series.

    Images in other formats, and files without these tags, cannot be checked and are accepted.

    Args:
        path: file of the annotation, for the message.
        annotation: the RTSTRUCT or SEG.
        images: files or folders of the image, as ``folder#UID`` where a folder holds several series.

    Raises:
        DataError: the annotation belongs to another image.
    """
    frames, series = _frames(annotation), _series(annotation)
    known = [origin for image in images if (origin := _origin(image)) is not None]
    for name, mine, theirs in (
        ("FrameOfReferenceUID", frames, {origin.frame for origin in known} - {""}),
        ("SeriesInstanceUID", series, {origin.series for origin in known} - {""}),
    ):
        if mine and theirs:
            if not mine & theirs:
                msg = (
                    f"{path}: belongs to another image: its {name} is {', '.join(sorted(mine))}, that of {images[0]} "
                    f"{', '.join(sorted(theirs))}; pass the annotation of this image"
                )
                raise DataError(msg)
            return


def _frames(annotation: Dataset) -> set[str]:
    """Frames of reference in which an annotation is stated."""
    regions = annotation.get("StructureSetROISequence") or []
    stated = {str(roi.get("ReferencedFrameOfReferenceUID") or "") for roi in regions}
    if not stated - {""}:
        listed = annotation.get("ReferencedFrameOfReferenceSequence") or []
        stated = {str(item.get("FrameOfReferenceUID") or "") for item in listed}
    if not stated - {""}:
        stated = {str(annotation.get("FrameOfReferenceUID") or "")}
    return stated - {""}


def _series(annotation: Dataset) -> set[str]:
    """Series that an annotation refers to."""
    referenced = [*(annotation.get("ReferencedSeriesSequence") or [])]
    for frame in annotation.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            referenced += study.get("RTReferencedSeriesSequence") or []
    return {str(item.get("SeriesInstanceUID") or "") for item in referenced} - {""}


def _origin(image: str) -> Origin | None:
    """Origin of a DICOM image; ``None`` for an image in another format."""
    name, uid = split_series(image)
    for file in _files(name):
        try:
            with parsing(file):
                header = read_dicom_file(file, stop_before_pixels=True, specific_tags=list(_TAGS))
                found = Origin(*(str(header.get(tag) or "").strip() for tag in _TAGS[:2]))
        except DataError:
            continue
        if "Rows" in header and header.get("Modality") != "SEG" and uid in (None, found.series):
            return found
    return None


def _files(path: Path) -> Iterator[Path]:
    """DICOM files of an image."""
    if path.is_dir():
        yield from (p for p in sorted(path.rglob("*")) if p.is_file() and _looks_like_dicom(p))
    elif path.is_file() and _looks_like_dicom(path):
        yield path


def _looks_like_dicom(path: Path) -> bool:
    try:
        return is_dicom(path)
    except OSError:
        return False
