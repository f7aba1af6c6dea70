from __future__ import annotations

import numpy as np
import pytest

from cphloc.data.case import AnnotationSource, Case, read_case
from cphloc.data.dataset import Dataset
from cphloc.data.io.write import write_map, write_mask
from cphloc.data.pipeline.tiles import Tiled, tiles_of
from cphloc.errors import InputError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume, reoriented

OBLIQUE = np.array([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture
def case(tmp_path) -> Case:
    """An oblique volume of odd sizes with a mask in one corner."""
    grid = Geometry((7, 10, 13), (3.0, 1.0, 2.0), (5.0, -4.0, 2.0), OBLIQUE)
    mask = np.zeros(grid.shape, np.uint8)
    mask[:3, :4, :5] = 1
    write_map(tmp_path / "image.nii.gz", np.arange(mask.size, dtype=np.float32).reshape(mask.shape), grid)
    write_mask(tmp_path / "mask.nii.gz", mask, grid)
    return Case("a", "p", (tmp_path / "image.nii.gz",), AnnotationSource(mask=tmp_path / "mask.nii.gz"))


class One(Dataset):
    dims, classes, channels, root = 3, {1: "x"}, ("ct",), None

    def __init__(self, case: Case) -> None:
        self.case = case

    def _cases(self, split):
        return [self.case]


def test_the_tiles_make_up_the_image_each_at_its_place(case):
    volume, known = read_case(case)
    tiles = [read_case(tile) for tile in tiles_of(case, (2, 3, 1))]
    assert sum(part.array.size for part, _ in tiles) == volume.array.size
    assert sum(int(mark.mask.sum()) for _, mark in tiles) == int(known.mask.sum())
    for part, _ in tiles:
        first = part.geometry.edges_to_world(np.full(3, 0.5))
        index = np.rint(volume.geometry.world_to_edges(first) - 0.5).astype(int)
        assert part.array[0, 0, 0, 0] == volume.array[0, *index]


def test_a_positive_image_gives_negative_tiles(case):
    labels = [read_case(tile)[1].completed(_shape(tile), 1).label[0] for tile in tiles_of(case, (2, 2, 2))]
    assert labels == [0, 0, 1, 0, 0, 0, 0, 0], "the first rows of the array lie at the patient's back"


@pytest.mark.parametrize(("order", "flip"), [((0, 1, 2), ()), ((2, 0, 1), (1,)), ((1, 2, 0), (0, 2))])
def test_tiles_are_counted_along_the_axes_of_the_patient(tmp_path, order, flip):
    """The second of two tiles along z is the upper half of the patient, however the voxels are stored."""
    grid = Geometry.regular((6, 8, 10), (3.0, 1.0, 1.0))
    values = np.broadcast_to(np.arange(6, dtype=np.float32)[:, None, None], grid.shape)
    path = tmp_path / "stored.nii.gz"
    write_map(path, reoriented(values, order, flip), grid.reoriented(order, flip))
    lower, upper = (read_case(tile)[0].array for tile in tiles_of(Case("a", "p", (path,)), (2, 1, 1)))
    assert (set(lower.ravel()), set(upper.ravel())) == ({0, 1, 2}, {3, 4, 5})


def test_only_validation_and_test_are_tiled_and_tiles_keep_their_patient(case):
    tiled = Tiled(One(case), [2, 2, 2])
    assert [len(tiled.cases(split)) for split in ("train", "val", "test")] == [1, 8, 8]
    assert {tile.patient for tile in tiled.cases("test")} == {"p"}
    assert len({tile.id for tile in tiled.cases("test")}) == 8


def test_one_number_of_parts_per_axis_is_needed(case):
    with pytest.raises(InputError, match="3 numbers of tiles"):
        Tiled(One(case), [2, 2])


def _shape(tile: Case) -> tuple[int, ...]:
    volume: Volume = read_case(tile)[0]
    return volume.geometry.shape
