"""The encoder of MONAI's SwinUNETR, a hierarchical transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cphloc.config.argument_types import PositiveInt
from cphloc.errors import InputError, needs
from cphloc.structures.levels import Level, Levels


class MonaiSwinUNETR(nn.Module):
    """Swin transformer with attention in shifted windows, its maps refined by residual blocks as skips of a U-Net.

    Args:
        in_channels: image channels (set when the model is built).
        dims: spatial axes (set when the model is built).
        filters: channels of the two finest levels, a multiple of 12.
        depths: transformer blocks of the four stages.
        heads: attention heads of the four stages.
        window: cells per axis of an attention window.
        norm: normalization of the residual blocks: ``instance``, as the authors, or ``group``, which also takes maps of
            a single cell.

    Shapes:
        ``(N, in_channels, *S)`` to six maps of strides 1, 2, 4, 8, 16 and 32, with 1, 1, 2, 4, 8 and 16 times
        ``filters`` channels.

    Raises:
        MissingExtraError: MONAI is not installed.
        InputError: ``filters`` is not a multiple of 12, or ``depths`` or ``heads`` are not four numbers.

    Reference: Hatamizadeh et al. 2022, arXiv:2201.01266; Cardoso et al. 2022, MONAI, arXiv:2211.02701.
    """

    def __init__(
        self,
        in_channels: int,
        dims: int,
        filters: PositiveInt = 24,
        depths: Sequence[PositiveInt] = (2, 2, 2, 2),
        heads: Sequence[PositiveInt] = (3, 6, 12, 24),
        window: PositiveInt = 7,
        norm: Literal["instance", "group"] = "instance",
    ) -> None:
        super().__init__()
        with needs("backbone 'monai_swin_unetr'"):
            from monai.networks.nets.swin_unetr import SwinUNETR
        if filters % 12 or len(depths) != 4 or len(heads) != 4:
            msg = f"monai_swin_unetr needs filters that are a multiple of 12 and four depths and heads, got {filters}, "
            msg += f"{list(depths)} and {list(heads)}"
            raise InputError(msg)
        name: Any = "instance" if norm == "instance" else ("group", {"num_groups": 4})
        with torch.device("cpu"):  # MONAI reads numbers from tensors, which those of a blueprint do not hold
            network = SwinUNETR(
                in_channels,
                1,
                feature_size=filters,
                depths=tuple(depths),
                num_heads=tuple(heads),
                window_size=window,
                norm_name=name,
                spatial_dims=dims,
            )
        network.to(torch.get_default_device())
        self.body = network.swinViT
        self.finest = network.encoder1
        self.refine = nn.ModuleList(
            [network.encoder2, network.encoder3, network.encoder4, nn.Identity(), network.encoder10]
        )
        channels = (1, 1, 2, 4, 8, 16)
        self.levels: Levels = tuple(Level(filters * c, (2**i,) * dims) for i, c in enumerate(channels))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps, fine to coarse."""
        if x.shape[0] == 0:  # MONAI's windows cannot be cut out of no image
            return tuple(y[:0] for y in self.forward(x.new_zeros((1, *x.shape[1:]))))
        refined = (block(y) for block, y in zip(self.refine, self.body(x, True), strict=True))
        return (self.finest(x), *refined)
