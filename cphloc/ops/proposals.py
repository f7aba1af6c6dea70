"""Region proposals without training: sliding windows of given sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def sliding_proposals(
    extent: Sequence[int], sizes: Sequence[Sequence[float]], overlap: float, device: torch.device | None = None
) -> Tensor:
    """Boxes ``(n, 2 D)`` of every size, evenly spaced over the whole image.

    Args:
        extent: image size in voxels per axis.
        sizes: box sizes, one number per axis each, in voxels; larger than the image, they are reduced to it.
        overlap: smallest overlap of neighbouring boxes, as a fraction of their length, in [0, 1).
        device: device of the result.

    >>> sliding_proposals((4, 8), [(4, 4)], overlap=0.5).tolist()
    [[0.0, 0.0, 4.0, 4.0], [0.0, 2.0, 4.0, 6.0], [0.0, 4.0, 4.0, 8.0]]
    """
    boxes = []
    for size in sizes:
        cut = [min(float(s), float(n)) for s, n in zip(size, extent, strict=True)]
        starts = []
        for s, n in zip(cut, extent, strict=True):
            steps = math.ceil((n - s) / (s * (1 - overlap)))
            starts.append(torch.linspace(0, n - s, steps + 1, device=device))
        lo = torch.stack([axis.flatten() for axis in torch.meshgrid(*starts, indexing="ij")], dim=1)
        boxes.append(torch.cat([lo, lo + torch.tensor(cut, device=device)], dim=1))
    return torch.cat(boxes)
