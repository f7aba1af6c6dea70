import numpy as np
import pytest
import torch

from cphloc.data.pipeline.intensity import parse_intensity
from cphloc.data.pipeline.preprocess import Preprocess, restore_mask
from cphloc.data.pipeline.slabs import MaskRows, Slabs
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume

SHAPE = {2: (23, 17), 3: (19, 12, 15)}
SPACING = {2: (1.5, 0.8), 3: (3.0, 0.7, 1.1)}


def volume(dims):
    """An image whose axes are flipped and in another order than the patient's."""
    direction = np.array([[0, 1], [-1, 0]]) if dims == 2 else np.array([[0, -1, 0], [0, 0, 1], [1, 0, 0]])
    geometry = Geometry(SHAPE[dims], SPACING[dims], (5.0, -7.0, 11.0)[:dims], direction.astype(float))
    return Volume(np.random.default_rng(0).normal(size=(1, *SHAPE[dims])).astype(np.float32), geometry)


def grids(dims):
    """The image's own grid, a finer one, one so coarse that it is smoothed before, and a mixture."""
    return [None, (0.6,) * dims, (4.0,) * dims, (4.0, *(0.5,) * (dims - 1))]


@pytest.mark.parametrize("scheme", [{"type": "scale", "low": -2, "high": 2}, "zscore"])
@pytest.mark.parametrize("grid", range(4))
@pytest.mark.parametrize("dims", [2, 3])
def test_rows_are_those_of_the_whole_image(dims, grid, scheme):
    preprocess = Preprocess(dims, grids(dims)[grid], parse_intensity(scheme, 1))
    whole, slabs = preprocess(volume(dims)).array, Slabs(preprocess, volume(dims))
    assert slabs.shape == (1, *whole.shape)
    rows = whole.shape[1]
    for first, stop in [(0, 3), (2, 5), (rows - 2, rows), (1, 2)]:
        assert np.allclose(slabs[:, :, first:stop].numpy()[0], whole[:, first:stop], atol=1e-5)


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("grid", range(4))
@pytest.mark.parametrize("dims", [2, 3])
def test_a_mask_written_row_by_row_is_that_of_the_whole_image(dims, grid, step):
    original = volume(dims).geometry
    prepared = Preprocess(dims, grids(dims)[grid], parse_intensity("none", 1)).frame(original)
    logits = torch.randn(3, *prepared.shape, generator=torch.Generator().manual_seed(0))
    rows = MaskRows(prepared, original)
    for first in range(0, prepared.shape[0], step):
        rows.add_rows(first, logits[:, first : first + step])
    assert np.array_equal(rows.mask(), restore_mask(prepared, original, logits.softmax(0).numpy()))
