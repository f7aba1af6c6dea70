"""Sampling for detection losses: hard-negative mining, and balanced random sampling."""

from __future__ import annotations

import torch
from torch import Tensor


def hard_negatives(scores: Tensor, positive: Tensor, ratio: float, pool: int = 1, minimum: int = 1) -> Tensor:
    """Choose the highest-scored negatives.

    Args:
        scores: ``(n,)``; a higher score means a harder negative.
        positive: ``(n,)`` bool.
        ratio: negatives per positive.
        pool: draw at random from the hardest negatives, ``pool`` times as many as needed; 1: take the hardest.
        minimum: smallest number of negatives.

    Returns:
        bool ``(n,)``, true for the chosen negatives.
    """
    negatives = (~positive).nonzero()[:, 0]
    wanted = min(max(int(ratio * int(positive.sum())), minimum), len(negatives))
    hardest = negatives[scores[negatives].topk(min(wanted * pool, len(negatives))).indices]
    chosen = torch.zeros_like(positive)
    chosen[hardest[_draw(len(hardest), wanted, hardest.device)] if pool > 1 else hardest] = True
    return chosen


def balanced(labels: Tensor, count: int, positive_fraction: float) -> Tensor:
    """Draw ``count`` entries at random, at most ``positive_fraction`` of them positive.

    Args:
        labels: ``(n,)``; above 0 positive, 0 negative, below 0 never drawn.
        count: number of entries; fewer are drawn if there are not enough.
        positive_fraction: in [0, 1].

    Returns:
        indices ``(drawn,)`` int64, positives first.
    """
    positives, negatives = (labels > 0).nonzero()[:, 0], (labels == 0).nonzero()[:, 0]
    positives = positives[_draw(len(positives), int(count * positive_fraction), labels.device)]
    negatives = negatives[_draw(len(negatives), count - len(positives), labels.device)]
    return torch.cat([positives, negatives])


def _draw(n: int, wanted: int, device: torch.device) -> Tensor:
    return torch.randperm(n, device=device)[:wanted]
