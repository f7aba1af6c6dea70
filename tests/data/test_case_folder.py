"""Cases of folders without a table, in the layouts that people use."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from cphloc.data.case_folder import find_cases
from cphloc.errors import DataError

LAYOUTS = {
    "two folders": (["images/a.jpg", "images/b.jpg", "masks/a.png"], [("images/a.jpg", "masks/a.png", "")]),
    "splits above": (
        ["train/images/a.png", "train/labels/a.png"],
        [("train/images/a.png", "train/labels/a.png", "train")],
    ),
    "splits below": (["images/valid/a.png", "masks/valid/a.png"], [("images/valid/a.png", "masks/valid/a.png", "val")]),
    "one folder": (["a.nii.gz", "a_seg.nii.gz", "b.nii.gz"], [("a.nii.gz", "a_seg.nii.gz", "")]),
    "both named": (["a_image.nii.gz", "a_label.nii.gz"], [("a_image.nii.gz", "a_label.nii.gz", "")]),
    "slicer": (["scan1.nrrd", "scan1.seg.nrrd"], [("scan1.nrrd", "scan1.seg.nrrd", "")]),
    "a folder each": (
        ["p1/image.nii.gz", "p1/mask.nii.gz", "p2/image.nii.gz", "p2/mask.nii.gz"],
        [("p1/image.nii.gz", "p1/mask.nii.gz", ""), ("p2/image.nii.gz", "p2/mask.nii.gz", "")],
    ),
    "two endings": (
        ["images/a.png", "images/b.png", "images/a.jpg", "masks/a.png", "masks/b.png"],
        [("images/a.png", "masks/a.png", ""), ("images/b.png", "masks/b.png", "")],
    ),
    "previews": (
        ["images/a.nii.gz", "images/b.nii.gz", "images/a.png", "masks/a.nii.gz", "masks/b.nii.gz"],
        [("images/a.nii.gz", "masks/a.nii.gz", ""), ("images/b.nii.gz", "masks/b.nii.gz", "")],
    ),
}


def put(root, files):
    """Make empty files."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_are_paired_with_the_mask_of_their_name(tmp_path, layout):
    files, wanted = LAYOUTS[layout]
    put(tmp_path, [*files, "README.md", ".hidden/images/c.png"])
    rows = find_cases(tmp_path)
    assert [(row["image"], row["mask"], row["split"]) for row in rows] == wanted
    assert len({row["case"] for row in rows}) == len(rows)


def test_folders_of_one_mask_and_images_of_equal_names_are_channels(tmp_path):
    put(tmp_path, [f"{p}/{p}_{what}.nii.gz" for p in ("B1", "B2") for what in ("t1", "flair", "seg")])
    assert find_cases(tmp_path)[1] == {
        "case": "B2",
        "split": "",
        "image_flair": "B2/B2_flair.nii.gz",
        "image_t1": "B2/B2_t1.nii.gz",
        "mask": "B2/B2_seg.nii.gz",
    }


def test_folders_of_pictures_without_masks_are_labels(tmp_path):
    put(
        tmp_path,
        [f"{split}/{name}/{k}.png" for split in ("train", "test") for name in ("cat", "dog") for k in range(3)],
    )
    rows = find_cases(tmp_path)
    assert {(row["image"], row["label"], row["split"]) for row in rows} >= {("test/dog/2.png", "dog", "test")}
    assert len(rows) == 12


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "contains no image"),
        (["a.png", "b.png"], "2 images and no annotation; put masks of the same names into a folder 'masks'"),
        (["images/a.png", "masks/b.png"], "none of the 1 masks"),
        (["masks/a.png"], "masks but no images"),
    ],
)
def test_what_is_missing_is_said(tmp_path, files, said):
    put(tmp_path, files)
    with pytest.raises(DataError, match=said):
        find_cases(tmp_path)


def dicom(path, modality, uid, patient, refers=None):
    """A DICOM header."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = Dataset()
    header.file_meta = meta
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"{uid}.{len(str(path))}"
    header.Modality, header.SeriesInstanceUID, header.PatientID = modality, uid, patient
    if refers is None:
        header.Rows = header.Columns = 2
    elif modality == "SEG":
        header.Rows = header.Columns = 2
        header.ReferencedSeriesSequence = [Dataset()]
        header.ReferencedSeriesSequence[0].SeriesInstanceUID = refers
    else:
        frame, study, series = Dataset(), Dataset(), Dataset()
        series.SeriesInstanceUID = refers
        study.RTReferencedSeriesSequence = [series]
        frame.RTReferencedStudySequence = [study]
        header.ReferencedFrameOfReferenceSequence = [frame]
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)


def test_dicom_series_are_paired_with_the_regions_that_refer_to_them(tmp_path):
    dicom(tmp_path / "one/CT/1", "CT", "1.2.1", "Anna")
    dicom(tmp_path / "one/CT/2", "CT", "1.2.1", "Anna")
    dicom(tmp_path / "one/RT/rs", "RTSTRUCT", "1.2.9", "Anna", refers="1.2.1")
    dicom(tmp_path / "two/all/1.dcm", "MR", "1.3.1", "Berta")
    dicom(tmp_path / "two/all/2.dcm", "MR", "1.3.2", "Berta")
    dicom(tmp_path / "two/all/3.dcm", "SEG", "1.3.9", "Berta", refers="1.3.2")
    rows = find_cases(tmp_path)
    assert [(row["image"], row["mask"], row["patient"]) for row in rows] == [
        ("one/CT", "one/RT/rs", "Anna"),
        ("two/all#1.3.2", "two/all/3.dcm", "Berta"),
    ]
