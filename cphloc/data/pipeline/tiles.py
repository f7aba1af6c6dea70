"""Images cut into equal parts, for models that answer for a part of an image: does this tile hold a finding?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from cphloc.data.case import Case
from cphloc.data.dataset import Dataset, Split
from cphloc.errors import InputError


class Tiled(Dataset):
    """A data set whose validation and test images come in parts; training still draws patches from whole images.

    The parts of an image share its patient, so intervals by patient stay honest, and an image that is positive as a
    whole gives negative parts too.

    Args:
        whole: the data set.
        tiles: number of parts along each axis.

    Raises:
        InputError: not one number per axis.
    """

    def __init__(self, whole: Dataset, tiles: Sequence[int]) -> None:
        if len(tiles) != whole.dims:
            msg = (
                f"data.tiles must be {whole.dims} numbers of parts for this {whole.dims}-D data set, got {list(tiles)}"
            )
            raise InputError(msg)
        self.whole, self.tiles = whole, tuple(tiles)
        self.dims, self.classes, self.channels = whole.dims, whole.classes, whole.channels
        self.laterality, self.root = whole.laterality, whole.root

    def _cases(self, split: Split) -> list[Case]:
        cases = self.whole.cases(split)
        return cases if split == "train" else [tile for case in cases for tile in tiles_of(case, self.tiles)]


def tiles_of(case: Case, tiles: Sequence[int]) -> list[Case]:
    """The parts of a case, in array order.

    >>> from pathlib import Path
    >>> [tile.id for tile in tiles_of(Case("a", "a", (Path("a.nii"),)), (1, 2))]
    ['a-tile-0-0', 'a-tile-0-1']
    """
    return [
        replace(case, id=f"{case.id}-tile-{'-'.join(map(str, place))}", tile=tuple(zip(place, tiles, strict=True)))
        for place in product(*map(range, tiles))
    ]
