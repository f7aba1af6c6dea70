"""Occlusion maps of a classifier, and its score while voxels are deleted from or inserted into an image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]
"""Function from images ``(N, C, *S)`` to a score of each ``(N,)``, such as the probability of a class."""


def occlusion(score: Score, image: Tensor, blank: Tensor, cells: Sequence[int], batch: int = 16) -> Tensor:
    """Compute how much the score falls when a window of the image is replaced by ``blank``, for a grid of windows.

    Args:
        score: the score of the class that is explained.
        image: ``(C, *S)``.
        blank: ``(C, *S)`` that holds no evidence.
        cells: number of windows along each axis, which together cover the image.
        batch: number of windows computed at once.

    Returns:
        ``cells``, score of the image minus that of the occluded image. Zeiler and Fergus 2014, arXiv:1311.2901.
    """
    size = image.shape[1:]
    edges = [[round(n * k / count) for k in range(count + 1)] for n, count in zip(size, cells, strict=True)]
    windows = [
        tuple(slice(edge[k], edge[k + 1]) for edge, k in zip(edges, place, strict=True))
        for place in itertools.product(*(range(count) for count in cells))
    ]
    occluded = []
    for start in range(0, len(windows), batch):
        images = image.repeat(len(windows[start : start + batch]), *[1] * image.dim())
        for one, window in zip(images, windows[start : start + batch], strict=True):
            one[(slice(None), *window)] = blank[(slice(None), *window)]
        occluded.append(score(images))
    return (score(image[None]) - torch.cat(occluded)).reshape(tuple(cells))


def deletion(score: Score, image: Tensor, blank: Tensor, attention: Tensor, steps: int = 10, batch: int = 16) -> float:
    """Compute the area under the score while voxels are replaced by ``blank``, those of most attention first.

    The less, the more the score rests on what the map shows. Petsiuk et al. 2018, arXiv:1806.07421.

    Args:
        score: the score of the class that is explained.
        image: ``(C, *S)``.
        blank: ``(C, *S)`` that holds no evidence.
        attention: ``(*S)``.
        steps: number of equal parts in which the voxels are replaced.
        batch: number of images computed at once.
    """
    return _area(score, image, blank, attention, steps, batch)


def insertion(score: Score, image: Tensor, blank: Tensor, attention: Tensor, steps: int = 10, batch: int = 16) -> float:
    """Compute the area under the score while voxels are put into ``blank``, those of most attention first.

    The more, the better the map shows what suffices for the score. Arguments as for `deletion`.
    """
    return _area(score, blank, image, attention, steps, batch)


def _area(score: Score, first: Tensor, last: Tensor, attention: Tensor, steps: int, batch: int) -> float:
    """Area under the score by the trapezoidal rule, from image ``first`` to ``last``, over the share of voxels."""
    order = attention.flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    rank = rank.reshape(attention.shape)
    limits = [round(len(order) * step / steps) for step in range(steps + 1)]
    scores = [
        score(torch.stack([torch.where(rank < limit, last, first) for limit in limits[start : start + batch]]))
        for start in range(0, len(limits), batch)
    ]
    shares = torch.tensor(limits, dtype=torch.double) / len(order)
    return float(torch.trapezoid(torch.cat(scores).double().cpu(), shares))
