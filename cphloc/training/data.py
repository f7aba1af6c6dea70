"""From a recipe's ``data`` to the pipeline that a training reads."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cphloc import registry
from cphloc.errors import InputError
from cphloc.recipe import Recipe

if TYPE_CHECKING:
    from cphloc.data.dataset import Dataset
    from cphloc.data.loader import Batch
    from cphloc.data.pipeline import Pipeline
    from cphloc.data.prepare import PreparedCases


def pipeline_of(recipe: Recipe) -> Pipeline:
    """The data set of a recipe, made ready for it.

    Raises:
        NotFoundError: the data set is not there.
    """
    from cphloc.data.pipeline import Pipeline

    data = recipe.to_plain()["data"]
    given = {name: data[name] for name in inspect.signature(Pipeline).parameters if data.get(name) is not None}
    given["workers"] = _workers(recipe.data.workers)
    return Pipeline(dataset_of(recipe), seed=recipe.train.seed, **given)


def dataset_of(recipe: Recipe) -> Dataset:
    """The data set that a recipe names."""
    made = registry.resolve("dataset", recipe.data.type)
    common = {"root": recipe.data.root, "channels": recipe.data.channels}
    wanted = {name: value for name, value in common.items() if name in inspect.signature(made).parameters}
    return made(**wanted, **recipe.data.args)


class Batches:
    """Every process's share of a training's batches; see `module.Batches`.

    Raises:
        InputError: the processes cannot share a batch evenly.
    """

    def __init__(self, pipeline: Pipeline, batch: int) -> None:
        self.pipeline = pipeline
        self.batch = batch

    def __call__(self, first: int, rank: int, ranks: int) -> Iterable[Batch]:
        """The batches of process ``rank`` of ``ranks`` from number ``first`` on."""
        if self.batch % ranks:
            msg = f"train.batch: {self.batch} cannot be shared by {ranks} processes; choose a multiple of {ranks}"
            raise InputError(msg)
        return self.pipeline.batches(self.batch // ranks, first, rank, ranks)


def fingerprint(**splits: PreparedCases) -> str:
    """sha256 over the cases of the named splits: their ids, and the name and size of every file."""
    digest = hashlib.sha256()
    for split, prepared in splits.items():
        for case in prepared.cases:
            files = [(path.name, path.stat().st_size) for path in case.files]
            digest.update(repr((split, case.id, files)).encode())
    return digest.hexdigest()


def _workers(wanted: int | None) -> int:
    """Loading processes: as many as ``wanted``, else at most two, one core being left to the training."""
    return wanted if wanted is not None else min(2, max((os.cpu_count() or 1) - 1, 0))
