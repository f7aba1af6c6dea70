"""The data side of one recipe: fitted intensity schemes, prepared cases, training batches."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from cphloc.data.augment.augmentation import Augmentation
from cphloc.data.case import Case, read_case
from cphloc.data.dataset import Dataset
from cphloc.data.fingerprint import check_splits, fingerprint
from cphloc.data.pipeline.intensity import Intensity, fit_intensity, parse_intensity
from cphloc.data.pipeline.loader import Batch, PatchSamples, Steps, training_loader
from cphloc.data.pipeline.prepare import PreparedCases, prepare
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.data.pipeline.tiles import Tiled
from cphloc.errors import DataError, InputError
from cphloc.recipe.dataset import make_dataset
from cphloc.recipe.recipe import Block, Data, Recipe
from cphloc.structures.annotation import mask_of
from cphloc.structures.split import Split


class Pipeline:
    """Turn a data set into prepared cases and training batches, as the ``data`` section of a recipe states.

    Args:
        dataset: the data set.
        patch: size ``(*S)`` of training patches in voxels.
        spacing_mm: voxel size in the model's frame, array order; ``None`` keeps each image's own.
        intensity: scheme, or one per channel; missing constants are computed from the training cases.
        fit: ``patch`` cuts patches out of images at their resolution; ``whole`` scales every image, keeping its
            proportions, until it fits into one patch, and pads it.
        augment: transforms of the training patches, in order.
        foreground: fraction of patches that are centred on an object.
        workers: processes that load ahead; ``None`` means one less than the number of cores, at most two.
        skip_bad: leave out cases that cannot be used, instead of raising an error.
        seed: seed of the run.

    Raises:
        InputError: the patch has another number of axes than the data set, or an argument is out of range.
    """

    def __init__(
        self,
        dataset: Dataset,
        patch: Sequence[int],
        spacing_mm: Sequence[float] | None = None,
        intensity: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] = "zscore",
        fit: Literal["patch", "whole"] = "patch",
        augment: Sequence[Mapping[str, Any]] = (),
        foreground: float = 0.33,
        workers: int | None = None,
        skip_bad: bool = False,
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.patch = tuple(patch)
        if len(self.patch) != dataset.dims or min(self.patch) < 1:
            msg = f"patch must be {dataset.dims} positive sizes for this {dataset.dims}-D data set, got {list(patch)}"
            raise InputError(msg)
        self.spacing_mm = None if spacing_mm is None else tuple(spacing_mm)
        self.fit = self.patch if fit == "whole" else None
        self.schemes = parse_intensity(intensity, len(dataset.channels))
        self.augmentation = Augmentation(augment, dataset.dims, dataset.laterality)
        self.foreground = foreground
        self.workers = min(2, (os.cpu_count() or 1) - 1) if workers is None else workers
        self.skip_bad = skip_bad
        self.seed = seed

    @classmethod
    def from_recipe(cls, recipe: Recipe, dataset: Dataset | None = None) -> Pipeline:
        """Make the pipeline of a recipe.

        Args:
            recipe: the recipe.
            dataset: its data set, where that is open already.

        Raises:
            NotFoundError: the files of the data set are missing.
            InputError: the recipe names no patch, or a root or channels that its data set does not take.
        """
        data = recipe.data
        if data.patch is None:
            msg = f"recipe '{recipe.name}' has no data.patch; state the size of training patches in voxels"
            raise InputError(msg)
        schemes = data.intensity if isinstance(data.intensity, list) else [data.intensity]
        intensity = [_plain(scheme) for scheme in schemes]
        return cls(
            dataset or open_dataset(data, recipe.dims),
            data.patch,
            data.spacing_mm,
            intensity if isinstance(data.intensity, list) else intensity[0],
            data.fit,
            [_plain(block) for block in data.augment],
            data.foreground,
            data.workers,
            data.skip_bad,
            recipe.train.seed,
        )

    @cached_property
    def intensity(self) -> tuple[Intensity, ...]:
        """Intensity schemes with all constants, as the resolved recipe states them."""
        training = self.dataset.cases("train")
        return tuple(
            fit_intensity(scheme, *_channel(training, self.dataset.dims, number))
            for number, scheme in enumerate(self.schemes)
        )

    @cached_property
    def preprocess(self) -> Preprocess:
        """The preprocessing of every image."""
        return Preprocess(self.dataset.dims, self.spacing_mm, self.intensity, self.fit)

    def listed(self, split: Split) -> list[Case]:
        """Return the cases of a split; no file is read.

        Raises:
            DataError: there is none.
        """
        cases = self.dataset.cases(split)
        if not cases:
            msg = f"the data set has no case in '{split}'; put some into its table of cases, or check data.root"
            raise DataError(msg)
        return cases

    def cases(self, split: Split) -> PreparedCases:
        """Check and prepare all cases of a split.

        Raises:
            DataError: there is no case, or cases cannot be used (one line each) and ``skip_bad`` is not set.
        """
        return prepare(self.listed(split), self.preprocess, len(self.dataset.classes), self.skip_bad)

    def fingerprint(self, split: Split) -> str:
        """SHA-256 of the ids and contents of the cases in a split."""
        return fingerprint((case.id, case.content) for case in self.cases(split))

    @cached_property
    def samples(self) -> PatchSamples:
        """The patches of the training split.

        Raises:
            DataError: cases cannot be used, or a case or patient is in two splits.
        """
        check_splits(self.dataset)
        return PatchSamples(self.cases("train"), self.patch, self.augmentation, self.foreground, self.seed)

    def batches(self, batch: int, first: int = 0, rank: int = 0, ranks: int = 1) -> Iterable[Batch]:
        """Iterate over training batches, without end.

        Args:
            batch: patches per batch and process.
            first: index of the first batch; above 0 when a run is resumed, which then sees the same batches.
            rank: index of this process.
            ranks: number of processes.
        """
        return training_loader(self.samples, Steps(batch, first, rank, ranks), self.workers)


def open_dataset(data: Data, dims: int) -> Dataset:
    """Open the data set that the ``data`` section of a recipe names, cut into tiles where it says so.

    Args:
        data: the section.
        dims: number of axes that the recipe states.

    Raises:
        NotFoundError: it is not there.
        InputError: it takes no ``root`` or no ``channels``, or its images have another number of axes.
    """
    dataset = make_dataset(data, dims)
    return dataset if data.tiles is None else Tiled(dataset, data.tiles)


def _plain(block: str | Block) -> dict[str, Any]:
    return {"type": block} if isinstance(block, str) else {"type": block.type, **block.args}


def _channel(
    cases: Sequence[Case], dims: int, channel: int
) -> tuple[Iterator[np.ndarray], Iterator[np.ndarray | None]]:
    """One channel and the foreground mask of each readable case; others are reported when cases are prepared."""
    first, second = itertools.tee(_readable(cases, dims))
    return (array[channel] for array, _ in first), (mask for _, mask in second)


def _readable(cases: Sequence[Case], dims: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    for case in cases:
        try:
            volume, given = read_case(case, dims)
        except DataError:
            continue
        mask = given.mask
        if mask is None and given.boxes is not None and given.box_classes is not None:
            mask = mask_of(given.boxes, given.box_classes, volume.geometry.shape)
        yield volume.array, mask
