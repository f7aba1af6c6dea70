"""A network applied window by window with the product's `Blend`, and nothing else of the product around it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cphloc.ops.layers import fit
from cphloc.ops.sliding_window import Blend, corners


@torch.inference_mode()
def sliding_window(
    predict: Callable[[Tensor], Tensor], image: Tensor, patch: tuple[int, ...], overlap: float = 0.5
) -> Tensor:
    """Gaussian-weighted mean of ``predict`` over overlapping windows.

    Args:
        predict: ``(1, C, *patch)`` to ``(1, K, *patch)``.
        image: ``(1, C, *S)``; an axis shorter than the patch is edge-padded, and cropped again afterwards.
        patch: window size per axis.
        overlap: share of a window that its neighbour covers too, in [0, 1).

    Returns:
        ``(1, K, *S)`` float32 on the device of ``image``.

    >>> x = torch.rand(1, 1, 20, 30)
    >>> torch.allclose(sliding_window(lambda w: w, x, (8, 8)), x, atol=1e-5)
    True
    """
    size = tuple(image.shape[2:])
    image = fit(image, [max(n, p) for n, p in zip(size, patch, strict=True)])
    full, blend, whole = tuple(image.shape[2:]), None, None
    for corner in corners(full, tuple(patch), overlap):
        window = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
        values = predict(image[(..., *window)])[0]
        if blend is None or whole is None:
            blend = Blend(len(values), full, tuple(patch), values.device)
            whole = torch.empty(1, len(values), *full, device=values.device)
        _take(blend, corner[0], whole)
        blend.add(corner, values)
    assert blend is not None
    assert whole is not None
    _take(blend, full[0], whole)
    return fit(whole, size)


def _take(blend: Blend, stop: int, whole: Tensor) -> None:
    """Copy the rows before ``stop`` to where they belong."""
    for row, mean, _ in blend.rows(stop):
        whole[0, :, row : row + mean.shape[1]] = mean
