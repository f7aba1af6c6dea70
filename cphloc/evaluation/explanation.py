"""How well attention explains a classifier, beside Grad-CAM and occlusion of the same network and random weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from cphloc.config import jsonio
from cphloc.data.pipeline.cache import PreparedCase
from cphloc.errors import InputError
from cphloc.metrics.attention import mass_in_region, pointing, upsample
from cphloc.metrics.bootstrap import interval, paired_difference
from cphloc.metrics.explanation import ATTENTION, GRAD_CAM, METHODS, METRICS, OCCLUSION, RANDOM, SANITY
from cphloc.modeling.model import Model
from cphloc.ops.cam import as_attention, grad_cam
from cphloc.ops.layers import fit
from cphloc.ops.occlusion import deletion, insertion, occlusion
from cphloc.progress import track

MOST_CASES = 50
"""Largest number of cases that are explained; of more, every k-th is."""
MOST_WINDOWS = 8
"""Largest number of windows of the occlusion along an axis."""


@dataclass(frozen=True)
class Explainer:
    """Maps of one classifier with attention.

    Args:
        model: in evaluation mode; its first head with attention and labels is explained.

    Raises:
        InputError: no head has both.
    """

    model: Model

    def __post_init__(self) -> None:
        """Check that there is a head to explain."""
        if self.head_name is None:
            msg = "the model has no head that gives labels and attention, so there is nothing to explain; "
            raise InputError(msg + "use a head such as attention_pool, multi_attention or gap")

    @property
    def head_name(self) -> str | None:
        """Name of the head that is explained."""
        fitting = (name for name, head in self.model.heads.items() if hasattr(head, "index"))
        return next((name for name in fitting if name not in self.model.mergings), None)

    @property
    def head(self) -> Any:
        """The head that is explained."""
        return self.model.heads[str(self.head_name)]

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Compute the levels that the heads take, for images ``(N, C, *S)``."""
        size = images.shape[2:]
        padded = tuple(-(-n // m) * m for n, m in zip(size, self.model.multiple, strict=True))
        levels = self.model.backbone(fit(images, padded, "edge"))
        return list(levels if self.model.neck is None else self.model.neck(levels))

    @torch.no_grad()
    def probability(self, images: Tensor, place: int) -> Tensor:
        """Return the probability of a class of images ``(N, C, *S)``, ``(N,)``."""
        found = self.head.decode(self.head(tuple(self.pyramid(images))))
        return found.label_probabilities[:, place].float()

    @torch.no_grad()
    def attention(self, image: Tensor) -> np.ndarray:
        """Return the attention of an image ``(C, *S)`` on the cells of the head's level."""
        found = self.head.decode(self.head(tuple(self.pyramid(image[None]))))
        return found.attention[0].float().cpu().numpy()

    def grad_cam(self, image: Tensor, place: int) -> np.ndarray:
        """Return Grad-CAM of a class, as a map that sums to 1 over the cells of the head's level."""
        with torch.no_grad():
            pyramid = self.pyramid(image[None])
        features = pyramid[self.head.index] = pyramid[self.head.index].detach().requires_grad_()
        with torch.enable_grad():
            logit = self.head(tuple(pyramid)).logits[:, place]
            return as_attention(grad_cam(features, logit))[0].cpu().numpy()

    def occlusion(self, image: Tensor, place: int, blank: Tensor) -> np.ndarray:
        """Return the positive part of the occlusion map of a class, as a map that sums to 1."""
        cells = [min(n, MOST_WINDOWS) for n in self.attention(image).shape]
        found = occlusion(lambda images: self.probability(images, place), image, blank, cells)
        return as_attention(found[None])[0].cpu().numpy()


def randomized(model: Model, seed: int = 0) -> Model:
    """Return a copy of a model with newly drawn weights, as every layer draws them."""
    copied = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for layer in copied.modules():
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
    return copied.eval()


def explain(
    model: Model, cases: Sequence[PreparedCase], patients: Mapping[str, str], classes: int
) -> dict[str, Any] | None:
    """Measure attention as an explanation, beside other maps of the same network.

    The class that is explained is the first that the case has; cases without an object are left out.

    Args:
        model: in evaluation mode, with a head that gives labels and attention.
        cases: preprocessed cases.
        patients: patient of each case by id, by whom intervals are resampled.
        classes: number of foreground classes of the data set.

    Returns:
        ``cases`` (their number), ``methods`` (metrics with intervals, by method), ``paired`` (attention minus each
        other method) and `SANITY`; ``None`` where no case has an object.

    Raises:
        InputError: no head gives labels and attention.
    """
    of, blind = Explainer(model), Explainer(randomized(model))
    chosen = list(_with_objects(cases, classes))
    chosen = chosen[:: -(-len(chosen) // MOST_CASES) or 1]
    if not chosen:
        return None
    rows = [_row(of, blind, *one) for one in track(chosen, "explaining")]
    groups = [patients.get(case.id, case.id) for case, _, _ in chosen]
    methods = {m: {k: interval([row[m][k] for row in rows], groups) for k in METRICS} for m in METHODS}
    paired = {
        m: {k: paired_difference([r[ATTENTION][k] for r in rows], [r[m][k] for r in rows], groups) for k in METRICS}
        for m in METHODS
        if m != ATTENTION
    }
    return {
        "cases": len(chosen),
        "methods": {m: {k: jsonio.plain(v._asdict()) for k, v in found.items()} for m, found in methods.items()},
        "paired": {m: {k: jsonio.plain(v._asdict()) for k, v in found.items()} for m, found in paired.items()},
        SANITY: jsonio.plain(interval([row[SANITY] for row in rows], groups)._asdict()),
    }


def _with_objects(cases: Sequence[PreparedCase], classes: int) -> Iterator[tuple[PreparedCase, np.ndarray, int]]:
    """Yield the cases with an object, their region, and the place of the first class that they have."""
    for case in cases:
        known = case.annotation.completed(case.image.shape[1:], classes)
        if known.region is None or known.label is None or not known.region.any():
            continue
        if (present := np.flatnonzero(np.nan_to_num(known.label) > 0)).size:
            yield case, np.asarray(known.region), int(present[0])


def _row(of: Explainer, blind: Explainer, case: PreparedCase, region: np.ndarray, place: int) -> dict[str, Any]:
    """Measure every map of one case."""
    image = torch.from_numpy(np.array(case.image, np.float32)).to(next(of.model.parameters()).device)
    blank = image.flatten(1).median(1).values.reshape(-1, *[1] * (image.dim() - 1)).expand_as(image)
    maps = {
        ATTENTION: of.attention(image),
        GRAD_CAM: of.grad_cam(image, place),
        OCCLUSION: of.occlusion(image, place, blank),
        RANDOM: blind.attention(image),
    }
    return {SANITY: rank_correlation(maps[ATTENTION], maps[RANDOM])} | {
        name: _scores(of, image, blank, upsample(found, region.shape), region, place) for name, found in maps.items()
    }


def _scores(
    of: Explainer, image: Tensor, blank: Tensor, attention: np.ndarray, region: np.ndarray, place: int
) -> dict[str, float]:
    def score(images: Tensor) -> Tensor:
        """Return the probability of the explained class."""
        return of.probability(images, place)

    shown = torch.from_numpy(attention).to(image.device)
    return {
        "pointing": pointing(attention, region),
        "attention_mass": mass_in_region(attention, region),
        "deletion": deletion(score, image, blank, shown),
        "insertion": insertion(score, image, blank, shown),
    }


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Compute Spearman's rank correlation of two maps; NaN where one is constant.

    >>> round(rank_correlation(np.array([0.1, 0.2, 0.7]), np.array([3.0, 2.0, 1.0])), 6)
    -1.0
    """
    a, b = first.ravel(), second.ravel()
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
