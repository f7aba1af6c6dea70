from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from synthetic_dicom import write_rtstruct

from cphloc.data.case import AnnotationSource, Case, read_case
from cphloc.errors import DataError
from cphloc.structures.annotation import Rung


@pytest.fixture
def image(tmp_path):
    """A volume of 4 x 6 x 8 voxels of 3 x 1 x 2 mm away from the origin, and its path."""
    volume = sitk.GetImageFromArray(np.arange(192, dtype=np.int16).reshape(4, 6, 8))
    volume.SetSpacing((2.0, 1.0, 3.0))
    volume.SetOrigin((-5.0, 10.0, 20.0))
    path = tmp_path / "image.nii.gz"
    sitk.WriteImage(volume, str(path))
    return path


def _mask(path, values):
    mask = sitk.GetImageFromArray(values)
    mask.CopyInformation(sitk.ReadImage(str(path.parent / "image.nii.gz")))
    sitk.WriteImage(mask, str(path))
    return path


def test_values_of_a_mask_become_classes(image, tmp_path):
    values = np.zeros((4, 6, 8), np.uint8)
    values[0, 0, 0], values[0, 0, 1], values[0, 0, 2] = 3, 9, 255
    source = AnnotationSource(mask=_mask(tmp_path / "m.nii.gz", values), mask_classes={3: 1, 9: 255})
    _, annotation = read_case(Case("a", "a", (image,), source))
    assert annotation.mask[0, 0, :4].tolist() == [1, 255, 255, 0]
    with pytest.raises(DataError, match=r"m.nii.gz: holds value 9, which is not a declared class"):
        read_case(Case("a", "a", (image,), AnnotationSource(mask=source.mask, mask_classes={3: 1})))


def test_boxes_and_spheres_come_together_in_voxels(image):
    source = AnnotationSource(
        boxes=((0.0, 1.0, 2.0, 1.0, 2.0, 3.0),),
        box_classes=(2,),
        spheres=((-5.0, 10.0, 20.0, 6.0),),
        sphere_classes=(1,),
    )
    _, annotation = read_case(Case("a", "a", (image,), source))
    np.testing.assert_allclose(annotation.boxes[0], [0, 1, 2, 1, 2, 3])
    np.testing.assert_allclose(annotation.boxes[1], [-0.5, -2.5, -1.0, 1.5, 3.5, 2.0])
    assert annotation.box_classes.tolist() == [2, 1]
    broken = AnnotationSource(boxes=((0.0, float("nan"), 2.0, 1.0, 2.0, 3.0),), box_classes=(1,))
    with pytest.raises(DataError, match="a box is not finite"):
        read_case(Case("a", "a", (image,), broken))


def _square(size, z=23.0):
    low, high = np.array([-4.0, 11.0]), np.array([-4.0, 11.0]) + size
    return np.array([[low[0], low[1], z], [high[0], low[1], z], [high[0], high[1], z], [low[0], high[1], z]])


def test_contours_become_the_classes_their_names_match(image, tmp_path):
    path = write_rtstruct(tmp_path / "RS", {"GTV_Mass_1": [_square(4.0)], "Heart": [_square(2.0)]})
    _, annotation = read_case(Case("a", "a", (image,), AnnotationSource(mask=path, rois={"GTV*": 1, "Heart": 2})))
    assert set(np.unique(annotation.mask[1])) == {0, 1, 2}
    assert not annotation.mask[[0, 2, 3]].any()
    assert annotation.mask_known.tolist() == [True, True]
    with pytest.raises(DataError, match=r"has no region named Lung, only GTV_Mass_1, Heart"):
        read_case(Case("a", "a", (image,), AnnotationSource(mask=path, rois={"Lung": 1})))


@pytest.mark.parametrize("name", ["GTV [1]", "GTV/links", "GTV*", "läsion?", "肿瘤", "a;b,c"])
def test_any_name_of_a_region_is_itself(image, tmp_path, name):
    path = write_rtstruct(tmp_path / "RS.dcm", {name: [_square(4.0)], "GTV": [_square(2.0)]})
    _, annotation = read_case(Case("a", "a", (image,), AnnotationSource(mask=path, rois={name: 1})))
    assert annotation.mask.sum() == 8


@pytest.mark.parametrize("undrawn", [{"Heart": []}, {"Heart": None}, {}], ids=["no contour", "left out", "not listed"])
@pytest.mark.parametrize(("label", "known"), [(None, [True, False]), ((1.0, 0.0), [True, True])])
def test_a_region_that_nobody_drew_is_unknown_unless_the_label_says_absent(
    image, tmp_path, undrawn, label, known, caplog
):
    path = write_rtstruct(tmp_path / "RS", {"GTV": [_square(4.0)], **undrawn})
    source = AnnotationSource(mask=path, rois={"GTV": 1, "Heart": 2}, known=(True, True), label=label)
    _, annotation = read_case(Case("a", "a", (image,), source))
    done = annotation.completed((4, 6, 8), 2)
    assert done.mask_known.tolist() == known
    np.testing.assert_equal(done.label.tolist(), [1.0, 0.0 if known[1] else np.nan])
    assert ("has no drawn region for Heart: unknown in this image, not absent" in caplog.text) == (not known[1])


@pytest.mark.parametrize(
    ("kind", "points", "message"),
    [
        ("POINT", [[0.0, 12.0, 23.0]], "region 'GTV' is a point, not an area"),
        ("OPEN_PLANAR", _square(4.0), "region 'GTV' has contours of type OPEN_PLANAR, which enclose no area"),
        ("OPEN_NONPLANAR", _square(4.0), "region 'GTV' has contours of type OPEN_NONPLANAR"),
        ("CLOSED_PLANAR", _square(4.0, z=90.0), "region 'GTV': lies outside the image"),
    ],
)
def test_a_region_without_an_area_in_the_image_is_refused(image, tmp_path, kind, points, message):
    path = write_rtstruct(tmp_path / "RS.dcm", {"GTV": [points]}, kind)
    with pytest.raises(DataError, match=message):
        read_case(Case("a", "a", (image,), AnnotationSource(mask=path, rois={"GTV": 1})))


def test_a_folder_with_one_file_is_that_file(image, tmp_path):
    (tmp_path / "export").mkdir()
    write_rtstruct(tmp_path / "export/1.2.3", {"GTV": [_square(4.0)]})
    source = AnnotationSource(mask=tmp_path / "export", rois={"GTV": 1})
    assert read_case(Case("a", "a", (image,), source))[1].mask.sum() == 8


def test_a_region_smaller_than_a_voxel_is_one_voxel(image, tmp_path):
    path = write_rtstruct(tmp_path / "RS.dcm", {"GTV": [_square(0.2)]})
    _, annotation = read_case(Case("a", "a", (image,), AnnotationSource(mask=path, rois={"GTV": 1})))
    assert np.argwhere(annotation.mask).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("source", "rung"),
    [
        ({}, None),
        ({"label": (1.0,)}, Rung.LABEL),
        ({"region": Path("r.nii"), "label": (1.0,)}, Rung.REGION),
        ({"boxes": ()}, Rung.BOXES),
        ({"spheres": ((0.0, 0.0, 0.0, 1.0),)}, Rung.BOXES),
        ({"instances": {Path("i.nii"): 1}}, Rung.MASK),
        ({"mask": Path("m.nii"), "boxes": ()}, Rung.MASK),
    ],
)
def test_the_rung_of_a_source_is_that_of_its_strongest_part(source, rung):
    assert AnnotationSource(**source).rung == rung


@pytest.mark.parametrize("stated", ["mask", "boxes"])
@pytest.mark.parametrize(("label", "fits"), [((0.0, 1.0), True), ((1.0, 0.0), False), ((np.nan, np.nan), True)])
def test_a_class_that_is_absent_by_its_label_and_annotated_is_refused(image, tmp_path, stated, label, fits):
    source = AnnotationSource(boxes=((0.0, 1.0, 1.0, 2.0, 3.0, 3.0),), box_classes=(2,), label=label)
    if stated == "mask":
        mask = np.zeros((4, 6, 8), np.uint8)
        mask[1, 2, 3] = 2
        source = AnnotationSource(mask=_mask(tmp_path / "mask.nii.gz", mask), label=label)
    case = Case("a", "a", (image,), source)
    if fits:
        assert read_case(case)[1].rung is not None
        return
    with pytest.raises(DataError, match=rf"class 2 is absent by its label and present by its {stated}; correct one"):
        read_case(case)
