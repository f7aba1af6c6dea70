"""Measures of attention: minima of attention losses, Grad-CAM for comparison, and attention as a segmentation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cphloc.config import jsonio
from cphloc.config.argument_types import Plain, PositiveInt
from cphloc.evaluation.explanation import Explainer, explain
from cphloc.metrics.attention import upsample
from cphloc.metrics.evaluation import attention_scores
from cphloc.metrics.explanation import ATTENTION, SANITY
from cphloc.metrics.segmentation import dice
from cphloc.ops.attention import log_softmax
from cphloc.registry.contract import construct
from cphloc.structures.split import Split
from cphloc.studies.measured import Trained, Values, required

_THRESHOLDS = tuple(k / 10 for k in range(1, 10))


class LossFloor:
    """Minimum of attention losses over all attention maps, and the entropy of the map that reaches it.

    ``floor`` is the smallest loss that an optimizer reaches when the logits of the map are free parameters, and
    ``floor_entropy`` the entropy of that map in nats. Both depend on the loss only, so no model is trained.

    Args:
        losses: name -> attention loss, ``type`` and arguments.
        cells: number of cells of the map.
        marked: numbers of cells inside the box; each is one variant.
    """

    def __init__(
        self,
        losses: Mapping[str, Mapping[str, Plain]],
        cells: PositiveInt = 256,
        marked: Sequence[PositiveInt] = (2, 8),
    ) -> None:
        self.cells, self.marked = cells, list(marked)
        self.losses = {
            name: construct("loss", str(block["type"]), {k: v for k, v in block.items() if k != "type"})
            for name, block in losses.items()
        }

    def __call__(self, trained: Trained) -> Values:
        """Return ``floor`` and ``floor_entropy`` of each loss and number of marked cells."""
        return {
            f"{name}, {marked} cells": loss_floor(loss, marked, self.cells, trained.seed)
            for name, loss in self.losses.items()
            for marked in self.marked
        }


def loss_floor(criterion: nn.Module, marked: int, cells: int = 256, seed: int = 0) -> dict[str, float]:
    """Minimize an attention loss over the logits of a map as free parameters.

    Args:
        criterion: takes log attention ``(1, cells)``, region ``(1, cells)`` and the boxes' regions.
        marked: number of cells inside the box.
        cells: number of cells of the map.
        seed: random seed of the initial logits.

    >>> from cphloc.components.loss.attention_bce import AttentionBCE
    >>> round(loss_floor(AttentionBCE(), marked=2, cells=16)["floor"], 3)  # 2 log 2
    1.386
    """
    region = (torch.arange(cells) < marked).float()[None]
    noise = torch.randn(1, cells, generator=torch.Generator().manual_seed(seed))
    loss, logits = min((_minimised(criterion, region, scale * noise) for scale in (1.0, 0.01)), key=lambda one: one[0])
    attention = log_softmax(logits).exp().double()
    entropy = -(attention * attention.clamp_min(1e-300).log()).sum()
    return {"floor": loss, "floor_entropy": float(entropy)}


def _minimised(criterion: nn.Module, region: Tensor, start: Tensor) -> tuple[float, Tensor]:
    """Return the smallest loss reached from one initialization, and its logits."""
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        """Compute the loss and its gradient, as L-BFGS asks for them."""
        optimizer.zero_grad()
        value = criterion(log_softmax(logits), region, [region]).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return float(loss().detach()), logits.detach()


class GradCam:
    """Attention metrics of the Grad-CAM maps of the arm's classifier, which was trained without attention.

    Args:
        split: split whose cases are used.
    """

    def __init__(self, split: Split = "test") -> None:
        self.split: Split = split

    def __call__(self, trained: Trained) -> Values:
        """Return the attention metrics of the maps as variant ``grad-cam``."""
        explainer, rows = Explainer(trained.model), []
        for case in trained.pipeline.cases(self.split):
            known = trained.annotation(case)
            if known.region is None or not known.region.any():
                continue
            cam = explainer.grad_cam(torch.from_numpy(np.array(case.image)), 0)
            rows.append(attention_scores(upsample(cam, known.region.shape), known.region))
        return {"grad-cam": {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}}


class Explanations:
    """Metrics of the arm's attention as an explanation, and of other maps of the same network.

    Args:
        split: split whose cases are used.
    """

    def __init__(self, split: Split = "test") -> None:
        self.split: Split = split

    def __call__(self, trained: Trained) -> Values:
        """Return pointing, mass in the region, deletion and insertion of each map, the arm's attention as ``""``.

        The arm has ``similarity_to_random`` as well.
        """
        cases, classes = trained.pipeline.cases(self.split), len(trained.pipeline.dataset.classes)
        found = required(explain(trained.model, cases, {}, classes), "cases with an object")
        values = {m: {k: jsonio.number(v["value"]) for k, v in of.items()} for m, of in found["methods"].items()}
        own = values.pop(ATTENTION) | {SANITY: jsonio.number(found[SANITY]["value"])}
        return {"": own, **values}


class AttentionAsMask:
    """Dice of thresholded attention, and the highest Dice that its resolution allows.

    The threshold, a fraction of the maximum of each map, is selected on validation cases. The variant
    ``best on its grid`` is the union of whole cells with the highest Dice, an upper bound for masks of that stride.

    Args:
        stride: voxels per cell of the attention.
    """

    def __init__(self, stride: PositiveInt = 4) -> None:
        self.stride = stride

    def __call__(self, trained: Trained) -> Values:
        """Return ``dice`` and ``threshold`` of the arm, and ``dice`` of ``best on its grid``."""
        val, test = _pairs(trained, "val"), _pairs(trained, "test")
        chosen = max(_THRESHOLDS, key=lambda share: _mean_dice(val, share))
        bounds = [best_dice_on_grid(mask > 0, self.stride) for _, mask in test]
        return {
            "": {"dice": _mean_dice(test, chosen), "threshold": chosen},
            "best on its grid": {"dice": float(np.mean(bounds))},
        }


def _mean_dice(pairs: Sequence[tuple[np.ndarray, np.ndarray]], share: float) -> float:
    """Compute the mean Dice of attention thresholded at ``share`` of its maximum, over pairs of attention and mask."""
    return float(np.mean([dice((a >= share * a.max()).astype(np.uint8), mask) for a, mask in pairs]))


def _pairs(trained: Trained, split: Split) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return attention and mask of every case with an object."""
    pairs = [
        (required(found.attention, "a model with attention"), np.asarray(required(case.annotation.mask, "masks")))
        for case, found in trained.predictions(split)
    ]
    return [(attention, mask) for attention, mask in pairs if mask.any()]


def best_dice_on_grid(mask: np.ndarray, stride: int) -> float:
    """Compute the highest Dice that a union of whole cells can reach; NaN for an empty mask.

    Cells are sorted by the number of object voxels that they contain, and the best number of leading cells is taken.
    This is exact: of all sets of k cells, the one with most object voxels has the highest Dice.

    >>> corner = np.zeros((8, 8), bool)
    >>> corner[:4, :2] = True
    >>> round(best_dice_on_grid(corner, 4), 4)  # one cell of 16 holds all 8
    0.6667
    """
    if not mask.any():
        return math.nan
    padded = np.pad(mask, [(0, -n % stride) for n in mask.shape])
    cells = padded.reshape([part for n in padded.shape for part in (n // stride, stride)])
    held = np.sort(cells.sum(axis=tuple(range(1, cells.ndim, 2))).ravel())[::-1]
    sizes = stride**mask.ndim * np.arange(1, len(held) + 1)
    return float((2 * held.cumsum() / (sizes + mask.sum())).max())
