"""Convert a 2-D convolutional network to a 3-D one that starts from its weights (I3D, arXiv:1705.07750).

A layer without a 3-D counterpart is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cphloc.errors import InputError
from cphloc.ops.inflate import inflate
from cphloc.ops.layers import SafeConv3d

Inflation = Literal["average", "centre"]
"""How a kernel is extended along the slices; see `cphloc.ops.inflate.inflate`."""


def slice_stride_at(stride: int, coarsest: int, slice_stride: int) -> int:
    """Return the stride along the slices at in-plane stride ``stride``; the first reductions are in-plane only.

    >>> [slice_stride_at(s, 32, 8) for s in (1, 2, 4, 8, 16, 32)]
    [1, 1, 1, 2, 4, 8]
    """
    return max(1, stride * slice_stride // coarsest)


def inflate_network(network: nn.Module, inflation: Inflation, slice_strides: Mapping[nn.Module, int]) -> nn.Module:
    """Convert a network of 2-D layers, with its weights, into one for ``(N, C, D, H, W)``.

    Args:
        network: changed in place: its layers are replaced, its containers kept.
        inflation: how kernels are extended along the slices.
        slice_strides: stride along the slices of every strided layer, from `plan_slice_strides`.

    Raises:
        InputError: a layer that has no counterpart here; the message names it.
    """
    return _inflated(network, inflation, slice_strides, _converters())


@torch.no_grad()
def plan_slice_strides(network: nn.Module, channels: int, coarsest: int, slice_stride: int) -> dict[nn.Module, int]:
    """Compute the stride along the slices of each strided layer, by running the 2-D network once.

    Args:
        network: 2-D network whose coarsest features have the in-plane stride ``coarsest``.
        channels: image channels.
        slice_stride: stride along the slices of the coarsest features; divides ``coarsest``.
    """
    size = 2 * coarsest
    planned: dict[nn.Module, int] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Record the stride along the slices of a layer that has just run."""
        before, after = (slice_stride_at(size // x.shape[-1], coarsest, slice_stride) for x in (inputs[0], output))
        planned[layer] = after // before

    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)]
    hooks = [layer.register_forward_hook(note) for layer in layers if _first(layer.stride) > 1]
    was_training = network.training
    network.eval()(next(network.parameters()).new_zeros(1, channels, size, size))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return planned


class SameConv3d(SafeConv3d):
    """Convolution with TensorFlow's ``SAME`` padding: ``ceil(n / stride)`` outputs, an odd voxel of padding last."""

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, D, H, W)``."""
        pads = []
        for n, k, s, d in zip(x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True):
            total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            pads = [total // 2, total - total // 2, *pads]
        return super().forward(F.pad(x, pads))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``(N, C, *S)``."""

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, *S)``."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ChannelGate(nn.Module):
    """Squeeze and excitation: scale each channel by a gate computed from the means of all channels."""

    def __init__(self, excite: nn.Module) -> None:
        super().__init__()
        self.excite = excite

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, *S)``."""
        return x * self.excite(x.mean(tuple(range(2, x.dim())), keepdim=True))


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block on ``(N, C, *S)`` made of the layers of a 2-D one."""

    def __init__(self, layers: Mapping[str, nn.Module], gamma: Tensor | None, channels_last: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.gamma = None if gamma is None else nn.Parameter(gamma.detach().clone())
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, *S)``."""
        y = self.layers["conv_dw"](x)
        y = y.movedim(1, -1) if self.channels_last else y
        y = self.layers["mlp"](self.layers["norm"](y))
        y = y.movedim(-1, 1) if self.channels_last else y
        if self.gamma is not None:
            y = y * self.gamma.view(-1, *(1,) * (y.dim() - 2))
        return self.layers["drop_path"](y) + self.layers["shortcut"](x)


Converter = Callable[[Any, Inflation, int], nn.Module]


def _inflated(
    module: nn.Module, inflation: Inflation, slice_strides: Mapping[nn.Module, int], converters: Mapping[str, Converter]
) -> nn.Module:
    """Convert everything below ``module``; a container keeps its own class and forward."""
    name = type(module).__name__
    for child_name, child in list(module.named_children()):
        # Set through the registry: a container may be a ModuleList, a ModuleDict or a Sequential.
        module._modules[child_name] = _inflated(child, inflation, slice_strides, converters)
    if name in converters:
        return converters[name](module, inflation, slice_strides.get(module, 1)).train(module.training)
    leaf = next(module.children(), None) is None
    if next(module.parameters(recurse=False), None) is not None or (leaf and not _has_no_axes(module)):
        msg = f"its layer '{name}' has no 3-D counterpart"
        raise InputError(msg)
    return module


def _has_no_axes(layer: nn.Module) -> bool:
    """Return True for a layer without weights of its own that works in any number of dimensions."""
    anywhere = ("torch.nn.modules.activation", "torch.nn.modules.dropout", "timm.layers.activations")
    return type(layer).__module__.startswith(anywhere) or type(layer).__name__ in {"Identity", "DropPath", "Sequential"}


def _converters() -> dict[str, Converter]:
    """Map the class name of a layer to its converter; by name, so that timm's layers need no import."""
    return {
        "Conv2d": _conv,
        "Conv2dSame": _conv,
        "BatchNorm2d": _batch_norm,
        "BatchNormAct2d": _batch_norm,
        "LayerNorm2d": lambda layer, *_: _with_weights_of(
            layer, ChannelNorm(layer.normalized_shape, layer.eps, layer.elementwise_affine)
        ),
        "MaxPool2d": _max_pool,
        "AvgPool2d": _average_pool,
        "SEModule": _gate,
        "SqueezeExcite": _gate,
        "EffectiveSEModule": _gate,
        "ConvNeXtBlock": lambda block, *_: ConvNeXtBlock(
            dict(block.named_children()), block.gamma, not block.use_conv_mlp
        ),
        **dict.fromkeys(("Linear", "LayerNorm", "GroupNorm"), lambda layer, *_: layer),
    }


def _conv(layer: nn.Conv2d, inflation: Inflation, slice_stride: int) -> nn.Module:
    if isinstance(layer.padding, str):
        msg = f"its convolution with padding '{layer.padding}' has no 3-D counterpart"
        raise InputError(msg)
    depth, padding, dilation = _along_slices(layer, slice_stride)
    same = type(layer).__name__ == "Conv2dSame"
    conv = (SameConv3d if same else SafeConv3d)(
        layer.in_channels,
        layer.out_channels,
        (depth, *_pair(layer.kernel_size)),
        (slice_stride, *_pair(layer.stride)),
        0 if same else (padding, *_pair(layer.padding)),
        (dilation, *_pair(layer.dilation)),
        layer.groups,
        bias=layer.bias is not None,
    )
    state = {**layer.state_dict(), "weight": inflate(layer.weight.detach(), depth, inflation)}
    conv.load_state_dict(state)
    return conv.to(layer.weight)


def _batch_norm(layer: nn.BatchNorm2d, *_: object) -> nn.Module:
    norm = nn.BatchNorm3d(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    return nn.Sequential(_with_weights_of(layer, norm), *layer.children())


def _max_pool(layer: nn.MaxPool2d, _: Inflation, slice_stride: int) -> nn.Module:
    depth, padding, dilation = _along_slices(layer, slice_stride)
    return nn.MaxPool3d(
        (depth, *_pair(layer.kernel_size)),
        (slice_stride, *_pair(layer.stride)),
        (padding, *_pair(layer.padding)),
        (dilation, *_pair(layer.dilation)),
        ceil_mode=layer.ceil_mode,
    )


def _average_pool(layer: nn.AvgPool2d, inflation: Inflation, slice_stride: int) -> nn.Module:
    depth, padding, _ = _along_slices(layer, slice_stride)
    return nn.AvgPool3d(
        (depth, *_pair(layer.kernel_size)),
        (slice_stride, *_pair(layer.stride)),
        (padding, *_pair(layer.padding)),
        layer.ceil_mode,
        layer.count_include_pad,
    )


def _gate(layer: nn.Module, *_: object) -> nn.Module:
    if getattr(layer, "add_maxpool", False):
        msg = f"its layer '{type(layer).__name__}' with max-pooling has no 3-D counterpart"
        raise InputError(msg)
    return ChannelGate(nn.Sequential(*layer.children()))


def _along_slices(layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, slice_stride: int) -> tuple[int, int, int]:
    """Return kernel, padding and dilation along the slices: as in-plane, but non-overlapping windows stay so."""
    kernel, stride = _first(layer.kernel_size), _first(layer.stride)
    if kernel == stride:
        return slice_stride, 0, 1
    return kernel, _first(layer.padding), _first(getattr(layer, "dilation", 1))


def _with_weights_of(layer: nn.Module, inflated: nn.Module) -> nn.Module:
    own = {key: value for key, value in layer.state_dict().items() if key in inflated.state_dict()}
    inflated.load_state_dict(own)
    return inflated.to(next(iter(own.values()), torch.empty(0)))


def _pair(value: int | str | tuple[int, ...]) -> tuple[int, int]:
    rows, columns = value if isinstance(value, tuple) else (int(value), int(value))
    return rows, columns


def _first(value: int | str | tuple[int, ...]) -> int:
    return _pair(value)[0]
