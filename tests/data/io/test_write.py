from __future__ import annotations

import csv
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from cphloc.data.io.read import read_mask, read_volume
from cphloc.data.io.write import CaseBoxes, write_boxes_csv, write_coco, write_map, write_mask
from cphloc.errors import CphlocError, InputError
from cphloc.structures.geometry import Geometry


def geometry(dims: int, degrees: float = 30.0) -> Geometry:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])[:dims, :dims]
    return Geometry((6, 7, 8)[-dims:], (3.0, 0.7, 1.1)[-dims:], (-30.0, 12.0, 99.0)[:dims], turn[:, ::-1])


both = pytest.mark.parametrize("dims", [2, 3])


@both
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_mask_is_read_back_on_its_own_grid(tmp_path, dims: int, suffix: str):
    grid = geometry(dims)
    mask = np.random.default_rng(0).integers(0, 4, grid.shape)
    write_mask(tmp_path / "new" / f"m{suffix}", mask, grid)
    np.testing.assert_array_equal(read_mask(tmp_path / "new" / f"m{suffix}", grid), mask)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "new" / f"m{suffix}"))), mask)
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_nibabel_sees_a_mask_where_it_is(tmp_path):
    grid, mask = geometry(3), np.zeros((6, 7, 8), np.uint8)
    mask[1, 2, 5] = 3
    write_mask(tmp_path / "m.nii.gz", mask, grid)
    image = nibabel.load(tmp_path / "m.nii.gz")
    index = np.argwhere(np.asarray(image.dataobj) == 3)[0]
    ras = nibabel.affines.apply_affine(image.affine, index)
    np.testing.assert_allclose(ras * [-1, -1, 1], grid.edges_to_world([1.5, 2.5, 5.5]), atol=1e-4)


@both
def test_a_map_keeps_its_values(tmp_path, dims: int):
    grid = geometry(dims)
    values = np.random.default_rng(0).random(grid.shape).astype(np.float32)
    write_map(tmp_path / "a.nii.gz", values, grid)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array[0], values)


def test_a_2d_mask_is_a_png(tmp_path):
    mask = np.arange(56, dtype=np.uint8).reshape(7, 8) % 4
    write_mask(tmp_path / "m.png", mask, Geometry.regular((7, 8), unit="px"))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", Geometry.regular((7, 8), unit="px")), mask)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("m.nii.gz", np.zeros((7, 8, 6), int), "does not match its grid"),
        ("m.nii.gz", np.zeros((6, 7, 8)), "a mask must contain integers, got float64"),
        ("m.png", np.zeros((6, 7, 8), int), "PNG in 2-D only"),
        ("m.bmp", np.zeros((6, 7, 8), int), r"are written as \.nii\.gz"),
    ],
)
def test_masks_that_cannot_be_written_are_refused(tmp_path, name: str, array: np.ndarray, message: str):
    with pytest.raises(InputError, match=message):
        write_mask(tmp_path / name, array, geometry(3))
    assert list(tmp_path.iterdir()) == []


@contextmanager
def full_disk() -> Iterator[None]:
    """Files may grow to 4 kB; Python ignores the signal, so writing beyond fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.csv", "a.json"])
def test_a_full_disk_leaves_the_old_file_and_one_clear_line(tmp_path, capfd, name: str):
    target = tmp_path / name
    target.write_text("old")
    grid = Geometry.regular((10, 50, 50))
    noise = np.random.default_rng(0).random(grid.shape)
    boxes = [CaseBoxes("a", Geometry.regular((50, 50)), np.zeros((1, 4)), np.ones(1, int), np.ones(1))] * 500
    with pytest.raises(CphlocError) as caught, full_disk():  # noqa: PT012
        if name == "a.csv":
            write_boxes_csv(target, boxes, {1: "a"})
        elif name == "a.json":
            write_coco(target, boxes, {1: "a"})
        else:
            write_map(target, noise, grid)
    assert str(caught.value).startswith(f"{target}: cannot be written")
    assert "\n" not in str(caught.value)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CphlocError, match=r"m\.nii: cannot be written"):
        write_mask(tmp_path / "file" / "m.nii", np.zeros((6, 7, 8), int), geometry(3))


@both
@pytest.mark.parametrize("degrees", [0.0, 30.0], ids=["upright", "oblique"])
def test_box_corners_in_millimetres_enclose_the_box_in_the_patient(tmp_path, dims: int, degrees: float):
    grid = geometry(dims, degrees)
    lo, hi = np.array([1.0, 2.0, 3.5])[-dims:], np.array([2.0, 6.0, 4.0])[-dims:]
    case = CaseBoxes("p1", grid, np.concatenate([lo, hi])[None], np.array([2]), np.array([0.75]))
    write_boxes_csv(tmp_path / "b.csv", [case], {1: "cyst", 2: "tumour"})
    with (tmp_path / "b.csv").open() as file:
        (row,) = csv.DictReader(file)
    corners = np.stack(np.meshgrid(*zip(lo, hi, strict=True)), axis=-1).reshape(-1, dims)
    # ITK is the oracle: its continuous index is the edge coordinate less one half, x first.
    image = sitk.Image(grid.shape[::-1], sitk.sitkUInt8)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction[:, ::-1].ravel().tolist())
    world = np.array([image.TransformContinuousIndexToPhysicalPoint((c - 0.5)[::-1].tolist()) for c in corners])
    for axis, name in enumerate("xyz"[:dims]):
        assert float(row[f"{name}_lo_mm"]) == pytest.approx(world[:, axis].min(), abs=2e-3)
        assert float(row[f"{name}_hi_mm"]) == pytest.approx(world[:, axis].max(), abs=2e-3)
    assert [row[key] for key in ("case", "class", "class_number", "score")] == ["p1", "tumour", "2", "0.75"]
    assert (row["row_lo"], row["row_hi"]) == (f"{lo[-2]:.3f}", f"{hi[-2]:.3f}")


def test_without_a_physical_size_no_millimetre_is_reported(tmp_path):
    case = CaseBoxes("p1", Geometry.regular((5, 5), unit="px"), np.array([[0, 0, 1, 2.0]]), np.array([1]), np.ones(1))
    write_boxes_csv(tmp_path / "b.csv", [case], {1: "cell"})
    header, row = (tmp_path / "b.csv").read_text().splitlines()
    assert header == "case,class,class_number,score,x_lo_mm,y_lo_mm,x_hi_mm,y_hi_mm,row_lo,column_lo,row_hi,column_hi"
    assert row == "p1,cell,1,1,,,,,0.000,0.000,1.000,2.000"


def test_coco_loads_in_a_coco_library_with_x_first(tmp_path):
    from faster_coco_eval import COCO

    case = CaseBoxes("a.png", Geometry.regular((40, 60)), np.array([[1, 2, 11, 32.0]]), np.array([2]), np.array([0.5]))
    write_coco(tmp_path / "b.json", [case], {1: "RBC", 2: "WBC"})
    coco = COCO(str(tmp_path / "b.json"))
    (found,) = coco.loadAnns(coco.getAnnIds())
    assert found["bbox"] == [2, 1, 30, 10]
    assert coco.loadCats(found["category_id"])[0]["name"] == "WBC"
    (picture,) = coco.loadImgs(found["image_id"])
    assert (picture["width"], picture["height"], picture["file_name"]) == (60, 40, "a.png")
    assert json.loads((tmp_path / "b.json").read_text())["annotations"][0]["score"] == 0.5


def test_coco_numbers_images_and_boxes_from_1(tmp_path):
    def case(name, boxes):
        return CaseBoxes(
            name, Geometry.regular((9, 9)), np.tile([1, 2, 3, 4.0], (boxes, 1)), np.ones(boxes, int), np.ones(boxes)
        )

    write_coco(tmp_path / "b.json", [case("a", 2), case("b", 0), case("c", 1)], {1: "RBC"})
    content = json.loads((tmp_path / "b.json").read_text())
    assert [(one["id"], one["file_name"]) for one in content["images"]] == [(1, "a"), (2, "b"), (3, "c")]
    assert [(one["id"], one["image_id"]) for one in content["annotations"]] == [(1, 1), (2, 1), (3, 3)]


def test_coco_refuses_volumes(tmp_path):
    case = CaseBoxes("ct", geometry(3), np.zeros((0, 6)), np.zeros(0, int), np.zeros(0))
    with pytest.raises(InputError, match="'ct' is 3-D"):
        write_coco(tmp_path / "b.json", [case], {1: "a"})
