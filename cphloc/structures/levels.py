"""Levels of a feature pyramid: the channels and the stride per axis that a backbone or neck publishes."""

from __future__ import annotations

from dataclasses import dataclass

from cphloc.errors import InputError


@dataclass(frozen=True)
class Level:
    """One feature map of a pyramid.

    Args:
        channels: feature channels.
        stride: input voxels per feature cell, one per axis in array order, ``(H, W)`` or ``(D, H, W)``.

    >>> Level(64, (1, 4, 4)).size((20, 64, 64))
    (20, 16, 16)
    """

    channels: int
    stride: tuple[int, ...]

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.stride)

    def size(self, image_size: tuple[int, ...]) -> tuple[int, ...]:
        """Cells per axis for an image of ``image_size`` voxels, rounded up."""
        return tuple(-(-n // s) for n, s in zip(image_size, self.stride, strict=True))


Levels = tuple[Level, ...]
"""A pyramid's description, fine to coarse."""


def level_at(levels: Levels, index: int) -> Level:
    """Return one level of a pyramid; negative ``index`` counts from the coarsest.

    Raises:
        InputError: the pyramid has no such level.
    """
    if not -len(levels) <= index < len(levels):
        msg = f"level {index} does not exist; the pyramid has {len(levels)} levels, 0 (finest) to {len(levels) - 1}"
        raise InputError(msg)
    return levels[index]
