"""Synthetic pairs of a current and a prior scan, in which only what is new is annotated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cphloc.config.argument_types import NonNegativeInt, PositiveFloat, PositiveInt, UnitInterval
from cphloc.data.datasets.phantom import PhantomCases


class PhantomPairs(PhantomCases):
    """The CT images of `PhantomCases`, each with an earlier one as second channel; both lie on one grid.

    About half of the objects are in both images. The mask holds the others, and the label whether there are any.

    Args:
        size: image size in voxels.
        voxel_mm: voxel size in mm; default 1 mm, in 3-D 3 x 1 x 1 mm.
        objects: range of the number of objects in a positive case, in the current image.
        diameter_mm: range of the diameters of the objects in mm.
        distractors: range of the number of distractors, the same in both images.
        contrast: intensity difference between objects and tissue, in standard deviations of the tissue.
        cases: split -> number of cases; default 40 train, 10 val, 10 test.
        positive: fraction of cases with objects in the current image.
        annotated: rung -> fraction of the training cases with this annotation; default all with masks.
        seed: random seed of the data set.

    Raises:
        InputError: see `PhantomCases`.
    """

    prior = True

    def __init__(
        self,
        size: Sequence[PositiveInt] = (24, 64, 64),
        voxel_mm: Sequence[PositiveFloat] | None = None,
        objects: tuple[int, int] = (1, 3),
        diameter_mm: tuple[float, float] = (8.0, 20.0),
        distractors: tuple[int, int] = (0, 3),
        contrast: PositiveFloat = 4.0,
        cases: Mapping[str, NonNegativeInt] | None = None,
        positive: UnitInterval = 0.8,
        annotated: Mapping[str, UnitInterval] | None = None,
        seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__(
            size=size,
            voxel_mm=voxel_mm,
            objects=objects,
            diameter_mm=diameter_mm,
            distractors=distractors,
            contrast=contrast,
            cases=cases,
            positive=positive,
            annotated=annotated,
            seed=seed,
        )
        self.channels = ("ct", "prior ct")
