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
    full, blend = tuple(image.shape[2:]), None
    done: list[Tensor] = []
    for corner in corners(full, tuple(patch), overlap):
        window = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
        values = predict(image[(..., *window)])[0]
        blend = blend or Blend(len(values), full, tuple(patch), values.device)
        done += [mean.clone() for _, mean, _ in blend.rows(corner[0])]
        blend.add(corner, values)
    done += [mean.clone() for _, mean, _ in blend.rows(full[0])]
    return fit(torch.cat(done, dim=1)[None], size)
