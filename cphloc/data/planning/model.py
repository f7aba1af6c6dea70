"""Choose backbone, neck and one head for each rung of annotation that a data set states."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.cluster.vq import kmeans2

from cphloc.config.yamlio import inline
from cphloc.data.planning.heuristics import Topology, stage_widths
from cphloc.data.planning.presets import Preset
from cphloc.data.planning.survey import Survey
from cphloc.registry.kinds import Task
from cphloc.structures.rung import Rung

ANCHORS_PER_LEVEL = 3
"""Anchor boxes per level of the pyramid in a planned detector."""

_CLUSTERS = "clusters of the boxes' sizes, in voxels"
_FEW = "too few boxes to choose from: the defaults of retina"
_MERGED = "    # every image has objects of one class: the mask outlines them, and `finding` says which class it is"
_TASKS: dict[Rung, Task] = {Rung.MASK: "segmentation", Rung.BOXES: "detection"}


def heads_of(surveyed: Survey) -> tuple[Rung, ...]:
    """Return the rungs that get a head of their own, strongest first: mask, boxes, and label for region or label.

    Cases without the rung of a head do not contribute to its loss.
    """
    stated = set(surveyed.stated)
    labelled = {Rung.LABEL} if stated & {Rung.LABEL, Rung.REGION} or not stated else set()
    return tuple(sorted((stated & {Rung.MASK, Rung.BOXES}) | labelled, reverse=True))


def task_of(heads: Sequence[Rung]) -> Task:
    """Return the task of a model with these heads: that of the strongest, ``localization`` for a mask and others.

    Of labels alone it is ``classification``: how well attention localizes cannot be measured.

    >>> task_of([Rung.MASK]), task_of([Rung.MASK, Rung.LABEL]), task_of([Rung.BOXES, Rung.LABEL])
    ('segmentation', 'localization', 'detection')
    """
    if Rung.MASK in heads and len(heads) > 1:
        return "localization"
    return _TASKS.get(heads[0], "classification")


def model_lines(
    surveyed: Survey, heads: Sequence[Rung], chosen: Topology, preset: Preset, width: int, spacing: Sequence[float]
) -> list[str]:
    """Write the block ``model`` of a recipe, line by line.

    Args:
        surveyed: the survey of the data set.
        heads: rungs with a head, from `heads_of`.
        chosen: patch, strides and kernels.
        preset: the family of networks.
        width: channels of the first stage.
        spacing: voxel size of the resampled images, in the unit of the survey.
    """
    classes, dims = inline(surveyed.dataset.classes), surveyed.dataset.dims
    lines = ["model:", "  backbone:", *preset.lines(chosen, stage_widths(len(chosen.strides), width, dims))]
    sizes = surveyed.box_extents / np.asarray(spacing)
    finest = _finest(chosen, sizes, 1 if Rung.MASK in heads else 2)
    channels = 3 * width if dims == 3 else 6 * width
    if Rung.BOXES in heads:
        lines.append(f"  neck: {{type: fpn, channels: {channels}, finest: {finest}}}")
    lines.append("  heads:")
    lines += _mask_lines(surveyed, heads, chosen, preset, spacing)
    if Rung.BOXES in heads:
        anchors = _anchors(sizes, len(chosen.strides) - finest)
        lines += [
            "    boxes:",
            "      type: retina",
            f"      classes: {classes}",
            f"      channels: {channels}",
            "      convolutions: 2",
            f"      anchors: {inline(anchors)}  # {_FEW if anchors is None else _CLUSTERS}",
        ]
    if Rung.LABEL in heads:
        lines.append(f"    finding: {{type: attention_pool, classes: {classes}}}")
    return lines


def _mask_lines(
    surveyed: Survey, heads: Sequence[Rung], chosen: Topology, preset: Preset, spacing: Sequence[float]
) -> list[str]:
    """Write the mask head; its classes are merged where each image has one, which the label head predicts."""
    if Rung.MASK not in heads:
        return []
    sizes = surveyed.median_shape(spacing)
    loss = {"type": "dice_ce"} | ({"batch": True} if any(map(operator.lt, chosen.patch, sizes)) else {})
    share = _prior(surveyed.foreground, float(np.prod(sizes) / np.prod(chosen.patch)))
    classes: dict[int, Any] = dict(surveyed.dataset.classes)
    merged = Rung.LABEL in heads and surveyed.one_class_per_image
    if merged:
        names = list(classes.values())
        classes = {1: {"name": "object" if "object" not in names else "any_object", "of": names}}
    line = f"    mask: {{type: unet, classes: {inline(classes)}, prior: {share:.2g}, loss: {inline(loss)}}}"
    return [_MERGED, line] if merged else [line]


def _prior(share: float, patches: float) -> float:
    """Probability of the foreground in a patch, of which a third are centred on an object.

    Args:
        share: fraction of the voxels of the images that belong to a class.
        patches: size of an image in patches.

    >>> _prior(0.01, 1), round(_prior(0.003, 10), 3)
    (0.01, 0.012)
    """
    return min(max(share * (2 + max(patches, 1.0)) / 3, 0.001), 0.5)


def _finest(chosen: Topology, sizes: np.ndarray, most: int) -> int:
    """Coarsest level up to ``most`` whose cells are at most half as large as nine of ten boxes along every axis."""
    strides = np.cumprod(chosen.strides, axis=0)
    small = np.percentile(sizes, 10, axis=0) / 2 if len(sizes) else np.full(strides.shape[1], np.inf)
    fitting = [level for level in range(min(most, len(strides) - 1) + 1) if (strides[level] <= small).all()]
    return max(fitting, default=0)


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
