"""``entry.yaml``: everything about one published version that can be known before its weights are downloaded.

An entry pins each of its other files by sha256, so the sha256 of ``entry.yaml`` pins the whole.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from cphloc.config import yamlio
from cphloc.config.nodes import Limits, Node
from cphloc.config.problems import problems_of
from cphloc.errors import InputError, RecipeError
from cphloc.registry import catalogue
from cphloc.registry.plugins import missing
from cphloc.structures.display import Display, Displayed
from cphloc.structures.fingerprint import Fingerprint
from cphloc.structures.options import ChosenOptions, Options
from cphloc.structures.units import UNITS, ChannelInput, ScaledUnit, channel_inputs
from cphloc.zoo.entry_display import entry_display
from cphloc.zoo.fields import (
    Count,
    ExactVersion,
    InsidePath,
    Name,
    Positive,
    Sha256,
    Strict,
    Text,
    Url,
    Urls,
    VersionRange,
    VersionText,
)
from cphloc.zoo.imported import ImportedFrom
from cphloc.zoo.measured import Baseline, Calibration, Evaluation, Explanation, Metric, Tested, Thresholds
from cphloc.zoo.names import MAX_ENTRY_BYTES, MAX_ENTRY_VALUES, RECIPE_FILE

_LIMITS = Limits(MAX_ENTRY_BYTES, MAX_ENTRY_VALUES)


class DataSource(Strict):
    """The data set: where it comes from, the SHA-256 of its training data, and the number of cases per split."""

    name: Text
    licence: Text
    citation: Text
    url: Url | None = None
    fingerprint: Text
    splits: dict[Text, Count]


class Size(Strict):
    """Number of parameters, and peak memory in MB while predicting one case (``None`` where it was not measured)."""

    parameters: Annotated[int, Field(gt=0)]
    peak_ram_mb: Positive | None


class Speed(Strict):
    """Mean prediction time of a test case, on the named ``device``."""

    ms_per_case: Positive
    device: Text


class Training(Strict):
    """Time that a training took, with its validations, on the named ``device``."""

    hours: Positive
    steps: Count
    device: Text


class File(Strict):
    """Size and hash of a file."""

    sha256: Sha256
    bytes: Count

    @classmethod
    def of(cls, path: Path) -> File:
        """Measure and hash the file at ``path``, read in pieces."""
        with path.open("rb") as stream:
            return File(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), bytes=path.stat().st_size)


class Weights(File):
    """The weights file (safetensors): ``file`` in the entry's folder, ``urls`` tried in order, or both."""

    file: InsidePath | None = None
    urls: Urls = Field(default_factory=list)
    precision: Literal["float16", "float32"]

    @model_validator(mode="after")
    def _somewhere(self) -> Weights:
        if self.file is None and not self.urls:
            msg = "the weights need a file or at least one URL"
            raise ValueError(msg)
        if self.file is not None and not self.file.endswith(".safetensors"):
            msg = f"'{self.file}' must be a .safetensors file: other formats can run code when they are read"
            raise ValueError(msg)
        return self


class Input(Strict):
    """What the model takes as one channel.

    Args:
        modality: DICOM modality, such as ``CT``; ``None`` where the data set states none.
        unit: ``HU``, ``SUV``, ``Bq/mL`` or ``arbitrary``, see `cphloc.structures.units`.
        factor: the stored value is the value in the unit times this; 100 for SUV x 100.
    """

    modality: Text | None
    unit: Text
    factor: Positive = 1.0

    @classmethod
    def of(cls, channel: ChannelInput) -> Input:
        """Convert the input of a recipe."""
        return cls(modality=channel.modality, unit=channel.unit.unit, factor=channel.unit.factor)


class StageEntry(Strict):
    """The entry that is a stage of a pipeline, which holds its recipe and weights itself.

    Args:
        entry: name and version.
        sha256: of its ``entry.yaml``.
        crop: metrics of the crop that the stage sees, see `cphloc.evaluation.stages.CROP_METRICS`; empty without one.
    """

    entry: ExactVersion
    sha256: Sha256
    crop: dict[Text, Metric] = Field(default_factory=dict)


class Origin(Strict):
    """What is needed to train the weights again. ``git_commit`` is ``None`` for an installed cphloc.

    ``seed`` is ``None`` for imported weights.

    ``plugins`` holds the version of each plug-in that the recipe uses, by the name that ``pip install`` takes.
    """

    run: Text
    git_commit: Text | None
    seed: int | None
    packages: Annotated[dict[Text, Text], Field(min_length=1)]
    plugins: dict[Text, str] = Field(default_factory=dict)
    mlflow_run: str | None
    published: Text


class Entry(Displayed, Strict):
    """A published version: task, inputs, metrics, data, origin and files.

    ``files`` pins every file of the folder except the weights and ``entry.yaml`` itself. ``inputs`` states modality and
    unit of each channel, and ``fingerprint`` the intensities and extents of the training images; entries of earlier
    versions have neither. ``tested`` holds the metrics of an ensemble on the test split, where it was evaluated there;
    those of ``evaluation`` are out of fold. ``spacing_mm`` is the voxel size the model works at, per axis in array
    order, or ``None`` for the image's own. ``predict`` applies ``options``, which were chosen outside the training; in
    entries of earlier versions these are the temperature of ``calibration`` and the ``thresholds``. ``below_baseline``
    gives the reason why a version that is not above its baseline was published, and ``because`` why a version with
    significantly worse metrics than the version before was published. ``supersedes`` lists versions of other names,
    as ``name@1.2.0``, that this one should be used instead of. ``onnx`` states how far ONNX Runtime differs from torch,
    or why the network cannot be exported. ``training`` and ``onnx`` are ``None`` where nothing recorded them.
    ``explanation`` compares the attention with other maps, where ``cphloc evaluate --explanations`` measured them.
    ``stages`` lists the entries that a pipeline runs, with the errors of their crops, and ``oracle`` the metrics of its
    last stage in the true crop.
    ``imported`` states where weights come from that another framework trained; such an entry has no evaluated cases.
    """

    name: Name
    version: VersionText
    summary: Text
    task: Text
    dims: Literal[2, 3]
    modality: Annotated[list[Text], Field(min_length=1)]
    classes: Annotated[dict[int, Text], Field(min_length=1)]
    channels: Annotated[list[Text], Field(min_length=1)]
    inputs: dict[Text, Input] | None = None
    fingerprint: Fingerprint | None = None
    spacing_mm: list[Positive] | None
    intensity: Any
    evaluation: Evaluation
    baseline: Baseline
    tested: Tested | None = None
    calibration: Calibration | None = None
    explanation: Explanation | None = None
    thresholds: Thresholds | None = None
    options: ChosenOptions | None = None
    stages: dict[Text, StageEntry] | None = None
    oracle: dict[Text, Metric] | None = None
    data: DataSource
    size: Size
    speed: Speed
    training: Training | None = None
    onnx: Text | None = None
    weights: Weights
    files: dict[InsidePath, File]
    origin: Origin
    imported: ImportedFrom | None = None
    intended_use: Text
    limits: Annotated[list[Text], Field(min_length=1)]
    changelog: Text
    because: str | None = None
    below_baseline: str | None = None
    supersedes: list[ExactVersion] = Field(default_factory=list)
    requires_cphloc: VersionRange

    @model_validator(mode="after")
    def _complete(self) -> Entry:
        if RECIPE_FILE not in self.files:
            msg = f"files must pin {RECIPE_FILE}"
            raise ValueError(msg)
        if not self.evaluation.cases and self.imported is None:
            msg = "evaluation.cases must name the evaluated cases; only an imported entry may have none"
            raise ValueError(msg)
        if self.inputs is not None and list(self.inputs) != self.channels:
            msg = f"inputs must state each of the channels {self.channels} in order, got {list(self.inputs)}"
            raise ValueError(msg)
        for name, channel in (self.inputs or {}).items():
            if channel.unit not in UNITS:
                msg = f"inputs.{name}: no unit '{channel.unit}'; choose one of {', '.join(UNITS)}"
                raise ValueError(msg)
        if self.spacing_mm is not None and len(self.spacing_mm) != self.dims:
            msg = f"spacing_mm needs {self.dims} numbers, one per axis, got {self.spacing_mm}"
            raise ValueError(msg)
        return self

    @property
    def options_applied(self) -> Options:
        """What ``predict`` applies: ``options``, or temperature and thresholds of an entry of an earlier version."""
        if self.options is not None:
            return self.options.options
        temperature = 1.0 if self.calibration is None else self.calibration.temperature
        thresholds: dict[Any, float] = {} if self.thresholds is None else self.thresholds.by_part
        return Options(temperature=temperature, thresholds=thresholds)

    @property
    def channel_inputs(self) -> dict[str, ChannelInput]:
        """Modality and unit of each channel: as published, else those on the card of the data set."""
        if self.inputs is not None:
            return {n: ChannelInput(i.modality, ScaledUnit(i.unit, i.factor)) for n, i in self.inputs.items()}
        if self.data.name in catalogue.cards("dataset"):
            return catalogue.inputs(catalogue.card("dataset", self.data.name), self.channels)
        return channel_inputs(self.channels)

    @property
    def headline(self) -> tuple[str, Metric]:
        """Name and value of the first test metric, by which versions are compared."""
        return next(iter(self.evaluation.metrics.items()))

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def _display(self) -> Display:
        return entry_display(self.model_dump())

    @classmethod
    def read(cls, path: str | Path) -> Entry:
        """Read ``entry.yaml``.

        Raises:
            NotFoundError: there is no such file.
            RecipeError: it is not valid; the message lists every problem with file, line and key.
        """
        return cls._of(yamlio.load(path, _LIMITS))

    def require_plugins(self) -> None:
        """Check that every plug-in that the recipe uses is installed.

        Raises:
            InputError: a plug-in is missing; the message gives what to install.
        """
        if lacking := missing(self.origin.plugins):
            msg = "\n".join(f"{self}: {line}" for line in lacking)
            raise InputError(msg)

    @classmethod
    def parse(cls, text: bytes, source: str) -> Entry:
        """Read an entry from the bytes of ``source``; raises as `read` does."""
        return cls._of(yamlio.read(text, source, _LIMITS))

    @classmethod
    def _of(cls, node: Node) -> Entry:
        try:
            return cls.model_validate(node.plain)
        except ValidationError as error:
            raise RecipeError(problems_of(error, cls, node)) from None

    def to_yaml(self) -> str:
        """Return the content of ``entry.yaml``."""
        return yamlio.dump(self.model_dump(mode="python"))
