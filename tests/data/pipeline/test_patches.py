import numpy as np
import pytest

from cphloc.data.augment.warp import Warp
from cphloc.data.pipeline.patches import cut, draw_foreground, draw_start
from cphloc.structures.boxes import boxes_of
from cphloc.structures.instances import of_instances

DIMS = [2, 3]


@pytest.mark.parametrize("dims", DIMS)
def test_starts_cover_every_place_and_stay_inside(dims):
    rng = np.random.default_rng(0)
    shape, size = (9, 12, 10)[:dims], (4, 12, 16)[:dims]
    starts = np.array([draw_start(shape, size, rng) for _ in range(500)])
    assert set(starts[:, 0]) == set(range(6))
    assert set(starts[:, 1]) == {0}
    if dims > 2:
        assert set(starts[:, 2]) == set(range(-6, 1))


@pytest.mark.parametrize("dims", DIMS)
def test_centred_patch_holds_its_voxel_and_no_padding(dims):
    rng = np.random.default_rng(0)
    shape, size = (30,) * dims, (8,) * dims
    for _ in range(200):
        voxel = rng.integers(0, 30, dims)
        start = np.array(draw_start(shape, size, rng, around=voxel))
        assert (start <= voxel).all()
        assert (voxel < start + 8).all()
        assert (start >= 0).all()
        assert (start + 8 <= 30).all()


def test_foreground_draws_classes_evenly():
    points = np.array([[1, 0, 0]] * 99 + [[2, 5, 5]])
    rng = np.random.default_rng(0)
    rare = [draw_foreground(points, rng).tolist() == [5, 5] for _ in range(400)]
    assert 0.4 < np.mean(rare) < 0.6
    assert draw_foreground(points[:0], rng) is None


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("mirrored", [False, True])
def test_mask_boxes_and_image_are_cut_alike(prepared, dims, mirrored):
    shape, size, start = (20,) * dims, (10,) * dims, (6, -2, 4)[:dims]
    mask = np.zeros(shape, np.uint8)
    mask[(slice(5, 8),) * dims] = 1
    case = prepared(shape, mask=mask, boxes=boxes_of(mask)[0], box_classes=np.array([1]))
    warp = Warp(-np.eye(dims) if mirrored else np.eye(dims), (0.0,) * dims)
    image, annotation = cut(case, start, size, warp)
    step = -1 if mirrored else 1
    padded = np.pad(case.image[0], 2)
    window = tuple(slice(s + 2, s + 12) for s in start)
    np.testing.assert_array_equal(image[0], padded[window][(slice(None, None, step),) * dims])
    np.testing.assert_array_equal(annotation.boxes, boxes_of(annotation.mask)[0])
    assert len(annotation.boxes) == 1


@pytest.mark.parametrize("dims", DIMS)
def test_box_that_is_mostly_outside_is_left_out(prepared, dims):
    shape = (20,) * dims
    boxes = np.array([[8] * dims + [12] * dims, [8] * dims + [12] * (dims - 1) + [20]], np.float32)
    case = prepared(shape, boxes=boxes, box_classes=np.array([1, 2]))
    _, annotation = cut(case, (0,) * dims, (20,) * (dims - 1) + (10,), Warp.identity(dims))
    assert annotation.box_classes.tolist() == [1]
    np.testing.assert_array_equal(annotation.boxes, [[8] * dims + [12] * (dims - 1) + [10]])


@pytest.mark.parametrize("dims", DIMS)
def test_image_label_does_not_hold_for_a_patch(prepared, dims):
    label = np.array([1.0, 0.0, np.nan], np.float32)
    case = prepared((10,) * dims, label=label)
    whole = cut(case, (0,) * dims, (12,) * dims, Warp.identity(dims))[1].label
    part = cut(case, (0,) * dims, (9,) * dims, Warp.identity(dims))[1].label
    np.testing.assert_array_equal(whole, label)
    np.testing.assert_array_equal(part, [np.nan, 0, np.nan])


def test_label_of_a_patch_comes_from_its_own_mask(prepared):
    mask = np.zeros((10, 10), np.uint8)
    mask[8, 8] = 1
    case = prepared((10, 10), mask=mask, label=np.array([1.0]))
    _, annotation = cut(case, (0, 0), (5, 5), Warp.identity(2))
    assert annotation.completed((5, 5), 1).label.tolist() == [0.0]


@pytest.mark.parametrize("dims", DIMS)
def test_region_is_cut_and_mirrored_with_the_image(prepared, dims):
    region = np.zeros((8,) * dims, np.float32)
    region[..., 4:] = 1
    case = prepared((8,) * dims, region=region)
    mirrored = np.eye(dims)
    mirrored[-1, -1] = -1
    _, annotation = cut(case, (0,) * dims, (8,) * dims, Warp(mirrored, (0.0,) * dims))
    np.testing.assert_array_equal(annotation.region, region[..., ::-1])


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("turned", [False, True])
def test_instances_are_cut_and_turned_with_the_mask(prepared, dims, turned):
    """Two objects of one class that touch; numbers above 255 stay."""
    instances = np.zeros((16,) * dims, np.int32)
    instances[..., 2:8, 2:8], instances[..., 2:8, 8:14] = 300, 2
    found = of_instances(instances, classes=1)
    case = prepared((16,) * dims, **{name: value for name, value in vars(found).items() if value is not None})
    matrix = np.eye(dims)
    if turned:
        matrix[-2:, -2:] = [[0, -1], [1, 0]]
    _, cut_out = cut(case, (0,) * dims, (16,) * dims, Warp(matrix, (0.0,) * dims))
    numbers = cut_out.box_instances.tolist()
    assert numbers == [1, 2]
    assert np.array_equal(cut_out.instances > 0, cut_out.mask == 1)
    for number, box in zip(numbers, cut_out.boxes, strict=True):
        tight = np.argwhere(cut_out.instances == number)
        np.testing.assert_allclose(box, [*tight.min(0), *tight.max(0) + 1], atol=1)
