import itertools

import numpy as np
import pytest
import SimpleITK as sitk

from cphloc.errors import InputError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import reoriented


def rotation(degrees):
    """Rotation about a skew axis (Rodrigues)."""
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.cross(np.eye(3), axis)
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def oblique(degrees=20.0):
    return Geometry((7, 11, 13), (3.0, 0.8, 0.5), (-12.0, 30.0, 5.5), rotation(degrees) @ np.eye(3)[::-1])


def planar():
    c, s = np.cos(0.3), np.sin(0.3)
    return Geometry((9, 6), (0.7, 0.2), (4.0, -3.0), np.array([[c, -s], [s, c]]) @ np.eye(2)[::-1])


GRIDS = [oblique(), planar(), Geometry.regular((4, 5, 6), (2.0, 1.0, 1.0)), Geometry.regular((4, 5))]


def test_voxel_centres_are_where_simpleitk_puts_them():
    grid = oblique()
    image = sitk.GetImageFromArray(np.zeros(grid.shape, np.uint8))
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction[:, ::-1].ravel().tolist())
    for index in [(0, 0, 0), (6, 10, 12), (2, 5, 1)]:
        expected = image.TransformIndexToPhysicalPoint(index[::-1])
        assert grid.edges_to_world(np.array(index) + 0.5) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("grid", GRIDS)
def test_world_and_back_is_the_identity(grid):
    edges = np.random.default_rng(0).uniform(-3, 20, (50, grid.dims))
    assert np.allclose(grid.world_to_edges(grid.edges_to_world(edges)), edges)


@pytest.mark.parametrize("grid", GRIDS)
def test_reorientation_moves_no_voxel(grid):
    values = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    for order in itertools.permutations(range(grid.dims)):
        flip = (0,)
        moved = grid.reoriented(order, flip)
        array = np.flip(values.transpose(order), flip)
        for index in [(0,) * grid.dims, tuple(n - 1 for n in moved.shape)]:
            original = np.argwhere(values == array[index])[0]
            assert np.allclose(moved.edges_to_world(np.array(index) + 0.5), grid.edges_to_world(original + 0.5))


def test_canonical_axes_run_towards_head_back_and_left():
    flipped = Geometry((5, 6, 7), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), np.array([[0, -1, 0], [0, 0, 1], [-1.0, 0, 0]]))
    order, flip = flipped.canonical()
    assert np.array_equal(flipped.reoriented(order, flip).direction, np.eye(3)[::-1])


@pytest.mark.parametrize("grid", GRIDS)
def test_resampling_keeps_the_outer_edges(grid):
    finer = grid.resampled(tuple(s * 0.61 for s in grid.spacing_mm))
    for corner in itertools.product((0, 1), repeat=grid.dims):
        here, there = (np.array(corner) * g.shape for g in (grid, finer))
        assert np.allclose(grid.edges_to_world(here), finer.edges_to_world(there))


@pytest.mark.parametrize("grid", GRIDS)
def test_boxes_scale_by_the_ratio_of_the_sizes(grid):
    coarser = grid.resampled(tuple(s * 1.7 for s in grid.spacing_mm))
    box = np.array([[1.0] * grid.dims + [3.5] * grid.dims])
    ratio = np.tile(np.array(coarser.shape) / grid.shape, 2)
    assert np.allclose(grid.boxes_to(coarser, box), box * ratio)
    assert np.allclose(coarser.boxes_to(grid, grid.boxes_to(coarser, box)), box)


def test_a_box_grows_between_rotated_grids_and_still_holds_every_corner():
    grid, upright = oblique(), Geometry.regular((40, 40, 40))
    box = np.array([[1.0, 2.0, 3.0, 4.0, 6.0, 8.0]])
    moved = grid.boxes_to(upright, box)[0]
    corners = np.array(list(itertools.product(*zip(box[0, :3], box[0, 3:], strict=True))))
    inside = upright.world_to_edges(grid.edges_to_world(corners))
    assert (inside >= moved[:3] - 1e-9).all()
    assert (inside <= moved[3:] + 1e-9).all()
    assert np.prod(moved[3:] - moved[:3]) > np.prod((box[0, 3:] - box[0, :3]) * grid.spacing_mm)


def test_world_boxes_enclose_all_corners_of_an_oblique_box():
    grid = oblique()
    corners = np.array(list(itertools.product((0.0, 7.0), (0.0, 11.0), (0.0, 13.0))))
    world = grid.edges_to_world(corners)
    assert np.allclose(grid.boxes_to_world(np.array([[0, 0, 0, 7, 11, 13]]))[0], [*world.min(0), *world.max(0)])


def test_a_crop_keeps_its_place():
    grid = oblique()
    assert np.allclose(grid.crop((2, 3, 4), (1, 1, 1)).edges_to_world([0.5] * 3), grid.edges_to_world([2.5, 3.5, 4.5]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "spacing must be positive"),
        ({"spacing_mm": (1.0, 1.0)}, "needs 3 spacings"),
        ({"direction": np.ones((3, 3))}, "not orthonormal"),
    ],
)
def test_an_impossible_grid_is_refused(change, said):
    facts = {"shape": (2, 2, 2), "spacing_mm": (1.0,) * 3, "origin_mm": (0.0,) * 3, "direction": np.eye(3)} | change
    with pytest.raises(InputError, match=said):
        Geometry(**facts)


DISPLAYED = {"axial": (2, (1, 0)), "coronal": (1, (2, 0)), "sagittal": (0, (2, 1))}
"""Plane -> the world axis across it, and the world axes along which its rows and columns follow each other."""


@pytest.mark.parametrize("plane", DISPLAYED)
@pytest.mark.parametrize("seed", range(4))
def test_a_single_slice_is_displayed_the_same_however_its_voxels_are_stored(plane, seed):
    """Rows of the canonical slice run to the back or the feet, columns to the left or the back."""
    across, (down, along) = DISPLAYED[plane]
    rng = np.random.default_rng(seed)
    order, flip = tuple(rng.permutation(3).tolist()), tuple(np.flatnonzero(rng.integers(0, 2, 3)).tolist())
    shape = tuple(1 if 2 - axis == across else 4 + axis for axis in range(3))
    stored = Geometry.regular(shape, (3.0, 2.0, 1.0)).reoriented(order, flip)
    world = stored.edges_to_world(np.moveaxis(np.indices(stored.shape), 0, -1) + 0.5)
    axis = stored.shape.index(1)
    flat = stored.plane(axis)
    shown = reoriented(np.moveaxis(world, -1, 0).squeeze(axis + 1), *flat.canonical())
    assert (np.diff(shown[down], axis=0) * (-1 if down == 2 else 1) > 0).all()
    assert (np.diff(shown[along], axis=1) > 0).all()
    corners = flat.edges_to_world(np.array([[0.5, 0.5]]))[0]
    first = world.reshape(-1, 3)[0]
    assert corners == pytest.approx([first[w] * (-1 if w == 2 else 1) for w in range(3) if w != across])
