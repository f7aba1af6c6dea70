from __future__ import annotations

import numpy as np
import pytest

from cphloc.data.pipeline.intensity import parse_intensity
from cphloc.data.pipeline.preprocess import Preprocess, restore_attention, restore_boxes, restore_map, restore_mask
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume


def rotation(dims: int, degrees: float) -> np.ndarray:
    """In-plane rotation, in 3-D tilted about a second axis too, of the array's z, y, x axes."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    if dims == 2:
        return np.array([[c, -s], [s, c]])[:, ::-1]
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return (about_z @ about_x)[:, ::-1]


def grids() -> list:
    cases = []
    for dims in (2, 3):
        shape, spacing = (17, 24, 31)[-dims:], (2.5, 0.8, 1.3)[-dims:]
        origin = (-31.0, 12.5, 400.0)[:dims]
        upright = np.eye(dims)[::-1]
        directions = {
            "upright": upright,
            "flipped": upright * np.array([-1, 1, -1])[-dims:],
            "permuted": np.roll(upright, 1, axis=1),
            "oblique": rotation(dims, 20),
        }
        for name, direction in directions.items():
            cases.append(pytest.param(Geometry(shape, spacing, origin, direction), id=f"{dims}d {name}"))
    return cases


every_grid = pytest.mark.parametrize("geometry", grids())


def blob(geometry: Geometry, radius_mm: float = 6.0) -> np.ndarray:
    """Ball of ``radius_mm`` about the middle of the grid, drawn at voxel centres."""
    index = np.moveaxis(np.indices(geometry.shape), 0, -1) + 0.5
    middle = geometry.edges_to_world(np.asarray(geometry.shape) / 2)
    return (np.linalg.norm(geometry.edges_to_world(index) - middle, axis=-1) < radius_mm).astype(np.uint8)


def preprocess(geometry: Geometry, spacing_mm: float | None = 1.7) -> Preprocess:
    spacing = None if spacing_mm is None else (spacing_mm,) * geometry.dims
    return Preprocess(geometry.dims, spacing, parse_intensity("none", 1))


@every_grid
def test_a_box_survives_the_way_to_the_model_and_back(geometry: Geometry):
    prepare = preprocess(geometry)
    box = np.array([[3.0, 4.0, 5.0, 9.0, 13.0, 8.5]]).reshape(1, 2, 3)[:, :, -geometry.dims :].reshape(1, -1)
    frame = prepare.frame(geometry)
    back = restore_boxes(frame, geometry, prepare.prepare_boxes(box, geometry))
    np.testing.assert_allclose(back, box, atol=1e-6)


@every_grid
def test_a_box_found_in_the_models_frame_lies_half_a_voxel_from_the_box_of_the_object(geometry: Geometry):
    prepare, mask = preprocess(geometry, 0.9), blob(geometry)
    found = prepare.prepare_mask(mask, geometry)
    corners = np.argwhere(found)
    box = np.concatenate([corners.min(0), corners.max(0) + 1])[None].astype(float)
    back = restore_boxes(prepare.frame(geometry), geometry, box)[0].reshape(2, -1)
    truth = np.argwhere(mask)
    tolerance_mm = 0.5 * np.asarray(geometry.spacing_mm) + 0.5 * 0.9
    assert (np.abs(back[0] - truth.min(0)) * geometry.spacing_mm <= tolerance_mm).all()
    assert (np.abs(back[1] - truth.max(0) - 1) * geometry.spacing_mm <= tolerance_mm).all()


@every_grid
def test_a_mask_survives_the_way_to_the_model_and_back(geometry: Geometry):
    prepare, mask = preprocess(geometry, 0.6), blob(geometry)
    back = restore_mask(prepare.frame(geometry), geometry, prepare.prepare_mask(mask, geometry))
    assert back.dtype == mask.dtype
    assert back.shape == geometry.shape
    assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) > 0.97


@every_grid
def test_probabilities_come_back_as_the_mask_they_describe(geometry: Geometry):
    prepare, mask = preprocess(geometry, 0.6), blob(geometry)
    moved = prepare.prepare_mask(mask, geometry)
    back = restore_mask(prepare.frame(geometry), geometry, np.stack([1.0 - moved, moved]).astype(np.float32))
    assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) > 0.97


@every_grid
def test_a_world_coordinate_written_into_voxels_is_found_where_it_belongs(geometry: Geometry):
    """The image is its own x coordinate in mm; interpolated anywhere it must give x again."""
    index = np.moveaxis(np.indices(geometry.shape), 0, -1) + 0.5
    x_mm = geometry.edges_to_world(index)[..., 0].astype(np.float32)
    prepared = preprocess(geometry, 0.7)(Volume(x_mm[None], geometry))
    centres = np.moveaxis(np.indices(prepared.geometry.shape), 0, -1) + 0.5
    inner = (slice(3, -3),) * geometry.dims
    expected = prepared.geometry.edges_to_world(centres)[..., 0]
    np.testing.assert_allclose(prepared.array[0][inner], expected[inner], atol=1e-3)


@every_grid
def test_without_a_spacing_voxels_are_only_permuted_and_flipped(geometry: Geometry):
    values = np.random.default_rng(0).normal(size=(1, *geometry.shape)).astype(np.float32)
    prepared = preprocess(geometry, None)(Volume(values, geometry))
    np.testing.assert_array_equal(np.sort(prepared.array.ravel()), np.sort(values.ravel()))
    back = restore_map(prepared.geometry, geometry, prepared.array)
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize("dims", [2, 3])
def test_an_image_already_in_the_frame_is_unchanged(dims: int):
    geometry = Geometry.regular((6, 7, 8)[-dims:], (2.0,) * dims)
    values = np.random.default_rng(0).normal(size=(1, *geometry.shape)).astype(np.float32)
    prepared = preprocess(geometry, 2.0)(Volume(values, geometry))
    np.testing.assert_array_equal(prepared.array, values)
    assert prepared.geometry.same_grid(geometry)


@every_grid
def test_the_outer_edges_stay_where_they_are(geometry: Geometry):
    frame = preprocess(geometry, 1.9).frame(geometry)
    whole = np.concatenate([np.zeros(geometry.dims), geometry.shape])[None]
    expected = np.concatenate([np.zeros(geometry.dims), frame.shape])
    np.testing.assert_allclose(geometry.boxes_to(frame, whole)[0], expected, atol=1e-6)


@every_grid
def test_attention_keeps_its_sum_and_its_place(geometry: Geometry):
    frame = preprocess(geometry, 0.8).frame(geometry)
    stride = (4,) * geometry.dims
    cells = tuple(-(-n // 4) for n in frame.shape)
    attention = np.zeros(cells, np.float32)
    hot = tuple(n // 2 for n in cells)
    attention[hot] = 1.0
    spread = restore_attention(frame, geometry, attention, stride)
    assert spread.shape == geometry.shape
    assert spread.sum() == pytest.approx(1.0, abs=1e-4)
    index = np.moveaxis(np.indices(geometry.shape), 0, -1) + 0.5
    centroid = (geometry.edges_to_world(index) * spread[..., None]).reshape(-1, geometry.dims).sum(0)
    expected = frame.edges_to_world((np.asarray(hot) + 0.5) * 4)
    assert np.abs(centroid - expected).max() < max(geometry.spacing_mm) / 2


@pytest.mark.parametrize("dims", [2, 3])
def test_shrinking_does_not_alias(dims: int):
    """Every third voxel of a checkerboard of -1 and 1 is a checkerboard again, unless it is smoothed away first."""
    geometry = Geometry.regular((33,) * dims)
    board = np.where(np.indices(geometry.shape).sum(0) % 2, 1.0, -1.0).astype(np.float32)
    prepared = preprocess(geometry, 3.0)(Volume(board[None], geometry))
    assert np.abs(prepared.array).max() < 0.05


def test_grey_and_colour_convert_only_where_nothing_is_lost():
    geometry = Geometry.regular((4, 4))
    colour = np.arange(48, dtype=np.float32).reshape(3, 4, 4)
    to_three = Preprocess(2, None, parse_intensity("none", 3))
    to_one = Preprocess(2, None, parse_intensity("none", 1))
    assert to_three(Volume(colour[:1], geometry)).array.shape == (3, 4, 4)
    assert to_one(Volume(np.repeat(colour[:1], 3, axis=0), geometry)).array.shape == (1, 4, 4)
    with pytest.raises(DataError, match=r"photo\.png: has 3 channels but the model takes 1"):
        to_one(Volume(colour, geometry, source="photo.png"))


def test_an_image_of_another_dimension_or_without_a_size_is_refused():
    flat = Volume(np.zeros((1, 4, 4)), Geometry.regular((4, 4), unit="px"), source="a.png")
    with pytest.raises(DataError, match=r"a\.png: is 2-D but the model takes 3-D"):
        Preprocess(3, None, parse_intensity("none", 1))(flat)
    with pytest.raises(DataError, match=r"a\.png: has no physical size"):
        Preprocess(2, (1.0, 1.0), parse_intensity("none", 1))(flat)


def test_a_spacing_that_would_fill_the_memory_is_named_as_wrong():
    volume = Volume(np.zeros((1, 40, 40, 40), np.float32), Geometry.regular((40, 40, 40), (1000.0, 1000.0, 1000.0)))
    message = r"array: would have 40000 x 40000 x 40000 voxels .* its own spacing \(1000.0, .*is probably wrong"
    with pytest.raises(DataError, match=message):
        Preprocess(3, (1.0, 1.0, 1.0), parse_intensity("zscore", 1))(volume)
