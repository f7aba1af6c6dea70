"""RoIAlign in any number of dimensions: resample the features inside a box to a fixed size (He et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cphloc.ops.assign import level_of
from cphloc.ops.boxes import corners
from cphloc.structures.levels import Levels

CELLS_ACROSS = 14
"""A box is pooled from the coarsest level on which it spans this many cells: 224 / 16 of Lin et al. 2017."""


def roi_align(
    features: Tensor, boxes: Sequence[Tensor], stride: Sequence[float], size: Sequence[int], samples: int = 2
) -> Tensor:
    """Average of ``samples`` multilinear samples per axis in each of ``size`` bins of every box.

    In 2-D the result equals ``torchvision.ops.roi_align(aligned=True)``: voxel centres are at half coordinates. Samples
    more than half a cell outside the map count as 0; a box of volume 0 gives zeros and no gradient.

    Args:
        features: ``(N, C, *S)``.
        boxes: N tensors ``(n, 2 D)`` in image voxels.
        stride: image voxels per feature cell and axis.
        size: bins per axis.
        samples: samples per bin and axis.

    Returns:
        ``(sum of n, C, *size)``, in the order of the images, with the dtype of ``features``.

    >>> ramp = torch.arange(25.0).reshape(1, 1, 5, 5)
    >>> roi_align(ramp, [torch.tensor([[1.0, 1, 3, 3]])], (1, 1), (4, 4))[0, 0, 0]
    tensor([4.5000, 5.0000, 5.5000, 6.0000])
    """
    if features.is_meta:
        return features.new_empty((sum(map(len, boxes)), features.shape[1], *size))
    pooled = [
        _pool(image[None], rois, stride, tuple(size), samples) for image, rois in zip(features, boxes, strict=True)
    ]
    none = features[:0].sum() + features.new_zeros((0, features.shape[1], *size))  # result of an empty batch
    return torch.cat(pooled or [none]).to(features.dtype)


def pyramid_roi_align(
    pyramid: Sequence[Tensor], levels: Levels, boxes: Sequence[Tensor], size: Sequence[int], samples: int = 2
) -> Tensor:
    """Apply `roi_align` to every box, on a level chosen by the size of the box.

    Args:
        pyramid: one ``(N, C, *S)`` per level, all with C channels.
        levels: pyramid levels, fine to coarse.
        boxes: N tensors ``(n, 2 D)`` in image voxels.
        size: bins per axis.
        samples: samples per bin and axis.

    Returns:
        ``(sum of n, C, *size)``, in the order of the images.
    """
    if pyramid[0].is_meta:  # boxes have no values; all levels give the same shape
        return roi_align(pyramid[0], boxes, levels[0].stride, size, samples)
    chosen = [level_of(rois, levels, CELLS_ACROSS) for rois in boxes]
    order = torch.cat(chosen) if chosen else torch.zeros(0, dtype=torch.int64)
    result = pyramid[0].new_zeros((len(order), pyramid[0].shape[1], *size))
    for number, (features, level) in enumerate(zip(pyramid, levels, strict=True)):
        here = [rois[which == number] for rois, which in zip(boxes, chosen, strict=True)]
        pooled = roi_align(features, here, level.stride, size, samples)
        result = result.index_put(((order == number).nonzero()[:, 0],), pooled.to(result.dtype))
    return result


def _pool(image: Tensor, boxes: Tensor, stride: Sequence[float], size: tuple[int, ...], samples: int) -> Tensor:
    """Pool ``(n, 2 D)`` boxes from one image ``(1, C, *S)``."""
    if len(boxes) == 0:
        return image.new_zeros((0, image.shape[1], *size)) + 0 * image.sum()
    lo, hi = corners(boxes.to(image.device))
    step = lo.new_tensor(stride)
    lo, extent = lo / step, (hi - lo) / step
    points = []
    for axis, n in enumerate(size):
        at = (torch.arange(n * samples, dtype=lo.dtype, device=lo.device) + 0.5) / (n * samples)
        points.append(lo[:, axis, None] + extent[:, axis, None] * at)
    solid = (extent > 0).all(dim=1, keepdim=True)
    counts = [(p >= -0.5) & (p <= n + 0.5) & solid for p, n in zip(points, image.shape[2:], strict=True)]
    with torch.autocast(image.device.type, enabled=False):
        return (_planar if len(size) == 2 else _summed)(image.float(), points, counts, samples)


def _planar(image: Tensor, points: Sequence[Tensor], counts: Sequence[Tensor], samples: int) -> Tensor:
    """Average the samples by ``grid_sample``, which torch has vectorized in 2-D only; published entries depend on it.

    Args:
        image: ``(1, C, *S)``.
        points: per axis, sample positions ``(n, size * samples)`` in edge coordinates of the feature map.
        counts: per axis, whether a sample counts.
        samples: samples per bin and axis.
    """
    # The samples of a bin come first, so that their mean adds long rows.
    y, x = (p.unflatten(1, (-1, samples)).permute(2, 0, 1) for p in points)
    inside_y, inside_x = (c.unflatten(1, (-1, samples)).permute(2, 0, 1) for c in counts)
    shape = (samples, samples, *y.shape[1:], x.shape[2])
    grid = torch.stack(
        [
            (2 * x / image.shape[3] - 1)[None, :, :, None].expand(shape),
            (2 * y / image.shape[2] - 1)[:, None, :, :, None].expand(shape),
        ],
        dim=-1,
    )
    inside = inside_y[:, None, :, :, None] & inside_x[None, :, :, None]
    flat = grid.float().reshape(1, samples * samples, -1, 2)
    values = F.grid_sample(image, flat, padding_mode="border", align_corners=False)
    values = values.reshape(-1, *shape)
    values = values if inside.all() else values * inside
    return values.mean(dim=1).mean(dim=1).transpose(0, 1)


def _summed(image: Tensor, points: Sequence[Tensor], counts: Sequence[Tensor], samples: int) -> Tensor:
    """Sum the cells around all samples of a bin, each with its weight; arguments as for `_planar`."""
    dims, boxes = len(points), len(points[0])
    index = torch.zeros((boxes, *[1] * (2 * dims)), dtype=torch.int64, device=image.device)
    weight = torch.ones((), device=image.device)
    for axis, (position, count) in enumerate(zip(points, counts, strict=True)):
        cells = image.shape[2 + axis]
        at = (position - 0.5).clamp(0, cells - 1)
        lower = at.long().clamp(0, max(cells - 2, 0))
        upper = (lower + 1).clamp(max=cells - 1)
        share = (at - lower).float()
        shape = [boxes] + [1] * (2 * dims)
        shape[1 + axis], shape[1 + dims + axis] = position.shape[1] // samples, 2 * samples
        index = index * cells + torch.stack([lower, upper], dim=2).reshape(shape)
        weight = weight * (torch.stack([1 - share, share], dim=2) * count[..., None] / samples).reshape(shape)
    size = index.shape[1 : 1 + dims]
    rows = image[0].flatten(1).T.contiguous()
    bags = index.reshape(boxes * size.numel(), -1)
    pooled = F.embedding_bag(bags, rows, per_sample_weights=weight.reshape(bags.shape), mode="sum")
    return pooled.reshape(boxes, *size, -1).movedim(-1, 1)
