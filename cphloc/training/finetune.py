"""Initialize a model from the weights of another one, adapting or skipping tensors of different shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from cphloc.config.yamlio import inline
from cphloc.errors import InputError
from cphloc.ops.inflate import inflate, with_input_channels
from cphloc.recipe.recipe import Recipe
from cphloc.training.matching import NamedAxis


@dataclass
class Takeover:
    """Report of `take_over`.

    Args:
        loaded: names of the tensors that were copied unchanged.
        adapted: names of the tensors that were adapted to another shape -> the two shapes.
        skipped: names of the tensors that keep their initial values -> the reason.
        notes: sentences about classes and channels, and about images that are prepared otherwise.
    """

    loaded: list[str] = field(default_factory=list)
    adapted: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Counts on the first line, then one line per adapted or skipped tensor and per note."""
        lines = [f"{len(self.loaded)} tensors loaded, {len(self.adapted)} adapted, {len(self.skipped)} skipped"]
        lines += [f"  adapted {name}: {how}" for name, how in self.adapted.items()]
        lines += [f"  skipped {name}: {why}" for name, why in self.skipped.items()]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)


def take_over(
    model: nn.Module, weights: Mapping[str, Tensor], source: str, axes: Mapping[str, NamedAxis] | None = None
) -> Takeover:
    """Copy ``weights`` into ``model`` in place, by tensor name.

    2-D kernels are inflated for a 3-D model, and the first kernel is adapted to another number of input channels.
    Tensors that are missing or have another shape, such as the output layer for other classes, keep their values.

    Args:
        model: the model to initialize.
        weights: state dict of the other model.
        source: name of the other model, for messages.
        axes: tensor name -> axis along which classes or channels are matched by name, see `named_axes`.

    Raises:
        InputError: no weight fits; the other model has another architecture.

    >>> print(take_over(nn.Conv3d(1, 2, 3), nn.Conv2d(3, 2, 3).state_dict(), "a photo model"))
    1 tensors loaded, 1 adapted, 0 skipped
      adapted weight: (2, 3, 3, 3) -> (2, 1, 3, 3, 3)
    """
    own = model.state_dict()
    report = Takeover()
    first_kernel = next((name for name, value in own.items() if value.ndim >= 4), None)
    strides = {f"{name}.weight": m.stride[0] for name, m in model.named_modules() if isinstance(m, nn.ConvTranspose3d)}
    for name, wanted in own.items():
        if name not in weights:
            report.skipped[name] = f"not in {source}"
            continue
        given = weights[name]
        axis = (axes or {}).get(name)
        fitted = _fitted(given, wanted, name == first_kernel, strides.get(name, 1), axis)
        if fitted is None:
            report.skipped[name] = f"shape {tuple(given.shape)} instead of {tuple(wanted.shape)}"
            continue
        if axis is not None:
            report.adapted[name] = f"{tuple(given.shape)} -> {tuple(wanted.shape)} by name"
        elif given.shape == wanted.shape:
            report.loaded.append(name)
        else:
            report.adapted[name] = f"{tuple(given.shape)} -> {tuple(wanted.shape)}"
        wanted.copy_(fitted)
    if not any(own[name].ndim > 1 for name in (*report.loaded, *report.adapted)):
        msg = f"from: no weight of '{source}' fits this model; use the same backbone, or leave `from` out"
        raise InputError(msg)
    return report


def preparation_differences(recipe: Recipe, old: Recipe) -> list[str]:
    """Describe how a recipe prepares images otherwise than the one whose weights it starts from.

    Args:
        recipe: recipe that is trained.
        old: recipe that the weights were trained with.
    """
    here, there = recipe.data, old.data
    pairs = {
        "intensity": (_schemes(recipe), _schemes(old)),
        "spacing_mm": (here.spacing_mm, there.spacing_mm),
        "units": ([str(c.unit) for c in recipe.inputs.values()], [str(c.unit) for c in old.inputs.values()]),
    }
    return [
        f"{key}: {inline(value)} here, but the weights were trained with {inline(before)}; they may not fit"
        for key, (value, before) in pairs.items()
        if not _alike(value, before)
    ]


def _schemes(recipe: Recipe) -> list[dict[str, Any]]:
    """Intensity scaling of each channel, without constants that are not stated."""
    stated = recipe.data.intensity
    blocks = stated if isinstance(stated, list) else [stated] * len(recipe.channels)
    plain = [{"type": block} if isinstance(block, str) else block.model_dump() for block in blocks]
    return [{name: value for name, value in block.items() if value is not None} for block in plain]


def _alike(value: Any, before: Any) -> bool:
    """Whether two settings are equal, up to constants that only one of them states."""
    if isinstance(value, dict) and isinstance(before, dict):
        return all(_alike(value[name], before[name]) for name in value.keys() & before.keys())
    if isinstance(value, list) and isinstance(before, list):
        return len(value) == len(before) and all(map(_alike, value, before))
    if isinstance(value, float | int) and isinstance(before, float | int):
        return math.isclose(value, before, rel_tol=1e-3)
    return value == before


def _fitted(
    given: Tensor, wanted: Tensor, is_first_kernel: bool, upsampling: int, axis: NamedAxis | None
) -> Tensor | None:
    """Return the given tensor adapted to the shape of the wanted one, or ``None`` where that is not possible.

    In a transposed convolution of stride ``upsampling`` along depth, only one in ``upsampling`` slices of a kernel
    contributes to each output voxel, so an inflated kernel is multiplied by ``upsampling``.
    """
    if given.ndim == 4 and wanted.ndim == 5 and given.shape[2:] == wanted.shape[3:]:
        given = inflate(given, wanted.shape[2]) * upsampling
    if axis is not None:
        return axis.place(given, wanted) if given.ndim == wanted.ndim else None
    if is_first_kernel and given.ndim == wanted.ndim:
        given = with_input_channels(given, wanted.shape[1])
    return given if given.shape == wanted.shape else None
