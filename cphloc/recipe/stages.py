"""Stages of a pipeline: published entries that run in order, each on the image or on a crop around an earlier result.

A recipe with ``task: pipeline`` lists ``stages`` instead of a ``model``. `with_entries` adds to each stage what its
entry states, its complete recipe included, so that a stored pipeline depends on no other entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field

from cphloc.config.argument_types import NonNegativeFloat, PositiveFloat, PositiveInt, UnitInterval
from cphloc.config.nodes import Node, from_plain
from cphloc.errors import InputError, Problem
from cphloc.recipe.strict import Strict
from cphloc.structures.options import Options
from cphloc.structures.units import ChannelInput, ScaledUnit

EntryOf = Callable[[str], Mapping[str, Any]]
"""Returns the content of `Stored` for the name of an entry; raises `InputError` where it cannot be used."""

PIPELINE = "pipeline"
"""Task of recipes that have stages."""

NOT_OF_PIPELINES = ("model", "train", "from", "from_", "freeze", "options", "codes")
"""Keys of a recipe that describe the training of one network, which a pipeline does not have."""

PREPARED_BY_STAGES = (
    *("spacing_mm", "intensity", "patch", "nnunet", "monai", "fit", "pad", "augment", "foreground", "tiles", "folds"),
)
"""Keys of ``data`` that each stage takes from the recipe of its entry."""


class Crop(Strict):
    """Region of the image that a stage sees: the bounding box of what an earlier stage has found, with a margin."""

    stage: str = Field(description="earlier stage whose boxes or mask are enclosed")
    classes: list[str] | None = Field(None, description="classes of that stage that count; null: all", min_length=1)
    margin_mm: NonNegativeFloat = Field(20.0, description="distance added on every side, in mm; in pixels without mm")
    at_least_mm: PositiveFloat | None = Field(None, description="smallest extent of the crop per axis; null: any")
    score: UnitInterval | None = Field(
        None, description="least score of a box that counts; null: the threshold of the entry, else 0.3"
    )
    most_boxes: PositiveInt | None = Field(None, description="boxes that count, by falling score; null: all")
    missing: Literal["whole", "empty"] = Field(
        "whole", description="where nothing was found: whole predicts the whole image, empty predicts nothing"
    )


class When(Strict):
    """Condition under which a stage runs: an earlier stage gives a label at least this probability."""

    stage: str = Field(description="earlier stage with label probabilities")
    label: str = Field(description="class of that stage")
    at_least: UnitInterval = Field(0.5, description="least probability")


class StoredInput(Strict):
    """Modality and unit of one channel of an entry."""

    modality: str | None
    unit: str
    factor: PositiveFloat = 1.0

    @property
    def channel(self) -> ChannelInput:
        """The same as the input of a model."""
        return ChannelInput(self.modality, ScaledUnit(self.unit, self.factor))


class Stored(Strict):
    """What the entry of a stage states; written by cphloc, so that the pipeline holds all it needs."""

    entry: str = Field(description="name and exact version")
    sha256: str = Field(description="SHA-256 of its entry.yaml, which pins its files")
    recipe: dict[str, Any] = Field(description="its complete recipe")
    inputs: dict[str, StoredInput] = Field(description="modality and unit of each channel")
    fingerprint: dict[str, Any] | None = Field(
        None, description="intensities and extents of its training images: cphloc.structures.fingerprint.Fingerprint"
    )
    applies: Options = Field(default_factory=Options, description="options that its predictions apply")


class Stage(Strict):
    """One stage of a pipeline."""

    entry: str = Field(description="published entry, such as retina3d-petct@0.2.0")
    crop: Crop | None = Field(None, description="region of the image that the stage sees; null: the whole image")
    when: When | None = Field(None, description="condition under which the stage runs; null: always")
    stored: Stored | None = Field(None, description="what the entry states; written by cphloc, not by people")

    @property
    def frozen(self) -> Stored:
        """What the entry states.

        Raises:
            InputError: the recipe was read without looking up its entries.
        """
        if self.stored is None:
            msg = f"the entry '{self.entry}' of a stage was not looked up; run: cphloc train RECIPE"
            raise InputError(msg)
        return self.stored

    @property
    def sees(self) -> str:
        """What the stage sees and when it runs, in words."""
        text = "the whole image"
        if (crop := self.crop) is not None:
            text = f"{', '.join(crop.classes or ['what'])} of {crop.stage} with {crop.margin_mm:g} mm around"
        if (when := self.when) is not None:
            text += f", if {when.stage} gives {when.label} at least {when.at_least:g}"
        return text


def with_entries(root: Node, entry_of: EntryOf | None) -> list[Problem]:
    """Add what the entries of the stages state to a recipe, in place, and return what is wrong with them.

    A stage that holds it already, as in a stored recipe, is not changed.

    Args:
        root: tree of the recipe.
        entry_of: looks up an entry; ``None`` adds nothing.
    """
    problems = []
    for name, stage in _mapping(root.get(("stages",))).items():
        entry = stage.get(("entry",))
        if entry_of is None or entry is None or not isinstance(entry.value, str) or "stored" in stage.children:
            continue
        try:
            stage.children["stored"] = from_plain(entry_of(entry.value), f"entry {entry.value}")
        except InputError as error:
            what, _, fix = str(error).partition("; ")
            fix = fix or "name another entry: cphloc list zoo"
            problems.append(Problem(str(entry.where), f"stages.{name}.entry", what, fix))
    return problems


def _mapping(node: Node | None) -> dict[Any, Node]:
    return node.value if node is not None and isinstance(node.value, dict) else {}
