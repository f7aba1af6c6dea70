"""Fully connected backbone: a baseline without translation equivariance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from cphloc.config.argument_types import PositiveInt, Widths
from cphloc.errors import InputError
from cphloc.structures.levels import Level, Levels


class MultilayerPerceptron(nn.Module):
    """Flatten the image and apply fully connected layers; the output is one cell as large as the image.

    Args:
        in_channels: image channels (set when the model is built).
        dims: spatial axes (set when the model is built).
        size: voxels per axis of every image, in array order; a fully connected layer takes no other size.
        widths: units of each layer.

    Shapes:
        ``(N, in_channels, *size)`` to one ``(N, widths[-1], 1, ..., 1)``.

    Raises:
        InputError: ``size`` of another number of axes; in ``forward``, an image of another size.

    >>> MultilayerPerceptron(1, 2, size=[28, 28], widths=[64]).levels
    (Level(channels=64, stride=(28, 28)),)
    """

    def __init__(self, in_channels: int, dims: int, size: Sequence[PositiveInt], widths: Widths = (256, 128)) -> None:
        super().__init__()
        if len(size) != dims:
            msg = f"mlp needs the image size along {dims} axes, got {list(size)}"
            raise InputError(msg)
        self.size = tuple(size)
        layers = [
            nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise([in_channels * prod(self.size), *widths])
        ]
        self.layers = nn.Sequential(nn.Flatten(), *layers)
        self.levels: Levels = (Level(widths[-1], self.size),)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """One level of one cell."""
        if tuple(x.shape[2:]) != self.size:
            msg = f"mlp was built for images of {self.size} voxels, got {tuple(x.shape[2:])}; set its size or resample"
            raise InputError(msg)
        features = self.layers(x)
        return (features.view(*features.shape, *(1,) * len(self.size)),)
