"""Data pipeline of a recipe: fitted intensity schemes, preprocessed cases and training batches."""

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
from cphloc.data.folds import with_folds
from cphloc.data.pipeline.intensity import Intensity, fit_intensity, parse_intensity
from cphloc.data.pipeline.loader import Batch, PatchSamples, Steps, training_loader
from cphloc.data.pipeline.prepare import PreparedCases, prepare
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.data.pipeline.tiles import Tiled
from cphloc.data.usable import without_unusable
from cphloc.errors import DataError, InputError
from cphloc.recipe.dataset import make_dataset
from cphloc.recipe.fields import Block, Data
from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue
from cphloc.structures.boxes import mask_of
from cphloc.structures.padding import Pad, training_fill
from cphloc.structures.rung import Rung
from cphloc.structures.split import Split


class Pipeline:
    """Provide the preprocessed cases and training batches of a data set, as specified by ``data`` in a recipe.

    Args:
        dataset: the data set.
        patch: size ``(*S)`` of training patches in voxels.
        spacing_mm: voxel size to resample to, in array axis order; ``None`` keeps that of each image.
        intensity: intensity scheme, or one per channel; missing constants are computed from the training cases.
        fit: ``patch`` samples patches from the resampled images; ``whole`` scales every image, keeping its aspect
            ratio, to fit into one patch, and pads it.
        pad: values beyond the edge of an image that is smaller than the patch.
        augment: augmentation transforms of the training patches, in order.
        foreground: fraction of patches in [0, 1] that are centred on a foreground voxel.
        workers: number of worker processes for loading; ``None`` uses the number of cores minus 1, at most 2.
        skip_bad: whether to exclude unusable cases instead of raising an error.
        seed: random seed.
        rungs: name of each head -> weakest annotation that it learns from, for the shares of the training patches.

    Raises:
        InputError: the patch has a different number of axes than the data set, or an argument is out of range.
    """

    def __init__(
        self,
        dataset: Dataset,
        patch: Sequence[int],
        spacing_mm: Sequence[float] | None = None,
        intensity: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] = "zscore",
        fit: Literal["patch", "whole"] = "patch",
        pad: Pad = "zero",
        augment: Sequence[Mapping[str, Any]] = (),
        foreground: float = 0.33,
        workers: int | None = None,
        skip_bad: bool = False,
        seed: int = 0,
        rungs: Mapping[str, Rung | None] | None = None,
    ) -> None:
        self.rungs = dict(rungs or {})
        self.dataset = dataset
        self.patch = tuple(patch)
        if len(self.patch) != dataset.dims or min(self.patch) < 1:
            msg = f"patch must be {dataset.dims} positive sizes for this {dataset.dims}-D data set, got {list(patch)}"
            raise InputError(msg)
        self.spacing_mm = None if spacing_mm is None else tuple(spacing_mm)
        self.fit = self.patch if fit == "whole" else None
        self.schemes = parse_intensity(intensity, len(dataset.channels))
        self.pad: Pad = pad
        self.augmentation = Augmentation(augment, dataset.dims, dataset.sided)
        self.foreground = foreground
        self.workers = min(2, (os.cpu_count() or 1) - 1) if workers is None else workers
        self.skip_bad = skip_bad
        self.seed = seed

    @classmethod
    def from_recipe(cls, recipe: Recipe, dataset: Dataset | None = None) -> Pipeline:
        """Create the pipeline of a recipe.

        Args:
            recipe: the recipe.
            dataset: data set of the recipe, if it is already open.

        Raises:
            NotFoundError: the files of the data set are missing.
            InputError: the recipe has no ``data.patch``, or has ``data.nnunet`` or ``data.monai``, or a root or
                channels that the data set does not accept.
        """
        data = recipe.data
        if data.patch is None:
            msg = f"recipe '{recipe.name}' has no data.patch; add the size of training patches in voxels"
            raise InputError(msg)
        if foreign := [name for name in ("nnunet", "monai") if getattr(data, name) is not None]:
            msg = f"recipe '{recipe.name}' has data.{foreign[0]}, which is for predictions with imported weights"
            raise InputError(f"{msg}; to train, set it to null: images are then prepared as cphloc does")
        schemes = data.intensity if isinstance(data.intensity, list) else [data.intensity]
        intensity = [_plain(scheme) for scheme in schemes]
        return cls(
            dataset or open_dataset(data, recipe.dims),
            data.patch,
            data.spacing_mm,
            intensity if isinstance(data.intensity, list) else intensity[0],
            data.fit,
            data.pad,
            [_plain(block) for block in data.augment],
            data.foreground,
            data.workers,
            data.skip_bad,
            recipe.train.seed,
            rungs_of(recipe),
        )

    @cached_property
    def intensity(self) -> tuple[Intensity, ...]:
        """Intensity schemes, one per channel, with constants fitted to the training cases."""
        training = self.dataset.cases("train")
        return tuple(
            fit_intensity(scheme, *_channel(training, self.dataset.dims, number))
            for number, scheme in enumerate(self.schemes)
        )

    @cached_property
    def preprocess(self) -> Preprocess:
        """Preprocessing of the images, with fitted intensity schemes."""
        return Preprocess(self.dataset.dims, self.spacing_mm, self.intensity, self.fit)

    def listed(self, split: Split) -> list[Case]:
        """List the cases of a split without reading images.

        Raises:
            DataError: the split is empty.
        """
        cases = self.dataset.cases(split)
        if not cases:
            msg = f"the data set has no case in the split '{split}'; add some to its table of cases, or check data.root"
            raise DataError(msg)
        return cases

    def cases(self, split: Split) -> PreparedCases:
        """Check and preprocess all cases of a split.

        Raises:
            DataError: the split is empty, or cases are unusable (one line per case) and ``skip_bad`` is False.
        """
        return prepare(self.listed(split), self.preprocess, len(self.dataset.classes), self.skip_bad)

    def fingerprint(self, split: Split) -> str:
        """Return the SHA-256 of the ids and contents of the cases of a split."""
        return fingerprint((case.id, case.content) for case in self.cases(split))

    @cached_property
    def samples(self) -> PatchSamples:
        """Patches of the training split.

        Raises:
            DataError: cases are unusable, or a case or patient is in two splits.
        """
        check_splits(self.dataset)
        fill = training_fill(self.pad)
        cases = self.cases("train")
        return PatchSamples(cases, self.patch, self.augmentation, self.foreground, self.seed, fill, self.rungs)

    def batches(self, batch: int, first: int = 0, rank: int = 0, ranks: int = 1) -> Iterable[Batch]:
        """Return an infinite iterable of training batches.

        Args:
            batch: patches per batch and process.
            first: index of the first batch; above 0 for a resumed run, which continues with the same batches.
            rank: index of this process, from 0.
            ranks: number of processes (world size).
        """
        return training_loader(self.samples, Steps(batch, first, rank, ranks), self.workers)


def open_dataset(data: Data, dims: int) -> Dataset:
    """Open the data set of a recipe, with its folds, split into tiles if ``data.tiles`` is set.

    With ``data.skip_bad``, cases that cannot be used are left out of every split and listed on the error stream.

    Args:
        data: section ``data`` of the recipe.
        dims: number of spatial axes of the recipe, 2 or 3.

    Raises:
        NotFoundError: the files of the data set are missing.
        InputError: the data set does not accept ``root`` or ``channels``, or its images have another number of axes.
    """
    dataset = make_dataset(data, dims)
    inputs = catalogue.inputs(catalogue.card("dataset", data.type), dataset.channels, data.units)
    wanted = (channel.unit for channel in inputs.values())
    dataset.units = tuple(None if unit.unit == "arbitrary" else unit for unit in wanted)
    if data.skip_bad:
        dataset = without_unusable(dataset)
    if data.folds is not None and data.folds.fold is not None:
        dataset = with_folds(dataset, data.folds)
    return dataset if data.tiles is None else Tiled(dataset, data.tiles)


def open_undivided(data: Data, dims: int) -> Dataset:
    """Open the data set of a recipe with its own splits, without folds and without tiles; errors as `open_dataset`."""
    return open_dataset(data.model_copy(update={"folds": None, "tiles": None}), dims)


def rungs_of(recipe: Recipe) -> dict[str, Rung | None]:
    """Return the weakest annotation that each head learns from.

    A head whose loss also learns from boxes, or whose masks are seeded from a label, has a further row for these. A
    teacher teaches the cases without annotation as well.
    """
    rungs: dict[str, Rung | None] = {}
    for name, head in recipe.model.heads.items():
        rungs[name] = Rung[(catalogue.card("head", head.type).rung or "label").upper()]
        loss = head.args.get("loss")
        weaker = catalogue.card("loss", loss["type"]).rung if isinstance(loss, Mapping) else None
        if weaker is not None:
            rungs[f"{name} by {weaker}"] = Rung[weaker.upper()]
        if name in recipe.model.seeds:
            rungs[f"{name} by seeds"] = Rung.LABEL
    if recipe.train.teacher is not None:
        rungs["the teacher"] = None
    return rungs


def _plain(block: str | Block) -> dict[str, Any]:
    return {"type": block} if isinstance(block, str) else {"type": block.type, **block.args}


def _channel(
    cases: Sequence[Case], dims: int, channel: int
) -> tuple[Iterator[np.ndarray], Iterator[np.ndarray | None]]:
    """One channel and the foreground mask of each readable case; unreadable cases are skipped and reported later."""
    first, second = itertools.tee(_readable(cases, dims))
    return (array[channel] for array, _ in first), (mask for _, mask in second)


def _readable(cases: Sequence[Case], dims: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    for case in cases:
        try:
            volume, given = read_case(case, dims)
        except DataError:
            continue
        mask = given.mask
        if mask is None and given.boxes is not None:
            mask = mask_of(*given.objects, volume.geometry.shape)
        yield volume.array, mask
