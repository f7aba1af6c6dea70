"""Write a commented recipe for a data set from its survey."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from scipy.cluster.vq import kmeans2

from cphloc.data.planning.heuristics import Topology, plan_patch, target_spacing
from cphloc.data.planning.survey import Survey
from cphloc.registry import catalogue
from cphloc.structures.annotation import Rung

ANCHORS_PER_LEVEL = 3
"""Anchor boxes per level of the pyramid in a planned detector."""


@dataclass(frozen=True)
class Plan:
    """A planned recipe and the parameters it was planned with.

    Args:
        rung: rung of the supervision ladder that the recipe trains with.
        spacing_mm: voxel size of the resampled images; ``None`` where the files have no physical size.
        topology: patch, strides and kernels.
        batch: patches per training step.
        recipe: the recipe as YAML with comments.
    """

    rung: Rung
    spacing_mm: tuple[float, ...] | None
    topology: Topology
    batch: int
    recipe: str


def plan(surveyed: Survey, name: str, arguments: Mapping[str, Any], voxels: int = 300_000, width: int = 24) -> Plan:
    """Plan a recipe by nnU-Net's rules (`cphloc.data.planning.heuristics`).

    Args:
        surveyed: the survey of the data set.
        name: name of the data set's card.
        arguments: arguments of the data set to write into the recipe, such as ``root``.
        voxels: largest number of voxels in a patch; 300,000 suit a few CPU cores, 2,000,000 a GPU of 8 GB.
        width: channels of the first stage; they double with each stage, up to 320 (3-D) or 512 (2-D).
    """
    spacings, shapes = ([getattr(c, f) for c in surveyed.cases] for f in ("spacing_mm", "shape"))
    physical = all(c.unit == "mm" for c in surveyed.cases)
    spacing = target_spacing(spacings, shapes) if physical else (1.0,) * surveyed.dataset.dims
    resampled = np.asarray(shapes) * spacings / np.asarray(spacing) if physical else np.asarray(shapes)
    chosen = plan_patch(spacing, np.median(resampled, axis=0).tolist(), voxels)
    share = 0.05 * float(np.prod(resampled, axis=1).sum()) / np.prod(chosen.patch)
    batch = int(np.clip(min(2 * voxels // np.prod(chosen.patch), share), 2, 16))
    rung = _rung(surveyed)
    lines = [
        *_heading(surveyed, name),
        f"task: {_TASKS[rung]}",
        f"dims: {surveyed.dataset.dims}",
        *_data(surveyed, name, arguments, spacing if physical else None, chosen),
        *(_WHOLE if rung is Rung.LABEL else ()),
        *_model(surveyed, rung, chosen, width, spacing),
        "train:",
        "  steps: 6000",
        f"  batch: {batch}",
        *_OPTIMIZERS[rung],
    ]
    return Plan(rung, spacing if physical else None, chosen, batch, "\n".join(lines) + "\n")


_SIDED = "  # not left-right: class names have sides"
_CLUSTERS = "clusters of the boxes' sizes, in voxels"
_FEW = "too few boxes to choose from: the defaults of retina"
_WHOLE = ("  fit: whole  # a label applies to the whole image, not to a patch", "  foreground: 0.0")
_TASKS = {Rung.MASK: "segmentation", Rung.BOXES: "detection", Rung.REGION: "attention", Rung.LABEL: "attention"}
_SGD = ("  optimizer: {type: SGD, lr: 1e-2, momentum: 0.99, nesterov: true, weight_decay: 3e-5}", "  schedule: poly")
_ADAM = ("  optimizer: {type: AdamW, lr: 3e-4, weight_decay: 1e-2}", "  schedule: cosine", "  warmup_steps: 200")
_OPTIMIZERS = {Rung.MASK: _SGD, Rung.BOXES: _ADAM, Rung.REGION: _ADAM, Rung.LABEL: _ADAM}


def _rung(surveyed: Survey) -> Rung:
    """Return the strongest rung that at least half of the cases have; weaker ones can be derived from it."""
    half = len(surveyed.cases) / 2
    stated = [c.rung or 0 for c in surveyed.cases]
    return max((r for r in Rung if sum(s >= r for s in stated) >= half), default=Rung.LABEL)


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
    sided = surveyed.dataset.sided
    axes = surveyed.dataset.dims - (1 if sided else 0)
    if surveyed.dataset.channels != catalogue.channels(catalogue.card("dataset", name)):
        arguments = {**arguments, "channels": list(surveyed.dataset.channels)}
    if "classes" in inspect.signature(type(surveyed.dataset)).parameters:
        arguments = {**arguments, "classes": dict(surveyed.dataset.classes)}
    rounded = None if spacing is None else [round(s, 4) for s in spacing]
    files = "most files" if surveyed.remarks else "the files"
    why = "median of the cases" if rounded else f"{files} store no voxel size: images are not resampled"
    return [
        "data:",
        f"  type: {name}",
        *(f"  {key}: {_flow(value)}" for key, value in arguments.items()),
        f"  spacing_mm: {_flow(rounded)}  # {why}",
        f"  intensity: {_flow(schemes[0] if len(set(schemes)) == 1 else schemes)}",
        f"  patch: {_flow(list(chosen.patch))}",
        "  augment:",
        "    - {type: Affine, rotate: [-15, 15], scale: [0.85, 1.2]}",
        f"    - {{type: Flip, axes: {_flow(list(range(axes)))}}}{_SIDED if sided else ''}",
        "    - {type: Gamma, p: 0.3}",
        "    - {type: GaussNoise, p: 0.2}",
    ]


def _scheme(surveyed: Survey, channel: int) -> str:
    name = surveyed.dataset.channels[channel].lower()
    if name == "ct" or all(c.modality == "CT" for c in surveyed.cases):
        return "ct"
    eight_bit = all(c.ranges[channel][0] >= 0 and 100 < c.ranges[channel][1] <= 255 for c in surveyed.cases)
    return "scale" if eight_bit and len(surveyed.dataset.channels) == 3 else "zscore"


def _model(surveyed: Survey, rung: Rung, chosen: Topology, width: int, spacing: tuple[float, ...]) -> list[str]:
    most = 320 if surveyed.dataset.dims == 3 else 512
    widths = [min(width * 2**stage, most) for stage in range(len(chosen.strides))]
    lines = [
        "model:",
        "  backbone:",
        "    type: conv_encoder",
        f"    widths: {_flow(widths)}",
        f"    strides: {_flow([list(s) for s in chosen.strides])}",
        f"    kernels: {_flow([list(k) for k in chosen.kernels])}",
    ]
    classes = _flow(surveyed.dataset.classes)
    if rung is Rung.MASK:
        return [*lines, "  heads:", f"    mask: {{type: unet, classes: {classes}, loss: {{type: dice_ce}}}}"]
    if rung is not Rung.BOXES:
        return [*lines, "  heads:", f"    attention: {{type: attention_pool, classes: {classes}}}"]
    finest = min(2, len(chosen.strides) - 1)
    anchors = _anchors(surveyed.box_extents / np.asarray(spacing), len(chosen.strides) - finest)
    return [
        *lines,
        f"  neck: {{type: fpn, channels: 96, finest: {finest}}}",
        "  heads:",
        "    boxes:",
        "      type: retina",
        f"      classes: {classes}",
        "      channels: 96",
        f"      anchors: {_flow(anchors)}  # {_FEW if anchors is None else _CLUSTERS}",
    ]


def _anchors(sizes: np.ndarray, levels: int) -> list[list[list[float]]] | None:
    """Cluster the logarithms of box sizes into anchors per level, small to large; ``None`` where boxes are too few."""
    sizes = sizes[(sizes >= 2).all(axis=1)]
    wanted = levels * ANCHORS_PER_LEVEL
    if len(sizes) < 5 * wanted:
        return None
    # scipy before 1.15 has no rng
    centres, _ = kmeans2(np.log(sizes), wanted, minit="++", seed=0)  # pyright: ignore[reportCallIssue]  # not in stubs
    anchors = np.exp(centres[np.argsort(centres.sum(axis=1))]).round(1)
    return anchors.reshape(levels, ANCHORS_PER_LEVEL, -1).tolist()


def _flow(value: Any) -> str:
    """Write a value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).removesuffix("\n...\n").strip()
