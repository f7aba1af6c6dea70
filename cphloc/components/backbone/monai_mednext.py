"""The encoder of MONAI's MedNeXt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from cphloc.config.argument_types import PositiveInt
from cphloc.errors import needs
from cphloc.structures.levels import Level, Levels


class MonaiMedNeXt(nn.Module):
    """ConvNeXt-like encoder: depthwise convolutions with large kernels, each stage half the size of the one before.

    Args:
        in_channels: image channels (set when the model is built).
        dims: spatial axes (set when the model is built).
        filters: channels of the first stage; each further one has twice as many.
        blocks: blocks of each stage.
        expansion: channels inside a block, as a multiple of those outside, one number per stage; default 2, as in the
            authors' model S.
        kernel: size of the depthwise kernels, 3 or 5 in the paper.

    Shapes:
        ``(N, in_channels, *S)`` to one ``(N, filters * 2^i, *S / 2^i)`` per stage.

    Raises:
        MissingExtraError: MONAI is not installed.

    Reference: Roy et al. 2023, MedNeXt, arXiv:2303.09975; Cardoso et al. 2022, MONAI, arXiv:2211.02701.
    """

    def __init__(
        self,
        in_channels: int,
        dims: int,
        filters: PositiveInt = 32,
        blocks: Sequence[PositiveInt] = (2, 2, 2, 2, 2),
        expansion: Sequence[PositiveInt] | None = None,
        kernel: Literal[3, 5, 7] = 3,
    ) -> None:
        super().__init__()
        with needs("backbone 'monai_mednext'"):
            from monai.networks.nets.mednext import MedNeXt
        wider = expansion or [2] * len(blocks)
        network = MedNeXt(
            dims,
            filters,
            in_channels,
            encoder_expansion_ratio=wider[:-1],
            bottleneck_expansion_ratio=wider[-1],
            kernel_size=kernel,
            use_residual_connection=True,
            blocks_down=blocks[:-1],
            blocks_bottleneck=blocks[-1],
            blocks_up=(),
            decoder_expansion_ratio=(),
        )
        self.stem = network.stem
        self.stages = nn.ModuleList([*network.enc_stages, network.bottleneck])
        self.shrink = nn.ModuleList([nn.Identity(), *network.down_blocks])
        self.levels: Levels = tuple(Level(filters * 2**i, (2**i,) * dims) for i in range(len(blocks)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps, fine to coarse."""
        x = self.stem(x)
        pyramid = []
        for shrink, stage in zip(self.shrink, self.stages, strict=True):
            x = stage(shrink(x))
            pyramid.append(x)
        return tuple(pyramid)
