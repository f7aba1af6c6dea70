"""Components of masks are removed by their physical size, the same whole as in slabs, however voxels are stored."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cphloc.inference import components
from cphloc.inference.components import filter_components
from cphloc.structures.geometry import Geometry
from cphloc.structures.options import Options

CLASSES = {1: "liver", 2: "cyst"}
both = pytest.mark.parametrize("dims", [2, 3])


def by_scipy(mask, spacing_mm, largest=(), least_mm=None):
    """Reference: label each class of the whole mask, and keep what is large enough."""
    result = mask.copy()
    for number, name in CLASSES.items():
        labels, count = ndimage.label(mask == number, np.ones((3,) * mask.ndim))
        sizes = np.array([(labels == k).sum() for k in range(1, count + 1)])
        for k, size in enumerate(sizes, start=1):
            small = name in (least_mm or {}) and size * np.prod(spacing_mm) < least_mm[name]
            if small or (name in largest and size < sizes.max()):
                result[labels == k] = 0
    return result


def speckled(dims, seed=0):
    return (np.random.default_rng(seed).random((12,) * dims) ** 3 * 3).astype(np.uint8)


@both
@pytest.mark.parametrize("at_once", [1, 200, 1 << 25])
def test_the_result_is_that_of_labelling_the_whole_mask(monkeypatch, dims, at_once):
    monkeypatch.setattr(components, "VOXELS_AT_ONCE", at_once)
    spacing = (2.5, 0.7, 1.3)[:dims]
    mask, grid = speckled(dims), Geometry.regular((12,) * dims, spacing)
    for largest, least in ((["liver"], {}), ([], {"cyst": 9.0}), (["cyst"], {"liver": 20.0, "cyst": 30.0})):
        found, remarks = filter_components(mask, grid, CLASSES, Options(largest=largest, min_size=least))
        assert np.array_equal(found, by_scipy(mask, spacing, largest, least))
        assert remarks == []


@both
def test_sizes_are_physical_and_the_storage_of_voxels_does_not_matter(dims):
    """The same two objects on a coarse and on a fine grid: 4 and 32 mm3 (2-D: 4 and 16 mm2)."""
    coarse = np.zeros((6,) * dims, np.uint8)
    coarse[(slice(0, 1),) * dims] = 1
    coarse[(slice(3, 5),) * dims] = 1
    fine = coarse.repeat(2, axis=0)
    options = Options(min_size={"liver": 5.0})
    edge = (1.0, 2.0, 2.0)[:dims] if dims == 3 else (2.0, 2.0)
    spacing = edge if dims == 2 else (1.0, 2.0, 2.0)
    kept = filter_components(coarse, Geometry.regular(coarse.shape, spacing), CLASSES, options)[0]
    halved = (spacing[0] / 2, *spacing[1:])
    again = filter_components(fine, Geometry.regular(fine.shape, halved), CLASSES, options)[0]
    assert kept.sum() == 2**dims
    assert np.array_equal(kept.repeat(2, axis=0), again)
    turned = filter_components(coarse.T, Geometry.regular(coarse.T.shape, spacing[::-1]), CLASSES, options)[0]
    assert np.array_equal(turned.T, kept)


@both
def test_equal_largest_components_all_stay(dims):
    mask = np.zeros((5,) * dims, np.uint8)
    mask[(0,) * dims] = mask[(4,) * dims] = 1
    grid = Geometry.regular(mask.shape)
    assert filter_components(mask, grid, CLASSES, Options(largest=["liver"]))[0] is mask


def test_a_size_in_mm_is_not_applied_to_pixels():
    mask = np.ones((2, 2), np.uint8)
    grid = Geometry.regular((2, 2), unit="px")
    kept, remarks = filter_components(mask, grid, CLASSES, Options(min_size={"liver": 50.0}))
    assert kept is mask
    assert remarks == ["the least size of liver is in mm, the image in px: not used"]


def test_an_empty_mask_stays():
    mask = np.zeros((3, 4), np.uint8)
    assert filter_components(mask, Geometry.regular((3, 4)), CLASSES, Options(largest=["liver"]))[0] is mask
