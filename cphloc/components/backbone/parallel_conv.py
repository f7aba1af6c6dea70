"""Convolutions with several kernel sizes side by side: the text CNN, in 1-D, 2-D and 3-D."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cphloc.config.argument_types import PerAxis, PositiveInt
from cphloc.ops.layers import conv_type, initialize, per_axis
from cphloc.structures.levels import Level, Levels


class ParallelConvolutions(nn.Module):
    """One layer of convolutions with several kernel sizes side by side, concatenated and rectified.

    In 1-D over the vectors of words, with the head `gmp` above it, this is the text CNN: 3 sizes of 100 filters give
    300 features, each reduced to its maximum over time. The input is zero-padded, so it may be shorter than a kernel.

    Args:
        in_channels: image channels, or numbers that stand for a word (set when the model is built).
        dims: spatial axes (set when the model is built).
        kernels: window sizes, one number or one per axis for each.
        filters: of each window size.

    Shapes:
        ``(N, in_channels, *S)`` to one level ``(N, filters * len(kernels), *S)``.

    Reference: Kim 2014, arXiv:1408.5882.

    >>> backbone = ParallelConvolutions(in_channels=8, dims=1)
    >>> backbone(torch.rand(1, 8, 20))[0].shape
    torch.Size([1, 300, 20])
    """

    def __init__(
        self, in_channels: int, dims: int, kernels: Sequence[PerAxis] = (3, 4, 5), filters: PositiveInt = 100
    ) -> None:
        super().__init__()
        self.kernels = [per_axis(kernel, dims) for kernel in kernels]
        self.windows = nn.ModuleList(conv_type(dims)(in_channels, filters, kernel) for kernel in self.kernels)
        self.levels: Levels = (Level(filters * len(self.windows), (1,) * dims),)
        initialize(self)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """The only level, at full resolution."""
        windows = zip(self.windows, self.kernels, strict=True)
        return (torch.cat([window(_padded(x, kernel)) for window, kernel in windows], 1).relu(),)


def _padded(x: Tensor, kernel: Sequence[int]) -> Tensor:
    """Zero-pad so that the convolution keeps the size; an even kernel gets one more zero at the far end."""
    return functional.pad(x, [margin for size in reversed(kernel) for margin in ((size - 1) // 2, size // 2)])
