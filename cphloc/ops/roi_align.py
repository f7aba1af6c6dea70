"""RoIAlign in any number of dimensions: resample the features inside a box to a fixed size (He et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cphloc.ops.assign import level_of
from cphloc.ops.boxes import corners, volume
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
    dims, channels = len(size), image.shape[1]
    if len(boxes) == 0:
        return image.new_zeros((0, channels, *size)) + 0 * image.sum()
    points = _sample_points(boxes.to(image.device), stride, size, samples)
    extent = torch.tensor(image.shape[2:], dtype=points.dtype, device=points.device)
    inside = ((points >= -0.5) & (points <= extent + 0.5)).all(dim=-1) & (volume(boxes) > 0).view(-1, *[1] * dims)
    # grid_sample expects coordinates from last to first axis, and as many output axes as input axes
    grid = (2 * points / extent - 1).flip(-1).reshape(1, len(boxes), -1, *[1] * (dims - 2), dims)
    with torch.autocast(image.device.type, enabled=False):
        values = F.grid_sample(image.float(), grid.float(), padding_mode="border", align_corners=False)
    values = values.reshape(channels, *inside.shape) * inside
    for axis, n in enumerate(size):
        values = values.unflatten(2 + axis, (n, samples)).mean(dim=3 + axis)
    return values.transpose(0, 1)


def _sample_points(boxes: Tensor, stride: Sequence[float], size: tuple[int, ...], samples: int) -> Tensor:
    """Sample positions ``(n, *(size * samples), D)`` in edge coordinates of the feature map."""
    lo, hi = corners(boxes)
    step = torch.tensor(stride, dtype=lo.dtype, device=lo.device)
    lo, extent = lo / step, (hi - lo) / step
    axes = []
    for axis, n in enumerate(size):
        at = (torch.arange(n * samples, dtype=lo.dtype, device=lo.device) + 0.5) / (n * samples)
        along = lo[:, axis, None] + extent[:, axis, None] * at
        shape = [len(boxes)] + [1] * len(size)
        shape[1 + axis] = n * samples
        axes.append(along.reshape(shape))
    return torch.stack(torch.broadcast_tensors(*axes), dim=-1)
