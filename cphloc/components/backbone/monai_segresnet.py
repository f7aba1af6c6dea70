"""The encoder of MONAI's SegResNet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cphloc.config.argument_types import PositiveInt
from cphloc.errors import InputError, needs
from cphloc.structures.levels import Level, Levels


class MonaiSegResNet(nn.Module):
    """Residual encoder with group normalization; every stage halves the size and doubles the channels.

    Args:
        in_channels: image channels (set when the model is built).
        dims: spatial axes (set when the model is built).
        filters: channels of the first stage, a multiple of 8.
        blocks: residual blocks of each stage.

    Shapes:
        ``(N, in_channels, *S)`` to one ``(N, filters * 2^i, *S / 2^i)`` per stage.

    Raises:
        MissingExtraError: MONAI is not installed.
        InputError: ``filters`` is not a multiple of 8.

    Reference: Myronenko 2018, arXiv:1810.11654; Cardoso et al. 2022, MONAI, arXiv:2211.02701.
    """

    def __init__(
        self, in_channels: int, dims: int, filters: PositiveInt = 16, blocks: Sequence[PositiveInt] = (1, 2, 2, 4)
    ) -> None:
        super().__init__()
        with needs("backbone 'monai_segresnet'"):
            from monai.networks.nets.segresnet import SegResNet
        if filters % 8:
            msg = f"filters is {filters} but the group norm needs a multiple of 8"
            raise InputError(msg)
        network = SegResNet(dims, filters, in_channels, blocks_down=tuple(blocks), blocks_up=(1,) * (len(blocks) - 1))
        self.stem = network.convInit
        self.stages = network.down_layers
        self.levels: Levels = tuple(Level(filters * 2**i, (2**i,) * dims) for i in range(len(blocks)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps, fine to coarse."""
        x = self.stem(x)
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return tuple(pyramid)
