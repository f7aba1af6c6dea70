"""Label masks as editors, toolkits and networks write them, by nibabel; the labels are known."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cphloc.data.case import AnnotationSource, Case, read_case
from cphloc.data.io.read import read_mask, read_volume
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry

SHAPES = {2: (18, 20, 1), 3: (16, 18, 20)}
AFFINE = np.array([[2.0, 0, 0, 5], [0, 1, 0, -3], [0, 0, 1.5, 7], [0, 0, 0, 1]])


def labels(dims):
    """Two objects, in the axis order of NIfTI."""
    mask = np.zeros(SHAPES[dims], np.uint8)
    mask[2:8, 3:10, 0:9], mask[10:15, 11:17, 0:9] = 1, 2
    return mask


def read(tmp_path, dims, stored, affine=AFFINE, name="m.nii.gz", **options):
    image, path = tmp_path / "image.nii.gz", tmp_path / name
    nib.save(nib.Nifti1Image(np.zeros(SHAPES[dims], np.int16), AFFINE), image)
    nib.save(nib.Nifti1Image(stored, affine), path)
    found = read_mask(path, read_volume(image, dims=dims).geometry, **options)
    return (found if dims == 3 else found[None]).T


def one_hot(mask, count=3):
    return np.stack([mask == k for k in range(count)], axis=-1)


EQUAL = {
    "float": lambda m: m.astype(np.float32),
    "double": lambda m: m.astype(np.float64),
    "int32": lambda m: m.astype(np.int32),
    "rounded": lambda m: (m + 1e-5 * np.random.default_rng(0).normal(size=m.shape)).astype(np.float32),
    "one-hot with background": lambda m: one_hot(m).astype(np.uint8),
    "one-hot": lambda m: one_hot(m)[..., 1:].astype(np.uint8),
    "one-hot in the fifth axis": lambda m: one_hot(m)[..., None, :].astype(np.uint8),
    "probabilities": lambda m: (0.8 * one_hot(m) + 0.2 / 3).astype(np.float32),
}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("written", EQUAL.values(), ids=EQUAL)
def test_labels_in_any_form_are_equal(tmp_path, dims, written):
    mask = labels(dims)
    np.testing.assert_array_equal(read(tmp_path, dims, written(mask)), mask)


@pytest.mark.parametrize("axes", ["PIR", "LPS", "SAL", "RAS"])
def test_other_orientations_are_turned(tmp_path, axes):
    mask = nib.Nifti1Image(labels(3), AFFINE)
    turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(axes))
    turned = mask.as_reoriented(turn)
    np.testing.assert_array_equal(read(tmp_path, 3, np.asarray(turned.dataobj), turned.affine), labels(3))


@pytest.mark.parametrize(("shift_mm", "said"), [(1e-4, False), (0.1, False), (0.5, True), (0.95, True), (1.1, None)])
def test_small_differences_of_origin_are_tolerated_and_said(tmp_path, caplog, shift_mm, said):
    """Voxels are 2 mm long: up to 0.2 mm is rounding, up to 1 mm each voxel still lies in one voxel of the image."""
    affine = AFFINE.copy()
    affine[0, 3] += shift_mm
    if said is None:
        with pytest.raises(DataError, match=r"m.nii.gz: mask is on another grid"):
            read(tmp_path, 3, labels(3), affine)
        return
    np.testing.assert_array_equal(read(tmp_path, 3, labels(3), affine), labels(3))
    assert ("voxels beside its image" in caplog.text) == said


@pytest.mark.parametrize(
    ("values", "binary", "expected", "said"),
    [
        ((0, 255, 255), True, (0, 1, 1), True),
        ((0, 255, 255), False, (0, 255, 255), False),
        ((0, 1, 255), True, (0, 1, 255), False),
        ((255, 255, 255), True, (255, 255, 255), False),
    ],
)
def test_only_0_and_255_together_are_a_binary_mask(tmp_path, caplog, values, binary, expected, said):
    mask = np.asarray(values, np.uint8)[labels(3)]
    np.testing.assert_array_equal(read(tmp_path, 3, mask, binary=binary), np.asarray(expected)[labels(3)])
    assert ("holds only the values 0 and 255; 255 is read as class 1" in caplog.text) == said


def test_the_log_does_not_repeat_itself_for_every_mask_of_a_folder(tmp_path, caplog):
    for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz"):
        read(tmp_path, 3, np.uint8(255) * (labels(3) > 0), name=name)
    assert caplog.text.count("255 is read as class 1") == 1


def test_a_declared_class_255_stays_what_it_was_declared(tmp_path):
    read(tmp_path, 3, np.uint8(255) * (labels(3) > 0))
    source = AnnotationSource(mask=tmp_path / "m.nii.gz", mask_classes={255: 255, 1: 1})
    found = read_case(Case("a", "a", (tmp_path / "image.nii.gz",), source))[1]
    assert sorted(np.unique(found.mask)) == [0, 255]
    assert np.isnan(found.completed(found.mask.shape, 1).label).all()


def test_a_smoothed_mask_counts_from_one_half(tmp_path, caplog):
    smooth = ndimage.gaussian_filter((labels(3) > 0).astype(np.float32), 0.7)
    np.testing.assert_array_equal(read(tmp_path, 3, smooth), smooth >= 0.5)
    assert "fractions between 0 and 1; class 1 is where they are at least one half" in caplog.text


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (lambda m: ndimage.gaussian_filter(m.astype(np.float32), 1.0), "save it with nearest neighbour"),
        (lambda m: 0.9999 * (m > 0).astype(np.float32), r"fractions \(0 to 0.9999\), as interpolation leaves them"),
        (lambda m: 0.4 * (m > 0).astype(np.float32), "is not a label mask"),
        (lambda m: -m.astype(np.int16), "whole numbers from 0, got -2 to 0"),
        (lambda m: np.stack([m == 1, m >= 1], -1).astype(np.uint8), "the classes of its 2 channels overlap"),
        (lambda m: np.stack([m, 3 * m], -1), "mask has 2 channels of 0 to 6"),
        (lambda m: m[2:], "mask is on another grid"),
    ],
)
def test_what_is_ambiguous_is_refused(tmp_path, written, message):
    with pytest.raises(DataError, match=f"m.nii.gz: .*{message}"):
        read(tmp_path, 3, written(labels(3)))


def test_object_255_of_an_instance_mask_is_an_object(tmp_path):
    objects = np.zeros((20, 30), np.uint8)
    objects[2:6, 3:10] = 255
    for name in ("image.png", "objects.png"):
        Image.fromarray(objects).save(tmp_path / name)
    source = AnnotationSource(instances={tmp_path / "objects.png": {255: 2}})
    found = read_case(Case("a", "a", (tmp_path / "image.png",), source), 2)[1]
    assert (found.boxes.tolist(), found.box_classes.tolist()) == ([[2, 3, 6, 10]], [2])


def test_a_jpeg_is_no_mask_but_may_be_a_region(tmp_path):
    shade = np.tile(np.linspace(0, 255, 30), (20, 1)).astype(np.uint8)
    for name in ("image.png", "shade.jpg"):
        Image.fromarray(shade).save(tmp_path / name)
    image = (tmp_path / "image.png",)
    with pytest.raises(DataError, match=r"shade.jpg: is a JPEG, whose compression changes the labels"):
        read_case(Case("a", "a", image, AnnotationSource(mask=tmp_path / "shade.jpg")), 2)
    region = read_case(Case("a", "a", image, AnnotationSource(region=tmp_path / "shade.jpg")), 2)[1].region
    np.testing.assert_allclose(region, shade / 255, atol=0.02)


@pytest.mark.parametrize("factor", [1.0, 255.0])
def test_a_region_keeps_its_fractions(tmp_path, factor):
    fractions = np.random.default_rng(0).random(SHAPES[3]).astype(np.float32)
    fractions[0, 0, 0] = 1
    for name, stored in (("image", np.zeros(SHAPES[3], np.int16)), ("m", fractions * np.float32(factor))):
        nib.save(nib.Nifti1Image(stored, AFFINE), tmp_path / f"{name}.nii.gz")
    source = AnnotationSource(region=tmp_path / "m.nii.gz")
    region = read_case(Case("a", "a", (tmp_path / "image.nii.gz",), source))[1].region
    np.testing.assert_allclose(region.T, fractions, atol=1e-6)


def test_another_direction_is_named(tmp_path):
    mask = np.zeros((8, 8, 8), np.uint8)
    nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "m.nii.gz")
    like = Geometry.regular((8, 8, 8))
    with pytest.raises(DataError, match=r"another grid than its image: .*origin \(.*\), image \(") as caught:
        read_mask(tmp_path / "m.nii.gz", like.crop((4, 4, 4), (8, 8, 8)))
    assert "voxel size" not in str(caught.value), "it is equal"
