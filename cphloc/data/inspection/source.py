"""The data set that is looked at: by its name, from a folder, or from a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cphloc.data.dataset import Dataset
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.data.planning.layout import recognize
from cphloc.data.planning.splits import Notes, propose_splits
from cphloc.errors import DataError
from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue
from cphloc.structures.units import ScaledUnit


@dataclass(frozen=True)
class Source:
    """A data set and what is known about it besides its cases.

    Args:
        name: for headings.
        dataset: the data set.
        units: unit of each channel; ``None`` where it is arbitrary.
        preprocess: how images are resampled; ``None``: to the spacing that a plan would choose.
        notes: what was found out about patients and splits.
    """

    name: str
    dataset: Dataset
    units: tuple[ScaledUnit | None, ...]
    preprocess: Preprocess | None = None
    notes: Notes = ()

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> Source:
        """Open the data set of a recipe, with all its cases as whole images.

        Raises:
            NotFoundError: the files of the data set are missing.
            InputError: the data set does not accept the arguments of the recipe.
        """
        data = recipe.data.model_copy(update={"skip_bad": False, "tiles": None})
        dataset = open_dataset(data, recipe.dims)
        fit = tuple(data.patch) if data.fit == "whole" and data.patch else None
        spacing = None if data.spacing_mm is None else tuple(data.spacing_mm)
        units = dataset.units or (None,) * len(dataset.channels)
        return cls(recipe.name, dataset, units, Preprocess(recipe.dims, spacing, (), fit))

    @classmethod
    def of_data(cls, data: str, stated: Mapping[str, Any] | None = None, dims: int | None = None) -> Source:
        """Open a data set as ``cphloc plan`` does.

        Args:
            data: name of a data set, or a folder.
            stated: arguments of the data set that are not to be found out.
            dims: number of axes of the images; ``None``: that of the first image.

        Raises:
            NotFoundError: there is no such data set or folder.
            InputError: the folder is empty, or its files are not annotated.
        """
        layout, notes = recognize(data, stated or {}, dims), ()
        try:
            layout, notes = propose_splits(layout)
        except DataError as error:  # one patient: enough to be looked at
            notes = (("splits", str(error)),)
        dataset = layout.open()
        inputs = catalogue.inputs(catalogue.card("dataset", layout.name), dataset.channels)
        units = tuple(None if c.unit.unit == "arbitrary" else c.unit for c in inputs.values())
        dataset.units = units
        return cls(data, dataset, units, None, notes)
