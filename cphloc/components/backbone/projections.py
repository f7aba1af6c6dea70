"""Two views of one volume: 2-D networks on its projections, whose maps are spread back over the volume and fused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.config.argument_types import Widths
from cphloc.errors import InputError
from cphloc.ops.layers import Activation, Norm, conv_type, initialize
from cphloc.structures.levels import Level, Levels

View = Literal["axial", "coronal", "sagittal"]
_AXES: dict[View, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Array axis along which each view projects."""


class Projections(nn.Module):
    """Encode maximum and mean projections of a volume by one 2-D network per view, and fuse them on every 3-D level.

    Costs a small fraction of a 3-D network. Each map is repeated along the axis of its projection; what lies at a cell
    must therefore be visible in all views.

    Args:
        in_channels: image channels (set when the model is built).
        dims: spatial axes (set when the model is built), 3.
        views: views to project; the axes of the volume are taken as slices (axial), rows (coronal) and columns
            (sagittal).
        widths: channels of each stage of the networks and of each level; every stage halves the size.
        norm, activation: of the networks, as in ``conv_encoder``.

    Shapes:
        ``(N, in_channels, D, H, W)`` to one ``(N, widths[i], *ceil(S / 2^i))`` per stage, fine to coarse.

    Raises:
        InputError: a model that is not 3-D, or no view, or one twice.

    Reference: van Tulder et al. 2021, arXiv:2106.12923, fuse views by attention instead.

    >>> [tuple(x.shape[1:]) for x in Projections(1, 3, widths=[4, 8])(torch.zeros(1, 1, 4, 6, 8))]
    [(4, 4, 6, 8), (8, 2, 3, 4)]
    """

    def __init__(
        self,
        in_channels: int,
        dims: int,
        views: Sequence[View] = ("axial", "coronal"),
        widths: Widths = (32, 64, 128, 256),
        norm: Norm = "instance",
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        if dims != 3 or not views or len(set(views)) != len(views):
            msg = f"projections needs a 3-D model and views that differ, got {dims} axes and {list(views)}"
            raise InputError(msg)
        self.axes = [2 + _AXES[view] for view in views]
        self.encoders = nn.ModuleList(
            ConvEncoder(2 * in_channels, 2, widths, norm=norm, activation=activation) for _ in views
        )
        self.fuse = nn.ModuleList(conv_type(3)(len(views) * width, width, 1) for width in widths)
        self.levels: Levels = tuple(Level(width, (2**i,) * 3) for i, width in enumerate(widths))
        initialize(self.fuse)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Fused feature maps, fine to coarse."""
        views = []
        for axis, encoder in zip(self.axes, self.encoders, strict=True):
            projected = torch.cat([x.amax(axis), x.mean(axis)], dim=1)
            views.append([each.unsqueeze(axis) for each in encoder(projected)])
        size = tuple(x.shape[2:])
        levels = zip(self.fuse, self.levels, zip(*views, strict=True), strict=True)
        return tuple(
            fuse(torch.cat([each.expand(-1, -1, *level.size(size)) for each in maps], dim=1))
            for fuse, level, maps in levels
        )
