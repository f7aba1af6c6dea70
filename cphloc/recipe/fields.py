"""The blocks of a recipe as pydantic models: data, model and training, with their defaults and descriptions."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from cphloc.config.argument_types import NonNegativeInt, PositiveFloat, PositiveInt, UnitInterval
from cphloc.paths import portable
from cphloc.recipe.seeds import SeedFrom
from cphloc.recipe.strict import Strict
from cphloc.structures.monai_steps import MonaiSteps
from cphloc.structures.nnunet_steps import NnUNetSteps
from cphloc.structures.padding import Pad


class Block(Strict):
    """A component and its arguments in one mapping, such as ``{type: fpn, channels: 96}``."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="name of the component")

    @property
    def args(self) -> dict[str, Any]:
        """Arguments of the component, by name."""
        return dict(self.model_extra or {})


class DataAbout(Strict):
    """Documentation of one's own data for the model card; it replaces what the card of the data set states."""

    name: str | None = Field(None, description="name of the data; null: that of the data set")
    licence: str | None = Field(None, description="licence of the data")
    citation: str | None = Field(None, description="publication or people to cite")
    source: str | None = Field(None, description="web address of the data, or null if it has none")
    modality: list[str] = Field([], description="DICOM modality, such as CT or MR; as many as channels if they differ")


class Folds(Strict):
    """Division of the training and validation cases into folds by patient, of which one may be held out."""

    fold: PositiveInt | None = Field(None, description="fold that is held out, from 1; null: the data set's own splits")
    of: Annotated[int, Field(ge=2)] = Field(5, description="number of folds")
    splits: str | None = Field(None, description="nnU-Net's splits_final.json with the folds; null: stratified folds")
    seed: NonNegativeInt = Field(0, description="seed of the division")

    @model_validator(mode="after")
    def _one_of_them(self) -> Folds:
        if self.fold is not None and self.fold > self.of:
            msg = f"fold {self.fold} of {self.of} does not exist; choose one from 1 to {self.of}"
            raise ValueError(msg)
        return self


class Data(Block):
    """The data set, and how its cases are processed into samples.

    Arguments of the data set are in the same mapping as the common fields below.
    """

    root: str | None = Field(
        None, description="folder of the data set, relative to the recipe; null: searched in CPHLOC_DATA"
    )
    channels: list[str] | None = Field(None, description="image channels in order; null: all of the data set")
    units: dict[str, str] | None = Field(None, description="unit by channel: HU, SUV, SUV x 100; null: from its card")
    spacing_mm: list[PositiveFloat] | None = Field(None, description="voxel size in array order; null: no resampling")
    intensity: str | Block | list[str | Block] = Field(
        "zscore", description="intensity scaling, overall or per channel"
    )
    patch: list[PositiveInt] | None = Field(None, description="size of training patches in voxels; null: whole images")
    nnunet: NnUNetSteps | None = Field(
        None, description="prepare images exactly as nnU-Net does, for imported weights; null: as cphloc does"
    )
    monai: MonaiSteps | None = Field(
        None, description="prepare images exactly as MONAI's transforms do, for imported weights; null: as cphloc does"
    )
    fit: Literal["patch", "whole"] = Field("patch", description="crop patches, or resize whole images to it")
    pad: Pad = Field("zero", description="values beyond the edge of an image that is smaller than the patch")
    augment: list[Block] = Field([], description="data augmentation, in order")
    foreground: UnitInterval = Field(0.33, description="fraction of patches centred on an object")
    workers: NonNegativeInt | None = Field(None, description="data loading processes; null: at most two")
    tiles: list[PositiveInt] | None = Field(None, description="parts per axis into which val and test images are split")
    about: DataAbout | None = Field(None, description="licence, citation, source and modality of your own data")
    skip_bad: bool = Field(False, description="skip cases that cannot be read, instead of stopping")
    patient: str | None = Field(None, description="pattern whose first group is the patient in the name of a case")
    folds: Folds | None = Field(None, description="cross-validation; null: the splits of the data set")

    @property
    def args(self) -> dict[str, Any]:
        """Arguments of the data set itself, without the common fields."""
        return dict(self.model_extra or {})


Members = Annotated[list[str], MinLen(1)] | dict[int, str]
"""Names of classes of the data set, or their numbers and names."""


def _named(heads: Any) -> Any:
    """Reject a single head in place of a mapping from names to heads."""
    if isinstance(heads, dict) and isinstance(heads.get("type"), str):
        msg = f"a head without a name; write {{mask: {{type: {heads['type']}, ...}}}} or another name"
        raise ValueError(msg)
    return heads


class ModelBlocks(Strict):
    """The components of the model."""

    backbone: Block = Field(description="computes a feature pyramid from the image")
    neck: Block | None = Field(None, description="refines the feature pyramid, such as fpn; null: none")
    heads: Annotated[dict[str, Block], BeforeValidator(_named)] = Field(
        description="output heads, by name", min_length=1
    )
    weights: dict[str, PositiveFloat] = Field({}, description="weight of each head's loss, by head name; default 1")
    seeds: dict[str, SeedFrom] = Field(
        {}, description="by mask head, the head whose attention seeds masks of cases that have a label alone"
    )
    merged_classes: dict[str, dict[str, Members]] = Field(
        {}, description="by head and class, the classes of the data set it stands for; `of` of a class is stored here"
    )
    members: PositiveInt = Field(1, description="networks of a published ensemble, whose predictions are averaged")
    average: Literal["probabilities", "logits"] = Field(
        "probabilities", description="what the networks of an ensemble average in masks; logits as nnU-Net does"
    )


OWN_AVERAGE = "self"
"""Value of ``train.teacher`` for the moving average of the weights that are trained."""


class Train(Strict):
    """Settings of the training."""

    steps: PositiveInt = Field(1000, description="optimizer steps")
    batch: PositiveInt = Field(2, description="samples per batch")
    optimizer: Block = Field(default_factory=lambda: Block(type="AdamW"), description="optimizer and its arguments")
    schedule: str | Block = Field("poly", description="learning rate schedule")
    warmup_steps: NonNegativeInt = Field(0, description="steps of the linear learning rate warm-up")
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed"] = Field("auto", description="floating-point precision")
    accumulate: PositiveInt = Field(1, description="batches accumulated in a step")
    clip_norm: PositiveFloat | None = Field(12.0, description="maximum gradient norm; null: no clipping")
    ema: UnitInterval | None = Field(None, description="decay of the weights' moving average; null: none")
    swa: UnitInterval | None = Field(None, description="share of the steps, the last, whose weights are averaged")
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory, about a third slower"
    )
    seed: NonNegativeInt = Field(0, description="seed of all random generators")
    validate_every: PositiveInt | None = Field(None, description="steps between validations; null: steps / 10")
    best: str | None = Field(None, description="metric that selects the weights; null: that of the task")
    minutes: PositiveFloat | None = Field(None, description="time limit in minutes; null: none")
    patience: PositiveInt | None = Field(None, description="validations without improvement before stopping")
    teacher: str | None = Field(
        None,
        description="entry or run whose probabilities are learned too; self: the moving average of the weights (ema) "
        "teaches what is not annotated; null: none",
    )
    teacher_weight: PositiveFloat = Field(1.0, description="weight of the teacher's probabilities in the loss")
    teacher_sure: UnitInterval | None = Field(
        None, description="least probability at which the teacher teaches; null: 0.9 for self, otherwise 0"
    )


def folder_name(name: str) -> str:
    """Reject a name that cannot be used as a folder name."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        msg = "not a name; use A-Z, a-z, 0-9, '_', '.' and '-', and start with a letter or digit"
        raise ValueError(msg)
    if portable(name) != name:
        msg = f"no folder name on Windows; use another name, such as {portable(name).strip('_')}-1"
        raise ValueError(msg)
    return name


class About(Strict):
    """Documentation of the model for its card; required for publishing."""

    intended_use: str = Field("", description="intended users and purpose")
    limits: list[str] = Field([], description="known failures and untested conditions, one each")
    changelog: str = Field("", description="changes since the previous version")
