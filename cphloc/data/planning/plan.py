"""Write a commented recipe for a data set from its survey."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cphloc.config.yamlio import inline
from cphloc.data.planning.about import about_lines, looks_like_ct, unit_lines
from cphloc.data.planning.heuristics import Topology, plan_patch, target_spacing, training_mb
from cphloc.data.planning.model import heads_of, model_lines, task_of
from cphloc.data.planning.presets import PRESETS, Preset
from cphloc.data.planning.survey import Survey
from cphloc.errors import InputError
from cphloc.registry import catalogue
from cphloc.structures.rung import Rung

VOXELS = 300_000
"""Largest patch in voxels where no budget is stated: a training step then takes seconds on a few CPU cores."""
MEMORY_GB = 4.0
"""Memory of a training step in GB where no budget is stated."""
UNNAMED = r"class_\d+"
"""Names that a plan gives to classes for which the files state a number only."""
STEPS = 3000
"""Steps of a planned training."""


@dataclass(frozen=True)
class Budget:
    """What a training may cost.

    Args:
        voxels: largest patch in voxels; ``None``: 300,000, or no limit where the memory is stated.
        memory_gb: memory of the feature maps of a training step in GB; ``None``: that of the preset, else 4.
        width: channels of the first stage; they double with each stage, up to 320 (3-D) or 512 (2-D). ``None``: those
            of the preset.
        steps: optimizer steps.
        preset: one of `cphloc.data.planning.presets.PRESETS`.
    """

    voxels: int | None = None
    memory_gb: float | None = None
    width: int | None = None
    steps: int = STEPS
    preset: str = "unet"

    @property
    def network(self) -> Preset:
        """The preset."""
        return PRESETS[self.preset]

    @property
    def channels(self) -> int:
        """Channels of the first stage."""
        return self.width or self.network.width

    def holds(self, chosen: Topology, batch: int = 2) -> bool:
        """Return True if a batch of patches is within the budget."""
        memory = self.memory_gb or self.network.memory_gb
        voxels = self.voxels or (VOXELS if memory is None else np.inf)
        if np.prod(chosen.patch) * batch > 2 * voxels:
            return False
        convolutions = self.network.convolutions(len(chosen.strides))
        return batch * training_mb(chosen, self.channels, convolutions) <= 1000 * (memory or MEMORY_GB)


@dataclass(frozen=True)
class Plan:
    """A planned recipe and the parameters it was planned with.

    Args:
        heads: rungs of the supervision ladder that have a head, strongest first.
        spacing_mm: voxel size of the resampled images; ``None`` where the files have no physical size.
        topology: patch, strides and kernels.
        batch: patches per training step.
        recipe: the recipe as YAML with comments.
    """

    heads: tuple[Rung, ...]
    spacing_mm: tuple[float, ...] | None
    topology: Topology
    batch: int
    recipe: str


def plan(surveyed: Survey, name: str, arguments: Mapping[str, Any], budget: Budget | None = None) -> Plan:
    """Plan a recipe by nnU-Net's rules (`cphloc.data.planning.heuristics`), with AdamW for short trainings.

    Where every image holds objects of one class and has a label, the mask has one class for all objects, and the label
    head predicts which it is: a mask that divides few voxels among several classes learns them late. The mask begins
    with the share of the foreground in a patch as its probability (``prior`` of ``unet``): without it, the first
    hundreds of steps go into lowering the probability of small objects. On ``hippocampus`` Dice after 30 steps is .76
    with and .59 without it (20 validation cases, one seed).

    Of nnU-Net's intensity transforms, ``GaussBlur``, ``MultiplicativeBrightness`` and the ``retain_stats`` of ``Gamma``
    are left out: each costs time in every step, and no gain of theirs in a training of this length was measured.

    Args:
        surveyed: the survey of the data set.
        name: name of the data set's card.
        arguments: arguments of the data set to write into the recipe, such as ``root``.
        budget: what a training may cost.

    Raises:
        InputError: the preset is for images of another number of axes.
    """
    budget, dims = budget or Budget(), surveyed.dataset.dims
    if dims not in budget.network.dims:
        msg = f"preset '{budget.preset}' is for 2-D images, and those of '{name}' are {dims}-D; choose another preset"
        raise InputError(msg)
    spacings, shapes = ([getattr(c, f) for c in surveyed.cases] for f in ("spacing_mm", "shape"))
    spacing = target_spacing(spacings, shapes) if surveyed.physical else (1.0,) * dims
    chosen = plan_patch(spacing, surveyed.median_shape(spacing), budget.holds, budget.network.topology)
    stated = spacing if surveyed.physical else None
    batch = _batch(surveyed, spacing, chosen, budget)
    heads = heads_of(surveyed)
    lines = [
        *_heading(surveyed, name),
        f"task: {task_of(heads)}",
        f"dims: {dims}",
        *_data(surveyed, name, arguments, stated, chosen),
        *(_WHOLE if surveyed.needs_whole_images else ()),
        *about_lines(surveyed, name),
        *model_lines(surveyed, heads, chosen, budget.network, budget.channels, spacing),
        *_train(heads, budget, batch),
    ]
    return Plan(heads, stated, chosen, batch, "\n".join(lines) + "\n")


_WHOLE = ("  fit: whole  # a label applies to the whole image, not to a patch", "  foreground: 0.0")


def _batch(surveyed: Survey, spacing: Sequence[float], chosen: Topology, budget: Budget) -> int:
    """Most patches within the budget, from 2 to 16, which see at most a twentieth of all voxels in a step."""
    share = 0.05 * float(np.prod(surveyed.resampled(spacing), axis=1).sum()) / float(np.prod(chosen.patch))
    return max((n for n in range(2, 17) if n <= share and budget.holds(chosen, n)), default=2)


def _heading(surveyed: Survey, name: str) -> list[str]:
    title = f"# Planned by `cphloc plan` from {len(surveyed.cases)} training cases of {name}: median (least to largest)"
    return [title, *(f"# {what:9}  {said}" for what, said in surveyed.rows)]


def _data(
    surveyed: Survey,
    name: str,
    arguments: Mapping[str, Any],
    spacing: tuple[float, ...] | None,
    chosen: Topology,
) -> list[str]:
    schemes = [_scheme(surveyed, channel) for channel in range(len(surveyed.dataset.channels))]
    if surveyed.dataset.channels != catalogue.channels(catalogue.card("dataset", name)):
        arguments = {**arguments, "channels": list(surveyed.dataset.channels)}
    if "classes" in inspect.signature(type(surveyed.dataset)).parameters:
        arguments = {**arguments, "classes": dict(surveyed.dataset.classes)}
    rounded = None if spacing is None else [round(s, 4) for s in spacing]
    bad = len(surveyed.problems)
    files = "most files" if surveyed.remarks else "the files"
    why = "median of the cases" if rounded else f"{files} store no voxel size: images are not resampled"
    return [
        "data:",
        f"  type: {name}",
        *(f"  {key}: {inline(value)}" for key, value in arguments.items()),
        *([f"  # skip_bad: true  # leaves out the {bad} cases above that cannot be read"] if bad else []),
        f"  spacing_mm: {inline(rounded)}  # {why}",
        *unit_lines(surveyed, name),
        f"  intensity: {inline(schemes[0] if len(set(schemes)) == 1 else schemes)}",
        f"  patch: {inline(list(chosen.patch))}",
        "  augment:",
        "    - {type: Affine, rotate: [-15, 15], scale: [0.85, 1.2]}",
        *_flip(surveyed),
        "    - {type: Gamma, p: 0.3}",
        "    - {type: Brightness, p: 0.3}",
        "    - {type: Contrast, p: 0.3}",
        "    - {type: GaussNoise, sigma: [0, 0.15], p: 0.3}",
        "    - {type: LowResolution, p: 0.15}",
    ]


def _flip(surveyed: Survey) -> list[str]:
    """Mirror left and right, unless classes have sides; pictures in colour, as of a microscope, also up and down."""
    dataset = surveyed.dataset
    if dataset.sided:
        return [
            "    # no left-right Flip: class names have sides; its argument swap exchanges classes that form a pair"
        ]
    if len(dataset.classes) > 1 and all(re.fullmatch(UNNAMED, name) for name in dataset.classes.values()):
        return ["    # no Flip: a class without a name may be of one side; add {type: Flip, axes: [-1]} if none is"]
    colour = len(dataset.channels) == 3 and not surveyed.physical
    axes, where = ([0, 1], "") if colour else ([-1], "  # left-right")
    return [f"    - {{type: Flip, axes: {inline(axes)}}}{where}"]


def _scheme(surveyed: Survey, channel: int) -> str:
    if looks_like_ct(surveyed, channel):
        return "ct"
    eight_bit = all(c.ranges[channel][0] >= 0 and 100 < c.ranges[channel][1] <= 255 for c in surveyed.cases)
    return "scale" if eight_bit and len(surveyed.dataset.channels) == 3 else "zscore"


def _train(heads: Sequence[Rung], budget: Budget, batch: int) -> list[str]:
    """Short training with AdamW; the moving average is over at most a fifteenth of the steps."""
    steps = budget.steps
    ema = min(0.995, float(np.floor(1000 * (1 - 15 / max(steps, 20))) / 1000))
    return [
        "train:",
        f"  steps: {steps}",
        f"  batch: {batch}",
        f"  optimizer: {{type: AdamW, {_rate(heads, budget)}, weight_decay: 0.01}}",
        "  schedule: cosine",
        f"  warmup_steps: {min(100, steps // 20)}",
        f"  ema: {ema}",
    ]


def _rate(heads: Sequence[Rung], budget: Budget) -> str:
    """Learning rate; a decoder that begins at random beside a pre-trained encoder gets four times the encoder's."""
    if budget.network.encoder and Rung.MASK in heads and Rung.BOXES not in heads:
        return 'lr: 0.002, lr_scale: {"backbone.*": 0.25}'
    return f"lr: {0.001 if tuple(heads) == (Rung.MASK,) and not budget.network.encoder else 0.0005}"
