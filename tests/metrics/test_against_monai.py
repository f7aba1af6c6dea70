"""MONAI as oracle; the only test module of metrics that imports it, since that takes over ten seconds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from cphloc.metrics.segmentation import dice
from cphloc.metrics.surface import surface_distances

monai = pytest.importorskip("monai.metrics")
torch = pytest.importorskip("torch")

GRIDS = pytest.mark.parametrize(
    ("shape", "spacing_mm"), [((40, 50), (3.0, 2.0)), ((14, 20, 24), (5.0, 0.7, 1.3))], ids=["2-D", "3-D"]
)


def blobs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.5) > 0.53


def tensors(*masks: np.ndarray) -> list:
    return [torch.from_numpy(m)[None, None].float() for m in masks]


@GRIDS
@pytest.mark.parametrize("seed", [0, 1])
def test_border_metrics_equal_monai(shape, spacing_mm, seed) -> None:
    first, second = blobs(shape, seed), blobs(shape, seed + 10)
    found = surface_distances(first, second, spacing_mm)
    options = {"include_background": True, "spacing": spacing_mm}
    pair = tensors(first, second)
    assert found.hausdorff(95) == pytest.approx(
        monai.compute_hausdorff_distance(*pair, percentile=95, **options).item(), rel=1e-5
    )
    assert found.average() == pytest.approx(
        monai.compute_average_surface_distance(*pair, symmetric=True, **options).item(), rel=1e-5
    )
    assert found.dice(2.0) == pytest.approx(monai.compute_surface_dice(*pair, [2.0], **options).item(), rel=1e-5)
    assert dice(first, second) == pytest.approx(monai.compute_dice(*pair, include_background=True).item(), rel=1e-5)


@GRIDS
def test_area_metrics_equal_monai_with_subvoxels_where_surfaces_are_flat(shape, spacing_mm) -> None:
    first, second = np.zeros((2, *shape), bool)
    first[tuple(slice(3, n - 4) for n in shape)] = True
    second[tuple(slice(4, n - 2) for n in shape)] = True
    found = surface_distances(first, second, spacing_mm, surface="area")
    theirs = monai.compute_surface_dice(
        *tensors(first, second), [1.0], include_background=True, spacing=spacing_mm, use_subvoxels=True
    )
    assert 0 < found.dice(1.0) < 1
    assert found.dice(1.0) == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("spacing_mm", [(3.0, 2.0), (2.0, 1.0, 1.0)], ids=["2-D", "3-D"])
def test_area_of_each_flat_cell_equals_the_marching_cubes_table(spacing_mm) -> None:
    from monai.metrics.utils import get_code_to_measure_table

    table, kernel = get_code_to_measure_table(spacing_mm, device="cpu")
    dims = len(spacing_mm)
    equal = 0
    for corners in itertools.product((False, True), repeat=2**dims):
        cell = np.zeros((2,) * dims, bool)
        cell.flat[:] = corners
        mask = np.pad(cell, 1)[(slice(None),) * dims]
        code = int((torch.from_numpy(cell).float() * kernel.squeeze()).sum())
        here = _area_at_the_middle(mask, spacing_mm)
        assert here <= table[code].item() + 1e-5
        equal += here == pytest.approx(table[code].item(), abs=1e-5)
    assert equal >= {2: 16, 3: 100}[dims]


def _area_at_the_middle(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> float:
    from cphloc.metrics.surface import _corners

    on_surface, areas = _corners(mask, spacing_mm)
    placed = np.zeros(on_surface.shape)
    placed[on_surface] = areas
    return float(placed[(2,) * mask.ndim])
