"""The image itself as the only level, for heads with a network of their own."""

from __future__ import annotations

from torch import Tensor, nn

from cphloc.structures.levels import Level, Levels


class Identity(nn.Module):
    """Return the image unchanged as a pyramid of one level; the ``rcnn`` head then crops its regions from the image.

    Args:
        in_channels: image channels (set when the model is built).
        dims: spatial axes (set when the model is built).

    >>> Identity(1, dims=3).levels
    (Level(channels=1, stride=(1, 1, 1)),)
    """

    def __init__(self, in_channels: int, dims: int) -> None:
        super().__init__()
        self.levels: Levels = (Level(in_channels, (1,) * dims),)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Image ``(N, C, *S)`` to a pyramid of one level."""
        return (x,)
