"""Components whose signatures the tests of the recipe language read; importing this file fails on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from cphloc.config.argument_types import NonNegativeFloat, PerAxis, PositiveFloat, PositiveInt, UnitInterval

raise RuntimeError("reading a signature must not import the component")

Norm = Literal["instance", "batch", "group"]
WIDTHS = (24, 48, 96)


class ConvEncoder(nn.Module):
    """Encoder.

    Args:
        widths: channels of each stage,
            fine to coarse.
        kernel: size of every kernel.
        norm: normalization.
    """

    def __init__(
        self,
        in_channels: int,
        dims: int,
        widths: Sequence[PositiveInt] = WIDTHS,
        kernel: PerAxis = 3,
        norm: Norm = "instance",
        dropout: UnitInterval = 0.0,
        residual: bool = False,
    ) -> None: ...


class Timm(nn.Module):
    def __init__(self, in_channels: int, dims: int, name: str, pretrained: bool = False) -> None: ...


class Fpn(nn.Module):
    def __init__(self, levels, channels: PositiveInt = 96, extra_levels: int = 0) -> None: ...


class Head(nn.Module):
    """Parent of every head here.

    Args:
        classes: what it finds.
    """

    def __init__(
        self, levels, classes: Mapping[int, str] | Sequence[str], deep: bool = True, loss: nn.Module | None = None
    ) -> None: ...


class Unet(Head):
    """Inherits its constructor."""


class Retina(nn.Module):
    def __init__(
        self,
        levels,
        classes: Mapping[int, str] | Sequence[str],
        anchor_sizes: Sequence[tuple[PositiveFloat, PositiveFloat]] | None = None,
        loss: nn.Module | None = None,
        box_loss: nn.Module | None = None,
    ) -> None: ...


class DiceCe(nn.Module):
    def __init__(self, smooth: NonNegativeFloat = 1e-5, weights: list[float] | None = None) -> None: ...


class Focal(nn.Module):
    def __init__(self, gamma: NonNegativeFloat = 2.0, alpha: UnitInterval | None = None) -> None: ...


class Giou(nn.Module):
    def __init__(self) -> None: ...


class Sarcoma:
    def __init__(self, root: str | None = None, channels: Sequence[str] = ("ct",), fold: int = 0) -> None: ...


class Cells:
    def __init__(self, root: str | None = None) -> None: ...


@dataclass(frozen=True)
class ZScore:
    kind: ClassVar[str] = "zscore"
    clip: tuple[float, float] = (0.0, 100.0)
