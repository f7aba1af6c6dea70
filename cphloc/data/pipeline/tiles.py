"""Split images into equal tiles, for models that classify each tile of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from cphloc.data.case import Case
from cphloc.data.dataset import Dataset
from cphloc.errors import InputError
from cphloc.structures.split import Split


class Tiled(Dataset):
    """Data set whose validation and test images are split into tiles; training samples patches from whole images.

    The tiles of an image share its patient, so that confidence intervals over patients remain valid. A positive image
    may also have negative tiles.

    Args:
        whole: the data set to split into tiles.
        tiles: number of tiles along each canonical axis: z, y, x of the patient, whatever the order of the voxels.

    Raises:
        InputError: ``tiles`` does not have one number per axis.
    """

    def __init__(self, whole: Dataset, tiles: Sequence[int]) -> None:
        if len(tiles) != whole.dims:
            msg = (
                f"data.tiles must be {whole.dims} numbers of tiles for this {whole.dims}-D data set, got {list(tiles)}"
            )
            raise InputError(msg)
        self.whole, self.tiles = whole, tuple(tiles)
        self.dims, self.classes, self.channels = whole.dims, whole.classes, whole.channels
        self.laterality, self.root = whole.laterality, whole.root

    def _cases(self, split: Split) -> list[Case]:
        cases = self.whole.cases(split)
        return cases if split == "train" else [tile for case in cases for tile in tiles_of(case, self.tiles)]


def tiles_of(case: Case, tiles: Sequence[int]) -> list[Case]:
    """Split a case into tiles, in row-major order.

    Args:
        case: the case.
        tiles: number of tiles along each canonical axis: z, y, x of the patient, whatever the order of the voxels.

    >>> from pathlib import Path
    >>> [tile.id for tile in tiles_of(Case("a", "a", (Path("a.nii"),)), (1, 2))]
    ['a-tile-0-0', 'a-tile-0-1']
    """
    return [
        replace(case, id=f"{case.id}-tile-{'-'.join(map(str, place))}", tile=tuple(zip(place, tiles, strict=True)))
        for place in product(*map(range, tiles))
    ]
