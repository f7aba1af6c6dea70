import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cphloc.data.augment.warp import Warp, warp_boxes, warp_image, warp_image_and_mask, warp_points
from cphloc.structures.boxes import boxes_of, clip_boxes, mask_of

SHAPES = [(21, 26), (15, 21, 26)]
SIZES = {2: (16, 20), 3: (12, 16, 20)}


def _turn(dims: int, degrees: float, scale: float = 1.0) -> np.ndarray:
    matrix, angle = np.eye(dims), np.deg2rad(degrees)
    matrix[-2:, -2:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix / scale


def _ball(shape: tuple[int, ...], centre: np.ndarray, radius: float) -> np.ndarray:
    grid = np.indices(shape) + 0.5
    distance = ((grid - np.reshape(centre, (-1, *(1,) * len(shape)))) ** 2).sum(axis=0)
    return (distance <= radius**2).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_scipy_where_the_image_is(shape):
    rng, dims, size = np.random.default_rng(1), len(shape), SIZES[len(shape)]
    image = rng.normal(size=(2, *shape)).astype(np.float32)
    mask = np.digitize(image[0], (-0.5, 0.5)).astype(np.uint8)
    warp = Warp(_turn(dims, 17, scale=1.1), tuple(rng.uniform(-1, 1, dims)))
    centre = np.asarray(shape) / 2 + 0.3
    offset = centre - 0.5 + warp.matrix @ (0.5 - np.asarray(size) / 2 - warp.shift)
    out, out_mask = warp_image_and_mask(image, mask, warp, centre, size)
    arguments = {"offset": offset, "output_shape": size, "mode": "constant"}
    inside = ndimage.affine_transform(np.ones(shape), warp.matrix, order=1, cval=-9, **arguments) > 0.99
    expected = [ndimage.affine_transform(channel, warp.matrix, order=1, **arguments) for channel in image]
    shares = [ndimage.affine_transform((mask == n) * 1.0, warp.matrix, order=1, **arguments) for n in range(3)]
    assert inside.mean() > 0.8
    np.testing.assert_allclose(out[:, inside], np.stack(expected)[:, inside], atol=1e-5)
    np.testing.assert_array_equal(out_mask[inside], np.argmax(shares, axis=0)[inside])


def test_a_turn_about_any_axis_agrees_with_scipy():
    image = np.random.default_rng(0).normal(size=(1, 15, 21, 26)).astype(np.float32)
    size, matrix = (9, 11, 13), Rotation.from_euler("xyz", [25, -35, 15], degrees=True).as_matrix()
    centre = np.array([7.5, 10.5, 13.0])
    offset = centre - 0.5 + matrix @ (0.5 - np.asarray(size) / 2)
    arguments = {"offset": offset, "output_shape": size, "order": 1}
    inside = ndimage.affine_transform(np.ones(image.shape[1:]), matrix, cval=-9, **arguments) > 0.99
    out = warp_image(image, Warp(matrix, (0.0, 0.0, 0.0)), centre, size)[0]
    assert inside.mean() > 0.8
    np.testing.assert_allclose(out[inside], ndimage.affine_transform(image[0], matrix, **arguments)[inside], atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_turned_and_bent_at_once_agrees_with_scipy(shape):
    rng, dims, size = np.random.default_rng(0), len(shape), np.asarray(SIZES[len(shape)])
    image, bend = rng.normal(size=(1, *shape)).astype(np.float32), rng.uniform(-2, 2, (dims, *size)).astype(np.float32)
    matrix = Rotation.from_euler("xyz", [25, -35, 15], degrees=True).as_matrix() if dims == 3 else _turn(2, 25)
    shift, centre = np.arange(1, dims + 1) / 4, np.asarray(shape) / 2
    points = np.indices(size) + 0.5 + bend - np.reshape(size / 2 + shift, (-1, *(1,) * dims))
    index = np.tensordot(matrix, points, 1) + np.reshape(centre - 0.5, (-1, *(1,) * dims))
    inside = ndimage.map_coordinates(np.ones(shape), index, order=1, cval=-9) > 0.99
    assert inside.mean() > 0.8
    out = warp_image(image, Warp(matrix, tuple(shift), bend), centre, tuple(size))[0]
    expected = ndimage.map_coordinates(image[0], index, order=1)
    np.testing.assert_allclose(out[inside], expected[inside], atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_identity_is_a_crop_and_zero_lies_beyond(shape):
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    dims = len(shape)
    larger = tuple(n + 4 for n in shape)
    out = warp_image(image, Warp.identity(dims), np.asarray(shape) / 2, larger)
    inner = (slice(None), *(slice(2, -2),) * dims)
    np.testing.assert_array_equal(out[inner], image)
    out[inner] = 0
    assert not out.any()


@pytest.mark.parametrize("shape", SHAPES)
def test_edge_values_lie_beyond_the_edge_if_wanted(shape):
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    larger, middle = tuple(n + 4 for n in shape), np.asarray(shape) / 2
    mask = np.ones(shape, np.uint8)
    out, out_mask = warp_image_and_mask(image, mask, Warp.identity(len(shape)), middle, larger, "edge")
    np.testing.assert_array_equal(out[0], np.pad(image[0], 2, mode="edge"))
    np.testing.assert_array_equal(out_mask, np.pad(mask, 2))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("matrix", ["mirrored", "doubled"])
def test_boxes_follow_the_mask_exactly_when_mirrored_or_scaled(shape, matrix):
    dims, size = len(shape), SIZES[len(shape)]
    box = np.asarray([[4] * dims + [7, 9, 11][:dims]], np.float32)
    mask = mask_of(box, [1], shape)
    steps = np.ones(dims)
    steps[-1] = -1 if matrix == "mirrored" else 0.5
    warp, centre = Warp(np.diag(steps), (0.0,) * dims), np.asarray(size) / 2
    _, moved_mask = warp_image_and_mask(mask[None].astype(np.float32), mask, warp, centre, size)
    moved_box, _ = clip_boxes(warp_boxes(box, warp, centre, size), size)
    np.testing.assert_allclose(moved_box, boxes_of(moved_mask)[0], atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (48, 64, 64)])
@pytest.mark.parametrize("bent", [False, True], ids=["turned", "bent"])
def test_box_of_a_ball_stays_tight(shape, bent):
    dims = len(shape)
    middle = np.asarray(shape) / 2 + 5
    ball = _ball(shape, middle, radius=9)
    wave = 3 * np.sin(np.arange(shape[-1]) / 12, dtype=np.float32)
    field = np.broadcast_to(wave, (dims, *shape)).copy() if bent else None
    warp, centre = Warp(_turn(dims, 0 if bent else 40), (0.0,) * dims, field), np.asarray(shape) / 2
    _, moved = warp_image_and_mask(ball[None].astype(np.float32), ball, warp, centre, shape)
    expected = boxes_of(moved)[0]
    box = np.concatenate([middle - 9, middle + 9])[None]
    assert len(expected) == 1
    np.testing.assert_allclose(warp_boxes(box, warp, centre, shape), expected, atol=1.2)


@pytest.mark.parametrize("shape", SHAPES)
def test_points_are_the_inverse_of_sampling(shape):
    dims = len(shape)
    rng = np.random.default_rng(3)
    warp = Warp(_turn(dims, 30, 1.3), tuple(rng.uniform(-2, 2, dims)))
    centre, patch_points = np.asarray(shape) / 3, rng.uniform(0, 10, (20, dims))
    source = centre + (patch_points - np.asarray(shape) / 2 - warp.shift) @ warp.matrix.T
    np.testing.assert_allclose(warp_points(source, warp, centre, shape), patch_points, atol=1e-9)


def test_two_warps_in_a_row_are_one():
    shape = (40, 40)
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(1, *shape)), (0, 3, 3)).astype(np.float32)
    first, second = Warp(_turn(2, 20), (0.0, 0.0)), Warp(_turn(2, -35, 1.2), (0.0, 0.0))
    centre = np.asarray(shape) / 2
    twice = warp_image(warp_image(image, first, centre, shape), second, centre, shape)
    once = warp_image(image, first.then(second), centre, shape)
    middle = np.s_[:, 12:28, 12:28]
    np.testing.assert_allclose(twice[middle], once[middle], atol=0.01 * np.abs(image).max() + 0.002)


def test_displacements_and_shifts_of_two_warps_add_up():
    fields = np.random.default_rng(0).normal(size=(2, 2, 5, 6)).astype(np.float32)
    first, second = Warp(np.eye(2), (1.0, 2.0), fields[0]), Warp(np.eye(2), (0.5, -3.0), fields[1])
    np.testing.assert_allclose(first.then(second).displacement, fields.sum(axis=0), atol=1e-6)
    assert first.then(second).shift == (1.5, -1.0)
    for both in (first.then(Warp.identity(2)), Warp.identity(2).then(first)):
        np.testing.assert_array_equal(both.displacement, fields[0])


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (-1, -1)])
def test_knows_pure_mirroring(signs):
    assert Warp(np.diag(signs).astype(float), (0.0, 0.0)).mirrored == tuple(np.flatnonzero(np.less(signs, 0)))
    assert Warp(np.diag(signs) * 1.1, (0.0, 0.0)).mirrored is None
    assert Warp(np.diag(signs).astype(float), (1.0, 0.0)).mirrored is None


@pytest.mark.parametrize(("dims", "axis"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
def test_between_two_slices_is_their_mean(dims, axis):
    shape = [4] * dims
    shape[axis] = 2
    image = np.ones((1, *shape), np.float32)
    image[0].swapaxes(0, axis)[1] = 3
    out = warp_image(image, Warp.identity(dims), np.asarray(shape) / 2, tuple(1 if n == 2 else n for n in shape))
    np.testing.assert_array_equal(out, 2)
