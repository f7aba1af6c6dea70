"""From a recipe's ``data`` to what a training reads: prepared cases and endless batches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cphloc import registry
from cphloc.errors import InputError
from cphloc.recipe import Recipe

if TYPE_CHECKING:
    from cphloc.data.dataset import Dataset
    from cphloc.data.loader import Batch
    from cphloc.data.prepare import PreparedCases
    from cphloc.data.preprocess import Preprocess


@dataclass(frozen=True)
class TrainingData:
    """Prepared training and validation cases, and the batches made of the former.

    Args:
        recipe: says how.
        dataset: classes and cases.
        train: training cases in the model's frame.
        val: validation cases likewise.
    """

    recipe: Recipe
    dataset: Dataset
    train: PreparedCases
    val: PreparedCases

    def batches(self, first: int, rank: int, ranks: int) -> Iterable[Batch]:
        """This process's share of every batch from number ``first`` on.

        Raises:
            InputError: the processes cannot share a batch evenly.
        """
        from cphloc.data.augment import Augmentation
        from cphloc.data.loader import PatchSamples, Steps, training_loader

        data, train = self.recipe.data, self.recipe.train
        if train.batch % ranks:
            msg = f"train.batch: {train.batch} cannot be shared by {ranks} processes; choose a multiple of {ranks}"
            raise InputError(msg)
        augmentation = Augmentation(data.augment, self.recipe.dims, self.dataset.laterality)
        samples = PatchSamples(self.train, tuple(data.patch), augmentation, data.foreground, train.seed)
        steps = Steps(train.batch // ranks, train.steps * train.accumulate, first, rank, ranks)
        return training_loader(samples, steps, workers(data.workers))

    def fingerprint(self) -> str:
        """sha256 over the training and validation cases: their ids, and the name and size of every file."""
        digest = hashlib.sha256()
        for split, prepared in (("train", self.train), ("val", self.val)):
            for case in prepared.cases:
                files = [(path.name, path.stat().st_size) for path in case.files]
                digest.update(repr((split, case.id, files)).encode())
        return digest.hexdigest()


def open_data(recipe: Recipe) -> TrainingData:
    """Find, prepare and check every training and validation case, so that nothing fails in the middle of a training.

    Raises:
        NotFoundError: the data set is not there.
        DataError: a case cannot be used; all of them are named.
    """
    from cphloc.data.prepare import prepare

    dataset = open_dataset(recipe)
    preprocess = preprocessing(recipe)
    train, val = (prepare(dataset.cases(split), preprocess, len(dataset.classes)) for split in ("train", "val"))
    return TrainingData(recipe, dataset, train, val)


def open_dataset(recipe: Recipe) -> Dataset:
    """The data set a recipe names."""
    args = {"root": recipe.data.root} if recipe.data.root is not None else {}
    return registry.resolve("dataset", recipe.data.type)(**args, **recipe.data.args)


def preprocessing(recipe: Recipe) -> Preprocess:
    """How a recipe brings an image into the model's frame."""
    from cphloc.data.intensity import parse_intensity
    from cphloc.data.preprocess import Preprocess

    spacing_mm = recipe.data.spacing_mm
    intensity = parse_intensity(recipe.data.intensity, recipe.in_channels)
    return Preprocess(recipe.dims, tuple(spacing_mm) if spacing_mm else None, intensity)


def workers(wanted: int | None) -> int:
    """Loading processes: as many as ``wanted``, else at most two, one core being left to the training."""
    return wanted if wanted is not None else min(2, max((os.cpu_count() or 1) - 1, 0))
