"""Convolutions, norms and blocks for 1-D, 2-D and 3-D, built by the same code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cphloc.structures.padding import Fill

Order = Literal["conv-norm-act", "conv-act-norm"]
"""``conv-norm-act`` is the ResNet and nnU-Net order; ``conv-act-norm`` (Conv, ReLU, BatchNorm) is the lecture's."""

Norm = Literal["instance", "batch", "group", "none"]
Activation = Literal["relu", "leaky_relu", "gelu", "silu"]
Upsample = Literal["nearest", "linear"]


Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
ConvTranspose = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


class _InFloat32WhereSmall(nn.Module):
    """Let a convolution compute in float32 where oneDNN's weight gradient in bfloat16 is wrong.

    On CPUs with AVX512-BF16, the gradient of a kernel that is larger than the input along an axis can be uninitialized
    memory: of 3-D kernels, and of 2-D kernels with a stride. Some are written beyond their end, which ends the process.
    ``tests/ops/test_safe_conv.py`` fails when a release of torch computes it right.
    """

    kernel_size: tuple[int, ...]
    dilation: tuple[int, ...]
    weight: nn.Parameter

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``(N, C, *S)``."""
        if torch.is_autocast_enabled("cpu") and input.device.type == "cpu" and self._exceeds(input.shape[2:]):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.to(self.weight.dtype))
        return super().forward(input)

    def _exceeds(self, size: Sequence[int]) -> bool:
        """Return whether the dilated kernel is larger than the input along an axis."""
        of_axes = zip(size, self.kernel_size, self.dilation, strict=True)
        return any(n < dilation * (kernel - 1) + 1 for n, kernel, dilation in of_axes)


class SafeConv2d(_InFloat32WhereSmall, nn.Conv2d):
    """``nn.Conv2d`` that trains in float32 where gradients in bfloat16 are wrong."""


class SafeConv3d(_InFloat32WhereSmall, nn.Conv3d):
    """``nn.Conv3d`` that trains in float32 where gradients in bfloat16 are wrong."""


def with_safe_convolutions(network: nn.Module) -> nn.Module:
    """Replace, in place, the ordinary convolutions of a network from elsewhere by `SafeConv2d` and `SafeConv3d`."""
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = SafeConv2d
        elif type(module) is nn.Conv3d:
            module.__class__ = SafeConv3d
    return network


def conv_type(dims: int) -> Callable[..., Conv]:
    """Return ``nn.Conv1d``, `SafeConv2d` or `SafeConv3d`."""
    return {1: nn.Conv1d, 2: SafeConv2d, 3: SafeConv3d}[dims]


def conv_transpose_type(dims: int) -> Callable[..., ConvTranspose]:
    """Return ``nn.ConvTranspose1d``, ``nn.ConvTranspose2d`` or ``nn.ConvTranspose3d``."""
    return {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dims]


class _TakesEmptyBatch(nn.Module):
    """Let an instance norm accept an empty batch, for which torch raises; its parameters then get zero gradients."""

    weight: nn.Parameter
    bias: nn.Parameter

    def forward(self, input: Tensor) -> Tensor:
        """Normalize a batch; an empty one is only scaled, so that parameters get zero gradients."""
        if torch.compiler.is_compiling() or len(input):  # a branch on the batch would fix its size in an export
            return super().forward(input)
        shape = (-1, *(1,) * (input.dim() - 2))
        return input * self.weight.view(shape) + self.bias.view(shape)


class _InstanceNorm1d(_TakesEmptyBatch, nn.InstanceNorm1d):
    pass


class _InstanceNorm2d(_TakesEmptyBatch, nn.InstanceNorm2d):
    pass


class _InstanceNorm3d(_TakesEmptyBatch, nn.InstanceNorm3d):
    pass


def norm(name: Norm, channels: int, dims: int) -> nn.Module:
    """Build a normalization of ``channels`` in ``dims`` dimensions; ``group`` takes groups of at least 8 channels."""
    if name == "none":
        return nn.Identity()
    if name == "group":
        return nn.GroupNorm(
            max(g for g in (1, 2, 4, 8, 16, 32) if channels % g == 0 and g * 8 <= max(channels, 8)), channels
        )
    if name == "batch":
        return {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](channels)
    return {1: _InstanceNorm1d, 2: _InstanceNorm2d, 3: _InstanceNorm3d}[dims](channels, affine=True)


def activation(name: Activation) -> nn.Module:
    """Build an activation; leaky ReLU has the slope 0.01, as in nnU-Net."""
    if name == "relu":
        return nn.ReLU(inplace=True)
    if name == "leaky_relu":
        return nn.LeakyReLU(0.01, inplace=True)
    return {"gelu": nn.GELU, "silu": nn.SiLU}[name]()


def per_axis(value: int | Sequence[int], dims: int) -> tuple[int, ...]:
    """Return one number per axis; a single number is repeated.

    >>> per_axis(2, 3), per_axis([1, 2, 2], 3)
    ((2, 2, 2), (1, 2, 2))
    """
    return (value,) * dims if isinstance(value, int) else tuple(value)


class ConvBlock(nn.Module):
    """Convolution, norm and activation in the given order; padded so that stride 1 keeps the size.

    Args:
        in_channels, out_channels: channels.
        dims: spatial axes.
        kernel: odd kernel size per axis.
        stride: stride per axis.
        order, norm_name, activation_name: norm and activation, and their order.
        dilation: cells from one element of the kernel to the next.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dims: int,
        kernel: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        order: Order = "conv-norm-act",
        norm_name: Norm = "instance",
        activation_name: Activation = "leaky_relu",
        dilation: int = 1,
    ) -> None:
        super().__init__()
        kernel = per_axis(kernel, dims)
        padding = tuple(dilation * (k // 2) for k in kernel)
        bias = not _absorbs_bias(order, norm_name)
        self.conv = conv_type(dims)(
            in_channels, out_channels, kernel, per_axis(stride, dims), padding, dilation, bias=bias
        )
        self.norm = norm(norm_name, out_channels, dims)
        self.act = activation(activation_name)
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in, *S)`` to ``(N, out, *ceil(S / stride))``."""
        x = self.conv(x)
        return self.act(self.norm(x)) if self.order == "conv-norm-act" else self.norm(self.act(x))


class ResidualBlock(nn.Module):
    """Two convolutions plus identity (He et al. 2016, arXiv:1512.03385); a projection only where the shape changes.

    Args:
        in_channels, out_channels, dims, kernel, stride, order, norm_name, activation_name: as in `ConvBlock`.
        pooled: shrink the identity by average pooling instead of a strided projection, which skips voxels (ResNet-D,
            He et al. 2019, arXiv:1812.01187); the projection is then needed only where the channels change.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dims: int,
        kernel: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        order: Order = "conv-norm-act",
        norm_name: Norm = "instance",
        activation_name: Activation = "leaky_relu",
        pooled: bool = False,
    ) -> None:
        super().__init__()
        stride = per_axis(stride, dims)
        block = partial(ConvBlock, order=order, norm_name=norm_name, activation_name=activation_name)
        self.first = block(in_channels, out_channels, dims, kernel, stride)
        self.second = block(out_channels, out_channels, dims, kernel, 1)
        self.second.act = nn.Identity()
        shortcut = _pooled_shortcut if pooled else _shortcut
        self.shortcut = shortcut(in_channels, out_channels, dims, stride, norm_name)
        self.act = activation(activation_name)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in, *S)`` to ``(N, out, *ceil(S / stride))``."""
        return self.act(self.second(self.first(x)) + self.shortcut(x))


def fit(x: Tensor, size: Sequence[int], fill: Fill = "zero") -> Tensor:
    """Crop or pad the far end of every spatial axis of ``x`` ``(N, C, *S)`` to ``size``.

    Up-sampling a map of odd size gives one voxel too many; cropping the far end brings it onto the grid of the finer
    level without moving the other voxels.
    """
    if tuple(x.shape[2:]) == tuple(size):
        return x
    missing = [max(n - m, 0) for n, m in zip(size, x.shape[2:], strict=True)]
    if any(missing):
        after = [p for m in reversed(missing) for p in (0, m)]
        x = functional.pad(x, after, mode="constant" if fill == "zero" else "replicate")
    return x[(..., *(slice(n) for n in size))]


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate ``(N, C, *S)`` linearly to ``size``, with voxel edges aligned (``align_corners=False``)."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return functional.interpolate(x, tuple(size), mode={1: "linear", 2: "bilinear", 3: "trilinear"}[x.dim() - 2])


def upsample_to(x: Tensor, size: Sequence[int], mode: Upsample) -> Tensor:
    """Interpolate ``(N, C, *S)`` to ``size``, by the nearest cell or linearly."""
    return resize(x, size) if mode == "linear" else functional.interpolate(x, tuple(size), mode="nearest")


def pool_to(x: Tensor, bins: int) -> Tensor:
    """Average ``(N, C, *S)`` in ``bins`` windows per axis, as ``nn.AdaptiveAvgPool2d``; can be exported in 2-D and 3-D.

    Window i of n cells reaches from cell ``floor(i n / bins)`` to ``ceil((i + 1) n / bins)``.
    """
    for axis in range(2, x.dim()):
        n = x.shape[axis]
        weight = torch.zeros(bins, n, dtype=x.dtype, device=x.device)
        for row in range(bins):
            first, end = row * n // bins, -(-(row + 1) * n // bins)
            weight[row, first:end] = 1 / (end - first)
        summed = torch.tensordot(x, weight, dims=([axis], [1]))  # pyright: ignore[reportArgumentType]  # not in stubs
        x = summed.movedim(-1, axis)
    return x


def initialize(module: nn.Module) -> None:
    """Initialize every convolution below ``module`` by He et al. 2015, arXiv:1502.01852; biases become 0."""
    for layer in module.modules():
        if isinstance(layer, Conv | ConvTranspose):
            nn.init.kaiming_normal_(layer.weight, a=0.01, nonlinearity="leaky_relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _absorbs_bias(order: Order, norm_name: Norm) -> bool:
    """Return whether the norm right after a convolution subtracts its bias again, so that it needs none."""
    return order == "conv-norm-act" and norm_name in ("instance", "batch")


def _shortcut(in_channels: int, out_channels: int, dims: int, stride: tuple[int, ...], norm_name: Norm) -> nn.Module:
    if in_channels == out_channels and set(stride) == {1}:
        return nn.Identity()
    return _projection(in_channels, out_channels, dims, stride, norm_name)


def _pooled_shortcut(
    in_channels: int, out_channels: int, dims: int, stride: tuple[int, ...], norm_name: Norm
) -> nn.Module:
    pool = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}[dims](stride, stride, ceil_mode=True)
    parts = [pool] if set(stride) != {1} else []
    if in_channels != out_channels:
        parts.append(_projection(in_channels, out_channels, dims, (1,) * dims, norm_name))
    return nn.Sequential(*parts) if parts else nn.Identity()


def _projection(in_channels: int, out_channels: int, dims: int, stride: tuple[int, ...], norm_name: Norm) -> nn.Module:
    conv = conv_type(dims)(in_channels, out_channels, 1, stride, bias=norm_name not in ("instance", "batch"))
    return nn.Sequential(conv, norm(norm_name, out_channels, dims))


def carries_graph(*tensors: Tensor) -> Tensor:
    """Return a zero that depends on ``tensors``, as the loss of a batch without any usable annotation.

    Every parameter then still receives a (zero) gradient, which distributed training requires.
    """
    return sum((torch.nan_to_num(t).sum() * 0 for t in tensors), start=torch.zeros((), device=tensors[0].device))


def one_hot(target: Tensor, channels: int) -> Tensor:
    """Encode classes ``(N, *S)`` as ``(N, channels, *S)`` float32; not annotated voxels (255) are 0 in all channels."""
    annotated = target < channels
    hot = torch.zeros(target.shape[0], channels, *target.shape[1:], device=target.device)
    return hot.scatter_(1, (target * annotated).unsqueeze(1), annotated.unsqueeze(1).float())
