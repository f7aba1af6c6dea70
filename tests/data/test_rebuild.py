"""Data sets are built from small copies of their public sources, in the format of these."""

from __future__ import annotations

import dataclasses
import io
import zipfile

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from cphloc.cli import main
from cphloc.data import fetch as module
from cphloc.data.datasets.brain_t1c import BrainT1c
from cphloc.data.datasets.busi import Busi
from cphloc.data.datasets.openkbp import OpenKbp
from cphloc.data.fetch import SOURCES, fetch
from cphloc.data.rebuild import openkbp
from cphloc.errors import CphlocError, DataError, InputError

SPACING = (4.0, 5.0, 2.5)
"""As ``voxel_dimensions.csv`` states it: left, posterior and inferior."""


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("CPHLOC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_SHIPPED_SPLITS", tmp_path / "splits")
    (tmp_path / "splits").mkdir()


def table(tmp_path, name, text):
    (tmp_path / "splits" / f"{name}.csv").write_text(text)


def listed(volume, values):
    """Voxels of an array ``(posterior, left, inferior)`` in the format of the repository."""
    index = np.flatnonzero(volume)
    rows = zip(index, volume.ravel()[index], strict=True)
    return ",data\n" + "".join(f"{i},{float(v) if values else ''}\n" for i, v in rows)


@pytest.fixture
def patient():
    """A box of body, wide enough in the middle alone, with a thin rod above it and a contour."""
    ct = np.zeros((128, 128, 128))
    ct[40:80, 30:90, 50:90] = 1000.0  # 40 x 5 mm by 60 x 4 mm: 480 cm2
    ct[60, 60, 20:50] = 1.0  # a tube towards the head: 0.2 cm2
    ct[45, 31, 60] = 5000.0  # metal, above what 12 bits hold
    organ = np.zeros_like(ct)
    organ[50:52, 40, 70] = 1
    return {
        "ct.csv": listed(ct, values=True),
        "Brainstem.csv": listed(organ, values=False),
        "LeftParotid.csv": listed(np.roll(organ, 1, 0), values=False),
        "dose.csv": "not read",
        "voxel_dimensions.csv": "".join(f"{s:.18e}\n" for s in SPACING),
    }


def repository(patient, folder, numbers=(1,)):
    for number in numbers:
        place = folder / "provided-data" / "train-pats" / f"pt_{number}"
        place.mkdir(parents=True)
        for name, text in patient.items():
            (place / name).write_text(text)
    return folder


def test_openkbp_is_cropped_and_turned_as_described(tmp_path, patient, monkeypatch):
    source = repository(patient, tmp_path / "repository")
    table(tmp_path, "openkbp", "case,split,contoured,doubtful\npt_001,train,brainstem parotid_left,\n")
    kept = SOURCES["openkbp"]
    monkeypatch.setitem(SOURCES, "openkbp", dataclasses.replace(kept, fingerprint=None))
    folder = fetch("openkbp", source)
    image = sitk.ReadImage(str(folder / "images" / "pt_001.nii.gz"))
    hu = sitk.GetArrayFromImage(image)
    # the body with a margin of a voxel, but for the first axis: the slices beside the body hold too little of it
    assert hu.shape == (40, 42, 62)
    assert image.GetSpacing() == SPACING
    assert image.GetDirection() == (-1, 0, 0, 0, -1, 0, 0, 0, 1), "stored towards right, anterior and superior"
    assert np.unique(hu).tolist() == [-1024, -24, 3071]
    labels = sitk.ReadImage(str(folder / "labels" / "pt_001.nii.gz"))
    found = sitk.GetArrayFromImage(labels)
    assert np.unique(found, return_counts=True)[1].tolist() == [found.size - 3, 1, 2], "the later organ where both are"
    centre = np.array([(64 - 40) * SPACING[0], (51.0 - 59.5) * SPACING[1], (54.5 - 70) * SPACING[2]])
    # LPS position of voxel (51, 40, 70): relative to the middle of the body with its rod, left and posterior positive
    expected = ((40 - 59.5) * SPACING[0], (51 - 59.5) * SPACING[1], (54.5 - 70) * SPACING[2])
    place = np.argwhere(found == 4).max(0)
    low = np.argwhere(found == 4).min(0)
    points = [labels.TransformIndexToPhysicalPoint([int(v) for v in index[::-1]]) for index in (low, place)]
    assert any(np.allclose(point, expected) for point in points), (points, expected, centre)
    case = OpenKbp(str(folder)).cases("train")[0]
    assert case.annotation.known == (True, False, False, True, False, False, False)
    assert "MIT" in (folder / "SOURCE").read_text()
    assert not list(tmp_path.rglob("dose.csv"))[1:], "the dose is left out"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ct.csv", None, r"ct\.csv: no such file; the source is incomplete"),
        ("ct.csv", ",data\n99999999,3\n", "lies outside 128 x 128 x 128"),
        ("ct.csv", ",data\nx,y\n", "is not a list of voxels"),
        ("ct.csv", ",data\n5,0\n", "holds no body"),
        ("voxel_dimensions.csv", "1\n2\n", "does not hold three lengths"),
        ("voxel_dimensions.csv", "1\n2\n-1\n", "does not hold three lengths"),
    ],
)
def test_a_damaged_source_of_openkbp_is_one_line(tmp_path, patient, file, text, message):
    source = repository(patient, tmp_path / "repository")
    table(tmp_path, "openkbp", "case,split,contoured,doubtful\npt_001,train,,\n")
    place = next(source.rglob(file))
    place.unlink() if text is None else place.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        fetch("openkbp", source)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "data").glob("*")), "nothing is left behind"


def test_other_voxels_than_those_published_are_refused(tmp_path, patient):
    source = repository(patient, tmp_path / "repository")
    table(tmp_path, "openkbp", "case,split,contoured,doubtful\npt_001,train,,\n")
    with pytest.raises(CphlocError, match="contains other cases"):
        fetch("openkbp", source)
    assert not list((tmp_path / "data").glob("*"))


def test_the_longest_run_is_the_first_of_equals():
    assert openkbp._longest_run(np.array([1, 1, 0, 1, 1, 0, 1], bool)) == (0, 2)
    assert openkbp._longest_run(np.zeros(3, bool)) == (0, 0)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_busi_unites_the_masks_of_a_picture(tmp_path, kind, capsys):
    rng = np.random.default_rng(0)
    left, right = np.zeros((512, 512), np.uint8), np.zeros((512, 512), np.uint8)
    left[:100, :60], right[300:, 400:] = 255, 255
    files = {
        "benign/benign (7).png": png(rng.integers(0, 255, (512, 512, 3), np.uint8)),
        "benign/benign (7)_mask.png": png(left),
        "benign/benign (7)_mask_1.png": png(right),
        "normal/normal (12).png": png(rng.integers(0, 255, (512, 512), np.uint8)),
        "normal/normal (12)_mask.png": png(np.zeros((512, 512), np.uint8)),
    }
    rows = "benign_007,benign,1,0,train\nnormal_012,normal,1,1,train\n"
    table(tmp_path, "busi", f"case,class,has_mask,duplicate_cluster,split\n{rows}")
    source = tmp_path / ("copy.zip" if kind == "zip" else "copy")
    if kind == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            for name, content in files.items():
                archive.writestr(f"Dataset_BUSI_with_GT/{name}", content)
    else:
        for name, content in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
    assert main(["data", "fetch", "busi", "--from", str(source)]) == 0
    assert "CC BY 4.0" in capsys.readouterr().out
    assert source.exists(), "what the user downloaded stays"
    case = Busi(masks="all").cases("train")[0]
    mask = np.asarray(Image.open(case.annotation.mask))
    expected = (left | right)[::2, ::2]
    assert np.array_equal(mask, expected)
    assert Image.open(case.images[0]).size == (256, 256)


def test_brain_slices_come_from_their_matlab_files(tmp_path):
    import h5py

    source = tmp_path / "copy"
    source.mkdir()
    pixels = np.zeros((512, 512), np.int16)
    pixels[100:200, 300:340] = 1600
    with h5py.File(source / "7.mat", "w") as file:
        held = file.create_group("cjdata")
        held["image"] = pixels.T  # MATLAB stores columns first
        held["label"] = [[2.0]]
        # MATLAB's border is (row, column, row, column, ...)
        held["tumorBorder"] = np.array([[100.0, 300.0, 100.0, 339.0, 199.0, 339.0, 199.0, 300.0]])
    table(tmp_path, "brain_t1c", "case,label,split,patient\n0007,glioma,train,p1\n")
    folder = fetch("brain_t1c", source)
    mask = np.asarray(Image.open(folder / "masks" / "0007.png"))
    assert np.argwhere(mask).min(0).tolist() == [50, 150]
    assert np.argwhere(mask).max(0).tolist() == [99, 169]
    image = np.asarray(Image.open(folder / "images" / "0007.jpg"))
    assert image[75, 160] > 240
    assert image[10, 10] < 15
    assert BrainT1c(str(folder)).cases("train")[0].annotation.label is not None
    table(tmp_path, "brain_t1c", "case,label,split,patient\n0007,meningioma,train,p1\n")
    (tmp_path / "data" / "brain_t1c").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is a glioma, but the table states meningioma"):
        fetch("brain_t1c", source)


@pytest.mark.parametrize("name", ["busi", "brain_t1c"])
def test_what_no_program_can_download_says_what_to_get_and_what_to_type(name):
    with pytest.raises(InputError, match=r"get it from https://doi.*--from FOLDER_OR_ARCHIVE"):
        fetch(name)
    with pytest.raises(CphlocError, match="no such folder or archive"):
        fetch(name, "nowhere")
