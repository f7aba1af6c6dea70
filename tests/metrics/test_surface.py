from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cphloc.errors import InputError
from cphloc.metrics.segmentation import dice
from cphloc.metrics.surface import surface_distances

SURFACES = pytest.mark.parametrize("surface", ["border", "area"])
GRIDS = pytest.mark.parametrize(
    ("shape", "spacing_mm"), [((40, 50), (3.0, 2.0)), ((14, 20, 24), (5.0, 0.7, 1.3))], ids=["2-D", "3-D"]
)


def blobs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.5) > 0.53


def test_deepmind_two_pixels_two_columns_apart() -> None:
    left, right = np.zeros((2, 128, 128), bool)
    left[50, 70], right[50, 72] = True, True
    found = surface_distances(left, right, (2.0, 1.0), surface="area")
    assert found.predicted_areas == pytest.approx([0.5 * 5**0.5] * 4)
    assert sorted(found.to_reference) == [1, 1, 2, 2]
    assert sorted(found.to_prediction) == [1, 1, 2, 2]
    assert found.average() == pytest.approx(1.5)
    assert found.hausdorff(100) == 2
    assert found.dice(1.0) == pytest.approx(0.5)


def test_deepmind_cubes_one_row_apart() -> None:
    reference, prediction = np.zeros((2, 100, 100, 100), bool)
    reference[:50], prediction[:51] = True, True
    found = surface_distances(prediction, reference, (2.0, 1.0, 1.0), surface="area")
    assert np.average(found.to_prediction, weights=found.reference_areas) == pytest.approx(0.322, abs=5e-4)
    assert np.average(found.to_reference, weights=found.predicted_areas) == pytest.approx(0.339, abs=5e-4)
    assert found.hausdorff(100) == 2
    assert found.hausdorff(95) == 2
    within = [
        np.average(d <= 1, weights=a)
        for d, a in ((found.to_prediction, found.reference_areas), (found.to_reference, found.predicted_areas))
    ]
    assert within == pytest.approx([0.842, 0.830], abs=5e-4)
    assert found.dice(1.0) == pytest.approx(0.836, abs=5e-4)
    assert dice(prediction, reference) == pytest.approx(0.990, abs=5e-4)


def test_metrics_reloaded_stray_pixel() -> None:
    prediction = np.zeros((14, 14), bool)
    prediction[9:12, 9:12] = True
    reference = prediction.copy()
    reference[1, 1] = True
    found = surface_distances(prediction, reference, (1.0, 1.0))
    assert found.hausdorff(100) == pytest.approx(11.31, abs=5e-3)
    assert found.hausdorff(95) == pytest.approx(6.79, abs=5e-3)


@pytest.mark.parametrize(
    ("centres", "radius", "directed", "symmetric"),
    [
        (((20, 20, 20), (19, 19, 19)), 20, 1.7320508, 1.7320508),
        (((20, 33, 22), (20, 33, 22)), 40, 20.0997512, 20.2237484),
    ],
    ids=["shifted by one voxel", "concentric, twice as large"],
)
def test_monai_spheres(centres, radius, directed, symmetric) -> None:
    grid = np.indices((99, 99, 99))
    small, other = (
        sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= r**2
        for centre, r in zip(centres, (20, radius), strict=True)
    )
    found = surface_distances(small, other, (1.0, 1.0, 1.0))
    assert found.to_reference.max() == pytest.approx(directed, abs=1e-4)
    assert found.hausdorff(100) == pytest.approx(symmetric, abs=1e-4)
    if radius == 40:
        assert np.percentile(found.to_reference, 95) == pytest.approx(19.9249, abs=1e-4)
        assert found.hausdorff(95) == pytest.approx(20.0998, abs=1e-4)


@GRIDS
def test_border_distances_equal_the_distance_transform(shape, spacing_mm) -> None:
    first, second = blobs(shape, 0), np.roll(blobs(shape, 0), 8, axis=-1) & blobs(shape, 1)
    found = surface_distances(first, second, spacing_mm)
    borders = [m & ~ndimage.binary_erosion(m, border_value=0) for m in (first, second)]
    to_second = ndimage.distance_transform_edt(~borders[1], spacing_mm)[borders[0]]
    to_first = ndimage.distance_transform_edt(~borders[0], spacing_mm)[borders[1]]
    assert found.to_reference == pytest.approx(to_second)
    assert found.to_prediction == pytest.approx(to_first)
    assert found.to_reference.max() > 10  # both the walk and the tree took part


@SURFACES
@GRIDS
def test_symmetric_translation_invariant_and_zero_for_equal_masks(shape, spacing_mm, surface) -> None:
    first, second = blobs(shape, 0), blobs(shape, 1)

    def metrics(a: np.ndarray, b: np.ndarray) -> tuple[float, ...]:
        found = surface_distances(a, b, spacing_mm, surface=surface)
        return found.hausdorff(95), found.hausdorff(100), found.average(), found.dice(1.0)

    expected = metrics(first, second)
    assert metrics(second, first) == pytest.approx(expected)
    assert metrics(np.pad(first, 3), np.pad(second, 3)) == pytest.approx(expected)
    assert metrics(np.flip(first), np.flip(second)) == pytest.approx(expected)
    assert metrics(first, first) == (0, 0, 0, 1)
    assert expected[0] <= expected[1]


@SURFACES
@GRIDS
def test_distances_scale_with_spacing(shape, spacing_mm, surface) -> None:
    first, second = blobs(shape, 0), blobs(shape, 1)
    once = surface_distances(first, second, spacing_mm, surface=surface)
    twice = surface_distances(first, second, tuple(2 * s for s in spacing_mm), surface=surface)
    assert twice.hausdorff(95) == pytest.approx(2 * once.hausdorff(95))
    assert twice.average() == pytest.approx(2 * once.average())
    assert twice.dice(2.0) == pytest.approx(once.dice(1.0))


def test_spacing_belongs_to_its_axis() -> None:
    first, second = np.zeros((2, 9, 9, 9), bool)
    first[4, 4, 4], second[5, 4, 4] = True, True
    assert surface_distances(first, second, (3.0, 2.0, 1.0)).hausdorff() == 3.0
    assert surface_distances(first.T, second.T, (3.0, 2.0, 1.0)).hausdorff() == 1.0


def test_area_of_a_block_is_that_of_its_faces_and_bevelled_edges() -> None:
    block = np.zeros((12, 14, 16), bool)
    block[1:11, 1:13, 1:15] = True
    found = surface_distances(block, block, (1.0, 1.0, 1.0), surface="area")
    a, b, c = 9, 11, 13
    edges, corners = 4 * (a + b + c) * 0.5**0.5, 8 * 3**0.5 / 8
    assert found.predicted_areas.sum() == pytest.approx(2 * (a * b + b * c + a * c) + edges + corners)


@GRIDS
def test_area_of_a_hole_is_that_of_its_filling(shape, spacing_mm) -> None:
    filling = np.random.default_rng(0).random(shape) < 0.5
    block = np.ones([n + 4 for n in shape], bool)
    hollow = ~np.pad(filling, 2)

    def area(mask: np.ndarray) -> float:
        return surface_distances(mask, mask, spacing_mm, surface="area").predicted_areas.sum()

    assert area(hollow) == pytest.approx(area(block) + area(filling))


@SURFACES
@pytest.mark.parametrize(("policy", "distance", "overlap"), [("nan", np.nan, np.nan), ("one", 0, 1), ("worst", 50, 0)])
def test_both_empty_follows_the_policy(surface, policy, distance, overlap) -> None:
    empty = np.zeros((30, 20), bool)
    found = surface_distances(empty, empty, (1.0, 2.0), surface=surface, empty_policy=policy)
    values = found.hausdorff(), found.average(), found.dice()
    assert values == pytest.approx((distance, distance, overlap), nan_ok=True)


@SURFACES
@pytest.mark.parametrize("policy", ["nan", "one", "worst"])
def test_one_empty_mask_is_an_image_diagonal_away(surface, policy) -> None:
    empty, single = np.zeros((2, 30, 20), bool)
    single[3, 3] = True
    for pair in ((empty, single), (single, empty)):
        found = surface_distances(*pair, (1.0, 2.0), surface=surface, empty_policy=policy)
        assert (found.hausdorff(), found.average(), found.dice()) == (50, 50, 0)


def test_ignored_voxels_are_no_surface() -> None:
    prediction = np.zeros((20, 20), np.uint8)
    prediction[2:5, 2:5] = 1
    reference = prediction.copy()
    prediction[15, 15] = 1
    assert surface_distances(prediction, reference, (1.0, 1.0)).hausdorff(100) > 10
    reference[12:, 12:] = 255
    assert surface_distances(prediction, reference, (1.0, 1.0)).hausdorff(100) == 0


def test_wrong_input_is_named() -> None:
    mask = np.ones((4, 4), bool)
    with pytest.raises(InputError, match="2-D mask"):
        surface_distances(mask, mask, (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="'surfel'"):
        surface_distances(mask, mask, (1.0, 1.0), surface="surfel")
