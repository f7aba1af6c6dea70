from __future__ import annotations

import copy
from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentationTypeValues
from synthetic_dicom import UPRIGHT, oblique, write_series

from cphloc.data.case import AnnotationSource, Case, read_case
from cphloc.data.io.read import read_volume
from cphloc.data.io.read_dicom import read_slices
from cphloc.data.io.read_dicom_seg import read_segments
from cphloc.data.io.write import write_mask
from cphloc.data.io.write_dicom_seg import _descriptions, write_dicom_seg
from cphloc.errors import DataError

CLASSES = {1: "liver", 2: "tumour"}
FLIPPED = np.array([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@pytest.fixture(params=[UPRIGHT, oblique(), FLIPPED], ids=["axial", "oblique", "flipped"])
def series(request, tmp_path):
    write_series(tmp_path / "ct", np.zeros((6, 12, 16), np.int16), orientation=request.param)
    return tmp_path / "ct"


def labels(shape) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[1, 2:5, 3:9], mask[4, 2:7, 3:5], mask[4, 9, 15] = 1, 1, 2
    return mask


def reversed_frames(path) -> None:
    """Write the frames of a binary SEG in the opposite order."""
    dataset = pydicom.dcmread(path)
    frames = dataset.pixel_array[::-1]
    dataset.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    dataset.PerFrameFunctionalGroupsSequence = list(dataset.PerFrameFunctionalGroupsSequence)[::-1]
    dataset.save_as(path)


def test_sparse_and_unordered_frames_find_their_slices(series, tmp_path):
    geometry = read_volume(series).geometry
    mask = labels(geometry.shape)
    write_dicom_seg(tmp_path / "seg.dcm", mask, geometry, series, CLASSES)
    assert int(pydicom.dcmread(tmp_path / "seg.dcm").NumberOfFrames) == 3
    for _ in range(2):
        found = read_segments(tmp_path / "seg.dcm", geometry)
        for number, name in CLASSES.items():
            np.testing.assert_array_equal(found[name], mask == number)
        reversed_frames(tmp_path / "seg.dcm")


@pytest.mark.parametrize("kind", [SegmentationTypeValues.FRACTIONAL, SegmentationTypeValues.LABELMAP])
def test_fractions_count_from_one_half_and_label_maps_by_value(series, tmp_path, kind):
    geometry = read_volume(series).geometry
    mask = labels(geometry.shape)
    pixels = mask if kind is SegmentationTypeValues.LABELMAP else np.stack([mask == 1, mask == 2], -1) * 0.6
    if kind is SegmentationTypeValues.FRACTIONAL:
        pixels[0, 0, 0] = 0.4
    segmentation = highdicom.seg.Segmentation(
        source_images=[s.header for s in read_slices(series)],
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=_descriptions(CLASSES, "reader", "1", {}, ()),
        series_instance_uid=highdicom.UID(),
        series_number=2,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="n",
        software_versions="1",
        device_serial_number="1",
    )
    segmentation.save_as(tmp_path / "seg.dcm")
    found = read_segments(tmp_path / "seg.dcm", geometry)
    assert [int(found[name].sum()) for name in CLASSES.values()] == [int((mask == k).sum()) for k in CLASSES]


def test_a_seg_and_a_nifti_of_one_mask_are_the_same_annotation(series, tmp_path):
    geometry = read_volume(series).geometry
    mask = labels(geometry.shape)
    write_dicom_seg(tmp_path / "seg.dcm", mask, geometry, series, CLASSES)
    write_mask(tmp_path / "mask.nii.gz", mask, geometry)
    both = [
        AnnotationSource(mask=tmp_path / "seg.dcm", rois={"liver": 1, "tum*": 2}),
        AnnotationSource(mask=tmp_path / "mask.nii.gz"),
    ]
    first, second = (read_case(Case("a", "a", (series,), source))[1].mask for source in both)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, mask)
    with pytest.raises(DataError, match=r"seg.dcm: has no region named lung, only liver, tumour; correct `rois`"):
        read_case(Case("a", "a", (series,), AnnotationSource(mask=tmp_path / "seg.dcm", rois={"lung": 1})))


def test_another_grid_and_another_object_are_refused(series, tmp_path):
    geometry = read_volume(series).geometry
    write_dicom_seg(tmp_path / "seg.dcm", labels(geometry.shape), geometry, series, CLASSES)
    for other in (geometry.resampled((3.0, 1.4, 2.2)), geometry.crop((2, 0, 0), (3, 12, 16))):
        with pytest.raises(DataError, match=r"seg.dcm: pixels of frame \d are off the grid of the image"):
            read_segments(tmp_path / "seg.dcm", other)
    with pytest.raises(DataError, match="is not a DICOM SEG"):
        read_segments(next(series.iterdir()), geometry)
    content = (tmp_path / "seg.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut.dcm: cannot be read as DICOM"):
        read_segments(tmp_path / "cut.dcm", geometry)


def test_a_seg_of_a_single_image_lies_on_its_pixels(tmp_path):
    path = write_series(tmp_path / "ct", np.zeros((1, 12, 16), np.int16))[0]
    geometry = read_volume(path).geometry
    mask = labels((6, 12, 16))[4]
    write_dicom_seg(tmp_path / "seg.dcm", mask, geometry, path, CLASSES)
    found = read_segments(tmp_path / "seg.dcm", geometry)
    for number, name in CLASSES.items():
        np.testing.assert_array_equal(found[name], mask == number)


def test_a_segment_without_a_frame_is_unknown_and_a_file_needs_no_suffix(series, tmp_path):
    geometry = read_volume(series).geometry
    write_dicom_seg(tmp_path / "seg.dcm", np.uint8(labels(geometry.shape) == 1), geometry, series, {1: "liver"})
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    other = copy.deepcopy(dataset.SegmentSequence[0])
    other.SegmentNumber, other.SegmentLabel = 2, "tumour"
    dataset.SegmentSequence.append(other)
    dataset.save_as(tmp_path / "segmentation")
    source = AnnotationSource(mask=tmp_path / "segmentation", rois={"liver": 1, "tumour": 2}, known=(True, True))
    found = read_case(Case("a", "a", (series,), source))[1].completed(geometry.shape, 2)
    assert found.mask_known.tolist() == [True, False]
    np.testing.assert_equal(found.label.tolist(), [1, np.nan])


def test_a_seg_of_another_image_is_refused(series, tmp_path):
    geometry = read_volume(series).geometry
    write_dicom_seg(tmp_path / "seg.dcm", labels(geometry.shape), geometry, series, CLASSES)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    dataset.FrameOfReferenceUID = "1.2.9"
    dataset.save_as(tmp_path / "seg.dcm")
    source = AnnotationSource(mask=tmp_path / "seg.dcm", rois={"liver": 1})
    with pytest.raises(
        DataError, match=r"seg.dcm: belongs to another image: its FrameOfReferenceUID is 1.2.9, that of"
    ):
        read_case(Case("a", "a", (series,), source))


def test_a_seg_of_thicker_slices_is_refused_on_dicom_and_nifti(series, tmp_path):
    geometry = read_volume(series).geometry
    write_dicom_seg(tmp_path / "seg.dcm", labels(geometry.shape), geometry, series, CLASSES)
    thin = geometry.resampled((geometry.spacing_mm[0] / 3, *geometry.spacing_mm[1:]))
    first = geometry.edges_to_world(np.full((1, 3), 0.5))[0]  # every third thin slice is a slice of the SEG
    thin = replace(thin, origin_mm=tuple(first.tolist()))
    with pytest.raises(
        DataError, match=r"seg.dcm: its slices are [\d.]+ mm apart, 3 times as far as those of the image"
    ):
        read_segments(tmp_path / "seg.dcm", thin)


@pytest.mark.parametrize("tags", [(), ("SpacingBetweenSlices",), ("SpacingBetweenSlices", "SliceThickness")])
def test_a_sparse_seg_needs_no_tags_of_its_slices(series, tmp_path, tags):
    geometry = read_volume(series).geometry
    write_dicom_seg(tmp_path / "seg.dcm", labels(geometry.shape), geometry, series, CLASSES)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    for tag in tags:
        del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0][tag]
    dataset.save_as(tmp_path / "seg.dcm")
    found = read_segments(tmp_path / "seg.dcm", geometry)
    assert [int(found[name].sum()) for name in CLASSES.values()] == [28, 1]


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_frame_of_a_segment_that_is_not_listed_is_refused(series, tmp_path, kind):
    geometry = read_volume(series).geometry
    write_dicom_seg(tmp_path / "seg.dcm", labels(geometry.shape), geometry, series, CLASSES)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    if kind == "LABELMAP":
        frames = dataset.pixel_array
        numbers = [
            f.SegmentIdentificationSequence[0].ReferencedSegmentNumber for f in dataset.PerFrameFunctionalGroupsSequence
        ]
        dataset.PixelData = (frames * np.reshape(numbers, (-1, 1, 1))).astype(np.uint8).tobytes()
        dataset.SegmentationType, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = kind, 8, 8, 7
    dataset.SegmentSequence = dataset.SegmentSequence[:1]
    dataset.save_as(tmp_path / "seg.dcm")
    with pytest.raises(DataError, match=r"seg.dcm: frame 3 holds segment 2, which SegmentSequence does not list"):
        read_segments(tmp_path / "seg.dcm", geometry)


def test_a_segment_of_empty_frames_is_unknown_until_its_label_is_stated(series, tmp_path):
    geometry = read_volume(series).geometry
    mask = labels(geometry.shape)
    write_dicom_seg(tmp_path / "seg.dcm", mask, geometry, series, CLASSES)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    frames = dataset.pixel_array
    frames[2] = 0
    dataset.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    dataset.save_as(tmp_path / "seg.dcm")
    source = AnnotationSource(mask=tmp_path / "seg.dcm", rois={"liver": 1, "tumour": 2}, known=(True, True))
    for label, expected in ((None, [1, np.nan]), ((1.0, 0.0), [1, 0])):
        case = Case("a", "a", (series,), replace(source, label=label))
        np.testing.assert_equal(read_case(case)[1].completed(geometry.shape, 2).label.tolist(), expected)


def test_overlapping_regions_and_a_name_in_other_letters_are_said(series, tmp_path, caplog):
    geometry = read_volume(series).geometry
    mask = labels(geometry.shape)
    write_dicom_seg(tmp_path / "seg.dcm", mask, geometry, series, CLASSES)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    frames = dataset.pixel_array
    groups = dataset.PerFrameFunctionalGroupsSequence
    groups[1].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 2
    groups[1].PlanePositionSequence[0].ImagePositionPatient = groups[0].PlanePositionSequence[0].ImagePositionPatient
    overlap = int((frames[0] & frames[1]).sum())
    dataset.save_as(tmp_path / "seg.dcm")
    source = AnnotationSource(mask=tmp_path / "seg.dcm", rois={"liver": 1, "tumour": 2}, known=(True, True))
    read_case(Case("a", "a", (series,), source))
    assert overlap > 0
    assert f"region 'tumour' overlaps other classes in {overlap} voxels" in caplog.text
    read_case(Case("a", "a", (series,), replace(source, rois={"liver": 1, "Tumour": 2})))
    assert "has no drawn region for Tumour: unknown in this image, not absent (did you mean 'tumour'?" in caplog.text
