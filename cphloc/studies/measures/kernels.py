"""Properties of fixed convolution kernels and of max pooling; no model is trained."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cphloc.config.argument_types import PositiveInt
from cphloc.studies.measured import Trained, Values

EDGE = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, 8.0, -1.0], [-1.0, -1.0, -1.0]])
SHARPEN = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 5.0, -1.0], [0.0, -1.0, 0.0]])


class Kernels:
    """Response of edge and sharpening kernels to a constant and a step, and shift invariance of layers of stride 2.

    ``on_constant`` is the response to an image of ones, ``overshoot`` the largest amount by which the response to a
    step from 0 to 1 leaves that range, and ``shift_error`` the RMS change of the output when the image is shifted by
    one voxel, relative to the standard deviation of the output: 0 for a shift-invariant layer. The output of a
    convolution of stride 1 is shifted back before the comparison (equivariance).

    Args:
        size: voxels of the image along each axis.
    """

    def __init__(self, size: PositiveInt = 64) -> None:
        self.size = size

    def __call__(self, trained: Trained) -> Values:
        """Return the metrics of each kernel and layer."""
        generator = torch.Generator().manual_seed(trained.seed)
        picture = torch.randn(1, 1, self.size, self.size, generator=generator)
        picture = functional.avg_pool2d(picture, 5, 1)
        kernels = {name: fixed(kernel, picture) for name, kernel in (("edge", EDGE), ("sharpen", SHARPEN))}
        return {
            **kernels,
            "max pooling": {"shift_error": shift_error(functional.max_pool2d(picture, 2), moved(picture, pool=True))},
            "every second voxel": {"shift_error": shift_error(picture[..., ::2, ::2], moved(picture, pool=False))},
        }


def fixed(kernel: Tensor, picture: Tensor) -> dict[str, float]:
    """Compute ``on_constant``, ``overshoot`` and ``shift_error`` of a 3 x 3 kernel.

    >>> fixed(EDGE, torch.zeros(1, 1, 8, 8))["on_constant"], fixed(SHARPEN, torch.zeros(1, 1, 8, 8))["on_constant"]
    (0.0, 1.0)
    """
    step = (torch.arange(8) >= 4).float().expand(1, 1, 8, 8)
    answer = convolved(kernel, step)
    there_and_back = convolved(kernel, picture.roll(1, -1)).roll(-1, -1)
    inside = (..., slice(None), slice(1, -1))
    return {
        "on_constant": float(convolved(kernel, torch.ones(1, 1, 8, 8)).mean()),
        "overshoot": float(max(answer.max() - 1, -answer.min())),
        "shift_error": shift_error(convolved(kernel, picture)[inside], there_and_back[inside]),
    }


def convolved(kernel: Tensor, picture: Tensor) -> Tensor:
    """Compute the cross-correlation of an image ``(1, 1, H, W)`` with a kernel, without padding."""
    return functional.conv2d(picture, kernel[None, None])


def moved(picture: Tensor, pool: bool) -> Tensor:
    """Apply max pooling (``pool``) or subsampling of stride 2 to the image shifted by one voxel along the last axis."""
    shifted = picture.roll(1, -1)
    return functional.max_pool2d(shifted, 2) if pool else shifted[..., ::2, ::2]


def shift_error(before: Tensor, after: Tensor) -> float:
    """Compute the RMS change over the standard deviation of ``before``, without the outermost columns of the change."""
    change = (after - before)[..., 1:-1].square().mean().sqrt()
    return float(change / before.std()) if before.std() else 0.0
