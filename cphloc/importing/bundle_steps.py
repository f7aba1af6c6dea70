"""Steps of cphloc for a MONAI bundle: resampling, windows, and masks on the grid of the image.

An exported bundle contains this file as ``scripts/steps.py``; it needs MONAI, and not cphloc.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import Inferer
from monai.transforms.transform import MapTransform
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

_SHAPE = "oriented_shape"
"""Key of the metadata with the shape of the image in array order, before resampling."""


def resampled(maps: Tensor, shape: Sequence[int]) -> Tensor:
    """Resample ``(C, *S)`` linearly over the same field of view, smoothed along axes with fewer voxels than before."""
    if tuple(maps.shape[1:]) == tuple(shape):
        return maps
    values = maps.float().numpy()
    for axis, (before, after) in enumerate(zip(values.shape[1:], shape, strict=True), start=1):
        sigma = np.sqrt(max(before / after, 1.0) ** 2 - 1) / (2 * np.sqrt(2 * np.log(2)))
        if sigma > 0.1:
            values = ndimage.gaussian_filter1d(values, sigma, axis=axis, mode="nearest", truncate=4.0)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(shape)]
    return functional.interpolate(torch.from_numpy(values)[None], tuple(shape), mode=mode)[0]


class Resampled(MapTransform):
    """Turns axes ``(x, y, z)`` to array order ``(z, y, x)`` and resamples.

    Args:
        keys: names of the images.
        spacing_mm: voxel size in array order; ``None`` does not resample.
    """

    def __init__(self, keys: Any, spacing_mm: Sequence[float] | None = None) -> None:
        super().__init__(keys)
        self.spacing_mm = spacing_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each image by the resampled one."""
        done = dict(data)
        for key in self.key_iterator(done):
            image = done[key]
            values = image.as_tensor().permute(0, *range(image.ndim - 1, 0, -1)).contiguous()
            shape = tuple(values.shape[1:])
            image.meta[_SHAPE] = torch.tensor(shape)
            if self.spacing_mm is not None:
                own = [float(s) for s in reversed(image.pixdim)]
                pairs = zip(shape, own, self.spacing_mm, strict=True)
                shape = tuple(max(1, round(n * s / t)) for n, s, t in pairs)
            image.array = resampled(values, shape)
        return done


class Restored(MapTransform):
    """Turns logits of the resampled image into the mask of the image that `Resampled` was given.

    Args:
        keys: names of the logits, ``(K + 1, *S)``.
        image: name of the image.
    """

    def __init__(self, keys: Any, image: str = "image") -> None:
        super().__init__(keys)
        self.image = image

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each set of logits by a mask ``(1, x, y, z)``."""
        done = dict(data)
        for key in self.key_iterator(done):
            logits = torch.as_tensor(done[key]).cpu().float()
            shape = [int(n) for n in done[self.image].meta[_SHAPE]]
            mask = resampled(logits.softmax(dim=0), shape).argmax(dim=0, keepdim=True)
            done[key] = MetaTensor(mask.permute(0, *range(mask.ndim - 1, 0, -1)).to(torch.uint8))
        return done


def corners(size: Sequence[int], patch: Sequence[int], overlap: float) -> list[tuple[int, ...]]:
    """First voxel of each window; windows are evenly spaced and the last ends at the edge."""
    axes = []
    for whole, part in zip(size, patch, strict=True):
        stride = max(part * (1 - overlap), 1)
        count = int(-(-(whole - part) // stride)) + 1 if whole > part else 1
        axes.append([round(i * (whole - part) / (count - 1)) for i in range(count)] if count > 1 else [0])
    return list(itertools.product(*axes))


def weight_of(patch: Sequence[int]) -> Tensor:
    """Weight of the voxels of a window: a Gaussian of sigma = patch / 8 around voxel patch // 2."""
    weight = torch.ones(())
    for axis, n in enumerate(patch):
        along = torch.exp(-0.5 * ((torch.arange(n) - n // 2) / (n / 8)) ** 2)
        weight = weight * along.reshape([-1 if a == axis else 1 for a in range(len(patch))])
    return weight.clamp(min=weight[weight > 0].min())


class Windows(Inferer):
    """Predicts an image window by window and averages the log-probabilities, weighted by `weight_of`.

    Args:
        patch: size of a window in array order; a smaller image is padded behind.
        overlap: fraction of a window that overlaps with the next one.
        fill: values of the padding: ``zero``, or ``edge`` for those at the edge.
    """

    def __init__(self, patch: Sequence[int], overlap: float = 0.5, fill: str = "zero") -> None:
        super().__init__()
        self.patch, self.overlap = list(patch), overlap
        self.padding = {"zero": "constant", "edge": "replicate"}[fill]

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return log-probabilities ``(N, K + 1, *S)`` of images ``(N, C, *S)``."""
        size = inputs.shape[2:]
        missing = [max(p - n, 0) for n, p in zip(size, self.patch, strict=True)]
        behind = [p for m in reversed(missing) for p in (0, m)]
        image = functional.pad(inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs, behind, self.padding)
        weight = weight_of(self.patch).to(image.device)
        total, seen = torch.zeros(()), torch.zeros(image.shape[2:], device=image.device)
        for corner in corners(image.shape[2:], self.patch, self.overlap):
            window = tuple(slice(c, c + p) for c, p in zip(corner, self.patch, strict=True))
            logs = network(image[(..., *window)], *args, **kwargs).float().softmax(dim=1).log().clamp(min=np.log(1e-12))
            if total.dim() == 0:
                total = torch.zeros(*logs.shape[:2], *image.shape[2:], device=image.device)
            total[(..., *window)] += logs * weight
            seen[window] += weight
        return (total / seen)[(..., *(slice(n) for n in size))]
